"""What has to be there in each Region for events to arrive, and what has to be done for that. Values in, values out.

Two hops, as EventBridge reaches topics and queues in the rule's own Region only (User Guide, "Targets"):

* in the hub's account: rule on the default bus -> topic of that Region -> the hub's queue;
* in any other account: rule on the default bus -> the hub's bus, whose rule in the template goes on to the topic there.

With ``S3Notifications`` the buckets publish to the hub's topic in their Region, so there are no rules for objects.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crr_monitor.aws.patterns import READS, configuration_pattern, denied_reads_pattern, rules_for
from crr_monitor.aws.plan_model import GIVEN, ORDER, Action, Plan, Resource, Stack, Watched
from crr_monitor.aws.regions import sns_principal, sns_to_sqs_supported
from crr_monitor.aws.selectors import TooManyError, trail_selectors

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from crr_monitor.aws.plan_model import Kind, Verb

TARGET_ID = "crr-monitor"
DENIED_READS = "denied-reads"
"""How the name of the rule for denied reads ends."""

RETENTION_SECONDS = 14 * 24 * 3_600
"""How long a dead-letter queue keeps: as long as SQS can, so that a long week-end is no loss."""


def desired(
    stack: Stack, watched: Iterable[Watched], regions: Iterable[str], agent_regions: Iterable[str] = ()
) -> Plan:
    """What has to be there for these buckets.

    ``regions`` are all in which the account has any bucket (a rule there tells at once of a first replication rule);
    ``agent_regions`` those in which other accounts have watched buckets, whose notifications need the hub's topic
    there.
    """
    watched = tuple(watched)
    resources: list[Resource] = []
    problems: list[str] = []
    by_region: dict[str, list[Watched]] = {}
    for each in watched:
        by_region.setdefault(each.region, []).append(each)
    topic_regions = set(by_region) | {stack.region} if stack.kind == "hub" else set()
    if stack.kind == "hub" and "S3Notifications" in stack.sources:
        topic_regions |= set(agent_regions)
    refused = {region for region in topic_regions if not sns_to_sqs_supported(region, stack.region)}
    problems += [_refusal(stack, region) for region in sorted(refused)]
    for region in sorted(topic_regions - refused - {stack.region}):
        resources += [_topic(stack, region), _subscription(stack, region)]
    resources += _rules(stack, by_region, set(regions), refused)
    resources += [_undelivered(stack, region) for region in sorted({each.region for each in resources})]
    if stack.kind == "hub":
        resources.append(_queue_policy(stack, topic_regions - refused))
    trail, untouched = _own_trail(stack, watched, problems)
    resources += trail
    return Plan(tuple(sorted(resources, key=_making_order)), tuple(problems), untouched=untouched)


def _rules(
    stack: Stack, by_region: Mapping[str, Sequence[Watched]], regions: set[str], refused: set[str]
) -> Iterator[Resource]:
    for region in sorted(by_region.keys() - refused):
        for source in sorted(stack.sources - {"S3Notifications"}):
            patterns = rules_for(source, [each.bucket for each in by_region[region]])
            for end, pattern in patterns.items():
                yield _rule(stack, region, end, pattern, _target(stack, region))
        if stack.denied_reads != "No" and "CloudTrail" in stack.sources:
            yield _rule(stack, region, DENIED_READS, denied_reads_pattern(), _target(stack, region))
    for region in sorted(regions | by_region.keys()):
        target = {"Arn": stack.own_bus_arn, "RoleArn": stack.forward_role_arn}
        yield _rule(stack, region, "configuration", configuration_pattern(), target)


def _refusal(stack: Stack, region: str) -> str:
    return (
        f"{region} cannot be watched from {stack.region}: both are opt-in Regions, and SNS does not deliver from one "
        f"opt-in Region to a queue in another; deploy another hub in {region} or in a Region that is enabled by default"
    )


def _making_order(resource: Resource) -> tuple[int, str, str]:
    return ORDER.index(resource.kind), resource.region, resource.name


def _target(stack: Stack, region: str) -> dict[str, Any]:
    if stack.kind == "hub":
        return {"Arn": stack.topic_arn(region)}
    return {"Arn": stack.hub_bus_arn, "RoleArn": stack.forward_role_arn}


def _rule(stack: Stack, region: str, end: str, pattern: dict[str, Any], target: dict[str, Any]) -> Resource:
    dead_letter = {"Arn": stack.arn("sqs", region, stack.undelivered)}
    properties = {
        "EventPattern": pattern,
        "State": "ENABLED",
        "Targets": [{"Id": TARGET_ID, **target, "DeadLetterConfig": dead_letter}],
    }
    return Resource("rule", region, stack.prefix + end, properties)


def _statement(
    sid: str, service: str | list[str], action: str, resource: str, condition: dict[str, Any]
) -> dict[str, Any]:
    return {
        "Sid": sid,
        "Effect": "Allow",
        "Principal": {"Service": service},
        "Action": action,
        "Resource": resource,
        "Condition": condition,
    }


def _policy(*statements: dict[str, Any]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def _undelivered(stack: Stack, region: str) -> Resource:
    """EventBridge and SNS both want the dead-letter queue in the Region of the rule or topic."""
    arn = stack.arn("sqs", region, stack.undelivered)
    rules = {"ArnLike": {"aws:SourceArn": stack.arn("events", region, f"rule/{stack.prefix}*")}}
    statements = [_statement("Rules", "events.amazonaws.com", "sqs:SendMessage", arn, rules)]
    if stack.kind == "hub":
        topic = {"ArnEquals": {"aws:SourceArn": stack.topic_arn(region)}}
        statements.append(_statement("Topic", "sns.amazonaws.com", "sqs:SendMessage", arn, topic))
    properties = {
        "Policy": _policy(*statements),
        "MessageRetentionPeriod": str(RETENTION_SECONDS),
        "SqsManagedSseEnabled": "true",
    }
    return Resource("queue", region, stack.undelivered, properties)


def _topic(stack: Stack, region: str) -> Resource:
    """Transit only, so unencrypted unless the user names a key of that Region.

    EventBridge and S3 cannot use alias/aws/sns.
    """
    arn = stack.topic_arn(region)
    # EventBridge may not say for which rule it publishes: its User Guide ("Using resource-based policies", SNS) rules
    # conditions out. So this one holds where it says so.
    rules = {"ArnLikeIfExists": {"aws:SourceArn": stack.arn("events", region, f"rule/{stack.prefix}*")}}
    statements = [
        _statement("Rules", "events.amazonaws.com", "sns:Publish", arn, rules),
        # With any EventSource: a bucket may tell of failed copies only (topology --enable-failure-events).
        _statement("Buckets", "s3.amazonaws.com", "sns:Publish", arn, _of_accounts(stack)),
    ]
    if stack.agent_organization:
        members = {"StringEquals": {"aws:SourceOrgID": stack.agent_organization}}
        statements.append(_statement("BucketsOfOrganization", "s3.amazonaws.com", "sns:Publish", arn, members))
    key = next((key for key in stack.topic_keys if key.split(":")[3] == region), "")
    return Resource("topic", region, stack.topic, {"Policy": _policy(*statements), "KmsMasterKeyId": key})


def _of_accounts(stack: Stack) -> dict[str, Any]:
    """That a bucket is of the hub's account, or of an agent's that is named."""
    return {"StringEquals": {"aws:SourceAccount": sorted({stack.account, *stack.agent_accounts})}}


def _subscription(stack: Stack, region: str) -> Resource:
    properties = {
        "TopicArn": stack.topic_arn(region),
        "Endpoint": stack.queue_arn,
        "RawMessageDelivery": "true",
        "RedrivePolicy": {"deadLetterTargetArn": stack.arn("sqs", region, stack.undelivered)},
    }
    return Resource("subscription", region, stack.topic, properties)


def _queue_policy(stack: Stack, topic_regions: set[str]) -> Resource:
    """A setting of what the template made; who has to be let in depends on what was discovered."""
    # A topic of the queue's own Region delivers as plain SNS, also where that is an opt-in Region.
    services = sorted({"sns.amazonaws.com", *(sns_principal(region) for region in topic_regions)})
    condition = {"ArnLike": {"aws:SourceArn": stack.arn("sns", "*", stack.topic)}}
    statement = _statement("Topics", services, "sqs:SendMessage", stack.queue_arn, condition)
    return Resource("queue-policy", stack.region, stack.queue_url, {"Policy": _policy(statement)})


def _own_trail(
    stack: Stack, watched: tuple[Watched, ...], problems: list[str]
) -> tuple[list[Resource], frozenset[Kind]]:
    """The stack's own trail: writes to what is watched in every Region, no management events, and reads if asked for.

    Set-up makes it, and not the template, which would remove it as soon as EventSource is another one. While it goes
    on beside another source, or cannot take all buckets, it stays as it is.
    """
    as_it_is: frozenset[Kind] = frozenset({"trail"})
    if stack.event_source != "CloudTrail" or not stack.trail_bucket:
        return [], as_it_is if "CloudTrail" in stack.retiring else frozenset()
    try:
        reads = READS[stack.denied_reads]
        selectors = trail_selectors(stack.partition, watched, f"{stack.prefix}nothing/", reads)
    except TooManyError as error:
        problems.append(str(error))
        return [], as_it_is
    properties = {"S3BucketName": stack.trail_bucket, "IsLogging": True, "AdvancedEventSelectors": selectors}
    return [Resource("trail", stack.region, stack.trail, properties)], frozenset()


def diff(
    existing: Iterable[Resource], wanted: Iterable[Resource], untouched: frozenset[Kind] = frozenset()
) -> list[Action]:
    """What to do, in order: make what is missing, change what differs, then remove what nobody wants any more.

    Nothing leaves before its successor is there, so that no event is missed in between. Kinds in ``untouched`` stay as
    they are.
    """
    before = {resource.address: resource for resource in existing}
    after = {resource.address: resource for resource in wanted}
    actions = []
    for address, resource in after.items():
        if address not in before:
            actions.append(Action("create", resource, "it is missing"))
        elif before[address].properties != resource.properties:
            actions.append(Action("update", resource, _differs(before[address], resource)))
    for address, resource in before.items():
        if address not in after and resource.kind not in GIVEN | untouched:
            actions.append(Action("delete", resource, "nothing needs it any more"))
    return sorted(actions, key=_doing_order)


def _doing_order(action: Action) -> tuple[bool, int, int, str, str]:
    removes = action.verb == "delete"
    kind = ORDER.index(action.resource.kind)
    verbs: tuple[Verb, ...] = ("create", "update", "delete")
    place = -kind if removes else kind
    return removes, place, verbs.index(action.verb), action.resource.region, action.resource.name


def _differs(before: Resource, after: Resource) -> str:
    names = sorted(
        name
        for name in before.properties.keys() | after.properties.keys()
        if before.properties.get(name) != after.properties.get(name)
    )
    return f"{', '.join(names)} {'differs' if len(names) == 1 else 'differ'}"
