"""A stack with one of each thing of a hub, deployed with IAM enforced: it works, updates, and leaves nothing."""

from __future__ import annotations

import importlib
import io
import json
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from crr_monitor.sandbox import Sandbox, Settings
from tests.sandbox.making import EAST, FAST, HOME, OTHER, WEST, World, rule

pytest.importorskip("ministack")
pytest.importorskip("boto3")

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TEMPLATE = Path(__file__).with_name("hub.yaml")
PROCESS = """
import json, os, boto3
client = boto3.client("dynamodb")
def handler(event, context):
    failed = []
    for record in event.get("Records", []):
        body = json.loads(record["body"])
        if "detail" not in body:
            failed.append({"itemIdentifier": record["messageId"]})
            continue
        parameters = body["detail"].get("requestParameters", {"key": body["detail"].get("text")})
        client.update_item(
            TableName=os.environ["TABLE"],
            Key={"pk": {"S": parameters["key"]}},
            UpdateExpression="SET greeting = :g",
            ExpressionAttributeValues={":g": {"S": os.environ["GREETING"]}},
        )
    if not event.get("Records"):
        try:
            client.update_item(TableName=os.environ["STATISTICS"], Key={"pk": {"S": "forbidden"}})
        except client.exceptions.ClientError as error:
            client.update_item(
                TableName=os.environ["TABLE"],
                Key={"pk": {"S": "denied"}},
                UpdateExpression="SET code = :c",
                ExpressionAttributeValues={":c": {"S": error.response["Error"]["Code"]}},
            )
    return {"batchItemFailures": failed}
"""


def soon(value: Callable[[], Any], wanted: object) -> None:
    """Wait until a value is what is wanted; then, or at the end, compare."""
    deadline = time.monotonic() + 60
    while value() != wanted and time.monotonic() < deadline:
        time.sleep(0.05)
    assert value() == wanted


class Stack:
    """The deployed stack, with its outputs."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.name = "crr-hub"
        self.watched = world.bucket("orders")
        self.replica = world.bucket("dr", region=WEST)
        self.client = world.sandbox.client("cloudformation", HOME, EAST)
        code = world.bucket("code")
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as package:
            package.writestr("process.py", PROCESS)
        world.s3().put_object(Bucket=code, Key="process.zip", Body=archive.getvalue())
        self.parameters = {"CodeBucket": code, "Watched": self.watched, "Sender": OTHER}

    def apply(self, verb: str, **changes: str) -> dict[str, str]:
        """Create or update the stack; returns its outputs."""
        self.parameters |= changes
        parameters = [{"ParameterKey": key, "ParameterValue": value} for key, value in self.parameters.items()]
        ask = {"create": self.client.create_stack, "update": self.client.update_stack}[verb]
        options = {"TemplateBody": TEMPLATE.read_text(), "Parameters": parameters, "Capabilities": ["CAPABILITY_IAM"]}
        ask(StackName=self.name, **options)
        self.client.get_waiter(f"stack_{verb}_complete").wait(
            StackName=self.name, WaiterConfig={"Delay": 0.2, "MaxAttempts": 150}
        )
        (stack,) = self.client.describe_stacks(StackName=self.name)["Stacks"]
        return {each["OutputKey"]: each["OutputValue"] for each in stack["Outputs"]}

    def greeting(self, table: str, key: str) -> str | None:
        """What the function wrote for a key."""
        client = self.world.sandbox.client("dynamodb", HOME, EAST)
        item = client.get_item(TableName=table, Key={"pk": {"S": key}}, ConsistentRead=True).get("Item")
        return item["greeting"]["S"] if item else None


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """A sandbox that enforces IAM."""
    settings = Settings(auth=True, replication=FAST, notification=FAST, event=FAST, trail=FAST)
    with Sandbox(settings) as running:
        yield World(running)


@pytest.fixture(scope="module")
def stack(world: World) -> Stack:
    """The stack's bucket pair and code, not yet deployed."""
    return Stack(world)


@pytest.fixture(scope="module")
def outputs(stack: Stack) -> dict[str, str]:
    """The outputs of the deployed stack."""
    return stack.apply("create")


def test_the_trail_of_the_stack_logs(world: World, stack: Stack, outputs: dict[str, str]) -> None:
    """``AWS::CloudTrail::Trail``: Ref is its name, GetAtt its ARN, it logs, with the selectors of the template."""
    cloudtrail = world.sandbox.client("cloudtrail", HOME, EAST)
    found = cloudtrail.get_trail(Name=outputs["Trail"])["Trail"]
    assert (found["TrailARN"], found["IsMultiRegionTrail"]) == (outputs["TrailArn"], True)
    assert cloudtrail.get_trail_status(Name=outputs["Trail"])["IsLogging"] is True
    (selector,) = cloudtrail.get_event_selectors(TrailName=outputs["Trail"])["AdvancedEventSelectors"]
    assert selector["FieldSelectors"][3]["StartsWith"] == [f"arn:aws:s3:::{stack.watched}/"]


def test_a_write_travels_through_the_stack_into_both_tables(
    world: World, stack: Stack, outputs: dict[str, str]
) -> None:
    """Write, CloudTrail, rule, topic, queue, function, table, stream, function, table: with every role enforced."""
    key = "2026/a b+é.txt"
    world.put(stack.watched, key)
    world.sandbox.settle(functions=True)
    soon(lambda: stack.greeting(outputs["Table"], key), "hello")
    dynamodb = world.sandbox.client("dynamodb", HOME, EAST)

    def seen() -> bool:
        item = dynamodb.get_item(TableName=outputs["Statistics"], Key={"pk": {"S": "changes"}}).get("Item")
        return item is not None and int(item["seen"]["N"]) >= 1

    soon(seen, wanted=True)


def test_what_a_function_cannot_process_ends_in_the_dead_letter_queue(
    world: World, stack: Stack, outputs: dict[str, str]
) -> None:
    """A partial batch response returns the one message, not its neighbours; after two attempts it is set aside."""
    sqs = world.sandbox.client("sqs", HOME, EAST)
    url = sqs.get_queue_url(QueueName=outputs["Queue"].rsplit(":", 1)[-1])["QueueUrl"]
    entries = [
        {"Id": "good", "MessageBody": json.dumps({"detail": {"text": "neighbour"}})},
        {"Id": "bad", "MessageBody": json.dumps({"nothing": 1})},
    ]
    sqs.send_message_batch(QueueUrl=url, Entries=entries)
    soon(lambda: stack.greeting(outputs["Table"], "neighbour"), "hello")
    soon(lambda: world.sandbox.state()["queues"].get(outputs["Dead"]), 1)
    assert world.bodies(outputs["Dead"]) == [{"nothing": 1}]


def test_an_agent_may_send_to_the_bus_and_nobody_else(world: World, stack: Stack, outputs: dict[str, str]) -> None:
    """``AWS::Events::EventBusPolicy`` lets the one account in; another account's event is undeliverable."""
    for account, arrives in ((OTHER, True), ("999988887777", False)):
        events = world.sandbox.client("events", account, WEST)
        statement = {"Effect": "Allow", "Action": "events:PutEvents", "Resource": outputs["Bus"]}
        role = world.role("agent", "events.amazonaws.com", statement, account=account)
        world.catch(outputs["Bus"], {"source": ["agent"]}, account, WEST, RoleArn=role)
        entry = {"Source": "agent", "DetailType": "t", "Detail": json.dumps({"text": f"from-{account}"})}
        events.put_events(Entries=[entry])
        world.sandbox.settle(functions=True)
        if arrives:
            soon(lambda: stack.greeting(outputs["Table"], f"from-{OTHER}"), "hello")
    assert [each["code"] for each in world.sandbox.state()["undeliverable"]] == ["NO_PERMISSIONS"]


def test_a_function_may_do_what_its_role_says_and_no_more(world: World, stack: Stack, outputs: dict[str, str]) -> None:
    """The schedule invokes it, and its call outside its role is refused."""
    del stack
    assert world.sandbox.run_rule(HOME, EAST, outputs["Schedule"]) == 1
    dynamodb = world.sandbox.client("dynamodb", HOME, EAST)

    def code() -> str | None:
        item = dynamodb.get_item(TableName=outputs["Table"], Key={"pk": {"S": "denied"}}).get("Item")
        return item["code"]["S"] if item else None

    soon(code, "AccessDeniedException")


def test_replication_needs_its_role_where_iam_is_enforced(world: World, stack: Stack, outputs: dict[str, str]) -> None:
    """The minimum role of S3's documentation replicates; a role that does not exist does not."""
    del outputs
    source, target = f"arn:aws:s3:::{stack.watched}", f"arn:aws:s3:::{stack.replica}/*"
    role = world.role(
        "crr",
        "s3.amazonaws.com",
        {"Effect": "Allow", "Action": ["s3:GetReplicationConfiguration", "s3:ListBucket"], "Resource": source},
        {
            "Effect": "Allow",
            "Action": [
                "s3:GetObjectVersionForReplication",
                "s3:GetObjectVersionAcl",
                "s3:GetObjectVersionTagging",
            ],
            "Resource": f"{source}/*",
        },
        {
            "Effect": "Allow",
            "Action": ["s3:ReplicateObject", "s3:ReplicateDelete", "s3:ReplicateTags"],
            "Resource": target,
        },
    )
    found = []
    for each in (role, f"arn:aws:iam::{HOME}:role/none"):
        world.replicate(stack.watched, rule(stack.replica), role=each)
        version = world.put(stack.watched, "r", Tagging="a=b")
        world.sandbox.settle()
        found.append(world.status(stack.watched, "r", version))
    assert found == ["COMPLETED", "FAILED"]


def test_a_role_in_another_account_sees_what_it_may(world: World, stack: Stack, outputs: dict[str, str]) -> None:
    """An assumed role HEADs versions and markers; what is missing is 404 with ``s3:ListBucket`` and 403 without."""
    del outputs
    iam, boto3 = world.sandbox.client("iam", HOME, EAST), importlib.import_module("boto3")
    principal = {"AWS": f"arn:aws:iam::{OTHER}:root"}
    trust = {"Statement": [{"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}]}
    arn = iam.create_role(RoleName="agent", AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
    version = world.put(stack.watched, "seen")
    marker = world.s3().delete_object(Bucket=stack.watched, Key="seen")["VersionId"]
    keys = world.sandbox.client("sts", OTHER, EAST).assume_role(RoleArn=arn, RoleSessionName="hub")["Credentials"]
    s3 = boto3.client(
        "s3",
        endpoint_url=world.sandbox.endpoint,
        region_name=EAST,
        aws_access_key_id=keys["AccessKeyId"],
        aws_secret_access_key=keys["SecretAccessKey"],
        aws_session_token=keys["SessionToken"],
    )

    def head(version_id: str) -> int:
        try:
            answer = s3.head_object(Bucket=stack.watched, Key="seen", VersionId=version_id)
        except s3.exceptions.ClientError as error:
            answer = error.response
        return int(answer["ResponseMetadata"]["HTTPStatusCode"])

    found = []
    for actions in (["s3:ListBucket"], ["s3:GetObjectVersion"], ["s3:GetObjectVersion", "s3:ListBucket"]):
        resources = [f"arn:aws:s3:::{stack.watched}", f"arn:aws:s3:::{stack.watched}/*"]
        statement = {"Effect": "Allow", "Action": actions, "Resource": resources}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        iam.put_role_policy(RoleName="agent", PolicyName="p", PolicyDocument=policy)
        found.append([head(each) for each in (version, marker, "none")])
    assert found == [[403, 403, 403], [200, 405, 403], [200, 405, 404]]


def test_tables_have_stream_index_and_expiry(world: World, stack: Stack, outputs: dict[str, str]) -> None:
    """The status table is as the template says."""
    del stack
    dynamodb = world.sandbox.client("dynamodb", HOME, EAST)
    table = dynamodb.describe_table(TableName=outputs["Table"])["Table"]
    assert table["StreamSpecification"] == {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}
    assert [index["IndexName"] for index in table["GlobalSecondaryIndexes"]] == ["open"]
    expiry = dynamodb.describe_time_to_live(TableName=outputs["Table"])["TimeToLiveDescription"]
    assert table["SSEDescription"]["Status"] == "ENABLED"
    assert expiry == {"TimeToLiveStatus": "ENABLED", "AttributeName": "expires"}


def test_expired_items_leave_through_the_stream(world: World, stack: Stack, outputs: dict[str, str]) -> None:
    """What has expired stays until it is deleted; then the stream's reader sees a deletion by the service."""
    del stack
    dynamodb, now = world.sandbox.client("dynamodb", HOME, EAST), int(time.time())

    def found(table: str, key: str) -> dict[str, Any] | None:
        item: dict[str, Any] | None = dynamodb.get_item(TableName=table, Key={"pk": {"S": key}}).get("Item")
        return item

    times = {"old": {"N": str(now - 5)}, "new": {"N": str(now + 500)}, "text": {"S": str(now - 5)}}
    for key, expires in times.items():
        dynamodb.put_item(TableName=outputs["Table"], Item={"pk": {"S": key}, "expires": expires})
    assert [key for key in times if found(outputs["Table"], key)] == ["old", "new", "text"]
    assert world.sandbox.expire() == 1
    assert [key for key in times if found(outputs["Table"], key)] == ["new", "text"]
    one = {"pk": {"S": "dynamodb.amazonaws.com"}, "seen": {"N": "1"}}
    soon(lambda: found(outputs["Statistics"], "dynamodb.amazonaws.com"), one)


def test_an_update_changes_what_changed(world: World, stack: Stack, outputs: dict[str, str]) -> None:
    """Environment, rule state, custom resource and named query follow a parameter; all else keeps its identity."""
    new = stack.apply("update", Greeting="salut", State="DISABLED")
    same = [name for name in new if new[name] == outputs[name]]
    assert sorted(set(new) - set(same)) == ["Query"]
    athena = world.sandbox.client("athena", HOME, EAST)
    assert athena.get_named_query(NamedQueryId=new["Query"])["NamedQuery"]["QueryString"] == "SELECT 'salut'"
    events = world.sandbox.client("events", HOME, EAST)
    assert events.describe_rule(Name=new["Schedule"])["State"] == "DISABLED"
    world.put(stack.watched, "after")
    soon(lambda: stack.greeting(new["Table"], "after"), "salut")


def test_deletion_leaves_nothing(world: World, stack: Stack, outputs: dict[str, str]) -> None:
    """After the stack's deletion there is no trail, bus, query, table, function, queue or topic, in either Region."""
    del outputs
    stack.client.delete_stack(StackName=stack.name)
    stack.client.get_waiter("stack_delete_complete").wait(
        StackName=stack.name, WaiterConfig={"Delay": 0.2, "MaxAttempts": 150}
    )
    get = world.sandbox.client
    left = {
        "trails": get("cloudtrail", HOME, EAST).describe_trails()["trailList"],
        "buses": [bus["Name"] for bus in get("events", HOME, EAST).list_event_buses()["EventBuses"]],
        "rules": get("events", HOME, EAST).list_rules()["Rules"],
        "queries": get("athena", HOME, EAST).list_named_queries()["NamedQueryIds"],
        "tables": get("dynamodb", HOME, EAST).list_tables()["TableNames"],
        "functions": get("lambda", HOME, EAST).list_functions()["Functions"],
        "mappings": get("lambda", HOME, EAST).list_event_source_mappings()["EventSourceMappings"],
        "queues": get("sqs", HOME, EAST).list_queues().get("QueueUrls", []),
        "topics": [*get("sns", HOME, EAST).list_topics()["Topics"], *get("sns", HOME, WEST).list_topics()["Topics"]],
    }
    assert left == {name: ["default"] if name == "buses" else [] for name in left}
