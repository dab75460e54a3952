"""What to simulate: a plan says how many objects, where they go, and how much trouble there is in it."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

from msgspec import Struct

from crr_monitor.core.times import DAY_MS, MINUTE_MS, SECOND_MS, parse_time

Kind: TypeAlias = Literal["cloudtrail", "notification", "eventbridge"]
"""Who tells of the objects: CloudTrail data events, S3 event notifications, or S3's own EventBridge events."""

Wrapper: TypeAlias = Literal["bare", "eventbridge", "sns", "sqs", "sqs-sns", "lambda-sqs", "lambda-sns"]
"""What a message is wrapped in. ``eventbridge`` wraps CloudTrail records; the other kinds stay bare with it."""

Layout: TypeAlias = Literal["lines", "logs"]
"""One message per line, or CloudTrail log files in the folders that CloudTrail makes."""

KINDS: tuple[Kind, ...] = get_args(Kind)
WRAPPERS: tuple[Wrapper, ...] = get_args(Wrapper)

MAX_PAIRS = 1_000
LATEST = 9_999_999_999_999
"""November 2286, far from the ends of every time format; in milliseconds since the epoch, as everywhere."""

OBJECTS_PER_SECOND = 200
_RATES = (
    "audit_share",
    "failure_rate",
    "repaired_share",
    "duplicate_rate",
    "loss_rate",
    "delete_marker_rate",
    "delete_rate",
    "pending_rate",
    "malformed_rate",
    "ignored_rate",
)


class SimulateError(Exception):
    """The simulation cannot be made or checked; the text names the thing and the fix."""


class Plan(Struct, frozen=True, kw_only=True):
    """A stream of events, complete: the same plan always gives the same bytes.

    Times are milliseconds, rates are shares from 0 to 1. ``failure_rate`` is per copy, ``repaired_share`` of the failed
    copies, ``duplicate_rate`` per message, ``delete_rate`` (of the version for good), ``delete_marker_rate``,
    ``malformed_rate`` and ``ignored_rate`` per object. ``pending_rate``: copies that never arrive and never fail.
    ``loss_rate``: objects whose write, and copies whose arrival, no message tells (all of its deliveries are lost).
    ``audit_share``: objects that go to the second destination too. ``duration_ms``: how long objects are written;
    without it a day, or longer where that would be more than 200 objects per second, because the memory of a run
    follows from objects per second times ``reorder_ms``. ``messages_per_file``: a new file begins after so many.

    Raises:
        SimulateError: a value is out of its range; the text names it and the range.
    """

    seed: int = 1
    objects: int = 20_000
    start: int = parse_time("2026-11-01T00:00:00Z")[0]
    duration_ms: int | None = None
    pairs: int = 3
    audit_share: float = 1 / 3
    lag_p50_ms: int = 8_000
    lag_p99_ms: int = 60_000
    failure_rate: float = 0.01
    repaired_share: float = 1 / 3
    duplicate_rate: float = 0.03
    reorder_ms: int = 15 * MINUTE_MS
    loss_rate: float = 0.0
    delete_marker_rate: float = 0.03
    delete_rate: float = 0.01
    pending_rate: float = 0.002
    malformed_rate: float = 0.001
    ignored_rate: float = 0.02
    kinds: tuple[Kind, ...] = KINDS
    wrappers: tuple[Wrapper, ...] = WRAPPERS
    layout: Layout = "lines"
    gz: bool = False
    messages_per_file: int = 100_000

    def __post_init__(self) -> None:
        for name in _RATES:
            _check_range(name, getattr(self, name), 0, 1)
        _check_range("objects", self.objects, 0, 10**12)
        _check_range("pairs", self.pairs, 1, MAX_PAIRS)
        _check_range("start", self.start, DAY_MS, LATEST)
        _check_range("duration_ms", self.duration, 1, LATEST - self.start)
        _check_range("lag_p50_ms", self.lag_p50_ms, 1, DAY_MS)
        _check_range("lag_p99_ms", self.lag_p99_ms, self.lag_p50_ms, 30 * DAY_MS)
        _check_range("reorder_ms", self.reorder_ms, 0, 30 * DAY_MS)
        _check_range("messages_per_file", self.messages_per_file, 1, 10**9)
        _check_subset("kinds", self.kinds, KINDS)
        _check_subset("wrappers", self.wrappers, WRAPPERS)
        if self.layout not in get_args(Layout):
            message = f"layout is {self.layout!r}: choose lines or logs"
            raise SimulateError(message)
        if self.layout == "logs" and self.kinds != ("cloudtrail",):
            message = f"log files hold CloudTrail events only, not {', '.join(self.kinds)}: set kinds to cloudtrail"
            raise SimulateError(message)

    @property
    def duration(self) -> int:
        """Milliseconds from the first write to the last."""
        if self.duration_ms is not None:
            return self.duration_ms
        return max(DAY_MS, self.objects * SECOND_MS // OBJECTS_PER_SECOND)

    def slot(self, index: int) -> int:
        """The earliest instant at which object ``index`` is written; never falls as the index rises."""
        return self.start + index * self.duration // max(self.objects, 1)


def _check_range(name: str, value: float, low: int, high: int) -> None:
    if not low <= value <= high:
        message = f"{name} is {value}: it has to be from {low} to {high}"
        raise SimulateError(message)


def _check_subset(name: str, chosen: tuple[str, ...], known: tuple[str, ...]) -> None:
    unknown = [one for one in chosen if one not in known]
    if unknown or not chosen:
        message = f"{name} has {', '.join(unknown) or 'nothing in it'}: choose from {', '.join(known)}"
        raise SimulateError(message)
