"""Who may read: everybody on this machine who uses its own name, and whoever has the token.

A page of another site can make the reader's browser ask this server under that site's name (DNS rebinding). So the
name that a request uses counts, not only where it comes from.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from crr_monitor.serve.tokens import COOKIE

if TYPE_CHECKING:
    from aiohttp import web

    from crr_monitor.serve.tokens import Guard

FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP", "Via")
"""With one of these somebody else asks through a proxy on this machine."""


def is_loopback(host: str) -> bool:
    """Whether a name or number means this machine and nothing else."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def host_of(header: str) -> str:
    """The host of a header ``Host``, without port and brackets."""
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.rpartition(":")[0] if ":" in header else header


class Access:
    """What a request may do."""

    def __init__(self, guard: Guard | None, *, local: bool) -> None:
        """``local``: the server listens to this machine only, so that everybody on it may read."""
        self.guard = guard
        self._local = local

    def may_read(self, request: web.Request) -> bool:
        """Whether it may see figures and records."""
        return self.at_home(request) or self.has_token(request)

    def at_home(self, request: web.Request) -> bool:
        """Whether it was made on this machine, to one of its own names."""
        return (
            self._local
            and is_loopback(host_of(request.headers.get("Host", "")))
            and not any(name in request.headers for name in FORWARDED)
        )

    def has_token(self, request: web.Request) -> bool:
        """Whether it shows the token, or the cookie that stands for it."""
        if self.guard is None:
            return False
        return self.guard.allows(request.headers.get("Authorization")) or self.guard.knows(request.cookies.get(COOKIE))
