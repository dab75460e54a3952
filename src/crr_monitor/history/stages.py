"""The three stages of a backfill, one task at a time: see :mod:`crr_monitor.history.backfill`."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from msgspec import Struct, field

from crr_monitor.core.archive import all_rows, arrival, latest_event, partition_of, withdrawn_rows
from crr_monitor.core.merge import merge
from crr_monitor.core.status import derive
from crr_monitor.core.topology import BucketConfig, Topology
from crr_monitor.history.carry import carried_parts, take_up
from crr_monitor.history.driver import connected
from crr_monitor.history.layout import ENDING, open_target
from crr_monitor.history.reading import LINES, Kept, Lines, open_logs, read_usual
from crr_monitor.history.s3 import Reach
from crr_monitor.history.settle import MEMORY, Settler, select_settled
from crr_monitor.history.spill import Packed, Spill, block_bytes, number_of, read_blocks, read_part, slot_of
from crr_monitor.history.usual import Usual, classes_of
from crr_monitor.history.write import SEPARATOR, Written, copy_by_hour, line_of, select_text
from crr_monitor.process.collect import collect
from crr_monitor.sources.objects import Found
from crr_monitor.sources.rejects import RejectFile
from crr_monitor.stores.base import Counts
from crr_monitor.stores.packed import unpack

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from crr_monitor.core.evidence import Evidence
    from crr_monitor.stores.base import VersionKey

SETTLE_BYTES = 48 << 20
"""Packed evidence that is merged at once; a larger partition is merged in several passes over it."""

TEXT_BYTES = 16 << 20
"""Text of rows that is kept in memory before it is written."""

NEWEST = "newest"

FILE_MEMORY = "256MB"


class Plan(Struct, frozen=True):
    """What is to be done, decided once: a run that goes on after a kill goes on with this."""

    archive: str
    reach: Reach
    topology: tuple[BucketConfig, ...]
    chunks: tuple[tuple[Found, ...], ...]
    partitions: int
    name: str


class Done(Struct):
    """What a task did; what the marks hold, and with all of them added what a run did."""

    counts: Counts = field(default_factory=Counts)
    newest: int = 0
    rows: int = 0
    files: int = 0
    slots: set[str] = field(default_factory=set)

    def add(self, other: Done) -> None:
        """Add another task's."""
        self.counts.add(other.counts)
        self.newest = max(self.newest, other.newest)
        self.rows += other.rows
        self.files += other.files
        self.slots |= other.slots


# ------------------------------------------------------------------ read


def read(plan: Plan, folder: Path, number: int) -> Done:
    """Read a chunk of the logs, and spread its evidence over the partitions."""
    for left in (folder / "read").glob(f"{number}-*"):  # of an attempt that was killed
        left.unlink()
    topology = Topology(plan.topology)
    classes = classes_of(topology)
    sources = open_logs(plan.chunks[number], plan.reach)
    rejects = RejectFile(folder / "read" / f"{number}-rejects.ndjson")
    keep = Kept(Spill(folder / "read", str(number), plan.partitions), rejects)
    try:
        if classes is None:
            keep.read(sources, topology)
        else:
            lines = Lines(Usual(classes, plan.partitions), folder / "read", str(number))
            read_usual(sources, topology, lines, keep)
        keep.spill.flush()
        rejects.sync()
    finally:
        rejects.close()
    return Done(keep.counts, keep.newest)


# ---------------------------------------------------------------- settle


def settle(plan: Plan, folder: Path, partition: int) -> Done:
    """Merge a partition, and spread its copies over the slots of their arrival."""
    for left in (folder / "file").glob(f"*/{_usual_name(partition)}-*"):  # of an attempt that was killed
        left.unlink()
    parts = sorted((folder / "read").glob("*.part"))
    carried = carried_parts(folder)
    usual = sorted((folder / "read").glob(f"*{LINES}"))
    newest = _newest(folder)
    text = _Text(folder / "file", partition)
    passes = -(-block_bytes(parts, partition) // SETTLE_BYTES)
    if not block_bytes(usual, partition):
        for one in range(passes):
            mine = _Mine(plan.partitions, passes, one)
            _settle_pass({}, read_blocks(parts, partition), read_blocks(carried, partition), mine, (newest, text))
        return Done(slots=text.close())
    topology = Topology(plan.topology)
    work = folder / "settle" / f"{partition}.work"
    lines = work.with_suffix(LINES)
    with lines.open("wb") as file:
        file.writelines(read_part(part, partition) for part in usual)
    with connected(work, MEMORY, threads=1) as database:
        settler = Settler(database, topology, lines)
        blocks = read_blocks([*parts, *carried], partition)
        settler.know(([one[:2] for one in block] for block in blocks), work.with_suffix(".known"))
        slots = settler.settle(folder / "file", _usual_name(partition))
        for one in range(max(passes, 1)):
            mine = _Mine(plan.partitions, passes, one)
            known: dict[VersionKey, Evidence] = {}
            collect((each for each in settler.others() if mine.takes(each.version_id)), topology, known)
            blocks = read_blocks(parts, partition)
            _settle_pass({**known}, blocks, read_blocks(carried, partition), mine, (newest, text))
    shutil.rmtree(work, ignore_errors=True)
    lines.unlink()
    return Done(slots=slots | text.close())


def _usual_name(partition: int) -> str:
    return f"usual-{partition}"


def _newest(folder: Path) -> int:
    """The latest time of all that was read, in milliseconds."""
    return int((folder / NEWEST).read_bytes())


class _Mine(Struct, frozen=True):
    """Which versions of a partition a pass takes: they have the same remainder, so the quotient spreads them."""

    partitions: int
    passes: int
    number: int

    def takes(self, version_id: str) -> bool:
        return self.passes <= 1 or number_of(version_id) // self.partitions % self.passes == self.number


def _settle_pass(
    known: dict[VersionKey, bytes | Evidence],
    blocks: Iterator[list[Packed]],
    carried: Iterator[list[Packed]],
    mine: _Mine,
    to: tuple[int, _Text],
) -> None:
    newest, text = to
    for block in blocks:
        for key, version_id, body in block:
            if not mine.takes(version_id):
                continue
            version = (key, version_id)
            old = known.get(version)
            if old is None:
                known[version] = body
            elif old != body:
                known[version] = merge(_evidence(version, old), unpack(key, version_id, body))
    before = take_up(known, carried)
    for version, what in known.items():
        record = derive(_evidence(version, what))
        rows = [*all_rows(record, newest, "open")]
        if version in before:
            rows += withdrawn_rows(derive(before[version]), record, newest)
        for row in rows:
            day, hour = partition_of(arrival(row, latest_event(row)))
            text.add(slot_of(day, hour), f"{hour}{SEPARATOR}{line_of(row)}")


def _evidence(version: tuple[str, str], what: bytes | Evidence) -> Evidence:
    return unpack(*version, what) if isinstance(what, bytes) else what


class _Text:
    """Lines by slot, in files ``SLOT/PARTITION.txt``."""

    def __init__(self, folder: Path, partition: int) -> None:
        self._folder = folder
        self._partition = partition
        self._slots: dict[str, list[str]] = {}
        self._begun: set[str] = set()
        self._bytes = 0

    def add(self, slot: str, line: str) -> None:
        self._slots.setdefault(slot, []).append(line)
        self._bytes += len(line)
        if self._bytes >= TEXT_BYTES:
            self._write()

    def _write(self) -> None:
        for slot, lines in self._slots.items():
            folder = self._folder / slot
            folder.mkdir(exist_ok=True)
            mode = "a" if slot in self._begun else "w"
            with (folder / f"{self._partition}.txt").open(mode, encoding="utf-8", newline="") as file:
                file.writelines(lines)
            self._begun.add(slot)
        self._slots, self._bytes = {}, 0

    def close(self) -> set[str]:
        """Write the rest; gives the slots."""
        self._write()
        for slot in self._begun:
            with (self._folder / slot / f"{self._partition}.txt").open("rb") as file:
                os.fsync(file.fileno())
        return self._begun


# ------------------------------------------------------------------ file


def file_slot(plan: Plan, folder: Path, slot: str) -> Done:
    """Put what arrived in a slot into the archive."""
    target = open_target(plan.archive, plan.reach.client)
    written = Written()
    day = slot[: len("2026-11-22")]
    texts = sorted((folder / "file" / slot).glob("*.txt"))
    usual = sorted((folder / "file" / f"slot={slot}").glob("*"))
    work = folder / "file" / f"{slot}.work"
    work.mkdir(exist_ok=True)
    rows = [select_text(texts, hour=True)] if texts else []
    rows += [select_settled(usual, _newest(folder))] if usual else []
    made = target.scratch(work) / f"{day}-{slot[-1]}-{plan.name}"
    with connected(work, FILE_MEMORY, threads=1) as database:
        written.rows, files = copy_by_hour(database, " UNION ALL ".join(rows), made)
    for hour, file in files:
        target.put(file, day, hour, plan.name + ENDING)
        written.files += 1
    shutil.rmtree(made)
    return Done(rows=written.rows, files=written.files)
