"""Notices to an HTTP address, as JSON: chat, paging, or a program of one's own.

The body is :meth:`crr_monitor.core.notices.Notice.to_json`; its ``id`` and ``at`` are the same when it is sent again,
so a receiver can tell. Redirects are not followed: a secret goes only where it was meant to.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import ssl
import time
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

from crr_monitor.sinks.senders import SendError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from crr_monitor.core.notices import Notice

TRIES = 3
PAUSES = (0.5, 2.0)
"""Seconds between tries. What still does not get there is sent at the next look."""

TIMEOUT_SECONDS = 10.0

_SUCCESS = range(200, 300)
_AGAIN = {408, 425, 429, *range(500, 600)}
"""Answers after which another try makes sense (RFC 9110)."""


class WebhookSender:
    """One address. ``headers`` may hold secrets and are in no message, nor is more of the URL than its host.

    Raises:
        ValueError: the URL is none of http or https with a host, or a header cannot be sent.
    """

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str] | None = None,
        *,
        timeout: float = TIMEOUT_SECONDS,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._url = _checked(url)
        self._headers = _checked_headers(headers or {})
        self._timeout = timeout
        self._pause = pause
        self._id = hashlib.blake2b(url.encode(), digest_size=8).hexdigest()

    @property
    def name(self) -> str:
        """Host and a hash of the whole address, which may hold a secret."""
        return f"webhook {self._url.hostname} {self._id}"

    def send(self, notice: Notice) -> None:
        """Post; see :class:`crr_monitor.sinks.senders.Sender`."""
        body = json.dumps(notice.to_json(), ensure_ascii=False).encode("utf-8", "replace")
        problem = ""
        for number in range(TRIES):
            if number:
                self._pause(PAUSES[number - 1])
            try:
                status = self._post(body)
            except ssl.SSLCertVerificationError as error:
                problem = f"its certificate is not valid: {error.verify_message}"
                break
            except (OSError, http.client.HTTPException) as error:
                problem = f"{type(error).__name__}, no answer (check address and network)"
                continue
            if status in _SUCCESS:
                return
            problem = f"it answered {status}"
            if status not in _AGAIN:
                break
        raise self._error(problem)

    def _error(self, problem: str) -> SendError:
        message = f"webhook at {self._url.hostname}: {problem}"
        return SendError(message)

    def _post(self, body: bytes) -> int:
        host, port = self._url.hostname or "", self._url.port
        if self._url.scheme == "https":
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                host, port, timeout=self._timeout, context=ssl.create_default_context()
            )
        else:
            connection = http.client.HTTPConnection(host, port, timeout=self._timeout)
        path = (self._url.path or "/") + (f"?{self._url.query}" if self._url.query else "")
        try:
            connection.request("POST", path, body, {"Content-Type": "application/json", **self._headers})
            return connection.getresponse().status
        finally:
            connection.close()


def _checked(url: str) -> SplitResult:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username is not None:
        message = "a webhook's address has to be http://HOST/... or https://HOST/..., without a user in it"
        raise ValueError(message)
    return parts


def _checked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if not (name and name.isascii() and value.isascii() and name.isprintable() and value.isprintable()):
            message = f"header {name!r} of the webhook has other characters than printable ASCII in its name or value"
            raise ValueError(message)
    return dict(headers)
