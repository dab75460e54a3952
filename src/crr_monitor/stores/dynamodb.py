"""The store in DynamoDB: how it is written says :mod:`crr_monitor.stores.dynamodb_writing`; the rest is here.

Statistics are counted by :meth:`DynamoStore.settle` (:mod:`crr_monitor.stores.dynamodb_statistics`). No table is
scanned; a listing that would need it is refused.
"""

from __future__ import annotations

import heapq
from contextlib import nullcontext
from itertools import islice
from typing import TYPE_CHECKING, Any

from crr_monitor.core.model import Status
from crr_monitor.stores.base import (
    Purged,
    Retention,
    StoreError,
    is_about,
    matches,
    pending_shares,
    system_clock,
)
from crr_monitor.stores.dynamodb_calls import Table
from crr_monitor.stores.dynamodb_due import Questions
from crr_monitor.stores.dynamodb_items import (
    ASKED,
    FAILED,
    OR_MORE,
    PENDING,
    UNCERTAIN,
    Item,
    item_key,
    open_partition,
    read_item,
)
from crr_monitor.stores.dynamodb_statistics import Statistics
from crr_monitor.stores.dynamodb_tables import (
    KEY,
    OPEN_IN,
    OPEN_INDEX,
    OPEN_SHARDS,
    SORT_AT,
    connect,
    parse_address,
)
from crr_monitor.stores.dynamodb_writing import DynamoWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from crr_monitor.core.model import Record
    from crr_monitor.core.statistics import Cell, CellKey, Share
    from crr_monitor.stores.base import Asked, Counts, Due, Look, Newest, Position, Query
    from crr_monitor.stores.dynamodb_items import Attributes, Transition
    from crr_monitor.stores.dynamodb_tables import Client

PAGE = 100
"""Records read at once from one partition of the index: a listing merges all its partitions."""

FEW = 4
"""Read at once where only the oldest is asked for: some more than one, as it may be over and not yet removed."""

CLASSES = {
    Status.FAILED: (FAILED, FAILED + OR_MORE, FAILED + ASKED, FAILED + OR_MORE + ASKED),
    Status.PENDING: (PENDING, PENDING + OR_MORE, PENDING + ASKED, PENDING + OR_MORE + ASKED),
}
"""Where the index holds the records of a status."""

UNCERTAIN_CLASSES = tuple(
    name + asked for name in (UNCERTAIN, FAILED + OR_MORE, PENDING + OR_MORE) for asked in ("", ASKED)
)
_LAST = 10**18


class CannotListError(StoreError):
    """The listing would have to read the whole table; the text names what can answer instead."""


def open_store(url: str, retention: Retention = Retention(), *, workers: int = 8) -> DynamoStore:  # noqa: B008 - frozen
    """The store at ``dynamodb://TABLE[?region=R&endpoint=URL&statistics=TABLE]``; nothing is called yet.

    Raises:
        StoreError: the address is wrong, or boto3 or a Region is missing.
    """
    address = parse_address(url)
    return DynamoStore(connect(address), address.status, address.statistics, retention, workers=workers)


class DynamoStore(DynamoWriter):
    """See :class:`crr_monitor.stores.base.Store`, and for the options :class:`DynamoWriter`."""

    def __init__(  # noqa: PLR0913, PLR0917 - two tables, and what every store takes
        self,
        client: Client,
        status: str,
        statistics: str,
        retention: Retention = Retention(),  # noqa: B008 - frozen
        clock: Callable[[], int] = system_clock,
        step: Callable[[str], None] = lambda _name: None,
        *,
        workers: int = 1,
    ) -> None:
        super().__init__(client, status, statistics, retention, clock, step, workers=workers)
        self._statistics = Statistics(Table(client, statistics), retention, clock, step)
        self._questions = Questions(self._table, retention, clock, step)

    # ------------------------------------------------------------------ change

    def asked(self, questions: Sequence[Asked]) -> None:
        self._questions.asked(questions, map if self._pool is None else self._pool.map)

    def settle(self, shard: str, entries: Sequence[Mapping[str, Any]]) -> list[Transition]:
        """Count entries of one shard of the status table's change stream, exactly once however often they come.

        ``entries`` are ``Records`` as GetRecords or a Lambda event has them, in order. See :class:`Statistics`.
        """
        return self._statistics.settle(shard, entries)

    def purge(self, limit: int = 20_000) -> Purged:
        """Nothing: DynamoDB's TTL removes what is over, and its change stream tells :meth:`settle`."""
        del limit
        return Purged()

    # ------------------------------------------------------------------- read

    def versions(self, bucket: str, key: str, version_id: str | None = None) -> list[Record]:
        if version_id is None:
            items: list[Attributes | None] = list(
                self._table.query(
                    ConsistentRead=True,
                    KeyConditionExpression="#key = :key",
                    ExpressionAttributeNames={"#key": KEY},
                    ExpressionAttributeValues={":key": {"S": key}},
                )
            )
        else:
            items = [self._table.get(item_key(key, version_id))]
        records = [item.record for item in self._alive(items)]
        found = [record for record in records if record.status is not Status.HIDDEN and is_about(record, bucket)]
        return sorted(found, key=lambda record: -record.sort_at)

    def records(self, query: Query) -> Iterator[Record]:
        if query.uncertain:
            classes: tuple[str, ...] = UNCERTAIN_CLASSES
        elif query.status in CLASSES:
            classes = CLASSES[query.status]
        else:
            message = (
                f"table {self._table.name}: only what is FAILED, PENDING or uncertain can be listed without reading the"
                " whole table: name --status FAILED, --status PENDING or --uncertain; `crr-monitor status` tells of one"
                " object, and the archive (`crr-monitor query`) of all"
            )
            raise CannotListError(message)
        found = (item.record for item in self._walk(classes, query.since, query.until))
        return islice((record for record in found if matches(record, query)), query.limit)

    def _walk(self, classes: Sequence[str], since: int | None, until: int | None) -> Iterator[Item]:
        """Items of some classes of the index, newest first."""
        low, high = (-_LAST if since is None else since), (_LAST if until is None else until - 1)
        if low > high:
            return iter(())
        walks = [
            self._alive(self._index(open_partition(name, shard), low, high))
            for name in classes
            for shard in range(OPEN_SHARDS)
        ]
        return heapq.merge(*walks, key=lambda item: 0 if item.derived.place is None else -item.derived.place[1])

    def _index(self, partition: str, low: int, high: int, *, ascending: bool = False) -> Iterator[Attributes]:
        return self._table.query(
            FEW if ascending else PAGE,
            IndexName=OPEN_INDEX,
            ScanIndexForward=ascending,
            KeyConditionExpression="#open = :open AND #sort BETWEEN :low AND :high",
            ExpressionAttributeNames={"#open": OPEN_IN, "#sort": SORT_AT},
            ExpressionAttributeValues={":open": {"S": partition}, ":low": {"N": str(low)}, ":high": {"N": str(high)}},
        )

    def _alive(self, found: Iterator[Attributes] | Sequence[Attributes | None]) -> Iterator[Item]:
        """Those that are not over yet: DynamoDB leaves expired items readable until it gets round to them."""
        now = self._clock()
        for attributes in found:
            item = read_item(attributes)
            if item is not None and not item.expired(now):
                yield item

    def cells(self, since: int | None, until: int | None, *, unsettled: bool = False) -> Iterator[tuple[CellKey, Cell]]:
        return self._statistics.cells(since, until, unsettled=unsettled)

    def pairs(self) -> list[tuple[str, str, str]]:
        return self._statistics.pairs()

    def snapshot(self) -> AbstractContextManager[None]:
        """No more than a name here: each read is of its own moment."""
        return nullcontext()

    def pending(self, since: int, until: int) -> Iterator[Share]:
        items = self._walk([*CLASSES[Status.FAILED], *CLASSES[Status.PENDING]], since, until)
        while page := list(islice(items, PAGE)):
            marks = self._statistics.marks((item.key, item.version_id) for item in page)
            # Marked in another life: it was counted then, and is not counted again.
            counted = [item for item in page if marks.get((item.key, item.version_id), item.born_at) == item.born_at]
            yield from pending_shares(item.record for item in counted)

    def due(self, now: int, overdue: int, limit: int) -> list[Due]:
        return self._questions.due(now, overdue, limit)

    def look(self, now: int, overdue: int, limit: int, begin: int | None = None) -> Look:
        return self._questions.look(now, overdue, limit, begin)

    def oldest(self, status: Status) -> int | None:
        partitions = [open_partition(name, shard) for name in CLASSES[status] for shard in range(OPEN_SHARDS)]
        firsts = (next(self._alive(self._index(each, -_LAST, _LAST, ascending=True)), None) for each in partitions)
        return min((item.derived.place[1] for item in firsts if item and item.derived.place), default=None)

    def note(self, name: str) -> bytes | None:
        return self._monitor.note(name)

    def keep_note(self, name: str, body: bytes | None) -> None:
        self._monitor.keep_note(name, body)

    def position(self, source: str) -> Position | None:
        return self._monitor.position(source)

    def counts(self) -> Counts:
        return self._monitor.counts()

    def newest(self) -> Newest | None:
        return self._monitor.newest()
