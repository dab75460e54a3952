"""Action and resource of a call, as IAM's policies name them, where the emulator has names of its own.

Service Authorization Reference, "Actions, resources, and condition keys for Amazon EventBridge": a rule on the default
bus is ``rule/NAME``, on another ``rule/BUS/NAME``; PutTargets, RemoveTargets and ListTargetsByRule act on a rule, too;
ListRules and ListRuleNamesByTarget know no resource. The emulator says ``rule/default/NAME``, and nothing of the
field ``Rule``.

CloudWatch Logs API Reference, "LogGroup" (``arn``, ``logGroupArn``): policies name a log group with ``:*`` after it,
for tagging without. The emulator always takes it without.

Service Authorization Reference, "Actions, resources, and condition keys for Amazon CloudWatch": DeleteAlarms acts on
alarms. The emulator looks for one name, and the call has a list.

CloudWatch User Guide, "Using condition keys to limit access to CloudWatch namespaces": ``cloudwatch:namespace`` is the
namespace of PutMetricData, which the emulator leaves out.

Systems Manager User Guide, "How Parameter Store authorizes parameter retrieval": GetParametersByPath is allowed
or not by the path in the request. The emulator looks for a name.

SQS Developer Guide, "Amazon SQS API permissions: Actions and resource reference", and Service Authorization Reference,
"Actions, resources, and condition keys for Amazon SNS": a call with a batch needs the permission of the single one, as
there are no actions of the batches' names. The emulator asks for one of that name.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_SINGLE = {
    "sqs:SendMessageBatch": "sqs:SendMessage",
    "sqs:DeleteMessageBatch": "sqs:DeleteMessage",
    "sqs:ChangeMessageVisibilityBatch": "sqs:ChangeMessageVisibility",
    "sns:PublishBatch": "sns:Publish",
}
_NAMED = frozenset({"PutRule", "DeleteRule", "DescribeRule", "EnableRule", "DisableRule"})
_OF_RULE = frozenset({"PutTargets", "RemoveTargets", "ListTargetsByRule"})
_TAGGING = frozenset({"TagResource", "UntagResource", "ListTagsForResource"})
_WITHOUT = frozenset({"ListRules", "ListRuleNamesByTarget"})


def _resource(operation: str, body: bytes, place: str) -> str | None:
    """The ARN that an operation acts on, or ``None`` where the emulator may say it."""
    if operation in _WITHOUT:
        return "*"
    try:
        given = json.loads(body or b"{}")
    except ValueError:
        return None
    if operation in _TAGGING:
        return str(given["ResourceARN"]) if given.get("ResourceARN") else None
    name = given.get("Name") if operation in _NAMED else given.get("Rule") if operation in _OF_RULE else None
    if not name:
        return None
    bus = str(given.get("EventBusName") or "default").rsplit("/", 1)[-1]
    return f"arn:aws:events:{place}:rule/{name}" if bus == "default" else f"arn:aws:events:{place}:rule/{bus}/{name}"


def _parameters(body: bytes, place: str) -> str | None:
    """The path below which parameters are listed."""
    try:
        path = json.loads(body or b"{}").get("Path")
    except (ValueError, AttributeError):
        return None
    return f"arn:aws:ssm:{place}:parameter/{path.lstrip('/')}" if isinstance(path, str) else None


def _alarm(body: bytes, place: str) -> str | None:
    """The first alarm of a list; that all of them are asked for is not shown."""
    try:
        names = json.loads(body or b"{}").get("AlarmNames")
    except (ValueError, AttributeError):
        return None
    return f"arn:aws:cloudwatch:{place}:alarm:{names[0]}" if names else None


def naming_rules(old: Callable[..., str]) -> Callable[..., str]:
    """The emulator's ``extract_resource_arn`` with the names that rules and log groups have in policies."""

    def extract(  # noqa: PLR0913, PLR0917 - the emulator's own
        service: str,
        method: str,
        path: str,
        headers: dict[str, str],
        body: bytes,
        query_params: dict[str, Any],
        region: str,
        account_id: str,
    ) -> str:
        if service == "events":
            operation = headers.get("x-amz-target", "").rsplit(".", 1)[-1]
            found = _resource(operation, body, f"{region}:{account_id}")
            if found is not None:
                return found
        arn = old(service, method, path, headers, body, query_params, region, account_id)
        if service == "monitoring" and arn == "*":
            return _alarm(body, f"{region}:{account_id}") or arn
        if service == "ssm" and arn == "*":
            return _parameters(body, f"{region}:{account_id}") or arn
        if service == "logs" and arn != "*" and headers.get("x-amz-target", "").rsplit(".", 1)[-1] not in _TAGGING:
            return arn.removesuffix(":*") + ":*"
        return arn

    return extract


def single_actions(old: Callable[..., str | None]) -> Callable[..., str | None]:
    """The emulator's ``extract_iam_action`` with the single call's action for a batch."""

    def extract(*arguments: Any) -> str | None:  # noqa: ANN401 - the emulator's own
        action = old(*arguments)
        return _SINGLE.get(action or "", action)

    return extract


def with_namespace(old: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """The emulator's ``request_tag_context``, which adds condition keys of a request, with the namespace of metrics."""

    def context(service: str, action: str, body: bytes, params: dict[str, Any]) -> dict[str, Any]:
        found = old(service, action, body, params)
        if action == "cloudwatch:PutMetricData":
            try:
                found = {**found, "cloudwatch:namespace": str(json.loads(body)["Namespace"])}
            except (ValueError, KeyError, TypeError):
                return found  # another protocol, or no namespace: then the key is not there
        return found

    return context
