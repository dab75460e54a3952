"""Estimates: examples worked out by hand, and what holds of all volumes."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crr_monitor.cost.calls import DENIED_READS, METRICS, MODES, SETTLE_WINDOWS, SOURCES, Mode, Source, Volume
from crr_monitor.cost.estimate import SERVICES, Estimate, compared, estimate
from crr_monitor.cost.prices import PRICES, PriceList, parse_prices

LIST = PriceList()
SHARES = st.integers(0, 100).map(lambda percent: Decimal(percent) / 100)
ALL = Volume(objects_per_day=1_000_000, same_batch_share=Decimal(1))
"""30 million objects and as many copies in a month, each copy processed together with its source."""


@st.composite
def volumes(draw: st.DrawFn) -> Volume:
    """Any volume that is allowed, with figures as they occur."""
    destinations = draw(st.integers(1, 5))
    share = draw(SHARES)
    return Volume(
        objects_per_day=draw(st.integers(0, 10**9)),
        size=draw(st.integers(0, 10**10)),
        pairs=draw(st.integers(destinations, 500)),
        destinations=destinations,
        cross_account_share=share,
        accounts=draw(st.integers(2 if share else 1, 100)),
        regions=draw(st.integers(1, 20)),
        same_batch_share=draw(st.none() | SHARES),
        metrics=draw(st.sampled_from(METRICS)),
        archive=draw(st.booleans()),
        denied_reads=draw(st.sampled_from(DENIED_READS)),
    )


@dataclass
class Deployment:
    """An event source and a mode."""

    source: Source
    mode: Mode


DEPLOYMENTS = st.builds(Deployment, st.sampled_from(SOURCES), st.sampled_from(MODES))


def lines(found: Estimate) -> dict[str, Decimal]:
    """USD by what it is for."""
    return {line.usage.what: line.usd for line in found.lines}


def services(volume: Volume, source: Source, mode: Mode = "Scheduled") -> dict[str, Decimal]:
    """USD by service."""
    return estimate(volume, source, mode, LIST).by_service()


def others(volume: Volume) -> dict[str, Estimate]:
    """What it is compared with, by name."""
    return {one.name: one for one in compared(volume, LIST)}


def test_cloudtrail_by_hand() -> None:
    """60 million data events are 60 USD, EventBridge takes them for nothing, SNS publishes them for 30."""
    found = services(ALL, "CloudTrail")
    assert [found[name] for name in ("CloudTrail", "EventBridge", "SNS")] == [60, 0, 30]
    # 2 Regions x 8,640 files at 0.005 for a thousand, and 2 million events a day of 300 bytes at 0.023; HEADs.
    assert found["S3"] == Decimal("0.0864") + Decimal("0.0138") + Decimal("0.24")


def test_eventbridge_by_hand() -> None:
    """60 million of S3's own events are 60 USD; half of them to the hub's bus 30 more; there is no trail."""
    volume = msgspec.structs.replace(ALL, cross_account_share=Decimal("0.5"), accounts=2)
    found = services(volume, "EventBridge")
    assert found["EventBridge"] == 90
    assert "CloudTrail" not in found
    assert found["S3"] == Decimal("0.24")  # of HEADs only


def test_notifications_by_hand() -> None:
    """S3 publishes to the topic for nothing, also from other accounts: neither CloudTrail nor EventBridge is used."""
    volume = msgspec.structs.replace(ALL, cross_account_share=Decimal(1), accounts=2)
    assert not {"CloudTrail", "EventBridge"} & services(volume, "S3Notifications").keys()


@pytest.mark.parametrize(("mode", "idle"), [("Scheduled", "0.01728"), ("Continuous", "0.2592")])
def test_queue_by_hand(mode: Mode, idle: str) -> None:
    """60 million are sent, and received and deleted by tens: 72 million requests, and those that find nothing.

    So does Lambda for set-up, of which each account has one.
    """
    assert services(ALL, "EventBridge", mode)["SQS"] == Decimal("28.8") + Decimal(idle) + Decimal("0.2592")


def test_tables_by_hand() -> None:
    """With each copy in its source's batch a month of DynamoDB is the sum that these lines of arithmetic give."""
    found = lines(estimate(ALL, "EventBridge", "Scheduled", LIST))
    settles = 518_400 + 60_000_000 // 500  # an update and a removal for each object
    calls = 43_200 + 60_000_000 // 500
    million = Decimal(1_000_000)
    assert found["updates of records"] == Decimal("18.75")
    assert found["index of open records"] == 0
    assert found["the monitor's own items"] == 2 * calls * Decimal("0.625") / million
    assert found["statistics, in transactions"] == 2 * (settles + 518_400) * Decimal("0.625") / million
    assert found["marks of what was counted"] == Decimal("18.75")
    assert found["reads of marks by settle"] == Decimal("7.5")
    assert found["reads of positions and topology"] == (settles + calls) * Decimal("0.125") / million
    assert found["records stored"] == Decimal("0.25")
    assert found["marks stored, after 400 days"] == 18


def test_functions_by_hand() -> None:
    """Billed time is 20 ms a call and 2 ms an event at half a GB; set-up takes 5 s for each Region each hour."""
    found = lines(estimate(ALL, "EventBridge", "Scheduled", LIST))
    price = Decimal("0.0000133334")
    assert found["calls of process"] == Decimal("0.03264")
    assert found["time of process"] == (163_200 * Decimal("0.02") + 120_000) / 2 * price
    assert found["time of set-up"] == (Decimal("14.4") + 7_200) / 2 * price


def test_cloudwatch_by_hand() -> None:
    """Totals are 24 metrics with two accounts and two for each source bucket; of each of ten pairs there are 8 more."""
    volume = msgspec.structs.replace(ALL, pairs=10, destinations=2, accounts=2)
    found = lines(estimate(volume, "EventBridge", "Scheduled", LIST))
    assert (found["custom metrics"], found["alarms"]) == (34 * Decimal("0.3"), Decimal("3.2"))
    assert found["dashboard"] == 3
    each = lines(estimate(msgspec.structs.replace(volume, metrics="PerPair"), "EventBridge", "Scheduled", LIST))
    assert each["custom metrics"] == (34 + 80) * Decimal("0.3")


def test_asking_by_hand() -> None:
    """One of 100 copies is asked about, at the source and at the destination: 600,000 HEADs."""
    found = lines(estimate(ALL, "EventBridge", "Scheduled", LIST))
    price = Decimal("0.0000133334")
    assert found["HEADs of overdue copies"] == Decimal("0.24")
    assert found["time of reconcile"] == (8_640 * Decimal("1.02") + 12_000) / 2 * price
    assert found["time of watch"] == 8_640 * Decimal("1.02") / 2 * price


def test_archive_by_hand() -> None:
    """30 million rows of 750 bytes, and 4,250 bytes of rounding in each window, are taken and converted."""
    found = services(msgspec.structs.replace(ALL, archive=True), "EventBridge")
    sent = Decimal("22.5") + Decimal("0.00000425") * 518_400
    assert found["Firehose"] == sent * (Decimal("0.029") + Decimal("0.018"))
    without = services(ALL, "EventBridge")
    assert "Firehose" not in without
    assert found["CloudWatch"] - without["CloudWatch"] == 3 * Decimal("0.10")


def test_archive_of_a_row_now_and_then() -> None:
    """A row that is sent alone is billed as 5 KB, as every row of the original design is."""
    seldom = Volume(objects_per_day=100, same_batch_share=Decimal(1), archive=True)
    found = services(seldom, "EventBridge")
    assert found["Firehose"] == Decimal("0.000005") * 3_000 * (Decimal("0.029") + Decimal("0.018"))


def test_one_region_transfers_nothing() -> None:
    """Messages about replicas cost data transfer only where there is more than one Region."""
    assert services(ALL, "CloudTrail")["Data transfer"] == Decimal("1.5")
    assert "Data transfer" not in services(msgspec.structs.replace(ALL, regions=1), "CloudTrail")


def test_rtc_by_hand() -> None:
    """30 million copies of a megabyte are 30,000 GB at 0.015, and 4 metrics of each pair at 0.30."""
    found = others(msgspec.structs.replace(ALL, pairs=10))
    assert found["S3 RTC"].total == 450 + 12
    assert found["S3 metrics"].total == 12


def test_original_by_hand() -> None:
    """The original scans a million records 8,640 times a month, half a unit for each 4 KB: that is 65.92 USD."""
    found = lines(others(ALL)["original design"])
    assert round(found["scans of the table every five minutes"], 2) == Decimal("65.92")
    assert found["HEADs of objects"] == 12


def test_ours_is_below_the_original() -> None:
    """With the same source of events the deployment costs less than the original design."""
    assert estimate(ALL, "CloudTrail", "Scheduled", LIST).total < others(ALL)["original design"].total


@given(volumes(), DEPLOYMENTS)
def test_never_negative(volume: Volume, at: Deployment) -> None:
    """No line of any estimate is negative."""
    for found in (estimate(volume, at.source, at.mode, LIST), *compared(volume, LIST)):
        assert min(line.usd for line in found.lines) >= 0


@given(volumes(), DEPLOYMENTS)
def test_services_sum_up(volume: Volume, at: Deployment) -> None:
    """The services of an estimate are known ones, in their order, and sum up to its total."""
    found = estimate(volume, at.source, at.mode, LIST)
    assert list(found.by_service()) == [name for name in SERVICES if name in found.by_service()]
    assert round(sum(found.by_service().values()), 12) == round(found.total, 12)


@given(volumes(), DEPLOYMENTS)
def test_linear_beyond_the_fixed_part(volume: Volume, at: Deployment) -> None:
    """Once there are changes in every window of every pair, as many objects more always cost as much more."""
    full = SETTLE_WINDOWS * volume.pairs // 30 + 1
    step = volume.objects_per_day
    first, second, third = (
        estimate(msgspec.structs.replace(volume, objects_per_day=full + times * step), at.source, at.mode, LIST).total
        for times in (0, 1, 2)
    )
    assert round(second - first, 9) == round(third - second, 9)


@given(volumes(), DEPLOYMENTS)
def test_more_objects_never_cost_less(volume: Volume, at: Deployment) -> None:
    """More objects cost at least as much, and twice as many at most twice as much."""
    twice = msgspec.structs.replace(volume, objects_per_day=2 * volume.objects_per_day)
    found = (lines(estimate(one, at.source, at.mode, LIST)) for one in (volume, twice))
    for before, after in zip(*(one.values() for one in found), strict=True):
        assert before <= after <= 2 * before or round(after - 2 * before, 9) == 0


@given(volumes(), DEPLOYMENTS, st.sampled_from(PRICES), st.integers(0, 10))
def test_price_changes_its_lines_only(volume: Volume, at: Deployment, price: Any, usd: int) -> None:  # noqa: ANN401 - a price
    """An overridden price changes the lines that name it, to the new price, and no other line."""
    prices = parse_prices(f"[{price.name}]\nusd = {usd}\n")
    before, after = (estimate(volume, at.source, at.mode, one).lines for one in (LIST, prices))
    for old, new in zip(before, after, strict=True):
        own = old.usage.price == price.name
        assert new.usage == old.usage
        assert new.usd == (usd * old.usage.quantity / price.per if own else old.usd)
