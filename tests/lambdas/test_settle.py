"""The settle function: Lambda's event into one call of the store, and the answer that Lambda understands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("boto3")

from crr_monitor.lambdas.settle import SettleFailedError, run
from crr_monitor.stores.base import StoreError
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
