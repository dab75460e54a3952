"""Logs as the backfill reads them: usual records of CloudTrail logs become lines, the rest is decoded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct, field

from crr_monitor.history.spill import Spill, write_part
from crr_monitor.process.gather import Gatherer
from crr_monitor.process.reading import read_here
from crr_monitor.sources.base import MAX_ITEM_BYTES, PIECE_BYTES, PIECE_ITEMS, Piece
from crr_monitor.sources.detect import judge
from crr_monitor.sources.files import FileSource, Resumable
from crr_monitor.sources.objects import SCHEME, Found, ObjectSource, object_sources
from crr_monitor.sources.rejects import RejectFile
from crr_monitor.stores.base import Counts

try:
    from zlib_ng import zlib_ng as deflate
except ImportError:  # where it was not installed with the extra: the same, in twice the time
    import zlib as deflate  # type: ignore[no-redef]

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from crr_monitor.core.topology import Topology
    from crr_monitor.history.s3 import Reach
    from crr_monitor.history.usual import Usual
    from crr_monitor.process.gather import Gathered

MAX_DOCUMENT_BYTES = 16 << 20
"""The longest log whose records are all in memory at once; CloudTrail's are shorter."""

_GZIP = 16 + deflate.MAX_WBITS
_SIZE_BYTES = 4
"""A gzip file ends in the size of its content, modulo 2^32 (RFC 1952)."""

LINES = ".lines"
PART_LINES = 100_000
"""Lines that are gathered before a part is written."""


class Kept(Struct):
    """Where what was read is kept, and the figures of it."""

    spill: Spill
    rejects: RejectFile
    counts: Counts = field(default_factory=Counts)
    newest: int = 0

    def read(self, sources: Sequence[Resumable], topology: Topology) -> None:
        """Read sources with the decoder alone."""
        for batch in read_here([(source, 0) for source in sources], topology, self.rejects):
            self.take(batch)

    def take(self, batch: Gathered | None) -> None:
        """Keep a batch."""
        if batch is None:
            return
        for rejected in batch.rejected:
            self.rejects.write(rejected.source, rejected.position, rejected.reason, rejected.data)
        self.spill.add(batch.evidence)
        self.counts.add(batch.counts)
        self.newest = max(self.newest, batch.newest or 0)


class Lines:
    """Writes the lines of usual records as parts ``NAME-0.lines``, ``NAME-1.lines`` ... into a folder."""

    def __init__(self, usual: Usual, folder: Path, name: str) -> None:
        self.usual = usual
        self._folder = folder
        self._name = name
        self._parts = 0
        self._lines = 0

    def add(self, lines: int) -> None:
        """So many lines were made; a part is written once there are enough."""
        self._lines += lines
        if self._lines >= PART_LINES:
            self.flush()

    def flush(self) -> None:
        """Write what is left as a part, durably."""
        if self._lines:
            write_part(self._folder / f"{self._name}-{self._parts}{LINES}", self.usual.give())
            self._parts += 1
            self._lines = 0


def read_usual(sources: Sequence[Resumable], topology: Topology, lines: Lines, keep: Kept) -> None:
    """Read sources; the usual records of CloudTrail logs go to ``lines``, all others to ``keep``."""
    gatherer = Gatherer(topology)
    for source in sources:
        data = _document(source)
        taken = lines.usual.take(data) if data is not None and len(data) <= MAX_DOCUMENT_BYTES else None
        if data is None or taken is None:
            keep.read([source], topology)
            continue
        total, others = taken
        lines.add(total - len(others))
        keep.counts.add(Counts(events=total - len(others)))
        some = b'{"Records":[' + b",".join(others) + b"]}"
        piece = Piece([some], [0], 1, len(some), len(data), [], done=True)
        gatherer.take(source, piece, resumable=False)  # its place would be looked up, and is not kept here
        if gatherer.enough:
            keep.take(gatherer.give())
    keep.take(gatherer.give())
    lines.flush()
    keep.newest = max(keep.newest, lines.usual.newest)


def _document(source: Resumable) -> bytes | None:
    if isinstance(source, _Log):
        return _inflated(source.name)
    if isinstance(source, ObjectSource):
        with source.fetched() as path:
            return _inflated(str(path))
    return None


def open_logs(logs: Sequence[Found], reach: Reach) -> list[Resumable]:
    """Files and objects, in their order."""
    objects = [log for log in logs if log.name.startswith(SCHEME)]
    by_name = {source.name: source for source in object_sources(reach.client(), objects)} if objects else {}
    return [by_name.get(log.name) or _Log(log.name) for log in logs]


class _Log(FileSource):
    """A file that is mostly what CloudTrail writes: gzip, one document on one line, read in one go."""

    def __init__(self, name: str) -> None:
        """Take a path that was found; whether it can be read is seen when it is."""
        self.name = name
        self._regular = True

    def pieces(
        self, start: int = 0, piece_bytes: int = PIECE_BYTES, max_items: int = PIECE_ITEMS, *, follow: bool = False
    ) -> Iterator[Piece]:
        """As of any file; of such a log the same, with fewer looks at it."""
        size = self.size
        line = _only_line(self.name) if start == 0 and size is not None and size <= MAX_ITEM_BYTES else None
        if line is None:
            yield from super().pieces(start, piece_bytes, max_items, follow=follow)
        else:
            yield Piece([line], [0], 1, len(line), size or 0, [], done=True)


def _only_line(name: str) -> bytes | None:
    """The only line of a gzip file, where it is a whole JSON object that fits into memory; else ``None``."""
    data = _inflated(name)
    return data if data is not None and judge(data) == "complete" else None


def _inflated(name: str) -> bytes | None:
    """What is in a gzip file that is whole, where it is one line, may be a JSON object, and fits into memory."""
    try:
        raw = Path(name).read_bytes()
        size = int.from_bytes(raw[-_SIZE_BYTES:], "little")
        if not 0 < size <= MAX_ITEM_BYTES:
            return None
        inflate = deflate.decompressobj(_GZIP)
        # With the size that the file ends in, memory is taken once; if that is not true, the long way sees it.
        data = inflate.decompress(raw, size)
        more = b"" if inflate.eof else inflate.decompress(inflate.unconsumed_tail, 1)
    except (OSError, deflate.error):  # type: ignore[misc]  # declared as an object, and is a class
        return None  # the long way tells what is wrong with it
    whole = inflate.eof and not more and not inflate.unused_data and data.startswith(b"{") and b"\n" not in data
    return data if whole else None
