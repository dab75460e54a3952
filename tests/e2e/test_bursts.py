"""Many replication rules that change at once, IAM enforced: a few runs of set-up, and every bucket is watched."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from crr_monitor.aws.patterns import buckets_in
from crr_monitor.sandbox import Latency, Sandbox, Settings
from tests.e2e.system import ABROAD, AGENT, FAR, HOME, HUB, System, rule

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow
SOON = Latency(0.01)
BURST = 100
LONGEST_SECONDS = 60.0


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    """Both stacks, and trails of both accounts that log management events."""
    quick = Settings(seed=1, auth=True, replication=SOON, notification=SOON, event=SOON, trail=SOON)
    with Sandbox(quick) as sandbox:
        made = System(sandbox, "CloudTrail")
        for account in (HUB, AGENT):
            trails = sandbox.client("cloudtrail", account, HOME)
            name = f"logs-{account}"
            made.make_bucket(name, account, HOME)
            trails.create_trail(Name="management", S3BucketName=name, IsMultiRegionTrail=True)
            trails.start_logging(Name="management")
        yield made


def watched(system: System, account: str, region: str) -> set[str]:
    """The buckets in set-up's rules."""
    rules = system.sandbox.client("events", account, region).list_rules(NamePrefix="crr-monitor-")["Rules"]
    return {bucket for each in rules for bucket in buckets_in(json.loads(each.get("EventPattern", "{}")))}


def runs(system: System, account: str, region: str) -> int:
    """How often set-up has run so far."""
    at = datetime.now(UTC)
    name = (system.hub if account == HUB else system.agent).outputs["SetupFunctionName"]
    found = system.sandbox.client("cloudwatch", account, region).get_metric_statistics(
        Namespace="AWS/Lambda",
        MetricName="Invocations",
        Dimensions=[{"Name": "FunctionName", "Value": name}],
        StartTime=at - timedelta(hours=1),
        EndTime=at + timedelta(hours=1),
        Period=7_200,
        Statistics=["Sum"],
    )["Datapoints"]
    return int(sum(each["Sum"] for each in found))


@pytest.mark.parametrize(
    ("account", "home", "region"), [(HUB, HOME, ABROAD), (AGENT, ABROAD, FAR)], ids=["hub", "agent"]
)
def test_burst(system: System, account: str, home: str, region: str) -> None:
    """After a burst of new rules every bucket is watched within a minute, by a few runs of set-up."""
    names = {f"burst-{account}-{number:03}" for number in range(BURST)}
    for name in sorted(names):
        system.make_bucket(name, account, region)
    system.sandbox.settle(LONGEST_SECONDS, functions=True)
    before = runs(system, account, home)
    for name in sorted(names):
        system.replicate(name, rule(1, "orders-dr", ""), place=(account, region))
    began = time.monotonic()
    while not names <= watched(system, account, region) and time.monotonic() - began < LONGEST_SECONDS:
        time.sleep(0.2)
    assert names - watched(system, account, region) == set()
    system.sandbox.settle(LONGEST_SECONDS, functions=True)
    assert names - watched(system, account, region) == set()
    assert 1 <= runs(system, account, home) - before <= 4
