"""What the tests of the server share: a real process of it, and how to talk to it."""

from __future__ import annotations

import http.client
import json
import re
import signal
import subprocess
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.cli.running import command, environment

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType

TOKEN = "a-token-for-tests-0123456789abcdef"  # noqa: S105 - of a server that lives as long as a test
WAIT_SECONDS = 60.0


class Reply(NamedTuple):
    """An answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:  # noqa: ANN401 - any document
        """The body as JSON."""
        return json.loads(self.body)


def token_file(folder: Path, token: str = TOKEN) -> Path:
    """A file with a token that only its owner may read."""
    path = folder / "token"
    path.touch(mode=0o600)
    path.write_text(token + "\n")
    return path


class Server:
    """``crr-monitor serve`` as a process of its own, on a free port; it is there when this returns."""

    def __init__(self, folder: Path, *arguments: str, listen: str = "127.0.0.1:0", **more: str) -> None:
        self.store = folder / "store.db"
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            command("--store", str(self.store), "serve", "--listen", listen, *arguments),
            env=environment(**more),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        self._listening = threading.Event()
        self.port = 0
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        assert self._listening.wait(WAIT_SECONDS)
        assert self.port, self.lines

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line.rstrip("\n"))
            found = re.fullmatch(r"listening on http://.*:(\d+)/\n", line)
            if found:
                self.port = int(found[1])
                self._listening.set()
        self._listening.set()

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """One request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT_SECONDS)
        try:
            connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            return Reply(answer.status, dict(answer.headers.items()), answer.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Reply:
        """Ask for something."""
        return self.ask("GET", path, None, headers)

    def post(self, body: bytes, token: str | None = TOKEN, **headers: str) -> Reply:
        """Send events."""
        shown = {} if token is None else {"Authorization": f"Bearer {token}"}
        return self.ask("POST", "/events", body, {**shown, **headers})

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal; gives the exit status."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """The exit status."""
        status = self.process.wait(WAIT_SECONDS)
        self._reader.join(WAIT_SECONDS)
        if self.process.stderr is not None:
            self.process.stderr.close()
        return status

    def __enter__(self) -> Server:  # noqa: PYI034 - nobody inherits
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.wait()
