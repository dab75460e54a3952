"""Short words for what the sandbox's tests make; everything goes over HTTP with boto3.

Buckets, queues and rules have names of their own in every test, so that one sandbox serves all tests of a module.
"""

from __future__ import annotations

import io
import itertools
import json
import zipfile
from typing import TYPE_CHECKING, Any

from crr_monitor.sandbox import Latency

if TYPE_CHECKING:
    from crr_monitor.sandbox import Sandbox

HOME = "111122223333"
OTHER = "444455556666"
EAST = "us-east-1"
WEST = "eu-west-1"
FRANKFURT = "eu-central-1"
NOT_FOUND = 404
FAST = Latency(0.002)
_numbers = itertools.count(1)


class World:
    """A sandbox in short words."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox

    def s3(self, account: str = HOME, region: str = EAST) -> Any:  # noqa: ANN401
        """An S3 client."""
        return self.sandbox.client("s3", account, region)

    def bucket(self, stem: str, account: str = HOME, region: str = EAST, *, versioned: bool = True) -> str:
        """A new bucket; its name starts with ``stem``."""
        name = f"{stem}-{next(_numbers)}"
        place = {} if region == EAST else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        self.s3(account, region).create_bucket(Bucket=name, **place)
        if versioned:
            self.version(name, account, region, "Enabled")
        return name

    def version(self, bucket: str, account: str = HOME, region: str = EAST, status: str = "Enabled") -> None:
        """Switch versioning."""
        configuration = {"Status": status}
        self.s3(account, region).put_bucket_versioning(Bucket=bucket, VersioningConfiguration=configuration)

    def function(self, name: str, source: str, **settings: Any) -> str:  # noqa: ANN401
        """A Lambda function with the handler of this source; gives its ARN."""
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as package:
            package.writestr("f.py", source)
        made = self.sandbox.client("lambda", HOME, EAST).create_function(
            FunctionName=name,
            Runtime="python3.13",
            Handler="f.handler",
            Role=f"arn:aws:iam::{HOME}:role/f",
            Code={"ZipFile": archive.getvalue()},
            **settings,
        )
        return str(made["FunctionArn"])

    def replicate(self, source: str, *rules: dict[str, Any], role: str = f"arn:aws:iam::{HOME}:role/crr") -> None:
        """Set the replication rules of a bucket in the home account."""
        configuration = {"Role": role, "Rules": list(rules)}
        self.s3().put_bucket_replication(Bucket=source, ReplicationConfiguration=configuration)

    def open(self, bucket: str, region: str = WEST) -> None:
        """Let the home account replicate into a bucket of the other account."""
        self.s3(OTHER, region).put_bucket_policy(Bucket=bucket, Policy=json.dumps(replication_policy(bucket)))

    def pair(self, **options: Any) -> tuple[str, str]:  # noqa: ANN401
        """A source and a replica bucket in two Regions, joined by one rule."""
        source, replica = self.bucket("orders"), self.bucket("orders-dr", region=WEST)
        self.replicate(source, rule(replica, **options))
        return source, replica

    def put(self, bucket: str, key: str = "a.txt", body: bytes = b"hello", **options: Any) -> str:  # noqa: ANN401
        """Put an object; returns its version id."""
        return str(self.s3().put_object(Bucket=bucket, Key=key, Body=body, **options)["VersionId"])

    def status(self, bucket: str, key: str, version_id: str, account: str = HOME, region: str = EAST) -> str | None:
        """What ``x-amz-replication-status`` of a version says; ``gone`` where there is no such version."""
        client = self.s3(account, region)
        try:
            answer = client.head_object(Bucket=bucket, Key=key, VersionId=version_id)
        except client.exceptions.ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == NOT_FOUND:
                return "gone"
            raise
        status: str | None = answer.get("ReplicationStatus")
        return status

    def queue(self, account: str = HOME, region: str = EAST, name: str = "events") -> str:
        """A new queue; returns its ARN."""
        client = self.sandbox.client("sqs", account, region)
        url = client.create_queue(QueueName=f"{name}-{next(_numbers)}")["QueueUrl"]
        return str(client.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"])

    def messages(self, queue: str) -> list[dict[str, Any]]:
        """All messages of a queue, taken out of it, with their attributes."""
        _, _, _, region, account, name = queue.split(":")
        client = self.sandbox.client("sqs", account, region)
        url = client.get_queue_url(QueueName=name)["QueueUrl"]
        found: list[dict[str, Any]] = []
        while True:
            answer = client.receive_message(QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"])
            batch = answer.get("Messages", [])
            if not batch:
                return found
            found += batch
            for message in batch:
                client.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])

    def bodies(self, queue: str) -> list[Any]:
        """The parsed bodies of all messages of a queue."""
        return [json.loads(message["Body"]) for message in self.messages(queue)]

    def catch(
        self,
        target: str,
        pattern: dict[str, Any],
        account: str = HOME,
        region: str = EAST,
        bus: str = "default",
        **options: Any,  # noqa: ANN401
    ) -> str:
        """An EventBridge rule with one target; returns the rule's name."""
        client = self.sandbox.client("events", account, region)
        name = f"rule-{next(_numbers)}"
        client.put_rule(Name=name, EventPattern=json.dumps(pattern), EventBusName=bus)
        client.put_targets(Rule=name, EventBusName=bus, Targets=[{"Id": "t", "Arn": target, **options}])
        return name

    def drop_rule(self, name: str, account: str = HOME, region: str = EAST, bus: str = "default") -> None:
        """Remove what :meth:`catch` made."""
        client = self.sandbox.client("events", account, region)
        client.remove_targets(Rule=name, EventBusName=bus, Ids=["t"])
        client.delete_rule(Name=name, EventBusName=bus)

    def trail(self, *selectors: dict[str, Any], account: str = HOME, region: str = EAST, basic: bool = False) -> str:
        """A logging trail with these selectors; returns its name."""
        client = self.sandbox.client("cloudtrail", account, region)
        name = f"trail-{next(_numbers)}"
        client.create_trail(Name=name, S3BucketName="logs")
        kind = "EventSelectors" if basic else "AdvancedEventSelectors"
        client.put_event_selectors(TrailName=name, **{kind: list(selectors)})
        client.start_logging(Name=name)
        return name

    def drop_trail(self, name: str, account: str = HOME, region: str = EAST) -> None:
        """Delete a trail."""
        self.sandbox.client("cloudtrail", account, region).delete_trail(Name=name)

    def role(self, name: str, service: str, *statements: dict[str, Any], account: str = HOME) -> str:
        """A role that a service may assume; returns its ARN."""
        client = self.sandbox.client("iam", account, EAST)
        name = f"{name}-{next(_numbers)}"
        trust = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
        role = client.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps({"Statement": [trust]}))
        policy = json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
        client.put_role_policy(RoleName=name, PolicyName="p", PolicyDocument=policy)
        return str(role["Role"]["Arn"])


def rule(destination: str, rule_id: str = "dr", prefix: str = "", **options: Any) -> dict[str, Any]:  # noqa: ANN401
    """A V2 rule that takes everything and replicates delete markers; ``metrics`` asks for failure events."""
    target: dict[str, Any] = {"Bucket": f"arn:aws:s3:::{destination}"}
    if options.pop("metrics", False):
        target["Metrics"] = {"Status": "Enabled"}
    target |= options.pop("target", {})
    return {
        "ID": rule_id,
        "Status": "Enabled",
        "Priority": 1,
        "Filter": {"Prefix": prefix},
        "DeleteMarkerReplication": {"Status": "Enabled"},
        "Destination": target,
        **options,
    }


def replication_policy(bucket: str) -> dict[str, Any]:
    """A bucket policy with which the home account may replicate into ``bucket``."""
    actions = ["s3:ReplicateObject", "s3:ReplicateDelete", "s3:ReplicateTags"]
    principal = {"AWS": f"arn:aws:iam::{HOME}:root"}
    statement = {"Effect": "Allow", "Principal": principal, "Action": actions, "Resource": f"arn:aws:s3:::{bucket}/*"}
    return {"Version": "2012-10-17", "Statement": [statement]}


def data_selector(bucket: str, *names: str, read_only: bool = False) -> dict[str, Any]:
    """An advanced selector of data events on a bucket's objects, of the named calls (default: all that write)."""
    fields: list[dict[str, Any]] = [
        {"Field": "eventCategory", "Equals": ["Data"]},
        {"Field": "resources.type", "Equals": ["AWS::S3::Object"]},
        {"Field": "resources.ARN", "StartsWith": [f"arn:aws:s3:::{bucket}/"]},
        {"Field": "readOnly", "Equals": [str(read_only).lower()]},
    ]
    if names:
        fields.append({"Field": "eventName", "Equals": list(names)})
    return {"Name": "data", "FieldSelectors": fields}
