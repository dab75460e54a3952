"""A plan rejects what cannot be simulated, and says what can."""

from __future__ import annotations

from typing import Any

import pytest

from crr_monitor.core.times import DAY_MS
from crr_monitor.simulate import Plan, SimulateError, topology

BAD: list[tuple[dict[str, Any], str]] = [
    ({"objects": -1}, "objects is -1: it has to be from 0 to 1000000000000"),
    ({"failure_rate": 1.5}, "failure_rate is 1.5: it has to be from 0 to 1"),
    ({"loss_rate": float("nan")}, "loss_rate is nan: it has to be from 0 to 1"),
    ({"pairs": 0}, "pairs is 0: it has to be from 1 to 1000"),
    ({"lag_p99_ms": 10}, "lag_p99_ms is 10: it has to be from 8000 to 2592000000"),
    ({"reorder_ms": -1}, "reorder_ms is -1: it has to be from 0 to 2592000000"),
    ({"kinds": ("minio",)}, "kinds has minio: choose from cloudtrail, notification, eventbridge"),
    ({"wrappers": ()}, "wrappers has nothing in it: choose from bare, eventbridge, sns, sqs, sqs-sns"),
    ({"layout": "xml"}, "layout is 'xml': choose lines or logs"),
    ({"layout": "logs"}, "log files hold CloudTrail events only, not cloudtrail, notification, eventbridge"),
    ({"messages_per_file": 0}, "messages_per_file is 0: it has to be from 1"),
    ({"duration_ms": 0}, "duration_ms is 0: it has to be from 1"),
]


@pytest.mark.parametrize(("fields", "text"), BAD, ids=[next(iter(fields)) for fields, _ in BAD])
def test_bad_value(fields: dict[str, Any], text: str) -> None:
    """A value out of range is refused; the message names the field, the value, and what is allowed."""
    with pytest.raises(SimulateError) as error:
        Plan(**fields)
    assert str(error.value).startswith(text)


@pytest.mark.parametrize(
    ("objects", "duration"), [(0, DAY_MS), (20_000, DAY_MS), (17_280_000, DAY_MS), (100_000_000, 500_000_000)]
)
def test_duration(objects: int, duration: int) -> None:
    """Objects are spread over a day, or over longer where there would be more than 200 in a second."""
    assert Plan(objects=objects).duration == duration


def test_topology() -> None:
    """The three default pairs, as a topology file has them: rules of version 2, known a day before the start."""
    entries = topology(Plan())
    rules = {
        (entry["bucket"], rule["Destination"]["Bucket"]): (
            rule["ID"],
            rule["Status"],
            rule["Filter"],
            rule["DeleteMarkerReplication"]["Status"],
        )
        for entry in entries
        for rule in entry.get("ReplicationConfiguration", {}).get("Rules", [])
    }
    assert rules == {
        ("orders", "arn:aws:s3:::orders-dr"): ("dr", "Enabled", {"Prefix": ""}, "Enabled"),
        ("orders", "arn:aws:s3:::orders-audit"): ("audit", "Enabled", {"Prefix": "audit/"}, "Disabled"),
        ("media", "arn:aws:s3:::media-copy"): ("copy", "Enabled", {"Prefix": ""}, "Disabled"),
    }
    assert [entry.get("since") for entry in entries if "ReplicationConfiguration" in entry] == [
        "2026-10-31T00:00:00.000Z"
    ] * 2
    assert {(e["bucket"], e["account"], e["region"]) for e in entries} == {
        ("orders", "111122223333", "us-east-1"),
        ("orders-dr", "444455556666", "eu-west-1"),
        ("orders-audit", "444455556666", "eu-central-1"),
        ("media", "111122223333", "us-west-2"),
        ("media-copy", "111122223333", "ap-northeast-1"),
    }


@pytest.mark.parametrize("pairs", [1, 2, 3, 4, 40])
def test_pairs(pairs: int) -> None:
    """A plan has as many rules as pairs, each to a bucket of its own."""
    rules = [
        rule["Destination"]["Bucket"]
        for entry in topology(Plan(pairs=pairs))
        for rule in entry.get("ReplicationConfiguration", {}).get("Rules", [])
    ]
    assert len(set(rules)) == pairs
