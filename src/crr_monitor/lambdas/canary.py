"""Canaries, on a schedule: notes which have arrived, removes what is over on both sides, and writes new ones.

In this order, so that each run judges what the ones before it wrote. What could not be done makes the function fail at
its end, so that its error metric tells; the rest is done all the same. As a custom resource it writes the first
canaries, and removes all when they are switched off, with the note that their age is published from.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from msgspec import Struct, field, to_builtins

from crr_monitor.aws.canary import QUICK, CanaryBuckets
from crr_monitor.aws.sessions import AwsError
from crr_monitor.core import hearing
from crr_monitor.core.canary import Canary, arrivals, is_over, pair_name, plan
from crr_monitor.core.notices import CANARY_NOTE, Flight, decode_canaries, encode_canaries
from crr_monitor.core.reconcile import Place
from crr_monitor.core.times import SECOND_MS
from crr_monitor.environment import environment
from crr_monitor.lambdas.log import write
from crr_monitor.lambdas.reach import reach
from crr_monitor.lambdas.response import Answer, Late
from crr_monitor.lambdas.settings import CanarySettings, from_environment
from crr_monitor.stores.base import Store, StoreError, system_clock
from crr_monitor.stores.dynamodb import open_store

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from crr_monitor.core.model import Record
    from crr_monitor.lambdas.context import Context

PHYSICAL_ID = "crr-monitor-canary"
REFUSED = "the tables refuse: {}"
LATE: Late = ("SUCCESS", "time ran out before all was done: the next run goes on, and canaries that stay are harmless")

Fitness: TypeAlias = Literal["fit", "refused", "unknown"]
There: TypeAlias = dict[Place, list[tuple[int, bool]]]
"""Of the canaries in a bucket when they were written, and whether their event came."""


class CanaryFailedError(Exception):
    """Part of a run could not be done; the text says which, and why."""


class Runtime(Struct, frozen=True):
    """What a function keeps from one run to the next."""

    store: Store
    buckets: CanaryBuckets
    settings: CanarySettings


class Report(Struct):
    """What a run did: keys written by source bucket, versions removed by bucket, lag of each pair (seconds)."""

    written: dict[str, int] = field(default_factory=dict)
    removed: dict[str, int] = field(default_factory=dict)
    lag_seconds: dict[str, float | None] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def handler(event: dict[str, Any], context: Context) -> dict[str, Any]:
    """The function of the schedule, and the stack's custom resource."""
    runtime = _runtime(context.invoked_function_arn)
    if "ResponseURL" in event:
        return _for_cloudformation(runtime, event, context)
    return _told(run(runtime, system_clock()))


def _for_cloudformation(runtime: Runtime, event: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """Whatever comes of it, the stack goes on: what does not work has its alarms, and the stack's output names it."""
    answer = Answer(event, PHYSICAL_ID, context.get_remaining_time_in_millis() / SECOND_MS, LATE)
    try:
        if event.get("RequestType") == "Delete":
            report = clean(runtime, runtime.settings.pairs, system_clock())
            runtime.store.keep_note(CANARY_NOTE, None)  # an age that nobody renews would be an alarm
            runtime.store.keep_note(hearing.NOTE, None)
        else:
            before = event.get("OldResourceProperties", {}).get("Pairs", "").split(",")
            gone = [each for each in before if each and each not in runtime.settings.pairs]
            report = clean(runtime, gone, system_clock()) if gone else Report()
            report.problems += run(runtime, system_clock()).problems
    except Exception as error:
        # The edge of the process: an unanswered request would hold the stack.
        text = f"{type(error).__name__}: {error}"
        answer.give("SUCCESS", text, {"Summary": text})
        raise
    summary = "; ".join(report.problems) or "canaries fly"
    answer.give("SUCCESS", summary, {"Summary": summary})
    return dict(to_builtins(report))


@functools.cache
def _runtime(function_arn: str) -> Runtime:
    return make_runtime(from_environment(CanarySettings, environment()), function_arn)


def make_runtime(settings: CanarySettings, function_arn: str) -> Runtime:
    """Store and clients; nothing is called yet."""
    sessions, region = reach(function_arn, settings.store, settings.agent_role_name, QUICK)
    return Runtime(open_store(settings.store), CanaryBuckets(sessions, region), settings)


def _told(report: Report) -> dict[str, Any]:
    told = to_builtins(report)
    write("ERROR" if report.problems else "INFO", "canaries", **told)
    if report.problems:
        message = "; ".join(report.problems)
        raise CanaryFailedError(message)
    return dict(told)


def run(runtime: Runtime, now: int) -> Report:
    """One round, ``now`` in milliseconds; raises ``CanaryFailedError`` where the tables refuse."""
    try:
        planned, problems = plan(runtime.store.topology(), runtime.settings.pairs, runtime.settings.token, now)
        report = Report(problems=problems)
        fitness = [(canary, _fitness(runtime.buckets, canary, report)) for canary in planned]
        canaries = [canary for canary, fit in fitness if fit != "refused"]
        known = decode_canaries(runtime.store.note(CANARY_NOTE))
        arrived: dict[str, dict[int, int | None]] = {}
        there: There = {}
        for canary, fit in fitness:
            _tidy(runtime, canary, now, arrived, there, report)
            if fit == "fit":
                _write(runtime.buckets, canary, report)
        runtime.store.keep_note(CANARY_NOTE, encode_canaries(newest(canaries, known, arrived, now)))
        _listen(runtime.store, planned, there, now)
    except StoreError as error:
        raise CanaryFailedError(REFUSED.format(error)) from error
    return report


def _listen(store: Store, planned: Iterable[Canary], there: There, now: int) -> None:
    """Note of each bucket whether its canaries are heard; one that could not be looked at stays as it was."""
    known = hearing.heard_from(store.note(hearing.NOTE)).buckets
    buckets = {place.bucket for canary in planned for place in (canary.source, *canary.destinations)}
    found = {bucket: each for bucket, each in known.items() if bucket in buckets}
    found |= {place.bucket: hearing.listen(known.get(place.bucket), place, some, now) for place, some in there.items()}
    store.keep_note(hearing.NOTE, hearing.Heard(now, found).to_bytes())


def newest(
    canaries: Iterable[Canary],
    known: Mapping[str, Flight],
    arrived: Mapping[str, Mapping[int, int | None]],
    now: int,
) -> dict[str, Flight]:
    """What is kept of each pair that has a canary; one of which none has ever arrived is given time from now.

    ``arrived`` has by pair the lags of canaries that are there, by when they were written; milliseconds.
    """
    found = {}
    for name in (pair_name(canary.source.bucket, each) for canary in canaries for each in canary.asked):
        lags = arrived.get(name, {})
        found[name] = known.get(name, Flight(0 if lags else now)).arrived(lags)
    return found


def _fitness(buckets: CanaryBuckets, canary: Canary, report: Report) -> Fitness:
    """Whether what is written can be removed again everywhere.

    Where that cannot be found out nothing is written; as the pair keeps its place in the note, its age goes on.
    """
    found: Fitness = "fit"
    for place in (canary.source, *canary.destinations):
        try:
            if buckets.keeps(place):
                text = "its Object Lock has a default retention, so canaries could not be removed: take it off the list"
                report.problems.append(f"canary {canary.source.bucket}: bucket {place.bucket} is refused, {text}")
                found = "refused"
        except AwsError as error:
            report.problems.append(_refused(canary, place, error))
            found = "refused" if found == "refused" else "unknown"
    return found


def _tidy(  # noqa: PLR0913, PLR0917 - what it finds goes three ways
    runtime: Runtime,
    canary: Canary,
    now: int,
    arrived: dict[str, dict[int, int | None]],
    there: There,
    report: Report,
) -> None:
    """See what has arrived and what was heard of it, and remove what is over, in each bucket."""
    records: dict[str, Record | None] = {}
    for place in (canary.source, *canary.destinations):
        try:
            gone = []
            versions = runtime.buckets.versions(place, canary.key)
            heard = there.setdefault(place, [])
            for version in versions:
                if version.version_id not in records:
                    records[version.version_id] = _record(runtime.store, canary, version.version_id)
                heard.append((version.at, hearing.is_heard(records[version.version_id], place.bucket)))
                if is_over(records[version.version_id], version.at, now):
                    gone.append(version.version_id)
            _remove(runtime.buckets, place, canary.key, gone, report)
        except AwsError as error:
            report.problems.append(_refused(canary, place, error))
    for record in records.values():
        for name, at, lag_ms in () if record is None else arrivals(canary, record):
            if at >= max(arrived.setdefault(name, {}), default=0):
                report.lag_seconds[name] = None if lag_ms is None else lag_ms / SECOND_MS
            arrived[name][at] = lag_ms


def _record(store: Store, canary: Canary, version_id: str) -> Record | None:
    return next(iter(store.versions(canary.source.bucket, canary.key, version_id)), None)


def _remove(buckets: CanaryBuckets, place: Place, key: str, version_ids: Sequence[str], report: Report) -> None:
    buckets.remove(place, key, version_ids)
    if version_ids:
        report.removed[place.bucket] = report.removed.get(place.bucket, 0) + len(version_ids)


def _write(buckets: CanaryBuckets, canary: Canary, report: Report) -> None:
    try:
        buckets.write(canary.source, canary.key)
        report.written[canary.source.bucket] = report.written.get(canary.source.bucket, 0) + 1
    except AwsError as error:
        report.problems.append(_refused(canary, canary.source, error))


def _refused(canary: Canary, place: Place, error: AwsError) -> str:
    hint = ""
    if error.denied:
        hint = "; does the bucket's policy or a key forbid it, or, in another account, is its agent's AllowCanary true?"
    return f"canary {canary.source.bucket}, bucket {place.bucket}: {error}{hint}"


def clean(runtime: Runtime, pairs: Iterable[str], now: int) -> Report:
    """Remove every version of some pairs' canaries; raises ``CanaryFailedError`` where the tables refuse."""
    try:
        canaries, problems = plan(runtime.store.topology(), pairs, runtime.settings.token, now)
    except StoreError as error:
        raise CanaryFailedError(REFUSED.format(error)) from error
    report = Report(problems=problems)
    for canary in canaries:
        for place in (canary.source, *canary.destinations):
            try:
                found = [each.version_id for each in runtime.buckets.versions(place, canary.key)]
                _remove(runtime.buckets, place, canary.key, found, report)
            except AwsError as error:
                report.problems.append(_refused(canary, place, error))
    return report
