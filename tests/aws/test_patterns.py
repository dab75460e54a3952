"""Event patterns, and how buckets are shared out among rules."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crr_monitor.aws.patterns import PATTERN_BYTES, buckets_in, dump, rules_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crr_monitor.aws.words import EventSource

    Patterns = dict[str, dict[str, Any]]

CLOUDTRAIL: EventSource = "CloudTrail"
EVENTBRIDGE: EventSource = "EventBridge"

NAMES = st.sets(st.from_regex(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", fullmatch=True), max_size=120)
SOURCES = st.sampled_from([CLOUDTRAIL, EVENTBRIDGE])


def test_no_buckets_no_rules() -> None:
    """Where nothing is watched there is no rule: one without names would take everybody's events."""
    assert rules_for("CloudTrail", []) == {}


@given(SOURCES, NAMES)
def test_every_bucket_is_in_exactly_one_rule(source: EventSource, names: set[str]) -> None:
    """The rules together name every bucket once, and each is as short as EventBridge asks."""
    rules = rules_for(source, names)
    found = [name for pattern in rules.values() for name in buckets_in(pattern)]
    assert sorted(found) == sorted(names)
    assert all(len(dump(pattern)) <= PATTERN_BYTES for pattern in rules.values())


def steps(old: Patterns, new: Patterns) -> Iterator[set[str]]:
    """The buckets that are in some rule after each step from one set of rules to the other, in the plan's order."""
    there = dict(old)
    for name in [*(name for name in new if name not in old), *sorted(old.keys() & new.keys())]:
        there[name] = new[name]
        yield {bucket for pattern in there.values() for bucket in buckets_in(pattern)}


@given(SOURCES, NAMES, NAMES)
def test_no_bucket_is_missed_while_rules_change(source: EventSource, before: set[str], after: set[str]) -> None:
    """A bucket that was and stays watched is always in some rule while rules are made, changed and removed."""
    assert all(before & after <= seen for seen in steps(rules_for(source, before), rules_for(source, after)))


@pytest.mark.parametrize("source", [CLOUDTRAIL, EVENTBRIDGE])
def test_no_bucket_is_missed_while_rules_split_and_join(source: EventSource) -> None:
    """The same where the number of rules grows and shrinks, from one to many."""
    names = [f"{number:03}-{'x' * 50}" for number in range(160)]
    sizes = range(10, 161, 10)
    made = {size: rules_for(source, names[:size]) for size in sizes}
    assert len({len(rules) for rules in made.values()}) > 3
    for one, other in itertools.permutations(sizes, 2):
        kept = set(names[: min(one, other)])
        assert all(kept <= seen for seen in steps(made[one], made[other]))
