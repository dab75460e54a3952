"""Processes that tests look at."""

from __future__ import annotations

import os
from pathlib import Path


def alive(process: int) -> bool:
    """Whether the process exists, and is no zombie that only waits to be reaped."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text() if Path("/proc/self/stat").exists() else ") R"
        os.kill(process, 0)
    except (ProcessLookupError, FileNotFoundError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
