"""The pages are true: their commands run, their links lead somewhere, and the reference is the program's own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from itertools import pairwise
from typing import TYPE_CHECKING, Any, get_args

import click
import pytest

from crr_monitor import templates
from crr_monitor.aws.parameters import check, declared
from crr_monitor.core.reconcile import Cause
from crr_monitor.sinks.metrics import ALL
from tools import generated, make_reference, pages, permissions

if TYPE_CHECKING:
    from pathlib import Path

PAGES = pages.pages()
CALLING = [page for page in PAGES if list(pages.calls(page.read_text(encoding="utf-8")))]
RUNNABLE = [page for page in PAGES if list(pages.steps(page.read_text(encoding="utf-8")))]


def check_call(arguments: list[str]) -> None:
    """Parse a call of the program as click would, without running it and without looking for its files.

    Raises:
        click.UsageError: an unknown command or option, a missing value, or one that is not among an option's choices.
    """
    from crr_monitor.cli.main import cli  # noqa: PLC0415 - so that the other tests stand without the program

    command: click.Command = cli
    context = make_reference.new_context(cli, pages.PROGRAM)
    while True:
        values, rest, _ = command.make_parser(context).parse_args(list(arguments))
        check_choices(command, values, context)
        if not isinstance(command, click.Group) or not rest:
            return
        name, child, arguments = command.resolve_command(context, rest)
        assert name is not None
        assert child is not None
        command, context = child, make_reference.new_context(child, name, context)


def check_choices(command: click.Command, values: dict[str, object], context: click.Context) -> None:
    """Convert the values of options that have choices.

    Raises:
        click.BadParameter: a value is not among them.
    """
    for parameter in command.params:
        given = values.get(parameter.name or "")
        if isinstance(parameter.type, click.Choice) and given is not None:
            for value in given if isinstance(given, list | tuple) else [given]:
                parameter.type.convert(value, parameter, context)


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link of a page names a file, and a heading, that exists."""
    assert pages.broken_links(page) == []


@pytest.mark.parametrize("page", CALLING, ids=[page.name for page in CALLING])
def test_shown_calls_are_understood(page: Path) -> None:
    """Every call of the program that a page shows has commands, options and choices that the program knows."""
    for line, arguments in pages.calls(page.read_text(encoding="utf-8")):
        try:
            check_call(arguments)
        except click.UsageError as error:
            pytest.fail(f"{page.name}:{line}: {error.format_message()}")


@pytest.mark.parametrize("arguments", [["nonesuch"], ["ingest", "--nonesuch"], ["list", "--status", "NONESUCH"]])
def test_misspelt_call_is_found(arguments: list[str]) -> None:
    """A call with an unknown command, option or choice does not pass as understood."""
    with pytest.raises(click.UsageError):
        check_call(arguments)


SHELL = [page for page in PAGES if any(each.kind == "sh" for each in pages.blocks(page.read_text(encoding="utf-8")))]


@pytest.mark.parametrize("page", SHELL, ids=[page.name for page in SHELL])
def test_shell_lines_are_shell(page: Path) -> None:
    """What a page shows for the shell, and what no test can run as it needs AWS, is at least read by bash."""
    for block in pages.blocks(page.read_text(encoding="utf-8")):
        if block.kind == "sh":
            told = subprocess.run(
                ["bash", "-n", "-c", "\n".join(block.lines)],  # noqa: S607 - the reader's shell
                capture_output=True,
                encoding="utf-8",
                check=False,
            )
            assert told.stderr == "", f"{page.name}:{block.line}"


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a shell finds the program under test by its name."""
    folder = tmp_path_factory.mktemp("bin")
    script = folder / pages.PROGRAM
    call = "import sys; from crr_monitor.cli.main import main; sys.exit(main())"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{call}" "$@"\n', encoding="utf-8")
    script.chmod(0o755)
    return folder


@pytest.mark.parametrize("page", RUNNABLE, ids=[page.name for page in RUNNABLE])
def test_page_runs(page: Path, program: Path, tmp_path: Path) -> None:
    """The commands of a page, run from first to last in an empty folder, end with the exit status that it says."""
    path = os.pathsep.join([str(program), os.environ["PATH"]])
    own = {"PATH": path, "HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path / ".data")}
    for step in pages.steps(page.read_text(encoding="utf-8")):
        if step.file is not None:
            (tmp_path / step.file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / step.file).write_text(step.text, encoding="utf-8")
            continue
        done = subprocess.run(
            ["bash", "-c", step.text],  # noqa: S607 - the reader's shell
            cwd=tmp_path,
            env={**os.environ, **own},
            capture_output=True,
            encoding="utf-8",
            check=False,
            timeout=120,
        )
        assert done.returncode == step.status, f"{page.name}:{step.line}: {step.text}\n{done.stdout}{done.stderr}"


def test_reference_is_the_programs_own() -> None:
    """docs/reference.md is word for word what the generator prints now."""
    assert make_reference.PAGE.read_text(encoding="utf-8") == make_reference.reference()


def test_every_command_is_documented() -> None:
    """The reference has a heading for every command that can be run."""
    text = make_reference.PAGE.read_text(encoding="utf-8")
    names = [name for name, _, _ in make_reference.commands()]
    assert "crr-monitor ingest" in names
    assert [name for name in names if f"\n## {name}\n" not in text] == []


DEPLOYING = [
    (page, line, arguments)
    for page in PAGES
    for line, arguments in pages.calls(page.read_text(encoding="utf-8"))
    if arguments[:1] == ["deploy"]
]


@pytest.mark.parametrize(
    ("page", "line", "arguments"), DEPLOYING, ids=[f"{page.name}-{line}" for page, line, _ in DEPLOYING]
)
def test_shown_parameters_are_allowed(page: Path, line: int, arguments: list[str]) -> None:
    """Every template parameter that a page shows is one of that template, with a value that is allowed."""
    del page, line
    template = templates.text(templates.HUB if arguments[1] == "hub" else templates.AGENT)
    given = [value for option, value in pairwise(arguments) if option == "--parameter"]
    assert len(check(declared(template), given)) == len(given)


@pytest.mark.parametrize(("word", "part"), [("output", "Outputs"), ("resource", "Resources")])
def test_first_hour_names_what_the_hub_has(word: str, part: str) -> None:
    """Outputs and resources that the first hour's commands look up are in the hub's template."""
    text = (pages.ROOT / "docs" / "first-hour.md").read_text(encoding="utf-8")
    named = set(re.findall(rf"\b{word} ([A-Z]\w+)", text))
    assert named
    assert named - permissions.load(templates.text(templates.HUB))[part].keys() == set()


MADE = [page for page in PAGES if list(generated.parts(page.read_text(encoding="utf-8")))]


@pytest.mark.parametrize("page", MADE, ids=[page.name for page in MADE])
def test_made_parts_are_current(page: Path) -> None:
    """Tables of the templates and outputs of commands are on the page as they would be made now."""
    assert not generated.stale(page), "run `python3 dev.py docs`"


def test_every_part_is_on_one_page() -> None:
    """Whatever can be made stands on exactly one page."""
    found = [name for page in MADE for name, _ in generated.parts(page.read_text(encoding="utf-8"))]
    assert sorted(found) == sorted(generated.PARTS)


def test_part_is_made_anew() -> None:
    """What is between the comments is replaced, what is around them stays, and doing it again changes nothing."""
    make = {"sum": lambda: "2\n"}
    after = generated.renewed("a\n<!-- made: sum -->\n1\n\n<!-- end of sum -->\nb\n", make)
    assert after == "a\n<!-- made: sum -->\n\n2\n\n<!-- end of sum -->\nb\n"
    assert generated.renewed(after, make) == after


def test_unknown_part_is_an_error() -> None:
    """A part with a name that nothing makes is not passed over."""
    with pytest.raises(KeyError, match="product"):
        generated.renewed("<!-- made: product -->\n<!-- end of product -->\n", {})


CONDITIONS: dict[str, Any] = {
    "Conditions": {
        "Makes": {"Fn::And": [{"Fn::Equals": [{"Ref": "Source"}, "Trail"]}, {"Fn::Equals": [{"Ref": "Trail"}, "New"]}]},
        "Reads": {"Fn::Not": [{"Fn::Equals": [{"Ref": "Source"}, "Trail"]}]},
        "Either": {"Fn::Or": [{"Condition": "Reads"}, {"Fn::Equals": [{"Ref": "Key"}, ""]}]},
        "Listed": {"Fn::Not": [{"Fn::Equals": [{"Fn::Join": ["", {"Ref": "Accounts"}]}, ""]}]},
    }
}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Makes", "`Source` Trail and `Trail` New"),
        ("Reads", "`Source` other than Trail"),
        ("Either", "`Source` other than Trail or no `Key`"),
        ("Listed", "`Accounts`"),
    ],
)
def test_conditions_in_words(name: str, words: str) -> None:
    """A template's condition is told by its parameters and their values."""
    assert permissions.when(CONDITIONS, name) == words


def test_unknown_resource_is_an_error() -> None:
    """A type of resource of which nobody said what deploying it takes is not left out of the page."""
    template = {"Resources": {"Base": {"Type": "AWS::Moon::Base"}, "SetUp": {"Type": "Custom::SetUp"}}}
    with pytest.raises(LookupError, match=r"add AWS::Moon::Base to DEPLOYING in tools/permissions\.py"):
        permissions.deploying_table([template])


@pytest.mark.parametrize(
    ("limits", "allowed"),
    [
        ({"AllowedValues": ["a", "b"]}, "`a`, `b`"),
        ({"MinValue": 1, "MaxValue": 9}, "1 to 9"),
        ({"MinValue": 1}, "1 or more"),
        ({"ConstraintDescription": "a|b"}, "a\\|b"),
        ({}, "any text"),
    ],
)
def test_parameters_in_words(limits: dict[str, Any], allowed: str) -> None:
    """A parameter's row tells its default and what it may be."""
    groups = {"AWS::CloudFormation::Interface": {"ParameterGroups": [{"Label": {"default": "G"}, "Parameters": ["P"]}]}}
    parameter = {"Type": "String", "Default": "", "Description": "What\nit is.", **limits}
    table = generated.parameters({"Metadata": groups, "Parameters": {"P": parameter}})
    assert table.splitlines()[-1] == f"| `P` | empty | {allowed} | What it is. |"


ALARM: dict[str, Any] = {
    "Namespace": "CRRMonitor",
    "MetricName": "Age",
    "Statistic": "Maximum",
    "Period": 300,
    "EvaluationPeriods": 3,
    "Threshold": 3_600_000,
    "ComparisonOperator": "GreaterThanThreshold",
    "TreatMissingData": "ignore",
    "AlarmDescription": "It is\nlate.",
}


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({}, "`Age` above 3,600,000 for 15 minutes"),
        ({"DatapointsToAlarm": 2}, "`Age` above 3,600,000 in 2 of 3 times 5 minutes"),
        ({"Threshold": {"Ref": "Most"}}, "`Age` above `Most` for 15 minutes"),
        (
            {"Statistic": "SampleCount", "ComparisonOperator": "LessThanThreshold"},
            "number of values of `Age` below 3,600,000 for 15 minutes",
        ),
        (
            {"Dimensions": [{"Name": "QueueName", "Value": {"Fn::GetAtt": ["Queue", "QueueName"]}}]},
            "`Age` of `Queue` above 3,600,000 for 15 minutes",
        ),
        (
            {"Dimensions": [{"Name": "T", "Value": {"Fn::If": ["Named", "given", {"Ref": "Topic"}]}}]},
            "`Age` of `Topic` above 3,600,000 for 15 minutes",
        ),
    ],
)
def test_alarms_in_words(more: dict[str, Any], words: str) -> None:
    """An alarm's row tells its condition, what becomes of it without data, and its text."""
    properties = {**ALARM, **more}
    table = generated.alarms({"Resources": {"Late": {"Type": "AWS::CloudWatch::Alarm", "Properties": properties}}})
    assert table.splitlines()[-1] == f"| `Late` | {words} | stays | It is late. |"


def test_metrics_in_words() -> None:
    """The table has every metric once, with its name in CloudWatch, its dimensions, and its name in OpenMetrics."""
    rows = generated.metrics().splitlines()[2:]
    assert len(rows) == len(ALL)
    assert rows[0] == (
        "| `ReplicationObjects` | all together | `SourceBucket` and `DestBucket` | Count "
        "| `crr_monitor_replicated_objects_total`<br>`{source, destination}` "
        "| Copies that arrived at their destination. |"
    )


def test_long_lines_are_folded() -> None:
    """A shell line that is too long goes on before an option, and is the same to the shell."""
    line = f"aws do --one {'a' * 60} --two {'b' * 60} --three c"
    assert generated.folded(line) == f"aws do --one {'a' * 60} \\\n  --two {'b' * 60} --three c"
    assert generated.folded("aws do --one a") == "aws do --one a"


def test_service_page_tells_every_answer() -> None:
    """The table of the webhook's answers has each status with which it answers, and no other."""
    told = re.findall(r"^\| (\d{3}) \|", (pages.ROOT / "docs" / "serve.md").read_text(encoding="utf-8"), re.MULTILINE)
    answers = vars(pytest.importorskip("crr_monitor.serve.webhook"))
    names = ("OK", "BAD", "UNAUTHORIZED", "FORBIDDEN", "TIMEOUT", "TOO_LARGE", "WRONG_KIND", "TOO_MANY", "UNAVAILABLE")
    assert [int(each) for each in told] == [answers[name] for name in names]


def test_reconcile_page_tells_every_cause() -> None:
    """The page on asking S3 has each cause for which it could not be asked, and no other."""
    page = (pages.ROOT / "docs" / "reconcile.md").read_text(encoding="utf-8")
    told = re.findall(r"^\| `([a-z-]+)` \|", page, re.MULTILINE)
    assert sorted(told) == sorted(get_args(Cause))


ACTION_OF = {
    "s3:HeadBucket": "s3:ListBucket",
    "s3:HeadObject": "s3:GetObject",
    "s3:ListObjectVersions": "s3:ListBucketVersions",
    "s3:DeleteObjects": "s3:DeleteObjectVersion",
    "s3:ListBuckets": "s3:ListAllMyBuckets",
    "s3:GetBucketReplication": "s3:GetReplicationConfiguration",
}
"""Operations whose permission has another name (Service Authorization Reference)."""


@pytest.mark.parametrize("module", ["aws/artifacts.py", "aws/stacks.py", "aws/discovery.py", "cli/discover.py"])
def test_deploying_tells_every_call(module: str) -> None:
    """Each operation that deploying and discovering call is among the permissions for deploying, by its action."""
    source = (pages.ROOT / "src" / "crr_monitor" / module).read_text(encoding="utf-8")
    called = set(re.findall(r"\"((?:cloudformation|lambda|s3):[A-Z]\w+)", source))
    needed = {ACTION_OF.get(name, name) for name in called}
    page = (pages.ROOT / "docs" / "permissions.md").read_text(encoding="utf-8")
    told = page.partition("## Permissions for deploying")[2]
    assert needed
    assert [name for name in sorted(needed) if f"`{name}`" not in told] == []


PAGE = """\
# A page: `x`, and more

<!-- file: in/a.json -->
```json
{}
```

```console
$ crr-monitor ingest in/a.json | jq . > out.json
{"messages": 1}
$ aws s3 ls
$ crr-monitor status s3://a/b \\
      --version-id v  # exit status 3
```

```sh
crr-monitor list --status FAILED && echo done
```

[good](#a-page-x-and-more) [bad](#nowhere) [gone](gone.md) [far](https://example.com/x)
"""


def test_steps_of_a_page() -> None:
    """A page's steps are its named files and its console calls, continuation lines joined, with their exit status."""
    assert list(pages.steps(PAGE)) == [
        pages.Step("{}\n", 4, file="in/a.json"),
        pages.Step("crr-monitor ingest in/a.json | jq . > out.json", 9),
        pages.Step("crr-monitor status s3://a/b --version-id v  # exit status 3", 13, status=3),
    ]


def test_calls_of_a_page() -> None:
    """A page's calls are those of its console and shell blocks, cut where the shell takes over."""
    assert list(pages.calls(PAGE)) == [
        (9, ["ingest", "in/a.json"]),
        (13, ["status", "s3://a/b", "--version-id", "v"]),
        (17, ["list", "--status", "FAILED"]),
    ]


def test_broken_links_are_found(tmp_path: Path) -> None:
    """Of a page's links, those to a missing file and to a missing heading are found; headings and the web are not."""
    page = tmp_path / "page.md"
    page.write_text(PAGE, encoding="utf-8")
    assert pages.broken_links(page) == ["page.md: #nowhere: no such heading", "page.md: gone.md: no such file"]


def test_unclosed_block_is_found() -> None:
    """A block that is never closed is an error that names its first line."""
    with pytest.raises(ValueError, match="line 2: the block is never closed"):
        list(pages.blocks("text\n```json\n{}\n"))
