"""CloudTrail's data events: which calls write or delete, who made them, and what else they tell."""

from __future__ import annotations

import pytest

from crr_monitor.core.events import Deleted, Failed, Mark, Written
from crr_monitor.core.failures import CATALOGUE, reason_code
from crr_monitor.decode.cloudtrail import CALLS
from tests.decode.results import event_of, failed_of, ignored_of, reason_of, written_of
from tests.messages import (
    ACCOUNT,
    AT,
    BUCKET,
    KEY,
    REGION,
    REPLICA_BUCKET,
    SIZE,
    VERSION,
    Json,
    by_replication,
    cloudtrail,
    cloudtrail_denied,
    cloudtrail_replica,
    eventbridge,
    records,
)


def test_put() -> None:
    """A user's PutObject tells version, size, place and that no KMS key was used; the key is taken raw."""
    assert event_of(cloudtrail()) == Written(
        BUCKET,
        KEY,
        VERSION,
        AT,
        whole_seconds=True,
        mark=Mark.SOURCE,
        size=SIZE,
        account=ACCOUNT,
        region=REGION,
        kms=False,
    )


@pytest.mark.parametrize("name", ["PutObject", "CopyObject", "CompleteMultipartUpload", "PostObject"])
def test_writes(name: str) -> None:
    """Each call that creates a version is a write of it, with the size S3 states."""
    event = written_of(cloudtrail(name))
    assert (event.version_id, event.size, event.delete_marker) == (VERSION, SIZE, False)


@pytest.mark.parametrize(
    ("name", "extra", "size"),
    [
        ("PutObject", {"objectSize": 0, "bytesTransferredIn": 7}, 0),
        ("PutObject", {"bytesTransferredIn": 25701.0}, 25_701),
        ("PutObject", {"objectSize": -1, "bytesTransferredIn": 629.0}, 629),
        ("PutObject", {"objectSize": "1024"}, 1_024),
        ("PutObject", {"objectSize": True}, None),
        ("PutObject", {"objectSize": 10**30}, None),
        ("PutObject", {"objectSize": [1]}, None),
        ("PutObject", {}, None),
        ("PutObject", None, None),
        ("PutObject", "text", None),
        ("CopyObject", {"bytesTransferredIn": 0}, None),
        ("CompleteMultipartUpload", {"objectSize": -1, "bytesTransferredIn": 223}, None),
        ("CompleteMultipartUpload", {"objectSize": 5_242_908, "bytesTransferredIn": 223}, 5_242_908),
    ],
)
def test_size(name: str, extra: object, size: int | None) -> None:
    """The size is S3's own, else what a plain PutObject sent; -1, odd values and other calls' traffic tell nothing."""
    assert written_of(cloudtrail(name, additionalEventData=extra)).size == size


SERVICE = "s3.amazonaws.com"
SESSION = "AROAEXAMPLE:s3-replication"


@pytest.mark.parametrize(
    ("identity", "address", "given_version", "mark"),
    [
        ({"principalId": SESSION, "invokedBy": SERVICE}, SERVICE, VERSION, Mark.REPLICA),
        ({"principalId": SESSION, "invokedBy": SERVICE}, None, None, Mark.REPLICA),
        ({"type": "AWSAccount", "principalId": SESSION}, SERVICE, None, Mark.REPLICA),
        ({"principalId": "AROAEXAMPLE:batch", "invokedBy": SERVICE}, SERVICE, VERSION, Mark.REPLICA),
        ({"principalId": SESSION}, "192.0.2.1", None, Mark.SOURCE),
        ({"principalId": SESSION}, "192.0.2.1", VERSION, Mark.SOURCE),
        ({"principalId": "s3-replication", "invokedBy": SERVICE}, SERVICE, None, Mark.UNKNOWN),
        ({"principalId": "AROAEXAMPLE:s3-replication:x", "invokedBy": SERVICE}, SERVICE, None, Mark.UNKNOWN),
        ({"accountId": ACCOUNT, "invokedBy": SERVICE}, SERVICE, None, Mark.UNKNOWN),
        (
            {"type": "AWSService", "invokedBy": "cloudtrail.amazonaws.com"},
            "cloudtrail.amazonaws.com",
            None,
            Mark.SOURCE,
        ),
        ({"principalId": "AROAEXAMPLE:x", "invokedBy": "AWS Internal"}, "AWS Internal", None, Mark.SOURCE),
        ({"type": "AWSAccount", "principalId": "", "accountId": "ANONYMOUS_PRINCIPAL"}, "192.0.2.1", None, Mark.SOURCE),
        ({"principalId": 7, "invokedBy": SERVICE}, None, None, Mark.UNKNOWN),
        (None, SERVICE, None, Mark.UNKNOWN),
        ("root", "192.0.2.1", None, Mark.SOURCE),
    ],
)
def test_mark(identity: object, address: str | None, given_version: str | None, mark: Mark) -> None:
    """Only S3 itself, with the session's name or a version id in the request, proves replication."""
    record = cloudtrail(userIdentity=identity, sourceIPAddress=address)
    record["requestParameters"]["x-amz-version-id"] = given_version
    assert written_of(record).mark is mark


def test_replica() -> None:
    """A replica's write names its version in request and response; where the response is empty the request tells."""
    record = cloudtrail_replica()
    assert (written_of(record).mark, written_of(record).bucket) == (Mark.REPLICA, REPLICA_BUCKET)
    record["responseElements"] = None
    assert written_of(record).version_id == VERSION


def delete(*, version: object = None, response: object = None) -> Json:
    """A user's DeleteObject."""
    record = cloudtrail("DeleteObject", responseElements=response, additionalEventData=None)
    record["requestParameters"]["versionId"] = version
    return record


def test_delete_marker() -> None:
    """DeleteObject without a version id creates a delete marker, whose id stands in the response."""
    event = written_of(delete(response={"x-amz-delete-marker": "true", "x-amz-version-id": VERSION}))
    assert (event.delete_marker, event.size, event.mark, event.by_lifecycle) == (True, None, Mark.SOURCE, False)


@pytest.mark.parametrize("response", [None, {}, {"x-amz-delete-marker": "true", "x-amz-version-id": VERSION}])
def test_permanent_delete(response: object) -> None:
    """DeleteObject with a version id deletes that version for good, also where it was a delete marker."""
    assert event_of(delete(version=VERSION, response=response)) == Deleted(BUCKET, KEY, VERSION, AT, whole_seconds=True)


@pytest.mark.parametrize("response", [None, {"x-amz-delete-marker": "true"}])
def test_replicated_delete_marker(response: object) -> None:
    """A replicated delete marker names its version in the request, under another name than a permanent delete."""
    record = cloudtrail_replica("DeleteObject", responseElements=response)
    event = written_of(record)
    assert (event.delete_marker, event.mark, event.version_id) == (True, Mark.REPLICA, VERSION)


@pytest.mark.parametrize("version", [None, "", "null"])
@pytest.mark.parametrize("name", ["PutObject", "CopyObject"])
def test_unversioned_write(name: str, version: str | None) -> None:
    """A write without a real version id is ignored, whatever else is wrong with it."""
    record = cloudtrail(name, responseElements={"x-amz-version-id": version}, eventTime="no time")
    assert ignored_of(record) == {"unversioned": 1}


@pytest.mark.parametrize(
    "record",
    [
        delete(),
        delete(version="null"),
        delete(version=""),
        delete(response={"x-amz-delete-marker": "true", "x-amz-version-id": "null"}),
        delete(response={"x-amz-version-id": VERSION}),
    ],
)
def test_unversioned_delete(record: Json) -> None:
    """A deletion that names no real version is ignored."""
    assert ignored_of(record) == {"unversioned": 1}


@pytest.mark.parametrize(
    "name",
    [
        "GetObject",
        "PutObjectTagging",
        "UploadPart",
        "RestoreObject",
        "CreateMultipartUpload",
        "DeleteObjects",
        "JobCreated",
    ],
)
def test_other_calls(name: str) -> None:
    """Calls that create or delete no version are ignored under their name, by whomever they are made."""
    assert ignored_of(cloudtrail(name)) == {name: 1}
    assert ignored_of(by_replication(cloudtrail(name))) == {name: 1}


def test_long_name_is_cut() -> None:
    """The name of an unknown call is counted under its first 64 characters."""
    assert ignored_of(cloudtrail("X" * 1_000)) == {"X" * 64: 1}


@pytest.mark.parametrize("event_type", ["AwsVpceEvent", "AwsServiceEvent"])
def test_no_call_of_its_own(event_type: str) -> None:
    """The endpoint's second record of a call is no second write, and S3's jobs make no call."""
    assert ignored_of(cloudtrail(eventType=event_type)) == {event_type: 1}
    assert ignored_of(cloudtrail_denied(eventType=event_type)) == {event_type: 1}


def test_other_service() -> None:
    """Records of other services stand in the same logs, with parameters of any type, and are ignored."""
    record = cloudtrail(
        eventSource="kms.amazonaws.com", requestParameters="text", responseElements=[1], resources={"a": 1}
    )
    assert ignored_of(records(record, record)) == {"other service": 2}


@pytest.mark.parametrize("code", ["AccessDenied", "NoSuchKey", "InternalError", "InvalidPart"])
def test_failed_call_of_a_user(code: str) -> None:
    """A failed call wrote nothing, although it can have a response."""
    assert ignored_of(cloudtrail(errorCode=code)) == {"PutObject with error": 1}


@pytest.mark.parametrize(
    "code",
    [
        *("MethodNotAllowed", "NoSuchKey", "NoSuchVersion", "SlowDown", "InternalError"),
        *("KMS.ThrottlingException", "KMS.KMSInternalException", "KMS.DependencyTimeoutException"),
    ],
)
def test_harmless_error_of_replication(code: str) -> None:
    """The replication service's other errors are normal (405 of a delete marker) or tried again by S3."""
    assert ignored_of(cloudtrail_denied("HeadObject", errorCode=code)) == {"HeadObject with error": 1}


@pytest.mark.parametrize("code", ["AccessDenied", "AllAccessDisabled"])
def test_denied_write(code: str) -> None:
    """A denied write of the replication service is a failure at its destination, in the words of the denial."""
    assert event_of(cloudtrail_denied(errorCode=code)) == Failed(
        None, REPLICA_BUCKET, KEY, VERSION, AT, whole_seconds=True, label="denied-call",
        reason="not authorized to perform: s3:ReplicateObject", delete_marker=False,
    )  # fmt: skip


@pytest.mark.parametrize(("name", "code"), CALLS.items())
@pytest.mark.parametrize("words", [None, "", "Access Denied"])
def test_denied_call_without_words(name: str, code: str, words: str | None) -> None:
    """Where the words name no permission, S3's own code for the denied call is the reason, and the catalogue has it."""
    assert failed_of(cloudtrail_denied(name, errorMessage=words)).reason == code
    assert code in CATALOGUE


def test_reason_of_a_denied_call() -> None:
    """Endless words are cut; of a call that is not known the error's code stays, as does that of another denial."""
    assert failed_of(cloudtrail_denied(errorMessage="w" * 5_000)).reason == "w" * 1_024
    assert failed_of(cloudtrail_denied("GetObjectTorrent", errorMessage=None)).reason == "AccessDenied"
    assert failed_of(cloudtrail_denied(errorMessage=None, errorCode="AllAccessDisabled")).reason == "AllAccessDisabled"


@pytest.mark.parametrize(
    ("words", "reason"),
    [("the key is disabled", "KMS.DisabledException: the key is disabled"), (None, "KMS.DisabledException")],
)
def test_error_of_a_key(words: str | None, reason: str) -> None:
    """A KMS key that cannot be used is a failure whose code stands before its words, and by which it is counted."""
    found = failed_of(cloudtrail_denied("GetObject", errorCode="KMS.DisabledException", errorMessage=words)).reason
    assert (found, reason_code(found)) == (reason, "KMS.DisabledException")


@pytest.mark.parametrize("name", ["GetObject", "GetObjectTagging"])
def test_reads_that_are_no_denials_of_replication(name: str) -> None:
    """Reads that succeed, by whomever, and somebody's own that are denied, are no evidence."""
    replication = by_replication(cloudtrail(name, version=None))
    assert ignored_of(replication) == {name: 1}
    somebody = cloudtrail(name, version=None, errorCode="AccessDenied", errorMessage="Access Denied")
    assert ignored_of(somebody) == {f"{name} with error": 1}


@pytest.mark.parametrize(
    ("name", "source", "destination", "metadata", "delete_marker"),
    [
        ("PutObject", None, BUCKET, False, False),
        ("CreateMultipartUpload", None, BUCKET, False, False),
        ("UploadPart", None, BUCKET, False, False),
        ("CompleteMultipartUpload", None, BUCKET, False, False),
        ("DeleteObject", None, BUCKET, False, True),
        ("PutObjectTagging", None, BUCKET, True, None),
        ("DeleteObjectTagging", None, BUCKET, True, None),
        ("PutObjectAcl", None, BUCKET, True, None),
        ("PutObjectRetention", None, BUCKET, True, None),
        ("PutObjectLegalHold", None, BUCKET, True, None),
        ("GetObject", BUCKET, None, False, None),
        ("HeadObject", BUCKET, None, False, None),
        ("GetObjectAcl", BUCKET, None, False, None),
        ("GetObjectTagging", BUCKET, None, False, None),
    ],
)
def test_denied_calls(
    *,
    name: str,
    source: str | None,
    destination: str | None,
    metadata: bool,
    delete_marker: bool | None,
) -> None:
    """A denied write names the destination and a denied read the source; only metadata's writes spare the object."""
    record = cloudtrail_denied(name, bucket=BUCKET)
    event = failed_of(record)
    assert (event.source, event.destination, event.metadata, event.delete_marker) == (
        source, destination, metadata, delete_marker,
    )  # fmt: skip
    assert (event.account, event.region) == ((ACCOUNT, REGION) if source else (None, None))


def test_denied_read_names_the_version_as_reads_do() -> None:
    """Reads and metadata writes name the version as ``versionId``."""
    record = cloudtrail_denied("GetObject", bucket=BUCKET)
    record["requestParameters"] = {"bucketName": BUCKET, "key": KEY, "versionId": VERSION}
    assert failed_of(record).version_id == VERSION


def test_denied_call_without_version() -> None:
    """A denied call that names no version is ignored under a kind that says so."""
    record = cloudtrail_denied("GetBucketReplication")
    record["requestParameters"] = {"bucketName": BUCKET}
    assert ignored_of(record) == {"denied call without version id": 1}


def test_denied_call_by_a_namesake() -> None:
    """A session of that name that S3 did not invoke is nobody's replication."""
    record = cloudtrail_denied(sourceIPAddress="192.0.2.1")
    del record["userIdentity"]["invokedBy"]
    assert ignored_of(record) == {"PutObject with error": 1}


@pytest.mark.parametrize(
    ("request_header", "response_header", "applied", "kms"),
    [
        (None, "aws:kms", None, True),
        (None, "aws:kms:dsse", None, True),
        ("aws:kms", None, None, True),
        (None, "AES256", "SSE_KMS", False),
        (None, None, "Default_SSE_KMS", True),
        (None, None, "Default_SSE_S3", False),
        (None, None, None, None),
        (7, [], {}, None),
    ],
)
def test_kms(*, request_header: object, response_header: object, applied: object, kms: bool | None) -> None:
    """Whether a KMS key encrypts the version is known only where request, response or S3's note say it."""
    record = cloudtrail(
        responseElements={"x-amz-version-id": VERSION, "x-amz-server-side-encryption": response_header},
        additionalEventData={"SSEApplied": applied},
    )
    record["requestParameters"]["x-amz-server-side-encryption"] = request_header
    assert written_of(record).kms is kms


@pytest.mark.parametrize(
    ("tagging", "tags"),
    [
        (None, None),
        ("team=red%20one&empty=", {"team": "red one", "empty": ""}),
        ("", {}),
        ("a=%FF", None),
        (["a=b"], None),
    ],
)
def test_tags(tagging: object, tags: dict[str, str] | None) -> None:
    """Tags come as one form-encoded header; without the header, or where it cannot be read, they are unknown."""
    record = cloudtrail()
    record["requestParameters"]["x-amz-tagging"] = tagging
    assert written_of(record).tags == tags


def test_storage_class() -> None:
    """The storage class is the request's."""
    record = cloudtrail()
    record["requestParameters"]["x-amz-storage-class"] = "GLACIER"
    assert written_of(record).storage_class == "GLACIER"


@pytest.mark.parametrize(
    ("resources", "account"),
    [
        ([{"type": "AWS::S3::Bucket", "ARN": f"arn:aws:s3:::{BUCKET}", "accountId": ACCOUNT}], ACCOUNT),
        ([{"type": "AWS::S3::Bucket", "arn": f"arn:aws:s3:::{BUCKET}", "accountId": 11122223333}], "011122223333"),
        ({"type": "AWS::S3::Bucket", "ARN": f"arn:aws:s3:::{BUCKET}", "accountId": ACCOUNT}, ACCOUNT),
        ([{"type": "AWS::S3::Bucket", "ARN": "arn:aws:s3:::elsewhere", "accountId": ACCOUNT}], None),
        ([{"type": "AWS::S3::Bucket", "ARN": f"arn:aws:s3:::{BUCKET}", "accountId": "masked"}], None),
        ([{"type": "AWS::S3::Object", "ARN": f"arn:aws:s3:::{BUCKET}", "accountId": ACCOUNT}], None),
        (["odd", None, 1, []], None),
        (None, None),
        ("odd", None),
    ],
)
def test_account(resources: object, account: str | None) -> None:
    """The bucket's account is told only by the row of that bucket; the recipient may be the requester."""
    assert written_of(cloudtrail(resources=resources)).account == account


@pytest.mark.parametrize("field", ["ARN", "arn"])
def test_bucket_from_resources(field: str) -> None:
    """Where the request does not name the bucket, its row of the resources does."""
    record = cloudtrail(resources=[{"type": "AWS::S3::Bucket", field: f"arn:aws:s3:::{BUCKET}"}])
    del record["requestParameters"]["bucketName"]
    assert written_of(record).bucket == BUCKET


@pytest.mark.parametrize("key", ["a+b", "a%20b", "target file.txt", "ключ"])
def test_key_is_raw(key: str) -> None:
    """A key is never decoded: CloudTrail writes it as it is."""
    assert written_of(cloudtrail(key=key)).key == key


def test_single_part_is_an_object() -> None:
    """One part of a multipart upload is an object where several are a list, and neither is read."""
    record = cloudtrail("CompleteMultipartUpload")
    record["requestParameters"]["CompleteMultipartUpload"] = {"Part": {"PartNumber": 1}}
    assert written_of(record).version_id == VERSION


def test_time_of_logstash() -> None:
    """Logstash puts the time into ``@timestamp``."""
    record = cloudtrail() | {"@timestamp": "2026-11-22T07:00:00.500Z"}
    del record["eventTime"]
    assert (written_of(record).at, written_of(record).whole_seconds) == (AT + 500, False)


def test_eventbridge_fills_time_and_region() -> None:
    """Time and Region are the record's own, else the envelope's; the envelope's account is nobody's."""
    own = written_of(eventbridge(cloudtrail(), time="...", region="eu-west-1", account=12))
    assert (own.at, own.region, own.account) == (AT, REGION, ACCOUNT)
    filled = written_of(eventbridge(cloudtrail(eventTime=None, awsRegion=None, resources=None), region="eu-west-1"))
    assert (filled.at, filled.region, filled.account) == (AT, "eu-west-1", None)


@pytest.mark.parametrize(
    "detail_type",
    ["AWS API Call via CloudTrail", "Amazon API Call via CloudTrail", "AWS Service Event via CloudTrail", "..."],
)
def test_eventbridge_is_known_by_its_detail(detail_type: str) -> None:
    """What came through CloudTrail is known by its detail, however the envelope calls it."""
    assert written_of(eventbridge(cloudtrail(), **{"detail-type": detail_type})) == written_of(cloudtrail())


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("eventName", None, "eventName is missing"),
        ("eventName", 5, "eventName is no text but int"),
        ("eventTime", None, "eventTime is missing"),
        ("eventTime", 1_795_330_800, "eventTime is no text but int"),
        ("eventTime", "today", "eventTime: not an RFC 3339 time: 'today'"),
        ("eventTime", "2026-11-22T07:00:00", "eventTime: time without a zone: '2026-11-22T07:00:00'"),
        ("eventTime", "1969-01-01T00:00:00Z", "time is outside 1970-9999: -31536000000"),
        ("requestParameters", "text", "requestParameters.key is missing"),
        ("requestParameters", {"bucketName": BUCKET}, "requestParameters.key is missing"),
        ("requestParameters", {"bucketName": "", "key": KEY}, "requestParameters.bucketName is missing"),
        ("requestParameters", {"bucketName": 5, "key": KEY}, "requestParameters.bucketName is no text but int"),
        ("requestParameters", {"bucketName": BUCKET, "key": [KEY]}, "requestParameters.key is no text but list"),
        ("responseElements", {"x-amz-version-id": 5}, "responseElements.x-amz-version-id is no text but int"),
        ("additionalEventData", {"objectSize": {"a": 1}}, None),
    ],
)
def test_unfit(field: str, value: object, reason: str | None) -> None:
    """A write that lacks what an event needs is rejected by that field's name; odd optional values are unknown."""
    record = cloudtrail() | {field: value}
    if reason is None:
        assert written_of(record).size is None
    else:
        assert reason_of(record) == reason


def test_long_key() -> None:
    """A key beyond S3's limit is rejected with its length."""
    reason = reason_of(cloudtrail(key="k" * 65_536))
    assert reason.startswith("key has 65536 bytes, S3 allows 1024: 'kkk")


def test_denied_call_without_key() -> None:
    """A denied replication that names a version and no key is rejected."""
    record = cloudtrail_denied()
    del record["requestParameters"]["key"]
    assert reason_of(record) == "requestParameters.key is missing"
