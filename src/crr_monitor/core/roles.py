"""Which of the buckets in which a version was written is its source.

The source of a version is the bucket that a message names as such (a user wrote there, S3 reported for it); else the
only one that topology allows; else the first bucket in which it was written. A tie stays undecided until more is
known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from crr_monitor.core.events import Mark
from crr_monitor.core.evidence import ClaimKind
from crr_monitor.core.merge import time_order

if TYPE_CHECKING:
    from crr_monitor.core.evidence import Evidence, Sighting

SOURCE, REPLICA = Mark.SOURCE, Mark.REPLICA
"""Members of the enumeration under names of their own: these are looked up for every record."""


def find_source(evidence: Evidence) -> tuple[str | None, bool]:
    """The source bucket (``None``: not known), and whether the roles of the buckets are undecided."""
    if not (evidence.failures or evidence.claims):
        only = _only_source(evidence.sightings)
        if only is not None:
            return only, False
    named = {part.bucket for part in evidence.sightings if part.mark is SOURCE}
    replicas = {part.bucket for part in evidence.sightings if part.mark is REPLICA}
    # A replica's bucket reports failures of metadata too (replica modification sync), so those name no source.
    named.update(part.source for part in evidence.failures if part.source is not None and not part.metadata)
    for claim in evidence.claims:
        if claim.kind is ClaimKind.REPLICA:
            replicas.add(claim.bucket)
        elif claim.kind is not ClaimKind.GONE:
            named.add(claim.bucket)
    if replicas and len(named) > 1:
        named = named - replicas or named
    if named:
        return (next(iter(named)) if len(named) == 1 else _first_of_named(evidence, named)), False
    unmarked = [part for part in evidence.sightings if part.bucket not in replicas]
    source, undecided = _source_by_topology_or_time(unmarked, alone=len(unmarked) == 1 and not replicas)
    if source is None and not undecided and evidence.failures:
        source = _named_by_metadata(evidence, replicas)
    return source, undecided


def _named_by_metadata(evidence: Evidence, replicas: set[str]) -> str | None:
    """Where nobody saw the source: a bucket that reported a failure of metadata, and in which no replica was seen."""
    seen = replicas.union(part.bucket for part in evidence.sightings)
    return min((part.source for part in evidence.failures if part.source and part.source not in seen), default=None)


def _only_source(sightings: tuple[Sighting, ...]) -> str | None:
    """The bucket in which somebody certainly wrote, if it is one."""
    found = None
    for part in sightings:
        if part.mark is SOURCE:
            if found is not None:
                return None
            found = part.bucket
    return found


def _first_of_named(evidence: Evidence, named: set[str]) -> str:
    """Two buckets cannot both be the source; should messages say so, the earlier write is believed."""
    seen = [part for part in evidence.sightings if part.bucket in named]
    if not seen:
        return min(named)
    return min(seen, key=lambda part: (time_order(part.at, part.whole_seconds), part.bucket)).bucket


def _source_by_topology_or_time(unmarked: list[Sighting], *, alone: bool) -> tuple[str | None, bool]:
    candidates = [part for part in unmarked if part.expected or not part.replica_of]
    if not candidates:
        return None, False  # all of them are replicas by topology
    only_sources = [part for part in candidates if part.expected and not part.replica_of]
    if len(only_sources) == 1:
        return only_sources[0].bucket, False
    if len(candidates) == 1:
        only = candidates[0]
        # A single write in a bucket that no rule mentions says nothing about roles.
        return (None, True) if alone and not only.expected else (only.bucket, False)
    first = _strictly_first(only_sources or candidates)
    return first, first is None


def _strictly_first(parts: list[Sighting]) -> str | None:
    """The bucket written before all others, if the times are precise enough to tell."""
    first = min(parts, key=lambda part: part.at + (999 if part.whole_seconds else 0))
    ends = first.at + (999 if first.whole_seconds else 0)
    if all(part is first or part.at > ends for part in parts):
        return first.bucket
    return None
