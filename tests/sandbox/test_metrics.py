"""What the sandbox's CloudWatch tells of functions; alarms are left to who evaluates them as CloudWatch does."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from tests.sandbox.making import EAST, HOME

if TYPE_CHECKING:
    from tests.sandbox.making import World

FAILS = "def handler(event, context):\n    raise ValueError(event)\n"


@pytest.mark.parametrize("kind", ["RequestResponse", "Event", "schedule"])
def test_errors_count_however_a_function_is_called(world: World, kind: str) -> None:
    """Directly, asynchronously and by a rule: each attempt is one invocation and, as it fails, one error."""
    functions, name = world.sandbox.client("lambda", HOME, EAST), f"fails-{kind}"
    arn = world.function(name, FAILS)
    functions.put_function_event_invoke_config(FunctionName=name, MaximumRetryAttempts=0)
    if kind == "schedule":
        events = world.sandbox.client("events", HOME, EAST)
        events.put_rule(Name=name, ScheduleExpression="rate(24 hours)")
        events.put_targets(Rule=name, Targets=[{"Id": "t", "Arn": arn}])
        world.sandbox.run_rule(HOME, EAST, name)
    else:
        functions.invoke(FunctionName=name, InvocationType=kind, Payload=json.dumps({}))
    world.sandbox.settle()
    counted = {}
    for metric in ("Invocations", "Errors", "Throttles"):
        found = world.sandbox.client("cloudwatch", HOME, EAST).get_metric_statistics(
            Namespace="AWS/Lambda",
            MetricName=metric,
            Dimensions=[{"Name": "FunctionName", "Value": name}],
            StartTime=datetime.now(UTC) - timedelta(hours=1),
            EndTime=datetime.now(UTC) + timedelta(hours=1),
            Period=86_400,
            Statistics=["Sum"],
        )["Datapoints"]
        counted[metric] = sum(each["Sum"] for each in found)
    assert counted == {"Invocations": 1, "Errors": 1, "Throttles": 0}


def test_alarms_change_when_they_are_told_to(world: World) -> None:
    """A value above the threshold changes nothing; SetAlarmState does, and its action brings the message."""
    cloudwatch, sns = (world.sandbox.client(service, HOME, EAST) for service in ("cloudwatch", "sns"))
    topic, queue = sns.create_topic(Name="alarms")["TopicArn"], world.queue()
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue)
    cloudwatch.put_metric_alarm(
        AlarmName="high",
        Namespace="N",
        MetricName="m",
        Statistic="Maximum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=0,
        ComparisonOperator="GreaterThanThreshold",
        AlarmActions=[topic],
    )
    cloudwatch.put_metric_data(Namespace="N", MetricData=[{"MetricName": "m", "Value": 1.0}])
    (alarm,) = cloudwatch.describe_alarms(AlarmNames=["high"])["MetricAlarms"]
    assert alarm["StateValue"] == "INSUFFICIENT_DATA"
    cloudwatch.set_alarm_state(AlarmName="high", StateValue="ALARM", StateReason="told")
    (body,) = world.bodies(queue)
    assert json.loads(body["Message"])["NewStateValue"] == "ALARM"
