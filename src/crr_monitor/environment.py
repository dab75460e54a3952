"""The only place that reads the environment of the process.

It loads nothing: the functions in AWS read it at their start, and have no use for files and defaults of settings.
"""

from __future__ import annotations

import os


def environment() -> dict[str, str]:
    """All variables, as they are now."""
    return dict(os.environ)
