"""What hub and agents have to know of each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crr_monitor.aws.agents import ask_agents, destinations_in, is_same, known_to_hub, latest
from crr_monitor.aws.discovery import Discovery, Unknown
from crr_monitor.core.topology import BucketConfig, Topology
from tests.aws.making import AGENT, HOME, HUB, config, make_bucket, new_sessions

if TYPE_CHECKING:
    from crr_monitor.sandbox import Sandbox


def test_destinations_of_others() -> None:
    """An agent is told of its buckets that other accounts replicate to, not of those that it can see itself."""
    configs = [config("theirs", "mine", "elsewhere"), config("mine-too", "my-copy")]
    assert destinations_in(["mine", "mine-too", "my-copy"], configs) == ("mine",)


def test_hub_knows_others_regions() -> None:
    """The hub plans topics for the Regions in which other accounts have sources or destinations."""
    configs = [
        config("orders", "theirs", account=HUB, region=HOME),
        BucketConfig("theirs", AGENT, "eu-west-1"),
        config("away", "nowhere", account=AGENT, region="sa-east-1"),
        BucketConfig("unrelated", AGENT, "ap-south-1"),
    ]
    known = known_to_hub(Discovery(HUB, {"orders": HOME}), configs)
    assert known.agent_regions == ("eu-west-1", "sa-east-1")
    assert [each.bucket for each in known.configs] == ["theirs", "away", "unrelated"]


def test_newest_configuration() -> None:
    """Of several configurations of one bucket the newest counts."""
    old, new = config("a", "b", since=1), config("a", "c", since=2)
    assert latest(Topology([new, old])) == [new]


def test_same_account() -> None:
    """An account is as it was if its buckets, rules, and those that cannot be asked are; why not does not matter."""
    one = Discovery(HUB, {"a": HOME, "b": HOME}, (config("a", "b"),), (Unknown("b", "SlowDown"),))
    assert is_same(one, Discovery(HUB, {"b": HOME, "a": HOME}, (config("a", "b"),), (Unknown("b", "timed out"),)))
    assert not is_same(one, Discovery(HUB, {"a": HOME}, one.configs, one.unknown))
    assert not is_same(one, Discovery(HUB, one.buckets, (config("a", "c"),), one.unknown))
    assert not is_same(one, Discovery(HUB, one.buckets, one.configs))


def test_clients_of_many_accounts(sandbox: Sandbox) -> None:
    """Of accounts that were asked no client stays, however many they are: each takes memory in each of its Regions."""
    sessions = new_sessions(sandbox, role_name="asking")
    accounts = [AGENT, "200000000001"]
    for account in accounts:
        make_bucket(sandbox, f"of-{account}", account=account)
        make_bucket(sandbox, f"abroad-{account}", "eu-west-1", account=account)
    found, notes = ask_agents(sessions, accounts, {}, HOME)
    assert (sorted(len(each.buckets) for each in found), notes) == ([2, 2], [])
    assert {account for _, _, account in sessions._clients} == {HUB}
