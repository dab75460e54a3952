"""From usage and prices to what a month costs, by service and in all."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from msgspec import Struct

from crr_monitor.cost.calls import (
    Mode,
    Source,
    Usage,
    Volume,
    metrics_usages,
    original_usages,
    rtc_usages,
    usages,
)
from crr_monitor.cost.canary import canary_usages
from crr_monitor.cost.denied_reads import reads_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from crr_monitor.cost.prices import PriceList

ORIGINAL = "original design"
RTC = "S3 RTC"
S3_METRICS = "S3 metrics"

SERVICES = (
    *("CloudTrail", "EventBridge", "SNS", "SQS", "Lambda", "DynamoDB", "CloudWatch", "Firehose", "S3"),
    "Data transfer",
)
"""In the order of an event's way."""


class Line(Struct, frozen=True):
    """What one usage costs."""

    usage: Usage
    usd: Decimal


class Estimate(Struct, frozen=True):
    """What a month costs: of an event source, or of something that it is compared with."""

    name: str
    lines: tuple[Line, ...]

    @property
    def total(self) -> Decimal:
        """USD in a month."""
        return sum((line.usd for line in self.lines), Decimal(0))

    def by_service(self) -> dict[str, Decimal]:
        """USD in a month of each service that is used."""
        found: dict[str, Decimal] = {}
        for line in sorted(self.lines, key=lambda line: SERVICES.index(line.usage.service)):
            found[line.usage.service] = found.get(line.usage.service, Decimal(0)) + line.usd
        return found


def _estimate(name: str, used: Iterable[Usage], prices: PriceList) -> Estimate:
    lines = (Line(usage, prices[usage.price].cost(usage.quantity)) for usage in used)
    return Estimate(name, tuple(sorted(lines, key=lambda line: SERVICES.index(line.usage.service))))


def estimate(volume: Volume, source: Source, mode: Mode, prices: PriceList) -> Estimate:
    """What the deployment costs in a month with one event source."""
    used = [*usages(volume, source, mode), *reads_of(volume, source), *canary_usages(volume.canaries, source)]
    return _estimate(source, used, prices)


def compared(volume: Volume, prices: PriceList) -> list[Estimate]:
    """What the original design, S3's replication metrics, and S3 RTC (with those metrics) cost in a month."""
    return [
        _estimate(ORIGINAL, original_usages(volume), prices),
        _estimate(S3_METRICS, metrics_usages(volume), prices),
        _estimate(RTC, rtc_usages(volume), prices),
    ]
