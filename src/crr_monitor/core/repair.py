"""What has to be repaired: failed versions in groups, each with what to mend first, and the manifest of a retry.

A group is one source bucket and one set of causes: what is mended together, is retried together. A version that failed
for two destinations with two causes is in one group, because S3 Batch Replication retries the version, not a copy. A
version of which no cause can be helped by a retry is in a group of its own kind, with what helps instead.

Records come one after the other and none is kept, so the plan of any number of versions needs no more memory than its
groups.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING
from urllib.parse import quote

from msgspec import Struct, field

from crr_monitor.core.canary_keys import is_canary
from crr_monitor.core.failures import explain, reason_code
from crr_monitor.core.model import Status
from crr_monitor.core.topology import Topology

if TYPE_CHECKING:
    from collections.abc import Iterable

    from crr_monitor.core.model import Copy, Record

UNKNOWN = "unknown"
"""Stands for the reason of a failure of which S3 told no reason (HEAD tells none)."""

FIELDS = ("Bucket", "Key", "VersionId")
"""The columns of a manifest."""

MARKERS_NOTE = (
    "S3 replicates delete markers only where the rule does, and in a batch perhaps before the versions that they hide: "
    "switch off lifecycle rules that remove expired delete markers while the job runs"
)
"""User Guide, "Replicating existing objects with Batch Replication", considerations."""

NO_SOURCE = "the source bucket of these versions is not known: learn the replication rules (`crr-monitor topology`)"


class Cause(Struct, frozen=True):
    """Why copies failed, what to mend, and whether a retry helps after that."""

    reason: str
    text: str
    fix: str
    retry: bool


def cause_of(reason: str | None) -> Cause:
    """The cause of a copy's failure. Of a reason that nobody knows a retry is tried: its report tells more."""
    code = reason_code(reason)
    if code is None:
        return Cause(
            UNKNOWN,
            "S3 told that it failed, and not why",
            "check the replication role, the destination bucket's policy and versioning, and KMS keys; the retry's "
            "report tells S3's reason",
            retry=True,
        )
    known = explain(reason)
    if known is None:
        return Cause(
            code,
            "this reason is newer than this version of the program",
            "look it up in the S3 User Guide, under replication failure reasons",
            retry=True,
        )
    return Cause(code, known.cause, known.fix, known.retry)


class Selection(Struct, frozen=True):
    """Which failed copies make a version one to repair: any, or those at a destination, or with one of some reasons."""

    destination: str | None = None
    reasons: frozenset[str] = frozenset()

    def takes(self, copy: Copy) -> bool:
        """Whether this failed copy is meant."""
        return (self.destination is None or copy.bucket == self.destination) and (
            not self.reasons or (reason_code(copy.failure_reason) or UNKNOWN) in self.reasons
        )


class Place(Struct, frozen=True):
    """A source bucket; what is not known of where it is stays ``None``, and so does one of which no message told."""

    bucket: str | None
    account: str | None = None
    region: str | None = None


class Group(Struct):
    """Failed versions of one source bucket that have the same causes, counted.

    ``copies`` are the failed ones, ``size`` their bytes as far as they are known: of ``unknown_sizes`` copies they are
    not. ``oldest_failed_at`` is in milliseconds, ``None`` where S3 never told when.
    """

    source: Place
    causes: tuple[Cause, ...]
    versions: int = 0
    copies: int = 0
    size: int = 0
    unknown_sizes: int = 0
    delete_markers: int = 0
    oldest_failed_at: int | None = None
    destinations: dict[str, int] = field(default_factory=dict)

    @property
    def retry(self) -> bool:
        """Whether a retry can help any of its copies."""
        return self.source.bucket is not None and any(cause.retry for cause in self.causes)

    @property
    def name(self) -> str:
        """A name for files and objects, the same for the same group, and for no other one."""
        codes = "+".join(cause.reason for cause in self.causes)
        source = self.source
        exact = "\n".join((*(part or "" for part in (source.bucket, source.account, source.region)), codes))
        plain = "".join(char if char.isascii() and (char.isalnum() or char in "+-.") else "-" for char in codes)
        kind = "retry" if self.retry else "no-retry"
        digest = hashlib.sha256(exact.encode()).hexdigest()
        return f"{source.bucket or UNKNOWN}.{plain[:80]}.{digest[:8]}.{kind}"

    @property
    def notes(self) -> tuple[str, ...]:
        """What else one should know before a retry."""
        notes = [MARKERS_NOTE] if self.delete_markers else []
        return tuple(notes if self.source.bucket is not None else [*notes, NO_SOURCE])


class RepairPlan:
    """Sorts failed versions into groups, one after the other."""

    def __init__(self, selection: Selection | None = None, topology: Topology | None = None) -> None:
        """``topology`` tells where a bucket is of which the record does not."""
        self._selection = selection or Selection()
        self._topology = topology or Topology()
        self._groups: dict[tuple[Place, tuple[str, ...]], Group] = {}

    def add(self, record: Record) -> Group | None:
        """The group to which a version belongs; ``None`` where nothing of it is to be repaired."""
        failed = [copy for copy in record.copies if copy.status is Status.FAILED]
        if not any(map(self._selection.takes, failed)) or is_canary(record.key):
            return None
        causes = {cause.reason: cause for cause in (cause_of(copy.failure_reason) for copy in failed)}
        codes = tuple(sorted(causes))
        place = self._place(record)
        group = self._groups.get((place, codes))
        if group is None:
            group = self._groups[place, codes] = Group(place, tuple(causes[code] for code in codes))
        _count(group, record, failed)
        return group

    def _place(self, record: Record) -> Place:
        bucket = record.source_bucket
        if bucket is None:
            return Place(None)
        account, region = self._topology.place(bucket, record.source_account)
        return Place(bucket, record.source_account or account, record.source_region or region)

    def groups(self) -> list[Group]:
        """All groups: first those that a retry helps, of them the largest first."""
        return sorted(self._groups.values(), key=lambda group: (not group.retry, -group.versions, group.name))


def _count(group: Group, record: Record, failed: Iterable[Copy]) -> None:
    group.versions += 1
    group.delete_markers += record.delete_marker
    for copy in failed:
        group.copies += 1
        if record.size is not None:
            group.size += record.size
        elif not record.delete_marker:
            group.unknown_sizes += 1
        name = copy.bucket or UNKNOWN
        group.destinations[name] = group.destinations.get(name, 0) + 1
        if copy.failed_at is not None:
            known = group.oldest_failed_at
            group.oldest_failed_at = copy.failed_at if known is None else min(known, copy.failed_at)


def manifest_line(bucket: str, key: str, version_id: str) -> bytes:
    """One line of a manifest, with its newline; a manifest has no header.

    The key is URL-encoded (User Guide, "Creating an S3 Batch Operations job", on manifests). A space becomes ``%20``
    and a plus ``%2B``, so that whoever takes a plus for a space reads the same key as whoever does not.
    """
    return f"{bucket},{quote(key, safe='/')},{_cell(version_id)}\n".encode()


def _cell(text: str) -> str:
    """Version ids of AWS need no quotes; those of other stores may."""
    return '"' + text.replace('"', '""') + '"' if any(char in text for char in ',"\r\n') else text
