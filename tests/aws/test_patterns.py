"""Event patterns, and how buckets are shared out among rules."""

from __future__ import annotations

import itertools
import json
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crr_monitor.aws.patterns import (
    DENIALS,
    PATTERN_BYTES,
    READS,
    buckets_in,
    denied_reads_pattern,
    dump,
    rules_for,
)
from crr_monitor.decode import decode
from tests.messages import cloudtrail_denied, eventbridge

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


def test_denied_reads_have_one_rule() -> None:
    """The rule of denied reads is short enough for EventBridge and names no bucket; it has each name that is logged."""
    pattern = denied_reads_pattern()
    assert len(dump(pattern)) <= PATTERN_BYTES
    assert buckets_in(pattern) == frozenset()
    assert {*READS["Objects"]} <= {*READS["All"]} == {*pattern["detail"]["eventName"]}


CODES = (
    *("AccessDenied", "AccessDeniedException", "Client.AccessDenied", "AllAccessDisabled", "Forbidden"),
    *("UnauthorizedAccess", "KMS.DisabledException", "Kms.KMSInvalidStateException", "KMS.NotFoundException"),
    *("MethodNotAllowed", "NoSuchKey", "SlowDown", "InternalError", "AllAccess"),
)


@pytest.mark.parametrize("code", CODES)
def test_denials_are_those_of_the_decoder(code: str) -> None:
    """The rule lets through just the reads that the decoder takes as denied, so nothing else costs a message."""
    record = cloudtrail_denied("GetObject", errorCode=code, errorMessage="words")
    found = decode(json.dumps(eventbridge(record)).encode())
    matches = {
        "wildcard": lambda value: fnmatchcase(code, value),
        "prefix": code.startswith,
        "equals": code.__eq__,
    }
    passed = any(
        matches[name](value)
        for each in DENIALS
        for name, value in (each if isinstance(each, dict) else {"equals": each}).items()
    )
    assert passed == bool(found.events)
