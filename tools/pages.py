"""Read the project's Markdown pages: their links, headings and blocks of code.

Convention of the pages: in a ``console`` block every line that starts with ``$ crr-monitor`` is run by the tests, in
the order of the page, in an empty folder of the page; ``# exit status 3`` at its end says that it ends so. A block
after the comment ``<!-- file: NAME -->`` is first written to that file. Blocks of other kinds (``sh``) are only
checked against the program's options.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = "crr-monitor"
SHELL_ENDS = {"|", "||", "&&", ";", ">", ">>", "<", "2>", "&"}

_FENCE = re.compile(r"^(?P<indent> *)(?P<fence>`{3,})(?P<kind>\w*)\s*$")
_FILE = re.compile(r"^<!-- file: (?P<name>[\w./-]+) -->$")
_LINK = re.compile(r"(?<!!)\[[^\]\n]+\]\((?P<target>[^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} +(?P<text>.+?) *$")
_EXIT = re.compile(r"# exit status (?P<status>\d+)\s*$")


@dataclass(frozen=True)
class Block:
    """A fenced block: its kind (``console``, ``json``...), its lines, where it starts, the file it is to be."""

    kind: str
    lines: tuple[str, ...]
    line: int
    file: str | None = None


@dataclass(frozen=True)
class Step:
    """One thing that running a page does: write ``file`` with ``text``, or run ``text`` and expect ``status``."""

    text: str
    line: int
    file: str | None = None
    status: int = 0


def pages() -> list[Path]:
    """Every Markdown page of the project."""
    return [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(text: str) -> Iterator[Block]:
    """The fenced blocks of a page.

    Raises:
        ValueError: a block is never closed.
    """
    lines = text.splitlines()
    file: str | None = None
    number = 0
    while number < len(lines):
        line = lines[number]
        number += 1
        opening = _FENCE.match(line)
        if opening is None:
            named = _FILE.match(line)
            file = named["name"] if named else file if not line.strip() else None
            continue
        start = number
        while number < len(lines) and lines[number].strip() != opening["fence"]:
            number += 1
        if number == len(lines):
            message = f"line {start}: the block is never closed"
            raise ValueError(message)
        body = tuple(inner.removeprefix(opening["indent"]) for inner in lines[start:number])
        yield Block(opening["kind"], body, start, file)
        file = None
        number += 1


def _command_lines(block: Block) -> Iterator[tuple[int, str]]:
    """Lines of a block that call the program, without a prompt, with continuation lines joined."""
    pending = ""
    for offset, line in enumerate(block.lines, start=1):
        text = pending + (line.strip() if pending else line.removeprefix("$ "))
        if not pending and block.kind == "console" and not line.startswith("$ "):
            continue
        if text.endswith("\\"):
            pending = text[:-1]
            continue
        pending = ""
        if text.split(maxsplit=1)[:1] == [PROGRAM]:
            yield block.line + offset, text


def calls(text: str) -> Iterator[tuple[int, list[str]]]:
    """Every call of the program in the page's console and shell blocks: its line and its arguments."""
    for block in blocks(text):
        if block.kind in {"console", "sh", "bash"}:
            for number, line in _command_lines(block):
                yield number, split(line)[1:]


def split(line: str) -> list[str]:
    """The words of a shell line up to its first pipe, redirection or next command."""
    words = shlex.split(line, comments=True)
    end = next((index for index, word in enumerate(words) if word in SHELL_ENDS), len(words))
    return words[:end]


def steps(text: str) -> Iterator[Step]:
    """What running a page does, in order."""
    for block in blocks(text):
        if block.file is not None:
            yield Step("\n".join(block.lines) + "\n", block.line, file=block.file)
        elif block.kind == "console":
            for number, line in _command_lines(block):
                ending = _EXIT.search(line)
                yield Step(line, number, status=int(ending["status"]) if ending else 0)


def _prose(text: str) -> str:
    """The page with the lines of its blocks made empty."""
    lines = text.splitlines()
    for block in blocks(text):
        for number in range(block.line - 1, block.line + len(block.lines) + 1):
            lines[number] = ""
    return "\n".join(lines)


def anchors(text: str) -> set[str]:
    """The names by which a page's headings are linked to."""
    found = set()
    for line in _prose(text).splitlines():
        heading = _HEADING.match(line)
        if heading:
            kept = re.sub(r"[^\w\- ]", "", heading["text"].lower())
            found.add(kept.replace(" ", "-"))
    return found


def broken_links(page: Path) -> list[str]:
    """The relative links of a page that lead nowhere, each with what is wrong."""
    found = []
    for match in _LINK.finditer(_prose(page.read_text(encoding="utf-8"))):
        target, _, anchor = match["target"].partition("#")
        if ":" in target:
            continue
        other = (page.parent / target).resolve() if target else page
        if not other.exists():
            found.append(f"{page.name}: {match['target']}: no such file")
        elif anchor and anchor not in anchors(other.read_text(encoding="utf-8")):
            found.append(f"{page.name}: {match['target']}: no such heading")
    return found
