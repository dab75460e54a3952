"""Two accounts, three Regions, buckets that replicate between them, and the monitor deployed into both accounts.

``orders`` (hub, us-east-1) replicates what begins with ``data/`` to ``orders-dr``, of that ``data/audit/`` also to the
agent's ``audit``, and ``data/broken/`` also to the agent's ``locked``, whose policy refuses it. ``theirs`` (agent,
sa-east-1) replicates everything to the hub's ``orders-dr``, and ``x/`` also to its own ``theirs-dr``. Delete markers go
to ``orders-dr`` only.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from crr_monitor import templates
from crr_monitor.aws.artifacts import Bucket
from crr_monitor.aws.stacks import Existing, Stacks, StoredTemplate
from crr_monitor.lambdas.package import Target, build
from crr_monitor.stores.dynamodb import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crr_monitor.sandbox import Sandbox
    from crr_monitor.stores.dynamodb import DynamoStore

HUB = "111122223333"
AGENT = "444455556666"
HOME = "us-east-1"
ABROAD = "eu-west-1"
FAR = "sa-east-1"
REGIONS = (HOME, ABROAD, FAR)
BUCKETS = {
    "orders": (HUB, HOME),
    "orders-dr": (HUB, ABROAD),
    "theirs": (AGENT, FAR),
    "theirs-dr": (AGENT, HOME),
    "audit": (AGENT, FAR),
    "locked": (AGENT, ABROAD),
}
WAIT_SECONDS = 200.0
"""At most: what set-up cannot do at once comes again after a minute, twice."""


def statement(effect: str, account: str, actions: list[str], resource: str) -> dict[str, Any]:
    """A statement of a bucket's policy about another account."""
    return {
        "Effect": effect,
        "Principal": {"AWS": f"arn:aws:iam::{account}:root"},
        "Action": actions,
        "Resource": f"arn:aws:s3:::{resource}",
    }


def document(*statements: dict[str, Any]) -> str:
    """A policy."""
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def rule(number: int, destination: str, prefix: str, *, markers: bool = False) -> dict[str, Any]:
    """A replication rule; with metrics, so that S3 tells of failures where it is asked to."""
    return {
        "ID": f"to-{destination}",
        "Status": "Enabled",
        "Priority": number,
        "Filter": {"Prefix": prefix},
        "DeleteMarkerReplication": {"Status": "Enabled" if markers else "Disabled"},
        "Destination": {
            "Bucket": f"arn:aws:s3:::{destination}",
            "Account": BUCKETS[destination][0] if destination in BUCKETS else HUB,
            "Metrics": {"Status": "Enabled"},
        },
    }


class System:
    """The sandbox, and the two stacks once they are deployed."""

    def __init__(self, sandbox: Sandbox, source: str, **parameters: str) -> None:
        self.sandbox = sandbox
        self.source = source
        for account in (HUB, AGENT):
            self._allow_replication(account)
        for name, place in BUCKETS.items():
            self.make_bucket(name, *place)
        self._open_buckets()
        self.replicate(
            "orders",
            rule(1, "orders-dr", "data/", markers=True),
            rule(2, "audit", "data/audit/"),
            rule(3, "locked", "data/broken/"),
        )
        self.replicate("theirs", rule(1, "orders-dr", "", markers=True), rule(2, "theirs-dr", "x/"))
        self.hub = self.deploy(
            HUB,
            HOME,
            templates.HUB,
            EventSource=source,
            AgentAccounts=AGENT,
            BucketSettings="Change",
            Schedule="rate(24 hours)",
            **parameters,
        )
        passed = {name: self.hub.outputs[name] for name in templates.HUB_TELLS}
        self.agent = self.deploy(AGENT, ABROAD, templates.AGENT, **passed, BucketSettings="Change")
        sandbox.settle(WAIT_SECONDS, functions=True)
        # A configuration counts from when it was learned, and CloudTrail's times have whole seconds.
        time.sleep(1.0)

    # Making -----------------------------------------------------------------------------------------------------------

    def s3(self, account: str, region: str) -> Any:  # noqa: ANN401 - boto3 makes its classes at run time
        """A client of S3."""
        return self.sandbox.client("s3", account, region)

    def make_bucket(self, name: str, account: str, region: str) -> None:
        """A versioned bucket."""
        place = {} if region == HOME else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        client = self.s3(account, region)
        client.create_bucket(Bucket=name, **place)
        client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})

    def replicate(self, source: str, *rules: dict[str, Any], place: tuple[str, str] | None = None) -> None:
        """Give a bucket its replication rules."""
        account, region = place or BUCKETS[source]
        configuration = {"Role": f"arn:aws:iam::{account}:role/replication", "Rules": list(rules)}
        self.s3(account, region).put_bucket_replication(Bucket=source, ReplicationConfiguration=configuration)

    def _allow_replication(self, account: str) -> None:
        iam = self.sandbox.client("iam", account, HOME)
        allow = {"Effect": "Allow"}
        trust = document({**allow, "Principal": {"Service": "s3.amazonaws.com"}, "Action": "sts:AssumeRole"})
        iam.create_role(RoleName="replication", AssumeRolePolicyDocument=trust)
        everything = document({**allow, "Action": "s3:*", "Resource": "*"})
        iam.put_role_policy(RoleName="replication", PolicyName="all", PolicyDocument=everything)

    def _open_buckets(self) -> None:
        actions = ["s3:ReplicateObject", "s3:ReplicateDelete", "s3:ReplicateTags"]
        policies = {
            "orders": statement("Allow", AGENT, ["s3:PutObject"], "orders/*"),
            "orders-dr": statement("Allow", AGENT, actions, "orders-dr/*"),
            "audit": statement("Allow", HUB, actions, "audit/*"),
            "locked": statement("Deny", HUB, ["s3:*"], "locked/*"),
        }
        for name, policy in policies.items():
            self.s3(*BUCKETS[name]).put_bucket_policy(Bucket=name, Policy=document(policy))

    def stacks(self, account: str, region: str) -> Stacks:
        """CloudFormation, asked often."""
        client = self.sandbox.client("cloudformation", account, region)
        return Stacks(client, sleep=lambda seconds: time.sleep(min(seconds, 0.2)))

    def deploy(self, account: str, region: str, template: str, **parameters: str) -> Existing:
        """Deploy a template with the real code, made for this machine."""
        package, bucket = build(Target.HOST), f"code-{account}"
        self.make_bucket(bucket, account, region)
        self.s3(account, region).put_object(Bucket=bucket, Key=package.key, Body=package.data)
        stacks = self.stacks(account, region)
        given = {**parameters, "CodeBucket": bucket, "CodeKey": package.key}
        stored = self._stored(account, region, templates.text(template))
        proposal = stacks.propose(template.partition(".")[0], stored, given)
        assert proposal is not None
        return stacks.execute(proposal, lambda _: None)

    def _stored(self, account: str, region: str, template: str) -> StoredTemplate:
        return Bucket(self.s3(account, region), f"code-{account}", account, region).put_template(template)[0]

    def update(self, source: str, **parameters: str) -> None:
        """Change the source of events in both stacks, and other parameters of the hub."""
        self.hub = self._change(HUB, HOME, self.hub, EventSource=source, **parameters)
        self.agent = self._change(AGENT, ABROAD, self.agent, EventSource=source)
        self.source = source

    def change_hub(self, **parameters: str) -> None:
        """Change parameters of the hub's stack."""
        self.hub = self._change(HUB, HOME, self.hub, **parameters)

    def change_agent(self, **parameters: str) -> None:
        """Change parameters of the agent's stack."""
        self.agent = self._change(AGENT, ABROAD, self.agent, **parameters)

    def _change(self, account: str, region: str, stack: Existing, **given: str) -> Existing:
        stacks = self.stacks(account, region)
        kept = [name for name in stack.parameters if name not in given]
        proposal = stacks.propose(stack.name, self._stored(account, region, stacks.template(stack)), given, kept)
        assert proposal is not None
        return stacks.execute(proposal, lambda _: None)

    def destroy(self) -> None:
        """Delete both stacks."""
        self.stacks(AGENT, ABROAD).delete(self.agent, lambda _: None)
        self.stacks(HUB, HOME).delete(self.hub, lambda _: None)

    # Running ----------------------------------------------------------------------------------------------------------

    def physical_id(self, logical_id: str) -> str:
        """The name of a resource of the hub."""
        found = {each.logical_id: each.physical_id for each in self.stacks(HUB, HOME).resources(self.hub)}
        return found[logical_id]

    def waiting(self, output: str) -> int:
        """Messages in the queue that an output names, those that somebody has received included."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        sqs = self.sandbox.client("sqs", HUB, HOME)
        told = sqs.get_queue_attributes(QueueUrl=self.hub.outputs[output], AttributeNames=names)["Attributes"]
        return sum(int(told[name]) for name in names)

    def drain(self) -> None:
        """Let the schedule fire until the queue is empty, and wait until what was stored is counted."""
        self.sandbox.settle(WAIT_SECONDS, functions=True)
        end = time.monotonic() + WAIT_SECONDS
        while self.waiting("QueueUrl") and time.monotonic() < end:
            assert self.sandbox.run_rule(HUB, HOME, self.physical_id("ProcessSchedule")) == 1
            self.sandbox.settle(WAIT_SECONDS, functions=True)

    def set_up(self) -> dict[str, Any]:
        """One run of the hub's set-up function, as each hour; gives what it says."""
        functions = self.sandbox.client("lambda", HUB, HOME)
        name = self.hub.outputs["SetupFunctionName"]
        answer = functions.invoke(FunctionName=name, Payload=json.dumps({"detail-type": "Scheduled Event"}))
        said: dict[str, Any] = json.load(answer["Payload"])
        assert "FunctionError" not in answer, said
        self.sandbox.settle(WAIT_SECONDS, functions=True)
        return said

    @contextmanager
    def without_agent_role(self) -> Iterator[str]:
        """The hub's role in the agent's account is removed for a while; gives its ARN."""
        role = f"crr-monitor-{self.hub.outputs['HubToken']}-agent"
        iam = self.sandbox.client("iam", AGENT, HOME)
        trust = iam.get_role(RoleName=role)["Role"]["AssumeRolePolicyDocument"]
        policy = iam.get_role_policy(RoleName=role, PolicyName="Hub")["PolicyDocument"]
        iam.delete_role_policy(RoleName=role, PolicyName="Hub")
        iam.delete_role(RoleName=role)
        try:
            yield f"arn:aws:iam::{AGENT}:role/{role}"
        finally:
            iam.create_role(RoleName=role, AssumeRolePolicyDocument=json.dumps(trust))
            iam.put_role_policy(RoleName=role, PolicyName="Hub", PolicyDocument=json.dumps(policy))

    def store(self) -> DynamoStore:
        """The hub's store, as a person opens it."""
        os.environ.update(AWS_ACCESS_KEY_ID=HUB, AWS_SECRET_ACCESS_KEY="test")  # noqa: S106 - the sandbox's
        return open_store(f"{self.hub.outputs['StoreUrl']}&endpoint={self.sandbox.endpoint}")

    def left(self) -> Iterator[str]:
        """Everything of ours that is in any account and Region, buckets apart."""
        for account in (HUB, AGENT):
            for region in REGIONS:
                yield from self._left_in(account, region)
            roles = self.sandbox.client("iam", account, HOME).list_roles()["Roles"]
            yield from (role["RoleName"] for role in roles if role["RoleName"] != "replication")

    def _left_in(self, account: str, region: str) -> Iterator[str]:
        def ask(service: str) -> Any:  # noqa: ANN401
            return self.sandbox.client(service, account, region)

        yield from (each["Name"] for each in ask("events").list_rules()["Rules"])
        yield from (
            each["Name"] for each in ask("events").list_event_buses()["EventBuses"] if each["Name"] != "default"
        )
        yield from (each["TopicArn"] for each in ask("sns").list_topics()["Topics"])
        yield from (each["SubscriptionArn"] for each in ask("sns").list_subscriptions()["Subscriptions"])
        yield from ask("sqs").list_queues().get("QueueUrls", [])
        yield from (each["Name"] for each in ask("ssm").describe_parameters()["Parameters"])
        yield from ask("dynamodb").list_tables()["TableNames"]
        yield from (each["Name"] for each in ask("cloudtrail").list_trails()["Trails"] if each["HomeRegion"] == region)
        yield from (each["FunctionName"] for each in ask("lambda").list_functions()["Functions"])
        yield from (each["UUID"] for each in ask("lambda").list_event_source_mappings()["EventSourceMappings"])
        yield from (each["AlarmName"] for each in ask("cloudwatch").describe_alarms()["MetricAlarms"])
        yield from (each["logGroupName"] for each in ask("logs").describe_log_groups()["logGroups"])
        yield from ask("firehose").list_delivery_streams()["DeliveryStreamNames"]
        yield from (each["Name"] for each in ask("glue").get_databases()["DatabaseList"] if each["Name"] != "default")
        groups = ask("athena").list_work_groups()["WorkGroups"]
        yield from (each["Name"] for each in groups if each["Name"] != "primary")
