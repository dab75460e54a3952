"""The settle function: Lambda's event into one call of the store, and the answer that Lambda understands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("boto3")

from crr_monitor.lambdas.settle import SettleFailedError, run
from crr_monitor.sinks.cloudwatch import PublishError
from crr_monitor.sinks.firehose import ArchiveError
from crr_monitor.stores.base import StoreError
from crr_monitor.stores.dynamodb_items import read_change
from tests.lambdas.making import FakeContext, log_lines

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from crr_monitor.stores.dynamodb_items import Transition

STREAM = "arn:aws:dynamodb:us-east-1:111122223333:table/t-status/stream/2026-11-22T07:00:00.000"
SHARD = "shardId-00000001795330800000-5b2c7d1f"


class Recorder:
    """Reads what it gets as the store does, and remembers it."""

    def __init__(self, error: Exception | None = None) -> None:
        self.calls: list[tuple[str, list[str]]] = []
        self._error = error

    def settle(self, shard: str, entries: Sequence[Mapping[str, Any]]) -> list[Transition]:
        """Fails as a whole when an entry cannot be read."""
        if self._error is not None:
            raise self._error
        self.calls.append((shard, [entry["dynamodb"]["SequenceNumber"] for entry in entries]))
        for entry in entries:
            _ = entry["dynamodb"].get("NewImage", {"object_key": {"S": ""}})["object_key"]["S"]
        return []


def change(number: int, **image: Any) -> dict[str, Any]:  # noqa: ANN401
    """An entry of the stream, by default of an item that is not the store's."""
    return {"eventName": "REMOVE", "eventSourceARN": STREAM, "dynamodb": {"SequenceNumber": str(number), **image}}


def damaged(number: int) -> dict[str, Any]:
    """An entry whose image lacks what every image has."""
    return change(number, NewImage={"changed_at": {"N": "1"}})


def window(*entries: dict[str, Any], **fields: Any) -> dict[str, Any]:  # noqa: ANN401
    """An event as Lambda makes it with a tumbling window."""
    return {
        "Records": list(entries),
        "window": {"start": "2026-11-22T07:00:00Z", "end": "2026-11-22T07:15:00Z"},
        "state": {},
        "shardId": SHARD,
        "eventSourceARN": STREAM,
        "isFinalInvokeForWindow": False,
        "isWindowTerminatedEarly": False,
        **fields,
    }


DONE: dict[str, Any] = {"state": {}, "batchItemFailures": []}


def test_settles() -> None:
    """All entries are settled under the name of their stream and shard, and the answer has the window's state."""
    store = Recorder()
    assert run(store, window(change(111), change(222)), FakeContext()) == DONE
    assert store.calls == [(f"{STREAM}/{SHARD}", ["111", "222"])]


def test_final_call() -> None:
    """The call at the end of a window brings no entries, and has nothing done."""
    store = Recorder(StoreError("must not be called"))
    assert run(store, window(isFinalInvokeForWindow=True), FakeContext()) == DONE


def test_no_shard() -> None:
    """Without the shard's name nothing is counted, and the error names the setting."""
    event = {"Records": [change(111)]}
    store = Recorder()
    with pytest.raises(SettleFailedError, match="TumblingWindowInSeconds"):
        run(store, event, FakeContext())
    assert store.calls == []


def test_unreadable_in_the_middle(capsys: Any) -> None:  # noqa: ANN401
    """What comes before an entry that cannot be read is settled; from it on, everything comes again."""
    store = Recorder()
    answer = run(store, window(change(111), change(222), damaged(333), change(444)), FakeContext())
    assert answer == {"state": {}, "batchItemFailures": [{"itemIdentifier": "333"}]}
    assert store.calls[-1] == (f"{STREAM}/{SHARD}", ["111", "222"])
    (line,) = log_lines(capsys.readouterr().out)
    assert (line["level"], line["reason"]) == ("ERROR", "change 333 cannot be read: KeyError: 'object_key'")


def test_unreadable_first() -> None:
    """An entry that cannot be read fails the function when none comes before it, so that its error metric tells."""
    with pytest.raises(SettleFailedError, match="change 111 cannot be read"):
        run(Recorder(), window(damaged(111), change(222)), FakeContext())


def test_store_fails(capsys: Any) -> None:  # noqa: ANN401
    """When the store fails the whole batch comes again, which counts nothing twice."""
    with pytest.raises(SettleFailedError, match="none of 1 changes could be counted, they come again: throttled"):
        run(Recorder(StoreError("throttled")), window(change(111)), FakeContext())
    assert log_lines(capsys.readouterr().out)[0]["message"] == "not settled"


def test_defect() -> None:
    """An error that no entry is to blame for is not taken for one."""
    with pytest.raises(ValueError, match="a defect"):
        run(Recorder(ValueError("a defect")), window(change(111)), FakeContext())


def test_metrics_of_what_was_counted() -> None:
    """What was counted is handed on to be published; where that fails, the run fails, and counts nothing again."""
    store = Recorder()
    published: list[Sequence[Transition]] = []
    run(store, window(change(1)), FakeContext(), published.append)
    assert published == [[]]

    def refuse(_changes: Sequence[Transition]) -> None:
        message = "1 of 1 metric data could not be published"
        raise PublishError(message)

    with pytest.raises(SettleFailedError, match="1 of 1 metric data could not be published"):
        run(store, window(change(2)), FakeContext(), refuse)
    assert store.calls == [(f"{STREAM}/{SHARD}", ["1"]), (f"{STREAM}/{SHARD}", ["2"])]


class Order:
    """Remembers which step came when; fails at the one that is named."""

    def __init__(self, *broken: str) -> None:
        self.steps: list[tuple[str, list[str]]] = []
        self.broken = set(broken)

    def _step(self, name: str, entries: Sequence[Mapping[str, Any]], error: Exception) -> None:
        if name in self.broken:
            raise error
        self.steps.append((name, [entry["dynamodb"]["SequenceNumber"] for entry in entries]))

    def settle(self, _shard: str, entries: Sequence[Mapping[str, Any]]) -> list[Transition]:
        """Count."""
        self._step("count", entries, StoreError("throttled"))
        return []

    def archive(self, entries: Sequence[Mapping[str, Any]]) -> int:
        """Archive."""
        for entry in entries:
            read_change(entry)
        self._step("archive", entries, ArchiveError("Firehose stream rows: refused"))
        return 2 * len(entries)

    def run(self, *entries: dict[str, Any]) -> dict[str, Any]:
        """Settle entries."""
        return run(self, window(*entries), FakeContext(), archive=self.archive)


def test_archived_before_counted(capsys: Any) -> None:  # noqa: ANN401
    """All entries are archived before they are counted, and the log has how many rows that made."""
    order = Order()
    assert order.run(change(1), change(2)) == DONE
    assert order.steps == [("archive", ["1", "2"]), ("count", ["1", "2"])]
    (line,) = log_lines(capsys.readouterr().out)
    assert (line["archived"], line["counted"]) == (4, 0)


def test_nothing_is_counted_that_is_not_archived() -> None:
    """When rows do not get to the archive nothing is counted, and all of it comes again."""
    order = Order("archive")
    with pytest.raises(SettleFailedError, match="they come again: Firehose stream rows: refused"):
        order.run(change(1))
    assert order.steps == []


def test_what_comes_again_is_archived_again() -> None:
    """When counting fails after archiving, the next run archives the same entries once more: no row is lost."""
    order = Order("count")
    with pytest.raises(SettleFailedError, match="throttled"):
        order.run(change(1))
    order.broken.clear()
    order.run(change(1))
    assert order.steps == [("archive", ["1"]), ("archive", ["1"]), ("count", ["1"])]


def test_what_stands_before_an_unreadable_entry_is_archived() -> None:
    """Entries before one that cannot be read are archived and counted; that one and what follows comes again."""
    order = Order()
    answer = order.run(change(1), damaged(2), change(3))
    assert answer["batchItemFailures"] == [{"itemIdentifier": "2"}]
    assert order.steps == [("archive", ["1"]), ("count", ["1"])]
