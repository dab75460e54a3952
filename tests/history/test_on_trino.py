"""The archive's SQL on Trino, which Amazon Athena's engine is made of: all of it answers as DuckDB does.

Glue's table and view are the template's own, made by CloudFormation in the local AWS; its S3 holds the files. The local
AWS's Athena is DuckDB inside, so what only Trino minds is seen here alone. ``python -m tools.trino`` starts one.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from msgspec.structs import replace

from crr_monitor import templates
from crr_monitor.core.archive import all_rows, expired_rows
from crr_monitor.core.times import DAY_MS, HOUR_MS, format_time
from crr_monitor.history import athena
from crr_monitor.history.driver import HistoryError, connected, text
from crr_monitor.history.layout import ENDING, PATTERN
from crr_monitor.history.queries import LAG_STEP, QUERIES, quantiles
from crr_monitor.history.schema import NAMES, PARTITIONS, TABLE, VIEW
from crr_monitor.history.views import Span
from crr_monitor.sandbox import Sandbox, Settings
from crr_monitor.simulate import Plan
from tests.factories import AT, denied_read, failed, record_of, replica, user_write
from tests.history.making import archived, asked, rows_of, simulated
from tests.history.trino_server import CATALOG, AsAthena, Trino
from tests.sandbox.making import EAST, HOME
from tools import permissions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from crr_monitor.core.archive import ArchiveRow

pytestmark = pytest.mark.aws
HUB = permissions.load(templates.text(templates.HUB))
SAVED = {
    each["Properties"]["Name"]: each["Properties"]["QueryString"]
    for each in HUB["Resources"].values()
    if each["Type"] == "AWS::Athena::NamedQuery"
}
BUCKET = "history"
WRITER = "files"
"""Another catalog, through which Trino itself writes files; where their metadata and they lie in the bucket, too."""

DAYS_BACK = (95, 35, 3)
"""Saved queries look 30 days back, or to the month before the last: so each bound has something on both sides."""

WIDE = 10_000_000
"""An RPO of a hundred days, in seconds."""


class There(NamedTuple):
    """An archive in a folder, and the same files in S3 below a Glue table."""

    folder: Path
    database: str
    client: AsAthena

    def asked(self, sql: str) -> list[dict[str, Any]]:
        """The answer to a query by Trino."""
        answer = athena.ask(self.client, sql, "primary", self.database)
        return [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]

    def both(self, sql: str) -> list[dict[str, Any]]:
        """The answer of both, which is one."""
        ours = asked(self.folder, sql)
        assert self.asked(sql) == ours
        return ours


def midnight(days_back: int) -> int:
    """When a day began, in milliseconds."""
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return int((today - timedelta(days=days_back)).timestamp()) * 1000


def simulated_rows(seed: int, start: int) -> list[ArchiveRow]:
    """Three hours of much trouble; what is pending is open for one half, and expired for the other."""
    plan = Plan(
        seed=seed, start=start, duration_ms=3 * HOUR_MS, objects=300, failure_rate=0.2, repaired_share=0.5,
        delete_rate=0.1, pending_rate=0.1, loss_rate=0.1, delete_marker_rate=0.1,
    )  # fmt: skip
    records, newest = simulated(plan)
    rows = [row for record in records for row in all_rows(record, newest, "open")]
    return rows + [row for record in records[::2] for row in expired_rows(record, newest + DAY_MS)]


def odd_rows(at: int) -> list[ArchiveRow]:
    """Copies told in two goes, repaired late, withdrawn, without a place, with odd keys and the largest numbers."""
    said = partial(rows_of, at=at + 2 * HOUR_MS)
    later = partial(rows_of, at=at + 3 * HOUR_MS)
    shift = at - AT
    write, arrives = partial(user_write, at=at), partial(replica, at=at + 10_000)
    fails = partial(failed, at=at + 30_000)
    rows = [*said(write(key="two goes")), *later(arrives(key="two goes"))]
    rows += [*said(arrives(key="backwards", at=at - 500)), *later(write(key="backwards"))]
    rows += [*said(write(key="late"), fails(key="late")), *later(write(key="late"), arrives(key="late"))]
    rows += said(arrives(key="unseen"))
    nameless = record_of(write(key="nameless"), denied_read(key="nameless", at=AT + shift + 30_000))
    rows += all_rows(nameless, at + 2 * HOUR_MS, "open")
    (gone,) = said(write(key="gone"), fails(key="gone"))
    rows += [gone, replace(gone, state="withdrawn", recorded_at=gone.recorded_at + 1)]
    for key in ("a 'b' \"c\" \\ %d", "line\nand\ttab\x1f", "\U0001f600 é e\u0301", "NULL", " "):
        rows += said(write(key=key, size=5 << 40), arrives(key=key))
    (large,) = said(write(key="large", size=(1 << 62)), arrives(key="large"))
    largest = (1 << 63) - 1
    rows += [replace(large, copy_id=largest, row_id=largest, revision=largest, lag_ms=10**12 + 1)]
    return rows


def made_rows() -> list[ArchiveRow]:
    """All rows of the tests."""
    rows = [row for seed, days in enumerate(DAYS_BACK) for row in simulated_rows(seed, midnight(days))]
    return rows + odd_rows(midnight(DAYS_BACK[-1]) + HOUR_MS)


@pytest.fixture(scope="module")
def trino() -> Trino:
    """The Trino that is named."""
    return Trino()


@pytest.fixture(scope="module")
def sandbox(trino: Trino) -> Iterator[Sandbox]:
    """A local AWS, and Trino's catalogs of its Glue, and of files of metadata in its S3."""
    with Sandbox(Settings(seed=7)) as running:
        running.client("s3", HOME, EAST).create_bucket(Bucket=BUCKET)
        reach = {"region": EAST, "aws-access-key": HOME, "aws-secret-key": "s"}
        s3 = {"fs.hadoop.enabled": "false", "fs.native-s3.enabled": "true", "s3.path-style-access": "true"}
        s3 |= {"s3.endpoint": running.endpoint, **{f"s3.{name}": value for name, value in reach.items()}}
        glue = {"hive.metastore": "glue", "hive.metastore.glue.endpoint-url": running.endpoint}
        glue |= {f"hive.metastore.glue.{name}": value for name, value in reach.items()}
        trino.take_catalog(CATALOG, {**s3, **glue, "hive.partition-projection-enabled": "true"})
        files = {"hive.metastore": "file", "hive.metastore.catalog.dir": f"s3://{BUCKET}/{WRITER}"}
        trino.take_catalog(WRITER, {**s3, **files})
        yield running
        trino.drop_catalog(CATALOG)
        trino.drop_catalog(WRITER)


def deploy(sandbox: Sandbox, prefix: str) -> str:
    """The template's database, table and view over what lies below a prefix; gives the database's name."""
    names = ("ArchiveDatabase", "ArchiveTable", "ArchiveView")
    resources = {name: {k: v for k, v in HUB["Resources"][name].items() if k != "Condition"} for name in names}
    values = {
        "ArchiveBucket": BUCKET,
        "ArchivePrefix": prefix,
        "ArchiveSince": format_time(midnight(max(DAYS_BACK)))[:10],
    }
    body = {
        "Parameters": {name: {"Type": "String"} for name in values},
        "Resources": resources,
        "Outputs": {"Database": {"Value": {"Ref": "ArchiveDatabase"}}},
    }
    client = sandbox.client("cloudformation", HOME, EAST)
    given = [{"ParameterKey": name, "ParameterValue": value} for name, value in values.items()]
    stack = f"archive-{prefix.strip('/')}"
    client.create_stack(StackName=stack, TemplateBody=json.dumps(body), Parameters=given)
    client.get_waiter("stack_create_complete").wait(StackName=stack, WaiterConfig={"Delay": 1})
    (told,) = client.describe_stacks(StackName=stack)["Stacks"]
    database = str(told["Outputs"][0]["OutputValue"])
    for name in (TABLE, VIEW):
        answer_as_glue(sandbox.client("glue", HOME, EAST), database, name)
    return database


def answer_as_glue(glue: Any, database: str, name: str) -> None:  # noqa: ANN401 - boto3's
    """Have a table answered as Glue does it: with a number of buckets, and no description where none was given."""
    made = glue.get_table(DatabaseName=database, Name=name)["Table"]
    # A description that is there hides the comment from Trino, also the emulator's empty one.
    given = {"Description": made["Description"] or made["Parameters"]["comment"]}
    kept = ("Name", "TableType", "Parameters", "PartitionKeys", "ViewOriginalText", "ViewExpandedText")
    given |= {field: made[field] for field in kept if field in made}
    given["StorageDescriptor"] = {**made["StorageDescriptor"], "NumberOfBuckets": 0}
    glue.update_table(DatabaseName=database, TableInput=given)


def upload(sandbox: Sandbox, folder: Path, prefix: str) -> None:
    """Put an archive's files where the table looks."""
    client = sandbox.client("s3", HOME, EAST)
    for file in folder.glob(PATTERN):
        client.upload_file(str(file), BUCKET, f"{prefix}archive/{file.relative_to(folder)}")


@pytest.fixture(scope="module")
def ours(sandbox: Sandbox, trino: Trino, tmp_path_factory: pytest.TempPathFactory) -> There:
    """An archive written by us, a tenth of its rows twice."""
    folder = tmp_path_factory.mktemp("ours") / "archive"
    rows = made_rows()
    archived(folder, rows, "first")
    archived(folder, rows[::10], "again")
    upload(sandbox, folder, "ours/")
    return There(folder, deploy(sandbox, "ours/"), AsAthena(trino))


@pytest.fixture(scope="module")
def hives(sandbox: Sandbox, trino: Trino, ours: There, tmp_path_factory: pytest.TempPathFactory) -> There:
    """The same archive with Hive's types in the files, times of 96 bits above all, as Firehose writes them."""
    keys = ", ".join(f"'{column.name}'" for column in PARTITIONS)
    trino.run(f"CREATE SCHEMA {WRITER}.made")
    trino.run(
        f"CREATE TABLE {WRITER}.made.{TABLE} WITH (format = 'PARQUET', partitioned_by = ARRAY[{keys}])"
        f" AS SELECT * FROM {ours.database}.{TABLE}"
    )
    folder = tmp_path_factory.mktemp("hives") / "archive"
    client, place = sandbox.client("s3", HOME, EAST), f"{WRITER}/made/{TABLE}/"
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{place}day="):
        for each in page["Contents"]:
            to = folder / (each["Key"].removeprefix(place) + ENDING)
            if "/." not in each["Key"]:
                to.parent.mkdir(parents=True, exist_ok=True)
                client.download_file(BUCKET, each["Key"], str(to))
    upload(sandbox, folder, "hives/")
    return There(folder, deploy(sandbox, "hives/"), ours.client)


@pytest.mark.parametrize("relation", [TABLE, VIEW])
def test_all_columns(ours: There, relation: str) -> None:
    """Table and view of the template are found by Trino, and say what DuckDB says, in every column of every row."""
    rows = ours.both(f"SELECT {', '.join(NAMES)} FROM {relation} ORDER BY row_id, recorded_at, state")
    assert len(rows) > len(DAYS_BACK) * 300
    assert {row["status"] for row in rows} >= {"COMPLETED", "FAILED", "PENDING", "SOURCE_DELETED"}


@pytest.mark.parametrize("name", QUERIES)
def test_shipped_queries(ours: There, name: str) -> None:
    """Each shipped query of some days, as `crr-monitor query --athena` sends it, gives the same in the same order."""
    start = midnight(DAYS_BACK[-1])
    span = Span(start, start + DAY_MS)
    assert ours.both(QUERIES[name].sql(span))
    assert ours.both(QUERIES[name].sql(span, 1))
    assert ours.both(QUERIES[name].sql(Span(midnight(max(DAYS_BACK)), start + DAY_MS, lateness_days=2), WIDE))


@pytest.mark.parametrize("name", SAVED)
def test_saved_queries(ours: There, name: str) -> None:
    """Each query that the template saves in Athena runs as it stands, and looks at what DuckDB looks at."""
    assert ours.both(SAVED[name])


@pytest.mark.parametrize("name", SAVED)
def test_saved_queries_read_some_days_only(trino: Trino, ours: There, name: str) -> None:
    """Trino works out the dates before it looks for partitions, so those of earlier days are not read."""
    planned = trino.run(f"EXPLAIN (TYPE IO, FORMAT JSON) {SAVED[name]}", ours.database)[1][0][0]
    (table,) = json.loads(planned)["inputTableColumnInfos"]
    limits = {each["columnName"]: each["domain"]["ranges"] for each in table["constraint"]["columnConstraints"]}
    (row,) = asked(ours.folder, f"SELECT CAST({QUERIES[name].recent} - INTERVAL '1' DAY AS DATE) AS first")
    assert limits["day"][0]["low"]["value"] == row["first"]


@pytest.mark.parametrize("name", QUERIES)
def test_files_with_hives_types(hives: There, name: str) -> None:
    """Times in the form that Firehose writes are the same times, in Trino and in DuckDB."""
    start = midnight(DAYS_BACK[-1])
    assert hives.both(QUERIES[name].sql(Span(start, start + DAY_MS)))


def test_times_of_96_bits(ours: There, hives: There, tmp_path: Path) -> None:
    """DuckDB reads from files with Hive's times what it reads from ours."""
    types = f"SELECT DISTINCT type FROM parquet_schema({text(hives.folder / PATTERN)}) WHERE name = 'written_at'"
    with connected(tmp_path) as database:
        assert database.execute(types).fetchall() == [("INT96",)]
    sql = f"SELECT * FROM {TABLE} ORDER BY row_id, recorded_at, state"
    assert asked(hives.folder, sql) == asked(ours.folder, sql)


NUMBERS = {
    "sequence": "SELECT number FROM UNNEST(sequence(0, 9999)) AS t (number)",
    "generate_series": "SELECT number FROM UNNEST(generate_series(0, 9999)) AS t (number)",
}
"""Ten thousand numbers, in Trino and in DuckDB."""


def of_numbers(sql: str, there: There) -> list[dict[str, Any]]:
    """A query over the numbers, answered by both."""
    theirs = there.asked(sql.format(NUMBERS["sequence"]))
    assert theirs == asked(there.folder, sql.format(NUMBERS["generate_series"]))
    return theirs


@pytest.mark.parametrize("lag", ["number / 1000e0", "number / 100e0 + 1e-3", "number * 123457 / 1000e0"])
def test_steps_of_the_lag(ours: There, lag: str) -> None:
    """Each lag of whole milliseconds is raised to the same step by both: small, middle and large ones."""
    sql = f"SELECT lag_seconds, {LAG_STEP} AS step FROM (SELECT {lag} AS lag_seconds FROM ({{}}) AS n) AS lags"
    assert len(of_numbers(f"{sql} ORDER BY lag_seconds", ours)) == 10_000


def test_quantiles(ours: There) -> None:
    """Of groups of 1 to 10,000 lags both take the same ones, of equal ones and of those at the very rank."""
    counts = (
        "SELECT size AS size, CAST(number % size AS DOUBLE) AS lag_step, count(*) AS n, max(number + 0e0) AS longest"
        " FROM ({}) AS n, (VALUES (1), (2), (3), (7), (10), (100), (999), (1000), (1001), (10000)) AS sizes (size)"
        " GROUP BY size, CAST(number % size AS DOUBLE)"
    )
    found = of_numbers(f"{quantiles('size', counts)} ORDER BY size", ours)
    assert found[-1] == {
        "size": 10_000, "copies": 10_000, "p50": 4999.0, "p90": 8999.0, "p99": 9899.0, "p999": 9989.0, "longest": 9999.0
    }  # fmt: skip


def test_what_trino_refuses_is_told(ours: There) -> None:
    """A query that Trino does not know ends with its words."""
    with pytest.raises(HistoryError, match=r"Athena could not run the query: .*'nonesuch'"):
        ours.asked("SELECT nonesuch FROM archive")
