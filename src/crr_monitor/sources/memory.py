"""Messages that came whole, as the body of a request or the text of a queue's message: split as a file would be."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from msgspec.structs import replace

from crr_monitor.sources.base import PIECE_BYTES, PIECE_ITEMS, Piece
from crr_monitor.sources.detect import holds_documents, judge
from crr_monitor.sources.documents import DocumentReader
from crr_monitor.sources.inflate import MAGIC, Inflater
from crr_monitor.sources.lines import LineReader
from crr_monitor.sources.scan import Cursor
from crr_monitor.sources.stream import ByteStream

if TYPE_CHECKING:
    from collections.abc import Iterator


class InflateError(Exception):
    """Compressed bytes cannot be taken: the text says why. ``too_large``: they are more than was allowed."""

    def __init__(self, message: str, *, too_large: bool = False) -> None:
        super().__init__(message)
        self.too_large = too_large


def inflate(data: bytes, limit: int) -> bytes:
    """Decompress gzip, and never have much more than ``limit`` bytes in memory.

    Raises:
        InflateError: it is no gzip, is damaged, or holds more than ``limit`` bytes.
    """
    if not data.startswith(MAGIC):
        message = "the data is said to be gzip, and does not begin like it"
        raise InflateError(message)
    inflater = Inflater(lambda: b"", data)
    found = bytearray()
    while block := inflater.read(min(1 << 20, limit + 1 - len(found))):
        found += block
        if len(found) > limit:
            message = f"the data has more than {limit >> 20} MiB once it is decompressed: send it in parts"
            raise InflateError(message, too_large=True)
    if inflater.fault is not None:
        raise InflateError(inflater.fault)
    return bytes(found)


def pieces_of(data: bytes, position: int) -> Iterator[Piece]:
    """Split bytes into messages: one document, several, a list, or lines. ``position`` is where all of them stand."""
    text = data.strip()
    if text.startswith(b"{") and judge(text) == "complete":  # one object, as nearly always
        yield Piece([text], [position], 1, position, len(data), [], done=True)
        return
    stream = ByteStream("memory", io.BytesIO(text))
    try:
        for piece in _split(stream):
            piece.positions = [position] * len(piece.positions)
            piece.broken = [
                # It was in memory before, so it may be there once more.
                replace(
                    each, position=position, data=each.data if isinstance(each.data, bytes) else b"".join(each.data)
                )
                for each in piece.broken
            ]
            yield piece
    finally:
        stream.close()


def _split(stream: ByteStream) -> Iterator[Piece]:
    cursor = Cursor(stream)
    if holds_documents(cursor):
        return DocumentReader(cursor, 0, follow=False).pieces(PIECE_BYTES, PIECE_ITEMS)
    cursor.rewind()
    return LineReader(stream, PIECE_ITEMS, follow=False).pieces(PIECE_BYTES)
