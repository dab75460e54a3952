"""Conditions that ask whether a list is empty."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from crr_monitor.sandbox import Sandbox

pytest.importorskip("ministack")
pytest.importorskip("boto3")

if TYPE_CHECKING:
    from collections.abc import Iterator

EMPTY = {"Fn::Equals": [{"Fn::Join": ["", {"Ref": "Names"}]}, ""]}
TEMPLATE = {
    "Parameters": {"Names": {"Type": "CommaDelimitedList", "Default": ""}},
    "Conditions": {"Empty": EMPTY, "Filled": {"Fn::Not": [EMPTY]}},
    "Resources": {"Queue": {"Type": "AWS::SQS::Queue"}},
    "Outputs": {
        "Empty": {"Value": {"Fn::If": ["Empty", "yes", "no"]}},
        "Filled": {"Value": {"Fn::If": ["Filled", "yes", "no"]}},
    },
}


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """One for all tests."""
    with Sandbox() as running:
        yield running


@pytest.mark.parametrize(("names", "empty"), [("", True), ("one", False), ("one, two", False)])
def test_an_empty_list(sandbox: Sandbox, names: str, empty: bool) -> None:  # noqa: FBT001 - a case of the table
    """A list that is joined into one text is empty, or it is not, as CloudFormation sees it."""
    client = sandbox.client("cloudformation", "111122223333", "us-east-1")
    stack = f"stack-{len(names)}"
    given = [{"ParameterKey": "Names", "ParameterValue": names}]
    client.create_stack(StackName=stack, TemplateBody=json.dumps(TEMPLATE), Parameters=given)
    client.get_waiter("stack_create_complete").wait(StackName=stack, WaiterConfig={"Delay": 1, "MaxAttempts": 20})
    (told,) = client.describe_stacks(StackName=stack)["Stacks"]
    outputs = {each["OutputKey"]: each["OutputValue"] for each in told["Outputs"]}
    assert outputs == {"Empty": "yes" if empty else "no", "Filled": "no" if empty else "yes"}
