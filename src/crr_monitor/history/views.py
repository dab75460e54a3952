"""The view ``copies``: of all rows about one copy the last word. One text for DuckDB and for Athena (Trino's SQL)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from crr_monitor.core.archive import LATENESS_DAYS, WORDS
from crr_monitor.core.times import DAY_MS, HOUR_MS, format_time
from crr_monitor.history.driver import text
from crr_monitor.history.layout import PATTERN
from crr_monitor.history.schema import COLUMNS, NAMES, PARTITIONS, TABLE, VIEW

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


def last_word(where: str = "true", table: str = TABLE, columns: str = _COLUMNS, identity: str = _IDENTITY) -> str:
    """The query that gives each copy's last word, of the rows of a table for which ``where`` holds.

    The condition has to hold for all rows of a copy or for none; one on partitions has to be wide enough.
    """
    return (
        f"SELECT {columns} FROM (SELECT {columns}, row_number() OVER (PARTITION BY {identity} ORDER BY {_ORDER})"
        f" AS word FROM {table} WHERE {where}) AS words WHERE word = 1 AND state <> 'withdrawn'"
    )


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


TWICE = "several_words"
"""DuckDB's table of the copies about which there is more than one row."""

RESOLVED = "last_words"
"""DuckDB's table of the last words of those copies."""


NARROW = tuple(
    name for name in NAMES if name not in {"key", "version_id", "etag", "failure_reason", "evidence", "rule_id"}
)
"""The columns that say nothing of a single object: what counting needs, and a quarter of the bytes."""


def quick_statements(where: str, passes: int = 1) -> list[str]:
    """Find the copies with more than one row, and their last words, in :data:`NARROW` columns.

    There are ``passes`` (a power of 2) over the ids, of which each remembers only its part. A copy is known by its
    64-bit number and its destination here: of 3,700 archives of a hundred million copies, one has two copies with the
    same number, and counts them as one.
    """
    parts = [f" AND copy_id & {passes - 1} = {part}" for part in range(passes)] if passes > 1 else [""]
    found = [
        f"INSERT INTO {TWICE} SELECT copy_id FROM {TABLE} WHERE {where}{part} GROUP BY copy_id HAVING count(*) > 1"
        for part in parts
    ]
    rows = f"{TABLE} SEMI JOIN {TWICE} USING (copy_id)"
    several = last_word(where, rows, ", ".join(NARROW), "copy_id, destination_bucket")
    return [
        f"CREATE OR REPLACE TEMP TABLE {TWICE} (copy_id BIGINT)",
        *found,
        f"CREATE OR REPLACE TEMP TABLE {RESOLVED} AS {several}",
    ]


def quick_last_word(where: str) -> str:
    """The same as :func:`last_word` in fewer columns, where :func:`quick_statements` were run.

    Ranking a hundred million rows takes minutes; looking for the few that need it takes seconds.
    """
    columns = ", ".join(NARROW)
    return (
        f"SELECT {columns} FROM {TABLE} ANTI JOIN {TWICE} USING (copy_id) WHERE {where} AND state <> 'withdrawn'"
        f" UNION ALL SELECT {columns} FROM {RESOLVED}"
    )
