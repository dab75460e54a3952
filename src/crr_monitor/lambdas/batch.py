"""A batch of messages into the store: merged by object version first, then each version by itself.

Nothing here knows whether the messages came from a poll or from Lambda. What becomes of each is one of three:

done    what it told is stored, or it told nothing: it may be deleted
dead    it, or a record in it, can never be stored: it belongs into the dead-letter queue, with the reason. What else it
        told is stored
kept    the store could not take all of it now, or time ran out: it stays in its queue and comes again

One version is stored by itself, so that what goes wrong with it keeps back only the messages that tell of it. When
:data:`TOLERATED` versions failed, or there is no time left, the rest is not tried: who is throttled is not helped by
more calls.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct, field

from crr_monitor.aws.queue import Message
from crr_monitor.decode import Decoded, decode
from crr_monitor.lambdas.log import write
from crr_monitor.process.collect import collect
from crr_monitor.stores.base import Batch, Counts, StoreError, VersionKey

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import ThreadPoolExecutor

    from crr_monitor.core.evidence import Evidence
    from crr_monitor.core.topology import Topology

TOLERATED = 8
"""Versions that may fail before the rest is left for later: a few hot keys are no outage."""

RESERVE_SECONDS = 10.0
"""No update is begun when less time is left: what is under way, deleting and the log line need some."""

WORKERS = 4
"""Calls at a time. More only wait for the processor, of which a function of 512 MB has a third."""

NO_TIME = "no time left"
NOT_TRIED = "not tried, as others failed"
_REASONS = 3


class Store(Protocol):
    """What of a store is needed; see :class:`crr_monitor.stores.base.Store`."""

    def apply(self, batch: Batch) -> int: ...  # noqa: D102
    def topology(self) -> Topology: ...  # noqa: D102


class Outcome(Struct):
    """What became of each message; ``dead`` and ``kept`` with the reason.

    ``versions`` were stored, ``changed`` of them were news. ``stop`` says that going on makes no sense now.
    """

    done: list[Message] = field(default_factory=list)
    dead: list[tuple[Message, str]] = field(default_factory=list)
    kept: list[tuple[Message, str]] = field(default_factory=list)
    counts: Counts = field(default_factory=Counts)
    versions: int = 0
    changed: int = 0
    stop: bool = False


class _Stored(Struct):
    """What became of versions: those that the store refused for good, and those that it could not take now."""

    refused: dict[VersionKey, str] = field(default_factory=dict)
    failed: dict[VersionKey, str] = field(default_factory=dict)
    versions: int = 0
    changed: int = 0


def run_workers(pool: ThreadPoolExecutor, work: Callable[[], None]) -> None:
    """Run the same work on all workers; it takes its share from a common place."""
    for future in [pool.submit(work) for _ in range(WORKERS)]:
        future.result()


def process(
    messages: Sequence[Message], store: Store, pool: ThreadPoolExecutor, seconds_left: Callable[[], float]
) -> Outcome:
    """Store what messages tell, and say what becomes of each.

    Raises:
        StoreError: the topology could not be read, so that nothing was done.
    """
    outcome = Outcome()
    evidence: dict[VersionKey, Evidence] = {}
    read, newest = _read(messages, store.topology(), evidence, outcome.counts)
    stored = _store(evidence, store, pool, seconds_left)
    outcome.versions, outcome.changed, outcome.stop = stored.versions, stored.changed, bool(stored.failed)
    _count(store, outcome.counts, newest if stored.versions else None)
    for message, decoded in zip(messages, read, strict=True):
        _decide(message, decoded, stored, outcome)
    return outcome


def _read(
    messages: Sequence[Message], topology: Topology, evidence: dict[VersionKey, Evidence], counts: Counts
) -> tuple[list[Decoded], int | None]:
    """Decode all; gives what each message held, and the latest time in it."""
    read = []
    newest: int | None = None
    for message in messages:
        decoded = decode(message.data)
        latest = collect(decoded.events, topology, evidence)
        if latest is not None:
            newest = max(latest, newest or 0)
        counts.add(Counts(1, len(decoded.events), len(decoded.malformed), decoded.ignored))
        read.append(decoded)
    return read, newest


def _store(
    evidence: dict[VersionKey, Evidence],
    store: Store,
    pool: ThreadPoolExecutor,
    seconds_left: Callable[[], float],
) -> _Stored:
    waiting = deque(evidence.items())
    stored = _Stored()

    def work() -> None:
        changed = versions = 0
        while waiting and len(stored.failed) < TOLERATED and seconds_left() > RESERVE_SECONDS:
            try:
                version, news = waiting.popleft()
            except IndexError:
                break  # another worker took the last one
            try:
                changed += store.apply(Batch({version: news}))
            except StoreError as error:
                (stored.refused if is_too_large(error) else stored.failed)[version] = str(error)
            else:
                versions += 1
        counted.append((versions, changed))

    counted: list[tuple[int, int]] = []
    run_workers(pool, work)
    stored.versions, stored.changed = (sum(column) for column in zip(*counted, strict=True))
    why = NOT_TRIED if len(stored.failed) >= TOLERATED else NO_TIME
    stored.failed.update((version, why) for version, _ in waiting)
    return stored


def is_too_large(error: StoreError) -> bool:
    """Whether the store refuses a version for its size, now and ever.

    DynamoDB Developer Guide, "Error handling": a ``ValidationException``, told from others by its words only; so what
    is not understood counts as passing, and is tried again.
    """
    told = getattr(error.__cause__, "response", {}).get("Error", {})
    text = str(told.get("Message", "")).lower()
    return told.get("Code") == "ValidationException" and "size" in text and "exceed" in text


def _count(store: Store, counts: Counts, newest: int | None) -> None:
    """The monitor's own figures, after what they count; without them nothing is lost."""
    try:
        store.apply(Batch(counts=counts, newest_event=newest))
    except StoreError as error:
        write("WARNING", "the figures of what was read could not be stored", reason=str(error))


def _decide(message: Message, decoded: Decoded, stored: _Stored, outcome: Outcome) -> None:
    reasons = [bad.reason for bad in decoded.malformed]
    if stored.failed or stored.refused:
        versions = dict.fromkeys((event.key, event.version_id) for event in decoded.events)
        failed = [stored.failed[version] for version in versions if version in stored.failed]
        if failed:
            outcome.kept.append((message, failed[0]))
            return
        for version in versions:
            if version in stored.refused:
                key, version_id = version
                reasons.append(f"the store refuses {key!r} {version_id}: {stored.refused[version]}")
    if reasons:
        outcome.dead.append((message, summary(reasons)))
    else:
        outcome.done.append(message)


def summary(reasons: Sequence[str]) -> str:
    """The most frequent reasons, each once."""
    counted = Counter(reasons)
    texts = [text if number == 1 else f"{text} ({number} times)" for text, number in counted.most_common(_REASONS)]
    more = len(counted) - _REASONS
    return "; ".join(texts) + (f"; and {more} more" if more > 0 else "")
