"""A failure in a deployed system, IAM enforced: published and told with its cure; and the alarms of source buckets."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from crr_monitor.aws import bucket_alarms
from crr_monitor.sandbox import Latency, Sandbox, Settings
from tests.aws.making import stack
from tests.e2e.alarming import Inbox
from tests.e2e.system import ABROAD, AGENT, HOME, HUB, WAIT_SECONDS, System

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow
SOON = Latency(0.01)


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    """Both stacks, with a queue behind the topic of notifications."""
    quick = Settings(seed=1, auth=True, replication=SOON, notification=SOON, event=SOON, trail=SOON)
    with Sandbox(quick) as sandbox:
        yield System(sandbox, "CloudTrail", WatchInterval="rate(24 hours)", RecoveredSeconds="0")


def subjects(inbox: Inbox) -> list[str]:
    """Subjects of the notices that came; new alarms say there that they are fine."""
    return [each["Subject"] for each in inbox.take() if not each["Subject"].startswith("OK: ")]


def look(system: System) -> None:
    """One tick of the watch function's schedule."""
    assert system.sandbox.run_rule(HUB, HOME, system.physical_id("WatchSchedule")) == 1
    system.sandbox.settle(WAIT_SECONDS, functions=True)


def highest(system: System, name: str, **names: str) -> float | None:
    """The highest value of a metric."""
    at = datetime.now(UTC)
    request: dict[str, Any] = {
        "Namespace": "CRRMonitor",
        "MetricName": name,
        "Dimensions": [{"Name": key, "Value": value} for key, value in names.items()],
        "StartTime": at - timedelta(hours=1),
        "EndTime": at + timedelta(hours=1),
        "Period": 7_200,
        "Statistics": ["Maximum"],
    }
    found = system.sandbox.client("cloudwatch", HUB, HOME).get_metric_statistics(**request)["Datapoints"]
    return max((each["Maximum"] for each in found), default=None)


def test_failure(system: System) -> None:
    """A denied copy is told once with the permission that is missing, and counted by bucket; copies have lags."""
    inbox = Inbox(system)
    client = system.s3("111122223333", HOME)
    client.put_object(Bucket="orders", Key="data/broken/a", Body=b"12345")
    system.drain()
    look(system)
    assert subjects(inbox) == ["CRR Monitor: 1 failed, orders -> locked (AccessDenied s3:ReplicateObject)"]
    assert highest(system, "FailedObjects", SourceBucket="orders") == 1
    assert highest(system, "FailedReplications", SourceBucket="orders") == 1
    assert highest(system, "ReplicationLag") is not None
    assert highest(system, "UndeliverableEvents") == 0
    look(system)
    assert subjects(inbox) == []


def test_alarms_of_buckets(system: System) -> None:
    """Every source bucket of both accounts has its alarm, made with the set-up function's own permissions."""
    token = system.hub.outputs["HubToken"]
    prefix = bucket_alarms.prefix(stack(token=token, hub_token=token))
    client = system.sandbox.client("cloudwatch", HUB, HOME)
    found = client.describe_alarms(AlarmNamePrefix=prefix)["MetricAlarms"]
    assert sorted(each["AlarmName"].removeprefix(prefix) for each in found) == ["orders", "theirs"]
    assert {*found[0]["AlarmActions"]} == {system.hub.outputs["NotificationTopicArn"]}


def test_undelivered_at_an_agent(system: System) -> None:
    """Events that wait in an agent's account are counted by the hub, through its role there, and told with the account.

    When they are gone that is told, too.
    """
    inbox = Inbox(system)
    sqs = system.sandbox.client("sqs", AGENT, ABROAD)
    url = sqs.get_queue_url(QueueName=f"crr-monitor-{system.agent.stack_id.rpartition('-')[2]}-undelivered")["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="{}")
    assert system.set_up()["problems"] == []
    look(system)
    assert highest(system, "UndeliverableEvents") == 1
    assert subjects(inbox) == [f"CRR Monitor: 1 event not delivered by the agent of {AGENT}"]
    sqs.purge_queue(QueueUrl=url)
    system.set_up()
    look(system)
    look(system)
    assert subjects(inbox) == [f"CRR Monitor: over: events not delivered by the agent of {AGENT}"]


def test_agent_that_keeps_a_new_role_out(system: System) -> None:
    """After an update of the hub that adds a role, its output and a notice say how to update agents, until they are."""
    inbox = Inbox(system)
    assert "WARNING" not in system.hub.outputs["SetupSummary"]
    system.change_hub(CanaryPairs="orders:orders-dr", CanarySchedule="rate(24 hours)")
    roles = system.hub.outputs["HubRoleArns"]
    call = f"crr-monitor deploy agent --region {ABROAD} --parameter HubRoleArns={roles}"
    warning = f"the agent of {AGENT} is not as this version of the hub needs; with the credentials of {AGENT}: {call}"
    assert system.hub.outputs["SetupSummary"].endswith(f"WARNING: {warning}")
    look(system)
    assert subjects(inbox) == [f"CRR Monitor: 1 agent to deploy again, {AGENT}"]
    system.change_agent(HubRoleArns=roles)
    system.sandbox.settle(WAIT_SECONDS, functions=True)
    assert system.set_up()["warnings"] == []
    look(system)
    look(system)
    assert subjects(inbox) == ["CRR Monitor: over: agents to deploy again"]
