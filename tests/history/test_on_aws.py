"""The archive in S3, against the local AWS: logs from a bucket, Parquet into one, and the same SQL in Athena."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from crr_monitor.core.times import DAY_MS
from crr_monitor.history import athena
from crr_monitor.history.driver import HistoryError
from crr_monitor.history.queries import QUERIES
from crr_monitor.history.schema import TABLE, glue_columns, glue_partitions
from crr_monitor.history.views import Span
from crr_monitor.sandbox import Sandbox, Settings
from crr_monitor.simulate import Plan
from crr_monitor.simulate import run as simulate
from crr_monitor.sources.base import SourceError
from crr_monitor.sources.objects import list_logs, object_sources
from crr_monitor.stores.sqlite import SqliteStore
from tests.cli.running import OK, asked, call
from tests.history.making import TRUE_COLUMNS, in_order, true_copies
from tests.integration.helpers import check
from tests.sandbox.making import EAST, HOME

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.aws
PLAN = Plan(
    seed=41, objects=600, kinds=("cloudtrail",), layout="logs", gz=True, messages_per_file=150, failure_rate=0.1
)
LOGS = "s3://trail-logs/AWSLogs"
ARCHIVE = "s3://archive-bucket/crr/history"
PROJECTION = {
    "projection.enabled": "true",
    "projection.day.type": "date",
    "projection.day.format": "yyyy-MM-dd",
    "projection.day.range": "2026-01-01,NOW+30DAYS",
    "projection.hour.type": "integer",
    "projection.hour.range": "0,23",
    "projection.hour.digits": "2",
}
"""Athena works out the partitions; rows of simulated logs may lie in the future."""


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """A local AWS."""
    with Sandbox(Settings(seed=7)) as running:
        yield running


@pytest.fixture
def options(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """How commands reach it: its endpoint, and credentials of the home account in the environment."""
    for name, value in (("ACCESS_KEY_ID", HOME), ("SECRET_ACCESS_KEY", "secret"), ("DEFAULT_REGION", EAST)):
        monkeypatch.setenv(f"AWS_{name}", value)
    return ["--endpoint-url", sandbox.client("s3", HOME, EAST).meta.endpoint_url, "--region", EAST]


@pytest.fixture(scope="module")
def stream(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated trail, and its logs in a bucket, beside a digest file."""
    stream = tmp_path_factory.mktemp("s3") / "stream"
    simulate(PLAN, stream)
    client = sandbox.client("s3", HOME, EAST)
    for bucket in ("trail-logs", "archive-bucket"):
        client.create_bucket(Bucket=bucket)
    for path in sorted((stream / "AWSLogs").rglob("*.gz")):
        client.upload_file(str(path), "trail-logs", str(path.relative_to(stream)))
    client.put_object(Bucket="trail-logs", Key="AWSLogs/1/CloudTrail-Digest/us-east-1/x.json.gz", Body=b"no log")
    return stream


@pytest.fixture
def archive(stream: Path, options: list[str], tmp_path: Path) -> Path:
    """The archive in S3, made of the logs in S3 past the store."""
    result = call(
        tmp_path / "s.db", "ingest", "--archive-only", "--archive", ARCHIVE, "--work", str(tmp_path / "work"),
        "--topology", str(stream / "topology.json"), LOGS, *options,
    )  # fmt: skip
    assert result.exit_code == OK, (result.output, result.exception)
    return stream


def test_logs_are_read_from_a_bucket_into_the_store(stream: Path, options: list[str], tmp_path: Path) -> None:
    """The store ends in the truth; a second ingest passes over every object that it has read."""
    given = ("ingest", "--topology", str(stream / "topology.json"), LOGS, *options)
    first = call(tmp_path / "s.db", *given)
    assert first.exit_code == OK, (first.output, first.exception)
    store = SqliteStore(tmp_path / "s.db")
    found = check(store, stream)
    store.close()
    assert found.none, found.examples
    assert json.loads(call(tmp_path / "s.db", *given).stdout)["messages"] == 0


def test_an_archive_in_s3_is_asked_like_a_folder(archive: Path, options: list[str]) -> None:  # noqa: ARG001
    """DuckDB reads what lies below the prefix, and it is the truth."""
    sql = f"SELECT {TRUE_COLUMNS} FROM copies"
    rows = json.loads(asked("s", "query", "--archive", ARCHIVE, sql, "-o", "json", *options))
    assert in_order(rows) == in_order(true_copies(PLAN))
    report = json.loads(asked("s", "report", "--archive", ARCHIVE, "--month", "2026-11", "-o", "json", *options))
    assert sum(pair["copies"] for pair in report["pairs"]) == sum(row["operation"] == "put" for row in rows)


def test_logs_of_each_account_and_region_alone(stream: Path, options: list[str], tmp_path: Path) -> None:
    """Read by a run for each, into one archive in S3, a copy has both its write and its arrival."""
    folders = sorted({file.parents[3] for file in (stream / "AWSLogs").rglob("*.gz")})
    assert len(folders) > 2
    where = "s3://archive-bucket/crr/alone"
    for folder in folders:
        result = call(
            tmp_path / "s.db", "ingest", "--archive-only", "--archive", where, "--work", str(tmp_path / "work"),
            "--topology", str(stream / "topology.json"), f"s3://trail-logs/{folder.relative_to(stream)}", *options,
        )  # fmt: skip
        assert result.exit_code == OK, (result.output, result.exception)
    sql = f"SELECT {TRUE_COLUMNS} FROM copies"
    rows = json.loads(asked("s", "query", "--archive", where, sql, "-o", "json", *options))
    assert in_order(rows) == in_order(true_copies(PLAN))


@pytest.fixture
def table(sandbox: Sandbox, archive: Path) -> Any:  # noqa: ANN401, ARG001
    """A Glue table over the archive with the declared columns; gives Athena's client."""
    glue = sandbox.client("glue", HOME, EAST)
    serde = "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe"
    glue.create_database(DatabaseInput={"Name": "history"})
    glue.create_table(
        DatabaseName="history",
        TableInput={
            "Name": TABLE,
            "TableType": "EXTERNAL_TABLE",
            "Parameters": PROJECTION,
            "PartitionKeys": glue_partitions(),
            "StorageDescriptor": {
                "Columns": glue_columns(),
                "Location": f"{ARCHIVE}/",
                "InputFormat": "org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat",
                "OutputFormat": "org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat",
                "SerdeInfo": {"SerializationLibrary": serde},
            },
        },
    )
    client = sandbox.client("athena", HOME, EAST)
    results = {"ResultConfiguration": {"OutputLocation": "s3://archive-bucket/results/"}}
    client.create_work_group(Name="history", Configuration=results)
    yield client
    client.delete_work_group(WorkGroup="history", RecursiveDeleteOption=True)
    glue.delete_database(Name="history")


def test_athena_and_duckdb_give_the_same_answers(table: Any, options: list[str]) -> None:  # noqa: ANN401, ARG001
    """Every shipped query is one text, and both engines answer it alike."""
    times = ("--since", "2026-11-01T00:00:00Z", "--until", "2026-11-03T00:00:00Z")
    there = ("--athena", "--workgroup", "history", "--database", "history")
    for name in QUERIES:
        given = ("query", "--name", name, *times, "-o", "json", *options)
        ours = json.loads(asked("s", *given, "--archive", ARCHIVE))
        theirs = json.loads(asked("s", *given, *there))
        assert ours
        assert theirs == ours, name


def test_what_athena_refuses_is_told(table: Any) -> None:  # noqa: ANN401
    """A query that fails ends with Athena's own words; so does one that cannot be started."""
    with pytest.raises(HistoryError, match=r"Athena could not run the query: .*nonesuch"):
        athena.ask(table, "SELECT nonesuch FROM archive", "history", "history")
    with pytest.raises(HistoryError, match="Athena refused the query"):
        athena.ask(table, "SELECT 1", "no-such-group", "history")


def test_the_archive_can_be_asked_for_some_days_only(archive: Path, options: list[str]) -> None:  # noqa: ARG001
    """What cannot hold rows of the time is not fetched."""
    span = Span(PLAN.start - 60 * DAY_MS, PLAN.start - 50 * DAY_MS)
    assert span.days[1] < "2026-11-01"
    given = ("query", "--name", "slowest", "--archive", ARCHIVE, "-o", "json", *options)
    result = call("s", *given, "--since", "2026-09-01T00:00:00Z", "--until", "2026-09-10T00:00:00Z")
    assert "is empty" in str(result.exception)


def test_a_bucket_that_cannot_be_listed_is_named(sandbox: Sandbox, stream: Path) -> None:  # noqa: ARG001
    """No such bucket, and a prefix without logs, say what to check."""
    client = sandbox.client("s3", HOME, EAST)
    with pytest.raises(SourceError, match=r"s3://no-such-bucket-here/x: .*s3:ListBucket"):
        list_logs(client, "s3://no-such-bucket-here/x")
    with pytest.raises(SourceError, match="no logs below this prefix"):
        list_logs(client, "s3://trail-logs/other/")


def test_objects_are_fetched_ahead_and_removed(sandbox: Sandbox, stream: Path) -> None:  # noqa: ARG001
    """Read one after the other, from any of them on, each gives its content."""
    client = sandbox.client("s3", HOME, EAST)
    logs = list_logs(client, LOGS)
    sources = object_sources(client, logs)
    assert not any("Digest" in source.name for source in sources)
    sizes = [sum(len(data) for piece in source.pieces() for data in piece.data) for source in (*sources[2:], *sources)]
    assert sizes[len(sources) - 2 :][2:] == sizes[: len(sources) - 2]
    assert min(sizes) > 0
