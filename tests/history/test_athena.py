"""Whom in Athena to ask, and what: the hub's work group is found by its name, and only SELECT is sent."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest

from crr_monitor.history import athena
from crr_monitor.history.driver import HistoryError, connected
from crr_monitor.sandbox import Sandbox
from tests.sandbox.making import EAST, HOME, WEST

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.aws
TOKEN = "0123456789ab"  # noqa: S105 - a part of names
GROUP = f"crr-monitor-{TOKEN}"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """A local AWS."""
    with Sandbox() as running:
        yield running


def group(sandbox: Sandbox, region: str, token: str) -> Any:  # noqa: ANN401 - boto3's client
    """A work group as a hub makes it, with its database; gives Athena's client."""
    name = athena.WORKGROUPS + token
    sandbox.client("s3", HOME, EAST).create_bucket(Bucket="answers")
    client = sandbox.client("athena", HOME, region)
    answers = {"ResultConfiguration": {"OutputLocation": "s3://answers/"}}
    client.create_work_group(Name=name, Configuration=answers)
    sandbox.client("glue", HOME, region).create_database(DatabaseInput={"Name": athena.database_of(name)})
    return client


def hub(sandbox: Sandbox) -> Any:  # noqa: ANN401 - boto3's client
    """Athena in the Region of one hub."""
    client = sandbox.client("athena", HOME, EAST)
    if GROUP not in {each["Name"] for each in client.list_work_groups()["WorkGroups"]}:
        group(sandbox, EAST, TOKEN)
    return client


def test_the_hubs_work_group_is_found(sandbox: Sandbox) -> None:
    """The one work group of a hub is taken; where there is none, or several, it is said what to do."""
    client = sandbox.client("athena", HOME, WEST)
    with pytest.raises(HistoryError, match=r"no hub in this account and Region .* ArchiveToS3 Yes"):
        athena.find_workgroup(client)
    group(sandbox, WEST, TOKEN)
    assert athena.find_workgroup(client) == f"crr-monitor-{TOKEN}"
    group(sandbox, WEST, "ba9876543210")
    with pytest.raises(HistoryError, match=r"--workgroup, of crr-monitor-0123456789ab, crr-monitor-ba9876543210"):
        athena.find_workgroup(client)


def test_database() -> None:
    """The database is called as the work group is, as far as Glue takes that."""
    assert athena.database_of(f"crr-monitor-{TOKEN}") == f"crr_monitor_{TOKEN}"


@pytest.mark.parametrize(
    "sql",
    ["SELECT 1 AS one", " (select 1 AS one)", "-- one\n/* or\nnot */ WITH a AS (SELECT 1 AS one) SELECT one FROM a"],
)
def test_questions_are_sent(sandbox: Sandbox, sql: str) -> None:
    """What only reads is run, however it begins."""
    answer = athena.ask(hub(sandbox), sql, GROUP, athena.database_of(GROUP))
    assert (answer.columns, list(answer.rows)) == (("one",), [(1,)])


@pytest.mark.parametrize(
    "sql", ["DROP TABLE archive", "/* SELECT */ DELETE FROM archive", "INSERT INTO a SELECT 1", ""]
)
def test_nothing_else_is_sent(sql: str) -> None:
    """What could change something is refused before Athena is asked."""
    with pytest.raises(HistoryError, match="only one SELECT is allowed"):
        athena.ask(None, sql, "g", "d")


def test_answers_as_parquet(sandbox: Sandbox, tmp_path: Path) -> None:
    """An answer becomes a Parquet file with Athena's types, whatever its columns are called, and with any many rows."""
    sql = (
        'SELECT number AS "a ""b", CAST(number AS DOUBLE) / 2 AS half, number > 1 AS more, CAST(NULL AS VARCHAR) AS no,'
        " TIMESTAMP '2026-11-22 07:00:00.168' AS written_at FROM UNNEST(sequence(1, 450)) AS t (number)"
    ).replace("sequence", "generate_series")  # the emulator's SQL is DuckDB's
    client = hub(sandbox)
    answer = athena.ask(client, sql, GROUP, athena.database_of(GROUP))
    with connected(tmp_path) as database:
        athena.save(database, answer, tmp_path / "answer.parquet")
        found = database.execute(f"SELECT * FROM '{tmp_path}/answer.parquet'")
        assert [column[0] for column in found.description] == ['a "b', "half", "more", "no", "written_at"]
        rows = found.fetchall()
    moment = datetime(2026, 11, 22, 7, 0, 0, 168_000)  # noqa: DTZ001 - as SQL has it
    assert rows == [(number, number / 2, number > 1, None, moment) for number in range(1, 451)]
