"""The page: templates and what belongs to them. It is given the contract's JSON, and asks nobody.

Everything that comes from messages is escaped, nothing is loaded from elsewhere, and it works without JavaScript.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from crr_monitor.core.failures import reason_code
from crr_monitor.core.words import NOTHING, seconds_text, share_text, size_text

FOLDER = Path(__file__).parent
KINDS = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
BAR = 100.0
"""The width of a bar, in its own units."""


def visible(text: str) -> str:
    """Text with everything spelled out that nobody would see, or that turns text around: keys may hold anything."""
    return "".join([char if char.isprintable() else char.encode("unicode_escape").decode() for char in text])


def time_words(text: str | None) -> str:
    """``2026-11-22 07:00:00`` of the contract's time."""
    return NOTHING if text is None else text.replace("T", " ").removesuffix("Z").removesuffix(".000")


def number(value: int) -> str:
    """With thousands apart."""
    return f"{value:,}"


def segments(counts: dict[str, int]) -> list[dict[str, Any]]:
    """The parts of a bar, one beside the other, of counts by name: where each begins, and its width."""
    total = sum(counts.values())
    found, begin = [], 0.0
    for place, (name, count) in enumerate(counts.items()):
        width = BAR * count / total if total else 0.0
        found.append({"name": name, "count": count, "x": round(begin, 2), "width": round(width, 2), "place": place})
        begin += width
    return found


class Pages:
    """Renders pages, and gives the files that they load."""

    def __init__(self) -> None:
        self._templates = Environment(
            loader=FileSystemLoader(FOLDER / "templates"),
            autoescape=select_autoescape(default=True, default_for_string=True),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._templates.filters.update(
            visible=visible,
            time=time_words,
            number=number,
            seconds=seconds_text,
            share=share_text,
            size=lambda value: NOTHING if value is None else size_text(value),
            segments=segments,
            code=lambda reason: reason_code(reason) or NOTHING,
        )
        self._assets = {
            path.name: (path.read_bytes(), KINDS[path.suffix])
            for path in sorted((FOLDER / "static").iterdir())
            if path.suffix in KINDS
        }

    def render(self, name: str, **values: Any) -> bytes:  # noqa: ANN401 - whatever the template shows
        """A page in HTML."""
        return self._templates.get_template(name).render(**values).encode("utf-8", "replace")

    def asset(self, name: str) -> tuple[bytes, str] | None:
        """A file that pages load, and its kind; ``None`` where there is none of that name."""
        return self._assets.get(name)
