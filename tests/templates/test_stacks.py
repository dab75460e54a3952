"""Both templates, deployed into a local AWS.

Hub and agent find each other, events arrive, and nothing is left behind.
"""

from __future__ import annotations

import hashlib
import io
import json
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

import crr_monitor
from crr_monitor import templates
from crr_monitor.aws.artifacts import Bucket
from crr_monitor.aws.patterns import buckets_in
from crr_monitor.sandbox import Sandbox
from crr_monitor.stores.dynamodb import open_store
from tests.aws.making import AGENT, HOME, HUB, make_bucket, replicate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ABROAD = "eu-west-1"
FAR = "sa-east-1"
ROOMS = ("aws", "core", "decode", "lambdas", "process", "sinks", "sources", "stores")
SECONDS = 60.0


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """A sandbox with the buckets of two accounts: each is a source, and each a destination of the other."""
    with Sandbox() as running:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", HUB)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        for account in (HUB, AGENT):
            allow_replication(running, account)
        make_bucket(running, "orders")
        make_bucket(running, "orders-dr", ABROAD)
        make_bucket(running, "theirs", FAR, account=AGENT)
        make_bucket(running, "audit", ABROAD, account=AGENT)
        allow_writes(running, "orders-dr", HUB, AGENT)
        allow_writes(running, "audit", AGENT, HUB)
        replicate(running, "orders", "orders-dr", "audit")
        replicate(running, "theirs", "orders-dr", region=FAR, account=AGENT)
        yield running


def document(*statements: dict[str, Any]) -> str:
    """A policy."""
    return json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", **each} for each in statements]})


def allow_replication(sandbox: Sandbox, account: str) -> None:
    """Make the role with which S3 replicates."""
    iam = sandbox.client("iam", account, HOME)
    trust = document({"Principal": {"Service": "s3.amazonaws.com"}, "Action": "sts:AssumeRole"})
    iam.create_role(RoleName="replication", AssumeRolePolicyDocument=trust)
    everything = document({"Action": "s3:*", "Resource": "*"})
    iam.put_role_policy(RoleName="replication", PolicyName="all", PolicyDocument=everything)


def allow_writes(sandbox: Sandbox, bucket: str, owner: str, writer: str) -> None:
    """Let another account's role replicate into a bucket."""
    actions = ["s3:ReplicateObject", "s3:ReplicateDelete", "s3:ReplicateTags"]
    resource = f"arn:aws:s3:::{bucket}/*"
    policy = document({"Principal": {"AWS": writer}, "Action": actions, "Resource": resource})
    sandbox.client("s3", owner, ABROAD).put_bucket_policy(Bucket=bucket, Policy=policy)


def code() -> bytes:
    """The functions' zip, with this environment's msgspec; handlers that are not written yet do nothing."""
    found = io.BytesIO()
    package, library = Path(crr_monitor.__file__).parent, Path(msgspec.__file__).parent
    with zipfile.ZipFile(found, "w") as archive:
        for path in [*package.glob("*.py"), *(each for room in ROOMS for each in (package / room).glob("*.py"))]:
            archive.write(path, path.relative_to(package.parent))
        for path in library.glob("*.*"):
            archive.write(path, path.relative_to(library.parent))
        for name in ("process", "settle"):
            if not (package / "lambdas" / f"{name}.py").exists():
                archive.writestr(f"crr_monitor/lambdas/{name}.py", "def handler(event, context): return {}\n")
    return found.getvalue()


def upload(sandbox: Sandbox, account: str, region: str) -> tuple[Bucket, dict[str, str]]:
    """Put the code where a stack finds it."""
    zipped = code()
    bucket, key = f"code-{account}", hashlib.sha256(zipped).hexdigest() + ".zip"
    make_bucket(sandbox, bucket, region, account)
    artifacts = Bucket(sandbox.client("s3", account, region), bucket, account, region)
    artifacts.put(key, zipped)
    return artifacts, {"CodeBucket": bucket, "CodeKey": key}


def until(condition: Callable[[], Any]) -> Any:  # noqa: ANN401 - what the condition gives
    """Wait for something; its last value when it does not come."""
    deadline = time.monotonic() + SECONDS
    while not (found := condition()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return found


class Deployed:
    """A stack."""

    def __init__(self, sandbox: Sandbox, account: str, region: str, template: str, **parameters: str) -> None:
        self._client = sandbox.client("cloudformation", account, region)
        self._name = template.partition(".")[0]
        artifacts, at = upload(sandbox, account, region)
        given = {**parameters, **at}
        self._client.create_stack(
            StackName=self._name,
            TemplateURL=artifacts.put_template(templates.text(template))[0].url,
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in given.items()],
            Capabilities=["CAPABILITY_NAMED_IAM"],
        )
        assert until(self._settled) == "CREATE_COMPLETE", self._failures()

    def _stack(self) -> dict[str, Any] | None:
        listed = self._client.list_stacks()["StackSummaries"]
        if all(each["StackStatus"] == "DELETE_COMPLETE" for each in listed if each["StackName"] == self._name):
            return None
        found: dict[str, Any] = self._client.describe_stacks(StackName=self._name)["Stacks"][0]
        return found

    def _settled(self) -> str:
        stack = self._stack()
        status = "DELETE_COMPLETE" if stack is None else str(stack["StackStatus"])
        return "" if status.endswith("IN_PROGRESS") else status

    def _failures(self) -> list[str]:
        events = self._client.describe_stack_events(StackName=self._name)["StackEvents"]
        return [f"{each['LogicalResourceId']}: {each.get('ResourceStatusReason')}" for each in events]

    @property
    def outputs(self) -> dict[str, str]:
        """The stack's outputs."""
        stack = self._stack() or {}
        return {each["OutputKey"]: each["OutputValue"] for each in stack.get("Outputs", [])}

    def delete(self) -> None:
        """Delete the stack, and everything that it made."""
        self._client.delete_stack(StackName=self._name)
        assert until(self._settled) == "DELETE_COMPLETE", self._failures()


def deploy_both(sandbox: Sandbox, source: str) -> tuple[Deployed, Deployed]:
    """A hub, and an agent with the hub's outputs."""
    hub = Deployed(
        sandbox,
        HUB,
        HOME,
        templates.HUB,
        EventSource=source,
        AgentAccounts=AGENT,
        BucketSettings="Change",
        Schedule="rate(1 hour)",
    )
    told = {name: hub.outputs[name] for name in templates.HUB_TELLS}
    return hub, Deployed(sandbox, AGENT, ABROAD, templates.AGENT, **told, BucketSettings="Change")


def messages(sandbox: Sandbox, hub: Deployed) -> list[str]:
    """Bucket and kind of each event that is in the queue."""
    client = sandbox.client("sqs", HUB, HOME)
    url = hub.outputs["QueueUrl"]
    bodies = []
    while found := client.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
        bodies += [json.loads(each["Body"]) for each in found]
    return sorted({_bucket(each) for each in bodies} - {""})


def _bucket(body: dict[str, Any]) -> str:
    if "Records" in body:
        return str(body["Records"][0]["s3"]["bucket"]["name"])
    detail = body.get("detail", {})
    return str(detail.get("requestParameters", {}).get("bucketName") or detail.get("bucket", {}).get("name") or "")


def is_ready(sandbox: Sandbox, source: str) -> bool:
    """Whether the agent has been told of ``audit``, and acts on it."""
    if source == "S3Notifications":
        client = sandbox.client("s3", AGENT, ABROAD)
        there = [client.get_bucket_notification_configuration(Bucket=bucket) for bucket in ("audit", "theirs")]
        return all("TopicConfigurations" in each for each in there)
    rules = sandbox.client("events", AGENT, ABROAD).list_rules(NamePrefix="crr-monitor-")["Rules"]
    return "audit" in {bucket for rule in rules for bucket in buckets_in(json.loads(rule["EventPattern"]))}


def left_behind(sandbox: Sandbox) -> list[str]:
    """Everything of ours that is in any account and Region."""
    found: list[str] = []
    for account in (HUB, AGENT):
        for region in (HOME, ABROAD, FAR):
            found += [each["Name"] for each in sandbox.client("events", account, region).list_rules()["Rules"]]
            found += [each["TopicArn"] for each in sandbox.client("sns", account, region).list_topics()["Topics"]]
            found += sandbox.client("sqs", account, region).list_queues().get("QueueUrls", [])
            found += [
                each["Name"] for each in sandbox.client("ssm", account, region).describe_parameters()["Parameters"]
            ]
            found += sandbox.client("dynamodb", account, region).list_tables()["TableNames"]
            found += [each["Name"] for each in sandbox.client("cloudtrail", account, region).list_trails()["Trails"]]
        roles = sandbox.client("iam", account, HOME).list_roles()["Roles"]
        found += [role["RoleName"] for role in roles if role["RoleName"] != "replication"]
    return found


@pytest.mark.parametrize(
    "source",
    [
        "CloudTrail",
        pytest.param("EventBridge", marks=pytest.mark.slow),
        pytest.param("S3Notifications", marks=pytest.mark.slow),
    ],
)
def test_hub_and_agent(sandbox: Sandbox, source: str) -> None:
    """Events of every source and replica of both accounts reach the hub's queue, and after deletion nothing is left."""
    hub, agent = deploy_both(sandbox, source)
    assert until(lambda: is_ready(sandbox, source))
    sandbox.settle(functions=True)
    learned = open_store(f"{hub.outputs['StoreUrl']}&endpoint={sandbox.endpoint}").topology()
    assert [(pair.source.bucket, pair.destination.bucket, pair.destination.account) for pair in learned.pairs()] == [
        ("orders", "orders-dr", HUB),
        ("orders", "audit", AGENT),
        ("theirs", "orders-dr", HUB),
    ]
    sandbox.client("s3", HUB, HOME).put_object(Bucket="orders", Key="a b", Body=b"x")
    sandbox.client("s3", AGENT, FAR).put_object(Bucket="theirs", Key="ü", Body=b"x")
    sandbox.settle()
    assert messages(sandbox, hub) == ["audit", "orders", "orders-dr", "theirs"]
    agent.delete()
    hub.delete()
    assert left_behind(sandbox) == []
    kept = [each["Name"] for each in sandbox.client("s3", HUB, HOME).list_buckets()["Buckets"]]
    assert len([name for name in kept if "trailbucket" in name]) == (source == "CloudTrail")


def test_settings_of_buckets_are_not_changed_silently(sandbox: Sandbox) -> None:
    """By default the hub with EventBridge changes no bucket, and its summary says that something is to be known."""
    hub = Deployed(sandbox, HUB, HOME, templates.HUB, EventSource="EventBridge", Schedule="rate(1 hour)")
    answer = sandbox.client("s3", HUB, HOME).get_bucket_notification_configuration(Bucket="orders")
    assert "EventBridgeConfiguration" not in answer
    assert hub.outputs["SetupSummary"].endswith("0 problems, 3 notes")
