"""Each message has the fields, the encodings and the marks of the real ones."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import unquote_plus

import pytest

from crr_monitor.simulate import Kind, Plan, messages, topology, truth

VERSION_ID = re.compile(r"[A-Za-z0-9._]{32}\Z")
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")


def told(kind: Kind, **fields: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - any field of a plan
    """Bare messages of one kind, without noise, from a plan with some trouble."""
    defaults = {
        "objects": 600,
        "failure_rate": 0.2,
        "delete_rate": 0.1,
        "delete_marker_rate": 0.1,
        "wrappers": ("bare",),
    }
    plan = Plan(**{**defaults, "kinds": (kind,), "malformed_rate": 0, "ignored_rate": 0, **fields})
    return [json.loads(body) for _, body in messages(plan)]


def test_cloudtrail_fields() -> None:
    """Every CloudTrail record has the usual fields and whole seconds, and is about as long as the real ones."""
    found = told("cloudtrail")
    for record in found:
        assert {
            "eventVersion", "userIdentity", "eventTime", "eventSource", "eventName", "awsRegion", "sourceIPAddress",
            "userAgent", "requestParameters", "responseElements", "additionalEventData", "requestID", "eventID",
            "readOnly", "resources", "eventType", "managementEvent", "recipientAccountId", "eventCategory",
            "tlsDetails",
        } <= set(record)  # fmt: skip
        assert re.fullmatch(r"2026-11-0\dT\d\d:\d\d:\d\dZ", record["eventTime"])
        assert UUID.match(record["eventID"])
        bucket = record["requestParameters"]["bucketName"]
        arns = {row["type"]: row["ARN"] for row in record["resources"]}
        assert arns["AWS::S3::Bucket"] == f"arn:aws:s3:::{bucket}"
        assert arns["AWS::S3::Object"] == f"arn:aws:s3:::{bucket}/{record['requestParameters']['key']}"
    lengths = [len(json.dumps(record, separators=(",", ":"))) for record in found]
    assert 1_500 < sum(lengths) / len(lengths) < 2_100


def test_cloudtrail_operations() -> None:
    """Objects come by all four calls; copies and multipart uploads transfer other byte counts than their size."""
    writes = [
        record for record in told("cloudtrail")
        if record["requestParameters"]["bucketName"] == "media" and record["eventName"] != "DeleteObject"
    ]  # fmt: skip
    assert {record["eventName"] for record in writes} == {
        "PutObject", "CopyObject", "CompleteMultipartUpload", "PostObject",
    }  # fmt: skip
    sizes = {record["eventName"]: record["additionalEventData"] for record in writes}
    assert sizes["CopyObject"]["bytesTransferredIn"] == 0
    assert sizes["CompleteMultipartUpload"]["bytesTransferredIn"] == 223
    assert {type(record["additionalEventData"]["bytesTransferredIn"]) for record in writes} == {int, float}
    assert all(VERSION_ID.match(record["responseElements"]["x-amz-version-id"]) for record in writes)
    assert not any("x-amz-version-id" in record["requestParameters"] for record in writes)


@pytest.mark.parametrize(("bucket", "type_"), [("orders-dr", "AWSAccount"), ("media-copy", "AssumedRole")])
def test_cloudtrail_replica(bucket: str, type_: str) -> None:
    """A replica carries the replication service's marks, in the form for its accounts, and the source's version."""
    replicas = [record for record in told("cloudtrail") if record["requestParameters"]["bucketName"] == bucket]
    assert replicas
    for record in replicas:
        identity = record["userIdentity"]
        assert identity["type"] == type_
        assert identity["principalId"].endswith(":s3-replication")
        assert identity["invokedBy"] == record["sourceIPAddress"] == "s3.amazonaws.com"
        assert identity["accountId"] == "111122223333"
        assert ("sessionContext" in identity) == ("arn" in identity) == (type_ == "AssumedRole")
        given = record["requestParameters"]["x-amz-version-id"]
        if "errorCode" not in record:
            assert record["responseElements"]["x-amz-version-id"] == given


def test_cloudtrail_denial() -> None:
    """A denied copy names the missing permission, has no response, and stands at the destination."""
    denied = [record for record in told("cloudtrail") if "errorCode" in record]
    assert denied
    for record in denied:
        bucket, key = record["requestParameters"]["bucketName"], record["requestParameters"]["key"]
        assert (record["eventName"], record["errorCode"], record["responseElements"]) == (
            "PutObject",
            "AccessDenied",
            None,
        )
        assert f'perform: s3:ReplicateObject on resource: "arn:aws:s3:::{bucket}/{key}"' in record["errorMessage"]
        assert bucket in {"orders-dr", "orders-audit", "media-copy"}


def test_cloudtrail_deletes() -> None:
    """A delete marker is a DeleteObject that answers with the marker; a delete for good names its version."""
    deletes = [record for record in told("cloudtrail") if record["eventName"] == "DeleteObject"]
    markers = [r for r in deletes if r["responseElements"].get("x-amz-delete-marker") == "true"]
    final = [record for record in deletes if "versionId" in record["requestParameters"]]
    assert markers
    assert final
    assert len(markers) + len(final) == len(deletes)
    assert not [record for record in final if record in markers]


def test_notification_fields() -> None:
    """Every notification has one record with milliseconds, and a form-encoded key that decodes to the object's."""
    keys = {record["version_id"]: record["key"] for record in truth(Plan(objects=600, kinds=("notification",)))}
    compared = 0
    for message in told("notification", failure_rate=0.01, delete_rate=0.01, delete_marker_rate=0.03):
        (record,) = message["Records"]
        assert {
            "eventVersion", "eventSource", "awsRegion", "eventTime", "eventName", "userIdentity", "requestParameters",
            "responseElements", "s3",
        } <= set(record)  # fmt: skip
        assert re.fullmatch(r"2026-11-0\dT\d\d:\d\d:\d\d\.\d{3}Z", record["eventTime"])
        item = record["s3"]["object"]
        assert re.fullmatch(r"[A-Za-z0-9%+./_~-]+", item["key"])
        assert re.fullmatch(r"[0-9A-F]{18}", item["sequencer"])
        if item["versionId"] in keys:
            assert unquote_plus(item["key"]) == keys[item["versionId"]]
            compared += 1
    assert compared > 1_000


def test_notification_names() -> None:
    """Notifications tell of all four ways to write, of markers, of deletes for good, and of failures."""
    records = [message["Records"][0] for message in told("notification")]
    fields = {record["eventName"]: set(record["s3"]["object"]) for record in records}
    whole = {"key", "size", "eTag", "versionId", "sequencer"}
    assert fields == {
        "ObjectCreated:Put": whole,
        "ObjectCreated:Post": whole,
        "ObjectCreated:Copy": whole,
        "ObjectCreated:CompleteMultipartUpload": whole,
        "ObjectRemoved:DeleteMarkerCreated": whole - {"size"},
        "ObjectRemoved:Delete": whole - {"size", "eTag"},
        "Replication:OperationFailedReplication": whole,
    }
    replicas = {r["userIdentity"]["principalId"] for r in records if r["s3"]["bucket"]["name"] == "orders-dr"}
    assert [re.fullmatch(r"AWS:AROA[0-9A-F]{17}:s3-replication", principal) is not None for principal in replicas] == [
        True
    ]


def test_notification_failure() -> None:
    """A failure names rule, destination, reason and the time of the write, and comes from the source."""
    records = [message["Records"][0] for message in told("notification")]
    written = {
        r["s3"]["object"]["versionId"]: r["eventTime"] for r in records
        if r["s3"]["bucket"]["name"] in {"orders", "media"} and r["eventName"].startswith("ObjectCreated:")
    }  # fmt: skip
    failures = [record for record in records if "replicationEventData" in record]
    rules = {"dr": "orders-dr", "audit": "orders-audit", "copy": "media-copy"}
    for record in failures:
        data = record["replicationEventData"]
        assert data["destinationBucket"] == f"arn:aws:s3:::{rules[data['replicationRuleId']]}"
        assert data["s3Operation"] == "OBJECT_PUT"
        assert data["requestTime"] == written[record["s3"]["object"]["versionId"]]
        assert record["s3"]["bucket"]["name"] in {"orders", "media"}
        assert record["s3"]["bucket"]["ownerIdentity"]["principalId"] == "111122223333"
    assert {record["replicationEventData"]["failureReason"] for record in failures} == {
        "DstKmsKeyNotFound", "DstPutObjectNotPermitted", "AssumeRoleNotPermitted", "DstBucketUnversioned",
        "SrcGetObjectNotPermitted",
    }  # fmt: skip


def test_eventbridge_fields() -> None:
    """S3's own events have whole seconds and raw keys, and no mark of a replica; failures are notifications."""
    found = told("eventbridge")
    native = [message for message in found if "detail" in message]
    assert {message["Records"][0]["eventName"] for message in found if "Records" in message} == {
        "Replication:OperationFailedReplication"
    }
    owners = {entry["bucket"]: (entry["account"], entry["region"]) for entry in topology(Plan())}
    for event in native:
        assert event["source"] == "aws.s3"
        assert re.fullmatch(r"2026-11-0\dT\d\d:\d\d:\d\dZ", event["time"])
        assert (event["account"], event["region"]) == owners[event["detail"]["bucket"]["name"]]
        assert event["detail"]["requester"] == "111122223333"
        assert VERSION_ID.match(event["detail"]["object"]["version-id"])
    created = [event for event in native if event["detail-type"] == "Object Created"]
    assert all({"key", "size", "etag", "version-id", "sequencer"} == set(e["detail"]["object"]) for e in created)
    assert {event["detail"]["reason"] for event in created} == {
        "PutObject", "CopyObject", "CompleteMultipartUpload", "POST Object",
    }  # fmt: skip
    assert {event["detail"]["deletion-type"] for event in native if event["detail-type"] == "Object Deleted"} == {
        "Permanently Deleted", "Delete Marker Created",
    }  # fmt: skip


def test_keys_hold_every_kind_of_character() -> None:
    """Keys hold what encodings stumble over, and never a line break."""
    letters = set().union(*(record["key"] for record in truth(Plan(objects=2_000))))
    assert set(" +%é🚀/\"'\\\t;&=?#<>[]{}~日ключ@:|^()") <= letters
    assert not letters & {"\n", "\r"}
