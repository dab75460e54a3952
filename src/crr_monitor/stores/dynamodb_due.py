"""What S3 has to be asked about, in DynamoDB: by two sparse indexes, never by a scan.

An item about which nobody asked stands in the index of what is open, where ``sort_at`` tells when it is due. Who asked
gives it ``asks`` and ``due_at``, which put it into the index of questions, and moves it into the other half of its
class: so neither index is read past what is due. The update that brings news of a version takes both attributes away
again, and the item back; it reads nothing for that, and they cost nothing where they are not there.
"""

from __future__ import annotations

import heapq
from itertools import islice
from typing import TYPE_CHECKING, Any

from crr_monitor.stores.base import EVER, Due, look_along
from crr_monitor.stores.dynamodb_calls import BATCH_GET, ConditionFailedError
from crr_monitor.stores.dynamodb_items import (
    ASKED,
    FAILED,
    OR_MORE,
    PENDING,
    UNCERTAIN,
    derived,
    item_key,
    open_partition,
    read_item,
)
from crr_monitor.stores.dynamodb_tables import (
    ASKS,
    DUE_AT,
    DUE_INDEX,
    OPEN_IN,
    OPEN_INDEX,
    OPEN_SHARDS,
    REVISION,
    SORT_AT,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from crr_monitor.stores.base import Asked, Look, Retention
    from crr_monitor.stores.dynamodb_calls import Table
    from crr_monitor.stores.dynamodb_items import Item

OPEN_CLASSES = (FAILED, FAILED + OR_MORE, PENDING, PENDING + OR_MORE, UNCERTAIN)
PAGE = 100
"""Records read at once from one partition of an index: all partitions are merged."""

LOOK_PAGE = 250
"""The same where very much is known to wait: fewer calls, whose answers of all partitions fit into memory."""


class Questions:
    """Reads and writes when S3 is to be asked. ``step`` is called before each item that changes."""

    def __init__(
        self, table: Table, retention: Retention, clock: Callable[[], int], step: Callable[[str], None]
    ) -> None:
        self._table = table
        self._retention = retention
        self._clock = clock
        self._step = step

    def due(self, now: int, overdue: int, limit: int) -> list[Due]:
        """See :meth:`crr_monitor.stores.base.Store.due`."""
        return list(islice(self._walk(now, overdue, min(limit, PAGE)), limit))

    def look(self, now: int, overdue: int, limit: int, begin: int | None) -> Look:
        """See :meth:`crr_monitor.stores.base.Store.look`. The indexes know no buckets: it reads past what it leaves."""
        return look_along(self._walk(now, overdue, LOOK_PAGE, begin), limit)

    def _walk(self, now: int, overdue: int, page: int, begin: int | None = None) -> Iterator[Due]:
        """All that is due since ``begin``, the longest due first; so many at a time of each partition are read."""
        begin = EVER if begin is None else begin
        walks = []
        for name in OPEN_CLASSES:
            for shard in range(OPEN_SHARDS):
                fresh = self._partition(
                    page, OPEN_INDEX, SORT_AT, open_partition(name, shard), begin - overdue, now - overdue
                )
                asked = self._partition(page, DUE_INDEX, DUE_AT, open_partition(name + ASKED, shard), begin, now)
                walks.append(_due(item, overdue) for item in fresh)
                walks.append(_due(item, overdue) for item in asked)
        return heapq.merge(*walks, key=lambda due: due.due_at)

    def _partition(  # noqa: PLR0913, PLR0917 - which, and from where to where
        self, page: int, index: str, sort: str, partition: str, begin: int, until: int
    ) -> Iterator[Item]:
        """Items of one partition that are not over, the longest due first."""
        if begin > until:
            return iter(())  # a refusal, if it were asked
        found = self._table.query(
            page,
            IndexName=index,
            KeyConditionExpression="#open = :open AND #sort BETWEEN :begin AND :until",
            ExpressionAttributeNames={"#open": OPEN_IN, "#sort": sort},
            ExpressionAttributeValues={
                ":open": {"S": partition},
                ":begin": {"N": str(begin)},
                ":until": {"N": str(until)},
            },
        )
        now = self._clock()
        items = (read_item(attributes) for attributes in found)
        return (item for item in items if item is not None and not item.expired(now))

    def asked(self, questions: Sequence[Asked], each: Callable[..., Iterable[Any]]) -> None:
        """See :meth:`crr_monitor.stores.base.Store.asked`. ``each`` is ``map``, or that of a pool of threads."""
        for start in range(0, len(questions), BATCH_GET):
            wanted = {(one.key, one.version_id): one for one in questions[start : start + BATCH_GET]}
            now = self._clock()
            read = [read_item(found) for found in self._table.get_many([item_key(*version) for version in wanted])]
            alive = [item for item in read if item is not None and not item.expired(now)]
            told = [wanted[item.key, item.version_id] for item in alive]
            for _ in each(self._put, alive, told):
                pass  # what went wrong is raised here

    def _put(self, item: Item, asked: Asked) -> None:
        place = derived(item.record, item.derived.changed_at, self._retention, asked=True).place
        if place is None:
            return  # settled meanwhile
        self._step("asked")
        try:
            self._table.call(
                "update_item",
                Key=item_key(item.key, item.version_id),
                UpdateExpression="SET #open = :open, #sort = :sort, #asks = :asks, #due = :due",
                ConditionExpression="#revision = :revision",
                ExpressionAttributeNames={
                    "#open": OPEN_IN,
                    "#sort": SORT_AT,
                    "#asks": ASKS,
                    "#due": DUE_AT,
                    "#revision": REVISION,
                },
                ExpressionAttributeValues={
                    ":open": {"S": place[0]},
                    ":sort": {"N": str(place[1])},
                    ":asks": {"N": str(asked.asks)},
                    ":due": {"N": str(asked.due_at)},
                    ":revision": {"N": str(item.revision)},
                },
            )
        except ConditionFailedError:
            return  # there is news of it, so it is due again


def _due(item: Item, overdue: int) -> Due:
    record = item.record
    return Due(record, item.asks, record.sort_at + overdue if item.due_at is None else item.due_at)
