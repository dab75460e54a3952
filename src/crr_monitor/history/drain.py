"""From a store's outbox into the archive, at least once: a row leaves the outbox when its file is durable."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Protocol

from crr_monitor.history.driver import load
from crr_monitor.history.layout import open_target
from crr_monitor.history.write import Written, write_rows

if TYPE_CHECKING:
    from crr_monitor.core.archive import ArchiveRow
    from crr_monitor.history.layout import Target
    from crr_monitor.history.s3 import Reach

BATCH_ROWS = 50_000
"""Rows that are written at once: some 20 MB of text."""

CATCH_UP_RECORDS = 500
"""Records of the backlog in one transaction, so that nobody who waits for the writer waits long."""


class Outbox(Protocol):
    """A store that feeds the archive: :class:`crr_monitor.stores.sqlite.SqliteStore`."""

    def archive_as(self, name: str | None) -> str | None:
        """Switch archiving on or off."""

    @property
    def behind(self) -> bool:
        """Whether there is a backlog of records that settled before archiving was on."""

    def catch_up(self, limit: int) -> bool:
        """Have rows of the next records of the backlog wait; whether more is left."""

    def outbox(self, limit: int) -> list[ArchiveRow]:
        """The first rows that wait."""

    def waiting(self) -> int:
        """How many wait."""

    def archived(self, revision: int) -> None:
        """Forget the rows up to a number."""


def open_archive(where: str, reach: Reach) -> Target:
    """The archive to feed, looked at before anything is read.

    Raises:
        HistoryError: DuckDB or boto3 is missing, or the folder cannot be made.
    """
    load()
    return open_target(where, reach.client)


def new_name() -> str:
    """A name for a store that begins to feed an archive."""
    return uuid.uuid4().hex[:12]


class Archiver:
    """Feeds one archive from one store."""

    def __init__(self, store: Outbox, target: Target) -> None:
        """Switch the store's archiving on."""
        self._store = store
        self._target = target
        self.name = store.archive_as(new_name())

    @property
    def enough(self) -> bool:
        """Whether a file of good size could be written."""
        return self._store.waiting() >= BATCH_ROWS or self._store.behind

    def drain(self, batch_rows: int = BATCH_ROWS, *, backlog: bool = True) -> Written:
        """Write all that waits and, with ``backlog``, what had settled before the store fed an archive.

        Files are named by the store and the first row in them, and lie where their rows were recorded: what was written
        and not yet forgotten when the process was killed is written once more, into the same files.

        Raises:
            HistoryError: the archive cannot be written; what waits goes on waiting.
            StoreError: the store refuses.
        """
        total = Written()
        while rows := self._next(batch_rows, backlog=backlog):
            name = f"{self.name}-{rows[0].revision:012d}"
            total.add(write_rows(rows, self._target, name, _recorded))
            self._store.archived(rows[-1].revision)
        return total

    def _next(self, batch_rows: int, *, backlog: bool) -> list[ArchiveRow]:
        while backlog and self._store.waiting() < batch_rows and self._store.catch_up(CATCH_UP_RECORDS):
            pass
        return self._store.outbox(batch_rows)


def _recorded(row: ArchiveRow) -> int:
    return row.recorded_at
