"""Evidence + evidence -> evidence: commutative, associative, idempotent, and without a clock.

Rules, all of them choices by a total order, so that no order of arrival can matter:

- a time is the earliest; within the same second the finer precision wins (a CloudTrail time is cut to the second);
- a mark is the strongest (replica, then source, then unknown); a fact that is known wins over one that is not;
- an expectation is the highest of :class:`~crr_monitor.core.evidence.Taken`;
- of failures the first time and the latest failure are kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from crr_monitor.core.events import Mark
from crr_monitor.core.evidence import Claim, Evidence, Expectation, Failure, Origin, Sighting

if TYPE_CHECKING:
    from collections.abc import Callable

    Part = TypeVar("Part", Sighting, Failure, Claim, Expectation)

REPLICA = Mark.REPLICA
TimeOrder = tuple[int, bool, int]
Identity = tuple[str | int, ...]


def time_order(at: int, whole_seconds: bool) -> TimeOrder:  # noqa: FBT001 - a time is this pair everywhere
    """Sort key under which the earlier time, and within one second the more precise one, is smaller."""
    return (at // 1000, whole_seconds, at)


def merge(one: Evidence, other: Evidence) -> Evidence:
    """All that both know. Both have to be about the same object version.

    Raises:
        ValueError: they are not.
    """
    if one.version_id != other.version_id or one.key != other.key:
        message = f"evidence of two versions: {one.key!r} {one.version_id} and {other.key!r} {other.version_id}"
        raise ValueError(message)
    return Evidence(
        one.key,
        one.version_id,
        union(one.sightings, other.sightings, _sighting_key, merge_sightings),
        union(one.failures, other.failures, _failure_key, _merge_failures) if other.failures else one.failures,
        union(one.claims, other.claims, _claim_key, _merge_claims) if other.claims else one.claims,
    )


def union(
    ones: tuple[Part, ...],
    others: tuple[Part, ...],
    key: Callable[[Part], Identity],
    combine: Callable[[Part, Part], Part],
) -> tuple[Part, ...]:
    """Both tuples as one, sorted by ``key``, with parts of the same key combined."""
    if not others or ones == others:
        return ones
    if not ones:
        return others
    if len(ones) == 1 and len(others) == 1:
        return _union_of_two(ones[0], others[0], key, combine)
    parts = {key(part): part for part in ones}
    for part in others:
        identity = key(part)
        known = parts.get(identity)
        parts[identity] = part if known is None else combine(known, part)
    return tuple([parts[identity] for identity in sorted(parts)])


def _union_of_two(
    one: Part, other: Part, key: Callable[[Part], Identity], combine: Callable[[Part, Part], Part]
) -> tuple[Part, ...]:
    # The common case, a source's and a replica's event, without building a dictionary.
    first, second = key(one), key(other)
    if first == second:
        return (combine(one, other),)
    return (one, other) if first < second else (other, one)


def _sighting_key(part: Sighting) -> Identity:
    # In Ceph's multisite a version is written and synced in buckets of the same name.
    return (part.bucket, part.mark is REPLICA)


def _failure_key(part: Failure) -> Identity:
    return (part.source or "", part.destination or "", part.metadata)


def _claim_key(part: Claim) -> Identity:
    return (part.kind, part.bucket, part.destination or "")


def _expectation_key(part: Expectation) -> Identity:
    return (part.bucket,)


def _known(one: str | None, other: str | None) -> str | None:
    """The one that is known; of two different ones the smaller, so that order cannot matter."""
    if one is None or other is None or one == other:
        return other if one is None else one
    return min(one, other)


def _merge_origins(one: tuple[Origin, ...], other: tuple[Origin, ...]) -> tuple[Origin, ...]:
    return one if one == other else tuple(sorted({*one, *other}))


def merge_sightings(one: Sighting, other: Sighting) -> Sighting:
    """Two sightings in one bucket as one: a version is written there once, so both tell of the same write."""
    first = min(one, other, key=lambda part: time_order(part.at, part.whole_seconds))
    sizes = [size for size in (one.size, other.size) if size is not None]
    return Sighting(
        one.bucket,
        first.at,
        first.whole_seconds,
        max(one.mark, other.mark),
        one.delete_marker or other.delete_marker,
        # aws-chunked uploads count their framing in CloudTrail, so the smaller size is the object's.
        min(sizes) if sizes else None,
        _known(one.etag, other.etag),
        _known(one.account, other.account),
        _known(one.region, other.region),
        union(one.expected, other.expected, _expectation_key, _merge_expectations),
        _merge_origins(one.replica_of, other.replica_of),
    )


def _merge_expectations(one: Expectation, other: Expectation) -> Expectation:
    if one.taken == other.taken:
        rule_id = _known(one.rule_id, other.rule_id)
    else:
        rule_id = one.rule_id if one.taken > other.taken else other.rule_id
    return Expectation(
        one.bucket,
        max(one.taken, other.taken),
        rule_id,
        _known(one.account, other.account),
        _known(one.region, other.region),
    )


def _failure_order(part: Failure) -> tuple[int, bool, str, bool, str]:
    at = -1 if part.at is None else part.at
    return (at, not part.whole_seconds, part.label, part.reason is not None, part.reason or "")


def _merge_failures(one: Failure, other: Failure) -> Failure:
    latest = max(one, other, key=_failure_order)
    firsts = [at for at in (one.first_at, other.first_at) if at is not None]
    return Failure(
        one.source,
        one.destination,
        one.metadata,
        min(firsts) if firsts else None,
        latest.at,
        latest.whole_seconds,
        latest.label,
        latest.reason,
        _known(one.rule_id, other.rule_id),
        _merge_origins(one.replica_of, other.replica_of),
    )


def _claim_order(part: Claim) -> tuple[bool, TimeOrder, str]:
    # A statement with a time is better than one without.
    at = (0, False, 0) if part.at is None else time_order(part.at, part.whole_seconds)
    return (part.at is None, at, part.label)


def _merge_claims(one: Claim, other: Claim) -> Claim:
    first = min(one, other, key=_claim_order)
    return Claim(
        one.kind,
        one.bucket,
        one.destination,
        first.at,
        first.whole_seconds,
        first.label,
        _known(one.rule_id, other.rule_id),
    )
