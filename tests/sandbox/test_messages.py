"""The messages of the sandbox: each is what AWS sends, and the project's decoder understands it."""

from __future__ import annotations

import json
import time
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from crr_monitor.aws.patterns import READS, denied_reads_pattern
from crr_monitor.aws.selectors import reads_selector
from crr_monitor.core.events import Awaited, Confirmed, Deleted, Failed, Mark, Written
from crr_monitor.core.failures import reason_code
from crr_monitor.decode import decode
from crr_monitor.sandbox import Sandbox, Settings
from tests.sandbox.making import EAST, FAST, HOME, OTHER, WEST, World, data_selector, rule

pytest.importorskip("ministack")
pytest.importorskip("boto3")

if TYPE_CHECKING:
    from crr_monitor.core.events import Event

KEYS = ["plain.txt", "2026/a b+c é.txt", "100%/&=?#\"'<>", "日本/🙂"]
WRITES = ("PutObject", "PostObject", "CopyObject", "CompleteMultipartUpload", "DeleteObject")


def understood(bodies: list[Any]) -> list[Event]:
    """What the decoder takes from the messages, none of which may be malformed."""
    decoded = [decode(json.dumps(body).encode()) for body in bodies]
    assert [each.malformed for each in decoded] == [[]] * len(decoded)
    return [event for each in decoded for event in each.events]


def switch_bridge_on(world: World, bucket: str, account: str = HOME, region: str = EAST) -> None:
    """Let the bucket send its events to EventBridge."""
    world.s3(account, region).put_bucket_notification_configuration(
        Bucket=bucket, NotificationConfiguration={"EventBridgeConfiguration": {}}
    )


def notify(world: World, bucket: str, queue: str, *events: str, account: str = HOME, region: str = EAST) -> None:
    """Send notifications of a bucket to a queue, and forget the test event."""
    configuration = {"QueueConfigurations": [{"QueueArn": queue, "Events": list(events)}]}
    world.s3(account, region).put_bucket_notification_configuration(
        Bucket=bucket, NotificationConfiguration=configuration
    )
    world.messages(queue)


def life(world: World, source: str, key: str = "a b") -> dict[str, str]:
    """Put, copy, upload in parts, delete, delete for good; returns the version ids."""
    s3 = world.s3()
    made = {"put": world.put(source, key)}
    made["copy"] = s3.copy_object(Bucket=source, Key="copy", CopySource={"Bucket": source, "Key": key})["VersionId"]
    upload = s3.create_multipart_upload(Bucket=source, Key="parts")["UploadId"]
    part = s3.upload_part(Bucket=source, Key="parts", UploadId=upload, PartNumber=1, Body=b"part")
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    done = s3.complete_multipart_upload(Bucket=source, Key="parts", UploadId=upload, MultipartUpload=parts)
    made["parts"] = done["VersionId"]
    made["marker"] = s3.delete_object(Bucket=source, Key=key)["VersionId"]
    s3.delete_object(Bucket=source, Key="copy", VersionId=made["copy"])
    world.sandbox.settle()
    return made


def test_eventbridge_events_tell_version_size_and_key(world: World) -> None:
    """Native events are sent where the bucket's switch is on, with version id, size, raw key and reason."""
    source = world.bucket("orders")
    switch_bridge_on(world, source)
    queue = world.queue()
    name = world.catch(queue, {"source": ["aws.s3"], "detail": {"bucket": {"name": [source]}}})
    made = life(world, source)
    bodies = world.bodies(queue)
    world.drop_rule(name)
    assert sorted(
        (
            body["detail-type"],
            body["detail"]["reason"],
            body["detail"].get("deletion-type"),
            body["detail"]["object"]["key"],
        )
        for body in bodies
    ) == [
        ("Object Created", "CompleteMultipartUpload", None, "parts"),
        ("Object Created", "CopyObject", None, "copy"),
        ("Object Created", "PutObject", None, "a b"),
        ("Object Deleted", "DeleteObject", "Delete Marker Created", "a b"),
        ("Object Deleted", "DeleteObject", "Permanently Deleted", "copy"),
    ]
    assert {(body["account"], body["region"]) for body in bodies} == {(HOME, EAST)}
    events = understood(bodies)
    written = {event.version_id: event for event in events if isinstance(event, Written)}
    assert set(written) == set(made.values())
    assert (written[made["put"]].size, written[made["put"]].mark, written[made["marker"]].delete_marker) == (
        5,
        Mark.UNKNOWN,
        True,
    )
    assert [event.version_id for event in events if isinstance(event, Deleted)] == [made["copy"]]


def test_without_the_switch_there_are_no_eventbridge_events(world: World) -> None:
    """A bucket that is not switched on sends nothing to EventBridge."""
    source, queue = world.bucket("orders"), world.queue()
    name = world.catch(queue, {"source": ["aws.s3"], "detail": {"bucket": {"name": [source]}}})
    world.put(source)
    world.sandbox.settle()
    assert world.messages(queue) == []
    world.drop_rule(name)


def test_the_destination_sends_an_eventbridge_event_for_a_replica(world: World) -> None:
    """A replica's arrival is an ordinary event of the destination's account and Region, with the source's version."""
    source, replica = world.bucket("orders"), world.bucket("dr", OTHER, WEST)
    world.open(replica)
    world.replicate(source, rule(replica))
    switch_bridge_on(world, replica, OTHER, WEST)
    queue = world.queue(OTHER, WEST)
    name = world.catch(queue, {"source": ["aws.s3"]}, OTHER, WEST)
    version = world.put(source, KEYS[1])
    world.sandbox.settle()
    (body,) = world.bodies(queue)
    world.drop_rule(name, OTHER, WEST)
    assert (body["account"], body["region"], body["detail"]["requester"]) == (OTHER, WEST, HOME)
    (event,) = understood([body])
    assert isinstance(event, Written)
    assert (event.bucket, event.key, event.version_id, event.size) == (replica, KEYS[1], version, 5)


@pytest.mark.parametrize("key", KEYS)
def test_notifications_of_source_and_replica_carry_key_version_and_mark(world: World, key: str) -> None:
    """S3 tells both queues of one version id; the replica's record has the mark of the replication session."""
    source, replica = world.pair()
    here, there = world.queue(), world.queue(region=WEST)
    notify(world, source, here, "s3:ObjectCreated:*", "s3:ObjectRemoved:*")
    notify(world, replica, there, "s3:ObjectCreated:*", "s3:ObjectRemoved:*", region=WEST)
    version = world.put(source, key)
    marker = world.s3().delete_object(Bucket=source, Key=key)["VersionId"]
    world.sandbox.settle()
    at_source, at_replica = understood(world.bodies(here)), understood(world.bodies(there))
    assert {(event.key, event.version_id) for event in at_source + at_replica} == {(key, version), (key, marker)}
    assert {event.mark for event in at_replica if isinstance(event, Written)} == {Mark.REPLICA}
    assert Mark.REPLICA not in {event.mark for event in at_source if isinstance(event, Written)}
    assert {event.delete_marker for event in at_replica if isinstance(event, Written)} == {False, True}


def test_a_replica_of_an_upload_in_parts_is_completed_as_one(world: World) -> None:
    """The destination's notification of a multipart replica is ``ObjectCreated:CompleteMultipartUpload``."""
    source, replica = world.pair()
    queue = world.queue(region=WEST)
    notify(world, replica, queue, "s3:ObjectCreated:*", region=WEST)
    made = life(world, source)
    kinds = {
        body["Records"][0]["s3"]["object"]["versionId"]: body["Records"][0]["eventName"] for body in world.bodies(queue)
    }
    assert kinds[made["put"]] == "ObjectCreated:Put"
    assert kinds[made["parts"]] == "ObjectCreated:CompleteMultipartUpload"


def test_notifications_travel_by_sns_to_a_queue_in_another_region_and_account(world: World) -> None:
    """S3 to a topic of its Region, the topic to a queue elsewhere: the decoder unwraps it."""
    source, queue = world.bucket("orders"), world.queue(OTHER, WEST)
    sns = world.sandbox.client("sns", HOME, EAST)
    topic = sns.create_topic(Name=f"{source}-events")["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue)
    world.s3().put_bucket_notification_configuration(
        Bucket=source,
        NotificationConfiguration={"TopicConfigurations": [{"TopicArn": topic, "Events": ["s3:ObjectCreated:*"]}]},
    )
    version = world.put(source)
    world.sandbox.settle()
    bodies = world.bodies(queue)
    assert [json.loads(body["Message"]).get("Event") for body in bodies] == ["s3:TestEvent", None]
    assert [event.version_id for event in understood(bodies)] == [version]


def test_failures_are_told_at_the_source_where_the_rule_has_metrics(world: World) -> None:
    """``OperationFailedReplication`` names rule, destination and reason; without metrics S3 says nothing."""
    source, quiet = world.bucket("orders"), world.bucket("quiet")
    bad = world.bucket("bad", region=WEST)
    world.replicate(source, rule(bad, "dr", metrics=True))
    world.replicate(quiet, rule(bad, "dr"))
    queue = world.queue()
    for bucket in (source, quiet):
        notify(world, bucket, queue, "s3:Replication:*")
    world.version(bad, region=WEST, status="Suspended")
    version = world.put(source, KEYS[1])
    world.put(quiet, KEYS[1])
    world.sandbox.settle()
    (body,) = world.bodies(queue)
    assert body["Records"][0]["eventName"] == "Replication:OperationFailedReplication"
    (event,) = understood([body])
    assert isinstance(event, Failed)
    assert (event.source, event.destination, event.key, event.version_id) == (source, bad, KEYS[1], version)
    assert (event.reason, event.rule_id, event.size) == ("DstBucketUnversioned", "dr", 5)


def test_cloudtrail_tells_of_writes_that_a_trail_covers(world: World) -> None:
    """Data events reach the default bus for put, copy, multipart and delete, as ``AWS API Call via CloudTrail``."""
    source, queue = world.bucket("orders"), world.queue()
    trail = world.trail(data_selector(source, *WRITES))
    name = world.catch(queue, {"detail-type": ["AWS API Call via CloudTrail"]})
    made = life(world, source, KEYS[1])
    bodies = world.bodies(queue)
    world.drop_rule(name)
    world.drop_trail(trail)
    assert sorted(body["detail"]["eventName"] for body in bodies) == [
        "CompleteMultipartUpload",
        "CopyObject",
        "DeleteObject",
        "DeleteObject",
        "PutObject",
    ]
    events = understood(bodies)
    written = {event.version_id: event for event in events if isinstance(event, Written)}
    assert set(written) == set(made.values())
    assert {event.mark for event in written.values()} == {Mark.SOURCE}
    put = written[made["put"]]
    assert (put.bucket, put.key, put.size, put.account, put.region) == (source, KEYS[1], 5, HOME, EAST)
    assert [event.version_id for event in events if isinstance(event, Deleted)] == [made["copy"]]


@pytest.mark.parametrize("why", ["no trail", "stopped", "other bucket", "other call", "reads only", "other region"])
def test_cloudtrail_tells_nothing_that_no_trail_covers(world: World, why: str) -> None:
    """Without a logging trail whose selectors take the call, in the Region, no event is sent."""
    source, queue = world.bucket("orders"), world.queue()
    region = WEST if why == "other region" else EAST
    selector = {
        "other bucket": data_selector(source + "-2"),
        "other call": data_selector(source, "DeleteObject"),
        "reads only": data_selector(source, read_only=True),
    }.get(why, data_selector(source))
    trail = world.trail(selector, region=region) if why != "no trail" else None
    if why == "stopped" and trail:
        world.sandbox.client("cloudtrail", HOME, EAST).stop_logging(Name=trail)
    name = world.catch(queue, {"source": ["aws.s3"]})
    world.put(source)
    world.sandbox.settle()
    assert world.messages(queue) == []
    world.drop_rule(name)
    if trail:
        world.drop_trail(trail, region=region)


def test_basic_selectors_log_too(world: World) -> None:
    """A basic selector logs the objects below a prefix, for the chosen kind of access."""
    source, queue = world.bucket("orders"), world.queue()
    resource = {"Type": "AWS::S3::Object", "Values": [f"arn:aws:s3:::{source}/in/"]}
    basic = {"ReadWriteType": "WriteOnly", "IncludeManagementEvents": False, "DataResources": [resource]}
    trail = world.trail(basic, basic=True)
    name = world.catch(queue, {"source": ["aws.s3"]})
    version = world.put(source, "in/a")
    world.put(source, "out/a")
    world.s3().get_object(Bucket=source, Key="in/a")
    world.sandbox.settle()
    assert [event.version_id for event in understood(world.bodies(queue))] == [version]
    world.drop_rule(name)
    world.drop_trail(trail)


def test_a_replica_write_in_cloudtrail_has_the_marks_of_replication(world: World) -> None:
    """In the same account: AssumedRole ``:s3-replication``, invoked by S3, the source's version id as parameter."""
    source, replica = world.pair()
    trail, queue = world.trail(data_selector(replica), region=WEST), world.queue(region=WEST)
    name = world.catch(queue, {"source": ["aws.s3"]}, region=WEST)
    version = world.put(source)
    marker = world.s3().delete_object(Bucket=source, Key="a.txt")["VersionId"]
    world.sandbox.settle()
    bodies = world.bodies(queue)
    world.drop_rule(name, region=WEST)
    world.drop_trail(trail, region=WEST)
    for body in bodies:
        identity = body["detail"]["userIdentity"]
        assert (identity["type"], identity["invokedBy"]) == ("AssumedRole", "s3.amazonaws.com")
        assert identity["principalId"].endswith(":s3-replication")
        assert body["detail"]["requestParameters"]["x-amz-version-id"] in {version, marker}
    events = understood(bodies)
    assert {(event.version_id, event.mark, event.delete_marker) for event in events if isinstance(event, Written)} == {
        (version, Mark.REPLICA, False),
        (marker, Mark.REPLICA, True),
    }


def test_reads_of_the_session_and_changed_tags_are_no_new_versions(world: World) -> None:
    """The session's reads of the source, 405 of a marker included, and its tagging of the replica prove no version."""
    source, replica = world.pair()
    trails = [world.trail(data_selector(source, read_only=True)), world.trail(data_selector(replica), region=WEST)]
    queues = [world.queue(), world.queue(region=WEST)]
    names = [
        world.catch(queues[0], {"source": ["aws.s3"]}),
        world.catch(queues[1], {"source": ["aws.s3"]}, region=WEST),
    ]
    version = world.put(source)
    world.sandbox.settle()
    world.s3().put_object_tagging(Bucket=source, Key="a.txt", Tagging={"TagSet": [{"Key": "a", "Value": "b"}]})
    world.sandbox.settle()
    world.s3().delete_object(Bucket=source, Key="a.txt")
    world.sandbox.settle()
    here, there = world.bodies(queues[0]), world.bodies(queues[1])
    for name, trail, region in zip(names, trails, (EAST, WEST), strict=True):
        world.drop_rule(name, region=region)
        world.drop_trail(trail, region=region)
    calls = [(body["detail"]["eventName"], body["detail"].get("errorCode")) for body in here]
    assert sorted(calls, key=str) == [
        ("GetObject", None),
        ("GetObjectAcl", None),
        ("GetObjectTagging", None),
        ("GetObjectTagging", None),
        ("HeadObject", "MethodNotAllowed"),
        ("HeadObject", None),
    ]
    assert {body["detail"]["userIdentity"]["principalId"].split(":")[-1] for body in here + there} == {"s3-replication"}
    assert understood(here) == []
    tagging = [body["detail"] for body in there if body["detail"]["eventName"] == "PutObjectTagging"]
    assert [detail["requestParameters"]["versionId"] for detail in tagging] == [version]
    assert len(understood(there)) == 2


def test_a_cross_account_write_is_told_in_both_accounts(world: World) -> None:
    """Owner and requester get one record each, with one ``sharedEventID``; the owner's does not name the role."""
    source, replica = world.bucket("orders"), world.bucket("dr", OTHER, WEST)
    world.open(replica)
    world.replicate(source, rule(replica))
    queues = {account: world.queue(account, WEST) for account in (HOME, OTHER)}
    trails = {account: world.trail(data_selector(replica), account=account, region=WEST) for account in queues}
    names = {account: world.catch(queue, {"source": ["aws.s3"]}, account, WEST) for account, queue in queues.items()}
    version = world.put(source)
    world.sandbox.settle()
    records = {account: world.bodies(queue) for account, queue in queues.items()}
    for account in queues:
        world.drop_rule(names[account], account, WEST)
        world.drop_trail(trails[account], account, WEST)
    (home,), (other,) = records[HOME], records[OTHER]
    assert home["detail"]["sharedEventID"] == other["detail"]["sharedEventID"]
    assert (home["account"], other["account"]) == (HOME, OTHER)
    assert home["detail"]["userIdentity"]["type"] == "AssumedRole"
    identity = other["detail"]["userIdentity"]
    assert (identity["type"], identity["accountId"], identity.get("arn")) == ("AWSAccount", HOME, None)
    events = understood([home, other])
    assert {(event.version_id, event.mark) for event in events if isinstance(event, Written)} == {
        (version, Mark.REPLICA)
    }


def test_a_denied_replication_is_in_cloudtrail_with_the_missing_permission(world: World) -> None:
    """AccessDenied of the replication session, at the destination: the decoder makes a failure of it."""
    source, replica = world.bucket("orders"), world.bucket("dr", OTHER, WEST)
    role = world.role("crr", "s3.amazonaws.com", {"Effect": "Allow", "Action": "s3:*", "Resource": "*"})
    world.replicate(source, rule(replica), role=role)
    trail, queue = world.trail(data_selector(replica), account=OTHER, region=WEST), world.queue(OTHER, WEST)
    name = world.catch(queue, {"source": ["aws.s3"]}, OTHER, WEST)
    version = world.put(source)
    world.sandbox.settle()
    (body,) = world.bodies(queue)
    world.drop_rule(name, OTHER, WEST)
    world.drop_trail(trail, OTHER, WEST)
    assert body["detail"]["errorCode"] == "AccessDenied"
    assert "s3:ReplicateObject" in body["detail"]["errorMessage"]
    (event,) = understood([body])
    assert isinstance(event, Failed)
    assert (event.destination, event.version_id, event.label) == (replica, version, "denied-call")


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        ("role", "AccessDenied s3:GetObjectVersionForReplication"),
        ("bucket", "AccessDenied s3:GetObjectVersionForReplication"),
        ("key", "AccessDenied kms:Decrypt"),
        ("disabled", "KMS.DisabledException"),
    ],
)
def test_a_denied_read_of_the_source_is_in_cloudtrail(world: World, trouble: str, reason: str) -> None:
    """What the role may not read or decrypt is logged where a selector takes reads, with the words of the denial."""
    source, replica = world.bucket("orders"), world.bucket("dr", region=WEST)
    allowed = {"Effect": "Allow", "Action": ["s3:*"] if trouble == "key" else ["s3:*", "kms:*"], "Resource": "*"}
    read = {"Effect": "Deny", "Action": "s3:GetObjectVersionForReplication", "Resource": f"arn:aws:s3:::{source}/*"}
    role = world.role("crr", "s3.amazonaws.com", *([allowed, read] if trouble == "role" else [allowed]))
    if trouble == "bucket":
        policy = {"Version": "2012-10-17", "Statement": [{**read, "Principal": "*"}]}
        world.s3().put_bucket_policy(Bucket=source, Policy=json.dumps(policy))
    kms, queue = world.sandbox.client("kms", HOME, EAST), world.queue()
    key = kms.create_key()["KeyMetadata"]["KeyId"]
    there = world.sandbox.client("kms", HOME, WEST).create_key()["KeyMetadata"]["Arn"]
    encrypted: dict[str, Any] = {
        "SourceSelectionCriteria": {"SseKmsEncryptedObjects": {"Status": "Enabled"}},
        "target": {"EncryptionConfiguration": {"ReplicaKmsKeyID": there}},
    }
    world.replicate(source, rule(replica, **encrypted), role=role)
    trail, name = world.trail(reads_selector(READS["Objects"])), world.catch(queue, {"source": ["aws.s3"]})
    number = world.sandbox.outage(bucket=replica)  # so that the key can be disabled after the write
    version = world.put(source, ServerSideEncryption="aws:kms", SSEKMSKeyId=key)
    if trouble == "disabled":
        kms.disable_key(KeyId=key)
    world.sandbox.end_fault(number)
    world.sandbox.settle()
    (body,) = world.bodies(queue)
    world.drop_rule(name)
    world.drop_trail(trail)
    assert (body["detail"]["eventName"], body["detail"]["readOnly"]) == ("GetObject", True)
    (event,) = understood([body])
    assert isinstance(event, Failed)
    assert (event.source, event.destination, event.version_id) == (source, None, version)
    assert (event.label, reason_code(event.reason)) == ("denied-call", reason)


def test_reads_of_replication_are_logged_where_they_are_asked_for(world: World) -> None:
    """The selector of reads takes those of the replication session and no user's; its rule takes the denied ones."""
    source, replica = world.bucket("orders"), world.bucket("dr", region=WEST)
    selectors = {"logged": reads_selector(READS["All"]), "writes": data_selector(source)}
    allowed = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
    denied = {"Effect": "Deny", "Action": "s3:GetObjectVersionForReplication", "Resource": "*/denied"}
    world.replicate(source, rule(replica), role=world.role("crr", "s3.amazonaws.com", allowed, denied))
    trail, queues = world.trail(*selectors.values()), [world.queue(), world.queue()]
    read_only = {"source": ["aws.s3"], "detail": {"readOnly": [True]}}
    names = [world.catch(queue, each) for queue, each in zip(queues, (read_only, denied_reads_pattern()), strict=True)]
    world.put(source, "fine")
    version = world.put(source, "denied")
    world.sandbox.settle()
    world.s3().get_object(Bucket=source, Key="denied")
    world.s3().delete_object(Bucket=source, Key="fine")
    world.sandbox.settle()
    every, taken = (world.bodies(queue) for queue in queues)
    for name in names:
        world.drop_rule(name)
    world.drop_trail(trail)
    calls = [(each["detail"]["requestParameters"]["key"], each["detail"]["eventName"]) for each in every]
    assert sorted(calls) == [
        ("denied", "GetObject"),
        ("fine", "GetObject"),
        ("fine", "GetObjectAcl"),
        ("fine", "GetObjectTagging"),
        ("fine", "HeadObject"),
    ]
    (event,) = understood(taken)
    assert isinstance(event, Failed)
    assert (event.source, event.key, event.version_id) == (source, "denied", version)


def test_a_failed_upload_is_logged_as_an_error_and_is_no_version(world: World) -> None:
    """A call that S3 refuses has an ``errorCode``; a repeated completion makes no second version (size -1)."""
    source, queue, s3 = world.bucket("orders"), world.queue(), world.s3()
    trail = world.trail(data_selector(source, "CompleteMultipartUpload"))
    name = world.catch(queue, {"source": ["aws.s3"]})
    upload = s3.create_multipart_upload(Bucket=source, Key="p")["UploadId"]
    part = s3.upload_part(Bucket=source, Key="p", UploadId=upload, PartNumber=1, Body=b"part")
    wrong = {"Parts": [{"PartNumber": 1, "ETag": '"0"'}]}
    with pytest.raises(s3.exceptions.ClientError, match="InvalidPart"):
        s3.complete_multipart_upload(Bucket=source, Key="p", UploadId=upload, MultipartUpload=wrong)
    right = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    for _ in range(2):
        s3.complete_multipart_upload(Bucket=source, Key="p", UploadId=upload, MultipartUpload=right)
    world.sandbox.settle()
    records = [body["detail"] for body in world.bodies(queue)]
    world.drop_rule(name)
    world.drop_trail(trail)
    facts = [(each.get("errorCode"), each["additionalEventData"]["objectSize"]) for each in records]
    assert sorted(facts, key=str) == [("InvalidPart", -1), (None, -1), (None, 4)]


def test_a_changed_replication_configuration_is_told_where_management_events_are_logged(world: World) -> None:
    """PutBucketReplication reaches EventBridge only where some trail logs management events."""
    source, replica = world.bucket("orders"), world.bucket("dr", region=WEST)
    queue = world.queue()
    name = world.catch(queue, {"detail": {"eventName": ["PutBucketReplication"]}})
    world.replicate(source, rule(replica))
    trail = world.trail({"ReadWriteType": "All", "IncludeManagementEvents": True}, basic=True)
    world.replicate(source, rule(replica, "new"))
    world.sandbox.settle()
    (body,) = world.bodies(queue)
    world.drop_rule(name)
    world.drop_trail(trail)
    assert body["detail"]["requestParameters"]["bucketName"] == source
    assert body["detail"]["managementEvent"] is True


def test_the_trail_of_an_organization_logs_for_its_members(world: World) -> None:
    """A member's calls are logged by the organization's trail, which the member sees and reads."""
    management = "222233334444"
    world.sandbox.organization(management, HOME)
    source, queue = world.bucket("orders"), world.queue()
    name = world.catch(queue, {"source": ["aws.s3"]})
    central = world.sandbox.client("cloudtrail", management, WEST)
    arn = central.create_trail(Name="all", S3BucketName="logs", IsMultiRegionTrail=True, IsOrganizationTrail=True)[
        "TrailARN"
    ]
    central.put_event_selectors(TrailName="all", AdvancedEventSelectors=[data_selector(source)])
    central.start_logging(Name="all")
    member = world.sandbox.client("cloudtrail", HOME, EAST)
    assert [trail["TrailARN"] for trail in member.describe_trails()["trailList"]] == [arn]
    assert member.get_trail_status(Name=arn)["IsLogging"] is True
    assert member.get_event_selectors(TrailName=arn)["AdvancedEventSelectors"] == [data_selector(source)]
    version = world.put(source)
    world.sandbox.settle()
    world.drop_rule(name)
    central.delete_trail(Name="all")
    assert [event.version_id for event in understood(world.bodies(queue))] == [version]
    assert member.describe_trails()["trailList"] == []


def test_time_control_tells_when_its_threshold_is_missed_and_when_the_copy_arrives_after_it() -> None:
    """With Replication Time Control S3 says ``MissedThreshold``, and later ``ReplicatedAfterThreshold``."""
    with Sandbox(Settings(replication=FAST, notification=FAST, rtc_threshold=2.0)) as sandbox:
        world = World(sandbox)
        source, replica, queue = world.bucket("orders"), world.bucket("dr", region=WEST), world.queue()
        minutes = {"Minutes": 15}
        control = {
            "ReplicationTime": {"Status": "Enabled", "Time": minutes},
            "Metrics": {"Status": "Enabled", "EventThreshold": minutes},
        }
        world.replicate(source, rule(replica, target=control))
        notify(world, source, queue, "s3:Replication:*")
        in_time = world.put(source, "fast")
        sandbox.settle()
        number = sandbox.outage(region=WEST)
        late = world.put(source, "slow")
        told, end = list[str](), time.monotonic() + 60
        while not told and time.monotonic() < end:
            told = world.bodies(queue)
            time.sleep(0.02)
        sandbox.end_fault(number)
        sandbox.settle()
        events = understood(told + world.bodies(queue))
    assert in_time not in {event.version_id for event in events}
    assert [type(event) for event in events] == [Awaited, Confirmed]
    assert {event.version_id for event in events} == {late}


def test_a_browser_upload_is_told_as_post(world: World) -> None:
    """A form's object is ``ObjectCreated:Post``, ``POST Object`` and PostObject, and is replicated."""
    source, replica = world.pair()
    queue = world.queue()
    switch_bridge_on(world, source)
    trail = world.trail(data_selector(source, *WRITES))
    name = world.catch(queue, {"source": ["aws.s3"]})
    form = world.s3().generate_presigned_post(Bucket=source, Key="form.txt")
    lines = [
        f'--b\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n{value}'
        for field, value in form["fields"].items()
    ]
    lines.append('--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\nhello')
    body = "\r\n".join([*lines, "--b--", ""]).encode()
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    with urllib.request.urlopen(urllib.request.Request(form["url"], body, headers)) as answer:  # noqa: S310
        version = answer.headers["x-amz-version-id"]
    world.sandbox.settle()
    bodies = world.bodies(queue)
    world.drop_rule(name)
    world.drop_trail(trail)
    names = {body["detail"].get("eventName") or body["detail"]["reason"] for body in bodies}
    assert names == {"PostObject", "POST Object"}
    assert {(event.key, event.version_id) for event in understood(bodies)} == {("form.txt", version)}
    assert world.status(replica, "form.txt", version, region=WEST) == "REPLICA"


def test_deleting_many_is_one_call_without_keys_in_cloudtrail(world: World) -> None:
    """DeleteObjects is logged without the keys, so the decoder learns nothing from it; S3's own events name each."""
    source, queue = world.bucket("orders"), world.queue()
    trail = world.trail(data_selector(source))
    name = world.catch(queue, {"source": ["aws.s3"]})
    world.s3().delete_objects(Bucket=source, Delete={"Objects": [{"Key": "a"}, {"Key": "b"}]})
    world.sandbox.settle()
    (body,) = world.bodies(queue)
    world.drop_rule(name)
    world.drop_trail(trail)
    assert (body["detail"]["eventName"], "key" in body["detail"]["requestParameters"]) == ("DeleteObjects", False)
    assert understood([body]) == []
