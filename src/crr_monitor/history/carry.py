"""What a backfill takes over from the archive: copies of which an earlier run did not see the end, or the beginning.

A write may be in the logs of one run and its replica, failure or repair in those of the next. So before a run reads its
logs it looks in the archive for rows that more evidence could change, and keeps as evidence what they say. Where the
run then meets one of these versions, both are merged by the core's rules, and the row that comes of it knows all; of
versions that it does not meet it says nothing.

Only the days are looked at in which rows of that time can be: :data:`~crr_monitor.core.archive.LATENESS_DAYS` around
the times in the logs' names, and all where a log has no such name.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from crr_monitor.core.archive import LATENESS_MS, ArchiveRow
from crr_monitor.core.events import Mark
from crr_monitor.core.evidence import Claim, ClaimKind, Evidence, Expectation, Failure, Origin, Sighting, Taken
from crr_monitor.core.merge import merge
from crr_monitor.core.times import SECOND_MS, format_time
from crr_monitor.history.coverage import time_of_logs
from crr_monitor.history.driver import connected, text
from crr_monitor.history.layout import ENDING, PATTERN, S3, Prefix, split_address
from crr_monitor.history.s3 import Reach
from crr_monitor.history.schema import ROW_FIELDS, TIMES
from crr_monitor.history.spill import Spill
from crr_monitor.stores.packed import pack, unpack

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from crr_monitor.history.driver import Database
    from crr_monitor.history.spill import Packed
    from crr_monitor.stores.base import VersionKey

MEMORY = "300MB"
FETCH_ROWS = 10_000
CARRIED = "carried"

_UNFINISHED = (
    "state <> 'withdrawn' AND (status <> 'COMPLETED' OR repaired OR written_at IS NULL OR replicated_at IS NULL)"
    " AND (destination_bucket IS NOT NULL OR source_bucket IS NOT NULL)"
)
"""Rows that more evidence could change, and repairs: logs that overlap may show the end without the failure."""


def _field(name: str) -> str:
    """The SQL of a field of a row; Firehose and we may write a time in different forms."""
    if name == "lag_ms":
        return "CAST(round(lag_seconds * 1000) AS BIGINT)"
    return f"epoch_ms(CAST({name} AS TIMESTAMP))" if name in TIMES else f'"{name}"'


_FIELDS = ", ".join(map(_field, ROW_FIELDS))


class Looked(Struct, frozen=True):
    """Where to look: the archive, the names of the logs, and what the run's own files are called.

    Its own are left out, as the run replaces them.
    """

    archive: str
    reach: Reach
    logs: tuple[str, ...]
    own: str


def look(at: Looked, work: Path, partitions: int) -> int:
    """Keep what the archive's unfinished rows say in the folder ``work``, unless that was done; gives their number.

    Raises:
        HistoryError: the archive cannot be read.
    """
    to, done = work / CARRIED, work / f"{CARRIED}.done"
    if done.exists():
        return 0
    shutil.rmtree(to, ignore_errors=True)  # of an attempt that was killed
    to.mkdir()
    spill = Spill(to, "carried", partitions)
    number = 0
    with connected(work, MEMORY, threads=1) as database:
        for files in _by_day(at, work / "fetched"):
            for rows in _rows(database, files):
                found = [evidence_of(row) for row in rows]
                spill.add((each.key, each.version_id, pack(each)) for each in found)
                number += len(found)
    spill.flush()
    done.touch()
    return number


def carried_parts(work: Path) -> list[Path]:
    """The parts that :func:`look` left."""
    return sorted((work / CARRIED).glob("*.part"))


def _by_day(at: Looked, cache: Path) -> Iterator[list[Path]]:
    """The archive's files, day by day; those of a bucket are fetched, and removed when the next day comes."""
    first, last = "", "9"
    days_of_logs = time_of_logs(at.logs)
    if days_of_logs is not None:
        since, until = days_of_logs
        first, last = (format_time(max(0, time))[:10] for time in (since - LATENESS_MS, until + LATENESS_MS))
    days: dict[str, list[str]] = {}
    source = Prefix(at.reach.client(), *split_address(at.archive)) if at.archive.startswith(S3) else None
    folder = Path(at.archive) if source is None else cache
    names = _names(folder) if source is None else (below for below, _, _ in source.files(first, last))
    for below in names:
        day = below[len("day=") : len("day=2026-11-22")]
        if first <= day <= last and not below.endswith(f"/{at.own}{ENDING}"):
            days.setdefault(day, []).append(below)
    for _, some in sorted(days.items()):
        if source is not None:
            for below in some:
                source.fetch(below, folder / below)
        yield [folder / below for below in some]
        if source is not None:
            shutil.rmtree(folder)


def _names(folder: Path) -> Iterator[str]:
    return (file.relative_to(folder).as_posix() for file in folder.glob(PATTERN))


def _rows(database: Database, files: list[Path]) -> Iterator[list[ArchiveRow]]:
    names = ", ".join(map(text, files))
    database.execute(
        f"SELECT {_FIELDS} FROM read_parquet([{names}], hive_partitioning=false, union_by_name=true)"
        f" WHERE {_UNFINISHED}"
    )
    while rows := database.fetchmany(FETCH_ROWS):
        yield [ArchiveRow(*row) for row in rows]


def evidence_of(row: ArchiveRow) -> Evidence:
    """What a row says, as evidence: alone it gives the row again."""
    sightings: list[Sighting] = []
    failures: list[Failure] = []
    claims: list[Claim] = []
    if row.source_bucket is not None and row.written_at is not None:
        sightings.append(_write(row, row.source_bucket, row.written_at))
    if row.status == "COMPLETED":
        if row.destination_bucket is not None and row.replicated_at is not None:
            sightings.append(_replica(row, row.destination_bucket, row.replicated_at))
        else:
            claims.extend(_arrived(row))
    if row.status == "FAILED" or row.repaired:
        failures.append(_failure(row))
    if row.status == "SOURCE_DELETED" and row.source_bucket is not None:
        claims.append(_claim(ClaimKind.GONE, row.source_bucket, None))
    if row.status == "NOT_ELIGIBLE" and row.source_bucket is not None:
        claims.append(_claim(ClaimKind.NOT_ELIGIBLE, row.source_bucket, row))
    # In the order in which evidence is kept.
    sightings.sort(key=lambda part: (part.bucket, part.mark is Mark.REPLICA))
    return Evidence(row.key, row.version_id, tuple(sightings), tuple(failures), tuple(claims))


def _write(row: ArchiveRow, bucket: str, at: int) -> Sighting:
    expected: tuple[Expectation, ...] = ()
    if row.destination_bucket is not None:
        place = (row.rule_id, row.destination_account, row.destination_region)
        expected = (Expectation(row.destination_bucket, Taken.YES, *place),)
    return Sighting(
        bucket,
        at,
        _whole(row, at),
        Mark.SOURCE,
        row.operation == "delete_marker",
        row.size,
        row.etag,
        row.source_account,
        row.source_region,
        expected,
    )


def _replica(row: ArchiveRow, bucket: str, at: int) -> Sighting:
    origins: tuple[Origin, ...] = ()
    if row.source_bucket is not None:
        place = (row.source_account or "", row.source_region or "", row.rule_id or "")
        origins = (Origin(row.source_bucket, *place),)
    return Sighting(
        bucket,
        at,
        _whole(row, at),
        Mark.REPLICA,
        row.operation == "delete_marker",
        row.size,
        None,
        row.destination_account,
        row.destination_region,
        (),
        origins,
    )


def _arrived(row: ArchiveRow) -> Iterator[Claim]:
    """That it is there, by S3's word."""
    if row.replicated_at is not None and row.source_bucket is not None:
        yield _claim(ClaimKind.COMPLETED, row.source_bucket, row, row.replicated_at)
    elif row.destination_bucket is not None:
        yield _claim(ClaimKind.REPLICA, row.destination_bucket, row)
    elif row.source_bucket is not None:
        yield _claim(ClaimKind.COMPLETED, row.source_bucket, row)


def _claim(kind: ClaimKind, bucket: str, row: ArchiveRow | None, at: int | None = None) -> Claim:
    label = "replica-event" if row is None or row.evidence is None else row.evidence
    destination = None if row is None or kind is ClaimKind.REPLICA else row.destination_bucket
    return Claim(kind, bucket, destination, at, row is not None and at is not None and _whole(row, at), label)


def _failure(row: ArchiveRow) -> Failure:
    at = row.failed_at
    first = at if at is None or row.written_at is not None else min(at, row.counted_at)
    return Failure(
        row.source_bucket,
        row.destination_bucket,
        metadata=False,
        first_at=first,
        at=at,
        whole_seconds=at is not None and _whole(row, at),
        label=(row.evidence if row.status == "FAILED" else None) or "failure-event",
        reason=row.failure_reason,
        rule_id=row.rule_id,
    )


def _whole(row: ArchiveRow, at: int) -> bool:
    """Whether a time came in whole seconds: a row only says that one of its times did."""
    return row.time_precision >= 1 and at % SECOND_MS == 0


def take_up(known: dict[VersionKey, Any], blocks: Iterable[list[Packed]]) -> dict[VersionKey, Evidence]:
    """Merge what was carried over into what a run knows, and only there; gives what was carried of these versions.

    ``known`` has evidence, packed or not.
    """
    carried: dict[VersionKey, Evidence] = {}
    for block in blocks:
        for key, version_id, body in block:
            version = (key, version_id)
            what = known.get(version)
            if what is None:
                continue
            before = unpack(key, version_id, body)
            carried[version] = merge(carried[version], before) if version in carried else before
            known[version] = merge(unpack(key, version_id, what) if isinstance(what, bytes) else what, before)
    return carried
