"""CloudFormation StackSets with service-managed permissions, which the emulator does not have.

CloudFormation API Reference, "CreateStackSet", "CreateStackInstances", "UpdateStackSet", "DeleteStackInstances",
"DeleteStackSet", "DescribeStackSetOperation", "ListStackInstances", "ListStackSetOperationResults",
"DeploymentTargets", "StackSetOperationPreferences", "ActivateOrganizationsAccess"; Organizations API Reference,
"RegisterDelegatedAdministrator"; CloudFormation User Guide, "StackSets concepts": the management account gets no stack.

Not here: self-managed permissions (refused), automatic deployment to accounts that join later, drift.
"""

# ruff: noqa: SLF001 - the emulator has no public interface to extend

from __future__ import annotations

import asyncio
import uuid
from functools import partial
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

from crr_monitor.sandbox import organization, points
from crr_monitor.sandbox.stacksets_kept import (
    SETS,
    TRUSTED,
    Operation,
    RefusedError,
    StackSet,
    acting_for,
    answer_of,
    element,
    element_list,
    idle_set_of,
    message_of,
    parameters_of,
    refuse,
    stack_set_of,
    template_of,
    text_of,
    texts_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from crr_monitor.sandbox.stacksets_kept import Answer, Place, Request

_formation = points.module("services.cloudformation")
_handlers = points.module("services.cloudformation.handlers")
_helpers = points.module("services.cloudformation.helpers")
_responses = points.module("core.responses")

_POLL_SECONDS = 0.02
_WORKED = frozenset({"CREATE_COMPLETE", "UPDATE_COMPLETE", "DELETE_COMPLETE"})

_running: set[asyncio.Task[None]] = set()
"""An event loop keeps no reference to its tasks."""


# Stack sets -------------------------------------------------------------------------------------------------------


def _activate(_request: Request) -> Answer:
    caller = str(_responses.get_account_id())
    if organization.management(caller) is not None or not organization.accounts(caller):
        text = "You must be the management account of an organization to activate organizations access"
        refuse("InvalidOperationException", text)
    TRUSTED.add(caller)
    return answer_of("ActivateOrganizationsAccess")


def _create_set(request: Request) -> Answer:
    if text_of(request, "PermissionModel") != "SERVICE_MANAGED":
        refuse("ValidationError", "the sandbox has stack sets with service-managed permissions only")
    automatic = text_of(request, "AutoDeployment.Enabled")
    if not automatic:
        refuse("ValidationError", "AutoDeployment is required for SERVICE_MANAGED permission model")
    holder, region, name = acting_for(request), str(_responses.get_region()), text_of(request, "StackSetName")
    if (holder, region, name) in SETS:
        refuse("NameAlreadyExistsException", f"StackSet {name} already exists")
    template = template_of(request)
    capabilities = texts_of(request, "Capabilities")
    missing = _handlers._missing_capabilities(
        capabilities, _handlers._required_iam_capabilities(_handlers._parse_template(template))
    )
    if missing:
        text = f"Requires capabilities : [{', '.join(missing)}]"
        refuse("InsufficientCapabilitiesException", text)
    number = f"{name}:{uuid.uuid4()}"
    arn = f"arn:aws:cloudformation:{region}:{holder}:stackset/{number}"
    made = StackSet(name, number, arn, template, parameters_of(request), capabilities, automatic == "true")
    SETS[holder, region, name] = made
    return answer_of("CreateStackSet", element("StackSetId", number))


def _describe_set(request: Request) -> Answer:
    found = stack_set_of(request)
    inner = (
        element("StackSetName", found.name)
        + element("StackSetId", found.number)
        + element("StackSetARN", found.arn)
        + "<Status>ACTIVE</Status><PermissionModel>SERVICE_MANAGED</PermissionModel>"
        + element("TemplateBody", found.template)
        + element_list("Capabilities", map(escape, found.capabilities))
        + element_list(
            "Parameters",
            (element("ParameterKey", key) + element("ParameterValue", value) for key, value in found.parameters),
        )
        + f"<AutoDeployment><Enabled>{str(found.automatic).lower()}</Enabled></AutoDeployment>"
    )
    return answer_of("DescribeStackSet", f"<StackSet>{inner}</StackSet>")


def _delete_set(request: Request) -> Answer:
    found = idle_set_of(request)
    if found.stacks:
        refuse("StackSetNotEmptyException", f"StackSet {found.name} is not empty")
    del SETS[acting_for(request), str(_responses.get_region()), found.name]
    return answer_of("DeleteStackSet")


# Operations -------------------------------------------------------------------------------------------------------


def _targets(request: Request) -> list[str]:
    """The accounts that the deployment targets name; never the management account."""
    holder = acting_for(request)
    units = texts_of(request, "DeploymentTargets.OrganizationalUnitIds")
    if not units:
        text = "Deployment targets for SERVICE_MANAGED stack sets are organizational units"
        refuse("ValidationError", text)
    named = {*texts_of(request, "DeploymentTargets.Accounts")}
    members = {account for unit in units for account in organization.accounts(holder, unit)}
    chosen = {
        "": members,
        "NONE": members,
        "INTERSECTION": members & named,
        "DIFFERENCE": members - named,
        "UNION": members | named,
    }[text_of(request, "DeploymentTargets.AccountFilterType")]
    return sorted(chosen - {holder})


def _at_once(request: Request, count: int) -> tuple[int, int]:
    """How many stacks at a time, and how many may fail.

    "StackSetOperationPreferences": one and none are the defaults; percentages are rounded down, but one stack is made;
    in strict mode, the default, at most one more at a time than may fail.
    """

    def given(name: str) -> int:
        share = text_of(request, f"OperationPreferences.{name}Percentage")
        return int(text_of(request, f"OperationPreferences.{name}Count") or 0) or count * int(share or 0) // 100

    tolerated = given("FailureTolerance")
    soft = text_of(request, "OperationPreferences.ConcurrencyMode") == "SOFT_FAILURE_TOLERANCE"
    return max(1, given("MaxConcurrent") if soft else min(given("MaxConcurrent"), tolerated + 1)), tolerated


def _start(
    found: StackSet, action: str, places: list[Place], limits: tuple[int, int], request: Callable[[Place], Request]
) -> Operation:
    operation = Operation(str(uuid.uuid4()), action)
    operation.results = dict.fromkeys(places, ("PENDING", ""))
    found.operations[operation.number] = operation
    task = asyncio.get_running_loop().create_task(_operate(found, operation, limits, request))
    _running.add(task)
    task.add_done_callback(_running.discard)
    return operation


async def _operate(
    found: StackSet, operation: Operation, limits: tuple[int, int], request: Callable[[Place], Request]
) -> None:
    waiting, (at_once, tolerated) = list(operation.results), limits
    failed = 0
    while waiting and failed <= tolerated:
        now, waiting = waiting[:at_once], waiting[at_once:]
        outcomes = await asyncio.gather(*(_one(found, operation.action, place, request(place)) for place in now))
        for place, (status, reason) in zip(now, outcomes, strict=True):
            worked = status in _WORKED
            failed += not worked
            operation.results[place] = ("SUCCEEDED" if worked else "FAILED", "" if worked else reason)
            _note(found, place, status)
    for place in waiting:
        operation.results[place] = ("CANCELLED", "Cancelled since failure tolerance has exceeded")
    operation.status = "FAILED" if failed > tolerated else "SUCCEEDED"


def _note(found: StackSet, place: Place, status: str) -> None:
    if status == "DELETE_COMPLETE":
        found.stacks.pop(place, None)
        found.statuses.pop(place, None)
    else:
        found.statuses[place] = "CURRENT" if status in _WORKED else "OUTDATED"


async def _one(found: StackSet, action: str, place: Place, request: Request) -> tuple[str, str]:
    """Create, update or delete one stack in its account; gives its last status, and the reason of a failure."""
    with _responses.request_scope(*place):
        status, _, body = _handlers._ACTION_HANDLERS[f"{action.title()}Stack"](request)
        if status >= 400:  # noqa: PLR2004 - HTTP
            return "FAILED", message_of(body)
        name = request["StackName"][0]
        stack = _formation._stacks[name]
        found.stacks.setdefault(place, stack["StackId"])
        while str(stack["StackStatus"]).endswith("_IN_PROGRESS") or (  # noqa: ASYNC110 - the emulator tells nobody
            action == "DELETE" and stack["StackStatus"] not in {"DELETE_COMPLETE", "DELETE_FAILED"}
        ):
            await asyncio.sleep(_POLL_SECONDS)
        return str(stack["StackStatus"]), _reason(stack)


def _reason(stack: dict[str, Any]) -> str:
    """The first failed resource's own words, as StackSets tells them."""
    events = _formation._stack_events.get(stack["StackId"], [])
    causes = [each for each in events if str(each.get("ResourceStatus", "")).endswith("_FAILED")]
    causes.sort(key=lambda each: str(each.get("Timestamp", "")))
    told = [f"ResourceLogicalId:{each['LogicalResourceId']}, {each['ResourceStatusReason']}" for each in causes[:1]]
    return told[0] if told else str(stack.get("StackStatusReason", ""))


def _stack_request(found: StackSet, name: str) -> Request:
    request: Request = {"StackName": [name], "TemplateBody": [found.template]}
    for number, (key, value) in enumerate(found.parameters, 1):
        request[f"Parameters.member.{number}.ParameterKey"] = [key]
        request[f"Parameters.member.{number}.ParameterValue"] = [value]
    for number, capability in enumerate(found.capabilities, 1):
        request[f"Capabilities.member.{number}"] = [capability]
    return request


def _create_instances(request: Request) -> Answer:
    found = idle_set_of(request)
    places = [(account, region) for region in texts_of(request, "Regions") for account in _targets(request)]
    limits = _at_once(request, len(places))
    new = [place for place in places if place not in found.stacks]
    operation = _start(
        found, "CREATE", new, limits, lambda _: _stack_request(found, f"StackSet-{found.name}-{uuid.uuid4()}")
    )
    return answer_of("CreateStackInstances", element("OperationId", operation.number))


def _update_set(request: Request) -> Answer:
    found = idle_set_of(request)
    found.template = template_of(request, found.template)
    found.parameters = parameters_of(request, found.parameters)
    found.capabilities = texts_of(request, "Capabilities")
    limits = _at_once(request, len(found.stacks))
    operation = _start(
        found, "UPDATE", list(found.stacks), limits, lambda place: _stack_request(found, _name(found, place))
    )
    return answer_of("UpdateStackSet", element("OperationId", operation.number))


def _delete_instances(request: Request) -> Answer:
    found = idle_set_of(request)
    if text_of(request, "RetainStacks") not in {"true", "false"}:
        refuse("ValidationError", "RetainStacks is required")
    wanted = {(account, region) for region in texts_of(request, "Regions") for account in _targets(request)}
    places = [place for place in found.stacks if place in wanted]
    limits = _at_once(request, len(places))
    operation = _start(found, "DELETE", places, limits, lambda place: {"StackName": [_name(found, place)]})
    return answer_of("DeleteStackInstances", element("OperationId", operation.number))


def _name(found: StackSet, place: Place) -> str:
    return found.stacks[place].split("/")[1]


# Looking ----------------------------------------------------------------------------------------------------------


def _operation(request: Request) -> Operation:
    number = text_of(request, "OperationId")
    operation = stack_set_of(request).operations.get(number)
    if operation is None:
        refuse("OperationNotFoundException", f"Operation {number} not found")
    return operation


def _describe_operation(request: Request) -> Answer:
    told = _operation(request)
    inner = element("OperationId", told.number) + element("Action", told.action) + element("Status", told.status)
    return answer_of("DescribeStackSetOperation", f"<StackSetOperation>{inner}</StackSetOperation>")


def _list_results(request: Request) -> Answer:
    results = _operation(request).results.items()
    lines = (
        element("Account", account)
        + element("Region", region)
        + element("Status", status)
        + element("StatusReason", reason)
        for (account, region), (status, reason) in results
    )
    return answer_of("ListStackSetOperationResults", element_list("Summaries", lines))


def _list_instances(request: Request) -> Answer:
    found = stack_set_of(request)
    lines = (
        element("StackSetId", found.number)
        + element("Account", account)
        + element("Region", region)
        + element("StackId", stack)
        + element("Status", found.statuses.get((account, region), "OUTDATED"))
        for (account, region), stack in found.stacks.items()
    )
    return answer_of("ListStackInstances", element_list("Summaries", lines))


ACTIONS: dict[str, Callable[[Request], Answer]] = {
    "ActivateOrganizationsAccess": _activate,
    "CreateStackSet": _create_set,
    "DescribeStackSet": _describe_set,
    "UpdateStackSet": _update_set,
    "DeleteStackSet": _delete_set,
    "CreateStackInstances": _create_instances,
    "DeleteStackInstances": _delete_instances,
    "DescribeStackSetOperation": _describe_operation,
    "ListStackSetOperationResults": _list_results,
    "ListStackInstances": _list_instances,
}


def _refusing(action: Callable[[Request], Answer], request: Request) -> Answer:
    try:
        return action(request)
    except RefusedError as error:
        answer: Answer = _helpers._error(error.code, str(error))
        return answer


def _forgetting(old: Callable[[], None]) -> Callable[[], None]:
    def reset() -> None:
        old()
        SETS.clear()
        TRUSTED.clear()

    return reset


def install() -> None:
    """Teach the emulator's CloudFormation the actions."""
    for name, action in ACTIONS.items():
        _handlers._ACTION_HANDLERS[name] = partial(_refusing, action)
    points.replace("services.cloudformation", "reset", _forgetting)
