"""Who watched when: beats become stretches, gaps are blindness, and nothing is said of what nobody said."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from crr_monitor.core.coverage import BEAT_MS, TOLERANCE_MS, Stretch, Watched, by_day, extend, files, joined, worst
from crr_monitor.core.times import DAY_MS, HOUR_MS, MINUTE_MS, format_time
from tests.factories import AT

HOUR = AT // HOUR_MS * HOUR_MS


def beat(at: int, source: str = "logs", problem: str | None = None) -> Stretch:
    """A source at one moment."""
    return Stretch("one", source, "live", "blind" if problem else "watched", at, at, problem=problem)


def beats(*times: int, problem: str | None = None) -> list[Stretch]:
    """What is kept after beats of one source."""
    kept: list[Stretch] = []
    for at in times:
        kept = extend(kept, [beat(at, problem=problem)])
    return kept


def live(since: int, until: int, **more: str) -> Stretch:
    """A monitor that watched."""
    return replace(beat(since), until=until, **more)


def test_beats_that_follow_each_other_are_one_stretch() -> None:
    """An hour of beats is one stretch, which ends with the last of them."""
    (kept,) = beats(*range(HOUR, HOUR + HOUR_MS, BEAT_MS))
    assert (kept.since, kept.until) == (HOUR, HOUR + HOUR_MS - BEAT_MS)


def test_a_pause_makes_a_gap() -> None:
    """One late beat is no gap; a longer pause is one."""
    times = (HOUR, HOUR + TOLERANCE_MS, HOUR + 2 * TOLERANCE_MS + 1)
    assert [(each.since, each.until) for each in beats(*times)] == [(times[0], times[1]), (times[2], times[2])]


def test_a_clock_that_was_set_back_begins_anew() -> None:
    """A stretch never ends before it begins."""
    assert [(each.since, each.until) for each in beats(HOUR, HOUR - 1)] == [(HOUR, HOUR), (HOUR - 1, HOUR - 1)]


def test_a_source_that_broke_was_blind_since_it_was_last_seen_well() -> None:
    """When exactly it broke nobody knows, so it counts from the last good beat; well again it counts from then."""
    kept = extend(extend([beat(HOUR)], [beat(HOUR + BEAT_MS, problem="gone")]), [beat(HOUR + 2 * BEAT_MS)])
    assert [(each.state, each.since - HOUR, each.until - HOUR) for each in kept] == [
        ("watched", 0, 0),
        ("blind", 0, BEAT_MS),
        ("watched", 2 * BEAT_MS, 2 * BEAT_MS),
    ]


def test_a_beat_may_know_since_when_it_was_blind() -> None:
    """It counts from then, also before the last good beat, which stays; and how far apart beats may be is a choice."""
    blind = replace(beat(HOUR + HOUR_MS, problem="stands"), since=HOUR - MINUTE_MS)
    kept = extend([beat(HOUR)], [blind], HOUR_MS)
    assert [(each.state, each.since - HOUR, each.until - HOUR) for each in kept] == [
        ("watched", 0, 0),
        ("blind", -MINUTE_MS, HOUR_MS),
    ]
    assert extend([beat(HOUR)], [beat(HOUR + HOUR_MS)], HOUR_MS - 1) == [beat(HOUR), beat(HOUR + HOUR_MS)]


def test_files_are_one_for_each_day() -> None:
    """A day's file has its stretches in order, with times as text and nothing of what is not known."""
    found = files([live(HOUR + 1, HOUR + 2), live(HOUR, HOUR), live(HOUR + DAY_MS, HOUR + DAY_MS)], "one")
    assert [*found] == ["coverage/day=2026-11-22/one.ndjson", "coverage/day=2026-11-23/one.ndjson"]
    lines = [json.loads(line) for line in found["coverage/day=2026-11-22/one.ndjson"].splitlines()]
    told = {"monitor": "one", "source": "logs", "kind": "live", "state": "watched"}
    assert lines == [
        {**told, "since": format_time(since), "until": format_time(until)}
        for since, until in ((HOUR, HOUR), (HOUR + 1, HOUR + 2))
    ]


def test_sources_have_stretches_of_their_own() -> None:
    """That one breaks says nothing of the other."""
    kept = extend([beat(HOUR, "a"), beat(HOUR, "b")], [beat(HOUR + 1, "a", "gone"), beat(HOUR + 1, "b")])
    assert {(each.source, each.state, each.until - HOUR) for each in kept} == {
        ("a", "watched", 0),
        ("a", "blind", 1),
        ("b", "watched", 1),
    }


def test_a_stretch_ends_with_its_day() -> None:
    """Over midnight it goes on as another one, without a gap."""
    midnight = (HOUR // DAY_MS + 1) * DAY_MS
    kept = beats(midnight - BEAT_MS, midnight + BEAT_MS, midnight + 2 * BEAT_MS)
    assert [(each.since - midnight, each.until - midnight) for each in kept] == [
        (-BEAT_MS, 0),
        (0, 2 * BEAT_MS),
    ]


@given(st.lists(st.integers(0, 3 * DAY_MS), max_size=30).map(sorted))
def test_no_beat_is_lost_and_no_time_is_invented(times: list[int]) -> None:
    """Each beat lies in a stretch, each stretch in one day, and between two far beats nothing counts as watched."""
    kept = beats(*times)
    assert all(any(each.since <= at <= each.until for each in kept) for at in times)
    assert all(by_day(each) == [each] for each in kept)
    for one, other in pairwise(times):
        if other - one > TOLERANCE_MS:
            assert not any(each.since <= one + 1 <= each.until for each in kept)


def test_intervals_are_joined() -> None:
    """Overlapping ones are one; those that are apart stay so, unless the gap is allowed."""
    some = [(5, 7), (0, 2), (1, 3), (9, 10)]
    assert joined(some) == [(0, 3), (5, 7), (9, 10)]
    assert joined(some, 2) == [(0, 10)]


@pytest.mark.parametrize(
    ("stretches", "sight"),
    [
        ([], "unknown"),
        ([live(HOUR, HOUR + HOUR_MS)], "watched"),
        ([live(HOUR - HOUR_MS, HOUR + 30 * MINUTE_MS)], "blind"),
        ([live(HOUR - DAY_MS, HOUR - HOUR_MS)], "blind"),
        ([live(HOUR + HOUR_MS, HOUR + 2 * HOUR_MS)], "unknown"),
        ([live(HOUR + 30 * MINUTE_MS, HOUR + HOUR_MS)], "watched"),
        ([live(HOUR, HOUR + 30 * MINUTE_MS), live(HOUR + 33 * MINUTE_MS, HOUR + HOUR_MS)], "watched"),
        ([live(HOUR, HOUR + 30 * MINUTE_MS), live(HOUR + 34 * MINUTE_MS, HOUR + HOUR_MS)], "blind"),
        ([live(HOUR, HOUR + HOUR_MS), live(HOUR, HOUR + 4 * MINUTE_MS, state="blind", source="b")], "blind"),
        ([live(HOUR, HOUR + HOUR_MS), live(HOUR, HOUR + 3 * MINUTE_MS, state="blind", source="b")], "watched"),
        ([live(HOUR - DAY_MS, HOUR - HOUR_MS), live(HOUR - 1, HOUR + 1, kind="logs")], "watched"),
        ([live(HOUR - 2, HOUR, kind="logs")], "unknown"),
    ],
    ids=[
        "nobody", "whole", "half", "stopped before", "began after", "begins within", "short gap", "long gap",
        "one blind", "blind for a moment", "logs heal", "logs of another hour",
    ],
)  # fmt: skip
def test_an_hour(stretches: list[Stretch], sight: str) -> None:
    """Watched only if somebody watched all the time; blind if it stood still after it began; else unknown."""
    assert Watched(stretches, "111122223333", "us-east-1").judge(HOUR, HOUR + HOUR_MS) == sight


def test_logs_are_of_their_account_and_region() -> None:
    """Logs of one account say nothing of another; where the account is not known, any will do."""
    logs = [live(HOUR, HOUR + HOUR_MS, kind="logs", account="111122223333", region="us-east-1")]
    places = [("111122223333", "us-east-1"), ("111122223333", "eu-west-1"), ("444455556666", "us-east-1"), (None, None)]
    assert [Watched(logs, *place).judge(HOUR, HOUR + HOUR_MS) for place in places] == [
        "watched",
        "unknown",
        "unknown",
        "watched",
    ]


def test_several_places_are_as_good_as_the_worst() -> None:
    """A pair is watched where both its ends are."""
    assert worst(["watched", "watched"]) == "watched"
    assert worst(["watched", "unknown"]) == "unknown"
    assert worst(["blind", "unknown", "watched"]) == "blind"
    assert worst([]) == "unknown"
