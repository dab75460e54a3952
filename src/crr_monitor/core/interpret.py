"""One event, read in the light of the topology, as evidence: what is stored is what the event meant when it came."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crr_monitor.core.events import Answered, Awaited, Confirmed, Deleted, Failed, Mark, Written
from crr_monitor.core.evidence import Claim, ClaimKind, Evidence, Expectation, Failure, Origin, Sighting
from crr_monitor.core.failures import Effect, effect_of

if TYPE_CHECKING:
    from crr_monitor.core.events import Event
    from crr_monitor.core.topology import Topology

# Looking up a member of an enumeration takes longer than a global name.
SOURCE, REPLICA = Mark.SOURCE, Mark.REPLICA


def interpret(event: Event, topology: Topology) -> Evidence | None:  # noqa: PLR0911 - one for each kind of event
    """The event as evidence, or ``None`` when it leaves no record: no enabled rule of a known topology takes the write.

    With an empty topology every write is evidence, since any bucket may turn out to be a source or a destination.
    """
    if isinstance(event, Written):
        return _written(event, topology)
    if isinstance(event, Failed):
        return _failed(event, topology)
    if isinstance(event, Deleted):
        if topology.any_rules and not topology.is_source(event.bucket):
            return None  # a deletion matters only at the source
        claim = Claim(ClaimKind.GONE, event.bucket, None, event.at, event.whole_seconds, "replica-event")
        return Evidence(event.key, event.version_id, claims=(claim,))
    if isinstance(event, Answered):
        return _answered(event)
    if isinstance(event, Confirmed):
        return _confirmed(event, topology)
    return _awaited(event, topology)


def _written(event: Written, topology: Topology) -> Evidence | None:
    expected: tuple[Expectation, ...] = ()
    replica_of: tuple[Origin, ...] = ()
    bucket, mark, account, region = event.bucket, event.mark, event.account, event.region
    if topology.any_rules:
        if mark is not REPLICA:
            expected = topology.expected(event)
        if mark is not SOURCE and not event.by_lifecycle:
            replica_of = topology.origins(bucket, event.key, delete_marker=event.delete_marker)
        if not expected and not replica_of and mark is not REPLICA:
            return None
        if account is None or region is None:
            known_account, known_region = topology.place(bucket)
            account, region = account or known_account, region or known_region
    sighting = Sighting(
        bucket,
        event.at,
        event.whole_seconds,
        mark,
        event.delete_marker,
        event.size,
        event.etag,
        account,
        region,
        expected,
        replica_of,
    )
    return Evidence(event.key, event.version_id, (sighting,))


def _source_write(event: Failed | Confirmed | Awaited, source: str, topology: Topology) -> tuple[Sighting, ...]:
    """S3's messages about a version tell when it was written at the source: as good as the event of that write."""
    if event.written_at is None:
        return ()
    written = Written(
        source,
        event.key,
        event.version_id,
        event.written_at,
        event.written_whole_seconds,
        Mark.SOURCE,
        delete_marker=isinstance(event, Failed) and event.delete_marker is True,
        size=event.size,
        etag=event.etag,
        account=event.account,
        region=event.region,
    )
    evidence = _written(written, topology)
    if evidence is not None:
        return evidence.sightings
    # No rule that is known takes it, but S3 says that one did.
    return (
        Sighting(
            source,
            written.at,
            written.whole_seconds,
            Mark.SOURCE,
            written.delete_marker,
            written.size,
            written.etag,
            written.account,
            written.region,
        ),
    )


def _failed(event: Failed, topology: Topology) -> Evidence | None:
    sightings: tuple[Sighting, ...] = ()
    if event.source is not None and not event.metadata:
        sightings = _source_write(event, event.source, topology)
    effect = Effect.FAILED if event.metadata else effect_of(event.reason)
    failures: tuple[Failure, ...] = ()
    claims: tuple[Claim, ...] = ()
    if effect is Effect.FAILED:
        failures = (
            Failure(
                event.source,
                event.destination,
                event.metadata,
                event.at,
                event.at,
                event.whole_seconds,
                event.label,
                event.reason,
                event.rule_id,
                () if event.destination is None else topology.origins(event.destination, event.key),
            ),
        )
    elif effect is not Effect.NOTHING and event.source is not None:
        kind = ClaimKind.GONE if effect is Effect.SOURCE_GONE else ClaimKind.NOT_ELIGIBLE
        destination = None if kind is ClaimKind.GONE else event.destination
        claim = Claim(kind, event.source, destination, event.at, event.whole_seconds, event.label, event.rule_id)
        claims = (claim,)
    if not (sightings or failures or claims):  # a benign reason, and no source to say it of
        return None
    return Evidence(event.key, event.version_id, sightings, failures, claims)


def _confirmed(event: Confirmed, topology: Topology) -> Evidence:
    claim = Claim(
        ClaimKind.COMPLETED,
        event.source,
        event.destination,
        event.at,
        event.whole_seconds,
        "replica-event",
        event.rule_id,
    )
    return Evidence(event.key, event.version_id, _source_write(event, event.source, topology), claims=(claim,))


def _awaited(event: Awaited, topology: Topology) -> Evidence:
    claim = Claim(
        ClaimKind.AWAITED,
        event.source,
        event.destination,
        event.at,
        event.whole_seconds,
        "replica-event",
        event.rule_id,
    )
    return Evidence(event.key, event.version_id, _source_write(event, event.source, topology), claims=(claim,))


_ANSWER_CLAIMS = {
    "completed": ClaimKind.COMPLETED,
    "replica": ClaimKind.REPLICA,
    "not-eligible": ClaimKind.NOT_ELIGIBLE,
    "gone": ClaimKind.GONE,
}


def _answered(event: Answered) -> Evidence | None:
    if event.says == "failed":
        # S3 tells that it failed, not when: the time of asking would be an invention.
        failure = Failure(
            event.bucket,
            event.destination,
            metadata=False,
            first_at=None,
            at=None,
            whole_seconds=False,
            label=event.label,
            reason=event.reason,
        )
        return Evidence(event.key, event.version_id, failures=(failure,))
    kind = _ANSWER_CLAIMS.get(event.says)
    if kind is None:  # still pending: nothing new
        return None
    claim = Claim(kind, event.bucket, event.destination, at=None, whole_seconds=False, label=event.label)
    return Evidence(event.key, event.version_id, claims=(claim,))
