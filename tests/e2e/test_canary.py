"""Canaries in a deployed system of two accounts, IAM enforced: written, seen to arrive, removed on both sides."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from crr_monitor.core import hearing
from crr_monitor.core.hearing import heard_from
from crr_monitor.core.notices import CANARY_NOTE, decode_canaries
from crr_monitor.sandbox import Latency, Sandbox, Settings
from crr_monitor.stores.base import system_clock
from tests.e2e.system import AGENT, BUCKETS, HOME, HUB, WAIT_SECONDS, System

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crr_monitor.core.hearing import Hearing

pytestmark = pytest.mark.slow
SOON = Latency(0.01)
PAIRS = "orders:orders-dr,theirs:theirs-dr"


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    """Both stacks, with a canary for a pair of the hub's own and one for a pair within the agent's account."""
    quick = Settings(seed=1, auth=True, replication=SOON, notification=SOON, event=SOON, trail=SOON)
    with Sandbox(quick) as sandbox:
        built = System(sandbox, "CloudTrail", WatchInterval="rate(24 hours)")
        built.change_hub(CanaryPairs=PAIRS, CanarySchedule="rate(24 hours)")
        built.change_agent(HubRoleArns=built.hub.outputs["HubRoleArns"], AllowCanary="true")
        yield built


def key(system: System, prefix: str) -> str:
    """The key of a canary behind a rule's prefix."""
    return f"{prefix}.crr-monitor/canary/{system.hub.outputs['HubToken']}"


def versions(system: System, bucket: str) -> list[str]:
    """All canaries in a bucket, delete markers included."""
    told = system.s3(*BUCKETS[bucket]).list_object_versions(Bucket=bucket)
    found = [*told.get("Versions", []), *told.get("DeleteMarkers", [])]
    return [each["VersionId"] for each in found if ".crr-monitor/" in each["Key"]]


def fly(system: System) -> dict[str, Any]:
    """One run of the function, as its schedule has it; what it says, or its error."""
    answer = system.sandbox.client("lambda", HUB, HOME).invoke(FunctionName=system.hub.outputs["CanaryFunctionName"])
    said: dict[str, Any] = json.load(answer["Payload"])
    system.drain()
    return said


def arrived(system: System) -> dict[str, int]:
    """The note of what arrived."""
    return {name: flight.at for name, flight in decode_canaries(system.store().note(CANARY_NOTE)).items()}


def heard(system: System) -> dict[str, Hearing]:
    """The note of whose canaries are heard, by bucket."""
    return heard_from(system.store().note(hearing.NOTE)).buckets


def test_canaries_fly(system: System) -> None:
    """Each run writes one version per pair, sees those before arrive, and removes them on both sides by version."""
    fly(system)
    started = arrived(system)
    assert sorted(started) == ["orders orders-dr", "theirs theirs-dr"]
    said = fly(system)
    assert said["problems"] == []
    assert said["written"] == {"orders": 1, "theirs": 1}
    assert {"orders", "orders-dr", "theirs", "theirs-dr"} <= said["removed"].keys()
    assert sorted(said["lag_seconds"]) == ["orders orders-dr", "theirs theirs-dr"]
    assert all(at >= started[name] for name, at in arrived(system).items())
    for bucket in ("orders", "orders-dr", "theirs", "theirs-dr"):
        assert len(versions(system, bucket)) <= 2, bucket


def test_counts_nowhere(system: System) -> None:
    """Canaries are in no statistics and not in the backlog, and their records tell where they are."""
    fly(system)
    store = system.store()
    assert list(store.cells(None, None)) == []
    (record,) = store.versions("orders", key(system, "data/"), versions(system, "orders")[0])
    assert [(each.bucket, each.status.name) for each in record.copies] == [("orders-dr", "COMPLETED")]


def test_age_is_published(system: System) -> None:
    """While a copy does not arrive, its age grows, and the watch function publishes the longest."""
    before = arrived(system)["orders orders-dr"]
    outage = system.sandbox.outage(bucket="orders-dr")
    fly(system)
    first = arrived(system)["orders orders-dr"]
    fly(system)
    assert arrived(system)["orders orders-dr"] == first >= before
    assert arrived(system)["theirs theirs-dr"] > 0
    assert len(versions(system, "orders")) >= 2
    assert system.sandbox.run_rule(HUB, HOME, system.physical_id("WatchSchedule")) == 1
    system.sandbox.settle(WAIT_SECONDS, functions=True)
    metrics = system.sandbox.client("cloudwatch", HUB, HOME).list_metrics(MetricName="CanaryAge")["Metrics"]
    assert len(metrics) == 1
    system.sandbox.end_fault(outage)
    system.sandbox.settle(WAIT_SECONDS, functions=True)
    system.drain()
    fly(system)
    assert arrived(system)["orders orders-dr"] > first


def test_an_account_that_is_cut_off_is_not_heard(system: System) -> None:
    """While its events do not come, canaries lie in its buckets unheard; of the hub's own buckets all is heard."""
    fly(system)
    fly(system)
    assert [name for name, each in heard(system).items() if each.deaf_since is not None] == []
    cut_off = system.sandbox.fault("drop", match={"account": AGENT})
    began = system_clock()
    for _ in range(3):
        time.sleep(1.0)  # S3 tells when a version was written in whole seconds
        fly(system)
    deaf = {name: each for name, each in heard(system).items() if each.deaf_since is not None}
    assert sorted(deaf) == sorted(name for name in heard(system) if BUCKETS[name][0] == AGENT)
    assert all(each.account == AGENT and (each.deaf_since or 0) > began for each in deaf.values())
    system.sandbox.end_fault(cut_off)
    fly(system)
    fly(system)
    assert [name for name, each in heard(system).items() if each.deaf_since is not None] == []


def test_lag_is_published(system: System) -> None:
    """The lags of canaries that arrived are metrics of all together, as figures of the pair are with totals only."""
    fly(system)
    said = fly(system)
    assert all(lag is not None and lag >= 0 for lag in said["lag_seconds"].values())
    assert system.sandbox.run_rule(HUB, HOME, system.physical_id("WatchSchedule")) == 1
    system.sandbox.settle(WAIT_SECONDS, functions=True)
    found = system.sandbox.client("cloudwatch", HUB, HOME).list_metrics(MetricName="CanaryLag")["Metrics"]
    assert [(each["Namespace"], each["Dimensions"]) for each in found] == [("CRRMonitor", [])]


def test_locked_bucket_is_refused(system: System) -> None:
    """Where a default retention would keep canaries none is written, and the function's error says why."""
    lock = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}}}
    system.s3(*BUCKETS["audit"]).put_object_lock_configuration(Bucket="audit", ObjectLockConfiguration=lock)
    system.change_hub(CanaryPairs=f"{PAIRS},orders:audit")
    said = fly(system)
    assert said["errorMessage"] == (
        "canary orders: bucket audit is refused, its Object Lock has a default retention, so canaries could not be"
        " removed: take it off the list"
    )
    assert "orders audit" not in arrived(system)
    system.change_hub(CanaryPairs=PAIRS)
    assert fly(system)["problems"] == []


def test_agent_that_does_not_allow_it(system: System) -> None:
    """Without AllowCanary the role in the other account may not; the message says so, and its age goes on."""
    system.change_agent(AllowCanary="false")
    said = fly(system)
    before = arrived(system)["theirs theirs-dr"]
    fly(system)
    assert "canary theirs, bucket theirs: s3:" in said["errorMessage"]
    assert "in theirs: AccessDenied" in said["errorMessage"]
    assert "is its agent's AllowCanary true?" in said["errorMessage"]
    assert arrived(system)["theirs theirs-dr"] == before
    system.change_agent(AllowCanary="true")
    assert fly(system)["problems"] == []


def test_switched_off(system: System) -> None:
    """Without pairs all of it goes: every version, the note that the age comes from, function and role."""
    system.change_hub(CanaryPairs="")
    system.drain()
    assert {bucket: versions(system, bucket) for bucket in BUCKETS} == {bucket: [] for bucket in BUCKETS}
    assert arrived(system) == {}
    assert "CanaryFunctionName" not in system.hub.outputs
