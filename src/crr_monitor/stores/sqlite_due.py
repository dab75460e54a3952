"""What S3 has to be asked about, in the SQLite store: two small indexes of what is unsettled, by bucket and dueness.

``source`` is the source bucket of a row that is unsettled, empty where it is not known. ``ask_at`` is when the next
question is due, and ``NULL`` in a row about which nobody asked, or of which there is news since: then ``sort_at``
tells. Each bucket is walked by itself, as far as is wanted of it, so that nothing has to be read past.
"""

from __future__ import annotations

import heapq
from itertools import islice
from typing import TYPE_CHECKING, Any

from crr_monitor.core.status import derive
from crr_monitor.stores.base import EVER, Due, Look
from crr_monitor.stores.packed import unpack

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator

    from crr_monitor.core.model import Record

DUE_SCHEMA = (
    "ALTER TABLE version ADD COLUMN asks INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE version ADD COLUMN ask_at INTEGER",
    "CREATE INDEX version_unasked ON version(sort_at) WHERE open = 1 AND ask_at IS NULL",
    "CREATE INDEX version_asked ON version(ask_at) WHERE ask_at IS NOT NULL",
)
"""A migration. Settled rows are in neither index."""

SOURCE_OF = "crr_source_of"
"""The name in SQL of :func:`stored_source`, for the next migration."""

SOURCE_SCHEMA = (
    "ALTER TABLE version ADD COLUMN source TEXT NOT NULL DEFAULT ''",
    "DROP INDEX version_unasked",
    "DROP INDEX version_asked",
    "UPDATE version SET source = crr_source_of(key, version_id, body) WHERE open = 1",
    "CREATE INDEX version_unasked ON version(source, sort_at) WHERE open = 1 AND ask_at IS NULL",
    "CREATE INDEX version_asked ON version(source, ask_at) WHERE ask_at IS NOT NULL",
)
"""A migration: what is unsettled is found by its bucket."""

# Left alone, the planner prefers the index of retention, and sorts everything that is open.
UNASKED = (
    "SELECT key, version_id, body, 0, sort_at + ?1 FROM version INDEXED BY version_unasked"
    " WHERE open = 1 AND ask_at IS NULL AND source = ?2 AND sort_at <= ?3 - ?1 AND sort_at >= ?4 - ?1 ORDER BY sort_at"
)
ASKED = (
    "SELECT key, version_id, body, asks, ask_at FROM version INDEXED BY version_asked"
    " WHERE ask_at IS NOT NULL AND source = ?2 AND ask_at <= ?3 AND ask_at >= ?4 AND ?1 IS NOT NULL ORDER BY ask_at"
)
NEXT_UNASKED = (
    "SELECT source FROM version INDEXED BY version_unasked"
    " WHERE open = 1 AND ask_at IS NULL AND source >= ?1 ORDER BY source LIMIT 1"
)
NEXT_ASKED = (
    "SELECT source FROM version INDEXED BY version_asked"
    " WHERE ask_at IS NOT NULL AND source >= ?1 ORDER BY source LIMIT 1"
)


def source_of(record: Record) -> str:
    """What stands in the column ``source``."""
    return "" if record.settled else record.source_bucket or ""


def stored_source(key: str, version_id: str, body: bytes) -> str:
    """The same of what is in a row."""
    return source_of(derive(unpack(key, version_id, body)))


def read_due(db: sqlite3.Connection, now: int, overdue: int, limit: int) -> list[Due]:
    """See :meth:`crr_monitor.stores.base.Store.due`."""
    walks = [_walk(db, source, now, overdue, EVER) for source in _sources(db)]
    return list(islice(heapq.merge(*walks, key=lambda due: due.due_at), limit))


def read_look(db: sqlite3.Connection, now: int, overdue: int, limit: int, begin: int | None) -> Look:
    """See :meth:`crr_monitor.stores.base.Store.look`: in each turn one more of each bucket is read, and no others."""
    walks = [_walk(db, source, now, overdue, EVER if begin is None else begin) for source in _sources(db)]
    found: list[Due] = []
    while walks and len(found) < limit:
        turn = [(next(walk, None), walk) for walk in walks]
        walks = [walk for due, walk in turn if due is not None]
        dues = sorted((due for due, _ in turn if due is not None), key=lambda due: due.due_at)
        found += dues[: limit - len(found)]
    return Look(sorted(found, key=lambda due: due.due_at))


def _sources(db: sqlite3.Connection) -> list[str]:
    """Buckets of which something is unsettled: each is found in one step of an index."""
    found: set[str] = set()
    for sql in (NEXT_UNASKED, NEXT_ASKED):
        begin = ""
        while (row := db.execute(sql, (begin,)).fetchone()) is not None:
            found.add(row[0])
            begin = row[0] + "\0"  # no name comes between
    return sorted(found)


def _walk(db: sqlite3.Connection, source: str, now: int, overdue: int, begin: int) -> Iterator[Due]:
    walks = [_read(db.execute(sql, (overdue, source, now, begin))) for sql in (UNASKED, ASKED)]
    return heapq.merge(*walks, key=lambda due: due.due_at)


def _read(rows: Iterable[tuple[Any, ...]]) -> Iterator[Due]:
    for key, version_id, body, asks, due_at in rows:
        yield Due(derive(unpack(key, version_id, body)), asks, due_at)


def write_asked(db: sqlite3.Connection, questions: Iterable[tuple[int, int, bytes]]) -> None:
    """Times asked, next due and id of rows; those that are settled meanwhile stay as they are."""
    db.executemany("UPDATE version SET asks=?, ask_at=? WHERE id=? AND open = 1", questions)
