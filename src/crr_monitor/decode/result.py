"""What decoding gives: events, counts of what was ignored, and what was rejected."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from crr_monitor.core.events import Event

MAX_KIND = 64
"""Kinds are counted under names from the message, cut to so many characters."""


class RejectError(ValueError):
    """A record that ought to be evidence is not fit for it; the text names the field and what is wrong."""


class Malformed(Struct, frozen=True):
    """A rejected message: why, and its bytes as they came.

    ``message`` is the smallest part that could be isolated and means the same alone: a record of a log, the text inside
    an SNS or SQS message, an EventBridge envelope; where such a text is no JSON, the message around it.
    """

    reason: str
    message: bytes


class Decoded:
    """Collects what one or more messages gave: each record counts once, in one of the three."""

    __slots__ = ("events", "ignored", "malformed")

    def __init__(self) -> None:
        """Start empty."""
        self.events: list[Event] = []
        self.ignored: dict[str, int] = {}
        self.malformed: list[Malformed] = []

    def ignore(self, kind: str) -> None:
        """Count one record as of no interest."""
        kind = kind[:MAX_KIND]
        self.ignored[kind] = self.ignored.get(kind, 0) + 1
