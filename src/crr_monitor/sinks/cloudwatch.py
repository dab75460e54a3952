"""Points to CloudWatch: values with their counts, so that its percentiles are those of all copies.

CloudWatch API Reference, ``PutMetricData`` and ``MetricDatum``: at most 150 different values in a datum, 1,000 data and
1 MB in a call. A call is taken or refused as a whole; what is refused keeps back only what is in the same call.
"""

from __future__ import annotations

import importlib
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

from crr_monitor.core.times import SECOND_MS
from crr_monitor.sinks.metrics import NAMESPACE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from crr_monitor.sinks.points import Point

VALUES = 150
DATA = 1_000
CALL_BYTES = 800_000
"""A little less than a call takes, as sizes are estimated."""

_DATUM_BYTES, _NAME_BYTES, _VALUE_BYTES = 300, 400, 110
"""Of the form-encoded request: a datum, each of its dimensions (without the value's own length), each value's count."""

OPTIONS: dict[str, Any] = {
    # Standard mode backs off with jitter on throttling.
    "retries": {"mode": "standard", "max_attempts": 5},
    "connect_timeout": 3,
    "read_timeout": 10,
}
"""For botocore's ``Config``."""

_HINTS = {
    "AccessDenied": "allow cloudwatch:PutMetricData for this namespace to the function's role",
    "AccessDeniedException": "allow cloudwatch:PutMetricData for this namespace to the function's role",
    "Throttling": "it stayed throttled through all retries: ask AWS for a higher quota of PutMetricData",
    "ThrottlingException": "it stayed throttled through all retries: ask AWS for a higher quota of PutMetricData",
}


class Client(Protocol):
    """The part of boto3's CloudWatch client that is used."""

    def put_metric_data(self, **request: Any) -> Any: ...  # noqa: ANN401, D102


class PublishError(Exception):
    """Some points are lost; the text says how many, why, and what to do. Alarms on missing data notice, too."""


def publish(client: Client, points: Iterable[Point], at: int, namespace: str = NAMESPACE) -> int:
    """Send points of one moment (milliseconds) into a namespace; gives the number of data sent.

    Raises:
        PublishError: a call was refused, or got no answer. The other calls were made all the same.
    """
    sdk = importlib.import_module("botocore.exceptions")
    sent = lost = 0
    reasons: list[str] = []
    for group in _calls(_data(points, at)):
        try:
            client.put_metric_data(Namespace=namespace, MetricData=group)
        except sdk.ClientError as error:
            told = error.response.get("Error", {})
            code = told.get("Code", "")
            hint = f" ({_HINTS[code]})" if code in _HINTS else ""
            reasons.append(f"{code}: {told.get('Message') or code}{hint}")
            lost += len(group)
        except sdk.BotoCoreError as error:
            reasons.append(f"{error} (check the network and the Region)")
            lost += len(group)
        else:
            sent += len(group)
    if reasons:
        message = f"{lost} of {lost + sent} metric data could not be published: {reasons[0]}"
        raise PublishError(message)
    return sent


def _data(points: Iterable[Point], at: int) -> Iterator[dict[str, Any]]:
    moment = datetime.fromtimestamp(at / SECOND_MS, UTC)
    for point in points:
        head: dict[str, Any] = {"MetricName": point.metric.name, "Unit": point.metric.unit, "Timestamp": moment}
        if point.names:
            head["Dimensions"] = [{"Name": name, "Value": value} for name, value in point.names]
        values = iter(sorted(point.values.items()))
        while some := list(islice(values, VALUES)):
            yield {**head, "Values": [value for value, _ in some], "Counts": [float(count) for _, count in some]}


def _calls(data: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Data in groups that one call takes."""
    group: list[dict[str, Any]] = []
    size = 0
    for datum in data:
        more = _size(datum)
        if group and (len(group) == DATA or size + more > CALL_BYTES):
            yield group
            group, size = [], 0
        group.append(datum)
        size += more
    if group:
        yield group


def _size(datum: dict[str, Any]) -> int:
    names = sum(_NAME_BYTES + len(each["Value"]) for each in datum.get("Dimensions", []))
    return _DATUM_BYTES + names + _VALUE_BYTES * len(datum["Values"])
