"""The facts of a version's life that messages tell, each at its time; and the noise around them."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from msgspec import Struct

from crr_monitor.core.times import MINUTE_MS
from crr_monitor.simulate.lives import Copy, Version

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crr_monitor.simulate.dice import Dice
    from crr_monitor.simulate.plan import Plan


class What(IntEnum):
    """What a message tells."""

    WRITE = 0
    REPLICA = 1
    FAILURE = 2
    DELETE = 3
    NOISE = 4
    MALFORMED = 5


class Fact(Struct, frozen=True, gc=False):
    """One thing to tell of a version, at ``at`` (milliseconds). ``copy`` is set for replicas and failures.

    ``number`` tells facts of one version apart; ``choice`` selects a failure's reason, the sort of noise or damage.
    """

    version: Version
    what: What
    at: int
    number: int
    copy: Copy | None = None
    choice: int = 0


def facts(plan: Plan, version: Version, dice: Dice) -> Iterator[Fact]:
    """All facts of a version that some message tells, in no order of time."""
    if not version.write_lost:
        yield Fact(version, What.WRITE, version.written_at, 0)
    number = 1
    for copy in version.copies:
        for failure in copy.failures:
            yield Fact(version, What.FAILURE, failure.at, number, copy, failure.reason)
            number += 1
        if copy.replicated_at is not None:
            yield Fact(version, What.REPLICA, copy.replicated_at, number, copy)
            number += 1
    if version.deleted_at is not None:
        yield Fact(version, What.DELETE, version.deleted_at, number)
    if dice.chance(plan.ignored_rate):
        yield Fact(version, What.NOISE, version.written_at + dice.below(MINUTE_MS), -1, None, dice.word())
    if dice.chance(plan.malformed_rate):
        yield Fact(version, What.MALFORMED, version.written_at, -2, None, dice.word())
