"""What the demo itself wrote, and whether the monitor says the same: of each version, and in all figures."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from msgspec import Struct, field

from crr_monitor.core.model import Status
from crr_monitor.demo.scenario import takers

if TYPE_CHECKING:
    from collections.abc import Iterable

    from crr_monitor.core.model import Record
    from crr_monitor.core.statistics import Cell, CellKey

FINAL = (Status.FAILED, Status.COMPLETED)
"""The status of a version is the first of these that one of its copies has, once replication has come to rest."""


class Written(Struct, frozen=True):
    """A version as it was written, and what has to become of its copies."""

    bucket: str
    key: str
    version_id: str
    marker: bool
    copies: dict[str, Status]

    @property
    def status(self) -> Status | None:
        """The version's status; none where no rule takes it, as then there is no record."""
        return next((status for status in FINAL if status in self.copies.values()), None)


def written(bucket: str, key: str, version_id: str, *, marker: bool = False) -> Written:
    """A version with the copies that the buckets' rules ask for."""
    rules = takers(bucket, key, marker=marker)
    copies = {rule.destination: Status.FAILED if rule.refused else Status.COMPLETED for rule in rules}
    return Written(bucket, key, version_id, marker, copies)


class Verdict(Struct):
    """How what the monitor says compares with what was written; ``differences`` are sentences."""

    versions: int = 0
    markers: int = 0
    copies: int = 0
    without_rule: int = 0
    """Versions that no rule takes: of these there must be no record."""
    recorded: int = 0
    missing: int = 0
    differences: list[str] = field(default_factory=list)

    @property
    def agrees(self) -> bool:
        """Whether every record and every figure is as it was written."""
        return not self.missing and not self.differences


def check(version: Written, records: Iterable[Record], verdict: Verdict) -> None:
    """Compare one version with its records, of which there has to be one; none where no rule takes it."""
    found = list(records)
    verdict.versions += 1
    verdict.markers += version.marker
    verdict.copies += len(version.copies)
    name = f"s3://{version.bucket}/{version.key} version {version.version_id}"
    if version.status is None:
        verdict.without_rule += 1
        if found:
            verdict.differences.append(f"{name}: recorded, but no rule takes it")
        return
    if not found:
        verdict.missing += 1
        verdict.differences.append(f"{name}: not recorded")
        return
    verdict.recorded += 1
    record = found[0]
    said = {copy.bucket: copy.status for copy in record.visible_copies}
    if len(found) > 1 or record.status is not version.status or said != version.copies:
        verdict.differences.append(f"{name}: is {_words(version.copies)}, and the monitor says {_words(said)}")


def _words(copies: dict[str, Status] | dict[str | None, Status]) -> str:
    return ", ".join(f"{status.name} at {bucket}" for bucket, status in sorted(copies.items(), key=str)) or "nowhere"


Figures = Counter[tuple[str, str, bool, Status]]
"""Copies by source, destination, whether they are delete markers, and status."""


def expected(versions: Iterable[Written]) -> Figures:
    """What the statistics have to be."""
    return Counter(
        (version.bucket, bucket, version.marker, status)
        for version in versions
        for bucket, status in version.copies.items()
    )


def counted(cells: Iterable[tuple[CellKey, Cell]]) -> Figures:
    """What the statistics are."""
    found: Figures = Counter()
    for key, cell in cells:
        for status, count in (
            (Status.COMPLETED, cell.completed),
            (Status.FAILED, cell.failed),
            (Status.PENDING, cell.pending),
            (Status.SOURCE_DELETED, cell.source_deleted),
            (Status.NOT_ELIGIBLE, cell.not_eligible),
        ):
            found[key.source, key.destination, key.delete_marker, status] += count
    return +found


def compare(wanted: Figures, said: Figures, verdict: Verdict) -> None:
    """Compare all figures."""
    for name in sorted(set(wanted) | set(said)):
        if wanted[name] != said[name]:
            source, destination, marker, status = name
            what = "delete markers" if marker else "objects"
            verdict.differences.append(
                f"{source} -> {destination}: {wanted[name]} {what} are {status.name},"
                f" and the monitor counts {said[name]}"
            )
