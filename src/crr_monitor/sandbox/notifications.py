"""What S3 itself tells about object versions: event notifications, and events to EventBridge.

Fields: S3 User Guide, "Event message structure" (2.x) and "EventBridge event message structure"; which of them an event
has, and their spelling, follows captured messages.
"""

# ruff: noqa: SLF001 - the emulator has no public interface to extend

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from crr_monitor.sandbox import points, storage
from crr_monitor.sandbox.model import SERVICE

if TYPE_CHECKING:
    from collections.abc import Callable

    from crr_monitor.sandbox.model import S3Event

    Send = Callable[[str, S3Event, Callable[[], None]], None]

_s3 = points.module("services.s3")
_events = points.module("services.eventbridge")

MARKER_ETAG = "d41d8cd98f00b204e9800998ecf8427e"
"""The ETag that captured delete marker events carry: the MD5 of nothing."""

_REASONS = {
    "ObjectCreated:Put": "PutObject",
    "ObjectCreated:Post": "POST Object",
    "ObjectCreated:Copy": "CopyObject",
    "ObjectCreated:CompleteMultipartUpload": "CompleteMultipartUpload",
}
"""S3 User Guide, "EventBridge mapping"."""


def milliseconds(at: float) -> str:
    """RFC 3339 with milliseconds, as notifications have it."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def seconds(at: float) -> str:
    """RFC 3339 with whole seconds, as EventBridge and CloudTrail have it."""
    return datetime.fromtimestamp(int(at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _object(event: S3Event) -> dict[str, Any]:
    """``s3.object``: the key is form-encoded; deletions have no size."""
    return {
        name: value
        for name, value in {
            "key": _s3._event_object_key(event.key),
            "size": None if event.kind.startswith("ObjectRemoved") else event.size,
            "eTag": MARKER_ETAG if event.marker else event.etag,
            "versionId": event.version_id,
            "sequencer": event.sequencer,
        }.items()
        if value is not None
    }


def record(event: S3Event, configuration_id: str) -> dict[str, Any]:
    """One record of an event notification."""
    failure = event.replication is not None
    principal = SERVICE if failure else f"AWS:{event.requester.principal_id}"
    # Replication events show the owner's account id where all others have its canonical user id.
    owner = event.account if failure else hashlib.sha256(event.account.encode()).hexdigest()[:14].upper()
    document: dict[str, Any] = {
        "eventVersion": "2.6",
        "eventSource": "aws:s3",
        "awsRegion": event.region,
        "eventTime": milliseconds(event.at),
        "eventName": event.kind,
        "userIdentity": {"principalId": principal},
        "requestParameters": {"sourceIPAddress": SERVICE if failure else event.requester.address},
        "responseElements": {"x-amz-request-id": event.request_id, "x-amz-id-2": event.request_id * 2},
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": configuration_id,
            "bucket": {
                "name": event.bucket,
                "ownerIdentity": {"principalId": owner},
                "arn": f"arn:aws:s3:::{event.bucket}",
            },
            "object": _object(event),
        },
    }
    if event.replication is not None:
        document["replicationEventData"] = event.replication
    return document


def _notify(event: S3Event) -> None:
    deliver = {"sqs": _s3._deliver_event_to_sqs, "sns": _s3._deliver_event_to_sns}
    for target in _s3._parse_notification_config(event.bucket):
        if not _s3._event_matches(f"s3:{event.kind}", target["events"]):
            continue
        if not _s3._key_matches_filter(event.key, target["filter_prefix"], target["filter_suffix"]):
            continue
        payload = {"Records": [record(event, target["id"])]}
        if target["type"] == "lambda":
            _s3._deliver_event_to_lambda(target["arn"], payload, event.region)
        else:
            deliver[target["type"]](target["arn"], payload, event.region, bucket_name=event.bucket)


def bridge_detail(event: S3Event) -> dict[str, Any]:
    """``detail`` of S3's own EventBridge event; the requester is an account, so a replica's mark is not there."""
    removed = event.kind.startswith("ObjectRemoved")
    thing = {
        "key": event.key,
        "size": None if removed else event.size,
        "etag": MARKER_ETAG if event.marker else event.etag,
        "version-id": event.version_id,
        "sequencer": event.sequencer,
    }
    detail: dict[str, Any] = {
        "version": "0",
        "bucket": {"name": event.bucket},
        "object": {name: value for name, value in thing.items() if value is not None},
        "request-id": event.request_id,
        "requester": event.requester.account,
        "source-ip-address": event.requester.address,
        "reason": "DeleteObject" if removed else _REASONS[event.kind],
    }
    if removed:
        detail["deletion-type"] = "Delete Marker Created" if event.marker else "Permanently Deleted"
    return detail


def _bridge(event: S3Event) -> None:
    _events._dispatch_event(
        {
            "EventId": event.request_id,
            "Source": "aws.s3",
            "DetailType": "Object Deleted" if event.kind.startswith("ObjectRemoved") else "Object Created",
            "Detail": json.dumps(bridge_detail(event)),
            "EventBusName": "default",
            "Time": int(event.at),
            "Resources": [f"arn:aws:s3:::{event.bucket}"],
            "Account": event.account,
            "Region": event.region,
        }
    )


def tell(event: S3Event, send: Send) -> None:
    """Send what the bucket's notification configuration asks for; the configuration counts when the event happens."""
    text = _s3._bucket_notifications.get_scoped(storage.owner(event.bucket), None, event.bucket) or ""
    if not text:
        return
    send("notification", event, lambda: _notify(event))
    # "Replication events are not sent to EventBridge" (S3 User Guide, "Using EventBridge").
    if "EventBridgeConfiguration" in text and event.replication is None:
        send("event", event, lambda: _bridge(event))
