"""The watch and settle functions with CloudWatch, SNS and DynamoDB over HTTP, against the sandbox."""

from __future__ import annotations

import json
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("boto3")

from crr_monitor.aws.record import REGIONS, Record
from crr_monitor.aws.sessions import Sessions
from crr_monitor.core.times import MINUTE_MS, format_time
from crr_monitor.lambdas import settle, watch
from crr_monitor.lambdas.coverage import interval_ms
from crr_monitor.lambdas.response import Answer
from crr_monitor.lambdas.settings import SettleSettings, WatchSettings, variables
from crr_monitor.lambdas.watch import WatchFailedError
from crr_monitor.sandbox import Sandbox
from crr_monitor.sinks.metrics import NAMESPACE
from crr_monitor.stores.base import system_clock
from crr_monitor.stores.dynamodb import DynamoStore
from crr_monitor.stores.dynamodb_tables import STATISTICS_SUFFIX, STATUS_SUFFIX, create_tables
from tests.aws.making import stack
from tests.factories import AT, SOURCE, batch_of, failed, replica, user_write
from tests.lambdas.making import FakeContext
from tests.stores.dynamodb_server import without_credentials, without_pauses

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.aws

ACCOUNT, REGION = "111122223333", "us-east-1"
TOKEN = "0123456789ab"  # noqa: S105 - a part of names
FUNCTION = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:watch"
_numbers = count(1)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """One for all tests, and no way to AWS."""
    with pytest.MonkeyPatch.context() as patch:
        without_credentials(patch)
        patch.setenv("AWS_ACCESS_KEY_ID", ACCOUNT)
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", REGION)
        without_pauses(patch)
        with Sandbox() as running:
            yield running


class Hub:
    """Tables, a topic with a queue behind it, and the function's runtime."""

    def __init__(self, sandbox: Sandbox, archive: str = "", metrics_namespace: str = NAMESPACE) -> None:
        self.sandbox = sandbox
        name = f"watched{next(_numbers)}"
        self.dynamodb = sandbox.client("dynamodb", ACCOUNT, REGION)
        create_tables(self.dynamodb, name)
        self.tables = name + STATUS_SUFFIX, name + STATISTICS_SUFFIX
        self.sns, self.sqs = (sandbox.client(service, ACCOUNT, REGION) for service in ("sns", "sqs"))
        self.topic = self.sns.create_topic(Name=name)["TopicArn"]
        self.inbox = self.sqs.create_queue(QueueName=name)["QueueUrl"]
        self.queue = self.sqs.create_queue(QueueName=f"{name}-events")["QueueUrl"]
        arn = self.sqs.get_queue_attributes(QueueUrl=self.inbox, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        self.sns.subscribe(TopicArn=self.topic, Protocol="sqs", Endpoint=arn, Attributes={"RawMessageDelivery": "true"})
        self.url = f"dynamodb://{self.tables[0]}?statistics={self.tables[1]}&endpoint={sandbox.endpoint}"
        self.settings = WatchSettings(
            store=self.url,
            token=TOKEN,
            metrics_detail="Totals",
            metrics_namespace=metrics_namespace,
            topic_arn=self.topic,
            overdue_seconds=1_800,
            rpo_seconds=900,
            pause_seconds=1,
            queue_url=self.queue,
            interval="rate(5 minutes)",
            canary_late_seconds=1_800,
            archive_place=archive,
            archive_key_arn="",
        )
        self.runtime = watch.make_runtime(self.settings, FUNCTION)
        self.store = DynamoStore(self.dynamodb, *self.tables)

    def messages(self) -> list[str]:
        """What came to the topic, taken out."""
        found = []
        while more := self.sqs.receive_message(QueueUrl=self.inbox, MaxNumberOfMessages=10).get("Messages"):
            for each in more:
                found.append(each["Body"])
                self.sqs.delete_message(QueueUrl=self.inbox, ReceiptHandle=each["ReceiptHandle"])
        return found

    def highest(self, name: str, **names: str) -> float | None:
        """The highest value of a metric in this hour, by any stack."""
        at = datetime.now(UTC)
        found = self.sandbox.client("cloudwatch", ACCOUNT, REGION).get_metric_statistics(
            Namespace=self.settings.metrics_namespace,
            MetricName=name,
            Dimensions=[{"Name": key, "Value": value} for key, value in names.items()],
            StartTime=at - timedelta(hours=1),
            EndTime=at + timedelta(hours=1),
            Period=7_200,
            Statistics=["Maximum"],
        )["Datapoints"]
        return max((each["Maximum"] for each in found), default=None)

    def changes(self) -> list[dict[str, Any]]:
        """The change stream, as Lambda hands it over."""
        client = self.sandbox.client("dynamodbstreams", ACCOUNT, REGION)
        arn = self.dynamodb.describe_table(TableName=self.tables[0])["Table"]["LatestStreamArn"]
        (shard,) = client.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]
        start = {"StreamArn": arn, "ShardId": shard["ShardId"], "ShardIteratorType": "TRIM_HORIZON"}
        found: list[dict[str, Any]] = client.get_records(
            ShardIterator=client.get_shard_iterator(**start)["ShardIterator"]
        )["Records"]
        return found


@pytest.fixture
def hub(sandbox: Sandbox) -> Iterator[Hub]:
    """New tables and a new topic; faults end with the test."""
    yield Hub(sandbox)
    sandbox.end_fault()


def test_failed_told_and_over(hub: Hub) -> None:
    """A failure is published and told with its cure, and when it is repaired, that is told."""
    now = system_clock()
    hub.store.apply(batch_of(user_write(at=now - MINUTE_MS, size=7), failed(at=now - 1_000)))
    done = watch.run(hub.runtime, now)
    assert done["sent"] == ["CRR Monitor: 1 failed, orders -> orders-dr (DstKmsKeyNotFound)"]
    (text,) = hub.messages()
    store = f"crr-monitor --store '{hub.url}&region={REGION}'"
    assert f"Repair, after the fix: {store} retry --source orders --reason DstKmsKeyNotFound" in text
    assert hub.highest("FailedObjects", SourceBucket=SOURCE) == 1
    hub.store.apply(batch_of(replica(at=now)))
    watch.run(hub.runtime, now + MINUTE_MS)
    assert watch.run(hub.runtime, now + 2 * MINUTE_MS)["sent"] == [
        "CRR Monitor: over: failed, orders -> orders-dr (DstKmsKeyNotFound)"
    ]
    assert [text.splitlines()[0].partition(" any more")[0] for text in hub.messages()] == [
        "No copy from orders to orders-dr is failed for this reason"
    ]


def test_many_are_counted_from_statistics(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where too many records are open, what was settled into statistics tells of them, also of the oldest."""
    monkeypatch.setattr("crr_monitor.sinks.now.FEW", 3)
    now = system_clock()
    events = [user_write(version_id=f"v{number}", at=now - 40 * MINUTE_MS, size=10) for number in range(5)]
    hub.store.apply(batch_of(*events))
    hub.store.settle("shard", hub.changes())
    done = watch.run(hub.runtime, now)
    assert done["sent"] == ["CRR Monitor: 5 overdue, orders -> orders-dr"]
    assert (hub.highest("PendingObjects") or 0) >= 5


def test_two_hubs_in_one_account(sandbox: Sandbox) -> None:
    """With a namespace of its own a second hub counts apart from the first."""
    second, now = Hub(sandbox, metrics_namespace="Second"), system_clock()
    second.store.apply(batch_of(*(user_write(version_id=f"v{number}", at=now - 1) for number in range(50))))
    watch.run(second.runtime, now)
    assert second.highest("PendingObjects") == 50
    assert (Hub(sandbox).highest("PendingObjects") or 0) < 50


def test_topic_is_gone(hub: Hub) -> None:
    """What could not be sent makes the function fail and is sent at the next look; figures are published even so."""
    now = system_clock()
    hub.store.apply(batch_of(user_write(at=now - 1), failed(at=now)))
    match = {"service": "sns", "operation": "Publish"}
    fault = hub.sandbox.fault("error", code="AuthorizationError", match=match)
    with pytest.raises(WatchFailedError, match="allow sns:Publish on this topic"):
        watch.run(hub.runtime, now)
    assert hub.highest("UnsentNotifications") == 1
    hub.sandbox.end_fault(fault)
    assert len(watch.run(hub.runtime, now + 1)["sent"]) == 1


def test_cloudwatch_refuses(hub: Hub) -> None:
    """People are told although CloudWatch refuses; the function fails with what is missing, and tells only once."""
    now = system_clock()
    hub.store.apply(batch_of(user_write(at=now - 1), failed(at=now)))
    match = {"service": "monitoring", "operation": "PutMetricData"}
    fault = hub.sandbox.fault("error", code="AccessDenied", match=match)
    with pytest.raises(WatchFailedError, match="allow cloudwatch:PutMetricData for this namespace"):
        watch.run(hub.runtime, now)
    assert len(hub.messages()) == 1
    hub.sandbox.end_fault(fault)
    assert watch.run(hub.runtime, now + 1)["sent"] == []


def test_table_refuses(hub: Hub) -> None:
    """While the table cannot be read nothing is called over, and the function fails."""
    now = system_clock()
    hub.store.apply(batch_of(user_write(at=now - 1), failed(at=now)))
    watch.run(hub.runtime, now)
    match = {"service": "dynamodb", "operation": "Query"}
    fault = hub.sandbox.fault("error", code="AccessDeniedException", match=match)
    with pytest.raises(WatchFailedError, match="allow the action on this table"):
        watch.run(hub.runtime, now + 10 * MINUTE_MS)
    hub.sandbox.end_fault(fault)
    hub.messages()
    assert watch.run(hub.runtime, now + 20 * MINUTE_MS)["sent"] == []


def test_undeliverable(hub: Hub) -> None:
    """What waits in the Regions' queues is counted together; a Region without a queue has nothing waiting."""
    made = stack(token=TOKEN)
    base = hub.sandbox.session(ACCOUNT, REGION)
    sessions = Sessions(ACCOUNT, endpoint_url=hub.sandbox.endpoint, base=base)
    record = Record(sessions, made)
    record.put(REGIONS, ["eu-west-1", "sa-east-1", REGION])
    for region, number in (("eu-west-1", 2), (REGION, 1)):
        sqs = hub.sandbox.client("sqs", ACCOUNT, region)
        url = sqs.create_queue(QueueName=made.undelivered)["QueueUrl"]
        for _ in range(number):
            sqs.send_message(QueueUrl=url, MessageBody="x")
    assert watch.ask_undelivered(sessions, made) == (3, [])
    match = {"service": "sqs", "operation": "GetQueueAttributes", "region": "eu-west-1"}
    fault = hub.sandbox.fault("error", code="AccessDenied", match=match)
    some, (problem,) = watch.ask_undelivered(sessions, made)
    assert (some, problem.split(" could not be asked")[0]) == (1, f"queue {made.undelivered} in eu-west-1")
    hub.sandbox.end_fault(fault)
    fault = hub.sandbox.fault("error", code="InternalError", status=500, match=match)
    assert watch.ask_undelivered(sessions, made) == (1, [])
    hub.sandbox.end_fault(fault)
    hub.sandbox.fault("error", code="AccessDenied", match={"service": "ssm", "operation": "GetParameter"})
    none, (problem,) = watch.ask_undelivered(sessions, made)
    assert none is None
    assert problem.startswith("it is not known in which Regions there are queues for undelivered events: ")


def coverage(hub: Hub, bucket: str) -> list[dict[str, Any]]:
    """The lines of all files of coverage in a bucket."""
    client = hub.sandbox.client("s3", ACCOUNT, REGION)
    found = client.list_objects_v2(
        Bucket=bucket, Prefix=f"below/archive/coverage/day={format_time(AT)[:10]}/hub-{TOKEN}.ndjson"
    )
    bodies = [client.get_object(Bucket=bucket, Key=each["Key"])["Body"].read() for each in found.get("Contents", [])]
    return [json.loads(line) for body in bodies for line in body.splitlines()]


def test_coverage(sandbox: Sandbox) -> None:
    """With an archive each look tells until when the queue was read; what is refused is told, and written later."""
    bucket = f"archive{next(_numbers)}"
    sandbox.client("s3", ACCOUNT, REGION).create_bucket(Bucket=bucket)
    hub = Hub(sandbox, f"s3://{bucket}/below/archive/")
    hub.sqs.send_message(QueueUrl=hub.queue, MessageBody="x")
    watch.run(hub.runtime, AT)
    line = {"monitor": TOKEN, "source": hub.queue.rpartition("/")[2], "kind": "live", "state": "watched", "waiting": 1}
    assert coverage(hub, bucket) == [{**line, "since": format_time(AT), "until": format_time(AT)}]
    fault = sandbox.fault("error", code="AccessDenied", match={"service": "s3", "operation": "PUT"})
    with pytest.raises(WatchFailedError, match=rf"s3:PutObject of s3://{bucket}/below/.* \(allow it to the function"):
        watch.run(hub.runtime, AT + 5 * MINUTE_MS)
    sandbox.end_fault(fault)
    fault = sandbox.fault("error", code="AccessDenied", match={"service": "sqs", "operation": "GetQueueAttributes"})
    with pytest.raises(WatchFailedError, match="who watched is not in the archive: sqs:GetQueueAttributes: Access"):
        watch.run(hub.runtime, AT + 9 * MINUTE_MS)
    sandbox.end_fault(fault)
    assert [each["until"] for each in coverage(hub, bucket)] == [format_time(AT)]
    watch.run(hub.runtime, AT + 10 * MINUTE_MS)
    (told,) = coverage(hub, bucket)
    assert (told["since"], told["until"]) == (format_time(AT), format_time(AT + 10 * MINUTE_MS))


@pytest.mark.parametrize(
    ("rate", "minutes"), [("rate(1 minute)", 1), ("rate(5 minutes)", 5), ("rate(1 hour)", 60), ("rate(2 hours)", 120)]
)
def test_interval(rate: str, minutes: int) -> None:
    """The time between two looks is that of the schedule."""
    assert interval_ms(rate) == minutes * MINUTE_MS


def test_handlers(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """The handlers read their settings from the environment; what settles is published once."""
    for kind in (WatchSettings, SettleSettings):
        for name, variable in zip(kind.__struct_fields__, variables(kind), strict=True):
            monkeypatch.setenv(variable, str(getattr(hub.settings, name, "")))
    for cached in (watch._runtime, settle.store, settle._cloudwatch):
        cached.cache_clear()
    now = system_clock()
    source = f"source-{now}"
    hub.store.apply(batch_of(user_write(source, at=now - 9_000), failed(source=source, at=now)))
    entries = hub.changes()
    event = {"Records": entries, "shardId": "one", "eventSourceARN": "stream"}
    before = samples(hub, source)
    for _ in range(2):
        assert settle.handler(event, FakeContext())["batchItemFailures"] == []
    assert samples(hub, source) - before == len({entry["dynamodb"]["Keys"]["version_id"]["S"] for entry in entries})
    context = FakeContext()
    context.invoked_function_arn = FUNCTION
    assert json.dumps(watch.handler({}, context))


@pytest.mark.parametrize("works", [True, False])
def test_first_look(hub: Hub, monkeypatch: pytest.MonkeyPatch, works: bool) -> None:  # noqa: FBT001
    """The stack's own call is answered with success whatever comes of the look; a deletion is answered without one."""
    answers: list[dict[str, str]] = []
    monkeypatch.setattr(Answer, "_send", lambda _self, body: answers.append(json.loads(body)))
    monkeypatch.setattr(watch, "_runtime", lambda _arn: hub.runtime)
    if not works:
        hub.sandbox.fault("error", code="AccessDenied", match={"service": "monitoring", "operation": "PutMetricData"})
    context = FakeContext()
    context.invoked_function_arn = FUNCTION
    with nullcontext() if works else pytest.raises(WatchFailedError):
        watch.handler({"ResponseURL": "https://x", "RequestType": "Create"}, context)
    watch.handler({"ResponseURL": "https://x", "RequestType": "Delete"}, context)
    assert [answer["Status"] for answer in answers] == ["SUCCESS", "SUCCESS"]
    assert [answer["Reason"] == "looked" for answer in answers] == [works, True]


def samples(hub: Hub, source: str) -> float:
    """How many failures of a bucket were published."""
    at = datetime.now(UTC)
    found = hub.sandbox.client("cloudwatch", ACCOUNT, REGION).get_metric_statistics(
        Namespace="CRRMonitor",
        MetricName="FailedReplications",
        Dimensions=[{"Name": "SourceBucket", "Value": source}],
        StartTime=at - timedelta(hours=1),
        EndTime=at + timedelta(hours=1),
        Period=7_200,
        Statistics=["Sum"],
    )["Datapoints"]
    return sum(float(each["Sum"]) for each in found)
