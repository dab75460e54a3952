"""The archive beside the store: what settles while a command runs is written to it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from crr_monitor.cli.session import CommandError
from crr_monitor.stores.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from crr_monitor.history.drain import Archiver
    from crr_monitor.history.s3 import Reach
    from crr_monitor.process.ingest import Totals
    from crr_monitor.stores.base import Store


def archiver_of(store: Store, archive: str, reach: Reach) -> Archiver:
    """What feeds the archive from the store.

    Raises:
        CommandError: the store is a table, which its stack archives.
        HistoryError: DuckDB is missing, or the archive cannot be made.
    """
    from crr_monitor.history.drain import Archiver  # noqa: PLC0415 - only with an archive
    from crr_monitor.history.driver import load  # noqa: PLC0415
    from crr_monitor.history.layout import open_target  # noqa: PLC0415

    if not isinstance(store, SqliteStore):
        message = "--archive is for a store in a file: a table is archived by its stack (ArchiveToS3)"
        raise CommandError(message)
    load()  # before anything is read, should it be missing
    return Archiver(store, open_target(archive, reach.client))


@contextmanager
def feeding(
    store: Store, archive: str | None, reach: Reach, progress: Callable[[Totals], None]
) -> Iterator[Callable[[Totals], None]]:
    """Give ``progress``, which then also writes to the archive whenever enough waits for it; at the end, the rest."""
    if archive is None:
        yield progress
        return
    archiver = archiver_of(store, archive, reach)

    def advance(totals: Totals) -> None:
        progress(totals)
        if archiver.enough:
            archiver.drain()

    yield advance
    archiver.drain()
