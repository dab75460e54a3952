"""How records are printed: the JSON of the record, flat rows, a table with a row for each copy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crr_monitor.cli.output import View
from crr_monitor.cli.tables import Column, Row, show
from crr_monitor.cli.words import NOTHING, duration_text, time_text
from crr_monitor.core.failures import reason_code
from crr_monitor.core.model import FLAT_FIELDS, to_json, to_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from crr_monitor.core.model import Copy, Record

_COLUMNS = (
    Column("WRITTEN (UTC)", fold=True, once=True),
    Column("OBJECT", fold=True, once=True),
    Column("VERSION", wide=True, once=True),
    Column("DESTINATION", fold=True),
    Column("STATUS"),
    Column("LAG", right=True),
    Column("REASON", fold=True),
)


def record_view(*, uncertain: bool, table: Callable[[Iterable[Record]], None] | None = None) -> View[Record]:
    """How records are printed, with their uncertain copies or without."""

    def body(record: Record) -> dict[str, Any]:
        return to_json(record, uncertain=uncertain)

    def rows(record: Record) -> Iterator[dict[str, Any]]:
        found = False
        for row in to_rows(record, uncertain=uncertain):
            found = True
            yield row
        if not found:  # nobody knows its destinations, and it is listed nevertheless
            yield {"key": record.key, "version_id": record.version_id, "status": record.status.name}

    def default_table(records: Iterable[Record]) -> None:
        show(_COLUMNS, (row for record in records for row in _rows(record, uncertain=uncertain)))

    return View(table=table or default_table, body=body, fields=FLAT_FIELDS, rows=rows)


def _rows(record: Record, *, uncertain: bool) -> Iterator[Row]:
    marker = " (delete marker)" if record.delete_marker else ""
    name = f"s3://{record.source_bucket or '?'}/{record.key}{marker}"
    about = (time_text(record.written_at), name, record.version_id)
    copies = record.copies if uncertain else record.visible_copies
    for number, copy in enumerate(copies):
        yield Row((*about, *_copy_cells(copy)), goes_on=number > 0)
    if not copies:
        yield Row((*about, NOTHING, record.status.name, NOTHING, NOTHING))


def _copy_cells(copy: Copy) -> tuple[str, ...]:
    reason = reason_code(copy.failure_reason) or NOTHING
    return (copy.bucket or NOTHING, copy.status.name, duration_text(copy.lag_ms), reason)
