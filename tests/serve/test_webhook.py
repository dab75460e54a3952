"""``POST /events`` of a real process: who may send, what is taken, and what the sender is told."""

from __future__ import annotations

import base64
import gzip
import json
import socket
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crr_monitor.sources.rejects import read_rejects
from crr_monitor.stores.sqlite import SqliteStore
from tests.factories import ONE_WAY
from tests.messages import encoded, notification, records
from tests.serve.running import TOKEN, Server, token_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MIB = 1 << 20


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One that knows a topology and has a token."""
    folder = tmp_path_factory.mktemp("webhook")
    store = SqliteStore(folder / "store.db")
    store.learn([(config, True) for config in ONE_WAY.configs])
    store.close()
    with Server(folder, "--token-file", str(token_file(folder))) as running:
        yield running


def message(key: str) -> bytes:
    """One write of a version of its own."""
    return encoded(notification(key=key, version=f"v.{key}"))


def is_known(server: Server, key: str) -> bool:
    """Whether the store has a record of the key, read beside the server."""
    store = SqliteStore(server.store, create=False)
    try:
        return bool(store.versions("orders", key))
    finally:
        store.close()


def told(messages: int, events: int, malformed: int = 0, ignored: int = 0) -> dict[str, int]:
    """What the sender is told."""
    return {"messages": messages, "events": events, "ignored": ignored, "malformed": malformed}


def test_answered_message_is_in_the_store(server: Server) -> None:
    """A message that was answered with 200 is there for another process at once."""
    reply = server.post(message("one"))
    assert (reply.status, reply.json) == (200, told(1, 1))
    assert is_known(server, "one")


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("ndjson", message("a1") + b"\n" + message("a2") + b"\n"),
        ("crlf", message("b1") + b"\r\n\r\n" + message("b2")),
        ("list", b"[" + message("c1") + b"," + message("c2") + b"]"),
        ("one after the other", message("d1") + message("d2")),
        ("pretty", json.dumps([notification(key="e1"), notification(key="e2")], indent=2).encode()),
    ],
)
def test_two_messages_in_a_request(server: Server, name: str, body: bytes) -> None:
    """Two messages in lines, as a list, one behind the other or pretty-printed are two messages."""
    assert (name, server.post(body).json) == (name, told(2, 2))


def test_document_with_many_records_is_one_message(server: Server) -> None:
    """A log file or a notification with several records is one message with several events, pretty-printed or not."""
    body = json.dumps(records(notification(key="f1"), notification(key="f2")), indent=2).encode()
    assert server.post(body).json == told(1, 2)


def test_gzip_is_taken_with_its_header_or_without(server: Server) -> None:
    """A gzipped body is recognised by its header, and by what it begins with."""
    packed = gzip.compress(message("g1") + b"\n" + message("g2"))
    assert server.post(packed, **{"Content-Encoding": "gzip"}).json == told(2, 2)
    assert server.post(packed).json == told(2, 2)


def test_malformed_line_does_not_harm_its_neighbours(server: Server) -> None:
    """Of three lines the broken one is counted and kept byte for byte; the others are in the store."""
    broken = b'{"Records": [1, "\xff"'
    reply = server.post(message("h1") + b"\n" + broken + b"\n" + message("h2"))
    assert (reply.status, reply.json) == (200, told(3, 2, malformed=1))
    assert is_known(server, "h1")
    assert is_known(server, "h2")
    kept = [each for each in read_rejects(f"{server.store}.rejects.ndjson") if each.message == broken]
    assert [each.source for each in kept] == ["webhook"]


def test_what_is_of_no_interest_is_ignored(server: Server) -> None:
    """A message of another kind is taken, and counted as ignored."""
    assert server.post(b'{"hello": "world"}').json == told(1, 0, ignored=1)


@pytest.mark.parametrize("authorization", ["", f"Bearer {TOKEN}x", "Bearer", f"Token {TOKEN}", "Basic !", TOKEN])
def test_wrong_token(server: Server, authorization: str) -> None:
    """Without the very token nothing is taken, and the answer says what to send."""
    reply = server.ask("POST", "/events", message("i"), {"Authorization": authorization} if authorization else {})
    assert (reply.status, reply.json) == (401, {"error": "send the token: Authorization: Bearer TOKEN"})
    assert reply.headers["WWW-Authenticate"] == 'Bearer realm="crr-monitor"'
    assert not is_known(server, "i")


def test_token_as_password(server: Server) -> None:
    """Senders that know user and password only (SNS, API destinations) send the token as the password of anybody."""
    basic = base64.b64encode(f"anybody:{TOKEN}".encode()).decode()
    assert server.ask("POST", "/events", message("j"), {"Authorization": f"Basic {basic}"}).status == 200


def test_cookie_is_no_token_for_events(server: Server) -> None:
    """A browser's cookie does not let another site's page send events."""
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    cookie = server.ask("POST", "/login", f"token={TOKEN}".encode(), form).headers["Set-Cookie"].partition(";")[0]
    assert server.post(message("k"), token=None, Cookie=cookie).status == 401


def test_too_large(server: Server) -> None:
    """More than 8 MiB are refused: announced, sent in chunks, or hidden in gzip; and the server goes on."""
    error = {"error": "a request has at most 8 MiB: send it in parts"}
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as announced:
        announced.sendall(
            f"POST /events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
            f"Content-Length: {8 * MIB + 1}\r\n\r\n".encode()
        )
        answer = announced.recv(65_536)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert answer.endswith(encoded(error))
    bomb = server.post(gzip.compress(b" " * (9 * MIB)), **{"Content-Encoding": "gzip"})
    assert bomb.status == 413
    assert bomb.json == {"error": "the data has more than 8 MiB once it is decompressed: send it in parts"}
    assert server.post(message("l")).status == 200


def test_too_large_in_chunks(server: Server) -> None:
    """A body of unknown length is refused once it has more than 8 MiB."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as sending:
        sending.sendall(
            f"POST /events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
            "Transfer-Encoding: chunked\r\n\r\n".encode()
        )
        chunk = b"100000\r\n" + b" " * MIB + b"\r\n"
        for _ in range(9):
            sending.sendall(chunk)
        assert sending.recv(65_536).startswith(b"HTTP/1.1 413 ")


def test_refusal_comes_before_the_body(server: Server) -> None:
    """A sender that waits for ``100 Continue`` hears at once that the token is wrong, or else that it may send."""
    for token, expected in (("wrong-token-0123456789", b"HTTP/1.1 401 "), (TOKEN, b"HTTP/1.1 100 ")):
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as asking:
            asking.sendall(
                f"POST /events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
                "Content-Length: 100\r\nExpect: 100-continue\r\n\r\n".encode()
            )
            assert asking.recv(65_536).startswith(expected)


def test_sender_that_gives_up(server: Server) -> None:
    """A connection that ends in the middle of a body takes nothing with it, and nothing waits for it."""
    lines = len(server.lines)
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as leaving:
        head = f"POST /events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
        leaving.sendall(f"{head}Content-Length: 1000\r\n\r\n".encode() + message("m")[:500])
        wait_until_waiting(server, 1)
    wait_until_waiting(server, 0)
    assert not is_known(server, "m")
    assert server.lines[lines:] == []


def wait_until_waiting(server: Server, count: int) -> None:
    """Come back once so many requests wait."""
    end = time.monotonic() + 60
    while server.get("/api/monitor").json["waiting"] != count:
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("body", "headers", "status", "error"),
    [
        (b"", {}, 400, "the body is empty: send one message, a list of them, or one in each line"),
        (b" \n", {}, 400, "the body is empty: send one message, a list of them, or one in each line"),
        (b"{}", {"Content-Encoding": "br"}, 415, "Content-Encoding may be gzip, or be left out"),
        (b"{}", {"Content-Encoding": "gzip"}, 400, "the data is said to be gzip, and does not begin like it"),
        (gzip.compress(b"{}" * 99)[:-9], {"Content-Encoding": "gzip"}, 400, "gzip data is truncated"),
    ],
    ids=["empty", "blank", "other encoding", "no gzip", "truncated"],
)
def test_request_that_cannot_be_taken(
    server: Server, body: bytes, headers: dict[str, str], status: int, error: str
) -> None:
    """What is wrong with the request as a whole is said, and nothing of it is taken."""
    reply = server.post(body, **headers)
    assert (reply.status, reply.json) == (status, {"error": error})


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(min_size=1, max_size=200) | st.text(alphabet='{}[]":,\n1a ', min_size=1).map(str.encode))
def test_nothing_breaks_it(server: Server, body: bytes) -> None:
    """Whatever is sent, the answer is that it was taken, or what is wrong with it; never an error of the server."""
    reply = server.post(body)
    assert reply.status in {200, 400}
    assert reply.json.keys() in ({"messages", "events", "ignored", "malformed"}, {"error"})


def test_without_a_token_nothing_is_taken(tmp_path: Path) -> None:
    """A monitor that was started without a token takes no events over HTTP, and says how it would."""
    with Server(tmp_path) as closed:
        reply = closed.post(b"{}")
    assert (reply.status, reply.json) == (
        403,
        {"error": "no token is set, so nothing is taken: start the monitor with --token-file"},
    )
