"""After a change of EventSource the old source goes on beside the new one, so that no event is missed.

A new source does not tell of a write from the first moment: a bucket's EventBridge switch takes about five minutes
(S3 User Guide, "Enabling Amazon EventBridge"), and CloudTrail delivers an event about five minutes after the call
("How CloudTrail works"). So rules, topics, the own trail and buckets' settings of the old source stay for an hour, and
longer while the new source does not reach every bucket. Then the hourly run removes them. An event that both tell is
counted once, as everything that is told twice.

The hub is changed first and its agents within that hour: until then their old events still find their way.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from msgspec import Struct, convert, field, to_builtins
from msgspec.structs import replace

from crr_monitor.aws.record import BUCKETS, SOURCES
from crr_monitor.aws.setup import Report, Situation, look, restore
from crr_monitor.aws.words import EventSource

if TYPE_CHECKING:
    from collections.abc import Callable

    from crr_monitor.aws.discovery import Discovery
    from crr_monitor.aws.plan_model import Stack
    from crr_monitor.aws.record import Record
    from crr_monitor.aws.sessions import Sessions
    from crr_monitor.aws.setup import Known

OVERLAP_SECONDS = 3_600.0
"""How long the old source goes on at least."""


class TooEarlyError(Exception):
    """What is asked for would end the old source too early; the text says when it can be done."""


class Sources(Struct, frozen=True):
    """The source of events, and those before it, each with the time (seconds since 1970) until which it has to stay."""

    current: EventSource
    retiring: dict[EventSource, float] = field(default_factory=dict)

    def changed_to(self, current: EventSource, now: float) -> Sources:
        """After a change to another source, or back; the same when nothing has changed."""
        if current == self.current:
            return self
        retiring = {**self.retiring, self.current: now + OVERLAP_SECONDS}
        retiring.pop(current, None)
        return Sources(current, retiring)

    def over(self, now: float) -> bool:
        """Whether no source has to stay any longer."""
        return bool(self.retiring) and all(until <= now for until in self.retiring.values())


def look_with_old_source(  # noqa: PLR0913, PLR0917 - as look, and a clock
    sessions: Sessions,
    stack: Stack,
    record: Record,
    found: Discovery,
    known: Known,
    clock: Callable[[], float] = time.time,
) -> tuple[Situation, Sources]:
    """As :func:`look`, for the present source and those that still go on; also what has to be remembered of them.

    It only asks: what it gives is to be remembered before anything is done.

    Raises:
        AwsError: as :func:`look`.
    """
    now = clock()
    sources = _remembered(stack, record).changed_to(stack.event_source, now)
    situation = look(sessions, replace(stack, retiring=tuple(sorted(sources.retiring))), record, found, known)
    if not sources.over(now):
        return replace(situation, notes=(*situation.notes, *_notes(sources))), sources
    if situation.unseen:
        note = f"{_names(sources)} goes on, as {stack.event_source} does not reach {', '.join(situation.unseen)} yet"
        return replace(situation, notes=(*situation.notes, note)), sources
    if situation.problems:
        return situation, sources
    return look(sessions, stack, record, found, known), Sources(stack.event_source)


def remember(record: Record, sources: Sources) -> None:
    """Keep the sources for the next run; raises ``AwsError``."""
    record.put(SOURCES, to_builtins(sources))


def _remembered(stack: Stack, record: Record) -> Sources:
    return convert(record.get(SOURCES) or {"current": stack.event_source}, Sources)


def _names(sources: Sources) -> str:
    return " and ".join(sorted(sources.retiring))


def _notes(sources: Sources) -> list[str]:
    return [
        f"{source} goes on beside {sources.current} until {_clock_time(until)}, so that no event is missed"
        for source, until in sorted(sources.retiring.items())
    ]


def _clock_time(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%MZ", time.gmtime(at))


def give_back(sessions: Sessions, stack: Stack, record: Record, clock: Callable[[], float] = time.time) -> Report:
    """Restore what set-up changed in buckets' settings, as it may not change them any more.

    CloudFormation takes the permission away after set-up has run: so this is the last moment.

    Raises:
        TooEarlyError: the settings are still needed by a source that goes on for a while.
    """
    report = Report()
    changed = record.get(BUCKETS) or {}
    if not changed:
        return report
    sources = _remembered(stack, record).changed_to(stack.event_source, clock())
    needing = [until for source, until in sources.retiring.items() if source != "CloudTrail"]
    if needing:
        message = (
            f"BucketSettings has to stay Change until about {_clock_time(max(needing))}: until then the event source"
            f" before {stack.event_source} goes on, so that no event is missed, and needs the changed settings"
        )
        raise TooEarlyError(message)
    restore(sessions, stack, record, sorted(changed), report)
    return report
