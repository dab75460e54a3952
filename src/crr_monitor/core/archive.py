"""What the archive keeps of a record: one flat row per copy that settled, or changed after it had.

Rows are only ever added. Which of several rows about one copy holds is decided when they are read: the one whose status
stands highest in :data:`WORDS`, because evidence only accumulates; of equal ones the one that knows more times, then
the one recorded last. So rows may be written twice, late and in any order.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, TypeAlias

from msgspec import Struct

from crr_monitor.core.canary_keys import is_canary
from crr_monitor.core.failures import reason_code
from crr_monitor.core.model import Status
from crr_monitor.core.times import DAY_MS, HOUR_MS, format_time

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crr_monitor.core.model import Copy, Record

State: TypeAlias = Literal["settled", "open", "expired", "withdrawn"]
"""``settled``: S3 had its say, also where it failed. ``open``: pending when what was read ended. ``expired``: it left
the store while it was pending. ``withdrawn``: later evidence showed that there is no such copy."""

WORDS = ("COMPLETED", "FAILED", "SOURCE_DELETED", "NOT_ELIGIBLE", "PENDING")
"""Statuses from the last word to the first; above them all stands the state ``withdrawn``."""

LATENESS_DAYS = 18
"""A row lies in the partitions of so many days from ``counted_at`` on: what is unsettled leaves after 14 days.

DynamoDB removes it "within a few days" after that (Developer Guide, "Using time to live (TTL)").
"""

LATENESS_MS = LATENESS_DAYS * DAY_MS


class ArchiveRow(Struct, frozen=True, array_like=True, gc=False):
    """One copy as the archive has it; times in milliseconds, unknown is ``None``.

    ``counted_at`` is ``written_at``, or the first sighting where that is unknown: what reports select by. ``repaired``:
    completed after it had failed. ``reason_code`` is ``failure_reason`` without the words that name the object.
    ``copy_id`` is a hash of key, version id and destination; ``row_id``, the idempotency key, a hash of all that the
    row says. ``revision`` orders rows of the same ``recorded_at`` by one store.
    """

    source_account: str | None
    source_region: str | None
    source_bucket: str | None
    key: str
    version_id: str
    operation: str
    size: int | None
    etag: str | None
    written_at: int | None
    destination_account: str | None
    destination_region: str | None
    destination_bucket: str | None
    rule_id: str | None
    status: str
    replicated_at: int | None
    lag_ms: int | None
    failed_at: int | None
    failure_reason: str | None
    evidence: str | None
    time_precision: float
    recorded_at: int
    counted_at: int
    repaired: bool
    reason_code: str | None
    state: State
    copy_id: int
    row_id: int
    revision: int = 0


_STATUS_NAMES = tuple(status.name for status in sorted(Status))
"""By number: asking a member of an enumeration for its name takes longer."""


_POSITIVE = (1 << 63) - 1


def _number(*parts: str | int | None) -> int:
    """A number of 63 bits from a hash, made in a way in which SQL can make it as well.

    The second half of an MD5 sum; the parts are joined by the character 31, unknown ones are empty.
    """
    text = "\x1f".join(["" if part is None else part if type(part) is str else str(part) for part in parts])
    return int.from_bytes(hashlib.md5(text.encode(), usedforsecurity=False).digest()[8:], "little") & _POSITIVE


def copy_id(key: str, version_id: str, destination: str | None) -> int:
    """The number of a copy: the same for all that is ever said of it."""
    return _number(version_id, destination, key)


def row_of(record: Record, copy: Copy, recorded_at: int, state: State, revision: int = 0) -> ArchiveRow:
    """One copy as a row, recorded at ``recorded_at`` (milliseconds)."""
    identity = copy_id(record.key, record.version_id, copy.bucket)
    # By position, as it is made for every copy: names would cost half of this call's time.
    return ArchiveRow(
        record.source_account,
        record.source_region,
        record.source_bucket,
        record.key,
        record.version_id,
        "delete_marker" if record.delete_marker else "put",
        record.size,
        record.etag,
        record.written_at,
        copy.account,
        copy.region,
        copy.bucket,
        copy.rule_id,
        _STATUS_NAMES[copy.status],
        copy.replicated_at,
        copy.lag_ms,
        copy.failed_at,
        copy.failure_reason,
        copy.evidence,
        1.0 if record.whole_seconds else 0.001,
        recorded_at,
        record.sort_at or recorded_at,
        copy.repaired,
        None if copy.failure_reason is None else reason_code(copy.failure_reason),
        state,
        identity,
        _row_id(identity, state, record, copy),
        revision,
    )


def _row_id(identity: int, state: State, record: Record, copy: Copy) -> int:
    """The number of all that a row says, but when it was recorded."""
    return _number(
        identity,
        state,
        record.source_account,
        record.source_region,
        record.source_bucket,
        "delete_marker" if record.delete_marker else "put",
        record.size,
        record.etag,
        record.written_at,
        record.sort_at,
        "1.0" if record.whole_seconds else "0.001",
        copy.account,
        copy.region,
        copy.rule_id,
        _STATUS_NAMES[copy.status],
        copy.replicated_at,
        copy.lag_ms,
        copy.failed_at,
        copy.failure_reason,
        copy.evidence,
        int(copy.repaired),
    )


def all_rows(record: Record, recorded_at: int, pending: State) -> Iterator[ArchiveRow]:
    """Every listed copy as a row; those that are still pending in the state ``pending``."""
    for copy in () if is_canary(record.key) else record.copies:
        if copy.status > Status.UNCERTAIN:
            yield row_of(record, copy, recorded_at, pending if copy.status is Status.PENDING else "settled")


def changed_rows(before: Record | None, after: Record, recorded_at: int, revision: int = 0) -> list[ArchiveRow]:
    """What a change of a record adds to the archive.

    A row for each copy that settled or, having settled before, is another one now; and a withdrawal for each copy that
    had settled and is no copy any more. Canaries are not archived.
    """
    if is_canary(after.key):
        return []
    known = {} if before is None else {copy.bucket: copy for copy in before.copies if _is_settled(copy)}
    same_head = before is not None and _head(before) == _head(after)
    rows = []
    for copy in after.copies:
        if _is_settled(copy):
            old = known.pop(copy.bucket, None)
            if not (same_head and old == copy):
                rows.append(row_of(after, copy, recorded_at, "settled", revision))
    if before is not None:
        rows.extend(row_of(before, old, recorded_at, "withdrawn", revision) for old in known.values())
    return rows


def withdrawn_rows(before: Record, after: Record, recorded_at: int) -> list[ArchiveRow]:
    """A withdrawal for each copy that was listed and that later evidence showed to be none."""
    left = {copy.bucket for copy in after.visible_copies}
    return [
        row_of(before, copy, recorded_at, "withdrawn")
        for copy in before.visible_copies
        if copy.bucket not in left and not is_canary(after.key)
    ]


def expired_rows(record: Record, recorded_at: int, revision: int = 0) -> list[ArchiveRow]:
    """What a record adds to the archive that leaves the store while copies of it are still pending."""
    return [
        row_of(record, copy, recorded_at, "expired", revision)
        for copy in record.copies
        if copy.status is Status.PENDING and not is_canary(record.key)
    ]


def _is_settled(copy: Copy) -> bool:
    return copy.status > Status.UNCERTAIN and copy.status is not Status.PENDING


def _head(record: Record) -> tuple[object, ...]:
    """What all copies of a record have in common."""
    return (
        record.source_bucket,
        record.source_account,
        record.source_region,
        record.delete_marker,
        record.size,
        record.etag,
        record.written_at,
        record.sort_at,
        record.whole_seconds,
    )


def latest_event(row: ArchiveRow) -> int:
    """When the last thing happened of which the row tells, in milliseconds."""
    return max(row.counted_at, row.replicated_at or 0, row.failed_at or 0)


def arrival(row: ArchiveRow, now: int) -> int:
    """The time whose hour the row is filed under: when it came, within the lateness that queries allow for.

    So what is read from old logs is filed where it would have been, had it come when it happened.
    """
    return min(max(now, row.counted_at), row.counted_at + LATENESS_MS)


def partition_of(at: int) -> tuple[str, str]:
    """The partition of an arrival: day and hour, in UTC."""
    return _partition(at // HOUR_MS)


@lru_cache(maxsize=4_096)
def _partition(hour: int) -> tuple[str, str]:
    text = format_time(hour * HOUR_MS)
    return text[:10], text[11:13]
