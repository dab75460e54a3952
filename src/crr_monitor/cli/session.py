"""What the commands share from the start: the global options, and how to talk to people. Imports little, on purpose."""

from __future__ import annotations

from dataclasses import dataclass

import click
from click.shell_completion import CompletionItem

PROGRAM = "crr-monitor"


class CommandError(Exception):
    """The command could not do it; the text is one line for the user."""


@dataclass
class Session:
    """The global options as they were given."""

    store: str | None = None
    config: str | None = None
    verbose: bool = False


pass_session = click.make_pass_decorator(Session, ensure=True)


class PlaceType(click.ParamType[str]):
    """A file or a folder, or another place with an address: shells complete it as they complete files."""

    name = "text"

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's signature
        param: click.Parameter,  # noqa: ARG002 - click's signature
        incomplete: str,
    ) -> list[CompletionItem]:
        """Leave it to the shell, which knows the files."""
        return [CompletionItem(incomplete, type="file")]


PLACE = PlaceType()


def escape(text: str) -> str:
    """Text with everything escaped that a terminal could act upon or hide: an object's key may hold anything."""
    if text.isprintable():
        return text
    return "".join([char if char.isprintable() else _escaped(ord(char)) for char in text])


def _escaped(code: int) -> str:
    return f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"  # noqa: PLR2004


def say(text: str) -> None:
    """Tell something on standard error, in one line."""
    click.echo(escape(text), err=True)


def warn(text: str) -> None:
    """Tell on standard error that something is probably not as it was meant."""
    say(f"{PROGRAM}: warning: {text}")


def example(*lines: str) -> str:
    """The end of a command's help: lines that work."""
    return "\b\n" + "\n".join(["Example:", *(f"  {line}" for line in lines)])
