"""What one S3 Batch Replication job would cost, and what S3's own replication metrics cost in a month."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from msgspec import Struct

from crr_monitor.cost.calls import GB, RTC_METRICS, Usage
from crr_monitor.cost.prices import UNDATED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from crr_monitor.cost.prices import PriceList


class Quote(Struct, frozen=True):
    """A sum in USD, and as of when its prices are known: the earliest, or that some are not dated."""

    usd: Decimal
    as_of: str


def repair_usages(versions: int, copies: int, size: int) -> list[Usage]:
    """What one job over so many versions uses; ``size`` are the bytes of all ``copies`` that it has to make."""
    return [
        Usage("S3", "the batch job", "s3_batch_job", Decimal(1)),
        Usage("S3", "versions in it", "s3_batch_object", Decimal(versions)),
        Usage("S3", "requests at the destinations", "s3_put", Decimal(copies)),
        Usage("S3", "data to another Region", "transfer_gb", Decimal(size) / GB),
    ]


def failure_event_usages(rules: int) -> list[Usage]:
    """What S3's replication metrics for so many rules use in a month; the events themselves are free."""
    return [Usage("CloudWatch", "S3's replication metrics", "cloudwatch_metric", Decimal(RTC_METRICS * rules))]


def quote(usages: Iterable[Usage], prices: PriceList) -> Quote:
    """The sum of usages, with its date."""
    usages = list(usages)
    dates = sorted({prices[usage.price].as_of for usage in usages})
    undated = [date for date in dates if date == UNDATED]
    return Quote(sum((prices[usage.price].cost(usage.quantity) for usage in usages), Decimal()), (undated or dates)[0])
