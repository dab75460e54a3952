"""The archive's schema, declared once: for our own files, for DuckDB's views, and for the Glue table."""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import Struct

from crr_monitor.core.archive import ArchiveRow
from crr_monitor.core.coverage import FOLDER

HiveType: TypeAlias = Literal["string", "bigint", "double", "boolean", "timestamp"]

_SQL = {"string": "VARCHAR", "bigint": "BIGINT", "double": "DOUBLE", "boolean": "BOOLEAN", "timestamp": "TIMESTAMP"}


class Column(Struct, frozen=True):
    """A column: its type as Hive and Glue call it, and what it holds. Times are UTC, with milliseconds."""

    name: str
    hive: HiveType
    meaning: str

    @property
    def sql(self) -> str:
        """The type as DuckDB calls it."""
        return _SQL[self.hive]


COLUMNS: tuple[Column, ...] = (
    Column("source_account", "string", "account that owns the source bucket"),
    Column("source_region", "string", "Region of the source bucket"),
    Column("source_bucket", "string", "source bucket"),
    Column("key", "string", "object key"),
    Column("version_id", "string", "version id, the same in every bucket"),
    Column("operation", "string", "put or delete_marker"),
    Column("size", "bigint", "bytes"),
    Column("etag", "string", "ETag at the source"),
    Column("written_at", "timestamp", "when the version was written at the source"),
    Column("destination_account", "string", "account that owns the destination bucket"),
    Column("destination_region", "string", "Region of the destination bucket"),
    Column("destination_bucket", "string", "destination bucket"),
    Column("rule_id", "string", "replication rule"),
    Column("status", "string", "COMPLETED, FAILED, SOURCE_DELETED, NOT_ELIGIBLE or PENDING"),
    Column("replicated_at", "timestamp", "when the replica was written"),
    Column("lag_seconds", "double", "from the write to the replica"),
    Column("failed_at", "timestamp", "when it failed, the latest time"),
    Column("failure_reason", "string", "why it failed, as S3 says it"),
    Column("evidence", "string", "what the status is known from"),
    Column("time_precision", "double", "1.0 where a time has whole seconds, else 0.001"),
    Column("recorded_at", "timestamp", "when the row was recorded"),
    Column("counted_at", "timestamp", "written_at, else the first sighting: what reports select by"),
    Column("repaired", "boolean", "completed after it had failed"),
    Column("reason_code", "string", "failure_reason as a short code to count by"),
    Column("state", "string", "settled, open, expired or withdrawn"),
    Column("copy_id", "bigint", "hash of key, version id and destination bucket"),
    Column("row_id", "bigint", "idempotency key: hash of what the row says"),
    Column("revision", "bigint", "orders rows of one recorded_at"),
)
"""In the order of the files."""

PARTITIONS: tuple[Column, ...] = (
    Column("day", "string", "day of arrival, as in 2026-11-22"),
    Column("hour", "string", "hour of arrival, 00 to 23"),
)

NAMES = tuple(column.name for column in COLUMNS)

TABLE = "archive"
"""All rows as they were written."""

VIEW = "copies"
"""The last word per copy."""

COVERAGE: tuple[Column, ...] = (
    Column("monitor", "string", "the monitor that says so; empty for logs that were read later"),
    Column("source", "string", "what was read: a folder, a queue, HTTP, CloudTrail logs"),
    Column("kind", "string", "live (by a monitor that ran) or logs (read later)"),
    Column("state", "string", "watched or blind"),
    Column("since", "string", "from when, as in 2026-11-22T07:00:00.000Z"),
    Column("until", "string", "to when"),
    Column("account", "string", "whose events; absent: of all that the source brings"),
    Column("region", "string", "likewise"),
    Column("newest_event_at", "string", "time of the newest event that was known then"),
    Column("waiting", "bigint", "messages that waited in the source"),
    Column("queue_age_seconds", "double", "age of the oldest of them, at least"),
    Column("problem", "string", "why it was blind"),
)
"""Who watched when: the fields of the lines of JSON in :data:`COVERAGE_FOLDER`. What is not known is left out."""

COVERAGE_FOLDER = FOLDER
"""Below the archive; ``day=YYYY-MM-DD/NAME.ndjson`` in it. It is the name of the view in DuckDB, too."""

FROM_ROW = {"lag_seconds": "lag_ms"}
"""Columns that :class:`~crr_monitor.core.archive.ArchiveRow` has under another name."""

TIMES = frozenset(column.name for column in COLUMNS if column.hive == "timestamp")
"""The columns that are milliseconds in a row, and a time in the archive."""

ROW_FIELDS = ArchiveRow.__struct_fields__


def glue_columns() -> list[dict[str, str]]:
    """The columns as a Glue table's ``StorageDescriptor`` lists them."""
    return [{"Name": column.name, "Type": column.hive} for column in COLUMNS]


def glue_partitions() -> list[dict[str, str]]:
    """The partition keys as a Glue table lists them."""
    return [{"Name": column.name, "Type": column.hive} for column in PARTITIONS]
