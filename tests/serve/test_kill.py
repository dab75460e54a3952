"""Real processes killed for real: what was answered with 200 is there after a restart."""

from __future__ import annotations

import http.client
import random
import signal
import threading
import time
from typing import TYPE_CHECKING

from crr_monitor.stores.base import Query
from crr_monitor.stores.sqlite import SqliteStore
from tests.factories import ONE_WAY
from tests.messages import encoded, notification
from tests.serve.running import TOKEN, Server, token_file

if TYPE_CHECKING:
    from pathlib import Path

KILLS = 6
SENDERS = 6


class Sender(threading.Thread):
    """Sends one version after the other until the server is gone; ``answered`` are the keys that were taken."""

    def __init__(self, port: int, name: str) -> None:
        super().__init__(daemon=True)
        self._port = port
        self._name = name
        self.answered: list[str] = []

    def run(self) -> None:
        """Send."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        number = 0
        while True:
            key = f"{self._name}-{number:06}"
            number += 1
            try:
                headers = {"Authorization": f"Bearer {TOKEN}"}
                connection.request("POST", "/events", encoded(notification(key=key, version=f"v.{key}")), headers)
                answer = connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException):
                break
            assert answer.status == 200, answer.status
            self.answered.append(key)
        connection.close()


def test_what_was_answered_with_200_survives_a_kill(tmp_path: Path) -> None:
    """Killed at random moments under load and started again, the store has every version that was answered with 200."""
    when = random.Random(4)
    store = SqliteStore(tmp_path / "store.db")
    store.learn([(config, True) for config in ONE_WAY.configs])
    store.close()
    token = str(token_file(tmp_path))
    answered: set[str] = set()
    for life in range(KILLS):
        with Server(tmp_path, "--token-file", token) as server:
            senders = [Sender(server.port, f"{life}-{number}") for number in range(SENDERS)]
            for sender in senders:
                sender.start()
            enough, end = when.randrange(20, 150), time.monotonic() + 60
            while sum(len(sender.answered) for sender in senders) < enough and time.monotonic() < end:
                time.sleep(0.002)
            server.process.send_signal(signal.SIGKILL)
            for sender in senders:
                sender.join(60)
                answered.update(sender.answered)
    with Server(tmp_path, "--token-file", token) as server:
        assert server.stop() == 0
    store = SqliteStore(tmp_path / "store.db")
    stored = {record.key for record in store.records(Query())}
    events = store.counts().events
    store.close()
    assert len(answered) > 10 * KILLS  # there was load
    assert answered <= stored
    assert events == len(stored)
