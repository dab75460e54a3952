"""Points of the report's charts: from figures to places in an SVG drawing of :data:`WIDTH` x :data:`HEIGHT`."""

from __future__ import annotations

import math
from datetime import datetime
from typing import TYPE_CHECKING

from msgspec import Struct

from crr_monitor.core.times import DAY_MS, SECOND_MS, format_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from crr_monitor.history.views import Span

WIDTH, HEIGHT = 720, 170
LEFT, RIGHT, TOP, BOTTOM = 62, 10, 10, 24
_DAYS_BETWEEN_TICKS = 5


class Tick(Struct, frozen=True):
    """A mark on an axis: where, and what stands there."""

    at: float
    label: str


class Line(Struct, frozen=True):
    """One line: its name, its number (for its style), and its points as SVG writes them."""

    name: str
    number: int
    points: str


class Chart(Struct, frozen=True):
    """A chart, ready to be drawn. ``target`` is the height of a line across it, where there is one."""

    lines: tuple[Line, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    target: float | None = None


def milliseconds(moment: str) -> int:
    """A day or a time of the report as milliseconds since the epoch."""
    text = moment if "T" in moment else f"{moment}T00:00:00+00:00"
    return int(datetime.fromisoformat(text).timestamp()) * SECOND_MS


def _across(at: float, span: Span) -> float:
    share = (at - span.since) / (span.until - span.since)
    return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)


def _down(share: float) -> float:
    return round(TOP + (1 - share) * (HEIGHT - TOP - BOTTOM), 1)


def _days(span: Span) -> tuple[Tick, ...]:
    starts = range(span.since, span.until, _DAYS_BETWEEN_TICKS * DAY_MS)
    return tuple(Tick(_across(at, span), format_time(at)[8:10]) for at in starts)


def lag_chart(series: Sequence[tuple[str, Iterable[tuple[str, float]]]], span: Span, target: int) -> Chart:
    """Lags in seconds over days, on a logarithmic scale; each day's point stands in its middle."""
    known = [(name, [(milliseconds(day) + DAY_MS / 2, max(lag, 0.1)) for day, lag in some]) for name, some in series]
    highest = max((lag for _, some in known for _, lag in some), default=1.0)
    decades = max(math.ceil(math.log10(max(highest, target))), 1)

    def share(lag: float) -> float:
        return (math.log10(lag) + 1) / (decades + 1)

    lines = [
        Line(name, number, _points((_across(at, span), _down(share(lag))) for at, lag in some))
        for number, (name, some) in enumerate(known)
    ]
    ticks = tuple(Tick(_down(share(10.0**power)), _seconds(10.0**power)) for power in range(-1, decades + 1))
    return Chart(tuple(lines), _days(span), ticks, _down(share(target)))


def _seconds(lag: float) -> str:
    return f"{lag:g} s" if lag < 1_000 else f"{lag / 1_000:,.0f}k s"  # noqa: PLR2004 - shorter from a thousand on


def backlog_chart(steps: Sequence[tuple[str, int]], span: Span, end: int) -> Chart:
    """Copies over time, as steps: each count holds from the end of its hour to the next one."""
    highest = max((count for _, count in steps), default=0) or 1
    points: list[tuple[float, float]] = [(_across(span.since, span), _down(0))]
    for moment, count in steps:
        at = _across(min(milliseconds(moment), span.until), span)
        points += [(at, points[-1][1]), (at, _down(max(count, 0) / highest))]
    points.append((_across(min(end, span.until), span), points[-1][1]))
    ticks = tuple(Tick(_down(count / highest), f"{count:,}") for count in sorted({0, highest // 2, highest}))
    return Chart((Line("missing", 0, _points(points)),), _days(span), ticks)


def _points(places: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in places)


class Band(Struct, frozen=True):
    """A stretch of time in a strip: where it begins, how wide it is, and what it is."""

    at: float
    width: float
    kind: str
    title: str


def strip(periods: Iterable[dict[str, str]], span: Span) -> tuple[Band, ...]:
    """Periods of missing evidence along the month."""
    bands = []
    for period in periods:
        begin, end = (_across(milliseconds(period[name]), span) for name in ("since", "until"))
        title = f"{period['kind']}: {period['since'][:16]} to {period['until'][:16]}"
        bands.append(Band(begin, round(max(end - begin, 1.0), 1), period["kind"].split()[0], title))
    return tuple(bands)
