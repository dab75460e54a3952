"""What the running monitor does by itself: people are told of trouble, S3 is asked, old records leave."""

from __future__ import annotations

import http.server
import json
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from crr_monitor.core.times import DAY_MS, HOUR_MS, MINUTE_MS
from crr_monitor.core.topology import Topology
from crr_monitor.sandbox import Sandbox, Settings
from crr_monitor.serve.state import State
from crr_monitor.serve.ticks import Purge, TickError, TickThread, WrittenStore
from crr_monitor.serve.writer import Writer
from crr_monitor.sources.rejects import RejectFile
from crr_monitor.stores.base import Batch, Query, StoreError, system_clock
from crr_monitor.stores.sqlite import SqliteStore
from tests.factories import ONE_WAY, config, failed, merged_by_version, replica, rule, user_write
from tests.sandbox.making import EAST, FAST, HOME, World
from tests.serve.running import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from crr_monitor.core.events import Event
    from crr_monitor.stores.base import Store


def fill(path: Path, *events: Event, clock: Callable[[], int] = system_clock, topology: Topology = ONE_WAY) -> None:
    """A store that knows a topology and has seen some events."""
    store = SqliteStore(path, clock=clock)
    store.learn([(each, True) for each in topology.configs])
    store.apply(Batch(evidence=merged_by_version(list(events), topology)))
    store.close()


def wait_for(what: Callable[[], bool]) -> None:
    """Come back once it is so."""
    end = time.monotonic() + 60
    while not what():
        assert time.monotonic() < end
        time.sleep(0.05)


class Receiver:
    """An HTTP server that keeps what it is sent."""

    def __init__(self) -> None:
        got: list[Any] = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(204)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
                """Say nothing."""

        self.got = got
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/hook/secret-part"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End it."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """One."""
    made = Receiver()
    yield made
    made.close()


def test_people_are_told(tmp_path: Path, receiver: Receiver) -> None:
    """A failure is posted to the address of notify_url, once, with its reason and what to do."""
    at = system_clock() - HOUR_MS
    fill(tmp_path / "store.db", user_write(at=at), failed(at=at + MINUTE_MS))
    with Server(tmp_path, CRR_MONITOR_NOTIFY_URL=receiver.url) as server:
        wait_for(lambda: bool(receiver.got))
        assert server.stop() == 0
        assert "secret-part" not in "".join(server.lines)
    (notice,) = receiver.got
    assert (notice["what"], notice["kind"], notice["reason"]) == ("new", "failed", "DstKmsKeyNotFound")
    assert f"crr-monitor --store {tmp_path / 'store.db'} list --status FAILED" in notice["text"]


def test_nobody_to_tell(tmp_path: Path) -> None:
    """Where nobody listens at the address the page says so, and the metric counts it."""
    fill(tmp_path / "store.db", user_write(at=system_clock() - HOUR_MS), failed(at=system_clock()))
    with Server(tmp_path, CRR_MONITOR_NOTIFY_URL="http://127.0.0.1:9/x") as server:
        wait_for(lambda: server.get("/api/monitor").json["ticks"][1].get("failures", 0) == 1)
        tick = server.get("/api/monitor").json["ticks"][1]
        assert "webhook at 127.0.0.1" in tick["problem"]
        assert "crr_monitor_unsent_notifications 1.0" in server.get("/metrics").body.decode()


@pytest.mark.aws
def test_s3_is_asked(tmp_path: Path) -> None:
    """With --ask-s3 an overdue copy of whose arrival no event told is found, and the record completed."""
    settings = Settings(seed=3, replication=FAST, notification=FAST, event=FAST, trail=FAST)
    with Sandbox(settings) as sandbox:
        world = World(sandbox)
        source, destination = world.pair()
        version = world.put(source, "a.txt")
        topology = Topology([config(rule(destination), bucket=source)])
        event = user_write(source, key="a.txt", version_id=version, at=system_clock() - HOUR_MS)
        fill(tmp_path / "store.db", event, topology=topology)
        environment = {
            "AWS_ACCESS_KEY_ID": HOME,
            "AWS_SECRET_ACCESS_KEY": "none",
            "AWS_DEFAULT_REGION": EAST,
            "AWS_CONFIG_FILE": "/nonexistent",
            "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
        }
        wait_for(lambda: world.status(source, "a.txt", version) == "COMPLETED")
        with Server(tmp_path, "--ask-s3", "--endpoint-url", sandbox.endpoint, **environment) as server:
            wait_for(lambda: server.get("/api/monitor").json["ticks"][2]["runs"] > 0)
            (record,) = server.get(f"/api/status?object=s3://{source}/a.txt").json
    assert record["status"] == "COMPLETED"
    assert [copy["evidence"] for copy in record["destinations"]] == ["head"]


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    """A writer on a store of its own."""
    rejects = RejectFile(tmp_path / "rejects.ndjson")
    made = Writer(lambda: SqliteStore(tmp_path / "store.db"), rejects, State(0, "0"))
    made.start()
    yield made
    made.stop()


def test_old_records_leave(tmp_path: Path, writer: Writer) -> None:
    """What is settled longer than the retention is removed, in the writer's thread."""
    fill(tmp_path / "store.db", user_write(), replica(), clock=lambda: system_clock() - 2 * DAY_MS)
    store = WrittenStore(tmp_path / "store.db", writer, 1_024)
    assert len(list(store.records(Query()))) == 1
    Purge().run(store, system_clock())
    assert list(store.records(Query())) == []
    store.close()


class _Failing:
    name, seconds = "failing", 0.01

    def __init__(self) -> None:
        self.errors: list[Exception] = [TickError("no answer"), StoreError("locked")]

    def run(self, store: Store, now: int) -> None:
        """Fail twice, then do it."""
        assert store.pairs() == []
        assert now > 0
        if self.errors:
            raise self.errors.pop(0)


def test_what_fails_is_tried_again(tmp_path: Path, writer: Writer) -> None:
    """A task that fails is told, counted, and tried again; once it is done its problem is gone."""
    said: list[str] = []
    thread = TickThread(_Failing(), lambda: WrittenStore(tmp_path / "store.db", writer, 1_024), said.append)
    thread.start()
    wait_for(lambda: thread.state.runs > 3)
    thread.stop()
    thread.join(60)
    assert (thread.alive, thread.state.failures, thread.state.problem) == (False, 2, None)
    assert said == ["failing: no answer (it is tried again)", "failing: locked (it is tried again)"]
