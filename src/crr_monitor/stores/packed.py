"""Evidence as MessagePack: so it passes from one process to the next, and so it lies in SQLite."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from msgspec.msgpack import Decoder, Encoder

from crr_monitor.core.evidence import Claim, Evidence, Failure, Sighting
from crr_monitor.stores.base import VersionKey

_Body = tuple[tuple[Sighting, ...], tuple[Failure, ...], tuple[Claim, ...]]
_encode = Encoder().encode
_decode = Decoder(_Body).decode


def pack(evidence: Evidence) -> bytes:
    """What the evidence says, without key and version id. Equal evidence gives equal bytes."""
    return _encode((evidence.sightings, evidence.failures, evidence.claims))


def unpack(key: str, version_id: str, body: bytes) -> Evidence:
    """The evidence of which :func:`pack` made the body."""
    return Evidence(key, version_id, *_decode(body))


class PackedEvidence(Mapping[VersionKey, Evidence]):
    """A batch's evidence, of which only what is worked on at the moment is unpacked.

    Nearly all of it is new to the store, which then keeps the very bytes; and a tenth of the memory is touched.
    """

    __slots__ = ("bodies",)

    def __init__(self, bodies: Mapping[VersionKey, bytes]) -> None:
        self.bodies = bodies

    def __getitem__(self, version: VersionKey) -> Evidence:
        return unpack(*version, self.bodies[version])

    def __iter__(self) -> Iterator[VersionKey]:
        return iter(self.bodies)

    def __len__(self) -> int:
        return len(self.bodies)
