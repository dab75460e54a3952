"""Figures to data points of the declared metrics. Values in, values out: nothing here calls anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Protocol, TypeAlias

from msgspec import Struct, field

from crr_monitor.core import lag
from crr_monitor.core.model import Status
from crr_monitor.core.times import SECOND_MS
from crr_monitor.sinks import metrics
from crr_monitor.sinks.metrics import Metric

if TYPE_CHECKING:
    from collections.abc import Iterable

    from crr_monitor.core.statistics import Share
    from crr_monitor.sinks.now import Amount, Now
    from crr_monitor.sinks.words import Detail

Names: TypeAlias = tuple[tuple[str, str], ...]
"""Dimensions with their values, in the order in which the metric declares them."""

DIGITS = 3
"""Significant digits of values: as exact as the lag's histogram, and few distinct values to send."""

_BITS_IN_A_BYTE = 8


class Change(Protocol):
    """What a change of one record adds to the statistics, and what it takes back."""

    @property
    def old(self) -> list[Share]:
        """Before."""

    @property
    def new(self) -> list[Share]:
        """After."""


class Point(Struct):
    """Values of one metric with their counts, all of one moment. Of events and gauges there is one value."""

    metric: Metric
    names: Names
    values: dict[float, int] = field(default_factory=dict)


class Points:
    """Collects points; what the metric does not declare for this level of detail is left out."""

    def __init__(self, detail: Detail) -> None:
        self._detail = detail
        self._points: dict[tuple[str, Names], Point] = {}

    def all(self) -> list[Point]:
        """What was collected."""
        return list(self._points.values())

    def add(self, metric: Metric, value: float, **given: str) -> None:
        """One more event (they are summed) or value (they are kept apart), for each set of dimensions that fits."""
        for wanted in metric.dimensions(self._detail):
            if all(given.get(name) for name in wanted):
                values = self._point(metric, tuple((name, given[name]) for name in wanted)).values
                if metric.kind == "values":
                    values[value] = values.get(value, 0) + 1
                else:
                    total = value + next(iter(values), 0.0)
                    values.clear()
                    values[total] = 1

    def set(self, metric: Metric, value: float, **given: str) -> None:
        """How it is now, for just these dimensions; names that are unknown make no point."""
        if tuple(given) in metric.dimensions(self._detail) and all(given.values()):
            self._point(metric, tuple(given.items())).values = {value: 1}

    def _point(self, metric: Metric, names: Names) -> Point:
        return self._points.setdefault((metric.name, names), Point(metric, names))


def significant(value: float) -> float:
    """The value in :data:`DIGITS` significant digits."""
    return float(f"{value:.{DIGITS}g}")


def of_changes(changes: Iterable[Change], detail: Detail) -> list[Point]:
    """Copies that arrived, with lag and speed, and copies that failed: each once, when its status became that."""
    points = Points(detail)
    for change in changes:
        before = {share.key.destination: share for share in change.old}
        for share in change.new:
            _add_copy(points, before.get(share.key.destination), share)
    return points.all()


def _add_copy(points: Points, before: Share | None, share: Share) -> None:
    names = {metrics.SOURCE_BUCKET: share.key.source, metrics.DEST_BUCKET: share.key.destination}
    was = None if before is None else before.status
    if share.status is Status.FAILED and was is not Status.FAILED:
        points.add(metrics.FAILED_REPLICATIONS, 1, **names)
    if share.status is not Status.COMPLETED:
        return
    if was is not Status.COMPLETED:
        points.add(metrics.REPLICATION_OBJECTS, 1, **names)
        points.add(metrics.REPLICATION_BYTES, share.size, **names)
    # Of a copy that had failed the lag is how long its repair took, and a large repair is not slow replication.
    if share.lag_bin is not None and not share.repaired and (before is None or before.lag_bin is None):
        lag_ms = lag.value_of(share.lag_bin)
        points.add(metrics.REPLICATION_LAG, significant(lag_ms / SECOND_MS), **names)
        if share.size and lag_ms:
            points.add(metrics.REPLICATION_SPEED, significant(share.size * _BITS_IN_A_BYTE / lag_ms), **names)


def of_now(
    now: Now, detail: Detail, pairs: Collection[tuple[str, str]] = (), failing: Collection[str] = ()
) -> list[Point]:
    """Gauges of how it is. ``pairs`` are all that are known, so that those without a backlog say 0.

    ``failing`` are source buckets that had failures before, so that they say 0 when there are none any more.
    """
    points = Points(detail)
    everything = {**dict.fromkeys(pairs), **now.pairs}
    pending = {pair: None if each is None else each.pending for pair, each in everything.items()}
    known = [each for each in pending.values() if each is not None]
    points.set(metrics.PENDING_OBJECTS, sum(each.objects for each in known))
    points.set(metrics.PENDING_BYTES, sum(each.bytes or 0 for each in known))
    answering = [each for pair, each in pending.items() if now.answers(pair)]
    points.set(metrics.OLDEST_PENDING_AGE, max((_age(each, now.at) for each in answering), default=0.0))
    for (source, destination), each in pending.items():
        names = {metrics.SOURCE_BUCKET: source, metrics.DEST_BUCKET: destination}
        points.set(metrics.PENDING_OBJECTS, each.objects if each else 0, **names)
        points.set(metrics.PENDING_BYTES, (each.bytes or 0) if each else 0, **names)
        points.set(metrics.OLDEST_PENDING_AGE, _age(each, now.at), **names)
    _add_failed(points, now, failing)
    if now.share is not None:
        points.set(metrics.RPO_SHARE, 100 * now.share)
    for (source, destination), share in now.shares.items():
        names = {metrics.SOURCE_BUCKET: source, metrics.DEST_BUCKET: destination}
        points.set(metrics.RPO_SHARE, 100 * share, **names)
    return points.all()


def _add_failed(points: Points, now: Now, failing: Collection[str]) -> None:
    """By source only where there are some, or were: each bucket is a metric to be paid."""
    failed: Counter[str] = Counter(dict.fromkeys(failing, 0))
    for (source, _), pair in now.pairs.items():
        failed[source] += sum(amount.objects for amount in pair.failed.values())
    points.set(metrics.FAILED_OBJECTS, failed.total())
    for source, count in failed.items():
        if count or source in failing:
            points.set(metrics.FAILED_OBJECTS, count, **{metrics.SOURCE_BUCKET: source})


def _age(amount: Amount | None, now: int) -> float:
    return 0.0 if amount is None or amount.since is None else max(0, now - amount.since) / SECOND_MS


class Monitor(Struct, frozen=True):
    """Figures of the monitor itself since the last look, or now. ``None`` where it is not known, or there is none.

    ``canary_lags``: of canaries that arrived since, in milliseconds by pair (``SOURCE DESTINATION``).
    """

    taken: int = 0
    ignored: int = 0
    malformed: int = 0
    backlog_growth: int = 0
    unsent: int = 0
    could_not_ask: int | None = None
    throttled: int | None = None
    undeliverable: int | None = None
    canary_age_ms: int | None = None
    canary_lags: Mapping[str, Collection[int]] = {}


def of_monitor(monitor: Monitor, newest: Mapping[str, int], now: int, detail: Detail) -> list[Point]:
    """``newest``: the newest event of each account, in milliseconds."""
    points = Points(detail)
    points.set(metrics.EVENTS, monitor.taken, **{metrics.KIND: "taken"})
    points.set(metrics.EVENTS, monitor.ignored, **{metrics.KIND: "ignored"})
    points.set(metrics.MALFORMED, monitor.malformed)
    points.set(metrics.BACKLOG_GROWTH, monitor.backlog_growth)
    points.set(metrics.UNSENT_NOTIFICATIONS, monitor.unsent)
    known = {
        metrics.COULD_NOT_ASK: monitor.could_not_ask,
        metrics.THROTTLES: monitor.throttled,
        metrics.UNDELIVERABLE_EVENTS: monitor.undeliverable,
    }
    for metric, value in known.items():
        if value is not None:
            points.set(metric, value)
    if monitor.canary_age_ms is not None:
        points.set(metrics.CANARY_AGE, monitor.canary_age_ms / SECOND_MS)
    for name, lags in monitor.canary_lags.items():
        source, _, destination = name.partition(" ")
        for lag_ms in lags:
            names = {metrics.SOURCE_BUCKET: source, metrics.DEST_BUCKET: destination}
            points.add(metrics.CANARY_LAG, lag_ms / SECOND_MS, **names)
    for account, at in newest.items():
        points.set(metrics.NEWEST_EVENT_AGE, max(0, now - at) / SECOND_MS, **{metrics.ACCOUNT: account})
    return points.all()
