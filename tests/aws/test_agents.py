"""What hub and agents have to know of each other."""

from __future__ import annotations

from crr_monitor.aws.agents import destinations_in, known_to_hub, latest
from crr_monitor.aws.discovery import Discovery
from crr_monitor.core.topology import BucketConfig, Topology
from tests.aws.making import AGENT, HOME, HUB, config


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
