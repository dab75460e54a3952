"""The set-up function of hub and agents.

A custom resource of its stack, an hourly schedule, and a queue of events: replication rules that were changed, agents
that announce themselves, word of the hub.

It always answers CloudFormation. Called otherwise it fails when something could not be done, so that its error metric
tells. What it does each time is in :mod:`crr_monitor.lambdas.converge`.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from msgspec.structs import asdict

from crr_monitor.aws.record import ANSWERED, TURN, Record
from crr_monitor.aws.sessions import Sessions
from crr_monitor.aws.setup import Report
from crr_monitor.aws.undelivered import count_undelivered
from crr_monitor.aws.unreached import forgive
from crr_monitor.environment import environment
from crr_monitor.lambdas.changes import Batch, Heard, hear
from crr_monitor.lambdas.converge import OvertakenError, Run, converge, remove, system_clock
from crr_monitor.lambdas.response import Answer
from crr_monitor.lambdas.settings import SetupSettings, from_environment

if TYPE_CHECKING:
    from crr_monitor.lambdas.context import Context

_log = logging.getLogger("crr_monitor.setup")
_log.setLevel(logging.INFO)

PHYSICAL_ID = "crr-monitor-set-up"


class SetupFailedError(Exception):
    """Something could not be done; the text says what, each with its reason."""


def handler(event: dict[str, Any], context: Context) -> dict[str, Any]:
    """Converge, for whatever reason."""
    if "ResponseURL" in event:
        return _for_cloudformation(event, context)
    if "Records" in event:
        return _for_queue(event["Records"], context)
    run, heard = _start(context), hear([event])
    try:
        report = converge(run, heard)
    except OvertakenError as error:
        return asdict(_overtaken(error, heard.trigger))
    report.problems += [*heard.malformed.values(), *report.blocked]
    return _finish(run, report, heard.trigger)


def _finish(run: Run, report: Report, trigger: str) -> dict[str, Any]:
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
        report = Report() if batch.heard.empty else converge(run, batch.heard)
        # That a bucket is in its own way is told by the hourly run: no other message would be done sooner for it.
        report.warnings += report.blocked
        ended = True
        answer = _finish(run, report, f"{len(records)} messages: {batch.heard.trigger or 'nothing'}")
        done = True
    except OvertakenError as error:
        report = _overtaken(error, f"{len(records)} messages: {batch.heard.trigger}")
        return {**asdict(report), "batchItemFailures": batch.failures(every=True)}
    finally:
        if not done:
            batch.again(ended=ended)
    return {**answer, "batchItemFailures": batch.failures()}


def _for_cloudformation(event: dict[str, Any], context: Context) -> dict[str, Any]:
    answer = Answer(event, PHYSICAL_ID, context.get_remaining_time_in_millis() / 1_000)
    try:
        request = f"{event.get('RequestId')}"
        run = _start(context, request)
        if run.record.get(ANSWERED) == request:
            # Lambda calls a function that it had to end twice more, and CloudFormation has gone on since.
            answer.keep()
            return asdict(Report(notes=["this request of CloudFormation was answered when time ran out"]))
        run.record.put(TURN, request)
        answer.when_late(lambda: run.record.put(ANSWERED, request))
        report = remove(run) if event.get("RequestType") == "Delete" else converge(run, Heard())
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


def _overtaken(error: OvertakenError, trigger: str) -> Report:
    """Nothing is wrong, so the run does not fail."""
    report = Report(notes=[str(error)])
    _write(report, trigger)
    return report


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


def _start(context: Context, request: str | None = None) -> Run:
    """A run; with the request of CloudFormation that it is for."""
    settings = from_environment(SetupSettings, environment())
    stack = settings.stack(context.invoked_function_arn)
    sessions = Sessions(stack.account, partition=stack.partition, role_name=settings.agent_role_name or None)
    record = Record(sessions, stack)
    return Run(settings, stack, sessions, record, context, request or record.get(TURN))
