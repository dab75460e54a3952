"""Opening a store's file: to change it, or, where one may not write, to read it alone.

A reader of a write-ahead log needs its index, the file ``-shm`` (SQLite, "Write-Ahead Logging", "Read-Only Databases").
While a writer has the file open that is there; after the last one closed it, neither index nor log are, and the file is
read as one that nobody changes (SQLite, "URI Filenames", ``immutable``). Which of the two it is is told by the files,
so that no index is made here that the writer, another user, could not open.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from crr_monitor.stores.base import StoreError
from crr_monitor.stores.sqlite_schema import MIGRATIONS, check_ours, migrate, use_wal

if TYPE_CHECKING:
    from typing import TypeAlias

    Stamp: TypeAlias = tuple[int, int, bool]

TIMEOUT_SECONDS = 30


def open_file(path: Path, cache_kib: int, *, create: bool) -> sqlite3.Connection:
    """Open it to read and to change it; with ``create`` it is made where it is missing.

    Raises:
        StoreError: it is no store of ours, or there is none.
        sqlite3.Error: SQLite refuses.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = f"cannot make the folder of the store {path}: {error.strerror}"
        raise StoreError(message) from error
    if path.is_dir():
        message = f"{path} is a folder: name a file in it with --store"
        raise StoreError(message)
    if path.exists():
        # Read-only, so that another program's file stays as it is, its write-ahead log included.
        with closing(_connect(path, "mode=ro")) as db:
            version = check_ours(db, path)
        if not (create or version):
            raise no_store(path)
    db = sqlite3.connect(path, isolation_level=None, timeout=TIMEOUT_SECONDS, cached_statements=64)
    try:
        use_wal(db)
        # Each commit is on the disk before its messages count as read.
        db.execute("PRAGMA synchronous = FULL")
        db.execute(f"PRAGMA cache_size = -{cache_kib:d}")
        db.execute("PRAGMA wal_autocheckpoint = 8000")
        db.execute("PRAGMA journal_size_limit = 67108864")
        migrate(db)
    except BaseException:
        db.close()
        raise
    return db


def no_store(path: Path) -> StoreError:
    """The error of a file that is missing, or in which there is nothing yet."""
    return StoreError(f"no store at {path}: ingest something first, or name another one with --store")


def may_write(path: Path) -> bool:
    """Whether this process may change the file, and make others beside it."""
    return _allowed(path, os.W_OK) and _allowed(path.parent, os.W_OK)


def open_to_read(path: Path, cache_kib: int) -> tuple[sqlite3.Connection, Stamp | None]:
    """Open a file that one may not write; with what :func:`stamp` has to give at the end too, if anything.

    Raises:
        StoreError: it is no store of ours, there is none, or it cannot be read without writing.
        sqlite3.Error: SQLite refuses.
    """
    _check_readable(path)
    watched = _has_writer(path)
    before = None if watched else stamp(path)
    db = _connect(path, "mode=ro" if watched else "immutable=1")
    try:
        _check_current(check_ours(db, path), path)
        db.execute(f"PRAGMA cache_size = -{cache_kib:d}")
    except BaseException:
        db.close()
        raise
    return db, before


def stamp(path: Path) -> Stamp:
    """What changes when somebody writes the file: its time, its size, and whether it has a log."""
    found = path.stat()
    return found.st_mtime_ns, found.st_size, _beside(path, "-wal").exists()


def _connect(path: Path, how: str) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?{how}"
    return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=TIMEOUT_SECONDS, cached_statements=64)


def _allowed(path: Path, mode: int) -> bool:
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)


def _beside(path: Path, ending: str) -> Path:
    return Path(f"{path}{ending}")


def _check_readable(path: Path) -> None:
    for name in (path, _beside(path, "-wal"), _beside(path, "-shm")):
        if name.exists() and not _allowed(name, os.R_OK):
            message = f"store {path}: {name} may not be read by you: run as a user, or as a member of a group, who may"
            raise StoreError(message)


def _check_current(version: int, path: Path) -> None:
    if not version:
        raise no_store(path)
    if version < len(MIGRATIONS):
        message = (
            f"{path} was made by an older version of CRR Monitor (schema {version}), and may not be written by"
            " you: restart what writes it with this version, or run this once as its user"
        )
        raise StoreError(message)


def _has_writer(path: Path) -> bool:
    """Whether a process has the file open, or was killed while it had."""
    if _beside(path, "-shm").exists():
        return True
    log = _beside(path, "-wal")
    if log.exists() and log.stat().st_size:
        message = (
            f"store {path}: what was written last is still in {log}, and to bring it in takes the right to write:"
            " run this once as the user who writes the store"
        )
        raise StoreError(message)
    return False
