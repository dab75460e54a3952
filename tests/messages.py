"""Makers of messages of every kind, shaped as the services send them; what a test does not state is ordinary.

Each returns a new plain dictionary, so that a test can bend it; :func:`encoded` makes the bytes.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

Json: TypeAlias = dict[str, Any]

BUCKET = "orders"
REPLICA_BUCKET = "orders-dr"
KEY = "2026/11/22/a b+c é.txt"
FORM_KEY = "2026/11/22/a+b%2Bc+%C3%A9.txt"
"""``KEY`` as notifications spell it."""

VERSION = "3v567TKlEQF5IBoeXrFBRiRX8vY.bY1m"
ETAG = "e12345ca7e88a38428305d3ff7fcb99f"
SIZE = 520_080
SECONDS = "2026-11-22T07:00:00Z"
MILLISECONDS = "2026-11-22T07:00:00.168Z"
AT = 1_795_330_800_000
"""``SECONDS`` in milliseconds since the epoch."""

ACCOUNT = "111122223333"
REPLICA_ACCOUNT = "444455556666"
REGION = "us-east-1"


def encoded(message: object) -> bytes:
    """JSON bytes of a message."""
    return msgspec.json.encode(message)


def cloudtrail(
    name: str = "PutObject", bucket: str = BUCKET, key: str = KEY, version: str | None = VERSION, **fields: object
) -> Json:
    """A CloudTrail data event of a user's call; ``version`` is the response's version id, ``fields`` replace any."""
    response = {"x-amz-server-side-encryption": "AES256"} | ({"x-amz-version-id": version} if version else {})
    return {
        "eventVersion": "1.11",
        "userIdentity": {
            "type": "AssumedRole",
            "principalId": "AROAEXAMPLEWRITER0001:app",
            "arn": f"arn:aws:sts::{ACCOUNT}:assumed-role/writer/app",
            "accountId": ACCOUNT,
        },
        "eventTime": SECONDS,
        "eventSource": "s3.amazonaws.com",
        "eventName": name,
        "awsRegion": REGION,
        "sourceIPAddress": "192.0.2.10",
        "userAgent": "[example/1.0]",
        "requestParameters": {"bucketName": bucket, "Host": f"{bucket}.s3.amazonaws.com", "key": key},
        "responseElements": response,
        "additionalEventData": {"objectSize": SIZE, "bytesTransferredIn": SIZE},
        "readOnly": False,
        "resources": [
            {"type": "AWS::S3::Object", "ARN": f"arn:aws:s3:::{bucket}/{key}"},
            {"accountId": ACCOUNT, "type": "AWS::S3::Bucket", "ARN": f"arn:aws:s3:::{bucket}"},
        ],
        "eventType": "AwsApiCall",
        "managementEvent": False,
        "recipientAccountId": ACCOUNT,
        "eventCategory": "Data",
        **fields,
    }


def by_replication(record: Json) -> Json:
    """The same call with the marks of the replication service, in the same account."""
    record["userIdentity"] |= {"principalId": "AROAEXAMPLEREPLICATE1:s3-replication", "invokedBy": "s3.amazonaws.com"}
    record["sourceIPAddress"] = "s3.amazonaws.com"
    return record


def cloudtrail_replica(name: str = "PutObject", version: str = VERSION, **fields: object) -> Json:
    """A replica's write as CloudTrail tells it: the source's version id stands in the request as well."""
    record = by_replication(cloudtrail(name, bucket=REPLICA_BUCKET, version=version))
    record["requestParameters"]["x-amz-version-id"] = version
    return record | fields


def cloudtrail_denied(name: str = "PutObject", bucket: str = REPLICA_BUCKET, **fields: object) -> Json:
    """A call of the replication service that was denied; the version id is that of a write (``x-amz-version-id``)."""
    record = by_replication(cloudtrail(name, bucket=bucket, version=None))
    record["requestParameters"]["x-amz-version-id"] = VERSION
    return {
        **record,
        "errorCode": "AccessDenied",
        "errorMessage": "not authorized to perform: s3:ReplicateObject",
        "responseElements": None,
        **fields,
    }


def notification(
    name: str = "ObjectCreated:Put",
    bucket: str = BUCKET,
    key: str = FORM_KEY,
    version: str | None = VERSION,
    **fields: object,
) -> Json:
    """A record of an S3 event notification; ``key`` is form-encoded, ``fields`` replace any of the record's."""
    item: Json = {"key": key, "size": SIZE, "eTag": ETAG, "versionId": version, "sequencer": "0065F3718D39E6D6DC"}
    return {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": REGION,
        "eventTime": MILLISECONDS,
        "eventName": name,
        "userIdentity": {"principalId": "AWS:AROAEXAMPLEWRITER0001:app"},
        "requestParameters": {"sourceIPAddress": "192.0.2.10"},
        "responseElements": {"x-amz-request-id": "EXAMPLE123456789"},
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "all-events",
            "bucket": {
                "name": bucket,
                "ownerIdentity": {"principalId": "A2EXAMPLEOWNER"},
                "arn": f"arn:aws:s3:::{bucket}",
            },
            "object": item,
        },
        **fields,
    }


def replication_notification(name: str = "OperationFailedReplication", **data: object) -> Json:
    """A ``Replication:*`` notification of the source's bucket; ``data`` replaces fields of ``replicationEventData``."""
    record = notification(f"Replication:{name}", userIdentity={"principalId": "s3.amazonaws.com"})
    record["s3"]["bucket"]["ownerIdentity"] = {"principalId": ACCOUNT}
    record["eventTime"] = "2026-11-22T07:00:33.900Z"
    record["replicationEventData"] = {
        "replicationRuleId": "dr",
        "destinationBucket": f"arn:aws:s3:::{REPLICA_BUCKET}",
        "s3Operation": "OBJECT_PUT",
        "requestTime": MILLISECONDS,
        "failureReason": "DstKmsKeyNotFound",
        **data,
    }
    return record


def native(kind: str = "Object Created", version: str | None = VERSION, **detail: object) -> Json:
    """One of S3's own EventBridge events; ``detail`` replaces fields of the detail."""
    item: Json = {"key": KEY, "size": SIZE, "etag": ETAG, "version-id": version, "sequencer": "617f08299329d189"}
    return {
        "version": "0",
        "id": "17793124-05d4-b198-2fde-000000000000",
        "detail-type": kind,
        "source": "aws.s3",
        "account": ACCOUNT,
        "time": SECONDS,
        "region": REGION,
        "resources": [f"arn:aws:s3:::{BUCKET}"],
        "detail": {
            "version": "0",
            "bucket": {"name": BUCKET},
            "object": item,
            "request-id": "EXAMPLE123456789",
            "requester": ACCOUNT,
            "reason": "PutObject",
            **detail,
        },
    }


def native_deleted(deletion: str = "Delete Marker Created", reason: str = "DeleteObject") -> Json:
    """S3's own EventBridge event of a deletion, which has no size."""
    message = native("Object Deleted", reason=reason, **{"deletion-type": deletion})
    del message["detail"]["object"]["size"]
    return message


def records(*contents: object) -> Json:
    """A CloudTrail log file, or a notification."""
    return {"Records": list(contents)}


def minio(record: Json) -> Json:
    """A record as MinIO sends it, in its wrapper."""
    record |= {"eventSource": "minio:s3", "eventName": f"s3:{record['eventName']}", "awsRegion": ""}
    return {"EventName": record["eventName"], "Key": f"{BUCKET}/{KEY}", "Records": [record]}


def eventbridge(record: Json, **envelope: object) -> Json:
    """A CloudTrail record as EventBridge delivers it."""
    return {
        "version": "0",
        "id": "51dc8145-541c-5518-2349-000000000000",
        "detail-type": "AWS API Call via CloudTrail",
        "source": "aws.s3",
        "account": ACCOUNT,
        "time": SECONDS,
        "region": REGION,
        "resources": [],
        "detail": record,
        **envelope,
    }


def custom_bus(message: object) -> Json:
    """Any message, sent as the detail of an event of one's own; a detail is always an object."""
    detail = {"Records": message} if isinstance(message, list) else message
    return {"version": "0", "detail-type": "forwarded", "source": "example.relay", "time": SECONDS, "detail": detail}


def sns(message: object) -> Json:
    """An SNS notification, as SQS and HTTP get it."""
    return {"Type": "Notification", "MessageId": "m", "TopicArn": "arn:aws:sns:::t", "Message": _text(message)}


def sns_lambda(message: object) -> Json:
    """An SNS notification, as Lambda gets it."""
    inner = {"Type": "Notification", "MessageId": "m", "Message": _text(message)}
    return records({"EventSource": "aws:sns", "EventVersion": "1.0", "Sns": inner})


def sqs_lambda(message: object) -> Json:
    """An SQS message, as Lambda gets it."""
    return records({"messageId": "m", "receiptHandle": "r", "body": _text(message), "eventSource": "aws:sqs"})


def sqs_received(message: object) -> Json:
    """An SQS message, as ReceiveMessage gives it."""
    return {"MessageId": "m", "ReceiptHandle": "r", "MD5OfBody": "0", "Body": _text(message)}


def sqs_response(*messages: object) -> Json:
    """All that ReceiveMessage gives, as the SDK and the CLI print it."""
    return {"Messages": [sqs_received(message) for message in messages]}


def setup_event() -> Json:
    """What S3 sends when notifications are set up."""
    return {"Service": "Amazon S3", "Event": "s3:TestEvent", "Time": MILLISECONDS, "Bucket": BUCKET}


def _text(message: object) -> str:
    return message if isinstance(message, str) else encoded(message).decode()
