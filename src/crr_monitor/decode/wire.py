"""The shapes on the wire, as far as anything is read from them; everything else is skipped without being built.

One lenient :class:`Message` takes every kind: a leaf is ``Any`` and checked where it is used, a nested object may as
well be any other JSON value (``Odd``), because other services put strings and lists where S3 puts objects. So one
typed pass decodes any JSON object, and what is wrong with a value is said by whoever needs it.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from msgspec import Raw, Struct
from msgspec.json import Decoder

Scalar: TypeAlias = str | int | float | bool | None
Odd: TypeAlias = Scalar | list[Any]
"""A JSON value that is no object."""


class Identity(Struct, gc=False, rename={"principal": "principalId", "invoked_by": "invokedBy"}):
    """``userIdentity`` of CloudTrail and of notifications; ``ownerIdentity`` of a bucket."""

    principal: Any = None
    invoked_by: Any = None


class Request(
    Struct,
    gc=False,
    rename={
        "bucket": "bucketName",
        "version": "versionId",
        "given_version": "x-amz-version-id",
        "tagging": "x-amz-tagging",
        "storage_class": "x-amz-storage-class",
        "encryption": "x-amz-server-side-encryption",
    },
):
    """``requestParameters`` of CloudTrail: headers and query parameters in one object."""

    bucket: Any = None
    key: Any = None
    version: Any = None
    given_version: Any = None
    tagging: Any = None
    storage_class: Any = None
    encryption: Any = None


class Response(
    Struct,
    gc=False,
    rename={
        "encryption": "x-amz-server-side-encryption",
        "version": "x-amz-version-id",
        "delete_marker": "x-amz-delete-marker",
    },
):
    """``responseElements`` of CloudTrail."""

    encryption: Any = None
    version: Any = None
    delete_marker: Any = None


class Extra(
    Struct,
    gc=False,
    rename={"object_size": "objectSize", "bytes_in": "bytesTransferredIn", "encryption": "SSEApplied"},
):
    """``additionalEventData`` of CloudTrail."""

    object_size: Any = None
    bytes_in: Any = None
    encryption: Any = None


class Resource(Struct, gc=False, rename={"account": "accountId", "upper_arn": "ARN"}):
    """A row of CloudTrail's ``resources``."""

    type: Any = None
    account: Any = None
    upper_arn: Any = None
    arn: Any = None


class Bucket(Struct, gc=False, rename={"owner": "ownerIdentity"}):
    """``s3.bucket`` of a notification, ``detail.bucket`` of EventBridge."""

    name: Any = None
    arn: Any = None
    owner: Identity | Odd = None


class Item(
    Struct,
    gc=False,
    rename={"upper_etag": "eTag", "version": "versionId", "native_version": "version-id"},
):
    """``s3.object`` of a notification, ``detail.object`` of EventBridge (hyphens and lower case)."""

    key: Any = None
    size: Any = None
    upper_etag: Any = None
    etag: Any = None
    version: Any = None
    native_version: Any = None


class S3(Struct, gc=False, rename={"item": "object"}):
    """``s3`` of a notification."""

    bucket: Bucket | Odd = None
    item: Item | Odd = None


class Replication(
    Struct,
    gc=False,
    rename={
        "rule": "replicationRuleId",
        "destination": "destinationBucket",
        "operation": "s3Operation",
        "request_time": "requestTime",
        "reason": "failureReason",
    },
):
    """``replicationEventData`` of ``Replication:*`` notifications."""

    rule: Any = None
    destination: Any = None
    operation: Any = None
    request_time: Any = None
    reason: Any = None


class Message(
    Struct,
    gc=False,
    rename={
        "identity": "userIdentity",
        "event_time": "eventTime",
        "event_source": "eventSource",
        "event_name": "eventName",
        "aws_region": "awsRegion",
        "source_ip": "sourceIPAddress",
        "error_code": "errorCode",
        "error_message": "errorMessage",
        "request": "requestParameters",
        "response": "responseElements",
        "extra": "additionalEventData",
        "event_type": "eventType",
        "replication": "replicationEventData",
        "records": "Records",
        "detail_type": "detail-type",
        "item": "object",
        "deletion_type": "deletion-type",
        "type_": "Type",
        "text": "Message",
        "sns": "Sns",
        "upper_body": "Body",
        "messages": "Messages",
        "service": "Service",
        "event": "Event",
        "timestamp": "@timestamp",
    },
):
    """Any message, any record: fields in the order in which CloudTrail writes them, then the other kinds'."""

    identity: Identity | Odd = None
    event_time: Any = None
    event_source: Any = None
    event_name: Any = None
    aws_region: Any = None
    source_ip: Any = None
    error_code: Any = None
    error_message: Any = None
    request: Request | Odd = None
    response: Response | Odd = None
    extra: Extra | Odd = None
    resources: Resource | Scalar | list[Resource | Odd] = None
    event_type: Any = None
    timestamp: Any = None
    # S3 event notifications
    s3: S3 | Odd = None
    replication: Replication | Odd = None
    # EventBridge: the envelope, and the detail of S3's own events
    detail: Raw = Raw()
    detail_type: Any = None
    source: Any = None
    account: Any = None
    time: Any = None
    region: Any = None
    bucket: Bucket | Odd = None
    item: Item | Odd = None
    reason: Any = None
    deletion_type: Any = None
    # Wrappers; what they hold stays bytes, so that one bad record cannot harm its neighbours
    records: list[Raw] | Scalar = None
    messages: list[Raw] | Scalar = None
    sns: Raw = Raw()
    text: Raw = Raw()
    body: Raw = Raw()
    upper_body: Raw = Raw()
    type_: Any = None
    # S3's test event; MinIO's "access" format keeps its records in ``Event``
    service: Any = None
    event: Raw = Raw()


parse_message = Decoder(Message).decode
parse_list = Decoder(list[Raw]).decode
parse_text = Decoder(str).decode
