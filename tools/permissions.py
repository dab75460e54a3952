"""What the templates' roles may do, and why: read from the templates, for the page of permissions and for its tests."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

ACTIONS = {
    "cloudwatch:DeleteAlarms": "remove an alarm",
    "cloudwatch:DescribeAlarms": "list alarms",
    "cloudwatch:PutMetricAlarm": "make or change an alarm",
    "cloudwatch:PutMetricData": "publish metrics",
    "cloudwatch:TagResource": "tag an alarm",
    "cloudtrail:AddTags": "tag a trail",
    "cloudtrail:CreateTrail": "make a trail",
    "cloudtrail:DeleteTrail": "remove a trail",
    "cloudtrail:DescribeTrails": "list trails",
    "cloudtrail:GetEventSelectors": "read what a trail logs",
    "cloudtrail:GetTrail": "read a trail's settings",
    "cloudtrail:GetTrailStatus": "see whether a trail is logging",
    "cloudtrail:PutEventSelectors": "replace what a trail logs",
    "cloudtrail:StartLogging": "let a trail log",
    "cloudtrail:UpdateTrail": "change a trail's settings",
    "dynamodb:BatchGetItem": "read items by key",
    "dynamodb:BatchWriteItem": "write items by key",
    "dynamodb:DescribeStream": "see the parts of a change stream",
    "dynamodb:GetItem": "read one item by key",
    "dynamodb:GetRecords": "read a change stream",
    "dynamodb:GetShardIterator": "find a place in a change stream",
    "dynamodb:ListStreams": "find a table's change stream",
    "dynamodb:Query": "read a part of an index in its order",
    "dynamodb:UpdateItem": "change one item by key, also within a transaction",
    "events:DeleteRule": "remove a rule",
    "events:ListRules": "list rules and their patterns",
    "events:ListTargetsByRule": "read where a rule sends events",
    "events:PutEvents": "put events on a bus",
    "events:PutRule": "make or change a rule",
    "events:PutTargets": "change where a rule sends events",
    "events:RemoveTargets": "stop a rule from sending",
    "events:TagResource": "tag a rule",
    "firehose:PutRecordBatch": "send records to a delivery stream",
    "glue:GetTable": "read a table's columns",
    "glue:GetTableVersion": "read what a table's columns were",
    "glue:GetTableVersions": "list what a table's columns were",
    "iam:PassRole": "hand a role to a service",
    "kms:Decrypt": "decrypt with a key",
    "kms:DescribeKey": "read a key's settings",
    "kms:Encrypt": "encrypt with a key",
    "kms:GenerateDataKey": "make a key that this key protects",
    "kms:GenerateDataKeyWithoutPlaintext": "make a key that this key protects, for later",
    "kms:ReEncryptFrom": "take what the key protects over to another",
    "kms:ReEncryptTo": "take what another key protects over to this one",
    "logs:CreateLogStream": "begin a log",
    "logs:PutLogEvents": "write to a log",
    "s3:AbortMultipartUpload": "give up an unfinished upload",
    "s3:GetBucketLocation": "read in which Region a bucket is",
    "s3:DeleteObjectVersion": "remove a version for good",
    "s3:GetBucketNotification": "read a bucket's notification settings",
    "s3:GetBucketObjectLockConfiguration": "see whether a bucket keeps new objects for a time",
    "s3:GetObject": "read an object",
    "s3:GetObjectVersion": "ask for a version's status (HEAD); it would also allow to read the object",
    "s3:GetReplicationConfiguration": "read a bucket's replication rules",
    "s3:ListAllMyBuckets": "list the account's buckets",
    "s3:ListBucket": "list a bucket's keys; lets S3 say 404 for what is missing",
    "s3:ListBucketMultipartUploads": "list unfinished uploads",
    "s3:ListBucketVersions": "list versions in a bucket",
    "s3:PutBucketNotification": "replace a bucket's notification settings",
    "s3:PutObject": "write an object",
    "sns:CreateTopic": "make a topic",
    "sns:DeleteTopic": "remove a topic",
    "sns:GetSubscriptionAttributes": "read a subscription's settings",
    "sns:GetTopicAttributes": "read a topic's settings",
    "sns:ListSubscriptionsByTopic": "list who is subscribed to a topic",
    "sns:Publish": "send a message to a topic",
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
    "ssm:GetParametersByPath": "read all parameters below a path",
    "ssm:PutParameter": "write a parameter",
    "sts:AssumeRole": "act through a role",
}
"""Every action that a role of ours may have, in plain words; any other is a mistake until it is added here."""


DEPLOYING = {
    "AWS::Athena::NamedQuery": (
        "athena:CreateNamedQuery",
        "athena:GetNamedQuery",
        "athena:ListNamedQueries",
        "athena:DeleteNamedQuery",
    ),
    "AWS::Athena::WorkGroup": (
        "athena:CreateWorkGroup",
        "athena:GetWorkGroup",
        "athena:UpdateWorkGroup",
        "athena:TagResource",
        "athena:DeleteWorkGroup",
    ),
    "AWS::CloudWatch::Dashboard": (
        "cloudwatch:PutDashboard",
        "cloudwatch:GetDashboard",
        "cloudwatch:DeleteDashboards",
    ),
    "AWS::CloudWatch::Alarm": ("cloudwatch:PutMetricAlarm", "cloudwatch:DescribeAlarms", "cloudwatch:DeleteAlarms"),
    "AWS::DynamoDB::Table": (
        "dynamodb:CreateTable",
        "dynamodb:DescribeTable",
        "dynamodb:UpdateTable",
        "dynamodb:DescribeTimeToLive",
        "dynamodb:UpdateTimeToLive",
        "dynamodb:DescribeContinuousBackups",
        "dynamodb:TagResource",
        "dynamodb:DeleteTable",
    ),
    "AWS::Events::EventBus": (
        "events:CreateEventBus",
        "events:DescribeEventBus",
        "events:TagResource",
        "events:DeleteEventBus",
    ),
    "AWS::Events::EventBusPolicy": ("events:PutPermission", "events:DescribeEventBus", "events:RemovePermission"),
    "AWS::Events::Rule": (
        "events:PutRule",
        "events:DescribeRule",
        "events:PutTargets",
        "events:ListTargetsByRule",
        "events:RemoveTargets",
        "events:DeleteRule",
        "iam:PassRole",
    ),
    "AWS::Glue::Database": ("glue:CreateDatabase", "glue:GetDatabase", "glue:UpdateDatabase", "glue:DeleteDatabase"),
    "AWS::Glue::Table": ("glue:CreateTable", "glue:GetTable", "glue:UpdateTable", "glue:DeleteTable"),
    "AWS::IAM::Policy": ("iam:PutRolePolicy", "iam:GetRolePolicy", "iam:DeleteRolePolicy"),
    "AWS::IAM::Role": (
        "iam:CreateRole",
        "iam:GetRole",
        "iam:UpdateAssumeRolePolicy",
        "iam:PutRolePolicy",
        "iam:GetRolePolicy",
        "iam:DeleteRolePolicy",
        "iam:PutRolePermissionsBoundary",
        "iam:DeleteRolePermissionsBoundary",
        "iam:TagRole",
        "iam:DeleteRole",
    ),
    "AWS::KinesisFirehose::DeliveryStream": (
        "firehose:CreateDeliveryStream",
        "firehose:DescribeDeliveryStream",
        "firehose:UpdateDestination",
        "firehose:StartDeliveryStreamEncryption",
        "firehose:TagDeliveryStream",
        "firehose:DeleteDeliveryStream",
        "iam:PassRole",
    ),
    "AWS::Lambda::EventInvokeConfig": (
        "lambda:PutFunctionEventInvokeConfig",
        "lambda:GetFunctionEventInvokeConfig",
        "lambda:UpdateFunctionEventInvokeConfig",
        "lambda:DeleteFunctionEventInvokeConfig",
    ),
    "AWS::Lambda::EventSourceMapping": (
        "lambda:CreateEventSourceMapping",
        "lambda:GetEventSourceMapping",
        "lambda:UpdateEventSourceMapping",
        "lambda:DeleteEventSourceMapping",
    ),
    "AWS::Lambda::Function": (
        "lambda:CreateFunction",
        "lambda:GetFunction",
        "lambda:GetFunctionConfiguration",
        "lambda:UpdateFunctionCode",
        "lambda:UpdateFunctionConfiguration",
        "lambda:TagResource",
        "lambda:DeleteFunction",
        "lambda:InvokeFunction",
        "iam:PassRole",
        "s3:GetObject",
    ),
    "AWS::Lambda::Permission": ("lambda:AddPermission", "lambda:GetPolicy", "lambda:RemovePermission"),
    "AWS::Logs::LogGroup": (
        "logs:CreateLogGroup",
        "logs:DescribeLogGroups",
        "logs:PutRetentionPolicy",
        "logs:TagResource",
        "logs:DeleteLogGroup",
    ),
    "AWS::Logs::LogStream": ("logs:CreateLogStream", "logs:DescribeLogStreams", "logs:DeleteLogStream"),
    "AWS::S3::Bucket": (
        "s3:CreateBucket",
        "s3:ListBucket",
        "s3:PutBucketPublicAccessBlock",
        "s3:PutEncryptionConfiguration",
        "s3:PutBucketOwnershipControls",
        "s3:PutLifecycleConfiguration",
        "s3:PutBucketTagging",
        "s3:DeleteBucket",
    ),
    "AWS::S3::BucketPolicy": ("s3:PutBucketPolicy", "s3:GetBucketPolicy", "s3:DeleteBucketPolicy"),
    "AWS::SNS::Subscription": (
        "sns:Subscribe",
        "sns:GetSubscriptionAttributes",
        "sns:SetSubscriptionAttributes",
        "sns:Unsubscribe",
    ),
    "AWS::SNS::Topic": (
        "sns:CreateTopic",
        "sns:GetTopicAttributes",
        "sns:SetTopicAttributes",
        "sns:TagResource",
        "sns:ListSubscriptionsByTopic",
        "sns:DeleteTopic",
    ),
    "AWS::SNS::TopicPolicy": ("sns:SetTopicAttributes", "sns:GetTopicAttributes"),
    "AWS::SQS::Queue": (
        "sqs:CreateQueue",
        "sqs:GetQueueAttributes",
        "sqs:SetQueueAttributes",
        "sqs:TagQueue",
        "sqs:DeleteQueue",
    ),
    "AWS::SQS::QueuePolicy": ("sqs:SetQueueAttributes", "sqs:GetQueueAttributes"),
}
"""What making, changing and removing a type of resource takes; a type is a mistake until it is added here."""


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
    """Every statement of every role, also of policies that stand apart from their role."""
    for name, resource in template["Resources"].items():
        properties = resource["Properties"]
        if resource["Type"] == "AWS::IAM::Role":
            for policy in properties.get("Policies", []):
                yield from _statements(template, name, policy, resource.get("Condition", ""))
        elif resource["Type"] == "AWS::IAM::Policy":
            for role in properties["Roles"]:
                role_name = (role if "Ref" in role else role["Fn::If"][1])["Ref"]
                yield from _statements(template, role_name, properties, resource.get("Condition", ""))


def _statements(template: dict[str, Any], role: str, policy: dict[str, Any], only: str) -> Iterator[Statement]:
    reasons = template["Resources"][role].get("Metadata", {}).get("Reasons", {})
    for entry in policy["PolicyDocument"]["Statement"]:
        condition, body = (only, entry) if "Fn::If" not in entry else entry["Fn::If"][:2]
        actions, arns = tuple(_listed(body["Action"])), tuple(_arns(body["Resource"]))
        yield Statement(role, body["Sid"], actions, arns, condition, reasons.get(body["Sid"], "").strip())


def _when(template: Mapping[str, Any], expression: Any) -> str:  # noqa: ANN401 - any part of a template
    if "Condition" in expression:
        return when(template, expression["Condition"])
    if "Fn::And" in expression:
        return " and ".join(_when(template, each) for each in expression["Fn::And"])
    if "Fn::Or" in expression:
        return " or ".join(_when(template, each) for each in expression["Fn::Or"])
    negative = "Fn::Not" in expression
    left, right = (expression["Fn::Not"][0] if negative else expression)["Fn::Equals"]
    name = left["Ref"] if "Ref" in left else left["Fn::Join"][1]["Ref"]
    if right == "":
        return f"`{name}`" if negative else f"no `{name}`"
    return f"`{name}` {'other than ' if negative else ''}{right}"


def when(template: Mapping[str, Any], condition: str) -> str:
    """A condition of the template in words, as in "`BucketSettings` Change"."""
    return _when(template, template["Conditions"][condition])


def assumed_by(role: Mapping[str, Any]) -> str:
    """Who may act through a role."""
    found = []
    for statement in _listed(role["Properties"]["AssumeRolePolicyDocument"]["Statement"]):
        for kind, value in statement["Principal"].items():
            if kind == "Service":
                found += [f"`{each}`" for each in _listed(value)]
            else:
                found.append(", ".join(f"the roles of parameter `{each['Ref']}`" for each in _listed(value)))
    return ", ".join(found)


def _readable(arn: str) -> str:
    """An ARN as a reader needs it: pseudo parameters as plain words, other references by their names."""
    for pseudo, word in _PSEUDO:
        arn = arn.replace(pseudo, word)
    return re.sub(r"\$\{(\w+)(?:\.Arn)?\}", r"\1", arn)


def _places(template: Mapping[str, Any], arns: tuple[str, ...]) -> str:
    """Where actions may be used; of a parameter that may be empty, that the place after it counts then."""
    found = []
    for number, arn in enumerate(arns, start=1):
        text = _readable(arn)
        parameter = template["Parameters"].get(text)
        optional = parameter is not None and parameter.get("Default") == "" and number < len(arns)
        found.append(
            f"{'' if parameter is None else 'parameter '}`{text}`" + ("; where it is empty:" if optional else "")
        )
    return "<br>".join(found)


_PSEUDO = (
    ("${AWS::Partition}", "aws"),
    ("${AWS::Region}", "REGION"),
    ("${AWS::AccountId}", "ACCOUNT"),
    ("${Token}", "TOKEN"),
    ("${HubToken}", "HUBTOKEN"),
)


def markdown(template: dict[str, Any]) -> str:
    """A heading and a table for each role."""
    lines: list[str] = []
    found = [*statements(template)]
    for name in dict.fromkeys(each.role for each in found):
        lines += [f"### {name}", "", f"Assumed by {assumed_by(template['Resources'][name])}.", ""]
        lines += ["| actions | on | why |", "|---|---|---|"]
        for each in found:
            if each.role == name:
                actions = "<br>".join(f"`{action}`" for action in each.actions)
                arns = _places(template, each.resources)
                only = f" (only with {when(template, each.condition)})" if each.condition else ""
                lines.append(f"| {actions} | {arns} | {' '.join(each.reason.split())}{only} |")
        lines.append("")
    return "\n".join(lines).rstrip("\n") + "\n"


def actions_table(found: Iterable[dict[str, Any]]) -> str:
    """Every action that some role has, in plain words.

    Raises:
        LookupError: an action is not in :data:`ACTIONS`.
    """
    used = {action for template in found for each in statements(template) for action in each.actions}
    _check_known("ACTIONS", used - ACTIONS.keys())
    rows = [f"| `{action}` | {ACTIONS[action]} |" for action in sorted(used)]
    return "\n".join(["| action | allows to |", "|---|---|", *rows]) + "\n"


def deploying_table(found: Iterable[dict[str, Any]]) -> str:
    """What CloudFormation does, with the deployer's rights, for each type of resource of the templates.

    Raises:
        LookupError: a type is not in :data:`DEPLOYING`.
    """
    kinds = {each["Type"] for template in found for each in template["Resources"].values()}
    kinds = {kind for kind in kinds if kind.startswith("AWS::")}
    _check_known("DEPLOYING", kinds - DEPLOYING.keys())
    rows = [f"| `{kind}` | {_joined(DEPLOYING[kind])} |" for kind in sorted(kinds)]
    return "\n".join(["| resource | actions |", "|---|---|", *rows]) + "\n"


def _check_known(table: str, unknown: set[str]) -> None:
    if unknown:
        message = f"add {', '.join(sorted(unknown))} to {table} in tools/permissions.py"
        raise LookupError(message)


def _joined(actions: Iterable[str]) -> str:
    return ", ".join(f"`{action}`" for action in actions)
