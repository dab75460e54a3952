"""A whole organization: the hub in one account, agents in all others by the stack set whose commands deploy prints."""

from __future__ import annotations

import importlib
import json
import os
import shlex
import time
from typing import TYPE_CHECKING, Any

import pytest

from crr_monitor.cli.main import main
from crr_monitor.core.model import Status
from crr_monitor.sandbox import Latency, Sandbox, Settings
from crr_monitor.stores.dynamodb import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crr_monitor.stores.dynamodb import DynamoStore

MANAGEMENT = "100000000001"
HUB = "111122223333"
MEMBERS = ("200000000001", "200000000002", "200000000003")
OUTSIDE = "300000000001"
HOME = "us-east-1"
ABROAD = "eu-west-1"
WAIT_SECONDS = 200.0
"""At most: what set-up cannot do at once comes again after a minute, twice."""
SOON = Latency(0.01)
STACK_SETS = "member.org.stacksets.cloudformation.amazonaws.com"


def source(account: str) -> str:
    """The bucket of an account that replicates."""
    return f"source-{account}"


def destination(account: str) -> str:
    """Its bucket that receives: its own objects, and those of the hub's account."""
    return f"destination-{account}"


class Organization:
    """The accounts with their buckets, the hub deployed for them, and what deploying it has said."""

    def __init__(self, sandbox: Sandbox, capsys: pytest.CaptureFixture[str], *parameters: str) -> None:
        self.sandbox = sandbox
        self.capsys = capsys
        self.id = sandbox.organization(MANAGEMENT, HUB, *MEMBERS)
        self.root = self.client("organizations", MANAGEMENT).list_roots()["Roots"][0]["Id"]
        self.client("cloudformation", MANAGEMENT).activate_organizations_access()
        for account in (HUB, *MEMBERS, OUTSIDE):
            self._make(account)
        self._replicate(HUB, *map(destination, (HUB, MEMBERS[2])))
        for account in (*MEMBERS[:2], OUTSIDE):
            self._replicate(account, destination(account))
        given = (f"AgentOrganization={self.id}", "Schedule=rate(24 hours)", *parameters)
        self.outputs = self.deploy(HUB, "hub", *given)
        self.store = self._open()

    def client(self, service: str, account: str, region: str = HOME) -> Any:  # noqa: ANN401 - boto3's
        """A client of an account's root user."""
        return self.sandbox.client(service, account, region)

    def _make(self, account: str) -> None:
        iam = self.client("iam", account)
        for name, body in (("source", HOME), ("destination", ABROAD)):
            s3, bucket = self.client("s3", account, body), f"{name}-{account}"
            place = {} if body == HOME else {"CreateBucketConfiguration": {"LocationConstraint": body}}
            s3.create_bucket(Bucket=bucket, **place)
            s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        trust = {"Effect": "Allow", "Principal": {"Service": "s3.amazonaws.com"}, "Action": "sts:AssumeRole"}
        iam.create_role(RoleName="replication", AssumeRolePolicyDocument=document(trust))
        everything = document({"Effect": "Allow", "Action": "s3:*", "Resource": "*"})
        iam.put_role_policy(RoleName="replication", PolicyName="all", PolicyDocument=everything)
        from_hub = {
            "Effect": "Allow",
            "Principal": {"AWS": f"arn:aws:iam::{HUB}:root"},
            "Action": ["s3:ReplicateObject", "s3:ReplicateDelete", "s3:ReplicateTags"],
            "Resource": f"arn:aws:s3:::{destination(account)}/*",
        }
        self.client("s3", account, ABROAD).put_bucket_policy(Bucket=destination(account), Policy=document(from_hub))

    def _replicate(self, account: str, *targets: str) -> None:
        rules = [
            {
                "ID": target,
                "Status": "Enabled",
                "Priority": number,
                "Filter": {"Prefix": ""},
                "DeleteMarkerReplication": {"Status": "Disabled"},
                "Destination": {"Bucket": f"arn:aws:s3:::{target}"},
            }
            for number, target in enumerate(targets, 1)
        ]
        configuration = {"Role": f"arn:aws:iam::{account}:role/replication", "Rules": rules}
        self.client("s3", account).put_bucket_replication(
            Bucket=source(account), ReplicationConfiguration=configuration
        )

    def run(self, account: str, *arguments: str) -> tuple[str, list[str]]:
        """The program with an account's credentials; gives what it prints, and the lines of what it says."""
        os.environ.update(AWS_ACCESS_KEY_ID=account, AWS_SECRET_ACCESS_KEY="test")  # noqa: S106 - the sandbox's
        where = ("--region", HOME, "--endpoint-url", self.sandbox.endpoint)
        status = main([*arguments[:2], "-y", *where, *arguments[2:]])
        told = self.capsys.readouterr()
        assert status == 0, told.err
        return told.out, told.err.splitlines()

    def deploy(self, account: str, kind: str, *parameters: str) -> dict[str, str]:
        """Deploy; gives the outputs, and keeps what was said."""
        given = [part for each in parameters for part in ("--parameter", each)]
        out, self.said = self.run(account, "deploy", kind, *given, "-o", "json")
        return {each["name"]: each["value"] for each in json.loads(out)}

    def _open(self) -> DynamoStore:
        os.environ.update(AWS_ACCESS_KEY_ID=HUB, AWS_SECRET_ACCESS_KEY="test")  # noqa: S106
        return open_store(f"{self.outputs['StoreUrl']}&endpoint={self.sandbox.endpoint}")

    def printed(self, lines: list[str], operation: str) -> str:
        """The AWS CLI's command for an operation among what the program said, with the organization's root."""
        (line,) = [line for line in lines if line.startswith(f"  aws cloudformation {operation} ")]
        return line.replace("ROOT-OR-UNIT", self.root)

    def aws(self, account: str, line: str) -> dict[str, Any]:
        """Run a command of the AWS CLI and wait for the end of the operation that it begins."""
        client = self.client("cloudformation", account)
        operation, request = parsed(line, client)
        answer: dict[str, Any] = getattr(client, operation)(**request)
        told = {name: request[name] for name in ("StackSetName", "CallAs") if name in request}
        end = time.monotonic() + WAIT_SECONDS
        while "OperationId" in answer and time.monotonic() < end:
            number = answer["OperationId"]
            state = client.describe_stack_set_operation(**told, OperationId=number)["StackSetOperation"]["Status"]
            if state != "RUNNING":
                results = client.list_stack_set_operation_results(**told, OperationId=number)["Summaries"]
                return {each["Account"]: each["Status"] + each.get("StatusReason", "") for each in results}
            time.sleep(0.1)
        return answer

    def write(self, account: str, key: str) -> str:
        """Write an object into an account's source bucket; gives its version id."""
        return str(self.client("s3", account).put_object(Bucket=source(account), Key=key, Body=b"x")["VersionId"])

    def notifications(self, region: str) -> dict[str, Any]:
        """A bucket's settings with which it tells the hub's topic in its Region what is written to it."""
        topic = f"arn:aws:sns:{region}:{HUB}:crr-monitor-{self.outputs['HubToken']}-events"
        return {"TopicConfigurations": [{"TopicArn": topic, "Events": ["s3:ObjectCreated:*"]}]}

    def received(self) -> list[dict[str, Any]]:
        """All records that buckets have told the hub's queue; S3 tries each new topic with another message."""
        sqs, found = self.client("sqs", HUB), list[dict[str, Any]]()
        while told := sqs.receive_message(QueueUrl=self.outputs["QueueUrl"], MaxNumberOfMessages=10).get("Messages"):
            for each in told:
                found += json.loads(each["Body"]).get("Records", [])
        return found

    def drain(self) -> None:
        """Let the hub take everything that was told."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        sqs, end = self.client("sqs", HUB), time.monotonic() + WAIT_SECONDS
        self.sandbox.settle(WAIT_SECONDS, functions=True)
        while time.monotonic() < end:
            told = sqs.get_queue_attributes(QueueUrl=self.outputs["QueueUrl"], AttributeNames=names)["Attributes"]
            if not sum(int(told[name]) for name in names):
                return
            self.sandbox.run_rule(HUB, HOME, self._physical_id("ProcessSchedule"))
            self.sandbox.settle(WAIT_SECONDS, functions=True)

    def await_agents(self) -> None:
        """Wait until the hub knows all rules, and has told the one agent what others replicate to it.

        Agents that come at the same time make set-up runs at the same time; one that fails is tried again by Lambda.
        """
        wanted = {source(account) for account in (HUB, *MEMBERS[:2])}
        rules, end = self.client("events", MEMBERS[2], ABROAD), time.monotonic() + WAIT_SECONDS
        while time.monotonic() < end:
            known = {config.bucket for config in self.store.topology().configs if config.rules}
            names = {each["Name"].rpartition("-events-")[1] for each in rules.list_rules()["Rules"]}
            if known == wanted and "-events-" in names:
                break
            time.sleep(0.2)
        self.sandbox.settle(WAIT_SECONDS, functions=True)
        time.sleep(1.0)  # CloudTrail's times have whole seconds, and a configuration counts from when it was learned

    def agents(self) -> list[str]:
        """The accounts whose agents the hub remembers."""
        path, ssm = f"/crr-monitor/{self.outputs['HubToken']}/agent", self.client("ssm", HUB)
        return [each["Name"].rsplit("/", 1)[-1] for each in ssm.get_parameters_by_path(Path=path)["Parameters"]]

    def _physical_id(self, logical_id: str) -> str:
        told = self.client("cloudformation", HUB).describe_stack_resource(
            StackName="crr-monitor", LogicalResourceId=logical_id
        )
        return str(told["StackResourceDetail"]["PhysicalResourceId"])

    def left(self, account: str) -> list[str]:
        """What of ours is in an account, by kind and name."""
        found = [each["RoleName"] for each in self.client("iam", account).list_roles()["Roles"]]
        for region in (HOME, ABROAD):
            events = self.client("events", account, region)
            found += [each["Name"] for each in events.list_rules()["Rules"]]
            found += [each["Name"] for each in events.list_event_buses()["EventBuses"]]
            found += self.client("sqs", account, region).list_queues().get("QueueUrls", [])
            found += [
                each["FunctionName"] for each in self.client("lambda", account, region).list_functions()["Functions"]
            ]
            found += [each["Name"] for each in self.client("ssm", account, region).describe_parameters()["Parameters"]]
            found += [
                each["Name"] for each in self.client("cloudtrail", account, region).describe_trails()["trailList"]
            ]
        return sorted({*found} - {"replication", "default"})


def document(statement: dict[str, Any]) -> str:
    """A policy with one statement."""
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def parsed(line: str, client: Any) -> tuple[str, dict[str, Any]]:  # noqa: ANN401 - boto3's
    """A command of the AWS CLI as boto3's method and its arguments; of the CLI's shorthand what the commands use."""
    words = shlex.split(line)
    assert words[:2] == ["aws", "cloudformation"]
    operation = words[2].replace("-", "_")
    shape = client.meta.service_model.operation_model(client.meta.method_to_api_mapping[operation]).input_shape
    members = {cli_name(name): name for name in shape.members}
    request: dict[str, Any] = {}
    options = [*words[3:], "--"]
    while options[0] != "--":
        name, value = options.pop(0).removeprefix("--"), None
        if not options[0].startswith("--"):
            value = options.pop(0)
        if name == "region":
            assert value == client.meta.region_name
        elif value is None:
            request[members[name.removeprefix("no-")]] = not name.startswith("no-")
        else:
            request[members[name]] = converted(value, shape.members[members[name]].type_name)
    return operation, request


def cli_name(name: str) -> str:
    """``TemplateURL`` is ``template-url`` there."""
    botocore = importlib.import_module("botocore")  # an extra, which this module can be collected without
    return str(botocore.xform_name(name, "-"))


def converted(value: str, kind: str) -> Any:  # noqa: ANN401 - whatever the API takes
    """JSON, or ``Name=value,...``, or a list of one, or a text."""
    if value[0] in "[{":
        return json.loads(value)
    if kind == "structure":
        pairs = dict(part.split("=") for part in value.split(","))
        typed: dict[str, Any] = {"true": True, "false": False}
        return {name: int(each) if each.isdigit() else typed.get(each, each) for name, each in pairs.items()}
    return [value] if kind == "list" else value


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """A sandbox that enforces IAM, and to which the program goes."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, os.devnull)
    settings = Settings(seed=1, auth=True, replication=SOON, notification=SOON, event=SOON, trail=SOON)
    with Sandbox(settings) as running:
        yield running


def test_agents_everywhere(sandbox: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    """The printed commands put agents into all member accounts, the hub knows all of them and no outsider, all can go.

    Agents have the same parameters and code in every account. A stranger's agent with these parameters reaches neither
    the code nor the hub's bus.
    """
    system = Organization(sandbox, capsys)
    said = system.said
    assert set(system.aws(MANAGEMENT, system.printed(said, "create-stack-set"))) == {"StackSetId", "ResponseMetadata"}
    done = system.aws(MANAGEMENT, system.printed(said, "create-stack-instances"))
    assert done == dict.fromkeys(MEMBERS, "SUCCEEDED")
    told = ("HubAccount", "HubToken", "HubBusArn", "HubRoleArns", "EventSource")
    system.deploy(OUTSIDE, "agent", *(f"{name}={system.outputs[name]}" for name in told))
    assert (
        system.said[-1] == f"  crr-monitor topology --discover --endpoint-url {system.sandbox.endpoint} --region {HOME}"
    )
    system.await_agents()
    assert system.agents() == list(MEMBERS)

    written = {account: system.write(account, f"a b/{account}") for account in (HUB, *MEMBERS[:2], OUTSIDE)}
    system.drain()
    seen = {
        account: [
            {copy.bucket: copy.status for copy in record.visible_copies}
            for record in system.store.versions(source(account), f"a b/{account}", version_id)
        ]
        for account, version_id in written.items()
    }
    done_there = Status.COMPLETED
    assert seen == {
        HUB: [{destination(HUB): done_there, destination(MEMBERS[2]): done_there}],
        MEMBERS[0]: [{destination(MEMBERS[0]): done_there}],
        MEMBERS[1]: [{destination(MEMBERS[1]): done_there}],
        OUTSIDE: [],
    }
    undelivered = system.sandbox.state()["undeliverable"]
    assert {(each["rule"].split(":")[4], each["code"]) for each in undelivered} == {(OUTSIDE, "NO_PERMISSIONS")}

    _, lines = system.run(HUB, "destroy", "hub")
    assert system.agents() == []
    lines = [line.removeprefix("  ") for line in lines]
    removal = [system.printed(lines, name) for name in ("delete-stack-instances", "delete-stack-set")]
    assert system.aws(MANAGEMENT, removal[0]) == dict.fromkeys(MEMBERS, "SUCCEEDED")
    system.aws(MANAGEMENT, removal[1])
    assert {account: system.left(account) for account in MEMBERS} == {account: [] for account in MEMBERS}

    for account in (HUB, *MEMBERS):
        system.run(account, "destroy", "agent", "--purge")
        names = [each["Name"] for each in system.client("s3", account).list_buckets()["Buckets"]]
        assert sorted(names) == [destination(account), source(account)]


def test_members_buckets_may_publish(sandbox: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    """With S3Notifications the hub's topics, the template's and set-up's, take events of the organization's buckets.

    A bucket of another account cannot even name them.
    """
    system = Organization(sandbox, capsys, "EventSource=S3Notifications")
    places = ((source(MEMBERS[0]), HOME), (destination(MEMBERS[0]), ABROAD))
    for bucket, region in places:
        system.client("s3", MEMBERS[0], region).put_bucket_notification_configuration(
            Bucket=bucket, NotificationConfiguration=system.notifications(region)
        )
    for bucket, region in places:
        system.client("s3", MEMBERS[0], region).put_object(Bucket=bucket, Key=f"written-to-{bucket}", Body=b"x")
    sandbox.settle(WAIT_SECONDS, functions=True)
    told = {(each["s3"]["bucket"]["name"], each["s3"]["object"]["key"]) for each in system.received()}
    here, there = source(MEMBERS[0]), destination(MEMBERS[0])
    written = {(here, f"written-to-{here}"), (there, f"written-to-{there}")}
    assert told == {*written, (there, f"written-to-{here}")}  # the replica, too
    stranger = system.client("s3", OUTSIDE)
    with pytest.raises(stranger.exceptions.ClientError) as caught:
        stranger.put_bucket_notification_configuration(
            Bucket=source(OUTSIDE), NotificationConfiguration=system.notifications(HOME)
        )
    assert caught.value.response["Error"]["Code"] == "InvalidArgument"
