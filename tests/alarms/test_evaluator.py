"""The evaluator does what CloudWatch's documentation says in its tables of missing data."""

from __future__ import annotations

import pytest

from tests.alarms.evaluator import Alarm, Evaluator, State, decide, from_template, statistic


def alarm(missing: str = "notBreaching", *, periods: int = 3, to_alarm: int = 3) -> Alarm:
    """An alarm on values above 0."""
    return Alarm("a", "N", "m", (), "Maximum", 60, periods, to_alarm, 0.0, "GreaterThanThreshold", missing)


def points(text: str) -> list[float | None]:
    """``0 - X``, oldest first as the documentation writes it: good, missing, breaching."""
    meaning = {"0": 0.0, "-": None, "X": 1.0}
    return [meaning[each] for each in reversed(text.split())]


TREATMENTS = ("missing", "ignore", "breaching", "notBreaching")
KEEP = "keep"


@pytest.mark.parametrize(
    ("text", "states"),
    [
        ("0 - X - X", ("OK", "OK", "OK", "OK")),
        ("0 - - - -", ("OK", "OK", "OK", "OK")),
        ("- - - - -", ("INSUFFICIENT_DATA", KEEP, "ALARM", "OK")),
        ("0 X X - X", ("ALARM", "ALARM", "ALARM", "ALARM")),
        ("- - X - -", ("ALARM", KEEP, "ALARM", "OK")),
    ],
)
@pytest.mark.parametrize("old", ["OK", "ALARM"])
def test_three_of_three(text: str, states: tuple[str, ...], old: State) -> None:
    """Three of three data points: each way to treat missing ones gives the documented state."""
    found = [decide(alarm(missing), points(text), old) for missing in TREATMENTS]
    assert found == [old if state == KEEP else state for state in states]


@pytest.mark.parametrize(
    ("text", "states"),
    [
        ("0 - X - X", ("ALARM", "ALARM", "ALARM")),
        ("0 0 X 0 X", ("ALARM", "ALARM", "ALARM")),
        ("0 0 X 0 -", ("OK", "OK", "OK")),
        ("0 - X - -", (KEEP, "ALARM", "OK")),
        ("- - - - 0", (KEEP, "ALARM", "OK")),
        ("- - X - X", ("ALARM", "ALARM", "ALARM")),
    ],
)
@pytest.mark.parametrize("old", ["OK", "ALARM"])
def test_two_of_three(text: str, states: tuple[str, ...], old: State) -> None:
    """Two of three data points, for the treatments that our alarms use."""
    found = [decide(alarm(missing, to_alarm=2), points(text), old) for missing in TREATMENTS[1:]]
    assert found == [old if state == KEEP else state for state in states]


def test_statistics() -> None:
    """Counts weigh values; nothing is missing, not 0."""
    samples = [(1.0, 98), (50.0, 1), (99.0, 1)]
    assert [
        statistic(name, samples)
        for name in ("p50", "p99", "p100", "Sum", "SampleCount", "Maximum", "Minimum", "Average")
    ] == [
        1.0,
        50.0,
        99.0,
        247.0,
        100,
        99.0,
        1.0,
        2.47,
    ]
    assert statistic("Sum", []) is None


def test_over_time() -> None:
    """A breach becomes an alarm at the end of its period, and ends when newer data points are good."""
    one = alarm("ignore", periods=1, to_alarm=1)
    evaluator = Evaluator([one])
    for minute in range(10):
        if minute != 4:
            evaluator.series.put(one.key, minute * 60, float(minute in {2, 3}))
        evaluator.evaluate((minute + 1) * 60)
    assert evaluator.changes == [(60, "a", "OK"), (180, "a", "ALARM"), (360, "a", "OK")]


def test_template() -> None:
    """Every alarm of the template can be evaluated, and thresholds come from its parameters."""
    found = {each.name: each for each in from_template(["orders"], {"OverdueSeconds": 60})}
    assert found["OldestPendingAlarm"].threshold == 60
    assert found["LagAlarm"].threshold == 900
    assert found["orders"].names == (("SourceBucket", "orders"),)
    assert found["QueueAgeAlarm"].names == (("QueueName", "Queue"),)
    assert found["NotificationsFailAlarm"].names == (("TopicName", "NotificationTopic"),)
