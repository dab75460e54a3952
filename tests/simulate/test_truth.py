"""The truth follows from the messages that were told, and from nothing else."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crr_monitor.simulate import KINDS, Kind, Plan, messages, topology, truth
from tests.simulate.reader import records, sightings

if TYPE_CHECKING:
    from collections.abc import Iterable


def trouble(**fields: Any) -> Plan:  # noqa: ANN401 - any field of a plan
    """A small plan in which everything happens often."""
    defaults = {
        "objects": 60,
        "failure_rate": 0.3,
        "repaired_share": 0.5,
        "duplicate_rate": 0.3,
        "delete_rate": 0.2,
        "delete_marker_rate": 0.2,
        "pending_rate": 0.1,
        "malformed_rate": 0,
        "ignored_rate": 0.2,
        "wrappers": ("bare",),
    }
    return Plan(**{**defaults, **fields})


def by_version(found: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Records by version id, destinations by bucket, so that order does not matter."""
    return {
        record["version_id"]: {**record, "destinations": {copy["bucket"]: copy for copy in record["destinations"]}}
        for record in found
    }


plans = st.builds(
    trouble,
    seed=st.integers(0, 2**32),
    pairs=st.integers(1, 6),
    loss_rate=st.sampled_from([0, 0.3]),
    kinds=st.sampled_from([*((kind,) for kind in KINDS), KINDS]),
    reorder_ms=st.sampled_from([0, 900_000]),
    lag_p50_ms=st.sampled_from([1, 400, 8_000]),
)


@settings(max_examples=60)
@given(plans)
def test_truth_is_what_the_messages_say(plan: Plan) -> None:
    """Whatever the plan, reading its messages naively gives exactly its truth: every record, every field."""
    told = records((body for _, body in messages(plan)), topology(plan))
    assert by_version(told.values()) == by_version(truth(plan))


def test_truth_survives_every_wrapper() -> None:
    """Wrapped in everything there is, the messages still say the truth."""
    plan = trouble(objects=400, wrappers=("bare", "eventbridge", "sns", "sqs", "sqs-sns", "lambda-sqs", "lambda-sns"))
    told = records((body for _, body in messages(plan)), topology(plan))
    assert by_version(told.values()) == by_version(truth(plan))


def test_everything_happens() -> None:
    """In a troubled plan each status, each sort of evidence and each operation occurs."""
    found = list(truth(trouble(objects=600)))
    copies = [copy for record in found for copy in record["destinations"]]
    assert {record["status"] for record in found} == {"COMPLETED", "FAILED", "PENDING", "SOURCE_DELETED"}
    assert {copy.get("evidence") for copy in copies} == {None, "replica-event", "failure-event", "denied-call"}
    assert {record["operation"] for record in found} == {"put", "delete_marker"}
    assert any(copy["status"] == "COMPLETED" and "failed_at" in copy for copy in copies)


@pytest.mark.no_cover
def test_rates_are_kept() -> None:
    """By default 1 % of the copies failed, a third of those were repaired; a third of the objects have two copies."""
    found = [record for record in truth(Plan(objects=30_000)) if record["operation"] == "put"]
    copies = [copy for record in found for copy in record["destinations"]]
    failed = [copy for copy in copies if "failed_at" in copy]
    repaired = [copy for copy in failed if copy["status"] == "COMPLETED"]
    assert len(failed) / len(copies) == pytest.approx(0.01, abs=0.002)
    assert len(repaired) / len(failed) == pytest.approx(1 / 3, abs=0.07)
    assert len(copies) / len(found) == pytest.approx(4 / 3, abs=0.01)


@pytest.mark.no_cover
def test_lag_has_the_planned_percentiles() -> None:
    """Half of the copies arrive within p50, and 99 % within p99."""
    plan = trouble(objects=20_000, kinds=("notification",), lag_p50_ms=5_000, lag_p99_ms=90_000, delete_rate=0)
    copies = [copy for record in truth(plan) for copy in record["destinations"] if "failed_at" not in copy]
    lags = sorted(copy["lag_seconds"] for copy in copies if "lag_seconds" in copy)
    assert lags[len(lags) // 2] == pytest.approx(5, rel=0.05)
    assert lags[len(lags) * 99 // 100] == pytest.approx(90, rel=0.15)


def test_written_order() -> None:
    """The truth is in the order of writing, and each version id occurs once."""
    found = list(truth(trouble(objects=2_000)))
    assert all(before["written_at"][:19] <= after["written_at"][:19] for before, after in pairwise(found))
    assert max(Counter(record["version_id"] for record in found).values()) == 1


def test_key_has_versions() -> None:
    """Some keys have several versions, delete markers among them."""
    keys = Counter((record["source"]["bucket"], record["key"]) for record in truth(trouble(objects=1_000, pairs=1)))
    assert max(keys.values()) >= 2


def test_marker_stays_where_its_rule_says_so() -> None:
    """A delete marker has no copy for a rule without delete-marker replication, and no record without another rule."""
    markers = [r for r in truth(trouble(objects=600, delete_marker_rate=1)) if r["operation"] == "delete_marker"]
    assert {record["source"]["bucket"] for record in markers} == {"orders"}
    assert {copy["bucket"] for record in markers for copy in record["destinations"]} == {"orders-dr"}
    assert any(record["key"].startswith("audit/") for record in markers)
    assert not any("size" in record or "etag" in record for record in markers)


@pytest.mark.parametrize(("kind", "precision", "has_etag"), [("cloudtrail", 1.0, False), ("notification", 0.001, True)])
def test_kind_decides_precision_and_etag(kind: Kind, precision: float, *, has_etag: bool) -> None:
    """CloudTrail tells whole seconds and no ETag; notifications tell milliseconds and the ETag."""
    found = list(truth(trouble(objects=200, kinds=(kind,), delete_marker_rate=0)))
    assert {record["time_precision"] for record in found} == {precision}
    assert {"etag" in record for record in found} == {has_etag}
    assert all(record["written_at"].endswith(".000Z") for record in found) == (kind == "cloudtrail")


def test_failure_sharpens_the_time() -> None:
    """With EventBridge, only a failed version has its time of writing in milliseconds; only a lone one is precise."""
    found = list(truth(trouble(objects=400, kinds=("eventbridge",), delete_marker_rate=0)))
    for record in found:
        failed = any("failed_at" in copy for copy in record["destinations"])
        arrived = any("replicated_at" in copy for copy in record["destinations"])
        assert failed or record["written_at"].endswith(".000Z")
        assert record["time_precision"] == (0.001 if failed and not arrived else 1.0)


def test_lag_is_never_negative() -> None:
    """Where S3 copies faster than the clock ticks, the lag is 0."""
    plan = trouble(objects=400, lag_p50_ms=1, lag_p99_ms=2, kinds=("eventbridge",))
    lags = [copy.get("lag_seconds", 0) for record in truth(plan) for copy in record["destinations"]]
    assert min(lags) == 0


def test_lost_write() -> None:
    """A version whose write was lost is COMPLETED without time of writing, lag and, unless S3 failed once, ETag."""
    plan = trouble(objects=400, loss_rate=0.5, failure_rate=0, kinds=("notification",))
    lost = [record for record in truth(plan) if "written_at" not in record]
    assert lost
    assert {record["status"] for record in lost} == {"COMPLETED"}
    assert not any("etag" in record for record in lost)
    assert not any("lag_seconds" in copy for record in lost for copy in record["destinations"])


def test_lost_messages_are_not_there() -> None:
    """With losses there are fewer sightings than without, and no failure among what is lost."""
    told = {
        loss: Counter(
            fact["what"]
            for facts in sightings(
                body for _, body in messages(trouble(objects=400, loss_rate=loss, duplicate_rate=0))
            ).values()
            for fact in facts
        )
        for loss in (0, 0.5)
    }
    assert told[0.5]["write"] < 0.8 * told[0]["write"]
    assert told[0.5]["failure"] == told[0]["failure"]


def test_truth_is_json() -> None:
    """Records are plain JSON values."""
    for record in truth(trouble()):
        assert json.loads(json.dumps(record)) == record
