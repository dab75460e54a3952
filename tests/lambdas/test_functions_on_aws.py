"""The functions over HTTP, on a local AWS: real queues, real tables, a real change stream, and Lambda itself."""

from __future__ import annotations

import importlib.util
import json
from collections import Counter
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

if importlib.util.find_spec("ministack") is None:
    pytest.skip("needs ministack (the extra 'sandbox')", allow_module_level=True)

from crr_monitor.core.model import Status
from crr_monitor.lambdas import process, settle
from crr_monitor.lambdas.package import Target, build
from crr_monitor.lambdas.settings import ProcessSettings
from crr_monitor.sandbox import Sandbox
from crr_monitor.stores.dynamodb import DynamoStore
from crr_monitor.stores.dynamodb_items import item_key
from crr_monitor.stores.dynamodb_tables import STATISTICS_SUFFIX, STATUS_SUFFIX, create_tables
from tests.factories import config, rule
from tests.lambdas.making import BROKEN, KEY, SCHEDULE, FakeContext, new_version, replica, source
from tests.stores.dynamodb_server import without_credentials, without_pauses

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.aws

ACCOUNT, REGION = "111122223333", "us-east-1"
VISIBLE_AGAIN, SOON_AGAIN = 720, 3
"""Seconds after which a received message comes again: as in the template, and where a test waits for it."""

_numbers = count(1)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """One for all tests, and no way to AWS."""
    with pytest.MonkeyPatch.context() as patch:
        without_credentials(patch)
        without_pauses(patch)
        with Sandbox() as running:
            yield running


class Hub:
    """Queues and tables as the hub's template makes them, and the functions' runtime."""

    def __init__(self, sandbox: Sandbox, again: int) -> None:
        self.sandbox = sandbox
        self.name = f"hub{next(_numbers)}"
        self.sqs = sandbox.client("sqs", ACCOUNT, REGION)
        self.dynamodb = sandbox.client("dynamodb", ACCOUNT, REGION)
        self.dead = self._queue("dead")
        arn = self.sqs.get_queue_attributes(QueueUrl=self.dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        redrive = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 5})
        self.queue = self._queue("events", VisibilityTimeout=str(again), RedrivePolicy=redrive)
        create_tables(self.dynamodb, self.name)
        self.tables = self.name + STATUS_SUFFIX, self.name + STATISTICS_SUFFIX
        self.settings = ProcessSettings(
            store=f"dynamodb://{self.tables[0]}?statistics={self.tables[1]}&endpoint={sandbox.endpoint}",
            queue_url=self.queue,
            dead_letter_queue_url=self.dead,
            event_log="",
        )
        self.runtime = process.make_runtime(self.settings)
        self.store = self.opened()
        self.store.learn([(config(rule()), True)])

    def _queue(self, name: str, **attributes: str) -> str:
        return str(self.sqs.create_queue(QueueName=f"{self.name}-{name}", Attributes=attributes)["QueueUrl"])

    def opened(self, step: Any = lambda _name: None) -> DynamoStore:  # noqa: ANN401
        """Another handle on the store."""
        return DynamoStore(self.dynamodb, *self.tables, step=step)

    def put(self, *bodies: str) -> None:
        """Messages for the function."""
        for start in range(0, len(bodies), 10):
            entries = [{"Id": str(n), "MessageBody": body} for n, body in enumerate(bodies[start : start + 10])]
            assert not self.sqs.send_message_batch(QueueUrl=self.queue, Entries=entries).get("Failed")

    def waiting(self, url: str) -> int:
        """Messages in a queue, those in flight included."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
        return sum(map(int, found.values()))

    def buried(self) -> list[dict[str, Any]]:
        """Messages in the dead-letter queue, taken out."""
        found: list[dict[str, Any]] = []
        while more := self.sqs.receive_message(
            QueueUrl=self.dead, MaxNumberOfMessages=10, MessageAttributeNames=["All"]
        ).get("Messages"):
            found += more
            for each in more:
                self.sqs.delete_message(QueueUrl=self.dead, ReceiptHandle=each["ReceiptHandle"])
        return found

    def run(self, seconds: float = 110.0) -> None:
        """One scheduled run."""
        process.run(self.runtime, SCHEDULE, FakeContext(seconds))

    def status(self, version: str) -> Status:
        """Of one version."""
        (record,) = self.store.versions("orders", KEY, version)
        return record.status

    def changes(self) -> list[dict[str, Any]]:
        """The whole change stream, as Lambda hands it over."""
        client = self.sandbox.client("dynamodbstreams", ACCOUNT, REGION)
        arn = self.dynamodb.describe_table(TableName=self.tables[0])["Table"]["LatestStreamArn"]
        (shard,) = client.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]
        start = {"StreamArn": arn, "ShardId": shard["ShardId"], "ShardIteratorType": "TRIM_HORIZON"}
        iterator = client.get_shard_iterator(**start)["ShardIterator"]
        found: list[dict[str, Any]] = []
        while True:
            answer = client.get_records(ShardIterator=iterator)
            if not answer["Records"]:
                return found
            found += answer["Records"]
            iterator = answer["NextShardIterator"]

    def settle(self, entries: list[dict[str, Any]], shard: str = "shard-1", step: Any = lambda _name: None) -> None:  # noqa: ANN401
        """One call of the settle function."""
        answer = settle.run(self.opened(step), {"Records": entries, "shardId": shard}, FakeContext())
        assert answer == {"state": {}, "batchItemFailures": []}

    def counted(self) -> Counter[str]:
        """The statistics, all cells together."""
        found: Counter[str] = Counter()
        for _, cell in self.store.cells(None, None):
            found.update(objects=cell.objects, completed=cell.completed)
        return found


@pytest.fixture
def hub(sandbox: Sandbox, request: pytest.FixtureRequest) -> Iterator[Hub]:
    """New queues and tables; faults end with the test."""
    made = Hub(sandbox, getattr(request, "param", VISIBLE_AGAIN))
    yield made
    sandbox.end_fault()
    made.runtime.pool.shutdown()


coming_soon_again = pytest.mark.parametrize("hub", [SOON_AGAIN], indirect=True, ids=["soon"])


def test_duplicates_and_malformed_neighbours(hub: Hub) -> None:
    """Duplicates change nothing; what is malformed is in the dead-letter queue with its reason; the rest is stored."""
    versions = [new_version() for _ in range(30)]
    hub.put(*(body for version in versions for body in (source(version), BROKEN, replica(version), source(version))))
    hub.run()
    assert Counter(map(hub.status, versions)) == {Status.COMPLETED: 30}
    assert hub.waiting(hub.queue) == 0
    buried = hub.buried()
    assert [each["Body"] for each in buried] == [BROKEN] * 30
    reasons = {each["MessageAttributes"]["reason"]["StringValue"] for each in buried}
    assert [reason.partition(":")[0] for reason in reasons] == ["not JSON"]


@coming_soon_again
def test_throttled_table(hub: Hub) -> None:
    """While the table is throttled nothing is lost or given up: the messages stay, and the next run stores them."""
    versions = [new_version() for _ in range(20)]
    hub.put(*map(source, versions))
    match = {"service": "dynamodb", "operation": "UpdateItem", "resource": hub.tables[0]}
    fault = hub.sandbox.fault("error", code="ProvisionedThroughputExceededException", match=match)
    with pytest.raises(process.ProcessFailedError, match="none of 20 messages could be stored, they stay in the queue"):
        hub.run()
    assert (hub.waiting(hub.queue), hub.waiting(hub.dead)) == (20, 0)
    hub.sandbox.end_fault(fault)
    until_done(hub)
    assert Counter(map(hub.status, versions)) == {Status.PENDING: 20}


def until_done(hub: Hub) -> None:
    """Run until the queue is empty: what was received comes again after some seconds."""
    for _ in range(20):
        hub.run()
        if not hub.waiting(hub.queue):
            return
    pytest.fail("messages stay in the queue")


def test_throttled_now_and_then(hub: Hub) -> None:
    """A few throttled calls are tried again within the run."""
    versions = [new_version() for _ in range(20)]
    hub.put(*map(source, versions))
    match = {"service": "dynamodb", "operation": "UpdateItem", "resource": hub.tables[0]}
    hub.sandbox.fault("error", code="ProvisionedThroughputExceededException", times=5, match=match)
    hub.run()
    assert Counter(map(hub.status, versions)) == {Status.PENDING: 20}
    assert hub.waiting(hub.queue) == 0


def test_item_too_large(hub: Hub) -> None:
    """A message whose item would grow over DynamoDB's 400 KB goes to the dead-letter queue; its neighbour is stored."""
    full, other = new_version(), new_version()
    filler = {"filler": {"B": b"x" * 409_480}}
    hub.dynamodb.put_item(TableName=hub.tables[0], Item={**item_key(KEY, full), **filler})
    hub.put(source(full), source(other))
    hub.run()
    assert (hub.status(other), hub.waiting(hub.queue)) == (Status.PENDING, 0)
    (buried,) = hub.buried()
    assert buried["Body"] == source(full)
    assert buried["MessageAttributes"]["reason"]["StringValue"].startswith(f"the store refuses {KEY!r} {full}: ")


def test_time_is_short(hub: Hub) -> None:
    """A run with hardly any time left receives nothing; the next one does the work."""
    version = new_version()
    hub.put(source(version))
    hub.run(seconds=15.0)
    assert hub.waiting(hub.queue) == 1
    hub.run()
    assert (hub.status(version), hub.waiting(hub.queue)) == (Status.PENDING, 0)


@coming_soon_again
def test_deleting_fails(hub: Hub) -> None:
    """Messages that could not be deleted come again, and the record stays as it is."""
    version = new_version()
    hub.put(source(version), replica(version))
    hub.sandbox.fault("error", code="InternalError", match={"service": "sqs", "operation": "DeleteMessageBatch"})
    hub.run()
    assert (hub.status(version), hub.waiting(hub.queue)) == (Status.COMPLETED, 2)
    hub.sandbox.end_fault()
    before = hub.changes()
    until_done(hub)
    assert (hub.status(version), hub.changes()) == (Status.COMPLETED, before)


def test_settled_twice(hub: Hub) -> None:
    """Changes that are delivered twice, also out of order and in other batches, are counted once."""
    versions = [new_version() for _ in range(10)]
    hub.put(*map(source, versions))
    hub.run()
    hub.put(*map(replica, versions))
    hub.run()
    entries = hub.changes()
    for batch in (entries[:7], entries[:7], entries[3:12], entries[5:], entries[:2]):
        hub.settle(batch)
    assert len(entries) == 20
    assert hub.counted() == {"objects": 10, "completed": 10}


def test_settled_by_shards(hub: Hub) -> None:
    """Each shard has a position of its own: later numbers of one do not hide earlier ones of another."""
    versions = [new_version() for _ in range(10)]
    hub.put(*(body for version in versions for body in (source(version), replica(version))))
    hub.run()
    entries = hub.changes()
    hub.settle(entries[5:], "shard-2")
    hub.settle(entries[:5], "shard-1")
    assert hub.counted() == {"objects": 10, "completed": 10}


class KilledError(BaseException):
    """As if the process ended."""


def test_settling_is_killed(hub: Hub) -> None:
    """Killed before any of its steps and started again, settling counts everything once."""
    versions = [new_version() for _ in range(5)]
    hub.put(*map(source, versions))
    hub.run()
    entries = hub.changes()
    steps: list[str] = []
    for number in range(10):
        left = iter(range(number))

        def kill(name: str, left: Iterator[int] = left) -> None:
            if next(left, None) is None:
                steps.append(name)
                raise KilledError

        try:
            hub.settle(entries, step=kill)
        except KilledError:
            assert not hub.counted()
        else:
            break
    assert steps == ["marks", "directory", "transaction"]
    hub.settle(entries)
    assert hub.counted() == {"objects": 5, "completed": 0}


@coming_soon_again
def test_processing_is_killed(hub: Hub) -> None:
    """Killed while storing, the messages come again, and every record is right in the end."""
    versions = [new_version() for _ in range(5)]
    hub.put(*(body for version in versions for body in (source(version), replica(version))))
    left = iter(range(3))

    def kill(_name: str) -> None:
        if next(left, None) is None:
            raise KilledError

    dying = process.Runtime(hub.opened(kill), hub.runtime.queue, hub.runtime.dead_letters, None, hub.runtime.pool)
    with pytest.raises(KilledError):
        process.run(dying, SCHEDULE, FakeContext())
    assert hub.waiting(hub.queue) == 10
    until_done(hub)
    assert Counter(map(hub.status, versions)) == {Status.COMPLETED: 5}
    hub.settle(hub.changes())
    assert hub.counted() == {"objects": 5, "completed": 5}


def test_event_log(hub: Hub) -> None:
    """Raw events are copied into the log group where one is named."""
    logs = hub.sandbox.client("logs", ACCOUNT, REGION)
    group = f"/{hub.name}/events"
    logs.create_log_group(logGroupName=group)
    settings = ProcessSettings(
        **{**{f: getattr(hub.settings, f) for f in hub.settings.__struct_fields__}, "event_log": group}
    )
    bodies = [source(new_version()), BROKEN]
    hub.put(*bodies)
    process.run(process.make_runtime(settings), SCHEDULE, FakeContext())
    found = logs.get_log_events(logGroupName=group, logStreamName="request-1")["events"]
    assert [each["message"] for each in found] == bodies


def test_in_lambda(hub: Hub) -> None:
    """The zip's handler, mapped to the queue in Lambda, stores what comes and leaves nothing in the queue."""
    functions = hub.sandbox.client("lambda", ACCOUNT, REGION)
    role = hub.sandbox.client("iam", ACCOUNT, REGION).create_role(
        RoleName=hub.name,
        AssumeRolePolicyDocument=json.dumps(
            {
                "Version": "2012-10-17",
                "Statement": [
                    {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
                ],
            }
        ),
    )["Role"]["Arn"]
    values = {name: getattr(hub.settings, name) for name in hub.settings.__struct_fields__}
    functions.create_function(
        FunctionName=hub.name,
        Runtime="python3.13",
        Handler="crr_monitor.lambdas.process.handler",
        Role=role,
        Code={"ZipFile": build(Target.HOST).data},
        Timeout=60,
        Environment={"Variables": {f"CRR_MONITOR_{name.upper()}": value for name, value in values.items()}},
    )
    version, other = new_version(), new_version()
    hub.put(source(version), BROKEN, replica(version))
    # The queue's visibility time-out is too short for a mapping, as Lambda says itself.
    hub.sqs.set_queue_attributes(QueueUrl=hub.queue, Attributes={"VisibilityTimeout": "360"})
    arn = hub.sqs.get_queue_attributes(QueueUrl=hub.queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    mapping = functions.create_event_source_mapping(
        EventSourceArn=arn, FunctionName=hub.name, BatchSize=10, FunctionResponseTypes=["ReportBatchItemFailures"]
    )
    try:
        hub.sandbox.settle(60, functions=True)
        hub.put(source(other))
        hub.sandbox.settle(60, functions=True)
    finally:
        functions.delete_event_source_mapping(UUID=mapping["UUID"])
    assert (hub.status(version), hub.status(other)) == (Status.COMPLETED, Status.PENDING)
    assert [each["Body"] for each in hub.buried()] == [BROKEN]
    assert hub.waiting(hub.queue) == 0
