"""EventBridge in the sandbox: between accounts and Regions, to queues and topics, and the undeliverable."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.sandbox.making import EAST, FRANKFURT, HOME, OTHER, WEST

pytest.importorskip("ministack")
pytest.importorskip("boto3")

if TYPE_CHECKING:
    from tests.sandbox.making import World

PATTERN = {"source": ["test"]}


def emit(world: World, text: str = "x", account: str = HOME, region: str = EAST) -> None:
    """Put one event of ``test`` on the default bus."""
    entry = {"Source": "test", "DetailType": "t", "Detail": json.dumps({"text": text})}
    world.sandbox.client("events", account, region).put_events(Entries=[entry])
    world.sandbox.settle()


def bus(world: World, account: str = OTHER, region: str = WEST, *, allowed: str | None = HOME) -> tuple[str, str]:
    """A bus that takes events of the account ``allowed``; returns its name and ARN."""
    client = world.sandbox.client("events", account, region)
    name = world.bucket("bus")  # any new name
    arn = client.create_event_bus(Name=name)["EventBusArn"]
    if allowed:
        client.put_permission(EventBusName=name, StatementId="s", Action="events:PutEvents", Principal=allowed)
    return name, str(arn)


def sender(world: World, arn: str, service: str = "events.amazonaws.com") -> str:
    """A role with which EventBridge may put events on the bus."""
    return world.role("send", service, {"Effect": "Allow", "Action": "events:PutEvents", "Resource": arn})


def texts(world: World, queue: str) -> list[str]:
    """The events that arrived in a queue, by their text."""
    return [body["detail"]["text"] for body in world.bodies(queue)]


def undelivered(world: World, target: str) -> list[str]:
    """The error codes of all failed deliveries to a target."""
    return [each["code"] for each in world.sandbox.state()["undeliverable"] if each["target"] == target]


def test_an_event_reaches_a_bus_in_another_account_and_region_unchanged(world: World) -> None:
    """With the bus's policy and the target's role it arrives, and still says where it comes from."""
    name, arn = bus(world)
    queue = world.queue(OTHER, WEST)
    world.catch(queue, PATTERN, OTHER, WEST, name)
    rule = world.catch(arn, PATTERN, RoleArn=sender(world, arn))
    emit(world, "far")
    (body,) = world.bodies(queue)
    assert (body["account"], body["region"], body["detail"]) == (HOME, EAST, {"text": "far"})
    world.drop_rule(rule)


@pytest.mark.parametrize("trouble", ["policy", "role", "trust"])
def test_a_bus_elsewhere_needs_its_policy_and_the_target_role(world: World, trouble: str) -> None:
    """Where bus policy, role or its trust policy lacks the permission, the event ends in the dead-letter queue."""
    name, arn = bus(world, allowed=None if trouble == "policy" else HOME)
    queue, dead = world.queue(OTHER, WEST), world.queue()
    world.catch(queue, PATTERN, OTHER, WEST, name)
    service = "lambda.amazonaws.com" if trouble == "trust" else "events.amazonaws.com"
    role = sender(world, "arn:aws:events:*:*:event-bus/none" if trouble == "role" else arn, service)
    rule = world.catch(arn, PATTERN, RoleArn=role, DeadLetterConfig={"Arn": dead})
    emit(world, "lost")
    world.drop_rule(rule)
    assert texts(world, queue) == []
    (letter,) = world.messages(dead)
    attributes: dict[str, Any] = letter["MessageAttributes"]
    assert attributes["ERROR_CODE"]["StringValue"] == "NO_PERMISSIONS"
    assert attributes["TARGET_ARN"]["StringValue"] == arn
    assert json.loads(letter["Body"])["detail"] == {"text": "lost"}


def test_a_bus_in_another_region_of_the_account_needs_no_policy(world: World) -> None:
    """Between Regions of one account the role suffices."""
    name, arn = bus(world, HOME, WEST, allowed=None)
    queue = world.queue(HOME, WEST)
    world.catch(queue, PATTERN, HOME, WEST, name)
    rule = world.catch(arn, PATTERN, RoleArn=sender(world, arn))
    emit(world, "region")
    world.drop_rule(rule)
    assert texts(world, queue) == ["region"]


def test_an_event_from_another_bus_is_not_sent_to_a_third(world: World) -> None:
    """The second bus delivers to queues, but to no further bus."""
    second, second_arn = bus(world)
    third, third_arn = bus(world, OTHER, FRANKFURT, allowed=OTHER)
    middle, end = world.queue(OTHER, WEST), world.queue(OTHER, FRANKFURT)
    world.catch(middle, PATTERN, OTHER, WEST, second)
    world.catch(end, PATTERN, OTHER, FRANKFURT, third)
    statement = {"Effect": "Allow", "Action": "events:PutEvents", "Resource": third_arn}
    onward = world.role("on", "events.amazonaws.com", statement, account=OTHER)
    world.catch(third_arn, PATTERN, OTHER, WEST, second, RoleArn=onward)
    rule = world.catch(second_arn, PATTERN, RoleArn=sender(world, second_arn))
    emit(world, "hop")
    world.drop_rule(rule)
    assert [texts(world, middle), texts(world, end)] == [["hop"], []]


def test_queues_and_topics_in_another_region_are_no_targets(world: World) -> None:
    """A target in another Region fails; one of the same Region in another account is reached."""
    far, near = world.queue(HOME, WEST), world.queue(OTHER, EAST)
    rules = [world.catch(queue, PATTERN) for queue in (far, near)]
    emit(world, "q")
    for rule in rules:
        world.drop_rule(rule)
    assert [texts(world, far), texts(world, near)] == [[], ["q"]]
    assert undelivered(world, far) == ["INVALID_PARAMETER"]


def test_a_topic_encrypted_with_the_managed_key_gets_nothing(world: World) -> None:
    """EventBridge cannot use ``alias/aws/sns``."""
    sns = world.sandbox.client("sns", HOME, EAST)
    topic = sns.create_topic(Name=world.bucket("t"), Attributes={"KmsMasterKeyId": "alias/aws/sns"})["TopicArn"]
    rule = world.catch(topic, PATTERN)
    emit(world)
    world.drop_rule(rule)
    assert undelivered(world, topic) == ["NO_PERMISSIONS"]


def test_an_event_travels_from_bus_to_topic_to_a_queue_in_another_region(world: World) -> None:
    """Rule to topic in one Region, topic to queue across Regions: the path of the hub."""
    sns, queue = world.sandbox.client("sns", HOME, WEST), world.queue()
    topic = sns.create_topic(Name=world.bucket("t"))["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue, Attributes={"RawMessageDelivery": "true"})
    rule = world.catch(topic, PATTERN, HOME, WEST)
    emit(world, "far", HOME, WEST)
    world.drop_rule(rule, HOME, WEST)
    assert texts(world, queue) == ["far"]


def test_settling_waits_for_functions(world: World) -> None:
    """A function that a rule invokes has ended when the sandbox is settled."""
    queue = world.queue()
    name = queue.rsplit(":", 1)[-1]
    code = (
        "import json, time, boto3\n"
        "def handler(event, context):\n"
        "    time.sleep(0.5)\n"
        "    sqs = boto3.client('sqs')\n"
        f"    url = sqs.get_queue_url(QueueName='{name}')['QueueUrl']\n"
        "    sqs.send_message(QueueUrl=url, MessageBody=json.dumps(event))\n"
    )
    arn = world.function(name, code, Timeout=20)
    rule = world.catch(arn, PATTERN)
    emit(world, "slow")
    world.drop_rule(rule)
    assert texts(world, queue) == ["slow"]


def test_a_scheduled_rule_can_be_run_at_once(world: World) -> None:
    """``run_rule`` does what the schedule would, without waiting for it."""
    events, queue = world.sandbox.client("events", HOME, EAST), world.queue()
    events.put_rule(Name="every-hour", ScheduleExpression="rate(1 hour)")
    events.put_targets(Rule="every-hour", Targets=[{"Id": "t", "Arn": queue}])
    assert world.sandbox.run_rule(HOME, EAST, "every-hour") == 1
    (body,) = world.bodies(queue)
    assert (body["detail-type"], body["account"]) == ("Scheduled Event", HOME)


def test_a_bus_policy_can_be_put_as_a_whole(world: World) -> None:
    """PutPermission with ``Policy`` replaces the bus's policy."""
    name, arn = bus(world, allowed=None)
    events, queue = world.sandbox.client("events", OTHER, WEST), world.queue(OTHER, WEST)
    statement = {"Effect": "Allow", "Principal": "*", "Action": "events:PutEvents", "Resource": arn}
    events.put_permission(EventBusName=name, Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
    assert json.loads(events.describe_event_bus(Name=name)["Policy"])["Statement"] == [statement]
    world.catch(queue, PATTERN, OTHER, WEST, name)
    rule = world.catch(arn, PATTERN, RoleArn=sender(world, arn))
    emit(world, "open")
    world.drop_rule(rule)
    assert texts(world, queue) == ["open"]


def test_a_bus_can_be_open_to_an_organization(world: World) -> None:
    """``aws:PrincipalOrgID`` lets the members in, and nobody else."""
    organization = world.sandbox.organization("222233334444", HOME, OTHER)
    name, arn = bus(world, allowed=None)
    condition = {"StringEquals": {"aws:PrincipalOrgID": organization}}
    statement = {
        "Effect": "Allow",
        "Principal": "*",
        "Action": "events:PutEvents",
        "Resource": arn,
        "Condition": condition,
    }
    events, queue = world.sandbox.client("events", OTHER, WEST), world.queue(OTHER, WEST)
    events.put_permission(EventBusName=name, Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
    world.catch(queue, PATTERN, OTHER, WEST, name)
    for account in (HOME, "555566667777"):
        allowed = {"Effect": "Allow", "Action": "events:PutEvents", "Resource": arn}
        role = world.role("send", "events.amazonaws.com", allowed, account=account)
        rule = world.catch(arn, PATTERN, account, RoleArn=role)
        emit(world, account, account)
        world.drop_rule(rule, account)
    assert texts(world, queue) == [HOME]


def test_a_rule_with_targets_is_not_deleted(world: World) -> None:
    """DeleteRule refuses until the targets are removed."""
    events = world.sandbox.client("events", HOME, EAST)
    rule = world.catch(world.queue(), PATTERN)
    with pytest.raises(events.exceptions.ClientError, match="has targets"):
        events.delete_rule(Name=rule)
    world.drop_rule(rule)
