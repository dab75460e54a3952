"""The parameters of our own templates, checked before anything is sent anywhere.

The templates are written by hand in one form, which the few lines here understand (a test compares them with what
CloudFormation understands); so the product needs no YAML parser.
"""

from __future__ import annotations

import difflib
import json
import re
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

CODE = ("CodeBucket", "CodeKey")
"""Set by ``deploy`` itself."""

_SECTION = re.compile(r"^(\w+):")
_NAME = re.compile(r"^  (\w+):\s*$")
_FIELD = re.compile(r"^    (\w+): (.*)$")
_RETAINED = re.compile(r"^    DeletionPolicy: Retain")


class ParameterError(Exception):
    """A parameter is unknown, missing, or its value is not allowed; the text says which and what is."""


class Parameter(Struct, frozen=True):
    """One parameter of a template. ``default`` is ``None`` where there is none."""

    name: str
    kind: str
    default: str | None = None
    allowed: tuple[str, ...] = ()
    pattern: str | None = None
    constraint: str = ""
    low: int | None = None
    high: int | None = None

    def problem(self, value: str) -> str | None:
        """What is allowed, where the value is not."""
        if self.allowed and value not in self.allowed:
            return f"allowed is {', '.join(self.allowed)}"
        parts = value.split(",") if self.kind == "CommaDelimitedList" else [value]
        if self.pattern is not None and not all(re.fullmatch(self.pattern, part.strip()) for part in parts):
            return self.constraint or f"it has to match {self.pattern}"
        if self.kind == "Number" and not re.fullmatch(r"-?[0-9]{1,15}", value):
            return "it has to be a whole number"
        if (self.low is not None and int(value) < self.low) or (self.high is not None and int(value) > self.high):
            return f"allowed is {self.low} to {self.high}"
        return None


def declared(template: str) -> dict[str, Parameter]:
    """The parameters of one of our templates, by name."""
    fields: dict[str, dict[str, str]] = {}
    current: dict[str, str] = {}
    for line in _section(template, "Parameters"):
        if found := _NAME.match(line):
            current = fields.setdefault(found[1], {})
        elif found := _FIELD.match(line):
            current[found[1]] = found[2]
    return {name: _parameter(name, told) for name, told in fields.items()}


def retained(template: str) -> set[str]:
    """The logical ids of the resources that stay when the stack is deleted."""
    found, current = set(), ""
    for line in _section(template, "Resources"):
        if name := _NAME.match(line):
            current = name[1]
        elif _RETAINED.match(line):
            found.add(current)
    return found


def _section(template: str, wanted: str) -> Iterable[str]:
    inside = False
    for line in template.splitlines():
        if found := _SECTION.match(line):
            inside = found[1] == wanted
        elif inside:
            yield line


def _parameter(name: str, told: Mapping[str, str]) -> Parameter:
    def number(field: str) -> int | None:
        return int(told[field]) if field in told else None

    listed = told.get("AllowedValues", "").strip("[]")
    return Parameter(
        name,
        told["Type"],
        _scalar(told["Default"]) if "Default" in told else None,
        tuple(_scalar(each.strip()) for each in listed.split(",")) if listed else (),
        _scalar(told["AllowedPattern"]) if "AllowedPattern" in told else None,
        _scalar(told.get("ConstraintDescription", "")),
        number("MinValue"),
        number("MaxValue"),
    )


def _scalar(text: str) -> str:
    """A YAML scalar on one line; in double quotes it is what JSON has."""
    return str(json.loads(text)) if text.startswith('"') else text


def check(known: Mapping[str, Parameter], given: Iterable[str]) -> dict[str, str]:
    """``KEY=VALUE`` texts as parameters.

    Raises:
        ParameterError: no such parameter (with the nearest one), a wrong value, twice, or not for people to set.
    """
    found: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            message = f"{text!r}: write it as KEY=VALUE"
        elif name in CODE:
            message = f"{name} is set by deploy itself"
        elif name not in known:
            near = difflib.get_close_matches(name, known, 1)
            there = ", ".join(each for each in known if each not in CODE)
            message = f"unknown parameter {name} ({f'did you mean {near[0]}?' if near else f'there are {there}'})"
        elif name in found:
            message = f"parameter {name} is given twice"
        elif problem := known[name].problem(value):
            message = f"parameter {name} is {value!r}: {problem}"
        else:
            found[name] = value
            continue
        raise ParameterError(message)
    return found


def missing(known: Mapping[str, Parameter], given: Iterable[str]) -> list[str]:
    """The parameters that have no default and are not given."""
    return sorted(
        name for name, each in known.items() if each.default is None and name not in CODE and name not in {*given}
    )
