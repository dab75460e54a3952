"""Write the parts of pages that are made from templates and commands, or compare them: ``--write``, ``--check``.

Such a part stands between ``<!-- made: NAME -->`` and ``<!-- end of NAME -->``; what is between them is not edited.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from typing import TYPE_CHECKING, Any

from click.testing import CliRunner

from tools import architecture, pages, permissions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from crr_monitor.cli.stacksets import StackSet
    from crr_monitor.core.notices import Notice
    from crr_monitor.sinks.metrics import Metric

_PART = re.compile(
    r"^<!-- made: (?P<name>[\w-]+) -->\n(?P<text>.*?)^<!-- end of (?P=name) -->$", re.MULTILINE | re.DOTALL
)

SET_BY_DEPLOY = ("CodeBucket", "CodeKey")
COST_EXAMPLE = ("cost", "--objects-per-day", "1000000", "--pairs", "10")
COST_LINES_EXAMPLE = ("cost", "--objects-per-day", "1000000", "--pairs", "10", "--source", "EventBridge")

WIDTH = 116
COMPARISONS = {"GreaterThanThreshold": "above", "LessThanThreshold": "below"}
STATISTICS = {
    "Maximum": "",
    "Sum": "",
    "p99": "99th percentile of ",
    "SampleCount": "number of values of ",
    "Average": "mean of ",
}
WITHOUT_DATA = {"ignore": "stays", "notBreaching": "off", "breaching": "on"}


def _template(name: str) -> dict[str, Any]:
    from crr_monitor import templates  # noqa: PLC0415 - the pages' other tests stand without the program

    return permissions.load(templates.text(templates.HUB if name == "hub" else templates.AGENT))


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _allowed(parameter: Mapping[str, Any]) -> str:
    if "AllowedValues" in parameter:
        return ", ".join(f"`{value}`" for value in parameter["AllowedValues"])
    if "MinValue" in parameter:
        most = parameter.get("MaxValue")
        return f"{parameter['MinValue']} or more" if most is None else f"{parameter['MinValue']} to {most}"
    listed = parameter["Type"] == "CommaDelimitedList"
    return ("a list: " if listed else "") + _cell(str(parameter.get("ConstraintDescription", "any text")))


def _default(name: str, parameter: Mapping[str, Any]) -> str:
    if name in SET_BY_DEPLOY:
        return "set by `deploy`"
    if "Default" not in parameter:
        return "must be given"
    return f"`{parameter['Default']}`" if parameter["Default"] != "" else "empty"


def parameters(template: Mapping[str, Any]) -> str:
    """A table of a template's parameters, in the order and groups in which the console shows them."""
    lines = ["| parameter | default | allowed | meaning |", "|---|---|---|---|"]
    for group in template["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]:
        lines.append(_row(f"**{_cell(group['Label']['default'])}**", "", "", ""))
        for name in group["Parameters"]:
            each = template["Parameters"][name]
            lines.append(_row(f"`{name}`", _default(name, each), _allowed(each), _cell(each["Description"])))
    return "\n".join(lines) + "\n"


def outputs(template: Mapping[str, Any]) -> str:
    """A table of a template's outputs."""
    lines = ["| output | meaning |", "|---|---|"]
    for name, each in template["Outputs"].items():
        when = permissions.when(template, each["Condition"]) if "Condition" in each else ""
        lines.append(_row(f"`{name}`", _cell(each["Description"]) + (f" (only with {when})" if when else "")))
    return "\n".join(lines) + "\n"


def alarms(template: Mapping[str, Any]) -> str:
    """A table of a template's alarms: when each comes, and what it says to whoever is woken by it."""
    lines = ["| alarm | comes when | without data | says |", "|---|---|---|---|"]
    for name, each in template["Resources"].items():
        if each["Type"] == "AWS::CloudWatch::Alarm":
            only = f" (only with {permissions.when(template, each['Condition'])})" if "Condition" in each else ""
            properties = each["Properties"]
            told = properties["AlarmDescription"]
            text = told if isinstance(told, str) else told["Fn::Sub"]
            missing = WITHOUT_DATA[properties["TreatMissingData"]]
            lines.append(_row(f"`{name}`", _comes_when(properties), missing, _cell(text) + only))
    return "\n".join(lines) + "\n"


def _comes_when(properties: Mapping[str, Any]) -> str:
    """An alarm's condition, as in ```Errors` of `WatchFunction` above 0 in 2 of 3 times 5 minutes``."""
    statistic = STATISTICS[properties.get("Statistic") or properties["ExtendedStatistic"]]
    what = [f"{statistic}`{properties['MetricName']}`"]
    what += [f"of `{_logical_name(each['Value'])}`" for each in properties.get("Dimensions", [])]
    threshold = properties["Threshold"]
    limit = f"`{threshold['Ref']}`" if isinstance(threshold, dict) else f"{threshold:,}"
    periods, minutes = properties["EvaluationPeriods"], properties["Period"] // 60
    needed = properties.get("DatapointsToAlarm", periods)
    duration = (
        f"for {periods * minutes} minutes" if needed == periods else f"in {needed} of {periods} times {minutes} minutes"
    )
    return f"{' '.join(what)} {COMPARISONS[properties['ComparisonOperator']]} {limit} {duration}"


def _logical_name(value: Any) -> str:  # noqa: ANN401 - any form of a dimension's value
    """The resource that a dimension names, or the parameter; of alternatives the one that the template makes."""
    if isinstance(value, str):
        return value
    if "Ref" in value:
        return str(value["Ref"])
    return str(value["Fn::GetAtt"][0]) if "Fn::GetAtt" in value else _logical_name(value["Fn::If"][2])


def metrics() -> str:
    """A table of all metrics: their names in CloudWatch and in OpenMetrics, what they are split by, their meaning."""
    from crr_monitor.sinks.metrics import ALL  # noqa: PLC0415 - as above

    lines = ["| CloudWatch | by | with `PerPair` also by | unit | OpenMetrics | meaning |", "|---|---|---|---|---|---|"]
    for each in ALL:
        cloud = f"`{each.name}`" if each.name else "-"
        unit = each.unit if each.name else "-"
        lines.append(
            _row(
                cloud,
                _sets(each.totals, cloud),
                _sets(each.per_pair, cloud),
                unit,
                _open_name(each),
                _cell(each.meaning),
            )
        )
    return "\n".join(lines) + "\n"


def _sets(dimensions: Iterable[tuple[str, ...]], name: str) -> str:
    """Sets of dimensions in words; nothing for what is not in CloudWatch at all."""
    told = "<br>".join(" and ".join(f"`{each}`" for each in one) or "all together" for one in dimensions)
    return told if told and name != "-" else "-"


def _open_name(metric: Metric) -> str:
    """The name in the exposition with its labels; counters end in ``_total`` there."""
    if not metric.open_name:
        return "-"
    ending = "_total" if metric.kind == "events" else ""
    labels = f"{{{', '.join(metric.labels)}}}" if metric.labels else ""
    return f"`{metric.open_name}{ending}`" + (f"<br>`{labels}`" if labels else "")


def notices() -> tuple[Notice, Notice]:
    """A notice as it is sent, and the one that says that it is over, of made-up trouble."""
    from crr_monitor.core.notices import Told, decide, remember  # noqa: PLC0415 - as above
    from crr_monitor.core.times import HOUR_MS, parse_time  # noqa: PLC0415
    from crr_monitor.core.troubles import Trouble  # noqa: PLC0415

    begin, _ = parse_time("2026-11-22T07:04:12.000Z")
    now = begin + HOUR_MS
    trouble = Trouble("failed", "orders", "orders-audit", "DstKmsKeyNotFound", 1_240, 5_368_709_120, begin)
    first = decide([trouble], Told(), now)
    told = remember(remember(Told(), [trouble], first, now), [], [], now + HOUR_MS)
    return first[0], decide([], told, now + 2 * HOUR_MS)[0]


def notice_text(notice: Notice) -> str:
    """A notice as e-mail shows it."""
    return "\n".join(["```text", f"Subject: {notice.subject}", "", *notice.text.splitlines(), "```", ""])


def notice_json(notice: Notice) -> str:
    """A notice as it is posted to an address."""
    return "\n".join(["```json", json.dumps(notice.to_json(), indent=2), "```", ""])


def rooms() -> str:
    """A table of the package's rooms: what each one's docstring says first, and what it may import."""
    lines = ["| room | holds | may import |", "|---|---|---|"]
    for room, allowed in architecture.MAY_IMPORT.items():
        folder = architecture.SOURCE / architecture.PACKAGE / room
        path, shown = (
            (folder / "__init__.py", f"{room}/") if folder.is_dir() else (folder.with_suffix(".py"), f"{room}.py")
        )
        if room.startswith("__") or not path.exists():
            continue
        told = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        may = ", ".join(f"`{name.removeprefix(architecture.PACKAGE).lstrip('.') or 'everything'}`" for name in allowed)
        lines.append(_row(f"`{shown}`", _cell(told.partition("\n\n")[0]).replace("``", "`"), may or "nothing"))
    return "\n".join(lines) + "\n"


def stack_sets(lines: Callable[[StackSet], list[str]]) -> str:
    """The AWS CLI's commands for the agents of a made-up hub's organization, as shell lines of the pages' width."""
    from crr_monitor.cli.stacksets import StackSet  # noqa: PLC0415 - as above

    token, bucket = "0123456789ab", "crr-monitor-artifacts-111122223333-us-east-1"
    parameters = {
        "HubAccount": "111122223333",
        "HubToken": token,
        "HubBusArn": f"arn:aws:events:us-east-1:111122223333:event-bus/crr-monitor-{token}-hub",
        "HubRoleArns": "arn:aws:iam::111122223333:role/crr-monitor-SetupRole-EXAMPLE,...",
        "EventSource": "CloudTrail",
        "CodeBucket": bucket,
        "CodeKey": "crr-monitor-EXAMPLE.zip",
    }
    url = f"https://s3.us-east-1.amazonaws.com/{bucket}/crr-monitor-EXAMPLE.template"
    told = lines(StackSet("crr-monitor-agents", "us-east-1", "111122223333", url, parameters))
    return "\n".join(["```sh", *(folded(line) for line in told), "```", ""])


def folded(line: str) -> str:
    """A shell line, continued on further lines before options where it would be too long."""
    lines = [""]
    for part in re.split(r" (?=--[a-z])", line):
        if lines[-1] and len(lines[-1]) + len(part) > WIDTH:
            lines[-1] += " \\"
            lines.append(f"  {part}")
        else:
            lines[-1] += f" {part}" if lines[-1] else part
    return "\n".join(lines)


def example(arguments: Iterable[str]) -> str:
    """A call of the program with its output, as a console block.

    Raises:
        RuntimeError: the program fails.
    """
    from crr_monitor.cli.main import cli  # noqa: PLC0415 - as above

    words = [*arguments]
    done = CliRunner().invoke(cli, words, prog_name=pages.PROGRAM, env={"COLUMNS": "100"})
    if done.exit_code:
        message = f"{' '.join(words)} ends with {done.exit_code}: {done.output}"
        raise RuntimeError(message)
    lines = [line.rstrip() for line in done.stdout.splitlines()]
    return "\n".join(["```console", f"$ {pages.PROGRAM} {' '.join(words)}", *lines, "```", ""])


def archive_columns() -> str:
    """A table of the archive's columns, in the order of its files, and of what it is partitioned by."""
    from crr_monitor.history.schema import COLUMNS, PARTITIONS  # noqa: PLC0415 - as above

    lines = ["| column | type | meaning |", "|---|---|---|"]
    lines += [_row(f"`{each.name}`", each.hive, _cell(each.meaning)) for each in (*COLUMNS, *PARTITIONS)]
    return "\n".join(lines) + "\n"


PARTS: dict[str, Callable[[], str]] = {
    "rooms": rooms,
    "hub-parameters": lambda: parameters(_template("hub")),
    "agent-parameters": lambda: parameters(_template("agent")),
    "hub-outputs": lambda: outputs(_template("hub")),
    "agent-outputs": lambda: outputs(_template("agent")),
    "hub-alarms": lambda: alarms(_template("hub")),
    "agent-alarms": lambda: alarms(_template("agent")),
    "stack-set-making": lambda: stack_sets(lambda agents: agents.making()),
    "stack-set-updating": lambda: stack_sets(lambda agents: [agents.updating()]),
    "stack-set-removing": lambda: stack_sets(lambda agents: agents.removing()),
    "metrics": metrics,
    "notice": lambda: notice_text(notices()[0]),
    "notice-over": lambda: notice_text(notices()[1]),
    "notice-json": lambda: notice_json(notices()[0]),
    "hub-permissions": lambda: permissions.markdown(_template("hub")),
    "agent-permissions": lambda: permissions.markdown(_template("agent")),
    "actions": lambda: permissions.actions_table([_template("hub"), _template("agent")]),
    "deploying": lambda: permissions.deploying_table([_template("hub"), _template("agent")]),
    "cost-example": lambda: example(COST_EXAMPLE),
    "cost-lines-example": lambda: example(COST_LINES_EXAMPLE),
    "archive-columns": archive_columns,
    "archive-queries": lambda: example(("query", "--list")),
}
"""Every part that a page can have, and what makes it."""


def parts(text: str) -> Iterator[tuple[str, str]]:
    """The made parts of a page: name and text."""
    for found in _PART.finditer(text):
        yield found["name"], found["text"]


def renewed(text: str, make: Mapping[str, Callable[[], str]] = PARTS) -> str:
    """The page with its made parts made anew.

    Raises:
        KeyError: a part has a name that nothing makes.
    """

    def new(found: re.Match[str]) -> str:
        name = found["name"]
        return f"<!-- made: {name} -->\n\n{make[name]()}\n<!-- end of {name} -->"

    return _PART.sub(new, text)


def stale(page: Path) -> bool:
    """Whether a page has a part that is not as it would be made now."""
    text = page.read_text(encoding="utf-8")
    return renewed(text) != text


def main(arguments: list[str]) -> int:
    """Write, or compare; gives the exit status."""
    wrong = [page for page in pages.pages() if stale(page)]
    for page in wrong:
        if arguments == ["--write"]:
            page.write_text(renewed(page.read_text(encoding="utf-8")), encoding="utf-8")
        else:
            print(f"{page.name} differs from the templates or the program: run `python3 dev.py docs`", file=sys.stderr)
    return int(bool(wrong) and arguments != ["--write"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
