"""What IAM is asked where it is enforced: the action and the resource that AWS's documentation names."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from crr_monitor.sandbox import Sandbox, Settings
from tests.sandbox.making import EAST, HOME, World

pytest.importorskip("ministack")
boto3 = pytest.importorskip("boto3")

if TYPE_CHECKING:
    from collections.abc import Iterator

PATTERN = json.dumps({"source": ["s"]})
DENIED = "AccessDenied"


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """A sandbox that enforces IAM."""
    with Sandbox(Settings(auth=True)) as running:
        yield World(running)


def limited(world: World, service: str, actions: list[str], resource: str) -> Any:  # noqa: ANN401 - boto3's client
    """A client of a user who may do this and nothing else."""
    iam = world.sandbox.client("iam", HOME, EAST)
    name = f"user-{len(iam.list_users()['Users'])}"
    iam.create_user(UserName=name)
    statement = {"Effect": "Allow", "Action": actions, "Resource": resource}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=policy)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    session = boto3.Session(key["AccessKeyId"], key["SecretAccessKey"], region_name=EAST)
    return session.client(service, endpoint_url=world.sandbox.endpoint)


def refused(error: pytest.ExceptionInfo[Exception]) -> bool:
    """Whether AWS refused for want of a permission."""
    return DENIED in str(getattr(error.value, "response", {})["Error"]["Code"])


@pytest.mark.parametrize(("bus", "path"), [("default", "rule/{}"), ("own", "rule/own/{}")])
def test_rules_are_named_as_policies_name_them(world: World, bus: str, path: str) -> None:
    """A rule is ``rule/NAME`` on the default bus and ``rule/BUS/NAME`` elsewhere, for its targets and tags, too."""
    if bus != "default":
        world.sandbox.client("events", HOME, EAST).create_event_bus(Name=bus)
    resource = f"arn:aws:events:{EAST}:{HOME}:{path}"
    events = limited(world, "events", ["events:*"], resource.format("mine-*"))
    target = {"Id": "t", "Arn": world.queue()}
    options = {} if bus == "default" else {"EventBusName": bus}
    arn = events.put_rule(Name="mine-1", EventPattern=PATTERN, **options)["RuleArn"]
    assert arn == resource.format("mine-1")
    events.put_targets(Rule="mine-1", Targets=[target], **options)
    events.tag_resource(ResourceARN=arn, Tags=[{"Key": "k", "Value": "v"}])
    assert [each["Id"] for each in events.list_targets_by_rule(Rule="mine-1", **options)["Targets"]] == ["t"]
    with pytest.raises(events.exceptions.ClientError) as error:
        events.put_targets(Rule="other", Targets=[target], **options)
    assert refused(error)
    events.remove_targets(Rule="mine-1", Ids=["t"], **options)
    events.delete_rule(Name="mine-1", **options)


def test_listing_rules_knows_no_resource(world: World) -> None:
    """``ListRules`` is allowed for all resources or not at all, even when names are given."""
    everywhere = limited(world, "events", ["events:ListRules"], "*")
    assert everywhere.list_rules(NamePrefix="nothing-")["Rules"] == []
    somewhere = limited(world, "events", ["events:ListRules"], f"arn:aws:events:{EAST}:{HOME}:rule/*")
    with pytest.raises(somewhere.exceptions.ClientError) as error:
        somewhere.list_rules(NamePrefix="nothing-")
    assert refused(error)


def test_batches_need_the_permission_of_the_single_call(world: World) -> None:
    """``sqs:SendMessage`` and ``sqs:DeleteMessage`` allow their batches; without them the batches are refused."""
    arn = world.queue()
    name = arn.rsplit(":", 1)[-1]
    url = world.sandbox.client("sqs", HOME, EAST).get_queue_url(QueueName=name)["QueueUrl"]
    sender = limited(world, "sqs", ["sqs:SendMessage"], arn)
    assert len(sender.send_message_batch(QueueUrl=url, Entries=[{"Id": "a", "MessageBody": "x"}])["Successful"]) == 1
    reader = limited(world, "sqs", ["sqs:ReceiveMessage", "sqs:DeleteMessage"], arn)
    (message,) = reader.receive_message(QueueUrl=url)["Messages"]
    entries = [{"Id": "a", "ReceiptHandle": message["ReceiptHandle"]}]
    with pytest.raises(sender.exceptions.ClientError) as error:
        sender.delete_message_batch(QueueUrl=url, Entries=entries)
    assert refused(error)
    assert len(reader.delete_message_batch(QueueUrl=url, Entries=entries)["Successful"]) == 1
