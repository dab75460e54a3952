"""What is taken of all that is due, whichever store has it."""

from __future__ import annotations

from collections import Counter
from itertools import count, islice

from hypothesis import given
from hypothesis import strategies as st

from crr_monitor.core.topology import Topology
from crr_monitor.stores.base import LOOKED, Due, look_along, spread
from tests.factories import AT, SOURCE, config, record_of, rule, user_write

TOPOLOGY = Topology([config(rule(), bucket=bucket) for bucket in (SOURCE, "b", "c", "d")])
RECORDS = {each.bucket: record_of(user_write(each.bucket), topology=TOPOLOGY) for each in TOPOLOGY.configs}


def dues(*told: tuple[str, int]) -> list[Due]:
    """Of these buckets, since then, in order."""
    return [Due(RECORDS[bucket], 0, AT + ms) for bucket, ms in sorted(told, key=lambda each: each[1])]


walks = st.lists(st.tuples(st.sampled_from(sorted(RECORDS)), st.integers(0, 9)), max_size=40).map(
    lambda told: dues(*told)
)


def buckets(found: list[Due]) -> Counter[str | None]:
    """How many of each."""
    return Counter(due.record.source_bucket for due in found)


@given(walk=walks, limit=st.integers(0, 45))
def test_spread_is_fair(walk: list[Due], limit: int) -> None:
    """As much as there is up to the limit; a bucket of which something is left has at most one less than any other.

    Of each bucket it is what waits longest, and everything is in order.
    """
    found, there = spread(walk, limit), buckets(walk)
    taken = buckets(found)
    assert len(found) == min(limit, len(walk))
    assert [due.due_at for due in found] == sorted(due.due_at for due in found)
    for bucket, number in there.items():
        of_it = [due for due in walk if due.record.source_bucket == bucket]
        assert [due for due in found if due.record.source_bucket == bucket] == of_it[: taken[bucket]]
        assert taken[bucket] == number or taken[bucket] >= max(taken.values(), default=0) - 1


@given(walk=walks, limit=st.integers(1, 3))
def test_looks_in_a_row(walk: list[Due], limit: int) -> None:
    """Looks, each from the end of the one before, come past everything once, and each gives a fair part of its own."""
    begin, parts = 0, []
    while True:
        rest = [due for due in walk if due.due_at >= begin]
        look = look_along(iter(rest), limit)
        part = [due for due in rest if look.end is None or due.due_at < look.end]
        assert look.dues == spread(part, limit)
        parts += part
        if look.end is None:
            break
        assert len(part) >= limit * LOOKED
        begin = look.end
    assert parts == walk


def test_no_more_is_read_than_said() -> None:
    """However much one bucket has, a look reads so many times its limit and one more, and says where it ended."""
    numbers = count()
    look = look_along((Due(RECORDS[SOURCE], 0, AT + number) for number in numbers), 7)
    assert (len(look.dues), look.end) == (7, AT + 7 * LOOKED)
    assert next(numbers) == 7 * LOOKED + 1


def test_what_is_due_at_once_is_looked_at_together() -> None:
    """Where very much is due since one millisecond the look goes on to the next one, so that looks get on."""
    walk = islice((Due(RECORDS[SOURCE], 0, AT + (number > 500)) for number in count()), 900)
    assert look_along(walk, 2).end == AT + 1
