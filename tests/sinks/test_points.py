"""Points: what counts once, with which dimensions, and what a level of detail leaves out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from crr_monitor.core.statistics import Share, shares
from crr_monitor.core.times import DAY_MS, MINUTE_MS
from crr_monitor.sinks import metrics
from crr_monitor.sinks.now import look
from crr_monitor.sinks.points import Monitor, Points, of_changes, of_monitor, of_now, significant
from crr_monitor.stores.memory import MemoryStore
from tests.factories import (
    AT,
    AUDIT,
    REPLICA,
    SOURCE,
    TWO_DESTINATIONS,
    batch_of,
    failed,
    record_of,
    replica,
    user_write,
)

if TYPE_CHECKING:
    from crr_monitor.core.events import Event
    from crr_monitor.sinks.points import Point
    from crr_monitor.sinks.words import Detail

BY_SOURCE = (("SourceBucket", SOURCE),)
BY_PAIR = (("SourceBucket", SOURCE), ("DestBucket", REPLICA))
TO_AUDIT = (("SourceBucket", SOURCE), ("DestBucket", AUDIT))


class Step(Struct):
    """A change of one record."""

    old: list[Share]
    new: list[Share]


def told(*events: Event, **kwargs: Any) -> list[Share]:  # noqa: ANN401 - the topology
    """What a record of these events contributes."""
    return shares(record_of(*events, **kwargs))


def found(points: list[Point]) -> dict[tuple[str, Any], dict[float, int]]:
    """Values by name and dimensions."""
    return {(point.metric.name, point.names): point.values for point in points}


def after(*steps: Step, detail: Detail = "Totals") -> dict[tuple[str, Any], dict[float, int]]:
    """The points of some changes."""
    return found(of_changes(steps, detail))


def test_arrived() -> None:
    """A copy that arrives counts once, with its bytes, its lag in seconds and its speed in kilobits per second."""
    pending, there = told(user_write(size=1_000)), told(user_write(size=1_000), replica())
    expected = {
        ("ReplicationObjects", ()): {1.0: 1},
        ("ReplicationBytes", ()): {1_000.0: 1},
        ("ReplicationLag", ()): {10.1: 1},
        ("ReplicationSpeed", ()): {0.792: 1},
    }
    assert after(Step(pending, there)) == expected
    assert after(Step([], there), Step(there, there)) == expected
    assert after(Step([], pending)) == {}


def test_per_pair() -> None:
    """With each pair there are the same figures by source and destination besides."""
    points = after(Step([], told(user_write(), replica())), detail="PerPair")
    assert points["ReplicationObjects", BY_PAIR] == points["ReplicationObjects", ()] == {1.0: 1}
    assert points["ReplicationLag", BY_PAIR] == {10.1: 1}


def test_failed() -> None:
    """A failure counts in all and by source, also with totals only, and not again when it is reported again."""
    bad = told(user_write(), failed())
    expected = {("FailedReplications", ()): {2.0: 1}, ("FailedReplications", BY_SOURCE): {2.0: 1}}
    assert after(Step([], bad), Step(bad, bad), Step(told(user_write()), bad)) == expected
    assert after(Step([], bad), Step([], bad), detail="PerPair") == expected


def test_repaired() -> None:
    """A copy that had failed counts as arrived, and has no lag: a repair of old failures is no slow replication."""
    bad = told(user_write(size=1_000), failed())
    there = told(user_write(size=1_000), failed(), replica(at=AT + 9 * DAY_MS))
    expected = {("ReplicationObjects", ()): {1.0: 1}, ("ReplicationBytes", ()): {1_000.0: 1}}
    assert after(Step(bad, there)) == expected


def test_two_destinations() -> None:
    """Each destination is a copy of its own."""
    first = told(user_write(), replica(), topology=TWO_DESTINATIONS)
    both = told(user_write(), replica(), replica(AUDIT), topology=TWO_DESTINATIONS)
    points = after(Step([], first), Step(first, both), detail="PerPair")
    assert points["ReplicationObjects", ()] == {2.0: 1}
    assert points["ReplicationObjects", BY_PAIR] == points["ReplicationObjects", TO_AUDIT] == {1.0: 1}


def test_lag_that_is_known_later() -> None:
    """A replica whose source event comes later counts when it is seen, and gives its lag when that is known."""
    alone, both = told(replica()), told(replica(), user_write())
    assert sorted(name for name, _ in after(Step([], alone))) == ["ReplicationBytes", "ReplicationObjects"]
    assert sorted(name for name, _ in after(Step(alone, both))) == ["ReplicationLag"]


def test_values_keep_their_counts() -> None:
    """Equal values are one with a count, which is what percentiles are made of."""
    steps = [Step([], told(user_write(), replica(at=AT + 1_000 * lag))) for lag in (1, 1, 1, 60)]
    values = after(*steps)["ReplicationLag", ()]
    assert {round(value): count for value, count in values.items()} == {1: 3, 60: 1}


@given(st.floats(1e-3, 1e9))
def test_three_digits(value: float) -> None:
    """Rounding changes a value by half a percent at most."""
    assert abs(significant(value) - value) <= 0.005 * value


def test_now() -> None:
    """Backlog and failures in all, by source and by pair; a pair without any says 0."""
    store = MemoryStore(clock=lambda: AT)
    store.apply(batch_of(user_write(size=5), user_write(version_id="2", size=6, at=AT + 1_000)))
    store.apply(batch_of(user_write(version_id="bad"), failed(version_id="bad")))
    now = look(store, AT + 20 * MINUTE_MS, overdue_ms=15 * MINUTE_MS, rpo_ms=15 * MINUTE_MS)
    points = found(of_now(now, "PerPair", [(SOURCE, REPLICA), ("other", "other-dr")]))
    other = (("SourceBucket", "other"), ("DestBucket", "other-dr"))
    assert points["PendingObjects", ()] == points["PendingObjects", BY_PAIR] == {2: 1}
    assert points["PendingBytes", ()] == {11: 1}
    assert points["OldestPendingAge", ()] == {1_200.0: 1}
    assert (points["PendingObjects", other], points["OldestPendingAge", other]) == ({0: 1}, {0.0: 1})
    assert points["FailedObjects", ()] == points["FailedObjects", BY_SOURCE] == {1: 1}
    assert ("FailedObjects", (("SourceBucket", "other"),)) not in points
    assert points["RPOShare", ()] == {0.0: 1}
    totals = found(of_now(now, "Totals", [(SOURCE, REPLICA)]))
    assert ("PendingObjects", BY_PAIR) not in totals
    assert totals["FailedObjects", BY_SOURCE] == {1: 1}


def test_nothing_open() -> None:
    """An empty store has a backlog of 0, which says that somebody looked, and no share of nothing."""
    now = look(MemoryStore(), AT, overdue_ms=1, rpo_ms=1)
    points = found(of_now(now, "Totals"))
    assert points == {
        (name, ()): {0: 1} for name in ("PendingObjects", "PendingBytes", "OldestPendingAge", "FailedObjects")
    }


def test_monitor() -> None:
    """What is not known of the monitor makes no point."""
    points = found(of_monitor(Monitor(taken=3, could_not_ask=2), {"111122223333": AT - 5_000}, AT, "Totals"))
    assert points["Events", (("Kind", "taken"),)] == {3: 1}
    assert points["CouldNotAsk", ()] == {2: 1}
    assert points["NewestEventAge", (("Account", "111122223333"),)] == {5.0: 1}
    assert {"CanaryAge", "UndeliverableEvents", "Throttles"} & {name for name, _ in points} == set()


def test_unknown_names_make_no_point() -> None:
    """A dimension without a value is no dimension of CloudWatch's."""
    points = Points("PerPair")
    points.add(metrics.REPLICATION_OBJECTS, 1, SourceBucket="", DestBucket="dr")
    points.set(metrics.FAILED_OBJECTS, 1, SourceBucket="")
    assert found(points.all()) == {("ReplicationObjects", ()): {1.0: 1}}
