"""Notices over HTTP, to a real server on this machine."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from crr_monitor.core.notices import Told, decide
from crr_monitor.core.troubles import Trouble
from crr_monitor.sinks.senders import SendError
from crr_monitor.sinks.webhook import PAUSES, WebhookSender
from tests.factories import AT, REPLICA, SOURCE

if TYPE_CHECKING:
    from collections.abc import Iterator

(NOTICE,) = decide([Trouble("failed", SOURCE, REPLICA, "DstKmsKeyNotFound", 3)], Told(), AT)
SECRET = "s3cret-token"  # noqa: S105 - of this test only


class Receiver:
    """A server that answers with given statuses, and what it was sent."""

    def __init__(self, statuses: list[int]) -> None:
        self.statuses = statuses
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        self.url = ""


@contextmanager
def receiver(*statuses: int) -> Iterator[Receiver]:
    """A running server; the last status is given again and again."""
    found = Receiver(list(statuses))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.requests.append((self.path, dict(self.headers), json.loads(body)))
            status = found.statuses.pop(0) if len(found.statuses) > 1 else found.statuses[0]
            self.send_response(status)
            self.send_header("Location", "http://127.0.0.1:1/elsewhere")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        found.url = f"http://127.0.0.1:{server.server_port}/hook?room=7"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield found
        finally:
            server.shutdown()
            thread.join()


def test_sent() -> None:
    """The notice arrives as JSON, with the headers of the settings, at the whole address."""
    with receiver(204) as found:
        WebhookSender(found.url, {"X-Token": SECRET}).send(NOTICE)
    ((path, headers, body),) = found.requests
    assert path == "/hook?room=7"
    assert (headers["X-Token"], headers["Content-Type"]) == (SECRET, "application/json")
    assert body == NOTICE.to_json()


@pytest.mark.parametrize("status", [429, 500, 503])
def test_again(status: int) -> None:
    """What may pass is tried again after a pause, with the same id."""
    pauses: list[float] = []
    with receiver(status, 200) as found:
        WebhookSender(found.url, pause=pauses.append).send(NOTICE)
    assert pauses == [PAUSES[0]]
    assert len({body["id"] for _, _, body in found.requests}) == 1
    assert len(found.requests) == 2


@pytest.mark.parametrize(("status", "tries"), [(400, 1), (401, 1), (302, 1), (500, 3)])
def test_refused(status: int, tries: int) -> None:
    """A refusal is told with its status, without a secret in it; redirects are not followed."""
    with receiver(status) as found:
        sender = WebhookSender(found.url, {"Authorization": SECRET}, pause=lambda _: None)
        with pytest.raises(SendError) as told:
            sender.send(NOTICE)
    assert str(told.value) == f"webhook at 127.0.0.1: it answered {status}"
    assert len(found.requests) == tries


def test_nobody_there() -> None:
    """Where nobody listens, that is told, and not more of the address than the host."""
    with receiver(200) as found:
        url = found.url
    with pytest.raises(SendError, match=r"^webhook at 127\.0\.0\.1: .*no answer") as told:
        WebhookSender(url + SECRET, pause=lambda _: None).send(NOTICE)
    assert SECRET not in str(told.value)


def test_names() -> None:
    """The name under which it is remembered tells addresses apart and holds no secret."""
    one, other = WebhookSender(f"https://h/{SECRET}"), WebhookSender("https://h/x")
    assert one.name != other.name
    assert one.name == WebhookSender(f"https://h/{SECRET}").name
    assert SECRET not in one.name


@pytest.mark.parametrize("url", ["ftp://h/x", "h/x", "http://", "https://user:pw@h/x", "file:///etc/passwd"])
def test_addresses(url: str) -> None:
    """Only http and https, with a host and without a user."""
    with pytest.raises(ValueError, match="a webhook's address has to be"):
        WebhookSender(url)


@pytest.mark.parametrize("headers", [{"X-A": "a\r\nX-B: b"}, {"": "x"}, {"X-Ä": "x"}])
def test_headers(headers: dict[str, str]) -> None:
    """A header that could break the request is refused, and its value is not told."""
    with pytest.raises(ValueError, match="other characters than printable ASCII"):
        WebhookSender("https://h/x", headers)
