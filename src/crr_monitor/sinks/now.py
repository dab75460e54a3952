"""How it is now: what is pending and what failed, per pair, from the open records and the statistics, without a scan.

Few open records (:data:`FEW`) are read one by one, so that all figures are exact. Where there are more, the statistics
since the oldest open record tell the numbers, in slots of five minutes: an age is then that of a slot's beginning, and
nothing is told of bytes by reason.
"""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING

from msgspec import Struct, field

from crr_monitor.core.failures import explain
from crr_monitor.core.model import Status
from crr_monitor.core.statistics import SLOT_MS, UNKNOWN_REASON, Cell, shares
from crr_monitor.core.times import DAY_MS, HOUR_MS, MINUTE_MS
from crr_monitor.process.figures import rpo_json
from crr_monitor.stores.base import Query

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from crr_monitor.core.model import Copy, Record
    from crr_monitor.core.statistics import Share
    from crr_monitor.stores.base import Store

FEW = 2_000
"""Open records that are read one by one; more are counted by the statistics."""

LATE_MS = 5 * MINUTE_MS
"""Pending for longer than this is not just under way: what the growth of the backlog is measured by."""

UNREPAIRABLE_MS = DAY_MS
"""So long after it failed a copy counts as failed that no retry repairs; then it would only hide what can be mended."""

RPO_WINDOW_MS = HOUR_MS
NEWEST_WINDOW_MS = 2 * DAY_MS
"""How far back the newest event of an account is looked for."""


class Amount(Struct):
    """Copies, their bytes where they are known, and the time of the first write among them (milliseconds)."""

    objects: int = 0
    bytes: int | None = 0
    since: int | None = None

    def add(self, objects: int, size: int | None, at: int) -> None:
        """Add copies of versions that were written at a time or later."""
        self.objects += objects
        self.bytes = None if size is None or self.bytes is None else self.bytes + size
        self.since = at if self.since is None else min(self.since, at)


class PairNow(Struct):
    """One pair: pending in all, the part of it that is late or overdue, and failed by reason."""

    pending: Amount = field(default_factory=Amount)
    late: Amount = field(default_factory=Amount)
    overdue: Amount = field(default_factory=Amount)
    failed: dict[str, Amount] = field(default_factory=dict)


Pair = tuple[str, str]
"""Source and destination; empty where unknown."""


class Now(Struct):
    """All pairs that have something open, at one moment. ``shares`` are RPO shares (0..1) where there is any.

    ``silent`` are buckets about which S3 gives no answer.
    """

    at: int
    pairs: dict[Pair, PairNow] = field(default_factory=dict)
    shares: dict[Pair, float] = field(default_factory=dict)
    share: float | None = None
    silent: frozenset[str] = frozenset()

    def pair(self, source: str, destination: str) -> PairNow:
        """The pair's figures, to add to."""
        return self.pairs.setdefault((source, destination), PairNow())

    def answers(self, pair: Pair) -> bool:
        """Whether S3 answers about source and destination, so that what is pending there is known to be."""
        return self.silent.isdisjoint(pair)

    @property
    def late(self) -> int:
        """Copies that are pending for more than :data:`LATE_MS`."""
        return sum(pair.late.objects for pair in self.pairs.values())


def look(store: Store, now: int, *, overdue_ms: int, rpo_ms: int) -> Now:
    """Read how it is; raises ``StoreError``.

    ``overdue_ms`` is the age from which on a pending copy is overdue, ``rpo_ms`` the target of the RPO share.
    """
    found = Now(now)
    few = list(islice(_open(store), FEW + 1))
    if len(few) <= FEW:
        for record in few:
            for copy, share in zip(record.visible_copies, shares(record), strict=True):
                if not _is_past(copy, now):
                    _add(found, share, record.sort_at, overdue_ms)
    else:
        _add_cells(found, store, overdue_ms)
    _add_shares(found, store, rpo_ms)
    return found


def _open(store: Store) -> Iterator[Record]:
    yield from store.records(Query(status=Status.FAILED))
    yield from store.records(Query(status=Status.PENDING))


def _is_past(copy: Copy, now: int) -> bool:
    """Whether it failed for good, and long enough ago; it stays FAILED, and is listed as that."""
    reason = explain(copy.failure_reason)
    hopeless = copy.status is Status.FAILED and reason is not None and not reason.retry
    return hopeless and copy.failed_at is not None and now - copy.failed_at >= UNREPAIRABLE_MS


def _add(found: Now, share: Share, at: int, overdue_ms: int) -> None:
    pair = found.pair(share.key.source, share.key.destination)
    if share.status is Status.FAILED:
        pair.failed.setdefault(share.reason or UNKNOWN_REASON, Amount()).add(1, share.size, at)
    elif share.status is Status.PENDING:
        _add_pending(pair, (1, share.size, at), found.at - at, overdue_ms)


def _add_pending(pair: PairNow, amount: tuple[int, int, int], age: int, overdue_ms: int) -> None:
    pair.pending.add(*amount)
    if age > LATE_MS:
        pair.late.add(*amount)
    if age > overdue_ms:
        pair.overdue.add(*amount)


def _add_cells(found: Now, store: Store, overdue_ms: int) -> None:
    oldest = [at for at in (store.oldest(Status.FAILED), store.oldest(Status.PENDING)) if at is not None]
    if not oldest:
        return
    for key, cell in store.cells(min(oldest) // SLOT_MS * SLOT_MS, None, unsettled=True):
        begin = key.slot * SLOT_MS
        if cell.pending > 0:
            # A whole slot is overdue when the youngest in it is: later by a slot at most, and never too early.
            age = _youngest(found, key.slot)
            pair = found.pair(key.source, key.destination)
            _add_pending(pair, (cell.pending, cell.pending_bytes, begin), age, overdue_ms)
        for reason, count in cell.reasons.items():
            pair = found.pair(key.source, key.destination)
            pair.failed.setdefault(reason, Amount()).add(count, None, begin)


def _youngest(found: Now, slot: int) -> int:
    return found.at - ((slot + 1) * SLOT_MS - 1)


def _add_shares(found: Now, store: Store, rpo_ms: int) -> None:
    """Objects only: delete markers are outside AWS's SLA, and so outside the RPO."""
    cells: dict[Pair, Cell] = {}
    overdue: Counter[Pair] = Counter()
    for key, cell in store.cells(found.at - RPO_WINDOW_MS, None):
        if not key.delete_marker:
            pair = (key.source, key.destination)
            cells.setdefault(pair, Cell()).add(cell)
            if _youngest(found, key.slot) > rpo_ms:
                overdue[pair] += cell.pending
    within = missed = 0
    for pair, cell in cells.items():
        rpo = rpo_json(cell, overdue[pair], rpo_ms)
        within, missed = within + rpo["within"], missed + rpo["missed"]
        if rpo["within"] + rpo["missed"]:
            found.shares[pair] = rpo["within"] / (rpo["within"] + rpo["missed"])
    if within + missed:
        found.share = within / (within + missed)


def newest_by_account(store: Store, now: int, known: Mapping[str, int] | None = None) -> dict[str, int]:
    """Of each account the time (milliseconds, to five minutes) of the newest write or replica.

    Looks back over two days, or with what was ``known`` at an earlier look over an hour.
    """
    accounts = {config.bucket: config.account for config in store.topology().configs if config.account}
    found = {account: at for account, at in (known or {}).items() if account in accounts.values()}
    since = now - (NEWEST_WINDOW_MS if known is None else HOUR_MS)
    for key, cell in store.cells(since, None):
        at = min(now, (key.slot + 1) * SLOT_MS)
        arrived = cell.completed > cell.unknown_lag
        for bucket, seen in ((key.source, cell.objects > 0), (key.destination, arrived)):
            account = accounts.get(bucket)
            if seen and account:
                found[account] = max(at, found.get(account, 0))
    return found
