"""Which status follows from merged evidence: no clock, no topology, no order of arrival.

A copy has the highest status for which there is evidence::

    evidence for the copy                                   status
    -----------------------------------------------------   --------------
    the replica was seen, or S3 said that it is there       COMPLETED
    S3 reported failure of the object                       FAILED
    the version was deleted at the source                   SOURCE_DELETED
    S3 said that no rule took it                            NOT_ELIGIBLE
    a rule in force takes it                                PENDING
    a rule may take it                                      UNCERTAIN
    none of these                                           no copy
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from crr_monitor.core.canary_keys import is_canary
from crr_monitor.core.evidence import ClaimKind, Origin, Taken
from crr_monitor.core.merge import merge_sightings, time_order
from crr_monitor.core.model import OPEN, Copy, Record, Status
from crr_monitor.core.roles import REPLICA, find_source

if TYPE_CHECKING:
    from collections.abc import Iterable

    from crr_monitor.core.evidence import Claim, Evidence, Expectation, Failure, Sighting

SEEN, FAILURE, DELETED, REFUSED, EXPECTED, POSSIBLE = 1, 2, 4, 8, 16, 32

COPY_PRECEDENCE = (
    (SEEN, Status.COMPLETED),
    (FAILURE, Status.FAILED),
    (DELETED, Status.SOURCE_DELETED),
    (REFUSED, Status.NOT_ELIGIBLE),
    (EXPECTED, Status.PENDING),
    (POSSIBLE, Status.UNCERTAIN),
)
"""The table above, highest first."""

COPY_STATUS = tuple(
    next((status for fact, status in COPY_PRECEDENCE if facts & fact), Status.HIDDEN) for facts in range(2 * POSSIBLE)
)
"""Status of a copy by the bits of its evidence."""

VERSION_PRECEDENCE = (
    Status.FAILED,
    Status.PENDING,
    Status.COMPLETED,
    Status.SOURCE_DELETED,
    Status.NOT_ELIGIBLE,
    Status.UNCERTAIN,
)
"""An object version has the first of these that any of its copies has."""

VERSION_STATUS = tuple(
    (
        next((status for status in VERSION_PRECEDENCE if present >> status & 1), Status.HIDDEN),
        bool(present >> Status.UNCERTAIN & 1),
        not any(present >> status & 1 for status in OPEN),
    )
    for present in range(1 << len(Status))
)
"""By the bits of the copies' statuses: the version's status, whether any is uncertain, whether all are settled."""


def derive(evidence: Evidence) -> Record:
    """The record of an object version, as its evidence stands now."""
    source, undecided = find_source(evidence)
    origin = None
    others = []
    for part in evidence.sightings:
        if part.bucket == source and part.mark is not REPLICA:
            origin = part
        else:
            others.append(part)
    if len(others) > 1:
        others = _one_per_bucket(others)
    if undecided:
        copies: tuple[Copy, ...] = ()
    elif evidence.failures or evidence.claims:
        copies = _copies(evidence, source, origin, others)
    else:
        copies = _plain_copies(origin, others)
    return _record(evidence, source, origin, copies, undecided=undecided)


def _one_per_bucket(parts: list[Sighting]) -> list[Sighting]:
    """A replica may have been seen by messages with its mark and by others without: one sighting of both."""
    found: dict[str, Sighting] = {}
    for part in parts:
        known = found.get(part.bucket)
        found[part.bucket] = part if known is None else merge_sightings(known, part)
    return list(found.values())


def _copies(
    evidence: Evidence, source: str | None, origin: Sighting | None, others: list[Sighting]
) -> tuple[Copy, ...]:
    expected: dict[str | None, Expectation] = {}
    written_at = None if origin is None else origin.at
    if origin is not None:
        expected.update({part.bucket: part for part in origin.expected})
    seen: dict[str | None, Sighting] = {part.bucket: part for part in others}
    claims = [claim for claim in evidence.claims if claim.kind in _ABOUT_COPIES]
    destinations = {*expected, *seen}
    destinations.update(part.destination for part in evidence.failures if part.destination and not part.metadata)
    destinations.update(claim.destination for claim in claims if claim.destination is not None)
    destinations.update(
        claim.bucket for claim in evidence.claims if claim.kind is ClaimKind.REPLICA and claim.bucket != source
    )
    meant = _meant(destinations, expected, seen)
    if not meant and _says_something(evidence):
        # Something happened to a copy, and nobody has told where.
        destinations.add(None)
        meant = {None}
    copies = [
        _copy(evidence, source, bucket, expected.get(bucket), seen.get(bucket), written_at, unnamed=bucket in meant)
        for bucket in sorted(destinations, key=lambda bucket: bucket or "")
    ]
    return tuple([copy for copy in copies if copy.status is not Status.HIDDEN])


_ABOUT_COPIES = frozenset({ClaimKind.COMPLETED, ClaimKind.NOT_ELIGIBLE, ClaimKind.AWAITED})


def _meant(
    destinations: set[str | None], expected: dict[str | None, Expectation], seen: dict[str | None, Sighting]
) -> set[str | None]:
    """The copies meant where S3 names no destination: all that a rule took, else the only one it may have taken."""
    taken = {
        bucket
        for bucket in destinations
        if bucket in seen or bucket not in expected or expected[bucket].taken is Taken.YES
    }
    if taken:
        return taken
    possible = {bucket for bucket, part in expected.items() if part.taken is Taken.UNCERTAIN}
    # A write older than the configuration as far as it is known: S3's word shows that it was taken all the same.
    possible = possible or {bucket for bucket, part in expected.items() if part.taken is Taken.EARLIER}
    return possible if len(possible) == 1 else set()


def _says_something(evidence: Evidence) -> bool:
    return any(part.destination is None and not part.metadata for part in evidence.failures) or any(
        claim.kind is ClaimKind.COMPLETED and claim.destination is None for claim in evidence.claims
    )


def _plain_copies(origin: Sighting | None, others: list[Sighting]) -> tuple[Copy, ...]:
    """The copies where neither failures nor statements are known: nearly all versions, and so worth a short way."""
    copies = []
    written_at = None
    left = others
    if origin is not None:
        written_at = origin.at
        left = others.copy()
        for expectation in origin.expected:
            facts = TAKEN_FACTS[expectation.taken]
            sighting = None
            for part in others:
                if part.bucket == expectation.bucket:
                    sighting = part
                    facts |= SEEN
                    left.remove(part)
            if facts:
                copies.append(_bare_copy(expectation.bucket, COPY_STATUS[facts], expectation, sighting, written_at))
    # Nothing told that a rule takes it there, but there it is.
    copies.extend([_bare_copy(part.bucket, COPY_STATUS[SEEN], None, part, written_at) for part in left])
    if len(copies) > 1:
        copies.sort(key=lambda copy: copy.bucket or "")
    return tuple(copies)


TAKEN_FACTS = (0, POSSIBLE, EXPECTED, 0)
"""What an expectation is evidence of, by :class:`~crr_monitor.core.evidence.Taken`."""


def _bare_copy(
    bucket: str | None,
    status: Status,
    expectation: Expectation | None,
    sighting: Sighting | None,
    written_at: int | None,
) -> Copy:
    if expectation is None:
        account = region = rule_id = None
    else:
        account, region, rule_id = expectation.account, expectation.region, expectation.rule_id
    if sighting is None:
        return Copy(bucket, status, account, region, rule_id)
    if rule_id is None and len(sighting.replica_of) == 1:
        rule_id = sighting.replica_of[0].rule_id or None
    at = sighting.at
    return Copy(
        bucket,
        status,
        sighting.account or account,
        sighting.region or region,
        rule_id,
        at,
        None if written_at is None else lag_between(written_at, at),
        None,
        None,
        "replica-event",
        False,  # noqa: FBT003 - not repaired, and no failure of metadata: by position, as it is made for nearly every copy
        None,
        None,
        sighting.whole_seconds,
    )


def lag_between(written_at: int, replicated_at: int) -> int:
    """Milliseconds from the write to the copy's arrival; clocks that cross give 0."""
    return replicated_at - written_at if replicated_at > written_at else 0


def _copy(  # noqa: PLR0913, PLR0917 - all that is known of one copy
    evidence: Evidence,
    source: str | None,
    bucket: str | None,
    expectation: Expectation | None,
    sighting: Sighting | None,
    written_at: int | None,
    *,
    unnamed: bool,
) -> Copy:
    taken = None if expectation is None else expectation.taken
    statements = [claim for claim in evidence.claims if _concerns(claim, source, bucket, unnamed=unnamed)]
    if taken is Taken.UNCERTAIN and not unnamed:
        # "No rule took it" is said of them all.
        statements.extend(
            claim for claim in evidence.claims if claim.kind is ClaimKind.NOT_ELIGIBLE and claim.destination is None
        )
    failures = [
        part for part in evidence.failures if part.destination == bucket or (part.destination is None and unnamed)
    ]
    facts = 0 if taken is None else TAKEN_FACTS[taken]
    for claim in statements:
        facts |= _CLAIM_FACTS[claim.kind]
    if sighting is not None:
        facts |= SEEN
    failure = _latest([part for part in failures if not part.metadata])
    if failure is not None:
        facts |= FAILURE
    if facts == DELETED:  # gone, and nothing says that it ever had to go anywhere
        facts = 0
    bare = _bare_copy(bucket, COPY_STATUS[facts], expectation, sighting, None)
    return _full_copy(bare, statements, failures, failure, written_at)


_CLAIM_FACTS = {
    ClaimKind.COMPLETED: SEEN,
    ClaimKind.REPLICA: SEEN,
    ClaimKind.NOT_ELIGIBLE: REFUSED,
    ClaimKind.GONE: DELETED,
    ClaimKind.AWAITED: EXPECTED,
}


def _concerns(claim: Claim, source: str | None, bucket: str | None, *, unnamed: bool) -> bool:
    """Whether a statement is about the copy at ``bucket``."""
    if claim.kind is ClaimKind.REPLICA:
        return claim.bucket == bucket
    if claim.kind is ClaimKind.GONE:
        return claim.bucket == source and claim.bucket != bucket
    return unnamed if claim.destination is None else claim.destination == bucket


def _latest(failures: Iterable[Failure]) -> Failure | None:
    return max(failures, key=lambda part: (part.at is not None, part.at or 0, part.reason or ""), default=None)


def _full_copy(
    bare: Copy, statements: list[Claim], failures: list[Failure], failure: Failure | None, written_at: int | None
) -> Copy:
    """The copy with what failures and statements add to it."""
    times = [(bare.replicated_at, bare.whole_seconds)] if bare.replicated_at is not None else []
    times.extend(
        (claim.at, claim.whole_seconds)
        for claim in statements
        if claim.kind is ClaimKind.COMPLETED and claim.at is not None
    )
    replicated_at, whole = min(times, key=lambda time: time_order(*time), default=(None, False))
    firsts = [part.first_at for part in failures if part.first_at is not None and not part.metadata]
    metadata = _latest([part for part in failures if part.metadata])
    told = [part.rule_id for part in failures] + [claim.rule_id for claim in statements]
    rules = [rule_id for rule_id in told if rule_id is not None]
    rules = rules or [part.replica_of[0].rule_id for part in failures if len(part.replica_of) == 1]
    return Copy(
        bare.bucket,
        bare.status,
        bare.account,
        bare.region,
        bare.rule_id or (min(rules) or None if rules else None),
        replicated_at,
        None if written_at is None or replicated_at is None else lag_between(written_at, replicated_at),
        None if failure is None else failure.at,
        None if failure is None else failure.reason,
        _label(bare.status, statements, failure, seen=replicated_at is not None),
        bare.status is Status.COMPLETED and failure is not None and _came_first(firsts, replicated_at),
        None if metadata is None else metadata.at,
        None if metadata is None else metadata.reason,
        whole or any(part is not None and part.whole_seconds for part in (failure, metadata)),
    )


def _came_first(failures: list[int], replicated_at: int | None) -> bool:
    """Whether it failed before it arrived; where a time is unknown, a failure that was told is believed."""
    return replicated_at is None or not failures or min(failures) <= replicated_at


def _label(status: Status, statements: list[Claim], failure: Failure | None, *, seen: bool) -> str | None:
    if status is Status.COMPLETED:
        said = [claim.label for claim in statements if _CLAIM_FACTS[claim.kind] == SEEN]
        return "replica-event" if seen else min(said)
    if status is Status.FAILED and failure is not None:
        return failure.label
    if status is Status.NOT_ELIGIBLE:
        return min(claim.label for claim in statements if claim.kind is ClaimKind.NOT_ELIGIBLE)
    return None


def _record(
    evidence: Evidence, source: str | None, origin: Sighting | None, copies: tuple[Copy, ...], *, undecided: bool
) -> Record:
    marker = False
    for part in evidence.sightings:
        if part.delete_marker:
            marker = True
    written_at = account = region = etag = None
    size = None
    if origin is not None:
        written_at, account, region, size, etag = origin.at, origin.account, origin.region, origin.size, origin.etag
    elif not undecided:
        place = _only_possible_origin(evidence, source)
        if place is not None:
            source, account, region = place.bucket, place.account or None, place.region or None
    if size is None:
        sizes = [part.size for part in evidence.sightings if part.size is not None]
        size = min(sizes) if sizes else None
    tied = undecided and len(evidence.sightings) > 1
    present, whole_seconds = 0, origin is not None and origin.whole_seconds
    for copy in copies:
        present |= 1 << copy.status
        whole_seconds = whole_seconds or copy.whole_seconds
    status, uncertain, settled = VERSION_STATUS[present]
    return Record(
        evidence.key,
        evidence.version_id,
        Status.UNCERTAIN if tied else status,
        written_at if written_at is not None else _first_time(evidence),
        copies,
        source,
        account,
        region,
        marker,
        None if marker else size,
        None if marker else etag,
        written_at,
        whole_seconds,
        tied,
        uncertain or tied,
        # Nobody is asked about a canary, nor waits for its repair: whoever writes it judges it.
        (settled and not tied) or is_canary(evidence.key),
        tuple([part.bucket for part in evidence.sightings]) if tied else (),
    )


def _only_possible_origin(evidence: Evidence, source: str | None) -> Origin | None:
    """Without the source's event: the bucket (or its place) whose rules alone could have brought the replica here."""
    told = [part.replica_of for part in evidence.sightings] + [part.replica_of for part in evidence.failures]
    possible = {
        origin.bucket: origin for origins in told for origin in origins if source is None or origin.bucket == source
    }
    return next(iter(possible.values())) if len(possible) == 1 else None


def _first_time(evidence: Evidence) -> int:
    """When the version was first heard of; 0 where S3 was only asked about it."""
    times = [part.at for part in evidence.sightings]
    times.extend(part.first_at for part in evidence.failures if part.first_at is not None)
    times.extend(claim.at for claim in evidence.claims if claim.at is not None)
    return min(times, default=0)
