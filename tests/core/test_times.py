"""RFC 3339 to milliseconds and back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crr_monitor.core.events import MAX_TIME
from crr_monitor.core.times import HOUR_MS, BadTimeError, format_time, parse_moment, parse_time, to_milliseconds
from tests.factories import AT


@given(st.integers(0, MAX_TIME))
def test_round_trip(at: int) -> None:
    """What is printed reads back as the same millisecond."""
    assert parse_time(format_time(at)) == (at, False)


@pytest.mark.parametrize(
    ("text", "at", "whole"),
    [
        ("2026-11-22T07:00:00Z", AT, True),
        ("2026-11-22T07:00:00.168Z", AT + 168, False),
        ("2026-11-22T07:00:00.000Z", AT, False),
        ("2026-11-22T07:00:00.419013Z", AT + 419, False),
        ("2026-11-22 07:00:00.4Z", AT + 400, False),
        ("2026-11-22T08:00:00+01:00", AT, True),
        ("2026-11-22T07:00Z", AT, True),
    ],
)
def test_parse(text: str, at: int, whole: bool) -> None:  # noqa: FBT001 - an expected value
    """Every form in which messages tell times gives the moment and whether it has whole seconds only."""
    assert parse_time(text) == (at, whole)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-11-22",
        "2026-11-22T07:00:00",
        "2026-11-22T07:00:00.168",
        "2026-13-22T07:00:00Z",
        "2026-W47-7T07Z",
    ],
)
def test_no_time(text: str) -> None:
    """What is no moment is refused, and so is one without a zone: guessing it would invent a fact."""
    with pytest.raises(BadTimeError):
        parse_time(text)


@given(st.text(max_size=30))
def test_any_text(text: str) -> None:
    """Any text is a time or is refused, and nothing else happens."""
    try:
        at, _ = parse_time(text)
    except BadTimeError:
        return
    assert isinstance(at, int)


@pytest.mark.parametrize(("text", "at"), [("1970-01-01", 0), ("2026-11-22", AT - 7 * HOUR_MS)])
def test_date(text: str, at: int) -> None:
    """A date alone is its midnight in UTC."""
    assert parse_moment(text) == at


@pytest.mark.parametrize("text", ["1969-12-31", "9999-12-31", "9999-12-30T00:00:00.001Z"])
def test_moment_out_of_range(text: str) -> None:
    """People's moments are neither before 1970 nor so late that nothing can come after them."""
    with pytest.raises(BadTimeError, match="not between 1970-01-01 and 9999-12-30: "):
        parse_moment(text)


def test_aware_moments() -> None:
    """A moment with a zone becomes milliseconds, one without is refused."""
    moment = datetime(2026, 11, 22, 8, 0, 0, 168_999, tzinfo=timezone(timedelta(hours=1)))
    assert to_milliseconds(moment) == AT + 168
    with pytest.raises(BadTimeError, match="time without a zone"):
        to_milliseconds(moment.astimezone(UTC).replace(tzinfo=None))
