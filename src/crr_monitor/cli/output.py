"""``-o table|json|ndjson|csv`` of every listing: one option, one way to print each form."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any, BinaryIO, Generic, Literal, TypeAlias, TypeVar

import click
import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

Form: TypeAlias = Literal["table", "json", "ndjson", "csv"]
FORMS = ("table", "json", "ndjson", "csv")
F = TypeVar("F", bound="Callable[..., Any]")
T = TypeVar("T")

_encode = msgspec.json.Encoder().encode


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
        stream = click.get_binary_stream("stdout")
        if form == "csv":
            self._csv(things, stream)
        elif form == "ndjson":
            for thing in things:
                stream.write(_encode(self._body(thing)) + b"\n")
        else:
            before = b"["
            for thing in things:
                stream.write(before + b"\n" + _encode(self._body(thing)))
                before = b","
            stream.write(b"[]\n" if before == b"[" else b"\n]\n")

    def _csv(self, things: Iterable[T], stream: BinaryIO) -> None:
        writer = csv.writer(_Encoded(stream), lineterminator="\n")
        writer.writerow(self._fields)
        for thing in things:
            for row in self._rows(thing):
                writer.writerow([_csv_cell(row.get(name)) for name in self._fields])


class _Encoded:
    """Text into a binary stream; csv writes a row at once."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        self._stream.write(text.encode())


def _csv_cell(value: Any) -> str:
    """Unknown is empty; what has no flat form is JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else _encode(value).decode()


def print_line(body: Any) -> None:
    """Print one JSON document on a line."""
    click.get_binary_stream("stdout").write(_encode(body) + b"\n")


def print_document(body: Any) -> None:
    """Print one JSON document, indented."""
    click.get_binary_stream("stdout").write(msgspec.json.format(_encode(body), indent=2) + b"\n")
