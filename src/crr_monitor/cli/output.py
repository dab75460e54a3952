"""``-o table|json|ndjson|csv`` of every listing: one option, one way to print each form."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any, BinaryIO, Generic, Literal, TypeAlias, TypeVar

import click
import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

Form: TypeAlias = Literal["table", "json", "ndjson", "csv"]
FORMS = ("table", "json", "ndjson", "csv")
F = TypeVar("F", bound="Callable[..., Any]")
T = TypeVar("T")

_encoder = msgspec.json.Encoder()


def output_option(function: F) -> F:
    """Add ``-o`` to a command, which has it as ``form``."""
    option = click.option(
        "-o",
        "--output",
        "form",
        type=click.Choice(FORMS),
        default="table",
        show_default=True,
        help="How to print it: a table for people, the others for programs.",
    )
    return option(function)


class View(Generic[T]):
    """How things of one kind are printed."""

    def __init__(
        self,
        *,
        table: Callable[[Iterable[T]], None],
        body: Callable[[T], Mapping[str, Any]],
        fields: Sequence[str],
        rows: Callable[[T], Iterable[Mapping[str, Any]]],
    ) -> None:
        """``body`` is the thing as JSON; ``rows`` are its flat rows with the columns ``fields``."""
        self._table = table
        self._body = body
        self._fields = tuple(fields)
        self._rows = rows

    def print(self, things: Iterable[T], form: Form) -> None:
        """Print all of them, one after the other, in UTF-8 where it is for programs."""
        if form == "table":
            self._table(things)
            return
        stream = sys.stdout.buffer
        if form == "csv":
            self._csv(things, stream)
        elif form == "ndjson":
            for thing in things:
                stream.write(_encoder.encode(self._body(thing)) + b"\n")
        else:
            before = b"["
            for thing in things:
                stream.write(before + b"\n" + _encoder.encode(self._body(thing)))
                before = b","
            stream.write(b"[]\n" if before == b"[" else b"\n]\n")

    def _csv(self, things: Iterable[T], stream: BinaryIO) -> None:
        stream.write(_csv_line(self._fields))
        for thing in things:
            stream.writelines(_csv_line([row.get(name) for name in self._fields]) for row in self._rows(thing))


# By hand: before Python 3.13, the csv module leaves a carriage return unquoted where lines end with a newline only.
_SPECIAL = re.compile('[",\r\n]')


def _csv_line(values: Sequence[object]) -> bytes:
    """A line as RFC 4180 has it, ended by a newline."""
    return (",".join(map(_csv_cell, values)) + "\n").encode()


def _csv_cell(value: object) -> str:
    """Unknown is empty; what has no flat form is JSON."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else _encoder.encode(value).decode()
    return '"' + text.replace('"', '""') + '"' if _SPECIAL.search(text) else text


def print_line(body: Mapping[str, Any]) -> None:
    """Print one JSON document on a line."""
    sys.stdout.buffer.write(_encoder.encode(body) + b"\n")


def print_document(body: Mapping[str, Any]) -> None:
    """Print one JSON document, indented."""
    sys.stdout.buffer.write(msgspec.json.format(_encoder.encode(body), indent=2) + b"\n")
