"""The set-up function of hub and agents.

A custom resource of its stack, an hourly schedule, and events about replication rules.

It always answers CloudFormation. Called otherwise it fails when something could not be done, so that its error metric
tells.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any, Protocol

from msgspec import Struct, convert
from msgspec.structs import asdict, replace

from crr_monitor.aws import bucket_alarms
from crr_monitor.aws.agent_register import Agent, AgentRegister, Told
from crr_monitor.aws.agents import (
    ANNOUNCED,
    HUB_SOURCE,
    REMOVED,
    TOLD,
    Said,
    announce,
    ask_agents,
    destinations_in,
    known_to_hub,
    latest,
    learn,
    tell,
)
from crr_monitor.aws.discovery import Discovery, discover
from crr_monitor.aws.overlap import give_back, look_with_old_source, remember
from crr_monitor.aws.plan_model import Stack
from crr_monitor.aws.record import DOCUMENTS, Record
from crr_monitor.aws.record import TOLD as TOLD_DOCUMENT
from crr_monitor.aws.sessions import AwsError, Sessions
from crr_monitor.aws.setup import Known, Report, Situation, execute, look_for_removal
from crr_monitor.aws.undelivered import count_undelivered
from crr_monitor.environment import environment
from crr_monitor.lambdas.response import Answer
from crr_monitor.lambdas.settings import SetupSettings, from_environment

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from crr_monitor.aws.agents import TopologyStore
    from crr_monitor.core.topology import BucketConfig

_log = logging.getLogger("crr_monitor.setup")
_log.setLevel(logging.INFO)

PHYSICAL_ID = "crr-monitor-set-up"


class Context(Protocol):
    """What Lambda tells a function of its run."""

    invoked_function_arn: str

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until Lambda ends the function."""


class SetupFailedError(Exception):
    """Something could not be done; the text says what, each with its reason."""


class _Run(Struct, frozen=True):
    """What one run works with."""

    settings: SetupSettings
    stack: Stack
    sessions: Sessions
    record: Record


def handler(event: dict[str, Any], context: Context) -> dict[str, Any]:
    """Converge, for whatever reason."""
    if "ResponseURL" in event:
        return _for_cloudformation(event, context)
    run = _start(context)
    report = _converge(run, event)
    if run.stack.kind == "agent":
        # Of the hub's own the watch function tells. Not for CloudFormation: what waits is no reason to refuse a change.
        problems, notes = count_undelivered(run.sessions, run.stack, run.record)
        report.problems += problems
        report.notes += notes
    _write(report, str(event.get("detail-type", "call")))
    if report.problems:
        raise SetupFailedError(report.summary())
    return asdict(report)


def _for_cloudformation(event: dict[str, Any], context: Context) -> dict[str, Any]:
    answer = Answer(event, PHYSICAL_ID, context.get_remaining_time_in_millis() / 1_000)
    try:
        run = _start(context)
        report = _remove(run) if event.get("RequestType") == "Delete" else _converge(run, {})
        _write(report, str(event.get("RequestType")))
    except Exception as error:
        # The edge of the process: an unanswered request would hold the stack for an hour.
        _log.exception("set-up failed")
        answer.give("FAILED", f"{type(error).__name__}: {error}")
        raise
    answer.give("FAILED" if report.problems else "SUCCESS", report.summary(), {"Summary": report.summary()})
    return asdict(report)


def _write(report: Report, trigger: str) -> None:
    """One line of JSON per run, and the patches as they are, ready to be copied."""
    line = {"trigger": trigger, "done": report.done, "problems": report.problems, "notes": report.notes}
    _log.info("%s", json.dumps(line, ensure_ascii=False))
    for patch in report.patches:
        _log.info("%s", patch)


def _start(context: Context) -> _Run:
    settings = from_environment(SetupSettings, environment())
    stack = settings.stack(context.invoked_function_arn)
    sessions = Sessions(stack.account, partition=stack.partition, role_name=settings.agent_role_name or None)
    return _Run(settings, stack, sessions, Record(sessions, stack))


def _converge(run: _Run, event: Mapping[str, Any]) -> Report:
    own = discover(run.sessions, run.stack.region)
    return _converge_hub(run, own, event) if run.stack.kind == "hub" else _converge_agent(run, own, event)


def _execute(run: _Run, own: Discovery, known: Known) -> tuple[Situation, Report]:
    change = run.settings.bucket_settings == "Change"
    given = Report() if change else give_back(run.sessions, run.stack, run.record)
    situation, sources = look_with_old_source(run.sessions, run.stack, run.record, own, known)
    remember(run.record, sources)
    report = execute(run.sessions, situation, run.record, change_buckets=change)
    return situation, replace(report, done=given.done + report.done, problems=given.problems + report.problems)


# The hub --------------------------------------------------------------------------------------------------------------


def _converge_hub(run: _Run, own: Discovery, event: Mapping[str, Any]) -> Report:
    register, news = AgentRegister(run.sessions, run.stack), _announced(event)
    if news is not None and news == register.get(news.account):
        return Report(notes=[f"the agent of {news.account} is there, and nothing has changed with it"])
    agents, asked = _agents_to_ask(run, register, event, news)
    regions = {account: agent.region for account, agent in agents.items()}
    found, notes = ask_agents(run.sessions, asked, regions, run.stack.region)
    configs = latest(learn(_open_store(run.settings.store), [own, *found]))
    situation, report = _execute(run, own, known_to_hub(own, configs))
    report.notes += notes
    _keep_alarms(run, configs, report)
    for discovery in found:
        report.notes += [f"account {discovery.account}: {each}" for each in discovery.unknown]
        if discovery.account in agents:
            told = Told(destinations_in(discovery.buckets, configs), situation.topics)
            _tell(run, agents[discovery.account], told, report)
    # Last: a run that is stopped before is tried again, and does not find that nothing has changed.
    if news is not None:
        register.put(news)
    elif event.get("detail-type") == REMOVED:
        register.forget(event["account"])
    return report


def _keep_alarms(run: _Run, configs: Iterable[BucketConfig], report: Report) -> None:
    topic = run.settings.alarm_topic_arn
    done, problems = bucket_alarms.converge(run.sessions, run.stack, configs if topic else (), topic)
    report.done += done
    report.problems += problems


def _tell(run: _Run, agent: Agent, news: Told, report: Report) -> None:
    try:
        if tell(run.sessions, run.stack, agent, news):
            report.done.append(f"tell the agent of {agent.account} what others replicate to it, and where topics are")
    except AwsError as error:
        report.problems.append(f"the agent of {agent.account} could not be told what it has to know: {error}")


def _announced(event: Mapping[str, Any]) -> Agent | None:
    """The agent that announces itself; the account and the Region are what EventBridge says of the sender."""
    if event.get("detail-type") != ANNOUNCED:
        return None
    said = convert(event["detail"], Said)  # what an account sends may be anything, so it is checked
    return Agent(event["account"], event["region"], said.told.digest, said.digest)


def _agents_to_ask(
    run: _Run, register: AgentRegister, event: Mapping[str, Any], news: Agent | None
) -> tuple[dict[str, Agent], set[str]]:
    """The agents that matter in this run, and the accounts to ask: the one that announced itself, or all.

    Every agent announces itself each hour, and need not make the hub ask all others.
    """
    if news is not None:
        return {news.account: news}, {news.account}
    if event.get("detail-type") == REMOVED:
        return {}, set()
    register.take_over(run.record)
    agents = register.all()
    return agents, {*run.settings.agent_accounts, *agents}


def _open_store(url: str) -> TopologyStore:
    from crr_monitor.stores.dynamodb import open_store  # noqa: PLC0415 - an agent has no store, and need not load it

    return open_store(url)


# An agent -------------------------------------------------------------------------------------------------------------


def _converge_agent(run: _Run, own: Discovery, event: Mapping[str, Any]) -> Report:
    if event.get("source") == HUB_SOURCE and event.get("detail-type") == TOLD:
        run.record.put(TOLD_DOCUMENT, event["detail"])
    told = convert(run.record.get(TOLD_DOCUMENT) or {}, Told)
    known = Known(destinations=told.destinations, topic_regions=told.topic_regions)
    _, report = _execute(run, own, known)
    try:
        announce(run.sessions, run.stack, told, own)
    except AwsError as error:
        report.problems.append(f"the hub could not be told that this agent is here: {error}")
    return report


def _remove(run: _Run) -> Report:
    """Undo all; what others need to know is told first, as the bus goes with the stack."""
    notes = []
    if run.stack.kind == "agent":
        try:
            announce(run.sessions, run.stack, Told(), None)
        except AwsError as error:
            notes.append(f"the hub could not be told that this agent goes: {error}")
    report = execute(
        run.sessions, look_for_removal(run.sessions, run.stack, run.record), run.record, change_buckets=True
    )
    report.notes += notes
    if run.stack.kind == "hub":
        _keep_alarms(run, (), report)
    if not report.problems:
        if run.stack.kind == "hub":
            AgentRegister(run.sessions, run.stack).forget_all()
        for name in DOCUMENTS:
            run.record.forget(name)
    return report
