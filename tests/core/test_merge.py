"""Evidence is joined, never replaced: order, duplicates and batches cannot matter."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crr_monitor.core.events import Mark
from crr_monitor.core.merge import merge
from crr_monitor.core.status import derive
from tests.core.generated import evidence
from tests.factories import AT, ONE_WAY, VERSION, evidence_of, failed, record_of, replica, user_write, written

if TYPE_CHECKING:
    from crr_monitor.core.evidence import Evidence


@given(evidence, evidence)
def test_commutative(one: Evidence, other: Evidence) -> None:
    """Which of two pieces of evidence comes first does not matter."""
    assert merge(one, other) == merge(other, one)


@given(evidence, evidence, evidence)
def test_associative(one: Evidence, two: Evidence, three: Evidence) -> None:
    """How evidence is cut into batches does not matter."""
    assert merge(merge(one, two), three) == merge(one, merge(two, three))


@given(st.lists(evidence, min_size=1, max_size=6), st.data())
def test_idempotent(parts: list[Evidence], data: st.DataObject) -> None:
    """What is known already changes nothing when it comes again."""
    merged = reduce(merge, parts)
    assert merge(merged, data.draw(st.sampled_from(parts))) == merged
    assert merge(merged, merged) == merged


@settings(max_examples=200)
@given(st.lists(evidence, min_size=1, max_size=7), st.data())
def test_any_order_with_any_duplicates(parts: list[Evidence], data: st.DataObject) -> None:
    """Any permutation with any duplicates ends in the same evidence, and so in the same record."""
    again = data.draw(st.permutations(parts + data.draw(st.lists(st.sampled_from(parts), max_size=4))))
    assert reduce(merge, again) == reduce(merge, parts)
    assert derive(reduce(merge, again)) == derive(reduce(merge, parts))


@given(st.lists(evidence, min_size=1, max_size=6))
def test_order_is_kept(parts: list[Evidence]) -> None:
    """Merged parts stand in order and once each, so that equal evidence is equal data."""
    merged = reduce(merge, parts)
    sightings = [(part.bucket, part.mark is Mark.REPLICA) for part in merged.sightings]
    failures = [(part.source or "", part.destination or "", part.metadata) for part in merged.failures]
    claims = [(part.kind, part.bucket, part.destination or "") for part in merged.claims]
    for identities in (sightings, failures, claims):
        assert identities == sorted(set(identities))


def test_two_versions_are_no_one() -> None:
    """Evidence about two versions of a key is never merged."""
    with pytest.raises(ValueError, match="evidence of two versions"):
        merge(evidence_of(user_write()), evidence_of(user_write(version_id=VERSION + "2")))


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([(400, False), (0, True)], (400, False)),
        ([(0, True), (999, False)], (999, False)),
        ([(400, False), (300, False)], (300, False)),
        ([(1_400, False), (0, True)], (0, True)),
        ([(1_000, True), (999, False)], (999, False)),
    ],
)
def test_time_of_a_write(times: list[tuple[int, bool]], expected: tuple[int, bool]) -> None:
    """The earliest second counts, and within it the time that was told most precisely."""
    for order in (times, times[::-1]):
        record = record_of(replica(), *[user_write(at=AT + ms, whole_seconds=whole) for ms, whole in order])
        assert (record.written_at, record.whole_seconds) == (AT + expected[0], expected[1])


def test_known_wins_over_unknown() -> None:
    """Size, ETag and place come from whichever message has them; of two sizes the smaller is the object's."""
    record = record_of(
        user_write(size=12), user_write(size=10, etag="e"), user_write(account="1"), written(region="r"), replica()
    )
    assert (record.size, record.etag, record.source_account, record.source_region) == (10, "e", "1", "r")


def test_latest_failure_whole() -> None:
    """Reason, time and origin of the latest failure are kept together, and the time of the first one apart."""
    merged = evidence_of(
        failed(at=AT + 9, reason="AssumeRoleNotPermitted"), failed(at=AT + 5), failed(at=AT + 7), topology=ONE_WAY
    )
    (failure,) = merged.failures
    assert (failure.first_at, failure.at, failure.reason) == (AT + 5, AT + 9, "AssumeRoleNotPermitted")
