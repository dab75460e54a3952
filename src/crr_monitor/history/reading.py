"""Logs as the backfill reads them: what is usual in CloudTrail logs goes to SQL, all else through the decoder."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Raw, Struct, field

from crr_monitor.history.spill import Spill
from crr_monitor.history.usual import MAX_DOCUMENT_BYTES, Taker, UnusualError, records_of
from crr_monitor.process.gather import Gatherer
from crr_monitor.process.reading import read_here
from crr_monitor.sources.base import MAX_ITEM_BYTES, PIECE_BYTES, PIECE_ITEMS, Piece
from crr_monitor.sources.detect import judge
from crr_monitor.sources.files import FileSource, Resumable
from crr_monitor.sources.objects import SCHEME, Found, ObjectSource, object_sources
from crr_monitor.sources.rejects import RejectFile
from crr_monitor.stores.base import Counts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from crr_monitor.core.topology import Topology
    from crr_monitor.history.s3 import Reach
    from crr_monitor.process.gather import Gathered

DOCUMENTS_BYTES = 8 << 20
"""CloudTrail logs, uncompressed, that DuckDB reads at once."""


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


class _Document(Struct, frozen=True):
    """A CloudTrail log, and its records."""

    source: Resumable
    data: bytes
    records: list[Raw]

    def piece(self, records: Sequence[bytes | Raw] | None = None) -> Piece:
        """The log with some of its records, or all of it."""
        some = self.data if records is None else b'{"Records":[' + b",".join(map(bytes, records)) + b"]}"
        return Piece([some], [0], 1, len(some), len(self.data), [], done=True)


def read_usual(sources: Sequence[Resumable], topology: Topology, taker: Taker, lines: Path, keep: Kept) -> None:
    """Read sources; the usual records of CloudTrail logs go to ``taker``, all others to ``keep``."""
    documents: list[_Document] = []
    size = 0
    for source in sources:
        data = _document(source)
        records = records_of(data) if data is not None and len(data) <= MAX_DOCUMENT_BYTES else None
        if data is None or records is None:
            keep.read([source], topology)
            continue
        documents.append(_Document(source, data, records))
        size += len(data)
        if size >= DOCUMENTS_BYTES:
            _take_documents(documents, topology, taker, lines, keep)
            documents, size = [], 0
    _take_documents(documents, topology, taker, lines, keep)


def _document(source: Resumable) -> bytes | None:
    if isinstance(source, _Log):
        return _inflated(source.name)
    if isinstance(source, ObjectSource):
        with source.fetched() as path:
            return _inflated(str(path))
    return None


def _take_documents(documents: list[_Document], topology: Topology, taker: Taker, lines: Path, keep: Kept) -> None:
    if not documents:
        return
    with lines.open("wb") as file:
        for number, document in enumerate(documents):
            file.writelines((b'{"n":%d,"log":' % number, document.data, b"}\n"))
    gatherer = Gatherer(topology)
    total = sum(len(document.records) for document in documents)
    try:
        others = taker.take(total)
    except UnusualError:
        for document in documents:
            gatherer.take(document.source, document.piece())
    else:
        left: dict[int, list[Raw]] = {}
        for number, index in others:
            left.setdefault(number, []).append(documents[number].records[index])
        for number, document in enumerate(documents):
            gatherer.take(document.source, document.piece(left.get(number, [])))
        keep.counts.add(Counts(events=total - len(others)))
    keep.take(gatherer.give())


def open_logs(logs: Sequence[Found], reach: Reach) -> list[Resumable]:
    """Files and objects, in their order."""
    objects = [log for log in logs if log.name.startswith(SCHEME)]
    by_name = {source.name: source for source in object_sources(reach.client(), objects)} if objects else {}
    return [by_name.get(log.name) or _Log(log.name) for log in logs]


class _Log(FileSource):
    """A file that is mostly what CloudTrail writes: gzip, one document on one line, read in one go."""

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
        inflate = zlib.decompressobj(16 + zlib.MAX_WBITS)
        data = inflate.decompress(raw, MAX_ITEM_BYTES)
    except (OSError, zlib.error):
        return None  # the long way tells what is wrong with it
    whole = inflate.eof and not inflate.unused_data and data.startswith(b"{") and b"\n" not in data
    return data if whole else None
