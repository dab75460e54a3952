"""A simulation as files: complete, repeatable in place, and never over somebody else's data."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from crr_monitor.simulate import Plan, SimulateError, messages, run, topology, truth
from crr_monitor.simulate.files import MARKER
from tests.simulate.reader import records

if TYPE_CHECKING:
    from pathlib import Path

LOGS = Plan(objects=200, kinds=("cloudtrail",), layout="logs", messages_per_file=40, malformed_rate=0.05)


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_lines(tmp_path: Path) -> None:
    """Events, topology and truth are those of the plan, and the summary counts them."""
    plan = Plan(objects=300, malformed_rate=0.05)
    summary = run(plan, tmp_path / "out")
    found = content(tmp_path / "out")
    bodies = [body for _, body in messages(plan)]
    expected = list(truth(plan))
    assert set(found) == {MARKER, "topology.json", "truth.ndjson", "events/000001.ndjson"}
    assert found["events/000001.ndjson"] == b"".join(body + b"\n" for body in bodies)
    assert json.loads(found["topology.json"]) == topology(plan)
    assert [json.loads(line) for line in found["truth.ndjson"].splitlines()] == expected
    assert (summary.objects, summary.messages, summary.records) == (300, len(bodies), len(expected))
    assert summary.copies == sum(len(record["destinations"]) for record in expected)
    assert summary.bytes == len(found["events/000001.ndjson"])
    assert summary.ignored == sum(summary.ignored_by.values()) > 0
    assert summary.malformed > 0


def test_rotation(tmp_path: Path) -> None:
    """A new file begins after so many messages; together the files hold the stream in its order."""
    plan = Plan(objects=100, messages_per_file=50)
    summary = run(plan, tmp_path)
    files = sorted((tmp_path / "events").iterdir())
    counts = [len(path.read_bytes().splitlines()) for path in files]
    assert [path.name for path in files] == [f"{number:06d}.ndjson" for number in range(1, summary.files + 1)]
    assert set(counts[:-1]) == {50}
    assert b"".join(path.read_bytes() for path in files) == b"".join(body + b"\n" for _, body in messages(plan))


def test_gzip(tmp_path: Path) -> None:
    """Compressed files hold the same lines, and are the same bytes in every run."""
    run(Plan(objects=100, gz=True), tmp_path / "a")
    run(Plan(objects=100, gz=True), tmp_path / "b")
    packed = (tmp_path / "a/events/000001.ndjson.gz").read_bytes()
    assert packed == (tmp_path / "b/events/000001.ndjson.gz").read_bytes()
    assert gzip.decompress(packed) == b"".join(body + b"\n" for _, body in messages(Plan(objects=100)))


@pytest.mark.parametrize("gz", [False, True])
def test_logs(tmp_path: Path, *, gz: bool) -> None:
    """CloudTrail log files lie where CloudTrail puts them, each record in a file of its account and Region."""
    plan = replace(LOGS, gz=gz, malformed_rate=0)
    summary = run(plan, tmp_path)
    suffix = ".json.gz" if gz else ".json"
    files = [path for path in (tmp_path / "AWSLogs").rglob("*") if path.is_file()]
    bodies: list[bytes] = []
    for path in files:
        account, trail, region, year, month, day, name = path.relative_to(tmp_path / "AWSLogs").parts
        assert trail == "CloudTrail"
        assert name.startswith(f"{account}_CloudTrail_{region}_{year}{month}{day}T")
        assert name.endswith(suffix)
        data = gzip.decompress(path.read_bytes()) if gz else path.read_bytes()
        found = json.loads(data)["Records"]
        assert 0 < len(found) <= 40
        assert {(record["recipientAccountId"], record["awsRegion"]) for record in found} == {(account, region)}
        bodies += [json.dumps(record).encode() for record in found]
    assert summary.messages == summary.files == len(files)
    told = records(bodies, topology(plan))
    assert set(told) == {record["version_id"] for record in truth(plan)}
    assert len(bodies) == summary.events + summary.ignored


def test_malformed_in_logs(tmp_path: Path) -> None:
    """Broken records leave the log file around them whole: they only lack bucket, key or time."""
    summary = run(LOGS, tmp_path)
    files = (tmp_path / "AWSLogs").rglob("*.json")
    found = [record for path in files for record in json.loads(path.read_bytes())["Records"]]
    of_s3 = [record for record in found if record["eventSource"] == "s3.amazonaws.com"]
    broken = [r for r in of_s3 if "eventTime" not in r or {"bucketName", "key"} - set(r["requestParameters"])]
    assert len(broken) == summary.malformed > 0
    assert len(found) == summary.events + summary.ignored + summary.malformed


def test_again_in_the_same_folder(tmp_path: Path) -> None:
    """A second run replaces the first, whatever its layout was, and leaves files of others alone."""
    run(LOGS, tmp_path / "a")
    (tmp_path / "a/notes.txt").write_text("mine")
    run(Plan(objects=50), tmp_path / "a")
    run(Plan(objects=50), tmp_path / "b")
    assert content(tmp_path / "a") == {**content(tmp_path / "b"), "notes.txt": b"mine"}


def test_after_a_kill(tmp_path: Path) -> None:
    """A run that broke off can be repeated in its folder."""

    def stop(done: int) -> None:
        raise KeyboardInterrupt(done)

    with pytest.raises(KeyboardInterrupt):
        run(Plan(objects=50), tmp_path / "a", stop)
    run(Plan(objects=50), tmp_path / "a")
    run(Plan(objects=50), tmp_path / "b")
    assert content(tmp_path / "a") == content(tmp_path / "b")


def test_foreign_folder(tmp_path: Path) -> None:
    """A folder with anything else in it is refused and left as it is."""
    (tmp_path / "events").mkdir()
    (tmp_path / "events/precious.ndjson").write_text("{}")
    with pytest.raises(SimulateError, match="is not empty and no simulation: choose another folder"):
        run(Plan(objects=5), tmp_path)
    assert content(tmp_path) == {"events/precious.ndjson": b"{}"}


def test_unwritable(tmp_path: Path) -> None:
    """Where the folder cannot be made, the error names it and why."""
    (tmp_path / "file").write_text("")
    with pytest.raises(SimulateError, match=r"cannot write the simulation to .*file/out: Not a directory"):
        run(Plan(objects=5), tmp_path / "file" / "out")


def test_progress(tmp_path: Path) -> None:
    """Progress is told every thousand objects, and at the end."""
    told: list[int] = []
    run(Plan(objects=2_500), tmp_path, told.append)
    assert told == [1_000, 2_000, 2_500]


def test_nothing_to_do(tmp_path: Path) -> None:
    """Without objects there are the folders, a topology and an empty truth."""
    summary = run(Plan(objects=0), tmp_path)
    assert (summary.messages, summary.records, summary.files) == (0, 0, 0)
    assert (tmp_path / "truth.ndjson").read_bytes() == b""
