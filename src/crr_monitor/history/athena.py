"""Questions to an archive with Athena: the same SQL, run in a work group that limits what a query may read."""

from __future__ import annotations

import importlib
import re
import time
from itertools import islice
from typing import TYPE_CHECKING, Any

from crr_monitor.history.ask import Answer
from crr_monitor.history.driver import HistoryError, quoted, text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from crr_monitor.history.driver import Database

WORKGROUPS = "crr-monitor-"
"""What the names of the hubs' work groups begin with; the stack's token follows."""

_SELECT = re.compile(r"(\s|--[^\n]*(\n|$)|/\*.*?\*/|\()*(SELECT|WITH)\b", re.IGNORECASE | re.DOTALL)
_SQL_TYPES = {
    "tinyint": "TINYINT",
    "smallint": "SMALLINT",
    "integer": "INTEGER",
    "bigint": "BIGINT",
    "float": "FLOAT",
    "double": "DOUBLE",
    "decimal": "DOUBLE",
    "boolean": "BOOLEAN",
    "date": "DATE",
    "timestamp": "TIMESTAMP",
}
"""Athena's types as DuckDB has them; what has none is text."""

_ROWS_AT_ONCE = 200
_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE = 5.0
_ENDED_BADLY = frozenset({"FAILED", "CANCELLED"})


def database_of(workgroup: str) -> str:
    """The database of a hub's work group: the same name, as databases are written."""
    return workgroup.replace("-", "_")


def find_workgroup(client: Any) -> str:  # noqa: ANN401 - boto3's
    """The work group of the one hub that has an archive in this account and Region.

    Raises:
        HistoryError: there is none, or there are several; or Athena cannot be asked.
    """
    found: list[str] = []
    page: dict[str, str] = {}
    while True:
        told = _call(client.list_work_groups, **page)
        found += [each["Name"] for each in told["WorkGroups"] if each["Name"].startswith(WORKGROUPS)]
        if not told.get("NextToken"):
            break
        page = {"NextToken": told["NextToken"]}
    if len(found) == 1:
        return found[0]
    if found:
        message = f"several hubs here have an archive: choose one with --workgroup, of {', '.join(sorted(found))}"
    else:
        message = (
            "no hub in this account and Region has an archive: name another --region or --profile, or deploy the hub"
            " with ArchiveToS3 Yes"
        )
    raise HistoryError(message)


def ask(
    client: Any,  # noqa: ANN401 - boto3's
    sql: str,
    workgroup: str,
    database: str,
    wait: Callable[[float], None] = time.sleep,
) -> Answer:
    """Run one query and wait for its end; its rows have plain values, as DuckDB's answers have.

    ``client`` is boto3's for Athena. The work group says where results are kept, and how much a query may read.

    Raises:
        HistoryError: it is no SELECT; or Athena refuses it, or it failed, with Athena's words.
    """
    # Athena runs one statement at a time, and one that begins so only reads: in Trino's grammar INSERT precedes WITH.
    if _SELECT.match(sql) is None:
        message = "only one SELECT is allowed: the archive is read-only"
        raise HistoryError(message)
    started = _call(
        client.start_query_execution,
        QueryString=sql,
        WorkGroup=workgroup,
        QueryExecutionContext={"Database": database},
    )
    query = started["QueryExecutionId"]
    _wait(client, query, wait)
    pages = client.get_paginator("get_query_results").paginate(QueryExecutionId=query)
    first = _call(next, iter_ := iter(pages))
    columns = first["ResultSet"]["ResultSetMetadata"]["ColumnInfo"]
    names = tuple(str(column["Name"]) for column in columns)
    types = tuple(str(column["Type"]) for column in columns)
    return Answer(names, _rows(first, iter_, names, types), types)


def save(database: Database, answer: Answer, to: Path) -> None:
    """Write an answer of Athena as a Parquet file, with DuckDB; its columns have Athena's types.

    Raises:
        HistoryError: Athena does not give all rows.
    """
    pairs = zip(answer.columns, answer.types, strict=True)
    columns = ", ".join(f"{quoted(name)} {_SQL_TYPES.get(kind, 'VARCHAR')}" for name, kind in pairs)
    database.execute(f"CREATE OR REPLACE TEMP TABLE answer ({columns})")
    places = f"({', '.join('?' * len(answer.columns))})"
    rows = iter(answer.rows)
    while some := list(islice(rows, _ROWS_AT_ONCE)):
        values = [value for row in some for value in row]
        database.execute(f"INSERT INTO answer VALUES {', '.join([places] * len(some))}", values)
    database.execute(f"COPY answer TO {text(to)} (FORMAT parquet, COMPRESSION zstd)")


def _call(function: Any, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401
    errors = importlib.import_module("botocore.exceptions")
    try:
        return function(*arguments, **options)
    except errors.ClientError as error:
        told = error.response["Error"]
        message = f"Athena refused the query: {told.get('Message') or told.get('Code')}"
        raise HistoryError(message) from error
    except errors.BotoCoreError as error:
        message = f"Athena cannot be asked: {error}"
        raise HistoryError(message) from error


def _wait(client: Any, query: str, wait: Callable[[float], None]) -> None:  # noqa: ANN401
    pause = _PAUSE_SECONDS
    while True:
        told = _call(client.get_query_execution, QueryExecutionId=query)["QueryExecution"]["Status"]
        if told["State"] == "SUCCEEDED":
            return
        if told["State"] in _ENDED_BADLY:
            reason = told.get("StateChangeReason") or told["State"].lower()
            message = f"Athena could not run the query: {reason}"
            raise HistoryError(message)
        wait(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


def _rows(
    first: dict[str, Any], rest: Iterator[dict[str, Any]], names: tuple[str, ...], types: tuple[str, ...]
) -> Iterator[tuple[Any, ...]]:
    page: dict[str, Any] | None = first
    heading: tuple[Any, ...] | None = names  # the first row of the first page repeats the names
    while page is not None:
        for row in page["ResultSet"]["Rows"]:
            cells = tuple(cell.get("VarCharValue") for cell in row["Data"])
            if heading is not None and cells == heading:
                heading = None
                continue
            heading = None
            yield tuple([_value(cell, kind) for cell, kind in zip(cells, types, strict=True)])
        page = _call(next, rest, None)


def _value(told: str | None, kind: str) -> Any:  # noqa: ANN401
    """A cell, which Athena gives as text, by its column's type."""
    if told is None:
        return None
    if kind in {"bigint", "integer", "int", "smallint", "tinyint"}:
        return int(told)
    if kind in {"double", "float", "real", "decimal"}:
        number = float(told)
        return int(number) if kind == "decimal" and number.is_integer() else number
    if kind == "boolean":
        return told == "true"
    if kind == "timestamp":
        seconds, _, fraction = told.removesuffix(" UTC").partition(".")
        return f"{seconds.replace(' ', 'T')}.{(fraction + '000')[:3]}Z"
    return told
