"""What breaks, one thing at a time, in a deployed system with IAM enforced.

Each trouble gives exactly its alarms and its notice within the threshold and two periods, nothing else alarms meanwhile
or afterwards, and all is told to be over once it is repaired. Periods pass as :mod:`tests.e2e.alarming` says.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from crr_monitor.aws.probe import REMEMBERED_SECONDS
from crr_monitor.core.model import Status
from crr_monitor.sandbox import Latency, Sandbox, Settings
from tests.e2e.alarming import Alarms, News
from tests.e2e.system import ABROAD, AGENT, BUCKETS, HOME, HUB, System, document, rule, statement

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crr_monitor.core.model import Record

SOON = Latency(0.01)
QUICK = Settings(seed=1, auth=True, replication=SOON, notification=SOON, event=SOON, trail=SOON)
ASK_AFTER, OVERDUE, CANARY_LATE = 1, 15, 60
"""Seconds: S3 is asked about a version, a copy is overdue, a canary is late."""

REPLICATE = ["s3:ReplicateObject", "s3:ReplicateDelete", "s3:ReplicateTags"]
TWO_PERIODS = 2
ENCRYPTED = "data/encrypted/"
"""Below this, replicas in ``orders-dr`` are encrypted with a key of their own."""


class Scene:
    """A deployed system in which all is well, with replicas that are encrypted with a KMS key."""

    def __init__(self, sandbox: Sandbox, source: str, canary: str = "") -> None:
        self.sandbox = sandbox
        self.system = System(
            sandbox,
            source,
            WatchInterval="rate(24 hours)",
            ReconcileSchedule="rate(24 hours)",
            AskAfterSeconds=str(ASK_AFTER),
            OverdueSeconds=str(OVERDUE),
            CanaryLateSeconds=str(CANARY_LATE),
            RecoveredSeconds="0",
        )
        if canary:
            self.system.change_hub(CanaryPairs=canary, CanarySchedule="rate(24 hours)")
            self.system.change_agent(HubRoleArns=self.system.hub.outputs["HubRoleArns"], AllowCanary="true")
            sandbox.settle(functions=True)  # the hub hears of it
        self.kms = sandbox.client("kms", HUB, ABROAD)
        self.key = self.kms.create_key()["KeyMetadata"]["KeyId"]
        encrypted = rule(4, "orders-dr", ENCRYPTED)
        encrypted["Destination"]["EncryptionConfiguration"] = {
            "ReplicaKmsKeyID": f"arn:aws:kms:{ABROAD}:{HUB}:key/{self.key}"
        }
        encrypted["SourceSelectionCriteria"] = {"SseKmsEncryptedObjects": {"Status": "Enabled"}}
        rules = [rule(1, "orders-dr", "data/", markers=True), rule(2, "audit", "data/audit/"), encrypted]
        self.system.replicate("orders", *rules)
        self.system.set_up()
        time.sleep(1.0)  # CloudTrail's times have whole seconds
        self.alarms = Alarms(self.system)
        self.alarms.pass_period()  # from unknown to OK
        self.quiet(TWO_PERIODS)

    def s3(self, bucket: str) -> Any:  # noqa: ANN401 - boto3 makes its classes at run time
        """The client of a bucket's owner."""
        return self.system.s3(*BUCKETS[bucket])

    def put(self, bucket: str, *keys: str) -> str:
        """Versions, of which S3 has done what it could, and which are old enough to be asked about; the last one's."""
        for key in keys:
            answer = self.s3(bucket).put_object(Bucket=bucket, Key=key, Body=b"12345")
        self.sandbox.settle(functions=True)
        time.sleep(ASK_AFTER + 0.1)
        return str(answer["VersionId"])

    def record(self, bucket: str, key: str, version_id: str) -> Record:
        """The only record of a version."""
        (record,) = self.system.store().versions(bucket, key, version_id)
        return record

    def quiet(self, periods: int) -> None:
        """Nothing alarms, and nobody is told of anything, for some periods."""
        self.stays(set(), periods)

    def comes(self, alarms: set[str], subjects: list[str], periods: int, then: int = TWO_PERIODS) -> News:
        """Just these alarms come, and these notices, within so many periods; then nothing more for some of them."""
        told = News()
        for _ in range(periods):
            if self.alarms.on != alarms or told.subjects != subjects:
                self._hear(told)
                assert self.alarms.on <= alarms
        assert (self.alarms.on, told.subjects) == (alarms, subjects)
        assert sorted(told.alarms) == sorted((name, "ALARM") for name in alarms)
        self.stays(alarms, then)
        return told

    def stays(self, alarms: set[str], periods: int) -> None:
        """Just these alarms are on for some periods, and nobody is told of anything."""
        for _ in range(periods):
            news = self.alarms.pass_period()
            assert (self.alarms.on, news.alarms, news.subjects) == (alarms, [], [])

    def goes(self, alarms: set[str], subjects: list[str], periods: int) -> None:
        """All alarms end within so many periods, and just these notices say that it is over; then it stays quiet."""
        told = News()
        for _ in range(periods):
            if self.alarms.on or told.subjects != subjects:
                self._hear(told)
        assert (self.alarms.on, told.subjects) == (set(), subjects)
        assert sorted(told.alarms) == sorted((name, "OK") for name in alarms)
        self.quiet(TWO_PERIODS)

    def _hear(self, told: News) -> None:
        news = self.alarms.pass_period()
        told.notices += news.notices
        told.alarms += news.alarms
        told.descriptions |= news.descriptions


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    """One system for all tests, in which each leaves everything repaired."""
    with Sandbox(QUICK) as sandbox:
        yield Scene(sandbox, "S3Notifications")


FAILED = {"FailedAlarm", "orders"}
"""The alarm for all, and the one of the source bucket."""


def test_destination_denied(scene: Scene) -> None:
    """A destination's policy that denies: the failures' alarms, and one notice with permission, list and repair."""
    client, policy = scene.s3("audit"), document(statement("Deny", HUB, REPLICATE, "audit/*"))
    kept = client.get_bucket_policy(Bucket="audit")["Policy"]
    client.put_bucket_policy(Bucket="audit", Policy=policy)
    scene.put("orders", "data/audit/a", "data/audit/b", "data/c")
    told = scene.comes(FAILED, ["2 failed, orders -> audit (DstPutObjectNotPermitted)"], TWO_PERIODS)
    ((_, text),) = told.notices
    assert "2 copies (10 bytes) from orders to audit failed" in text
    assert "allow s3:ReplicateObject" in text
    assert "list --status FAILED --source orders --destination audit" in text
    assert "retry --source orders --reason DstPutObjectNotPermitted" in text
    assert "crr-monitor retry" in told.descriptions["orders"]
    client.put_bucket_policy(Bucket="audit", Policy=kept)
    assert scene.sandbox.retry("orders") == 2
    scene.goes(FAILED, ["over: failed, orders -> audit (DstPutObjectNotPermitted)"], TWO_PERIODS)


@pytest.mark.slow
def test_key_disabled(scene: Scene) -> None:
    """A KMS key that is disabled: the failures' alarms, and a notice that names the key's state."""
    scene.kms.disable_key(KeyId=scene.key)
    scene.put("orders", f"{ENCRYPTED}a", "data/plain")
    told = scene.comes(FAILED, ["1 failed, orders -> orders-dr (DstKmsKeyInvalidState)"], TWO_PERIODS)
    assert "enable" in told.notices[0][1]
    scene.kms.enable_key(KeyId=scene.key)
    assert scene.sandbox.retry("orders") == 1
    scene.goes(FAILED, ["over: failed, orders -> orders-dr (DstKmsKeyInvalidState)"], TWO_PERIODS)


@pytest.mark.slow
def test_unversioned(scene: Scene) -> None:
    """A destination without versioning: the failures' alarms, and a notice that says to enable it."""
    scene.s3("audit").put_bucket_versioning(Bucket="audit", VersioningConfiguration={"Status": "Suspended"})
    scene.put("orders", "data/audit/unversioned")
    told = scene.comes(FAILED, ["1 failed, orders -> audit (DstBucketUnversioned)"], TWO_PERIODS)
    assert "enable versioning on the destination bucket" in told.notices[0][1]
    scene.s3("audit").put_bucket_versioning(Bucket="audit", VersioningConfiguration={"Status": "Enabled"})
    assert scene.sandbox.retry("orders") == 1
    scene.goes(FAILED, ["over: failed, orders -> audit (DstBucketUnversioned)"], TWO_PERIODS)


def test_region_outage(scene: Scene) -> None:
    """A Region in which nothing works: copies are overdue, and nothing of it counts as failed or as not to be asked.

    The hourly set-up that falls into it warns of the Region, and is no failure.
    """
    faults = [
        scene.sandbox.outage(region=ABROAD),
        scene.sandbox.fault("error", match={"region": ABROAD}, code="InternalError", status=500),
    ]
    begun = time.monotonic()
    scene.put("orders", "data/lost", "data/audit/lost")
    scene.alarms.pass_period()
    assert scene.alarms.on == set()
    time.sleep(max(0.0, begun + OVERDUE + 1 - time.monotonic()))
    told = scene.comes({"OldestPendingAlarm"}, ["2 overdue, orders -> orders-dr"], TWO_PERIODS)
    assert "AWS Health" in told.notices[0][1]
    scene.sandbox.end_fault(faults.pop())  # each of its services would be tried again for long
    match = {"service": "events", "region": ABROAD}
    faults.append(scene.sandbox.fault("error", match=match, code="InternalException", status=500))
    said = scene.system.set_up()
    assert said["problems"] == []
    assert any(each.startswith(f"{ABROAD} could not be asked") for each in said["warnings"])
    scene.stays({"OldestPendingAlarm"}, TWO_PERIODS)
    for number in faults:
        scene.sandbox.end_fault(number)
    scene.goes({"OldestPendingAlarm"}, ["over: overdue, orders -> orders-dr"], TWO_PERIODS)


@pytest.mark.slow
def test_agent_role_removed(scene: Scene) -> None:
    """Without the agent's role lost events cannot be made up for: that is told, with the role, and never as overdue."""
    lost = scene.sandbox.fault("drop", match={"bucket": "audit"})
    with scene.system.without_agent_role() as role:
        scene.put("orders", "data/audit/unreached")
        told = scene.comes({"CouldNotAskAlarm"}, ["could not ask about 1, audit"], 1 + TWO_PERIODS)
        assert role in told.notices[0][1]
        time.sleep(OVERDUE)
        scene.system.set_up()
        scene.stays({"CouldNotAskAlarm"}, TWO_PERIODS)
    scene.sandbox.end_fault(lost)
    time.sleep(REMEMBERED_SECONDS)
    scene.goes({"CouldNotAskAlarm"}, ["over: could not ask about, audit"], 1 + TWO_PERIODS)


@pytest.mark.slow
def test_process_function_broken(scene: Scene) -> None:
    """A process function that may not write any more: its alarm, and later the queue's age; the queue keeps it all."""
    policies = scene.sandbox.client("iam", HUB, HOME)
    role = scene.system.physical_id("ProcessRole")
    (name,) = policies.list_role_policies(RoleName=role)["PolicyNames"]
    kept = policies.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
    less = [each for each in kept["Statement"] if "dynamodb" not in json.dumps(each["Action"])]
    assert less != kept["Statement"]
    queue = {"QueueUrl": scene.system.hub.outputs["QueueUrl"]}
    sqs = scene.sandbox.client("sqs", HUB, HOME)
    sqs.set_queue_attributes(**queue, Attributes={"VisibilityTimeout": "1"})  # so that they come again in time
    policies.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=json.dumps({**kept, "Statement": less}))
    version = scene.put("orders", "data/unprocessed")
    scene.comes({"ProcessFailsAlarm"}, [], 1 + TWO_PERIODS, then=1)
    policies.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=json.dumps(kept))
    scene.goes({"ProcessFailsAlarm"}, [], 1 + TWO_PERIODS)
    assert scene.record("orders", "data/unprocessed", version).status is Status.COMPLETED


@pytest.mark.slow
def test_queue_blocked(scene: Scene) -> None:
    """Nobody takes events from the queue, and nothing fails: the queue's age tells, after its quarter of an hour."""
    events = scene.sandbox.client("events", HUB, HOME)
    schedule = scene.system.physical_id("ProcessSchedule")
    events.disable_rule(Name=schedule)
    scene.put("orders", "data/waits")
    scene.comes({"QueueAgeAlarm"}, [], 3 + TWO_PERIODS)
    events.enable_rule(Name=schedule)
    scene.goes({"QueueAgeAlarm"}, [], TWO_PERIODS)


# With CloudTrail's events, and a canary -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trail_scene() -> Iterator[Scene]:
    """The same with CloudTrail's events, by way of EventBridge, and a canary in the agent's account."""
    with Sandbox(QUICK) as sandbox:
        yield Scene(sandbox, "CloudTrail", "theirs:theirs-dr")


@pytest.mark.slow
def test_denied_in_the_trail(trail_scene: Scene) -> None:
    """Without failure events the denied call tells why; what CloudTrail does not show is found by asking."""
    scene, client = trail_scene, trail_scene.s3("audit")
    kept = client.get_bucket_policy(Bucket="audit")["Policy"]
    denied = document(statement("Deny", HUB, REPLICATE, "audit/*"))
    client.put_bucket_policy(Bucket="audit", Policy=denied)
    scene.kms.disable_key(KeyId=scene.key)
    scene.put("orders", "data/audit/a", f"{ENCRYPTED}a")
    subjects = [
        "1 failed, orders -> audit (AccessDenied s3:ReplicateObject)",
        "1 failed, orders -> orders-dr (unknown)",
    ]
    told = scene.comes(FAILED, subjects, TWO_PERIODS)
    assert any("topology --enable-failure-events orders" in text for _, text in told.notices)
    client.put_bucket_policy(Bucket="audit", Policy=kept)
    scene.kms.enable_key(KeyId=scene.key)
    assert scene.sandbox.retry("orders") == 2
    over = [
        "over: failed, orders -> audit (AccessDenied s3:ReplicateObject)",
        "over: failed, orders -> orders-dr (unknown)",
    ]
    scene.goes(FAILED, over, TWO_PERIODS)


@pytest.mark.slow
def test_undeliverable(trail_scene: Scene) -> None:
    """A Region's topic that refuses events: one alarm; set-up puts it right, and what waits is brought to the queue."""
    scene = trail_scene
    sns, sqs = (scene.sandbox.client(service, HUB, ABROAD) for service in ("sns", "sqs"))
    (topic,) = [each["TopicArn"] for each in sns.list_topics()["Topics"]]
    nobody = json.dumps({"Version": "2012-10-17", "Statement": []})
    sns.set_topic_attributes(TopicArn=topic, AttributeName="Policy", AttributeValue=nobody)
    version = scene.put("orders", "data/refused")
    told = scene.comes({"UndeliverableAlarm"}, [], TWO_PERIODS)
    assert "invoke the set-up function" in told.descriptions["UndeliverableAlarm"]
    scene.system.set_up()
    scene.stays({"UndeliverableAlarm"}, 1)
    (waiting,) = sqs.list_queues(QueueNamePrefix="crr-monitor-")["QueueUrls"]
    hub = scene.sandbox.client("sqs", HUB, HOME)
    for message in sqs.receive_message(QueueUrl=waiting, MaxNumberOfMessages=10)["Messages"]:
        hub.send_message(QueueUrl=scene.system.hub.outputs["QueueUrl"], MessageBody=message["Body"])
    sqs.purge_queue(QueueUrl=waiting)
    scene.goes({"UndeliverableAlarm"}, [], TWO_PERIODS)
    (copy,) = scene.record("orders", "data/refused", version).visible_copies
    assert copy.replicated_at is not None


@pytest.mark.slow
def test_account_cut_off(trail_scene: Scene) -> None:
    """Events of an account that do not come any more: its canary is late, and questions make up for the rest."""
    scene = trail_scene
    scene.quiet(1)
    begun = time.monotonic()
    cut_off = scene.sandbox.fault("drop", match={"account": AGENT})
    version = scene.put("orders", "data/audit/cut-off")
    scene.put("theirs", "x/cut-off")
    scene.quiet(TWO_PERIODS)
    assert scene.record("orders", "data/audit/cut-off", version).status is Status.COMPLETED
    time.sleep(max(0.0, begun + CANARY_LATE + 1 - time.monotonic()))
    told = scene.comes({"CanaryLateAlarm"}, [], TWO_PERIODS)
    assert "crr-monitor selftest" in told.descriptions["CanaryLateAlarm"]
    scene.sandbox.end_fault(cut_off)
    scene.goes({"CanaryLateAlarm"}, [], 1 + TWO_PERIODS)
