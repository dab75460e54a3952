"""Statistics in DynamoDB: they follow from the status table's change stream, and count each change exactly once.

A cell is one item whose counters are attributes of their own, so that a change is an ``ADD`` without reading. The
stream comes at least once and in order per shard; so the position in a shard and the counters up to it change in one
transaction, whose condition is the position that was read before. What was counted and has left the status table
leaves a *mark*: a version that comes back is not counted again.

Items by ``kind`` (partition key) and ``name`` (sort key)::

    cells#DAY     SLOT#HASH    counters of one cell; the day is that of the slot, so that a window is a few queries
    days          DAY          a day that has cells
    pairs         HASH         a pair that was ever counted, for good
    shard         SHARD        position in one shard of the stream
    mark#HASH     mark         the version was counted and left; ``born_at`` tells which life of its item was counted
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec
from msgspec import Struct

from crr_monitor.core.model import Status
from crr_monitor.core.statistics import SLOT_MS, Cell, CellKey, Share, move
from crr_monitor.core.times import DAY_MS, SECOND_MS
from crr_monitor.stores.dynamodb_calls import TRANSACTION, ConditionFailedError, Table
from crr_monitor.stores.dynamodb_items import read_change
from crr_monitor.stores.dynamodb_tables import BORN_AT, EXPIRES_AT, KIND, NAME, key_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from crr_monitor.stores.base import Retention, VersionKey
    from crr_monitor.stores.dynamodb_items import Attributes, Transition

Pair: TypeAlias = tuple[str, str, str]
"""Source, destination and rule id."""

SLOTS_A_DAY = DAY_MS // SLOT_MS
CELLS_AT_ONCE = TRANSACTION - 1
COUNTERS_AT_ONCE = 150
"""Counters of one cell that one update changes: an expression holds 4 KB and 300 operators."""

POSITION_KEPT = 7 * DAY_MS
"""A shard's records are gone after a day (Developer Guide, "Change data capture for DynamoDB Streams")."""

_TALLIES = {"reasons": "r:", "lags": "l:", "repaired": "p:"}
_NUMBERS = tuple(name for name in Cell.__struct_fields__ if name not in _TALLIES)
_UNSETTLED = ("pending", "failed")
"""The counters of which one is positive in a cell that is unsettled."""


class Place(Struct, frozen=True):
    """How far a shard was counted: all up to ``sequence``, and so many portions of the entry that follows it."""

    sequence: str = ""
    portions: int = 0


def expire(cells: dict[CellKey, Cell], left: Iterable[Share]) -> None:
    """What left while it was pending stays counted, as expired."""
    for share in left:
        if share.status is Status.PENDING:
            cells.setdefault(share.key, Cell()).expire(share)


def effect(transition: Transition) -> dict[CellKey, Cell]:
    """What one change adds to the cells (and takes from them)."""
    cells: dict[CellKey, Cell] = {}
    if transition.after is None:
        expire(cells, transition.old)
    else:
        move(cells, transition.old, transition.new)
    return cells


class Portion(Struct):
    """What one transaction counts: everything up to ``place``."""

    place: Place
    cells: dict[CellKey, Cell] = msgspec.field(default_factory=dict)


def portions(start: Place, effects: Iterable[tuple[str, dict[CellKey, Cell]]]) -> Iterator[Portion]:
    """Effects of entries, in order, cut where a transaction is full: between two entries, if each fits as a whole."""
    done, full = start, Portion(start)
    for sequence, cells in effects:
        if full.place != done and _too_much(full.cells, cells):
            yield full
            done, full = full.place, Portion(full.place)
        if len(cells) > CELLS_AT_ONCE:
            yield from _slices(full.place, sequence, cells)
            done, full = Place(sequence), Portion(Place(sequence))
            continue
        full = Portion(Place(sequence), full.cells)
        for key, cell in cells.items():
            full.cells.setdefault(key, Cell()).add(cell)
    if full.place != done:
        yield full


def _too_much(full: dict[CellKey, Cell], more: dict[CellKey, Cell]) -> bool:
    return len(full.keys() | more.keys()) > CELLS_AT_ONCE or any(
        _width(full[key]) + _width(cell) > COUNTERS_AT_ONCE for key, cell in more.items() if key in full
    )


def _slices(before: Place, sequence: str, cells: dict[CellKey, Cell]) -> Iterator[Portion]:
    """One entry that changes more cells than a transaction takes, in portions that are the same each time."""
    ordered = sorted(cells.items())
    for number, begin in enumerate(range(0, len(ordered), CELLS_AT_ONCE)):
        last = begin + CELLS_AT_ONCE >= len(ordered)
        place = Place(sequence) if last else Place(before.sequence, number + 1)
        if last or number >= before.portions:
            yield Portion(place, dict(ordered[begin : begin + CELLS_AT_ONCE]))


def _width(cell: Cell) -> int:
    return len(_NUMBERS) + sum(len(getattr(cell, name)) for name in _TALLIES)


def counters(cell: Cell) -> dict[str, int]:
    """A cell's counters as attributes, those that are not 0."""
    found = {name: getattr(cell, name) for name in _NUMBERS}
    for name, prefix in _TALLIES.items():
        found |= {f"{prefix}{index}": count for index, count in getattr(cell, name).items()}
    return {name: count for name, count in found.items() if count}


def read_cell(attributes: Mapping[str, Any]) -> tuple[CellKey, Cell]:
    """A cell's item."""
    cell = Cell()
    for name in attributes.keys() & set(_NUMBERS):
        setattr(cell, name, int(attributes[name]["N"]))
    for name, prefix in _TALLIES.items():
        found = {text[2:]: int(value["N"]) for text, value in attributes.items() if text.startswith(prefix)}
        tally = {index if name == "reasons" else int(index): count for index, count in found.items() if count}
        setattr(cell, name, tally)
    slot, _, _ = attributes[NAME]["S"].partition("#")
    source, destination, rule_id = (attributes[name]["S"] for name in ("source", "destination", "rule_id"))
    return CellKey(int(slot), source, destination, rule_id, attributes["delete_marker"]["BOOL"]), cell


def _cell_key(key: CellKey) -> Attributes:
    # Names of buckets and rules together may be longer than a sort key, so it holds their hash.
    digest = hashlib.blake2b(msgspec.json.encode(key[1:]), digest_size=12).hexdigest()
    return key_of(f"cells#{key.slot // SLOTS_A_DAY}", f"{key.slot:010}#{digest}")


def _pair(pair: Pair) -> Attributes:
    digest = hashlib.blake2b(msgspec.json.encode(pair), digest_size=16).hexdigest()
    names = zip(("source", "destination", "rule_id"), pair, strict=True)
    return {**key_of("pairs", digest), **{name: {"S": value} for name, value in names}}


def _alive(item: Attributes, now: int) -> bool:
    return int(item[EXPIRES_AT]["N"]) * SECOND_MS > now


def _mark_key(version: VersionKey) -> Attributes:
    digest = hashlib.blake2b(msgspec.json.encode(version), digest_size=16).hexdigest()
    return key_of(f"mark#{digest}", "mark")


class Statistics:
    """Cells, positions and marks in the statistics table. ``step`` is called between any two steps of a change."""

    def __init__(
        self, table: Table, retention: Retention, clock: Callable[[], int], step: Callable[[str], None]
    ) -> None:
        self._table = table
        self._retention = retention
        self._clock = clock
        self._step = step
        self._entered: dict[int | Pair, int] = {}

    # ------------------------------------------------------------------ change

    def settle(self, shard: str, entries: Sequence[Mapping[str, Any]]) -> list[Transition]:
        """Count entries of one shard of the status table's stream, in order; those counted before are skipped.

        Killed anywhere, the same entries are given again and count once. Two consumers of one shard do no harm either:
        the slower one finds the position moved and begins anew behind it.

        Returns:
            The changes of evidence among the entries that this call was the first to count.
        """
        changes = [read_change(entry) for entry in entries]
        done: list[Transition] = []
        while True:
            place = self.place(shard)
            fresh = [change for change in changes if change[0] > place.sequence]
            if not fresh:
                return done
            try:
                for portion in portions(place, self._effects(fresh)):
                    self._commit(shard, place, portion)
                    done.extend(
                        change
                        for sequence, change in fresh
                        if change is not None and place.sequence < sequence <= portion.place.sequence
                    )
                    place = portion.place
            except ConditionFailedError:
                continue  # somebody else counted meanwhile
            return done

    def place(self, shard: str) -> Place:
        """How far a shard was counted."""
        found = self._table.get(key_of("shard", shard))
        return Place() if found is None else Place(found["sequence"]["S"], int(found["portions"]["N"]))

    def _effects(self, changes: Sequence[tuple[str, Transition | None]]) -> list[tuple[str, dict[CellKey, Cell]]]:
        """What each entry changes. Who leaves is marked before that is counted; done again, it is the same mark."""
        moved = [change for _, change in changes if change is not None and change.old != change.new]
        marks = self.marks({(change.key, change.version_id) for change in moved})
        renewed: dict[VersionKey, Attributes] = {}
        found: list[tuple[str, dict[CellKey, Cell]]] = []
        for sequence, change in changes:
            cells: dict[CellKey, Cell] = {}
            if change is not None and change.old != change.new:
                version = (change.key, change.version_id)
                # A mark of another life: the version was counted, left, and came back.
                if marks.get(version, change.born_at) == change.born_at:
                    cells = effect(change)
                if change.after is None or version in marks:
                    born_at = marks.setdefault(version, change.born_at)
                    renewed[version] = self._mark(version, born_at)
            found.append((sequence, cells))
        self._step("marks")
        self._table.put_many(list(renewed.values()))
        return found

    def _mark(self, version: VersionKey, born_at: int) -> Attributes:
        return {**_mark_key(version), BORN_AT: {"N": str(born_at)}, EXPIRES_AT: self._kept(self._retention.statistics)}

    def _kept(self, time: int) -> Attributes:
        """So long from now, to the second before."""
        return {"N": str((self._clock() + time) // SECOND_MS)}

    def _commit(self, shard: str, before: Place, portion: Portion) -> None:
        self._step("directory")
        self._enter(portion.cells)
        self._step("transaction")
        position = self._move(shard, before, portion.place)
        cells = {key: cell for key, cell in portion.cells.items() if not cell.empty}
        self._table.transact([position, *(self._add(key, cell) for key, cell in cells.items())])

    def _enter(self, keys: Iterable[CellKey]) -> None:
        """Days and pairs of cells are found without a scan: they are entered first, and an entry alone says nothing."""
        today = self._clock() // DAY_MS
        wanted: dict[int | Pair, Attributes] = {}
        for key in keys:
            day, pair = key.slot // SLOTS_A_DAY, (key.source, key.destination, key.rule_id)
            if self._entered.get(day) != today:  # entered anew each day, so that it outlives the day's cells
                wanted[day] = self._day(day)
            if pair not in self._entered:
                wanted[pair] = _pair(pair)
        self._table.put_many(list(wanted.values()))
        self._entered.update(dict.fromkeys(wanted, today))

    def _day(self, day: int) -> Attributes:
        return {**key_of("days", f"{day:08}"), EXPIRES_AT: self._kept(self._retention.statistics + 2 * DAY_MS)}

    def _move(self, shard: str, before: Place, after: Place) -> Attributes:
        """Only from the place that was read can the shard go on: so the counters beside it are added once."""
        values = {
            ":sequence": {"S": after.sequence},
            ":portions": {"N": str(after.portions)},
            ":expires": self._kept(POSITION_KEPT),
        }
        condition = "attribute_not_exists(#sequence)"
        if before != Place():
            values |= {":before": {"S": before.sequence}, ":portion": {"N": str(before.portions)}}
            condition = "#sequence = :before AND #portions = :portion"
        return {
            "Key": key_of("shard", shard),
            "UpdateExpression": "SET #sequence = :sequence, #portions = :portions, #expires = :expires",
            "ConditionExpression": condition,
            "ExpressionAttributeNames": {"#sequence": "sequence", "#portions": "portions", "#expires": EXPIRES_AT},
            "ExpressionAttributeValues": values,
        }

    def _add(self, key: CellKey, cell: Cell) -> Attributes:
        """Counters that are not there yet begin at 0 (Developer Guide, ``ADD``); names are said again each time."""
        said = {
            "source": {"S": key.source},
            "destination": {"S": key.destination},
            "rule_id": {"S": key.rule_id},
            "delete_marker": {"BOOL": key.delete_marker},
            EXPIRES_AT: self._kept(self._retention.statistics),
        }
        changes = {name: {"N": str(count)} for name, count in counters(cell).items()}
        names = {f"#{number}": name for number, name in enumerate([*said, *changes])}
        values = {f":{number}": value for number, value in enumerate([*said.values(), *changes.values()])}
        numbers = range(len(names))
        sets = ", ".join(f"#{number} = :{number}" for number in numbers[: len(said)])
        adds = ", ".join(f"#{number} :{number}" for number in numbers[len(said) :])
        return {
            "Key": _cell_key(key),
            "UpdateExpression": f"SET {sets} ADD {adds}",
            "ExpressionAttributeNames": names,
            "ExpressionAttributeValues": values,
        }

    # ------------------------------------------------------------------- read

    def marks(self, versions: Iterable[VersionKey]) -> dict[VersionKey, int]:
        """Of some versions those that were counted and left, with the life (``born_at``) in which they were."""
        by_kind = {_mark_key(version)[KIND]["S"]: version for version in versions}
        now = self._clock()
        return {
            by_kind[item[KIND]["S"]]: int(item[BORN_AT]["N"])
            for item in self._table.get_many([key_of(kind, "mark") for kind in by_kind])
            if _alive(item, now)
        }

    def cells(self, since: int | None, until: int | None, *, unsettled: bool = False) -> Iterator[tuple[CellKey, Cell]]:
        """See :meth:`crr_monitor.stores.base.Store.cells`."""
        now = self._clock()
        low = 0 if since is None else max(0, -(-since // SLOT_MS))
        high = 10**10 - 1 if until is None else min(10**10, -(-until // SLOT_MS)) - 1
        if low > high:
            return
        for day in self._known_days(low // SLOTS_A_DAY, high // SLOTS_A_DAY):
            # Chosen where they are: to read a hundred thousand cells takes longer than a function may run.
            for item in self._between(f"cells#{day}", f"{low:010}#", f"{high:010}#~", _UNSETTLED if unsettled else ()):
                key, cell = read_cell(item)
                if _alive(item, now) and not cell.empty:
                    yield key, cell

    def pairs(self) -> list[Pair]:
        """See :meth:`crr_monitor.stores.base.Store.pairs`."""
        items = self._between("pairs", "0", "~")
        return sorted((item["source"]["S"], item["destination"]["S"], item["rule_id"]["S"]) for item in items)

    def _known_days(self, first: int, last: int) -> list[int]:
        return [int(item[NAME]["S"]) for item in self._between("days", f"{first:08}", f"{last:08}")]

    def _between(self, kind: str, low: str, high: str, positive: Sequence[str] = ()) -> Iterator[Attributes]:
        """Items in the order of their names; with ``positive`` only those of which one of these counters is."""
        request: Attributes = {
            "ConsistentRead": True,
            "KeyConditionExpression": "#kind = :kind AND #name BETWEEN :low AND :high",
            "ExpressionAttributeNames": {"#kind": KIND, "#name": NAME, **{f"#{name}": name for name in positive}},
            "ExpressionAttributeValues": {":kind": {"S": kind}, ":low": {"S": low}, ":high": {"S": high}},
        }
        if positive:
            request["FilterExpression"] = " OR ".join(f"#{name} > :nothing" for name in positive)
            request["ExpressionAttributeValues"][":nothing"] = {"N": "0"}
        return self._table.query(**request)
