"""When somebody was watching: stretches of time in which events were read, and what follows for an hour of a report.

A monitor that runs leaves a *beat* each minute; beats that follow each other are one stretch. So a monitor that stood
still leaves a gap, and a gap is told as blindness, not as silence. Logs that were read later heal it.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec
from msgspec import Struct
from msgspec.structs import asdict, replace

from crr_monitor.core.times import DAY_MS, MINUTE_MS, format_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Sight: TypeAlias = Literal["watched", "blind", "unknown"]
Interval: TypeAlias = tuple[int, int]

FOLDER = "coverage"
"""Below the archive; ``day=YYYY-MM-DD/NAME.ndjson`` in it."""

ENDING = ".ndjson"
TIMES = ("since", "until", "newest_event_at")
"""Fields that are text in a file."""

BEAT_MS = MINUTE_MS
TOLERANCE_MS = 3 * MINUTE_MS
"""A gap between two beats that is no longer than this is none: one beat may be late."""


class Stretch(Struct, frozen=True, omit_defaults=True):
    """From ``since`` to ``until`` (milliseconds) a source was read, or could not be.

    ``kind``: ``live`` by a monitor that runs, ``logs`` by reading logs of that time later. ``account`` and ``region``:
    whose events these are, ``None`` for all that the source brings. ``newest_event_at``, ``waiting`` (messages) and
    ``queue_age_seconds`` are as of ``until``, where known.
    """

    monitor: str
    source: str
    kind: Literal["live", "logs"]
    state: Literal["watched", "blind"]
    since: int
    until: int
    account: str | None = None
    region: str | None = None
    newest_event_at: int | None = None
    waiting: int | None = None
    queue_age_seconds: float | None = None
    problem: str | None = None


def extend(known: Iterable[Stretch], beats: Iterable[Stretch], tolerance_ms: int = TOLERANCE_MS) -> list[Stretch]:
    """Stretches with the beats of one moment: a beat makes the stretch longer that it follows, or begins a new one.

    A source that broke has been blind since the last time that it was seen well, or since the beat says so. No stretch
    is longer than its day. After more than ``tolerance_ms`` a beat follows nothing.
    """
    stretches = list(known)
    for beat in beats:
        place = next((n for n in reversed(range(len(stretches))) if _same_source(stretches[n], beat)), None)
        last = None if place is None else stretches[place]
        if place is None or last is None or not 0 <= beat.until - last.until <= tolerance_ms:
            stretches.extend(by_day(beat))
        elif last.state == beat.state:
            stretches[place : place + 1] = by_day(replace(beat, since=last.since, problem=last.problem))
        else:
            since = min(beat.since, last.until) if beat.state == "blind" else beat.since
            stretches.extend(by_day(replace(beat, since=since)))
    return stretches


def _same_source(one: Stretch, other: Stretch) -> bool:
    return (one.monitor, one.source, one.account, one.region) == (
        other.monitor,
        other.source,
        other.account,
        other.region,
    )


def by_day(stretch: Stretch) -> list[Stretch]:
    """A stretch in pieces of which each lies within one day (UTC)."""
    pieces, since = [], stretch.since
    while (midnight := (since // DAY_MS + 1) * DAY_MS) < stretch.until:
        pieces.append(replace(stretch, since=since, until=midnight))
        since = midnight
    return [*pieces, replace(stretch, since=since)]


def files(stretches: Iterable[Stretch], name: str) -> dict[str, bytes]:
    """The files called ``name`` of stretches, each of one day: path below the archive -> lines of JSON."""
    days: dict[str, list[Stretch]] = {}
    for stretch in stretches:
        days.setdefault(format_time(stretch.since)[:10], []).append(stretch)
    return {
        f"{FOLDER}/day={day}/{name}{ENDING}": b"".join(map(_line, sorted(some, key=_order)))
        for day, some in sorted(days.items())
    }


def _order(stretch: Stretch) -> tuple[str, str, str, int]:
    return stretch.account or "", stretch.region or "", stretch.source, stretch.since


def _line(stretch: Stretch) -> bytes:
    body = {name: value for name, value in asdict(stretch).items() if value is not None}
    body |= {name: format_time(body[name]) for name in TIMES if name in body}
    return msgspec.json.encode(body) + b"\n"


def joined(intervals: Iterable[Interval], gap: int = 0) -> list[Interval]:
    """Intervals in order; those that overlap, or are no more than ``gap`` apart, as one."""
    found: list[Interval] = []
    for since, until in sorted(intervals):
        if found and since <= found[-1][1] + gap:
            found[-1] = (found[-1][0], max(found[-1][1], until))
        else:
            found.append((since, until))
    return found


class _Sum:
    """How much of a time joined intervals cover."""

    def __init__(self, intervals: list[Interval]) -> None:
        self._intervals = intervals
        self._ends = [until for _, until in intervals]

    def within(self, since: int, until: int) -> int:
        total = 0
        for begin, end in self._from(since):
            if begin >= until:
                break
            total += min(end, until) - max(begin, since)
        return total

    def touches(self, since: int, until: int) -> bool:
        return any(begin < until for begin, _ in self._from(since)[:1])

    def _from(self, since: int) -> list[Interval]:
        return self._intervals[bisect_right(self._ends, since) :]


class Watched:
    """What was watched of the events of one account and Region; where they are not known, of any."""

    def __init__(self, stretches: Iterable[Stretch], account: str | None, region: str | None) -> None:
        mine = [each for each in stretches if _fits(each.account, account) and _fits(each.region, region)]
        live = [each for each in mine if each.kind == "live"]
        self._begun = min((each.since for each in live), default=None)
        self._watched = _Sum(joined(_of(live, "watched"), TOLERANCE_MS))
        self._blind = _Sum(joined(_of(live, "blind")))
        self._logs = _Sum(joined(_of([each for each in mine if each.kind == "logs"], "watched")))

    def judge(self, since: int, until: int) -> Sight:
        """A stretch of time, mostly an hour.

        ``watched``: a monitor read its sources all the time, or logs of it were read. ``blind``: a monitor had begun to
        watch and stood still, or could not read a source, for more than :data:`TOLERANCE_MS`. ``unknown``: nobody said.
        """
        if self._logs.touches(since, until):
            return "watched"
        if self._begun is None or until <= self._begun:
            return "unknown"
        begin = max(since, self._begun)
        missing = until - begin - self._watched.within(begin, until)
        return "blind" if max(missing, self._blind.within(begin, until)) > TOLERANCE_MS else "watched"


def _fits(told: str | None, asked: str | None) -> bool:
    return told is None or asked is None or told == asked


def _of(stretches: Iterable[Stretch], state: str) -> Iterator[Interval]:
    return ((each.since, each.until) for each in stretches if each.state == state)


def worst(sights: Iterable[Sight]) -> Sight:
    """What holds where several places have to be seen: blind if one is blind, watched only if all are."""
    found = set(sights)
    return "blind" if "blind" in found else "unknown" if "unknown" in found or not found else "watched"
