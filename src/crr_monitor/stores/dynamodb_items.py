"""Items of the status table as values: evidence to attributes, and back. Nothing here calls anything.

Each part of evidence (a sighting, a failure, a statement) is an attribute of its own, named by a hash of its content.
So one ``SET`` of a part needs no knowledge of the item: again, in any order, or beside other writers it gives the same
item. What all parts say together is worked out by whoever reads the item, with :func:`crr_monitor.core.merge.merge`.

The other attributes are *derived* and so may lag behind the parts for a moment; see :class:`Derived`.
"""

from __future__ import annotations

import base64
import hashlib
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec
from msgspec import Struct

from crr_monitor.core.evidence import Claim, Evidence, Failure, Sighting
from crr_monitor.core.merge import merge
from crr_monitor.core.model import Record, Status
from crr_monitor.core.statistics import Share, shares
from crr_monitor.core.status import derive
from crr_monitor.core.times import SECOND_MS, to_milliseconds
from crr_monitor.stores.dynamodb_tables import (
    ASKS,
    BORN_AT,
    CHANGED_AT,
    DUE_AT,
    EXPIRES_AT,
    KEY,
    OPEN_IN,
    OPEN_SHARDS,
    REVISION,
    SORT_AT,
    VERSION_ID,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from crr_monitor.stores.base import Retention

Attributes: TypeAlias = "dict[str, Any]"
"""An item as DynamoDB's JSON has it: ``{"name": {"S": "text"}}``."""

PARTS_AT_ONCE = 80
"""Parts in one update: an expression holds 4 KB and 300 operators (Developer Guide, "Expression parameters")."""

SPARE_PARTS = 16
SPARE_BYTES = 16_384
"""Superseded parts beyond either are merged away: so a flood of messages about one version fills no item (400 KB)."""

_encode = msgspec.msgpack.Encoder().encode
_sighting = msgspec.msgpack.Decoder(Sighting).decode
_failure = msgspec.msgpack.Decoder(Failure).decode
_claim = msgspec.msgpack.Decoder(Claim).decode


def encode_parts(evidence: Evidence) -> dict[str, bytes]:
    """Every part under its name: a letter for its kind, a colon, and 96 bits of its hash."""
    found = {}
    for kind, parts in (("s", evidence.sightings), ("f", evidence.failures), ("c", evidence.claims)):
        for part in parts:
            body = _encode(part)
            digest = hashlib.blake2b(body, digest_size=12).digest()
            found[f"{kind}:{base64.urlsafe_b64encode(digest).decode()}"] = body
    return found


def decode_parts(key: str, version_id: str, parts: Mapping[str, bytes]) -> Evidence:
    """All parts merged."""
    evidence = Evidence(key, version_id)
    for name, body in parts.items():
        if name[0] == "s":
            part = Evidence(key, version_id, sightings=(_sighting(body),))
        elif name[0] == "f":
            part = Evidence(key, version_id, failures=(_failure(body),))
        else:
            part = Evidence(key, version_id, claims=(_claim(body),))
        evidence = merge(evidence, part)
    return evidence


def pieces(evidence: Evidence) -> Iterator[Evidence]:
    """Evidence in portions that fit into one update; nearly always it is one already."""
    total = len(evidence.sightings) + len(evidence.failures) + len(evidence.claims)
    if total <= PARTS_AT_ONCE:
        yield evidence
        return
    for start in range(0, total, PARTS_AT_ONCE):
        yield _portion(evidence, start, start + PARTS_AT_ONCE)


def _portion(evidence: Evidence, begin: int, end: int) -> Evidence:
    """The parts with numbers in ``[begin, end)``, counted over all kinds."""
    second = len(evidence.sightings)
    third = second + len(evidence.failures)
    return Evidence(
        evidence.key,
        evidence.version_id,
        evidence.sightings[begin:end],
        evidence.failures[max(begin - second, 0) : max(end - second, 0)],
        evidence.claims[max(begin - third, 0) : max(end - third, 0)],
    )


class Derived(Struct, frozen=True):
    """The attributes that follow from a record and from when it last changed (milliseconds, the store's clock).

    ``place`` is partition and sort key in the sparse index, or ``None`` for what is settled. ``expires_at`` is in
    seconds.
    """

    changed_at: int
    expires_at: int
    place: tuple[str, int] | None

    @property
    def asked(self) -> bool:
        """Whether S3 was asked about it since it last changed: only then it has ``asks`` and ``due_at``."""
        return self.place is not None and ASKED in self.place[0]

    def names(self) -> Attributes:
        """Attributes to set; ``open_in`` and ``sort_at`` are to be removed where they are missing here."""
        found = {CHANGED_AT: {"N": str(self.changed_at)}, EXPIRES_AT: {"N": str(self.expires_at)}}
        if self.place is not None:
            found |= {OPEN_IN: {"S": self.place[0]}, SORT_AT: {"N": str(self.place[1])}}
        return found


FAILED, PENDING, UNCERTAIN, OR_MORE, ASKED = "FAILED", "PENDING", "UNCERTAIN", "?", "+"
"""Classes of the index; ``FAILED?`` and ``PENDING?`` hold records that are uncertain besides.

Each has a second one, as in ``FAILED?+``, for what S3 was asked about since it changed: so those about which nobody
asked yet are found by their time alone.
"""


def derived(record: Record, changed_at: int, retention: Retention, *, asked: bool = False) -> Derived:
    """What an item has to say besides its evidence."""
    if record.settled:
        return Derived(changed_at, seconds(changed_at + retention.settled), None)
    if record.status in {Status.FAILED, Status.PENDING}:
        name = record.status.name + (OR_MORE if record.uncertain else "")
    else:
        name = UNCERTAIN
    digest = hashlib.blake2b(f"{record.key}\n{record.version_id}".encode(), digest_size=2).digest()
    name += ASKED if asked else ""
    place = (open_partition(name, int.from_bytes(digest) % OPEN_SHARDS), record.sort_at)
    return Derived(changed_at, seconds(changed_at + retention.unsettled), place)


def open_partition(name: str, shard: int) -> str:
    """Partition key of one shard of a class of the index."""
    return f"{name}#{shard}"


def seconds(at: int) -> int:
    """Milliseconds to the whole second after, which is when TTL may take the item."""
    return -(-at // SECOND_MS)


class Item(Struct, frozen=True):
    """One item of the status table, read. ``asks`` and ``due_at`` are those of questions to S3."""

    key: str
    version_id: str
    parts: dict[str, bytes]
    born_at: int
    revision: int
    derived: Derived
    asks: int = 0
    due_at: int | None = None

    @property
    def evidence(self) -> Evidence:
        """All that its parts say."""
        return decode_parts(self.key, self.version_id, self.parts)

    @property
    def record(self) -> Record:
        """The record that follows."""
        return derive(self.evidence)

    def expired(self, now: int) -> bool:
        """Its time is over; DynamoDB removes it some time (up to days) later."""
        return self.derived.expires_at * SECOND_MS <= now


def item_key(key: str, version_id: str) -> Attributes:
    """Primary key of a version's item: its names as they are; S3's limit of 1,024 bytes is that of a sort key, too."""
    return {KEY: {"S": key}, VERSION_ID: {"S": version_id}}


def read_item(attributes: Mapping[str, Any] | None) -> Item | None:
    """An item, or its image in the change stream; ``None`` where there is none, or it is not of this store's making."""
    if not attributes or CHANGED_AT not in attributes:
        return None
    parts = {name: _bytes(value["B"]) for name, value in attributes.items() if name[:2] in _PART_PREFIXES}
    place = None
    if OPEN_IN in attributes:
        place = (attributes[OPEN_IN]["S"], int(attributes[SORT_AT]["N"]))
    return Item(
        attributes[KEY]["S"],
        attributes[VERSION_ID]["S"],
        parts,
        int(attributes[BORN_AT]["N"]),
        int(attributes[REVISION]["N"]),
        Derived(int(attributes[CHANGED_AT]["N"]), int(attributes[EXPIRES_AT]["N"]), place),
        int(attributes[ASKS]["N"]) if ASKS in attributes else 0,
        int(attributes[DUE_AT]["N"]) if DUE_AT in attributes else None,
    )


_PART_PREFIXES = frozenset({"s:", "f:", "c:"})


def _bytes(value: bytes | str) -> bytes:
    """Binary as the SDK gives it, or as Lambda's JSON does (Base64)."""
    return base64.b64decode(value) if isinstance(value, str) else value


def surplus(parts: Mapping[str, bytes], merged: Mapping[str, bytes]) -> list[str]:
    """Names of superseded parts that should go, once there are too many of them."""
    names = [name for name in parts if name not in merged]
    if len(names) > SPARE_PARTS or sum(len(parts[name]) for name in names) > SPARE_BYTES:
        return names
    return []


class Transition(Struct, frozen=True):
    """What one entry of the change stream means.

    ``sequence`` is its position in the stream, padded so that text order is stream order; ``born_at`` names the item's
    life in the table. ``before`` and ``after`` are the records, ``after`` is ``None`` where the item left; ``old`` and
    ``new`` what they contribute to the statistics. ``at`` is when it changed (milliseconds, the writer's clock; of what
    left, the table's, in seconds) and ``revision`` names the state of the item after it, or the last one. ``before_at``
    is when it had changed before that, 0 of what is new.
    """

    sequence: str
    key: str
    version_id: str
    born_at: int
    before: Record | None
    after: Record | None
    old: list[Share]
    new: list[Share]
    at: int = 0
    revision: int = 0
    before_at: int = 0


SEQUENCE_DIGITS = 40
"""DynamoDB Streams API Reference, ``StreamRecord``: a sequence number has at most 40 digits."""


def read_change(entry: Mapping[str, Any]) -> tuple[str, Transition | None]:
    """An entry as ``GetRecords`` and Lambda give it: its position, and what changed of the evidence, if anything."""
    change = entry["dynamodb"]
    sequence = change["SequenceNumber"].zfill(SEQUENCE_DIGITS)
    before, after = read_item(change.get("OldImage")), read_item(change.get("NewImage"))
    item = after or before
    if item is None or (before is not None and after is not None and before.parts == after.parts):
        return sequence, None
    was, now = (None if image is None else image.record for image in (before, after))
    old, new = ([] if record is None else shares(record) for record in (was, now))
    at = item.derived.changed_at if after is not None else _told_at(change)
    before_at = 0 if before is None else before.derived.changed_at
    return sequence, Transition(
        sequence, item.key, item.version_id, item.born_at, was, now, old, new, at, item.revision, before_at
    )


def read_touched(entry: Mapping[str, Any]) -> tuple[int, Item] | None:
    """An entry that changes nothing of the evidence, as where S3 was asked: when (milliseconds), and the item."""
    change = entry["dynamodb"]
    before, after = read_item(change.get("OldImage")), read_item(change.get("NewImage"))
    if before is None or after is None or before.parts != after.parts:
        return None
    return _told_at(change), after


def _told_at(change: Mapping[str, Any]) -> int:
    """When an entry was made: a time as GetRecords gives it, or seconds as Lambda does; 0 where it is not told."""
    told = change.get("ApproximateCreationDateTime") or 0
    return to_milliseconds(told) if isinstance(told, datetime) else int(told * SECOND_MS)
