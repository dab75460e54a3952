"""What canaries that are there, and their events, say of the events of a bucket."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crr_monitor.core.hearing import Heard, Hearing, heard_from, is_heard, listen
from crr_monitor.core.reconcile import Place
from crr_monitor.core.times import MINUTE_MS
from tests.factories import AT, REPLICA, SOURCE, answered, record_of, replica, user_write

if TYPE_CHECKING:
    from crr_monitor.core.events import Event

PLACE = Place(REPLICA, "444455556666", "eu-west-1")
EACH = 5 * MINUTE_MS


def after(*looks: list[tuple[int, bool]]) -> Hearing:
    """The state after looks, five minutes apart, each with the canaries that it found.

    Of a canary: the number of the look before which it was written, and whether its event had come.
    """
    known = None
    for number, there in enumerate(looks):
        known = listen(known, PLACE, [(AT + at * EACH, heard) for at, heard in there], AT + number * EACH + 1)
    assert known is not None
    return known


def test_a_canary_whose_event_is_under_way_is_no_deafness_for_long() -> None:
    """Each look finds the newest one unheard; as the one before was heard meanwhile, the time begins anew."""
    known = after([(0, False)], [(0, True), (1, False)], [(1, True), (2, False)])
    assert known == Hearing("444455556666", "eu-west-1", AT + EACH, AT + 2 * EACH + 1)


def test_without_events_it_is_deaf_since_the_first_look() -> None:
    """Where canaries come and none is heard any more, it is deaf since the first look that found one unheard."""
    known = after([(0, True)], [(1, False)], [(1, False), (2, False)], [(1, False), (2, False), (3, False)])
    assert (known.heard_at, known.deaf_since) == (AT, AT + EACH + 1)


def test_a_lost_event_is_no_deafness() -> None:
    """CloudTrail's delivery is best effort: where a later event came, an earlier one is lost."""
    assert after([(0, False)], [(0, False), (1, True)]).deaf_since is None


def test_where_nothing_arrives_nothing_can_be_heard() -> None:
    """While replication stands still no canary is in the destination: that says nothing of its events."""
    assert after([(0, True)], [], [], []).deaf_since is None


@given(st.lists(st.lists(st.tuples(st.integers(0, 20), st.booleans()), max_size=5), min_size=1, max_size=12))
def test_it_is_never_deaf_to_what_was_heard(looks: list[list[tuple[int, bool]]]) -> None:
    """Whatever the looks found: nothing is missed where the newest canary that was ever there was heard."""
    known = after(*looks)
    heard = [at for look in looks for at, was in look if was]
    assert known.heard_at == max([0, *(AT + at * EACH for at in heard)])
    if all(AT + at * EACH <= known.heard_at for at, _ in looks[-1]):
        assert known.deaf_since is None


@pytest.mark.parametrize(
    ("events", "bucket", "heard"),
    [
        ([user_write()], SOURCE, True),
        ([user_write()], REPLICA, False),
        ([user_write(), replica()], REPLICA, True),
        ([replica()], SOURCE, False),
        ([user_write(), answered("replica", REPLICA)], REPLICA, False),
    ],
    ids=["its write", "not its replica", "its replica", "not its write", "only asked"],
)
def test_only_events_are_heard(events: list[Event], bucket: str, heard: bool) -> None:  # noqa: FBT001
    """An event of the bucket itself is hearing; that S3 says so is none."""
    assert is_heard(record_of(*events), bucket) is heard


def test_of_what_is_not_known_nothing_was_heard() -> None:
    """Nothing was heard of a version without a record."""
    assert not is_heard(None, SOURCE)


def test_the_note() -> None:
    """What is kept is read again; what another version wrote, or nobody, is empty."""
    found = Heard(AT, {REPLICA: Hearing(None, "eu-west-1", AT, None)})
    assert heard_from(found.to_bytes()) == found
    assert heard_from(b"?") == heard_from(None) == Heard()
