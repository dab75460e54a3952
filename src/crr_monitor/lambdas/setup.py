"""The set-up function of hub and agents.

A custom resource of its stack, an hourly schedule, and a queue of events: replication rules that were changed, agents
that announce themselves, word of the hub.

It always answers CloudFormation. Called otherwise it fails when something could not be done, so that its error metric
tells.

Several runs may go on at the same time. One that looked before a change and writes after another run has seen it would
undo what that did. So who has written something looks once more, and goes on until nothing has changed since it looked:
whoever writes last has then looked after its last word, and a change after that look has an event, and a run, of its
own.
"""

from __future__ import annotations

import json
import logging
import time
from typing import TYPE_CHECKING, Any, Protocol

from msgspec import Struct, convert
from msgspec.structs import asdict, replace

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
from crr_monitor.aws.record import ANSWERED, DOCUMENTS, Record
from crr_monitor.aws.record import TOLD as TOLD_DOCUMENT
from crr_monitor.aws.sessions import AwsError, Sessions
from crr_monitor.aws.setup import Known, Report, Situation, execute, look_for_removal
from crr_monitor.aws.undelivered import count_undelivered
from crr_monitor.aws.unreached import forgive
from crr_monitor.core.agent_notes import AGENTS_NOTE, AgentsNote, decode_agents, encode_agents
from crr_monitor.environment import environment
from crr_monitor.lambdas.changes import Batch, Heard, hear
from crr_monitor.lambdas.response import Answer
from crr_monitor.lambdas.settings import SetupSettings, from_environment

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from crr_monitor.aws.agents import TopologyStore
    from crr_monitor.core.topology import BucketConfig

_log = logging.getLogger("crr_monitor.setup")
_log.setLevel(logging.INFO)

PHYSICAL_ID = "crr-monitor-set-up"

LEAST_SECONDS = 60.0
"""With less time left, or less than twice what the last look and its work took, a run looks no more."""


def system_clock() -> int:
    """Now, in milliseconds."""
    return time.time_ns() // 1_000_000


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
    context: Context

    def seconds_left(self) -> float:
        """Until Lambda ends the function."""
        return self.context.get_remaining_time_in_millis() / 1_000


def handler(event: dict[str, Any], context: Context) -> dict[str, Any]:
    """Converge, for whatever reason."""
    if "ResponseURL" in event:
        return _for_cloudformation(event, context)
    if "Records" in event:
        return _for_queue(event["Records"], context)
    run, heard = _start(context), hear([event])
    report = _converge(run, heard)
    report.problems += [*heard.malformed.values(), *report.blocked]
    return _finish(run, report, heard.trigger)


def _finish(run: _Run, report: Report, trigger: str) -> dict[str, Any]:
    """What is judged of every run but CloudFormation's, which refuses a change for what was not done of it, and only.

    Raises:
        SetupFailedError: there are problems.
    """
    forgive(report, run.record, system_clock())
    if run.stack.kind == "agent":
        # Of the hub's own the watch function tells.
        problems, notes = count_undelivered(run.sessions, run.stack, run.record)
        report.problems += problems
        report.notes += notes
    _write(report, trigger)
    if report.problems:
        raise SetupFailedError(report.summary())
    return asdict(report)


def _for_queue(records: list[dict[str, Any]], context: Context) -> dict[str, Any]:
    """Do what many messages ask for together; gives Lambda's partial batch response, too."""
    run = _start(context)
    batch = Batch(run.sessions.client("sqs", run.stack.region), run.settings.changes_queue_url, records)
    ended = done = False
    try:
        report = Report() if batch.heard.empty else _converge(run, batch.heard)
        # That a bucket is in its own way is told by the hourly run: no other message would be done sooner for it.
        report.warnings += report.blocked
        ended = True
        answer = _finish(run, report, f"{len(records)} messages: {batch.heard.trigger or 'nothing'}")
        done = True
    finally:
        if not done:
            batch.again(ended=ended)
    return {**answer, "batchItemFailures": batch.failures()}


def _for_cloudformation(event: dict[str, Any], context: Context) -> dict[str, Any]:
    answer = Answer(event, PHYSICAL_ID, context.get_remaining_time_in_millis() / 1_000)
    try:
        run = _start(context)
        request = f"{event.get('RequestId')}"
        if run.record.get(ANSWERED) == request:
            # Lambda calls a function that it had to end twice more, and CloudFormation has gone on since.
            answer.keep()
            return asdict(Report(notes=["this request of CloudFormation was answered when time ran out"]))
        answer.when_late(lambda: run.record.put(ANSWERED, request))
        report = _remove(run) if event.get("RequestType") == "Delete" else _converge(run, Heard())
        report.warnings += report.blocked
        _write(report, str(event.get("RequestType")))
    except Exception as error:  # noqa: BLE001 - the edge of the process
        # An unanswered request would hold the stack for an hour. And a function that fails is called twice more with
        # the same request, as CloudFormation calls it asynchronously (Lambda Developer Guide, "How Lambda handles
        # errors and retries with asynchronous invocation"): it would make all anew when a creation was taken back.
        _log.exception("set-up failed")
        text = f"{type(error).__name__}: {error}"
        answer.give("FAILED", text)
        return asdict(Report(problems=[text]))
    answer.give("FAILED" if report.problems else "SUCCESS", report.summary(), {"Summary": report.summary()})
    return asdict(report)


def _write(report: Report, trigger: str) -> None:
    """One line of JSON per run, and the patches as they are, ready to be copied."""
    line = {
        "trigger": trigger,
        "done": report.done,
        "problems": report.problems,
        "warnings": report.warnings,
        "unseen": report.unseen,
        "notes": report.notes,
    }
    _log.info("%s", json.dumps(line, ensure_ascii=False))
    for patch in report.patches:
        _log.info("%s", patch)


def _start(context: Context) -> _Run:
    settings = from_environment(SetupSettings, environment())
    stack = settings.stack(context.invoked_function_arn)
    sessions = Sessions(stack.account, partition=stack.partition, role_name=settings.agent_role_name or None)
    return _Run(settings, stack, sessions, Record(sessions, stack), context)


def _converge(run: _Run, heard: Heard) -> Report:
    return _converge_hub(run, heard) if run.stack.kind == "hub" else _converge_agent(run, heard)


def _has_time(run: _Run, began: int, report: Report) -> bool:
    """Whether there is time to look and work once more, after what took as long as since ``began``; tells if not."""
    if run.seconds_left() > LEAST_SECONDS + 2 * (system_clock() - began) / 1_000:
        return True
    report.warnings.append("replication rules changed all the time while set-up ran: the next run goes on")
    return False


def _execute(run: _Run, own: Discovery, known: Known) -> tuple[Situation, Report]:
    change = run.settings.bucket_settings == "Change"
    given = Report() if change else give_back(run.sessions, run.stack, run.record)
    situation, sources = look_with_old_source(run.sessions, run.stack, run.record, own, known)
    remember(run.record, sources)
    report = execute(run.sessions, situation, run.record, change_buckets=change)
    return situation, replace(report, done=given.done + report.done, problems=given.problems + report.problems)


# The hub --------------------------------------------------------------------------------------------------------------


class _Seen(Struct, frozen=True):
    """What a hub goes by: its own account, and other accounts that it has asked in this run."""

    own: Discovery
    found: list[Discovery]

    def again(self, run: _Run, changed: set[str | None], regions: Mapping[str, str]) -> _Seen:
        """The same looked at once more, of other accounts those of which something was learned."""
        asked = {each.account for each in self.found} & changed
        news = {each.account: each for each in ask_agents(run.sessions, asked, regions, run.stack.region)[0]}
        found = [news.get(each.account, each) for each in self.found]
        return _Seen(discover(run.sessions, run.stack.region), found)

    def is_like(self, other: _Seen) -> bool:
        """Whether nothing has changed between the two."""
        pairs = zip([self.own, *self.found], [other.own, *other.found], strict=True)
        return all(is_same(one, another) for one, another in pairs)


def _converge_hub(run: _Run, heard: Heard) -> Report:
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
    run: _Run, store: TopologyStore, seen: _Seen, regions: Mapping[str, str]
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
    run: _Run, agents: Mapping[str, Agent], found: Iterable[Discovery], store: TopologyStore | None, report: Report
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


def _keep_alarms(run: _Run, configs: Iterable[BucketConfig], report: Report) -> None:
    topic = run.settings.alarm_topic_arn
    namespace = run.settings.metrics_namespace
    done, problems = bucket_alarms.converge(run.sessions, run.stack, configs if topic else (), topic, namespace)
    report.done += done
    report.problems += problems


def _tell(run: _Run, agent: Agent, news: Told, report: Report) -> None:
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
    run: _Run, register: AgentRegister, heard: Heard, news: Mapping[str, Agent | None]
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


def _converge_agent(run: _Run, heard: Heard) -> Report:
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


def _told(run: _Run) -> Told:
    """What the hub has told last."""
    return convert(run.record.get(TOLD_DOCUMENT) or {}, Told)


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
