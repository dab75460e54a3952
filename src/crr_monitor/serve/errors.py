"""Why the monitor cannot start or go on. Imports nothing of the server, whose packages are an extra."""

from __future__ import annotations


class ServeError(Exception):
    """The monitor cannot start, or had to end: the text is one line that says why, and what to do."""


class TokenError(ServeError):
    """The token cannot be used. The text never shows it."""
