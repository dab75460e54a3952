"""Dashboards and alarms: every metric they name is declared in code, with its dimensions, and tells somebody."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from crr_monitor import dashboards, templates
from crr_monitor.aws import bucket_alarms
from crr_monitor.sinks import metrics
from tests.aws.making import stack
from tools import permissions

if TYPE_CHECKING:
    from collections.abc import Iterator

HUB = permissions.load(templates.text(templates.HUB))
RESOURCES = HUB["Resources"]
NAMESPACE = {"Ref": "MetricsNamespace"}
ALARMS = {
    name: {**each["Properties"], "Namespace": metrics.NAMESPACE}
    if each["Properties"]["Namespace"] == NAMESPACE
    else each["Properties"]
    for name, each in RESOURCES.items()
    if each["Type"] == "AWS::CloudWatch::Alarm"
}
"""With the namespace that metrics have unless somebody says otherwise."""
FUNCTIONS = {name for name, each in RESOURCES.items() if each["Type"] == "AWS::Lambda::Function"}
TOPIC = [{"Fn::If": ["HasAlarmTopic", {"Ref": "AlarmTopicArn"}, {"Ref": "NotificationTopic"}]}]


def dashboard() -> dict[str, Any]:
    """The CloudWatch dashboard's body; numbers that CloudFormation puts in are 1."""
    text = RESOURCES["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"][0]
    text = text.replace("${MetricsNamespace}", metrics.NAMESPACE)
    body: dict[str, Any] = json.loads(re.sub(r": \$\{\w+\}", ": 1", text))
    return body


def shown() -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Namespace, name and dimensions of every metric on the CloudWatch dashboard, those of searches included."""
    for widget in dashboard()["widgets"]:
        for entry in widget["properties"].get("metrics", []):
            names = [each for each in entry if isinstance(each, str)]
            if names:
                yield names[0], names[1], tuple(names[2::2])
            else:
                found = re.fullmatch(r"SEARCH\('\{(\w+),([\w,]+)\} MetricName=\"(\w+)\"', .*\)", entry[0]["expression"])
                assert found is not None
                yield found[1], found[3], tuple(found[2].split(","))


def alarmed() -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """The same of every alarm, those included that set-up makes for each bucket."""
    (of_bucket,) = bucket_alarms.wanted(stack(), ["orders"], "topic", metrics.NAMESPACE).values()
    for alarm in [*ALARMS.values(), of_bucket]:
        yield alarm["Namespace"], alarm["MetricName"], tuple(each["Name"] for each in alarm.get("Dimensions", []))


@pytest.mark.parametrize("used", sorted({*shown(), *alarmed()}), ids=lambda used: f"{used[1]}-{'-'.join(used[2])}")
def test_metric_is_declared(used: tuple[str, str, tuple[str, ...]]) -> None:
    """Namespace, name and dimensions are as declared, also with totals only: so it is there in every stack."""
    namespace, name, dimensions = used
    if namespace == metrics.NAMESPACE:
        assert dimensions in metrics.BY_NAME[name].dimensions("Totals")
    else:
        assert metrics.AWS_METRICS[namespace, name] == dimensions


def test_every_metric_is_shown() -> None:
    """What is published is on the dashboard, and what is declared of AWS's metrics is used."""
    used = {(namespace, name) for namespace, name, _ in [*shown(), *alarmed()]}
    assert {name for namespace, name, _ in shown() if namespace == metrics.NAMESPACE} == metrics.BY_NAME.keys()
    assert {each for each in used if each[0] != metrics.NAMESPACE} == metrics.AWS_METRICS.keys()


def test_statistics_fit() -> None:
    """Percentiles are taken of values, sums of events; of how it is, the highest counts."""
    allowed = {"events": {"Sum"}, "values": {"p10", "p50", "p90", "p99", "Maximum"}, "gauge": {"Maximum", "Minimum"}}
    for name, alarm in ALARMS.items():
        if alarm["Namespace"] == metrics.NAMESPACE and name != "WatchSilentAlarm":
            kind = metrics.BY_NAME[alarm["MetricName"]].kind
            assert (alarm.get("Statistic") or alarm["ExtendedStatistic"]) in allowed[kind], name


@pytest.mark.parametrize("name", ALARMS)
def test_alarm_tells_somebody(name: str) -> None:
    """Every alarm goes to the one topic, when it begins and when it ends, and says what missing data means for it."""
    assert ALARMS[name]["AlarmActions"] == ALARMS[name]["OKActions"] == TOPIC
    text = templates.text(templates.HUB)
    part = text[text.index(f"\n  {name}:\n") :]
    assert ALARMS[name]["TreatMissingData"] in {"breaching", "notBreaching", "ignore"}
    if ALARMS[name]["TreatMissingData"] != "notBreaching":
        assert re.search(r"TreatMissingData: \w+ # \w+", part), name


@pytest.mark.parametrize("metric", ["Errors", "Throttles"])
def test_every_function_is_watched(metric: str) -> None:
    """Every function has an alarm for its errors and one for being throttled."""
    watched = {
        each["Dimensions"][0]["Value"]["Ref"]
        for each in ALARMS.values()
        if (each["Namespace"], each["MetricName"]) == ("AWS/Lambda", metric)
    }
    assert watched == FUNCTIONS


def test_every_queue_that_gives_up_is_watched() -> None:
    """Every queue has an alarm."""
    queues = {name for name, each in RESOURCES.items() if each["Type"] == "AWS::SQS::Queue"}
    watched = {
        alarm["Dimensions"][0]["Value"]["Fn::GetAtt"][0] for alarm in ALARMS.values() if alarm["Namespace"] == "AWS/SQS"
    }
    assert watched == queues


def test_metrics_only_in_our_namespace() -> None:
    """Whoever may publish metrics may do so in the namespace of the code only."""
    for role in ("SettleRole", "WatchRole"):
        (policy,) = RESOURCES[role]["Properties"]["Policies"]
        (found,) = [each for each in policy["PolicyDocument"]["Statement"] if each.get("Sid") == "Publish"]
        assert found["Condition"] == {"StringEquals": {"cloudwatch:namespace": NAMESPACE}}
    assert HUB["Parameters"]["MetricsNamespace"]["Default"] == metrics.NAMESPACE


def test_namespace_is_written_once() -> None:
    """Every alarm, the dashboard and every role follow the parameter: none has the namespace written into it."""
    text = templates.text(templates.HUB)
    assert re.findall(rf"\b{metrics.NAMESPACE}\b(?!\w).*", text) == [metrics.NAMESPACE]


def test_names_of_bucket_alarms() -> None:
    """Set-up may make the alarms of the code's names, and no other."""
    (policy,) = RESOURCES["SetupRole"]["Properties"]["Policies"]
    (found,) = [each for each in policy["PolicyDocument"]["Statement"] if each.get("Sid") == "MakeBucketAlarms"]
    name = bucket_alarms.prefix(stack(token="${Token}", hub_token="${Token}"))  # noqa: S106 - parts of names
    assert found["Resource"]["Fn::Sub"][0].endswith(f":alarm:{name}*")


def test_widgets_do_not_overlap() -> None:
    """Widgets lie side by side within the dashboard's 24 columns."""
    taken: set[tuple[int, int]] = set()
    for widget in dashboard()["widgets"]:
        columns = range(widget["x"], widget["x"] + widget["width"])
        cells = {(x, y) for x in columns for y in range(widget["y"], widget["y"] + widget["height"])}
        assert not cells & taken
        assert columns.stop <= 24
        taken |= cells


# Grafana --------------------------------------------------------------------------------------------------------------


def queries(part: Any) -> Iterator[str]:  # noqa: ANN401 - any part of the dashboard
    """Every query of the Grafana dashboard."""
    if isinstance(part, dict):
        for name, value in part.items():
            if name == "expr" or (name in {"query", "definition"} and isinstance(value, str)):
                yield value
            else:
                yield from queries(value)
    elif isinstance(part, list):
        for each in part:
            yield from queries(each)


GRAFANA = json.loads(dashboards.text(dashboards.GRAFANA))
SUFFIXES = re.compile(r"_(total|bucket|count|sum)$")


def asked() -> set[tuple[str, str]]:
    """Every metric in a query, by the name it is declared with and as it is written."""
    names = {name for query in queries(GRAFANA) for name in re.findall(r"\bcrr_monitor_\w+", query)}
    return {(name if name in metrics.BY_OPEN_NAME else SUFFIXES.sub("", name), name) for name in names}


def test_grafana_metrics_are_declared() -> None:
    """Every metric of a query is in the exposition, under the name with the ending of its kind; and all are shown."""
    assert {name for name, _ in asked()} == metrics.BY_OPEN_NAME.keys()
    for name, written in asked():
        kind = metrics.BY_OPEN_NAME[name].kind
        ending = written.removeprefix(name)
        assert ending in {"events": {"_total"}, "values": {"_bucket", "_count", "_sum"}, "gauge": {""}}[kind], written


def test_grafana_labels_are_declared() -> None:
    """Labels in filters and groupings are those of the metrics beside them."""
    for query in queries(GRAFANA):
        names = {SUFFIXES.sub("", name) for name in re.findall(r"\bcrr_monitor_\w+", query)}
        known = {label for name in names if name in metrics.BY_OPEN_NAME for label in metrics.BY_OPEN_NAME[name].labels}
        used = set(re.findall(r"(\w+)=~?\"", query))
        used |= {label.strip() for group in re.findall(r"by \(([^)]*)\)", query) for label in group.split(",")}
        assert used - known <= {"le", "job", "instance"}, query


def test_grafana_panels() -> None:
    """Panels have titles, ids of their own, and places that do not overlap."""
    panels = GRAFANA["panels"]
    assert len({each["id"] for each in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        assert panel["title"]
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        taken |= cells
