"""The pages are true: their commands run, their links lead somewhere, and the reference is the program's own."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import click
import pytest

from tools import make_reference, pages

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
