"""The schema of the SQLite store and its migrations, each in a transaction together with its record."""

from __future__ import annotations

import sqlite3
import time
from typing import TYPE_CHECKING

from crr_monitor.stores.base import StoreError
from crr_monitor.stores.sqlite_due import DUE_SCHEMA, SOURCE_OF, SOURCE_SCHEMA, stored_source
from crr_monitor.stores.sqlite_outbox import BACKLOG_SCHEMA, OUTBOX_SCHEMA

if TYPE_CHECKING:
    from pathlib import Path

_TRIES = 100
_PAUSE_SECONDS = 0.02

APPLICATION_ID = 0x43525231
"""Marks the file as ours (``PRAGMA application_id``): "CRR1"."""

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        # n grows with every insert, so rows are appended; only the small index entries go to random places.
        """CREATE TABLE version(
            n INTEGER PRIMARY KEY, id BLOB NOT NULL, status INTEGER NOT NULL, flags INTEGER NOT NULL,
            open INTEGER NOT NULL, sort_at INTEGER NOT NULL, changed_at INTEGER NOT NULL,
            key TEXT NOT NULL, version_id TEXT NOT NULL, body BLOB NOT NULL)""",
        "CREATE UNIQUE INDEX version_id ON version(id)",
        "CREATE INDEX version_status ON version(status, sort_at)",
        "CREATE INDEX version_changed ON version(open, changed_at)",
        """CREATE TABLE cell(
            slot INTEGER NOT NULL, source TEXT NOT NULL, destination TEXT NOT NULL, rule_id TEXT NOT NULL,
            delete_marker INTEGER NOT NULL, changed_at INTEGER NOT NULL, body BLOB NOT NULL,
            PRIMARY KEY(slot, source, destination, rule_id, delete_marker)) WITHOUT ROWID""",
        "CREATE INDEX cell_changed ON cell(changed_at)",
        """CREATE TABLE pair(source TEXT NOT NULL, destination TEXT NOT NULL, rule_id TEXT NOT NULL,
            PRIMARY KEY(source, destination, rule_id)) WITHOUT ROWID""",
        # Which versions the statistics have counted although their records left: each counts once, ever.
        "CREATE TABLE forgotten(id BLOB PRIMARY KEY, forgotten_at INTEGER NOT NULL) WITHOUT ROWID",
        "CREATE INDEX forgotten_time ON forgotten(forgotten_at)",
        "CREATE TABLE position(source TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID",
        "CREATE TABLE count(name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
        "CREATE TABLE newest(id INTEGER PRIMARY KEY CHECK(id = 1), event_at INTEGER NOT NULL, stored_at INTEGER)",
        "CREATE TABLE topology(id INTEGER PRIMARY KEY CHECK(id = 1), body BLOB NOT NULL)",
        f"PRAGMA application_id = {APPLICATION_ID}",
    ),
    ("CREATE TABLE note(name TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID",),
    DUE_SCHEMA,
    OUTBOX_SCHEMA,
    BACKLOG_SCHEMA,
    SOURCE_SCHEMA,
)
"""Migration ``i`` brings a file from ``PRAGMA user_version`` ``i`` to ``i + 1``; never edited once released."""


def check_ours(db: sqlite3.Connection, path: Path) -> int:
    """Look before anything is written; gives the schema's number, 0 of a file in which there is nothing yet.

    Raises:
        StoreError: the file belongs to another program, or was made by a newer version of this one.
    """
    db.execute("BEGIN")  # one look: another process may be making the file
    (application,) = db.execute("PRAGMA application_id").fetchone()
    (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    db.execute("ROLLBACK")
    if application != APPLICATION_ID and (tables or application):
        message = f"{path} is a database of another program: name another file with --store"
        raise StoreError(message)
    if version > len(MIGRATIONS):
        message = f"{path} was made by a newer version of CRR Monitor (schema {version}): upgrade, or name another file"
        raise StoreError(message)
    return int(version)


def use_wal(db: sqlite3.Connection) -> None:
    """Switch to write-ahead logging. Unlike other statements this one does not wait for a process that does so too."""
    for left in reversed(range(_TRIES)):
        try:
            db.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if not left or error.sqlite_errorname != "SQLITE_BUSY":
                raise
            time.sleep(_PAUSE_SECONDS)
        else:
            return


def migrate(db: sqlite3.Connection) -> None:
    """Bring the file to the newest schema, each migration in a transaction together with its number."""
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version == len(MIGRATIONS):
        return
    db.create_function(SOURCE_OF, 3, stored_source, deterministic=True)
    db.execute("BEGIN IMMEDIATE")
    try:
        (version,) = db.execute("PRAGMA user_version").fetchone()  # another process may have been faster
        for number, statements in enumerate(MIGRATIONS[version:], version + 1):
            for statement in statements:
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {number}")
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # Ctrl-C may come when it is done
            db.execute("ROLLBACK")
        raise
