"""The port to a store: what every store promises, and the contract suite (``tests/stores/contract.py``) tests."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from heapq import nsmallest
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct, field
from msgspec.structs import replace

from crr_monitor.core.evidence import Evidence
from crr_monitor.core.merge import merge
from crr_monitor.core.model import Record, Status
from crr_monitor.core.statistics import Share, shares
from crr_monitor.core.status import derive
from crr_monitor.core.times import DAY_MS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from crr_monitor.core.statistics import Cell, CellKey
    from crr_monitor.core.topology import BucketConfig, Topology

VersionKey = tuple[str, str]
"""Key and version id: together they name an object version in every bucket."""


class StoreError(Exception):
    """The store could not do it: broken or locked file, full disk, newer schema. The text says what, and what to do."""


class Retention(Struct, frozen=True):
    """How long things are kept after their last change in the store, by the store's clock, in milliseconds.

    It does not matter how old the events are, so logs of any age can be studied. What is unsettled (pending, failed,
    uncertain) stays longer and then leaves with a trace in the statistics, which stay longest.
    """

    settled: int = DAY_MS
    unsettled: int = 14 * DAY_MS
    statistics: int = 400 * DAY_MS

    def __post_init__(self) -> None:
        if not 0 < self.settled <= self.unsettled <= self.statistics:
            message = "settled records may not stay longer than unsettled ones, nor these longer than statistics"
            raise ValueError(message)


class Position(Struct, frozen=True):
    """How far a source was read: ``position`` is the source's own number, ``read_bytes`` the raw bytes up to it.

    ``fingerprint`` tells whether the source still begins with what it began with then.
    """

    source: str
    position: int
    read_bytes: int = 0
    done: bool = False
    fingerprint: str | None = None


class Counts(Struct):
    """What was read, since the store was made: the monitor's own figures."""

    messages: int = 0
    events: int = 0
    malformed: int = 0
    ignored: dict[str, int] = field(default_factory=dict)

    def add(self, other: Counts) -> None:
        """Add the counts of another step."""
        self.messages += other.messages
        self.events += other.events
        self.malformed += other.malformed
        for kind, count in other.ignored.items():
            self.ignored[kind] = self.ignored.get(kind, 0) + count


class Batch(Struct):
    """One step of a change: everything in it becomes durable together, or nothing of it.

    ``evidence`` is merged within the batch. ``newest_event`` is the latest time (milliseconds) that any event in it
    carries.
    """

    evidence: Mapping[VersionKey, Evidence] = field(default_factory=dict)
    positions: list[Position] = field(default_factory=list)
    counts: Counts = field(default_factory=Counts)
    newest_event: int | None = None


class Query(Struct, frozen=True):
    """Which records to list. ``since`` is inclusive, in milliseconds of ``written_at`` (or the first sighting)."""

    status: Status | None = None
    source: str | None = None
    destination: str | None = None
    prefix: str | None = None
    since: int | None = None
    until: int | None = None
    limit: int | None = None
    uncertain: bool = False


class Purged(Struct, frozen=True):
    """What one purge removed: settled records, unsettled ones that expired, and statistics cells."""

    settled: int = 0
    expired: int = 0
    cells: int = 0


class Newest(Struct, frozen=True):
    """The newest event's own time, and the store's clock when it came: both tell a replay from live traffic."""

    event_at: int
    stored_at: int


class Due(Struct, frozen=True):
    """A record about which S3 should be asked: ``asks`` times it was asked already, and due it is since ``due_at``."""

    record: Record
    asks: int
    due_at: int


class Asked(Struct, frozen=True):
    """S3 was asked about a version, now ``asks`` times in all; it is due again at ``due_at`` (milliseconds)."""

    key: str
    version_id: str
    asks: int
    due_at: int


class Look(Struct, frozen=True):
    """What :meth:`Store.look` gives. What is due since ``end`` or later was not looked at; ``None``: everything was."""

    dues: list[Due]
    end: int | None = None


EVER = -(10**15)
"""Before all that could be due, in milliseconds."""

LOOKED = 10
"""So many times the limit one look reads, in a store that cannot find by bucket what is due."""


class Store(Protocol):
    """Records, statistics and positions of one monitor.

    Any number of processes may read while one writes; a reader sees each batch whole or not at all. Two processes may
    also write: batches are applied one after the other. Every method may raise :class:`StoreError`.
    """

    def apply(self, batch: Batch) -> int:
        """Merge a batch and make it durable: records, statistics, position and counts in one transaction.

        Applying the same evidence again changes nothing but the counts. Killed at any moment, the store is as before
        or as after. Each settled copy is counted in the statistics once, ever: a record that retention removed and
        whose evidence comes again is listed again, and not counted again.

        Returns:
            How many listed records changed.
        """

    def versions(self, bucket: str, key: str, version_id: str | None = None) -> list[Record]:
        """The records of one object, newest write first: those with the bucket as source or as destination.

        Uncertain records are given too, and undecided ones for each bucket in which the version was written.
        """

    def records(self, query: Query) -> Iterator[Record]:
        """Listed records that match, newest write first. Streams: nothing is collected beforehand.

        Read a listing to its end before the same handle changes the store.
        A record matches ``destination`` if any copy goes there. ``uncertain`` lists what is uncertain instead.
        """

    def cells(self, since: int | None, until: int | None, *, unsettled: bool = False) -> Iterator[tuple[CellKey, Cell]]:
        """Statistics of the five-minute slots that begin in ``[since, until)`` (milliseconds).

        ``unsettled``: only cells with copies that are pending or failed, which are few among those of many days.
        """

    def pairs(self) -> list[tuple[str, str, str]]:
        """Source, destination and rule id (empty where unknown) of all that statistics were ever kept of, sorted."""

    def snapshot(self) -> AbstractContextManager[None]:
        """Within it, everything read is of one moment, whatever another process writes meanwhile."""

    def pending(self, since: int, until: int) -> Iterator[Share]:
        """The counted pending copies with ``since <= sort_at < until``; ``key.slot`` is the time in milliseconds."""

    def due(self, now: int, overdue: int, limit: int) -> list[Due]:
        """At most ``limit`` records to ask S3 about at ``now``, the longest due first.

        Only what is unsettled is ever due: pending, failed, uncertain. It is so ``overdue`` milliseconds after its
        ``sort_at``, and once it was asked about, when :meth:`asked` said. Nothing else is read: no scan.
        """

    def look(self, now: int, overdue: int, limit: int, begin: int | None = None) -> Look:
        """At most ``limit`` of all that :meth:`due` could ever give, spread over source buckets by :func:`spread`.

        So what waits behind very much of another bucket is found. Only what is due since ``begin`` or later is looked
        at. Where that is too much for one look, ``end`` says where the next one has to begin: looks in a row, each from
        the end of the one before, come past everything, however much one bucket has. Each reads :data:`LOOKED` times
        ``limit`` records, and what else is due since the same millisecond as the last one. A store that can find by
        bucket what is due sees all buckets in one look.
        """

    def asked(self, questions: Sequence[Asked]) -> None:
        """Remember that S3 was asked, and when the next question is due; what is settled or not known is left alone.

        It is no evidence: neither records nor statistics nor retention change by it. What changes a record, so that it
        is worth a new look, makes the store forget it.
        """

    def oldest(self, status: Status) -> int | None:
        """``sort_at`` of the oldest listed record that is ``PENDING`` or ``FAILED``; ``None`` where there is none."""

    def note(self, name: str) -> bytes | None:
        """The small document that was kept under a name, or ``None``: what a part of the monitor has to remember."""

    def keep_note(self, name: str, body: bytes | None) -> None:
        """Keep a document (at most 300 KB) in place of the one before, or with ``None`` none; the last writer wins."""

    def topology(self) -> Topology:
        """What was learned of replication rules."""

    def learn(self, configs: Sequence[tuple[BucketConfig, bool]]) -> Topology:
        """Learn configurations (with whether they state ``since``), by the store's clock; gives the whole topology."""

    def position(self, source: str) -> Position | None:
        """How far a source was read, or ``None``."""

    def counts(self) -> Counts:
        """Everything counted since the store was made."""

    def newest(self) -> Newest | None:
        """The newest event seen, or ``None`` of an empty store."""

    def purge(self, limit: int = 20_000) -> Purged:
        """Remove what the retention no longer keeps, at most ``limit`` records; repeat it until it removes nothing."""

    def close(self) -> None:
        """Release everything. The store cannot be used afterwards."""


class Change(Struct, frozen=True):
    """What a step does to one record."""

    evidence: Evidence
    record: Record
    old: list[Share]
    new: list[Share]
    listed: bool


def advance(known: Evidence | None, news: Evidence) -> Change | None:
    """The effect of new evidence on what is known, or ``None`` if it tells nothing new."""
    if known is None:
        record = derive(news)
        return Change(news, record, [], shares(record), record.status > Status.UNCERTAIN)
    merged = merge(known, news)
    if merged == known:
        return None
    before, record = derive(known), derive(merged)
    listed = record.status > Status.UNCERTAIN or before.status > Status.UNCERTAIN
    return Change(merged, record, shares(before), shares(record), listed)


def spread(walk: Iterable[Due], limit: int) -> list[Due]:
    """At most ``limit`` of what is due, evenly over source buckets (what has none that is known counts as of one).

    The buckets take turns, in each turn the longest due first: so what is due of a small bucket is all there before a
    large one gets more. Of one bucket the first in ``walk`` are taken. The result is in order, the longest due first.
    """
    turns: Counter[str | None] = Counter()

    def in_turns() -> Iterator[tuple[int, int, int, Due]]:
        for number, due in enumerate(walk):
            turns[due.record.source_bucket] += 1
            yield turns[due.record.source_bucket], due.due_at, number, due

    return sorted((due for *_, due in nsmallest(limit, in_turns())), key=lambda due: due.due_at)


def look_along(walk: Iterable[Due], limit: int) -> Look:
    """What :meth:`Store.look` gives of a walk that has all buckets in one, the longest due first."""
    end: int | None = None

    def portion() -> Iterator[Due]:
        nonlocal end
        last: int | None = None
        for number, due in enumerate(walk):
            if number >= limit * LOOKED and last is not None and due.due_at > last:
                end = due.due_at
                return
            last = due.due_at
            yield due

    found = spread(portion(), limit)
    return Look(found, end)


def matches(record: Record, query: Query) -> bool:
    """Whether a record is asked for; ``limit`` is left to the caller."""
    if query.uncertain:
        if not record.uncertain:
            return False
    elif record.status <= Status.UNCERTAIN:
        return False
    return (
        (query.status is None or record.status is query.status)
        and (query.source is None or record.source_bucket == query.source)
        and (query.destination is None or any(copy.bucket == query.destination for copy in record.copies))
        and (query.prefix is None or record.key.startswith(query.prefix))
        and (query.since is None or record.sort_at >= query.since)
        and (query.until is None or record.sort_at < query.until)
    )


def is_about(record: Record, bucket: str) -> bool:
    """Whether the bucket is the record's source or one of its destinations, or may yet turn out to be."""
    return (
        record.source_bucket == bucket
        or any(copy.bucket == bucket for copy in record.copies)
        or bucket in record.seen_in
    )


def system_clock() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def pending_shares(records: Iterable[Record]) -> Iterator[Share]:
    """The pending copies of records, as :meth:`Store.pending` gives them."""
    for record in records:
        for share in shares(record):
            if share.status is Status.PENDING:
                yield replace(share, key=share.key._replace(slot=record.sort_at))
