"""The archive beside the store: what settles is written to it, and who was watching when."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import msgspec

from crr_monitor.core.coverage import BEAT_MS, Stretch, extend
from crr_monitor.core.times import DAY_MS, SECOND_MS
from crr_monitor.history import coverage
from crr_monitor.history.drain import Archiver, new_name
from crr_monitor.history.driver import HistoryError
from crr_monitor.serve.state import SourceState
from crr_monitor.serve.ticks import TickError, WrittenStore

if TYPE_CHECKING:
    from crr_monitor.history.layout import Target
    from crr_monitor.serve.state import State
    from crr_monitor.stores.base import Store

FEED_SECONDS = 5.0
"""How often it is looked whether enough waits for a file of good size."""

DRAIN_SECONDS = 300.0
"""How old at most what waits becomes: more files, the shorter it is."""

NOTE = "coverage"
"""Under this name the store keeps what is not in its final file yet, so that a kill takes at most one beat."""

HTTP = "HTTP"
"""What events that are sent to ``POST /events`` come through."""

PROBLEM_CHARACTERS = 200


class Watchlog:
    """Who was watching when, as this monitor saw itself. Shared by the threads that beat and that write."""

    def __init__(self, state: State, *, hears_http: bool) -> None:
        self._state = state
        self._hears_http = hears_http
        self._lock = threading.Lock()
        self._stretches: list[Stretch] | None = None

    def beat(self, store: Store, monitor: str, now: int) -> None:
        """Tell of each source that it is read now, or cannot be; durable when this returns."""
        newest = store.newest()
        with self._lock:
            known = self._known(store)
            at = None if newest is None else newest.event_at
            beats = [_beat_of(source, problem, monitor, now, at) for source, problem in self._sources()]
            self._keep(store, extend(known, beats))

    def _sources(self) -> list[tuple[SourceState, str | None]]:
        sources = list(self._state.sources)
        if self._hears_http:
            sources.append(SourceState(HTTP, "http", ready=True))
        # A source that was not looked at yet is neither: its first look says which.
        return [
            (source, self._state.store_problem or source.problem)
            for source in sources
            if source.ready or source.problem is not None
        ]

    def save(self, store: Store, target: Target, monitor: str, now: int) -> None:
        """Write the files of all days of which something is kept, and forget the days that are over.

        Raises:
            HistoryError: the archive cannot be written.
        """
        with self._lock:
            known = self._known(store)
        coverage.save(known, target, f"serve-{monitor}")
        today = now // DAY_MS * DAY_MS
        with self._lock:
            saved = set(known)
            left = [each for each in self._known(store) if each.since >= today or each not in saved]
            self._keep(store, left)

    def _known(self, store: Store) -> list[Stretch]:
        if self._stretches is None:
            body = store.note(NOTE)
            self._stretches = [] if body is None else msgspec.json.decode(body, type=list[Stretch])
        return self._stretches

    def _keep(self, store: Store, stretches: list[Stretch]) -> None:
        store.keep_note(NOTE, msgspec.json.encode(stretches))
        self._stretches = stretches


def _beat_of(source: SourceState, problem: str | None, monitor: str, now: int, newest: int | None) -> Stretch:
    return Stretch(
        monitor,
        source.name,
        "live",
        "watched" if problem is None else "blind",
        now,
        now,
        newest_event_at=newest,
        waiting=source.waiting,
        problem=None if problem is None else problem[:PROBLEM_CHARACTERS],
    )


class Beat:
    """Notes each minute who is watching."""

    def __init__(self, watchlog: Watchlog) -> None:
        self.name = "coverage"
        self.seconds = BEAT_MS / SECOND_MS
        self._watchlog = watchlog

    def run(self, store: Store, now: int) -> None:
        """One beat."""
        self._watchlog.beat(store, _monitor(store), now)


class Feed:
    """Writes to the archive what waits for it, when there is enough, or when it has waited long enough."""

    def __init__(self, target: Target, watchlog: Watchlog) -> None:
        self.name = "archive"
        self.seconds = FEED_SECONDS
        self._target = target
        self._watchlog = watchlog
        self._drained_at = time.monotonic()

    def run(self, store: Store, now: int) -> None:
        """Look, and write if it is time."""
        due = time.monotonic() - self._drained_at >= DRAIN_SECONDS
        if due or self._archiver(store).enough:
            self.drain(store, now)

    def drain(self, store: Store, now: int, *, backlog: bool = True) -> None:
        """Write all that waits; ``backlog``: also what had settled before there was an archive.

        Raises:
            StoreError, TickError: it could not be written, and goes on waiting.
        """
        try:
            self._archiver(store).drain(backlog=backlog)
            self._watchlog.save(store, self._target, _monitor(store), now)
        except HistoryError as error:
            raise TickError(str(error)) from error
        finally:
            self._drained_at = time.monotonic()

    def finish(self, store: Store, now: int) -> None:
        """At the end: what waits, and that it was watched until now. Raises as :meth:`drain`.

        What is left of the backlog is for the next start, as nobody should wait for that now.
        """
        self._watchlog.beat(store, _monitor(store), now)
        self.drain(store, now, backlog=False)

    def _archiver(self, store: Store) -> Archiver:
        return Archiver(_outbox(store), self._target)


def _outbox(store: Store) -> WrittenStore:
    """Every tick is given such a store."""
    assert isinstance(store, WrittenStore)  # noqa: S101 - for the type checker
    return store


def _monitor(store: Store) -> str:
    return _outbox(store).archive_as(new_name()) or ""
