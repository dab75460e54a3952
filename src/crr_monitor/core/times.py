"""Instants as the events carry them: RFC 3339 text to whole milliseconds since the epoch (UTC), and back."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
SECOND_MS = 1_000
MINUTE_MS = 60 * SECOND_MS
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
_LATEST = (datetime(9999, 12, 30, tzinfo=UTC) - EPOCH) // MILLISECOND

_UNITS = {"ms": 1, "s": SECOND_MS, "m": MINUTE_MS, "h": HOUR_MS, "d": DAY_MS, "w": 7 * DAY_MS}
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)(ms|s|m|h|d|w)")


class BadTimeError(ValueError):
    """The text is no instant: not RFC 3339, or without a time zone."""


@lru_cache(maxsize=16_384)
def _parse_seconds(text: str) -> tuple[int, bool]:
    return _parse_any(text)


def _parse_any(text: str) -> tuple[int, bool]:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        message = f"not an RFC 3339 time: {text[:64]!r}"
        raise BadTimeError(message) from error
    if moment.tzinfo is None:
        message = f"time without a zone: {text[:64]!r}"
        raise BadTimeError(message)
    if len(text) < len("2026-11-22T07:00Z"):
        message = f"not an RFC 3339 time: {text[:64]!r}"
        raise BadTimeError(message)
    try:
        return (moment - EPOCH) // MILLISECOND, "." not in text
    except OverflowError as error:
        message = f"time out of range: {text[:64]!r}"
        raise BadTimeError(message) from error


def parse_time(text: str) -> tuple[int, bool]:
    """Milliseconds since the epoch, and whether the text had whole seconds only.

    Microseconds (as Ceph writes them) are cut to milliseconds. A space in place of ``T`` is taken.

    Raises:
        BadTimeError: the text is no time, or has no zone: guessing a zone would invent a fact.
    """
    if len(text) == 20:  # noqa: PLR2004 - 2026-11-22T07:00:00Z
        return _parse_seconds(text)
    if len(text) == 24 and text[19] == "." and text[23] == "Z":  # noqa: PLR2004 - 2026-11-22T07:00:00.168Z
        fraction = text[20:23]
        if fraction.isdecimal() and fraction.isascii():
            # The whole second is shared by many events, so its parse is cached; the fraction is not.
            return _parse_seconds(text[:19] + "Z")[0] + int(fraction), False
    return _parse_any(text)


def parse_moment(text: str) -> int:
    """An instant as people give it: as :func:`parse_time`, or a date alone, which is its midnight in UTC.

    Raises:
        BadTimeError: it is neither, or before 1970, or so late that no other time could come after it.
    """
    at = parse_time(f"{text}T00:00:00Z" if _DATE.fullmatch(text) else text)[0]
    if not 0 <= at <= _LATEST:
        message = f"not between 1970-01-01 and 9999-12-30: {text[:64]!r}"
        raise BadTimeError(message)
    return at


def format_time(at: int) -> str:
    """RFC 3339 in UTC with milliseconds, as every output of the product prints it."""
    moment = EPOCH + timedelta(milliseconds=at)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{at % SECOND_MS:03d}Z"


def to_milliseconds(moment: datetime) -> int:
    """Milliseconds since the epoch of an aware moment.

    Raises:
        BadTimeError: the moment is naive.
    """
    if moment.tzinfo is None:
        message = f"time without a zone: {moment.isoformat()!r}"
        raise BadTimeError(message)
    return (moment - EPOCH) // MILLISECOND


def parse_duration(text: str) -> int | None:
    """``90m``, ``1.5h``, ``7d`` in milliseconds, or ``None``."""
    found = _DURATION.fullmatch(text)
    return None if found is None else round(float(found[1]) * _UNITS[found[2]])
