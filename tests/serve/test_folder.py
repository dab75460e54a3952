"""A folder of logs as a source of a real process: files that arrive, that grow, and where it goes on after its end."""

from __future__ import annotations

import gzip
import time
from typing import TYPE_CHECKING

from crr_monitor.stores.base import Counts
from crr_monitor.stores.sqlite import SqliteStore
from tests.messages import encoded, notification
from tests.serve.running import Server

if TYPE_CHECKING:
    from pathlib import Path


def line(number: int) -> bytes:
    """One message, with its newline."""
    return encoded(notification(key=f"k{number}", version=f"v{number}")) + b"\n"


def wait_for_events(server: Server, count: int) -> None:
    """Come back once so many events are stored by this process."""
    end = time.monotonic() + 20
    while (found := server.get("/api/monitor").json["events"]) < count:
        assert time.monotonic() < end, found
        time.sleep(0.05)
    assert found == count


def counts(folder: Path) -> Counts:
    """What the store has counted in all."""
    store = SqliteStore(folder / "store.db")
    try:
        return store.counts()
    finally:
        store.close()


def test_files_arrive_and_grow(tmp_path: Path) -> None:
    """What is there is read, then what arrives in folders below, what is appended, and a line once it is whole."""
    logs = tmp_path / "logs"
    (logs / "2026").mkdir(parents=True)
    (logs / "a.ndjson").write_bytes(line(1) + line(2))
    with Server(tmp_path, str(logs)) as server:
        wait_for_events(server, 2)
        (logs / "2026" / "b.json").write_bytes(line(3))
        (logs / "c.json.gz").write_bytes(gzip.compress(line(4) + line(5)))
        wait_for_events(server, 5)
        whole = line(6)
        with (logs / "a.ndjson").open("ab", buffering=0) as growing:
            growing.write(whole[:100])
            time.sleep(1.5)
            growing.write(whole[100:])
        wait_for_events(server, 6)
        monitor = server.get("/api/monitor").json
        assert monitor["malformed"] == 0
        assert monitor["sources"][0]["ready"] is True
        assert server.stop() == 0
    assert counts(tmp_path).events == 6


def test_it_goes_on_where_it_was(tmp_path: Path) -> None:
    """Started again, it reads only what came meanwhile; also what an ingest of the command line has read."""
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "a.ndjson").write_bytes(line(1) + b"broken\n" + line(2))
    with Server(tmp_path, str(logs)) as server:
        wait_for_events(server, 2)
        assert server.stop() == 0
    (logs / "a.ndjson").write_bytes(line(1) + b"broken\n" + line(2) + line(3))
    with Server(tmp_path, str(logs)) as server:
        wait_for_events(server, 1)
        assert server.stop() == 0
    assert counts(tmp_path) == Counts(4, 3, 1)
    assert len((tmp_path / "store.db.rejects.ndjson").read_bytes().splitlines()) == 1


def test_folder_that_goes_and_comes(tmp_path: Path) -> None:
    """A folder that is gone makes the monitor not ready, and says so once; when it is back all goes on."""
    logs = tmp_path / "logs"
    logs.mkdir()
    with Server(tmp_path, str(logs)) as server:
        wait_for_ready(server, ready=True)
        logs.rename(tmp_path / "away")
        wait_for_ready(server, ready=False)
        reply = server.get("/readyz")
        problem = f"{logs}: no such file or folder; check the path"
        assert reply.status == 503
        assert reply.json["checks"][1] == {"name": str(logs), "ready": False, "problem": problem}
        (tmp_path / "away").rename(logs)
        wait_for_ready(server, ready=True)
        (logs / "a.json").write_bytes(line(1))
        wait_for_events(server, 1)
        assert server.lines[1:] == [f"{problem} (it is tried again)", f"{logs}: can be read again"]


def wait_for_ready(server: Server, *, ready: bool) -> None:
    """Come back once it is ready, or is not."""
    end = time.monotonic() + 20
    while server.get("/readyz").json["ready"] is not ready:
        assert time.monotonic() < end
        time.sleep(0.05)


def test_own_files_are_no_logs(tmp_path: Path) -> None:
    """The store, its reject file and its lock may lie in the very folder that is read."""
    (tmp_path / "a.json").write_bytes(line(1) + b"broken\n")
    with Server(tmp_path, str(tmp_path)) as server:
        wait_for_events(server, 1)
        time.sleep(2.5)  # two more looks
        monitor = server.get("/api/monitor").json
    assert (monitor["messages"], monitor["malformed"]) == (2, 1)
