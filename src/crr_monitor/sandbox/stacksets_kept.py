"""Stack sets as the sandbox keeps them, and what requests about them say: see :mod:`crr_monitor.sandbox.stacksets`."""

# ruff: noqa: SLF001 - the emulator has no public interface to extend

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn, TypeAlias
from xml.sax.saxutils import escape, unescape

from crr_monitor.sandbox import organization, points

if TYPE_CHECKING:
    from collections.abc import Iterable

_helpers = points.module("services.cloudformation.helpers")
_responses = points.module("core.responses")

Request: TypeAlias = "dict[str, list[str]]"
Answer: TypeAlias = "tuple[int, dict[str, str], bytes]"
Place: TypeAlias = "tuple[str, str]"
"""Account and Region."""


class RefusedError(Exception):
    """CloudFormation refuses the request: error code, then what it says."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


def refuse(code: str, text: str) -> NoReturn:
    """End a request."""
    raise RefusedError(code, text)


@dataclass
class Operation:
    """One operation of a stack set, and how it went in each account and Region."""

    number: str
    action: str
    status: str = "RUNNING"
    results: dict[Place, tuple[str, str]] = field(default_factory=dict)


@dataclass
class StackSet:
    """One stack set of a management account and Region; ``stacks`` are ids by place."""

    name: str
    number: str
    arn: str
    template: str
    parameters: list[tuple[str, str]]
    capabilities: list[str]
    automatic: bool
    stacks: dict[Place, str] = field(default_factory=dict)
    statuses: dict[Place, str] = field(default_factory=dict)
    operations: dict[str, Operation] = field(default_factory=dict)

    @property
    def busy(self) -> bool:
        """Whether an operation is running."""
        return any(operation.status == "RUNNING" for operation in self.operations.values())


SETS: dict[tuple[str, str, str], StackSet] = {}
"""By management account, Region and name."""
TRUSTED: set[str] = set()
"""The management accounts that let StackSets work in their organization."""


# Requests ---------------------------------------------------------------------------------------------------------


def text_of(request: Request, name: str) -> str:
    """A field of a request, empty where it is not there."""
    return str(_helpers._p(request, name))


def texts_of(request: Request, name: str) -> list[str]:
    """A list of texts in a request."""
    return list(_helpers._extract_string_members(request, name))


def answer_of(action: str, inner: str = "") -> Answer:
    """What an action answers, with this in it."""
    answer: Answer = _helpers._xml(200, f"{action}Response", f"<{action}Result>{inner}</{action}Result>")
    return answer


def element(name: str, value: str) -> str:
    """An element, or nothing where there is no value."""
    return f"<{name}>{escape(value)}</{name}>" if value else ""


def element_list(name: str, values: Iterable[str]) -> str:
    """A list of elements that are XML already."""
    return f"<{name}>{''.join(f'<member>{value}</member>' for value in values)}</{name}>"


def acting_for(request: Request) -> str:
    """The management account for which the caller acts, and which holds the stack sets."""
    caller = str(_responses.get_account_id())
    holder = organization.management(caller)
    if text_of(request, "CallAs") == "DELEGATED_ADMIN":
        if holder is None or not organization.delegated(holder, caller):
            refuse("ValidationError", "Account used is not a delegated administrator")
    elif holder is not None or not organization.accounts(caller):
        text = "You must be the management account or delegated admin account of an organization before operating a"
        refuse("ValidationError", f"{text} SERVICE_MANAGED stack set")
    holder = holder or caller
    if holder not in TRUSTED:
        text = "You must enable organizations access to operate a service managed stack set"
        refuse("ValidationError", text)
    return holder


def stack_set_of(request: Request) -> StackSet:
    """The stack set that a request names."""
    name = text_of(request, "StackSetName").partition(":")[0]
    found = SETS.get((acting_for(request), str(_responses.get_region()), name))
    if found is None:
        refuse("StackSetNotFoundException", f"StackSet {name} not found")
    return found


def idle_set_of(request: Request) -> StackSet:
    """The same, when no operation is running."""
    found = stack_set_of(request)
    if found.busy:
        text = f"Another Operation on StackSet {found.arn} is in progress"
        refuse("OperationInProgressException", text)
    return found


def template_of(request: Request, before: str = "") -> str:
    """The template in a request, or the one before."""
    text, refusal = _helpers._resolve_template(request)
    if refusal:
        refuse("ValidationError", message_of(refusal[2]))
    if not text and not before:
        refuse("ValidationError", "Either Template URL or Template Body must be specified.")
    return str(text or before)


def message_of(body: bytes) -> str:
    """What an error answer says."""
    told = re.search("<Message>(.*?)</Message>", body.decode(), re.DOTALL)
    return unescape(told[1]) if told else body.decode()


def parameters_of(request: Request, before: Iterable[tuple[str, str]] = ()) -> list[tuple[str, str]]:
    """The parameters in a request, which may name values of before."""
    kept = dict(before)
    given = _helpers._extract_members(request, "Parameters")
    return [(each["Key"], kept[each["Key"]] if each["UsePreviousValue"] else each["Value"]) for each in given]
