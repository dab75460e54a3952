"""From sources into a store: a batch becomes durable together with the positions up to which its sources were read."""

from __future__ import annotations

import os
import time
from contextlib import closing
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct, field

from crr_monitor.process.clock import feed_live, is_fresh
from crr_monitor.process.gather import BATCH_EVENTS
from crr_monitor.process.reading import Child, Order, Task, read_here
from crr_monitor.sources.files import FileSource, Seen, check_resume
from crr_monitor.stores.base import Batch, Counts, Newest, system_clock
from crr_monitor.stores.packed import PackedEvidence

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from crr_monitor.process.gather import Gathered
    from crr_monitor.sources.base import Chunks
    from crr_monitor.sources.files import Resumable
    from crr_monitor.stores.base import Store

PURGE_SECONDS = 60.0
CHILD_BYTES = 16 << 20
"""From how much input on a second process is worth its start."""


class RejectSink(Protocol):
    """Where rejects go; see :class:`crr_monitor.sources.rejects.RejectFile`."""

    def resume(self, source: str, position: int) -> None:
        """Expect everything from that position again."""

    def write(self, source: str, position: int, error: str, data: bytes | Chunks) -> bool:
        """Keep one reject."""

    def sync(self) -> None:
        """Make them durable."""


def keep(batch: Gathered, store: Store, rejects: RejectSink) -> int:
    """Make a batch durable: first its rejects, then the rest in one transaction; gives how many records changed.

    Raises:
        StoreError: the store refuses; nothing of the batch is stored.
        RejectError: the reject file cannot be written; likewise.
    """
    for rejected in batch.rejected:
        rejects.write(rejected.source, rejected.position, rejected.reason, rejected.data)
    rejects.sync()
    evidence = PackedEvidence({(key, version_id): body for key, version_id, body in batch.evidence})
    return store.apply(Batch(evidence, batch.positions, batch.counts, batch.newest))


class Totals(Struct):
    """What one ingest did. ``skipped`` sources were read to their end before, ``resumed`` ones in part."""

    counts: Counts = field(default_factory=Counts)
    records_changed: int = 0
    read_bytes: int = 0
    skipped: int = 0
    resumed: int = 0


class Ingest:
    """One run over some sources. It may be left at any moment: what is stored is whole, and is resumed from."""

    def __init__(  # noqa: PLR0913 - what it works on, then options by name
        self,
        store: Store,
        rejects: RejectSink,
        *,
        again: bool = False,
        child: bool | None = None,
        progress: Callable[[Totals], None] = lambda _totals: None,
        batch_events: int = BATCH_EVENTS,
    ) -> None:
        """``again`` reads what was read before; ``child`` forces or forbids the second process (``None``: by size).

        ``progress`` is called after each batch, when it is durable.
        """
        self.totals = Totals()
        self._store = store
        self._rejects = rejects
        self._again = again
        self._child = child
        self._progress = progress
        self._batch_events = batch_events
        self._read: dict[str, int] = {}
        self._purged_at = time.monotonic()
        self._live = False

    def run(self, sources: Sequence[Resumable]) -> Totals:
        """Read all sources in their order.

        Raises:
            SourceError: a source cannot be read; what came before is stored.
            StoreError: the store refuses; nothing of the last batch is stored.
            RejectError: the reject file cannot be written; likewise.
        """
        tasks = []
        for source in sources:
            start = self._start_of(source)
            if start is not None:
                tasks.append((source, start))
        # Closed here, so that an interrupt while the child is ended is one like any other.
        with closing(self._batches(tasks)) as batches:
            for batch in batches:
                self._store_batch(batch)
                if time.monotonic() - self._purged_at >= PURGE_SECONDS:
                    self._purge()
        self._purge()
        return self.totals

    def _start_of(self, source: Resumable) -> int | None:
        """Where to begin, or ``None`` if everything in it was read before."""
        known = None if self._again else self._store.position(source.name)
        seen = None if known is None else Seen(known.fingerprint, known.position, known.read_bytes, known.done)
        decision = check_resume(source, seen)
        if decision.action == "skip":
            self.totals.skipped += 1
            self.totals.read_bytes += source.size or 0
            return None
        self.totals.resumed += decision.action == "resume"
        self._rejects.resume(source.name, decision.position)
        return decision.position

    def _batches(self, tasks: list[tuple[Resumable, int]]) -> Generator[Gathered]:
        topology = self._store.topology()
        begin = 0
        if self._wants_child(tasks):
            order = Order([Task(source.name, start) for source, start in tasks], topology.configs, self._batch_events)
            begin = len(tasks)
            child = Child(order)
            try:
                for answer in child.answers():
                    if answer.batch is not None:
                        yield answer.batch
                    elif answer.stay is not None:
                        begin = answer.stay
                        break
            finally:
                child.close()
            if begin < len(tasks):
                source, start = tasks[begin]
                known = self._store.position(source.name) if source.name in self._read else None
                tasks[begin] = (source, start if known is None else known.position)
        yield from read_here(tasks[begin:], topology, self._rejects, self._batch_events)

    def _wants_child(self, tasks: Sequence[tuple[Resumable, int]]) -> bool:
        if not all(isinstance(source, FileSource) for source, _ in tasks):
            return False  # the child opens files by their names
        if self._child is not None:
            return self._child and bool(tasks)
        sizes = [source.size for source, _ in tasks]
        # What comes through a pipe may come slowly, and is stored as it comes.
        return None not in sizes and (os.cpu_count() or 1) > 1 and sum(filter(None, sizes)) >= CHILD_BYTES

    def _store_batch(self, batch: Gathered) -> None:
        self.totals.records_changed += keep(batch, self._store, self._rejects)
        now = system_clock()
        if not self._live and batch.newest is not None and is_fresh(Newest(batch.newest, now)):
            feed_live(self._store, "files", now)
            self._live = True
        self.totals.counts.add(batch.counts)
        for position in batch.positions:
            self.totals.read_bytes += position.read_bytes - self._read.get(position.source, 0)
            self._read[position.source] = position.read_bytes
        self._progress(self.totals)

    def _purge(self) -> None:
        while True:
            purged = self._store.purge()
            if not (purged.settled or purged.expired):
                break
        self._purged_at = time.monotonic()
