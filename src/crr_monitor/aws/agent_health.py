"""How a hub's agents are: what their rules could not deliver, and whether they are as the hub needs them.

An agent tells of undelivered events in its own account; the hub asks for itself, through the agent's role, as an agent
that cannot deliver cannot tell it either.
"""

from __future__ import annotations

import shlex
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from crr_monitor.aws.agent_register import role_digest
from crr_monitor.aws.agents import AGENT_VERSION
from crr_monitor.aws.sessions import AwsError
from crr_monitor.aws.waiting import waiting
from crr_monitor.core.agent_notes import AgentQueue, AgentsNote

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from crr_monitor.aws.agent_register import Agent
    from crr_monitor.aws.discovery import Discovery
    from crr_monitor.aws.plan_model import Stack
    from crr_monitor.aws.sessions import Sessions

AT_ONCE = 8
PROGRAM = "crr-monitor"
STACK_NAME = "crr-monitor"
"""That a stack has unless somebody says otherwise."""


def look_at_agents(
    sessions: Sessions,
    agents: Mapping[str, Agent],
    found: Iterable[Discovery],
    before: AgentsNote,
) -> tuple[dict[str, AgentQueue], list[str]]:
    """What waits undelivered by account, and what could not be asked: of that it stays as it was ``before``.

    Agents are asked in the Regions in which they have buckets, as their rules are there, and in their own.
    """
    queues: dict[str, AgentQueue] = {name: queue for name, queue in before.undelivered.items() if name in agents}
    notes: list[str] = []
    places = {
        discovery.account: {agents[discovery.account].region, *discovery.buckets.values()}
        for discovery in found
        # The role of an older agent does not allow it yet.
        if discovery.account in agents and agents[discovery.account].token and agents[discovery.account].version
    }

    silent: dict[str, AwsError] = {}

    def ask(account: str) -> tuple[AgentQueue, list[str]]:
        return _queue(sessions, agents[account], sorted(places[account]), queues.get(account), silent)

    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="agent") as pool:
        for account, (queue, unknown) in zip(places, list(pool.map(ask, places)), strict=True):
            notes += unknown
            queues.pop(account, None)
            if queue.events:
                queues[account] = queue
    return queues, notes


def _queue(
    sessions: Sessions,
    agent: Agent,
    places: Sequence[str],
    before: AgentQueue | None,
    silent: dict[str, AwsError],
) -> tuple[AgentQueue, list[str]]:
    """``silent`` are Regions that did not answer: they would let each account wait once more, so they are left out."""
    name = f"crr-monitor-{agent.token}-undelivered"

    def ask(region: str) -> int | AwsError:
        if region in silent:
            return silent[region]
        try:
            return waiting(sessions, name, region, agent.account)
        except AwsError as error:
            if error.unreachable:
                silent[region] = error
            return error

    answers = {region: ask(region) for region in places}
    sessions.forget(agent.account)  # clients of many accounts and Regions would fill the function's memory
    known = {} if before is None else before.regions
    counts = {region: known.get(region, 0) if isinstance(each, AwsError) else each for region, each in answers.items()}
    notes = [
        f"account {agent.account}: queue {name} in {region} could not be asked, so it is not known whether events wait"
        f" there undelivered: {each}"
        for region, each in answers.items()
        if isinstance(each, AwsError)
    ]
    return AgentQueue(name, {region: count for region, count in counts.items() if count}), notes


def is_outdated(agent: Agent, roles: Iterable[str]) -> bool:
    """Whether an agent has to be deployed again: for an older version, or without one of the hub's ``roles``."""
    return agent.version < AGENT_VERSION or not {role_digest(role) for role in roles} <= set(agent.roles)


def cure(stack: Stack, agents: Iterable[Agent], roles: Sequence[str]) -> str:
    """How these agents are brought up to date: a line or more for each of their Regions, or for an organization."""
    if stack.agent_organization:
        name = stack.stack_id.split("/")[1] if "/" in stack.stack_id else STACK_NAME
        more = [] if name == STACK_NAME else ["--stack-name", name]
        call = shlex.join([PROGRAM, "deploy", "hub", "--region", stack.region, *more])
        return f"`{call}` prints the call of update-stack-set that updates all agents of the organization; run that."
    regions: dict[str, list[str]] = {}
    for agent in agents:
        regions.setdefault(agent.region, []).append(agent.account)
    given = ["--parameter", f"HubRoleArns={','.join(roles)}"] if roles else []
    return "\n".join(
        f"with the credentials of {'each of ' if len(accounts) > 1 else ''}{', '.join(sorted(accounts))}:\n  "
        + shlex.join([PROGRAM, "deploy", "agent", "--region", region, *given])
        for region, accounts in sorted(regions.items())
    )


def warning(outdated: Sequence[str], how: str) -> str:
    """What set-up's answer says of agents that are not up to date."""
    some = f"the agent of {outdated[0]} is" if len(outdated) == 1 else f"{len(outdated)} agents are"
    listed = "" if len(outdated) == 1 else f" ({', '.join(outdated)})"
    return f"{some} not as this version of the hub needs{listed}; {' '.join(how.split())}"
