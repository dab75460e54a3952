"""The store in memory: for tests, for short-lived studies, and as the plainest reading of the contract."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from typing import TYPE_CHECKING

from crr_monitor.core.model import Status
from crr_monitor.core.statistics import SLOT_MS, Cell, CellKey, move, shares
from crr_monitor.core.status import derive
from crr_monitor.core.topology import Topology
from crr_monitor.stores.base import (
    Counts,
    Due,
    Look,
    Newest,
    Purged,
    Retention,
    advance,
    is_about,
    matches,
    pending_shares,
    spread,
    system_clock,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from crr_monitor.core.evidence import Evidence
    from crr_monitor.core.model import Record
    from crr_monitor.core.statistics import Share
    from crr_monitor.core.topology import BucketConfig
    from crr_monitor.stores.base import Asked, Batch, Position, Query, VersionKey


class _Row:
    __slots__ = ("asks", "changed_at", "counted_before", "due_at", "evidence", "record")

    def __init__(self, evidence: Evidence, record: Record, changed_at: int, *, counted_before: bool) -> None:
        self.evidence = evidence
        self.record = record
        self.changed_at = changed_at
        self.counted_before = counted_before
        self.asks = 0
        self.due_at: int | None = None

    def due(self, overdue: int) -> Due | None:
        """When to ask about it, if ever."""
        if self.record.settled:
            return None
        return Due(self.record, self.asks, self.record.sort_at + overdue if self.due_at is None else self.due_at)


class _State:
    """Everything there is. A change works on a copy and replaces the whole, so that there is no half of it."""

    def __init__(self) -> None:
        self.rows: dict[VersionKey, _Row] = {}
        self.cells: dict[CellKey, Cell] = {}
        self.changed: dict[CellKey, int] = {}
        self.pairs: set[tuple[str, str, str]] = set()
        self.forgotten: dict[VersionKey, int] = {}
        self.positions: dict[str, Position] = {}
        self.counts = Counts()
        self.newest: Newest | None = None
        self.topology = Topology()
        self.notes: dict[str, bytes] = {}

    def copy(self) -> _State:
        other = copy.copy(self)
        other.rows = dict(self.rows)
        other.cells = copy.deepcopy(self.cells)
        other.changed = dict(self.changed)
        other.pairs = set(self.pairs)
        other.forgotten = dict(self.forgotten)
        other.positions = dict(self.positions)
        other.counts = copy.deepcopy(self.counts)
        other.notes = dict(self.notes)
        return other

    def touch(self, key: CellKey, now: int) -> None:
        """A cell may have changed; one that holds nothing any more vanishes."""
        cell = self.cells.get(key)
        if cell is None:
            return
        if cell.empty:
            del self.cells[key]
            self.changed.pop(key, None)
        else:
            self.pairs.add((key.source, key.destination, key.rule_id))
            self.changed[key] = now


class MemoryStore:
    """See :class:`crr_monitor.stores.base.Store`. Applying a batch copies the state: meant for thousands of records.

    ``step`` is called between any two steps of a change, with the name of the next one; what it raises undoes the
    change.
    """

    def __init__(
        self,
        retention: Retention = Retention(),  # noqa: B008 - frozen
        clock: Callable[[], int] = system_clock,
        step: Callable[[str], None] = lambda _name: None,
    ) -> None:
        self._retention = retention
        self._clock = clock
        self._step = step
        self._state = _State()

    def apply(self, batch: Batch) -> int:
        now = self._clock()
        state = self._state.copy()
        changed = 0
        for key, news in batch.evidence.items():
            self._step("merge")
            changed += self._merge(state, key, news, now)
        self._step("position")
        for position in batch.positions:
            state.positions[position.source] = position
        self._step("counts")
        state.counts.add(batch.counts)
        if batch.newest_event is not None and (state.newest is None or batch.newest_event > state.newest.event_at):
            state.newest = Newest(batch.newest_event, now)
        self._step("commit")
        self._state = state
        return changed

    def _merge(self, state: _State, key: VersionKey, news: Evidence, now: int) -> int:
        row = state.rows.get(key)
        change = advance(None if row is None else row.evidence, news)
        if change is None:
            return 0
        counted_before = key in state.forgotten if row is None else row.counted_before
        state.rows[key] = _Row(change.evidence, change.record, now, counted_before=counted_before)
        if not counted_before and (change.old or change.new):
            self._step("statistics")
            move(state.cells, change.old, change.new)
            for share in (*change.old, *change.new):
                state.touch(share.key, now)
        return int(change.listed)

    def versions(self, bucket: str, key: str, version_id: str | None = None) -> list[Record]:
        found = [
            row.record
            for row in self._state.rows.values()
            if row.record.key == key
            and (version_id is None or row.record.version_id == version_id)
            and (row.record.status is not Status.HIDDEN)
            and is_about(row.record, bucket)
        ]
        return sorted(found, key=lambda record: -record.sort_at)

    def records(self, query: Query) -> Iterator[Record]:
        found = [row.record for row in self._state.rows.values() if matches(row.record, query)]
        found.sort(key=lambda record: -record.sort_at)
        yield from found[: query.limit]

    def cells(self, since: int | None, until: int | None, *, unsettled: bool = False) -> Iterator[tuple[CellKey, Cell]]:
        for key, cell in self._state.cells.items():
            begin = key.slot * SLOT_MS
            in_window = (since is None or begin >= since) and (until is None or begin < until)
            if in_window and (cell.unsettled or not unsettled):
                yield key, copy.deepcopy(cell)

    def pairs(self) -> list[tuple[str, str, str]]:
        return sorted(self._state.pairs)

    def snapshot(self) -> AbstractContextManager[None]:
        return nullcontext()  # nobody else writes

    def pending(self, since: int, until: int) -> Iterator[Share]:
        rows = self._state.rows.values()
        yield from pending_shares(
            row.record for row in rows if not row.counted_before and since <= row.record.sort_at < until
        )

    def due(self, now: int, overdue: int, limit: int) -> list[Due]:
        return self._due(now, overdue)[:limit]

    def look(self, now: int, overdue: int, limit: int, begin: int | None = None) -> Look:
        found = self._due(now, overdue)
        return Look(spread((due for due in found if begin is None or due.due_at >= begin), limit))

    def _due(self, now: int, overdue: int) -> list[Due]:
        known = (row.due(overdue) for row in self._state.rows.values())
        return sorted((due for due in known if due is not None and due.due_at <= now), key=lambda due: due.due_at)

    def asked(self, questions: Sequence[Asked]) -> None:
        state = self._state.copy()
        for asked in questions:
            self._step("asked")
            row = state.rows.get((asked.key, asked.version_id))
            if row is not None:  # of one that is settled, nobody asks when it is due
                row = state.rows[asked.key, asked.version_id] = copy.copy(row)
                row.asks, row.due_at = asked.asks, asked.due_at
        self._state = state

    def oldest(self, status: Status) -> int | None:
        records = (row.record for row in self._state.rows.values())
        return min((record.sort_at for record in records if record.status is status), default=None)

    def note(self, name: str) -> bytes | None:
        return self._state.notes.get(name)

    def keep_note(self, name: str, body: bytes | None) -> None:
        self._step("note")
        if body is None:
            self._state.notes.pop(name, None)
        else:
            self._state.notes[name] = body

    def topology(self) -> Topology:
        return self._state.topology

    def learn(self, configs: Sequence[tuple[BucketConfig, bool]]) -> Topology:
        self._state.topology = self._state.topology.learn(configs, self._clock())
        return self._state.topology

    def position(self, source: str) -> Position | None:
        return self._state.positions.get(source)

    def counts(self) -> Counts:
        return copy.deepcopy(self._state.counts)

    def newest(self) -> Newest | None:
        return self._state.newest

    def purge(self, limit: int = 20_000) -> Purged:
        now = self._clock()
        state = self._state.copy()
        settled = expired = 0
        for key, row in self._state.rows.items():
            if settled + expired >= limit:
                break
            age = now - row.changed_at
            if age < (self._retention.settled if row.record.settled else self._retention.unsettled):
                continue
            self._step("forget")
            settled += row.record.settled
            expired += not row.record.settled
            self._forget(state, key, row, now)
        outdated: list[CellKey] = []
        if settled + expired < limit:  # else records that count in them may still be here
            outdated = [key for key, at in state.changed.items() if now - at >= self._retention.statistics]
        for cell_key in outdated:
            del state.cells[cell_key], state.changed[cell_key]
        state.forgotten = {key: at for key, at in state.forgotten.items() if now - at < self._retention.statistics}
        self._step("commit")
        self._state = state
        return Purged(settled, expired, len(outdated))

    def _forget(self, state: _State, key: VersionKey, row: _Row, now: int) -> None:
        del state.rows[key]
        counted = shares(derive(row.evidence))
        if not counted:
            return
        if not row.counted_before:
            for share in counted:
                if share.status is Status.PENDING:
                    state.cells[share.key].expire(share)
                    state.touch(share.key, now)
        state.forgotten[key] = now

    def close(self) -> None:
        self._state = _State()
