"""A Trino for tests, on this machine: the one that the environment names, asked as Athena is asked."""

from __future__ import annotations

import json
import os
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

NAMED = os.environ.get("CRR_MONITOR_TEST_TRINO")
"""Read when tests are collected: while they run, no setting of the caller's reaches them."""

LOOPBACK = {"127.0.0.1", "localhost", "::1"}
CATALOG = "awsdatacatalog"
"""What Athena calls the account's Glue, also within views."""

Rows = list[list[Any]]
Columns = list[tuple[str, str]]


class TrinoError(Exception):
    """What Trino says of a statement that it does not run."""


class Trino:
    """Sends statements (Trino's documentation, "Trino client REST API"); sessions are in UTC, as Athena's are."""

    def __init__(self) -> None:
        """Take the one that is named, or skip the test."""
        if NAMED is None:
            pytest.skip("no Trino: `python -m tools.trino` starts one, or name one with CRR_MONITOR_TEST_TRINO")
        there = urlsplit(NAMED)
        if there.hostname not in LOOPBACK:
            pytest.fail(f"CRR_MONITOR_TEST_TRINO is not on this machine: {NAMED}")
        self._host = there.netloc

    def run(self, sql: str, database: str | None = None) -> tuple[Columns, Rows]:
        """Run one statement; gives names and types of the columns, and the rows.

        Raises:
            TrinoError: it is not run.
        """
        headers = {"X-Trino-User": "test", "X-Trino-Time-Zone": "UTC", "X-Trino-Catalog": CATALOG}
        if database is not None:
            headers["X-Trino-Schema"] = database
        columns: Columns = []
        rows: Rows = []
        connection = HTTPConnection(self._host, timeout=120)
        try:
            connection.request("POST", "/v1/statement", sql.encode(), headers)
            while True:
                told = json.loads(connection.getresponse().read())
                if "error" in told:
                    raise TrinoError(told["error"]["message"])
                columns = [(each["name"], each["type"]) for each in told.get("columns", ())] or columns
                rows += told.get("data", ())
                if "nextUri" not in told:
                    return columns, rows
                connection.request("GET", urlsplit(told["nextUri"]).path, headers={"X-Trino-User": "test"})
        finally:
            connection.close()

    def take_catalog(self, name: str, settings: Mapping[str, str]) -> None:
        """Have a catalog with these settings of the connector for Hive and Glue."""
        self.drop_catalog(name)
        values = ", ".join(f"\"{name}\" = '{value}'" for name, value in settings.items())
        self.run(f"CREATE CATALOG {name} USING hive WITH ({values})")

    def drop_catalog(self, name: str) -> None:
        """Have it no more."""
        if [name] in self.run("SHOW CATALOGS")[1]:
            self.run(f"DROP CATALOG {name}")


class AsAthena:
    """Trino behind as much of Athena's API as is used: types and cells as Athena writes them.

    Amazon Athena API Reference, StartQueryExecution, GetQueryExecution, GetQueryResults: each cell is text, and the
    first row repeats the names.
    """

    def __init__(self, trino: Trino) -> None:
        self._trino = trino
        self._answers: dict[str, tuple[Columns, Rows] | TrinoError] = {}

    def start_query_execution(self, **given: Any) -> dict[str, str]:  # noqa: ANN401
        """Run it at once."""
        number = str(len(self._answers))
        try:
            self._answers[number] = self._trino.run(given["QueryString"], given["QueryExecutionContext"]["Database"])
        except TrinoError as error:
            self._answers[number] = error
        return {"QueryExecutionId": number}

    def get_query_execution(self, **given: Any) -> dict[str, Any]:  # noqa: ANN401
        """How it ended."""
        answer = self._answers[given["QueryExecutionId"]]
        status = (
            {"State": "FAILED", "StateChangeReason": str(answer)}
            if isinstance(answer, TrinoError)
            else {"State": "SUCCEEDED"}
        )
        return {"QueryExecution": {"Status": status}}

    def get_paginator(self, _name: str) -> AsAthena:
        """Of the results."""
        return self

    def paginate(self, **given: Any) -> Iterator[dict[str, Any]]:  # noqa: ANN401
        """All rows in one page."""
        answer = self._answers[given["QueryExecutionId"]]
        assert not isinstance(answer, TrinoError)
        columns, rows = answer
        told = [{"Name": name, "Type": kind.partition("(")[0]} for name, kind in columns]
        lines = [[name for name, _ in columns], *rows]
        data = [{"Data": [_cell(value) for value in line]} for line in lines]
        yield {"ResultSet": {"ResultSetMetadata": {"ColumnInfo": told}, "Rows": data}}


def _cell(value: Any) -> dict[str, str]:  # noqa: ANN401
    if value is None:
        return {}
    return {"VarCharValue": str(value).lower() if isinstance(value, bool) else str(value)}
