"""What is in the pieces that a source hands over."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crr_monitor.sources.base import Broken, Piece


def data_of(pieces: list[Piece]) -> list[bytes]:
    """Return the items' bytes of all pieces."""
    return [data for piece in pieces for data in piece.data]


def bytes_of(broken: Broken) -> bytes:
    """Return the bytes of something broken, wherever they are kept."""
    return broken.data if isinstance(broken.data, bytes) else b"".join(broken.data)
