"""Pieces of sources into batches: decoded, interpreted, and merged by object version before anything is stored."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from crr_monitor.decode import Decoded, decode
from crr_monitor.process.collect import collect
from crr_monitor.stores.base import Counts, Position, VersionKey
from crr_monitor.stores.packed import pack

if TYPE_CHECKING:
    from crr_monitor.core.evidence import Evidence
    from crr_monitor.core.topology import Topology
    from crr_monitor.sources.base import Piece

BATCH_EVENTS = 30_000
"""Events merged before they are stored: source and replica mostly meet in memory, and 30 MB hold them."""

BATCH_MESSAGES = 200_000
"""Messages read before their position is stored, should most of them be ignored."""

BATCH_BYTES = 256 << 20
"""Raw bytes read before their position is stored, should hardly any message be of interest."""

BATCH_SECONDS = 1.0
"""How long events wait for more where they come slowly."""


class Named(Protocol):
    """What is asked of a source here; see :class:`crr_monitor.sources.base.Source`."""

    @property
    def name(self) -> str:
        """What it is called in messages and in the store."""

    @property
    def fingerprint(self) -> str | None:
        """What it begins with, if it can be read twice."""


class Rejected(Struct, frozen=True, array_like=True):
    """What was refused, byte for byte, and where it stood in its source."""

    source: str
    position: int
    reason: str
    data: bytes


class Gathered(Struct, array_like=True):
    """A batch, ready to be stored: evidence as key, version id and packed body.

    ``newest`` is the latest time (milliseconds) that an event in it carries.
    """

    evidence: list[tuple[str, str, bytes]]
    positions: list[Position]
    counts: Counts
    rejected: list[Rejected]
    newest: int | None = None


class Gatherer:
    """Takes pieces until there is enough for a batch."""

    def __init__(self, topology: Topology, batch_events: int = BATCH_EVENTS) -> None:
        """``topology`` is what events are read in the light of, for as long as this gatherer lives."""
        self._topology = topology
        self._batch_events = batch_events
        self._begin()

    def _begin(self) -> None:
        self._evidence: dict[VersionKey, Evidence] = {}
        self._positions: dict[str, Position] = {}
        self._counts = Counts()
        self._rejected: list[Rejected] = []
        self._newest: int | None = None
        self._taken = False
        self._bytes = 0
        self._since = time.monotonic()

    def take(self, source: Named, piece: Piece, *, resumable: bool = True) -> Counts:
        """Decode a piece and merge what it tells; returns what was in it. Only what fits into memory is rejected here.

        Without ``resumable`` the source cannot be asked again, and no position of it is kept.
        """
        decoded = Decoded()
        malformed = decoded.malformed
        rejected = 0
        for index, data in enumerate(piece.data):
            decode(data, decoded)
            if malformed:
                position = piece.positions[index]
                self._rejected.extend(Rejected(source.name, position, bad.reason, bad.message) for bad in malformed)
                rejected += len(malformed)
                malformed.clear()
        self._bytes += sum(map(len, piece.data))
        for broken in piece.broken:
            rejected += 1
            if isinstance(broken.data, bytes):
                self._rejected.append(Rejected(source.name, broken.position, broken.reason, broken.data))
        newest = collect(decoded.events, self._topology, self._evidence)
        if newest is not None:
            self._newest = max(newest, self._newest or 0)
        counts = Counts(piece.messages, len(decoded.events), rejected, decoded.ignored)
        self._counts.add(counts)
        self._taken = True
        if resumable:
            self._positions[source.name] = Position(
                source.name, piece.position, piece.read_bytes, piece.done, source.fingerprint
            )
        return counts

    @property
    def enough(self) -> bool:
        """Whether the batch should be stored now."""
        return (
            self._counts.events >= self._batch_events
            or self._counts.messages >= BATCH_MESSAGES
            or self._bytes >= BATCH_BYTES
        )

    @property
    def waited(self) -> bool:
        """Whether the batch is older than what comes slowly may become."""
        return time.monotonic() - self._since >= BATCH_SECONDS

    def give(self) -> Gathered | None:
        """The batch, and a new one is begun; ``None`` if nothing was read."""
        if not self._taken:
            return None
        batch = Gathered(
            [(part.key, part.version_id, pack(part)) for part in self._evidence.values()],
            list(self._positions.values()),
            self._counts,
            self._rejected,
            self._newest,
        )
        self._begin()
        return batch
