"""Logs of any length straight into the archive: in parallel, in bounded memory, resumable after a kill.

Three stages, each made of tasks that leave a mark when they are done, so that nothing is done twice:

1. *read*: a chunk of the logs is read and decoded; its evidence goes to disk, spread over partitions by version;
2. *settle*: a partition is merged, all evidence about a version being in one of them; its copies go to disk, by
   the time of their arrival;
3. *file*: what arrived in some hours becomes Parquet in the archive.

The rules are the core's: nothing here knows what evidence means. Files get their names from what was read, so that the
same logs read again replace what they made before.
"""

from __future__ import annotations

import fcntl
import gc
import hashlib
import os
import re
import shutil
import signal
import threading
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context, parent_process
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import msgspec
from msgspec import Struct, field

from crr_monitor.core.archive import all_rows, arrival, latest_event, partition_of
from crr_monitor.core.merge import merge
from crr_monitor.core.status import derive
from crr_monitor.core.topology import BucketConfig, Topology
from crr_monitor.history.driver import HistoryError, connected
from crr_monitor.history.layout import ENDING, open_target
from crr_monitor.history.reading import Kept, open_logs, read_usual
from crr_monitor.history.s3 import Reach
from crr_monitor.history.spill import Packed, Spill, block_bytes, number_of, read_blocks, slot_of
from crr_monitor.history.usual import (
    MEMORY,
    Settler,
    Taker,
    classes_of,
    select_settled,
)
from crr_monitor.history.write import SEPARATOR, Written, copy_to, line_of, select_text
from crr_monitor.process.collect import collect
from crr_monitor.process.reading import GC_THRESHOLD
from crr_monitor.sources.objects import Found
from crr_monitor.sources.rejects import RejectFile, read_rejects
from crr_monitor.stores.base import Counts
from crr_monitor.stores.packed import unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from crr_monitor.core.evidence import Evidence
    from crr_monitor.stores.base import VersionKey

Stage: TypeAlias = Literal["read", "settle", "file"]
STAGES: tuple[Stage, ...] = ("read", "settle", "file")

CHUNK_BYTES = 12 << 20
"""Raw bytes of logs that one task reads: some seconds of work, so that little is lost when it is killed."""

PARTITION_BYTES = 24 << 20
"""Raw bytes of compressed logs whose evidence one partition holds, about."""

SETTLE_BYTES = 48 << 20
"""Packed evidence that is merged at once; a larger partition is merged in several passes over it."""

TEXT_BYTES = 16 << 20
"""Text of rows that is kept in memory before it is written."""

MAX_PARTITIONS = 2_048
USUAL = ".usual"
PARALLEL_BYTES = 16 << 20
FILE_MEMORY = "256MB"

_PLAN = "plan.json"
_STAMP = re.compile(r"_(\d{8}T\d{4}Z)_[^/]*$")
"""The time in the name of a CloudTrail log (User Guide, "CloudTrail log file name format")."""


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


class Progress(Struct, frozen=True):
    """How far a stage is, in tasks."""

    stage: Stage
    done: int
    total: int


def in_order_of_time(logs: Sequence[Found]) -> list[Found]:
    """Logs of all accounts and Regions as they came, so that a write and its replica mostly meet early."""

    def order(log: Found) -> tuple[str, str]:
        stamp = _STAMP.search(log.name)
        return ("" if stamp is None else stamp[1], log.name)

    return sorted(logs, key=order)


def make_plan(logs: Sequence[Found], topology: Topology, archive: str, reach: Reach) -> Plan:
    """Divide logs into tasks."""
    ordered = in_order_of_time(logs)
    chunks: list[list[Found]] = []
    room = 0
    for log in ordered:
        if room <= 0:
            chunks.append([])
            room = CHUNK_BYTES
        chunks[-1].append(log)
        room -= max(log.size, 1)
    packed = sum(log.size if log.name.endswith(".gz") else log.size // 8 for log in ordered)
    partitions = min(max(-(-packed // PARTITION_BYTES), 1), MAX_PARTITIONS)
    what = msgspec.json.encode((ordered, topology.configs))
    name = f"backfill-{hashlib.blake2b(what, digest_size=8).hexdigest()}"
    return Plan(archive, reach, topology.configs, tuple(map(tuple, chunks)), partitions, name)


def run(
    plan: Plan,
    work: Path,
    rejects: Path,
    processes: int | None = None,
    progress: Callable[[Progress], None] = lambda _progress: None,
) -> Done:
    """Do what is planned, or what is left of it, and remove the traces; gives what was done in all.

    ``work`` needs about as much space as the compressed logs take, twice. It may be interrupted at any moment: the
    same call goes on. ``processes``: as many as there are processors, one for little input.

    Raises:
        SourceError: a log cannot be read.
        HistoryError: the archive cannot be written, or DuckDB is missing.
        RejectError: the reject file cannot be written.
    """
    with _whole(work), ExitStack() as stack:
        folder = work / plan.name
        folder.mkdir(parents=True, exist_ok=True)
        stack.enter_context(_alone(folder))
        for stage in STAGES:
            (folder / stage).mkdir(exist_ok=True)
        _write_mark(folder / _PLAN, msgspec.json.encode(plan))
        if processes is None:
            size = sum(log.size for chunk in plan.chunks for log in chunk)
            processes = (os.cpu_count() or 1) if size >= PARALLEL_BYTES else 1
        with _pool(processes) as submit:
            total = Done()
            total.add(_run_stage("read", range(len(plan.chunks)), folder, submit, progress))
            _keep_rejects(folder, rejects)
            settled = _run_stage("settle", range(plan.partitions), folder, submit, progress)
            filed = _run_stage("file", sorted(settled.slots), folder, submit, progress)
        total.add(filed)
        shutil.rmtree(folder)
    return total


@contextmanager
def _whole(work: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        message = f"cannot work in {work}: {error.strerror} ({error.filename}); make room, or name another with --work"
        raise HistoryError(message) from error


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep a second run of the same logs out."""
    with (folder / "lock").open("wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            message = f"another process is at work on the same logs in {folder}: let it finish"
            raise HistoryError(message) from error
        yield


def _run_stage(
    stage: Stage,
    tasks: Sequence[int | str],
    folder: Path,
    submit: Callable[[list[tuple[Stage, int | str, Path]]], Iterator[Done]],
    progress: Callable[[Progress], None],
) -> Done:
    total = Done()
    left: list[tuple[Stage, int | str, Path]] = []
    for task in tasks:
        mark = folder / stage / f"{task}.done"
        if mark.exists():
            total.add(msgspec.json.decode(mark.read_bytes(), type=Done))
        else:
            left.append((stage, task, folder))
    progress(Progress(stage, len(tasks) - len(left), len(tasks)))
    for number, done in enumerate(submit(left), len(tasks) - len(left) + 1):
        total.add(done)
        progress(Progress(stage, number, len(tasks)))
    return total


@contextmanager
def _pool(processes: int) -> Iterator[Callable[[list[tuple[Stage, int | str, Path]]], Iterator[Done]]]:
    if processes <= 1:
        before = gc.get_threshold()
        gc.set_threshold(GC_THRESHOLD)
        try:
            yield lambda tasks: map(_do, tasks)
        finally:
            gc.set_threshold(*before)
        return
    # New interpreters: what this process has open and holds locked is none of theirs.
    pool = ProcessPoolExecutor(processes, get_context("spawn"), initializer=_begin_worker)
    try:
        yield lambda tasks: (future.result() for future in as_completed([pool.submit(_do, task) for task in tasks]))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _begin_worker() -> None:
    # Ctrl-C is for the parent, which then waits for what is under way.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    gc.set_threshold(GC_THRESHOLD)


def _end_with_parent() -> None:
    """A parent that was killed cannot tell its workers to end, and they would wait for tasks for ever."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _do(task: tuple[Stage, int | str, Path]) -> Done:
    """Do one task, and mark it."""
    stage, name, folder = task
    plan = msgspec.json.decode((folder / _PLAN).read_bytes(), type=Plan)
    done = _TASKS[stage](plan, folder, name)
    _write_mark(folder / stage / f"{name}.done", msgspec.json.encode(done))
    return done


def _write_mark(path: Path, body: bytes) -> None:
    unfinished = path.with_name(path.name + ".unfinished")
    with unfinished.open("wb") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


# ------------------------------------------------------------------- 1. read


def _read(plan: Plan, folder: Path, number: int) -> Done:
    for left in (folder / "read").glob(f"{number}-*"):  # of an attempt that was killed
        if left.is_dir():
            shutil.rmtree(left)
        else:
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
            work, lines = folder / "read" / f"{number}-work", folder / "read" / f"{number}-lines"
            with connected(work, MEMORY, threads=1) as database:
                taker = Taker(database, classes, plan.partitions, lines)
                read_usual(sources, topology, taker, lines, keep)
                keep.newest = max(keep.newest, taker.save(folder / "read" / f"{number}-0{USUAL}"))
            lines.unlink()
            shutil.rmtree(work, ignore_errors=True)
        keep.spill.flush()
        rejects.sync()
    finally:
        rejects.close()
    return Done(keep.counts, keep.newest)


def _keep_rejects(folder: Path, to: Path) -> None:
    """Put the rejects of all chunks behind those that were kept before; what is there already is not written again."""
    mark = folder / "rejects.done"
    if mark.exists():
        return
    kept = RejectFile(to)
    known: set[str] = set()
    try:
        for part in sorted((folder / "read").glob("*-rejects.ndjson")):
            for reject in read_rejects(part):
                if reject.source not in known:
                    known.add(reject.source)
                    kept.resume(reject.source, 0)
                kept.write(reject.source, reject.position, reject.error, reject.message)
        kept.sync()
    finally:
        kept.close()
    _write_mark(mark, b"")


# ----------------------------------------------------------------- 2. settle


def _settle(plan: Plan, folder: Path, partition: int) -> Done:
    for left in (folder / "file").glob(f"*/{_usual_name(partition)}-*"):  # of an attempt that was killed
        left.unlink()
    parts = sorted((folder / "read").glob("*.part"))
    usual = sorted((folder / "read").glob(f"*{USUAL}"))
    newest = _newest(folder)
    text = _Text(folder / "file", partition)
    passes = -(-block_bytes(parts, partition) // SETTLE_BYTES)
    if not usual:
        for one in range(passes):
            _settle_pass({}, read_blocks(parts, partition), newest, text, _Mine(plan.partitions, passes, one))
        return Done(slots=text.close())
    topology = Topology(plan.topology)
    work = folder / "settle" / f"{partition}.work"
    with connected(work, MEMORY, threads=1) as database:
        settler = Settler(database, topology, usual, partition)
        for block in read_blocks(parts, partition):
            settler.know([(key, version_id) for key, version_id, _ in block], work.with_suffix(".known"))
        slots = settler.settle(folder / "file", _usual_name(partition))
        for one in range(max(passes, 1)):
            mine = _Mine(plan.partitions, passes, one)
            known: dict[VersionKey, Evidence] = {}
            collect((each for each in settler.others() if mine.takes(each.version_id)), topology, known)
            _settle_pass({**known}, read_blocks(parts, partition), newest, text, mine)
    shutil.rmtree(work, ignore_errors=True)
    return Done(slots=slots | text.close())


def _usual_name(partition: int) -> str:
    return f"usual-{partition}"


def _newest(folder: Path) -> int:
    """The latest time of all that was read, in milliseconds."""
    marks = (folder / "read").glob("*.done")
    return max((msgspec.json.decode(mark.read_bytes(), type=Done).newest for mark in marks), default=0)


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
    newest: int,
    text: _Text,
    mine: _Mine,
) -> None:
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
    for version, what in known.items():
        record = derive(_evidence(version, what))
        for row in all_rows(record, newest, "open"):
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


# ------------------------------------------------------------------- 3. file


def _file(plan: Plan, folder: Path, slot: str) -> Done:
    target = open_target(plan.archive, plan.reach.client)
    written = Written()
    day = slot[: len("2026-11-22")]
    texts = sorted((folder / "file" / slot).glob("*.txt"))
    usual = sorted((folder / "file" / f"slot={slot}").glob("*"))
    work = folder / "file" / f"{slot}.work"
    work.mkdir(exist_ok=True)
    rows = [select_text(texts, hour=True)] if texts else []
    rows += [select_settled(usual, _newest(folder))] if usual else []
    with connected(work, FILE_MEMORY, threads=1) as database:
        database.execute(f"CREATE TEMP TABLE rows AS {' UNION ALL '.join(rows)}")
        hours = database.execute("SELECT DISTINCT hour FROM rows ORDER BY hour").fetchall()
        for (hour,) in hours:
            made = target.scratch(work) / f"{day}-{hour}-{plan.name}{ENDING}.part"
            written.rows += copy_to(database, f"SELECT * EXCLUDE (hour) FROM rows WHERE hour = '{hour}'", made)
            target.put(made, day, hour, plan.name + ENDING)
            written.files += 1
    return Done(rows=written.rows, files=written.files)


_TASKS: dict[Stage, Callable[[Plan, Path, Any], Done]] = {"read": _read, "settle": _settle, "file": _file}
__all__ = ["Done", "Plan", "Progress", "in_order_of_time", "make_plan", "open_logs", "run"]
