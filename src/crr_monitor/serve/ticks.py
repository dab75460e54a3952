"""What is done again and again: a thread for each, so that a slow one keeps nobody else waiting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from crr_monitor.serve.state import TickState
from crr_monitor.serve.threads import Background
from crr_monitor.stores.base import Purged, StoreError, system_clock
from crr_monitor.stores.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from crr_monitor.core.topology import BucketConfig, Topology
    from crr_monitor.serve.writer import Writer
    from crr_monitor.stores.base import Asked, Batch, Store

PURGE_SECONDS = 60.0
PURGE_RECORDS = 1_000
"""In one transaction, so that nobody who waits for the writer waits long."""


class TickError(Exception):
    """It could not be done this time: the text says why, and what to do. It is tried again."""


class Tick(Protocol):
    """One of them."""

    name: str
    seconds: float
    """From the end of one run to the begin of the next."""

    def run(self, store: Store, now: int) -> None:
        """Do it. ``store`` is read directly and changed by the writer; ``now`` is in milliseconds.

        Raises:
            StoreError, TickError: it could not be done; what was stored before stays.
        """


class WrittenStore(SqliteStore):
    """Reads by a connection of its own; every change is made in the writer's thread."""

    def __init__(self, path: Path, writer: Writer, cache_kib: int) -> None:
        super().__init__(path, create=False, cache_kib=cache_kib)
        self._writer = writer

    def apply(self, batch: Batch) -> int:  # noqa: D102 - the port's
        return self._writer.call(lambda store, _rejects: store.apply(batch)).result()

    def learn(self, configs: Sequence[tuple[BucketConfig, bool]]) -> Topology:  # noqa: D102 - the port's
        return self._writer.call(lambda store, _rejects: store.learn(configs)).result()

    def asked(self, questions: Sequence[Asked]) -> None:  # noqa: D102 - the port's
        self._writer.call(lambda store, _rejects: store.asked(questions)).result()

    def keep_note(self, name: str, body: bytes | None) -> None:  # noqa: D102 - the port's
        self._writer.call(lambda store, _rejects: store.keep_note(name, body)).result()

    def archive_as(self, name: str | None) -> str | None:  # noqa: D102 - the store's
        return self._writer.call(lambda store, _rejects: _file(store).archive_as(name)).result()

    def catch_up(self, limit: int) -> bool:  # noqa: D102 - the store's
        return self._writer.call(lambda store, _rejects: _file(store).catch_up(limit)).result()

    def archived(self, revision: int) -> None:  # noqa: D102 - the store's
        self._writer.call(lambda store, _rejects: _file(store).archived(revision)).result()

    def purge(self, limit: int = PURGE_RECORDS) -> Purged:  # noqa: D102 - the port's
        return self._writer.call(lambda store, _rejects: store.purge(limit)).result()


def _file(store: Store) -> SqliteStore:
    """The writer's store, which is always such a file."""
    assert isinstance(store, SqliteStore)  # noqa: S101 - for the type checker
    return store


class Purge(Struct):
    """Removes what the retention no longer keeps."""

    name: str = "purge"
    seconds: float = PURGE_SECONDS

    def run(self, store: Store, now: int) -> None:  # noqa: ARG002 - a store has its own clock
        """In small steps."""
        while True:
            purged = store.purge(PURGE_RECORDS)
            if not (purged.settled or purged.expired):
                return


class TickThread(Background):
    """Runs one tick until it is stopped."""

    def __init__(self, tick: Tick, open_store: Callable[[], Store], say: Callable[[str], None]) -> None:
        """``open_store`` is called in the thread."""
        self.state = TickState(tick.name, tick.seconds)
        self._tick = tick
        self._open_store = open_store
        self._say = say
        super().__init__(tick.name, self._main)

    def _main(self) -> None:
        store: Store | None = None
        try:
            while not self.stopping.is_set():
                try:
                    store = store or self._open_store()
                    self._tick.run(store, system_clock())
                except (StoreError, TickError) as error:
                    self._failed(str(error))
                except BaseException as error:
                    self._failed(f"it ended with {type(error).__name__}: {error} (a bug)")
                    raise
                else:
                    self.state.problem = None
                self.state.runs += 1
                self.state.ran_at = system_clock()
                self.stopping.wait(self._tick.seconds)
        finally:
            if store is not None:
                store.close()

    def _failed(self, text: str) -> None:
        if text != self.state.problem:
            self._say(f"{self.state.name}: {text} (it is tried again)")
        self.state.failures += 1
        self.state.problem = text
