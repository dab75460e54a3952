"""What becomes of each object: written, copied, failed, repaired, deleted; and which messages tell of it."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from enum import IntEnum
from typing import TYPE_CHECKING

from msgspec import Struct, structs

from crr_monitor.core.times import HOUR_MS, MINUTE_MS, SECOND_MS
from crr_monitor.simulate.dice import Dice, digest
from crr_monitor.simulate.plan import Kind, Plan
from crr_monitor.simulate.world import AUDIT_PREFIX, Destination, Source, sources

if TYPE_CHECKING:
    from collections.abc import Iterator

_MOST_JITTER_MS = 250
_NEW_VERSION_RATE = 0.05
_EARLY_DELETE_SHARE = 0.5
_SECOND_FAILURE_RATE = 0.25

# Every kind of character that an object key may hold and that some encoding on the way treats specially.
_FOLDERS = (
    "2026/11/01", "invoices", "a+b c", "100%", "%41%2F", "année 2026", "日本/東京", "🚀 launch", 'say "hi"', "it's",
    "back\\slash", "tab\tstop", "semi;colon&amp=?#", "<xml>", "[1]{2}", "~home", "audit-old", "Audit", "a//b",
)  # fmt: skip
_NAMES = (
    "report", "photo of é", "data+set", "x=1&y=2", "naïve", "part 0001", "ключ", "a:b@c", "50%off", "sum|pipe^", "ok",
)  # fmt: skip
_ENDINGS = (".txt", ".json", ".parquet", ".jpg", "", " (1).csv", ".tar.gz", "/")


class Operation(IntEnum):
    """How the version came to be; as an index into the names that the message kinds use."""

    PUT = 0
    COPY = 1
    MULTIPART = 2
    POST = 3


_OPERATIONS = (Operation.PUT,) * 16 + (Operation.COPY, Operation.MULTIPART, Operation.MULTIPART, Operation.POST)

RETRYABLE_REASONS = (
    "DstKmsKeyNotFound",
    "DstPutObjectNotPermitted",
    "AssumeRoleNotPermitted",
    "DstBucketUnversioned",
    "SrcGetObjectNotPermitted",
)


class Failure(Struct, frozen=True, gc=False):
    """Replication gave up at ``at`` (milliseconds); ``reason`` selects one of the reasons of the message kind."""

    at: int
    reason: int


class Copy(Struct, frozen=True, gc=False):
    """What a destination got of the version, as far as messages tell; ``replicated_at`` in milliseconds."""

    destination: Destination
    replicated_at: int | None = None
    failures: tuple[Failure, ...] = ()


class Version(Struct, frozen=True, gc=False):
    """One simulated object version and its whole life. Times are milliseconds, exact; messages may cut them."""

    index: int
    source: Source
    key: str
    version_id: str
    etag: str
    size: int
    written_at: int
    kind: Kind
    operation: Operation
    delete_marker: bool
    copies: tuple[Copy, ...]
    deleted_at: int | None = None
    write_lost: bool = False


def lives(plan: Plan) -> Iterator[tuple[Version, Dice]]:
    """Every version in the order of its writing, with the dice that go on to decide about its messages."""
    for index in range(plan.objects):
        dice = Dice(f"{plan.seed}/{index}")
        yield _live(plan, index, dice), dice


def _live(plan: Plan, index: int, dice: Dice) -> Version:
    slot = plan.slot(index)
    # Within the slot, so that versions are made in the order of their writing.
    written_at = slot + dice.below(min(plan.slot(index + 1) - slot, _MOST_JITTER_MS))
    delete_marker = dice.chance(plan.delete_marker_rate)
    another = dice.chance(_NEW_VERSION_RATE) or delete_marker
    source, key = _name(plan, index - 1 if another and index else index)
    operation = Operation.PUT if delete_marker else _OPERATIONS[dice.below(len(_OPERATIONS))]
    identity = digest(f"{plan.seed}/{index}/id")
    deleted_at = None
    if dice.chance(plan.delete_rate) and not delete_marker:
        early = dice.chance(_EARLY_DELETE_SHARE)
        delay = 200 + dice.below(20 * SECOND_MS) if early else HOUR_MS + dice.below(2 * HOUR_MS)
        deleted_at = written_at + delay
    copies = tuple(
        [
            _copy(plan, destination, written_at, deleted_at, dice, never_fails=delete_marker)
            for destination in source.destinations
            if destination.takes(key, delete_marker=delete_marker)
        ]
    )
    version = Version(
        index=index,
        source=source,
        key=key,
        version_id=urlsafe_b64encode(identity[:24]).decode().replace("-", "."),
        etag=identity[24:40].hex() + ("-3" if operation is Operation.MULTIPART else ""),
        size=_size(dice),
        written_at=written_at,
        kind=plan.kinds[dice.below(len(plan.kinds))],
        operation=operation,
        delete_marker=delete_marker,
        copies=copies,
        deleted_at=deleted_at,
    )
    return _lose(plan, version, dice) if plan.loss_rate else version


def _name(plan: Plan, index: int) -> tuple[Source, str]:
    """Bucket and key of an object; no two objects share a key unless one is another version of the other."""
    dice = Dice(f"{plan.seed}/{index}/name")
    choices = sources(plan.pairs)
    audit = dice.chance(plan.audit_share) and plan.pairs > 1
    source = choices[0 if audit else dice.below(len(choices))]
    folder = _FOLDERS[dice.below(len(_FOLDERS))]
    name = _NAMES[dice.below(len(_NAMES))]
    ending = _ENDINGS[dice.below(len(_ENDINGS))]
    return source, f"{AUDIT_PREFIX if audit else ''}{folder}/{name}-{index}{ending}"


def _size(dice: Dice) -> int:
    # From nothing to 4 GB, small ones most often: the number of bits is uniform.
    return dice.word() >> dice.below(33)


def _copy(  # noqa: PLR0913 - all that decides about a copy
    plan: Plan, destination: Destination, written_at: int, deleted_at: int | None, dice: Dice, *, never_fails: bool
) -> Copy:
    arrival: int | None = written_at + dice.lag(plan.lag_p50_ms, plan.lag_p99_ms)
    failures: tuple[Failure, ...] = ()
    if dice.chance(plan.pending_rate):
        return Copy(destination)
    if not never_fails and dice.chance(plan.failure_rate):
        failures = _failures(written_at, dice)
        repaired = dice.chance(plan.repaired_share)
        arrival = failures[-1].at + HOUR_MS + dice.below(5 * HOUR_MS) if repaired else None
    if deleted_at is not None:
        # S3 has nothing to copy any more, nor anything to fail with.
        failures = tuple(failure for failure in failures if failure.at < deleted_at)
        arrival = arrival if arrival is not None and arrival < deleted_at else None
    return Copy(destination, arrival, failures)


def _failures(written_at: int, dice: Dice) -> tuple[Failure, ...]:
    first = Failure(written_at + 5 * SECOND_MS + dice.below(MINUTE_MS), dice.word())
    if not dice.chance(_SECOND_FAILURE_RATE):
        return (first,)
    return first, Failure(first.at + 10 * MINUTE_MS + dice.below(30 * MINUTE_MS), dice.word())


def _lose(plan: Plan, version: Version, dice: Dice) -> Version:
    """Lose the source's write, or arrivals, of some versions, where what remains still has one meaning.

    Failures and deletes are never lost. A write is lost only where each copy arrives: then the arrivals alone say
    which copies there are. The arrivals of such a version, and those of a deleted one, are kept.
    """
    if version.deleted_at is not None:
        return version
    lose_write = dice.chance(plan.loss_rate)
    if lose_write and version.copies and all(copy.replicated_at is not None for copy in version.copies):
        return structs.replace(version, write_lost=True)
    copies = [
        Copy(copy.destination, None, copy.failures) if dice.chance(plan.loss_rate) else copy for copy in version.copies
    ]
    return structs.replace(version, copies=tuple(copies))
