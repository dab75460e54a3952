"""What is on its way to the archive, in the SQLite store: rows written together with the change that they tell of.

Nothing is written unless archiving was switched on, which the file itself remembers: so whoever changes the store
feeds the archive, and nothing is lost between two processes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.msgpack import Decoder, Encoder
from msgspec.structs import replace

from crr_monitor.core.archive import ArchiveRow, changed_rows, expired_rows
from crr_monitor.core.status import derive

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from crr_monitor.core.evidence import Evidence
    from crr_monitor.core.model import Record

OUTBOX_SCHEMA = (
    # AUTOINCREMENT: a number is never used again, so that files of rows never take each other's names.
    "CREATE TABLE outbox(n INTEGER PRIMARY KEY AUTOINCREMENT, body BLOB NOT NULL)",
    "CREATE TABLE archiving(id INTEGER PRIMARY KEY CHECK(id = 1), name TEXT NOT NULL)",
)
"""A migration. ``archiving.name`` tells the files of this store from those of others in the same archive."""

_encode = Encoder().encode
_decode = Decoder(ArchiveRow).decode


class Outgoing:
    """Collects the rows of one transaction; does nothing where archiving is off."""

    def __init__(self, db: sqlite3.Connection, now: int) -> None:
        self._db = db
        self._now = now
        self._on = db.execute("SELECT 1 FROM archiving").fetchone() is not None
        self._rows: list[ArchiveRow] = []

    def changed(self, before: Evidence | None, after: Record) -> None:
        """A record changed."""
        if self._on:
            self._rows.extend(changed_rows(None if before is None else derive(before), after, self._now))

    def expired(self, record: Record) -> None:
        """A record leaves; what of it is still pending is told."""
        if self._on:
            self._rows.extend(expired_rows(record, self._now))

    def write(self) -> None:
        """Put the rows into the outbox."""
        if self._rows:
            self._db.executemany("INSERT INTO outbox(body) VALUES (?)", [(_encode(row),) for row in self._rows])


def switch(db: sqlite3.Connection, name: str | None) -> str | None:
    """Switch archiving on under a name, unless it has one already, or with ``None`` off; gives the name in force."""
    if name is None:
        db.execute("DELETE FROM archiving")
        return None
    db.execute("INSERT OR IGNORE INTO archiving(id, name) VALUES (1, ?)", (name,))
    (kept,) = db.execute("SELECT name FROM archiving").fetchone()
    return str(kept)


def read(db: sqlite3.Connection, limit: int) -> list[ArchiveRow]:
    """The first rows of the outbox, in order; their ``revision`` is their number in it."""
    found: Iterable[tuple[int, bytes]] = db.execute("SELECT n, body FROM outbox ORDER BY n LIMIT ?", (limit,))
    return [replace(_decode(body), revision=n) for n, body in found]


def count(db: sqlite3.Connection) -> int:
    """How many rows wait."""
    (rows,) = db.execute("SELECT count(*) FROM outbox").fetchone()
    return int(rows)
