"""The keys of canaries (:mod:`crr_monitor.core.canary`), apart from the rest: every status asks, and few make one."""

from __future__ import annotations

FOLDER = ".crr-monitor/canary/"
"""What every canary's key has in it; nobody else should write there."""


def is_canary(key: str) -> bool:
    """Whether an object is a canary, of whichever monitor."""
    return FOLDER in key and (key.startswith(FOLDER) or f"/{FOLDER}" in key)


def canary_key(prefix: str, name: str) -> str:
    """The key of a canary that begins with a rule's prefix."""
    slash = "" if not prefix or prefix.endswith("/") else "/"
    return f"{prefix}{slash}{FOLDER}{name}"
