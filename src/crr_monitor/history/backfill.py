"""Logs of any length straight into the archive: in parallel, in bounded memory, resumable after a kill.

Copies of which earlier runs did not see the end are taken over from the archive (:mod:`crr_monitor.history.carry`).
Then come three stages, each made of tasks that leave a mark when they are done, so that nothing is done twice:

1. *read*: a chunk of the logs is read and decoded; its evidence goes to disk, spread over partitions by version;
2. *settle*: a partition is merged, all evidence about a version being in one of them; its copies go to disk, by
   the time of their arrival;
3. *file*: what arrived in some hours becomes Parquet in the archive.

The rules are the core's: nothing here knows what evidence means. The records that most logs consist of take a short
way through all three (:mod:`crr_monitor.history.usual`, :mod:`crr_monitor.history.settle`). Files get their names from
what was read, so that the same logs read again replace what they made before.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import msgspec
from msgspec import Struct

from crr_monitor.history.carry import Looked, look
from crr_monitor.history.driver import HistoryError
from crr_monitor.history.stages import NEWEST, Done, Plan, file_slot, read, settle
from crr_monitor.history.workers import alone, pool
from crr_monitor.sources.rejects import RejectFile, read_rejects

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from crr_monitor.core.topology import Topology
    from crr_monitor.history.s3 import Reach
    from crr_monitor.sources.objects import Found


Stage: TypeAlias = Literal["read", "settle", "file"]
STAGES: tuple[Stage, ...] = ("read", "settle", "file")

CHUNK_BYTES = 12 << 20
"""Raw bytes of logs that one task reads: some seconds of work, so that little is lost when it is killed."""

PARTITION_BYTES = 24 << 20
"""Raw bytes of compressed logs whose evidence one partition holds, about."""

MAX_PARTITIONS = 2_048

FORMAT = 2
"""Of what the stages leave for each other: what another version left is not taken up."""

PARALLEL_BYTES = 16 << 20
_PLAN = "plan.json"
_STAMP = re.compile(r"_(\d{8}T\d{4}Z)_[^/]*$")
"""The time in the name of a CloudTrail log (User Guide, "CloudTrail log file name format")."""


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
    if partitions > 1:  # as many for each of two or four processes, so that none waits for another's last one
        partitions += -partitions % 4
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
        folder = work / f"{plan.name}-{FORMAT}"
        finished = folder.with_name(f"{folder.name}.finished")
        folder.mkdir(parents=True, exist_ok=True)
        stack.enter_context(alone(folder))
        for stage in STAGES:
            (folder / stage).mkdir(exist_ok=True)
        _write_mark(folder / _PLAN, msgspec.json.encode(plan))
        if processes is None:
            size = sum(log.size for chunk in plan.chunks for log in chunk)
            processes = (os.cpu_count() or 1) if size >= PARALLEL_BYTES else 1
        with pool(processes, folder, _do) as submit:
            names = tuple(log.name for chunk in plan.chunks for log in chunk)
            look(Looked(plan.archive, plan.reach, names, plan.name), folder, plan.partitions)
            total = Done()
            total.add(_run_stage("read", range(len(plan.chunks)), folder, submit, progress))
            _keep_rejects(folder, rejects)
            _write_mark(folder / NEWEST, b"%d" % total.newest)
            settled = _run_stage("settle", range(plan.partitions), folder, submit, progress)
            filed = _run_stage("file", _largest_first(folder, settled.slots), folder, submit, progress)
        total.add(filed)
        # All at once: of a folder that lost half of its files and marks the next run would take the rest for all.
        shutil.rmtree(finished, ignore_errors=True)  # of a run that was killed here
        folder.rename(finished)
        shutil.rmtree(finished)
    return total


@contextmanager
def _whole(work: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        message = f"cannot work in {work}: {error.strerror} ({error.filename}); make room, or name another with --work"
        raise HistoryError(message) from error


def _largest_first(folder: Path, slots: set[str]) -> list[str]:
    """Slots by how much is in them: the last ones are short, and the processes end at about the same time."""

    def size(slot: str) -> int:
        return sum(
            file.stat().st_size for name in (slot, f"slot={slot}") for file in (folder / "file" / name).glob("*")
        )

    return sorted(slots, key=lambda slot: (-size(slot), slot))


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


def _do(task: tuple[Stage, int | str, Path]) -> Done:
    """Do one task, and mark it."""
    stage, name, folder = task
    plan = _plan(folder / _PLAN, (folder / _PLAN).stat().st_mtime_ns)
    done = _TASKS[stage](plan, folder, name)
    _write_mark(folder / stage / f"{name}.done", msgspec.json.encode(done))
    return done


@lru_cache(maxsize=1)
def _plan(path: Path, written: int) -> Plan:  # noqa: ARG001 - a plan of another time is another one
    """The plan: of months of logs it takes a while to read, for each of many tasks."""
    return msgspec.json.decode(path.read_bytes(), type=Plan)


def _write_mark(path: Path, body: bytes) -> None:
    unfinished = path.with_name(path.name + ".unfinished")
    with unfinished.open("wb") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


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


_TASKS: dict[Stage, Callable[[Plan, Path, Any], Done]] = {"read": read, "settle": settle, "file": file_slot}
__all__ = ["Done", "Plan", "Progress", "in_order_of_time", "make_plan", "run"]
