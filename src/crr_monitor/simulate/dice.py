"""Randomness that is the same everywhere: words of a BLAKE2 stream that a name selects.

The generators of the standard library promise the same numbers only for some of their methods; a hash promises all
of them. A name per object makes every object independent of its neighbours, so a plan can be read from anywhere.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from itertools import count
from math import exp, log
from statistics import NormalDist
from struct import Struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_UNPACK = Struct("<16I").unpack
_SCALE = 1 << 32

_STEPS_BITS = 10
_STEPS = 1 << _STEPS_BITS


def digest(name: str) -> bytes:
    """64 bytes that depend on the name and on nothing else."""
    return blake2b(name.encode()).digest()


def _words(name: str) -> Iterator[int]:
    yield from _UNPACK(digest(name))
    for block in count(1):
        yield from _UNPACK(digest(f"{name}#{block}"))


class Dice:
    """An endless row of 32-bit words that the name selects; ``word()`` takes the next one (0 to 2**32 - 1)."""

    __slots__ = ("word",)

    def __init__(self, name: str) -> None:
        self.word: Callable[[], int] = _words(name).__next__

    def below(self, limit: int) -> int:
        """A number from 0 to ``limit - 1`` (0 when there is nothing to choose from)."""
        return self.word() * limit >> 32

    def chance(self, rate: float) -> bool:
        """True with probability ``rate``; always consumes one word, so that rates do not shift what follows."""
        return self.word() < rate * _SCALE

    def lag(self, p50_ms: int, p99_ms: int) -> int:
        """Milliseconds, log-normally distributed around the two given percentiles."""
        table = _lag_table(p50_ms, p99_ms)
        word = self.word()
        step = word >> (32 - _STEPS_BITS)
        fraction = (word >> 12) & (_STEPS - 1)
        low = table[step]
        return low + ((table[step + 1] - low) * fraction >> _STEPS_BITS)


@lru_cache(maxsize=8)
def _lag_table(p50_ms: int, p99_ms: int) -> tuple[int, ...]:
    # Whole milliseconds at fixed quantiles: between them only integers count, so no last bit of a libm shows.
    normal = NormalDist()
    middle = log(p50_ms)
    width = (log(p99_ms) - middle) / normal.inv_cdf(0.99)
    quantiles = [min(max(step / _STEPS, 1 / (4 * _STEPS)), 1 - 1 / (4 * _STEPS)) for step in range(_STEPS + 1)]
    return tuple(round(exp(middle + width * normal.inv_cdf(quantile))) for quantile in quantiles)
