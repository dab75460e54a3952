"""S3's own events on EventBridge (User Guide, "EventBridge event structure").

They never tell who wrote: the requester is only an account or a service. Keys are raw.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from crr_monitor.core.events import Deleted, Event, Mark, Written
from crr_monitor.decode.fields import (
    UNVERSIONED,
    account_id,
    bucket_name,
    bucket_of,
    etag_of,
    item_of,
    real_version,
    required,
    size_of,
    text,
    time_of,
)
from crr_monitor.decode.result import RejectError

if TYPE_CHECKING:
    from crr_monitor.decode.wire import Message

CREATED = "Object Created"
DELETED = "Object Deleted"
MARKER_CREATED = "Delete Marker Created"
PERMANENTLY = "Permanently Deleted"
LIFECYCLE = "Lifecycle Expiration"


def interpret(detail: Message, envelope: Message) -> Event | str:
    """Return the event that one of S3's own EventBridge events proves, or the kind under which it is ignored.

    Raises:
        RejectError: a creation or deletion lacks what it needs, or has it in another type.
        BadEventError: the event would break a rule of its own.
    """
    kind = required(envelope.detail_type, "detail-type")
    if kind not in (CREATED, DELETED):
        return kind
    item = item_of(detail.item)
    bucket = required(_bucket(detail, envelope), "detail.bucket.name")
    key = required(item.key, "detail.object.key")
    version = real_version(item.native_version, "detail.object.version-id")
    if version is None:
        return UNVERSIONED
    at, whole_seconds = time_of(("time", envelope.time), ("@timestamp", envelope.timestamp))
    if kind == DELETED and detail.deletion_type == PERMANENTLY:
        return Deleted(bucket, key, version, at, whole_seconds)
    if kind == DELETED and detail.deletion_type != MARKER_CREATED:
        message = f"detail.deletion-type is unknown: {str(detail.deletion_type)[:64]!r}"
        raise RejectError(message)
    return Written(
        bucket=bucket,
        key=key,
        version_id=version,
        at=at,
        whole_seconds=whole_seconds,
        mark=Mark.UNKNOWN,
        delete_marker=kind == DELETED,
        size=size_of(item.size) if kind == CREATED else None,
        etag=etag_of(item),
        account=account_id(envelope.account),
        region=text(envelope.region),
        by_lifecycle=kind == DELETED and detail.reason == LIFECYCLE,
    )


def _bucket(detail: Message, envelope: Message) -> object:
    name = bucket_of(detail.bucket).name
    if name is None and isinstance(envelope.resources, list) and envelope.resources:
        return bucket_name(envelope.resources[0])
    return name
