"""The embedded monitor feeds the archive: with each change, at least once, and only where that is switched on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from crr_monitor.core.times import DAY_MS, HOUR_MS
from crr_monitor.history.drain import Archiver
from crr_monitor.history.layout import Folder
from crr_monitor.simulate import Plan
from crr_monitor.simulate import run as simulate
from crr_monitor.stores.sqlite import SqliteStore
from tests.cli.running import OK, call
from tests.factories import AT, batch_of, failed, replica, user_write
from tests.history.making import TRUE_COLUMNS, archived, asked, in_order, rows_of, true_copies

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from crr_monitor.core.archive import ArchiveRow
    from crr_monitor.core.events import Event


class Monitor:
    """A store with a clock of its own, and its archive."""

    def __init__(self, folder: Path) -> None:
        self.now = AT + HOUR_MS
        self.store = SqliteStore(folder / "s.db", clock=lambda: self.now)
        self.folder = folder / "archive"
        self.archiver = Archiver(self.store, Folder(self.folder))

    def hear(self, *events: Event) -> None:
        """Apply events."""
        self.store.apply(batch_of(*events))

    def states(self) -> list[tuple[Any, ...]]:
        """What waits: status and state of each row."""
        return [(row.status, row.state) for row in self.store.outbox(100)]


@pytest.fixture
def monitor(tmp_path: Path) -> Iterator[Monitor]:
    """A monitor whose archiving is on."""
    monitor = Monitor(tmp_path)
    yield monitor
    monitor.store.close()


def test_nothing_waits_where_archiving_is_off(tmp_path: Path) -> None:
    """A store that feeds no archive keeps nothing for one."""
    store = SqliteStore(tmp_path / "s.db")
    store.apply(batch_of(user_write(), replica()))
    assert store.waiting() == 0
    store.close()


def test_what_settles_and_what_changes_afterwards_waits(monitor: Monitor) -> None:
    """A failure and its repair are told, each once; what is pending is not."""
    monitor.hear(user_write())
    assert monitor.states() == []
    monitor.hear(failed())
    monitor.hear(failed())
    monitor.hear(replica(at=AT + 2 * HOUR_MS))
    assert monitor.states() == [("FAILED", "settled"), ("COMPLETED", "settled")]


def test_what_expires_unsettled_waits(monitor: Monitor) -> None:
    """A copy that is still pending when its record leaves is told as expired."""
    monitor.hear(user_write())
    monitor.now += 15 * DAY_MS
    monitor.store.purge()
    assert monitor.states() == [("PENDING", "expired")]


def test_what_was_settled_before_is_archived_too(tmp_path: Path) -> None:
    """Switched on later, the archive begins with all that the store still has."""
    store = SqliteStore(tmp_path / "s.db")
    store.apply(batch_of(user_write(), replica()))
    Archiver(store, Folder(tmp_path / "archive")).drain()
    assert asked(tmp_path / "archive", "SELECT status FROM copies") == [{"status": "COMPLETED"}]
    store.close()


def _settled_before(folder: Path, copies: int, **options: Any) -> SqliteStore:  # noqa: ANN401
    """A store in which some copies had settled before archiving was switched on; an hour after they did."""
    store = SqliteStore(folder / "s.db", clock=lambda: AT + HOUR_MS, **options)
    keys = [f"k{number}" for number in range(copies)]
    store.apply(batch_of(*[event for key in keys for event in (user_write(key=key), replica(key=key))]))
    return store


def test_the_backlog_is_taken_in_steps(tmp_path: Path) -> None:
    """Each step takes so many records and goes on behind the one before; the last one says that nothing is left."""
    store = _settled_before(tmp_path, 5)
    store.archive_as("one")
    assert (store.behind, store.waiting()) == (True, 0)
    assert [(store.catch_up(2), store.waiting()) for _ in range(4)] == [(True, 2), (True, 4), (False, 5), (False, 5)]
    assert not store.behind
    assert {row.key for row in store.outbox(10)} == {"k0", "k1", "k2", "k3", "k4"}
    store.close()


def test_a_step_through_the_backlog_is_whole_or_nothing(tmp_path: Path) -> None:
    """Killed within a step, its rows do not wait, and the next process takes them; none is there twice."""
    armed: list[str] = []

    def stop(name: str) -> None:
        if name in armed:
            raise KeyboardInterrupt

    store = _settled_before(tmp_path, 4, step=stop)
    store.archive_as("one")
    store.catch_up(2)
    for name in ("outbox", "commit"):
        armed[:] = [name]
        with pytest.raises(KeyboardInterrupt):
            store.catch_up(2)
    store.close()
    again = SqliteStore(tmp_path / "s.db")
    assert (again.waiting(), again.catch_up(2), again.behind) == (2, False, False)
    assert sorted(row.key for row in again.outbox(10)) == ["k0", "k1", "k2", "k3"]
    again.close()


def test_what_leaves_before_its_step_is_archived(monitor: Monitor) -> None:
    """Retention takes nothing out of the backlog that the archive does not get; what leaves later is told no more."""
    monitor.store.archive_as(None)
    monitor.hear(user_write(key="early"), replica(key="early"))
    monitor.store.archive_as("two")
    monitor.now += 2 * DAY_MS
    monitor.store.purge()
    monitor.hear(user_write(key="late"), replica(key="late"))
    monitor.archiver.drain()
    monitor.now += 2 * DAY_MS
    assert monitor.store.purge().settled == 1
    assert [row.key for row in monitor.store.outbox(10)] == []
    assert asked(monitor.folder, "SELECT key FROM copies ORDER BY key") == [{"key": "early"}, {"key": "late"}]


def test_a_record_of_the_backlog_that_changes_has_its_last_word(tmp_path: Path) -> None:
    """A failure of before that is repaired before its step comes is told with its repair."""
    store = SqliteStore(tmp_path / "s.db", clock=lambda: AT + DAY_MS)
    store.apply(batch_of(user_write(), failed()))
    archiver = Archiver(store, Folder(tmp_path / "archive"))
    store.apply(batch_of(replica(at=AT + 2 * HOUR_MS)))
    archiver.drain()
    told = asked(tmp_path / "archive", "SELECT status, repaired FROM copies")
    assert told == [{"status": "COMPLETED", "repaired": True}]
    store.close()


def test_the_end_of_a_process_leaves_the_backlog_to_the_next_one(tmp_path: Path) -> None:
    """Without it only what waits is written; nothing is lost by that."""
    store = _settled_before(tmp_path, 3)
    archiver = Archiver(store, Folder(tmp_path / "archive"))
    store.apply(batch_of(user_write(key="new"), replica(key="new")))
    assert (archiver.drain(backlog=False).rows, archiver.enough) == (1, True)
    assert (archiver.drain().rows, archiver.enough) == (3, False)
    store.close()


def test_what_changed_while_it_was_off_is_archived(monitor: Monitor) -> None:
    """Switched off and on again, the archive gets what settled meanwhile; what it had counts once."""
    monitor.hear(user_write(key="a"), replica(key="a"))
    monitor.archiver.drain()
    monitor.store.archive_as(None)
    monitor.hear(user_write(key="b"), replica(key="b"))
    Archiver(monitor.store, Folder(monitor.folder)).drain()
    assert asked(monitor.folder, "SELECT key FROM copies ORDER BY key") == [{"key": "a"}, {"key": "b"}]


def test_every_process_feeds_the_archive(monitor: Monitor, tmp_path: Path) -> None:
    """The file remembers that archiving is on, whoever opens it; switched off, it keeps nothing more."""
    other = SqliteStore(tmp_path / "s.db")
    other.apply(batch_of(user_write(), replica()))
    assert monitor.store.waiting() == 1
    monitor.store.archive_as(None)
    other.apply(batch_of(user_write(key="b"), replica(key="b")))
    assert monitor.store.waiting() == 1
    other.close()


def test_drained_rows_are_forgotten(monitor: Monitor) -> None:
    """Once the file is there nothing waits any more, and the next rows make a file of their own."""
    monitor.hear(user_write(), failed())
    assert (monitor.archiver.drain().rows, monitor.store.waiting()) == (1, 0)
    monitor.hear(replica(at=AT + 2 * HOUR_MS))
    monitor.archiver.drain()
    assert asked(monitor.folder, "SELECT status, repaired FROM copies") == [{"status": "COMPLETED", "repaired": True}]
    assert asked(monitor.folder, "SELECT count(*) AS n FROM archive") == [{"n": 2}]


def test_killed_before_it_forgot_nothing_is_twice(monitor: Monitor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that were written, and not yet forgotten, go into the same file again, with what came since."""

    def killed(_revision: int) -> None:
        raise KeyboardInterrupt

    monitor.hear(user_write(), replica())
    with monkeypatch.context() as patched:
        patched.setattr(monitor.store, "archived", killed)
        with pytest.raises(KeyboardInterrupt):
            monitor.archiver.drain()
    monitor.hear(user_write(key="b"), replica(key="b"))
    monitor.archiver.drain()
    assert asked(monitor.folder, "SELECT count(*) AS n FROM archive") == [{"n": 2}]


def test_a_change_and_its_rows_are_one_step(tmp_path: Path) -> None:
    """Stopped between the two, neither is there."""
    armed: list[str] = []

    def stop(name: str) -> None:
        if name in armed:
            raise KeyboardInterrupt

    store = SqliteStore(tmp_path / "s.db", step=stop)
    store.archive_as("one")
    for name in ("outbox", "insert", "commit"):
        armed[:] = [name]
        with pytest.raises(KeyboardInterrupt):
            store.apply(batch_of(user_write(), replica()))
        assert (store.waiting(), store.versions("orders", user_write().key)) == (0, [])
    store.close()


def test_a_record_that_comes_back_with_less_does_not_undo_what_was_known(tmp_path: Path) -> None:
    """A replica's event that comes again after its record left knows no lag, and the row with the lag holds."""
    rows: list[ArchiveRow] = rows_of(user_write(), replica(), at=AT + HOUR_MS)
    archived(tmp_path, rows, "first")
    archived(tmp_path, rows_of(replica(), at=AT + 3 * DAY_MS), "again")
    assert asked(tmp_path, "SELECT lag_seconds FROM copies") == [{"lag_seconds": 10.0}]


def test_an_ingest_feeds_the_archive(tmp_path: Path) -> None:
    """After ``ingest --archive`` the archive has every copy that settled, as it was simulated."""
    plan = Plan(seed=8, objects=1_500, failure_rate=0.1, repaired_share=0.5, messages_per_file=500)
    simulate(plan, tmp_path / "stream")
    result = call(
        tmp_path / "s.db", "ingest", "--archive", str(tmp_path / "archive"), "--topology",
        str(tmp_path / "stream" / "topology.json"), str(tmp_path / "stream" / "events"),
    )  # fmt: skip
    assert result.exit_code == OK, result.output
    settled = [copy for copy in true_copies(plan) if copy["status"] != "PENDING"]
    assert in_order(asked(tmp_path / "archive", f"SELECT {TRUE_COLUMNS} FROM copies")) == in_order(settled)
