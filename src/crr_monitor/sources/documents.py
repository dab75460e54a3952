"""Splitting documents: one or several, pretty-printed or not, lists, and log files too large for memory.

A document of at most 16 MiB is one item. Of a larger one the entries of its ``Records`` are handed over one by one,
and the document counts as one message at its end. Each entry of a top-level list is a message.

The position counts *steps*: an item, or the end of a large document. What is salvaged from a small document that ends
too early takes no step, because the document will be one item when it has been completed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from crr_monitor.sources.base import DOCUMENTS, MAX_ITEM_BYTES, Broken, Chunks, Piece
from crr_monitor.sources.detect import judge
from crr_monitor.sources.scan import (
    COLON,
    COMMA,
    LIST,
    LIST_END,
    OBJECT,
    OBJECT_END,
    QUOTE,
    TRUNCATED,
    Cursor,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

_LIMIT = f"{MAX_ITEM_BYTES >> 20} MiB"
_RECORDS = b'"Records"'


class _StopError(Exception):
    """The structure is lost: the rest of the source is one broken thing. ``cut`` when the source just ended."""

    def __init__(self, reason: str, *, cut: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.cut = cut


class _Step(Struct):
    """One thing handed over: before which step, how many steps it takes, whether a message ended with it."""

    position: int
    steps: int
    message: bool
    data: bytes | None = None
    broken: Broken | None = None


class DocumentReader:
    """Reads documents one after another. The cursor stands at the beginning of the source."""

    def __init__(self, cursor: Cursor, start: int, *, follow: bool) -> None:
        """Skip the steps before ``start`` (a position)."""
        self._cursor = cursor
        self._stream = cursor.stream
        self._start = max(start, DOCUMENTS)
        self._follow = follow
        self._step = DOCUMENTS
        # Where the rest begins, should the structure be lost: here when it is not the cursor's place.
        self._mark: int | None = None

    def pieces(self, piece_bytes: int, max_items: int) -> Iterator[Piece]:
        """Give what is in the documents, about that many bytes and at most that many items at once."""
        piece, size = self._piece(), 0
        for step in self._steps():
            if step.position < self._start:
                continue
            piece.messages += step.message
            piece.position = step.position + step.steps
            if step.data is not None:
                piece.data.append(step.data)
                piece.positions.append(step.position)
                size += len(step.data)
            if step.broken is not None:
                piece.broken.append(step.broken)
            if size >= piece_bytes or len(piece.data) >= max_items or step.broken is not None:
                piece.read_bytes = self._stream.raw_bytes
                yield piece
                piece, size = self._piece(piece.position), 0
        piece.read_bytes = self._stream.raw_bytes
        piece.done = True
        # Nothing is settled yet, so next time the format may be told anew.
        if piece.position == DOCUMENTS:
            piece.position = 0
        yield piece

    def _piece(self, position: int | None = None) -> Piece:
        return Piece([], [], 0, self._start if position is None else position, 0, [], done=False)

    def _steps(self) -> Iterator[_Step]:
        cursor = self._cursor
        try:
            while (byte := cursor.peek()) >= 0:
                if byte == LIST:
                    cursor.at += 1
                    yield from self._entries(message=True, steps=1)
                elif byte == OBJECT:
                    yield from self._document()
                else:
                    yield self._stray_line()
        except _StopError as stop:
            if not (stop.cut and self._follow):
                yield self._broken_rest(self._stream.fault or stop.reason)
        else:
            if self._stream.fault:
                yield self._broken(self._stream.fault, b"", steps=0)

    def _next(self, data: bytes, *, message: bool, steps: int) -> _Step:
        step = _Step(self._step, steps, message, data)
        self._step += steps
        return step

    def _broken(self, reason: str, data: bytes | Chunks, *, steps: int) -> _Step:
        step = _Step(self._step, steps, True, None, Broken(reason, self._step, data))  # noqa: FBT003 - a message
        self._step += steps
        return step

    def _document(self) -> Iterator[_Step]:
        """Read an object: at once when it is small, its ``Records`` one by one when it is large or cut off."""
        cursor = self._cursor
        end = self._measure_document()
        if end > 0:
            yield self._next(cursor.take(end), message=True, steps=1)
            return
        if end == TRUNCATED and self._follow:
            raise _StopError(_cut_off(), cut=True)
        begin = self._mark = cursor.offset
        cursor.hold()
        cursor.at += 1
        found = False
        while cursor.peek() != OBJECT_END:
            if self._key() == _RECORDS and cursor.peek() == LIST:
                found = True
                self._mark = None
                self._stream.release()
                cursor.at += 1
                yield from self._entries(message=False, steps=0 if end == TRUNCATED else 1)
            else:
                self._skip_value()
            if self._expect(COMMA, OBJECT_END) == COMMA:
                cursor.at += 1
        cursor.at += 1
        self._mark = None
        if found:
            yield _Step(self._step, 1, message=True)
            self._step += 1
        else:
            whole = self._stream.excerpt(begin, cursor.offset)
            yield self._broken(f"document larger than {_LIMIT} without a list of Records", whole, steps=1)

    def _measure_document(self) -> int:
        cursor = self._cursor
        if cursor.reaches_end(MAX_ITEM_BYTES):
            # Mostly this document is all that is left, and then the JSON parser is faster.
            with memoryview(cursor.data)[cursor.at :] as view:
                verdict = judge(view)
            if verdict == "truncated":
                return TRUNCATED
            if verdict == "complete":
                return len(cursor.data.rstrip())
        return cursor.measure(MAX_ITEM_BYTES)

    def _entries(self, *, message: bool, steps: int) -> Iterator[_Step]:
        """Read a list from behind its opening bracket to behind its closing one."""
        cursor = self._cursor
        if cursor.peek() == LIST_END:
            cursor.at += 1
            return
        while True:
            self._expect_value()
            if values := cursor.take_many():
                for value in values:
                    yield self._next(value, message=message, steps=steps)
            else:
                yield self._entry(message=message, steps=steps)
            separator = self._expect(COMMA, LIST_END)
            cursor.at += 1
            if separator == LIST_END:
                return

    def _entry(self, *, message: bool, steps: int) -> _Step:
        end = self._cursor.measure(MAX_ITEM_BYTES)
        if end == TRUNCATED:
            raise _StopError(_cut_off(), cut=True)
        if end > 0:
            return self._next(self._cursor.take(end), message=message, steps=steps)
        begin = self._mark = self._cursor.offset
        self._cursor.hold()
        self._skip_value()
        self._mark = None
        data = self._stream.excerpt(begin, self._cursor.offset)
        return self._broken(f"entry of a list longer than {_LIMIT}", data, steps=steps)

    def _stray_line(self) -> _Step:
        """Take what is neither object nor list up to its line's end, so that the next document is unharmed."""
        cursor = self._cursor
        begin = cursor.offset
        end = cursor.measure_line(MAX_ITEM_BYTES)
        if end > 0:
            return self._next(cursor.take(end).rstrip(), message=True, steps=1)
        cursor.hold()
        cursor.skip_line()
        return self._broken(f"line longer than {_LIMIT}", self._stream.excerpt(begin, cursor.offset), steps=1)

    def _key(self) -> bytes:
        """Read a member's name and the colon behind it."""
        cursor = self._cursor
        self._expect(QUOTE)
        end = cursor.measure(MAX_ITEM_BYTES)
        if end <= 0:
            raise _StopError(_cut_off(), cut=end == TRUNCATED)
        name = cursor.take(end)
        self._expect(COLON)
        cursor.at += 1
        return name

    def _skip_value(self) -> None:
        self._expect_value()
        if not self._cursor.skip():
            raise _StopError(_cut_off(), cut=True)

    def _expect_value(self) -> None:
        if self._cursor.peek() < 0:
            raise _StopError(_cut_off(), cut=True)
        if not self._cursor.at_value():
            self._fail("a value")

    def _expect(self, *wanted: int) -> int:
        byte = self._cursor.peek()
        if byte < 0:
            raise _StopError(_cut_off(), cut=True)
        if byte not in wanted:
            self._fail(" or ".join(map(chr, wanted)))
        return byte

    def _fail(self, wanted: str) -> None:
        message = f"document is malformed: expected {wanted} at byte {self._cursor.offset}"
        raise _StopError(message, cut=False)

    def _broken_rest(self, reason: str) -> _Step:
        """Take everything from the last thing that was handed over to the end of the source."""
        cursor = self._cursor
        begin = cursor.offset if self._mark is None else self._mark
        if begin >= cursor.window_offset:
            cursor.at = begin - cursor.window_offset
            if cursor.reaches_end(MAX_ITEM_BYTES):
                return self._broken(reason, cursor.take(len(cursor.data)), steps=0)
            cursor.hold()
        cursor.skip_all()
        return self._broken(reason, self._stream.excerpt(begin, cursor.offset), steps=0)


def _cut_off() -> str:
    return "document is truncated: it ends before its last bracket"
