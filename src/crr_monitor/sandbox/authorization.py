"""Action and resource of a call, as IAM's policies name them, where the emulator has names of its own.

Service Authorization Reference, "Actions, resources, and condition keys for Amazon EventBridge": a rule on the default
bus is ``rule/NAME``, on another ``rule/BUS/NAME``; PutTargets, RemoveTargets and ListTargetsByRule act on a rule, too;
ListRules and ListRuleNamesByTarget know no resource. The emulator says ``rule/default/NAME``, and nothing of the
field ``Rule``.

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


def naming_rules(old: Callable[..., str]) -> Callable[..., str]:
    """The emulator's ``extract_resource_arn`` with the rules' own names."""

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
        return old(service, method, path, headers, body, query_params, region, account_id)

    return extract


def single_actions(old: Callable[..., str | None]) -> Callable[..., str | None]:
    """The emulator's ``extract_iam_action`` with the single call's action for a batch."""

    def extract(*arguments: Any) -> str | None:  # noqa: ANN401 - the emulator's own
        action = old(*arguments)
        return _SINGLE.get(action or "", action)

    return extract
