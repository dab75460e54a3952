"""The process as a whole: how it starts, what it does while the store is held, and how it ends."""

from __future__ import annotations

import importlib.util
import signal
import socket
import sqlite3
import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from crr_monitor.stores.sqlite import SqliteStore
from tests.cli.running import FAILED, USAGE, call, run
from tests.messages import encoded, notification
from tests.serve.running import TOKEN, Reply, Server, token_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


SHORT = "tiny!"


def refusal(folder: Path, *arguments: str, status: int = FAILED, **more: str) -> str:
    """The one line with which it does not start."""
    done = run("--store", str(folder / "store.db"), "serve", "--listen", "127.0.0.1:0", *arguments, **more)
    assert done.returncode == status, done.stderr
    return done.stderr


def wait_for(what: Callable[[], bool]) -> None:
    """Come back once it is so."""
    end = time.monotonic() + 60
    while not what():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_port_in_use(tmp_path: Path) -> None:
    """An address at which somebody listens is told in one line, with what to do."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert refusal(tmp_path, "--listen", f"127.0.0.1:{port}") == (
            f"crr-monitor: cannot listen on 127.0.0.1:{port}: address already in use;"
            " stop what listens there, or name another port with --listen\n"
        )


def test_store_in_use_by_another(tmp_path: Path) -> None:
    """Two monitors on one store would read everything twice: the second one does not start."""
    with Server(tmp_path):
        assert refusal(tmp_path) == (
            f"crr-monitor: another crr-monitor serve uses the store {tmp_path / 'store.db'}:"
            " stop it, or name another store with --store\n"
        )


def test_store_that_is_none(tmp_path: Path) -> None:
    """A file of another kind is no store, and is left as it is."""
    (tmp_path / "store.db").write_text("hello, this is no database at all")
    assert refusal(tmp_path).startswith(f"crr-monitor: store {tmp_path / 'store.db'}: file is not a database")
    assert (tmp_path / "store.db").read_text() == "hello, this is no database at all"


def test_table_is_no_store_for_it(tmp_path: Path) -> None:
    """A DynamoDB table belongs to the AWS system; the embedded monitor names what it needs instead."""
    done = run("--store", "dynamodb://crr-monitor-status", "serve", HOME=str(tmp_path))
    assert done.returncode == FAILED
    assert done.stderr == (
        "crr-monitor: serve keeps its records in a file of SQLite: name one with --store,"
        " instead of dynamodb://crr-monitor-status\n"
    )


def test_missing_folder(tmp_path: Path) -> None:
    """A folder that is not there is told before anything listens."""
    missing = tmp_path / "none"
    assert refusal(tmp_path, str(missing)) == f"crr-monitor: {missing}: no such file or folder; check the path\n"


def test_file_is_no_folder(tmp_path: Path) -> None:
    """A single file is no folder in which logs arrive."""
    file = tmp_path / "a.json"
    file.write_text("{}")
    assert refusal(tmp_path, str(file)) == (
        f"crr-monitor: {file}: is not a folder; name the folder in which logs arrive\n"
    )


@pytest.mark.parametrize(
    ("content", "mode", "error"),
    [
        ("tiny!", 0o600, "has 5 characters, and at least 16 are needed; make one with: openssl rand -hex 32"),
        ("has a space in its middle", 0o600, "has spaces or characters that are no letters, digits or signs;"),
        ("é" * 20, 0o600, "holds more than letters, digits and signs;"),
        (TOKEN, 0o644, "everybody may read the token file"),
    ],
    ids=["length", "space", "letters", "mode"],
)
def test_bad_token_file(tmp_path: Path, content: str, mode: int, error: str) -> None:
    """A token that is too short, has odd characters, or that everybody may read is refused, and never shown."""
    file = token_file(tmp_path, content)
    file.chmod(mode)
    line = refusal(tmp_path, "--token-file", str(file))
    assert error in line
    assert content not in line
    assert line.count("\n") == 1


def test_missing_token_file(tmp_path: Path) -> None:
    """A token file that is not there is told, with how to make one."""
    file = tmp_path / "none"
    assert refusal(tmp_path, "--token-file", str(file)) == (
        f"crr-monitor: cannot read the token file {file}: No such file or directory;"
        f" make one with: openssl rand -hex 32 > {file}\n"
    )


def test_missing_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the packages of the extra the command says what to install."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "aiohttp" else name)
    result = call(tmp_path / "store.db", "serve")
    assert str(result.exception) == "serve needs aiohttp: pip install 'crr-monitor[serve]'"


def test_token_is_no_option(tmp_path: Path) -> None:
    """A token on the command line could be seen by everybody on the machine: there is no such option."""
    assert "No such option" in refusal(tmp_path, "--token", TOKEN, status=USAGE)


def test_token_from_the_environment(tmp_path: Path) -> None:
    """Without a file the token is that of CRR_MONITOR_TOKEN, which is held to the same rules."""
    with Server(tmp_path, CRR_MONITOR_TOKEN=TOKEN) as server:
        assert server.post(encoded(notification())).status == 200
    assert refusal(tmp_path, CRR_MONITOR_TOKEN=SHORT) == (
        "crr-monitor: CRR_MONITOR_TOKEN has 5 characters, and at least 16 are needed;"
        " make one with: openssl rand -hex 32\n"
    )


def test_other_addresses_need_to_be_meant_and_guarded(tmp_path: Path) -> None:
    """Where other machines can reach it, it listens only with --allow-remote and a token."""
    everywhere = ("--listen", "0.0.0.0:0")
    assert refusal(tmp_path, *everywhere) == (
        "crr-monitor: 0.0.0.0:0 can be reached from other machines: add --allow-remote if that is meant\n"
    )
    assert refusal(tmp_path, *everywhere, "--allow-remote") == (
        "crr-monitor: 0.0.0.0:0 can be reached from other machines, so a token is needed: --token-file FILE\n"
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_it_clean(tmp_path: Path, number: int) -> None:
    """After SIGTERM or SIGINT it ends with 0, and the store is whole, without a log left to replay."""
    server = Server(tmp_path, "--token-file", str(token_file(tmp_path)))
    assert server.post(encoded(notification())).status == 200
    assert server.stop(number) == 0
    assert server.lines[1:] == ["stopping: what was taken is finished; once more to end at once"]
    assert not (tmp_path / "store.db-wal").exists()
    store = SqliteStore(tmp_path / "store.db")
    assert store.counts().events == 1
    store.close()


def test_monitor_that_hears_nothing_says_so(tmp_path: Path) -> None:
    """Without a source and without a token it runs, and says that nothing can come in."""
    with Server(tmp_path) as server:
        assert server.lines[0] == (
            "nothing is read: name a folder or a queue, or take events over HTTP with --token-file"
        )


class _Held:
    """The store's write lock, held by another process, as it were; and requests that wait for it."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._db = sqlite3.connect(server.store, isolation_level=None, check_same_thread=False)
        self._db.execute("BEGIN IMMEDIATE")
        self.replies: list[Reply] = []
        self._threads: list[threading.Thread] = []

    def post(self, body: bytes) -> None:
        """Send something, which waits."""
        thread = threading.Thread(target=lambda: self.replies.append(self._server.post(body)))
        thread.start()
        self._threads.append(thread)
        wait_for(lambda: self._server.get("/api/monitor").json["waiting"] == len(self._threads))

    def release(self) -> list[int]:
        """Let it go on; gives the answers' status."""
        self._db.execute("ROLLBACK")
        for thread in self._threads:
            thread.join(60)
        return [reply.status for reply in self.replies]

    def close(self) -> None:
        """End."""
        self._db.close()


def test_too_much_at_once(tmp_path: Path) -> None:
    """While the store is held, 64 MiB wait, more is refused with 429 and when to come again; then all is stored."""
    large = encoded(notification()) + b" " * (8 * (1 << 20) - 2_000)
    with Server(tmp_path, "--token-file", str(token_file(tmp_path))) as server, closing(_Held(server)) as held:
        for _ in range(8):
            held.post(large)
        reply = server.post(large)
        assert reply.status == 429
        assert 1 <= int(reply.headers["Retry-After"]) <= 30
        assert reply.json == {"error": f"too much at once: send it again in {reply.headers['Retry-After']} s"}
        assert server.get("/readyz").json["checks"][0] == {
            "name": "store",
            "ready": False,
            "problem": "the store did not answer in time: is another process writing to it, or the disk slow?",
        }
        assert server.get("/healthz").body == b"ok\n"
        assert held.release() == [200] * 8
        wait_for(lambda: server.get("/readyz").status == 200)
        assert server.get("/api/monitor").json["requests"] == {"200": 8, "429": 1}


def test_what_was_taken_is_answered_before_the_end(tmp_path: Path) -> None:
    """A request that waits when SIGTERM comes is stored and answered; only then the process ends."""
    with Server(tmp_path, "--token-file", str(token_file(tmp_path))) as server, closing(_Held(server)) as held:
        held.post(encoded(notification()))
        server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: len(server.lines) > 1)
        assert server.process.poll() is None
        assert held.release() == [200]
        assert server.wait() == 0


def test_second_signal_ends_at_once(tmp_path: Path) -> None:
    """A second signal does not wait for anything; what was not answered is not there."""
    with (
        Server(tmp_path, "--token-file", str(token_file(tmp_path))) as server,
        closing(_Held(server)),
        socket.create_connection(("127.0.0.1", server.port), timeout=60) as waiting,
    ):
        body = encoded(notification())
        head = f"POST /events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
        waiting.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        wait_for(lambda: server.get("/api/monitor").json["waiting"] == 1)
        server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: len(server.lines) > 1)
        assert server.stop(signal.SIGTERM) == 128 + signal.SIGTERM
        assert waiting.recv(1_000) == b""
    store = SqliteStore(tmp_path / "store.db")
    assert store.counts().events == 0
    store.close()
