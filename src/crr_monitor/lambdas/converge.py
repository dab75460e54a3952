"""Look what there is and make what has to be, until nothing has changed since the last look; or take it all back.

Several runs of the set-up function may go on at the same time. One that looked before a change and writes after another
run has seen it would undo what that did. So who has written something looks once more, and goes on until nothing has
changed since it looked: whoever writes last has then looked after its last word, and a change after that look has an
event, and a run, of its own.

Settings change as well, and a run goes on with those that it began with. So CloudFormation's newest request is
remembered before anything is done for it, and a run that began before it writes no more once it has looked.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from msgspec import Struct, convert
from msgspec.structs import replace

from crr_monitor.aws import bucket_alarms
from crr_monitor.aws.agent_health import cure, is_outdated, look_at_agents, warning
from crr_monitor.aws.agent_register import Agent, AgentRegister, Told
from crr_monitor.aws.agents import (
    announce,
    ask_agents,
    destinations_in,
    is_same,
    known_to_hub,
    latest,
    learn,
    tell,
)
from crr_monitor.aws.discovery import Discovery, discover
from crr_monitor.aws.overlap import give_back, look_with_old_source, remember
from crr_monitor.aws.plan_model import Stack
from crr_monitor.aws.record import DOCUMENTS, TURN, Record
from crr_monitor.aws.record import TOLD as TOLD_DOCUMENT
from crr_monitor.aws.sessions import AwsError, Sessions
from crr_monitor.aws.setup import Known, Report, Situation, execute, look_for_removal
from crr_monitor.core.agent_notes import AGENTS_NOTE, AgentsNote, decode_agents, encode_agents
from crr_monitor.lambdas.context import Context
from crr_monitor.lambdas.settings import SetupSettings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from crr_monitor.aws.agents import TopologyStore
    from crr_monitor.core.topology import BucketConfig
    from crr_monitor.lambdas.changes import Heard

LEAST_SECONDS = 60.0
"""With less time left, or less than twice what the last look and its work took, a run looks no more."""


def system_clock() -> int:
    """Now, in milliseconds; the stores' own would load them, which an agent need not."""
    return time.time_ns() // 1_000_000


class OvertakenError(Exception):
    """CloudFormation has asked for something since the run began, maybe with other settings; the text says so."""


class Run(Struct, frozen=True):
    """What one run works with; ``turn`` is the newest request of CloudFormation when it began."""

    settings: SetupSettings
    stack: Stack
    sessions: Sessions
    record: Record
    context: Context
    turn: str | None

    def seconds_left(self) -> float:
        """Until Lambda ends the function."""
        return self.context.get_remaining_time_in_millis() / 1_000

    def go_on(self) -> None:
        """Find out whether this run's settings still count; raises ``OvertakenError``."""
        if self.record.get(TURN) != self.turn:
            message = "the stack has been changed since this run began: the next run goes on, with the new settings"
            raise OvertakenError(message)


def converge(run: Run, heard: Heard) -> Report:
    """Do what is missing, for what was heard.

    Raises:
        OvertakenError: a run of CloudFormation has begun since; what this run has not done is to be heard again.
        AwsError: what is there, or what set-up has to remember, could not be read or written.
    """
    return _converge_hub(run, heard) if run.stack.kind == "hub" else _converge_agent(run, heard)


def _has_time(run: Run, began: int, report: Report) -> bool:
    """Whether there is time to look and work once more, after what took as long as since ``began``; tells if not."""
    if run.seconds_left() > LEAST_SECONDS + 2 * (system_clock() - began) / 1_000:
        return True
    report.warnings.append("replication rules changed all the time while set-up ran: the next run goes on")
    return False


def _execute(run: Run, own: Discovery, known: Known) -> tuple[Situation, Report]:
    run.go_on()
    change = run.settings.bucket_settings == "Change"
    given = Report() if change else give_back(run.sessions, run.stack, run.record)
    situation, sources = look_with_old_source(run.sessions, run.stack, run.record, own, known)
    # Nothing that a newer run has made is undone: who could have seen it, and not want it, stops here.
    run.go_on()
    remember(run.record, sources)
    report = execute(run.sessions, situation, run.record, change_buckets=change)
    return situation, replace(report, done=given.done + report.done, problems=given.problems + report.problems)


# The hub --------------------------------------------------------------------------------------------------------------


class _Seen(Struct, frozen=True):
    """What a hub goes by: its own account, and other accounts that it has asked in this run."""

    own: Discovery
    found: list[Discovery]

    def again(self, run: Run, changed: set[str | None], regions: Mapping[str, str]) -> _Seen:
        """The same looked at once more, of other accounts those of which something was learned."""
        asked = {each.account for each in self.found} & changed
        news = {each.account: each for each in ask_agents(run.sessions, asked, regions, run.stack.region)[0]}
        found = [news.get(each.account, each) for each in self.found]
        return _Seen(discover(run.sessions, run.stack.region), found)

    def is_like(self, other: _Seen) -> bool:
        """Whether nothing has changed between the two."""
        pairs = zip([self.own, *self.found], [other.own, *other.found], strict=True)
        return all(is_same(one, another) for one, another in pairs)


def _converge_hub(run: Run, heard: Heard) -> Report:
    register = AgentRegister(run.sessions, run.stack)
    news, notes = _news(register, heard)
    if not (news or heard.everything):
        return Report(notes=notes)
    own = discover(run.sessions, run.stack.region)
    agents, asked = _agents_to_ask(run, register, heard, news)
    regions = {account: agent.region for account, agent in agents.items()}
    found, silent = ask_agents(run.sessions, asked, regions, run.stack.region)
    store = _open_store(run.settings.store)
    seen, configs, situation, report = _until_it_stays(run, store, _Seen(own, found), regions)
    report.notes += [*notes, *silent]
    run.go_on()
    for discovery in seen.found:
        report.notes += [f"account {discovery.account}: {each}" for each in discovery.unknown]
        if discovery.account in agents:
            told = Told(destinations_in(discovery.buckets, configs), situation.topics)
            _tell(run, agents[discovery.account], told, report)
    _look_at_agents(run, agents, seen.found, store if heard.everything else None, report)
    # Last: a run that is stopped before is tried again, and does not find that nothing has changed.
    for account, agent in news.items():
        if agent is None:
            register.forget(account)
        else:
            register.put(agent)
    return report


def _until_it_stays(
    run: Run, store: TopologyStore, seen: _Seen, regions: Mapping[str, str]
) -> tuple[_Seen, list[BucketConfig], Situation, Report]:
    """Learn and converge, and look again as long as that wrote something and there is something new."""
    done: list[str] = []
    while True:
        began = system_clock()
        configs = latest(learn(store, [seen.own, *seen.found]))
        situation, report = _execute(run, seen.own, known_to_hub(seen.own, configs))
        _keep_alarms(run, configs, report)
        wrote = bool(report.done)
        done += report.done
        report.done = [*done]
        learned = {config.account for config in configs if config.since >= began}
        if not (wrote or learned):
            break
        now = seen.again(run, learned, regions)
        if (seen.is_like(now) and latest(store.topology()) == configs) or not _has_time(run, began, report):
            break
        seen = now
    return seen, configs, situation, report


def _look_at_agents(
    run: Run, agents: Mapping[str, Agent], found: Iterable[Discovery], store: TopologyStore | None, report: Report
) -> None:
    """Say which agents are not up to date; with a ``store``, in runs that ask all, leave it word of them for the look.

    A run for one agent leaves none, as several go on at the same time.
    """
    roles = run.settings.hub_role_arns
    outdated = [agent for agent in agents.values() if is_outdated(agent, roles)]
    names, how = sorted(agent.account for agent in outdated), cure(run.stack, outdated, roles) if outdated else ""
    if outdated:
        report.warnings.append(warning(names, how))
    if store is not None:
        body = store.note(AGENTS_NOTE)
        queues, notes = look_at_agents(run.sessions, agents, found, decode_agents(body))
        report.notes += notes
        told = encode_agents(AgentsNote(queues, tuple(names), how))
        if told != body:
            store.keep_note(AGENTS_NOTE, told)


def _keep_alarms(run: Run, configs: Iterable[BucketConfig], report: Report) -> None:
    topic = run.settings.alarm_topic_arn
    namespace = run.settings.metrics_namespace
    done, problems = bucket_alarms.converge(run.sessions, run.stack, configs if topic else (), topic, namespace)
    report.done += done
    report.problems += problems


def _tell(run: Run, agent: Agent, news: Told, report: Report) -> None:
    try:
        if tell(run.sessions, run.stack, agent, news):
            report.done.append(f"tell the agent of {agent.account} what others replicate to it, and where topics are")
    except AwsError as error:
        report.problems.append(f"the agent of {agent.account} could not be told what it has to know: {error}")
        if error.unreachable:
            report.unreached.setdefault(agent.region, []).append(report.problems[-1])
    finally:
        run.sessions.forget(agent.account)


def _news(register: AgentRegister, heard: Heard) -> tuple[dict[str, Agent | None], list[str]]:
    """What is new of agents, and notes of those that said nothing new, as every agent announces itself each hour."""
    news = {account: said for account, said in heard.agents.items() if said is None or said != register.get(account)}
    same = [account for account in heard.agents if account not in news]
    return news, [f"the agent of {account} is there, and nothing has changed with it" for account in same]


def _agents_to_ask(
    run: Run, register: AgentRegister, heard: Heard, news: Mapping[str, Agent | None]
) -> tuple[dict[str, Agent], set[str]]:
    """The agents that matter in this run, and the accounts to ask: those that announced themselves, or all.

    Every agent announces itself each hour, and need not make the hub ask all others.
    """
    new = {account: agent for account, agent in news.items() if agent is not None}
    if not heard.everything:
        return new, {*new}
    register.take_over(run.record)
    agents = {account: agent for account, agent in register.all().items() if account not in news} | new
    return agents, {*run.settings.agent_accounts, *agents}


def _open_store(url: str) -> TopologyStore:
    from crr_monitor.stores.dynamodb import open_store  # noqa: PLC0415 - an agent has no store, and need not load it

    return open_store(url)


# An agent -------------------------------------------------------------------------------------------------------------


def _converge_agent(run: Run, heard: Heard) -> Report:
    if heard.told is not None:
        run.record.put(TOLD_DOCUMENT, heard.told)
    own, told, done = discover(run.sessions, run.stack.region), _told(run), list[str]()
    while True:
        began = system_clock()
        known = Known(destinations=told.destinations, topic_regions=told.topic_regions)
        _, report = _execute(run, own, known)
        wrote = bool(report.done)
        done += report.done
        report.done = [*done]
        if not wrote:
            break
        own_now, told_now = discover(run.sessions, run.stack.region), _told(run)
        if (is_same(own, own_now) and told == told_now) or not _has_time(run, began, report):
            break
        own, told = own_now, told_now
    try:
        announce(run.sessions, run.stack, told, own, run.settings.hub_role_arns)
    except AwsError as error:
        report.problems.append(f"the hub could not be told that this agent is here: {error}")
    return report


def _told(run: Run) -> Told:
    """What the hub has told last."""
    return convert(run.record.get(TOLD_DOCUMENT) or {}, Told)


def remove(run: Run) -> Report:
    """Undo all; what others need to know is told first, as the bus goes with the stack.

    A run that was writing when this one began finishes what it was about: so what was removed is looked for once more.

    Raises:
        AwsError: what set-up has to remember could not be read or written.
    """
    notes = []
    if run.stack.kind == "agent":
        try:
            announce(run.sessions, run.stack, Told(), None)
        except AwsError as error:
            notes.append(f"the hub could not be told that this agent goes: {error}")
    situation = look_for_removal(run.sessions, run.stack, run.record)
    report = execute(run.sessions, situation, run.record, change_buckets=True)
    if report.done and not report.problems:
        left = look_for_removal(run.sessions, run.stack, run.record, situation.regions_before)
        later = execute(run.sessions, left, run.record, change_buckets=True)
        report = replace(later, done=report.done + later.done)
    report.notes += notes
    if run.stack.kind == "hub":
        _keep_alarms(run, (), report)
    if not report.problems:
        if run.stack.kind == "hub":
            AgentRegister(run.sessions, run.stack).forget_all()
        for name in DOCUMENTS:
            run.record.forget(name)
    return report
