"""The store's and the process's figures in the OpenMetrics text format, for ``/metrics``.

Counters begin at 0 when the process does, as Prometheus expects: they grow by what the statistics of the last two days
grew by since the last scrape. The statistics themselves are no counters in that sense, since late evidence takes back
what it corrects (a failed copy that was repaired). prometheus_client is imported when the first text is made.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from msgspec import Struct, field

from crr_monitor.core import lag
from crr_monitor.core.notices import CANARY_NOTE, decode_canaries, new_lags
from crr_monitor.core.statistics import Cell, CellKey
from crr_monitor.core.times import DAY_MS, SECOND_MS
from crr_monitor.process.figures import RPO_SECONDS
from crr_monitor.sinks import metrics
from crr_monitor.sinks.now import look, newest_by_account

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from crr_monitor.core.notices import Flight
    from crr_monitor.sinks.metrics import Metric
    from crr_monitor.sinks.now import Amount, Now
    from crr_monitor.stores.base import Store

CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"
"""What the answer to a scrape says that it is."""

WINDOW_MS = 2 * DAY_MS
"""Copies of versions that were written longer ago than this do not count any more."""

BUCKETS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 21_600, 86_400)
"""Upper bounds of the lag's histogram in seconds; that of 15 minutes is exact, the others to 1 %."""

Pair = tuple[str, str]


class _PairTotals(Struct):
    objects: int = 0
    bytes: int = 0
    completed: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    lags: dict[int, int] = field(default_factory=dict)


class _Totals(Struct):
    """What was counted since the process began: sums per pair, and the cells as they were at the last look.

    ``told``: canaries that were counted, by pair, as when they were written; ``canaries``: lags of those since.
    """

    cells: dict[CellKey, Cell] | None = None
    pairs: dict[Pair, _PairTotals] = field(default_factory=dict)
    told: dict[str, list[int]] | None = None
    canaries: dict[Pair, dict[int, int]] = field(default_factory=dict)


class Queue(Struct):
    """How one source's queue is: messages that wait, and the age of the oldest in seconds where that is known."""

    depth: int = 0
    age_seconds: float | None = None


class Own(Struct):
    """What the serving process knows of itself. One value for the life of the process: it also holds its counters.

    ``queues`` by name of the source. ``could_not_ask`` and ``throttled`` are of the last round of asking S3, ``unsent``
    are notifications that could not be sent. ``requests`` are the answers to messages over HTTP, by status code.
    """

    queues: dict[str, Queue] = field(default_factory=dict)
    requests: dict[int, int] = field(default_factory=dict)
    could_not_ask: int = 0
    throttled: int = 0
    unsent: int = 0
    backlog_growth: int = 0
    overdue_seconds: float = 1_800.0
    rpo_seconds: float = float(RPO_SECONDS)
    totals: _Totals = field(default_factory=_Totals)


def exposition(store: Store, own: Own, now: int) -> bytes:
    """The text for one scrape. ``now`` is in milliseconds. Raises ``StoreError``, and then counts it all next time.

    It takes some milliseconds per pair and belongs into a thread where others wait. Not to be called twice at a time
    with the same ``own``.
    """
    overdue_ms, rpo_ms = int(own.overdue_seconds * SECOND_MS), int(own.rpo_seconds * SECOND_MS)
    with store.snapshot():
        _count(own.totals, dict(store.cells(now - WINDOW_MS, None)))
        state = look(store, now, overdue_ms=overdue_ms, rpo_ms=rpo_ms)
        counts = store.counts()
        newest = newest_by_account(store, now)
        flights = decode_canaries(store.note(CANARY_NOTE))
        _count_canaries(own.totals, flights)
        families = [*_of_totals(own.totals), *_of_now(state), *_of_own(own)]
    families += [
        _counter(metrics.EVENTS, {("taken",): counts.events, **{(k,): n for k, n in counts.ignored.items()}}),
        _counter(metrics.MALFORMED, {(): counts.malformed}),
        _gauge(
            metrics.CANARY_AGE, {(): max(now - each.at for each in flights.values()) / SECOND_MS} if flights else {}
        ),
        _gauge(metrics.NEWEST_EVENT_AGE, {(account,): max(0, now - at) / SECOND_MS for account, at in newest.items()}),
    ]
    return _text(families)


# Counting ------------------------------------------------------------------------------------------------------------


def _count(totals: _Totals, cells: dict[CellKey, Cell]) -> None:
    """Add what cells grew by; the first look only remembers them, as what was before the process is not its count."""
    before = totals.cells
    totals.cells = cells
    for key, cell in cells.items():
        pair = totals.pairs.setdefault((key.source, key.destination), _PairTotals())
        if before is None:
            continue
        old = before.get(key)
        pair.objects += _grown(cell.objects, old.objects if old else 0)
        pair.bytes += _grown(cell.bytes, old.bytes if old else 0)
        pair.completed += _grown(cell.completed, old.completed if old else 0)
        for reason, count in cell.reasons.items():
            more = _grown(count, old.reasons.get(reason, 0) if old else 0)
            pair.failed[reason] = pair.failed.get(reason, 0) + more
        for index in cell.lags:
            more = _grown(_unfailed(cell, index), _unfailed(old, index) if old else 0)
            pair.lags[index] = pair.lags.get(index, 0) + more


def _count_canaries(totals: _Totals, flights: Mapping[str, Flight]) -> None:
    """Add the lags of canaries that arrived since the last look; the first look only remembers them."""
    before = totals.told
    totals.told = {name: [*flight.lags] for name, flight in flights.items()}
    for name, found in new_lags(flights, totals.told if before is None else before).items():
        source, _, destination = name.partition(" ")
        counts = totals.canaries.setdefault((source, destination), {})
        for lag_ms in found:
            index = lag.bin_of(lag_ms)
            counts[index] = counts.get(index, 0) + 1


def _unfailed(cell: Cell, index: int) -> int:
    """Copies with a lag that had not failed before: of the others it is how long their repair took."""
    return cell.lags.get(index, 0) - cell.repaired.get(index, 0)


def _grown(new: int, old: int) -> int:
    return max(0, new - old)


# Families ------------------------------------------------------------------------------------------------------------


def _core() -> Any:  # noqa: ANN401 - a module of an optional package
    return importlib.import_module("prometheus_client.core")


def _gauge(metric: Metric, values: Mapping[Any, float]) -> Any:  # noqa: ANN401
    family = _core().GaugeMetricFamily(metric.open_name, metric.meaning, labels=metric.labels)
    for labels, value in sorted(values.items()):
        family.add_metric(labels, value)
    return family


def _counter(metric: Metric, values: Mapping[Any, float]) -> Any:  # noqa: ANN401
    family = _core().CounterMetricFamily(metric.open_name, metric.meaning, labels=metric.labels)
    for labels, value in sorted(values.items()):
        family.add_metric(labels, value)
    return family


def _of_totals(totals: _Totals) -> Iterator[Any]:
    pairs = totals.pairs
    yield _counter(metrics.OBJECTS, {pair: each.objects for pair, each in pairs.items()})
    yield _counter(metrics.OBJECT_BYTES, {pair: each.bytes for pair, each in pairs.items()})
    yield _counter(metrics.REPLICATION_OBJECTS, {pair: each.completed for pair, each in pairs.items()})
    failed = {(*pair, reason): n for pair, each in pairs.items() for reason, n in each.failed.items()}
    yield _counter(metrics.FAILED_REPLICATIONS, failed)
    yield _histogram(metrics.REPLICATION_LAG, {pair: each.lags for pair, each in pairs.items()})
    yield _histogram(metrics.CANARY_LAG, totals.canaries)


def _histogram(metric: Metric, lags: Mapping[Pair, Mapping[int, int]]) -> Any:  # noqa: ANN401
    family = _core().HistogramMetricFamily(metric.open_name, metric.meaning, labels=metric.labels)
    for pair, each in sorted(lags.items()):
        family.add_metric(pair, histogram(each), sum_value=_sum_seconds(each))
    return family


def histogram(lags: Mapping[int, int]) -> list[tuple[str, float]]:
    """Cumulative counts by upper bound, as OpenMetrics writes histograms."""
    found = [(str(float(bound)), float(lag.count_within(lags, bound * SECOND_MS))) for bound in BUCKETS]
    return [*found, ("+Inf", float(sum(lags.values())))]


def _sum_seconds(lags: Mapping[int, int]) -> float:
    return sum(lag.value_of(index) * count for index, count in lags.items()) / SECOND_MS


def _of_now(state: Now) -> Iterator[Any]:
    pending = {pair: each.pending for pair, each in state.pairs.items()}
    yield _gauge(metrics.PENDING_OBJECTS, {pair: each.objects for pair, each in pending.items()})
    yield _gauge(metrics.PENDING_BYTES, {pair: each.bytes or 0 for pair, each in pending.items()})
    yield _gauge(metrics.OLDEST_PENDING_AGE, {pair: _age(each, state.at) for pair, each in pending.items()})
    failed = {(*pair, why): n.objects for pair, each in state.pairs.items() for why, n in each.failed.items()}
    yield _gauge(metrics.FAILED_OBJECTS, failed)
    yield _gauge(metrics.RPO_SHARE, state.shares)


def _age(amount: Amount, now: int) -> float:
    return 0.0 if amount.since is None else max(0, now - amount.since) / SECOND_MS


def _of_own(own: Own) -> Iterator[Any]:
    yield _gauge(metrics.QUEUE_DEPTH, {(name,): each.depth for name, each in own.queues.items()})
    ages = {(name,): each.age_seconds for name, each in own.queues.items() if each.age_seconds is not None}
    yield _gauge(metrics.QUEUE_AGE, ages)
    # A counter that begins with its first request would hide that one from rates.
    yield _counter(metrics.HTTP_REQUESTS, {("200",): 0, **{(str(code),): n for code, n in own.requests.items()}})
    yield _gauge(metrics.COULD_NOT_ASK, {(): own.could_not_ask})
    yield _gauge(metrics.THROTTLES, {(): own.throttled})
    yield _gauge(metrics.UNSENT_NOTIFICATIONS, {(): own.unsent})
    yield _gauge(metrics.BACKLOG_GROWTH, {(): own.backlog_growth})


class _Families:
    """What prometheus_client takes for a registry: something that gives families."""

    def __init__(self, families: list[Any]) -> None:
        self._families = families

    def collect(self) -> list[Any]:
        """All families."""
        return self._families


def _text(families: list[Any]) -> bytes:
    made = importlib.import_module("prometheus_client.openmetrics.exposition")
    text: bytes = made.generate_latest(_Families(families))
    return text
