"""The figures of ``crr-monitor stats``: counters, lag quantiles, backlog by age and RPO, read back from a store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from msgspec import Struct, field

from crr_monitor.core import lag
from crr_monitor.core.statistics import SLOT_MS, Cell
from crr_monitor.core.times import HOUR_MS, MINUTE_MS, SECOND_MS, format_time

if TYPE_CHECKING:
    from crr_monitor.core.statistics import CellKey, Share
    from crr_monitor.stores.base import Store

By: TypeAlias = Literal["pair", "source", "destination"]

RPO_SECONDS = 900
"""The default target: the 15 minutes of S3 Replication Time Control."""

AGES: tuple[tuple[str, int], ...] = (
    ("0-5m", 5 * MINUTE_MS),
    ("5-15m", 15 * MINUTE_MS),
    ("15-60m", HOUR_MS),
    ("1-6h", 6 * HOUR_MS),
    ("6-24h", 24 * HOUR_MS),
    ("24h+", 2**62),
)
"""Backlog by age: name and upper end (exclusive, milliseconds)."""

QUANTILES = (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0))


class Window(Struct, frozen=True):
    """What to sum: ``written_at`` in ``[since, until)``, seen at ``as_of``; milliseconds, in whole slots."""

    since: int | None
    until: int | None
    as_of: int


class Backlog(Struct):
    """Pending copies: by age, past their deadline, and the oldest one's age in milliseconds."""

    by_age: dict[str, int] = field(default_factory=lambda: dict.fromkeys((name for name, _ in AGES), 0))
    overdue: int = 0
    oldest: int | None = None


class Group(Struct):
    """The figures of one pair, source or destination; ``markers`` are its delete markers, which no SLA covers."""

    source: str | None
    destination: str | None
    rules: set[str] = field(default_factory=set)
    puts: Cell = field(default_factory=Cell)
    markers: Cell = field(default_factory=Cell)
    backlog: Backlog = field(default_factory=Backlog)
    marker_backlog: Backlog = field(default_factory=Backlog)

    @property
    def problems(self) -> bool:
        """Something is broken now: failed, pending past its deadline, or given up unsettled."""
        return any(
            cell.failed or cell.expired or backlog.overdue
            for cell, backlog in ((self.puts, self.backlog), (self.markers, self.marker_backlog))
        )


class Figures(Struct):
    """All groups of one window."""

    window: Window
    target_ms: int
    groups: list[Group]

    @property
    def problems(self) -> bool:
        """Some group has problems."""
        return any(group.problems for group in self.groups)

    def to_json(self) -> dict[str, Any]:
        """The JSON of the contract. What is unknown (a quantile of nothing, a share of nothing) is absent."""
        body: dict[str, Any] = {"as_of": format_time(self.window.as_of)}
        if self.window.until is not None:
            body = {"until": format_time(self.window.until), **body}
        if self.window.since is not None:
            body = {"since": format_time(self.window.since), **body}
        return {**body, "groups": [group_json(group, self.target_ms) for group in self.groups]}


def figures(store: Store, window: Window, by: By = "pair", target_ms: int = RPO_SECONDS * SECOND_MS) -> Figures:
    """Sum the statistics of a window. ``target_ms`` is the RPO; other than 15 minutes it is exact to 1 %."""
    since = None if window.since is None else window.since // SLOT_MS * SLOT_MS
    until = None if window.until is None else -(-window.until // SLOT_MS) * SLOT_MS
    window = Window(since, until, window.as_of)
    with store.snapshot():
        return _Summing(store, window, by, target_ms).run()


def _age_name(age: int) -> str:
    return next(name for name, end in AGES if age < end)


class _Summing:
    """Sums cells; where an age limit cuts through a slot, and for the oldest, the pending copies are looked at."""

    def __init__(self, store: Store, window: Window, by: By, target_ms: int) -> None:
        self._store = store
        self._window = window
        self._by = by
        self._target = target_ms
        self._groups: dict[tuple[str | None, str | None], Group] = {}
        self._oldest_slot: dict[tuple[tuple[str | None, str | None], bool], int] = {}
        self._cut_slots: set[int] = set()
        self._as_of = window.as_of

    def run(self) -> Figures:
        for key, cell in self._store.cells(self._window.since, self._window.until):
            self._add(key, cell)
        for slot in sorted(self._cut_slots | set(self._oldest_slot.values())):
            for share in self._store.pending(slot * SLOT_MS, (slot + 1) * SLOT_MS):
                self._look_at(share, slot)
        groups = sorted(self._groups.values(), key=lambda group: (group.source or "", group.destination or ""))
        return Figures(self._window, self._target, groups)

    def _group(self, source: str, destination: str) -> Group:
        name = (None if self._by == "destination" else source, None if self._by == "source" else destination)
        return self._groups.setdefault(name, Group(*name))

    def _add(self, key: CellKey, cell: Cell) -> None:
        slot, marker = key.slot, key.delete_marker
        group = self._group(key.source, key.destination)
        if key.rule_id:
            group.rules.add(key.rule_id)
        (group.markers if marker else group.puts).add(cell)
        if cell.pending <= 0:
            return
        name = ((group.source, group.destination), marker)
        self._oldest_slot[name] = min(slot, self._oldest_slot.get(name, slot))
        if self._is_cut(slot):
            self._cut_slots.add(slot)
            return
        backlog = group.marker_backlog if marker else group.backlog
        age = self._as_of - slot * SLOT_MS
        backlog.by_age[_age_name(age)] += cell.pending
        backlog.overdue += cell.pending if age > self._target else 0

    def _is_cut(self, slot: int) -> bool:
        """Whether copies of this slot have ages on both sides of a limit."""
        oldest = self._as_of - slot * SLOT_MS
        youngest = oldest - SLOT_MS + 1
        return _age_name(oldest) != _age_name(youngest) or (oldest > self._target) != (youngest > self._target)

    def _look_at(self, share: Share, slot: int) -> None:
        group = self._group(share.key.source, share.key.destination)
        backlog = group.marker_backlog if share.key.delete_marker else group.backlog
        age = max(0, self._as_of - share.key.slot)  # clocks that cross give 0
        backlog.oldest = age if backlog.oldest is None else max(age, backlog.oldest)
        if slot in self._cut_slots:
            backlog.by_age[_age_name(age)] += 1
            backlog.overdue += age > self._target


def _seconds(milliseconds: float) -> float:
    return round(milliseconds / SECOND_MS, 3)


def rpo_json(cell: Cell, overdue: int, target_ms: int) -> dict[str, Any]:
    """Within, missed, unknown and share of a cell. A failure that was repaired later is missed, however soon."""
    within = lag.count_within(cell.lags, target_ms) - lag.count_within(cell.repaired, target_ms)
    timed = cell.completed - cell.unknown_lag
    missed = timed - within + cell.repaired_untimed + cell.failed + cell.expired + overdue
    body: dict[str, Any] = {
        "target_seconds": target_ms // SECOND_MS if target_ms % SECOND_MS == 0 else target_ms / SECOND_MS,
        "within": within,
        "missed": missed,
        "unknown": cell.unknown_lag - cell.repaired_untimed,
    }
    if within + missed:
        body["share"] = round(within / (within + missed), 4)
    return body


def _lag_json(cell: Cell) -> dict[str, float]:
    values = {name: lag.quantile(cell.lags, q) for name, q in QUANTILES}
    return {name: _seconds(value) for name, value in values.items() if value is not None}


def group_json(group: Group, target_ms: int) -> dict[str, Any]:
    """One group of the contract's JSON, with what AWS's SLA leaves out (delete markers) apart."""
    puts, backlog = group.puts, group.backlog
    body: dict[str, Any] = {}
    if group.source:  # summed over all, or not known
        body["source"] = group.source
    if group.destination:
        body["destination"] = group.destination
    if len(group.rules) == 1:
        body["rule_id"] = next(iter(group.rules))
    body |= {
        "objects": puts.objects,
        "bytes": puts.bytes,
        "completed": puts.completed,
        "failed": puts.failed,
        "failed_by_reason": dict(sorted(puts.reasons.items())),
        "source_deleted": puts.source_deleted,
        "not_eligible": puts.not_eligible,
        "pending": puts.pending,
        "pending_bytes": puts.pending_bytes,
        "pending_by_age": backlog.by_age,
    }
    if backlog.oldest is not None:
        body["oldest_pending_seconds"] = _seconds(backlog.oldest)
    body |= {
        "expired": puts.expired,
        "lag_seconds": _lag_json(puts),
        "rpo": rpo_json(puts, backlog.overdue, target_ms),
    }
    markers = group.markers
    if markers.objects:
        body["delete_markers"] = {
            "objects": markers.objects,
            "completed": markers.completed,
            "failed": markers.failed,
            "failed_by_reason": dict(sorted(markers.reasons.items())),
            "source_deleted": markers.source_deleted,
            "not_eligible": markers.not_eligible,
            "pending": markers.pending,
            "overdue": group.marker_backlog.overdue,
            "expired": markers.expired,
            "lag_seconds": _lag_json(markers),
        }
    return body
