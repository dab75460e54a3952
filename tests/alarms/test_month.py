"""Quiet and busy days make no alarm; each trouble makes its own, in time, and none when it is over."""

from __future__ import annotations

import pytest

from crr_monitor.core.times import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS
from tests.alarms.evaluator import Alarm, Evaluator, from_template
from tests.alarms.world import BEGIN, Trouble, World

pytestmark = pytest.mark.no_cover

MONDAY = BEGIN + DAY_MS
NOON = MONDAY + 12 * HOUR_MS
LOOK = 5 * MINUTE_MS


@pytest.mark.parametrize(
    ("days", "busy"),
    [(3, True), (3, False), (30, True)],
    ids=["three days", "three quiet days", "a month"],
)
def test_no_alarm(days: int, busy: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """Traffic by day, little at night and on Sundays, lost events and single failed runs: no alarm, and no notice."""
    world = World(busy=busy)
    world.run(BEGIN, BEGIN + days * DAY_MS)
    assert [change for change in world.alarms.changes if change[2] == "ALARM"] == []
    assert world.box.notices == []
    unknown = {name for name, state in world.alarms.states.items() if state != "OK"}
    assert unknown <= {"orders", "theirs"}  # of a bucket nothing is published before its first failure


def test_thresholds_matter() -> None:
    """With thresholds below what is usual the same traffic does alarm: so that there is none says something."""
    world = World(parameters={"OverdueSeconds": 20, "RpoSeconds": 20})
    world.run(MONDAY, MONDAY + DAY_MS)
    assert {name for _, name, state in world.alarms.changes if state == "ALARM"} == {"OldestPendingAlarm", "LagAlarm"}


def alarmed(kind: str, hours: float, also: str = "") -> tuple[World, dict[str, tuple[float, float]]]:
    """A world with a trouble at noon: which alarms came, minutes after its begin, and went, minutes after its end."""
    begin, end = NOON, NOON + int(hours * HOUR_MS)
    other = Trouble(also, begin, begin + HOUR_MS) if also else None
    world = World(trouble=Trouble(kind, begin, end), also=other)
    world.run(begin - HOUR_MS, end + 3 * HOUR_MS)
    came = {name: at for at, name, state in reversed(world.alarms.changes) if state == "ALARM"}
    went = {name: at for at, name, state in world.alarms.changes if state == "OK"}
    assert world.alarms.on == set()
    return world, {
        name: ((at - begin / SECOND_MS) / 60, (went[name] - end / SECOND_MS) / 60) for name, at in came.items()
    }


@pytest.mark.parametrize(
    ("kind", "hours", "names", "threshold"),
    [
        ("denied", 2, {"FailedAlarm", "orders"}, 0),
        ("outage", 2, {"OldestPendingAlarm"}, 30),
        ("slow", 1.5, {"LagAlarm"}, 20 + 15),
        ("agent", 1, {"CouldNotAskAlarm"}, 5),
        ("queue", 1, {"QueueAgeAlarm"}, 15),
        ("cut-off", 2, {"CanaryLateAlarm"}, 30),
        ("undelivered", 1, {"UndeliverableAlarm"}, 0),
        ("watch", 2, {"WatchSilentAlarm"}, 25),
    ],
)
def test_each_trouble_has_its_alarm(kind: str, hours: float, names: set[str], threshold: int) -> None:
    """The alarms of a trouble come within its threshold and two looks, no other does, and they go in half an hour."""
    _, found = alarmed(kind, hours)
    assert found.keys() == names
    for came, went in found.values():
        assert 0 < came <= threshold + 2 * 5 + 5
        assert went <= 30


def test_processing_broken() -> None:
    """While nothing is processed, the function's errors and the queue's age tell; both are that trouble's."""
    _, found = alarmed("process", 1)
    assert found.keys() == {"ProcessFailsAlarm", "QueueAgeAlarm"}


def test_burst() -> None:
    """Far more writes than usual that all arrive soon are no trouble."""
    assert alarmed("burst", 1)[1] == {}


def test_unreachable_topic() -> None:
    """While the topic refuses, the watch function fails; what could not be sent is sent when the topic is back."""
    world, found = alarmed("denied", 2, also="topic")
    assert found.keys() == {"FailedAlarm", "orders", "WatchFailsAlarm"}
    assert [notice.what for notice in world.box.notices] == ["new", "still", "over"]
    assert 0 <= world.box.notices[0].at - (NOON + HOUR_MS) <= LOOK


def test_unreachable_receiver() -> None:
    """Where a receiver of the topic does not get what is sent, that has an alarm of its own."""
    assert alarmed("denied", 2, also="receiver")[1].keys() == {"FailedAlarm", "orders", "NotificationsFailAlarm"}


@pytest.mark.parametrize("alarm", from_template(["orders"]), ids=lambda alarm: alarm.name)
def test_every_alarm_comes_and_goes(alarm: Alarm) -> None:
    """Each alarm comes when its metric is bad for an hour, goes when it is good again, and stays off without data."""
    evaluator = Evaluator([alarm])
    good, bad = alarm.threshold, alarm.threshold + (1 if alarm.comparison.startswith("Greater") else -1)
    if alarm.statistic == "SampleCount":  # bad is that nothing comes
        good, bad = 1.0, None  # type: ignore[assignment]
    last = max(3_600, alarm.period * (alarm.periods + 1))
    for at in range(0, 4 * last, 60):
        if at:  # the stack's first look is before there are alarms
            evaluator.evaluate(at)
        value = bad if last <= at < 2 * last else good
        if value is not None:
            evaluator.series.put(alarm.key, at, value)
    assert [state for _, _, state in evaluator.changes if state != "INSUFFICIENT_DATA"] == ["OK", "ALARM", "OK"]
    silent = Evaluator([alarm])
    for at in range(0, 2 * last, 60):
        silent.evaluate(at)
    assert silent.on == ({alarm.name} if alarm.missing == "breaching" else set())


def test_notices_of_a_denied_pair() -> None:
    """Two hours of refused copies are told at once, hourly, and when it is over, of that pair only."""
    world, _ = alarmed("denied", 2)
    assert [notice.what for notice in world.box.notices] == ["new", "still", "over"]
    assert {(notice.trouble.source, notice.trouble.destination) for notice in world.box.notices} == {
        ("orders", "orders-dr")
    }
    first, *_, last = world.box.notices
    assert first.at - NOON <= 2 * LOOK
    assert last.at - (NOON + 2 * HOUR_MS) <= 4 * LOOK
