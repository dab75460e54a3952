"""EventBridge delivery as AWS does it, in place of the emulator's, which knows targets of one account and Region only.

EventBridge User Guide: "Sending and receiving events between AWS accounts" and "... between AWS Regions" (target
role, bus policy, no third bus), "Using dead-letter queues to process undelivered events", "Using resource-based
policies" (targets).
"""

# ruff: noqa: SLF001 - the emulator has no public interface to extend

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

from crr_monitor.sandbox import iam, points

if TYPE_CHECKING:
    from collections.abc import Callable

_app = points.module("app")
_arn = points.module("core.arn")
_evaluator = points.module("core.iam_evaluator")
_events = points.module("services.eventbridge")
_functions = points.module("services.lambda_svc")
_responses = points.module("core.responses")
_sns = points.module("services.sns")
_sqs = points.module("services.sqs")

SERVICE = "events.amazonaws.com"
_DENIED = "NO_PERMISSIONS"
_MISSING = "RESOURCE_NOT_FOUND"
_INVALID = "INVALID_PARAMETER"
HOPPED = "_SandboxHopped"
"""Marks an event that came from another bus: it is delivered to targets, but to no further bus."""


class UndeliverableError(Exception):
    """The target cannot be reached; ``code`` is the ``ERROR_CODE`` that the dead-letter message carries."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


def _input(target: dict[str, Any], rule: dict[str, Any], view: Any) -> str:  # noqa: ANN401 - the emulator's class
    """What the target receives: the event, a part of it, or what the target says."""
    event = view.event_with_detail()
    if target.get("InputTransformer"):
        return str(_events._apply_input_transformer(target["InputTransformer"], rule, view))
    if target.get("Input"):
        return str(target["Input"])
    value: Any = event
    for part in str(target.get("InputPath") or "").strip("$.").split("."):
        if part:
            value = value.get(part) if isinstance(value, dict) else None
    return json.dumps(value)


def _bus_allows(bus_arn: str, bus_policy: dict[str, Any] | None, role_arn: str, region: str) -> bool:
    """Whether the policy of a bus in another account lets the sender in: by account, organization, or everybody."""
    statements = []
    for statement in (bus_policy or {}).get("Statement", []):
        principal = statement.get("Principal")
        # PutPermission stores a bare account id, which is the account's root.
        named = {"AWS": principal} if isinstance(principal, str) and principal.isdigit() else principal
        statements.append({**statement, "Principal": named})
    return iam.policy_allows({"Statement": statements}, role_arn, "events:PutEvents", bus_arn, region)


def _to_bus(spec: Any, target: dict[str, Any], event: dict[str, Any]) -> None:  # noqa: ANN401 - the emulator's ARN
    account, region, name = spec.account_id, spec.region, spec.resource.split("/", 1)[1]
    if event.get(HOPPED):
        # "If an event bus receives an event from another event bus, it does not send it on to a third": no error, no
        # DLQ.
        return
    role = target.get("RoleArn", "")
    here = (_responses.get_account_id(), _responses.get_region())
    if (account, region) != here or role:
        if not iam.assumable(role, SERVICE):
            message = f"EventBridge may not assume the role {role or '(none)'} of the target."
            raise UndeliverableError(_DENIED, message)
        if not iam.role_allows(role, "events:PutEvents", str(spec), region):
            message = f"The role {role} does not allow events:PutEvents on {spec}."
            raise UndeliverableError(_DENIED, message)
    with _responses.request_scope(account, region):
        _events._ensure_default_bus()
        if name not in _events._event_buses:
            message = f"Event bus {spec} does not exist."
            raise UndeliverableError(_MISSING, message)
        if account != here[0] and not _bus_allows(str(spec), _events._event_bus_policies.get(name), role, region):
            message = f"The policy of {spec} does not allow account {here[0]} to put events."
            raise UndeliverableError(_DENIED, message)
        forwarded = {**event, "EventBusName": name, HOPPED: True}
        _events._dispatch_event(forwarded)
        _events._archive_event(forwarded)


def _same_region(spec: Any) -> None:  # noqa: ANN401
    """A target that is no event bus has to be in the Region of the rule."""
    if spec.region != _responses.get_region():
        message = f"{spec} is not in the rule's Region {_responses.get_region()}."
        raise UndeliverableError(_INVALID, message)


def _to_queue(spec: Any, target: dict[str, Any], payload: str, rule: dict[str, Any]) -> None:  # noqa: ANN401
    _same_region(spec)
    if _sqs._queue_by_arn(str(spec)) is None:
        message = f"Queue {spec} does not exist."
        raise UndeliverableError(_MISSING, message)
    if not _sqs.queue_policy_allows(str(spec), SERVICE, rule.get("Arn", ""), _responses.get_account_id()):
        message = f"The policy of {spec} does not allow {SERVICE}."
        raise UndeliverableError(_DENIED, message)
    _events._dispatch_to_sqs(spec, payload, target.get("SqsParameters") or {})


def _to_topic(spec: Any, payload: str) -> None:  # noqa: ANN401
    _same_region(spec)
    topic = _sns._topic_by_arn_any_scope(str(spec))
    if topic is None:
        message = f"Topic {spec} does not exist."
        raise UndeliverableError(_MISSING, message)
    if topic.get("attributes", {}).get("KmsMasterKeyId") == "alias/aws/sns":
        # AWS Knowledge Center: EventBridge cannot use the AWS managed key of SNS.
        message = f"{spec} is encrypted with alias/aws/sns, which EventBridge may not use."
        raise UndeliverableError(_DENIED, message)
    if not _topic_lets_in(topic, str(spec)):
        message = f"The policy of {spec} does not allow {SERVICE}."
        raise UndeliverableError(_DENIED, message)
    _events._dispatch_to_sns(str(spec), payload)


def _topic_lets_in(topic: dict[str, Any], arn: str) -> bool:
    """Whether a topic's policy lets EventBridge publish, which tells it neither the rule nor the account.

    User Guide, "Using resource-based policies for Amazon EventBridge", "Amazon SNS permissions": "You can't use of
    Condition blocks in Amazon SNS topic policies for EventBridge". With queues and functions one can.
    """
    if not _app.AUTH:
        return True
    context = _evaluator.EvalContext(
        principal_arn="*",
        principal_type="Service",
        principal_account="",
        action="sns:Publish",
        resource_arn=arn,
        region=_responses.get_region(),
        service_context={},
    )
    policy = topic.get("attributes", {}).get("Policy") or ""
    return bool(policy) and bool(
        _evaluator.evaluate_resource_policy(policy, context, service=SERVICE).decision == "Allow"
    )


def _to_function(spec: Any, payload: str, rule: dict[str, Any]) -> None:  # noqa: ANN401
    _same_region(spec)
    function, config, _ = _functions._get_func_record_for_ref(str(spec))
    if not function or not config:
        message = f"Function {spec} does not exist."
        raise UndeliverableError(_MISSING, message)
    if _app.AUTH:
        context = _evaluator.EvalContext(
            principal_arn="*",
            principal_type="Service",
            principal_account="",
            action="lambda:InvokeFunction",
            resource_arn=str(spec),
            region=spec.region,
            service_context={"aws:sourcearn": rule.get("Arn", ""), "aws:sourceaccount": _responses.get_account_id()},
        )
        base = _functions._functions.get_scoped(spec.account_id, spec.region, spec.resource.split(":")[1]) or {}
        if _evaluator.evaluate_resource_policy(base.get("policy"), context, service=SERVICE).decision != "Allow":
            message = f"The policy of {spec} does not allow {SERVICE}."
            raise UndeliverableError(_DENIED, message)
    # EventBridge invokes asynchronously: Lambda retries, then its own dead-letter queue or destination.
    record = _functions._execution_record_for_config(function, config)
    _functions.invoke_async_with_retry(record, json.loads(payload))


def _dead_letter(target: dict[str, Any], rule: dict[str, Any], view: Any, error: UndeliverableError) -> None:  # noqa: ANN401
    """Send the event to the target's dead-letter queue, with the attributes that AWS adds; without one it is lost."""
    arn = (target.get("DeadLetterConfig") or {}).get("Arn")
    queue = _sqs._queue_by_arn(arn) if arn else None
    if queue is None or not _sqs.queue_policy_allows(arn, SERVICE, rule.get("Arn", ""), _responses.get_account_id()):
        return
    _events._dispatch_to_sqs(_arn.parse_arn(arn), json.dumps(view.event_with_detail()))
    values = {
        "RULE_ARN": rule.get("Arn", ""),
        "TARGET_ARN": target.get("Arn", ""),
        "ERROR_CODE": error.code,
        "ERROR_MESSAGE": str(error),
    }
    attributes = {name: {"DataType": "String", "StringValue": value} for name, value in values.items()}
    message = queue["messages"][-1]
    message["message_attributes"] = attributes
    message["md5_attrs"] = _sqs._md5_msg_attrs(attributes)


class Delivery:
    """Replaces the emulator's ``_invoke_target``; keeps what it cannot deliver for the control API."""

    def __init__(self, other: Callable[..., None]) -> None:
        self._other = other
        self.failed: list[dict[str, str]] = []

    def __call__(self, target: dict[str, Any], event: dict[str, Any], rule: dict[str, Any], view: Any = None) -> None:  # noqa: ANN401
        """Deliver one matched event to one target of the rule."""
        view = view or _events._pattern_event_view(event)
        try:
            self._deliver(target, event, rule, view)
        except UndeliverableError as error:
            record = {"id": uuid.uuid4().hex, "rule": rule.get("Arn", ""), "target": target.get("Arn", "")}
            self.failed.append({**record, "code": error.code, "message": str(error)})
            _dead_letter(target, rule, view, error)

    def _deliver(self, target: dict[str, Any], event: dict[str, Any], rule: dict[str, Any], view: Any) -> None:  # noqa: ANN401
        try:
            spec = _arn.parse_arn(target.get("Arn", ""))
        except _arn.ArnParseError as error:
            raise UndeliverableError(_INVALID, str(error)) from error
        if spec.service == "events" and spec.resource.startswith("event-bus/"):
            _to_bus(spec, target, event)
            return
        payload = _input(target, rule, view)
        if spec.service == "sqs":
            _to_queue(spec, target, payload, rule)
        elif spec.service == "sns":
            _to_topic(spec, payload)
        elif spec.service == "lambda":
            _to_function(spec, payload, rule)
        else:
            self._other(target, event, rule, view)
