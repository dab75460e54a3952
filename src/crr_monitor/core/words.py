"""Figures as people read them."""

from __future__ import annotations

from crr_monitor.core.times import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, format_time

NOTHING = "-"
"""Stands where there is nothing, or nobody knows."""

_KIB = 1024


def time_text(at: int | None) -> str:
    """``2026-11-22 07:00:00`` (UTC), with milliseconds where there are some."""
    if at is None:
        return NOTHING
    text = format_time(at).replace("T", " ").removesuffix("Z")
    return text.removesuffix(".000")


def duration_text(milliseconds: float | None) -> str:
    """``168ms``, ``12.2s``, ``5m40s``, ``3h20m``, ``2d4h``: three digits or so."""
    if milliseconds is None:
        return NOTHING
    if milliseconds < SECOND_MS:
        return f"{milliseconds:.0f}ms"
    if milliseconds < MINUTE_MS:
        return f"{min(milliseconds / SECOND_MS, 59.9):.1f}s"
    for unit, name, part, part_name in (
        (DAY_MS, "d", HOUR_MS, "h"),
        (HOUR_MS, "h", MINUTE_MS, "m"),
        (MINUTE_MS, "m", SECOND_MS, "s"),
    ):
        if milliseconds >= unit:
            rest = int(milliseconds % unit // part)
            return f"{milliseconds // unit:.0f}{name}" + (f"{rest}{part_name}" if rest else "")
    raise AssertionError  # pragma: no cover - a minute at least


def seconds_text(seconds: float | None) -> str:
    """As :func:`duration_text`, of seconds."""
    return duration_text(None if seconds is None else seconds * SECOND_MS)


def size_text(size: int | None) -> str:
    """``520080 bytes (508 KiB)``."""
    if size is None:
        return "size unknown"
    amount, unit = float(size), ""
    for name in ("KiB", "MiB", "GiB", "TiB"):
        if amount < _KIB:
            break
        amount, unit = amount / _KIB, name
    return f"{size:,} bytes" + (f" ({amount:.3g} {unit})" if unit else "")


def share_text(share: float | None) -> str:
    """A share as per cent; only what is whole reads as 100 %."""
    if share is None:
        return NOTHING
    return "100%" if share == 1 else f"{min(share, 0.9999):.2%}"
