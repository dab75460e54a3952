"""What the product says about an object version: the record of design contract "The record, as JSON".

A :class:`Record` is *derived* from merged evidence (:mod:`crr_monitor.core.status`) and never stored as a fact of its
own. Times are milliseconds since the epoch (UTC), sizes bytes, lags milliseconds; unknown is ``None`` and absent in
output.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from crr_monitor.core.times import SECOND_MS, format_time

if TYPE_CHECKING:
    from collections.abc import Iterator


class Status(IntEnum):
    """Status of a copy, and of an object version. The first two are kept aside and are never printed as a status.

    ``HIDDEN``: what is known makes no copy (a write whose role or rule is unknown yet). ``UNCERTAIN``: a rule may or
    may not have taken it (a tag filter, tags unknown).
    """

    HIDDEN = 0
    UNCERTAIN = 1
    NOT_ELIGIBLE = 2
    SOURCE_DELETED = 3
    COMPLETED = 4
    PENDING = 5
    FAILED = 6


VISIBLE = (Status.NOT_ELIGIBLE, Status.SOURCE_DELETED, Status.COMPLETED, Status.PENDING, Status.FAILED)
OPEN = (Status.UNCERTAIN, Status.PENDING, Status.FAILED)
"""What is not settled: it may still change by itself, or somebody has to repair it."""


class Copy(Struct, frozen=True, gc=False):
    """One copy: the object version at one destination bucket. ``bucket`` is ``None`` where no message named it.

    ``whole_seconds``: some of its times has whole seconds only.
    """

    bucket: str | None
    status: Status
    account: str | None = None
    region: str | None = None
    rule_id: str | None = None
    replicated_at: int | None = None
    lag_ms: int | None = None
    failed_at: int | None = None
    failure_reason: str | None = None
    evidence: str | None = None
    repaired: bool = False
    metadata_failed_at: int | None = None
    metadata_failure_reason: str | None = None
    whole_seconds: bool = False


class Record(Struct, frozen=True, gc=False):
    """Everything known about one object version. ``sort_at``: ``written_at``, else the first sighting.

    ``undecided``: it was written in several buckets (``seen_in``), and nothing yet tells which of them is the source.
    ``uncertain``: that, or for at least one destination it is not known whether a rule takes the version. ``settled``:
    nothing of it can still change by itself, nor waits for a repair, or it is a canary, for which nobody waits
    (:mod:`crr_monitor.core.canary`).
    """

    key: str
    version_id: str
    status: Status
    sort_at: int
    copies: tuple[Copy, ...] = ()
    source_bucket: str | None = None
    source_account: str | None = None
    source_region: str | None = None
    delete_marker: bool = False
    size: int | None = None
    etag: str | None = None
    written_at: int | None = None
    whole_seconds: bool = False
    undecided: bool = False
    uncertain: bool = False
    settled: bool = True
    seen_in: tuple[str, ...] = ()

    @property
    def visible_copies(self) -> tuple[Copy, ...]:
        """The copies that listings show: all but the uncertain ones."""
        return tuple(copy for copy in self.copies if copy.status > Status.UNCERTAIN)


FLAT_FIELDS = (
    "source_account",
    "source_region",
    "source_bucket",
    "key",
    "version_id",
    "operation",
    "size",
    "etag",
    "written_at",
    "destination_account",
    "destination_region",
    "destination_bucket",
    "rule_id",
    "status",
    "replicated_at",
    "lag_seconds",
    "failed_at",
    "failure_reason",
    "evidence",
    "time_precision",
    "recorded_at",
)
"""Columns of the flat row, one per copy, as CSV and the archive have them."""


def _known(pairs: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in pairs.items() if value is not None}


def _time(at: int | None) -> str | None:
    return None if at is None else format_time(at)


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / SECOND_MS


def _copy_json(copy: Copy) -> dict[str, Any]:
    body = _known(
        {
            "bucket": copy.bucket,
            "account": copy.account,
            "region": copy.region,
            "rule_id": copy.rule_id,
            "status": copy.status.name,
            "replicated_at": _time(copy.replicated_at),
            "lag_seconds": _seconds(copy.lag_ms),
            "failed_at": _time(copy.failed_at),
            "failure_reason": copy.failure_reason,
            "evidence": copy.evidence,
        }
    )
    if copy.metadata_failed_at is not None or copy.metadata_failure_reason is not None:
        body["metadata_failure"] = _known(
            {"failed_at": _time(copy.metadata_failed_at), "failure_reason": copy.metadata_failure_reason}
        )
    return body


def _operation(record: Record) -> str:
    return "delete_marker" if record.delete_marker else "put"


def _precision(record: Record) -> float:
    return 1.0 if record.whole_seconds else 0.001


def to_json(record: Record, *, uncertain: bool = False) -> dict[str, Any]:
    """The record as every ``-o json|ndjson`` prints it. Uncertain copies are shown only on demand."""
    copies = record.copies if uncertain else record.visible_copies
    head = _known(
        {
            "source": _known(
                {"account": record.source_account, "region": record.source_region, "bucket": record.source_bucket}
            ),
            "key": record.key,
            "version_id": record.version_id,
            "operation": _operation(record),
            "size": record.size,
            "etag": record.etag,
            "written_at": _time(record.written_at),
            "time_precision": _precision(record),
            "status": record.status.name,
        }
    )
    return {**head, "destinations": [_copy_json(copy) for copy in copies]}


def to_rows(record: Record, recorded_at: int | None = None, *, uncertain: bool = False) -> Iterator[dict[str, Any]]:
    """The record as flat rows, one per copy, with the columns of :data:`FLAT_FIELDS`; unknown is ``None``."""
    for copy in record.copies if uncertain else record.visible_copies:
        yield {
            "source_account": record.source_account,
            "source_region": record.source_region,
            "source_bucket": record.source_bucket,
            "key": record.key,
            "version_id": record.version_id,
            "operation": _operation(record),
            "size": record.size,
            "etag": record.etag,
            "written_at": _time(record.written_at),
            "destination_account": copy.account,
            "destination_region": copy.region,
            "destination_bucket": copy.bucket,
            "rule_id": copy.rule_id,
            "status": copy.status.name,
            "replicated_at": _time(copy.replicated_at),
            "lag_seconds": _seconds(copy.lag_ms),
            "failed_at": _time(copy.failed_at),
            "failure_reason": copy.failure_reason,
            "evidence": copy.evidence,
            "time_precision": _precision(record),
            "recorded_at": _time(recorded_at),
        }
