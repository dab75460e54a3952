"""How sources with threads of their own hand messages to the writer, and wait until they are durable."""

from __future__ import annotations

from concurrent.futures import Future
from typing import TYPE_CHECKING

from msgspec import Struct

from crr_monitor.sources.memory import pieces_of
from crr_monitor.stores.base import Counts, system_clock

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Sequence

    from crr_monitor.process.gather import Gatherer
    from crr_monitor.serve.writer import Outcome
    from crr_monitor.sources.base import Piece
    from crr_monitor.sources.files import FileSource


class Origin(Struct, frozen=True):
    """A source that cannot be asked again: what its rejects are kept under."""

    name: str
    fingerprint: str | None = None


class _Handed:
    """What both kinds share; see :class:`crr_monitor.serve.writer.Intake`."""

    loop: AbstractEventLoop | None = None

    def __init__(self, size: int) -> None:
        self.size = size
        self._future: Future[Counts] = Future()

    def finish(self, outcome: Outcome) -> None:
        """Wake who waits."""
        if isinstance(outcome, Counts):
            self._future.set_result(outcome)
        else:
            self._future.set_exception(outcome)

    def wait(self) -> Counts:
        """What was in it, once that is durable.

        Raises:
            StoreError, RejectError: it could not be stored, and nothing of it was.
        """
        return self._future.result()


class FilePart(_Handed):
    """Pieces of a file, one after the other; they become durable together, with the position behind the last."""

    def __init__(self, source: FileSource, pieces: Sequence[Piece]) -> None:
        super().__init__(sum(len(data) for piece in pieces for data in piece.data))
        self._source = source
        self._pieces = pieces

    def take(self, gatherer: Gatherer) -> Counts:
        """Decode them."""
        counts = Counts()
        for piece in self._pieces:
            counts.add(gatherer.take(self._source, piece))
        return counts


class Texts(_Handed):
    """Messages of a queue, which removes them once they are durable."""

    def __init__(self, name: str, texts: Sequence[bytes]) -> None:
        super().__init__(sum(map(len, texts)))
        self._origin = Origin(name)
        self._texts = texts

    def take(self, gatherer: Gatherer) -> Counts:
        """Decode them."""
        counts, now = Counts(), system_clock()
        for text in self._texts:
            for piece in pieces_of(text, now):
                counts.add(gatherer.take(self._origin, piece, resumable=False))
        return counts
