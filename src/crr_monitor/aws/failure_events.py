"""What a source bucket needs so that S3 tells why replication failed: metrics on its rules, a topic, a notification.

User Guide, "Receiving replication failure events with Amazon S3 Event Notifications": only rules with metrics send
them, S3 Replication Time Control is not needed, and the topic has to be in the bucket's Region. Both calls that change
a bucket replace a whole document, so each document is read, changed in the one place, compared with what is there at
that moment, and read again afterwards.
"""

from __future__ import annotations

import copy
import json
import re
from collections import Counter
from typing import TYPE_CHECKING, Any, NoReturn
from xml.etree import ElementTree as ET

from msgspec import Struct, field

from crr_monitor.aws import bucket_settings
from crr_monitor.aws.bucket_settings import OverlapError
from crr_monitor.aws.discovery import NO_CONFIGURATION
from crr_monitor.aws.sessions import AwsError, call, pages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from crr_monitor.aws.sessions import Sessions

TOPIC = "crr-monitor-failures"
"""The topic that is made in a Region where none is named."""

ENTRY_ID = "crr-monitor-failures"
ENABLED = {"Status": "Enabled"}
NO_TOPIC = frozenset({"NotFound", "NotFoundException", "ResourceNotFound"})

_HUB_TOPIC = re.compile(r"crr-monitor-[0-9a-f]{12}-events", re.ASCII)
"""The topic to which a hub's set-up lets buckets publish, where its source of events is S3Notifications."""

_LOST = "{bucket}: its {what} holds what this version of boto3 does not know and would lose: upgrade boto3"
_OLD_RULE = (
    "{bucket}: rule {rule} has no Filter, and rules of that first kind can have no metrics: give it a Filter, a "
    "Priority and DeleteMarkerReplication"
)


class Wanted(Struct, frozen=True):
    """One bucket's two documents as they are and as they have to be; equal where nothing is to be done.

    ``rules`` are those that get metrics.
    """

    bucket: str
    region: str
    topic_arn: str
    replication: dict[str, Any]
    replication_after: dict[str, Any]
    notification: dict[str, Any]
    notification_after: dict[str, Any]
    rules: tuple[str, ...] = ()


class Topic(Struct, frozen=True):
    """A topic: whether it is there, whether buckets may publish to it, and whether the queue is subscribed."""

    arn: str
    there: bool
    open: bool
    subscribed: bool

    @property
    def region(self) -> str:
        """Where it is."""
        return self.arn.split(":")[3]


class Look(Struct):
    """What was found and what it needs. ``problems`` are refusals: of a bucket with one, nothing is changed."""

    buckets: list[Wanted] = field(default_factory=list)
    topics: dict[str, Topic] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def with_metrics(bucket: str, current: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...], list[str]]:
    """A replication configuration with metrics on every enabled rule; the rules that it changes, and refusals.

    Nothing else changes. A threshold belongs to Replication Time Control, and is refused without it.
    """
    wanted = copy.deepcopy(dict(current))
    changed, problems = [], []
    for rule in wanted.get("Rules", []):
        destination = rule["Destination"]
        if rule.get("Status") != "Enabled" or destination.get("Metrics", {}).get("Status") == "Enabled":
            continue
        name = rule.get("ID", "(unnamed)")
        if "Filter" not in rule:
            problems.append(_OLD_RULE.format(bucket=bucket, rule=name))
        rule["Destination"] = {**destination, "Metrics": dict(ENABLED)}
        changed.append(name)
    return wanted, tuple(changed), problems


def with_entry(bucket: str, current: Mapping[str, Any], topic_arn: str) -> dict[str, Any]:
    """A notification configuration that sends replication's events to the topic; the same where it does already.

    Raises:
        OverlapError: another receiver gets some of them.
    """
    entry = {"Id": ENTRY_ID, "TopicArn": topic_arn, "Events": list(bucket_settings.REPLICATION)}
    topics = list(current.get("TopicConfigurations", []))
    if any(_covers(each, topic_arn) for each in topics):
        return dict(current)
    others = [each for each in topics if each.get("Id") != ENTRY_ID]
    bucket_settings.check_overlap(bucket, entry, {**current, "TopicConfigurations": others})
    return {**current, "TopicConfigurations": [*others, entry]}


def _covers(entry: Mapping[str, Any], topic_arn: str) -> bool:
    """Whether an entry does what is wanted; that of a hub's set-up does for what the rules replicate."""
    arn = str(entry.get("TopicArn", ""))
    if not set(bucket_settings.REPLICATION) <= set(entry["Events"]):
        return False
    return (arn == topic_arn and "Filter" not in entry) or bool(_HUB_TOPIC.fullmatch(arn.rpartition(":")[2]))


class _Raw:
    """A client's answers as they came, beside what the SDK made of them."""

    def __init__(self, client: Any) -> None:  # noqa: ANN401 - boto3's client
        self._body = b""
        self._client = client

    def _keep(self, response_dict: Mapping[str, Any], **_others: Any) -> None:  # noqa: ANN401 - botocore's own
        self._body = response_dict["body"]

    def read(self, method: str, bucket: str) -> tuple[dict[str, Any], bool]:
        """A document of a bucket, and whether the SDK has understood all of it."""
        events = self._client.meta.events
        events.register("before-parse.s3", self._keep)
        try:
            answer = call(f"s3:{method} of {bucket}", getattr(self._client, method), Bucket=bucket)
        finally:
            events.unregister("before-parse.s3", self._keep)
        told = {name: value for name, value in answer.items() if name != "ResponseMetadata"}
        return told, _leaves_of_xml(self._body) == Counter(_leaves(told))


def _leaves_of_xml(body: bytes) -> Counter[str]:
    texts = [node.text or "" for node in ET.fromstring(body).iter() if len(node) == 0]  # noqa: S314 - S3's answer
    return Counter(text for text in texts if text.strip())


def _leaves(value: object) -> Iterator[str]:
    """The values in a document, as XML writes them; what is empty says nothing."""
    if isinstance(value, dict):
        for part in value.values():
            yield from _leaves(part)
    elif isinstance(value, list):
        for part in value:
            yield from _leaves(part)
    elif isinstance(value, bool):
        yield str(value).lower()
    elif str(value).strip():
        yield str(value)


class FailureEvents:
    """Looks at buckets of the own account, and changes them."""

    def __init__(
        self,
        sessions: Sessions,
        partition: str,
        topic_of: Callable[[str], str] | None = None,
        queue_arn: str | None = None,
    ) -> None:
        """``topic_of`` names a Region's topic, used instead of one of our own; ``queue_arn`` is subscribed to it."""
        self._sessions = sessions
        self._partition = partition
        self._topic_of = topic_of
        self._queue_arn = queue_arn

    def _topic_arn(self, region: str) -> str:
        if self._topic_of is not None:
            return self._topic_of(region)
        return f"arn:{self._partition}:sns:{region}:{self._sessions.account}:{TOPIC}"

    def look(self, buckets: Mapping[str, str]) -> Look:
        """What these buckets (name -> Region) need; nothing is changed.

        Raises:
            AwsError: something could not be asked.
        """
        found = Look()
        for bucket, region in buckets.items():
            arn = self._topic_arn(region)
            if arn.split(":")[3:4] != [region]:
                found.problems.append(
                    f"{bucket}: is in {region}, and S3 publishes to topics of that Region only: {arn}"
                )
                continue
            wanted = self._wanted(bucket, region, arn, found.problems)
            if wanted is not None:
                found.buckets.append(wanted)
                found.topics.setdefault(arn, self._topic(arn))
        for topic in found.topics.values():
            if self._topic_of is not None and not topic.there:
                found.problems.append(f"there is no topic {topic.arn}: name another one, or leave it to be made")
            elif topic.there and not topic.open:
                statement = json.dumps(publish_statement(topic.arn, self._sessions.account))
                found.problems.append(f"topic {topic.arn} does not let S3 publish: its policy needs {statement}")
        return found

    def _wanted(self, bucket: str, region: str, topic_arn: str, problems: list[str]) -> Wanted | None:
        raw = _Raw(self._sessions.client("s3", region))
        try:
            told, whole = raw.read("get_bucket_replication", bucket)
        except AwsError as error:
            if error.code != NO_CONFIGURATION:
                raise
            problems.append(f"{bucket}: has no replication rules")
            return None
        replication = told["ReplicationConfiguration"]
        after, rules, refused = with_metrics(bucket, replication)
        if rules and not whole:
            refused.append(_LOST.format(bucket=bucket, what="replication configuration"))
        told, whole = raw.read("get_bucket_notification_configuration", bucket)
        notification = bucket_settings.configuration(told)
        try:
            notification_after = with_entry(bucket, notification, topic_arn)
        except OverlapError as error:
            refused.append(str(error))
            notification_after = notification
        if notification_after != notification and not whole:
            refused.append(_LOST.format(bucket=bucket, what="notification configuration"))
        problems += refused
        if refused:
            return None
        return Wanted(bucket, region, topic_arn, replication, after, notification, notification_after, rules)

    def _topic(self, arn: str) -> Topic:
        client = self._sessions.client("sns", arn.split(":")[3])
        try:
            told = call(f"sns:GetTopicAttributes of {arn}", client.get_topic_attributes, TopicArn=arn)["Attributes"]
        except AwsError as error:
            if error.code not in NO_TOPIC:
                raise
            return Topic(arn, there=False, open=False, subscribed=False)
        listed = pages("sns:ListSubscriptionsByTopic", client, "list_subscriptions_by_topic", TopicArn=arn)
        endpoints = {each["Endpoint"] for page in listed for each in page["Subscriptions"]}
        return Topic(
            arn, there=True, open=_lets_s3_in(told.get("Policy", "{}")), subscribed=self._queue_arn in endpoints
        )

    def needs_subscription(self, topic: Topic) -> bool:
        """Whether the named queue has still to be subscribed."""
        return self._queue_arn is not None and not topic.subscribed

    def make_topic(self, topic: Topic) -> None:
        """Make the topic if it is missing, and subscribe the queue if one was named.

        Raises:
            AwsError: AWS refused.
        """
        client = self._sessions.client("sns", topic.region)
        if not topic.there:
            statement = publish_statement(topic.arn, self._sessions.account)
            policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
            call(f"sns:CreateTopic {TOPIC}", client.create_topic, Name=TOPIC, Attributes={"Policy": policy})
        if self.needs_subscription(topic):
            request = {"TopicArn": topic.arn, "Protocol": "sqs", "Endpoint": self._queue_arn}
            attributes = {"RawMessageDelivery": "true"}
            call(f"sns:Subscribe to {topic.arn}", client.subscribe, Attributes=attributes, **request)

    def change(self, wanted: Wanted) -> None:
        """Change a bucket: first where its events go, then which there are.

        Raises:
            AwsError: AWS refused, or somebody has changed the bucket since it was looked at.
        """
        client = self._sessions.client("s3", wanted.region)
        raw = _Raw(client)
        bucket = wanted.bucket
        replication, _ = raw.read("get_bucket_replication", bucket)
        notification, _ = raw.read("get_bucket_notification_configuration", bucket)
        now = (replication["ReplicationConfiguration"], bucket_settings.configuration(notification))
        if not _same(now, (wanted.replication, wanted.notification)):
            _refuse(bucket, "somebody has changed its settings in the meantime: look at the plan again")
        if wanted.notification_after != wanted.notification:
            request = {"Bucket": bucket, "NotificationConfiguration": wanted.notification_after}
            method = client.put_bucket_notification_configuration
            call(f"s3:PutBucketNotification of {bucket}", method, **request)
        if wanted.replication_after != wanted.replication:
            request = {"Bucket": bucket, "ReplicationConfiguration": wanted.replication_after}
            call(f"s3:PutReplicationConfiguration of {bucket}", client.put_bucket_replication, **request)
            told, _ = raw.read("get_bucket_replication", bucket)
            if not _same(told["ReplicationConfiguration"], wanted.replication_after):
                _refuse(bucket, "what S3 has now is not what was put: compare it with the previous value")


def _refuse(bucket: str, text: str) -> NoReturn:
    operation = f"bucket {bucket}"
    raise AwsError(operation, "", text)


def _same(one: object, other: object) -> bool:
    return _canonical(one) == _canonical(other)


def _canonical(value: object) -> object:
    """S3 gives lists in an order of its own."""
    if isinstance(value, dict):
        return {name: _canonical(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return sorted((_canonical(part) for part in value), key=lambda part: json.dumps(part, sort_keys=True))
    return value


def publish_statement(topic_arn: str, account: str) -> dict[str, Any]:
    """What a topic's policy has to hold so that the account's buckets may publish to it."""
    return {
        "Sid": "Buckets",
        "Effect": "Allow",
        "Principal": {"Service": "s3.amazonaws.com"},
        "Action": "sns:Publish",
        "Resource": topic_arn,
        "Condition": {"StringEquals": {"aws:SourceAccount": account}},
    }


def queue_statement(topic_arn: str, queue_arn: str) -> dict[str, Any]:
    """What the queue's policy has to hold so that the topic may send to it."""
    return {
        "Sid": "FailureEvents",
        "Effect": "Allow",
        "Principal": {"Service": "sns.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": queue_arn,
        "Condition": {"ArnEquals": {"aws:SourceArn": topic_arn}},
    }


def _lets_s3_in(policy: str) -> bool:
    """Whether a statement names S3 at all; its conditions are the owner's affair, and S3 tries it with a test event."""
    found = json.loads(policy or "{}").get("Statement", [])
    for statement in [found] if isinstance(found, dict) else found:
        principal = statement.get("Principal")
        services = principal.get("Service", []) if isinstance(principal, dict) else []
        if statement.get("Effect") == "Allow" and "s3.amazonaws.com" in (
            [services] if isinstance(services, str) else services
        ):
            return True
    return False
