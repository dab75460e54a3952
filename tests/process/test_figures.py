"""The figures of ``crr-monitor stats``, against counting one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crr_monitor.core.statistics import SLOT_MS
from crr_monitor.core.times import DAY_MS, HOUR_MS, MINUTE_MS
from crr_monitor.core.topology import Topology
from crr_monitor.process.figures import AGES, Figures, Group, Window, figures
from crr_monitor.stores.memory import MemoryStore
from tests.factories import (
    AT,
    AUDIT,
    ONE_WAY,
    REPLICA,
    SOURCE,
    TWO_DESTINATIONS,
    answered,
    batch_of,
    config,
    deleted,
    failed,
    replica,
    rule,
    user_write,
)

if TYPE_CHECKING:
    from crr_monitor.core.events import Event

NOW = AT + HOUR_MS
MARKERS = Topology([config(rule(delete_markers=True))])


class Clock:
    """A clock that tests set."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> int:
        """Milliseconds since the epoch."""
        return self.now


def summed(*events: Event, topology: Topology = ONE_WAY, as_of: int = NOW, **options: Any) -> Figures:  # noqa: ANN401
    """The figures of a store that knows these events."""
    store = MemoryStore(clock=Clock())
    store.apply(batch_of(*events, topology=topology))
    window = Window(options.pop("since", None), options.pop("until", None), as_of)
    return figures(store, window, **options)


def group_of(*events: Event, **options: Any) -> Group:  # noqa: ANN401
    """The only group."""
    (group,) = summed(*events, **options).groups
    return group


def json_of(*events: Event, **options: Any) -> dict[str, Any]:  # noqa: ANN401
    """The only group, as it is printed."""
    (body,) = summed(*events, **options).to_json()["groups"]
    assert isinstance(body, dict)
    return body


def lives(**ages: int) -> list[Event]:
    """Pending versions by name, each written so many milliseconds before ``NOW``."""
    return [user_write(version_id=name, at=NOW - age) for name, age in ages.items()]


moments = (
    st.integers(0, 2 * HOUR_MS) | st.integers(0, 30).map(lambda slot: slot * SLOT_MS) | st.integers(0, 26 * HOUR_MS)
)


@settings(max_examples=150)
@given(st.lists(moments, min_size=1, max_size=12), moments, st.sampled_from([900_000, 60_000, 37 * MINUTE_MS + 1]))
def test_backlog_is_exact(written: list[int], as_of: int, target: int) -> None:
    """Backlog by age, what is overdue, and the oldest are exact at any moment, within five-minute slots too."""
    events = [user_write(version_id=f"v{number}", at=AT + ms) for number, ms in enumerate(written)]
    group = group_of(*events, as_of=AT + as_of, target_ms=target)
    ages = [max(0, as_of - ms) for ms in written]
    expected = dict.fromkeys((name for name, _ in AGES), 0)
    for age in ages:
        expected[next(name for name, end in AGES if age < end)] += 1
    assert group.backlog.by_age == expected
    assert group.backlog.overdue == sum(age > target for age in ages)
    assert group.backlog.oldest == max(ages)


@pytest.mark.parametrize(
    ("age", "name"),
    [
        (0, "0-5m"),
        (5 * MINUTE_MS - 1, "0-5m"),
        (5 * MINUTE_MS, "5-15m"),
        (15 * MINUTE_MS, "15-60m"),
        (HOUR_MS, "1-6h"),
        (6 * HOUR_MS, "6-24h"),
        (DAY_MS - 1, "6-24h"),
        (DAY_MS, "24h+"),
        (-MINUTE_MS, "0-5m"),
    ],
)
def test_age_limits(age: int, name: str) -> None:
    """An age at a limit belongs to the older class; a write from a clock ahead of ours is new, not older than time."""
    body = json_of(*lives(one=age))
    assert [name for name, count in body["pending_by_age"].items() if count] == [name]
    assert body["oldest_pending_seconds"] == max(0, age) / 1000


@pytest.mark.parametrize(("age", "missed"), [(900_000, 0), (900_001, 1)])
def test_deadline(age: int, missed: int) -> None:
    """A pending copy is missed once its deadline has passed, and problems are reported from then on."""
    result = summed(*lives(one=age))
    assert (result.to_json()["groups"][0]["rpo"]["missed"], result.problems) == (missed, bool(missed))


def test_rpo() -> None:
    """Within, missed and unknown are told by what became of each copy; what could not be missed does not count."""
    events: list[Event] = [user_write(version_id=f"v{number}") for number in range(9)]
    events += [
        replica(version_id="v0", at=AT + 900_000),
        replica(version_id="v1", at=AT + 900_001),
        failed(version_id="v2"),
        failed(version_id="v3", at=AT + 1),
        replica(version_id="v3"),
        failed(version_id="v4"),
        answered("replica", REPLICA, version_id="v4"),
        answered("replica", REPLICA, version_id="v5"),
        deleted(version_id="v6"),
        answered("not-eligible", version_id="v7"),
    ]  # and v8 is overdue
    events += lives(pending=60_000)
    assert json_of(*events)["rpo"] == {"target_seconds": 900, "within": 1, "missed": 5, "unknown": 1, "share": 0.1667}


def test_counters() -> None:
    """A group tells how many copies there are, how large, and what became of them."""
    events: list[Event] = [
        *[user_write(version_id=name, size=10) for name in ("1", "2", "3", "4", "5")],
        replica(version_id="1"),
        failed(version_id="2"),
        failed(version_id="3", reason="AssumeRoleNotPermitted"),
        deleted(version_id="4"),
    ]
    body = json_of(*events)
    assert {name: body[name] for name in list(body) if name not in {"lag_seconds", "rpo", "pending_by_age"}} == {
        "source": SOURCE,
        "destination": REPLICA,
        "rule_id": f"to-{REPLICA}",
        "objects": 5,
        "bytes": 50,
        "completed": 1,
        "failed": 2,
        "failed_by_reason": {"AssumeRoleNotPermitted": 1, "DstKmsKeyNotFound": 1},
        "source_deleted": 1,
        "not_eligible": 0,
        "pending": 1,
        "pending_bytes": 10,
        "oldest_pending_seconds": 3600.0,
        "expired": 0,
    }
    assert body["lag_seconds"] == {name: pytest.approx(10, rel=0.01) for name in ("p50", "p90", "p99", "max")}


def test_nothing_is_invented() -> None:
    """Without a completed copy there is no quantile, without a deadline no share, without a backlog no oldest."""
    body = json_of(user_write(), deleted())
    assert (body["lag_seconds"], "oldest_pending_seconds" in body) == ({}, False)
    assert body["rpo"] == {"target_seconds": 900, "within": 0, "missed": 0, "unknown": 0}
    assert summed().to_json() == {"as_of": "2026-11-22T08:00:00.000Z", "groups": []}


def test_groups() -> None:
    """Figures are summed by pair, by source or by destination."""
    two = Topology([config(rule(), rule(AUDIT)), config(rule(AUDIT), bucket="returns")])
    events = (
        user_write(),
        user_write("returns", version_id="2"),
        replica(AUDIT),
        failed(AUDIT, source="returns", version_id="2"),
    )

    def counted(by: str) -> dict[tuple[str | None, str | None], tuple[int, int, int]]:
        groups = summed(*events, topology=two, by=by).groups
        return {
            (group.source, group.destination): (group.puts.objects, group.puts.failed, group.backlog.overdue)
            for group in groups
        }

    assert counted("pair") == {(SOURCE, AUDIT): (1, 0, 0), (SOURCE, REPLICA): (1, 0, 1), ("returns", AUDIT): (1, 1, 0)}
    assert counted("source") == {(SOURCE, None): (2, 0, 1), ("returns", None): (1, 1, 0)}
    assert counted("destination") == {(None, AUDIT): (2, 1, 0), (None, REPLICA): (1, 0, 1)}
    by_source = summed(*events, topology=two, by="source").to_json()["groups"][0]
    assert ("destination" in by_source, "rule_id" in by_source) == (False, False)


def test_delete_markers_apart() -> None:
    """Delete markers, which no service level covers, are counted beside the objects and not in their RPO."""
    events = (
        user_write(version_id="m", delete_marker=True),
        user_write(version_id="late", delete_marker=True),
        replica(version_id="late", delete_marker=True, at=AT + 1_000_000),
        *lives(new=60_000),
    )
    body = json_of(*events, topology=MARKERS)
    assert (body["objects"], body["pending"], body["pending_by_age"]["0-5m"]) == (1, 1, 1)
    assert (body["rpo"]["missed"], body["oldest_pending_seconds"], body["lag_seconds"]) == (0, 60.0, {})
    markers = body["delete_markers"]
    assert (markers["objects"], markers["pending"], markers["overdue"], markers["completed"]) == (2, 1, 1, 1)


def test_expired_is_missed_and_a_problem() -> None:
    """A pending copy that retention gave up counts as missed for good."""
    clock = Clock()
    store = MemoryStore(clock=clock)
    store.apply(batch_of(user_write()))
    clock.now += 14 * DAY_MS
    store.purge()
    result = figures(store, Window(None, None, clock.now))
    assert (result.problems, result.groups[0].puts.pending) == (True, 0)
    assert result.to_json()["groups"][0]["rpo"] == {
        "target_seconds": 900,
        "within": 0,
        "missed": 1,
        "unknown": 0,
        "share": 0.0,
    }


@pytest.mark.parametrize(
    ("events", "problems"),
    [
        ((user_write(), replica()), False),
        ((user_write(), failed()), True),
        ((user_write(), failed(), replica()), False),
        ((user_write(), deleted()), False),
        ((user_write(delete_marker=True),), True),
    ],
)
def test_problems(events: tuple[Event, ...], problems: bool) -> None:  # noqa: FBT001 - an expected value
    """What is failed or overdue now is a problem, of a delete marker too; what was repaired is none any more."""
    assert summed(*events, topology=MARKERS).problems is problems


def test_window() -> None:
    """A window is widened to whole five minutes, says so, and leaves out what was written outside it."""
    events = [user_write(version_id=f"v{slot}", at=AT + slot * SLOT_MS + 7) for slot in range(5)]
    result = summed(*events, since=AT + SLOT_MS + 9, until=AT + 3 * SLOT_MS + 1)
    assert [group.puts.objects for group in result.groups] == [3]
    assert result.to_json()["since"] == "2026-11-22T07:05:00.000Z"
    assert result.to_json()["until"] == "2026-11-22T07:20:00.000Z"
    assert result.groups[0].backlog.oldest == NOW - AT - SLOT_MS - 7


def test_other_targets() -> None:
    """Another target than 15 minutes is honoured, also one that is no whole second."""
    events = (user_write(), replica())
    assert json_of(*events, target_ms=5_000)["rpo"]["missed"] == 1
    assert json_of(*events, target_ms=20_000)["rpo"]["within"] == 1
    assert json_of(*events, target_ms=20_500)["rpo"]["target_seconds"] == 20.5


def test_both_destinations() -> None:
    """Each destination has its own figures."""
    groups = summed(user_write(), replica(AUDIT), topology=TWO_DESTINATIONS).groups
    assert [(group.destination, group.puts.completed, group.puts.pending) for group in groups] == [
        (AUDIT, 1, 0),
        (REPLICA, 0, 1),
    ]
