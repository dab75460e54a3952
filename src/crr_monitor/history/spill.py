"""Evidence on its way through the disk: spread over partitions by version, so that each fits into memory alone.

A part file holds one block of bytes per partition, behind the offsets of all blocks. All that is known of one version
is in the blocks of one partition, whatever part it is in.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, BinaryIO
from zlib import crc32

from msgspec.msgpack import Decoder, Encoder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

Packed = tuple[str, str, bytes]
"""Key, version id and packed evidence."""

PART_BYTES = 32 << 20
"""Packed evidence that is gathered before a part is written."""

SLOT_HOURS = 6
SLOT_SQL = f"{{day}} || '-' || (CAST({{hour}} AS INTEGER) // {SLOT_HOURS})"
""":func:`slot_of` in DuckDB's SQL."""

_OFFSET = struct.Struct("<q")
_OVERHEAD = 16

_encode = Encoder().encode
_decode = Decoder(list[Packed]).decode


def number_of(version_id: str) -> int:
    """A number by which versions are spread; the same version always has the same, in every process."""
    return crc32(version_id.encode())


def slot_of(day: str, hour: str) -> str:
    """What an hour's rows are gathered under: a part of a day, so that one day is work for several processes."""
    return f"{day}-{int(hour) // SLOT_HOURS}"


def write_part(path: Path, blocks: Sequence[bytes]) -> None:
    """Write a part, durably: one block for each partition."""
    offset = _OFFSET.size * (len(blocks) + 1)
    offsets = [offset]
    for block in blocks:
        offset += len(block)
        offsets.append(offset)
    unfinished = path.with_suffix(".unfinished")
    with unfinished.open("wb") as file:
        file.write(b"".join(map(_OFFSET.pack, offsets)))
        file.writelines(blocks)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def read_part(path: Path, partition: int) -> bytes:
    """The block of a partition in a part."""
    with path.open("rb") as file:
        begin, end = _place(file, partition)
        file.seek(begin)
        return file.read(end - begin)


def block_bytes(parts: Iterable[Path], partition: int) -> int:
    """How many bytes a partition has in some parts."""
    total = 0
    for part in parts:
        with part.open("rb") as file:
            begin, end = _place(file, partition)
        total += end - begin
    return total


def _place(file: BinaryIO, partition: int) -> tuple[int, int]:
    file.seek(_OFFSET.size * partition)
    return _OFFSET.unpack(file.read(_OFFSET.size))[0], _OFFSET.unpack(file.read(_OFFSET.size))[0]


class Spill:
    """Gathers evidence and writes parts ``NAME-0.part``, ``NAME-1.part`` ... into a folder."""

    def __init__(self, folder: Path, name: str, partitions: int) -> None:
        self._folder = folder
        self._name = name
        self._partitions = partitions
        self._parts = 0
        self._begin()

    def _begin(self) -> None:
        self._blocks: list[list[Packed]] = [[] for _ in range(self._partitions)]
        self._bytes = 0

    def add(self, evidence: Iterable[Packed]) -> None:
        """Take evidence; a part is written once there is enough."""
        blocks, partitions = self._blocks, self._partitions
        for one in evidence:
            blocks[number_of(one[1]) % partitions].append(one)
            self._bytes += len(one[0]) + len(one[1]) + len(one[2]) + _OVERHEAD
        if self._bytes >= PART_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what is left as a part, durably."""
        if not self._bytes:
            return
        blocks = [_encode(block) if block else b"" for block in self._blocks]
        write_part(self._folder / f"{self._name}-{self._parts}.part", blocks)
        self._parts += 1
        self._begin()


def read_blocks(parts: Iterable[Path], partition: int) -> Iterator[list[Packed]]:
    """The evidence of a partition, block by block."""
    for part in parts:
        block = read_part(part, partition)
        if block:
            yield _decode(block)
