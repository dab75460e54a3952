"""Denied reads at the source in a deployed system, IAM enforced: why a copy failed, once their reads are logged."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from crr_monitor.core.model import Status
from crr_monitor.sandbox import Latency, Sandbox, Settings
from tests.cli.running import PROBLEMS, asked
from tests.e2e.alarming import Inbox
from tests.e2e.system import ABROAD, AGENT, BUCKETS, FAR, HOME, HUB, REGIONS, WAIT_SECONDS, System

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crr_monitor.core.model import Copy

pytestmark = pytest.mark.slow
SOON = Latency(0.01)
READ = "s3:GetObjectVersionForReplication"
ACCOUNTS = {HUB: HOME, AGENT: ABROAD}
"""Each with the Region of its stack, and so of its trail."""


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    """Both stacks; below ``data/secret/`` the policy of ``orders`` denies reads, below ``secret/`` the agent's role."""
    quick = Settings(seed=1, auth=True, replication=SOON, notification=SOON, event=SOON, trail=SOON)
    with Sandbox(quick) as sandbox:
        found = System(sandbox, "CloudTrail", WatchInterval="rate(24 hours)", RecoveredSeconds="0")
        denied = {"Effect": "Deny", "Principal": "*", "Action": READ, "Resource": "arn:aws:s3:::orders/data/secret/*"}
        client = found.s3(HUB, HOME)
        policy = json.loads(client.get_bucket_policy(Bucket="orders")["Policy"])
        policy["Statement"].append(denied)
        client.put_bucket_policy(Bucket="orders", Policy=json.dumps(policy))
        mine = {"Effect": "Deny", "Action": READ, "Resource": "arn:aws:s3:::theirs/secret/*"}
        document = json.dumps({"Version": "2012-10-17", "Statement": [mine]})
        iam = sandbox.client("iam", AGENT, HOME)
        iam.put_role_policy(RoleName="replication", PolicyName="secret", PolicyDocument=document)
        yield found


def selectors(system: System) -> dict[str, list[str]]:
    """The names of what the stacks' own trails select, by account."""
    found = {}
    for account, region in ACCOUNTS.items():
        client = system.sandbox.client("cloudtrail", account, region)
        (trail,) = client.list_trails()["Trails"]
        told = client.get_event_selectors(TrailName=trail["TrailARN"])["AdvancedEventSelectors"]
        found[account] = [each["Name"] for each in told]
    return found


def rules(system: System) -> set[tuple[str, str]]:
    """Accounts and Regions that have a rule for denied reads."""
    return {
        (account, region)
        for account in ACCOUNTS
        for region in REGIONS
        for each in system.sandbox.client("events", account, region).list_rules()["Rules"]
        if each["Name"].endswith("-denied-reads")
    }


def put(system: System, bucket: str, key: str) -> str:
    """A version, of which all events have been processed."""
    answer = system.s3(*BUCKETS[bucket]).put_object(Bucket=bucket, Key=key, Body=b"12345")
    system.drain()
    return str(answer["VersionId"])


def copy_of(system: System, bucket: str, key: str, version: str) -> Copy:
    """The only copy of a version."""
    (record,) = system.store().versions(bucket, key, version)
    (copy,) = record.visible_copies
    return copy


def messages(system: System) -> tuple[int, dict[str, int]]:
    """How many messages have been processed, and of what kinds records in them were ignored."""
    counts = system.store().counts()
    return counts.messages, counts.ignored


def test_reads_are_not_logged_unless_asked_for(system: System) -> None:
    """By default no trail selects reads and no rule takes them, so nothing tells why a copy is missing."""
    writes = ["Writes to replicated buckets"]
    assert (selectors(system), rules(system)) == ({HUB: writes, AGENT: writes}, set())
    before, _ = messages(system)
    version = put(system, "orders", "data/secret/untold")
    assert copy_of(system, "orders", "data/secret/untold", version).status is Status.PENDING
    assert messages(system) == (before + 1, {})


def test_a_denied_read_tells_why(system: System) -> None:
    """Once reads are logged, a denied one makes the copy FAILED, with its words, cause and fix, in both accounts.

    Reads that succeed reach no queue. When it is asked for no longer, selectors and rules go again.
    """
    inbox = Inbox(system)
    system.change_hub(DeniedReads="Objects")
    system.change_agent(DeniedReads="All")
    system.sandbox.settle(WAIT_SECONDS, functions=True)
    both = ["Writes to replicated buckets", "Reads of the replication service"]
    assert selectors(system) == {HUB: both, AGENT: both}
    assert {(HUB, HOME), (AGENT, FAR)} <= rules(system)
    before, _ = messages(system)
    fine = [put(system, bucket, "data/plain") for bucket in ("orders", "theirs")]
    assert {copy_of(system, "orders", "data/plain", fine[0]).status} == {Status.COMPLETED}
    version = put(system, "orders", "data/secret/a")
    other = put(system, "theirs", "secret/a")
    # A write and a replica of each that was replicated; a write and a denied read of each other.
    assert messages(system) == (before + 8, {})
    _check_told(copy_of(system, "orders", "data/secret/a", version), HUB)
    _check_told(copy_of(system, "theirs", "secret/a", other), AGENT)
    assert system.sandbox.run_rule(HUB, HOME, system.physical_id("WatchSchedule")) == 1
    system.sandbox.settle(WAIT_SECONDS, functions=True)
    notices = {each["Subject"].partition(", ")[2]: each["Message"] for each in inbox.take()}
    assert sorted(notices) == [f"{each} -> orders-dr (AccessDenied {READ})" for each in ("orders", "theirs")]
    for text in notices.values():
        assert f"Reason: the replication role may not read object versions at the source (AccessDenied {READ})." in text
        assert f"Fix: allow {READ} to the replication role" in text
    _check_commands(system)
    system.change_hub(DeniedReads="No")
    system.change_agent(DeniedReads="No")
    system.sandbox.settle(WAIT_SECONDS, functions=True)
    assert rules(system) == set()
    assert {len(each) for each in selectors(system).values()} == {1}


def _check_told(copy: Copy, account: str) -> None:
    assert (copy.status, copy.evidence, copy.rule_id) == (Status.FAILED, "denied-call", "to-orders-dr")
    who = f"arn:aws:sts::{account}:assumed-role/replication/s3-replication"
    assert str(copy.failure_reason).startswith(f"User: {who} is not authorized to perform: {READ} on resource: ")


def _check_commands(system: System) -> None:
    """What a person sees: the words in ``status``, the code in ``list``."""
    system.store()  # takes care of credentials
    store = f"{system.hub.outputs['StoreUrl']}&endpoint={system.sandbox.endpoint}"
    told = " ".join(asked(store, "status", "s3://orders/data/secret/a", status=PROBLEMS).split())
    assert f"is not authorized to perform: {READ}" in told
    assert "cause: the replication role may not read object versions at the source" in told
    listed: list[Any] = [
        json.loads(line) for line in asked(store, "list", "--status", "FAILED", "-o", "ndjson").splitlines()
    ]
    assert {each["key"] for each in listed} == {"data/secret/a", "secret/a"}
    assert {each["destinations"][0]["evidence"] for each in listed} == {"denied-call"}
