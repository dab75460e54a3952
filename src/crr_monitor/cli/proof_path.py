"""The steps of ``crr-monitor selftest`` that try a deployed hub: an object goes its way, and an alarm is set."""

from __future__ import annotations

import json
import secrets
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from crr_monitor.aws.canary import CanaryBuckets
from crr_monitor.aws.record import Record as SetupRecord
from crr_monitor.aws.sessions import AwsError, Sessions, call, pages
from crr_monitor.aws.waiting import undelivered
from crr_monitor.cli.discover import stack_settings
from crr_monitor.cli.proof import BrokenError, Deployment
from crr_monitor.core.canary import plan
from crr_monitor.core.model import Status
from crr_monitor.sinks.metrics import NAMESPACE
from crr_monitor.stores.base import system_clock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from crr_monitor.cli.access import Access
    from crr_monitor.core.canary import Canary
    from crr_monitor.core.model import Copy, Record

PUBLISHED = timedelta(minutes=30)
RECEIVE_SECONDS = 2
ALARM = "DeadLettersAlarm"
"""The alarm that is set for a moment; the way of its message is that of all."""
STATE_REASON = "crr-monitor selftest: only a test, nothing is wrong"
NUMBER = "ApproximateNumberOfMessages"


class _Owners(Struct, frozen=True):
    """Clients for the pair's buckets: the hub's credentials in its own account, everywhere else those for buckets."""

    hub: Sessions
    owner: Sessions

    def client(self, service: str, region: str, account: str | None = None) -> Any:  # noqa: ANN401 - boto3's client
        """The client that acts on a bucket of an account; no role is assumed for it."""
        return (self.hub if account == self.hub.account else self.owner).client(service, region)


class _Made(Struct):
    """What has to be removed again."""

    version_id: str = ""
    queue_url: str = ""
    subscription_arn: str = ""
    alarm: str = ""


class Proof(Deployment):
    """One run over one pair; ``owner`` reaches the pair's buckets. Later steps use what earlier ones found."""

    def __init__(self, access: Access, owner: Access, stack_name: str, pair: tuple[str, str], timeout: float) -> None:
        super().__init__(access, stack_name, timeout)
        self._buckets = CanaryBuckets(_Owners(access.sessions, owner.sessions), access.region)
        self._source, self._destination = pair
        self._made = _Made()
        self._canary: Canary
        self._counted_before: dict[str, str] = {}

    # The way of an object ---------------------------------------------------------------------------------------------

    def write(self) -> str:
        """A tiny object is written into the source, where a rule takes it."""
        token = self._output("HubToken")
        pair = f"{self._source}:{self._destination}"
        canaries, problems = plan(self._store.topology(), [pair], token, system_clock())
        if problems:
            raise BrokenError("; ".join(problems), "crr-monitor topology --discover shows the rules; name another pair")
        (self._canary,) = canaries
        for place in (self._canary.source, *self._canary.destinations):
            if self._buckets.keeps(place):
                text = f"bucket {place.bucket} keeps all objects (Object Lock), so nothing is written that has to go"
                raise BrokenError(text, "name another pair")
        self._counted_before = self._positions()
        self._made.version_id = self._buckets.write(self._canary.source, self._canary.key)
        return f"wrote s3://{self._source}/{self._canary.key}, version {self._made.version_id}"

    def record(self) -> str:
        """The event comes through topic, queue and process function, and becomes a record."""
        began = time.monotonic()
        found = self._await(self._find, self._process)
        if found is None:
            raise BrokenError(*self._lost())
        return f"its event became a record after {time.monotonic() - began:.0f} s"

    def _find(self) -> Record | None:
        found = self._store.versions(self._source, self._canary.key, self._made.version_id)
        return next((each for each in found if each.source_bucket == self._source), None)

    def _process(self) -> None:
        """What the schedule does, so that nobody has to wait for it; in ProcessingMode Continuous Lambda does it."""
        if self._stack.parameters.get("ProcessingMode", "Scheduled") == "Scheduled":
            self._invoke("ProcessFunctionName", "process")

    def _lost(self) -> tuple[str, str]:
        """Where the event got lost, as far as can be seen."""
        waited = f"no record within {self._timeout:.0f} s"
        waiting = int(self._queue(self._output("QueueUrl"), NUMBER)[NUMBER])
        if waiting:
            return (
                f"{waited}, and {waiting} events wait in the queue",
                "see why the process function does not take them",
            )
        settings = stack_settings(self._access, self._stack_name)
        if settings is not None:
            sessions = self._access.sessions
            stuck = {
                region: count
                for region, count in undelivered(sessions, settings[0], SetupRecord(sessions, settings[0]))[0].items()
                if count
            }
            if stuck:
                places = ", ".join(f"{count} in {region}" for region, count in stuck.items())
                cure = f"the messages' attributes in queue {settings[0].undelivered} say why"
                return f"{waited}: events could not be delivered by rules or topics, {places}", cure
        source = self._output("EventSource")
        cure = "where a step above is broken, mend that; of buckets in another account look at its agent's stack"
        return f"{waited}, and nothing waits in the queue: {source} has told nothing of the object", cure

    def replica(self) -> str:
        """The replica's event comes, too, and the copy is completed."""
        copy: Copy | None = self._await(self._settled, self._process)
        if copy is None:
            text = f"the copy in {self._destination} is still pending after {self._timeout:.0f} s"
            raise BrokenError(
                text,
                "see whether the replica is there: then its event was lost, at that bucket's end; else wait for S3",
            )
        if copy.status is not Status.COMPLETED:
            text = f"the copy in {self._destination} is {copy.status.name}: {copy.failure_reason or 'no reason told'}"
            raise BrokenError(
                text, "crr-monitor list --status FAILED tells more; mend the rule, role, policy or key it names"
            )
        lag = "an unknown lag" if copy.lag_ms is None else f"a lag of {copy.lag_ms / 1_000:g} s"
        return f"arrived in {self._destination}, with {lag}"

    def _settled(self) -> Copy | None:
        record = self._find()
        copies = [] if record is None else [each for each in record.copies if each.bucket == self._destination]
        return next((each for each in copies if each.status not in {Status.PENDING, Status.UNCERTAIN}), None)

    def counted(self) -> str:
        """The settle function has read the record's change; a canary itself is in no statistics."""
        moved = self._await(lambda: self._positions() != self._counted_before or None, lambda: None)
        if moved is None:
            text = f"the settle function has not read the record's change within {self._timeout:.0f} s"
            cure = f"look at its errors ({self._output('SettleFunctionName')}) and at its event source mapping"
            raise BrokenError(text, cure)
        return "the settle function has read the record's change"

    def _positions(self) -> dict[str, str]:
        """How far each shard of the change stream was counted."""
        listed = pages(
            "dynamodb:Query",
            self._access.client("dynamodb"),
            "query",
            TableName=self._output("StatisticsTableName"),
            KeyConditionExpression="#kind = :kind",
            ExpressionAttributeNames={"#kind": "kind"},
            ExpressionAttributeValues={":kind": {"S": "shard"}},
            ConsistentRead=True,
        )
        return {item["name"]["S"]: item["sequence"]["S"] for page in listed for item in page["Items"]}

    # Telling ----------------------------------------------------------------------------------------------------------

    def metrics(self) -> str:
        """The watch function looks, and what it publishes is in CloudWatch."""
        self._invoke("WatchFunctionName", "watch")

        def look() -> float | None:
            namespace = self._stack.parameters.get("MetricsNamespace") or NAMESPACE
            found = self._values(namespace, "PendingObjects", "Maximum", PUBLISHED)
            return max(found.values(), default=None)

        if self._await(look, lambda: None) is None:
            text = f"metric PendingObjects is not in CloudWatch within {self._timeout:.0f} s"
            raise BrokenError(text, f"look at the log of {self._output('WatchFunctionName')}")
        return "the watch function looked, and its metrics are in CloudWatch"

    def message(self) -> str:
        """An alarm that is set tells the topic, and what is subscribed to it hears of it, also that it is over."""
        names = {each.logical_id: each.physical_id for each in self._of_kind("AWS::CloudWatch::Alarm")}
        alarm, client = names[ALARM], self._access.client("cloudwatch")
        (known,) = call("cloudwatch:DescribeAlarms", client.describe_alarms, AlarmNames=[alarm])["MetricAlarms"]
        if known["StateValue"] == "ALARM":
            text = f"{ALARM} is in alarm, so it cannot be tried"
            raise BrokenError(text, "mend what it says first")
        url = self._listen()
        self._made.alarm = alarm
        for state in ("ALARM", "OK"):
            request = {"AlarmName": alarm, "StateValue": state, "StateReason": STATE_REASON}
            call("cloudwatch:SetAlarmState", client.set_alarm_state, **request)
            if self._await(lambda state=state: self._heard(url, alarm, state), lambda: None) is None:  # type: ignore[misc]
                topic = self._output("NotificationTopicArn")
                text = f"{ALARM} was set to {state}, and topic {topic} delivered nothing within {self._timeout:.0f} s"
                cure = "its policy has to let cloudwatch.amazonaws.com publish; so has its key, where it is encrypted"
                raise BrokenError(text, cure)
        self._made.alarm = ""
        return f"{ALARM} was set, and its message and the one that it is over came through the topic"

    def _listen(self) -> str:
        """A queue of our own behind the topic of notifications."""
        sqs, sns = self._access.client("sqs"), self._access.client("sns")
        topic = self._output("NotificationTopicArn")
        name = f"crr-monitor-{self._output('HubToken')}-selftest-{secrets.token_hex(4)}"
        self._made.queue_url = url = call("sqs:CreateQueue", sqs.create_queue, QueueName=name)["QueueUrl"]
        arn = self._queue_arn(url)
        statement = {
            "Effect": "Allow",
            "Principal": {"Service": "sns.amazonaws.com"},
            "Action": "sqs:SendMessage",
            "Resource": arn,
            "Condition": {"ArnEquals": {"aws:SourceArn": topic}},
        }
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        call("sqs:SetQueueAttributes", sqs.set_queue_attributes, QueueUrl=url, Attributes={"Policy": policy})
        request = {"TopicArn": topic, "Protocol": "sqs", "Endpoint": arn, "ReturnSubscriptionArn": True}
        self._made.subscription_arn = call("sns:Subscribe", sns.subscribe, **request)["SubscriptionArn"]
        return str(url)

    def _heard(self, url: str, alarm: str, state: str) -> bool | None:
        """Whether the alarm's message about this state is in the queue; others are let go."""
        client = self._access.client("sqs")
        request = {"QueueUrl": url, "MaxNumberOfMessages": 10, "WaitTimeSeconds": RECEIVE_SECONDS}
        for each in call("sqs:ReceiveMessage", client.receive_message, **request).get("Messages", []):
            said = _document(_document(each["Body"]).get("Message", ""))
            if (said.get("AlarmName"), said.get("NewStateValue")) == (alarm, state):
                return True
        return None

    # Clearing up ------------------------------------------------------------------------------------------------------

    def clean(self) -> tuple[list[str], list[str]]:
        """Remove everything that this run made: what was removed, and what is left, with the reason."""
        removed: list[str] = []
        left: list[str] = []
        for what, remove in self._removals():
            try:
                remove()
            except AwsError as error:
                left.append(f"{what} is left: {error}")
            else:
                removed.append(what)
        self._made = _Made()
        return removed, left

    def _removals(self) -> Iterator[tuple[str, Callable[[], object]]]:
        made = self._made
        if made.alarm:
            client, request = self._access.client("cloudwatch"), {"AlarmName": made.alarm, "StateValue": "OK"}
            yield (
                f"the state of {ALARM}",
                lambda: call("cloudwatch:SetAlarmState", client.set_alarm_state, **request, StateReason=STATE_REASON),
            )
        if made.subscription_arn:
            sns = self._access.client("sns")
            yield (
                "the subscription",
                lambda: call("sns:Unsubscribe", sns.unsubscribe, SubscriptionArn=made.subscription_arn),
            )
        if made.queue_url:
            sqs = self._access.client("sqs")
            yield "the queue behind it", lambda: call("sqs:DeleteQueue", sqs.delete_queue, QueueUrl=made.queue_url)
        if made.version_id:
            for place in (self._canary.source, *self._canary.destinations):
                yield (
                    f"the object in {place.bucket}",
                    lambda place=place: self._buckets.remove(place, self._canary.key, [made.version_id]),  # type: ignore[misc]
                )


def _document(text: str) -> dict[str, Any]:
    """JSON's object, or an empty one: others may publish anything to the topic."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
