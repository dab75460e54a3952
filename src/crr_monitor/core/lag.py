"""Replication lag as a mergeable histogram with a stated error.

Bins grow geometrically: bin ``i`` holds lags in ``(ANCHOR_MS * GAMMA**(i-1), ANCHOR_MS * GAMMA**i]``, so a value read
from a bin is within 1 % of every lag counted in it (the idea of DDSketch: Masson, Rim, Lee, VLDB 2019). The grid is
anchored at 15 minutes, the target of S3 Replication Time Control: "within 15 minutes" is counted exactly. Any two
histograms add up bin by bin, and a count can be taken back, which a merge of late evidence needs.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

RELATIVE_ERROR = 0.01
ANCHOR_MS = 900_000
_LOG_GAMMA = math.log((1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR))
ZERO_BIN = -1_000_000
"""The bin of a lag of 0 ms; every other lag is at least 1 ms, far above it."""


@lru_cache(maxsize=65_536)
def bin_of(lag_ms: int) -> int:
    """The bin that counts this lag (milliseconds, not negative)."""
    if lag_ms <= 0:
        return ZERO_BIN
    return math.ceil(math.log(lag_ms / ANCHOR_MS) / _LOG_GAMMA)


def value_of(index: int) -> float:
    """The lag in milliseconds that stands for a bin: within :data:`RELATIVE_ERROR` of all that it holds."""
    if index == ZERO_BIN:
        return 0.0
    upper = ANCHOR_MS * math.exp(index * _LOG_GAMMA)
    return upper * (1 - RELATIVE_ERROR)


def quantile(bins: Mapping[int, int], q: float) -> float | None:
    """The ``q``-quantile (0..1) in milliseconds, nearest rank, or ``None`` of an empty histogram."""
    total = sum(bins.values())
    if total <= 0:
        return None
    rank = max(1, math.ceil(q * total))
    seen = 0
    for index in sorted(bins):
        seen += bins[index]
        if seen >= rank:
            return value_of(index)
    return None  # pragma: no cover - the counts add up to total


def count_within(bins: Mapping[int, int], target_ms: int) -> int:
    """How many lags are at most ``target_ms``: exact for 15 minutes, else a lag within 1 % may be on either side."""
    limit = bin_of(target_ms)
    return sum(count for index, count in bins.items() if index <= limit)


def add(into: dict[int, int], bins: Mapping[int, int], sign: int = 1) -> None:
    """Add (or with ``sign=-1`` take back) a histogram, leaving no empty bins."""
    for index, count in bins.items():
        total = into.get(index, 0) + sign * count
        if total:
            into[index] = total
        else:
            into.pop(index, None)
