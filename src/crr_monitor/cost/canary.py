"""What canaries use in a month: tiny objects, but each is written, replicated, listed and removed, and has its events.

Counted for pairs with one destination each, in two Regions. Removing a version is free (Amazon S3 pricing).
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from crr_monitor.cost.calls import (
    CALL_LOG_BYTES,
    CALL_SECONDS,
    EVENT_SECONDS,
    GB,
    MEMORY_GB,
    MINUTES,
    SOURCES,
    SQS_BATCH,
    Usage,
)
from crr_monitor.cost.prices import PriceList
from crr_monitor.cost.repair import quote

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crr_monitor.cost.calls import Source

EVERY_MINUTES = 5
"""The default of ``CanarySchedule``."""
PUTS = 4
"""Requests of each canary at that price: the write, the replica, and a list of versions in each of the two buckets."""
EVENTS: dict[Source, int] = {"CloudTrail": 4, "EventBridge": 4, "S3Notifications": 4}
"""Of each canary: the write, the replica, and both removals."""
LOCK_QUESTIONS = 2 * MINUTES // 60
"""Each bucket is asked about its Object Lock once in an hour."""
UPDATES = 3
"""Of its record, at most: the write, the replica, and the removal at the source."""
CALLS_SECONDS = Decimal("0.5")
"""Of the function, for some five calls of S3, across Regions."""
ALARMS = 2
"""Of the canary function; that a canary is late is one of the hub's own alarms."""


def canary_usages(pairs: int, source: Source, minutes: int = EVERY_MINUTES) -> Iterator[Usage]:
    """What so many pairs with a canary use, each written every ``minutes``; nothing where there are none."""
    if not pairs:
        return
    runs = Decimal(MINUTES) / minutes
    canaries = runs * pairs
    events = canaries * EVENTS[source]
    if source == "CloudTrail":
        yield Usage("CloudTrail", "data events of canaries", "cloudtrail_data_event", events)
    if source != "S3Notifications":
        price = "eventbridge_cloudtrail_event" if source == "CloudTrail" else "eventbridge_s3_event"
        yield Usage("EventBridge", "events of canaries", price, events)
    yield Usage("SNS", "messages about canaries", "sns_publish", events)
    yield Usage("SQS", "messages about canaries", "sqs_request", events + 2 * events / SQS_BATCH)
    yield Usage("Lambda", "calls of canary", "lambda_request", runs)
    seconds = runs * CALL_SECONDS + canaries * CALLS_SECONDS + 2 * events * EVENT_SECONDS
    yield Usage("Lambda", "time of canary", "lambda_gb_second", seconds * MEMORY_GB)
    # The note of what arrived is written at each run.
    yield Usage("DynamoDB", "records of canaries", "dynamodb_write", canaries * UPDATES + runs)
    yield Usage("DynamoDB", "reads of canaries", "dynamodb_read", 2 * canaries + 2 * runs)
    yield Usage("S3", "writes, replicas and lists of canaries", "s3_put", canaries * PUTS)
    yield Usage("S3", "questions about Object Lock", "s3_get", Decimal(LOCK_QUESTIONS * pairs))
    yield Usage("CloudWatch", "alarms of the canary function", "cloudwatch_alarm", Decimal(ALARMS))
    yield Usage("CloudWatch", "log of the canary function", "cloudwatch_log_gb", runs * CALL_LOG_BYTES / GB)


def cost_told(pairs: str, source: str) -> str:
    """What the canaries of some pairs (as the template's ``CanaryPairs`` has them) cost in a month, in words.

    Where no source of events is named, the dearest is taken.
    """
    number = sum(bool(each.strip()) for each in pairs.split(","))
    quotes = [quote(canary_usages(number, each), PriceList()) for each in SOURCES if source in {each, ""}]
    told = max(quotes, key=lambda each: each.usd)
    return (
        f"  canaries of {number} pairs: about ${told.usd:.2f} in a month, written every {EVERY_MINUTES} minutes to one"
        f" destination each (list prices of us-east-1, {told.as_of}; `crr-monitor cost --canaries` has the details)"
    )
