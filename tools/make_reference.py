"""Print docs/reference.md: every command with its help, every setting. ``--write`` writes it, ``--check`` compares.

``--write`` also writes the made parts of all other pages (:mod:`tools.generated`).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tools import generated, saved_queries

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "reference.md"
WIDTH = 100
INTRODUCTION = """\
# Reference

Made by `python3 dev.py docs` from the program itself: do not edit.

Data goes to standard output, everything else (progress, warnings, errors) to standard error.

| exit status | means |
|---|---|
| 0 | done |
| 1 | could not do it: the message says what broke and what to do |
| 2 | wrong usage: an unknown command, option or value |
| 3 | done, and replication problems were found (only `status`, and `stats --check`) |
| 130 | interrupted with Ctrl-C |

With `-o csv` values stand as they are, and a key may begin with `=`, `+`, `-` or `@`, which spreadsheets take for a
formula: import such columns as text, or use `-o json`.
"""


def walk(command: click.Command, context: click.Context) -> Iterator[tuple[str, click.Command, click.Context]]:
    """Every command that can be run, parents first: its full name, itself, its context."""
    yield context.command_path, command, context
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            if child is not None and not child.hidden:
                yield from walk(child, new_context(child, name, context))


def new_context(command: click.Command, name: str, parent: click.Context | None = None) -> click.Context:
    """A context of fixed width, so that the page does not depend on the terminal."""
    settings: dict[str, Any] = {**command.context_settings, "terminal_width": WIDTH, "max_content_width": WIDTH}
    return click.Context(command, info_name=name, parent=parent, **settings)


def commands() -> list[tuple[str, click.Command, click.Context]]:
    """The product's commands with their full names, as in ``crr-monitor ingest``."""
    from crr_monitor.cli.main import cli  # noqa: PLC0415 - the page's tests can be read without the program

    return list(walk(cli, new_context(cli, "crr-monitor")))


def section(name: str, command: click.Command, context: click.Context) -> str:
    """A command's heading and its help, word for word."""
    lines = [line.rstrip() for line in command.get_help(context).splitlines()]
    return "\n".join([f"## {name}", "", "```text", *lines, "```", ""])


def settings() -> str:
    """Every setting, as ``config.py`` declares it."""
    from crr_monitor.config import CONFIG_VARIABLE, SETTINGS  # noqa: PLC0415 - as above

    rows = [
        f"| `{setting.name}` | `{setting.variable}` | {f'`{setting.flag}`' if setting.flag else ''} "
        f"| {setting.allowed} | {setting.default} | {setting.meaning} |"
        for setting in SETTINGS
    ]
    return "\n".join(
        [
            "## Settings",
            "",
            f"From a TOML file (`--config` or `{CONFIG_VARIABLE}` names it), the environment, and options, in rising",
            "precedence. A wrong value, and a name that is no setting, are errors.",
            "",
            "| in the file | in the environment | option | allowed | default | meaning |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
        ]
    )


def reference() -> str:
    """The whole page."""
    return "\n".join([INTRODUCTION, *(section(*entry) for entry in commands()), settings()])


def main(arguments: list[str]) -> int:
    """Print, write or compare the page; gives the exit status."""
    page = reference()
    if arguments == ["--write"]:
        saved_queries.write()
        PAGE.write_text(page, encoding="utf-8")
        return generated.main(["--write"])
    if arguments == ["--check"]:
        if not PAGE.exists() or PAGE.read_text(encoding="utf-8") != page:
            print("docs/reference.md differs from the program: run `python3 dev.py docs`", file=sys.stderr)
            return 1
    else:
        sys.stdout.write(page)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
