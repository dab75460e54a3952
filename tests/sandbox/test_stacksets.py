"""Stack sets of the sandbox refuse what AWS refuses, and go where AWS goes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("boto3")
pytest.importorskip("ministack")

from crr_monitor.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator

MANAGEMENT = "100000000001"
MEMBERS = ("200000000001", "200000000002")
HOME = "us-east-1"
TEMPLATE = """\
Parameters:
  Name: {Type: String}
Resources:
  Role:
    Type: AWS::IAM::Role
    Properties: {RoleName: !Ref Name, AssumeRolePolicyDocument: {Version: "2012-10-17", Statement: []}}
"""
BROKEN = """\
  Policy:
    Type: AWS::Events::EventBusPolicy
    Properties:
      EventBusName: no-such-bus
      StatementId: s
      Statement: {Effect: Allow, Principal: "*", Action: events:PutEvents, Resource: "*"}
"""
SET: dict[str, Any] = {
    "StackSetName": "set",
    "TemplateBody": TEMPLATE,
    "Parameters": [{"ParameterKey": "Name", "ParameterValue": "ours"}],
    "PermissionModel": "SERVICE_MANAGED",
    "AutoDeployment": {"Enabled": True, "RetainStacksOnAccountRemoval": False},
}
NAMED_IAM = ["CAPABILITY_NAMED_IAM"]
REGISTERED = {"AccountId": MEMBERS[0], "ServicePrincipal": "member.org.stacksets.cloudformation.amazonaws.com"}


class Sets:
    """An organization that StackSets may work in, and its root."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        sandbox.organization(MANAGEMENT, *MEMBERS)
        self.client = sandbox.client("cloudformation", MANAGEMENT, HOME)
        self.organizations = sandbox.client("organizations", MANAGEMENT, HOME)
        root = self.organizations.list_roots()["Roots"][0]["Id"]
        self.everywhere = {"Regions": [HOME], "DeploymentTargets": {"OrganizationalUnitIds": [root]}}

    def results(self, operation: dict[str, Any]) -> tuple[str, dict[str, str]]:
        """How an operation ended, at all and in each account."""
        told = {"StackSetName": "set", "OperationId": operation["OperationId"]}
        end, status = time.monotonic() + 60, "RUNNING"
        while status == "RUNNING" and time.monotonic() < end:
            status = self.client.describe_stack_set_operation(**told)["StackSetOperation"]["Status"]
            time.sleep(0.05)
        found = self.client.list_stack_set_operation_results(**told)["Summaries"]
        return status, {each["Account"]: each["Status"] for each in found}

    def roles(self, account: str) -> list[str]:
        """The roles of an account."""
        found = self.sandbox.client("iam", account, HOME).list_roles()["Roles"]
        return [each["RoleName"] for each in found]

    def refused(self, client: Any, method: str, **request: Any) -> str:  # noqa: ANN401 - boto3's
        """The code with which a call is refused."""
        with pytest.raises(client.exceptions.ClientError) as caught:
            getattr(client, method)(**request)
        return str(caught.value.response["Error"]["Code"])


@pytest.fixture
def sets() -> Iterator[Sets]:
    """A new sandbox."""
    with Sandbox() as sandbox:
        yield Sets(sandbox)


def test_what_is_refused(sets: Sets) -> None:
    """Without trusted access, without the capability, for no management account and no delegated one it is refused."""
    assert sets.refused(sets.client, "create_stack_set", **SET, Capabilities=NAMED_IAM) == "ValidationError"
    sets.client.activate_organizations_access()
    assert sets.refused(sets.client, "create_stack_set", **SET) == "InsufficientCapabilitiesException"
    member = sets.sandbox.client("cloudformation", MEMBERS[0], HOME)
    assert sets.refused(member, "create_stack_set", **SET, Capabilities=NAMED_IAM) == "ValidationError"
    delegated = {**SET, "CallAs": "DELEGATED_ADMIN", "Capabilities": NAMED_IAM}
    assert sets.refused(member, "create_stack_set", **delegated) == "ValidationError"
    sets.organizations.register_delegated_administrator(**REGISTERED)
    assert member.create_stack_set(**delegated)["StackSetId"].startswith("set:")
    assert sets.client.describe_stack_set(StackSetName="set")["StackSet"]["Status"] == "ACTIVE"


def test_life(sets: Sets) -> None:
    """All member accounts get a stack and the management account none; a change reaches all; then all are removed."""
    sets.client.activate_organizations_access()
    sets.client.create_stack_set(**SET, Capabilities=NAMED_IAM)
    done = ("SUCCEEDED", dict.fromkeys(MEMBERS, "SUCCEEDED"))
    assert sets.results(sets.client.create_stack_instances(StackSetName="set", **sets.everywhere)) == done
    assert [sets.roles(account) for account in (MANAGEMENT, *MEMBERS)] == [[], ["ours"], ["ours"]]
    assert sets.refused(sets.client, "delete_stack_set", StackSetName="set") == "StackSetNotEmptyException"
    changed = [{"ParameterKey": "Name", "ParameterValue": "other"}]
    more = {"UsePreviousTemplate": True, "Capabilities": NAMED_IAM}
    assert sets.results(sets.client.update_stack_set(StackSetName="set", Parameters=changed, **more)) == done
    assert sets.roles(MEMBERS[1]) == ["other"]
    removal = sets.client.delete_stack_instances(StackSetName="set", **sets.everywhere, RetainStacks=False)
    assert sets.results(removal) == done
    assert [sets.roles(account) for account in MEMBERS] == [[], []]
    sets.client.delete_stack_set(StackSetName="set")
    assert sets.refused(sets.client, "describe_stack_set", StackSetName="set") == "StackSetNotFoundException"


def test_one_failure_stops_it(sets: Sets) -> None:
    """By default one account follows the other, and the first failure cancels the rest."""
    sets.client.activate_organizations_access()
    sets.client.create_stack_set(**{**SET, "TemplateBody": TEMPLATE + BROKEN}, Capabilities=NAMED_IAM)
    operation = sets.client.create_stack_instances(StackSetName="set", **sets.everywhere)
    assert sets.results(operation) == ("FAILED", {MEMBERS[0]: "FAILED", MEMBERS[1]: "CANCELLED"})
