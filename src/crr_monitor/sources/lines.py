"""Splitting lines: the fast path, for logs with one message per line."""

from __future__ import annotations

from itertools import accumulate, count
from operator import add
from typing import TYPE_CHECKING

from crr_monitor.sources.base import MAX_ITEM_BYTES, Broken, Piece
from crr_monitor.sources.detect import is_complete

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crr_monitor.sources.stream import ByteStream

LONG_LINE = f"line longer than {MAX_ITEM_BYTES >> 20} MiB"


class LineReader:
    r"""Cuts the blocks of a stream into lines; blank ones are no messages, ``\r\n`` ends a line like ``\n``."""

    def __init__(self, stream: ByteStream, max_items: int, *, follow: bool) -> None:
        """Go on where the stream stands, which is the beginning of a line."""
        self._stream = stream
        self._max_items = max_items
        self._follow = follow
        # The line that the last block ended in: its beginning, its bytes so far, and whether it is too long to keep.
        self._begin = stream.offset
        self._parts: list[bytes] = []
        self._length = 0
        self._long = False

    def pieces(self, block_bytes: int) -> Iterator[Piece]:
        """Give the lines, about that many bytes at once."""
        while block := self._stream.read(block_bytes):
            lines = _split(block)
            if len(lines) == 1:
                self._extend(block)
                continue
            first, rest = lines[0], lines.pop()
            broken: list[Broken] = []
            if self._long or self._length + len(first) > MAX_ITEM_BYTES:
                broken.append(self._long_line(first))
                self._begin = broken[0].position + self._length + len(first) + 1
                del lines[0]
            elif self._parts:
                self._parts.append(first)
                lines[0] = b"".join(self._parts)
            begin, self._parts, self._length, self._long = self._begin, [], 0, False
            self._begin = self._stream.offset - len(rest)
            yield from self._cut(lines, begin, broken)
            self._extend(rest)
        yield self._last()

    def _extend(self, part: bytes) -> None:
        self._length += len(part)
        if self._long or not part:
            return
        self._parts.append(part)
        if self._length > MAX_ITEM_BYTES:
            # One part, so that the many blocks and their sum are not in memory together.
            self._stream.hold(b"".join(self._parts))
            self._parts, self._long = [], True

    def _long_line(self, last: bytes) -> Broken:
        if not self._long:
            return Broken(LONG_LINE, self._begin, b"".join((*self._parts, last)))
        return Broken(LONG_LINE, self._begin, self._stream.excerpt(self._begin, self._begin + self._length + len(last)))

    def _cut(self, lines: list[bytes], begin: int, broken: list[Broken]) -> Iterator[Piece]:
        """Make pieces of complete lines, of which the first begins at ``begin``."""
        # Lengths are without newlines, of which one stands before each line but the first.
        starts = list(map(add, accumulate(map(len, lines), initial=begin), count()))
        for low in range(0, max(len(lines), 1), self._max_items):
            high = min(low + self._max_items, len(lines))
            piece = self._piece(starts[high], broken if low == 0 else [])
            for line, start in zip(lines[low:high], starts[low:high], strict=True):
                if line and not line.isspace():
                    piece.data.append(line[:-1] if line[-1] == 0x0D else line)  # noqa: PLR2004 - a carriage return
                    piece.positions.append(start)
            piece.messages += len(piece.data)
            yield piece

    def _last(self) -> Piece:
        """Make the last piece, of what stands behind the last newline."""
        piece = self._piece(self._begin, [])
        piece.done = True
        fault = self._stream.fault
        if self._long:
            end = self._begin + self._length
            piece.broken.append(Broken(fault or LONG_LINE, self._begin, self._stream.excerpt(self._begin, end)))
            piece.messages = 1
            return piece
        line = b"".join(self._parts)
        if fault:
            piece.broken.append(Broken(fault, self._begin, line))
            piece.messages = 1
        elif line and not line.isspace():
            complete = is_complete(line)
            if complete or not self._follow:
                piece.data.append(line.removesuffix(b"\r"))
                piece.positions.append(self._begin)
                piece.messages = 1
            if complete:
                piece.position = self._stream.offset
        return piece

    def _piece(self, position: int, broken: list[Broken]) -> Piece:
        return Piece([], [], len(broken), position, self._stream.raw_bytes, broken, done=False)


def _split(block: bytes) -> list[bytes]:
    r"""``block.split(b"\n")``, which looks at one byte after the other and takes three times as long."""
    lines = []
    begin = 0
    while (end := block.find(b"\n", begin)) >= 0:
        lines.append(block[begin:end])
        begin = end + 1
    lines.append(block[begin:])
    return lines
