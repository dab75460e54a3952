"""CloudFormation types that the emulator does not know, and one that it knows in part.

CloudFormation template reference: AWS::CloudTrail::Trail, AWS::Events::EventBusPolicy, AWS::Events::EventBus
(``Policy``), AWS::Athena::NamedQuery. Properties, ``Ref`` and ``Fn::GetAtt`` as documented there.
"""

# ruff: noqa: SLF001 - the emulator has no public interface to extend

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from crr_monitor.sandbox import points, streams

if TYPE_CHECKING:
    from collections.abc import Callable

_athena = points.module("services.athena")
_events = points.module("services.eventbridge")
_provisioners = points.module("services.cloudformation.provisioners")
_responses = points.module("core.responses")
_trails = points.module("services.cloudtrail")

Made: TypeAlias = tuple[str, dict[str, Any]]
"""A resource's physical id (its ``Ref``) and its attributes (``Fn::GetAtt``)."""


def _ask(handler: Callable[[dict[str, Any]], Any], body: dict[str, Any]) -> dict[str, Any]:
    """Call one of the emulator's API handlers; what it refuses fails the resource."""
    status, _, answer = handler(body)
    document: dict[str, Any] = json.loads(answer) if answer else {}
    if status >= 400:  # noqa: PLR2004 - HTTP
        message = f"{document.get('__type', status)}: {document.get('message', answer)}"
        raise ValueError(message)
    return document


def _truth(value: object) -> bool:
    """CloudFormation passes booleans as such or as text."""
    return value is True or str(value).lower() == "true"


# AWS::CloudTrail::Trail ----------------------------------------------------------------------------------------------

_TRAIL_PROPERTIES = {
    "S3BucketName": "S3BucketName",
    "S3KeyPrefix": "S3KeyPrefix",
    "SnsTopicName": "SnsTopicName",
    "KMSKeyId": "KmsKeyId",
    "CloudWatchLogsLogGroupArn": "CloudWatchLogsLogGroupArn",
    "CloudWatchLogsRoleArn": "CloudWatchLogsRoleArn",
}
_TRAIL_SWITCHES = {
    "IsMultiRegionTrail": "IsMultiRegionTrail",
    "IsOrganizationTrail": "IsOrganizationTrail",
    "IncludeGlobalServiceEvents": "IncludeGlobalServiceEvents",
    "EnableLogFileValidation": "EnableLogFileValidation",
}


def _trail_body(props: dict[str, Any]) -> dict[str, Any]:
    body = {api: props[name] for name, api in _TRAIL_PROPERTIES.items() if name in props}
    return body | {api: _truth(props[name]) for name, api in _TRAIL_SWITCHES.items() if name in props}


def _trail_selectors(name: str, props: dict[str, Any]) -> None:
    advanced, basic = props.get("AdvancedEventSelectors"), props.get("EventSelectors")
    if advanced:
        _ask(_trails._put_event_selectors, {"TrailName": name, "AdvancedEventSelectors": advanced})
        return
    selectors = [
        {**each, "IncludeManagementEvents": _truth(each.get("IncludeManagementEvents", True))} for each in basic or [{}]
    ]
    _ask(_trails._put_event_selectors, {"TrailName": name, "EventSelectors": selectors})


def _trail_attributes(name: str) -> Made:
    trail = _ask(_trails._get_trail, {"Name": name})["Trail"]
    return name, {"Arn": trail["TrailARN"], "SnsTopicArn": trail.get("SnsTopicARN", "")}


def _trail_create(logical_id: str, props: dict[str, Any], stack_name: str) -> Made:
    name = props.get("TrailName") or _provisioners._physical_name(stack_name, logical_id, max_len=128)
    _ask(_trails._create_trail, {"Name": name, **_trail_body(props)})
    _trail_selectors(name, props)
    if _truth(props.get("IsLogging")):
        _ask(_trails._start_logging, {"Name": name})
    return _trail_attributes(name)


def _trail_update(
    physical_id: str, _old: dict[str, Any], props: dict[str, Any], stack_name: str, logical_id: str
) -> Made:
    if props.get("TrailName") not in {None, physical_id}:
        return _trail_create(logical_id, props, stack_name)  # "Update requires: Replacement"
    _ask(_trails._update_trail, {"Name": physical_id, **_trail_body(props)})
    _trail_selectors(physical_id, props)
    logging = _trails._start_logging if _truth(props.get("IsLogging")) else _trails._stop_logging
    _ask(logging, {"Name": physical_id})
    return _trail_attributes(physical_id)


def _trail_delete(physical_id: str, _props: dict[str, Any]) -> None:
    _trails._delete_trail({"Name": physical_id})


# AWS::Events::EventBusPolicy -----------------------------------------------------------------------------------------


def _statement(props: dict[str, Any]) -> dict[str, Any]:
    """The new form is a whole ``Statement``; the old one names ``Action``, ``Principal`` and ``Condition``."""
    bus = props.get("EventBusName") or "default"
    arn = f"arn:aws:events:{_responses.get_region()}:{_responses.get_account_id()}:event-bus/{bus}"
    given = props.get("Statement")
    if given:
        statement = dict(json.loads(given) if isinstance(given, str) else given)
        return {**statement, "Sid": props["StatementId"]}
    condition = props.get("Condition")
    statement = {
        "Sid": props["StatementId"],
        "Effect": "Allow",
        "Principal": props.get("Principal", "*"),
        "Action": props.get("Action", "events:PutEvents"),
        "Resource": arn,
    }
    if condition:
        statement["Condition"] = {condition["Type"]: {condition["Key"]: condition["Value"]}}
    return statement


def _bus_policy_create(_logical_id: str, props: dict[str, Any], stack_name: str) -> Made:
    bus = props.get("EventBusName") or "default"
    _events._ensure_default_bus()
    if bus not in _events._event_buses:
        message = f"Event bus {bus} does not exist."
        raise ValueError(message)
    policy = _events._event_bus_policies.setdefault(bus, {"Version": "2012-10-17", "Statement": []})
    kept = [each for each in policy["Statement"] if each.get("Sid") != props["StatementId"]]
    policy["Statement"] = [*kept, _statement(props)]
    return f"{stack_name}-{bus}-{props['StatementId']}", {}


def _bus_policy_delete(_physical_id: str, props: dict[str, Any]) -> None:
    body = {"EventBusName": props.get("EventBusName") or "default", "StatementId": props["StatementId"]}
    _events._remove_permission(body)


def _bus_policy_update(_physical_id: str, old: dict[str, Any], props: dict[str, Any], stack_name: str) -> Made:
    _bus_policy_delete("", old)
    return _bus_policy_create("", props, stack_name)


# AWS::Athena::NamedQuery ---------------------------------------------------------------------------------------------


def _query_create(_logical_id: str, props: dict[str, Any], _stack_name: str) -> Made:
    query_id = _ask(_athena._create_named_query, props)["NamedQueryId"]
    return query_id, {"NamedQueryId": query_id}


def _query_delete(physical_id: str, _props: dict[str, Any]) -> None:
    _athena._delete_named_query({"NamedQueryId": physical_id})


def _query_update(physical_id: str, _old: dict[str, Any], props: dict[str, Any], stack_name: str) -> Made:
    """Every property's "update requires: Replacement"."""
    _query_delete(physical_id, {})
    return _query_create("", props, stack_name)


# AWS::Events::EventBus -----------------------------------------------------------------------------------------------


def put_permission(body: dict[str, Any], other: Callable[[dict[str, Any]], Any]) -> Any:  # noqa: ANN401 - an HTTP answer
    """PutPermission with a whole ``Policy``, which replaces the bus's (EventBridge API Reference)."""
    if not body.get("Policy"):
        return other(body)
    _events._event_bus_policies[body.get("EventBusName") or "default"] = json.loads(body["Policy"])
    return _responses.json_response({})


def _with_policy(handler: Callable[..., Made]) -> Callable[..., Made]:
    """A bus's ``Policy`` property: the emulator makes the bus and forgets the policy."""

    def handle(*arguments: Any) -> Made:  # noqa: ANN401 - create and update differ
        physical_id, attributes = handler(*arguments)
        policy = arguments[-2].get("Policy")  # the new properties stand before the stack's name
        if policy:
            _events._event_bus_policies[physical_id] = json.loads(policy) if isinstance(policy, str) else dict(policy)
        return physical_id, attributes

    return handle


def with_response_module(old: Callable[..., bytes | None]) -> Callable[..., bytes | None]:
    """Inline code finds ``cfnresponse`` beside it ("cfn-response module"), which the emulator does not provide."""

    def pack(source: str | None, handler: str, runtime: str = "python3.12") -> bytes | None:
        packed = old(source, handler, runtime)
        if packed is None or not runtime.startswith("python"):
            return packed
        archive = io.BytesIO(packed)
        with zipfile.ZipFile(archive, "a") as package:
            package.write(Path(__file__).with_name("cfnresponse.py"), "cfnresponse.py")
        return archive.getvalue()

    return pack


def install() -> None:
    """Register the types."""
    handlers = _provisioners._RESOURCE_HANDLERS
    handlers["AWS::CloudTrail::Trail"] = {
        "create": _trail_create,
        "update": _trail_update,
        "update_with_logical_id": True,
        "delete": _trail_delete,
    }
    handlers["AWS::Events::EventBusPolicy"] = {
        "create": _bus_policy_create,
        "update": _bus_policy_update,
        "delete": _bus_policy_delete,
    }
    handlers["AWS::Athena::NamedQuery"] = {"create": _query_create, "update": _query_update, "delete": _query_delete}
    mapping = handlers["AWS::Lambda::EventSourceMapping"]
    handlers["AWS::Lambda::EventSourceMapping"] = {
        **mapping,
        "create": streams.whole_mapping(mapping["create"]),
        "update": streams.whole_mapping(mapping["update"]),
    }
    bus = handlers["AWS::Events::EventBus"]
    handlers["AWS::Events::EventBus"] = {
        **bus,
        "create": _with_policy(bus["create"]),
        "update": _with_policy(bus["update"]),
    }
