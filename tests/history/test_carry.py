"""Logs of one time, read by several runs past the store: the archive's last word is that of one run over all."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from crr_monitor.core.archive import all_rows
from crr_monitor.core.merge import merge
from crr_monitor.core.status import derive
from crr_monitor.core.times import DAY_MS
from crr_monitor.core.topology import Topology
from crr_monitor.core.topology_document import parse_topology
from crr_monitor.history import backfill, spill, stages
from crr_monitor.history.backfill import make_plan, run
from crr_monitor.history.carry import Looked, carried_parts, evidence_of, look, take_up
from crr_monitor.history.coverage import time_of_logs
from crr_monitor.history.s3 import Reach
from crr_monitor.history.spill import read_blocks
from crr_monitor.simulate import Plan
from crr_monitor.simulate import run as simulate
from crr_monitor.sources.files import open_sources
from crr_monitor.sources.objects import Found
from tests.factories import AT, ONE_WAY, REPLICA, answered, confirmed, denied_read, failed, replica, user_write
from tests.history.making import RECORDED, TRUE_COLUMNS, archived, asked, in_order, rows_of, simulated, true_copies
from tests.messages import cloudtrail, cloudtrail_replica, encoded

if TYPE_CHECKING:
    from pathlib import Path

    from crr_monitor.core.events import Event
    from crr_monitor.core.evidence import Evidence

COPIES = f"SELECT {TRUE_COLUMNS} FROM copies"
TROUBLE: dict[str, Any] = {
    "objects": 300,
    "pairs": 4,
    "failure_rate": 0.3,
    "repaired_share": 0.5,
    "pending_rate": 0.1,
    "reorder_ms": 0,
    "messages_per_file": 30,
}


class Runs:
    """A simulated stream, of which parts are read into one archive."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self.plan = plan
        self.folder = folder
        self.archive = folder / "archive"
        simulate(plan, folder / "stream")
        self.logs = [Found(each.name, each.size or 0, "") for each in open_sources([str(folder / "stream" / "events")])]

    def parts(self, *shares: float) -> list[list[Found]]:
        """The logs in order, cut at shares of them."""
        cuts = [0, *(int(len(self.logs) * share) for share in shares), len(self.logs)]
        return [self.logs[begin:end] for begin, end in pairwise(cuts)]

    def read(self, logs: list[Found]) -> None:
        """One run."""
        rules = Topology().learn(parse_topology(json.loads((self.folder / "stream" / "topology.json").read_text())), 0)
        run(make_plan(logs, rules, str(self.archive), Reach()), self.folder / "work", self.folder / "rejects.ndjson", 1)

    @property
    def copies(self) -> list[dict[str, Any]]:
        """The last word of each copy."""
        return in_order(asked(self.archive, COPIES))

    @property
    def true(self) -> list[dict[str, Any]]:
        """What was simulated."""
        return in_order(true_copies(self.plan))


@pytest.mark.parametrize("shares", [(0.1,), (0.5,), (0.9,), (0.2, 0.4, 0.6, 0.8)])
@pytest.mark.parametrize("kind", ["cloudtrail", "notification"])
def test_several_runs_say_what_one_says(kind: Any, shares: tuple[float, ...], tmp_path: Path) -> None:  # noqa: ANN401
    """Wherever the logs are cut, each copy has its times, its failure, its repair and its deletion."""
    runs = Runs(Plan(seed=41, kinds=(kind,), delete_rate=0.2, **TROUBLE), tmp_path)
    for part in runs.parts(*shares):
        runs.read(part)
    assert runs.copies == runs.true
    repaired = [copy for copy in runs.true if copy["status"] == "COMPLETED" and copy["failed_at"] is not None]
    (found,) = asked(runs.archive, "SELECT count(*) AS n FROM copies WHERE repaired")
    assert found["n"] == len(repaired) > 0


def test_later_logs_may_be_read_first(tmp_path: Path) -> None:
    """What happened to a version whose write was read only afterwards is put together just the same."""
    runs = Runs(Plan(seed=42, kinds=("cloudtrail",), duplicate_rate=0.0, **TROUBLE), tmp_path)
    for part in reversed(runs.parts(0.5)):
        runs.read(part)
    assert runs.copies == runs.true


def test_logs_may_overlap(tmp_path: Path) -> None:
    """A part that two runs read counts once."""
    runs = Runs(Plan(seed=43, kinds=("cloudtrail",), delete_rate=0.2, **TROUBLE), tmp_path)
    first, both, last = runs.parts(0.4, 0.6)
    runs.read(first + both)
    runs.read(both + last)
    assert runs.copies == runs.true


def test_in_small_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many partitions, parts and passes, as a hundred gigabytes have them, take up what was left to them."""
    monkeypatch.setattr(backfill, "CHUNK_BYTES", 100_000)
    monkeypatch.setattr(backfill, "PARTITION_BYTES", 20_000)
    monkeypatch.setattr(stages, "SETTLE_BYTES", 5_000)
    monkeypatch.setattr(spill, "PART_BYTES", 5_000)
    runs = Runs(Plan(seed=44, kinds=("cloudtrail",), **TROUBLE), tmp_path)
    for part in runs.parts(0.5):
        runs.read(part)
    assert runs.copies == runs.true


def test_the_same_logs_again_take_over_nothing_of_their_own(tmp_path: Path) -> None:
    """Read once more, the second part gives the rows that it gave before."""
    runs = Runs(Plan(seed=45, kinds=("cloudtrail",), **TROUBLE), tmp_path)
    first, second = runs.parts(0.5)
    runs.read(first)
    runs.read(second)
    before = asked(runs.archive, "SELECT * FROM archive ORDER BY ALL")
    runs.read(second)
    assert asked(runs.archive, "SELECT * FROM archive ORDER BY ALL") == before


def test_what_turns_out_to_be_no_copy_is_withdrawn(tmp_path: Path) -> None:
    """A denied read of a version names no destination; once its write tells where it goes, there is one copy."""
    archive = archived(tmp_path / "archive", rows_of(denied_read(whole_seconds=True)))
    assert asked(archive, "SELECT destination_bucket FROM copies") == [{"destination_bucket": None}]
    log = tmp_path / "log.json"
    log.write_bytes(encoded({"Records": [cloudtrail(), cloudtrail_replica(eventTime="2026-11-22T07:30:00Z")]}))
    plan = make_plan([Found(str(log), log.stat().st_size, "")], ONE_WAY, str(archive), Reach())
    run(plan, tmp_path / "work", tmp_path / "rejects.ndjson", 1)
    told = asked(archive, "SELECT destination_bucket, status, repaired, lag_seconds FROM copies")
    assert told == [{"destination_bucket": "orders-dr", "status": "COMPLETED", "repaired": True, "lag_seconds": 1800.0}]


# Looking --------------------------------------------------------------------------------------------------------------


LOG = "AWSLogs/111122223333_CloudTrail_eu-west-1_20261122T0700Z_x.json.gz"


def looked(archive: Path, folder: Path, *logs: str) -> list[Evidence]:
    """What is carried over from an archive."""
    folder.mkdir()
    at = Looked(str(archive), Reach(), logs, "own")
    number = look(at, folder, 2)
    assert look(at, folder, 2) == 0
    blocks = [block for part in range(2) for block in read_blocks(carried_parts(folder), part)]
    known: dict[tuple[str, str], Any] = {(key, version_id): body for block in blocks for key, version_id, body in block}
    assert number == sum(map(len, blocks))
    return list(take_up(known, blocks).values())


def test_only_what_may_still_change_is_taken_over(tmp_path: Path) -> None:
    """A copy whose write and arrival are known is finished; what is pending, failed, or lacks a time is not.

    A repair is taken over, lest the run, which may see its end only, forgets the failure.
    """
    ends: dict[str, list[Event]] = {
        "pending": [user_write(key="pending")],
        "failed": [user_write(key="failed"), failed(key="failed")],
        "unseen": [replica(key="unseen")],
        "done": [user_write(key="done"), replica(key="done")],
        "repaired": [user_write(key="repaired"), failed(key="repaired"), replica(key="repaired", at=AT + DAY_MS)],
    }
    archive = archived(tmp_path / "archive", [row for events in ends.values() for row in rows_of(*events)])
    assert sorted(each.key for each in looked(archive, tmp_path / "work")) == [
        "failed", "pending", "repaired", "unseen",
    ]  # fmt: skip


def test_only_days_around_the_logs_are_looked_at(tmp_path: Path) -> None:
    """Rows that lie 18 days before the first log, or after the last one, are taken over, and no others."""
    for days in (-40, -19, -18, 0, 18, 19, 40):
        archived(tmp_path / "archive", rows_of(user_write(key=str(days), at=AT + days * DAY_MS)), f"day{days}")
    found = looked(tmp_path / "archive", tmp_path / "work", LOG)
    assert sorted(int(each.key) for each in found) == [-18, 0, 18]
    assert len(looked(tmp_path / "archive", tmp_path / "all")) == 7


def test_no_archive_yet(tmp_path: Path) -> None:
    """The first run finds nothing to take over."""
    assert looked(tmp_path / "none", tmp_path / "work") == []


def test_the_time_of_logs_is_in_their_names() -> None:
    """From a quarter of an hour before the first to the last; one log without such a name, and it is not known."""
    names = [f"AWSLogs/111122223333_CloudTrail_eu-west-1_20261122T{hour}00Z_x.json.gz" for hour in ("07", "09")]
    assert time_of_logs(names) == (AT - 900_000, AT + 7_200_000)
    assert time_of_logs([*names, "events.json"]) is None
    assert time_of_logs([]) is None


# Rows as evidence -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["cloudtrail", "notification"])
def test_rows_are_evidence_of_themselves(kind: Any) -> None:  # noqa: ANN401
    """What the rows of a version say, taken as evidence, gives these rows again, whatever happened to it."""
    plan = Plan(seed=46, kinds=(kind,), delete_rate=0.2, loss_rate=0.1, **TROUBLE)
    records, newest = simulated(plan)
    seen: set[str] = set()
    for record in records:
        rows = list(all_rows(record, newest, "open"))
        if not rows:
            continue
        whole, *parts = (evidence_of(row) for row in rows)
        for part in parts:
            whole = merge(whole, part)
        seen.update(row.status for row in rows)
        assert list(all_rows(derive(whole), newest, "open")) == rows
    assert seen == {"COMPLETED", "FAILED", "SOURCE_DELETED", "PENDING"}


@pytest.mark.parametrize(
    "events",
    [
        pytest.param([user_write(), answered("completed")], id="there"),
        pytest.param([answered("replica", REPLICA)], id="there, from nobody knows where"),
        pytest.param([user_write(), answered("failed")], id="failed"),
        pytest.param([user_write(), answered("not-eligible")], id="not eligible"),
        pytest.param([denied_read()], id="failed, and nobody said where"),
        pytest.param([confirmed(None)], id="there, and nobody said where"),
    ],
)
def test_what_s3_said_is_evidence_of_itself(events: list[Event]) -> None:
    """Copies that are known by S3's word have no more times afterwards than they had before."""
    (row,) = rows_of(*events)
    assert list(all_rows(derive(evidence_of(row)), RECORDED, "open")) == [row]
