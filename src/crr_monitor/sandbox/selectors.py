"""Whether a trail logs an API call, by its basic or advanced event selectors.

CloudTrail User Guide, "Logging data events".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAX_VALUES = 500
"""CloudTrail User Guide, "Quotas": conditions over all advanced event selectors of a trail."""

MAX_RESOURCES = 250
"""The same page: data resources over all basic event selectors of a trail."""

MAX_TRAILS = 5
"""The same page: trails per Region."""


@dataclass(frozen=True)
class Call:
    """What selectors look at: one API call, a data event on an object (``arn``) or a management event."""

    name: str
    arn: str
    read_only: bool
    data: bool
    user_arn: str = ""

    @property
    def facts(self) -> dict[str, str]:
        """The fields that an advanced selector can name."""
        facts = {
            "eventCategory": "Data" if self.data else "Management",
            "eventName": self.name,
            "readOnly": "true" if self.read_only else "false",
            "eventSource": "s3.amazonaws.com",
            "eventType": "AwsApiCall",
            "userIdentity.arn": self.user_arn,
        }
        if self.data:
            facts |= {"resources.type": "AWS::S3::Object", "resources.ARN": self.arn}
        return facts


def _field_matches(condition: Mapping[str, Any], value: str) -> bool:
    """One field: any positive operator holds (if there is one), and no negative one is broken."""
    positive = [
        value in condition.get("Equals", ()),
        any(value.startswith(start) for start in condition.get("StartsWith") or ()),
        any(value.endswith(end) for end in condition.get("EndsWith") or ()),
    ]
    negative = [
        value in (condition.get("NotEquals") or ()),
        any(value.startswith(start) for start in condition.get("NotStartsWith") or ()),
        any(value.endswith(end) for end in condition.get("NotEndsWith") or ()),
    ]
    asked = any(condition.get(name) for name in ("Equals", "StartsWith", "EndsWith"))
    return (any(positive) or not asked) and not any(negative)


def _advanced(selector: Mapping[str, Any], call: Call) -> bool:
    facts = call.facts
    return all(
        condition["Field"] in facts and _field_matches(condition, facts[condition["Field"]])
        for condition in selector["FieldSelectors"]
    )


def _basic(selector: Mapping[str, Any], call: Call) -> bool:
    kind = selector.get("ReadWriteType", "All")
    if kind != "All" and (kind == "ReadOnly") != call.read_only:
        return False
    if not call.data:
        return bool(selector.get("IncludeManagementEvents", True))
    values = [
        value
        for resource in selector.get("DataResources") or ()
        if resource.get("Type") == "AWS::S3::Object"
        for value in resource.get("Values") or ()
    ]
    # "arn:aws:s3" logs all buckets; "bucket/" all its objects, "bucket/prefix" those that start so.
    return any(value in {"arn:aws:s3", "arn:aws:s3:::"} or call.arn.startswith(value) for value in values)


def logged(selectors: Sequence[Mapping[str, Any]], call: Call) -> bool:
    """Whether any of a trail's selectors takes the call."""
    return any((_advanced if "FieldSelectors" in selector else _basic)(selector, call) for selector in selectors)


_OPERATORS = ("Equals", "StartsWith", "EndsWith", "NotEquals", "NotStartsWith", "NotEndsWith")


def excess(basic: Sequence[Mapping[str, Any]] | None, advanced: Sequence[Mapping[str, Any]] | None) -> str | None:
    """Why CloudTrail refuses the selectors (its quotas), or ``None``."""
    values = sum(
        len(condition.get(operator) or ())
        for selector in advanced or ()
        for condition in selector.get("FieldSelectors", ())
        for operator in _OPERATORS
    )
    if values > MAX_VALUES:
        return (
            f"The total number of values across the advanced event selectors is {values}, the maximum is {MAX_VALUES}."
        )
    resources = sum(
        len(resource.get("Values") or ())
        for selector in basic or ()
        for resource in selector.get("DataResources") or ()
    )
    if resources > MAX_RESOURCES:
        return f"The trail has {resources} data resources, the maximum is {MAX_RESOURCES}."
    return None
