"""One alarm per source bucket: made, changed, removed with the rules, and never those of others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from crr_monitor.aws.bucket_alarms import AlarmPlan, converge, look, plan, prefix, sources, wanted
from crr_monitor.core.topology import BucketConfig, Rule
from crr_monitor.sinks.metrics import NAMESPACE
from tests.aws.making import config, sessions, stack

if TYPE_CHECKING:
    from crr_monitor.sandbox import Sandbox

pytestmark = pytest.mark.aws

STACK = stack()
TOPIC = "arn:aws:sns:us-east-1:111122223333:told"
CONFIGS = [config("orders", "orders-dr"), config("theirs", "orders-dr")]


def names(sandbox: Sandbox) -> list[str]:
    """The buckets that have an alarm."""
    return sorted(name.removeprefix(prefix(STACK)) for name in look(sessions(sandbox), STACK))


def test_in_step(sandbox: Sandbox) -> None:
    """Sources get an alarm each, once; one that has no rules any more loses it; without any rules all are gone."""
    done, problems = converge(sessions(sandbox), STACK, CONFIGS, TOPIC, NAMESPACE)
    assert (len(done), problems, names(sandbox)) == (2, [], ["orders", "theirs"])
    assert converge(sessions(sandbox), STACK, CONFIGS, TOPIC, NAMESPACE) == ([], [])
    done, problems = converge(sessions(sandbox), STACK, CONFIGS[:1], TOPIC, NAMESPACE)
    assert done == [f"remove alarm {prefix(STACK)}theirs: its bucket is no source any more"]
    assert (problems, names(sandbox)) == ([], ["orders"])
    converge(sessions(sandbox), STACK, [], TOPIC, NAMESPACE)
    assert names(sandbox) == []


def test_changed(sandbox: Sandbox) -> None:
    """An alarm that somebody changed, or that has another topic, is put right."""
    converge(sessions(sandbox), STACK, CONFIGS[:1], TOPIC, NAMESPACE)
    client = sessions(sandbox).client("cloudwatch", STACK.region)
    (alarm,) = wanted(STACK, ["orders"], TOPIC, NAMESPACE).values()
    client.put_metric_alarm(**{**alarm, "Threshold": 1_000.0})
    done, _ = converge(sessions(sandbox), STACK, CONFIGS[:1], TOPIC, NAMESPACE)
    assert len(done) == 1
    assert look(sessions(sandbox), STACK)[alarm["AlarmName"]]["Threshold"] == 0
    done, _ = converge(sessions(sandbox), STACK, CONFIGS[:1], TOPIC + "-2", NAMESPACE)
    assert len(done) == 1


def test_others_stay(sandbox: Sandbox) -> None:
    """Alarms of another stack, and of people, are not seen."""
    other = stack(token="ffffffffffff", hub_token="ffffffffffff")  # noqa: S106 - parts of names
    converge(sessions(sandbox), other, CONFIGS, TOPIC, NAMESPACE)
    converge(sessions(sandbox), STACK, [], TOPIC, NAMESPACE)
    assert len(look(sessions(sandbox), other)) == 2


def test_not_asked(sandbox: Sandbox) -> None:
    """Where alarms could not be asked for, or made, that is a problem with its reason, and nothing is removed."""
    converge(sessions(sandbox), STACK, CONFIGS, TOPIC, NAMESPACE)
    match = {"service": "monitoring", "operation": "DescribeAlarms"}
    fault = sandbox.fault("error", code="AccessDenied", match=match)
    done, (problem,) = converge(sessions(sandbox), STACK, [], TOPIC, NAMESPACE)
    assert (done, problem.split(": ")[1]) == ([], "cloudwatch:DescribeAlarms")
    sandbox.end_fault(fault)
    match = {"service": "monitoring", "operation": "PutMetricAlarm"}
    sandbox.fault("error", code="LimitExceeded", match=match, times=1)
    _, (problem,) = converge(sessions(sandbox), STACK, [*CONFIGS, config("new", "dr")], TOPIC, NAMESPACE)
    assert problem.startswith(f"could not make alarm {prefix(STACK)}new: cloudwatch:PutMetricAlarm: LimitExceeded")
    assert names(sandbox) == ["orders", "theirs"]


def test_only_sources() -> None:
    """Buckets whose rules are all disabled, and places only, are no sources."""
    disabled = BucketConfig("off", rules=(Rule("r", "dr", enabled=False),))
    assert sources([*CONFIGS, disabled, BucketConfig("orders-dr", place_only=True)]) == ["orders", "theirs"]


def test_plan_is_pure() -> None:
    """What is there as it should be needs nothing."""
    alarms = wanted(STACK, ["orders"], TOPIC, NAMESPACE)
    assert plan(alarms, alarms) == AlarmPlan()
    assert plan({}, alarms) == AlarmPlan(tuple(alarms.values()))
    assert plan(alarms, {}) == AlarmPlan((), tuple(alarms))
