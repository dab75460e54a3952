"""The store in one SQLite file: WAL, one transaction per batch, any number of readers beside the writer.

A record is one row: what its evidence says, as MessagePack, and beside it only what a query filters or sorts by. Times
are milliseconds since the epoch. The id is a hash of key and version id, its first half of the key alone, so that all
versions of a key stand together.
"""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from crr_monitor.core.model import VISIBLE, Status
from crr_monitor.core.statistics import SLOT_MS, Cell, CellKey, move, shares
from crr_monitor.core.status import derive
from crr_monitor.core.topology import BucketConfig, Topology
from crr_monitor.stores import sqlite_outbox
from crr_monitor.stores.base import (
    Counts,
    Newest,
    Position,
    Purged,
    Retention,
    StoreError,
    advance,
    is_about,
    matches,
    pending_shares,
    system_clock,
)
from crr_monitor.stores.packed import PackedEvidence, pack, unpack
from crr_monitor.stores.sqlite_due import read_due, read_look, source_of, write_asked
from crr_monitor.stores.sqlite_opening import may_write, no_store, open_file, open_to_read, stamp
from crr_monitor.stores.sqlite_statistics import IGNORED, add_cells, add_counts, expire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from crr_monitor.core.archive import ArchiveRow
    from crr_monitor.core.model import Record
    from crr_monitor.core.statistics import Share
    from crr_monitor.stores.base import Asked, Batch, Due, Look, Query
    from crr_monitor.stores.sqlite_opening import Stamp

OPEN, UNCERTAIN, COUNTED_BEFORE = 1, 2, 4
"""Bits of ``version.flags``: not settled; something uncertain; counted before its record left for a while."""

_CHUNK = 400
_PLACES = ",".join("?" * _CHUNK)

_encode = msgspec.msgpack.Encoder().encode
_cell_decoder = msgspec.msgpack.Decoder(Cell)
_configs_decoder = msgspec.msgpack.Decoder(list[BucketConfig])


def version_hash(key: str, version_id: str) -> bytes:
    """16 bytes: 8 of the key, 8 of the version id."""
    return key_hash(key) + hashlib.blake2b(version_id.encode(), digest_size=8).digest()


def key_hash(key: str) -> bytes:
    """8 bytes."""
    return hashlib.blake2b(key.encode(), digest_size=8).digest()


class SqliteStore:
    """See :class:`crr_monitor.stores.base.Store`.

    ``step`` is called between any two steps of a change, with the name of the next one; what it raises undoes the
    change.
    """

    def __init__(  # noqa: PLR0913 - the file, what every store takes, and options by name
        self,
        path: Path | str,
        retention: Retention = Retention(),  # noqa: B008 - frozen
        clock: Callable[[], int] = system_clock,
        step: Callable[[str], None] = lambda _name: None,
        *,
        create: bool = True,
        reading: bool = False,
        cache_kib: int = 65_536,
    ) -> None:
        """Open the file, and make it where it is missing (unless ``create`` is false).

        With ``reading`` it is also opened where it may not be written; then it cannot be changed. ``cache_kib`` bounds
        the memory for pages of the file.

        Raises:
            StoreError: it cannot be opened, is no store of ours, or was made by a newer version.
        """
        self.path = Path(path)
        self._retention = retention
        self._clock = clock
        self._step = step
        self._cache_kib = cache_kib
        self._before: Stamp | None = None
        with self._errors():
            self._db = self._open(create=create, reading=reading)

    def _open(self, *, create: bool, reading: bool) -> sqlite3.Connection:
        if not create and not self._holds_something():
            raise no_store(self.path)
        if reading and not may_write(self.path):
            db, self._before = open_to_read(self.path, self._cache_kib)
            return db
        return open_file(self.path, self._cache_kib, create=create)

    def _holds_something(self) -> bool:
        try:
            return self.path.stat().st_size > 0
        except FileNotFoundError:
            return False
        except OSError as error:
            message = f"store {self.path}: {error.strerror} (run as a user who may read its folder)"
            raise StoreError(message) from error

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Driver errors become ours here, and nowhere else."""
        try:
            yield
        except sqlite3.Error as error:
            name = getattr(error, "sqlite_errorname", "")
            hint = {
                "SQLITE_FULL": "the disk is full: free some space and run it again, nothing was lost",
                "SQLITE_BUSY": "another process has held it for 30 seconds",
                "SQLITE_CANTOPEN": "check that the folder exists and may be written",
                "SQLITE_READONLY": "to change it takes the right to write it and its folder: run as a user who has it",
                "SQLITE_NOTADB": "the file is no SQLite database",
                "SQLITE_CORRUPT": "the file is damaged: restore it, or remove it and ingest again",
                "SQLITE_IOERR": "reading or writing failed: check the disk",
            }.get(name.rsplit("_", 1)[0] if name.count("_") > 1 else name, name)
            message = f"store {self.path}: {error}" + (f" ({hint})" if hint else "")
            raise StoreError(message) from error

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._errors():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._step("commit")
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    # ------------------------------------------------------------------ change

    def apply(self, batch: Batch) -> int:
        now = self._clock()
        with self._transaction() as db:
            changed = self._merge(db, batch, now) if batch.evidence else 0
            self._step("position")
            db.executemany(
                "INSERT OR REPLACE INTO position(source, body) VALUES (?, ?)",
                [(position.source, msgspec.json.encode(position)) for position in batch.positions],
            )
            self._step("counts")
            add_counts(db, batch.counts)
            if batch.newest_event is not None:
                db.execute(
                    "INSERT INTO newest(id, event_at, stored_at) VALUES (1, ?1, ?2) ON CONFLICT(id) DO UPDATE"
                    " SET event_at = ?1, stored_at = ?2 WHERE event_at < ?1",
                    (batch.newest_event, now),
                )
        return changed

    def _merge(self, db: sqlite3.Connection, batch: Batch, now: int) -> int:
        ids = {version_hash(*version): version for version in batch.evidence}
        order = sorted(ids)  # neighbours in the index are written together
        known = _select(db, "SELECT id, n, flags, key, version_id, body FROM version WHERE id IN", order)
        fresh = [id_ for id_ in order if id_ not in known]
        counted = set(_select(db, "SELECT id, 1 FROM forgotten WHERE id IN", fresh)) if _any_forgotten(db) else set()
        cells: dict[CellKey, Cell] = {}
        inserts, updates, changed = [], [], 0
        bodies = batch.evidence.bodies if isinstance(batch.evidence, PackedEvidence) else {}
        outgoing = sqlite_outbox.Outgoing(db, now)
        for id_ in order:
            row, version = known.get(id_), ids[id_]
            old = None if row is None else unpack(row[2], row[3], row[4])
            change = advance(old, batch.evidence[version])
            if change is None:
                continue
            changed += change.listed
            outgoing.changed(old, change.record)
            counted_before = id_ in counted if row is None else bool(row[1] & COUNTED_BEFORE)
            if not counted_before:
                move(cells, change.old, change.new)
            values = _columns(change.record, now, counted_before=counted_before)
            if row is None:
                inserts.append((*values, bodies.get(version) or pack(change.evidence), id_, *version))
            else:
                updates.append((*values, pack(change.evidence), row[0]))
        self._step("outbox")
        outgoing.write()
        self._step("insert")
        db.executemany(_INSERT, inserts)
        self._step("update")
        db.executemany(_UPDATE, updates)
        self._step("statistics")
        add_cells(db, cells, now)
        return changed

    def learn(self, configs: Sequence[tuple[BucketConfig, bool]]) -> Topology:
        with self._transaction() as db:
            known = _read_topology(db)
            topology = known.learn(configs, self._clock())
            if topology != known:
                self._step("topology")
                db.execute("INSERT OR REPLACE INTO topology(id, body) VALUES (1, ?)", (_encode(topology.configs),))
        return topology

    def purge(self, limit: int = 20_000) -> Purged:
        now = self._clock()
        with self._transaction() as db:
            rows = db.execute(
                "SELECT * FROM (SELECT n, id, flags, key, version_id, body FROM version WHERE open = 0"
                " AND changed_at <= ?"
                " LIMIT ?) UNION ALL"
                " SELECT * FROM (SELECT n, id, flags, key, version_id, body FROM version WHERE open = 1"
                " AND changed_at <= ? LIMIT ?) LIMIT ?",
                (now - self._retention.settled, limit, now - self._retention.unsettled, limit, limit),
            ).fetchall()
            cells: dict[CellKey, Cell] = {}
            forgotten = []
            outgoing = sqlite_outbox.Outgoing(db, now)
            for n, id_, flags, key, version_id, body in rows:
                record = derive(unpack(key, version_id, body))
                outgoing.left(n, record)
                counted = shares(record)
                if counted:
                    forgotten.append((id_, now))
                    if not flags & COUNTED_BEFORE:
                        expire(cells, counted)
            self._step("expired")
            outgoing.write()
            self._step("forget")
            db.executemany("DELETE FROM version WHERE n = ?", ((row[0],) for row in rows))
            self._step("marks")
            db.executemany("INSERT OR IGNORE INTO forgotten(id, forgotten_at) VALUES (?, ?)", forgotten)
            add_cells(db, cells, now)
            self._step("outdated")
            outdated = 0
            if len(rows) < limit:  # else records that count in them may still be here
                oldest = now - self._retention.statistics
                outdated = db.execute("DELETE FROM cell WHERE changed_at <= ?", (oldest,)).rowcount
                db.execute("DELETE FROM forgotten WHERE forgotten_at <= ?", (oldest,))
            expired = sum(1 for row in rows if row[2] & OPEN)
        return Purged(len(rows) - expired, expired, outdated)

    # --------------------------------------------------------------- archive

    def archive_as(self, name: str | None) -> str | None:
        """Switch archiving on under a name, or with ``None`` off; gives the name in force, the first one given.

        From then on every change that belongs into the archive is put into the outbox in its transaction, whichever
        process makes it. What had settled before is the backlog: :meth:`catch_up` puts it there, or its leaving does.
        """
        with self._transaction() as db:
            kept = sqlite_outbox.switch(db, name)
            self._step("outbox")
        return kept

    def catch_up(self, limit: int) -> bool:
        """Put what had settled in the next records of the backlog, ``limit`` at most, into the outbox.

        Where that ended is remembered in the same transaction. Gives whether more is left.
        """
        with self._transaction() as db:
            more = sqlite_outbox.catch_up(db, self._clock(), limit)
            self._step("outbox")
        return more

    @property
    def behind(self) -> bool:
        """Whether there is a backlog: records of before archiving was switched on, which nobody looked at yet."""
        with self._errors():
            return sqlite_outbox.behind(self._db)

    @property
    def archiving(self) -> bool:
        """Whether archiving is on."""
        with self._errors():
            return self._db.execute("SELECT 1 FROM archiving").fetchone() is not None

    def outbox(self, limit: int) -> list[ArchiveRow]:
        """The first rows that wait for the archive, in order; their ``revision`` is their number, which only grows."""
        with self._errors():
            return sqlite_outbox.read(self._db, limit)

    def waiting(self) -> int:
        """How many rows wait."""
        with self._errors():
            return sqlite_outbox.count(self._db)

    def archived(self, revision: int) -> None:
        """Forget the rows up to that number: the archive has them."""
        with self._transaction() as db:
            self._step("archived")
            db.execute("DELETE FROM outbox WHERE n <= ?", (revision,))

    # ------------------------------------------------------------------- read

    def versions(self, bucket: str, key: str, version_id: str | None = None) -> list[Record]:
        if version_id is None:
            low = key_hash(key)
            rows = self._rows("id >= ? AND id <= ?", (low + b"\0" * 8, low + b"\xff" * 8))
        else:
            rows = self._rows("id = ?", (version_hash(key, version_id),))
        with self._errors():
            found = [record for record, _ in rows if record.key == key and record.status is not Status.HIDDEN]
        found = [record for record in found if is_about(record, bucket)]
        return sorted(found, key=lambda record: -record.sort_at)

    def records(self, query: Query) -> Iterator[Record]:
        with self._errors():
            found = (record for record in self._candidates(query) if matches(record, query))
            yield from found if query.limit is None else islice(found, query.limit)

    def _candidates(self, query: Query) -> Iterator[Record]:
        """A superset of what is asked for, newest first; :func:`matches` has the last word."""
        conditions, values = _conditions(query)
        if query.uncertain:
            walks = [f"open = 1 AND flags & {UNCERTAIN}{conditions}"]
        else:
            # The index gives each status in order; merging these walks costs less than a second index on every insert.
            statuses = VISIBLE if query.status is None else (query.status,)
            walks = [f"status = {status:d}{conditions}" for status in statuses]
        # One statement sees one state of the store: a record that changes its status meanwhile is listed once.
        sql = f"{' UNION ALL '.join(_ROWS + walk for walk in walks)} ORDER BY sort_at DESC"
        return (record for record, _ in self._read(sql, values * len(walks)))

    def _rows(self, condition: str, values: tuple[object, ...]) -> Iterator[tuple[Record, int]]:
        return self._read(_ROWS + condition, values)

    def _read(self, sql: str, values: tuple[object, ...]) -> Iterator[tuple[Record, int]]:
        for key, version_id, body, flags, _ in self._db.execute(sql, values):
            yield derive(unpack(key, version_id, body)), flags

    def cells(self, since: int | None, until: int | None, *, unsettled: bool = False) -> Iterator[tuple[CellKey, Cell]]:
        low = -(2**62) if since is None else -(-since // SLOT_MS)
        high = 2**62 if until is None else -(-until // SLOT_MS)
        sql = "SELECT slot, source, destination, rule_id, delete_marker, body FROM cell WHERE slot >= ? AND slot < ?"
        with self._errors():
            for slot, source, destination, rule_id, marker, body in self._db.execute(sql, (low, high)):
                cell = _cell_decoder.decode(body)
                if cell.unsettled or not unsettled:
                    yield CellKey(slot, source, destination, rule_id, bool(marker)), cell

    def pairs(self) -> list[tuple[str, str, str]]:
        with self._errors():
            return self._db.execute("SELECT source, destination, rule_id FROM pair ORDER BY 1, 2, 3").fetchall()

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        with self._errors():
            self._db.execute("BEGIN")
            try:
                yield
            finally:
                self._db.execute("COMMIT")

    def pending(self, since: int, until: int) -> Iterator[Share]:
        condition = f"open = 1 AND status IN ({Status.PENDING:d}, {Status.FAILED:d}) AND sort_at >= ? AND sort_at < ?"
        with self._errors():
            rows = self._rows(condition, (since, until))
            yield from pending_shares(record for record, flags in rows if not flags & COUNTED_BEFORE)

    def due(self, now: int, overdue: int, limit: int) -> list[Due]:
        with self._errors():
            return read_due(self._db, now, overdue, limit)

    def look(self, now: int, overdue: int, limit: int, begin: int | None = None) -> Look:
        with self._errors():
            return read_look(self._db, now, overdue, limit, begin)

    def asked(self, questions: Sequence[Asked]) -> None:
        with self._transaction() as db:
            self._step("asked")
            write_asked(db, ((each.asks, each.due_at, version_hash(each.key, each.version_id)) for each in questions))

    def oldest(self, status: Status) -> int | None:
        with self._errors():
            row = self._db.execute("SELECT min(sort_at) FROM version WHERE status = ?", (int(status),)).fetchone()
        return None if row[0] is None else int(row[0])

    def note(self, name: str) -> bytes | None:
        with self._errors():
            row = self._db.execute("SELECT body FROM note WHERE name = ?", (name,)).fetchone()
        return None if row is None else bytes(row[0])

    def keep_note(self, name: str, body: bytes | None) -> None:
        with self._transaction() as db:
            self._step("note")
            if body is None:
                db.execute("DELETE FROM note WHERE name = ?", (name,))
            else:
                db.execute("INSERT OR REPLACE INTO note(name, body) VALUES (?, ?)", (name, body))

    def topology(self) -> Topology:
        with self._errors():
            return _read_topology(self._db)

    def position(self, source: str) -> Position | None:
        with self._errors():
            row = self._db.execute("SELECT body FROM position WHERE source = ?", (source,)).fetchone()
        return None if row is None else msgspec.json.decode(row[0], type=Position)

    def counts(self) -> Counts:
        counts = Counts()
        with self._errors():
            for name, value in self._db.execute("SELECT name, value FROM count"):
                if name.startswith(IGNORED):
                    counts.ignored[name[len(IGNORED) :]] = value
                else:
                    setattr(counts, name, value)
        return counts

    def newest(self) -> Newest | None:
        with self._errors():
            row = self._db.execute("SELECT event_at, stored_at FROM newest").fetchone()
        return None if row is None else Newest(*row)

    def close(self) -> None:
        with self._errors():
            self._db.close()
        if self._before is not None and stamp(self.path) != self._before:
            message = f"store {self.path} was changed while it was read, so the answer may be wrong: ask again"
            raise StoreError(message)


_INSERT = (
    "INSERT INTO version(status, flags, open, sort_at, changed_at, source, body, id, key, version_id)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_ROWS = "SELECT key, version_id, body, flags, sort_at FROM version WHERE "
_UPDATE = (
    "UPDATE version SET status=?, flags=?, open=?, sort_at=?, changed_at=?, source=?, body=?, asks=0, ask_at=NULL"
    " WHERE n=?"
)


def _columns(record: Record, now: int, *, counted_before: bool) -> tuple[object, ...]:
    flags = (OPEN, OPEN | UNCERTAIN)[record.uncertain] if not record.settled else 0
    if counted_before:
        flags |= COUNTED_BEFORE
    # A plain int: the driver would look for an adapter for anything else.
    return (int(record.status), flags, flags & OPEN, record.sort_at, now, source_of(record))


def _select(db: sqlite3.Connection, sql: str, ids: Sequence[bytes]) -> dict[bytes, tuple]:  # type: ignore[type-arg]
    """Rows by id, the id cut off. The statement always has the same number of places, so that it is prepared once."""
    found = {}
    for start in range(0, len(ids), _CHUNK):
        chunk: list[bytes | None] = list(ids[start : start + _CHUNK])
        chunk.extend([None] * (_CHUNK - len(chunk)))
        for row in db.execute(f"{sql} ({_PLACES})", chunk):
            found[row[0]] = row[1:]
    return found


def _any_forgotten(db: sqlite3.Connection) -> bool:
    return db.execute("SELECT 1 FROM forgotten LIMIT 1").fetchone() is not None


def _conditions(query: Query) -> tuple[str, tuple[object, ...]]:
    parts: list[str] = []
    values: list[object] = []
    if query.prefix and "\0" not in query.prefix:  # SQLite's substr ends there
        parts.append("substr(key, 1, ?) = ?")
        values.extend([len(query.prefix), query.prefix])
    if query.since is not None:
        parts.append("sort_at >= ?")
        values.append(query.since)
    if query.until is not None:
        parts.append("sort_at < ?")
        values.append(query.until)
    return "".join([f" AND {part}" for part in parts]), tuple(values)


def _read_topology(db: sqlite3.Connection) -> Topology:
    row = db.execute("SELECT body FROM topology").fetchone()
    return Topology() if row is None else Topology(_configs_decoder.decode(row[0]))


__all__ = ["SqliteStore", "key_hash", "version_hash"]
