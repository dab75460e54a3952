"""``crr-monitor simulate``: writing a simulation, and checking a store with its truth."""

from __future__ import annotations

import inspect
import json
from typing import TYPE_CHECKING

import click
import msgspec
import pytest

from crr_monitor.cli.simulate import command
from crr_monitor.simulate import Plan
from tests.cli.running import FAILED, OK, USAGE, asked, call, look, run

if TYPE_CHECKING:
    from pathlib import Path

SMALL = ("simulate", "--objects", "60", "--seed", "5", "--failure-rate", "0.2")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Where a store may be made."""
    return tmp_path / "a.db"


def test_stream_ingest_and_check(store: Path, tmp_path: Path) -> None:
    """A simulation that was ingested agrees with its truth, as real processes."""
    day = tmp_path / "day"
    made = run(*SMALL, "--out", str(day))
    assert (made.returncode, json.loads(made.stdout)["objects"]) == (OK, 60)
    assert made.stderr.splitlines()[1] == f"next: crr-monitor ingest --topology {day}/topology.json {day}/events"
    read = run("--store", str(store), "ingest", "--topology", f"{day}/topology.json", f"{day}/events")
    told, counted = json.loads(made.stdout), json.loads(read.stdout)
    assert [counted[name] for name in ("messages", "events", "ignored", "malformed")] == [
        told[name] for name in ("messages", "events", "ignored", "malformed")
    ]
    checked = run("--store", str(store), "simulate", "--check", f"{day}/truth.ndjson")
    found = {"compared": told["records"], "missing": 0, "extra": 0, "different": 0}
    assert (checked.returncode, json.loads(checked.stdout)) == (OK, found)
    assert checked.stderr == "the store holds the truth and nothing else\n"


def test_check_names_the_differences(store: Path, tmp_path: Path) -> None:
    """Where store and truth differ, the check counts and names the differences, and ends with 1."""
    day = tmp_path / "day"
    asked(store, *SMALL, "--out", str(day))
    asked(store, "ingest", "--topology", f"{day}/topology.json", f"{day}/events")
    truth = [json.loads(line) for line in (day / "truth.ndjson").read_text(encoding="utf-8").splitlines()]
    right = next(record for record in truth if "size" in record)
    changed, missing = {**right, "size": -1}, {**right, "version_id": "nonesuch"}
    (day / "other").write_bytes(b"".join(msgspec.json.encode(record) + b"\n" for record in (changed, missing)))
    result = call(store, "simulate", "--check", str(day / "other"))
    counts = {"compared": 2, "missing": 1, "extra": len(truth) - 1, "different": 1}
    assert (result.exit_code, json.loads(result.stdout)) == (FAILED, counts)
    sentences = result.stderr.splitlines()
    assert sentences[0].endswith(f"version {changed['version_id']}: size should be -1, is {right['size']}")
    assert sentences[1].endswith("version nonesuch: record should be present, is absent")


def test_check_without_a_truth(store: Path, tmp_path: Path) -> None:
    """A truth file that is missing, or is none, is told in a line."""
    asked(store, *SMALL, "--out", str(tmp_path / "day"))
    asked(store, "ingest", f"{tmp_path}/day/events")
    for name, told in (("none", "cannot read the truth file"), ("day/topology.json", "is no record of a truth file")):
        done = run("--store", str(store), "simulate", "--check", str(tmp_path / name))
        assert (done.returncode, done.stderr.count("\n"), told in done.stderr) == (FAILED, 1, True)


def test_same_seed_same_bytes(store: Path, tmp_path: Path) -> None:
    """The same command writes the same bytes."""
    for name in ("one", "two"):
        asked(store, *SMALL, "--out", str(tmp_path / name))
    one, two = ((tmp_path / name / "events" / "000001.ndjson").read_bytes() for name in ("one", "two"))
    assert one == two


def test_every_value_of_a_plan_has_an_option() -> None:
    """What can be planned can be given, and an option's default is the plan's."""
    options = {option.name: option for option in command.params if isinstance(option, click.Option)}
    assert sorted(set(options) - {"out", "check"}) == sorted(Plan.__struct_fields__)
    assert set(inspect.signature(Plan).parameters) == set(Plan.__struct_fields__)


def test_log_files(store: Path, tmp_path: Path) -> None:
    """The layout of log files is CloudTrail's, without having to say so twice."""
    made = call(store, *SMALL, "--layout", "logs", "--gz", "--out", str(tmp_path / "day"))
    assert made.exit_code == OK
    assert made.stderr.splitlines()[1].endswith(f"{tmp_path}/day/AWSLogs")
    assert list((tmp_path / "day" / "AWSLogs").rglob("*_CloudTrail_*.json.gz")) != []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "give one of --out and --check"),
        (["--out", "a", "--check", "b"], "give one of --out and --check"),
        (["--check", "b", "--lag-p50", "1s"], "--check excludes --lag-p50"),
        (["--out", "a", "--failure-rate", "2"], "failure_rate is 2.0: it has to be from 0 to 1"),
        (["--out", "a", "--objects", "many"], "'many' is not a valid integer"),
        (["--out", "a", "--kinds", "cloudtrail,fax"], "'fax' is none of cloudtrail, notification, eventbridge"),
        (["--out", "a", "--start", "7d"], "--start has to be a time as 2026-11-22T07:00:00Z"),
        (["--out", "a", "--layout", "logs", "--kinds", "eventbridge"], "log files hold CloudTrail events only"),
    ],
)
def test_wrong_values(arguments: list[str], told: str, store: Path) -> None:
    """A wrong value, or what does not go together, is told and ends with 2."""
    result = call(store, "simulate", *arguments)
    assert (result.exit_code, result.stdout) == (USAGE, "")
    assert told in result.stderr


def test_folder_with_something_else(tmp_path: Path) -> None:
    """A folder that holds other things is refused and left alone."""
    (tmp_path / "notes").write_text("mine")
    done = run(*SMALL, "--out", str(tmp_path))
    line = f"crr-monitor: {tmp_path} is not empty and no simulation: choose another folder, or empty it\n"
    assert (done.returncode, done.stdout, done.stderr) == (FAILED, "", line)
    assert [path.name for path in tmp_path.iterdir()] == ["notes"]


def test_progress_on_a_terminal(tmp_path: Path) -> None:
    """On a terminal a bar shows how many objects are written."""
    assert "100%" in look(*SMALL, "--objects", "3000", "--out", str(tmp_path / "day"))
