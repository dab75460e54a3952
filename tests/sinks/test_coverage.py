"""Looks at a hub's queue become stretches in files, which are whole whatever fails on the way."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crr_monitor.core import hearing
from crr_monitor.core.coverage import TIMES, Stretch, Watched, by_day
from crr_monitor.core.hearing import Heard, Hearing
from crr_monitor.core.times import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, format_time, parse_time
from crr_monitor.sinks.coverage import KEPT_MS, MISSED_LOOKS, NOTE, STALE_MS, STANDS_MS, Looks
from crr_monitor.sinks.watching import NOTE as LOOK_NOTE
from crr_monitor.stores.base import Batch, Counts
from crr_monitor.stores.memory import MemoryStore
from tests.factories import AT

EACH = 5 * MINUTE_MS
LATE = 30 * MINUTE_MS
LOOKS = Looks(monitor="one", source="queue", interval_ms=EACH, late_ms=LATE)
MIDNIGHT = (AT // DAY_MS + 1) * DAY_MS


class RefusedError(Exception):
    """The bucket takes nothing."""


class Hub:
    """A store, and a bucket that can refuse."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.files: dict[str, bytes] = {}
        self.puts: list[str] = []
        self.refuses = False

    def put(self, below: str, lines: bytes) -> None:
        """Keep a file."""
        if self.refuses:
            raise RefusedError
        self.puts.append(below)
        self.files[below] = lines

    def look(self, now: int, waiting: int = 0, taken: int = 0) -> None:
        """One look, after so many messages were taken out."""
        if taken:
            self.store.apply(Batch(counts=Counts(messages=taken)))
        LOOKS.tell(self.store, waiting, now, self.put)

    def stretches(self) -> list[Stretch]:
        """What the bucket has, in order."""
        found = []
        for body in self.files.values():
            for line in body.splitlines():
                told: dict[str, Any] = json.loads(line)
                times = {name: parse_time(told[name])[0] for name in TIMES if name in told}
                found.append(Stretch(**{**told, **times}))
        return sorted(found, key=lambda each: (each.since, each.until))

    def told(self, origin: int = AT) -> list[tuple[str, int, int]]:
        """State, beginning and end of each stretch, in minutes."""
        return [
            (each.state, (each.since - origin) // MINUTE_MS, (each.until - origin) // MINUTE_MS)
            for each in self.stretches()
        ]


def test_looks_are_one_stretch() -> None:
    """From the first look to the last it was watched; a look that comes late is none that is missing."""
    hub = Hub()
    for at in (0, 5, 10, 10 + MISSED_LOOKS * 5):
        hub.look(AT + at * MINUTE_MS)
    assert hub.told() == [("watched", 0, 25)]
    assert [*hub.files] == [f"coverage/day={format_time(AT)[:10]}/hub-one.ndjson"]


def test_missing_looks_are_a_gap() -> None:
    """Where looks are further apart nothing is told of the time between, and a report calls it blind."""
    hub = Hub()
    hub.look(AT)
    hub.look(AT + MISSED_LOOKS * EACH + SECOND_MS)
    assert hub.told() == [("watched", 0, 0), ("watched", 15, 15)]
    assert Watched(hub.stretches(), None, None).judge(AT, AT + MISSED_LOOKS * EACH) == "blind"


def test_what_waits_and_is_not_taken_is_blind() -> None:
    """Blind it is since the look that first saw the messages wait, until all are taken that had waited for long."""
    hub = Hub()
    for at, waiting, taken in ((0, 0, 3), (5, 2, 0), (10, 4, 0), (15, 4, 0), (20, 5, 0), (25, 6, 0), (30, 5, 4)):
        hub.look(AT + at * MINUTE_MS, waiting, taken)
    assert hub.told() == [("watched", 0, 15), ("blind", 5, 25), ("watched", 30, 30)]
    (blind,) = [each for each in hub.stretches() if each.state == "blind"]
    assert blind.problem == f"messages have waited to be read since {format_time(AT + EACH)}"
    assert (blind.waiting, blind.queue_age_seconds) == (6, 20 * 60)


def test_a_queue_that_is_read_too_slowly_is_blind() -> None:
    """Ten waited and one is taken at each look: some of the ten are as old as that look, which is too old at last."""
    hub = Hub()
    for number in range(7):
        hub.look(AT + number * EACH, 10, 1)
    assert hub.told() == [("watched", 0, 10), ("blind", 0, 30)]
    hub.look(AT + 7 * EACH, 10, 1_000)
    assert hub.told()[-1] == ("watched", 35, 35)


def test_while_nobody_reads_not_every_look_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest messages tell the age; what is remembered for it does not grow with every look."""
    monkeypatch.setattr("crr_monitor.sinks.coverage.MOST_WAITS", 3)
    hub = Hub()
    for number in range(20):
        hub.look(AT + number * EACH, number)
    assert hub.told() == [("watched", 0, 15), ("blind", 5, 95)]
    assert len(json.loads(hub.store.note(NOTE) or b"")["waits"]) == 3


def heard(hub: Hub, at: int, deaf_since: int | None) -> None:
    """The canary's note: of a bucket in another account."""
    told = Hearing("444455556666", "eu-west-1", AT, deaf_since)
    hub.store.keep_note(hearing.NOTE, Heard(at, {"theirs-dr": told}).to_bytes())


def test_a_canary_that_is_not_heard_is_blindness_of_its_account() -> None:
    """Later than the time for canaries the account is blind, since the canary lay there; no other account is."""
    hub = Hub()
    for number in range(13):
        now = AT + number * EACH
        heard(hub, now, AT + EACH if number < 11 else None)
        hub.look(now)
    (blind,) = [each for each in hub.stretches() if each.state == "blind"]
    assert (blind.account, blind.region, blind.source) == ("444455556666", "eu-west-1", "canary in theirs-dr")
    assert (blind.since, blind.until) == (AT + EACH, AT + 10 * EACH)
    assert blind.problem == f"canaries are there, and no event of them has come since {format_time(AT + EACH)}"
    hour = AT, AT + HOUR_MS
    assert Watched(hub.stretches(), "444455556666", "eu-west-1").judge(*hour) == "blind"
    assert Watched(hub.stretches(), "111122223333", "eu-west-1").judge(*hour) == "watched"


def test_quiet_accounts_are_noted_with_their_newest_event() -> None:
    """An account of which nothing came for an hour has a line that says since when, and is as watched as the others."""
    hub = Hub()
    hub.store.keep_note(LOOK_NOTE, json.dumps({"late": [], "newest": {"quiet": AT - HOUR_MS, "busy": AT}}).encode())
    hub.look(AT)
    hub.look(AT + EACH)
    (quiet,) = [each for each in hub.stretches() if each.account is not None]
    assert (quiet.account, quiet.state, quiet.since, quiet.until) == ("quiet", "watched", AT, AT + EACH)
    assert quiet.newest_event_at == AT - HOUR_MS
    assert Watched(hub.stretches(), "quiet", "eu-west-1").judge(AT, AT + EACH) == "watched"


def test_of_a_queue_that_is_not_read_no_account_is_called_quiet() -> None:
    """What an account has to say may be in the queue."""
    hub = Hub()
    hub.store.keep_note(LOOK_NOTE, json.dumps({"newest": {"quiet": AT - DAY_MS}}).encode())
    for number in range(5):
        hub.look(AT + number * EACH, 3)
    assert max(each.until for each in hub.stretches() if each.account is not None) == AT + 2 * EACH


@pytest.mark.parametrize(
    ("looked", "deaf_since"),
    [
        pytest.param(AT, AT - LATE, id="not late yet"),
        pytest.param(AT - STALE_MS - 1, AT - 4 * HOUR_MS, id="nobody looks at the canaries any more"),
        pytest.param(AT, None, id="all heard, or none there"),
    ],
)
def test_what_a_canary_does_not_say(looked: int, deaf_since: int | None) -> None:
    """Quiet is no blindness."""
    hub = Hub()
    heard(hub, looked, deaf_since)
    hub.look(AT)
    assert hub.told() == [("watched", 0, 0)]


@pytest.mark.parametrize(("waiting", "taken"), [(0, 0), (7, 7)], ids=["empty", "busy"])
def test_a_queue_that_is_empty_or_moves_is_watched(waiting: int, taken: int) -> None:
    """Nothing to read is no blindness, nor is much to read."""
    hub = Hub()
    for number in range(13):
        hub.look(AT + number * EACH, waiting, taken)
    assert hub.told() == [("watched", 0, 60)]


def test_a_message_that_has_just_come_is_no_blindness() -> None:
    """After a quiet time nobody could have taken a message before it came."""
    hub = Hub()
    for at, waiting in ((0, 0), (STANDS_MS, 1)):
        hub.look(AT + at, waiting)
    assert hub.told() == [("watched", 0, 15)]


def test_newest_event() -> None:
    """It is told what the newest event was, and how many messages waited."""
    hub = Hub()
    hub.store.apply(Batch(newest_event=AT))
    hub.look(AT + EACH, 4)
    (line,) = map(json.loads, hub.files.popitem()[1].splitlines())
    assert (line["newest_event_at"], line["waiting"]) == (format_time(AT), 4)


def test_days_have_files_of_their_own() -> None:
    """A day's file is written for an hour after its end, and then no more."""
    hub = Hub()
    for number in range(-1, KEPT_MS // EACH + 3):
        hub.look(MIDNIGHT + number * EACH)
    assert hub.told(MIDNIGHT) == [("watched", -5, 0), ("watched", 0, 70)]
    assert len({*hub.puts}) == len(hub.files) == 2
    assert hub.puts.count(min(hub.files)) == 14


def test_refused_files_are_written_later() -> None:
    """While the bucket refuses, days are remembered; all are there when it takes them again."""
    hub = Hub()
    hub.refuses = True
    for at in range(0, 2 * DAY_MS, 2 * HOUR_MS // 8):
        with pytest.raises(RefusedError):
            hub.look(AT + at)
    hub.refuses = False
    hub.look(AT + 2 * DAY_MS)
    minutes = (MIDNIGHT - AT) // MINUTE_MS
    assert hub.told() == [
        ("watched", 0, minutes),
        ("watched", minutes, minutes + 1_440),
        ("watched", minutes + 1_440, 2 * 1_440),
    ]


def test_a_note_that_cannot_be_read_begins_anew() -> None:
    """What another version wrote is no reason to say nothing."""
    hub = Hub()
    hub.store.keep_note(NOTE, b"?")
    hub.look(AT)
    assert hub.told() == [("watched", 0, 0)]


@given(
    st.lists(
        st.tuples(st.integers(1, 40), st.integers(0, 2), st.integers(0, 1), st.booleans()), min_size=1, max_size=40
    )
)
def test_no_time_is_invented(looks: list[tuple[int, int, int, bool]]) -> None:
    """Whatever is late, stands or is refused: what was told stays told, in its day, and no gap counts as watched."""
    hub, now, before = Hub(), MIDNIGHT - 4 * HOUR_MS, None
    told: list[int] = []
    gaps: list[tuple[int, int]] = []
    for minutes, waiting, taken, refuses in [*looks, (1, 0, 0, False)]:
        now += minutes * MINUTE_MS
        hub.refuses = refuses
        try:
            hub.look(now, waiting, taken)
        except RefusedError:
            assert refuses
        told.append(now)
        if before is not None and now - before > MISSED_LOOKS * EACH:
            gaps.append((before, now))
        before = now
    found = hub.stretches()
    assert all(by_day(each) == [each] for each in found)
    assert all(any(each.since <= at <= each.until for each in found) for at in told)
    for since, until in gaps:
        assert not [each for each in found if each.state == "watched" and each.since < until and each.until > since]
