"""Reading sources into batches, in this process or in one beside it: the same batches come out either way.

Reading and decoding cost about as much as storing, so on two cores a second process nearly doubles the rate. It is a
plain child with two pipes: what to read goes in, batches come out, and it ends when nobody listens any more.
"""

from __future__ import annotations

import gc
import os
import queue
import subprocess
import sys
import threading
from typing import IO, TYPE_CHECKING, Protocol

import msgspec
from msgspec import Struct

from crr_monitor.core.topology import BucketConfig, Topology
from crr_monitor.process.gather import BATCH_EVENTS, Gathered, Gatherer
from crr_monitor.sources.base import SourceError
from crr_monitor.sources.files import FileSource

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from crr_monitor.sources.base import Chunks, Piece, Source

LENGTH_BYTES = 4
READ_BYTES = 1 << 18
"""Uncompressed bytes taken at once: what is split and decoded stays in a core's cache."""

QUEUED_BATCHES = 2
"""Batches that wait to be stored: enough to keep both processes busy, and little memory."""

GC_THRESHOLD = 200_000
"""Evidence is trees of values: there are no cycles, and looking for them often costs a tenth of the time."""


class LargeRejects(Protocol):
    """Takes what does not fit into memory, chunk by chunk."""

    def write(self, source: str, position: int, error: str, data: bytes | Chunks) -> bool:
        """Keep one."""


class Task(Struct, frozen=True, array_like=True):
    """A source by name, and the position from which to read it."""

    name: str
    start: int


class Order(Struct, frozen=True, array_like=True):
    """What the child is asked to do."""

    tasks: list[Task]
    topology: tuple[BucketConfig, ...]
    batch_events: int


class Answer(Struct, frozen=True, array_like=True):
    """What the child says: a batch, or why it cannot go on, or that the parent has to, from task ``stay`` on."""

    batch: Gathered | None = None
    error: str | None = None
    stay: int | None = None


def read_here(
    sources: Sequence[tuple[Source, int]], topology: Topology, rejects: LargeRejects, batch_events: int = BATCH_EVENTS
) -> Iterator[Gathered]:
    """Batches of the sources, each read from its position.

    Raises:
        SourceError: a source cannot be read; everything before it has been given.
    """
    gatherer = Gatherer(topology, batch_events)
    try:
        for source, start in sources:
            for piece in source.pieces(start, READ_BYTES):
                for broken in piece.broken:
                    if not isinstance(broken.data, bytes):
                        # At once: these bytes are gone with the next piece.
                        rejects.write(source.name, broken.position, broken.reason, broken.data)
                gatherer.take(source, piece)
                if gatherer.enough or (source.size is None and gatherer.waited):
                    yield from _given(gatherer)
    except SourceError:
        yield from _given(gatherer)
        raise
    yield from _given(gatherer)


def _given(gatherer: Gatherer) -> Iterator[Gathered]:
    batch = gatherer.give()
    if batch is not None:
        yield batch


class Child:
    """A process that reads the tasks, in their order."""

    def __init__(self, order: Order) -> None:
        """Start it; it begins at once."""
        asked, ask = os.pipe()
        try:
            # The path is handed over: the child runs this very code, wherever it was imported from.
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [sys.executable, "-P", "-c", _CHILD, str(asked), os.pathsep.join(sys.path)],
                stdout=subprocess.PIPE,
                pass_fds=(asked,),
                start_new_session=True,  # Ctrl-C is for the parent, which then ends the child
            )
        finally:
            os.close(asked)
        with os.fdopen(ask, "wb") as pipe:
            pipe.write(msgspec.msgpack.encode(order))
        self._received: queue.Queue[bytes | None] = queue.Queue(QUEUED_BATCHES)
        self._closed = False
        self._thread = threading.Thread(target=self._receive, daemon=True)
        self._thread.start()

    def answers(self) -> Iterator[Answer]:
        """What it says, as it comes.

        Raises:
            SourceError: a source cannot be read, or the child died; everything before it has been given.
        """
        decoder = msgspec.msgpack.Decoder(Answer)
        while (data := self._received.get()) is not None:
            answer = decoder.decode(data)
            if answer.error is not None:
                raise SourceError(answer.error)
            yield answer
        if self._process.wait() != 0:
            message = f"the reading process ended early (status {self._process.returncode}): run the same command again"
            raise SourceError(message)

    def _receive(self) -> None:
        pipe = self._process.stdout
        while pipe is not None:
            head = pipe.read(LENGTH_BYTES)
            data = pipe.read(int.from_bytes(head)) if len(head) == LENGTH_BYTES else None
            if not self._put(data) or data is None:
                return

    def _put(self, data: bytes | None) -> bool:
        """Hand over, unless nobody wants it any more."""
        while not self._closed:
            try:
                self._received.put(data, timeout=0.2)
            except queue.Full:
                continue
            return True
        return False

    def close(self) -> None:
        """End it, if it still runs."""
        self._closed = True
        self._process.kill()
        self._process.wait()
        self._thread.join()
        if self._process.stdout is not None:
            self._process.stdout.close()


_CHILD = """
import os, sys
sys.path[:] = sys.argv[2].split(os.pathsep)
from crr_monitor.process.reading import child_main
child_main(int(sys.argv[1]))
"""


def child_main(descriptor: int) -> None:
    """The child's whole life: read the order, write answers to standard output until all is read."""
    gc.set_threshold(GC_THRESHOLD)
    with os.fdopen(descriptor, "rb") as pipe:
        order = msgspec.msgpack.decode(pipe.read(), type=Order)
    try:
        for answer in _child_answers(order):
            _send(sys.stdout.buffer, answer)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        # Nobody listens any more: the parent has ended, or does not want the rest.
        os._exit(0)


def _child_answers(order: Order) -> Iterator[Answer]:
    gatherer = Gatherer(Topology(order.topology), order.batch_events)
    try:
        for index, task in enumerate(order.tasks):
            source = FileSource(task.name)
            for piece in source.pieces(task.start, READ_BYTES):
                if _too_long(piece):
                    yield from map(Answer, _given(gatherer))
                    yield Answer(stay=index)
                    return
                gatherer.take(source, piece)
                if gatherer.enough:
                    yield from map(Answer, _given(gatherer))
    except SourceError as error:
        yield from map(Answer, _given(gatherer))
        yield Answer(error=str(error))
        return
    yield from map(Answer, _given(gatherer))


def _too_long(piece: Piece) -> bool:
    return any(not isinstance(broken.data, bytes) for broken in piece.broken)


_encoder = msgspec.msgpack.Encoder()


def _send(pipe: IO[bytes], answer: Answer) -> None:
    data = _encoder.encode(answer)
    pipe.write(len(data).to_bytes(LENGTH_BYTES))
    pipe.write(data)
