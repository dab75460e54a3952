"""Questions to an archive with DuckDB: read-only, whatever the SQL says."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import contextmanager
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from crr_monitor.core.times import format_time, to_milliseconds
from crr_monitor.history.driver import MEMORY, HistoryError, connected, load, text
from crr_monitor.history.views import coverage_statement, table_statement, view_statement

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from crr_monitor.history.driver import Database

_FETCH = 1_000


class Answer(Struct):
    """The names of the columns, and the rows as they come. ``types`` are Athena's, where it answered."""

    columns: tuple[str, ...]
    rows: Iterable[tuple[Any, ...]]
    types: tuple[str, ...] = ()


@contextmanager
def opened(folder: Path, work: Path, memory: str = MEMORY) -> Iterator[Database]:
    """The archive's table and view, ready to be asked; it may spill into ``work``, and touches no other file.

    Raises:
        HistoryError: DuckDB is missing, or the folder holds no archive.
    """
    with connected(work, memory, place="TMPDIR") as database:
        database.execute(table_statement(folder))
        database.execute(view_statement())
        database.execute(coverage_statement(folder))
        database.execute(f"SET allowed_directories = [{text(folder)}, {text(work)}]")
        database.execute("SET enable_external_access = false")
        database.execute("SET lock_configuration = true")
        yield database


def check_select(sql: str) -> None:
    """Let one SELECT pass, and nothing that could write, attach or set anything.

    Raises:
        HistoryError: it is something else, or no SQL at all.
    """
    duckdb = load()
    try:
        statements = duckdb.extract_statements(sql)
    except duckdb.Error as error:
        raise HistoryError(" ".join(str(error).partition("\n\n")[0].split())) from error
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        message = "only one SELECT is allowed: the archive is read-only"
        raise HistoryError(message)


def ask(database: Database, sql: str) -> Answer:
    """Run one SELECT; its rows have plain values: times as RFC 3339 text, whole numbers, floats, texts.

    Raises:
        HistoryError: it is no SELECT, or DuckDB refuses it.
    """
    check_select(sql)
    database.execute(sql)
    names = tuple(str(column[0]) for column in database.description)
    return Answer(names, _plain_rows(database))


def save(database: Database, sql: str, to: Path) -> None:
    """Write the answer to one SELECT as a Parquet file.

    Raises:
        HistoryError: it is no SELECT, or DuckDB refuses it.
    """
    check_select(sql)
    query = sql.strip().rstrip(";")
    # The new lines keep a comment at the end of the query from swallowing what follows.
    database.execute(f"COPY (\n{query}\n) TO {text(to)} (FORMAT parquet, COMPRESSION zstd)")


def _plain_rows(database: Database) -> Iterator[tuple[Any, ...]]:
    while rows := database.fetchmany(_FETCH):
        for row in rows:
            yield tuple([plain(value) for value in row])


def plain(value: object) -> Any:  # noqa: ANN401, PLR0911 - one for each kind of value
    """A value of SQL as what JSON can say."""
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, datetime):
        return format_time(to_milliseconds(value if value.tzinfo else value.replace(tzinfo=UTC)))
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    if isinstance(value, dict):
        return {str(name): plain(part) for name, part in value.items()}
    return value.hex() if isinstance(value, bytes) else str(value)
