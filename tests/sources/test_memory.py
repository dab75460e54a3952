"""Splitting what came whole: the same messages as of a file with the same bytes, and compressed bytes within bounds."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crr_monitor.sources.files import FileSource
from crr_monitor.sources.memory import InflateError, inflate, pieces_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from crr_monitor.sources.base import Chunks, Piece

PARTS = st.sampled_from(
    [b'{"a":1}', b'{"b":"}{"}', b'{"c":\n2}', b"[1,2]", b'[{"d":1},{"e":2}]', b"\n", b" ", b"{bad", b"7", b"\xff", b","]
)


def messages(data: bytes) -> tuple[list[bytes], int, list[tuple[str, bytes]]]:
    """What bytes are split into: items, number of messages, and what is broken."""
    pieces = list(pieces_of(data, 42))
    assert {position for piece in pieces for position in piece.positions} <= {42}
    assert {broken.position for piece in pieces for broken in piece.broken} <= {42}
    return told(pieces)


def whole(data: bytes | Chunks) -> bytes:
    """Bytes, also of what is read chunk by chunk."""
    return data if isinstance(data, bytes) else b"".join(data)


def told(pieces: Iterable[Piece]) -> tuple[list[bytes], int, list[tuple[str, bytes]]]:
    """The same of pieces, while what is too long for them can still be read."""
    items: list[bytes] = []
    count, broken = 0, []
    for piece in pieces:
        items += piece.data
        count += piece.messages
        broken += [(each.reason, whole(each.data)) for each in piece.broken]
    return items, count, broken


@given(parts=st.lists(PARTS, max_size=6))
def test_split_as_a_file_is(parts: list[bytes], tmp_path_factory: pytest.TempPathFactory) -> None:
    """Bytes in memory give the items, messages and broken parts that a file with the same bytes gives."""
    data = b"".join(parts).strip()
    file: Path = tmp_path_factory.getbasetemp() / "same.json"
    file.write_bytes(data)
    assert messages(data) == told(FileSource(str(file)).pieces())


def test_one_object_is_handed_over_as_it_is() -> None:
    """A single object is one message, without the white space around it."""
    assert messages(b'  {"a": 1}\r\n') == ([b'{"a": 1}'], 1, [])


@given(data=st.binary(max_size=5_000), members=st.integers(1, 3))
def test_inflate_gives_the_bytes_back(data: bytes, members: int) -> None:
    """What was compressed, in one member or several, comes out as it was."""
    assert inflate(gzip.compress(data) * members, len(data) * members) == data * members


def test_inflate_stops_at_the_limit() -> None:
    """One byte more than the limit is refused as too large; as many as the limit are taken."""
    packed = gzip.compress(b" " * (1 << 20))
    assert len(inflate(packed, 1 << 20)) == 1 << 20
    with pytest.raises(InflateError, match="the data has more than 0 MiB once it is decompressed") as caught:
        inflate(packed, (1 << 20) - 1)
    assert caught.value.too_large is True


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"{}", "the data is said to be gzip, and does not begin like it"),
        (gzip.compress(b"{}" * 500)[:-4], "gzip data is truncated"),
        (gzip.compress(b"{}") + b"x", "gzip data is followed by bytes that are no gzip"),
        (gzip.compress(b"{}")[:-8] + b"\0" * 8, "gzip data is corrupt"),
    ],
    ids=["none", "truncated", "followed", "corrupt"],
)
def test_damaged_gzip_is_refused_as_a_whole(data: bytes, reason: str) -> None:
    """Of damaged bytes nothing is taken, and the reason is told."""
    with pytest.raises(InflateError, match=reason) as caught:
        inflate(data, 1 << 20)
    assert caught.value.too_large is False
