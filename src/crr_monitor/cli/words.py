"""Figures as people read them, and the colours of the statuses."""

from __future__ import annotations

from crr_monitor.core.words import NOTHING, duration_text, seconds_text, share_text, size_text, time_text

STYLES = {
    "COMPLETED": "green",
    "FAILED": "red",
    "PENDING": "yellow",
    "SOURCE_DELETED": "bright_black",
    "NOT_ELIGIBLE": "bright_black",
    "UNCERTAIN": "magenta",
}
"""The colours of the statuses, by names that click and rich share."""


def number_of(count: int, what: str) -> str:
    """So many of something, as in ``1 event`` and ``2,000 events``."""
    return f"{count:,} {what}" + ("" if count == 1 else "s")


__all__ = [
    "NOTHING",
    "STYLES",
    "duration_text",
    "number_of",
    "seconds_text",
    "share_text",
    "size_text",
    "time_text",
]
