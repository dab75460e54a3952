"""Statistics and counters in the SQLite store: read, changed and written back within the caller's transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from crr_monitor.core.model import Status
from crr_monitor.core.statistics import Cell

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from crr_monitor.core.statistics import CellKey, Share
    from crr_monitor.stores.base import Counts

_cell_decoder = msgspec.msgpack.Decoder(Cell)
_encode = msgspec.msgpack.Encoder().encode

_KEEP_CELL = (
    "UPDATE cell SET changed_at=? WHERE slot=? AND source=? AND destination=? AND rule_id=? AND delete_marker=?"
)
IGNORED = "ignored:"
"""How counters of ignored records begin; the kind follows."""


def expire(cells: dict[CellKey, Cell], counted: Iterable[Share]) -> None:
    """Count the pending ones of a record that leaves unsettled as expired."""
    for share in counted:
        if share.status is Status.PENDING:
            cells.setdefault(share.key, Cell()).expire(share)


def add_cells(db: sqlite3.Connection, cells: dict[CellKey, Cell], now: int) -> None:
    """Add changes to the stored cells; a cell that holds nothing any more is removed."""
    for key, change in cells.items():
        if change.empty:  # only kept longer
            db.execute(_KEEP_CELL, (now, *key))
            continue
        row = db.execute(
            "SELECT body FROM cell WHERE slot=? AND source=? AND destination=? AND rule_id=? AND delete_marker=?", key
        ).fetchone()
        cell = Cell() if row is None else _cell_decoder.decode(row[0])
        cell.add(change)
        if cell.empty:
            db.execute(
                "DELETE FROM cell WHERE slot=? AND source=? AND destination=? AND rule_id=? AND delete_marker=?", key
            )
        else:
            db.execute("INSERT OR REPLACE INTO cell VALUES (?, ?, ?, ?, ?, ?, ?)", (*key, now, _encode(cell)))
    pairs = {(key.source, key.destination, key.rule_id) for key, change in cells.items() if not change.empty}
    db.executemany("INSERT OR IGNORE INTO pair VALUES (?, ?, ?)", sorted(pairs))


def add_counts(db: sqlite3.Connection, counts: Counts) -> None:
    """Add to the counters of what was read."""
    changes = {"messages": counts.messages, "events": counts.events, "malformed": counts.malformed}
    changes |= {IGNORED + kind: count for kind, count in counts.ignored.items()}
    db.executemany(
        "INSERT INTO count(name, value) VALUES (?1, ?2) ON CONFLICT(name) DO UPDATE SET value = value + ?2",
        [(name, value) for name, value in changes.items() if value],
    )
