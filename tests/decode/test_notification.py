"""S3 event notifications: of AWS, of MinIO, of Ceph and of others who speak like them."""

from __future__ import annotations

import pytest

from crr_monitor.core.events import Awaited, Confirmed, Deleted, Failed, Mark, Written
from crr_monitor.decode import decode
from tests.decode.results import event_of, failed_of, ignored_of, reason_of, written_of
from tests.messages import (
    ACCOUNT,
    AT,
    BUCKET,
    ETAG,
    FORM_KEY,
    KEY,
    REGION,
    REPLICA_BUCKET,
    SIZE,
    VERSION,
    custom_bus,
    encoded,
    minio,
    notification,
    records,
    replication_notification,
    setup_event,
)


@pytest.mark.parametrize("prefix", ["", "s3:"])
@pytest.mark.parametrize("how", ["Put", "Post", "Copy", "CompleteMultipartUpload"])
def test_created(prefix: str, how: str) -> None:
    """Every way of creating an object is a write, with or without ``s3:``, to the millisecond; the key is decoded."""
    assert event_of(records(notification(f"{prefix}ObjectCreated:{how}"))) == Written(
        BUCKET, KEY, VERSION, AT + 168, whole_seconds=False, mark=Mark.UNKNOWN, size=SIZE, etag=ETAG, region=REGION
    )


def test_bare_record() -> None:
    """A record without its wrapper means the same."""
    assert event_of(notification()) == event_of(records(notification()))


def test_deleted() -> None:
    """The removal of a version by its id, also by lifecycle, is its deletion."""
    gone = Deleted(BUCKET, KEY, VERSION, AT + 168, whole_seconds=False)
    assert event_of(notification("ObjectRemoved:Delete")) == gone
    assert event_of(notification("LifecycleExpiration:Delete")) == gone


@pytest.mark.parametrize(
    ("name", "by_lifecycle"),
    [("ObjectRemoved:DeleteMarkerCreated", False), ("LifecycleExpiration:DeleteMarkerCreated", True)],
)
def test_delete_marker(*, name: str, by_lifecycle: bool) -> None:
    """A delete marker is a write without a size; lifecycle's own are told apart, since they are never replicated."""
    event = written_of(notification(name))
    assert (event.delete_marker, event.size, event.by_lifecycle) == (True, None, by_lifecycle)
    assert event.mark is Mark.UNKNOWN


@pytest.mark.parametrize(
    ("identity", "mark"),
    [
        ({"principalId": "AWS:AROAEXAMPLE:s3-replication"}, Mark.REPLICA),
        ({"principalId": "AWS:s3-replication"}, Mark.REPLICA),
        ({"principalId": "s3-replication"}, Mark.UNKNOWN),
        ({"principalId": "AWS:AROAEXAMPLE:s3-replication-not"}, Mark.UNKNOWN),
        ({"principalId": "s3.amazonaws.com"}, Mark.UNKNOWN),
        ({"principalId": None}, Mark.UNKNOWN),
        (None, Mark.UNKNOWN),
        ([], Mark.UNKNOWN),
    ],
)
@pytest.mark.parametrize("name", ["ObjectCreated:Put", "ObjectRemoved:DeleteMarkerCreated"])
def test_mark(name: str, identity: object, mark: Mark) -> None:
    """Only the replication session's name shows a replica; without it nothing is known."""
    assert written_of(notification(name, userIdentity=identity)).mark is mark


@pytest.mark.parametrize("source", ["minio:s3", "ceph:s3"])
def test_source_of_minio_and_ceph(source: str) -> None:
    """MinIO and Ceph report no replica's arrival as a creation, so a creation is the user's."""
    assert written_of(notification(eventSource=source)).mark is Mark.SOURCE
    assert written_of(notification("ObjectRemoved:DeleteMarkerCreated", eventSource=source)).mark is Mark.SOURCE


@pytest.mark.parametrize("source", [None, "storage.example:s3", "aws:s3"])
def test_any_source(source: str | None) -> None:
    """Whoever sends a record with an ``s3`` object speaks of S3."""
    assert written_of(notification(eventSource=source)).version_id == VERSION


@pytest.mark.parametrize(
    ("spelt", "key"),
    [
        (FORM_KEY, KEY),
        ("%E2%9C%93", "✓"),
        ("file+with+spaces", "file with spaces"),
        ("a%40b", "a@b"),
        ("year%3D2020/key1", "year=2020/key1"),
        ("a%2Fb", "a/b"),
        ("a%2Bb", "a+b"),
        ("a%2525b", "a%25b"),
        ("plain", "plain"),
        ("✓+é", "✓ é"),
        ("100%", "100%"),
    ],
)
def test_key(spelt: str, key: str) -> None:
    """A key is form-decoded, once."""
    assert written_of(notification(key=spelt)).key == key


def test_key_that_is_no_text() -> None:
    """A key whose bytes are not UTF-8 is rejected."""
    assert reason_of(notification(key="a%FFb")) == "key is not valid UTF-8: 'a%FFb'"


@pytest.mark.parametrize("version", [None, "", "null"])
@pytest.mark.parametrize(
    "name", ["ObjectCreated:Put", "ObjectRemoved:Delete", "Replication:OperationFailedReplication"]
)
def test_unversioned(name: str, version: str | None) -> None:
    """What happens to objects without a real version id is ignored."""
    assert ignored_of(notification(name, version=version)) == {"unversioned": 1}


@pytest.mark.parametrize(
    "name",
    [
        "ObjectTagging:Put",
        "ObjectAcl:Put",
        "ObjectRestore:Completed",
        "LifecycleTransition",
        "IntelligentTiering",
        "ObjectCreated:PutTagging",
        "ObjectCreated:PutRetention",
        "ReducedRedundancyLostObject",
        "PutObject",
    ],
)
def test_other_events(name: str) -> None:
    """Other events are ignored under their name, among them MinIO's changes of metadata that are called creations."""
    assert ignored_of(notification(f"s3:{name}")) == {name: 1}


def test_setup_event() -> None:
    """The test event of the set-up is ignored under its own kind, complete or not."""
    assert ignored_of(setup_event()) == {"test event": 1}
    assert ignored_of({"Service": "Amazon S3", "Event": "s3:TestEvent"}) == {"test event": 1}


@pytest.mark.parametrize(
    ("size", "expected"),
    [(0, 0), ("1024", 1_024), (629.0, 629), (-1, None), ("big", None), (None, None), (1.5e300, None), (False, None)],
)
def test_size(size: object, expected: int | None) -> None:
    """A size is a number or a numeral; nothing else is one."""
    record = notification()
    record["s3"]["object"]["size"] = size
    assert written_of(record).size == expected


def test_zero_size_of_minio() -> None:
    """MinIO leaves out the size of an empty object; elsewhere an absent size is unknown."""
    record = notification()
    del record["s3"]["object"]["size"]
    assert written_of(record).size is None
    assert written_of(minio(record)).size == 0


def test_regionless_minio() -> None:
    """An empty Region is none."""
    assert written_of(minio(notification())).region is None


@pytest.mark.parametrize("field", ["eTag", "etag"])
def test_etag(field: str) -> None:
    """The ETag is spelt in two ways, sometimes in quotes; an empty one is none."""
    record = notification()
    del record["s3"]["object"]["eTag"]
    record["s3"]["object"][field] = f'"{ETAG}"'
    assert written_of(record).etag == ETAG
    record["s3"]["object"][field] = '""'
    assert written_of(record).etag is None


def test_bucket_from_arn() -> None:
    """Where the bucket's name is missing, its ARN tells it."""
    record = notification()
    record["s3"]["bucket"] = {"arn": f"arn:aws:s3:default::{BUCKET}"}
    assert written_of(record).bucket == BUCKET


@pytest.mark.parametrize(
    ("time", "at"),
    [
        ("2026-11-22T07:00:00.419013Z", AT + 419),
        ("2026-11-22 07:00:00.419013Z", AT + 419),
        ("2026-11-22T08:00:00+01:00", AT),
    ],
)
def test_times_of_others(time: str, at: int) -> None:
    """Ceph writes microseconds, once with a space; they are cut to milliseconds."""
    assert written_of(notification(eventTime=time)).at == at


@pytest.mark.parametrize("name", ["ObjectSynced:Create", "Replication:Create"])
def test_ceph_replica(name: str) -> None:
    """Ceph's synchronized object is the replica, by the event's name."""
    event = written_of(notification(f"s3:{name}", eventSource="ceph:s3"))
    assert (event.mark, event.delete_marker, event.size) == (Mark.REPLICA, False, SIZE)


@pytest.mark.parametrize("name", ["ObjectSynced:Delete", "ObjectSynced:DeletionMarkerCreated", "Replication:Delete"])
def test_ceph_replicated_delete_marker(name: str) -> None:
    """Ceph's synchronized deletion is the replicated delete marker, where it has a version."""
    event = written_of(notification(f"s3:{name}", eventSource="ceph:s3"))
    assert (event.mark, event.delete_marker, event.size) == (Mark.REPLICA, True, None)
    assert ignored_of(notification(name, version="", eventSource="ceph:s3")) == {"unversioned": 1}


@pytest.mark.parametrize("prefix", ["", "s3:"])
def test_failed(prefix: str) -> None:
    """A failure names source, destination, rule and reason; its time is when S3 gave up, not when it was written."""
    record = replication_notification()
    record["eventName"] = prefix + record["eventName"]
    assert event_of(record) == Failed(
        BUCKET, REPLICA_BUCKET, KEY, VERSION, AT + 33_900, whole_seconds=False, label="failure-event",
        reason="DstKmsKeyNotFound", rule_id="dr", written_at=AT + 168, size=SIZE, etag=ETAG,
        account=ACCOUNT, region=REGION, delete_marker=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("operation", "metadata", "delete_marker"),
    [
        ("OBJECT_PUT", False, False),
        ("OBJECT_PUT_TAGGING", True, None),
        ("OBJECT_PUT_ACL", True, None),
        ("OBJECT_PUT_RETENTION", True, None),
        ("OBJECT_PUT_LEGAL_HOLD", True, None),
        ("OBJECT_PUT_ANYTHING", True, None),
        ("OBJECT_DELETE_TAGGING", True, None),
        ("OBJECT_DELETE", False, True),
        ("OBJECT_DELETE_MARKER", False, True),
        ("object_put_tagging", True, None),
        ("OBJECT_SOMETHING", False, None),
        ("", False, None),
        (None, False, None),
        (5, False, None),
    ],
)
def test_operation(*, operation: object, metadata: bool, delete_marker: bool | None) -> None:
    """Only a change of tags, ACL or lock is a failure of metadata; what is unknown counts as the object's."""
    event = failed_of(replication_notification(s3Operation=operation))
    assert (event.metadata, event.delete_marker) == (metadata, delete_marker)


@pytest.mark.parametrize(
    "time", [None, "", "today", "2026-11-22T07:00:00", 5, "1969-12-31T23:59:59Z", "${requestTime}"]
)
def test_request_time_is_optional(time: object) -> None:
    """A time of the write that cannot be read is unknown, and the failure stands."""
    assert failed_of(replication_notification(requestTime=time)).written_at is None


@pytest.mark.parametrize("destination", [REPLICA_BUCKET, f"arn:aws-cn:s3:::{REPLICA_BUCKET}"])
def test_destination(destination: str) -> None:
    """The destination is an ARN or a name."""
    assert failed_of(replication_notification(destinationBucket=destination)).destination == REPLICA_BUCKET


@pytest.mark.parametrize("owner", ["A2EXAMPLEOWNER", "", None, 12, {"a": 1}])
def test_owner_that_is_no_account(owner: object) -> None:
    """Only twelve digits are an account."""
    record = replication_notification()
    record["s3"]["bucket"]["ownerIdentity"] = {"principalId": owner}
    assert failed_of(record).account == ("000000000012" if owner == 12 else None)


def test_failed_without_data() -> None:
    """MinIO's failure has no destination and no reason."""
    record = minio(notification("Replication:OperationFailedReplication"))
    event = failed_of(record)
    assert (event.source, event.destination, event.reason, event.metadata) == (BUCKET, None, None, False)


@pytest.mark.parametrize("name", ["OperationMissedThreshold", "OperationNotTracked"])
def test_awaited(name: str) -> None:
    """A missed or dropped threshold says that S3 still has to replicate."""
    assert event_of(replication_notification(name)) == Awaited(
        BUCKET, REPLICA_BUCKET, KEY, VERSION, AT + 33_900, whole_seconds=False, rule_id="dr", written_at=AT + 168,
        size=SIZE, etag=ETAG, account=ACCOUNT, region=REGION,
    )  # fmt: skip


def test_replicated_after_threshold() -> None:
    """Replicated late is replicated, at one destination."""
    assert event_of(replication_notification("OperationReplicatedAfterThreshold")) == Confirmed(
        BUCKET, REPLICA_BUCKET, KEY, VERSION, AT + 33_900, whole_seconds=False, rule_id="dr", written_at=AT + 168,
        size=SIZE, etag=ETAG, account=ACCOUNT, region=REGION,
    )  # fmt: skip


def test_completed_of_minio() -> None:
    """MinIO's completion names no destination, so it holds for every one."""
    assert event_of(minio(notification("Replication:OperationCompletedReplication"))) == Confirmed(
        BUCKET, None, KEY, VERSION, AT + 168, whole_seconds=False, size=SIZE, etag=ETAG
    )


@pytest.mark.parametrize("name", ["OperationMissedThreshold", "OperationReplicatedAfterThreshold"])
def test_threshold_without_destination(name: str) -> None:
    """On AWS a threshold event is about one destination; without it, it would be held for all."""
    record = replication_notification(name, destinationBucket=None)
    assert reason_of(record) == "replicationEventData.destinationBucket is missing"


def test_threshold_of_minio() -> None:
    """MinIO's missed threshold says for no destination that it is awaited; its late completion holds for all."""
    name = "Replication:OperationMissedThreshold"
    assert ignored_of(minio(notification(name))) == {name: 1}
    late = event_of(minio(notification("Replication:OperationReplicatedAfterThreshold")))
    assert isinstance(late, Confirmed)
    assert late.destination is None


@pytest.mark.parametrize(
    ("s3", "reason"),
    [
        ({}, "s3.bucket.name is missing"),
        ("text", "s3.bucket.name is missing"),
        ({"bucket": "text", "object": {"key": "k"}}, "s3.bucket.name is missing"),
        ({"bucket": {"name": 5}, "object": {"key": "k"}}, "s3.bucket.name is no text but int"),
        ({"bucket": {"name": BUCKET}}, "s3.object.key is missing"),
        ({"bucket": {"name": BUCKET}, "object": {}}, "s3.object.key is missing"),
        ({"bucket": {"name": BUCKET}, "object": {"key": ""}}, "s3.object.key is missing"),
        ({"bucket": {"name": BUCKET}, "object": {"key": 5}}, "s3.object.key is no text but int"),
        (
            {"bucket": {"name": BUCKET}, "object": {"key": "k", "versionId": 5}},
            "s3.object.versionId is no text but int",
        ),
    ],
)
def test_degenerate(s3: object, reason: str) -> None:
    """A known event without bucket or key is rejected."""
    assert reason_of(notification(s3=s3)) == reason


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (None, "eventName is missing"),
        (5, "eventName is no text but int"),
        ("s3:", "eventName is no event's name: ''"),
        ("event-type", "eventName is no event's name: 'event-type'"),
    ],
)
def test_nameless(name: object, reason: str) -> None:
    """A record of S3 that names no event is rejected: it may have been a write."""
    assert reason_of(notification() | {"eventName": name}) == reason


@pytest.mark.parametrize(
    ("time", "reason"),
    [
        (None, "eventTime is missing"),
        ("The time, in ISO-8601", "eventTime: not an RFC 3339 time: 'The time, in ISO-8601'"),
        ("2017-01-10T06:51:28–07:00", "eventTime: not an RFC 3339 time: '2017-01-10T06:51:28–07:00'"),  # noqa: RUF001 - MinIO's old dash
        ("2026-11-22T07:00:00.168", "eventTime: time without a zone: '2026-11-22T07:00:00.168'"),
    ],
)
def test_timeless(time: object, reason: str) -> None:
    """A record without a time that can be read is rejected, and the field named."""
    assert reason_of(notification(eventTime=time)) == reason


def test_time_of_the_bus() -> None:
    """Sent over a bus of one's own, a record without a time has that of the envelope."""
    assert written_of(custom_bus(notification(eventTime=None))).at == AT


def test_one_bad_record() -> None:
    """Of several records only the bad one is rejected, with its own bytes, spaces and all."""
    bad = b'{ "eventName": "ObjectCreated:Put",  "s3": {} }'
    out = decode(b'{"Records":[' + encoded(notification()) + b", " + bad + b"," + encoded(notification()) + b"]}")
    assert out.events == [event_of(notification())] * 2
    assert [(bad.message, bad.reason) for bad in out.malformed] == [(bad, "s3.bucket.name is missing")]
