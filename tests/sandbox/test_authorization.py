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


def limited(world: World, service: str, actions: list[str], resource: str, equals: dict[str, str] | None = None) -> Any:  # noqa: ANN401 - boto3's client
    """A client of a user who may do this and nothing else, where these condition keys have these values."""
    iam = world.sandbox.client("iam", HOME, EAST)
    name = f"user-{len(iam.list_users()['Users'])}"
    iam.create_user(UserName=name)
    condition = {"Condition": {"StringEquals": equals}} if equals else {}
    statement = {"Effect": "Allow", "Action": actions, "Resource": resource, **condition}
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


def test_log_groups_are_named_as_policies_name_them(world: World) -> None:
    """A policy names a log group with ``:*`` after it for writing to it, and without for tagging it."""
    world.sandbox.client("logs", HOME, EAST).create_log_group(logGroupName="group")
    arn = f"arn:aws:logs:{EAST}:{HOME}:log-group:group"
    actions = ["logs:CreateLogStream", "logs:TagResource"]
    writer, tagger = limited(world, "logs", actions, f"{arn}:*"), limited(world, "logs", actions, arn)
    writer.create_log_stream(logGroupName="group", logStreamName="a")
    tagger.tag_resource(resourceArn=arn, tags={"k": "v"})
    with pytest.raises(tagger.exceptions.ClientError) as error:
        tagger.create_log_stream(logGroupName="group", logStreamName="b")
    assert refused(error)


def test_metrics_are_allowed_by_namespace(world: World) -> None:
    """A permission to publish metrics may be for one namespace only."""
    client = limited(world, "cloudwatch", ["cloudwatch:PutMetricData"], "*", {"cloudwatch:namespace": "Mine"})
    data = [{"MetricName": "m", "Value": 1.0}]
    client.put_metric_data(Namespace="Mine", MetricData=data)
    with pytest.raises(client.exceptions.ClientError) as error:
        client.put_metric_data(Namespace="Theirs", MetricData=data)
    assert refused(error)


def test_alarms_are_removed_by_their_names(world: World) -> None:
    """``cloudwatch:DeleteAlarms`` for some names allows to remove these alarms, and no other."""
    arn = f"arn:aws:cloudwatch:{EAST}:{HOME}:alarm:mine-*"
    alarms = limited(world, "cloudwatch", ["cloudwatch:DeleteAlarms"], arn)
    alarms.delete_alarms(AlarmNames=["mine-1", "mine-2"])
    with pytest.raises(alarms.exceptions.ClientError) as error:
        alarms.delete_alarms(AlarmNames=["other"])
    assert refused(error)


def test_parameters_are_listed_by_path(world: World) -> None:
    """``ssm:GetParametersByPath`` for what is below a path allows to list there, and nowhere else."""
    ssm = limited(world, "ssm", ["ssm:GetParametersByPath"], f"arn:aws:ssm:{EAST}:{HOME}:parameter/mine/*")
    world.sandbox.client("ssm", HOME, EAST).put_parameter(Name="/mine/below/a", Value="1", Type="String")
    assert [each["Value"] for each in ssm.get_parameters_by_path(Path="/mine/below")["Parameters"]] == ["1"]
    for path in ("/other", "/"):
        with pytest.raises(ssm.exceptions.ClientError) as error:
            ssm.get_parameters_by_path(Path=path)
        assert refused(error)


@pytest.mark.parametrize(("operator", "arrives"), [("ArnLike", False), ("ArnLikeIfExists", True)])
def test_a_topic_is_not_told_which_rule_publishes(world: World, operator: str, arrives: bool) -> None:  # noqa: FBT001 - a case of the table
    """A topic's policy that asks EventBridge for the rule lets nothing in, unless it asks only where that is told."""
    sns, events = world.sandbox.client("sns", HOME, EAST), world.sandbox.client("events", HOME, EAST)
    queue = world.queue()
    topic = sns.create_topic(Name=world.bucket("t"))["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue, Attributes={"RawMessageDelivery": "true"})
    sqs = world.sandbox.client("sqs", HOME, EAST)
    allow = {"Effect": "Allow", "Principal": {"Service": "sns.amazonaws.com"}, "Action": "sqs:SendMessage"}
    policy = {"Version": "2012-10-17", "Statement": [{**allow, "Resource": queue}]}
    url = sqs.get_queue_url(QueueName=queue.rsplit(":", 1)[-1])["QueueUrl"]
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": json.dumps(policy)})
    rule = world.catch(topic, json.loads(PATTERN))
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "events.amazonaws.com"},
        "Action": "sns:Publish",
        "Resource": topic,
        "Condition": {operator: {"aws:SourceArn": f"arn:aws:events:{EAST}:{HOME}:rule/*"}},
    }
    policy = {"Version": "2012-10-17", "Statement": [statement]}
    sns.set_topic_attributes(TopicArn=topic, AttributeName="Policy", AttributeValue=json.dumps(policy))
    events.put_events(Entries=[{"Source": "s", "DetailType": "d", "Detail": "{}"}])
    world.sandbox.settle()
    world.drop_rule(rule)
    assert [body["source"] for body in world.bodies(queue)] == (["s"] if arrives else [])
