"""Whether the events of a bucket still come, as its canaries show.

A canary that lies in a bucket is a fact that S3 tells; that its event never came is one as well. Both together say that
the events of this bucket do not reach the monitor, which silence alone never says: a replica that is not there makes no
event, and a bucket without traffic none either.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct, field

from crr_monitor.core.model import Status

if TYPE_CHECKING:
    from collections.abc import Iterable

    from crr_monitor.core.model import Record
    from crr_monitor.core.reconcile import Place

NOTE = "hearing"
"""Name of the note in which the canary keeps this."""


class Hearing(Struct, frozen=True):
    """Of one bucket: when the canary was written whose event came last, and since when none came that should have.

    ``deaf_since`` is the time of the first look at which a later canary was there unheard, ``None`` where all is heard
    that is there. Milliseconds.
    """

    account: str | None = None
    region: str | None = None
    heard_at: int = 0
    deaf_since: int | None = None


class Heard(Struct, frozen=True):
    """What one look found, ``at`` its time (milliseconds), by bucket."""

    at: int = 0
    buckets: dict[str, Hearing] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """As the note."""
        return msgspec.json.encode(self)


def heard_from(body: bytes | None) -> Heard:
    """The note, empty where there is none that can be read."""
    try:
        return Heard() if body is None else msgspec.json.decode(body, type=Heard)
    except msgspec.MsgspecError:
        return Heard()


def is_heard(record: Record | None, bucket: str) -> bool:
    """Whether an event told that the version was written in the bucket."""
    if record is None:
        return False
    if record.source_bucket == bucket:
        return record.written_at is not None
    arrived = (copy for copy in record.copies if copy.bucket == bucket and copy.status is Status.COMPLETED)
    return any(copy.replicated_at is not None for copy in arrived)


def listen(known: Hearing | None, place: Place, there: Iterable[tuple[int, bool]], now: int) -> Hearing:
    """One look at a bucket: of each canary that is ``there`` when it was written, and whether its event came.

    An event that is lost while a later one comes is no deafness.
    """
    before = Hearing() if known is None else known
    canaries = list(there)
    heard_at = max([before.heard_at, *(at for at, heard in canaries if heard)])
    if not any(at > heard_at for at, _ in canaries):
        deaf_since = None
    elif before.deaf_since is None or heard_at > before.heard_at:
        deaf_since = now
    else:
        deaf_since = before.deaf_since
    return Hearing(place.account, place.region, heard_at, deaf_since)
