"""Completion reports of S3 Batch Replication, taken into the store as evidence like any other.

What succeeded, S3 says to be replicated. What failed, failed with the report's reason, at the latest when the report
was written: so a new reason takes the place of an old one. The report names no destination, so a failure is put down
to the copies that are open.
"""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING

from msgspec import Struct, field

from crr_monitor.core.events import Answered, Failed
from crr_monitor.core.model import Status
from crr_monitor.process.collect import collect
from crr_monitor.stores.base import Batch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from crr_monitor.core.batch_report import Outcome
    from crr_monitor.core.events import Event
    from crr_monitor.core.evidence import Evidence
    from crr_monitor.core.topology import Topology
    from crr_monitor.stores.base import Store, VersionKey

BATCH = 5_000
"""Lines that are stored together."""


class Taken(Struct):
    """What a report held. ``failed`` and ``untried`` are by reason; ``unreadable`` lines told nothing."""

    completed: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    untried: Counter[str] = field(default_factory=Counter)
    unreadable: int = 0
    records_changed: int = 0


def take_report(store: Store, lines: Iterable[Outcome | None], at: int, topology: Topology, into: Taken) -> None:
    """Store what the lines of a report prove, ``None`` being one that cannot be read; ``into`` counts along.

    ``at`` is when the report was written, in milliseconds. Killed on the way, the same report can be taken again.

    Raises:
        StoreError: the store could not take it.
    """
    lines = iter(lines)
    while portion := list(islice(lines, BATCH)):
        evidence: dict[VersionKey, Evidence] = {}
        collect(_events(store, portion, at, into), topology, evidence)
        into.records_changed += store.apply(Batch(evidence=evidence))


def _events(store: Store, lines: Iterable[Outcome | None], at: int, into: Taken) -> Iterator[Event]:
    for line in lines:
        if line is None:
            into.unreadable += 1
        elif line.says == "completed":
            into.completed += 1
            yield Answered(line.bucket, line.key, line.version_id, "completed", at, label="batch-report")
        elif line.says == "untried":
            into.untried[line.reason or ""] += 1
        else:
            into.failed[line.reason or ""] += 1
            yield from _failures(store, line, at)


def _failures(store: Store, line: Outcome, at: int) -> Iterator[Failed]:
    """One for each copy that is open; where nothing is known of the version, one without a destination.

    The copies that arrived are left alone: their failure it cannot have been.
    """
    records = store.versions(line.bucket, line.key, line.version_id)
    copies = [copy for record in records if record.source_bucket == line.bucket for copy in record.visible_copies]
    meant: set[str | None] = {copy.bucket for copy in copies if copy.status in {Status.PENDING, Status.FAILED}}
    for destination in sorted(meant or ({None} if not copies else set()), key=lambda bucket: bucket or ""):
        yield Failed(
            line.bucket,
            destination,
            line.key,
            line.version_id,
            at,
            whole_seconds=False,
            label="batch-report",
            reason=line.reason,
        )
