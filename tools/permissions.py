"""What the templates' roles may do, and why: read from the templates, for the page of permissions and for its tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

ACTIONS = {
    "cloudtrail:DescribeTrails": "list trails",
    "cloudtrail:GetEventSelectors": "read what a trail logs",
    "cloudtrail:GetTrailStatus": "see whether a trail is logging",
    "cloudtrail:PutEventSelectors": "replace what a trail logs",
    "dynamodb:BatchGetItem": "read items by key",
    "dynamodb:BatchWriteItem": "write items by key",
    "dynamodb:DescribeStream": "see the parts of a change stream",
    "dynamodb:GetItem": "read one item by key",
    "dynamodb:GetRecords": "read a change stream",
    "dynamodb:GetShardIterator": "find a place in a change stream",
    "dynamodb:ListStreams": "find a table's change stream",
    "dynamodb:UpdateItem": "change one item by key, also within a transaction",
    "events:DeleteRule": "remove a rule",
    "events:ListRules": "list rules and their patterns",
    "events:ListTargetsByRule": "read where a rule sends events",
    "events:PutEvents": "put events on a bus",
    "events:PutRule": "make or change a rule",
    "events:PutTargets": "change where a rule sends events",
    "events:RemoveTargets": "stop a rule from sending",
    "events:TagResource": "tag a rule",
    "iam:PassRole": "hand a role to a service",
    "logs:CreateLogStream": "begin a log",
    "logs:PutLogEvents": "write to a log",
    "s3:GetBucketLocation": "read in which Region a bucket is",
    "s3:GetBucketNotification": "read a bucket's notification settings",
    "s3:GetObjectVersion": "ask for a version's status (HEAD); it would also allow to read the object",
    "s3:GetReplicationConfiguration": "read a bucket's replication rules",
    "s3:ListAllMyBuckets": "list the account's buckets",
    "s3:ListBucket": "list a bucket's keys; lets S3 say 404 for what is missing",
    "s3:ListBucketVersions": "list versions in a bucket",
    "s3:PutBucketNotification": "replace a bucket's notification settings",
    "sns:CreateTopic": "make a topic",
    "sns:DeleteTopic": "remove a topic",
    "sns:GetSubscriptionAttributes": "read a subscription's settings",
    "sns:GetTopicAttributes": "read a topic's settings",
    "sns:ListSubscriptionsByTopic": "list who is subscribed to a topic",
    "sns:SetSubscriptionAttributes": "change a subscription's settings",
    "sns:SetTopicAttributes": "change a topic's settings",
    "sns:Subscribe": "subscribe to a topic",
    "sns:TagResource": "tag a topic",
    "sns:Unsubscribe": "end a subscription",
    "sqs:ChangeMessageVisibility": "put a message back for later",
    "sqs:CreateQueue": "make a queue",
    "sqs:DeleteMessage": "remove a message that was dealt with",
    "sqs:DeleteQueue": "remove a queue",
    "sqs:GetQueueAttributes": "read a queue's settings",
    "sqs:GetQueueUrl": "find a queue",
    "sqs:ReceiveMessage": "take messages from a queue",
    "sqs:SendMessage": "put a message on a queue",
    "sqs:SetQueueAttributes": "change a queue's settings",
    "sqs:TagQueue": "tag a queue",
    "ssm:DeleteParameter": "remove a parameter",
    "ssm:GetParameter": "read a parameter",
    "ssm:PutParameter": "write a parameter",
    "sts:AssumeRole": "act through a role",
}
"""Every action that a role of ours may have, in plain words; any other is a mistake until it is added here."""


class Statement(NamedTuple):
    """One statement of a role's policies. ``resources`` are ARNs as the template writes them, functions left out."""

    role: str
    sid: str
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    condition: str
    """The template's condition under which the statement is there at all."""
    reason: str


class _Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short functions, read as their long forms."""


def _function(loader: _Loader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    name = suffix if suffix in {"Ref", "Condition"} else f"Fn::{suffix}"
    if isinstance(node, yaml.ScalarNode):
        value: Any = loader.construct_scalar(node)
        return {name: value.split(".", 1) if suffix == "GetAtt" else value}
    if isinstance(node, yaml.SequenceNode):
        return {name: loader.construct_sequence(node, deep=True)}
    if isinstance(node, yaml.MappingNode):
        return {name: loader.construct_mapping(node, deep=True)}
    message = f"!{suffix} stands before something that is no YAML value"
    raise TypeError(message)


_Loader.add_multi_constructor("!", _function)


def load(text: str) -> dict[str, Any]:
    """A template as plain values."""
    document: dict[str, Any] = yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    return document


def _listed(value: Any) -> list[Any]:  # noqa: ANN401 - any part of a template
    return value if isinstance(value, list) else [value]


def _arns(value: Any) -> Iterator[str]:  # noqa: ANN401
    """The ARNs that a Resource may become: both branches of an ``If``."""
    for each in _listed(value):
        if isinstance(each, str):
            yield each
        elif "Fn::If" in each:
            yield from _arns(each["Fn::If"][1:])
        elif "Fn::Sub" in each:
            yield _listed(each["Fn::Sub"])[0]
        elif "Fn::GetAtt" in each:
            yield "${" + ".".join(each["Fn::GetAtt"]) + "}"
        else:
            yield "${" + each["Ref"] + "}"


def statements(template: dict[str, Any]) -> Iterator[Statement]:
    """Every statement of every role."""
    for name, resource in template["Resources"].items():
        if resource["Type"] != "AWS::IAM::Role":
            continue
        reasons = resource.get("Metadata", {}).get("Reasons", {})
        for policy in resource["Properties"].get("Policies", []):
            for entry in policy["PolicyDocument"]["Statement"]:
                condition, body = ("", entry) if "Fn::If" not in entry else entry["Fn::If"][:2]
                sid = body["Sid"]
                actions = tuple(_listed(body["Action"]))
                arns = tuple(_arns(body["Resource"]))
                yield Statement(name, sid, actions, arns, condition, reasons.get(sid, "").strip())


def markdown(template: dict[str, Any]) -> str:
    """A table of all permissions."""
    rows = ["| role | actions | on | why |", "|---|---|---|---|"]
    for each in statements(template):
        actions = "<br>".join(f"`{action}`" for action in each.actions)
        arns = "<br>".join(f"`{arn}`" for arn in each.resources)
        when = f" (only if {each.condition})" if each.condition else ""
        rows.append(f"| {each.role} | {actions} | {arns} | {each.reason}{when} |")
    return "\n".join(rows) + "\n"
