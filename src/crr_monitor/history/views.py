"""The view ``copies``: of all rows about one copy the last word. One text for DuckDB and for Athena (Trino's SQL)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from crr_monitor.core.archive import LATENESS_DAYS, WORDS
from crr_monitor.core.times import DAY_MS, HOUR_MS, format_time
from crr_monitor.history.driver import text
from crr_monitor.history.layout import PATTERN
from crr_monitor.history.schema import COLUMNS, COVERAGE, COVERAGE_FOLDER, NAMES, PARTITIONS, TABLE, VIEW

if TYPE_CHECKING:
    from pathlib import Path

_IDENTITY = "copy_id, key, version_id, destination_bucket"
_RANKS = " ".join(f"WHEN status = '{word}' THEN {len(WORDS) - place}" for place, word in enumerate(WORDS))
_KNOWN = "CASE WHEN written_at IS NULL THEN 0 ELSE 1 END + CASE WHEN replicated_at IS NULL THEN 0 ELSE 1 END"
"""A record that left its store and comes back with half its evidence has less to say than before."""

_ORDER = (
    f"CASE WHEN state = 'withdrawn' THEN {len(WORDS) + 1} {_RANKS} ELSE 0 END DESC, {_KNOWN} DESC,"
    " recorded_at DESC, revision DESC, row_id DESC"
)
_COLUMNS = ", ".join(NAMES)


EARLY_MS = HOUR_MS
"""A row may lie in an earlier partition than that of its arrival: Firehose files all that it collects for one object,
for up to 15 minutes, under the arrival of the first (Developer Guide, "Custom prefixes for Amazon S3 objects")."""


class Chosen(Protocol):
    """Which copies a query is about."""

    @property
    def arrived(self) -> str:
        """The condition that leaves out the partitions in which none of them can be."""

    @property
    def counted(self) -> str:
        """The condition that selects the copies."""


class Recent(Struct, frozen=True):
    """The copies since a date that SQL computes when the query runs, for queries that are saved in Athena."""

    since: str

    @property
    def arrived(self) -> str:
        """See :class:`Chosen`."""
        return f"day >= CAST(CAST({self.since} - INTERVAL '1' DAY AS DATE) AS VARCHAR)"

    @property
    def counted(self) -> str:
        """See :class:`Chosen`."""
        return f"counted_at >= CAST({self.since} AS TIMESTAMP)"


class Span(Struct, frozen=True):
    """Which copies are asked for: ``counted_at`` in ``[since, until)``, in milliseconds.

    ``lateness_days``: how many days later their rows may have arrived.
    """

    since: int
    until: int
    lateness_days: int = LATENESS_DAYS

    @property
    def days(self) -> tuple[str, str]:
        """The first and the last day of arrival whose partitions are read."""
        last = self.until - 1 + self.lateness_days * DAY_MS
        return format_time(max(0, self.since - EARLY_MS))[:10], format_time(last)[:10]

    @property
    def arrived(self) -> str:
        """The condition that leaves out the partitions in which none of them can be."""
        first, last = self.days
        return f"day BETWEEN '{first}' AND '{last}'"

    @property
    def counted(self) -> str:
        """The condition that selects the copies."""
        return f"counted_at >= {timestamp(self.since)} AND counted_at < {timestamp(self.until)}"


def timestamp(at: int) -> str:
    """Milliseconds as an SQL literal that both dialects take."""
    return f"TIMESTAMP '{format_time(at)[:-1].replace('T', ' ')}'"


_ALL = "OVER (PARTITION BY {identity})"
_WRITTEN = "coalesce(written_at, any_written_at)"
_ARRIVED = "CASE WHEN status = 'COMPLETED' THEN coalesce(replicated_at, any_replicated_at) ELSE replicated_at END"
_MERGED = {
    "written_at": _WRITTEN,
    "replicated_at": _ARRIVED,
    "lag_seconds": (
        "CASE WHEN lag_seconds IS NULL AND status = 'COMPLETED'"
        # Not greatest(): of NULL and 0 DuckDB takes the 0.
        f" THEN CASE WHEN {_WRITTEN} > {_ARRIVED} THEN 0e0"
        f" ELSE CAST(date_diff('millisecond', {_WRITTEN}, {_ARRIVED}) AS DOUBLE) / 1000 END ELSE lag_seconds END"
    ),
    "counted_at": "coalesce(written_at, any_written_at, counted_at)",
}
"""What the last word takes from the other rows of its copy where it does not know it.

The write and the replica may have been read in two goes, past the store: each row then knows one of the two times.
"""


_ANY = {"any_written_at": ("min", "written_at"), "any_replicated_at": ("min", "replicated_at")}
"""What is known from all rows of a copy: how they are taken together, and what of each."""


def last_word(where: str = "true", table: str = TABLE, columns: str = _COLUMNS, identity: str = _IDENTITY) -> str:
    """The query that gives each copy's last word, of the rows of a table for which ``where`` holds.

    The condition has to hold for all rows of a copy or for none; one on partitions has to be wide enough.
    """
    same = _ALL.format(identity=identity)
    known = ", ".join(f"{taken}({value}) {same} AS {name}" for name, (taken, value) in _ANY.items())
    return (
        f"SELECT {_merged(columns)} FROM (SELECT {columns},"
        f" row_number() OVER (PARTITION BY {identity} ORDER BY {_ORDER}) AS word, {known}"
        f" FROM {table} WHERE {where}) AS words WHERE word = 1 AND state <> 'withdrawn'"
    )


def only_word(where: str, table: str, columns: str) -> str:
    """The same where each row is the only one of its copy, so that nothing has to be ranked."""
    known = ", ".join(f"{value} AS {name}" for name, (_, value) in _ANY.items())
    return (
        f"SELECT {_merged(columns)} FROM (SELECT {columns}, {known} FROM {table} WHERE {where}) AS words"
        " WHERE state <> 'withdrawn'"
    )


def _merged(columns: str) -> str:
    return ", ".join(f"{_MERGED[name]} AS {name}" if name in _MERGED else name for name in columns.split(", "))


def view_statement() -> str:
    """The statement that makes the view, in either dialect."""
    return f"CREATE OR REPLACE VIEW {VIEW} AS {last_word()}"


def table_statement(folder: Path) -> str:
    """DuckDB's stand-in for the Glue table: all Parquet files of a folder."""
    types = ", ".join(f"'{column.name}': VARCHAR" for column in PARTITIONS)
    # Firehose and we may write a type in different forms, times above all; what is asked is of one.
    columns = ", ".join(f"CAST({column.name} AS {column.sql}) AS {column.name}" for column in COLUMNS)
    names = ", ".join(column.name for column in PARTITIONS)
    return (
        f"CREATE OR REPLACE VIEW {TABLE} AS SELECT {columns}, {names} FROM read_parquet("
        f"{text(folder / PATTERN)}, hive_partitioning=true, hive_types={{{types}}})"
    )


def coverage_statement(folder: Path) -> str:
    """DuckDB's view of who watched when; empty where nobody said."""
    columns = ", ".join(f"{column.name}: '{column.sql}'" for column in COVERAGE)
    files = folder / COVERAGE_FOLDER / "day=*" / "*.ndjson"
    if next((folder / COVERAGE_FOLDER).glob("day=*/*.ndjson"), None) is None:
        nothing = ", ".join(f"CAST(NULL AS {column.sql}) AS {column.name}" for column in COVERAGE)
        return f"CREATE OR REPLACE VIEW {COVERAGE_FOLDER} AS SELECT {nothing} WHERE false"
    return (
        f"CREATE OR REPLACE VIEW {COVERAGE_FOLDER} AS SELECT * FROM read_json({text(files)}, columns={{{columns}}},"
        " format='newline_delimited')"
    )
