"""Tables: rich on a terminal; in a pipe plain text, aligned, neither coloured nor cut off."""

from __future__ import annotations

import shutil
import sys
import textwrap
from itertools import chain, islice
from typing import TYPE_CHECKING

import click
from msgspec import Struct

from crr_monitor.cli.session import escape
from crr_monitor.cli.words import STYLES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

CHUNK = 1_000
"""Rows that are aligned together: a listing of any length needs no more memory than these."""

WIDE = 120
"""From how many columns on a terminal shows the columns for wide ones."""


FOLD_WIDTH = 8
"""A column that is broken into lines gets at least so much room; a terminal without that shows plain text."""

GAP = 2


class Column(Struct, frozen=True):
    """A column, and how a terminal shows it.

    ``fold``: may be broken into lines; ``wide``: left out where there is little room; ``once``: empty in rows that go
    on with the thing above.
    """

    title: str
    right: bool = False
    fold: bool = False
    once: bool = False
    wide: bool = False


class Row(Struct, frozen=True):
    """A row; ``goes_on``: it is about the same thing as the one above."""

    cells: tuple[str, ...]
    goes_on: bool = False


def on_terminal() -> bool:
    """Whether somebody looks at the output as it comes."""
    return sys.stdout.isatty()


def paragraph(text: str, indent: str) -> None:
    """Print a sentence: on a terminal broken between words, in a pipe in one line."""
    text = escape(text)
    if on_terminal():
        width = shutil.get_terminal_size().columns
        hang = indent + "  "
        text = textwrap.fill(text, width, initial_indent=indent, subsequent_indent=hang, break_on_hyphens=False)
        click.echo(text)
    else:
        click.echo(indent + text)


def show(columns: Sequence[Column], rows: Iterable[Row]) -> None:
    """Print rows under their titles; nothing where there are none."""
    safe = (Row(tuple(map(escape, row.cells)), row.goes_on) for row in rows)
    draw = _draw if on_terminal() else _write
    while chunk := list(islice(safe, CHUNK)):
        draw(columns, chunk, safe)


def _write(columns: Sequence[Column], first: list[Row], rest: Iterator[Row]) -> None:
    """The first rows decide how wide the columns are, for all of them."""
    titles = tuple(column.title for column in columns)
    widths = [max(map(len, cells)) for cells in zip(titles, *(row.cells for row in first), strict=True)]
    for cells in chain([titles], (row.cells for row in chain(first, rest))):
        padded = [
            cell.rjust(width) if column.right else cell.ljust(width)
            for cell, width, column in zip(cells, widths, columns, strict=True)
        ]
        click.echo("  ".join(padded).rstrip())


def _draw(columns: Sequence[Column], rows: list[Row], rest: Iterator[Row]) -> None:
    from rich.console import Console  # noqa: PLC0415 - only a terminal needs it, and it takes its time
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console(highlight=False)
    shown = [number for number, column in enumerate(columns) if not column.wide or console.width >= WIDE]
    if _least(columns, shown, rows) > console.width:
        # Rich would leave columns without any room, and so without their values.
        _write(columns, rows, rest)
        return
    table = Table(box=None, header_style="bold", padding=(0, GAP, 0, 0), pad_edge=False)
    for number in shown:
        column = columns[number]
        table.add_column(
            column.title, justify="right" if column.right else "left", overflow="fold", no_wrap=not column.fold
        )
    for row in rows:
        cells = []
        for number in shown:
            text = "" if row.goes_on and columns[number].once else row.cells[number]
            cells.append(Text(text, style=STYLES.get(text, "")))
        table.add_row(*cells)
    console.print(table)


def _least(columns: Sequence[Column], shown: Sequence[int], rows: Sequence[Row]) -> int:
    """The least width in which each column that is shown has some room."""
    widths = []
    for number in shown:
        widest = max(len(columns[number].title), *(len(row.cells[number]) for row in rows))
        widths.append(min(widest, FOLD_WIDTH) if columns[number].fold else widest)
    return sum(widths) + GAP * (len(widths) - 1)
