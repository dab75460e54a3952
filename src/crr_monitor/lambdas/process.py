"""Events to records: empties the queue when the schedule calls, or takes the batches that Lambda hands over.

Scheduled: one run receives, stores and deletes, in rounds, until all that was in the queue at its start is done or its
own time is nearly over; the next run goes on. Continuous: Lambda receives and deletes, and is told which messages have
to come again.

Either way, in this order: stored, then what is malformed put into the dead-letter queue with its reason, then deleted.
Killed between any two steps, messages come again, and storing them again changes nothing.
"""

from __future__ import annotations

import functools
import importlib
import threading
import time
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from msgspec import Struct, field

from crr_monitor.aws.queue import Message, Queue, QueueError, in_groups
from crr_monitor.environment import environment
from crr_monitor.lambdas.batch import WORKERS, Store, process, run_workers
from crr_monitor.lambdas.event_log import EventLog
from crr_monitor.lambdas.log import write
from crr_monitor.lambdas.settings import ProcessSettings, from_environment
from crr_monitor.stores.base import Counts, StoreError
from crr_monitor.stores.dynamodb_tables import CLIENT_OPTIONS, parse_address
from crr_monitor.stores.dynamodb_writing import DynamoWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from crr_monitor.lambdas.batch import Outcome
    from crr_monitor.lambdas.context import Context

ROUND_MESSAGES = 2_000
ROUND_CHARACTERS = 32_000_000
"""Most that is received before it is stored: much, so that source and replica meet; little enough for the memory."""

ROUND_SECONDS = 30.0
"""A round is not begun with less time left."""

WAIT_SECONDS = 1
"""Long polling, which asks all servers of the queue: only then is nothing found the same as nothing there."""

MILLISECONDS = 1_000

OPTIONS: dict[str, Any] = {
    **CLIENT_OPTIONS,
    # Who is throttled gives up soon: the message stays in the queue, which waits at no cost.
    "retries": {"mode": "standard", "total_max_attempts": 4},
    # Naming the library anew for each call takes a tenth of the call's time.
    "user_agent": "crr-monitor",
}


class ProcessFailedError(Exception):
    """No message of a run could be stored; the text says why, and all of them stay in the queue."""


class Runtime(Struct, frozen=True):
    """What a function keeps from one run to the next."""

    store: Store
    queue: Queue
    dead_letters: Queue
    event_log: EventLog | None
    pool: ThreadPoolExecutor


class Tally(Struct):
    """What one run did, as its log line says it. ``undeleted`` messages come again, and change nothing then.

    ``empty``: nothing was left of what was in the queue when the run began.
    """

    messages: int = 0
    done: int = 0
    dead: int = 0
    kept: int = 0
    undeleted: int = 0
    versions: int = 0
    changed: int = 0
    rounds: int = 0
    empty: bool = False
    counts: Counts = field(default_factory=Counts)
    problem: str = ""

    def add(self, outcome: Outcome) -> None:
        """Add what a round did."""
        self.rounds += 1
        self.messages += outcome.counts.messages
        self.done += len(outcome.done)
        self.dead += len(outcome.dead)
        self.kept += len(outcome.kept)
        self.versions += outcome.versions
        self.changed += outcome.changed
        self.counts.add(outcome.counts)
        if outcome.kept and not self.problem:
            self.problem = outcome.kept[0][1]


def handler(event: dict[str, Any], context: Context) -> dict[str, Any]:
    """The function: of the schedule, or of the queue."""
    return run(runtime(), event, context)


@functools.cache
def runtime() -> Runtime:
    """Made once, from the environment.

    Raises:
        SettingsError: a variable is missing or wrong.
    """
    settings = from_environment(ProcessSettings, environment())
    return make_runtime(settings)


def make_runtime(settings: ProcessSettings) -> Runtime:
    """Clients, store and queues; nothing is called yet."""
    boto3 = importlib.import_module("boto3")
    config = importlib.import_module("botocore.config").Config(**OPTIONS)
    address = parse_address(settings.store)
    place = {"region_name": address.region, "endpoint_url": address.endpoint, "config": config}
    store = DynamoWriter(boto3.client("dynamodb", **place), address.status, address.statistics)
    sqs = boto3.client("sqs", **place)
    event_log = EventLog(boto3.client("logs", **place), settings.event_log) if settings.event_log else None
    queue, dead_letters = Queue(sqs, settings.queue_url), Queue(sqs, settings.dead_letter_queue_url)
    return Runtime(store, queue, dead_letters, event_log, ThreadPoolExecutor(WORKERS))


def run(runtime: Runtime, event: dict[str, Any], context: Context) -> dict[str, Any]:
    """One run; the answer is Lambda's partial batch response, which the schedule ignores.

    Raises:
        ProcessFailedError: nothing at all could be done, so that the function's error metric tells.
    """

    def seconds_left() -> float:
        return context.get_remaining_time_in_millis() / MILLISECONDS

    tally = Tally()
    if "Records" in event:
        failed = _take(runtime, event["Records"], context, tally, seconds_left)
    else:
        failed = []
        _drain(runtime, context, tally, seconds_left)
    mode = "Continuous" if "Records" in event else "Scheduled"
    figures = {"mode": mode, "request_id": context.aws_request_id, **_figures(tally)}
    write("WARNING" if tally.problem else "INFO", "processed", **figures)
    if tally.problem and not (tally.done or tally.dead):
        message = f"none of {tally.messages} messages could be stored, they stay in the queue: {tally.problem}"
        raise ProcessFailedError(message)
    return {"batchItemFailures": [{"itemIdentifier": each.id} for each in failed]}


def _figures(tally: Tally) -> dict[str, object]:
    counts = tally.counts
    figures = {name: getattr(tally, name) for name in Tally.__struct_fields__ if name not in {"counts", "problem"}}
    figures |= {"events": counts.events, "malformed": counts.malformed, "ignored": counts.ignored}
    return figures | ({"problem": tally.problem} if tally.problem else {})


# Continuous -----------------------------------------------------------------------------------------------------------


def _take(
    runtime: Runtime,
    records: Sequence[dict[str, Any]],
    context: Context,
    tally: Tally,
    seconds_left: Callable[[], float],
) -> list[Message]:
    """One batch of Lambda's; gives the messages that have to come again."""
    messages = [Message(each["messageId"], each["body"], each.get("receiptHandle", "")) for each in records]
    outcome = _round(runtime, messages, context, tally, seconds_left)
    return messages if outcome is None else [message for message, _ in outcome.kept]


def _round(
    runtime: Runtime,
    messages: Sequence[Message],
    context: Context,
    tally: Tally,
    seconds_left: Callable[[], float],
) -> Outcome | None:
    """Store what messages tell and bury what is dead; ``None`` where nothing could even be begun."""
    try:
        outcome = process(messages, runtime.store, runtime.pool, seconds_left)
    except StoreError as error:
        tally.messages += len(messages)
        tally.kept += len(messages)
        tally.problem = str(error)
        return None
    if runtime.event_log is not None:
        # Before they are deleted, and only what does not come again, so that most are there once.
        gone = [*outcome.done, *(message for message, _ in outcome.dead)]
        runtime.event_log.copy([message.body for message in gone], context.aws_request_id)
    _bury(runtime, outcome)
    tally.add(outcome)
    return outcome


def _bury(runtime: Runtime, outcome: Outcome) -> None:
    """Dead messages into the dead-letter queue; what does not get there stays, and the queue moves it some time."""
    lost = {message.id: reason for message, reason in runtime.dead_letters.bury(outcome.dead)} if outcome.dead else {}
    for message, reason in outcome.dead:
        if message.id in lost:
            why = lost[message.id]
            write("ERROR", "not buried, stays in the queue", message_id=message.id, reason=reason, problem=why)
            outcome.kept.append((message, why))
        else:
            write("ERROR", "moved to the dead-letter queue", message_id=message.id, reason=reason)
    outcome.dead = [each for each in outcome.dead if each[0].id not in lost]


# Scheduled ------------------------------------------------------------------------------------------------------------


def _drain(runtime: Runtime, context: Context, tally: Tally, seconds_left: Callable[[], float]) -> None:
    """Rounds until what was in the queue is done, time is short, or the store is in trouble; the rest waits there."""
    began = time.time_ns() // 1_000_000
    while not tally.empty and seconds_left() > ROUND_SECONDS:
        messages, problem = _receive(runtime, tally, began, seconds_left)
        if messages:
            outcome = _round(runtime, messages, context, tally, seconds_left)
            if outcome is None:
                return
            tally.undeleted += _delete(runtime, [*outcome.done, *(message for message, _ in outcome.dead)])
            if outcome.stop:
                return
        if problem:
            tally.problem = problem
            return


def _is_later(messages: Sequence[Message], began: int) -> bool:
    """Whether all of them came after the run began, or there are none.

    Then the queue's backlog is done. Without this, a few messages each second would keep a run going until its time is
    over, which costs more than they do, and would not be stored until then.
    """
    return all(message.sent_at > began for message in messages)


def _receive(
    runtime: Runtime, tally: Tally, began: int, seconds_left: Callable[[], float]
) -> tuple[list[Message], str]:
    """Messages for a round, and what went wrong; the first call is made alone, as mostly there is nothing more."""
    try:
        found = runtime.queue.receive(WAIT_SECONDS)
    except QueueError as error:
        return [], str(error)
    tally.empty = _is_later(found, began)
    if tally.empty:
        return found, ""
    size = sum(len(message.body) for message in found)
    problems: list[str] = []
    lock = threading.Lock()

    def work() -> None:
        nonlocal size
        while not (tally.empty or problems) and len(found) < ROUND_MESSAGES and size < ROUND_CHARACTERS:
            if seconds_left() <= ROUND_SECONDS:
                return
            try:
                more = runtime.queue.receive(WAIT_SECONDS)
            except QueueError as error:
                problems.append(str(error))
                return
            with lock:
                found.extend(more)
                size += sum(len(message.body) for message in more)
            if _is_later(more, began):
                tally.empty = True

    run_workers(runtime.pool, work)
    # Delivered twice within a round, the later handle is the one that deletes.
    unique = {message.id: message for message in found}
    return list(unique.values()), problems[0] if problems else ""


def _delete(runtime: Runtime, messages: Sequence[Message]) -> int:
    """Delete what is stored or buried; how many were not."""
    waiting = deque(in_groups(messages))
    left: list[str] = []

    def work() -> None:
        while waiting:
            try:
                group = waiting.popleft()
            except IndexError:
                return  # another worker took the last one
            left.extend(runtime.queue.delete(group))

    run_workers(runtime.pool, work)
    for reason, count in Counter(left).items():
        write("WARNING", "messages were not deleted and come again", reason=reason, count=count)
    return len(left)
