"""Settings of the customer's buckets that an event source needs: the EventBridge switch, and S3 event notifications.

PutBucketNotificationConfiguration replaces the whole document, and whoever keeps it as code reverts what the code
does not know. So the default is a patch for the owner to apply; only on request is it merged here, with what was
there before kept.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from crr_monitor.aws.plan_model import Stack, Watched

LISTS = {
    "TopicConfigurations": "TopicArn",
    "QueueConfigurations": "QueueArn",
    "LambdaFunctionConfigurations": "LambdaFunctionArn",
}
"""The lists of a notification configuration, and what their entries call the receiver."""

SWITCH = "EventBridgeConfiguration"
VERSIONS = ("s3:ObjectCreated:*", "s3:ObjectRemoved:Delete", "s3:ObjectRemoved:DeleteMarkerCreated")
REPLICATION = ("s3:Replication:*",)
"""Only a source sends them, and only for rules with metrics; to ask for them costs nothing."""


class OverlapError(Exception):
    """S3 allows one receiver per event type and key; the text names the entry that has it already."""


class Change(Struct, frozen=True):
    """What one bucket's notification configuration is, and what it has to be."""

    bucket: str
    region: str
    current: dict[str, Any]
    wanted: dict[str, Any]


def configuration(answer: Mapping[str, Any]) -> dict[str, Any]:
    """GetBucketNotificationConfiguration's answer as the document that can be put again."""
    return {name: value for name, value in answer.items() if name in LISTS or name == SWITCH}


def entry_id(stack: Stack) -> str:
    """The name of our entry in a bucket's configuration."""
    return stack.prefix + "events"


def wanted_configuration(stack: Stack, each: Watched, current: Mapping[str, Any]) -> dict[str, Any] | None:
    """The configuration with what the event source needs, or ``None`` where nothing is needed.

    Raises:
        OverlapError: another entry receives the same events already.
    """
    if "S3Notifications" in stack.retiring:
        mine = [entry for entry in current.get("TopicConfigurations", []) if _is_ours(stack, entry)]
    else:
        mine = _ours(stack, each) if stack.event_source == "S3Notifications" else []
    merged = without_ours(stack, current)
    for entry in mine:
        check_overlap(each.bucket, entry, merged, ", or choose EventSource EventBridge or CloudTrail")
    if mine:
        merged["TopicConfigurations"] = [*merged.get("TopicConfigurations", []), *mine]
    if stack.event_source == "EventBridge":
        merged[SWITCH] = {}
    return None if _same(merged, current) else merged


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return _comparable(one) == _comparable(other)


def _comparable(document: Mapping[str, Any]) -> dict[str, Any]:
    """S3 gives lists in an order of its own, and names entries that had none."""
    lists = {
        name: sorted(json.dumps(_entry(entry), sort_keys=True) for entry in document.get(name) or []) for name in LISTS
    }
    return {**lists, SWITCH: SWITCH in document}


def _entry(entry: Mapping[str, Any]) -> dict[str, Any]:
    rules = sorted(_filter(entry).items())
    return {**entry, "Events": sorted(entry.get("Events", [])), "Filter": rules}


def _ours(stack: Stack, each: Watched) -> list[dict[str, Any]]:
    events = [*VERSIONS, *(REPLICATION if each.source else ())]
    entries = []
    for number, prefix in enumerate(each.prefixes):
        entry: dict[str, Any] = {
            "Id": entry_id(stack) + (f"-{number}" if number else ""),
            "TopicArn": stack.topic_arn(each.region),
            "Events": events,
        }
        if prefix:
            entry["Filter"] = {"Key": {"FilterRules": [{"Name": "prefix", "Value": prefix}]}}
        entries.append(entry)
    return entries


def _is_ours(stack: Stack, entry: Mapping[str, Any]) -> bool:
    return str(entry.get("Id", "")).startswith(entry_id(stack))


def without_ours(stack: Stack, current: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration without this stack's entries; the EventBridge switch stays."""
    kept = dict(current)
    for name in LISTS:
        if name in kept:
            kept[name] = [entry for entry in kept[name] if not _is_ours(stack, entry)]
            if not kept[name]:
                del kept[name]
    return kept


def restored(stack: Stack, current: Mapping[str, Any], previous: Mapping[str, Any]) -> dict[str, Any] | None:
    """The configuration without what set-up put into it, or ``None`` where nothing of that is left.

    What others have changed since stays changed: ours goes, the rest is not rolled back.
    """
    kept = without_ours(stack, current)
    if SWITCH not in previous:
        kept.pop(SWITCH, None)
    return None if _same(kept, current) else kept


def check_overlap(bucket: str, entry: Mapping[str, Any], others: Mapping[str, Any], otherwise: str = "") -> None:
    """User Guide, "Configuring event notifications using object key name filtering": overlapping filters are refused.

    ``otherwise`` is what one could do instead of sharing a topic.

    Raises:
        OverlapError: another entry receives the same events already.
    """
    for name, receiver in LISTS.items():
        for other in others.get(name, []):
            shared = sorted(
                {a for a in entry["Events"] for b in other.get("Events", []) if _covers(a, b) or _covers(b, a)}
            )
            if shared and _filters_meet(_filter(entry), _filter(other)):
                message = (
                    f"bucket {bucket}: its notification {other.get('Id') or '(unnamed)'} sends {', '.join(shared)} to "
                    f"{other[receiver]}, and S3 allows one receiver per event: let it publish to a topic for both"
                    f"{otherwise}"
                )
                raise OverlapError(message)


def _covers(pattern: str, event: str) -> bool:
    return pattern == event or (pattern.endswith("*") and event.startswith(pattern[:-1]))


def _filter(entry: Mapping[str, Any]) -> dict[str, str]:
    rules = ((entry.get("Filter") or {}).get("Key") or {}).get("FilterRules") or []
    return {str(rule["Name"]).lower(): str(rule["Value"]) for rule in rules}


def _filters_meet(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """Whether a key can pass both filters."""
    first, second = sorted((one.get("prefix", ""), other.get("prefix", "")), key=len)
    last, longer = sorted((one.get("suffix", ""), other.get("suffix", "")), key=len)
    return second.startswith(first) and longer.endswith(last)


def patch(change: Change) -> str:
    """What the bucket's owner can do, three ways: the CLI, CloudFormation, Terraform."""
    return "\n".join(_patch(change))


def _patch(change: Change) -> Iterator[str]:
    document = json.dumps(change.wanted, indent=2, sort_keys=True)
    yield f"# {change.bucket} ({change.region}): AWS CLI. It replaces the whole configuration by this one."
    yield f"aws s3api put-bucket-notification-configuration --region {change.region} --bucket {change.bucket} \\"
    yield f"  --notification-configuration '{_shell(document)}'"
    added = _added(change)
    yield f"# {change.bucket}: CloudFormation, into Properties of its AWS::S3::Bucket"
    yield "NotificationConfiguration:"
    if SWITCH in change.wanted and SWITCH not in change.current:
        yield "  EventBridgeConfiguration:\n    EventBridgeEnabled: true"
    if added:
        yield "  TopicConfigurations:"
        yield from (line for entry in added for line in _cloudformation(entry))
    yield f"# {change.bucket}: Terraform, into its aws_s3_bucket_notification (there can be only one per bucket)"
    if SWITCH in change.wanted and SWITCH not in change.current:
        yield "eventbridge = true"
    yield from (line for entry in added for line in _terraform(entry))


def _shell(text: str) -> str:
    return text.replace("'", "'\\''")


def _added(change: Change) -> list[dict[str, Any]]:
    before = change.current.get("TopicConfigurations", [])
    return [entry for entry in change.wanted.get("TopicConfigurations", []) if entry not in before]


def _quoted(text: str) -> str:
    """Double quotes and JSON's escapes mean the same in YAML; in Terraform ``${`` has to be doubled as well."""
    return json.dumps(text)


def _cloudformation(entry: Mapping[str, Any]) -> Iterator[str]:
    for event in entry["Events"]:  # CloudFormation takes one event per entry
        yield f"    - Event: {_quoted(event)}"
        yield f"      Topic: {_quoted(entry['TopicArn'])}"
        for value in _filter(entry).values():
            yield f"      Filter: {{S3Key: {{Rules: [{{Name: prefix, Value: {_quoted(value)}}}]}}}}"


def _terraform(entry: Mapping[str, Any]) -> Iterator[str]:
    events: Iterable[str] = [_quoted(event) for event in entry["Events"]]
    yield "topic {"
    yield f"  id            = {_quoted(entry['Id'])}"
    yield f"  topic_arn     = {_quoted(entry['TopicArn'])}"
    yield f"  events        = [{', '.join(events)}]"
    for value in _filter(entry).values():
        yield f"  filter_prefix = {_quoted(value).replace('${', '$${')}"
    yield "}"
