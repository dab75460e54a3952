"""A comparison with the truth finds every kind of difference, and nothing where there is none."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from crr_monitor.simulate import Difference, Differences, Plan, SimulateError, compare, truth

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Record = dict[str, Any]

RECORD: Record = {
    "source": {"account": "111122223333", "region": "us-east-1", "bucket": "orders"},
    "key": "a b",
    "version_id": "v1",
    "operation": "put",
    "size": 5,
    "etag": "e",
    "written_at": "2026-11-01T00:00:00.000Z",
    "time_precision": 0.001,
    "status": "FAILED",
    "destinations": [
        {"bucket": "dr", "account": "1", "region": "r", "rule_id": "x", "status": "COMPLETED",
         "replicated_at": "2026-11-01T00:00:01.500Z", "lag_seconds": 1.5, "evidence": "replica-event"},
        {"bucket": "audit", "account": "1", "region": "r", "rule_id": "y", "status": "FAILED",
         "failed_at": "2026-11-01T00:00:09.000Z", "failure_reason": "why", "evidence": "failure-event"},
    ],
}  # fmt: skip


class Store:
    """A store that holds the truth, until somebody changes it."""

    def __init__(self, folder: Path, records: list[Record]) -> None:
        self.path = folder / "truth.ndjson"
        self.path.write_bytes(b"".join(msgspec.json.encode(record) + b"\n" for record in records))
        self.records = {self.name(record): deepcopy(record) for record in records}

    @staticmethod
    def name(record: Record) -> tuple[str, str, str]:
        """What a record is looked up by."""
        return record["source"]["bucket"], record["key"], record["version_id"]

    def compare(self) -> Differences:
        """Compare this store with its truth."""
        return compare(self.path, lambda *name: self.records.get(name), lambda: len(self.records))


def test_no_difference(tmp_path: Path) -> None:
    """A store with the whole truth does not differ."""
    store = Store(tmp_path, list(truth(Plan(objects=300))))
    assert store.compare() == Differences(len(store.records), 0, 0, 0, ())
    assert store.compare().none


def test_order_of_destinations_and_unknown_fields_do_not_matter(tmp_path: Path) -> None:
    """Destinations in another order, and fields that no truth has, are no difference."""
    store = Store(tmp_path, [RECORD])
    (record,) = store.records.values()
    record["destinations"].reverse()
    record["destinations"][0]["note"] = record["note"] = "new"
    assert store.compare().none


def remove(record: Record, *path: str | int) -> None:
    """Take a field away."""
    inner: Any = record
    for step in path[:-1]:
        inner = inner[step]
    del inner[path[-1]]


CHANGES: list[tuple[Callable[[Record], object], list[tuple[str, object, object]]]] = [
    (lambda r: r.update(status="COMPLETED"), [("status", "FAILED", "COMPLETED")]),
    (lambda r: r.update(size=6), [("size", 5, 6)]),
    (lambda r: r.update(etag=None), [("etag", "e", None)]),
    (lambda r: remove(r, "written_at"), [("written_at", "2026-11-01T00:00:00.000Z", None)]),
    (lambda r: r.update(time_precision=1.0), [("time_precision", 0.001, 1.0)]),
    (lambda r: r.update(operation="delete_marker"), [("operation", "put", "delete_marker")]),
    (lambda r: r["source"].update(account="2"), [("source.account", "111122223333", "2")]),
    (lambda r: remove(r, "source", "region"), [("source.region", "us-east-1", None)]),
    (lambda r: r["destinations"][0].update(lag_seconds=1.6), [("dr.lag_seconds", 1.5, 1.6)]),
    (lambda r: r["destinations"][0].update(failed_at="t"), [("dr.failed_at", None, "t")]),
    (lambda r: r["destinations"][1].update(failed_at=None), [("audit.failed_at", "2026-11-01T00:00:09.000Z", None)]),
    (lambda r: r["destinations"][1].update(replicated_at=None), [("audit.replicated_at", None, None)]),
    (lambda r: remove(r, "destinations", 1, "evidence"), [("audit.evidence", "failure-event", None)]),
    (lambda r: r["destinations"].append({"bucket": "c", "status": "PENDING"}),
     [("c", None, "present"), ("c.status", None, "PENDING")]),
]  # fmt: skip


@pytest.mark.parametrize(("change", "fields"), CHANGES)
def test_difference(
    tmp_path: Path, change: Callable[[Record], object], fields: list[tuple[str, object, object]]
) -> None:
    """A field that is other, absent or too many is found, and shown with both values."""
    store = Store(tmp_path, [RECORD])
    change(store.records["orders", "a b", "v1"])
    found = store.compare()
    assert (found.compared, found.missing, found.extra, found.different) == (1, 0, 0, 1)
    assert [(one.field, one.expected, one.actual) for one in found.examples] == fields
    assert not found.none


def test_missing_destination(tmp_path: Path) -> None:
    """A destination that the store does not have is shown with all that is known of it."""
    store = Store(tmp_path, [RECORD])
    remove(store.records["orders", "a b", "v1"], "destinations", 1)
    assert [one.field for one in store.compare().examples] == [
        "audit", "audit.account", "audit.region", "audit.rule_id", "audit.status", "audit.failed_at",
        "audit.failure_reason", "audit.evidence",
    ]  # fmt: skip


def test_missing_and_extra(tmp_path: Path) -> None:
    """A record that the store lacks is missing; one that the truth lacks is extra, also when both happen at once."""
    store = Store(tmp_path, [RECORD])
    store.records = {("other", "k", "v"): RECORD, ("other", "k", "w"): RECORD}
    found = store.compare()
    assert (found.compared, found.missing, found.extra, found.different) == (1, 1, 2, 0)
    assert found.examples == (Difference("orders", "a b", "v1", "record", "present", None),)


def test_ten_examples(tmp_path: Path) -> None:
    """All differing versions are counted, the first ten are shown."""
    store = Store(tmp_path, [{**RECORD, "version_id": f"v{number:02d}"} for number in range(25)])
    for record in store.records.values():
        record["status"] = "PENDING"
    found = store.compare()
    assert found.different == 25
    assert [one.version_id for one in found.examples] == [f"v{number:02d}" for number in range(10)]


@pytest.mark.parametrize("line", ["{", "[]", "{}", '{"source": 1, "key": "k", "version_id": "v"}', "plain text"])
def test_no_truth(tmp_path: Path, line: str) -> None:
    """A file that is no truth file is refused with the number of the first bad line."""
    store = Store(tmp_path, [RECORD])
    with store.path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(SimulateError, match=r"truth.ndjson, line 2 is no record of a truth file"):
        store.compare()


def test_no_file(tmp_path: Path) -> None:
    """A truth file that is not there is named."""
    with pytest.raises(SimulateError, match=r"cannot read the truth file .*nothing: No such file"):
        compare(tmp_path / "nothing", lambda *_: None, lambda: 0)
