"""The truth of a plan: the record of each version, as a monitor has to show it once everything was delivered.

Computed from what the generator knows that it told, independently of the code that is to be checked with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crr_monitor.core.times import SECOND_MS, format_time
from crr_monitor.simulate import cloudtrail, notification
from crr_monitor.simulate.facts import Fact, What
from crr_monitor.simulate.lives import Copy, Version, lives

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crr_monitor.simulate.plan import Plan

_BY_RANK = ("FAILED", "PENDING", "COMPLETED", "SOURCE_DELETED")
_PRECISE = 0.001
_WHOLE = 1.0


def truth(plan: Plan) -> Iterator[dict[str, Any]]:
    """The record of each version that has one, in the order of writing."""
    for version, _ in lives(plan):
        record = record_of(version)
        if record is not None:
            yield record


def record_of(version: Version) -> dict[str, Any] | None:
    """The record of a version; None where no rule takes it (a delete marker that stays at home)."""
    if not version.copies:
        return None
    place = version.source.place
    written_at = _written_at(version)
    destinations = [_destination(version, copy, written_at) for copy in version.copies]
    record: dict[str, Any] = {
        "source": {"account": place.account, "region": place.region, "bucket": place.bucket},
        "key": version.key,
        "version_id": version.version_id,
        "operation": "delete_marker" if version.delete_marker else "put",
    }
    if not version.delete_marker:
        # A lost write still leaves an arrival, which tells the size; the ETag of a replica is its own.
        record["size"] = version.size
        if version.kind != "cloudtrail" and (not version.write_lost or _failure_told_by_s3(version)):
            record["etag"] = version.etag
    if written_at is not None:
        record["written_at"] = format_time(written_at)
    statuses = {destination["status"] for destination in destinations}
    record["time_precision"] = _precision(version)
    record["status"] = next(status for status in _BY_RANK if status in statuses)
    record["destinations"] = destinations
    return record


def _told(version: Version, at: int) -> int:
    """The time as messages about writes and arrivals tell it."""
    return at if version.kind == "notification" else at - at % SECOND_MS


def _failure_told_by_s3(version: Version) -> bool:
    """Whether a failure notification told when the version was written, to the millisecond."""
    return version.kind != "cloudtrail" and any(copy.failures for copy in version.copies)


def _written_at(version: Version) -> int | None:
    if _failure_told_by_s3(version):
        return version.written_at
    return None if version.write_lost else _told(version, version.written_at)


def _precision(version: Version) -> float:
    """Whole seconds as soon as one of the record's times has them."""
    if version.kind == "notification":
        return _PRECISE
    if version.kind == "cloudtrail":
        return _WHOLE
    arrived = any(copy.replicated_at is not None for copy in version.copies)
    return _WHOLE if arrived or not _failure_told_by_s3(version) else _PRECISE


def _destination(version: Version, copy: Copy, written_at: int | None) -> dict[str, Any]:
    to = copy.destination
    shown: dict[str, Any] = {
        "bucket": to.place.bucket,
        "account": to.place.account,
        "region": to.place.region,
        "rule_id": to.rule_id,
        "status": _status(version, copy),
    }
    denied = version.kind == "cloudtrail"
    if copy.replicated_at is not None:
        arrived = _told(version, copy.replicated_at)
        shown["replicated_at"] = format_time(arrived)
        if written_at is not None:
            shown["lag_seconds"] = round(max(0, arrived - written_at) / SECOND_MS, 3)
        shown["evidence"] = "replica-event"
    elif copy.failures:
        shown["evidence"] = "denied-call" if denied else "failure-event"
    if copy.failures:
        last = copy.failures[-1]
        fact = Fact(version, What.FAILURE, last.at, 0, copy, last.reason)
        shown["failed_at"] = format_time(last.at - last.at % SECOND_MS if denied else last.at)
        shown["failure_reason"] = cloudtrail.denial(fact) if denied else notification.reason(fact)
    return shown


def _status(version: Version, copy: Copy) -> str:
    if copy.replicated_at is not None:
        return "COMPLETED"
    if copy.failures:
        return "FAILED"
    return "PENDING" if version.deleted_at is None else "SOURCE_DELETED"
