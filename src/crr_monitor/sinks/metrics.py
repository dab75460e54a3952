"""Every metric, declared once: what it means, its unit, its dimensions, and its name in CloudWatch and OpenMetrics.

Dashboards and alarms may only use what stands here; a test compares them. The names without a comment about AWS are in
the namespace :data:`NAMESPACE`. The names and dimensions of ``ReplicationObjects``, ``ReplicationSpeed`` and
``FailedReplications`` are those that dashboards of the original solution ask for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from msgspec import Struct

if TYPE_CHECKING:
    from crr_monitor.sinks.words import Detail

NAMESPACE = "CRRMonitor"
"""Unless the stack names another one, as a second hub in an account and Region has to."""

SOURCE_BUCKET = "SourceBucket"
DEST_BUCKET = "DestBucket"
ACCOUNT = "Account"
KIND = "Kind"

Kind: TypeAlias = Literal["events", "values", "gauge"]
"""``events``: how many there were since the last time, to be summed. ``values``: one value per copy, of which
percentiles are taken. ``gauge``: how it is now; its maximum or last value counts."""

Unit: TypeAlias = Literal["Count", "Bytes", "Seconds", "Kilobits/Second", "Percent"]

PAIR = (SOURCE_BUCKET, DEST_BUCKET)
TOTAL: tuple[str, ...] = ()


class Metric(Struct, frozen=True):
    """One metric.

    ``totals`` are the sets of dimensions that it is always published with, ``per_pair`` those that it has with
    ``MetricsDetail`` ``PerPair`` besides. ``name`` is empty where it is not published to CloudWatch, ``open_name`` and
    ``labels`` where it is not in the exposition; ``open_unit`` is what a value is multiplied by there.
    """

    name: str
    unit: Unit
    kind: Kind
    meaning: str
    totals: tuple[tuple[str, ...], ...] = (TOTAL,)
    per_pair: tuple[tuple[str, ...], ...] = ()
    open_name: str = ""
    labels: tuple[str, ...] = ()

    def dimensions(self, detail: Detail) -> tuple[tuple[str, ...], ...]:
        """The sets of dimensions with which it is published."""
        return self.totals + (self.per_pair if detail == "PerPair" else ())


_PAIR_LABELS = ("source", "destination")

# What happened to copies ----------------------------------------------------------------------------------------------

REPLICATION_OBJECTS = Metric(
    "ReplicationObjects",
    "Count",
    "events",
    "Copies that arrived at their destination.",
    per_pair=(PAIR,),
    open_name="crr_monitor_replicated_objects",
    labels=_PAIR_LABELS,
)
REPLICATION_BYTES = Metric(
    "ReplicationBytes",
    "Bytes",
    "events",
    "Bytes of the copies that arrived.",
    per_pair=(PAIR,),
)
OBJECTS = Metric(
    "",
    "Count",
    "events",
    "Copies that came to be expected: one for each object version and destination.",
    open_name="crr_monitor_objects",
    labels=_PAIR_LABELS,
)
OBJECT_BYTES = Metric(
    "",
    "Bytes",
    "events",
    "Bytes of the copies that came to be expected.",
    open_name="crr_monitor_object_bytes",
    labels=_PAIR_LABELS,
)
REPLICATION_SPEED = Metric(
    "ReplicationSpeed",
    "Kilobits/Second",
    "values",
    "Size of a copy divided by its lag; copies without bytes or without a lag have none.",
    per_pair=(PAIR,),
)
REPLICATION_LAG = Metric(
    "ReplicationLag",
    "Seconds",
    "values",
    "From the write at the source until the copy was there, within 1 %, for each copy that had not failed before.",
    per_pair=(PAIR,),
    open_name="crr_monitor_replication_lag_seconds",
    labels=_PAIR_LABELS,
)
FAILED_REPLICATIONS = Metric(
    "FailedReplications",
    "Count",
    "events",
    "Copies that failed.",
    totals=(TOTAL, (SOURCE_BUCKET,)),
    open_name="crr_monitor_failed_replications",
    labels=(*_PAIR_LABELS, "reason"),
)

# How it is now --------------------------------------------------------------------------------------------------------

FAILED_OBJECTS = Metric(
    "FailedObjects",
    "Count",
    "gauge",
    "Copies that are failed now: not repaired, and not older than what is kept of unsettled records. Those that no "
    "retry repairs count for a day.",
    totals=(TOTAL, (SOURCE_BUCKET,)),
    open_name="crr_monitor_failed_objects",
    labels=(*_PAIR_LABELS, "reason"),
)
PENDING_OBJECTS = Metric(
    "PendingObjects",
    "Count",
    "gauge",
    "Copies that are expected and not there yet. It is published at each look, also as 0.",
    per_pair=(PAIR,),
    open_name="crr_monitor_pending_objects",
    labels=_PAIR_LABELS,
)
PENDING_BYTES = Metric(
    "PendingBytes",
    "Bytes",
    "gauge",
    "Bytes of the copies that are expected and not there yet.",
    per_pair=(PAIR,),
    open_name="crr_monitor_pending_bytes",
    labels=_PAIR_LABELS,
)
OLDEST_PENDING_AGE = Metric(
    "OldestPendingAge",
    "Seconds",
    "gauge",
    "How long ago the oldest of the versions was written of which a copy is pending; 0 where none is. CloudWatch's "
    "total is without the pairs about which S3 gives no answer, of which CouldNotAsk tells.",
    per_pair=(PAIR,),
    open_name="crr_monitor_oldest_pending_seconds",
    labels=_PAIR_LABELS,
)
BACKLOG_GROWTH = Metric(
    "BacklogGrowth",
    "Count",
    "gauge",
    "By how many copies that are pending for more than five minutes the backlog grew in the last half hour, where it "
    "grew from each look to the next; else 0.",
    open_name="crr_monitor_backlog_growth_objects",
)
RPO_SHARE = Metric(
    "RPOShare",
    "Percent",
    "gauge",
    "Of the copies written in the last hour whose deadline has passed or which are there, those that were in time.",
    per_pair=(PAIR,),
    open_name="crr_monitor_rpo_share_ratio",
    labels=_PAIR_LABELS,
)

# The monitor itself ---------------------------------------------------------------------------------------------------

EVENTS = Metric(
    "Events",
    "Count",
    "events",
    "Records within messages by kind: taken, and ignored as they tell nothing of replication.",
    totals=((KIND,),),
    open_name="crr_monitor_events",
    labels=("kind",),
)
MALFORMED = Metric(
    "Malformed",
    "Count",
    "events",
    "Messages, or records within them, that could not be understood.",
    open_name="crr_monitor_malformed",
)
NEWEST_EVENT_AGE = Metric(
    "NewestEventAge",
    "Seconds",
    "gauge",
    "How long ago, to five minutes, the newest write or replica was that an account's events told of.",
    totals=((ACCOUNT,),),
    open_name="crr_monitor_newest_event_age_seconds",
    labels=("account",),
)
COULD_NOT_ASK = Metric(
    "CouldNotAsk",
    "Count",
    "gauge",
    "Overdue versions about which S3 gave no answer in one round: a permission is missing, or the account cannot be"
    " reached. Where more is overdue than one round asks about, there are more.",
    open_name="crr_monitor_could_not_ask_objects",
)
THROTTLES = Metric(
    "Throttles",
    "Count",
    "gauge",
    "Of the versions about which S3 gave no answer, those where it asked to slow down.",
    open_name="crr_monitor_throttled_objects",
)
UNDELIVERABLE_EVENTS = Metric(
    "UndeliverableEvents",
    "Count",
    "gauge",
    "Events that rules and topics could not deliver, waiting in their Regions' dead-letter queues; those of agents as "
    "set-up found them in its last hourly run.",
)
CANARY_AGE = Metric(
    "CanaryAge",
    "Seconds",
    "gauge",
    "How long ago the canary was written that arrived last, of the pair where that is longest.",
    open_name="crr_monitor_canary_age_seconds",
)
CANARY_LAG = Metric(
    "CanaryLag",
    "Seconds",
    "values",
    "From a canary's write at the source until its copy was there, for each canary that arrived.",
    per_pair=(PAIR,),
    open_name="crr_monitor_canary_lag_seconds",
    labels=_PAIR_LABELS,
)
UNSENT_NOTIFICATIONS = Metric(
    "UnsentNotifications",
    "Count",
    "gauge",
    "Notifications that could not be sent at the last try; they are tried again at the next look.",
    open_name="crr_monitor_unsent_notifications",
)
QUEUE_DEPTH = Metric(
    "",
    "Count",
    "gauge",
    "Messages that wait to be processed. Of the AWS system, SQS publishes it itself.",
    open_name="crr_monitor_queue_depth",
    labels=("queue",),
)
QUEUE_AGE = Metric(
    "",
    "Seconds",
    "gauge",
    "How long the oldest message has been waiting. Of the AWS system, SQS publishes it itself.",
    open_name="crr_monitor_queue_age_seconds",
    labels=("queue",),
)
HTTP_REQUESTS = Metric(
    "",
    "Count",
    "events",
    "Requests that sent messages to the embedded monitor over HTTP (POST /events), by the answer's status code.",
    open_name="crr_monitor_http_requests",
    labels=("code",),
)

ALL: tuple[Metric, ...] = tuple(each for each in list(globals().values()) if isinstance(each, Metric))
BY_NAME: dict[str, Metric] = {metric.name: metric for metric in ALL if metric.name}
BY_OPEN_NAME: dict[str, Metric] = {metric.open_name: metric for metric in ALL if metric.open_name}

AWS_METRICS: dict[tuple[str, str], tuple[str, ...]] = {
    ("AWS/SQS", "ApproximateNumberOfMessagesVisible"): ("QueueName",),
    ("AWS/SQS", "ApproximateAgeOfOldestMessage"): ("QueueName",),
    ("AWS/Lambda", "Errors"): ("FunctionName",),
    ("AWS/Lambda", "Throttles"): ("FunctionName",),
    ("AWS/Lambda", "IteratorAge"): ("FunctionName",),
    ("AWS/SNS", "NumberOfNotificationsFailed"): ("TopicName",),
    ("AWS/Firehose", "DeliveryToS3.DataFreshness"): ("DeliveryStreamName",),
    ("AWS/Firehose", "DeliveryToS3.Success"): ("DeliveryStreamName",),
    ("AWS/Firehose", "FailedConversion.Records"): ("DeliveryStreamName",),
}
"""Metrics that AWS publishes and that alarms and the dashboard use: namespace and name, with their dimensions."""
