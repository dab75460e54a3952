"""The words and bars of the page, and that templates say when something is missing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import UndefinedError

from crr_monitor.web import BAR, Pages, segments, time_words, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain key.txt", "plain key.txt"),
        ("é 🚀", "é 🚀"),
        ("a\nb\tc", "a\\nb\\tc"),
        ("\u202etxt.exe", "\\u202etxt.exe"),
        ("zero\u200bwidth", "zero\\u200bwidth"),
        ("\U000e0001", "\\U000e0001"),
    ],
)
def test_what_cannot_be_seen_is_spelled_out(text: str, shown: str) -> None:
    """Characters that nobody sees, or that turn text around, are written as their codes."""
    assert visible(text) == shown


@given(counts=st.dictionaries(st.text(max_size=3), st.integers(0, 10**9), max_size=6))
def test_bar_is_full(counts: dict[str, int]) -> None:
    """The parts of a bar follow each other without a gap, and together are as wide as the bar."""
    parts = segments(counts)
    assert [part["name"] for part in parts] == list(counts)
    end = 0.0
    for part in parts:
        assert part["x"] == pytest.approx(end, abs=0.05)
        end = part["x"] + part["width"]
    assert end == pytest.approx(BAR if sum(counts.values()) else 0.0, abs=0.05)


def test_times() -> None:
    """Times are shown without the marks of the format, and with milliseconds only where there are some."""
    assert time_words("2026-11-22T07:00:00.000Z") == "2026-11-22 07:00:00"
    assert time_words("2026-11-22T07:00:00.168Z") == "2026-11-22 07:00:00.168"
    assert time_words(None) == "-"


def test_missing_value_is_an_error() -> None:
    """A template that is not given what it shows fails, instead of showing nothing."""
    with pytest.raises(UndefinedError):
        Pages().render("problem.html")


def test_text_is_escaped() -> None:
    """What is given to a template is text, never markup."""
    assert b"&lt;b&gt;" in Pages().render("problem.html", problem="<b>")


def test_assets() -> None:
    """There are the files that pages load, each with its kind, and no others."""
    pages = Pages()
    assert (pages.asset("style.css") or (b"", ""))[1] == "text/css; charset=utf-8"
    assert (pages.asset("page.js") or (b"", ""))[1] == "text/javascript; charset=utf-8"
    assert (pages.asset("icon.svg") or (b"", ""))[1] == "image/svg+xml"
    assert pages.asset("page.html") is None
    assert pages.asset("../__init__.py") is None
