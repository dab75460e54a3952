"""The writer's thread: what is handed in becomes durable, is refused alone, or fails together with its group."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from crr_monitor.serve.handing import Texts
from crr_monitor.serve.state import State
from crr_monitor.serve.writer import Writer
from crr_monitor.sources.rejects import RejectError, RejectFile
from crr_monitor.stores.base import Batch, Counts, StoreError
from crr_monitor.stores.memory import MemoryStore
from crr_monitor.stores.sqlite import SqliteStore
from tests.messages import encoded, notification

if TYPE_CHECKING:
    from pathlib import Path


class _Broken(MemoryStore):
    """A store on a full disk, until there is room."""

    full = True

    def apply(self, batch: Batch) -> int:
        """Refuse while it is full."""
        if self.full:
            message = "the disk is full: free some space"
            raise StoreError(message)
        return super().apply(batch)


def message(key: str = "a") -> bytes:
    """One write."""
    return encoded(notification(key=key, version=f"v.{key}"))


def test_store_that_refuses(tmp_path: Path) -> None:
    """While the store refuses, everybody in the group hears why, and the log once; then all goes on."""
    store, state = _Broken(), State(0, "0")
    said: list[str] = []
    writer = Writer(lambda: store, RejectFile(tmp_path / "rejects"), state, said.append)
    writer.start()
    for _ in range(2):
        first = Texts("q", [message()])
        writer.submit(first)
        with pytest.raises(StoreError, match="the disk is full"):
            first.wait()
    assert (state.store_problem, state.store_failures, state.events) == ("the disk is full: free some space", 2, 0)
    store.full = False
    second = Texts("q", [message()])
    writer.submit(second)
    assert second.wait() == Counts(1, 1)
    assert (state.store_problem, state.events) == (None, 1)
    writer.stop()
    assert said == [
        "not stored: the disk is full: free some space (senders are told, and files are read again)",
        "it can be stored again",
    ]


def test_reject_file_that_cannot_be_written(tmp_path: Path) -> None:
    """Where a reject cannot be kept, nothing of its group is stored: it comes again."""
    store = MemoryStore()
    writer = Writer(lambda: store, RejectFile(tmp_path / "missing" / "rejects"), State(0, "0"))
    writer.start()
    handed = Texts("q", [message(), b"{broken"])
    writer.submit(handed)
    with pytest.raises(RejectError, match="cannot write the reject file"):
        handed.wait()
    writer.stop()
    assert store.counts() == Counts()


def test_many_become_durable_together(tmp_path: Path) -> None:
    """What waits when a group begins is committed with it: far fewer transactions than messages."""
    state = State(0, "0")
    writer = Writer(lambda: SqliteStore(tmp_path / "store.db"), RejectFile(tmp_path / "rejects"), state)
    handed = [Texts("q", [message(f"k{number}")]) for number in range(500)]
    for each in handed:
        writer.submit(each)
    writer.start()
    for each in handed:
        assert each.wait() == Counts(1, 1)
    writer.stop()
    assert (state.events, state.batches) == (500, 1)


def test_stop_finishes_what_was_handed_in(tmp_path: Path) -> None:
    """What was handed in before the end is durable after it; calls are answered in their order."""
    writer = Writer(lambda: SqliteStore(tmp_path / "store.db"), RejectFile(tmp_path / "rejects"), State(0, "0"))
    writer.start()
    before = writer.call(lambda store, _rejects: store.counts().events)
    handed = Texts("q", [message("a"), message("b")])
    writer.submit(handed)
    after = writer.call(lambda store, _rejects: store.counts().events)
    writer.stop()
    assert (before.result(), handed.wait().events, after.result()) == (0, 2, 2)
    assert writer.alive is False


def test_call_that_was_given_up_is_not_made(tmp_path: Path) -> None:
    """Who asked and has gone is not waited for, and the writer goes on."""
    made: list[int] = []
    writer = Writer(lambda: SqliteStore(tmp_path / "store.db"), RejectFile(tmp_path / "rejects"), State(0, "0"))
    given_up = writer.call(lambda _store, _rejects: made.append(1))
    assert given_up.cancel()
    writer.start()
    assert writer.call(lambda _store, _rejects: 7).result() == 7
    writer.stop()
    assert made == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_bug_ends_the_thread(tmp_path: Path) -> None:
    """An error that nobody expects ends the thread, which the process then tells, instead of refusing everything."""

    def fail(_store: object, _rejects: object) -> None:
        message = "a bug"
        raise ZeroDivisionError(message)

    writer = Writer(lambda: SqliteStore(tmp_path / "store.db"), RejectFile(tmp_path / "rejects"), State(0, "0"))
    writer.start()
    writer.call(fail)
    end = time.monotonic() + 60
    while writer.alive:
        assert time.monotonic() < end
        time.sleep(0.01)
    assert isinstance(writer.failure, ZeroDivisionError)
    writer.stop()


def test_store_that_cannot_be_opened(tmp_path: Path) -> None:
    """An error of opening the store is that of the start."""
    (tmp_path / "store.db").write_text("no database at all")
    writer = Writer(lambda: SqliteStore(tmp_path / "store.db"), RejectFile(tmp_path / "rejects"), State(0, "0"))
    with pytest.raises(StoreError, match="file is not a database"):
        writer.start()
