"""The resources of a plan as AWS has them.

Read in their canonical form, made, changed, removed. One reader and writer per kind.

Everything is found again by its name, which has the stack's token in it; nothing else is ever touched.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from crr_monitor.aws.patterns import dump
from crr_monitor.aws.plan_model import STACK_TAG, Resource
from crr_monitor.aws.selectors import Trail, canonical
from crr_monitor.aws.sessions import AwsError, call, pages
from crr_monitor.aws.setup_plan import TARGET_ID

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from crr_monitor.aws.plan_model import Action, Kind, Stack
    from crr_monitor.aws.sessions import Sessions

NO_QUEUE = frozenset({"AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"})
NO_TOPIC = frozenset({"NotFound", "NotFoundException"})
NO_TRAIL = "TrailNotFoundException"
GONE = NO_QUEUE | NO_TOPIC | {"ResourceNotFoundException", NO_TRAIL}
"""Error codes that say of what is to be removed that it is not there."""

_QUEUE_ATTRIBUTES = ("Policy", "MessageRetentionPeriod", "SqsManagedSseEnabled")
_SUBSCRIPTION_ATTRIBUTES = ("TopicArn", "Endpoint", "RawMessageDelivery", "RedrivePolicy")
_DOCUMENTS = frozenset({"Policy", "RedrivePolicy"})


def _decode(attributes: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Attributes by name, documents parsed; SQS and SNS give them as texts whose form is their own."""
    return {
        name: json.loads(attributes[name]) if name in _DOCUMENTS else attributes[name]
        for name in names
        if attributes.get(name)
    }


def _encode(properties: dict[str, Any]) -> dict[str, str]:
    return {name: dump(value) if name in _DOCUMENTS else value for name, value in properties.items()}


def read(sessions: Sessions, stack: Stack, region: str) -> list[Resource]:
    """What this stack's set-up has made in one Region, whatever its parameters were then.

    Raises:
        AwsError: something could not be asked, so nothing is known of the Region.
    """
    found = [*_read_rules(sessions, stack, region), *_read_undelivered(sessions, stack, region)]
    if stack.kind == "hub" and region != stack.region:
        found += _read_topic(sessions, stack, region)
    if region == stack.region:
        found += _read_given(sessions, stack)
    return found


def _read_rules(sessions: Sessions, stack: Stack, region: str) -> Iterator[Resource]:
    client = sessions.client("events", region)
    for page in pages("events:ListRules", client, "list_rules", NamePrefix=stack.prefix):
        for rule in page.get("Rules", []):
            listed = pages("events:ListTargetsByRule", client, "list_targets_by_rule", Rule=rule["Name"])
            targets = [target for answer in listed for target in answer.get("Targets", [])]
            yield Resource(
                "rule",
                region,
                rule["Name"],
                {
                    "EventPattern": json.loads(rule.get("EventPattern") or "{}"),
                    "State": rule.get("State", ""),
                    # What somebody else has added to our rule is left to them.
                    "Targets": [target for target in targets if target["Id"] == TARGET_ID],
                },
            )


def _queue_url(client: Any, name: str) -> str | None:  # noqa: ANN401 - boto3's client
    try:
        return str(call("sqs:GetQueueUrl", client.get_queue_url, QueueName=name)["QueueUrl"])
    except AwsError as error:
        if error.code in NO_QUEUE:
            return None
        raise


def _read_undelivered(sessions: Sessions, stack: Stack, region: str) -> list[Resource]:
    client = sessions.client("sqs", region)
    url = _queue_url(client, stack.undelivered)
    if url is None:
        return []
    return [Resource("queue", region, stack.undelivered, _queue_attributes(client, url, _QUEUE_ATTRIBUTES))]


def _queue_attributes(client: Any, url: str, names: tuple[str, ...]) -> dict[str, Any]:  # noqa: ANN401
    told = call("sqs:GetQueueAttributes", client.get_queue_attributes, QueueUrl=url, AttributeNames=list(names))
    return _decode(told.get("Attributes", {}), names)


def _read_topic(sessions: Sessions, stack: Stack, region: str) -> list[Resource]:
    client = sessions.client("sns", region)
    arn = stack.topic_arn(region)
    try:
        told = call("sns:GetTopicAttributes", client.get_topic_attributes, TopicArn=arn)["Attributes"]
    except AwsError as error:
        if error.code in NO_TOPIC:
            return []
        raise
    properties = {"KmsMasterKeyId": "", **_decode(told, ("Policy", "KmsMasterKeyId"))}
    found = [Resource("topic", region, stack.topic, properties)]
    subscription = _subscription_arn(client, stack, arn)
    if subscription is not None:
        operation = "sns:GetSubscriptionAttributes"
        told = call(operation, client.get_subscription_attributes, SubscriptionArn=subscription)["Attributes"]
        found.append(Resource("subscription", region, stack.topic, _decode(told, _SUBSCRIPTION_ATTRIBUTES)))
    return found


def _subscription_arn(client: Any, stack: Stack, topic_arn: str) -> str | None:  # noqa: ANN401
    listed = pages("sns:ListSubscriptionsByTopic", client, "list_subscriptions_by_topic", TopicArn=topic_arn)
    for page in listed:
        for subscription in page.get("Subscriptions", []):
            if subscription["Endpoint"] == stack.queue_arn:
                return str(subscription["SubscriptionArn"])
    return None


def _read_given(sessions: Sessions, stack: Stack) -> list[Resource]:
    found = _read_own_trail(sessions, stack)
    if stack.queue_url:
        client = sessions.client("sqs", stack.region)
        found.append(
            Resource(
                "queue-policy", stack.region, stack.queue_url, _queue_attributes(client, stack.queue_url, ("Policy",))
            )
        )
    return found


def _read_own_trail(sessions: Sessions, stack: Stack) -> list[Resource]:
    client = sessions.client("cloudtrail", stack.region)
    try:
        told = call("cloudtrail:GetTrail", client.get_trail, Name=stack.trail)["Trail"]
    except AwsError as error:
        if error.code == NO_TRAIL:
            return []
        raise
    status = call("cloudtrail:GetTrailStatus", client.get_trail_status, Name=stack.trail)
    selected = call("cloudtrail:GetEventSelectors", client.get_event_selectors, TrailName=stack.trail)
    properties = {
        "S3BucketName": told.get("S3BucketName", ""),
        "IsLogging": bool(status.get("IsLogging")),
        "AdvancedEventSelectors": canonical(selected.get("AdvancedEventSelectors", [])),
    }
    return [Resource("trail", stack.region, stack.trail, properties)]


def read_trails(sessions: Sessions, region: str) -> list[Trail]:
    """Every trail that logs in one Region, ours and others; what of another's could not be asked is ``None``.

    Raises:
        AwsError: the trails could not be listed.
    """
    client = sessions.client("cloudtrail", region)
    listed = call("cloudtrail:DescribeTrails", client.describe_trails, includeShadowTrails=True)
    found = []
    for row in listed.get("trailList", []):
        arn, home = row["TrailARN"], row.get("HomeRegion", region)
        selectors: tuple[Any, ...] | None = None
        logging = False
        try:
            logging = bool(call("cloudtrail:GetTrailStatus", client.get_trail_status, Name=arn).get("IsLogging"))
            told = call("cloudtrail:GetEventSelectors", client.get_event_selectors, TrailName=arn)
            selectors = tuple(told.get("AdvancedEventSelectors") or told.get("EventSelectors") or ())
        except AwsError as error:
            # An organization's trail lets member accounts see it, and need not let them ask for its selectors.
            if not error.denied and error.code not in {NO_TRAIL, "CloudTrailARNInvalidException"}:
                raise
        found.append(Trail(arn, logging, home, bool(row.get("IsMultiRegionTrail")), selectors))
    return found


def perform(sessions: Sessions, stack: Stack, action: Action) -> None:
    """Do one thing of a plan. Doing it again does no harm; to remove what is not there is fine.

    Raises:
        AwsError: it was refused, wholly or in part.
    """
    change, remove = _WRITERS[action.resource.kind]
    if action.verb != "delete":
        change(sessions, stack, action)
        return
    try:
        remove(sessions, stack, action)
    except AwsError as error:
        if error.code not in GONE:
            raise


def _put_queue(sessions: Sessions, stack: Stack, action: Action) -> None:
    client = sessions.client("sqs", action.resource.region)
    attributes = _encode(action.resource.properties)
    if action.verb == "create":
        tags = {STACK_TAG: stack.stack_id}
        call("sqs:CreateQueue", client.create_queue, QueueName=action.resource.name, Attributes=attributes, tags=tags)
        return
    url = _queue_url(client, action.resource.name)
    call("sqs:SetQueueAttributes", client.set_queue_attributes, QueueUrl=url, Attributes=attributes)


def _remove_queue(sessions: Sessions, _stack: Stack, action: Action) -> None:
    client = sessions.client("sqs", action.resource.region)
    url = _queue_url(client, action.resource.name)
    if url is not None:
        call("sqs:DeleteQueue", client.delete_queue, QueueUrl=url)


def _put_queue_policy(sessions: Sessions, _stack: Stack, action: Action) -> None:
    client = sessions.client("sqs", action.resource.region)
    attributes = _encode(action.resource.properties)
    call("sqs:SetQueueAttributes", client.set_queue_attributes, QueueUrl=action.resource.name, Attributes=attributes)


def _put_topic(sessions: Sessions, stack: Stack, action: Action) -> None:
    client = sessions.client("sns", action.resource.region)
    attributes = _encode(action.resource.properties)
    if action.verb == "create":
        tags = [{"Key": STACK_TAG, "Value": stack.stack_id}]
        given = {name: value for name, value in attributes.items() if value}
        call("sns:CreateTopic", client.create_topic, Name=action.resource.name, Attributes=given, Tags=tags)
        return
    arn = stack.topic_arn(action.resource.region)
    for name, value in attributes.items():
        change = {"AttributeName": name, "AttributeValue": value}
        call("sns:SetTopicAttributes", client.set_topic_attributes, TopicArn=arn, **change)


def _remove_topic(sessions: Sessions, stack: Stack, action: Action) -> None:
    client = sessions.client("sns", action.resource.region)
    call("sns:DeleteTopic", client.delete_topic, TopicArn=stack.topic_arn(action.resource.region))


def _put_subscription(sessions: Sessions, stack: Stack, action: Action) -> None:
    client = sessions.client("sns", action.resource.region)
    attributes = _encode(action.resource.properties)
    topic, endpoint = attributes.pop("TopicArn"), attributes.pop("Endpoint")
    if action.verb == "create":
        request = {"TopicArn": topic, "Protocol": "sqs", "Endpoint": endpoint, "Attributes": attributes}
        call("sns:Subscribe", client.subscribe, **request)
        return
    arn = _subscription_arn(client, stack, topic)
    for name, value in attributes.items():
        change = {"AttributeName": name, "AttributeValue": value}
        call("sns:SetSubscriptionAttributes", client.set_subscription_attributes, SubscriptionArn=arn, **change)


def _remove_subscription(sessions: Sessions, stack: Stack, action: Action) -> None:
    client = sessions.client("sns", action.resource.region)
    arn = _subscription_arn(client, stack, stack.topic_arn(action.resource.region))
    if arn is not None:
        call("sns:Unsubscribe", client.unsubscribe, SubscriptionArn=arn)


def _put_rule(sessions: Sessions, stack: Stack, action: Action) -> None:
    client = sessions.client("events", action.resource.region)
    name, properties = action.resource.name, action.resource.properties
    request: dict[str, Any] = {"EventPattern": dump(properties["EventPattern"]), "State": properties["State"]}
    if action.verb == "create":
        request["Tags"] = [{"Key": STACK_TAG, "Value": stack.stack_id}]
        request["Description"] = "CRR Monitor: made by its set-up function, removed with its stack"
    call("events:PutRule", client.put_rule, Name=name, **request)
    _complete(
        "events:PutTargets", call("events:PutTargets", client.put_targets, Rule=name, Targets=properties["Targets"])
    )


def _complete(operation: str, answer: dict[str, Any]) -> None:
    """EventBridge answers 200 for a request of which it did only a part."""
    if answer.get("FailedEntryCount"):
        failed = answer.get("FailedEntries") or [{}]
        raise AwsError(operation, str(failed[0].get("ErrorCode", "")), str(failed[0].get("ErrorMessage", "")))


def _remove_rule(sessions: Sessions, _stack: Stack, action: Action) -> None:
    client = sessions.client("events", action.resource.region)
    name = action.resource.name
    listed = pages("events:ListTargetsByRule", client, "list_targets_by_rule", Rule=name)
    targets = [target["Id"] for page in listed for target in page.get("Targets", [])]
    if targets:
        operation = "events:RemoveTargets"
        _complete(operation, call(operation, client.remove_targets, Rule=name, Ids=targets))
    call("events:DeleteRule", client.delete_rule, Name=name)


def _put_trail(sessions: Sessions, stack: Stack, action: Action) -> None:
    """Selectors first, then logging: a trail without selectors logs management events a second time, which costs."""
    client = sessions.client("cloudtrail", action.resource.region)
    name, properties = action.resource.name, action.resource.properties
    # Several Regions go with global events (CloudTrail API Reference, "CreateTrail"); none of them is selected.
    request: dict[str, Any] = {
        "Name": name,
        "S3BucketName": properties["S3BucketName"],
        "IsMultiRegionTrail": True,
        "IncludeGlobalServiceEvents": True,
    }
    if action.verb == "create":
        tags = [{"Key": STACK_TAG, "Value": stack.stack_id}]
        call("cloudtrail:CreateTrail", client.create_trail, **request, TagsList=tags)
    else:
        call("cloudtrail:UpdateTrail", client.update_trail, **request)
    selectors = {"TrailName": name, "AdvancedEventSelectors": properties["AdvancedEventSelectors"]}
    call("cloudtrail:PutEventSelectors", client.put_event_selectors, **selectors)
    call("cloudtrail:StartLogging", client.start_logging, Name=name)


def _remove_trail(sessions: Sessions, _stack: Stack, action: Action) -> None:
    client = sessions.client("cloudtrail", action.resource.region)
    call("cloudtrail:DeleteTrail", client.delete_trail, Name=action.resource.name)


def _keep(_sessions: Sessions, _stack: Stack, _action: Action) -> None:
    """A setting of something that the template made goes with it."""


_WRITERS: dict[Kind, tuple[Callable[[Sessions, Stack, Action], None], Callable[[Sessions, Stack, Action], None]]] = {
    "queue": (_put_queue, _remove_queue),
    "queue-policy": (_put_queue_policy, _keep),
    "topic": (_put_topic, _remove_topic),
    "subscription": (_put_subscription, _remove_subscription),
    "rule": (_put_rule, _remove_rule),
    "trail": (_put_trail, _remove_trail),
}
