"""One alarm for each source bucket, in step with the replication rules: made by set-up, as no template can know.

Alarms are found again by their names, which have the stack's token in them; nothing else is ever touched. A source of
which it is not known whether it still has rules is among those that were learned, so its alarm stays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from msgspec import Struct

from crr_monitor.aws.plan_model import STACK_TAG
from crr_monitor.aws.sessions import AwsError, call, pages

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from crr_monitor.aws.plan_model import Stack
    from crr_monitor.aws.sessions import Sessions
    from crr_monitor.core.topology import BucketConfig

Alarm: TypeAlias = "dict[str, Any]"
"""An alarm as PutMetricAlarm takes it and DescribeAlarms gives it."""

DELETED_AT_ONCE = 100
"""CloudWatch API Reference, ``DeleteAlarms``."""

_COMPARED = (
    "AlarmDescription",
    "Namespace",
    "MetricName",
    "Dimensions",
    "Statistic",
    "Period",
    "EvaluationPeriods",
    "Threshold",
    "ComparisonOperator",
    "TreatMissingData",
    "AlarmActions",
    "OKActions",
)


class AlarmPlan(Struct, frozen=True):
    """What has to be done: alarms to make or change, and names of those that nobody needs any more."""

    put: tuple[Alarm, ...] = ()
    delete: tuple[str, ...] = ()


def prefix(stack: Stack) -> str:
    """How the names of a stack's alarms begin; the bucket follows."""
    return f"{stack.prefix}failed-"


def sources(configs: Iterable[BucketConfig]) -> list[str]:
    """The buckets that have an enabled rule, sorted."""
    return sorted({config.bucket for config in configs if any(rule.enabled for rule in config.rules)})


def wanted(stack: Stack, buckets: Iterable[str], topic_arn: str, namespace: str) -> dict[str, Alarm]:
    """The alarms of some source buckets, by name; ``namespace`` is that of the metrics."""
    return {prefix(stack) + bucket: _alarm(stack, bucket, topic_arn, namespace) for bucket in buckets}


def _alarm(stack: Stack, bucket: str, topic_arn: str, namespace: str) -> Alarm:
    return {
        "AlarmName": prefix(stack) + bucket,
        "AlarmDescription": (
            f"Copies of bucket {bucket} have failed, and S3 does not try them again by itself. The notification to the"
            f" same topic says what to mend; then `crr-monitor retry --source {bucket}` repairs them."
        ),
        "Namespace": namespace,
        "MetricName": "FailedObjects",
        "Dimensions": [{"Name": "SourceBucket", "Value": bucket}],
        "Statistic": "Maximum",
        "Period": 300,
        "EvaluationPeriods": 1,
        "Threshold": 0.0,
        "ComparisonOperator": "GreaterThanThreshold",
        # Nobody looked: it stays as it was. That a bucket's failures are over is published as 0.
        "TreatMissingData": "ignore",
        "AlarmActions": [topic_arn],
        "OKActions": [topic_arn],
    }


def look(sessions: Sessions, stack: Stack) -> dict[str, Alarm]:
    """The alarms that this stack's set-up has made, by name.

    Raises:
        AwsError: it could not be asked.
    """
    client = sessions.client("cloudwatch", stack.region)
    request = {"AlarmNamePrefix": prefix(stack), "AlarmTypes": ["MetricAlarm"]}
    answers = pages("cloudwatch:DescribeAlarms", client, "describe_alarms", **request)
    return {alarm["AlarmName"]: alarm for answer in answers for alarm in answer.get("MetricAlarms", [])}


def plan(existing: Mapping[str, Alarm], wanted: Mapping[str, Alarm]) -> AlarmPlan:
    """What is missing or differs, and what is there without a need."""
    put = [
        alarm
        for name, alarm in wanted.items()
        if name not in existing or any(existing[name].get(field) != alarm[field] for field in _COMPARED)
    ]
    return AlarmPlan(tuple(put), tuple(sorted(existing.keys() - wanted.keys())))


def execute(sessions: Sessions, stack: Stack, plan: AlarmPlan) -> tuple[list[str], list[str]]:
    """Do it: what was done, and what was not, each with its reason."""
    client = sessions.client("cloudwatch", stack.region)
    done: list[str] = []
    problems: list[str] = []
    for alarm in plan.put:
        tags = [{"Key": STACK_TAG, "Value": stack.stack_id}]
        try:
            call("cloudwatch:PutMetricAlarm", client.put_metric_alarm, **alarm, Tags=tags)
        except AwsError as error:
            problems.append(f"could not make alarm {alarm['AlarmName']}: {error}")
        else:
            done.append(f"make alarm {alarm['AlarmName']}: it is missing or differs")
    for start in range(0, len(plan.delete), DELETED_AT_ONCE):
        names = list(plan.delete[start : start + DELETED_AT_ONCE])
        try:
            call("cloudwatch:DeleteAlarms", client.delete_alarms, AlarmNames=names)
        except AwsError as error:
            problems.append(f"could not remove alarms {', '.join(names)}: {error}")
        else:
            done += [f"remove alarm {name}: its bucket is no source any more" for name in names]
    return done, problems


def converge(
    sessions: Sessions, stack: Stack, configs: Iterable[BucketConfig], topic_arn: str, namespace: str
) -> tuple[list[str], list[str]]:
    """Keep the alarms in step with the rules; without any rules they all go. What was done, and problems."""
    try:
        existing = look(sessions, stack)
    except AwsError as error:
        return [], [f"the alarms of source buckets could not be asked for, so they stay as they are: {error}"]
    return execute(sessions, stack, plan(existing, wanted(stack, sources(configs), topic_arn, namespace)))
