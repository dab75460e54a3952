"""``crr-monitor query`` and ``report``: SQL over the archive in every form, read-only, with errors that help."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from crr_monitor.core.archive import all_rows
from crr_monitor.history.ask import opened
from tests.cli.running import FAILED, INTERRUPTED, OK, USAGE, asked, call, command, environment, run
from tests.factories import AT, failed, record_of, replica, user_write
from tests.history.making import archived

SQL = "SELECT key, status, lag_seconds, written_at, size FROM copies ORDER BY key"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Two copies, one of them failed."""
    records = [
        record_of(user_write(key="a", size=5), replica(key="a")),
        record_of(user_write(key="b"), failed(key="b")),
    ]
    return archived(tmp_path / "archive", [row for record in records for row in all_rows(record, AT + 60_000, "open")])


def test_every_form_has_the_same_rows(archive: Path) -> None:
    """JSON, lines of JSON and CSV say the same; times are RFC 3339, unknown is empty or null."""
    expected: list[dict[str, object]] = [
        {"key": "a", "status": "COMPLETED", "lag_seconds": 10.0, "written_at": "2026-11-22T07:00:00.000Z", "size": 5},
        {"key": "b", "status": "FAILED", "lag_seconds": None, "written_at": "2026-11-22T07:00:00.000Z", "size": None},
    ]
    given = ("query", "--archive", str(archive), SQL, "-o")
    assert json.loads(asked("s", *given, "json")) == expected
    assert [json.loads(line) for line in asked("s", *given, "ndjson").splitlines()] == expected
    rows = list(csv.DictReader(io.StringIO(asked("s", *given, "csv"))))
    assert rows == [{name: "" if value is None else str(value) for name, value in row.items()} for row in expected]


def test_the_table_is_for_people(archive: Path) -> None:
    """Numbers are right, unknown is a dash."""
    assert asked("s", "query", "--archive", str(archive), SQL).splitlines() == [
        "key  status     lag_seconds  written_at                size",
        "a    COMPLETED           10  2026-11-22T07:00:00.000Z     5",
        "b    FAILED               -  2026-11-22T07:00:00.000Z     -",
    ]


def test_an_empty_answer_says_so(archive: Path) -> None:
    """Where no row is found, people are told on standard error; programs get an empty list."""
    result = call("s", "query", "--archive", str(archive), "SELECT key FROM copies WHERE key = 'c'")
    assert (result.exit_code, result.stdout, result.stderr) == (OK, "", "the answer has no rows\n")
    assert (
        asked("s", "query", "--archive", str(archive), "SELECT key FROM copies WHERE key = 'c'", "-o", "json") == "[]\n"
    )


def test_parquet_goes_to_standard_output(archive: Path, tmp_path: Path) -> None:
    """The answer as a Parquet file can be asked again; a comment at the end of the query does no harm."""
    result = call("s", "query", "--archive", str(archive), f"{SQL} -- all", "-o", "parquet")
    assert result.exit_code == OK
    (tmp_path / "answer.parquet").write_bytes(result.stdout_bytes)
    with opened(archive, tmp_path) as database:
        answer = f"SELECT key, size FROM '{tmp_path}/answer.parquet' ORDER BY key"  # noqa: S608 - the test's own name
        found = database.execute(answer).fetchall()
    assert found == [("a", 5), ("b", None)]


@pytest.mark.parametrize(
    "sql",
    [
        "COPY copies TO 'stolen.csv'",
        "SELECT 1; COPY copies TO 'stolen.csv'",
        "EXPLAIN ANALYZE COPY copies TO 'stolen.csv'",
        "CREATE TABLE t AS SELECT 1",
        "ATTACH 'stolen.db'",
        "SET enable_external_access = true",
        "INSTALL httpfs",
    ],
)
def test_nothing_but_one_select_is_run(sql: str, archive: Path) -> None:
    """Whatever could write, attach or set is refused before it runs."""
    result = call("s", "query", "--archive", str(archive), sql)
    assert result.exit_code == FAILED
    assert str(result.exception) == "only one SELECT is allowed: the archive is read-only"


@pytest.mark.parametrize(
    "sql", ["SELECT * FROM read_csv('/etc/passwd')", "SELECT * FROM read_text('/etc/passwd')", "FROM '/etc/passwd.csv'"]
)
def test_no_other_file_is_read(sql: str, archive: Path) -> None:
    """A query sees the archive, and nothing else of the machine."""
    result = call("s", "query", "--archive", str(archive), sql)
    assert result.exit_code == FAILED
    assert "disabled by configuration" in str(result.exception)


def test_a_mistake_in_sql_is_one_line(archive: Path) -> None:
    """A wrong name is told with what there is, in one line and without a traceback."""
    done = run("query", "--archive", str(archive), "SELECT nope FROM copies")
    assert done.returncode == FAILED
    assert done.stderr.startswith('crr-monitor: Binder Error: Referenced column "nope" not found')
    assert len(done.stderr.splitlines()) == 1


def test_no_archive_says_how_to_make_one(tmp_path: Path) -> None:
    """A folder that is missing, and one without files, are told apart."""
    result = call("s", "query", "--archive", str(tmp_path / "none"), "SELECT 1")
    assert "crr-monitor ingest --archive" in str(result.exception)
    result = call("s", "query", "--archive", str(tmp_path), "SELECT 1")
    assert "is empty" in str(result.exception)


def test_shipped_queries_are_listed_shown_and_run(archive: Path) -> None:
    """What --list names can be run, and --show prints its SQL."""
    named = json.loads(asked("s", "query", "--list", "-o", "json"))
    assert [query["name"] for query in named][:2] == ["lag-by-day", "rpo-by-month"]
    for query in named:
        assert asked("s", "query", "--archive", str(archive), "--name", query["name"], "-o", "json")
        assert asked("s", "query", "--name", query["name"], "--show").startswith("WITH copies AS (SELECT")
    (row,) = json.loads(asked("s", "query", "--archive", str(archive), "--name", "failures-by-reason", "-o", "json"))
    assert (row["reason"], row["failed"], row["still_failed"]) == ("DstKmsKeyNotFound", 1, 1)


def test_one_query_at_a_time(archive: Path) -> None:
    """No SQL, or SQL and a name, is wrong usage; so are times in the wrong order."""
    assert call("s", "query", "--archive", str(archive)).exit_code == USAGE
    assert call("s", "query", "--archive", str(archive), " ").exit_code == USAGE
    assert call("s", "query", "--archive", str(archive), "SELECT 1", "--name", "slowest").exit_code == USAGE
    wrong = ("--since", "2026-11-02T00:00:00Z", "--until", "2026-11-01T00:00:00Z")
    assert call("s", "query", "--archive", str(archive), "--name", "slowest", *wrong).exit_code == USAGE
    assert call("s", "query", "SELECT 1").exit_code == USAGE


def test_the_report_has_three_forms(archive: Path) -> None:
    """JSON, a page, and Markdown tell of the same month."""
    given = ("report", "--archive", str(archive), "--month", "2026-11")
    body = json.loads(asked("s", *given, "-o", "json"))
    assert [pair["copies"] for pair in body["pairs"]] == [2]
    assert "<h1>S3 replication in 2026-11</h1>" in asked("s", *given)
    assert asked("s", *given, "-o", "md").startswith("# S3 replication in 2026-11\n")


def test_a_pair_that_is_none_is_wrong_usage(archive: Path) -> None:
    """A pair is SOURCE:DESTINATION."""
    given = ("report", "--archive", str(archive), "--month", "2026-11", "--pair")
    assert call("s", *given, ":").exit_code == USAGE
    assert call("s", *given, "a:b:c").exit_code == USAGE


def test_a_damaged_file_is_named_with_what_to_do(archive: Path) -> None:
    """The error names the file, and says that it may be moved away."""
    (file,) = archive.glob("day=*/hour=*/*.parquet")
    file.write_bytes(b"garbage")
    result = run("--store", "s", "query", "--archive", str(archive), "SELECT 1 FROM copies")
    assert result.returncode == FAILED
    assert str(file) in result.stderr
    assert result.stderr.endswith("(the file is damaged: restore it, or move it out of the archive)\n")


def test_a_file_is_no_archive(archive: Path) -> None:
    """Whoever names a file of the archive is told to name its folder."""
    (file,) = archive.glob("day=*/hour=*/*.parquet")
    result = run("--store", "s", "query", "--archive", str(file), "SELECT 1")
    assert result.returncode == FAILED
    assert result.stderr == (
        f"crr-monitor: {file} is a file: name the archive's folder, in which there are folders day=YYYY-MM-DD\n"
    )


def test_a_month_that_has_not_begun_is_refused(archive: Path) -> None:
    """There is nothing to report of the future."""
    result = run("--store", "s", "report", "--archive", str(archive), "--month", "9998-01")
    assert result.returncode == FAILED
    assert result.stderr == "crr-monitor: the month 9998-01 has not begun: name one that has\n"


@pytest.mark.parametrize("month", ["2026-13", "2026-1", "march", "9999-12", "1969-12", ""])
def test_what_is_no_month_is_wrong_usage(month: str, archive: Path) -> None:
    """A month that is written in another way is a wrong value of an option, and the option is named."""
    result = call("s", "report", "--archive", str(archive), "--month", month)
    assert result.exit_code == USAGE
    assert f"Invalid value for '--month': {month!r} is " in result.stderr


@pytest.mark.parametrize("command", [("query", SQL), ("report", "--month", "2026-11")], ids=["query", "report"])
def test_what_is_no_size_is_wrong_usage(command: tuple[str, ...], archive: Path) -> None:
    """A size without a unit, or none at all, is a wrong value, and the option is named."""
    for size in ("lots", "512", "-1GB"):
        result = call("s", *command, "--archive", str(archive), "--memory", size)
        assert result.exit_code == USAGE
        assert f"Invalid value for '--memory': {size!r} is no size" in result.stderr
    assert call("s", *command, "--archive", str(archive), "--memory", "0.5GiB").exit_code == OK


def test_a_time_beside_sql_is_not_ignored(archive: Path) -> None:
    """``--since`` is for the shipped queries: with SQL of one's own it is wrong usage, and not an answer about all."""
    result = call("s", "query", "--archive", str(archive), SQL, "--since", "1d")
    assert result.exit_code == USAGE
    assert "--since and --until go with --name" in result.stderr


IN_ONE_TASK = "SELECT max(hash(a.range, b.range)) AS n FROM range(10000000) AS a, range(100000) AS b"
IN_MANY_TASKS = "SELECT sum(range) AS n FROM range(1000000000000)"
"""Hours of work for DuckDB, in which it looks for signals hardly ever, or often."""


def _at_work(process: subprocess.Popen[str]) -> bool:
    """Whether it has computed for so long that it can only be in the query."""
    fields = Path(f"/proc/{process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") >= STARTED_SECONDS


STARTED_SECONDS = 2.0
"""Of processor time; starting takes less than half a second of it."""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="only Linux tells how long a process has computed")
@pytest.mark.parametrize("sql", [IN_ONE_TASK, IN_MANY_TASKS], ids=["in one task", "in many tasks"])
def test_interrupted_in_a_long_query(archive: Path, sql: str) -> None:
    """Ctrl-C while DuckDB computes ends it at once: status 130, one line, no traceback, nothing on standard output."""
    arguments = command("query", "--archive", str(archive), sql)
    with subprocess.Popen(
        arguments, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8"
    ) as process:
        end = time.monotonic() + 60
        while process.poll() is None and not _at_work(process) and time.monotonic() < end:
            time.sleep(0.05)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        try:
            output, error = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, output, error) == (INTERRUPTED, "", "\ncrr-monitor: interrupted\n")
