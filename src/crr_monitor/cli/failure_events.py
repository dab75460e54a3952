"""``crr-monitor topology --enable-failure-events``: what lets S3 tell why replication failed, planned and applied."""

from __future__ import annotations

import json
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from crr_monitor.aws import bucket_settings
from crr_monitor.aws.failure_events import FailureEvents, publish_statement, queue_statement
from crr_monitor.aws.sessions import AwsError, call
from crr_monitor.cli.discover import PLAN_VIEW, Step, stack_settings
from crr_monitor.cli.session import CommandError, say
from crr_monitor.cost.prices import PriceList
from crr_monitor.cost.repair import failure_event_usages, quote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from crr_monitor.aws.failure_events import Look, Topic, Wanted
    from crr_monitor.cli.access import Access
    from crr_monitor.cli.output import Form

NOT_DONE = 1
"""The exit status where something stands against it, or could not be applied."""


class Wish(Struct, frozen=True):
    """What was asked for; ``keep`` is the folder for previous values. ``stack_name``: use that stack's topics."""

    buckets: tuple[str, ...]
    topic_arn: str | None
    queue_arn: str | None
    stack_name: str | None
    apply: bool
    keep: Path


def enable(access: Access, wish: Wish, form: Form) -> int:
    """Print what has to change for buckets to send failure events, and change it if that was asked for.

    Raises:
        AwsError: AWS could not be asked.
    """
    events = FailureEvents(access.sessions, access.partition, _topic_of(access, wish), wish.queue_arn)
    found = events.look({bucket: _region_of(access, bucket) for bucket in dict.fromkeys(wish.buckets)})
    steps = list(_steps(events, found, access.account))
    PLAN_VIEW.print(steps, form)
    for problem in found.problems:
        say(f"problem: {problem}")
    if not steps:
        say("nothing has to change" if not found.problems else "nothing can be changed")
        return NOT_DONE if found.problems else 0
    _say_cost(found)
    for line in _what_else(found, wish):
        say(line)
    if not wish.apply:
        say("this is the plan: --apply carries it out, and keeps the previous values in files (--keep)")
        return NOT_DONE if found.problems else 0
    return _apply(events, found, wish)


def _topic_of(access: Access, wish: Wish) -> Callable[[str], str] | None:
    """Which topic a Region has to use; ``None`` for one of our own."""
    named = wish.topic_arn
    if named is not None:
        return lambda _region: named
    if wish.stack_name is None:
        return None
    told = stack_settings(access, wish.stack_name)
    if told is None:
        message = f"there is no stack {wish.stack_name} in {access}: correct --stack-name, or leave it out"
        raise CommandError(message)
    return told[0].topic_arn


def _region_of(access: Access, bucket: str) -> str:
    told = call(f"s3:GetBucketLocation of {bucket}", access.client("s3").get_bucket_location, Bucket=bucket)
    # API Reference, "GetBucketLocation": nothing means us-east-1, and EU is the old name of eu-west-1.
    return {None: "us-east-1", "": "us-east-1", "EU": "eu-west-1"}.get(
        told.get("LocationConstraint"), str(told.get("LocationConstraint"))
    )


def _steps(events: FailureEvents, found: Look, account: str) -> Iterator[Step]:
    for topic in found.topics.values():
        if not topic.there:
            policy = json.dumps(publish_statement(topic.arn, account))
            yield Step("create", "topic", topic.region, topic.arn, "S3 publishes to a topic in its Region", policy)
        if events.needs_subscription(topic):
            yield Step("create", "subscription", topic.region, topic.arn, "what the topic gets, goes to the queue")
    for each in found.buckets:
        if each.notification_after != each.notification:
            change = bucket_settings.Change(each.bucket, each.region, each.notification, each.notification_after)
            why = f"S3 sends {', '.join(bucket_settings.REPLICATION)} to the topic"
            yield Step("change", "notification", each.region, each.bucket, why, bucket_settings.patch(change))
        if each.rules:
            why = f"only rules with metrics send failures: {', '.join(each.rules)}"
            yield Step("change", "replication", each.region, each.bucket, why, _replication_patch(each))


def _replication_patch(each: Wanted) -> str:
    document = json.dumps(each.replication_after, separators=(",", ":"))
    place = ["--region", each.region, "--bucket", each.bucket]
    return shlex.join(["aws", "s3api", "put-bucket-replication", *place, "--replication-configuration", document])


def _say_cost(found: Look) -> None:
    rules = sum(len(each.rules) for each in found.buckets)
    told = quote(failure_event_usages(rules), PriceList())
    say(
        f"metrics on {rules} more rules cost about {told.usd:,.2f} USD a month (list price of {told.as_of}), the "
        "failures only what their messages do; replication and its configuration cost the same as before"
    )


def _what_else(found: Look, wish: Wish) -> Iterator[str]:
    """What somebody has to do whom this program cannot stand in for."""
    if any(each.rules for each in found.buckets):
        yield "S3 lets those put rules who may also pass their role: iam:PassRole on the replication role"
    if wish.stack_name is not None:
        return
    if wish.queue_arn is None:
        yield "then let the topic reach the monitor: its queue with --queue-arn, or a subscription of your own"
        return
    for topic in found.topics.values():
        yield f"the queue's policy needs: {json.dumps(queue_statement(topic.arn, wish.queue_arn))}"


def _apply(events: FailureEvents, found: Look, wish: Wish) -> int:
    """Change everything that nothing stands against; the exit status."""
    status = NOT_DONE if found.problems else 0
    blocked = _blocked(found.topics.values(), found.problems)
    for topic in found.topics.values():
        if topic.arn not in blocked:
            events.make_topic(topic)
    for each in found.buckets:
        if each.topic_arn in blocked or (each.replication_after, each.notification_after) == (
            each.replication,
            each.notification,
        ):
            continue
        restore = list(_keep(each, wish.keep))
        try:
            events.change(each)
        except AwsError as error:
            say(f"{each.bucket}: not done: {error}")
            status = NOT_DONE
        else:
            say(f"{each.bucket}: done")
        say("  to have it as it was before:")
        for line in restore:
            say(f"  {line}")
    return status


def _blocked(topics: Iterable[Topic], problems: list[str]) -> set[str]:
    """Topics that cannot be used as they are."""
    return {topic.arn for topic in topics if any(f"topic {topic.arn}" in problem for problem in problems)}


def _keep(each: Wanted, folder: Path) -> Iterator[str]:
    """Write what is there now into files, and give the commands that put it back."""
    folder.mkdir(parents=True, exist_ok=True)
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    place = ["--region", each.region, "--bucket", each.bucket]
    documents: tuple[tuple[str, str, str, dict[str, Any], bool], ...] = (
        (
            "replication",
            "put-bucket-replication",
            "--replication-configuration",
            each.replication,
            each.replication_after != each.replication,
        ),
        (
            "notification",
            "put-bucket-notification-configuration",
            "--notification-configuration",
            each.notification,
            each.notification_after != each.notification,
        ),
    )
    for name, command, option, document, changes in documents:
        if not changes:
            continue
        path = (folder / f"{each.bucket}.{stamp}.{name}.json").resolve()
        with path.open("x", encoding="utf-8") as file:  # never over an earlier one
            json.dump(document, file, indent=2)
        yield shlex.join(["aws", "s3api", command, *place, option, f"file://{path}"])
