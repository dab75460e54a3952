"""The archive beside the store: what settles while a command runs is written to it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from crr_monitor.cli.session import CommandError, warn
from crr_monitor.config import NO_ARCHIVE
from crr_monitor.stores.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from crr_monitor.config import Config
    from crr_monitor.history.layout import Target
    from crr_monitor.history.s3 import Reach
    from crr_monitor.process.ingest import Totals
    from crr_monitor.stores.base import Store


def archive_of(config: Config, reach: Reach) -> Target | None:
    """The archive that the settings name, if they name one.

    Raises:
        CommandError: the store is a table, which its stack archives.
        HistoryError: DuckDB is missing, or the archive cannot be made.
    """
    if config.archive is None or config.archive == NO_ARCHIVE:
        return None
    from crr_monitor.history.drain import open_archive  # noqa: PLC0415 - only with an archive

    if isinstance(config.store, str):
        message = "--archive is for a store in a file: a table is archived by its stack (ArchiveToS3)"
        raise CommandError(message)
    return open_archive(config.archive, reach)


@contextmanager
def feeding(
    store: Store, config: Config, target: Target | None, logs: Iterable[str], progress: Callable[[Totals], None]
) -> Iterator[Callable[[Totals], None]]:
    """Give ``progress``, which then also writes to the archive whenever enough waits for it; at the end, the rest.

    At the end it is also told which time the ``logs`` cover.
    """
    if target is None or not isinstance(store, SqliteStore):
        _stop_or_warn(store, config)
        yield progress
        return
    from crr_monitor.history.coverage import save_logs  # noqa: PLC0415 - only with an archive
    from crr_monitor.history.drain import Archiver  # noqa: PLC0415

    archiver = Archiver(store, target)

    def advance(totals: Totals) -> None:
        progress(totals)
        if archiver.enough:
            archiver.drain()

    yield advance
    archiver.drain()
    save_logs(logs, target)


def _stop_or_warn(store: Store, config: Config) -> None:
    """A store that fed an archive keeps for it what settles, until somebody says otherwise."""
    if not isinstance(store, SqliteStore):
        return
    if config.archive == NO_ARCHIVE:
        store.archive_as(None)
    elif store.archiving:
        warn(
            "this store fed an archive, and none is named: what settles waits in it; name the archive with --archive,"
            f" or stop this with --archive {NO_ARCHIVE}"
        )
