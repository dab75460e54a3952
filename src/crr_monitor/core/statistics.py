"""Counters per pair and five minutes of ``written_at``: sums of what records contribute, which can be taken back.

A record contributes the same whatever the order in which its evidence came: when late evidence changes it, its old
contribution is subtracted and the new one added. That is why each copy counts once, and why any two cells add up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from msgspec import Struct, field

from crr_monitor.core import lag
from crr_monitor.core.canary_keys import is_canary
from crr_monitor.core.failures import reason_code
from crr_monitor.core.model import Status
from crr_monitor.core.times import MINUTE_MS

if TYPE_CHECKING:
    from crr_monitor.core.model import Record

SLOT_MS = 5 * MINUTE_MS
UNCERTAIN = Status.UNCERTAIN
UNKNOWN_REASON = "unknown"
"""The reason counted for a failure of which S3 told no reason (a HEAD that said FAILED)."""


class CellKey(NamedTuple):
    """Which cell a copy counts in; unknown names are empty.

    ``slot`` is ``written_at`` in whole five minutes since the epoch.
    """

    slot: int
    source: str
    destination: str
    rule_id: str
    delete_marker: bool


class Share(Struct, frozen=True, gc=False):
    """What one copy contributes to its cell."""

    key: CellKey
    status: Status
    size: int
    reason: str | None
    lag_bin: int | None
    repaired: bool


class Cell(Struct, array_like=True):
    """Counters of one cell.

    ``unknown_lag``: completed without a time; ``repaired_untimed``: the part of it that had failed before; ``expired``:
    left unsettled after the retention.
    ``lags`` is the histogram (:mod:`crr_monitor.core.lag`) of completed copies, ``repaired`` the part of it that had
    failed before.
    """

    objects: int = 0
    bytes: int = 0
    completed: int = 0
    failed: int = 0
    source_deleted: int = 0
    not_eligible: int = 0
    pending: int = 0
    pending_bytes: int = 0
    expired: int = 0
    unknown_lag: int = 0
    repaired_untimed: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    lags: dict[int, int] = field(default_factory=dict)
    repaired: dict[int, int] = field(default_factory=dict)

    def count(self, share: Share, sign: int = 1) -> None:
        """Add one copy, or with ``sign=-1`` take it back."""
        self.objects += sign
        self.bytes += sign * share.size
        status = share.status
        if status is Status.COMPLETED:
            self.completed += sign
            if share.lag_bin is None:
                self.unknown_lag += sign
                self.repaired_untimed += sign * share.repaired
            else:
                _tally(self.lags, share.lag_bin, sign)
                if share.repaired:
                    _tally(self.repaired, share.lag_bin, sign)
        elif status is Status.PENDING:
            self.pending += sign
            self.pending_bytes += sign * share.size
        elif status is Status.FAILED:
            self.failed += sign
            _tally(self.reasons, share.reason or UNKNOWN_REASON, sign)
        elif status is Status.SOURCE_DELETED:
            self.source_deleted += sign
        else:
            self.not_eligible += sign

    def expire(self, share: Share) -> None:
        """A copy leaves while it is still pending: it stays counted, as expired."""
        self.pending -= 1
        self.pending_bytes -= share.size
        self.expired += 1

    def add(self, other: Cell) -> None:
        """Add all counters of another cell."""
        for name in _NUMBERS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for reason, count in other.reasons.items():
            _tally(self.reasons, reason, count)
        lag.add(self.lags, other.lags)
        lag.add(self.repaired, other.repaired)

    @property
    def empty(self) -> bool:
        """Nothing is counted (any more)."""
        return self == _EMPTY

    @property
    def unsettled(self) -> bool:
        """Some copy is pending or failed."""
        return self.pending > 0 or self.failed > 0


_NUMBERS = tuple(name for name in Cell.__struct_fields__ if name not in {"reasons", "lags", "repaired"})
_EMPTY = Cell()


def _tally(counts: dict, name: object, change: int) -> None:  # type: ignore[type-arg]
    total = counts.get(name, 0) + change
    if total:
        counts[name] = total
    else:
        counts.pop(name, None)


def shares(record: Record) -> list[Share]:
    """What a record contributes: one share for each copy that is listed; a canary, nobody's object, nothing."""
    if is_canary(record.key):
        return []
    slot = record.sort_at // SLOT_MS
    source = record.source_bucket or ""
    size = record.size or 0
    found = []
    for copy in record.copies:
        if copy.status > UNCERTAIN:
            lag_ms = copy.lag_ms
            found.append(
                Share(
                    CellKey(slot, source, copy.bucket or "", copy.rule_id or "", record.delete_marker),
                    copy.status,
                    size,
                    None if copy.failure_reason is None else reason_code(copy.failure_reason),
                    None if lag_ms is None else lag.bin_of(lag_ms),
                    copy.repaired,
                )
            )
    return found


def move(cells: dict[CellKey, Cell], old: list[Share], new: list[Share]) -> None:
    """Take the old contribution of a record out of the cells, and put the new one in.

    All cells that the record counts in are there afterwards, also those that did not change: they have to stay as long
    as the record may still be taken out of them.
    """
    for share in old:
        _cell(cells, share.key).count(share, -1)
    for share in new:
        _cell(cells, share.key).count(share)


def _cell(cells: dict[CellKey, Cell], key: CellKey) -> Cell:
    cell = cells.get(key)
    if cell is None:
        cell = cells[key] = Cell()
    return cell
