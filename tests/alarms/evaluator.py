"""The template's alarms, evaluated as CloudWatch does.

CloudWatch User Guide, "Alarm evaluation" and "Configuring how CloudWatch alarms treat missing data":

* A data point is the statistic of all samples of one whole period; without samples it is missing.
* The evaluation range is longer than the evaluation periods (here by two). Where it has as many real data points as
  there are evaluation periods, the newest of these decide, and missing ones do not matter.
* Else missing ones are filled in as the alarm says, as few as needed, and every real data point counts.
* ``ignore``: where it depends on what is missing, the state stays.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from crr_monitor import templates
from crr_monitor.aws import bucket_alarms
from crr_monitor.sinks import metrics
from tests.aws.making import stack
from tools import permissions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from crr_monitor.sinks.points import Point

EXTRA_PERIODS = 2
State = Literal["OK", "ALARM", "INSUFFICIENT_DATA"]
Names = tuple[tuple[str, str], ...]
Key = tuple[str, str, Names]

_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "GreaterThanThreshold": lambda value, threshold: value > threshold,
    "GreaterThanOrEqualToThreshold": lambda value, threshold: value >= threshold,
    "LessThanThreshold": lambda value, threshold: value < threshold,
    "LessThanOrEqualToThreshold": lambda value, threshold: value <= threshold,
}


@dataclass(frozen=True)
class Alarm:
    """What an alarm says; dimensions that name a resource of the template have its logical name as their value."""

    name: str
    namespace: str
    metric: str
    names: Names
    statistic: str
    period: int
    periods: int
    to_alarm: int
    threshold: float
    comparison: str
    missing: str

    @property
    def key(self) -> Key:
        """Its metric."""
        return self.namespace, self.metric, self.names


class Series:
    """All samples of all metrics: time in seconds, value, count."""

    def __init__(self) -> None:
        self._samples: dict[Key, list[tuple[float, float, int]]] = {}

    def put(self, key: Key, at: float, value: float, count: int = 1) -> None:
        """One sample, not older than those before."""
        self._samples.setdefault(key, []).append((at, value, count))

    def publish(self, points: Iterable[Point], at: float) -> None:
        """Points of our own metrics."""
        for point in points:
            for value, count in point.values.items():
                self.put(("CRRMonitor", point.metric.name, point.names), at, value, count)

    def data_point(self, alarm: Alarm, begin: float) -> float | None:
        """The statistic of one period, or ``None`` where it is missing."""
        samples = self._samples.get(alarm.key, [])
        first = bisect_left(samples, (begin, -math.inf, 0))
        last = bisect_left(samples, (begin + alarm.period, -math.inf, 0))
        return statistic(alarm.statistic, [(value, count) for _, value, count in samples[first:last]])


def statistic(name: str, samples: list[tuple[float, int]]) -> float | None:
    """A statistic of values with their counts."""
    if not samples:
        return None
    if name.startswith("p"):
        return _percentile(float(name[1:]) / 100, samples)
    if name == "Sum":
        return sum(value * count for value, count in samples)
    if name == "SampleCount":
        return sum(count for _, count in samples)
    if name == "Average":
        return sum(value * count for value, count in samples) / sum(count for _, count in samples)
    return (max if name == "Maximum" else min)(value for value, _ in samples)


def _percentile(share: float, samples: list[tuple[float, int]]) -> float:
    rank = max(1, math.ceil(share * sum(count for _, count in samples)))
    for value, count in sorted(samples):
        rank -= count
        if rank <= 0:
            return value
    raise AssertionError(samples)


@dataclass
class Evaluator:
    """The states of some alarms, and every change of them: time, name, state."""

    alarms: list[Alarm]
    series: Series = field(default_factory=Series)
    states: dict[str, State] = field(default_factory=dict)
    changes: list[tuple[float, str, State]] = field(default_factory=list)

    def evaluate(self, at: float) -> None:
        """Evaluate every alarm of which a period ends at this time (seconds, in whole minutes)."""
        for alarm in self.alarms:
            if at % alarm.period == 0:
                old = self.states.get(alarm.name, "INSUFFICIENT_DATA")
                new = self._state(alarm, at, old)
                if new != old:
                    self.changes.append((at, alarm.name, new))
                self.states[alarm.name] = new

    def _state(self, alarm: Alarm, at: float, old: State) -> State:
        reach = alarm.periods + EXTRA_PERIODS
        newest_first = [self.series.data_point(alarm, at - number * alarm.period) for number in range(1, reach + 1)]
        return decide(alarm, newest_first, old)

    @property
    def on(self) -> set[str]:
        """The alarms that are in ALARM."""
        return {name for name, state in self.states.items() if state == "ALARM"}


def decide(alarm: Alarm, newest_first: list[float | None], old: State) -> State:
    """The state that follows from the data points of the evaluation range."""
    breaches = _COMPARE[alarm.comparison]
    real = [breaches(value, alarm.threshold) for value in newest_first if value is not None]
    if len(real) >= alarm.periods:
        return "ALARM" if sum(real[: alarm.periods]) >= alarm.to_alarm else "OK"
    filled = alarm.periods - len(real)
    least, most = sum(real), sum(real) + filled
    if alarm.missing == "breaching":
        least = most
    elif alarm.missing == "notBreaching":
        most = least
    if least >= alarm.to_alarm:
        return "ALARM"
    if most < alarm.to_alarm:
        return "OK"
    if alarm.missing == "ignore":
        return old
    return "ALARM" if any(real) else "INSUFFICIENT_DATA"


# From the template ----------------------------------------------------------------------------------------------------


def from_template(sources: Iterable[str], parameters: Mapping[str, float] | None = None) -> list[Alarm]:
    """The alarms of the hub's template, thresholds from defaults and ``parameters``, and those of source buckets."""
    document = permissions.load(templates.text(templates.HUB))
    values = {name: each.get("Default") for name, each in document["Parameters"].items()} | dict(parameters or {})
    found = [
        _alarm(name, each["Properties"], values)
        for name, each in document["Resources"].items()
        if each["Type"] == "AWS::CloudWatch::Alarm"
    ]
    made = bucket_alarms.wanted(stack(), sources, "topic", metrics.NAMESPACE)
    return found + [_alarm(name.rpartition("-failed-")[2], each, values) for name, each in made.items()]


def _alarm(name: str, properties: Mapping[str, Any], values: Mapping[str, Any]) -> Alarm:
    threshold = properties["Threshold"]
    periods = int(properties["EvaluationPeriods"])
    return Alarm(
        name,
        metrics.NAMESPACE if isinstance(properties["Namespace"], dict) else properties["Namespace"],
        properties["MetricName"],
        tuple((each["Name"], _name(each["Value"])) for each in properties.get("Dimensions", [])),
        properties.get("Statistic") or properties["ExtendedStatistic"],
        int(properties["Period"]),
        periods,
        int(properties.get("DatapointsToAlarm", periods)),
        float(values[threshold["Ref"]] if isinstance(threshold, dict) else threshold),
        properties["ComparisonOperator"],
        properties["TreatMissingData"],
    )


def _name(value: Any) -> str:  # noqa: ANN401 - any form of a dimension's value
    """The logical name of the resource that a dimension names."""
    if isinstance(value, str):
        return value
    if "Ref" in value:
        return str(value["Ref"])
    if "Fn::GetAtt" in value:
        return str(value["Fn::GetAtt"][0])
    return _name(value["Fn::If"][2])
