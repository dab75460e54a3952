"""How the store in DynamoDB is written: one blind update per object version.

``apply`` writes without reading. Its one ``UpdateItem`` per version says::

    SET     s:HASH, f:HASH, c:HASH   the parts of evidence, each under a name made of its content: order and repetition
                                     cannot matter, and what others wrote stays
            born_at                  if_not_exists: the beginning of this life of the item
            changed_at, expires_at   retention, as it follows from these parts alone
            open_in, sort_at         the sparse index, likewise; removed where these parts alone say "settled"
    REMOVE  asks, due_at             that S3 was asked: what is news deserves a new look
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
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from crr_monitor.core.status import derive
from crr_monitor.stores.base import Retention, StoreError, advance, system_clock
from crr_monitor.stores.dynamodb_calls import ConditionFailedError, Table
from crr_monitor.stores.dynamodb_items import Derived, Item, derived, encode_parts, item_key, pieces, read_item, surplus
from crr_monitor.stores.dynamodb_monitor import Monitor
from crr_monitor.stores.dynamodb_tables import ASKS, BORN_AT, DUE_AT, OPEN_IN, REVISION, SORT_AT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from crr_monitor.core.evidence import Evidence
    from crr_monitor.core.topology import BucketConfig, Topology
    from crr_monitor.stores.base import Batch
    from crr_monitor.stores.dynamodb_items import Attributes
    from crr_monitor.stores.dynamodb_tables import Client


class DynamoWriter:
    """The part of the store that takes events: all that the process function needs, and loads.

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
        self._monitor = Monitor(Table(client, statistics), clock, step)
        self._pool = ThreadPoolExecutor(workers) if workers > 1 else None

    def apply(self, batch: Batch) -> int:
        """See :meth:`crr_monitor.stores.base.Store.apply`."""
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
        want = derived(derive(evidence), changed_at, self._retention, asked=after.asks > 0)
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

    def learn(self, configs: Sequence[tuple[BucketConfig, bool]]) -> Topology:
        """See :meth:`crr_monitor.stores.base.Store.learn`."""
        return self._monitor.learn(configs)

    def topology(self) -> Topology:
        """See :meth:`crr_monitor.stores.base.Store.topology`."""
        return self._monitor.topology()

    def close(self) -> None:
        """End the workers and the client's connections."""
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
        if not want.asked:
            self.removes.extend([self.name(ASKS), self.name(DUE_AT)])

    def request(self) -> Attributes:
        """The expression with its names and values."""
        clauses = (("SET", self.sets), ("REMOVE", self.removes), ("ADD", self.adds))
        return {
            "UpdateExpression": " ".join(f"{word} {', '.join(parts)}" for word, parts in clauses if parts),
            "ExpressionAttributeNames": {name: attribute for attribute, name in self.names.items()},
            "ExpressionAttributeValues": self.values,
        }
