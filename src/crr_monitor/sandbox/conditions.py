"""Conditions of templates that join a list into one text, which the emulator compares without joining it.

CloudFormation User Guide, "Condition functions": ``Fn::Join`` may stand within them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crr_monitor.sandbox import points

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def _joined(value: Any, params: Mapping[str, Any]) -> Any:  # noqa: ANN401 - any part of a template
    if isinstance(value, list):
        return [_joined(each, params) for each in value]
    if not isinstance(value, dict):
        return value
    delimiter, items = value.get("Fn::Join", ("", None))
    if isinstance(items, dict) and items.get("Ref") in params:
        given = params[items["Ref"]]["Value"]
        parts = given if isinstance(given, list) else str(given).split(",")
        return delimiter.join(str(each).strip() for each in parts)
    return {name: _joined(each, params) for name, each in value.items()}


def _joining(old: Callable[..., dict[str, bool]]) -> Callable[..., dict[str, bool]]:
    def evaluate(template: dict[str, Any], params: dict[str, Any]) -> dict[str, bool]:
        return old({**template, "Conditions": _joined(template.get("Conditions", {}), params)}, params)

    return evaluate


def install() -> None:
    """Join first, in every module that has the function under its name."""
    points.replace("services.cloudformation.changesets", "_evaluate_conditions", _joining)
    points.replace("services.cloudformation.engine", "_evaluate_conditions", _joining)
    points.replace("services.cloudformation.handlers", "_evaluate_conditions", _joining)
    points.replace("services.cloudformation.stacks", "_evaluate_conditions", _joining)
