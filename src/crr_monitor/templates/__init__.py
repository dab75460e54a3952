"""The CloudFormation templates.

``crr-monitor.template`` for the hub, ``crr-agent.template`` for every other account.
"""

from __future__ import annotations

from importlib.resources import files

HUB = "crr-monitor.template"
AGENT = "crr-agent.template"
HUB_TELLS = ("HubAccount", "HubToken", "HubBusArn", "HubRoleArns", "EventSource")
"""Outputs of the hub's stack that are parameters of its agents, by the same names."""


def text(name: str) -> str:
    """A template's YAML."""
    return (files(__name__) / name).read_text(encoding="utf-8")
