"""Values of a stack's parameters, apart from what is done with them: every function reads settings, and few publish."""

from __future__ import annotations

from typing import Literal, TypeAlias

Detail: TypeAlias = Literal["Totals", "PerPair"]
"""``Totals``: sums over all pairs, and failures per source bucket. ``PerPair``: also each pair, at a price per pair."""
