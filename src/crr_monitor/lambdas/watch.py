"""How it is, on a schedule: gauges to CloudWatch, and notices to people by SNS.

Notices go first: who has to be told is told, also while CloudWatch cannot be reached. Whatever could not be done makes
the function fail at its end, so that its error metric tells; done again by Lambda, a notice that was sent is not sent
again, as the store remembers it.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from crr_monitor.aws.plan_model import Stack
from crr_monitor.aws.record import Record
from crr_monitor.aws.sessions import AwsError, Sessions
from crr_monitor.aws.waiting import undelivered
from crr_monitor.core.notices import Pace
from crr_monitor.core.times import SECOND_MS
from crr_monitor.environment import environment
from crr_monitor.lambdas.coverage import Coverage
from crr_monitor.lambdas.log import write
from crr_monitor.lambdas.response import Answer
from crr_monitor.lambdas.settings import WatchSettings, from_environment
from crr_monitor.sinks import cloudwatch, sns
from crr_monitor.sinks.cloudwatch import PublishError
from crr_monitor.sinks.metrics import NAMESPACE
from crr_monitor.sinks.senders import Sender
from crr_monitor.sinks.watching import Watch, watch
from crr_monitor.stores.base import Store, StoreError, system_clock
from crr_monitor.stores.dynamodb import DynamoStore
from crr_monitor.stores.dynamodb_tables import CLIENT_OPTIONS, parse_address

if TYPE_CHECKING:
    from crr_monitor.lambdas.context import Context

QUICK: dict[str, Any] = {
    # A Region that does not answer must not keep the look from being made.
    "connect_timeout": 2,
    "read_timeout": 5,
    "retries": {"mode": "standard", "total_max_attempts": 2},
}
"""Of the clients that ask about undelivered events."""


class WatchFailedError(Exception):
    """Part of a look could not be done; the text says which, and why."""


class Runtime(Struct, frozen=True):
    """What a function keeps from one run to the next.

    ``ask`` gives the number of undelivered events, and problems; ``namespace`` is that of the metrics. ``coverage`` is
    there with an archive.
    """

    store: Store
    settings: Watch
    sender: Sender
    cloudwatch: cloudwatch.Client
    ask: Callable[[], tuple[int | None, list[str]]]
    namespace: str = NAMESPACE
    coverage: Coverage | None = None


def handler(event: dict[str, Any], context: Context) -> dict[str, Any]:
    """The function of the schedule, and the stack's first look, so that nobody is told that nobody looks."""
    if "ResponseURL" in event:
        return _first_look(event, context)
    return run(_runtime(context.invoked_function_arn), system_clock())


def _first_look(event: dict[str, Any], context: Context) -> dict[str, Any]:
    """Whatever comes of it, the stack goes on: what does not work has its alarms."""
    seconds_left = context.get_remaining_time_in_millis() / SECOND_MS
    answer = Answer(event, "crr-monitor-first-look", seconds_left, ("SUCCESS", "time ran out before it had looked"))
    done: dict[str, Any] = {}
    try:
        if event.get("RequestType") != "Delete":
            done = run(_runtime(context.invoked_function_arn), system_clock())
    except Exception as error:
        # The edge of the process: an unanswered request would hold the stack.
        answer.give("SUCCESS", f"{type(error).__name__}: {error}")
        raise
    answer.give("SUCCESS", "looked")
    return done


@functools.cache
def _runtime(function_arn: str) -> Runtime:
    settings = from_environment(WatchSettings, environment())
    return make_runtime(settings, function_arn)


def make_runtime(settings: WatchSettings, function_arn: str) -> Runtime:
    """Clients and store; nothing is called yet."""
    _, partition, _, region, account, *_ = function_arn.split(":")
    boto3, make = importlib.import_module("boto3"), importlib.import_module("botocore.config").Config
    address = parse_address(settings.store)
    place = {"region_name": address.region or region, "endpoint_url": address.endpoint}
    table = boto3.client("dynamodb", **place, config=make(**CLIENT_OPTIONS))
    looking = Watch(
        detail=settings.metrics_detail,
        overdue_ms=settings.overdue_seconds * SECOND_MS,
        rpo_ms=settings.rpo_seconds * SECOND_MS,
        command=f"crr-monitor --store '{settings.store}&region={region}'",
        pace=Pace(gone_ms=settings.pause_seconds * SECOND_MS),
    )
    sessions = Sessions(account, partition=partition, endpoint_url=address.endpoint, options=QUICK)
    return Runtime(
        DynamoStore(table, address.status, address.statistics),
        looking,
        sns.SnsSender(boto3.client("sns", **place, config=make(**sns.OPTIONS)), settings.topic_arn),
        boto3.client("cloudwatch", **place, config=make(**cloudwatch.OPTIONS)),
        functools.partial(ask_undelivered, sessions, _stack(settings, partition, region, account)),
        settings.metrics_namespace,
        Coverage(sessions, region, settings) if settings.archive_place else None,
    )


def _stack(settings: WatchSettings, partition: str, region: str, account: str) -> Stack:
    """As much of the stack as its names need."""
    return Stack(
        kind="hub",
        stack_id="",
        token=settings.token,
        account=account,
        region=region,
        partition=partition,
        hub_account=account,
        hub_token=settings.token,
        hub_bus_arn="",
        own_bus_arn="",
        forward_role_arn="",
    )


def ask_undelivered(sessions: Sessions, stack: Stack) -> tuple[int | None, list[str]]:
    """How many events wait undelivered; ``None`` where none is known of and not all Regions could be asked.

    That a Region is out of reach is in the log only: its copies are overdue, of which people are told.
    """
    try:
        found, problems, out_of_reach = undelivered(sessions, stack, Record(sessions, stack))
    except AwsError as error:
        return None, [f"it is not known in which Regions there are queues for undelivered events: {error}"]
    if out_of_reach:
        write("WARNING", "out of reach", regions=out_of_reach)
    number = sum(found.values())
    return (None if (problems or out_of_reach) and not number else number), problems


def run(runtime: Runtime, now: int) -> dict[str, Any]:
    """One look; the answer is what the log says.

    Raises:
        WatchFailedError: something could not be done.
    """
    number, problems = runtime.ask()
    try:
        seen = watch(runtime.store, runtime.settings, [runtime.sender], now, number)
    except StoreError as error:
        write("ERROR", "not watched", reason=str(error))
        raise WatchFailedError(str(error)) from error
    problems += seen.problems
    try:
        published = cloudwatch.publish(runtime.cloudwatch, seen.points, now, runtime.namespace)
    except PublishError as error:
        problems.append(str(error))
        published = 0
    if runtime.coverage is not None:
        problems += runtime.coverage.tell(runtime.store, now)
    done = {
        "pairs": len(seen.now.pairs),
        "published": published,
        "sent": [notice.subject for notice in seen.sent],
        "problems": problems,
    }
    write("ERROR" if problems else "INFO", "watched", **done)
    if problems:
        message = "; ".join(problems)
        raise WatchFailedError(message)
    return done
