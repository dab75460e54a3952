"""The demo: both templates deployed into a local AWS, traffic with some trouble, and a check of what the monitor says.

Needs the extra ``sandbox``; it is imported when the demo starts.
"""

from __future__ import annotations


class DemoError(Exception):
    """The demo could not be shown; the text says why, and what to do."""
