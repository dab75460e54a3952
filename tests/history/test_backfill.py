"""Logs straight into the archive: the truth of every kind of stream, in bounded pieces, whatever stops it."""

from __future__ import annotations

import gzip
import json
import shutil
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from crr_monitor.core.topology import Topology
from crr_monitor.core.topology_document import parse_topology
from crr_monitor.history import backfill, reading, spill, stages
from crr_monitor.history.backfill import Progress, in_order_of_time, make_plan, run
from crr_monitor.history.driver import HistoryError
from crr_monitor.history.s3 import Reach
from crr_monitor.simulate import Plan
from crr_monitor.simulate import run as simulate
from crr_monitor.sources.files import FileSource, open_sources
from crr_monitor.sources.objects import Found
from crr_monitor.sources.rejects import read_rejects
from tests.cli.running import FAILED, OK, USAGE, call, command, environment
from tests.history.making import TRUE_COLUMNS, asked, in_order, true_copies

if TYPE_CHECKING:
    from pathlib import Path

COPIES = f"SELECT {TRUE_COLUMNS} FROM copies"


def planned(stream: Path, archive: Path) -> backfill.Plan:
    """What is to be done about a simulated stream."""
    folder = stream / ("AWSLogs" if (stream / "AWSLogs").exists() else "events")
    logs = [Found(source.name, source.size or 0, "") for source in open_sources([str(folder)])]
    rules = Topology().learn(parse_topology(json.loads((stream / "topology.json").read_text())), 0)
    return make_plan(logs, rules, str(archive), Reach())


def filled(plan: Plan, tmp_path: Path) -> tuple[Path, backfill.Done]:
    """The archive of a simulated stream, and what was done."""
    simulate(plan, tmp_path / "stream")
    archive = tmp_path / "archive"
    done = run(planned(tmp_path / "stream", archive), tmp_path / "work", tmp_path / "rejects.ndjson", 1)
    return archive, done


@pytest.mark.parametrize(
    "plan",
    [
        Plan(seed=21, objects=1_000, kinds=("cloudtrail",), layout="logs", gz=True, messages_per_file=100),
        Plan(seed=22, objects=1_000, loss_rate=0.05),
        Plan(seed=23, objects=1_000, kinds=("eventbridge",), wrappers=("bare",), gz=True, messages_per_file=300),
        Plan(seed=24, objects=1_000, kinds=("notification",), wrappers=("sqs-sns",), messages_per_file=500),
        Plan(seed=25, objects=1_000, pairs=12, failure_rate=0.3, repaired_share=0.5, delete_rate=0.2, pending_rate=0.1),
        Plan(seed=26, objects=1_000, duplicate_rate=0.9, reorder_ms=24 * 3_600_000),
    ],
    ids=["log-files", "losses", "eventbridge", "notifications", "trouble", "chaos"],
)
def test_the_archive_is_the_truth_of_every_kind_of_stream(plan: Plan, tmp_path: Path) -> None:
    """Each copy that was simulated is in the archive once and says what happened, and nothing else is there."""
    archive, done = filled(plan, tmp_path)
    true = in_order(true_copies(plan))
    assert in_order(asked(archive, COPIES)) == true
    assert done.rows == len(true)
    assert asked(archive, "SELECT count(*) AS n FROM archive") == [{"n": len(true)}]


def test_counts_and_rejects_are_those_of_an_ingest(tmp_path: Path) -> None:
    """Messages, events, ignored and malformed are counted alike, and what was malformed is kept with its reason."""
    plan = Plan(seed=3, objects=800, ignored_rate=0.1, malformed_rate=0.05, messages_per_file=200)
    written = simulate(plan, tmp_path / "stream")
    done = run(planned(tmp_path / "stream", tmp_path / "a"), tmp_path / "work", tmp_path / "rejects.ndjson", 1)
    assert (done.counts.messages, done.counts.events) == (written.messages, written.events)
    assert (done.counts.malformed, done.counts.ignored) == (written.malformed, written.ignored_by)
    assert len(list(read_rejects(tmp_path / "rejects.ndjson"))) == written.malformed
    assert list((tmp_path / "work").iterdir()) == []


def test_small_pieces_give_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many chunks, partitions, parts and passes, as a hundred gigabytes have them, end in the same truth."""
    monkeypatch.setattr(backfill, "CHUNK_BYTES", 100_000)
    monkeypatch.setattr(backfill, "PARTITION_BYTES", 60_000)
    monkeypatch.setattr(stages, "SETTLE_BYTES", 15_000)
    monkeypatch.setattr(stages, "TEXT_BYTES", 10_000)
    monkeypatch.setattr(spill, "PART_BYTES", 20_000)
    plan = Plan(seed=31, objects=1_500, failure_rate=0.1, messages_per_file=300)
    simulate(plan, tmp_path / "stream")
    what = planned(tmp_path / "stream", tmp_path / "archive")
    assert len(what.chunks) > 3
    assert what.partitions > 3
    run(what, tmp_path / "work", tmp_path / "rejects.ndjson", 1)
    assert in_order(asked(tmp_path / "archive", COPIES)) == in_order(true_copies(plan))


def test_the_same_logs_again_change_nothing(tmp_path: Path) -> None:
    """A second run replaces its own files: no row is there twice."""
    plan = Plan(seed=4, objects=300)
    archive, done = filled(plan, tmp_path)
    before = asked(archive, "SELECT * FROM archive ORDER BY ALL")
    again = run(planned(tmp_path / "stream", archive), tmp_path / "work", tmp_path / "rejects.ndjson", 1)
    assert again.files == done.files
    assert asked(archive, "SELECT * FROM archive ORDER BY ALL") == before


class _KilledError(Exception):
    """Stands for a kill between two tasks."""


@pytest.mark.parametrize("after", [1, 2, 3, 5, 8, 11])
def test_stopped_between_any_tasks_it_goes_on(after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it was stopped, the same call does only what is left, and ends in the truth."""
    monkeypatch.setattr(backfill, "CHUNK_BYTES", 200_000)
    monkeypatch.setattr(backfill, "PARTITION_BYTES", 200_000)
    plan = Plan(seed=5, objects=600, messages_per_file=200)
    simulate(plan, tmp_path / "stream")
    what = planned(tmp_path / "stream", tmp_path / "archive")
    seen: list[Progress] = []

    def stop(progress: Progress) -> None:
        seen.append(progress)
        if len(seen) == after:
            raise _KilledError

    arguments = (what, tmp_path / "work", tmp_path / "rejects.ndjson")
    with pytest.raises(_KilledError):
        run(*arguments, processes=1, progress=stop)
    resumed: list[Progress] = []
    run(*arguments, processes=1, progress=resumed.append)
    firsts = {progress.stage: progress.done for progress in reversed(resumed)}
    assert firsts[seen[-1].stage] == seen[-1].done
    assert in_order(asked(tmp_path / "archive", COPIES)) == in_order(true_copies(plan))


def test_killed_for_real_it_goes_on(tmp_path: Path) -> None:
    """The command with two processes, killed several times, ends in the truth, and its rejects are kept once."""
    plan = Plan(seed=6, objects=4_000, messages_per_file=300, malformed_rate=0.02)
    written = simulate(plan, tmp_path / "stream")
    arguments = command(
        "--store", str(tmp_path / "s.db"), "ingest", "--archive-only", "--archive", str(tmp_path / "archive"),
        "--topology", str(tmp_path / "stream" / "topology.json"), "--processes", "2",
        str(tmp_path / "stream" / "events"),
    )  # fmt: skip
    for seconds in (0.8, 1.2, 1.6):
        process = subprocess.Popen(
            arguments, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = subprocess.run(arguments, env=environment(), capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout)["events"] == written.events
    assert in_order(asked(tmp_path / "archive", COPIES)) == in_order(true_copies(plan))
    assert len(list(read_rejects(f"{tmp_path}/s.db.rejects.ndjson"))) == written.malformed


@pytest.mark.parametrize("left", ["read", "settle", "file"])
def test_killed_while_it_cleans_up(left: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill while the traces of a finished run are removed leaves none that the next run would go on with."""
    plan = Plan(seed=8, objects=300)
    simulate(plan, tmp_path / "stream")
    arguments = (planned(tmp_path / "stream", tmp_path / "archive"), tmp_path / "work", tmp_path / "rejects.ndjson", 1)
    whole = shutil.rmtree

    def part(path: Path, *, ignore_errors: bool = False) -> None:
        """Remove all but one stage's files, and die."""
        stages_there = [path / stage for stage in backfill.STAGES if (path / stage).exists()]
        for each in stages_there:
            if each.name != left:
                whole(each)
        if stages_there:
            raise _KilledError
        whole(path, ignore_errors=ignore_errors)

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", part)
        with pytest.raises(_KilledError):
            run(*arguments)
    done = run(*arguments)
    true = in_order(true_copies(plan))
    assert done.rows == len(true)
    assert in_order(asked(tmp_path / "archive", COPIES)) == true
    assert list((tmp_path / "work").iterdir()) == []


def test_logs_are_read_in_the_order_in_which_they_came() -> None:
    """The time in the name of a CloudTrail log counts, not the account or Region before it."""
    late = Found("/AWSLogs/1/CloudTrail/eu-west-1/2026/11/01/1_CloudTrail_eu-west-1_20261101T0010Z_a.json.gz", 1, "")
    early = Found("/AWSLogs/2/CloudTrail/us-east-1/2026/11/01/2_CloudTrail_us-east-1_20261101T0005Z_b.json.gz", 1, "")
    other = Found("/events/1.ndjson", 1, "")
    assert in_order_of_time([late, early, other]) == [other, early, late]


@pytest.mark.parametrize(
    "content",
    [
        b'{"Records":[]}',
        b'{"Records":[]}\n',
        b'{"Records":[]}\n{"Records":[]}\n',
        b'{\n"Records":[]\n}',
        b'[{"a":1},{"b":2}]',
        b'{"Records":[',
        b'{"Records":[]}x',
        b"garbage",
        b"",
    ],
)
@pytest.mark.parametrize("damage", ["none", "plain", "cut", "two members", "tail"])
def test_a_log_is_read_as_any_file(content: bytes, damage: str, tmp_path: Path) -> None:
    """Whatever is in the file, and however it is damaged: the quick way gives what the long way gives."""
    packed = gzip.compress(content)
    raw = {"none": packed, "plain": content, "cut": packed[:-9], "two members": packed * 2, "tail": packed + b"x"}
    path = tmp_path / "log.json.gz"
    path.write_bytes(raw[damage])
    (source,) = reading.open_logs([Found(str(path), 1, "")], Reach())
    seen = []
    for each in (source, FileSource(str(path))):
        pieces = list(each.pieces())
        data = [data for piece in pieces for data in piece.data]
        broken = [(one.reason, bytes(one.data)) for piece in pieces for one in piece.broken if type(one.data) is bytes]
        seen.append((data, broken, sum(piece.messages for piece in pieces), pieces[-1].done))
    assert seen[0] == seen[1]


def test_no_room_is_told_with_what_to_do(tmp_path: Path) -> None:
    """The error names the folder."""
    (tmp_path / "file").write_text("")
    simulate(Plan(objects=10), tmp_path / "stream")
    with pytest.raises(HistoryError, match=r"cannot work in .*file: .*--work"):
        run(planned(tmp_path / "stream", tmp_path / "a"), tmp_path / "file", tmp_path / "r", 1)


def test_archive_only_needs_an_archive_and_sources_that_stay(tmp_path: Path) -> None:
    """Without --archive it is wrong usage; standard input cannot be resumed."""
    store = tmp_path / "s.db"
    assert call(store, "ingest", "--archive-only", str(tmp_path)).exit_code == USAGE
    result = call(store, "ingest", "--archive-only", "--archive", str(tmp_path / "a"), "-")
    assert result.exit_code == FAILED
    assert "standard input cannot be read again" in str(result.exception)


def test_rules_without_since_are_warned_about(tmp_path: Path) -> None:
    """Rules that count from now on expect nothing of old logs, and that is said."""
    simulate(Plan(objects=20), tmp_path / "stream")
    document = json.loads((tmp_path / "stream" / "topology.json").read_text())
    for entry in document:
        entry.pop("since", None)
    (tmp_path / "t.json").write_text(json.dumps(document))
    result = call(
        tmp_path / "s.db", "ingest", "--archive-only", "--archive", str(tmp_path / "a"), "--topology",
        str(tmp_path / "t.json"), str(tmp_path / "stream" / "events"),
    )  # fmt: skip
    assert result.exit_code == OK, result.output
    assert "the rules of media, orders have no `since`" in result.stderr
