"""gzip, read block by block: several members one after another, and everything that a damaged file still gives."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

MAGIC = b"\x1f\x8b"
_GZIP = 16 + zlib.MAX_WBITS


class Inflater:
    """Decompresses what ``raw`` gives. ``fault`` says why the data ended early, once it did."""

    def __init__(self, raw: Callable[[], bytes], first: bytes) -> None:
        """Begin with the bytes ``first``; ``raw`` gives the following ones, and none at the end."""
        self.fault: str | None = None
        self._raw = raw
        self._input = first
        self._member = zlib.decompressobj(_GZIP)
        self._ended = False

    def read(self, size: int) -> bytes:
        """Give the next bytes, at most about ``size``; none at the end or at a fault."""
        while not self._ended:
            if not self._input:
                self._input = self._raw()
                if not self._input:
                    return self._drain(size)
            data = self._begin_member() if self._member.eof else self._step(size)
            if data:
                return data
        return b""

    def close(self) -> None:
        """Give nothing more, and let go of what gave the bytes: the two would keep each other in memory."""
        self._ended = True
        self._raw = bytes

    def _step(self, size: int) -> bytes:
        # zlib drops what a failing call had already decompressed, so the state before it is kept.
        before = self._member.copy()
        try:
            data = self._member.decompress(self._input, size)
        except zlib.error as error:
            return self._salvage(before, error)
        self._input = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
        return data

    def _salvage(self, member: zlib._Decompress, error: zlib.error) -> bytes:
        self._end(f"gzip data is corrupt: {error}")
        rescued = bytearray()
        for value in self._input:
            try:
                rescued += member.decompress(bytes((value,)))
            except zlib.error:
                break
        return bytes(rescued)

    def _begin_member(self) -> bytes:
        # Zeros may pad the end of a member (gzip's manual, "Advanced usage").
        self._input = self._input.lstrip(b"\0")
        if self._input.startswith(MAGIC[:1]):
            self._member = zlib.decompressobj(_GZIP)
        elif self._input:
            self._end("gzip data is followed by bytes that are no gzip")
        return b""

    def _drain(self, size: int) -> bytes:
        if self._member.eof:
            self._ended = True
            return b""
        data = self._member.decompress(b"", size)
        if not data and not self._member.eof:
            self._end("gzip data is truncated")
        return data

    def _end(self, fault: str) -> None:
        self.fault = fault
        self._ended = True
