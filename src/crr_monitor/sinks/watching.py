"""One look at how it is: figures to publish, troubles to tell, and what has to be remembered until the next look.

The AWS system looks on a schedule (``lambdas/watch.py``), the embedded monitor in its process. What is remembered is in
small documents in the store, so that a new process goes on where the old one was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct, field

from crr_monitor.core.agent_notes import AGENTS_NOTE, agent_troubles, decode_agents
from crr_monitor.core.notices import (
    CANARY_NOTE,
    UNANSWERED_NOTE,
    Notice,
    Pace,
    bundled,
    decide,
    decode_canaries,
    decode_unanswered,
    new_lags,
    remember,
    silent_buckets,
    told_from,
    unanswered_troubles,
)
from crr_monitor.core.times import HOUR_MS, MINUTE_MS, SECOND_MS
from crr_monitor.core.troubles import Trouble
from crr_monitor.process.figures import RPO_SECONDS
from crr_monitor.sinks.now import Now, look, newest_by_account
from crr_monitor.sinks.points import Monitor, Point, of_monitor, of_now
from crr_monitor.sinks.senders import SendError
from crr_monitor.sinks.words import Detail
from crr_monitor.stores.base import Counts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from crr_monitor.core.notices import Flight, Unanswered
    from crr_monitor.sinks.senders import Sender
    from crr_monitor.stores.base import Store

OVERDUE_MS = 30 * MINUTE_MS
"""Later than S3 is asked about what is overdue, so that an event that was lost is no alarm."""

GROWTH_MS = HOUR_MS // 2
GROWTH_LEAST_MS = 15 * MINUTE_MS
"""Growth is measured over half an hour, and told of once it was seen for this long."""

FAILING_MS = HOUR_MS
"""So long it is published of a source bucket that none of its copies is failed any more, so that its alarm ends."""

NOTE = "watch"


class Watch(Struct, frozen=True, kw_only=True):
    """How to look. ``command`` is how people call us, with the store; see :func:`crr_monitor.core.notices.decide`."""

    detail: Detail = "Totals"
    overdue_ms: int = OVERDUE_MS
    rpo_ms: int = RPO_SECONDS * SECOND_MS
    command: str = "crr-monitor"
    pace: Pace = field(default_factory=Pace)


class Remembered(Struct, frozen=True):
    """From the looks before: how many copies were late at each (time, number), and what had been counted.

    ``failing``: source buckets that had failed copies, with the time of the last look that saw some. ``newest``: the
    newest event of each account. ``canaries``: those whose lag was published, by pair, as when they were written.
    """

    late: list[tuple[int, int]] = field(default_factory=list)
    counts: Counts | None = None
    failing: dict[str, int] = field(default_factory=dict)
    newest: dict[str, int] | None = None
    canaries: dict[str, list[int]] = field(default_factory=dict)


class Seen(Struct):
    """What came of one look. ``problems`` are notices that could not be sent, each with its reason."""

    points: list[Point]
    now: Now
    monitor: Monitor
    sent: list[Notice] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def watch(store: Store, settings: Watch, senders: Sequence[Sender], now: int, undeliverable: int | None = None) -> Seen:
    """Look, tell, remember; ``now`` in milliseconds. ``undeliverable``: events that rules and topics have given up.

    Those of agents are added, as set-up found them in its last run.

    Raises:
        StoreError: the store could not be asked or written, so nothing is known and nothing is called over.
    """
    before = _remembered(store)
    state = look(store, now, overdue_ms=settings.overdue_ms, rpo_ms=settings.rpo_ms)
    unanswered = decode_unanswered(store.note(UNANSWERED_NOTE))
    state.silent = silent_buckets(unanswered or ())
    counts = store.counts()
    late = [each for each in before.late if each[0] >= now - GROWTH_MS] + [(now, state.late)]
    agents = decode_agents(store.note(AGENTS_NOTE))
    found = [*troubles(state), *unanswered_troubles(unanswered or []), *agent_troubles(agents)]
    sent, problems = _tell(store, found, settings, senders, now)
    flights = decode_canaries(store.note(CANARY_NOTE))
    monitor = _monitor(before.counts or counts, counts, unanswered, flights, now)
    monitor = msgspec.structs.replace(
        monitor,
        backlog_growth=growth(late),
        unsent=len(problems),
        undeliverable=undeliverable if not agents.events else agents.events + (undeliverable or 0),
        canary_lags=new_lags(flights, before.canaries),
    )
    failing = {source: at for source, at in before.failing.items() if at >= now - FAILING_MS}
    failing |= {source: now for (source, _), pair in state.pairs.items() if source and pair.failed}
    newest = newest_by_account(store, now, before.newest)
    told = {name: [*flight.lags] for name, flight in flights.items()}
    store.keep_note(NOTE, msgspec.json.encode(Remembered(late, counts, failing, newest, told)))
    pairs = {(pair.source.bucket, pair.destination.bucket) for pair in store.topology().pairs()}
    points = of_now(state, settings.detail, pairs if settings.detail == "PerPair" else (), failing)
    points += of_monitor(monitor, newest, now, settings.detail)
    return Seen(points, state, monitor, sent, problems)


def troubles(state: Now) -> list[Trouble]:
    """What is wrong now: per pair what failed by reason, and what is overdue.

    Where S3 gives no answer nothing is told to be overdue: it is not known, and the missing answer is told.
    """
    found = []
    for (source, destination), pair in sorted(state.pairs.items()):
        for reason, amount in sorted(pair.failed.items()):
            found.append(Trouble("failed", source, destination, reason, amount.objects, amount.bytes, amount.since))
        late = pair.overdue
        if late.objects and state.answers((source, destination)):
            found.append(Trouble("overdue", source, destination, "", late.objects, late.bytes, late.since))
    return found


def growth(late: Sequence[tuple[int, int]]) -> int:
    """By how much the number grew over looks at which it never fell, if they are long enough apart; else 0."""
    numbers = [number for _, number in late]
    if late[-1][0] - late[0][0] < GROWTH_LEAST_MS or numbers != sorted(numbers):
        return 0
    return numbers[-1] - numbers[0]


def _remembered(store: Store) -> Remembered:
    body = store.note(NOTE)
    if body is None:
        return Remembered()
    try:
        return msgspec.json.decode(body, type=Remembered)
    except msgspec.MsgspecError:
        return Remembered()


def _monitor(
    before: Counts,
    counts: Counts,
    unanswered: Iterable[Unanswered] | None,
    flights: Mapping[str, Flight],
    now: int,
) -> Monitor:
    asked = None if unanswered is None else list(unanswered)
    return Monitor(
        taken=max(0, counts.events - before.events),
        ignored=max(0, sum(counts.ignored.values()) - sum(before.ignored.values())),
        malformed=max(0, counts.malformed - before.malformed),
        could_not_ask=None if asked is None else sum(each.objects for each in asked if not each.throttled),
        throttled=None if asked is None else sum(each.objects for each in asked if each.throttled),
        canary_age_ms=max((now - flight.at for flight in flights.values()), default=None),
    )


def _tell(
    store: Store, found: Sequence[Trouble], settings: Watch, senders: Sequence[Sender], now: int
) -> tuple[list[Notice], list[str]]:
    """Tell every receiver what it has to know; what each was told is kept as soon as it was."""
    all_sent: list[Notice] = []
    problems: list[str] = []
    for sender in senders:
        name = f"told:{sender.name}"
        body = store.note(name)
        told = told_from(body)
        sent: list[Notice] = []
        for message, notices in bundled(decide(found, told, now, settings.command, settings.pace)):
            try:
                sender.send(message)
            except SendError as error:
                problems.append(f"{message.subject}: {error}")
            else:
                sent += notices
                all_sent.append(message)
        after = remember(told, found, sent, now).to_bytes()
        if after != body:
            store.keep_note(name, after)
    return all_sent, problems
