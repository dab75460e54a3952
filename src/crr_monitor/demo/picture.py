"""What can be seen at one moment: the monitor's figures, and beside them what the demo itself knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct, field

from crr_monitor.core.statistics import Cell
from crr_monitor.core.times import MINUTE_MS, SECOND_MS
from crr_monitor.demo.scenario import Outage
from crr_monitor.process.figures import RPO_SECONDS, Figures, Group, Window, figures

if TYPE_CHECKING:
    from collections.abc import Iterable

    from crr_monitor.stores.base import Store

AGES: tuple[tuple[str, int], ...] = (
    ("under 2s", 2 * SECOND_MS),
    ("2-5s", 5 * SECOND_MS),
    ("5-15s", 15 * SECOND_MS),
    ("15-60s", MINUTE_MS),
    ("over 1m", 2**62),
)
"""Backlog by age, finer than the product's: name and upper end (exclusive, milliseconds)."""

LOOK_BACK_MS = 15 * MINUTE_MS
"""What has waited for longer than this is not looked at one by one: an outage here lasts seconds."""


def _nothing() -> Figures:
    return Figures(Window(None, None, 0), RPO_SECONDS * SECOND_MS, [])


class Picture(Struct, frozen=True):
    """One moment of the monitor: its figures by pair, the events taken in so far, and those that wait in its queue."""

    figures: Figures = field(default_factory=_nothing)
    ages: tuple[tuple[str, int], ...] = tuple((name, 0) for name, _ in AGES)
    events: int = 0
    queued: int = 0


class Moment(Struct, frozen=True):
    """What the demo knows by itself. Times are seconds since the traffic began."""

    elapsed: float
    length: float | None
    written: int
    outage: Outage | None
    news: tuple[str, ...]
    finishing: str = ""
    """What is done after the traffic has ended, or an empty text."""


def take(store: Store, queued: int, now: int) -> Picture:
    """Read a store; ``now`` is milliseconds since the epoch."""
    found = figures(store, Window(None, None, now))
    ages = dict.fromkeys((name for name, _ in AGES), 0)
    for share in store.pending(now - LOOK_BACK_MS, now + 1):
        age = now - share.key.slot
        ages[next(name for name, end in AGES if age < end)] += 1
    return Picture(found, tuple(ages.items()), store.counts().events, queued)


class Sum(Struct, frozen=True):
    """Of one pair or several, delete markers included: counts, the oldest pending copy's age, all lags."""

    cell: Cell
    oldest: int | None


def total(groups: Iterable[Group]) -> Sum:
    """The sum of some groups."""
    cell, oldest = Cell(), []
    for group in groups:
        cell.add(group.puts)
        cell.add(group.markers)
        oldest += [group.backlog.oldest, group.marker_backlog.oldest]
    return Sum(cell, max((age for age in oldest if age is not None), default=None))
