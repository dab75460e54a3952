"""The record as JSON and as flat rows: fixed names, and nothing that is not known."""

from __future__ import annotations

from crr_monitor.core.model import FLAT_FIELDS, to_json, to_rows
from crr_monitor.core.topology import Topology
from tests.factories import (
    AT,
    AUDIT,
    BY_TAG,
    INFERRED,
    KEY,
    REPLICA,
    SOURCE,
    VERSION,
    config,
    denied_read,
    failed,
    record_of,
    replica,
    rule,
    user_write,
)

PLACED = Topology(
    [
        config(rule(rule_id="dr"), rule(AUDIT, rule_id="audit"), account="111122223333", region="us-east-1"),
        config(bucket=REPLICA, account="444455556666", region="eu-west-1"),
        config(bucket=AUDIT, account="444455556666", region="eu-central-1"),
    ]
)
RECORD = record_of(
    user_write(at=AT + 168, size=520_080, etag="e12345"), replica(at=AT + 12_400), failed(AUDIT), topology=PLACED
)


def test_json() -> None:
    """The record has the fields of the published contract, times in RFC 3339 with milliseconds."""
    assert to_json(RECORD) == {
        "source": {"account": "111122223333", "region": "us-east-1", "bucket": SOURCE},
        "key": KEY,
        "version_id": VERSION,
        "operation": "put",
        "size": 520_080,
        "etag": "e12345",
        "written_at": "2026-11-22T07:00:00.168Z",
        "time_precision": 0.001,
        "status": "FAILED",
        "destinations": [
            {
                "bucket": AUDIT,
                "account": "444455556666",
                "region": "eu-central-1",
                "rule_id": "audit",
                "status": "FAILED",
                "failed_at": "2026-11-22T07:00:30.000Z",
                "failure_reason": "DstKmsKeyNotFound",
                "evidence": "failure-event",
            },
            {
                "bucket": REPLICA,
                "account": "444455556666",
                "region": "eu-west-1",
                "rule_id": "dr",
                "status": "COMPLETED",
                "replicated_at": "2026-11-22T07:00:12.400Z",
                "lag_seconds": 12.232,
                "evidence": "replica-event",
            },
        ],
    }


def test_unknown_is_absent() -> None:
    """What no message told is left out, never printed as null or zero."""
    assert to_json(record_of(replica(), topology=INFERRED)) == {
        "source": {},
        "key": KEY,
        "version_id": VERSION,
        "operation": "put",
        "time_precision": 0.001,
        "status": "COMPLETED",
        "destinations": [
            {
                "bucket": REPLICA,
                "status": "COMPLETED",
                "replicated_at": "2026-11-22T07:00:10.000Z",
                "evidence": "replica-event",
            }
        ],
    }
    anonymous = to_json(record_of(denied_read(), topology=INFERRED))["destinations"][0]
    assert "bucket" not in anonymous


def test_metadata_failure_is_a_field_of_its_own() -> None:
    """A failed metadata change is printed beside the copy's own status."""
    record = record_of(user_write(), replica(), failed(metadata=True, reason="DstPutTaggingNotPermitted"))
    (copy,) = to_json(record)["destinations"]
    assert (copy["status"], "failed_at" in copy) == ("COMPLETED", False)
    assert copy["metadata_failure"] == {
        "failed_at": "2026-11-22T07:00:30.000Z",
        "failure_reason": "DstPutTaggingNotPermitted",
    }


def test_uncertain_on_demand() -> None:
    """Copies of which it is not known whether a rule takes them are printed only when asked for."""
    record = record_of(user_write(whole_seconds=True), topology=BY_TAG)
    assert to_json(record)["destinations"] == []
    body = to_json(record, uncertain=True)
    assert (body["status"], body["time_precision"]) == ("UNCERTAIN", 1.0)
    assert [copy["status"] for copy in body["destinations"]] == ["UNCERTAIN"]
    assert (list(to_rows(record)), len(list(to_rows(record, uncertain=True)))) == ([], 1)


def test_rows() -> None:
    """There is one flat row per copy, with every column in the published order."""
    rows = list(to_rows(RECORD, recorded_at=AT))
    assert [(row["destination_bucket"], row["status"]) for row in rows] == [(AUDIT, "FAILED"), (REPLICA, "COMPLETED")]
    assert all(tuple(row) == FLAT_FIELDS for row in rows)
    assert rows[1]["lag_seconds"] == 12.232
    assert rows[1]["recorded_at"] == "2026-11-22T07:00:00.000Z"
    assert rows[1]["failure_reason"] is None


def test_delete_marker() -> None:
    """A delete marker is an operation of its own."""
    markers = Topology([config(rule(delete_markers=True))])
    assert to_json(record_of(user_write(delete_marker=True), topology=markers))["operation"] == "delete_marker"
