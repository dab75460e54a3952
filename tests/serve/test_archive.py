"""The archive beside a running monitor: everything that settled is in it, whatever happens to the process."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING, Any

from crr_monitor.core.coverage import BEAT_MS
from crr_monitor.core.times import DAY_MS, parse_time
from crr_monitor.history.layout import Folder
from crr_monitor.serve.archive import NOTE, Watchlog
from crr_monitor.serve.state import SourceState, State
from crr_monitor.stores.sqlite import SqliteStore
from tests.cli.running import FAILED, OK, call, fill, run
from tests.factories import AT, ONE_WAY, REPLICA, replica, user_write
from tests.history.making import asked
from tests.messages import encoded, notification, replication_notification
from tests.serve.running import Server, token_file
from tests.serve.test_process import wait_for

if TYPE_CHECKING:
    from pathlib import Path


def prepared(folder: Path) -> list[str]:
    """A store that knows its rules; the options of a server that feeds an archive."""
    store = SqliteStore(folder / "store.db")
    store.learn([(config, True) for config in ONE_WAY.configs])
    store.close()
    return ["--token-file", str(token_file(folder)), "--archive", str(folder / "archive")]


def send(server: Server, key: str) -> None:
    """A version that is written and replicated."""
    events = [notification(key=key, version=f"v.{key}"), notification(key=key, version=f"v.{key}", bucket=REPLICA)]
    for event in events:
        assert server.post(encoded(event)).status == 200


def keys(folder: Path) -> list[str]:
    """What the archive has, each row."""
    return [row["key"] for row in asked(folder / "archive", "SELECT key FROM archive ORDER BY key")]


def watched(folder: Path) -> list[dict[str, Any]]:
    """The lines about who watched, in their order."""
    files = sorted((folder / "archive" / "coverage").glob("day=*/*.ndjson"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def test_the_end_writes_what_waits(tmp_path: Path) -> None:
    """A server that is stopped leaves nothing behind: its rows are in the archive, and until when it watched."""
    options = prepared(tmp_path)
    with Server(tmp_path, *options, str(tmp_path / "archive")) as server:
        send(server, "a")
        wait_for(lambda: len(SqliteStore(tmp_path / "store.db").note(NOTE) or b"") > len("[]"))
        assert server.stop() == 0
    assert keys(tmp_path) == ["a"]
    assert {line["source"] for line in watched(tmp_path)} == {"HTTP", str(tmp_path / "archive")}
    assert {(line["kind"], line["state"]) for line in watched(tmp_path)} == {("live", "watched")}


def test_what_had_settled_before_there_was_an_archive_comes_into_it(tmp_path: Path) -> None:
    """A store that was filled before gets an archive: while it serves, what it has is written without more ado."""
    fill(tmp_path / "store.db", user_write(key="before"), replica(key="before"))
    with Server(tmp_path, *prepared(tmp_path)) as server:
        wait_for(lambda: any((tmp_path / "archive").glob("day=*/hour=*/*.parquet")))
        send(server, "after")
        assert server.stop() == 0
    assert keys(tmp_path) == ["after", "before"]


def test_what_waited_when_it_was_killed_is_written_after_the_next_start(tmp_path: Path) -> None:
    """Killed before anything was written, the rows are in the store, and come into the archive once."""
    options = prepared(tmp_path)
    for key in ("a", "b"):
        with Server(tmp_path, *options) as server:
            send(server, key)
            server.process.send_signal(signal.SIGKILL)
            server.wait()
    assert not list((tmp_path / "archive").glob("day=*"))
    with Server(tmp_path, *options) as server:
        assert server.stop() == 0
    assert keys(tmp_path) == ["a", "b"]


def test_an_archive_that_cannot_be_written_keeps_nobody_from_ending(tmp_path: Path) -> None:
    """The trouble is told with what to do, the rows wait, and the next start writes them."""
    options = prepared(tmp_path)
    with Server(tmp_path, *options) as server:
        send(server, "a")
        (tmp_path / "archive").rmdir()
        (tmp_path / "archive").write_text("in the way")
        assert server.stop() == 0
    assert any(line.startswith("archive: ") and "at the next start" in line for line in server.lines), server.lines
    (tmp_path / "archive").unlink()
    with Server(tmp_path, *options) as server:
        assert server.stop() == 0
    assert keys(tmp_path) == ["a"]


def test_a_store_that_fed_an_archive_says_that_its_rows_wait(tmp_path: Path) -> None:
    """Without the archive's name the rows go on waiting, and that is told; with ``off`` none are kept any more."""
    options = prepared(tmp_path)
    with Server(tmp_path, *options) as server:
        assert server.stop() == 0
    words = "this store fed an archive, and none is named"
    with Server(tmp_path, *options[:2]) as server:
        send(server, "a")
        assert server.stop() == 0
    assert any(line.startswith(words) for line in server.lines), server.lines
    with Server(tmp_path, *options[:2], "--archive", "off") as server:
        send(server, "b")
        assert server.stop() == 0
    assert not any(words in line for line in server.lines), server.lines
    store = SqliteStore(tmp_path / "store.db")
    assert ([row.key for row in store.outbox(10)], store.archiving) == (["a"], False)
    store.close()


def test_an_archive_that_cannot_be_made_is_told_at_the_start(tmp_path: Path) -> None:
    """Nothing listens yet when it is refused."""
    (tmp_path / "file").write_text("")
    done = run(
        "--store", str(tmp_path / "s.db"), "serve", "--listen", "127.0.0.1:0", "--archive", str(tmp_path / "file")
    )
    assert done.returncode == FAILED
    assert done.stderr == (
        f"crr-monitor: cannot make the archive {tmp_path / 'file'}: File exists; name another folder with --archive\n"
    )


def test_ingest_warns_of_a_store_whose_rows_wait(tmp_path: Path) -> None:
    """The same holds for reading files: without the archive's name the rows wait, and somebody is told."""
    event = tmp_path / "event.json"
    event.write_bytes(encoded(replication_notification()))
    assert call(tmp_path / "s.db", "ingest", "--archive", str(tmp_path / "archive"), str(event)).exit_code == OK
    assert [row["status"] for row in asked(tmp_path / "archive", "SELECT status FROM copies")] == ["FAILED"]
    again = call(tmp_path / "s.db", "ingest", str(event))
    assert "this store fed an archive, and none is named" in again.stderr
    assert "fed an archive" not in call(tmp_path / "s.db", "ingest", "--archive", "off", str(event)).stderr
    assert "fed an archive" not in call(tmp_path / "s.db", "ingest", str(event)).stderr


class Watching:
    """A store, an archive, and a log of who watched one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.source = SourceState("logs", "folder", ready=True)
        self.state = State(AT, "0", sources=[self.source])
        self.store = SqliteStore(folder / "s.db")
        self.log = Watchlog(self.state, hears_http=False)

    def beat(self, *times: int) -> None:
        """Beat at these times."""
        for at in times:
            self.log.beat(self.store, "one", at)

    def save(self, now: int) -> list[tuple[str, int, int]]:
        """Write the files; what is in them: state and times."""
        self.log.save(self.store, Folder(self.folder / "archive"), "one", now)
        return [
            (line["state"], parse_time(line["since"])[0] - AT, parse_time(line["until"])[0] - AT)
            for line in watched(self.folder)
        ]


def test_beats_survive_a_kill(tmp_path: Path) -> None:
    """What was noted before a kill is in the file after the next start, with the gap between the two."""
    first = Watching(tmp_path)
    first.beat(AT, AT + BEAT_MS)
    first.store.close()
    then = AT + 60 * BEAT_MS
    second = Watching(tmp_path)
    second.beat(then, then + BEAT_MS)
    assert second.save(then + BEAT_MS) == [
        ("watched", 0, BEAT_MS),
        ("watched", 60 * BEAT_MS, 61 * BEAT_MS),
    ]
    second.store.close()


def test_a_source_that_cannot_be_read_is_blindness_with_its_reason(tmp_path: Path) -> None:
    """The reason is in the file; a store that refuses blinds all sources."""
    watching = Watching(tmp_path)
    watching.beat(AT)
    watching.source.problem = "logs: no such folder"
    watching.beat(AT + BEAT_MS)
    watching.source.problem, watching.state.store_problem = None, "store: the disk is full"
    watching.beat(AT + 2 * BEAT_MS)
    assert watching.save(AT + 2 * BEAT_MS) == [("watched", 0, 0), ("blind", 0, 2 * BEAT_MS)]
    assert watched(tmp_path)[1]["problem"] == "logs: no such folder"
    watching.store.close()


def test_days_that_are_over_are_written_once_more_and_forgotten(tmp_path: Path) -> None:
    """After midnight the last file of the day is whole, and the store keeps only what is of today."""
    watching = Watching(tmp_path)
    midnight = (AT // DAY_MS + 1) * DAY_MS
    watching.beat(midnight - BEAT_MS, midnight + BEAT_MS)
    day = midnight - AT
    whole = [("watched", day - BEAT_MS, day), ("watched", day, day + BEAT_MS)]
    assert watching.save(midnight + BEAT_MS) == whole
    assert len(json.loads(watching.store.note(NOTE) or b"")) == 1
    watching.beat(midnight + 2 * BEAT_MS)
    assert watching.save(midnight + 2 * BEAT_MS) == [whole[0], ("watched", day, day + 2 * BEAT_MS)]
    watching.store.close()


def test_a_source_that_was_not_looked_at_yet_is_not_spoken_of(tmp_path: Path) -> None:
    """Before its first look nobody knows whether it can be read."""
    watching = Watching(tmp_path)
    watching.source.ready = False
    watching.beat(AT)
    assert watching.save(AT) == []
    watching.store.close()
