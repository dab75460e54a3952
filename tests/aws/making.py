"""Makers of stacks, buckets and clients for tests of the AWS room; what a test does not state is ordinary."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from crr_monitor.aws.plan_model import Stack, Watched
from crr_monitor.aws.sessions import Sessions
from crr_monitor.core.topology import BucketConfig, Rule

if TYPE_CHECKING:
    from crr_monitor.sandbox import Sandbox

HUB = "111122223333"
AGENT = "444455556666"
TOKEN = "0123456789ab"  # noqa: S105 - a part of names
HOME = "us-east-1"


def stack(**fields: Any) -> Stack:  # noqa: ANN401 - any field of the stack
    """A hub in us-east-1 that listens to CloudTrail and has no trail of its own."""
    account, region = fields.get("account", HUB), fields.get("region", HOME)
    defaults: dict[str, Any] = {
        "kind": "hub",
        "stack_id": f"arn:aws:cloudformation:{region}:{account}:stack/crr/11111111-2222-3333-4444-{TOKEN}",
        "token": TOKEN,
        "account": account,
        "region": region,
        "hub_account": HUB,
        "hub_token": TOKEN,
        "hub_bus_arn": f"arn:aws:events:{HOME}:{HUB}:event-bus/crr-monitor-{TOKEN}-hub",
        "own_bus_arn": f"arn:aws:events:{region}:{account}:event-bus/own",
        "forward_role_arn": f"arn:aws:iam::{account}:role/forward",
        "queue_arn": f"arn:aws:sqs:{region}:{account}:queue",
        "queue_url": "https://queue",
    }
    return Stack(**{**defaults, **fields})


def agent(**fields: Any) -> Stack:  # noqa: ANN401
    """An agent in another account."""
    mine = {"kind": "agent", "account": AGENT, "token": "ba9876543210", "queue_arn": "", "queue_url": ""}
    return stack(**{**mine, **fields})


def watched(bucket: str = "orders", region: str = HOME, **fields: Any) -> Watched:  # noqa: ANN401
    """A bucket that is watched whole, as a source."""
    return Watched(bucket, region, **{"source": True, **fields})


def config(bucket: str, *destinations: str, prefix: str = "", **fields: Any) -> BucketConfig:  # noqa: ANN401
    """A bucket with one rule per destination."""
    rules = tuple(Rule(f"to-{each}", each, prefix=prefix) for each in destinations)
    return BucketConfig(bucket, rules=rules, **fields)


@functools.cache  # clients take long to make
def sessions(sandbox: Sandbox, account: str = HUB) -> Sessions:
    """Sessions of an account's root user; they may have been used before."""
    return new_sessions(sandbox, account)


def new_sessions(sandbox: Sandbox, account: str = HUB, role_name: str | None = None) -> Sessions:
    """Sessions that nobody has used."""
    base = sandbox.session(account, HOME)
    return Sessions(account, role_name=role_name, endpoint_url=sandbox.endpoint, base=base)


def make_bucket(sandbox: Sandbox, name: str, region: str = HOME, account: str = HUB) -> None:
    """A versioned bucket."""
    s3 = sandbox.client("s3", account, region)
    place = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    s3.create_bucket(Bucket=name, **place)
    s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})


def replicate(sandbox: Sandbox, source: str, *destinations: str, region: str = HOME, account: str = HUB) -> None:
    """Give a bucket one replication rule per destination."""
    rules = [
        {
            "ID": f"to-{destination}",
            "Status": "Enabled",
            "Priority": number,
            "Filter": {"Prefix": ""},
            "DeleteMarkerReplication": {"Status": "Disabled"},
            "Destination": {"Bucket": f"arn:aws:s3:::{destination}"},
        }
        for number, destination in enumerate(destinations, 1)
    ]
    configuration = {"Role": f"arn:aws:iam::{account}:role/replication", "Rules": rules}
    sandbox.client("s3", account, region).put_bucket_replication(Bucket=source, ReplicationConfiguration=configuration)


def deny(sandbox: Sandbox, **match: str) -> int:
    """Let AWS refuse calls for want of a permission; gives the fault's number."""
    return sandbox.fault("error", match=match, code="AccessDenied", status=403)


def replicated_pair(sandbox: Sandbox) -> None:
    """``orders`` in us-east-1 replicates to ``orders-dr`` in eu-west-1."""
    make_bucket(sandbox, "orders")
    make_bucket(sandbox, "orders-dr", "eu-west-1")
    replicate(sandbox, "orders", "orders-dr")
