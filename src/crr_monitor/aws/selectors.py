"""Which events a trail logs.

The advanced selectors that this stack's own trail needs, and what other trails log anyway.

CloudTrail User Guide, "Logging data events" and "Quotas": at most 500 values over all of a trail's selectors, five
trails per Region, and PutEventSelectors replaces everything. A trail that is not ours is only looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from crr_monitor.aws.patterns import OBJECT_EVENTS, READS, SESSION, dump

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from crr_monitor.aws.plan_model import Stack, Watched

MAX_VALUES = 500
TRAILS_PER_REGION = 5
FIXED_VALUES = 2 + len(OBJECT_EVENTS)
MAX_ARNS = MAX_VALUES - FIXED_VALUES
"""What is left for buckets and prefixes after category, resource type and event names."""

READ_VALUES = 3
"""What the selector of reads takes besides the names: category, resource type and session, however many buckets."""

OBJECT = "AWS::S3::Object"
SELECTOR_NAME = "Writes to replicated buckets"
READS_NAME = "Reads of the replication service"


class TooManyError(Exception):
    """The trail cannot take all buckets; the text says what to do."""


class Trail(Struct, frozen=True):
    """A trail as its account sees it. ``selectors`` is ``None`` where they could not be asked."""

    arn: str
    logging: bool
    region: str
    multi_region: bool
    selectors: tuple[Mapping[str, Any], ...] | None = ()


def most_arns(reads: Sequence[str] = ()) -> int:
    """How many buckets and prefixes one trail takes beside the selector of ``reads``."""
    return MAX_ARNS - (READ_VALUES + len(reads) if reads else 0)


def reads_selector(reads: Sequence[str]) -> dict[str, Any]:
    """The selector of the replication service's reads, by the name of its session, which hardly anybody else uses.

    It names neither roles nor buckets: so none is missed when replication rules change, and it takes few values.
    """
    return {
        "Name": READS_NAME,
        "FieldSelectors": [
            {"Field": "eventCategory", "Equals": ["Data"]},
            {"Field": "resources.type", "Equals": [OBJECT]},
            {"Field": "eventName", "Equals": list(reads)},
            {"Field": "userIdentity.arn", "EndsWith": [f"/{SESSION}"]},
        ],
    }


def trail_selectors(
    partition: str, watched: Iterable[Watched], placeholder: str, reads: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """The selectors of our own trail.

    ``placeholder`` is a prefix where nothing is, for a trail has to select something. ``reads`` are the names of the
    replication service's reads that are logged, too.

    By prefix where the rules have one, as every logged event costs; by bucket where there are too many prefixes.

    Raises:
        TooManyError: there are more buckets than a trail takes.
    """
    watched = list(watched)
    arns = sorted(f"{each.bucket}/{prefix}" for each in watched for prefix in each.prefixes)
    most = most_arns(reads)
    if len(arns) > most:
        arns = sorted(f"{each.bucket}/" for each in watched)
    if len(arns) > most:
        raise TooManyError(_too_many(len(arns), most))
    writes = [
        {
            "Name": SELECTOR_NAME,
            "FieldSelectors": [
                {"Field": "eventCategory", "Equals": ["Data"]},
                {"Field": "resources.type", "Equals": [OBJECT]},
                {"Field": "eventName", "Equals": list(OBJECT_EVENTS)},
                {
                    "Field": "resources.ARN",
                    "StartsWith": [f"arn:{partition}:s3:::{arn}" for arn in arns or [placeholder]],
                },
            ],
        }
    ]
    return [*writes, reads_selector(reads)] if reads else writes


def _too_many(buckets: int, most: int) -> str:
    taken = f", of which DeniedReads takes {MAX_ARNS - most}" if most < MAX_ARNS else ""
    without = f"set DeniedReads to No, which leaves room for {MAX_ARNS}; or " if most < buckets <= MAX_ARNS else ""
    return (
        f"{buckets} replicated buckets are more than the {most} that one trail can select (CloudTrail allows "
        f"{MAX_VALUES} values{taken}): {without}choose EventSource EventBridge, which has no such limit; or Trail "
        "Existing with a trail that logs the data events of all buckets"
    )


def canonical(selectors: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Selectors as :func:`trail_selectors` writes them, from CloudTrail's answer: sorted values, no empty parts."""
    return [
        {
            "Name": selector.get("Name", ""),
            "FieldSelectors": [_field(field) for field in selector.get("FieldSelectors", [])],
        }
        for selector in selectors
    ]


def _field(field: Mapping[str, Any]) -> dict[str, Any]:
    name = field["Field"]
    told = {test: _sorted(name, values) for test, values in field.items() if test != "Field" and values}
    return {"Field": name, **told}


def _sorted(field: str, values: Iterable[str]) -> list[str]:
    return list(OBJECT_EVENTS) if field == "eventName" and {*values} == {*OBJECT_EVENTS} else sorted(values)


_TESTS: dict[str, Callable[[str, str], bool]] = {
    "Equals": str.__eq__,
    "StartsWith": str.startswith,
    "EndsWith": str.endswith,
}


def _accepts(field: Mapping[str, Any], value: str) -> bool:
    for name, test in _TESTS.items():
        if field.get(name) and not any(test(value, wanted) for wanted in field[name]):
            return False
        if field.get(f"Not{name}") and any(test(value, wanted) for wanted in field[f"Not{name}"]):
            return False
    return True


def _selects(selector: Mapping[str, Any], event: Mapping[str, str]) -> bool:
    """Whether one selector, of either form, takes an event.

    A field that the event does not tell is no reason to take it.
    """
    if "FieldSelectors" in selector:
        return all(
            field["Field"] in event and _accepts(field, event[field["Field"]]) for field in selector["FieldSelectors"]
        )
    if selector.get("ReadWriteType", "All") == ("WriteOnly" if event["readOnly"] == "true" else "ReadOnly"):
        return False
    if event["eventCategory"] == "Management":
        return bool(selector.get("IncludeManagementEvents", True))
    return any(
        # Basic selectors name all buckets by the ARN's beginning alone (arn:aws:s3), one bucket with a closing slash.
        resource["Type"] == event["resources.type"]
        and any(event["resources.ARN"].startswith(v) for v in resource["Values"])
        for resource in selector.get("DataResources", [])
    )


def _logs(trail: Trail, region: str, events: Iterable[Mapping[str, str]]) -> bool:
    if not trail.logging or trail.selectors is None or not (trail.multi_region or trail.region == region):
        return False
    selectors = trail.selectors
    return all(any(_selects(selector, event) for selector in selectors) for event in events)


def _writes(partition: str, each: Watched) -> list[dict[str, str]]:
    return [
        {
            "eventCategory": "Data",
            "eventSource": "s3.amazonaws.com",
            "resources.type": OBJECT,
            "resources.ARN": f"arn:{partition}:s3:::{each.bucket}/{prefix}",
            "eventName": name,
            "readOnly": "false",
        }
        for prefix in each.prefixes
        for name in OBJECT_EVENTS
        if name != "PostObject"  # rare, and left out of many selectors by name
    ]


def uncovered(partition: str, watched: Iterable[Watched], trails: Sequence[Trail]) -> tuple[str, ...]:
    """The buckets whose writes none of the trails logs completely."""
    return tuple(
        each.bucket
        for each in watched
        if not any(_logs(trail, each.region, _writes(partition, each)) for trail in trails)
    )


def uncovered_reads(
    account: str, partition: str, watched: Iterable[Watched], trails: Sequence[Trail], reads: Sequence[str]
) -> tuple[str, ...]:
    """The source buckets of which no trail is known to log these reads of the replication service.

    The role of a rule is not known here, so a selector that names one is not taken for one that logs them.
    """
    return tuple(
        each.bucket
        for each in watched
        if each.source
        and not any(_logs(trail, each.region, _reads(account, partition, each, reads)) for trail in trails)
    )


def lacking_reads(stack: Stack, watched: Iterable[Watched], trails: Sequence[Trail]) -> list[str]:
    """What trails of somebody else's lack for ``DeniedReads``, in words; it is no reason to wait for anything."""
    reads = READS[stack.denied_reads]
    unread = uncovered_reads(stack.account, stack.partition, watched, trails, reads) if reads else ()
    if not unread:
        return []
    what = f"DeniedReads {stack.denied_reads}: no trail is known to log the replication service's reads of"
    return [f"{what} {', '.join(unread)}; in a trail there this selector does so: {dump(reads_selector(reads))}"]


def _reads(account: str, partition: str, each: Watched, reads: Sequence[str]) -> list[dict[str, str]]:
    return [
        {
            "eventCategory": "Data",
            "eventSource": "s3.amazonaws.com",
            "resources.type": OBJECT,
            "resources.ARN": f"arn:{partition}:s3:::{each.bucket}/{prefix}",
            "eventName": name,
            "readOnly": "true",
            "userIdentity.arn": f"arn:{partition}:sts::{account}:assumed-role/?/{SESSION}",
        }
        for prefix in each.prefixes
        for name in reads
    ]


def without_management_events(regions: Iterable[str], trails: Sequence[Trail]) -> tuple[str, ...]:
    """The Regions in which no trail logs a change of replication rules.

    Such a change is noticed by the next hourly run.
    """
    event = {
        "eventCategory": "Management",
        "eventSource": "s3.amazonaws.com",
        "eventName": "PutBucketReplication",
        "readOnly": "false",
    }
    return tuple(region for region in sorted(regions) if not any(_logs(trail, region, [event]) for trail in trails))


def room_for_trail(trails: Sequence[Trail], regions: Iterable[str]) -> tuple[str, ...]:
    """Why another multi-Region trail cannot be made: the Regions that have five trails. Empty: there is room."""
    full = [
        region
        for region in sorted(regions)
        if sum(trail.multi_region or trail.region == region for trail in trails) >= TRAILS_PER_REGION
    ]
    return tuple(
        f"{region} has {TRAILS_PER_REGION} trails, which is all that CloudTrail allows: choose Trail Existing, remove "
        "a trail, or choose EventSource EventBridge"
        for region in full
    )
