"""The alarms of a deployed hub, and what comes to its topic, in periods of five minutes that pass when a test says so.

One period is one tick of every schedule: canaries, if there are some, then what is in the queue, what to ask S3, and
the watch. Then the
alarms as they are deployed (DescribeAlarms: thresholds from the stack's parameters, those that set-up made included)
are evaluated by :mod:`tests.alarms.evaluator`, as the emulator's own evaluation is not CloudWatch's. What they see:

* of ``CRRMonitor`` and ``AWS/Lambda`` what was really put into the sandbox's CloudWatch during the period;
* of ``AWS/SQS`` the number of messages that the queue has, and as their age the time, in periods, since it was empty;
* nothing of ``AWS/SNS``, ``AWS/Firehose`` and the iterator's age, which the sandbox does not have.

A change of state is made with SetAlarmState, so that the alarm's own actions bring the message to the topic.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from tests.alarms.evaluator import Alarm, Evaluator
from tests.e2e.system import HOME, HUB, WAIT_SECONDS, System

if TYPE_CHECKING:
    from collections.abc import Callable

PERIOD = 300
"""Seconds, of every schedule and alarm; an alarm with longer periods is evaluated in these, which is stricter."""

SCHEDULES = ("CanaryOnSchedule", "ProcessSchedule", "ReconcileOnSchedule", "WatchSchedule")
OF_ALARM = "alarm"
"""An added dimension: each alarm has samples of its own, as they are already its statistic."""

COMBINE: dict[str, Callable[[list[float]], float]] = {"Sum": sum, "SampleCount": sum, "Minimum": min}


@dataclass
class News:
    """What came to the topic: notices as (subject, text), and alarms by name with their state and description."""

    notices: list[tuple[str, str]] = field(default_factory=list)
    alarms: list[tuple[str, str]] = field(default_factory=list)
    descriptions: dict[str, str] = field(default_factory=dict)

    @property
    def subjects(self) -> list[str]:
        """Of the notices, without how all of them begin, sorted."""
        return sorted(subject.removeprefix("CRR Monitor: ") for subject, _ in self.notices)


class Inbox:
    """A queue that is subscribed to the topic of notifications."""

    def __init__(self, system: System) -> None:
        self._sqs = system.sandbox.client("sqs", HUB, HOME)
        self._url = self._sqs.create_queue(QueueName="inbox")["QueueUrl"]
        attributes = self._sqs.get_queue_attributes(QueueUrl=self._url, AttributeNames=["QueueArn"])["Attributes"]
        allowed = {
            "Effect": "Allow",
            "Principal": {"Service": "sns.amazonaws.com"},
            "Action": "sqs:SendMessage",
            "Resource": attributes["QueueArn"],
        }
        policy = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
        self._sqs.set_queue_attributes(QueueUrl=self._url, Attributes={"Policy": policy})
        topic = system.hub.outputs["NotificationTopicArn"]
        system.sandbox.client("sns", HUB, HOME).subscribe(
            TopicArn=topic, Protocol="sqs", Endpoint=attributes["QueueArn"]
        )

    def take(self) -> list[dict[str, Any]]:
        """Everything that came, taken out."""
        found = []
        while more := self._sqs.receive_message(QueueUrl=self._url, MaxNumberOfMessages=10).get("Messages"):
            for each in more:
                found.append(json.loads(each["Body"]))
                self._sqs.delete_message(QueueUrl=self._url, ReceiptHandle=each["ReceiptHandle"])
        return found


class Alarms:
    """The alarms of a hub, by the name in the template, or of the bucket; see the module."""

    def __init__(self, system: System) -> None:
        self.system = system
        self._cloudwatch = system.sandbox.client("cloudwatch", HUB, HOME)
        self._sqs = system.sandbox.client("sqs", HUB, HOME)
        self._inbox = Inbox(system)
        resources = system.stacks(HUB, HOME).resources(system.hub)
        self._physical = {each.logical_id: each.physical_id for each in resources}
        names = {physical: logical for logical, physical in self._physical.items()}
        pages = self._cloudwatch.get_paginator("describe_alarms").paginate()
        deployed = [each for page in pages for each in page["MetricAlarms"]]
        self.names = {
            names.get(each["AlarmName"]) or each["AlarmName"].rpartition("-failed-")[2]: each["AlarmName"]
            for each in deployed
        }
        logical = {physical: name for name, physical in self.names.items()}
        self._evaluator = Evaluator([_alarm(logical[each["AlarmName"]], each) for each in deployed])
        self._at = 0
        self._empty_at: dict[str, int] = {}
        self._last = datetime.now(UTC)

    @property
    def on(self) -> set[str]:
        """The alarms that are in ALARM."""
        return self._evaluator.on

    def pass_period(self) -> News:
        """Five minutes: every schedule that is enabled fires, the alarms are evaluated; gives what was told."""
        sandbox = self.system.sandbox
        sandbox.settle(WAIT_SECONDS, functions=True)
        for rule in [self._physical[name] for name in SCHEDULES if name in self._physical]:
            if sandbox.client("events", HUB, HOME).describe_rule(Name=rule)["State"] == "ENABLED":
                sandbox.run_rule(HUB, HOME, rule)
                sandbox.settle(WAIT_SECONDS, functions=True)
        self._collect()
        self._at += PERIOD
        before = len(self._evaluator.changes)
        self._evaluator.evaluate(self._at)
        for _, name, state in self._evaluator.changes[before:]:
            self._cloudwatch.set_alarm_state(AlarmName=self.names[name], StateValue=state, StateReason="evaluated")
        return self._news()

    def _news(self) -> News:
        news, logical = News(), {physical: name for name, physical in self.names.items()}
        for message in self._inbox.take():
            subject = message.get("Subject") or ""
            if subject.startswith("CRR Monitor:"):
                news.notices.append((subject, message["Message"]))
                continue
            told = json.loads(message["Message"])
            name = logical[told["AlarmName"]]
            news.alarms.append((name, told["NewStateValue"]))
            news.descriptions[name] = told["AlarmDescription"]
        return news

    def _collect(self) -> None:
        """What happened since the last time, as samples of the period."""
        begin, self._last = self._last, datetime.now(UTC)
        for alarm in self._evaluator.alarms:
            value = self._queue(alarm) if alarm.namespace == "AWS/SQS" else self._statistic(alarm, begin)
            if value is not None:
                self._evaluator.series.put(
                    alarm.key, self._at, value, int(value) if alarm.statistic == "SampleCount" else 1
                )

    def _statistic(self, alarm: Alarm, begin: datetime) -> float | None:
        """One value of the whole time; two where midnight is in it."""
        names = [{"Name": name, "Value": value} for name, value in alarm.names if name != OF_ALARM]
        metric = {"Namespace": alarm.namespace, "MetricName": alarm.metric, "Dimensions": names}
        query = {"Id": "m", "MetricStat": {"Metric": metric, "Period": 86_400, "Stat": alarm.statistic}}
        until = self._last + timedelta(milliseconds=1)
        (found,) = self._cloudwatch.get_metric_data(MetricDataQueries=[query], StartTime=begin, EndTime=until)[
            "MetricDataResults"
        ]
        return COMBINE.get(alarm.statistic, max)(found["Values"]) if found["Values"] else None

    def _queue(self, alarm: Alarm) -> float:
        name = dict(alarm.names)["QueueName"]
        counted = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        url = self._sqs.get_queue_url(QueueName=name)["QueueUrl"]
        attributes = self._sqs.get_queue_attributes(QueueUrl=url, AttributeNames=counted)["Attributes"]
        visible, all_ = int(attributes[counted[0]]), sum(int(attributes[each]) for each in counted)
        if alarm.metric == "ApproximateNumberOfMessagesVisible":
            return visible
        if not all_:
            self._empty_at[name] = self._at + PERIOD
        return self._at + PERIOD - self._empty_at.get(name, 0)


def _alarm(name: str, deployed: dict[str, Any]) -> Alarm:
    periods = int(deployed["EvaluationPeriods"])
    return Alarm(
        name,
        deployed["Namespace"],
        deployed["MetricName"],
        (*((each["Name"], each["Value"]) for each in deployed.get("Dimensions", [])), (OF_ALARM, name)),
        deployed.get("ExtendedStatistic") or deployed["Statistic"],
        PERIOD,
        periods,
        int(deployed.get("DatapointsToAlarm") or periods),
        float(deployed["Threshold"]),
        deployed["ComparisonOperator"],
        deployed["TreatMissingData"],
    )
