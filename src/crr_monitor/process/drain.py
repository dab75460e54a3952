"""Messages of a queue into a store, until there are none: each is removed once what it says is durable."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

from msgspec import Struct

from crr_monitor.process.gather import Gatherer
from crr_monitor.process.ingest import Totals, keep
from crr_monitor.sources.base import SourceError
from crr_monitor.sources.memory import pieces_of
from crr_monitor.stores.base import system_clock

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from crr_monitor.process.ingest import RejectSink
    from crr_monitor.stores.base import Store

WAIT_SECONDS = 2
"""So long a queue is asked for messages before it counts as empty; from one second on SQS asks all its servers."""


class Message(Protocol):
    """One message."""

    @property
    def data(self) -> bytes:
        """Its text."""


M = TypeVar("M", bound=Message)


class Rounds(Protocol[M]):
    """A queue, taken from in rounds; see :class:`crr_monitor.aws.drain.Drain`."""

    def receive(self, wait_seconds: int) -> Sequence[M]:
        """The messages of a round; none means that there are none now."""

    def delete(self, messages: Sequence[M]) -> list[str]:
        """Remove messages; why, for each that was not."""


class QueueOrigin(Struct, frozen=True):
    """What rejects of a queue are kept under: its URL."""

    name: str
    fingerprint: str | None = None


def drain(
    name: str,
    queue: Rounds[M],
    store: Store,
    rejects: RejectSink,
    progress: Callable[[Totals], None] = lambda _totals: None,
) -> Totals:
    """Take all that is in a queue; ``progress`` is called after each round, when it is durable.

    Raises:
        SourceError: messages that are stored could not be removed; they come again, without harm.
        StoreError, RejectError: nothing of the last round is stored, and it is still in the queue.
    """
    totals = Totals()
    gatherer = Gatherer(store.topology())
    origin = QueueOrigin(name)
    while messages := queue.receive(WAIT_SECONDS):
        now = system_clock()
        for message in messages:
            for piece in pieces_of(message.data, now):
                totals.counts.add(gatherer.take(origin, piece, resumable=False))
            totals.read_bytes += len(message.data)
        batch = gatherer.give()
        if batch is not None:
            totals.records_changed += keep(batch, store, rejects)
        progress(totals)
        failed = queue.delete(messages)
        if failed:
            text = f"{name}: {len(failed)} messages are stored and could not be removed: {failed[0]}; run it again"
            raise SourceError(text)
    return totals
