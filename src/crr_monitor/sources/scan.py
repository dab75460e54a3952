"""Finding where a JSON value ends, in a window that slides over any length of input.

Only strings and brackets are looked at: a value ends where its brackets balance. What stands between them is for the
decoder, so that a malformed entry does not harm its neighbours.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from crr_monitor.sources.stream import BLOCK_BYTES

if TYPE_CHECKING:
    from crr_monitor.sources.stream import ByteStream

QUOTE, COMMA, COLON = b'",:'
LIST, LIST_END, OBJECT, OBJECT_END = b"[]{}"
_BACKSLASH = ord("\\")
_OPENING = frozenset((LIST, OBJECT))
_CLOSING = frozenset((LIST_END, OBJECT_END))
_NO_VALUE = frozenset((COMMA, COLON, LIST_END, OBJECT_END))
BOM = b"\xef\xbb\xbf"

TRUNCATED = 0
TOO_LONG = -1

_SPACES = re.compile(rb"[ \t\r\n]*+")
_WORD = re.compile(rb"[^ \t\r\n,:\[\]{}\"]*+")
_BETWEEN = re.compile(rb'[^"{}\[\]]*+(?:"[^"\\]*+(?:\\.[^"\\]*+)*"[^"{}\[\]]*+)*', re.DOTALL)
_STRING = re.compile(rb"[^\"\\]*+(?:\\.[^\"\\]*+)*", re.DOTALL)
_STRETCH = 1 << 16
"""How far one match goes at most: the matcher's memory grows with the strings that it passes."""

_BEGINNING = re.compile(rb'\{[ \t\r\n]*"[^"\\]{0,64}"[ \t\r\n]*:')
_SPAN = 2 << 20
_TRIES = 3
_LISTS = msgspec.json.Decoder(list[msgspec.Raw])


def _reach(pattern: re.Pattern[bytes], data: bytearray, at: int, end: int) -> int:
    found = pattern.match(data, at, end)
    return found.end() if found else at


class _Scan:
    """The state within one value: where in the window, how deep, and whether inside a string."""

    def __init__(self, data: bytearray, at: int) -> None:
        first = data[at]
        self.at = at + 1
        self.depth = 1 if first in _OPENING else 0
        self.inside = first == QUOTE
        self.word = not self.depth and not self.inside
        if self.word:
            self.at = at

    def run(self, data: bytearray) -> bool:
        """Go on to the value's end (true), or as far as the data goes (false)."""
        if self.word:
            self.at = _reach(_WORD, data, self.at, len(data))
            return self.at < len(data)
        return self._run(data)

    def _run(self, data: bytearray) -> bool:
        end = len(data)
        while self.at < end:
            stretch = min(end, self.at + _STRETCH)
            pattern = _STRING if self.inside else _BETWEEN
            self.at = _reach(pattern, data, self.at, stretch)
            if self.at >= end or (self.at == end - 1 and data[self.at] == _BACKSLASH):
                return False
            if self._step(data[self.at]):
                return True
        return False

    def _step(self, byte: int) -> bool:
        """Take the byte that a match stopped at, and tell whether the value ends with it."""
        if byte == QUOTE:
            self.inside = not self.inside
            self.at += 1
            return not self.inside and not self.depth
        if self.inside:
            return False
        if byte in _OPENING:
            self.depth += 1
            self.at += 1
        elif byte in _CLOSING:
            self.depth -= 1
            self.at += 1
        return not self.depth


class Cursor:
    """A place in a stream, and the window around it.

    ``data[at]`` is the next byte. Whatever reads on may drop what lies before ``at``.
    """

    def __init__(self, stream: ByteStream) -> None:
        """Stand before the first byte that is neither a byte order mark nor (later) white space."""
        self.stream = stream
        self.data = bytearray()
        self.at = 0
        self.ended = False
        self._slow_until = 0
        if stream.offset == 0:
            while len(self.data) < len(BOM) and self.more():
                pass
            if self.data.startswith(BOM):
                self.at = len(BOM)

    @property
    def offset(self) -> int:
        """The offset of ``at`` in the stream."""
        return self.window_offset + self.at

    @property
    def window_offset(self) -> int:
        """The offset of the window's first byte in the stream."""
        return self.stream.offset - len(self.data)

    def more(self) -> bool:
        """Read on; false at the end."""
        block = self.stream.read(BLOCK_BYTES)
        if not block:
            self.ended = True
            return False
        self.data += block
        return True

    def rewind(self) -> None:
        """Give the window back to the stream, from ``at`` on."""
        self.stream.unread(bytes(memoryview(self.data)[self.at :]))
        self.data = bytearray()
        self.at = 0

    def peek(self) -> int:
        """Go to the next byte that is no white space, and give it; -1 at the end."""
        while True:
            self.at = _reach(_SPACES, self.data, self.at, len(self.data))
            if self.at < len(self.data):
                return self.data[self.at]
            self.drop()
            if not self.more():
                return -1

    def at_value(self) -> bool:
        """Tell whether a value can begin with the byte that :meth:`peek` gave."""
        return self.data[self.at] not in _NO_VALUE

    def measure(self, limit: int) -> int:
        """Give the index behind the value that begins at ``at``, which does not move: :meth:`take` moves it.

        :data:`TRUNCATED` when the stream ends within it, :data:`TOO_LONG` when it has more bytes than ``limit``.
        """
        scan = _Scan(self.data, self.at)
        while not scan.run(self.data):
            if scan.at - self.at > limit:
                return TOO_LONG
            gone = self.drop()
            scan.at -= gone
            if not self.more():
                return scan.at if scan.word else TRUNCATED
        return scan.at if scan.at - self.at <= limit else TOO_LONG

    def take(self, end: int) -> bytes:
        """Give the bytes up to that index, and go there."""
        with memoryview(self.data) as view:
            taken = bytes(view[self.at : end])
        self.at = end
        return taken

    def take_many(self) -> list[bytes]:
        """Take as many entries of a list as can be found at once, and stand behind them; none if that fails.

        The bytes up to a comma are certainly whole entries if they, put into brackets, are a valid list. A comma that
        is worth the try stands before an object with the same first name as this one.
        """
        begin = _BEGINNING.match(self.data, self.at)
        if begin is None or self.offset < self._slow_until:
            return []
        end = self.at + _SPAN
        for _ in range(_TRIES):
            end = self.data.rfind(begin.group(), self.at + 1, end)
            if end < 0:
                return []
            entries = self.data[self.at : end].rstrip()
            if entries.endswith(b",") and (values := _values(entries)):
                self.at += len(entries) - 1
                return values
        # Something here is malformed: one by one until there is a new window.
        self._slow_until = self.stream.offset
        return []

    def measure_line(self, limit: int) -> int:
        """Give the index of the next newline or of the end; :data:`TOO_LONG` when there is none within ``limit``."""
        seen = self.at
        while (newline := self.data.find(b"\n", seen)) < 0:
            seen = len(self.data) - self.drop()
            if seen > limit:
                return TOO_LONG
            if not self.more():
                newline = len(self.data)
                break
        return newline if newline - self.at <= limit else TOO_LONG

    def reaches_end(self, limit: int) -> bool:
        """Read on to the end, if that comes within about ``limit`` bytes."""
        while len(self.data) - self.at <= limit:
            if not self.more():
                return True
        return False

    def hold(self) -> None:
        """Make what comes from ``at`` on available to an excerpt."""
        with memoryview(self.data)[self.at :] as view:
            self.stream.hold(view)

    def skip(self) -> bool:
        """Go behind the value that begins at ``at``, of any length; false when the stream ends within it."""
        scan = _Scan(self.data, self.at)
        while not scan.run(self.data):
            self.at = scan.at
            scan.at -= self.drop()
            if not self.more():
                return scan.word
        self.at = scan.at
        return True

    def skip_line(self) -> None:
        """Go to the next newline, or to the end."""
        while (newline := self.data.find(b"\n", self.at)) < 0:
            self.at = len(self.data)
            self.drop()
            if not self.more():
                return
        self.at = newline

    def skip_all(self) -> None:
        """Go to the end."""
        self.at = len(self.data)
        self.drop()
        while self.more():
            self.at = len(self.data)
            self.drop()

    def drop(self) -> int:
        """Drop what lies before ``at``, and give how many bytes that were."""
        gone = self.at
        del self.data[:gone]
        self.at = 0
        return gone


def _values(entries: bytearray) -> list[bytes]:
    """Split entries that end with a comma, if they are valid."""
    entries[-1] = LIST_END
    try:
        return [bytes(value) for value in _LISTS.decode(b"[" + entries)]
    except (msgspec.DecodeError, RecursionError):
        return []
