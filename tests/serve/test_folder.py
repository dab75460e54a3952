"""A folder of logs as a source of a real process: files that arrive, that grow, and where it goes on after its end."""

from __future__ import annotations

import gzip
import os
import threading
import time
from pathlib import Path

import pytest

from crr_monitor.process.reading import READ_BYTES
from crr_monitor.serve.folder import FolderReader
from crr_monitor.serve.state import State
from crr_monitor.serve.writer import Writer
from crr_monitor.sources.base import SourceError
from crr_monitor.sources.rejects import RejectFile
from crr_monitor.stores.base import Counts, StoreError
from crr_monitor.stores.sqlite import SqliteStore
from tests.messages import encoded, notification
from tests.serve.running import Server


def line(number: int) -> bytes:
    """One message, with its newline."""
    return encoded(notification(key=f"k{number}", version=f"v{number}")) + b"\n"


def wait_for_events(server: Server, count: int) -> None:
    """Come back once so many events are stored by this process."""
    end = time.monotonic() + 60
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


def test_what_is_no_log_keeps_nobody_waiting(tmp_path: Path) -> None:
    """A name that is no UTF-8 is told, a pipe is passed over; the other files are read, and the end comes at once."""
    logs = tmp_path / "logs"
    logs.mkdir()
    bad = Path(os.fsdecode(os.fsencode(logs) + b"/caf\xe9.json"))
    with Server(tmp_path, str(logs)) as server:
        wait_for_ready(server, ready=True)
        bad.write_bytes(line(1))
        os.mkfifo(logs / "pipe.json")
        wait_for_ready(server, ready=False)
        problem = f"{logs}/caf\\udce9.json: the name is not valid UTF-8; rename it"
        assert server.get("/readyz").json["checks"][1]["problem"] == problem
        (logs / "z.json").write_bytes(line(2))
        wait_for_events(server, 1)
        bad.rename(logs / "a.json")
        wait_for_events(server, 2)
        wait_for_ready(server, ready=True)
        assert server.stop() == 0


def wait_for_ready(server: Server, *, ready: bool) -> None:
    """Come back once it is ready, or is not."""
    end = time.monotonic() + 60
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


class Reading:
    """A folder that is read into a store within this process; ``refusals`` of its changes fail first."""

    def __init__(self, folder: Path, refusals: int = 0) -> None:
        self.left = refusals
        self.state = State(0, "test")
        self.taken = Counts()
        self._writer = Writer(
            lambda: SqliteStore(folder / "store.db", step=self._step), RejectFile(folder / "rejects"), self.state
        )
        self._writer.start()
        self._reader = FolderReader(str(folder / "logs"), [], self._writer)

    def _step(self, name: str) -> None:
        if name == "commit" and self.left:
            self.left -= 1
            message = "no room"
            raise StoreError(message)

    def look(self) -> None:
        """One look."""
        self._reader.look(threading.Event(), self.taken.add)

    def stop(self) -> None:
        """Close the store."""
        self._writer.stop()


def small_files(folder: Path, count: int) -> None:
    """So many files with one message each."""
    (folder / "logs").mkdir()
    for number in range(count):
        (folder / "logs" / f"{number:04}.json").write_bytes(line(number))


def test_small_files_share_writes_to_the_disk(tmp_path: Path) -> None:
    """Hundreds of small files are all stored, each with its position, in far fewer transactions than files."""
    small_files(tmp_path, 300)
    reading = Reading(tmp_path)
    reading.look()
    batches = reading.state.batches
    reading.look()
    reading.stop()
    assert reading.taken == Counts(300, 300)
    assert (batches < 30, reading.state.batches) == (True, batches)
    store = SqliteStore(tmp_path / "store.db")
    positions = [store.position(str(path)) for path in (tmp_path / "logs").iterdir()]
    assert [position.done for position in positions if position is not None] == [True] * 300
    assert store.counts() == Counts(300, 300)
    store.close()


def test_files_of_a_group_that_was_not_stored_are_read_again(tmp_path: Path) -> None:
    """Where a transaction fails nothing of its files counts as read, and the next look reads them, each once."""
    small_files(tmp_path, 50)
    reading = Reading(tmp_path, refusals=1)
    with pytest.raises(StoreError, match="no room"):
        reading.look()
    reading.look()
    reading.stop()
    assert counts(tmp_path) == Counts(50, 50)


def test_a_long_file_is_never_ahead_of_what_is_stored(tmp_path: Path) -> None:
    """Of a file in several parts, a part that was not stored is followed by none until it was read again."""
    (tmp_path / "logs").mkdir()
    many = 3 * READ_BYTES // len(line(0))
    (tmp_path / "logs" / "a.ndjson").write_bytes(b"".join(map(line, range(many))))
    reading = Reading(tmp_path, refusals=1)
    with pytest.raises(StoreError, match="no room"):
        reading.look()
    reading.look()
    reading.stop()
    assert counts(tmp_path) == Counts(many, many)


def test_what_cannot_be_looked_at_is_told(tmp_path: Path) -> None:
    """A file of which the system does not say whether it is there counts as no removed one; the others are read."""
    small_files(tmp_path, 2)
    logs = tmp_path / "logs"
    (logs / "gone.json").symlink_to(logs / "nowhere")
    (logs / "loop.json").symlink_to(logs / "loop.json")
    reading = Reading(tmp_path)
    with pytest.raises(SourceError, match=r"/loop\.json: "):
        reading.look()
    (logs / "loop.json").unlink()
    reading.look()
    reading.stop()
    assert counts(tmp_path) == Counts(2, 2)
