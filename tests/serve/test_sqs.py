"""An SQS queue of the sandbox as a source: of the running monitor, and of ``crr-monitor ingest``."""

from __future__ import annotations

import importlib
import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from crr_monitor.sandbox import Sandbox, Settings
from crr_monitor.sources.rejects import read_rejects
from crr_monitor.stores.sqlite import SqliteStore
from tests.cli.running import FAILED, OK, run
from tests.messages import encoded, notification
from tests.serve.running import Server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.aws

ACCOUNT, REGION = "111122223333", "us-east-1"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": ACCOUNT,
    "AWS_SECRET_ACCESS_KEY": "none",
    "AWS_CONFIG_FILE": "/nonexistent",
    "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
}


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """A local AWS."""
    importlib.import_module("boto3")
    with Sandbox(Settings(seed=7)) as running:
        yield running


class Feed:
    """A queue of its own with some messages."""

    def __init__(self, sandbox: Sandbox, name: str) -> None:
        self._client: Any = sandbox.client("sqs", ACCOUNT, REGION)
        self.url: str = self._client.create_queue(QueueName=name)["QueueUrl"]
        self.address = f"sqs://{self.url}?region={REGION}&endpoint={sandbox.endpoint}"

    def send(self, *bodies: str) -> None:
        """Put messages into it."""
        for start in range(0, len(bodies), 10):
            entries = [{"Id": str(n), "MessageBody": body} for n, body in enumerate(bodies[start : start + 10])]
            assert not self._client.send_message_batch(QueueUrl=self.url, Entries=entries).get("Failed")

    def left(self) -> int:
        """Messages in it, also those that somebody has taken and not removed."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self._client.get_queue_attributes(QueueUrl=self.url, AttributeNames=names)["Attributes"]
        return sum(map(int, found.values()))


def message(number: int) -> str:
    """One message, as S3 sends it to a queue."""
    return encoded({"Records": [notification(key=f"k{number}", version=f"v{number}")]}).decode()


def counted(folder: Path) -> tuple[int, int, int]:
    """Messages, events and malformed of a store."""
    store = SqliteStore(folder / "store.db")
    counts = store.counts()
    store.close()
    return counts.messages, counts.events, counts.malformed


def test_ingest_drains_a_queue(tmp_path: Path, sandbox: Sandbox) -> None:
    """``ingest sqs://...`` takes all that is in a queue; what is broken is kept in the reject file, and removed too."""
    feed = Feed(sandbox, "drained")
    feed.send(*map(message, range(33)), "{broken", '{"Event": "s3:TestEvent", "Service": "Amazon S3"}')
    done = run("--store", str(tmp_path / "store.db"), "ingest", feed.address, **CREDENTIALS)
    assert done.returncode == OK, done.stderr
    told = json.loads(done.stdout)
    assert {name: told[name] for name in ("messages", "events", "ignored", "malformed")} == {
        "messages": 35,
        "events": 33,
        "ignored": 1,
        "malformed": 1,
    }
    assert counted(tmp_path) == (35, 33, 1)
    assert feed.left() == 0
    (reject,) = read_rejects(tmp_path / "store.db.rejects.ndjson")
    assert (reject.source, reject.message) == (feed.url, b"{broken")


def test_a_queue_makes_a_store_live(tmp_path: Path, sandbox: Sandbox) -> None:
    """Messages that waited in a queue for hours are an outage, no old logs: the store is asked by the time of now."""
    feed = Feed(sandbox, "late")
    feed.send(message(0))
    path = tmp_path / "store.db"
    assert run("--store", str(path), "ingest", feed.address, **CREDENTIALS).returncode == OK
    document = json.loads(run("--store", str(path), "stats", "-o", "json").stdout)
    assert (document["clock"], document["newest_event_at"]) == ("now", "2026-11-22T07:00:00.168Z")


def test_ingest_of_a_queue_and_a_file(tmp_path: Path, sandbox: Sandbox) -> None:
    """A queue and a file can be read by one command; the totals are of both."""
    feed = Feed(sandbox, "both")
    feed.send(message(1))
    (tmp_path / "a.json").write_text(message(2))
    done = run(
        *("--store", str(tmp_path / "store.db"), "ingest", feed.address, str(tmp_path / "a.json")), **CREDENTIALS
    )
    assert json.loads(done.stdout)["events"] == 2
    assert "2 sources in" in done.stderr


def test_queue_that_is_not_there(tmp_path: Path, sandbox: Sandbox) -> None:
    """A queue that does not exist is one line, with what to do."""
    address = Feed(sandbox, "other").address.replace("other", "nonesuch")
    done = run("--store", str(tmp_path / "store.db"), "ingest", address, **CREDENTIALS)
    assert done.returncode == FAILED
    assert "there is no such queue: check its URL" in done.stderr
    assert done.stderr.count("\n") == 1


def test_monitor_takes_what_comes(tmp_path: Path, sandbox: Sandbox) -> None:
    """The running monitor stores what is in the queue, and what comes later, and removes it."""
    feed = Feed(sandbox, "served")
    feed.send(*map(message, range(25)), "{broken")
    with Server(tmp_path, feed.address, **CREDENTIALS) as server:
        wait_until_taken(server, 26)
        feed.send(message(99))
        wait_until_taken(server, 27)
        assert server.get("/readyz").json["checks"][1] == {"name": feed.url, "ready": True}
        depth = f'crr_monitor_queue_depth{{queue="{feed.url}"}} 26.0'  # as it was asked at first
        assert depth in server.get("/metrics").body.decode()
        assert server.stop() == 0
    assert counted(tmp_path) == (27, 26, 1)
    assert feed.left() == 0


def test_monitor_without_its_queue(tmp_path: Path, sandbox: Sandbox) -> None:
    """While the queue cannot be read the monitor is not ready, and says why; it goes on once the queue is there."""
    feed = Feed(sandbox, "later")
    with Server(tmp_path, feed.address.replace("later", "later-2"), **CREDENTIALS) as server:
        wait_until_ready(server, ready=False)
        assert "there is no such queue" in server.get("/readyz").json["checks"][1]["problem"]
        second = Feed(sandbox, "later-2")
        second.send(message(1))
        wait_until_taken(server, 1)
        wait_until_ready(server, ready=True)


def wait_until_taken(server: Server, messages: int) -> None:
    """Come back once so many messages are stored, and removed."""
    end = time.monotonic() + 60
    while server.get("/api/monitor").json["sources"][0]["messages"] < messages:
        assert time.monotonic() < end, server.lines
        time.sleep(0.05)


def wait_until_ready(server: Server, *, ready: bool) -> None:
    """Come back once the queue can be read, or cannot."""
    end = time.monotonic() + 60
    while (found := server.get("/readyz").json["checks"][1])["ready"] is not ready or (
        not ready and found["problem"] == "was not read yet"
    ):
        assert time.monotonic() < end, server.lines
        time.sleep(0.05)
