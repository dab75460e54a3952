"""Both templates in a local AWS of two accounts and three Regions: all 500 object versions are told right."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from crr_monitor.aws.stacks import StackError
from crr_monitor.core.failures import reason_code
from crr_monitor.core.model import Status
from crr_monitor.sandbox import Latency, Sandbox, Settings
from tests.e2e.system import FAR, HOME, HUB, System, rule
from tests.e2e.traffic import Truth, Version, write, write_while

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crr_monitor.core.model import Copy, Record
    from crr_monitor.stores.dynamodb import DynamoStore

VERSIONS = 500
SOON = Latency(0.01)
DENIED = {"CloudTrail": "AccessDenied s3:ReplicateObject", "S3Notifications": "DstPutObjectNotPermitted"}
"""The reason of a refused copy, as each source tells it."""


class Observed:
    """A system after the traffic, with the truth of it."""

    def __init__(self, system: System, truth: Truth) -> None:
        self.system = system
        self.truth = truth
        self.store = system.store()


@pytest.fixture(
    scope="module",
    params=[
        "CloudTrail",
        pytest.param("EventBridge", marks=[pytest.mark.slow, pytest.mark.xdist_group("EventBridge")]),
        pytest.param("S3Notifications", marks=[pytest.mark.slow, pytest.mark.xdist_group("S3Notifications")]),
    ],
)
def observed(request: pytest.FixtureRequest) -> Iterator[Observed]:
    """The system for a source of events, IAM enforced, after all was written and counted."""
    with Sandbox(settings()) as sandbox:
        system = System(sandbox, request.param)
        truth = write(system)
        system.drain()
        yield Observed(system, truth)


def settings(*, auth: bool = True) -> Settings:
    """Short delays."""
    return Settings(seed=1, auth=auth, replication=SOON, notification=SOON, event=SOON, trail=SOON)


# Comparing ------------------------------------------------------------------------------------------------------------


def wrong(store: DynamoStore, version: Version, source: str) -> list[str]:
    """What of the record of a version is not as it was written."""
    records = store.versions(version.bucket, version.key, version.version_id)
    if version.status is None:
        return [f"{version}: {records}"] if records else []
    if len(records) != 1:
        return [f"{version}: {len(records)} records"]
    (record,) = records
    told = (record.source_bucket, record.key, record.version_id, record.status, record.delete_marker)
    wanted = (version.bucket, version.key, version.version_id, version.status, version.marker)
    found = [] if told == wanted else [f"{told} instead of {wanted}"]
    if {copy.bucket: copy.status for copy in record.visible_copies} != version.copies:
        found.append(f"{version}: {record.visible_copies}")
    return (
        found
        + [text for copy in record.visible_copies for text in wrong_copy(record, copy, source)]
        + [f"{version}: {name}" for name, right in details(record, version) if not right]
    )


def details(record: Record, version: Version) -> list[tuple[str, bool]]:
    """What a record says besides its status."""
    return [
        ("written_at", record.written_at is not None),
        ("certain", not (record.uncertain or record.undecided)),
        ("size", version.size in {None, record.size}),
    ]


def wrong_copy(record: Record, copy: Copy, source: str) -> list[str]:
    """What of a copy is missing, or should not be there."""
    done = copy.status is Status.COMPLETED
    failed = copy.status is Status.FAILED
    checks = {
        "replicated_at": (copy.replicated_at is not None) is done,
        "lag": (copy.lag_ms is not None) is done,
        "evidence": (copy.evidence == "replica-event") is done,
        "failed_at": (copy.failed_at is not None) is failed,
        "rule": copy.rule_id == f"to-{copy.bucket}",
    }
    if failed and reason_code(copy.failure_reason) != DENIED[source]:
        checks["failure_reason"] = False
    return [f"{record.key} {record.version_id} {name}: {copy}" for name, right in checks.items() if not right]


def counted(store: DynamoStore) -> Counter[tuple[str, str, bool, Status]]:
    """The statistics, by pair, kind and status."""
    found: Counter[tuple[str, str, bool, Status]] = Counter()
    for key, cell in store.cells(None, None):
        name = (key.source, key.destination, key.delete_marker)
        for status, count in (
            (Status.COMPLETED, cell.completed),
            (Status.FAILED, cell.failed),
            (Status.PENDING, cell.pending),
            (Status.SOURCE_DELETED, cell.source_deleted),
            (Status.NOT_ELIGIBLE, cell.not_eligible),
        ):
            found[*name, status] += count
    return +found


def expected(truth: Truth) -> Counter[tuple[str, str, bool, Status]]:
    """What the statistics have to be."""
    return Counter(
        (version.bucket, bucket, version.marker, status)
        for version in truth.versions
        for bucket, status in version.copies.items()
    )


def check(observed: Observed) -> None:
    """Compare every version and all counts; the queues are empty, and nothing got lost on the way."""
    source, store = observed.system.source, observed.store
    found = [text for version in observed.truth.versions for text in wrong(store, version, source)]
    assert found[:10] == []
    assert counted(store) == expected(observed.truth)
    assert (observed.system.waiting("QueueUrl"), observed.system.waiting("DeadLetterQueueUrl")) == (0, 0)
    assert observed.system.sandbox.state()["undeliverable"] == []


# Tests ----------------------------------------------------------------------------------------------------------------


def test_every_version_is_told_right(observed: Observed) -> None:
    """500 versions: status, destinations, times, failures and statistics are what was written, with IAM enforced."""
    assert len(observed.truth.versions) == VERSIONS
    check(observed)


def test_process_may_not_ask_s3(observed: Observed) -> None:
    """The process function's role has no action of S3, so there was no HeadObject."""
    name = observed.system.physical_id("ProcessRole")
    iam = observed.system.sandbox.client("iam", HUB, HOME)
    actions: list[str] = []
    for policy in iam.list_role_policies(RoleName=name)["PolicyNames"]:
        for each in iam.get_role_policy(RoleName=name, PolicyName=policy)["PolicyDocument"]["Statement"]:
            actions += [each["Action"]] if isinstance(each["Action"], str) else each["Action"]
    assert iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"] == []
    assert {action.partition(":")[0] for action in actions} == {"dynamodb", "logs", "sqs"}


def test_a_later_rule_is_watched_after_one_set_up_run(observed: Observed) -> None:
    """A bucket in a Region that the hub did not need so far, replicated since deployment, is watched like others."""
    system = observed.system
    system.make_bucket("late", HUB, FAR)
    system.make_bucket("late-dr", HUB, HOME)
    system.replicate("late", rule(1, "late-dr", ""), place=(HUB, FAR))
    assert system.set_up()["problems"] == []
    version_id = system.s3(HUB, FAR).put_object(Bucket="late", Key="a b", Body=b"x")["VersionId"]
    system.drain()
    (record,) = observed.store.versions("late", "a b", version_id)
    assert [(copy.bucket, copy.status) for copy in record.copies] == [("late-dr", Status.COMPLETED)]


def test_nothing_is_left_behind(observed: Observed) -> None:
    """After both stacks are deleted only the trails' log buckets are left, and buckets have their settings back."""
    observed.system.destroy()
    assert list(observed.system.left()) == []
    s3 = observed.system.s3(HUB, HOME)
    ours = [each["Name"] for each in s3.list_buckets()["Buckets"] if "trailbucket" in each["Name"]]
    assert len(ours) == (observed.system.source == "CloudTrail")
    answer = s3.get_bucket_notification_configuration(Bucket="orders")
    assert set(answer) == {"ResponseMetadata"}


@pytest.mark.slow
def test_trouble_on_the_way_changes_nothing() -> None:
    """Duplicated, reordered and delayed events give the same records and the same counts."""
    with Sandbox(settings(auth=False)) as sandbox:
        system = System(sandbox, "CloudTrail")
        for action, options in (("duplicate", {}), ("reorder", {}), ("delay", {"seconds": 0.5})):
            sandbox.fault(action, probability=0.3, **options)
        truth = write(system)
        system.drain()
        struck = sandbox.state()["struck"]
        assert {action for action, times in struck.items() if times > VERSIONS / 5} == {"duplicate", "reorder", "delay"}
        check(Observed(system, truth))


@pytest.mark.slow
def test_continuous_processing_gives_the_same() -> None:
    """With ``ProcessingMode: Continuous`` Lambda reads the queue, and records and counts are the same.

    ``KeepEventLog`` has a copy of what told of each version.
    """
    with Sandbox(settings()) as sandbox:
        system = System(sandbox, "CloudTrail", ProcessingMode="Continuous", KeepEventLog="true")
        truth = write(system)
        system.drain()
        check(Observed(system, truth))
        logs = sandbox.client("logs", HUB, HOME).get_paginator("filter_log_events")
        pages = logs.paginate(logGroupName=system.physical_id("EventLog"))
        kept = [json.loads(each["message"])["detail"] for page in pages for each in page["events"]]
        told = {(each.get("responseElements") or {}).get("x-amz-version-id") for each in kept}
        assert {version.version_id for version in truth.versions if version.copies} <= told


@pytest.mark.slow
@pytest.mark.parametrize("source", ["CloudTrail", "EventBridge", "S3Notifications"])
def test_an_update_loses_no_event(source: str) -> None:
    """While schedule, mode and source change, objects are written, and every one of them is told right."""
    with Sandbox(settings()) as sandbox:
        system = System(sandbox, "EventBridge" if source == "CloudTrail" else "CloudTrail")
        changes = {"ProcessingMode": "Continuous", "Schedule": "rate(12 hours)"}
        truth = write_while(system, lambda: system.update(source, **changes))
        system.drain()
        check(Observed(system, truth))


@pytest.mark.slow
def test_leave_to_change_buckets_is_taken_back() -> None:
    """When ``BucketSettings`` becomes ``Print``, set-up restores buckets with its last use of the permission."""
    with Sandbox(settings()) as sandbox:
        system = System(sandbox, "EventBridge")
        s3, iam = system.s3(HUB, HOME), sandbox.client("iam", HUB, HOME)
        role = system.physical_id("SetupRole")
        assert "EventBridgeConfiguration" in s3.get_bucket_notification_configuration(Bucket="orders")
        assert iam.list_role_policies(RoleName=role)["PolicyNames"] == ["SetUp", "ChangeBuckets"]
        system.change_hub(BucketSettings="Print")
        assert "EventBridgeConfiguration" not in s3.get_bucket_notification_configuration(Bucket="orders")
        assert iam.list_role_policies(RoleName=role)["PolicyNames"] == ["SetUp"]
        # Too early for the source before, which needs the buckets' settings for another hour.
        system.change_hub(BucketSettings="Change")
        with pytest.raises(StackError, match="BucketSettings has to stay Change until about"):
            system.change_hub(BucketSettings="Print", EventSource="CloudTrail")
        assert "EventBridgeConfiguration" in s3.get_bucket_notification_configuration(Bucket="orders")
        assert iam.list_role_policies(RoleName=role)["PolicyNames"] == ["SetUp", "ChangeBuckets"]
