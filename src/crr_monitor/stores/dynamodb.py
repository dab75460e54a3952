"""The store in DynamoDB: one update per object version, and everything else follows from the table's change stream.

``apply`` writes without reading. Its one ``UpdateItem`` per version says::

    SET     s:HASH, f:HASH, c:HASH   the parts of evidence, each under a name made of its content: order and repetition
                                     cannot matter, and what others wrote stays
            born_at                  if_not_exists: the beginning of this life of the item
            changed_at, expires_at   retention, as it follows from these parts alone
            open_in, sort_at         the sparse index, likewise; removed where these parts alone say "settled"
    ADD     revision 1               names this state of the item
    if      some of the parts is not there yet

DynamoDB returns the item as it was, at no cost, and so the writer knows what it made of it. Where the derived
attributes do not follow from *all* parts, or superseded parts are too many, a second update mends that, on the
condition that ``revision`` is still the same: else somebody wrote later, saw these parts, and mends it. Source and
replica in one batch, and source first and replica later, need no second update (with one destination). A message that
comes again fails the condition and changes nothing; the item that comes back with the refusal shows whether a killed
predecessor left something to mend.

A batch is not one transaction: each record is whole, and positions and counts come after all records, so a killed
batch is done again from its beginning and ends in the same.

Statistics are counted by :meth:`DynamoStore.settle` (:mod:`crr_monitor.stores.dynamodb_statistics`). No table is
scanned; a listing that would need it is refused.
"""

from __future__ import annotations

import heapq
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from itertools import islice
from typing import TYPE_CHECKING, Any

from crr_monitor.core.model import Status
from crr_monitor.core.status import derive
from crr_monitor.stores.base import (
    Purged,
    Retention,
    StoreError,
    advance,
    is_about,
    matches,
    pending_shares,
    system_clock,
)
from crr_monitor.stores.dynamodb_calls import ConditionFailedError, Table
from crr_monitor.stores.dynamodb_items import (
    FAILED,
    OR_MORE,
    PENDING,
    UNCERTAIN,
    Derived,
    Item,
    derived,
    encode_parts,
    item_key,
    open_partition,
    pieces,
    read_item,
    surplus,
)
from crr_monitor.stores.dynamodb_monitor import Monitor
from crr_monitor.stores.dynamodb_statistics import Statistics
from crr_monitor.stores.dynamodb_tables import (
    BORN_AT,
    KEY,
    OPEN_IN,
    OPEN_INDEX,
    OPEN_SHARDS,
    REVISION,
    SORT_AT,
    connect,
    parse_address,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from crr_monitor.core.evidence import Evidence
    from crr_monitor.core.model import Record
    from crr_monitor.core.statistics import Cell, CellKey, Share
    from crr_monitor.core.topology import BucketConfig, Topology
    from crr_monitor.stores.base import Batch, Counts, Newest, Position, Query
    from crr_monitor.stores.dynamodb_items import Attributes, Transition
    from crr_monitor.stores.dynamodb_tables import Client

PAGE = 100
"""Records read at once from one partition of the index: a listing merges all its partitions."""

CLASSES = {
    Status.FAILED: (FAILED, FAILED + OR_MORE),
    Status.PENDING: (PENDING, PENDING + OR_MORE),
}
"""Where the index holds the records of a status."""

UNCERTAIN_CLASSES = (UNCERTAIN, FAILED + OR_MORE, PENDING + OR_MORE)
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


class DynamoStore:
    """See :class:`crr_monitor.stores.base.Store`.

    ``workers`` updates are under way at a time. ``step`` is called between any two steps of a change, with the name of
    the next one; what it raises ends the change there, as a killed process would.
    """

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
        self._table = Table(client, status)
        self._retention = retention
        self._clock = clock
        self._step = step
        other = Table(client, statistics)
        self._statistics = Statistics(other, retention, clock, step)
        self._monitor = Monitor(other, clock, step)
        self._pool = ThreadPoolExecutor(workers) if workers > 1 else None

    # ------------------------------------------------------------------ change

    def apply(self, batch: Batch) -> int:
        if self._pool is None:
            changed = sum(map(self._apply_one, batch.evidence.values()))
        else:
            changed = sum(self._pool.map(self._apply_one, batch.evidence.values()))
        if batch.newest_event is not None:
            self._step("newest")
            self._monitor.see(batch.newest_event)
        self._step("counts")
        self._monitor.advance(batch.positions, batch.counts)
        return changed

    def _apply_one(self, news: Evidence) -> bool:
        """Store evidence about one version; whether its record is listed and changed."""
        changed = False
        for piece in pieces(news):
            changed |= self._merge(piece)
        return changed

    def _merge(self, news: Evidence) -> bool:
        now = self._clock()
        parts = encode_parts(news)
        assumed = derived(derive(news), now, self._retention)
        self._step("merge")
        try:
            before = self._update(news, parts, assumed, now)
        except ConditionFailedError as error:
            before = read_item(error.item)
            if before is None:  # it expired between the condition and the look at it
                message = f"table {self._table.name}: {news.key!r} {news.version_id} vanished: send the message again"
                raise StoreError(message) from None
            after = before
        else:
            after = _after(before, news, parts, assumed, now)
        known = None if before is None else before.evidence
        change = advance(known, news)
        if before is not None:
            self._mend(before, after, now if change is not None or before.expired(now) else before.derived.changed_at)
        return change is not None and change.listed

    def _update(self, news: Evidence, parts: Mapping[str, bytes], assumed: Derived, now: int) -> Item | None:
        """The blind update; returns the item as it was before, if it was."""
        update = _Expression()
        for name, body in parts.items():
            update.set(name, {"B": body})
        missing = " OR ".join([f"attribute_not_exists({update.name(name)})" for name in parts])
        update.derive(assumed)
        update.sets.append(f"{update.name(BORN_AT)} = if_not_exists({update.name(BORN_AT)}, :now)")
        update.adds.append(f"{update.name(REVISION)} :one")
        update.values |= {":now": {"N": str(now)}, ":one": {"N": "1"}}
        answer = self._table.call(
            "update_item",
            Key=item_key(news.key, news.version_id),
            ConditionExpression=missing,
            ReturnValues="ALL_OLD",
            ReturnValuesOnConditionCheckFailure="ALL_OLD",
            **update.request(),
        )
        return read_item(answer.get("Attributes"))

    def _mend(self, before: Item, after: Item, changed_at: int) -> None:
        """Make the derived attributes follow from all parts, and merge superseded ones away where they are too many."""
        evidence = after.evidence
        want = derived(derive(evidence), changed_at, self._retention)
        merged = encode_parts(evidence)
        spare = surplus(after.parts, merged)
        if want == after.derived and not spare:
            return
        self._step("mend")
        update = _Expression()
        update.derive(want)
        if spare:
            for name in merged.keys() - after.parts.keys():
                update.set(name, {"B": merged[name]})
            update.removes.extend(update.name(name) for name in spare)
        update.values[":revision"] = {"N": str(after.revision)}
        try:
            self._table.call(
                "update_item",
                Key=item_key(before.key, before.version_id),
                ConditionExpression=f"{update.name(REVISION)} = :revision",
                **update.request(),
            )
        except ConditionFailedError:
            return  # who wrote later has seen these parts, and mends it

    def settle(self, shard: str, entries: Sequence[Mapping[str, Any]]) -> list[Transition]:
        """Count entries of one shard of the status table's change stream, exactly once however often they come.

        ``entries`` are ``Records`` as GetRecords or a Lambda event has them, in order. See :class:`Statistics`.
        """
        return self._statistics.settle(shard, entries)

    def learn(self, configs: Sequence[tuple[BucketConfig, bool]]) -> Topology:
        return self._monitor.learn(configs)

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

    def _index(self, partition: str, low: int, high: int) -> Iterator[Attributes]:
        return self._table.query(
            PAGE,
            IndexName=OPEN_INDEX,
            ScanIndexForward=False,
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

    def cells(self, since: int | None, until: int | None) -> Iterator[tuple[CellKey, Cell]]:
        return self._statistics.cells(since, until)

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

    def topology(self) -> Topology:
        return self._monitor.topology()

    def position(self, source: str) -> Position | None:
        return self._monitor.position(source)

    def counts(self) -> Counts:
        return self._monitor.counts()

    def newest(self) -> Newest | None:
        return self._monitor.newest()

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()
        self._table.client.close()


def _after(before: Item | None, news: Evidence, parts: dict[str, bytes], assumed: Derived, now: int) -> Item:
    """The item as the blind update left it."""
    if before is None:
        return Item(news.key, news.version_id, parts, now, 1, assumed)
    return Item(news.key, news.version_id, before.parts | parts, before.born_at, before.revision + 1, assumed)


class _Expression:
    """An update under construction; attributes are named by placeholders, so that no reserved word is in the way."""

    def __init__(self) -> None:
        self.sets: list[str] = []
        self.removes: list[str] = []
        self.adds: list[str] = []
        self.names: dict[str, str] = {}
        self.values: Attributes = {}

    def name(self, attribute: str) -> str:
        """The placeholder of an attribute."""
        return self.names.setdefault(attribute, f"#{len(self.names)}")

    def set(self, attribute: str, value: Attributes) -> None:
        """Set one attribute."""
        name = self.name(attribute)
        self.sets.append(f"{name} = :{name[1:]}")
        self.values[f":{name[1:]}"] = value

    def derive(self, want: Derived) -> None:
        """Set the derived attributes, and leave the index where there is no place in it."""
        for attribute, value in want.names().items():
            self.set(attribute, value)
        if want.place is None:
            self.removes.extend([self.name(OPEN_IN), self.name(SORT_AT)])

    def request(self) -> Attributes:
        """The expression with its names and values."""
        clauses = (("SET", self.sets), ("REMOVE", self.removes), ("ADD", self.adds))
        return {
            "UpdateExpression": " ".join(f"{word} {', '.join(parts)}" for word, parts in clauses if parts),
            "ExpressionAttributeNames": {name: attribute for attribute, name in self.names.items()},
            "ExpressionAttributeValues": self.values,
        }
