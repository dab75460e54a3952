"""What S3 has to be asked about, in the SQLite store: two small indexes of what is unsettled, in order of dueness.

``ask_at`` is when the next question is due, and ``NULL`` in a row about which nobody asked, or of which there is news
since: then ``sort_at`` tells.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any

from crr_monitor.core.status import derive
from crr_monitor.stores.base import LOOKED, Due, take_due
from crr_monitor.stores.packed import unpack

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator

DUE_SCHEMA = (
    "ALTER TABLE version ADD COLUMN asks INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE version ADD COLUMN ask_at INTEGER",
    "CREATE INDEX version_unasked ON version(sort_at) WHERE open = 1 AND ask_at IS NULL",
    "CREATE INDEX version_asked ON version(ask_at) WHERE ask_at IS NOT NULL",
)
"""A migration. Settled rows are in neither index."""

# Left alone, the planner prefers the index of retention, and sorts everything that is open.
UNASKED = (
    "SELECT key, version_id, body, 0, sort_at + ?1 FROM version INDEXED BY version_unasked"
    " WHERE open = 1 AND ask_at IS NULL AND sort_at <= ?2 - ?1 ORDER BY sort_at LIMIT ?3"
)
ASKED = (
    "SELECT key, version_id, body, asks, ask_at FROM version INDEXED BY version_asked"
    " WHERE ask_at IS NOT NULL AND ask_at <= ?2 AND ?1 IS NOT NULL ORDER BY ask_at LIMIT ?3"
)


def read_due(db: sqlite3.Connection, now: int, overdue: int, limit: int, share: int | None) -> list[Due]:
    """See :meth:`crr_monitor.stores.base.Store.due`."""
    most = limit if share is None else limit * LOOKED
    walks = [_walk(db.execute(sql, (overdue, now, most))) for sql in (UNASKED, ASKED)]
    return take_due(heapq.merge(*walks, key=lambda due: due.due_at), limit, share)


def _walk(rows: Iterable[tuple[Any, ...]]) -> Iterator[Due]:
    for key, version_id, body, asks, due_at in rows:
        yield Due(derive(unpack(key, version_id, body)), asks, due_at)


def write_asked(db: sqlite3.Connection, questions: Iterable[tuple[int, int, bytes]]) -> None:
    """Times asked, next due and id of rows; those that are settled meanwhile stay as they are."""
    db.executemany("UPDATE version SET asks=?, ask_at=? WHERE id=? AND open = 1", questions)
