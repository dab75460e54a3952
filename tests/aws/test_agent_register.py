"""The agents that a hub knows: each by itself, however many there are and whoever else writes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from crr_monitor.aws.agent_register import Agent, AgentRegister, Told
from crr_monitor.aws.record import AGENTS, Record
from crr_monitor.aws.sessions import AwsError
from tests.aws.making import AGENT, HOME, HUB, TOKEN, deny, sessions, stack

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crr_monitor.sandbox import Sandbox

FREE_BYTES = 4_096
"""What a parameter holds for free (Systems Manager User Guide, "Parameter tiers")."""


def register(sandbox: Sandbox) -> AgentRegister:
    """The register of a hub."""
    return AgentRegister(sessions(sandbox), stack())


def agents(count: int) -> list[Agent]:
    """Agents of as many accounts."""
    return [Agent(f"{200_000_000_000 + number}", "eu-west-1", "told", f"digest-{number}") for number in range(count)]


def parameters(sandbox: Sandbox) -> Iterator[tuple[str, str]]:
    """Names and values of all parameters."""
    ssm = sandbox.client("ssm", HUB, HOME)
    for page in ssm.get_paginator("get_parameters_by_path").paginate(Path="/", Recursive=True):
        yield from ((each["Name"], each["Value"]) for each in page["Parameters"])


def test_two_hundred_agents_at_once(sandbox: Sandbox) -> None:
    """Of 200 agents that announce themselves side by side none is lost, each in one parameter that is named by it."""
    given = agents(200)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(register(sandbox).put, given))
    assert register(sandbox).all() == {agent.account: agent for agent in given}
    assert sorted(name for name, _ in parameters(sandbox)) == [
        f"/crr-monitor/{TOKEN}/agent/{agent.account}" for agent in given
    ]


def test_one_changes_and_one_goes(sandbox: Sandbox) -> None:
    """What is written or removed of one agent leaves the others as they are."""
    first, second, third = agents(3)
    for agent in (first, second, third):
        register(sandbox).put(agent)
    changed = Agent(second.account, "us-west-2", "other", "other")
    register(sandbox).put(changed)
    register(sandbox).forget(first.account)
    assert register(sandbox).all() == {second.account: changed, third.account: third}
    assert (register(sandbox).get(second.account), register(sandbox).get(first.account)) == (changed, None)


def test_forgetting_twice(sandbox: Sandbox) -> None:
    """An agent that is not known can be forgotten, as one may go whose announcement was never heard."""
    register(sandbox).forget(AGENT)
    assert register(sandbox).all() == {}


def test_other_stacks_agents(sandbox: Sandbox) -> None:
    """A register knows the agents of its own hub only, and removes no other's."""
    (agent,) = agents(1)
    other = AgentRegister(sessions(sandbox), stack(token="abcdef012345"))  # noqa: S106 - a part of names
    other.put(agent)
    register(sandbox).forget_all()
    assert (register(sandbox).all(), other.all()) == ({}, {agent.account: agent})


def test_nothing_is_left(sandbox: Sandbox) -> None:
    """All agents are forgotten together, also when listing them takes several calls."""
    for agent in agents(11):
        register(sandbox).put(agent)
    register(sandbox).forget_all()
    assert list(parameters(sandbox)) == []


def test_what_was_told_takes_no_room(sandbox: Sandbox) -> None:
    """However many buckets an agent was told of, its parameter has a small, fixed size."""
    told = Told(tuple(f"a-bucket-with-a-name-that-is-not-short-{number:024}" for number in range(5_000)))
    register(sandbox).put(Agent(AGENT, HOME, told.digest, "d" * 64))
    ((_, value),) = parameters(sandbox)
    assert len(value) < FREE_BYTES / 10
    assert Told(told.destinations[:-1]).digest != told.digest == Told(told.destinations).digest


def test_document_of_before(sandbox: Sandbox) -> None:
    """Agents of the one document of before get parameters of their own, unless they have one, and it is removed."""
    record, before = Record(sessions(sandbox), stack()), agents(60)
    told = {"destinations": [f"orders-{number}" for number in range(40)], "topic_regions": [HOME]}
    record.put(
        AGENTS, {agent.account: {"account": agent.account, "region": agent.region, "told": told} for agent in before}
    )
    assert len(list(parameters(sandbox))) == 1
    register(sandbox).put(before[7])
    for _ in range(2):
        register(sandbox).take_over(record)
        places = {agent.account: Agent(agent.account, agent.region) for agent in before}
        assert register(sandbox).all() == {**places, before[7].account: before[7]}
        assert [name for name, _ in parameters(sandbox) if "/agents" in name] == []


@pytest.mark.parametrize("operation", ["PutParameter", "DeleteParameter"])
def test_stopped_while_taking_over(sandbox: Sandbox, operation: str) -> None:
    """A run that cannot finish taking over leaves the document for the next one."""
    record = Record(sessions(sandbox), stack())
    record.put(AGENTS, {AGENT: {"account": AGENT, "region": HOME}})
    number = deny(sandbox, service="ssm", operation=operation)
    with pytest.raises(AwsError, match=f"ssm:{operation}"):
        register(sandbox).take_over(record)
    sandbox.end_fault(number)
    register(sandbox).take_over(record)
    assert (register(sandbox).all(), record.get(AGENTS)) == ({AGENT: Agent(AGENT, HOME)}, None)


def test_not_known_is_not_gone(sandbox: Sandbox) -> None:
    """An agent that could not be asked for is an error, and not one that has gone."""
    register(sandbox).put(Agent(AGENT, HOME))
    deny(sandbox, service="ssm")
    for ask in (lambda: register(sandbox).get(AGENT), register(sandbox).all, lambda: register(sandbox).forget(AGENT)):
        with pytest.raises(AwsError) as caught:
            ask()
        assert caught.value.denied
