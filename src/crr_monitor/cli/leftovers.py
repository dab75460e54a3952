"""What removed stacks have left, found by what is written in it: the stacks themselves can no longer be asked."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from msgspec import Struct

from crr_monitor.aws.artifacts import NO_POLICY, Bucket, bucket_name
from crr_monitor.aws.sessions import AwsError, call, pages

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crr_monitor.aws.stacks import Stacks
    from crr_monitor.cli.access import Access

_TRAIL = re.compile(r":trail/crr-monitor-([0-9a-f]{12})\"")
"""In the policy of a stack's log bucket: its own trail, which has the stack's token, may write there."""


class Left(Struct, frozen=True):
    """Buckets with what they hold, and reasons why others could not be judged."""

    buckets: tuple[tuple[str, str], ...]
    unknown: tuple[str, ...]


def look_for_left(access: Access, stacks: Stacks) -> Left:
    """The buckets in the chosen Region that no stack there has any more; raises ``AwsError``."""
    alive = list(stacks.all())
    tokens = {stack.stack_id.rpartition("-")[2] for stack in alive}
    found, unknown = [], []
    for name in _buckets(access):
        try:
            token = _token(access, name)
        except AwsError as error:
            unknown.append(f"bucket {name} could not be asked whose it is: {error}")
            continue
        if token is not None and token not in tokens:
            found.append((name, f"log files of trail crr-monitor-{token}, whose stack is gone"))
    ours = bucket_name(access.account, access.region)
    needed = any(stack.parameters.get("CodeBucket") == ours for stack in alive)
    if not needed and Bucket(access.client("s3"), ours, access.account, access.region).exists():
        found.append((ours, "functions' code, which no stack needs any more"))
    return Left(tuple(found), tuple(unknown))


def _buckets(access: Access) -> Iterator[str]:
    """The account's buckets in the chosen Region."""
    listed = pages("s3:ListBuckets", access.client("s3"), "list_buckets", BucketRegion=access.region)
    for page in listed:
        yield from (
            each["Name"] for each in page["Buckets"] if each.get("BucketRegion", access.region) == access.region
        )


def _token(access: Access, bucket: str) -> str | None:
    """The token of the stack for whose trail a bucket was made."""
    client = access.client("s3")
    request = {"Bucket": bucket, "ExpectedBucketOwner": access.account}
    try:
        told = call(f"s3:GetBucketPolicy of {bucket}", client.get_bucket_policy, **request)
    except AwsError as error:
        if error.code == NO_POLICY:
            return None
        raise
    trail = _TRAIL.search(told["Policy"])
    return None if trail is None else trail[1]
