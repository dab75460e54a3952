"""The AWS CLI's commands that put agents into all accounts of an organization, by CloudFormation StackSets."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping

from msgspec import Struct

UNIT = "ROOT-OR-UNIT"
"""Stands for the id of the organization's root or of a unit, which the hub's account may not know."""


class StackSet(Struct, frozen=True):
    """A stack set of agents. ``template_url`` is where the organization's accounts find the agent's template."""

    name: str
    region: str
    hub_account: str
    template_url: str
    parameters: Mapping[str, str]

    def _call(self, operation: str, *arguments: str) -> str:
        name = ("--stack-set-name", self.name)
        return shlex.join(["aws", "cloudformation", operation, "--region", self.region, *name, *arguments])

    @property
    def _content(self) -> tuple[str, ...]:
        given = [{"ParameterKey": key, "ParameterValue": value} for key, value in self.parameters.items()]
        # The only capability that is needed: the hub finds each agent's role by its name.
        capability = ("--capabilities", "CAPABILITY_NAMED_IAM")
        return ("--template-url", self.template_url, *capability, "--parameters", json.dumps(given))

    @property
    def _everywhere(self) -> tuple[str, ...]:
        """All accounts below the root or unit but the hub's own; the code is in the hub's Region only."""
        targets = {
            "OrganizationalUnitIds": [UNIT],
            "AccountFilterType": "DIFFERENCE",
            "Accounts": [self.hub_account],
        }
        # API Reference, "StackSetOperationPreferences": by default one account after the other.
        at_once = "ConcurrencyMode=SOFT_FAILURE_TOLERANCE,MaxConcurrentPercentage=100"
        where = ("--regions", self.region, "--deployment-targets", json.dumps(targets))
        return (*where, "--operation-preferences", at_once)

    def making(self) -> list[str]:
        """The commands of the first time, in order."""
        managed = ("--permission-model", "SERVICE_MANAGED")
        joining = ("--auto-deployment", "Enabled=true,RetainStacksOnAccountRemoval=false")
        return [
            self._call("create-stack-set", *self._content, *managed, *joining),
            self._call("create-stack-instances", *self._everywhere),
        ]

    def updating(self) -> str:
        """The command that brings agents that are there to this version and these parameters."""
        at_once = ("--operation-preferences", self._everywhere[-1])
        return self._call("update-stack-set", *self._content, *at_once)

    def removing(self) -> list[str]:
        """The commands that remove all agents, in order; the second works when the first has ended."""
        return [
            self._call("delete-stack-instances", *self._everywhere, "--no-retain-stacks"),
            self._call("delete-stack-set"),
        ]
