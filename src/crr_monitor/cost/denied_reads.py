"""What ``DeniedReads`` costs: every read by which S3 replicates is a data event, and nearly all of them succeed."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from crr_monitor.cost.calls import DAYS, GB, TRAIL_BYTES, DeniedReads, Usage
from crr_monitor.cost.prices import PriceList
from crr_monitor.cost.repair import quote

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crr_monitor.cost.calls import Source, Volume

READS: dict[DeniedReads, int] = {"No": 0, "Objects": 1, "All": 3}
"""Assumed for each copy, from captured records: GetObject, and with ``All`` also GetObjectAcl and GetObjectTagging."""

MILLION = Decimal(1_000_000)


def reads_usages(copies: Decimal, detail: DeniedReads) -> Iterator[Usage]:
    """What the reads of so many copies in a month use. Those that succeed end at the trail: no rule takes them."""
    if detail == "No":
        return
    reads = copies * READS[detail]
    yield Usage("CloudTrail", "data events of reads", "cloudtrail_data_event", reads)
    yield Usage("EventBridge", "events of reads", "eventbridge_cloudtrail_event", reads)
    yield Usage("S3", "trail's log files of reads, kept a day", "s3_storage", reads / DAYS * TRAIL_BYTES / GB)


def reads_of(volume: Volume, source: Source) -> Iterator[Usage]:
    """The reads of a volume; only CloudTrail tells of any."""
    if source == "CloudTrail":
        yield from reads_usages(volume.copies, volume.denied_reads)


def reads_told(detail: DeniedReads) -> str:
    """What reads cost for a million copies, in words, before they are switched on."""
    told = quote(reads_usages(MILLION, detail), PriceList())
    return (
        f"  reads of S3 Replication in the trail: about ${told.usd:.2f} for each million copies (list prices of"
        f" us-east-1, {told.as_of}; `crr-monitor cost --denied-reads {detail}` has the details)"
    )
