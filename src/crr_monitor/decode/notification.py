"""S3 event notifications, of AWS and of those who speak like it (MinIO, Ceph RGW, NooBaa).

Shapes: User Guide, "Event message structure". Keys are form-encoded. Event names come with and without ``s3:``.
"""

from __future__ import annotations

from typing import TypeAlias

from crr_monitor.core.events import Awaited, Confirmed, Deleted, Event, Failed, Mark, Written
from crr_monitor.decode.fields import (
    REPLICATION_SESSION,
    UNVERSIONED,
    account_id,
    bucket_name,
    bucket_of,
    etag_of,
    form_decoded,
    item_of,
    optional_time,
    real_version,
    required,
    size_of,
    text,
    time_of,
)
from crr_monitor.decode.result import RejectError
from crr_monitor.decode.wire import S3, Bucket, Identity, Item, Message, Replication

MINIO = "minio:s3"
SOURCE_ONLY = frozenset({MINIO, "ceph:s3"})
"""Event sources that send no ``ObjectCreated`` for a replica: whatever they report was written by a user."""

CREATED = frozenset(
    {
        "ObjectCreated:Put",
        "ObjectCreated:Post",
        "ObjectCreated:Copy",
        "ObjectCreated:CompleteMultipartUpload",
    }
)
"""Not a prefix match: MinIO reports changes of tags and locks as ``ObjectCreated:PutTagging`` and the like."""

MARKERS = frozenset({"ObjectRemoved:DeleteMarkerCreated", "LifecycleExpiration:DeleteMarkerCreated"})
SYNCED = frozenset({"ObjectSynced:Create", "Replication:Create"})
"""Ceph RGW's names for the arrival of a replica (Ceph documentation, "S3 Bucket Notifications Compatibility")."""

SYNCED_MARKERS = frozenset({"ObjectSynced:Delete", "ObjectSynced:DeletionMarkerCreated", "Replication:Delete"})
DELETED = frozenset({"ObjectRemoved:Delete", "LifecycleExpiration:Delete"})
FAILED = "Replication:OperationFailedReplication"
AWAITED = frozenset({"Replication:OperationMissedThreshold", "Replication:OperationNotTracked"})
COMPLETED = "Replication:OperationCompletedReplication"
"""MinIO's alone: on AWS there is no event for a replication that went well in time."""

CONFIRMED = frozenset({"Replication:OperationReplicatedAfterThreshold", COMPLETED})
KNOWN = CREATED | MARKERS | SYNCED | SYNCED_MARKERS | DELETED | AWAITED | CONFIRMED | {FAILED}

_METADATA_OPERATIONS = ("TAGGING", "ACL", "RETENTION", "LEGAL_HOLD", "LEGALHOLD")
_NO_S3 = S3()
_NO_IDENTITY = Identity()
_NO_REPLICATION = Replication()
_ENVELOPE = Message()

Place: TypeAlias = tuple[str, str, str, int, bool]
"""Bucket, key, version id, time in milliseconds, whether the time came in whole seconds."""


def interpret(record: Message, envelope: Message = _ENVELOPE) -> Event | str:
    """Return the event that a notification proves, or the kind under which it is ignored.

    ``envelope`` is EventBridge's where a notification was sent through a bus of one's own.

    Raises:
        RejectError: a known event lacks what it needs, or has it in another type; the name itself is missing.
        BadEventError: the event would break a rule of its own.
    """
    name = required(record.event_name, "eventName").removeprefix("s3:")
    if name not in KNOWN:
        if name.replace(":", "").isalnum():
            return name
        message = f"eventName is no event's name: {name[:64]!r}"
        raise RejectError(message)
    s3 = record.s3 if isinstance(record.s3, S3) else _NO_S3
    bucket, item = bucket_of(s3.bucket), item_of(s3.item)
    place = _place(record, bucket, item, envelope)
    if place is None:
        return UNVERSIONED
    if name in DELETED:
        return Deleted(*place)
    if name in CREATED or name in SYNCED:
        return _created(record, item, place, name)
    if name in MARKERS or name in SYNCED_MARKERS:
        return _marker(record, item, place, name)
    return _replication(record, bucket, item, place, name)


def _place(record: Message, bucket: Bucket, item: Item, envelope: Message) -> Place | None:
    """Return which version, where and when; None for a version without a real id."""
    name = required(text(bucket.name) or bucket_name(bucket.arn) or bucket.name, "s3.bucket.name")
    key = form_decoded(required(item.key, "s3.object.key"))
    version = real_version(item.version, "s3.object.versionId")
    if version is None:
        return None
    at, whole_seconds = time_of(
        ("eventTime", record.event_time), ("@timestamp", record.timestamp), ("time", envelope.time)
    )
    return name, key, version, at, whole_seconds


def _created(record: Message, item: Item, place: Place, name: str) -> Written:
    size = size_of(item.size)
    if item.size is None and record.event_source == MINIO:
        size = 0  # MinIO leaves a size of zero out
    return Written(
        *place,
        mark=Mark.REPLICA if name in SYNCED else _mark(record),
        size=size,
        etag=etag_of(item),
        region=text(record.aws_region),
    )


def _marker(record: Message, item: Item, place: Place, name: str) -> Written:
    return Written(
        *place,
        mark=Mark.REPLICA if name in SYNCED_MARKERS else _mark(record),
        delete_marker=True,
        etag=etag_of(item),
        region=text(record.aws_region),
        by_lifecycle=name.startswith("LifecycleExpiration:"),
    )


def _mark(record: Message) -> Mark:
    """Say who wrote, as far as a notification can: the session's name is only there for a replica, but is no proof."""
    if isinstance(record.event_source, str) and record.event_source in SOURCE_ONLY:
        return Mark.SOURCE
    identity = record.identity if isinstance(record.identity, Identity) else _NO_IDENTITY
    principal = identity.principal
    replica = isinstance(principal, str) and principal.endswith(REPLICATION_SESSION)
    return Mark.REPLICA if replica else Mark.UNKNOWN


def _replication(record: Message, bucket: Bucket, item: Item, place: Place, name: str) -> Event | str:
    """Read ``Replication:Operation*``, which the source's bucket publishes, for one destination each."""
    data = record.replication if isinstance(record.replication, Replication) else _NO_REPLICATION
    destination = bucket_name(data.destination)
    if name == FAILED:
        return _failed(record, data, bucket, item, place)
    if destination is None and record.event_source != MINIO and name != COMPLETED:
        destination = required(data.destination, "replicationEventData.destinationBucket")
    if destination is None and name in AWAITED:
        return name  # of MinIO, which does not say for which destination
    source, key, version, at, whole_seconds = place
    written_at, written_whole_seconds = optional_time(data.request_time)
    owner = bucket.owner if isinstance(bucket.owner, Identity) else _NO_IDENTITY
    kind = Awaited if name in AWAITED else Confirmed
    # A confirmation without a destination holds for all of them; an expectation without one has been sorted out above.
    return kind(
        source,
        destination,  # type: ignore[arg-type]
        key,
        version,
        at,
        whole_seconds,
        rule_id=text(data.rule),
        written_at=written_at,
        written_whole_seconds=written_whole_seconds,
        size=size_of(item.size),
        etag=etag_of(item),
        account=account_id(owner.principal),
        region=text(record.aws_region),
    )


def _failed(record: Message, data: Replication, bucket: Bucket, item: Item, place: Place) -> Failed:
    source, key, version, at, whole_seconds = place
    written_at, written_whole_seconds = optional_time(data.request_time)
    metadata, delete_marker = _operation(data.operation)
    owner = bucket.owner if isinstance(bucket.owner, Identity) else _NO_IDENTITY
    return Failed(
        source=source,
        destination=bucket_name(data.destination),
        key=key,
        version_id=version,
        at=at,
        whole_seconds=whole_seconds,
        label="failure-event",
        reason=text(data.reason),
        metadata=metadata,
        rule_id=text(data.rule),
        written_at=written_at,
        written_whole_seconds=written_whole_seconds,
        size=size_of(item.size),
        etag=etag_of(item),
        account=account_id(owner.principal),
        region=text(record.aws_region),
        delete_marker=delete_marker,
    )


def _operation(value: object) -> tuple[bool, bool | None]:
    """Say whether an ``s3Operation`` is one on metadata, and whether it is a delete marker's, where that is told.

    An operation that nobody has heard of counts as the object's: a failure is better shown than hidden.
    """
    operation = text(value)
    if operation is None:
        return False, None
    operation = operation.upper()
    if operation.endswith(_METADATA_OPERATIONS) or operation.startswith("OBJECT_PUT_"):
        return True, None
    if "DELETE" in operation:
        return False, True
    return False, False if operation == "OBJECT_PUT" else None
