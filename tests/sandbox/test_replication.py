"""S3 replication in the sandbox: what is copied where, when, and what its status says."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.sandbox.making import EAST, FRANKFURT, HOME, OTHER, WEST, rule

pytest.importorskip("ministack")
pytest.importorskip("boto3")

if TYPE_CHECKING:
    from tests.sandbox.making import World


def test_a_version_is_pending_then_copied_with_its_version_id_then_completed(world: World) -> None:
    """The header goes PENDING, COMPLETED; the copy has the source's version id, metadata and REPLICA."""
    source, replica = world.pair()
    world.sandbox.fault("fail", times=0)
    number = world.sandbox.outage(bucket=replica)
    version = world.put(source, "2026/a b+é.txt", Metadata={"who": "me"}, ContentType="text/x")
    assert world.status(source, "2026/a b+é.txt", version) == "PENDING"
    assert world.status(replica, "2026/a b+é.txt", version, region=WEST) == "gone"
    world.sandbox.end_fault(number)
    world.sandbox.settle()
    assert world.status(source, "2026/a b+é.txt", version) == "COMPLETED"
    copy = world.s3(region=WEST).get_object(Bucket=replica, Key="2026/a b+é.txt")
    assert (copy["VersionId"], copy["ReplicationStatus"], copy["Body"].read()) == (version, "REPLICA", b"hello")
    assert (copy["Metadata"], copy["ContentType"]) == ({"who": "me"}, "text/x")


def test_without_a_matching_rule_there_is_no_status(world: World) -> None:
    """A version that no enabled rule takes, by prefix or because the rule is disabled, has no replication status."""
    source, replica = world.bucket("orders"), world.bucket("dr", region=WEST)
    world.replicate(source, rule(replica, "on", "in/"), rule(replica, "off", "off/", Priority=2, Status="Disabled"))
    versions = {key: world.put(source, key) for key in ("in/a", "out/a", "off/a")}
    world.sandbox.settle()
    assert {key: world.status(source, key, version) for key, version in versions.items()} == {
        "in/a": "COMPLETED",
        "out/a": None,
        "off/a": None,
    }
    assert world.status(replica, "off/a", versions["off/a"], region=WEST) == "gone"


def test_copies_uploads_in_parts_and_deletions_are_replicated(world: World) -> None:
    """CopyObject, multipart uploads and delete markers arrive with their version ids; deletes of a version do not."""
    source, replica = world.pair()
    s3, west = world.s3(), world.s3(region=WEST)
    first = world.put(source, "a")
    copied = s3.copy_object(Bucket=source, Key="b", CopySource={"Bucket": source, "Key": "a"})["VersionId"]
    upload = s3.create_multipart_upload(Bucket=source, Key="c")["UploadId"]
    part = s3.upload_part(Bucket=source, Key="c", UploadId=upload, PartNumber=1, Body=b"part")
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    whole = s3.complete_multipart_upload(Bucket=source, Key="c", UploadId=upload, MultipartUpload=parts)["VersionId"]
    marker = s3.delete_object(Bucket=source, Key="a")["VersionId"]
    world.sandbox.settle()
    assert world.status(replica, "b", copied, region=WEST) == "REPLICA"
    assert world.status(replica, "c", whole, region=WEST) == "REPLICA"
    listing = west.list_object_versions(Bucket=replica, Prefix="a")
    assert [(each["VersionId"], each["IsLatest"]) for each in listing["DeleteMarkers"]] == [(marker, True)]
    s3.delete_object(Bucket=source, Key="a", VersionId=first)
    s3.delete_object(Bucket=source, Key="a", VersionId=marker)
    world.sandbox.settle()
    assert world.status(source, "a", first) == "gone"
    assert world.status(replica, "a", first, region=WEST) == "REPLICA"
    with pytest.raises(west.exceptions.ClientError, match="404"):
        west.head_object(Bucket=replica, Key="a")


def test_several_destinations_each_get_the_version(world: World) -> None:
    """One version goes to every destination with a matching rule, in other accounts and Regions too."""
    source = world.bucket("orders")
    dr, audit = world.bucket("dr", region=WEST), world.bucket("audit", OTHER, FRANKFURT)
    world.open(audit, FRANKFURT)
    world.replicate(source, rule(dr, "dr"), rule(audit, "audit", "keep/", Priority=2))
    both, one = world.put(source, "keep/a"), world.put(source, "a")
    world.sandbox.settle()
    assert world.status(dr, "keep/a", both, region=WEST) == "REPLICA"
    assert world.status(audit, "keep/a", both, OTHER, FRANKFURT) == "REPLICA"
    assert world.status(dr, "a", one, region=WEST) == "REPLICA"
    assert world.status(audit, "a", one, OTHER, FRANKFURT) == "gone"
    assert [world.status(source, "keep/a", both), world.status(source, "a", one)] == ["COMPLETED", "COMPLETED"]


def test_the_highest_priority_decides_for_a_destination(world: World) -> None:
    """Of two rules for one destination the one with the higher priority decides about delete markers."""
    source, replica = world.bucket("orders"), world.bucket("dr", region=WEST)
    silent = rule(replica, "silent", "a/", Priority=2, DeleteMarkerReplication={"Status": "Disabled"})
    world.replicate(source, rule(replica, "all"), silent)
    for key in ("a/x", "b/x"):
        world.put(source, key)
        world.s3().delete_object(Bucket=source, Key=key)
    world.sandbox.settle()
    found = world.s3(region=WEST).list_object_versions(Bucket=replica)
    assert [each["Key"] for each in found["Versions"]] == ["a/x", "b/x"]
    assert [each["Key"] for each in found["DeleteMarkers"]] == ["b/x"]


def test_rules_by_tag_take_only_objects_with_the_tags(world: World) -> None:
    """A tag filter counts the tags of the write, of uploads in parts too; ``And`` asks for prefix and every tag."""
    source, replica = world.bucket("orders"), world.bucket("dr", region=WEST)
    tags = [{"Key": "keep", "Value": "yes"}, {"Key": "team", "Value": "a b"}]
    by_tag = rule(replica, "tag", Filter={"And": {"Prefix": "t/", "Tags": tags}})
    by_tag["DeleteMarkerReplication"] = {"Status": "Disabled"}
    world.replicate(source, by_tag)
    tagged = world.put(source, "t/1", Tagging="keep=yes&team=a%20b")
    plain = world.put(source, "t/2", Tagging="keep=yes")
    s3 = world.s3()
    upload = s3.create_multipart_upload(Bucket=source, Key="t/3", Tagging="keep=yes&team=a%20b")["UploadId"]
    part = s3.upload_part(Bucket=source, Key="t/3", UploadId=upload, PartNumber=1, Body=b"part")
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    whole = s3.complete_multipart_upload(Bucket=source, Key="t/3", UploadId=upload, MultipartUpload=parts)["VersionId"]
    world.sandbox.settle()
    assert world.status(source, "t/1", tagged) == "COMPLETED"
    assert world.status(source, "t/2", plain) is None
    assert world.status(source, "t/3", whole) == "COMPLETED"
    copied = world.s3(region=WEST).get_object_tagging(Bucket=replica, Key="t/1")["TagSet"]
    assert sorted(copied, key=lambda tag: str(tag["Key"])) == tags


def test_a_first_version_rule_has_its_prefix_itself_and_replicates_markers(world: World) -> None:
    """V1 rules (``Prefix`` without ``Filter``) replicate delete markers without being asked."""
    source, replica = world.bucket("orders"), world.bucket("dr", region=WEST)
    old = {"ID": "v1", "Status": "Enabled", "Prefix": "x/", "Destination": {"Bucket": f"arn:aws:s3:::{replica}"}}
    world.replicate(source, old)
    version = world.put(source, "x/a")
    marker = world.s3().delete_object(Bucket=source, Key="x/a")["VersionId"]
    world.sandbox.settle()
    found = world.s3(region=WEST).list_object_versions(Bucket=replica)
    assert [each["VersionId"] for each in found["Versions"]] == [version]
    assert [each["VersionId"] for each in found["DeleteMarkers"]] == [marker]


def test_replicas_are_not_replicated_again(world: World) -> None:
    """There are no chains: a replica goes nowhere, also between two buckets that replicate to each other."""
    first, second, third = (world.bucket(stem) for stem in ("first", "second", "third"))
    world.replicate(first, rule(second))
    world.replicate(second, rule(third, "on"), rule(first, "back", Priority=2))
    version = world.put(first, "a")
    world.sandbox.settle()
    statuses = [world.status(bucket, "a", version) for bucket in (first, second, third)]
    assert statuses == ["COMPLETED", "REPLICA", "gone"]
    assert len(world.s3().list_object_versions(Bucket=first)["Versions"]) == 1


def test_the_newest_version_is_the_newest_at_the_destination_too(world: World) -> None:
    """Whatever the order of arrival, the current replica is that of the current version."""
    source, replica = world.pair()
    versions = [world.put(source, "a", str(number).encode()) for number in range(20)]
    world.sandbox.settle()
    found = world.s3(region=WEST).list_object_versions(Bucket=replica)["Versions"]
    assert [each["VersionId"] for each in found] == versions[::-1]
    assert [each["IsLatest"] for each in found] == [True] + [False] * 19
    assert world.s3(region=WEST).get_object(Bucket=replica, Key="a")["Body"].read() == b"19"


@pytest.mark.parametrize("trouble", ["gone", "unversioned", "policy", "role", "trust"])
def test_permanent_causes_give_failed_until_a_retry(world: World, trouble: str) -> None:
    """A destination gone, unversioned or closed, a role without rights: FAILED; repaired and retried: COMPLETED."""
    source, replica = world.bucket("orders"), world.bucket("dr", OTHER, WEST)
    service = "s3.amazonaws.com" if trouble != "trust" else "ec2.amazonaws.com"
    allowed: dict[str, Any] = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
    denied = {"Effect": "Deny", "Action": "s3:ReplicateObject", "Resource": f"arn:aws:s3:::{replica}/*"}
    role = world.role("crr", service, *([allowed, denied] if trouble == "role" else [allowed]))
    world.open(replica)
    world.replicate(source, rule(replica), role=role)
    west, iam = world.s3(OTHER, WEST), world.sandbox.client("iam", HOME, EAST)
    if trouble == "gone":
        west.delete_bucket(Bucket=replica)
    elif trouble == "unversioned":
        world.version(replica, OTHER, WEST, "Suspended")
    elif trouble == "policy":
        west.delete_bucket_policy(Bucket=replica)
    version = world.put(source)
    world.sandbox.settle()
    assert world.status(source, "a.txt", version) == "FAILED"
    if trouble == "gone":
        west.create_bucket(Bucket=replica, CreateBucketConfiguration={"LocationConstraint": WEST})
    world.version(replica, OTHER, WEST)
    world.open(replica)
    name = role.rsplit("/", 1)[-1]
    trust = {"Effect": "Allow", "Principal": {"Service": "s3.amazonaws.com"}, "Action": "sts:AssumeRole"}
    iam.update_assume_role_policy(RoleName=name, PolicyDocument=json.dumps({"Statement": [trust]}))
    iam.put_role_policy(RoleName=name, PolicyName="p", PolicyDocument=json.dumps({"Statement": [allowed]}))
    world.sandbox.settle()
    assert world.status(source, "a.txt", version) == "FAILED"  # S3 never retries a FAILED version by itself
    assert world.sandbox.retry(source) == 1
    world.sandbox.settle()
    assert world.status(source, "a.txt", version) == "COMPLETED"
    assert world.status(replica, "a.txt", version, OTHER, WEST) == "REPLICA"


def test_one_failed_destination_makes_the_version_failed(world: World) -> None:
    """The header is one for all destinations; the other copy is there nevertheless."""
    source, good, bad = world.bucket("orders"), world.bucket("good"), world.bucket("bad")
    world.replicate(source, rule(good, "good"), rule(bad, "bad", Priority=2))
    world.version(bad, status="Suspended")
    version = world.put(source)
    world.sandbox.settle()
    assert world.status(source, "a.txt", version) == "FAILED"
    assert world.status(good, "a.txt", version) == "REPLICA"


def test_an_outage_of_a_region_leaves_versions_pending_until_it_ends(world: World) -> None:
    """During a Region's outage nothing arrives there and nothing fails; afterwards everything arrives by itself."""
    source, replica = world.pair()
    number = world.sandbox.outage(region=WEST)
    version = world.put(source)
    world.sandbox.settle()
    assert world.sandbox.state()["held"] == 1
    assert world.status(source, "a.txt", version) == "PENDING"
    world.sandbox.end_fault(number)
    world.sandbox.settle()
    assert world.sandbox.state()["held"] == 0
    assert world.status(source, "a.txt", version) == "COMPLETED"
    assert world.status(replica, "a.txt", version, region=WEST) == "REPLICA"


def test_a_failure_can_be_asked_for_with_any_reason(world: World) -> None:
    """A ``fail`` fault strikes as often as it says."""
    source, replica = world.pair()
    world.sandbox.fault("fail", match={"destination": replica}, code="DstKmsKeyNotFound", times=1)
    failed = world.put(source, "a")
    world.sandbox.settle()
    completed = world.put(source, "b")
    world.sandbox.settle()
    assert [world.status(source, "a", failed), world.status(source, "b", completed)] == ["FAILED", "COMPLETED"]


def test_a_version_deleted_before_its_turn_is_not_replicated(world: World) -> None:
    """What is deleted while it waits leaves nothing behind."""
    source, replica = world.pair()
    number = world.sandbox.outage(bucket=source)
    version = world.put(source)
    world.sandbox.settle()
    world.s3().delete_object(Bucket=source, Key="a.txt", VersionId=version)
    world.sandbox.end_fault(number)
    world.sandbox.settle()
    assert world.status(replica, "a.txt", version, region=WEST) == "gone"


def test_suspended_versioning_stops_replication(world: World) -> None:
    """Where versioning of the source is suspended, versions are null and none is replicated."""
    source, replica = world.pair()
    world.version(source, status="Suspended")
    answer = world.s3().put_object(Bucket=source, Key="a", Body=b"x")
    world.sandbox.settle()
    assert "VersionId" not in answer
    assert "Versions" not in world.s3(region=WEST).list_object_versions(Bucket=replica)


def test_last_modified_of_a_replica_is_the_creation_time_of_its_source(world: World) -> None:
    """A replica keeps the creation time, so it does not tell when it arrived."""
    source, replica = world.pair()
    number = world.sandbox.outage(bucket=replica)
    version = world.put(source)
    time.sleep(1.1)
    world.sandbox.end_fault(number)
    world.sandbox.settle()
    places = ((source, EAST), (replica, WEST))
    times = [
        world.s3(region=region).head_object(Bucket=bucket, Key="a.txt", VersionId=version)["LastModified"]
        for bucket, region in places
    ]
    assert times[0] == times[1]


def test_keys_with_any_character_are_replicated_and_listed(world: World) -> None:
    """Slashes, dots, signs, emoji, control characters and 1,024 bytes: the same keys at both ends."""
    source, replica = world.pair()
    keys = [
        "/lead",
        "a//b",
        "..",
        "../x",
        "./y",
        "a b",
        "a+b",
        "a%2Fb",
        "%",
        "?#&=",
        "é🙂",
        "\t\n\r\x01",
        "é" * 512,
        "x/",
    ]
    versions = {key: world.put(source, key) for key in keys}
    world.sandbox.settle()
    for bucket, region in ((source, EAST), (replica, WEST)):
        pages = (
            world.s3(region=region)
            .get_paginator("list_object_versions")
            .paginate(Bucket=bucket, PaginationConfig={"PageSize": 4})
        )
        assert {each["Key"]: each["VersionId"] for page in pages for each in page["Versions"]} == versions


def test_changed_tags_follow_their_version(world: World) -> None:
    """Tags that change later are replicated to the copies, and the version is PENDING meanwhile."""
    source, replica = world.pair()
    version = world.put(source)
    world.sandbox.settle()
    number = world.sandbox.outage(bucket=replica)
    tags = [{"Key": "team", "Value": "blue"}]
    world.s3().put_object_tagging(Bucket=source, Key="a.txt", Tagging={"TagSet": tags})
    world.sandbox.settle()
    assert world.status(source, "a.txt", version) == "PENDING"
    world.sandbox.end_fault(number)
    world.sandbox.settle()
    assert world.status(source, "a.txt", version) == "COMPLETED"
    copied = world.s3(region=WEST).get_object_tagging(Bucket=replica, Key="a.txt", VersionId=version)["TagSet"]
    assert copied == tags
    assert world.status(replica, "a.txt", version, region=WEST) == "REPLICA"


def test_encrypted_objects_are_taken_where_the_rule_selects_them(world: World) -> None:
    """SSE-KMS needs ``SseKmsEncryptedObjects``; a replica key that does not exist, or is disabled, fails the copy."""
    source, replica = world.bucket("orders"), world.bucket("dr", region=WEST)
    kms = world.sandbox.client("kms", HOME, WEST)
    key = kms.create_key()["KeyMetadata"]
    chosen = {"SourceSelectionCriteria": {"SseKmsEncryptedObjects": {"Status": "Enabled"}}}

    def outcome(**options: Any) -> str | None:  # noqa: ANN401
        world.replicate(source, rule(replica, **options))
        version = world.put(source, "k", ServerSideEncryption="aws:kms")
        world.sandbox.settle()
        return world.status(source, "k", version)

    def with_key(arn: str) -> dict[str, Any]:
        return {**chosen, "target": {"EncryptionConfiguration": {"ReplicaKmsKeyID": arn}}}

    assert outcome() is None
    assert outcome(**with_key(key["Arn"])) == "COMPLETED"
    kms.disable_key(KeyId=key["KeyId"])
    assert outcome(**with_key(key["Arn"])) == "FAILED"
    assert outcome(**with_key(f"arn:aws:kms:{WEST}:{HOME}:key/none")) == "FAILED"


def test_many_deletions_at_once_are_replicated(world: World) -> None:
    """DeleteObjects makes a marker for each key, also for one that was never written, and each is replicated."""
    source, replica = world.pair()
    world.put(source, "a")
    objects = [{"Key": "a"}, {"Key": "never"}]
    deleted = world.s3().delete_objects(Bucket=source, Delete={"Objects": objects})["Deleted"]
    world.sandbox.settle()
    found = world.s3(region=WEST).list_object_versions(Bucket=replica)["DeleteMarkers"]
    markers = {each["Key"]: each["DeleteMarkerVersionId"] for each in deleted}
    assert {each["Key"]: each["VersionId"] for each in found} == markers


def test_objects_in_archive_classes_are_not_taken(world: World) -> None:
    """GLACIER and DEEP_ARCHIVE are never replicated; a rule's own storage class is the replica's."""
    source, replica = world.bucket("orders"), world.bucket("dr", region=WEST)
    world.replicate(source, rule(replica, target={"StorageClass": "STANDARD_IA"}))
    archived = world.put(source, "g", StorageClass="GLACIER")
    plain = world.put(source, "p")
    world.sandbox.settle()
    assert [world.status(source, "g", archived), world.status(source, "p", plain)] == [None, "COMPLETED"]
    assert world.s3(region=WEST).head_object(Bucket=replica, Key="p")["StorageClass"] == "STANDARD_IA"
