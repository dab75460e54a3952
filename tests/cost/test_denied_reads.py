"""What it costs that reads at the source are logged: each copy is read, and each read is a data event."""

from __future__ import annotations

import pytest

from crr_monitor.aws.patterns import READS as LOGGED
from crr_monitor.cost.calls import DENIED_READS, DeniedReads, Volume
from crr_monitor.cost.denied_reads import READS, reads_of, reads_told
from crr_monitor.cost.estimate import estimate
from crr_monitor.cost.prices import PriceList

PRICES = PriceList()


@pytest.mark.parametrize(("detail", "reads"), [("No", 0), ("Objects", 60), ("All", 180)])
def test_each_copy_is_read(detail: DeniedReads, reads: int) -> None:
    """An object a day with two destinations is read twice a day, with ``All`` by three calls each."""
    volume = Volume(objects_per_day=1, destinations=2, pairs=2, denied_reads=detail)
    found = {each.what: each.quantity for each in reads_of(volume, "CloudTrail")}
    assert found.get("data events of reads", 0) == reads
    assert [*reads_of(volume, "EventBridge"), *reads_of(volume, "S3Notifications")] == []


@pytest.mark.parametrize("detail", ["Objects", "All"])
def test_part_of_the_estimate(detail: DeniedReads) -> None:
    """The estimate is dearer by just what reads use: with one destination 0.5 or 1.5 times as many data events more."""
    plain, more = (
        estimate(Volume(objects_per_day=10_000, denied_reads=each), "CloudTrail", "Scheduled", PRICES)
        for each in (DENIED_READS[0], detail)
    )
    usages = reads_of(Volume(objects_per_day=10_000, denied_reads=detail), "CloudTrail")
    assert more.total - plain.total == sum(PRICES[each.price].cost(each.quantity) for each in usages)
    events = {line.usage.what: line.usage.quantity for line in more.lines}
    assert events["data events of reads"] / events["data events"] == {"Objects": 0.5, "All": 1.5}[detail]


def test_told() -> None:
    """Told in words before reads are switched on: ten cents for a hundred thousand data events."""
    text = reads_told("All")
    assert text.startswith("  reads of S3 Replication in the trail: about $3.00 for each million copies (list prices")
    assert text.endswith("`crr-monitor cost --denied-reads All` has the details)")


@pytest.mark.parametrize("detail", DENIED_READS)
def test_no_more_is_counted_than_is_logged(detail: DeniedReads) -> None:
    """Of the reads that a trail logs some are rare, so not more are counted for each copy than there are names."""
    assert READS[detail] <= len(LOGGED[detail])
