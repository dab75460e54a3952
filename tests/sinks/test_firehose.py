"""Rows to Firehose: what a row says, how rows are packed, and what is refused is sent again; against the sandbox."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from crr_monitor.core.archive import changed_rows
from crr_monitor.core.times import HOUR_MS
from crr_monitor.history.schema import COLUMNS
from crr_monitor.sandbox import Sandbox
from crr_monitor.sinks import firehose
from crr_monitor.sinks.firehose import ATTEMPTS, CALL_BYTES, CALL_RECORDS, ArchiveError, Firehose, line, rows_of
from tests.factories import (
    AT,
    AUDIT,
    KEY,
    REPLICA,
    SOURCE,
    TWO_DESTINATIONS,
    VERSION,
    failed,
    record_of,
    replica,
    user_write,
)
from tests.stores.dynamodb_server import without_credentials

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from crr_monitor.core.model import Record

pytestmark = pytest.mark.aws

ACCOUNT, REGION = "111122223333", "us-east-1"
PENDING = record_of(user_write())
FAILED = record_of(user_write(), failed(reason="DstKmsKeyNotFound"))
REPAIRED = record_of(user_write(), failed(reason="DstKmsKeyNotFound"), replica(at=AT + HOUR_MS))


@dataclass(frozen=True)
class Changed:
    """A change of a record."""

    before: Record | None
    after: Record | None
    at: int = AT + HOUR_MS
    revision: int = 3
    before_at: int = AT


ARRIVED = Changed(PENDING, record_of(user_write(), replica()))


def arrival(key: str) -> Changed:
    """The first that is heard of a version is all there is to know."""
    return Changed(None, record_of(user_write(key=key), replica(key=key)))


# What is sent ---------------------------------------------------------------------------------------------------------


def test_a_line_says_what_the_row_says() -> None:
    """A line has the archive's columns in its own units, times as text, and lacks what is unknown."""
    (row,) = rows_of(Changed(FAILED, REPAIRED))
    said = json.loads(line(row))
    ids = {"copy_id": row.copy_id, "row_id": row.row_id}
    assert {name: said.pop(name) for name in ids} == ids
    assert said == {
        "source_bucket": SOURCE,
        "key": KEY,
        "version_id": VERSION,
        "operation": "put",
        "written_at": "2026-11-22T07:00:00.000Z",
        "destination_bucket": REPLICA,
        "rule_id": "to-orders-dr",
        "status": "COMPLETED",
        "replicated_at": "2026-11-22T08:00:00.000Z",
        "lag_seconds": 3600.0,
        "failed_at": "2026-11-22T07:00:30.000Z",
        "failure_reason": "DstKmsKeyNotFound",
        "evidence": "replica-event",
        "time_precision": 0.001,
        "recorded_at": "2026-11-22T08:00:00.000Z",
        "counted_at": "2026-11-22T07:00:00.000Z",
        "repaired": True,
        "reason_code": "DstKmsKeyNotFound",
        "state": "settled",
        "revision": 3,
    }


def test_every_column_is_sent_as_its_type() -> None:
    """A row with nothing unknown has every column of the archive, and its times are the timestamps of the schema."""
    (row,) = changed_rows(FAILED, REPAIRED, AT)
    known = dict.fromkeys(("size", "lag_ms"), 1) | dict.fromkeys(("source_account", "source_region", "etag"), "x")
    said = json.loads(line(replace(row, **known, destination_account="x", destination_region="x", rule_id="x")))
    assert said.keys() == {column.name for column in COLUMNS}
    assert {column.name for column in COLUMNS if column.hive == "timestamp"} == firehose.TIMES


def test_what_changes_add() -> None:
    """A repair is a row, a record that leaves while it is pending one in the state expired; the rest adds nothing."""
    assert [row.repaired for row in rows_of(Changed(FAILED, REPAIRED))] == [True]
    assert [row.state for row in rows_of(Changed(PENDING, None))] == ["expired"]
    assert rows_of(Changed(FAILED, None)) == rows_of(Changed(None, None)) == rows_of(Changed(None, PENDING)) == []


SWITCHED_ON = AT + HOUR_MS // 2
"""When a stack's archive was switched on, after the records of these tests had changed."""


def test_what_had_settled_before_the_archive_is_told_when_it_leaves() -> None:
    """What leaves is told if it had last changed before, as of then; what changed later was told then."""
    (row,) = rows_of(Changed(FAILED, None), SWITCHED_ON)
    assert (row.status, row.state, row.recorded_at) == ("FAILED", "settled", AT)
    assert rows_of(Changed(FAILED, None, before_at=SWITCHED_ON + 1), SWITCHED_ON) == []
    assert [row.state for row in rows_of(Changed(PENDING, None), SWITCHED_ON)] == ["expired"]


def test_what_had_settled_before_the_archive_is_told_with_the_next_change() -> None:
    """One copy had arrived before, the other one arrives now: both are told, once."""
    one = record_of(user_write(), replica(), topology=TWO_DESTINATIONS)
    both = record_of(user_write(), replica(), replica(AUDIT), topology=TWO_DESTINATIONS)
    change = Changed(one, both)
    assert [row.destination_bucket for row in rows_of(change)] == [AUDIT]
    assert [row.destination_bucket for row in rows_of(change, SWITCHED_ON)] == [AUDIT, REPLICA]


def test_a_withdrawal_is_told_also_of_what_had_settled_before() -> None:
    """Whether the archive has the row is not certain then; that there is no such copy takes it out in any case."""
    change = Changed(FAILED, replace(FAILED, copies=()))
    assert [(row.status, row.state) for row in rows_of(change, SWITCHED_ON)] == [("FAILED", "withdrawn")]


def test_a_change_told_again_has_the_same_keys() -> None:
    """However often a change comes, its rows are the same."""
    assert rows_of(ARRIVED) == rows_of(ARRIVED)
    assert line(rows_of(ARRIVED)[0]) == line(rows_of(ARRIVED)[0])


def test_a_long_reason_is_cut() -> None:
    """A reason of any length leaves the row short enough for a record."""
    (row,) = rows_of(Changed(None, FAILED))
    sent = json.loads(line(replace(row, failure_reason="x" * 2_000_000)))
    assert sent["failure_reason"] == "x" * firehose.LONGEST_REASON


class Counting:
    """A client that takes everything, and remembers the records of each call."""

    def __init__(self) -> None:
        self.calls: list[list[bytes]] = []

    def put_record_batch(self, **request: Any) -> dict[str, Any]:  # noqa: ANN401
        """Takes all."""
        self.calls.append([each["Data"] for each in request["Records"]])
        return {"FailedPutCount": 0}


@given(st.lists(st.integers(0, 3), max_size=40), st.integers(1, 5_000), st.integers(1, 20_000), st.integers(1, 4))
def test_packing_keeps_every_line(kinds: list[int], record_bytes: int, call_bytes: int, records: int) -> None:
    """Whatever the limits are, every line is sent once and whole, in order; only a single line exceeds them."""
    changes = [arrival("k" * (1 + 300 * kind)) for kind in kinds]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("RECORD_BYTES", record_bytes), ("CALL_BYTES", call_bytes), ("CALL_RECORDS", records)):
            patch.setattr(firehose, name, value)
        client = Counting()
        sent = Firehose(client, "s").send(changes)
    lines = [line(row) for change in changes for row in rows_of(change)]
    assert sent == len(lines)
    assert b"".join(record for call in client.calls for record in call) == b"".join(lines)
    for call in client.calls:
        assert len(call) <= records
        assert len(call) == 1 or sum(map(len, call)) <= call_bytes
        assert all(len(record) <= record_bytes or record.count(b"\n") == 1 for record in call)


def test_limits_are_below_those_of_the_service() -> None:
    """What a call takes as Base64 is below 4 MiB, and a record of one row and a full pack is below 1,000 KiB."""
    assert CALL_RECORDS == 500
    assert CALL_BYTES * 4 / 3 < 4 * 1024 * 1024
    assert firehose.RECORD_BYTES < 1_000 * 1_024


# Sending --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """One for all tests, with a stream that delivers JSON."""
    with pytest.MonkeyPatch.context() as patch:
        without_credentials(patch)
        with Sandbox() as running:
            running.client("s3", ACCOUNT, REGION).create_bucket(Bucket="sent")
            running.client("firehose", ACCOUNT, REGION).create_delivery_stream(
                DeliveryStreamName="rows",
                ExtendedS3DestinationConfiguration={
                    "RoleARN": f"arn:aws:iam::{ACCOUNT}:role/delivery",
                    "BucketARN": "arn:aws:s3:::sent",
                },
            )
            yield running


class Sending:
    """The sink, with the pauses it made in place of waiting."""

    def __init__(self, sandbox: Sandbox, stream: str = "rows") -> None:
        self.sandbox = sandbox
        self.pauses: list[float] = []
        self.sink = Firehose(sandbox.client("firehose", ACCOUNT, REGION), stream, self.pauses.append)

    def arrived(self) -> list[str]:
        """The keys of all rows that lie in the bucket, which is emptied."""
        self.sandbox.settle()
        s3 = self.sandbox.client("s3", ACCOUNT, REGION)
        names = [each["Key"] for each in s3.list_objects_v2(Bucket="sent").get("Contents", [])]
        text = b"".join(s3.get_object(Bucket="sent", Key=name)["Body"].read() for name in names)
        for name in names:
            s3.delete_object(Bucket="sent", Key=name)
        return sorted(json.loads(each)["key"] for each in text.splitlines())


@pytest.fixture
def sending(sandbox: Sandbox) -> Iterator[Sending]:
    """Faults end with the test."""
    yield Sending(sandbox)
    sandbox.end_fault()


def many(count: int) -> list[Changed]:
    """Changes of so many versions, whose rows take a record each."""
    return [arrival(f"{number:03}") for number in range(count)]


def test_what_is_refused_is_sent_again(sending: Sending, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records that a call refuses are sent again, only they, with longer and longer pauses; each arrives once."""
    monkeypatch.setattr(firehose, "RECORD_BYTES", 1)
    sending.sandbox.fault("refuse", probability=0.5)
    changes = many(24)
    assert sending.sink.send(changes) == 24
    assert sending.arrived() == [change.after.key for change in changes if change.after]
    assert sending.pauses
    assert sending.pauses == [0.1 * 2**number for number in range(len(sending.pauses))]


def test_what_stays_refused_is_told(sending: Sending) -> None:
    """After some attempts it is given up, with the service's reason and what to do."""
    sending.sandbox.fault("refuse", match={"resource": "rows"})
    with pytest.raises(ArchiveError, match=r"refused 1 of 1 records, 6 times: ServiceUnavailable.*higher quota"):
        sending.sink.send([ARRIVED])
    assert len(sending.pauses) == ATTEMPTS - 1
    sending.sandbox.end_fault()
    assert sending.arrived() == []


def test_a_call_that_fails_is_told(sending: Sending) -> None:
    """No such stream, and no permission, are told with what to do."""
    with pytest.raises(ArchiveError, match=r"stream none: ResourceNotFoundException: .*deploy the hub again"):
        Sending(sending.sandbox, "none").sink.send([ARRIVED])
    sending.sandbox.fault("error", match={"service": "firehose"}, code="AccessDeniedException")
    with pytest.raises(ArchiveError, match=r"AccessDenied.*allow firehose:PutRecordBatch"):
        sending.sink.send([ARRIVED])


def test_nothing_is_no_call() -> None:
    """Changes that add no row make no call."""
    client = Counting()
    assert Firehose(client, "s").send([Changed(None, PENDING)]) == 0
    assert client.calls == []


def test_lines_are_read_as_the_schema_has_it(tmp_path: Path) -> None:
    """Read by the schema's types, a line gives the row's values: numbers of 64 bits and milliseconds stay exact."""
    (row,) = rows_of(ARRIVED)
    (tmp_path / "rows.json").write_bytes(line(row))
    types = ", ".join(f"'{column.name}': '{column.sql}'" for column in COLUMNS)
    database = duckdb.connect()
    source = f"read_json('{tmp_path}/rows.json', columns={{{types}}})"
    found = database.execute(f"SELECT copy_id, row_id, epoch_ms(replicated_at), lag_seconds FROM {source}").fetchall()  # noqa: S608
    assert found == [(row.copy_id, row.row_id, row.replicated_at, 10.0)]
