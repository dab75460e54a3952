"""A folder in which logs arrive, or grow: looked through again and again, each file from where it was left.

No notification of the operating system is used, so that it works the same on a network drive.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from crr_monitor.process.reading import READ_BYTES
from crr_monitor.serve.handing import FilePiece
from crr_monitor.sources.base import SourceError
from crr_monitor.sources.files import FileSource, Seen, check_resume, logs_in

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence

    from crr_monitor.serve.writer import Writer
    from crr_monitor.sources.base import Piece
    from crr_monitor.sources.rejects import RejectFile
    from crr_monitor.stores.base import Counts, Position, Store

LOOK_SECONDS = 1.0
SHARE = 10.0
"""A look at very many files takes its time: the pause is this many times as long."""

_Stamp = tuple[int, int]


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
        for name in names:
            if stopping.is_set():
                return
            try:
                self._look_at(name, stopping, taken)
            except SourceError as error:
                if os.path.exists(name):  # noqa: PTH110 - else it was removed since; names may be no Paths
                    problem = error
        self.pause = max(LOOK_SECONDS, SHARE * (time.monotonic() - began)) if not self._growing else LOOK_SECONDS
        if problem is not None:
            raise problem

    def _forget(self, there: set[str]) -> None:
        for known in (self._read, self._growing):
            for name in known.keys() - there:
                del known[name]

    def _look_at(self, name: str, stopping: threading.Event, taken: Callable[[Counts], None]) -> None:
        try:
            found = os.stat(name)  # noqa: PTH116 - as above
        except OSError:
            return  # removed since
        stamp = (found.st_size, found.st_mtime_ns)
        if self._read.get(name) == stamp:
            return
        if name.lower().endswith(".gz") and self._growing.get(name) != stamp:
            # Half a gzip file looks like a damaged one, so it is left alone until it no longer grows.
            self._growing[name] = stamp
            return
        self._growing.pop(name, None)
        self._read_file(FileSource(name), stopping, taken)
        if not stopping.is_set():
            self._read[name] = stamp

    def _read_file(self, source: FileSource, stopping: threading.Event, taken: Callable[[Counts], None]) -> None:
        known = self._writer.call(lambda store, _rejects: _position(store, source.name)).result()
        seen = None if known is None else Seen(known.fingerprint, known.position, known.read_bytes, known.done)
        decision = check_resume(source, seen)
        if decision.action == "skip":
            return
        self._writer.call(lambda _store, rejects: rejects.resume(source.name, decision.position)).result()
        for piece in source.pieces(decision.position, READ_BYTES, follow=True):
            self._keep_large(source.name, piece)
            handed = FilePiece(source, piece)
            self._writer.submit(handed)
            taken(handed.wait())
            if stopping.is_set():
                return

    def _keep_large(self, name: str, piece: Piece) -> None:
        """What does not fit into memory is gone with the next piece, so it is kept at once."""
        for broken in piece.broken:
            if not isinstance(broken.data, bytes):
                position, reason, data = broken.position, broken.reason, broken.data

                def write(_store: Store, rejects: RejectFile) -> bool:
                    return rejects.write(name, position, reason, data)  # noqa: B023 - it is done before the next one

                self._writer.call(write).result()


def _position(store: Store, name: str) -> Position | None:
    return store.position(name)
