"""What a sandbox can be told at its start; plain values that travel as JSON into its process."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from random import Random


@dataclass(frozen=True)
class Latency:
    """How long something takes: log-normal around ``median`` seconds, at most ``limit``.

    ``spread`` is the standard deviation of the logarithm: 0 makes every delay the median, 1 lets one in twenty take
    five times as long. AWS says of replication only that most objects arrive within 15 minutes, often in seconds.
    """

    median: float
    spread: float = 0.5
    limit: float = 3600.0

    def draw(self, dice: Random) -> float:
        """One delay in seconds."""
        if self.median <= 0:
            return 0.0
        return min(self.limit, dice.lognormvariate(math.log(self.median), self.spread))


@dataclass(frozen=True)
class Settings:
    """Behaviour of one sandbox; times in seconds.

    ``seed`` repeats every random choice (delays, faults) for the same order of calls. ``auth`` makes ministack check
    signatures and IAM policies; then a 12-digit access key is its account's root user. ``rtc_threshold`` stands for S3
    Replication Time Control's fixed 15 minutes, ``collecting`` for the up to 15 minutes that Firehose collects records,
    ``batching`` for the seconds during which Lambda collects a queue's messages, where a mapping asks for that.
    """

    seed: int = 0
    auth: bool = False
    replication: Latency = field(default_factory=lambda: Latency(0.02))
    notification: Latency = field(default_factory=lambda: Latency(0.005))
    event: Latency = field(default_factory=lambda: Latency(0.005))
    trail: Latency = field(default_factory=lambda: Latency(0.01))
    rtc_threshold: float = 900.0
    collecting: float = 0.3
    batching: float = 0.3

    def as_json(self) -> dict[str, Any]:
        """The settings as a JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Settings:
        """The settings that :meth:`as_json` wrote."""
        latencies = {name: Latency(**value) for name, value in document.items() if isinstance(value, dict)}
        return cls(**{**document, **latencies})
