"""What the monitor keeps about itself in the statistics table: topology, positions, counts, the newest event.

Items by ``kind`` (partition key) and ``name`` (sort key)::

    monitor       topology     all configurations, compressed, or names of their pieces; and the number of their edition
    topology      NAME         a piece of them, where they are too large for one item
    monitor       counts       one attribute per counter
    monitor       newest       the newest event, and when it came
    source        HASH         position in one source
    note          NAME         a small document, compressed
"""

from __future__ import annotations

import hashlib
import zlib
from typing import TYPE_CHECKING

import msgspec

from crr_monitor.core.times import DAY_MS, SECOND_MS
from crr_monitor.core.topology import BucketConfig, Topology
from crr_monitor.stores.base import Counts, Newest, Position, StoreError
from crr_monitor.stores.dynamodb_calls import TRANSACTION, ConditionFailedError, Table
from crr_monitor.stores.dynamodb_tables import EXPIRES_AT, key_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from crr_monitor.stores.dynamodb_items import Attributes

LEARN_TRIES = 20
PIECE_BYTES = 350_000
"""Of a topology in one item, which has at most 400 KB: some 8,000 pairs (Developer Guide, "Quotas")."""

LEFT_MS = DAY_MS
"""For so long pieces of an edition stay that another one has replaced, as somebody may be reading them."""

_MONITOR = "monitor"
_PIECE = "topology"
_IGNORED = "ignored:"
_configs_decoder = msgspec.msgpack.Decoder(list[BucketConfig])


def _position_key(source: str) -> Attributes:
    # A path may be longer than a sort key.
    return key_of("source", hashlib.blake2b(source.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest())


class Monitor:
    """The items named above. ``step`` is called between any two steps of a change."""

    def __init__(self, table: Table, clock: Callable[[], int], step: Callable[[str], None]) -> None:
        self._table = table
        self._clock = clock
        self._step = step

    # ------------------------------------------------------------------ change

    def advance(self, positions: Sequence[Position], counts: Counts) -> None:
        """Positions and what was counted on the way to them, in one transaction: counts follow a position exactly."""
        updates = [_put_position(position) for position in positions]
        added = _add_counts(counts)
        if added is not None:
            updates.insert(0, added)
        if len(updates) == 1:
            self._table.call("update_item", **updates[0])
        for start in range(0, len(updates) if len(updates) > 1 else 0, TRANSACTION):
            self._table.transact(updates[start : start + TRANSACTION])

    def see(self, event_at: int) -> None:
        """The time of an event: kept if it is newer than all before, together with the store's clock."""
        try:
            self._table.call(
                "update_item",
                Key=key_of(_MONITOR, "newest"),
                UpdateExpression="SET #event = :event, #stored = :stored",
                ConditionExpression="attribute_not_exists(#event) OR #event < :event",
                ExpressionAttributeNames={"#event": "event_at", "#stored": "stored_at"},
                ExpressionAttributeValues={":event": {"N": str(event_at)}, ":stored": {"N": str(self._clock())}},
            )
        except ConditionFailedError:
            return

    def learn(self, configs: Sequence[tuple[BucketConfig, bool]]) -> Topology:
        """Learn configurations; if somebody else did so meanwhile (the edition tells), again on top of theirs."""
        for _ in range(LEARN_TRIES):
            known, edition, before = self._topology()
            topology = known.learn(configs, self._clock())
            if topology == known:  # as hourly runs mostly find it: nothing is written
                return known
            body = zlib.compress(msgspec.msgpack.encode(topology.configs))
            pieces = self._put_pieces(edition + 1, body)
            self._step("topology")
            try:
                self._put_topology(edition, body, pieces)
            except ConditionFailedError:
                # Or it was done before an answer got lost, and the SDK has asked again.
                if not pieces or pieces != self._topology()[2]:
                    self._leave(pieces)
                    continue
            self._leave(before)
            return topology
        message = f"table {self._table.name}: the topology is being changed by others all the time: try again"
        raise StoreError(message)

    def _put_topology(self, edition: int, body: bytes, pieces: Sequence[str]) -> None:
        """Replace an edition by the next: the topology itself, or the names of its pieces."""
        value = {"L": [{"S": name} for name in pieces]} if pieces else {"B": body}
        self._table.call(
            "update_item",
            Key=key_of(_MONITOR, "topology"),
            UpdateExpression="SET #new = :new, #edition = :next REMOVE #old",
            ConditionExpression="#edition = :edition" if edition else "attribute_not_exists(#edition)",
            ExpressionAttributeNames={
                "#new": "pieces" if pieces else "body",
                "#old": "body" if pieces else "pieces",
                "#edition": "edition",
            },
            ExpressionAttributeValues={
                ":new": value,
                ":next": {"N": str(edition + 1)},
                **({":edition": {"N": str(edition)}} if edition else {}),
            },
        )

    def _put_pieces(self, edition: int, body: bytes) -> tuple[str, ...]:
        """Write what is too large for one item in pieces; their names, which nobody else uses for other pieces."""
        if len(body) <= PIECE_BYTES:
            return ()
        digest = hashlib.blake2b(body, digest_size=16).hexdigest()
        parts = [body[at : at + PIECE_BYTES] for at in range(0, len(body), PIECE_BYTES)]
        names = tuple(f"{edition}-{digest}-{number}" for number in range(len(parts)))
        for name, part in zip(names, parts, strict=True):
            self._step("piece")
            self._set(key_of(_PIECE, name), "body", {"B": part})
        return names

    def _leave(self, pieces: Sequence[str]) -> None:
        """Let DynamoDB remove pieces of which nobody will ask any more."""
        end = {"N": str((self._clock() + LEFT_MS) // SECOND_MS)}
        for name in pieces:
            self._set(key_of(_PIECE, name), EXPIRES_AT, end)

    def _set(self, key: Attributes, attribute: str, value: Attributes) -> None:
        self._table.call(
            "update_item",
            Key=key,
            UpdateExpression="SET #name = :value",
            ExpressionAttributeNames={"#name": attribute},
            ExpressionAttributeValues={":value": value},
        )

    # ------------------------------------------------------------------- read

    def topology(self) -> Topology:
        """What was learned."""
        return self._topology()[0]

    def _topology(self) -> tuple[Topology, int, tuple[str, ...]]:
        """What was learned, its edition, and the names of its pieces, if there are some."""
        item = self._table.get(key_of(_MONITOR, "topology"))
        if item is None:
            return Topology(), 0, ()
        pieces = tuple(each["S"] for each in item["pieces"]["L"]) if "pieces" in item else ()
        body = b"".join(self._piece(name) for name in pieces) if pieces else item["body"]["B"]
        return Topology(_configs_decoder.decode(zlib.decompress(body))), int(item["edition"]["N"]), pieces

    def _piece(self, name: str) -> bytes:
        item = self._table.get(key_of(_PIECE, name))
        if item is None or "body" not in item:
            message = f"table {self._table.name}: piece {name} of the topology is not there any more: try again"
            raise StoreError(message)
        found: bytes = item["body"]["B"]
        return found

    def position(self, source: str) -> Position | None:
        """How far a source was read."""
        item = self._table.get(_position_key(source))
        return None if item is None else msgspec.json.decode(item["body"]["S"], type=Position)

    def counts(self) -> Counts:
        """All counters."""
        counts = Counts()
        for name, value in (self._table.get(key_of(_MONITOR, "counts")) or {}).items():
            if name.startswith(_IGNORED):
                counts.ignored[name.removeprefix(_IGNORED)] = int(value["N"])
            elif name in {"messages", "events", "malformed"}:
                setattr(counts, name, int(value["N"]))
        return counts

    def note(self, name: str) -> bytes | None:
        """A small document."""
        item = self._table.get(key_of("note", name))
        return None if item is None or "body" not in item else zlib.decompress(item["body"]["B"])

    def keep_note(self, name: str, body: bytes | None) -> None:
        """Keep a small document; where there is none any more an empty item stays, as that needs no right to delete."""
        self._step("note")
        request: Attributes = {"ExpressionAttributeNames": {"#body": "body"}}
        if body is None:
            request["UpdateExpression"] = "REMOVE #body"
        else:
            request["UpdateExpression"] = "SET #body = :body"
            request["ExpressionAttributeValues"] = {":body": {"B": zlib.compress(body)}}
        self._table.call("update_item", Key=key_of("note", name), **request)

    def newest(self) -> Newest | None:
        """The newest event."""
        item = self._table.get(key_of(_MONITOR, "newest"))
        return None if item is None else Newest(int(item["event_at"]["N"]), int(item["stored_at"]["N"]))


def _put_position(position: Position) -> Attributes:
    return {
        "Key": _position_key(position.source),
        "UpdateExpression": "SET #body = :body",
        "ExpressionAttributeNames": {"#body": "body"},
        "ExpressionAttributeValues": {":body": {"S": msgspec.json.encode(position).decode()}},
    }


def _add_counts(counts: Counts) -> Attributes | None:
    changes = {"messages": counts.messages, "events": counts.events, "malformed": counts.malformed}
    changes |= {_IGNORED + kind: count for kind, count in counts.ignored.items()}
    changes = {name: count for name, count in changes.items() if count}
    if not changes:
        return None
    return {
        "Key": key_of(_MONITOR, "counts"),
        "UpdateExpression": "ADD " + ", ".join(f"#{number} :{number}" for number in range(len(changes))),
        "ExpressionAttributeNames": {f"#{number}": name for number, name in enumerate(changes)},
        "ExpressionAttributeValues": {f":{number}": {"N": str(n)} for number, n in enumerate(changes.values())},
    }
