"""``crr-monitor ingest``: what it prints, what it warns of, where it writes."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.cli.running import FAILED, OK, call, look, objects, run
from tests.messages import (
    BUCKET,
    REPLICA_BUCKET,
    cloudtrail,
    cloudtrail_replica,
    encoded,
    notification,
    replication_notification,
    setup_event,
)

KEYS = ["messages", "events", "ignored", "malformed", "records_changed", "seconds"]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Where a store may be made."""
    return tmp_path / "a.db"


def log(folder: Path, *messages: object, name: str = "log.ndjson") -> str:
    """A file with a message in each line; bytes are taken as they are."""
    path = folder / name
    path.write_bytes(b"".join((one if isinstance(one, bytes) else encoded(one)) + b"\n" for one in messages))
    return str(path)


def topology(folder: Path, since: str | None = "2026-01-01T00:00:00Z") -> str:
    """A topology file in which ``orders`` goes to ``orders-dr``."""
    rule = {"ID": "dr", "Status": "Enabled", "Filter": {}, "Destination": {"Bucket": f"arn:aws:s3:::{REPLICA_BUCKET}"}}
    entry: dict[str, Any] = {"bucket": BUCKET, "ReplicationConfiguration": {"Rules": [rule]}}
    path = folder / "topology.json"
    path.write_bytes(encoded([entry | ({"since": since} if since else {})]))
    return str(path)


def test_prints_one_line_of_json(store: Path, tmp_path: Path) -> None:
    """Standard output is one line with exactly the six figures, in the documented order."""
    events = log(tmp_path, cloudtrail(), cloudtrail_replica(), setup_event(), cloudtrail("GetObject"), b"{")
    done = run("--store", str(store), "ingest", events)
    assert done.returncode == OK
    assert done.stdout.count("\n") == 1
    figures = json.loads(done.stdout)
    assert list(figures) == KEYS
    assert [figures[name] for name in KEYS[:-1]] == [5, 2, 2, 1, 1]
    assert 0 <= figures["seconds"] < 30


def test_tells_people_on_standard_error(store: Path, tmp_path: Path) -> None:
    """Standard error says what was ignored by kind, and where the rejects are."""
    events = log(tmp_path, cloudtrail(), setup_event(), cloudtrail("GetObject"), cloudtrail("GetObject"), b"{")
    told = call(store, "ingest", "--topology", topology(tmp_path), events).stderr.splitlines()
    assert re.fullmatch(r"1 source in \d+\.\d s", told[0])
    assert told[1:] == [
        "5 messages, 1 event, 1 record changed",
        "ignored 3: GetObject 2, test event 1",
        f"malformed 1: kept with the reasons in {store}.rejects.ndjson",
    ]


def test_unreadable_files_in_a_folder_do_not_stop_the_others(store: Path, tmp_path: Path) -> None:
    """What can be read is stored, what cannot be is told with the reason, and the exit status is 1."""
    folder = tmp_path / "logs"
    folder.mkdir()
    log(folder, cloudtrail())
    (folder / "gone.json").symlink_to(tmp_path / "none.json")
    (folder / "round.json").symlink_to(folder / "round.json")
    result = call(store, "ingest", str(folder))
    assert result.exit_code == FAILED
    assert json.loads(result.stdout)["events"] == 1
    gone, round_, *_ = result.stderr.splitlines()
    assert gone == f"not read: {folder}/gone.json: no such file or folder; check the path"
    assert round_.startswith(f"not read: {folder}/round.json: cannot be read (Too many levels of symbolic links)")


def test_rejects_are_beside_the_store(store: Path, tmp_path: Path) -> None:
    """A malformed message is kept beside the store, byte for byte."""
    call(store, "ingest", log(tmp_path, b'{"broken'))
    (line,) = Path(f"{store}.rejects.ndjson").read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["message"] == '{"broken'


def test_rejects_go_where_they_are_told(store: Path, tmp_path: Path) -> None:
    """``--rejects`` names another file for them."""
    rejects = tmp_path / "mine.ndjson"
    call(store, "ingest", "--rejects", str(rejects), log(tmp_path, b'{"broken'))
    assert rejects.exists()
    assert not Path(f"{store}.rejects.ndjson").exists()


def test_strict(store: Path, tmp_path: Path) -> None:
    """Malformed messages give status 1 with ``--strict`` only, and the figures are printed all the same."""
    events = log(tmp_path, b"{")
    assert call(store, "ingest", events).exit_code == OK
    strict = call(store, "ingest", "--again", "--strict", events)
    assert (strict.exit_code, json.loads(strict.stdout)["malformed"]) == (FAILED, 1)
    good = log(tmp_path, cloudtrail(), name="good.ndjson")
    assert call(store, "ingest", "--strict", good).exit_code == OK


def test_second_time_is_skipped(store: Path, tmp_path: Path) -> None:
    """A file that was read is skipped and said to be; ``--again`` reads it, and nothing changes."""
    events = log(tmp_path, cloudtrail(), cloudtrail_replica())
    call(store, "ingest", events)
    second = call(store, "ingest", events)
    assert json.loads(second.stdout)["messages"] == 0
    assert "(1 skipped: read before)" in second.stderr
    again = json.loads(call(store, "ingest", "--again", events).stdout)
    assert (again["messages"], again["records_changed"]) == (2, 0)


def test_grown_file_is_resumed(store: Path, tmp_path: Path) -> None:
    """Of a file that grew only what is new is read, and the summary says so."""
    call(store, "ingest", log(tmp_path, cloudtrail()))
    second = call(store, "ingest", log(tmp_path, cloudtrail(), cloudtrail_replica()))
    assert json.loads(second.stdout)["messages"] == 1
    assert "(1 resumed)" in second.stderr


def test_standard_input(store: Path) -> None:
    """``-`` is standard input."""
    done = run("--store", str(store), "ingest", "-", stdin=encoded(cloudtrail()).decode())
    assert (done.returncode, json.loads(done.stdout)["events"]) == (OK, 1)


def test_folder_without_the_stores_own_files(tmp_path: Path) -> None:
    """A folder is read with all below it, gzipped or not, but without the store and its rejects that lie there."""
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.json.gz").write_bytes(gzip.compress(encoded({"Records": [cloudtrail()]})))
    log(tmp_path, b"{", name="b.ndjson")
    store = tmp_path / "store.json"
    rejects = str(tmp_path / "rejects.json")
    for _ in range(2):
        done = call(store, "ingest", "--again", "--rejects", rejects, str(tmp_path))
        assert [json.loads(done.stdout)[name] for name in ("messages", "events", "malformed")] == [2, 1, 1]


def test_without_a_topology_it_says_what_that_means(store: Path, tmp_path: Path) -> None:
    """Who gives no rules learns that nothing can be pending."""
    told = call(store, "ingest", log(tmp_path, cloudtrail())).stderr
    assert told.splitlines()[-1] == (
        "no replication rules are known (--topology): pairs are inferred from replicas, and nothing can be pending"
    )


def test_topology_creates_expectations(store: Path, tmp_path: Path) -> None:
    """A write under a rule of the topology file is pending until its replica comes."""
    call(store, "ingest", "--topology", topology(tmp_path), log(tmp_path, cloudtrail()))
    assert [record["status"] for record in objects(store, "list")] == ["PENDING"]


def test_topology_without_since_is_warned_of(store: Path, tmp_path: Path) -> None:
    """Rules that count from now on expect nothing of old logs: a warning names the bucket and the cure."""
    done = call(store, "ingest", "--topology", topology(tmp_path, since=None), log(tmp_path, old_write()))
    assert objects(store, "list") == []
    warning = done.stderr.splitlines()[-1]
    assert warning.startswith("crr-monitor: warning: the rules of orders have no `since` and count from 20")
    assert warning.endswith('add "since" to the topology and ingest with --again')


def test_topology_with_since_is_not_warned_of(store: Path, tmp_path: Path) -> None:
    """Where the file says since when, there is nothing to warn of."""
    done = call(store, "ingest", "--topology", topology(tmp_path, "2020-01-01T00:00:00Z"), log(tmp_path, old_write()))
    assert "warning" not in done.stderr


def old_write() -> dict[str, Any]:
    """A write of a year that is over."""
    return cloudtrail(eventTime="2021-05-06T07:08:09Z")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "Input data was truncated"),
        (
            '{"bucket": "orders"}',
            (
                "a topology is a JSON list of buckets, this is an object: write "
                '[{"account": ..., "region": ..., "bucket": ..., "ReplicationConfiguration": ...}, ...]'
            ),
        ),
        ('[{"account": "1"}]', "entry 1: bucket is missing"),
    ],
)
def test_broken_topology(text: str, told: str, store: Path, tmp_path: Path) -> None:
    """A topology that is none ends the command with a line about it, before a store is made."""
    path = tmp_path / "topology.json"
    path.write_text(text, encoding="utf-8")
    done = run("--store", str(store), "ingest", "--topology", str(path), log(tmp_path, cloudtrail()))
    assert (done.returncode, done.stdout, done.stderr) == (FAILED, "", f"crr-monitor: topology {path}: {told}\n")
    assert not store.exists()


def test_missing_topology(store: Path, tmp_path: Path) -> None:
    """A topology file that is not there is named."""
    done = run("--store", str(store), "ingest", "--topology", "none.json", log(tmp_path, cloudtrail()))
    line = "crr-monitor: cannot read the topology none.json: No such file or directory\n"
    assert (done.returncode, done.stderr) == (FAILED, line)


def test_missing_source_makes_no_store(store: Path, tmp_path: Path) -> None:
    """A source that is not there is named, and no empty store stays behind."""
    done = run("--store", str(store), "ingest", str(tmp_path / "none.json"))
    line = f"crr-monitor: {tmp_path / 'none.json'}: no such file or folder; check the path\n"
    assert (done.returncode, done.stderr) == (FAILED, line)
    assert not store.exists()


def test_truncated_gzip_keeps_what_could_be_read(store: Path, tmp_path: Path) -> None:
    """A log that ends early is counted as malformed, and what came before is in the store."""
    lines = b"".join(encoded(notification(key=f"k{number}")) + b"\n" for number in range(2_000))
    path = tmp_path / "log.ndjson.gz"
    path.write_bytes(gzip.compress(lines)[:-2_000])
    done = call(store, "ingest", str(path))
    figures = json.loads(done.stdout)
    assert (done.exit_code, figures["malformed"]) == (OK, 1)
    assert figures["events"] > 100


def test_unwritable_rejects(store: Path, tmp_path: Path) -> None:
    """A reject file that cannot be made ends the command with a line that names it."""
    rejects = tmp_path / "none" / "rejects.ndjson"
    done = run("--store", str(store), "ingest", "--rejects", str(rejects), log(tmp_path, b"{"))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (FAILED, "", 1)
    assert done.stderr.startswith(f"crr-monitor: {rejects}: cannot write the reject file")


def test_source_with_a_hostile_name(store: Path, tmp_path: Path) -> None:
    """A file whose name holds control characters cannot act on the terminal."""
    done = run("--store", str(store), "ingest", str(tmp_path / "a\x1b[2J\nb.json"))
    assert (done.returncode, "\x1b" in done.stderr, done.stderr.count("\n")) == (FAILED, False, 1)


def test_progress_on_a_terminal(store: Path, tmp_path: Path) -> None:
    """On a terminal a bar shows what is read and at which rate; ``--no-progress`` leaves it out."""
    events = log(tmp_path, cloudtrail(), cloudtrail_replica(), replication_notification())
    assert "log.ndjson" in look("--store", str(store), "ingest", events)
    assert "log.ndjson" not in look("--store", str(store), "ingest", "--again", "--no-progress", events)
