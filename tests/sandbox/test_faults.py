"""Trouble on request: messages lost, doubled, late and shuffled, calls refused; and trails within their quotas."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from crr_monitor.sandbox import SandboxError
from tests.sandbox.making import EAST, HOME, OTHER, data_selector

pytest.importorskip("ministack")
pytest.importorskip("boto3")

if TYPE_CHECKING:
    from tests.sandbox.making import World


@pytest.fixture
def told(world: World) -> tuple[str, str]:
    """A bucket, and a queue that gets its notifications."""
    bucket, queue = world.bucket("orders"), world.queue()
    configuration = {"QueueConfigurations": [{"QueueArn": queue, "Events": ["s3:ObjectCreated:*"]}]}
    world.s3().put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=configuration)
    world.messages(queue)
    return bucket, queue


def keys(world: World, queue: str) -> list[str]:
    """The keys in the order of arrival."""
    return [body["Records"][0]["s3"]["object"]["key"] for body in world.bodies(queue)]


def test_messages_are_dropped_as_often_as_asked(world: World, told: tuple[str, str]) -> None:
    """A ``drop`` fault with ``times`` loses that many messages."""
    bucket, queue = told
    world.sandbox.fault("drop", match={"kind": "notification", "bucket": bucket}, times=1)
    for key in ("a", "b"):
        world.put(bucket, key)
        world.sandbox.settle()
    assert keys(world, queue) == ["b"]
    assert world.sandbox.state()["struck"]["drop"] >= 1


def test_messages_are_doubled(world: World, told: tuple[str, str]) -> None:
    """A ``duplicate`` fault delivers the same message twice."""
    bucket, queue = told
    world.sandbox.fault("duplicate", match={"kind": "notification"})
    world.put(bucket, "a")
    world.sandbox.settle()
    first, second = world.bodies(queue)
    assert first == second


def test_messages_are_delayed_and_waited_for(world: World, told: tuple[str, str]) -> None:
    """A ``delay`` fault makes them late; settling waits for them."""
    bucket, queue = told
    world.sandbox.fault("delay", match={"kind": "notification"}, seconds=1.0)
    start = time.monotonic()
    world.put(bucket, "a")
    assert keys(world, queue) == []
    world.sandbox.settle()
    assert time.monotonic() - start >= 1.0
    assert keys(world, queue) == ["a"]


def test_messages_are_shuffled(world: World, told: tuple[str, str]) -> None:
    """A ``reorder`` fault delivers all of them, in another order."""
    bucket, queue = told
    world.sandbox.fault("reorder", match={"kind": "notification"}, seconds=0.5)
    names = [f"{number:02}" for number in range(15)]
    for name in names:
        world.put(bucket, name)
    world.sandbox.settle()
    found = keys(world, queue)
    assert sorted(found) == names
    assert found != names


def test_a_throttled_table_refuses_calls_for_a_while(world: World) -> None:
    """An ``error`` fault answers with the code, for the named table only; boto3 tries again by itself."""
    dynamodb = world.sandbox.client("dynamodb", HOME, EAST)
    for table in ("throttled", "free"):
        dynamodb.create_table(
            TableName=table,
            BillingMode="PAY_PER_REQUEST",
            KeySchema=[{"AttributeName": "k", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "k", "AttributeType": "S"}],
        )
    item = {"k": {"S": "1"}}
    match = {"service": "dynamodb", "resource": '"throttled"'}
    number = world.sandbox.fault("error", match=match, code="ProvisionedThroughputExceededException")
    dynamodb.put_item(TableName="free", Item=item)
    with pytest.raises(dynamodb.exceptions.ProvisionedThroughputExceededException):
        dynamodb.put_item(TableName="throttled", Item=item)
    world.sandbox.end_fault(number)
    world.sandbox.fault("error", match=match, code="ThrottlingException", times=2)
    dynamodb.put_item(TableName="throttled", Item=item)
    assert dynamodb.get_item(TableName="throttled", Key=item)["Item"] == item


@pytest.mark.parametrize(
    ("service", "call", "options", "code"),
    [
        ("s3", "list_buckets", {}, "AccessDenied"),
        ("sqs", "list_queues", {}, "AccessDenied"),
        ("sns", "list_topics", {}, "AuthorizationError"),
        ("iam", "list_roles", {}, "AccessDenied"),
        ("cloudtrail", "describe_trails", {}, "AccessDeniedException"),
    ],
)
def test_calls_are_refused_in_the_protocol_of_the_service(
    world: World, service: str, call: str, options: dict[str, Any], code: str
) -> None:
    """boto3 reads the code that was asked for, of one account only."""
    world.sandbox.fault("error", match={"service": service, "account": OTHER}, code=code, status=403)
    getattr(world.sandbox.client(service, HOME, EAST), call)(**options)
    client = world.sandbox.client(service, OTHER, EAST)
    with pytest.raises(client.exceptions.ClientError) as caught:
        getattr(client, call)(**options)
    assert caught.value.response["Error"]["Code"] == code


def test_an_unknown_fault_option_is_refused(world: World) -> None:
    """The control API says what is wrong."""
    with pytest.raises(SandboxError, match="colour"):
        world.sandbox.fault("drop", colour="red")


def test_a_trail_holds_at_most_500_values(world: World) -> None:
    """CloudTrail refuses the 501st value over all its selectors, and keeps what it had."""
    cloudtrail = world.sandbox.client("cloudtrail", HOME, EAST)
    name = world.trail(data_selector("orders"))
    values = [f"arn:aws:s3:::bucket-{number}/" for number in range(497)]
    selector = data_selector("orders")
    selector["FieldSelectors"][2]["StartsWith"] = values
    cloudtrail.put_event_selectors(TrailName=name, AdvancedEventSelectors=[selector])
    selector["FieldSelectors"][2]["StartsWith"] = [*values, "arn:aws:s3:::one-more/"]
    with pytest.raises(cloudtrail.exceptions.InvalidEventSelectorsException, match="maximum is 500"):
        cloudtrail.put_event_selectors(TrailName=name, AdvancedEventSelectors=[selector])
    kept = cloudtrail.get_event_selectors(TrailName=name)["AdvancedEventSelectors"]
    assert len(kept[0]["FieldSelectors"][2]["StartsWith"]) == 497
    world.drop_trail(name)


def test_a_region_holds_at_most_five_trails(world: World) -> None:
    """The sixth is refused, a multi-Region trail with its home elsewhere counted in."""
    names = [world.trail(data_selector("orders"), account=OTHER) for _ in range(4)]
    west = world.sandbox.client("cloudtrail", OTHER, "us-west-2")
    west.create_trail(Name="everywhere", S3BucketName="logs", IsMultiRegionTrail=True)
    east = world.sandbox.client("cloudtrail", OTHER, EAST)
    with pytest.raises(east.exceptions.MaximumNumberOfTrailsExceededException):
        east.create_trail(Name="sixth", S3BucketName="logs")
    for name in names:
        world.drop_trail(name, OTHER)
    west.delete_trail(Name="everywhere")
