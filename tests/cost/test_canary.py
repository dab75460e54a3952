"""What canaries cost: each is written, replicated, listed and removed, with its events."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from crr_monitor.cost.calls import SOURCES, Source, Volume
from crr_monitor.cost.canary import canary_usages, cost_told
from crr_monitor.cost.estimate import estimate
from crr_monitor.cost.prices import PriceList

if TYPE_CHECKING:
    from decimal import Decimal

PRICES = PriceList()


def quantities(pairs: int, source: Source = "CloudTrail", minutes: int = 5) -> dict[tuple[str, str], Decimal]:
    """How much of what some canaries use."""
    return {(each.service, each.what): each.quantity for each in canary_usages(pairs, source, minutes)}


def test_no_canaries() -> None:
    """Without a canary nothing is used."""
    assert quantities(0) == {}


def test_counts() -> None:
    """Two pairs every five minutes are 17,280 canaries in 30 days, with four events each; one run writes both."""
    found = quantities(2)
    assert found["CloudTrail", "data events of canaries"] == 4 * 17_280
    assert found["S3", "writes, replicas and lists of canaries"] == 4 * 17_280
    assert found["Lambda", "calls of canary"] == 8_640
    assert quantities(2, minutes=10)["Lambda", "calls of canary"] == 4_320


@pytest.mark.parametrize("source", SOURCES)
def test_part_of_the_estimate(source: Source) -> None:
    """The estimate is dearer by just what canaries use, and only with some."""
    plain, more = (estimate(Volume(objects_per_day=10, canaries=n), source, "Scheduled", PRICES) for n in (0, 3))
    usages = canary_usages(3, source)
    assert more.total - plain.total == sum(PRICES[each.price].cost(each.quantity) for each in usages)
    assert more.total > plain.total


def test_told() -> None:
    """Told in words before canaries are switched on: where the source is not named, of the dearest."""
    text = cost_told("orders:orders-dr, logs", "CloudTrail")
    usd = sum(PRICES[each.price].cost(each.quantity) for each in canary_usages(2, "CloudTrail"))
    assert text.startswith(f"  canaries of 2 pairs: about ${usd:.2f} in a month, written every 5 minutes")
    assert cost_told("orders:orders-dr, logs", "") == text
