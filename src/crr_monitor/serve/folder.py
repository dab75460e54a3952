"""A folder in which logs arrive, or grow: looked through again and again, each file from where it was left.

No notification of the operating system is used, so that it works the same on a network drive.
"""

from __future__ import annotations

import os
import time
from itertools import islice
from typing import TYPE_CHECKING

from crr_monitor.process.reading import READ_BYTES
from crr_monitor.serve.handing import FilePart
from crr_monitor.sources.base import SourceError
from crr_monitor.sources.files import FileSource, Seen, check_resume, logs_in, may_be_log

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from crr_monitor.serve.writer import Writer
    from crr_monitor.sources.base import Piece
    from crr_monitor.sources.rejects import RejectFile
    from crr_monitor.stores.base import Counts, Position, Store

LOOK_SECONDS = 1.0
FILES = 200
FLIGHT_BYTES = 4 << 20
"""So many files, and about so many bytes, wait to become durable together."""

SHARE = 10.0
"""A look at very many files takes its time: the pause is this many times as long."""

GONE = (FileNotFoundError, NotADirectoryError)
"""How a file is missing, or the folder in which it was. Anything else says nothing about whether it is there."""

_Stamp = tuple[int, int]
_Begun = tuple[FileSource, int, _Stamp]


UNKNOWN: _Stamp = (-1, -1)
"""Of a file that could not be asked; no file has it, so it is looked at again."""


class FolderReader:
    """Reads one folder with all below it; see :class:`crr_monitor.serve.sources.Reader`."""

    waiting: int | None = None

    def __init__(self, folder: str, exclude: Sequence[str], writer: Writer) -> None:
        self.pause = LOOK_SECONDS
        self._folder = folder
        self._exclude = exclude
        self._writer = writer
        self._read: dict[str, _Stamp] = {}
        self._growing: dict[str, _Stamp] = {}

    def look(self, stopping: threading.Event, taken: Callable[[Counts], None]) -> None:
        """Read what is new. One file that cannot be read does not keep the others waiting."""
        began = time.monotonic()
        names = logs_in(self._folder, self._exclude)
        self._forget(set(names))
        problem: SourceError | None = None
        new = self._new(names)
        while some := list(islice(new, FILES)):
            if stopping.is_set():
                return
            problem = self._read_some(some, stopping, taken) or problem
        self.pause = max(LOOK_SECONDS, SHARE * (time.monotonic() - began)) if not self._growing else LOOK_SECONDS
        if problem is not None:
            raise problem

    def _forget(self, there: set[str]) -> None:
        for known in (self._read, self._growing):
            for name in known.keys() - there:
                del known[name]

    def _new(self, names: Iterable[str]) -> Iterator[tuple[str, _Stamp]]:
        """The files that are to be read, each as it is at that moment."""
        for name in names:
            try:
                found = os.stat(name)  # noqa: PTH116 - names may be no Paths
            except GONE:
                continue  # removed since
            except OSError:
                yield name, UNKNOWN  # opening it tells why
                continue
            if not may_be_log(found.st_mode):
                continue  # a pipe would keep the folder, and the end of the process, waiting
            stamp = (found.st_size, found.st_mtime_ns)
            if self._read.get(name) == stamp:
                continue
            if name.lower().endswith(".gz") and self._growing.get(name) != stamp:
                # Half a gzip file looks like a damaged one, so it is left alone until it no longer grows.
                self._growing[name] = stamp
                continue
            self._growing.pop(name, None)
            yield name, stamp

    def _read_some(
        self, some: Sequence[tuple[str, _Stamp]], stopping: threading.Event, taken: Callable[[Counts], None]
    ) -> SourceError | None:
        """Read files; the small ones wait together, so that one write to the disk makes many of them durable.

        Gives why one of them could not be read.
        """
        begun, problem = self._begin(some)
        waiting: list[tuple[str, _Stamp, FilePart]] = []
        for source, position, stamp in begun:
            if stopping.is_set():
                break
            try:
                last = self._hand_in(source, position, stopping, taken)
            except SourceError as error:
                problem = _unless_gone(error) or problem
                continue
            if last is not None:
                waiting.append((source.name, stamp, last))
            if sum(part.size for _, _, part in waiting) >= FLIGHT_BYTES:
                self._settle(waiting, taken)
        self._settle(waiting, taken)
        return problem

    def _begin(self, some: Sequence[tuple[str, _Stamp]]) -> tuple[list[_Begun], SourceError | None]:
        """Open files, and see from where on each is to be read, in few calls; and why one could not be opened."""
        problem: SourceError | None = None
        opened: list[tuple[FileSource, _Stamp]] = []
        for name, stamp in some:
            try:
                opened.append((FileSource(name), stamp))
            except SourceError as error:
                problem = _unless_gone(error) or problem
        names = [source.name for source, _ in opened]
        known = self._writer.call(lambda store, _rejects: {name: store.position(name) for name in names}).result()
        begun: list[_Begun] = []
        for source, stamp in opened:
            try:
                decision = check_resume(source, _seen(known[source.name]))
            except SourceError as error:
                problem = _unless_gone(error) or problem
                continue
            if decision.action == "skip":
                self._read[source.name] = stamp
            else:
                begun.append((source, decision.position, stamp))

        def expect(_store: Store, rejects: RejectFile) -> None:
            for source, position, _ in begun:
                rejects.resume(source.name, position)

        self._writer.call(expect).result()
        return begun, problem

    def _hand_in(
        self, source: FileSource, position: int, stopping: threading.Event, taken: Callable[[Counts], None]
    ) -> FilePart | None:
        """Hand a file in, and give the last part of it: all before that is durable.

        Of a file only one part waits at a time: else a later one could be stored, with the position behind it, after an
        earlier one could not be. ``None`` where the process ends meanwhile, or nothing is in the file.
        """
        last: FilePart | None = None
        for pieces in self._parts(source, position):
            if last is not None:
                taken(last.wait())
                if stopping.is_set():
                    return None
            last = FilePart(source, pieces)
            self._writer.submit(last)
        return last

    def _parts(self, source: FileSource, position: int) -> Iterator[list[Piece]]:
        """The pieces of a file, so many together as are read at once."""
        pieces: list[Piece] = []
        size = 0
        for piece in source.pieces(position, READ_BYTES, follow=True):
            self._keep_large(source.name, piece)
            pieces.append(piece)
            size += sum(map(len, piece.data))
            if size >= READ_BYTES:
                yield pieces
                pieces, size = [], 0
        if pieces:
            yield pieces

    def _settle(self, waiting: list[tuple[str, _Stamp, FilePart]], taken: Callable[[Counts], None]) -> None:
        """Wait until all of them are durable; from then on they are not looked at again as long as they stay so."""
        for name, stamp, part in waiting:
            taken(part.wait())
            self._read[name] = stamp
        waiting.clear()

    def _keep_large(self, name: str, piece: Piece) -> None:
        """What does not fit into memory is gone with the next piece, so it is kept at once."""
        for broken in piece.broken:
            if not isinstance(broken.data, bytes):
                position, reason, data = broken.position, broken.reason, broken.data

                def write(_store: Store, rejects: RejectFile) -> bool:
                    return rejects.write(name, position, reason, data)  # noqa: B023 - it is done before the next one

                self._writer.call(write).result()


def _seen(known: Position | None) -> Seen | None:
    return None if known is None else Seen(known.fingerprint, known.position, known.read_bytes, known.done)


def _unless_gone(error: SourceError) -> SourceError | None:
    """The error, unless it is that the file was removed since."""
    return None if isinstance(error.__cause__, GONE) else error
