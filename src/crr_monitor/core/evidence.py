"""Merged evidence about one object version: what is stored, and the only thing that is.

Each part is a tuple kept sorted by its identity and free of duplicates, so that equal evidence is equal data, whatever
the order of arrival was. The rules of merging stand in :mod:`crr_monitor.core.merge`.
"""

from __future__ import annotations

from enum import IntEnum

from msgspec import Struct

from crr_monitor.core.events import Mark


class Taken(IntEnum):
    """Whether a rule takes a version, as far as one message can tell; of two answers the higher one holds.

    ``EARLIER``: a rule takes such objects now, but the write is older than the configuration: nothing is expected.
    ``UNCERTAIN``: the rule filters by tags, and the tags are unknown. ``YES``: the copy is expected. ``NO``: a fact
    that the message told (tags, encryption, storage class, lifecycle) excludes it: facts of a version never change, so
    this is last.
    """

    EARLIER = 0
    UNCERTAIN = 1
    YES = 2
    NO = 3


class Expectation(Struct, frozen=True, array_like=True, gc=False):
    """What one destination may expect of a version written at the source."""

    bucket: str
    taken: Taken
    rule_id: str | None = None
    account: str | None = None
    region: str | None = None


class Origin(Struct, frozen=True, array_like=True, gc=False, order=True):
    """A source bucket whose rules could have brought a version to a destination.

    ``rule_id`` only where one rule alone could; what is unknown is empty.
    """

    bucket: str
    account: str = ""
    region: str = ""
    rule_id: str = ""


class Sighting(Struct, frozen=True, array_like=True, gc=False):
    """The version was written in ``bucket``.

    ``expected`` is where it has to go if this bucket is its source; ``replica_of`` tells whose rules could have
    brought it here. Both come from the topology in force when the version was written.
    """

    bucket: str
    at: int
    whole_seconds: bool
    mark: Mark
    delete_marker: bool = False
    size: int | None = None
    etag: str | None = None
    account: str | None = None
    region: str | None = None
    expected: tuple[Expectation, ...] = ()
    replica_of: tuple[Origin, ...] = ()


class Failure(Struct, frozen=True, array_like=True, gc=False):
    """Failures of one (source, destination, metadata or not): the first one's time, and the latest one whole.

    ``at`` is ``None`` when S3 only said that it failed, not when.
    """

    source: str | None
    destination: str | None
    metadata: bool
    first_at: int | None
    at: int | None
    whole_seconds: bool
    label: str
    reason: str | None = None
    rule_id: str | None = None
    replica_of: tuple[Origin, ...] = ()


class ClaimKind(IntEnum):
    """What S3 itself said of the version. ``GONE`` is the deletion of the version in ``bucket``, or its absence."""

    COMPLETED = 1
    REPLICA = 2
    NOT_ELIGIBLE = 3
    GONE = 4
    AWAITED = 5


class Claim(Struct, frozen=True, array_like=True, gc=False):
    """One statement. ``bucket`` is the source, with ``REPLICA`` and ``GONE`` the bucket in which.

    No ``destination`` means all of them.

    ``at`` is when it happened, ``None`` where S3 only answered a question.
    """

    kind: ClaimKind
    bucket: str
    destination: str | None
    at: int | None
    whole_seconds: bool
    label: str
    rule_id: str | None = None


class Evidence(Struct, frozen=True, array_like=True, gc=False):
    """All that is known about one object version, identified by key and version id."""

    key: str
    version_id: str
    sightings: tuple[Sighting, ...] = ()
    failures: tuple[Failure, ...] = ()
    claims: tuple[Claim, ...] = ()
