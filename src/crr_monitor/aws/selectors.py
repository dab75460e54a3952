"""Which events a trail logs.

The advanced selectors that this stack's own trail needs, and what other trails log anyway.

CloudTrail User Guide, "Logging data events" and "Quotas": at most 500 values over all of a trail's selectors, five
trails per Region, and PutEventSelectors replaces everything. A trail that is not ours is only looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from crr_monitor.aws.patterns import OBJECT_EVENTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from crr_monitor.aws.plan_model import Watched

MAX_VALUES = 500
TRAILS_PER_REGION = 5
FIXED_VALUES = 2 + len(OBJECT_EVENTS)
MAX_ARNS = MAX_VALUES - FIXED_VALUES
"""What is left for buckets and prefixes after category, resource type and event names."""

OBJECT = "AWS::S3::Object"
SELECTOR_NAME = "Writes to replicated buckets"


class TooManyError(Exception):
    """The trail cannot take all buckets; the text says what to do."""


class Trail(Struct, frozen=True):
    """A trail as its account sees it. ``selectors`` is ``None`` where they could not be asked."""

    arn: str
    logging: bool
    region: str
    multi_region: bool
    selectors: tuple[Mapping[str, Any], ...] | None = ()


def trail_selectors(partition: str, watched: Iterable[Watched], placeholder: str) -> list[dict[str, Any]]:
    """The selectors of our own trail.

    ``placeholder`` is a prefix where nothing is, for a trail has to select something.

    By prefix where the rules have one, as every logged event costs; by bucket where there are too many prefixes.

    Raises:
        TooManyError: there are more buckets than a trail takes.
    """
    watched = list(watched)
    arns = sorted(f"{each.bucket}/{prefix}" for each in watched for prefix in each.prefixes)
    if len(arns) > MAX_ARNS:
        arns = sorted(f"{each.bucket}/" for each in watched)
    if len(arns) > MAX_ARNS:
        message = (
            f"{len(arns)} replicated buckets are more than the {MAX_ARNS} that one trail can select (CloudTrail allows "
            f"{MAX_VALUES} values): choose EventSource EventBridge, which has no such limit; or Trail Existing with "
            "a trail that logs the data events of all buckets"
        )
        raise TooManyError(message)
    return [
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
    if selector.get("ReadWriteType", "All") == "ReadOnly":
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
