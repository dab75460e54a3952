"""What every source hands over: pieces of messages, with the position from which to go on after each.

A **message** is a line, a document, or an entry of a top-level list. An **item** is what is decoded at once: mostly a
message; the records of a document that is too large for memory are items of one message.

A **position** is one whole number per source, opaque to everybody else: 0 is the beginning; below :data:`DOCUMENTS` it
is the offset of a line in the uncompressed bytes; from :data:`DOCUMENTS` on it is that number plus the count of
things handed over so far. Positions of one source never go down.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_ITEM_BYTES = 16 << 20
"""The longest line, list entry or record that is handed over in memory (16 MiB); a longer one is broken."""

PIECE_BYTES = 1 << 20
"""How many uncompressed bytes a piece has, about."""

PIECE_ITEMS = 2_000
"""How many items a piece has at most."""

DOCUMENTS = 10**15
"""Where positions that count begin: above every offset in bytes, and exact in a JSON number."""


class SourceError(Exception):
    """A source cannot be read: the text is one line that names it, says why, and what to do."""


class Chunks(Protocol):
    """Bytes that are too many for memory: each iteration reads them again from the beginning.

    Valid until the source's next piece is asked for. Iterating raises :class:`SourceError` when the file is gone.
    """

    def __iter__(self) -> Iterator[bytes]:
        """Give the bytes in order, in chunks of at most 1 MiB."""


class Item(NamedTuple):
    """One thing to decode, and where it stands in its source."""

    position: int
    data: bytes


class Broken(Struct, frozen=True):
    """What could not even be split, byte for byte: a line that is too long, the rest of a truncated document.

    ``data`` is empty when compressed data ends early just after a whole message: then there is only the reason.
    """

    reason: str
    position: int
    data: bytes | Chunks


class Piece(Struct):
    """What a source hands over at once.

    ``data`` and ``positions`` run in parallel (:attr:`items` pairs them). ``messages`` is how many messages ended in
    this piece, each broken thing among them. ``position`` is where to resume once this piece is durable.
    ``read_bytes`` is how many raw (compressed) bytes were read of the source so far, from its beginning. ``done`` is
    true for the last piece, and only for that.
    """

    data: list[bytes]
    positions: list[int]
    messages: int
    position: int
    read_bytes: int
    broken: list[Broken]
    done: bool

    @property
    def items(self) -> list[Item]:
        """The items with their positions."""
        return list(map(Item, self.positions, self.data))


class Source(Protocol):
    """Something that messages are read from.

    ``name`` is unique among sources. ``size`` is in raw bytes, where it is known beforehand. ``fingerprint`` is
    of its beginning (see :mod:`crr_monitor.sources.fingerprint`), and ``None`` where nothing can be read twice.
    """

    @property
    def name(self) -> str:
        """What the source is called in messages and in the store."""

    @property
    def size(self) -> int | None:
        """Raw bytes, if known."""

    @property
    def fingerprint(self) -> str | None:
        """What the source begins with, if it can be read twice."""

    def pieces(
        self, start: int = 0, piece_bytes: int = PIECE_BYTES, max_items: int = PIECE_ITEMS, *, follow: bool = False
    ) -> Iterator[Piece]:
        """Read on from a position that a piece gave; the last piece is ``done``.

        With ``follow`` the source is still being written: what is unfinished at its end is left for later. Without,
        it is handed over like any message (or as broken), and ``position`` stays before it, so that it is read again
        in full should the source have grown.

        Raises:
            SourceError: the source cannot be read.
        """
