"""How complete a report's evidence is, hour by hour: what was watched, and what was heard."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeAlias

from crr_monitor.core.coverage import Sight, Stretch, Watched, worst
from crr_monitor.core.times import HOUR_MS, MINUTE_MS, SECOND_MS, format_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from crr_monitor.history.views import Span

Place: TypeAlias = tuple[str | None, str | None]
"""Account and Region, each where it is known."""

MOST_PERIODS = 20
"""How many periods of missing evidence are listed, the longest ones."""

MOST_REASONS = 3

UNWRITTEN_MS = 15 * MINUTE_MS
"""Of the last minutes before a report nothing is in the archive yet, so nothing is said of them."""


class Sights:
    """The hours of a report, judged."""

    def __init__(self, coverage: Sequence[Stretch], span: Span, as_of: int) -> None:
        self._coverage = coverage
        self._written = as_of - UNWRITTEN_MS
        end = min(span.until, -(-as_of // HOUR_MS) * HOUR_MS)
        self._hours = range(span.since, end, HOUR_MS)
        self._judged: dict[Place, list[Sight]] = {}

    def _of(self, place: Place) -> list[Sight]:
        known = self._judged.get(place)
        if known is None:
            watched = Watched(self._coverage, *place)
            known = self._judged[place] = [self._judge(watched, at) for at in self._hours]
        return known

    def _judge(self, watched: Watched, at: int) -> Sight:
        until = min(at + HOUR_MS, self._written)
        return watched.judge(at, until) if until > at else "unknown"

    def places(self, pairs: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        """For each account and Region of the pairs: how many hours were watched, and when they were not.

        Where there is no pair, as in a month of which nothing is known, for all of them at once.
        """
        found = sorted({place for pair in pairs for place in places_of(pair)}, key=lambda place: tuple(map(str, place)))
        return [self._place(place) for place in found or [(None, None)]]

    def _place(self, place: Place) -> dict[str, Any]:
        names = {name: value for name, value in zip(("account", "region"), place, strict=True) if value is not None}
        sights = self._of(place)
        hours = {kind: [at for at, sight in zip(self._hours, sights, strict=True) if sight == kind] for kind in _BAD}
        periods, left_out = _periods(hours)
        for period in periods:
            if period["kind"] == "blind":
                period["reasons"] = self._reasons(place, _ms(period["since"]), _ms(period["until"]))
        return {**names, **_counts(sights), "periods": periods, "periods_left_out": left_out}

    def _reasons(self, place: Place, since: int, until: int) -> list[str]:
        """What the monitors said of a time in which they could not see; nothing where none was running."""
        account, region = place
        told = {
            f"{each.source}: {each.problem}"
            for each in self._coverage
            if each.problem is not None
            and each.since < until
            and each.until > since
            and (account is None or each.account in {None, account})
            and (region is None or each.region in {None, region})
        }
        return sorted(told)[:MOST_REASONS]

    def gaps(self, heard: list[dict[str, Any]], places: Sequence[Place]) -> dict[str, Any]:
        """Of one pair: the hours by sight, those of which nothing was heard, and those whose evidence has holes."""
        seen = {_ms(row["hour"]): row for row in heard}
        sights = [worst(each) for each in zip(*map(self._of, places), strict=True)]
        judged = list(zip(self._hours, sights, strict=True))

        def with_holes(name: str) -> list[int]:
            return [at for at in self._hours if at in seen and seen[at][name]]

        silent = [(at, sight) for at, sight in judged if at not in seen]
        periods, left_out = _periods(
            {
                "blind": [at for at, sight in judged if sight == "blind"],
                "silent": [at for at, sight in silent if sight == "unknown"],
                "source events missing": with_holes("unseen"),
                "arrival times missing": with_holes("untimed"),
            }
        )
        return {
            **_counts(sights),
            "silent_hours": len(silent),
            "quiet_hours": sum(1 for _, sight in silent if sight == "watched"),
            "periods": periods,
            "periods_left_out": left_out,
        }


_BAD: tuple[Sight, ...] = ("blind", "unknown")


def places_of(pair: dict[str, Any]) -> list[Place]:
    """The two ends of a pair: both have to be seen."""
    ends = [(pair[end].get("account"), pair[end].get("region")) for end in ("source", "destination")]
    return list(dict.fromkeys(ends))


def _counts(sights: Sequence[Sight]) -> dict[str, int]:
    return {
        "hours": len(sights),
        "watched_hours": sights.count("watched"),
        "blind_hours": sights.count("blind"),
        "unknown_hours": sights.count("unknown"),
    }


def _periods(hours: dict[Any, list[int]]) -> tuple[list[dict[str, Any]], int]:
    """Hours of several kinds as periods, the longest ones in order of time; and how many are left out."""
    periods: list[dict[str, Any]] = [
        {"kind": kind, "since": format_time(first), "until": format_time(last), "hours": (last - first) // HOUR_MS}
        for kind, found in hours.items()
        for first, last in _joined(found)
    ]
    longest = sorted(periods, key=_longest_first)[:MOST_PERIODS]
    return sorted(longest, key=_in_time), len(periods) - len(longest)


def _in_time(period: dict[str, Any]) -> tuple[str, str]:
    return period["since"], period["kind"]


def _longest_first(period: dict[str, Any]) -> tuple[bool, int, str]:
    # What is known to be bad is not pushed out by what is only not known.
    return period["kind"] != "blind", -period["hours"], period["since"]


def _ms(moment: str) -> int:
    return int(datetime.fromisoformat(moment).timestamp()) * SECOND_MS


def _joined(hours: list[int]) -> Iterator[tuple[int, int]]:
    """Hours that follow each other as one stretch: its beginning and its end."""
    first = last = None
    for at in hours:
        if last is not None and first is not None and at != last:
            yield first, last
            first = at
        first = at if first is None else first
        last = at + HOUR_MS
    if first is not None and last is not None:
        yield first, last
