"""The archive's SQL in the hub's template: the saved queries and the view, which are those of ``crr_monitor.history``.

A part is found by what stands before it; the text is folded, so that a line is as long as the template's others.
"""

from __future__ import annotations

import json
import re
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

WIDTH = 138
_QUERY = re.compile(r"(      Name: (?P<name>[\w-]+)\n(?:      .+\n)*?      QueryString: >-\n)(?:        .+\n)+")
_VIEW = re.compile(r"(              Fn::Base64: !Sub >-\n)(?:                .+\n)+")
_PRESTO = {"string": "varchar"}


def folded(text: str, indent: int) -> str:
    """A text as the lines of a folded block of YAML, which joins them with a blank.

    Raises:
        ValueError: it has more than one blank somewhere, or a new line.
    """
    lines = textwrap.wrap(text, WIDTH - indent, break_long_words=False, break_on_hyphens=False)
    if " ".join(lines) != text:
        message = f"cannot be folded: {text[:60]!r}"
        raise ValueError(message)
    return "".join(f"{' ' * indent}{line}\n" for line in lines)


def view() -> str:
    """The view as Athena keeps it, before it becomes Base64."""
    from crr_monitor.history.schema import COLUMNS  # noqa: PLC0415 - the pages' tests stand without the program
    from crr_monitor.history.views import last_word  # noqa: PLC0415

    columns = [{"name": each.name, "type": _PRESTO.get(each.hive, each.hive)} for each in COLUMNS]
    said = {"originalSql": last_word(), "catalog": "awsdatacatalog", "schema": "${ArchiveDatabase}", "columns": columns}
    return json.dumps(said)


def renewed(template: str) -> str:
    """The template with its SQL made anew.

    Raises:
        KeyError: a query is saved that is not shipped.
    """
    from crr_monitor.history.queries import QUERIES  # noqa: PLC0415 - as above

    template = _QUERY.sub(lambda found: found[1] + folded(QUERIES[found["name"]].saved, 8), template)
    return _VIEW.sub(lambda found: found[1] + folded(view(), 16), template)


def saved(template: str) -> Iterator[str]:
    """The names of the queries that are saved."""
    for found in _QUERY.finditer(template):
        yield found["name"]


def write() -> None:
    """Write the hub's template anew, if it differs."""
    from crr_monitor import templates  # noqa: PLC0415 - as above

    path = Path(templates.__file__).parent / templates.HUB
    text = path.read_text(encoding="utf-8")
    if renewed(text) != text:
        path.write_text(renewed(text), encoding="utf-8")
