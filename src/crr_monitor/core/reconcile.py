"""Overdue object versions: which buckets to ask, what the answers prove, and when to ask again. Nothing is asked here.

One header of the source speaks for all its copies: COMPLETED once all are done, FAILED as soon as one has failed
(User Guide, "Getting replication status information"). So with several copies each replica is asked as well::

    the source says         and the replica           what that proves of an open copy
    ---------------------   -----------------------   ------------------------------------------------------
    anything, or nothing    is there                  it was replicated, whatever any header says
    COMPLETED               (the only copy)           it was replicated
    COMPLETED               is missing, uncertain     no rule took it there
    COMPLETED               is missing, expected      nothing: it was deleted there, or the rule is another one
    FAILED                  is missing                it failed
    FAILED                  unknown (the only copy)   it failed
    PENDING                 not asked, or missing     nothing: it stays as it is
    no status               is not there              no rule took it, where the store always gives a status
    not there               is not there              the version was deleted at the source
    REPLICA                 not asked                 this bucket is no source: the roles are the other way round

What could not be asked proves nothing. That it could not be asked is trouble of its own, unless the source says
PENDING and the destination's Region cannot be reached: that is what pending versions wait for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from msgspec import Struct

from crr_monitor.core.events import Answered
from crr_monitor.core.model import OPEN, Status
from crr_monitor.core.times import HOUR_MS, MINUTE_MS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from crr_monitor.core.events import Answer
    from crr_monitor.core.model import Copy, Record
    from crr_monitor.core.topology import Topology

OVERDUE_MS = 15 * MINUTE_MS
"""How old a version is before anybody asks about it; S3 replicates most within this time."""

LONGEST_MS = 6 * HOUR_MS
"""Pauses between two questions double until they are so long."""

LONGEST_UNASKED_MS = HOUR_MS
"""The same after questions that nobody answered: once the permission is there, the answer should not take long."""

Header: TypeAlias = Literal["COMPLETED", "FAILED", "PENDING", "REPLICA"]

Cause: TypeAlias = Literal[
    "denied", "account-unreachable", "throttled", "unreachable", "bucket-missing", "encrypted", "refused"
]
"""Why a bucket could not be asked.

``denied``: a permission is missing; ``account-unreachable``: the role in its account could not be assumed;
``throttled``; ``unreachable``: no connection, a time-out, an error of the service; ``bucket-missing``;
``encrypted``: the version's key is its owner's (SSE-C), without which S3 tells nothing; ``refused``: anything else.
"""


class Place(Struct, frozen=True):
    """A bucket to ask. What is not known of where it is stays ``None``."""

    bucket: str
    account: str | None = None
    region: str | None = None


class Found(Struct, frozen=True):
    """The version is in the bucket. ``status`` is its replication status, ``None`` where S3 gave none.

    ``silent``: an answer of this kind never has a status, so that none means nothing (delete markers, listings).
    """

    status: Header | None = None
    silent: bool = False


class Missing(Struct, frozen=True):
    """The bucket is there, may be asked, and does not have the version."""


class Unasked(Struct, frozen=True):
    """Nobody answered, so nothing is known. ``permission`` is the IAM action that is missing, if that is why."""

    cause: Cause
    text: str
    permission: str | None = None


Reply: TypeAlias = Found | Missing | Unasked


def next_due(asks: int, now: int, overdue: int = OVERDUE_MS, *, answered: bool = True) -> int:
    """When to ask again (milliseconds), after ``asks`` questions of which the last was put at ``now``."""
    longest = max(overdue, LONGEST_MS if answered else LONGEST_UNASKED_MS)
    return now + min(overdue << min(max(asks, 1) - 1, 20), longest)


def sources_to_ask(record: Record, topology: Topology) -> tuple[Place, ...]:
    """The version's source, or all buckets that may be it; nothing where none is known."""
    if record.seen_in:
        return tuple(Place(bucket, *topology.place(bucket)) for bucket in record.seen_in)
    if record.source_bucket is None:
        return ()
    account, region = topology.place(record.source_bucket, record.source_account)
    return (Place(record.source_bucket, record.source_account or account, record.source_region or region),)


def replicas_to_ask(record: Record, topology: Topology, replies: Mapping[str, Reply]) -> tuple[Place, ...]:
    """The destinations to ask, once the source has been: none where its word is enough."""
    if record.seen_in:
        return ()
    waiting = [copy for copy in record.copies if copy.status in OPEN]
    said = replies.get(record.source_bucket or "")
    if isinstance(said, Found) and (
        said.status == "REPLICA"
        or (said.status == "PENDING" and len(waiting) == 1)
        or (said.status == "COMPLETED" and len(record.copies) == 1)
    ):
        return ()
    return tuple(_place(copy.bucket, copy, topology) for copy in waiting if copy.bucket is not None)


def _place(bucket: str, copy: Copy, topology: Topology) -> Place:
    account, region = topology.place(bucket, copy.account)
    return Place(bucket, copy.account or account, copy.region or region)


def conclude(
    record: Record, replies: Mapping[str, Reply], at: int, *, always_status: bool = True
) -> tuple[Answered, ...]:
    """What the buckets' replies prove of a record, asked at ``at``: the table above.

    ``always_status``: the store gives a status for every version that a rule took, as AWS does; then none says that no
    rule did. Other stores may know no statuses at all.
    """
    if record.seen_in:
        return tuple(_about_roles(record, replies, at))
    return tuple(_Case(record, replies, at, always_status=always_status).conclusions())


def _about_roles(record: Record, replies: Mapping[str, Reply], at: int) -> Iterator[Answered]:
    """Written in several buckets: whoever has the status of a source, or of a replica, ends the doubt."""
    says: dict[Header, Answer] = {"REPLICA": "replica", "COMPLETED": "completed", "FAILED": "failed"}
    for bucket in record.seen_in:
        reply = replies.get(bucket)
        if isinstance(reply, Found) and reply.status in says:
            yield Answered(bucket, record.key, record.version_id, says[reply.status], at)


class _Case:
    """One record with a known source, or none, and what was replied about it."""

    def __init__(self, record: Record, replies: Mapping[str, Reply], at: int, *, always_status: bool) -> None:
        self._record = record
        self._replies = replies
        self._at = at
        self._said = replies.get(record.source_bucket or "")
        self._status = self._said.status if isinstance(self._said, Found) else None
        self._no_status = always_status and isinstance(self._said, Found) and not (self._status or self._said.silent)
        self._waiting = [copy for copy in record.copies if copy.status in OPEN]

    def _answer(self, bucket: str | None, says: Answer, destination: str | None = None) -> Answered:
        name = bucket or ""
        return Answered(name, self._record.key, self._record.version_id, says, self._at, destination=destination)

    def conclusions(self) -> Iterator[Answered]:
        source = self._record.source_bucket
        if self._status == "REPLICA":
            yield self._answer(source, "replica")
            return
        for copy in self._waiting:
            if self._is_there(copy):
                yield self._answer(copy.bucket, "replica")
            else:
                yield from self._about(copy)
        if isinstance(self._said, Missing):
            yield self._answer(source, "gone")
        elif self._no_status and self._nowhere() and any(copy.status is not Status.FAILED for copy in self._waiting):
            yield self._answer(source, "not-eligible")

    def _is_there(self, copy: Copy) -> bool:
        return isinstance(self._replies.get(copy.bucket or ""), Found)

    def _nowhere(self) -> bool:
        """Nobody has seen a replica, which would make a missing status mean nothing."""
        seen = any(copy.status is Status.COMPLETED for copy in self._record.copies)
        return not seen and not any(self._is_there(copy) for copy in self._waiting)

    def _about(self, copy: Copy) -> Iterator[Answered]:
        """What the source's status says of a copy that was not found."""
        source, missing = self._record.source_bucket, isinstance(self._replies.get(copy.bucket or ""), Missing)
        only = len(self._record.copies) == 1
        if self._status == "COMPLETED":
            if only:
                yield self._answer(source, "completed", copy.bucket)
            elif missing and copy.status is Status.UNCERTAIN:
                yield self._answer(source, "not-eligible", copy.bucket)
        # Of several copies one has failed; an uncertain one may be none that any rule took.
        elif (
            self._status == "FAILED"
            and copy.status is not Status.FAILED
            and (only or (missing and copy.status is Status.PENDING))
        ):
            yield self._answer(source, "failed", copy.bucket)


def meaning(reply: Found | Missing, *, at_source: bool) -> str:
    """A reply in a word, for figures: what the source says, or whether the replica is there."""
    if isinstance(reply, Missing):
        return "gone" if at_source else "missing"
    if not at_source:
        return "found"
    return "there" if reply.silent else reply.status.lower() if reply.status else "not-eligible"
