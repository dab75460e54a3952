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
from crr_monitor.stores.packed import unpack

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

BACKLOG_SCHEMA = (
    "ALTER TABLE archiving ADD COLUMN done INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE archiving ADD COLUMN until INTEGER NOT NULL DEFAULT 0",
)
"""A migration. Of the rows of ``version`` whose ``n`` lies in ``(done, until]`` it is not known whether the archive
has them: they were there before archiving was switched on."""

_encode = Encoder().encode
_decode = Decoder(ArchiveRow).decode


class Outgoing:
    """Collects the rows of one transaction; does nothing where archiving is off."""

    def __init__(self, db: sqlite3.Connection, now: int) -> None:
        self._db = db
        self._now = now
        backlog: tuple[int, int] | None = db.execute("SELECT done, until FROM archiving").fetchone()
        self._on = backlog is not None
        self._done, self._until = backlog or (0, 0)
        self._rows: list[ArchiveRow] = []

    def changed(self, before: Evidence | None, after: Record) -> None:
        """A record changed."""
        if self._on:
            self._rows.extend(changed_rows(None if before is None else derive(before), after, self._now))

    def left(self, n: int, record: Record) -> None:
        """A record leaves; what of it is still pending is told, and what had settled if that was not told before."""
        if self._on:
            self._rows.extend(expired_rows(record, self._now))
            if self._done < n <= self._until:
                self._rows.extend(changed_rows(None, record, self._now))

    def write(self) -> None:
        """Put the rows into the outbox."""
        if self._rows:
            self._db.executemany("INSERT INTO outbox(body) VALUES (?)", [(_encode(row),) for row in self._rows])


def switch(db: sqlite3.Connection, name: str | None) -> str | None:
    """Switch archiving on under a name, unless it has one already, or with ``None`` off; gives the name in force."""
    if name is None:
        db.execute("DELETE FROM archiving")
        return None
    db.execute(
        "INSERT OR IGNORE INTO archiving(id, name, until) VALUES (1, ?, (SELECT coalesce(max(n), 0) FROM version))",
        (name,),
    )
    (kept,) = db.execute("SELECT name FROM archiving").fetchone()
    return str(kept)


def catch_up(db: sqlite3.Connection, now: int, limit: int) -> bool:
    """Put what had settled in the next ``limit`` records of the backlog into the outbox; whether more is left."""
    backlog = db.execute("SELECT done, until FROM archiving WHERE done < until").fetchone()
    if backlog is None:
        return False
    done, until = backlog
    outgoing = Outgoing(db, now)
    found = db.execute(
        "SELECT n, key, version_id, body FROM version WHERE n > ? AND n <= ? ORDER BY n LIMIT ?", (done, until, limit)
    ).fetchall()
    for _, key, version_id, body in found:
        outgoing.changed(None, derive(unpack(key, version_id, body)))
    last = found[-1][0] if len(found) == limit else until
    outgoing.write()
    db.execute("UPDATE archiving SET done = ?", (last,))
    return bool(last < until)


def behind(db: sqlite3.Connection) -> bool:
    """Whether there is a backlog."""
    return db.execute("SELECT 1 FROM archiving WHERE done < until").fetchone() is not None


def read(db: sqlite3.Connection, limit: int) -> list[ArchiveRow]:
    """The first rows of the outbox, in order; their ``revision`` is their number in it."""
    found: Iterable[tuple[int, bytes]] = db.execute("SELECT n, body FROM outbox ORDER BY n LIMIT ?", (limit,))
    return [replace(_decode(body), revision=n) for n, body in found]


def count(db: sqlite3.Connection) -> int:
    """How many rows wait."""
    (rows,) = db.execute("SELECT count(*) FROM outbox").fetchone()
    return int(rows)
