"""Discovery: which buckets there are, which rules they have, and what could not be asked."""

from __future__ import annotations

import json
import tracemalloc
from typing import TYPE_CHECKING

import pytest

from crr_monitor.aws import discovery
from crr_monitor.aws.discovery import Discovery, Pace, Unknown, discover, topology_entries
from crr_monitor.aws.sessions import OPTIONS, AwsError
from crr_monitor.core.topology import BucketConfig
from tests.aws.making import AGENT, HOME, HUB, config, deny, make_bucket, new_sessions, replicate, sessions

if TYPE_CHECKING:
    from crr_monitor.sandbox import Sandbox


def test_discover(sandbox: Sandbox) -> None:
    """All buckets are found with their Regions, and the rules of those that have some, all of a configuration's."""
    make_bucket(sandbox, "orders")
    make_bucket(sandbox, "orders-dr", "eu-west-1")
    make_bucket(sandbox, "orders-audit", "eu-west-1")
    make_bucket(sandbox, "theirs", account=AGENT)
    replicate(sandbox, "orders", "orders-dr", "orders-audit")
    found = discover(sessions(sandbox), HOME)
    assert found.buckets == {"orders": HOME, "orders-dr": "eu-west-1", "orders-audit": "eu-west-1"}
    assert found.unknown == ()
    (mine,) = found.configs
    assert (mine.bucket, mine.account, mine.region) == ("orders", HUB, HOME)
    assert [rule.destination for rule in mine.rules] == ["orders-dr", "orders-audit"]


def test_could_not_ask_is_not_without_rules(sandbox: Sandbox) -> None:
    """A bucket whose rules could not be read is told apart, with the reason and the permission that is missing."""
    make_bucket(sandbox, "orders")
    make_bucket(sandbox, "quiet")
    deny(sandbox, service="s3", resource="/orders")
    found = discover(sessions(sandbox), HOME)
    assert found.configs == ()
    (unknown,) = found.unknown
    assert (unknown.bucket, unknown.permission) == ("orders", "s3:GetReplicationConfiguration")
    assert str(unknown).endswith("allow s3:GetReplicationConfiguration on this bucket (also in its bucket policy)")


@pytest.mark.parametrize(("times", "unknown"), [(2, 2), (3, 5)])
def test_region_that_does_not_answer(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, times: int, unknown: int
) -> None:
    """After three buckets of a Region in a row that did not answer the others there are not asked, and all is unknown.

    Other Regions are asked as ever.
    """
    monkeypatch.setitem(OPTIONS, "retries", {"total_max_attempts": 1})
    monkeypatch.setattr(discovery, "WORKERS", 1)
    for number in range(5):
        make_bucket(sandbox, f"abroad-{number}", "eu-west-1")
    make_bucket(sandbox, "orders")
    replicate(sandbox, "orders", "abroad-0")
    match = {"service": "s3", "operation": "GET", "region": "eu-west-1"}
    sandbox.fault("error", code="InternalError", status=500, match=match, times=times)
    found = discover(new_sessions(sandbox), HOME)
    assert [each.bucket for each in found.unknown] == [f"abroad-{number}" for number in range(unknown)]
    assert {each.permission for each in found.unknown} == {None}
    assert [config.bucket for config in found.configs] == ["orders"]


def test_no_listing_no_knowledge(sandbox: Sandbox) -> None:
    """Where the buckets cannot be listed there is no discovery at all, rather than an empty one."""
    deny(sandbox, service="s3")
    with pytest.raises(AwsError, match="s3:ListBuckets: AccessDenied"):
        discover(sessions(sandbox), HOME)


def let_in(sandbox: Sandbox, account: str) -> None:
    """A role ``reader`` in an account, for the hub."""
    trust = {"Effect": "Allow", "Principal": {"AWS": HUB}, "Action": "sts:AssumeRole"}
    sandbox.client("iam", account, HOME).create_role(
        RoleName="reader", AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    )


def test_another_account_through_its_role(sandbox: Sandbox) -> None:
    """Another account is asked through the role that is named, in that account."""
    make_bucket(sandbox, "theirs", "eu-west-1", account=AGENT)
    let_in(sandbox, AGENT)
    found = discover(new_sessions(sandbox, role_name="reader"), HOME, AGENT)
    assert found == Discovery(AGENT, {"theirs": "eu-west-1"})


def test_a_region_that_only_the_other_account_has(sandbox: Sandbox) -> None:
    """An account is asked also in an opt-in Region that is closed to one's own: its role is assumed elsewhere."""
    make_bucket(sandbox, "theirs", "me-south-1", account=AGENT)
    let_in(sandbox, AGENT)
    deny(sandbox, service="sts", region="me-south-1")
    found = discover(new_sessions(sandbox, role_name="reader"), "me-south-1", AGENT)
    assert found == Discovery(AGENT, {"theirs": "me-south-1"})


def test_many_accounts_fit_into_a_function(sandbox: Sandbox) -> None:
    """A further account costs less than 2 MB, as clients of all accounts have the service's description in common."""
    accounts = [f"{number:012}" for number in range(100, 105)]
    for account in accounts:
        let_in(sandbox, account)
    ours = new_sessions(sandbox, role_name="reader")
    ours.client("s3", HOME, accounts[0])
    tracemalloc.start()
    for account in accounts[1:]:
        assert ours.client("s3", HOME, account).list_buckets()["Buckets"] == []
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken / len(accounts[1:]) < 2_000_000


def test_no_role_no_other_account(sandbox: Sandbox) -> None:
    """Without a role another account cannot be asked, and the error says so."""
    with pytest.raises(AwsError, match=f"no role is named through which account {AGENT} could be reached"):
        discover(sessions(sandbox), HOME, AGENT)


def test_pace() -> None:
    """Calls begin evenly, however fast they are asked for, and nobody waits after a pause."""
    now = [100.0]
    slept: list[float] = []
    pace = Pace(4.0, lambda: now[0], slept.append)
    for _ in range(3):
        pace.wait()
    now[0] = 200.0
    pace.wait()
    assert slept == [0.25, 0.5]


# What a store learns --------------------------------------------------------------------------------------------------


def test_places_of_destinations() -> None:
    """A store learns the rules, and where their destinations are, in whichever account."""
    found = [Discovery(HUB, {"orders": HOME}, (config("orders", "theirs"),)), Discovery(AGENT, {"theirs": "eu-west-1"})]
    assert topology_entries(found) == [
        (config("orders", "theirs"), False),
        (BucketConfig("theirs", AGENT, "eu-west-1"), False),
    ]


def test_rules_that_have_gone() -> None:
    """A known source that has no rules any more is learned as such."""
    assert topology_entries([Discovery(HUB, {"orders": HOME})], ["orders"]) == [
        (BucketConfig("orders", HUB, HOME), False)
    ]


def test_what_could_not_be_asked_is_not_learned() -> None:
    """Of a known source that could not be asked only the place is told: that is no word about its rules."""
    found = Discovery(HUB, {"orders": HOME}, (), (Unknown("orders", "denied"),))
    assert topology_entries([found], ["orders"]) == [(BucketConfig("orders", HUB, HOME, place_only=True), False)]


def test_gone_buckets_are_left_alone() -> None:
    """A known source that no account has any more is not mentioned."""
    assert topology_entries([Discovery(HUB, {})], ["orders"]) == []
