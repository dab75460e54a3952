"""Rows to Parquet files in their partitions. DuckDB makes the files; the rows reach it as delimited text."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import astuple

from crr_monitor.core.archive import arrival, latest_event, partition_of
from crr_monitor.history.driver import Database, connected, text
from crr_monitor.history.layout import ENDING
from crr_monitor.history.schema import COLUMNS, FROM_ROW, ROW_FIELDS, TIMES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from crr_monitor.core.archive import ArchiveRow
    from crr_monitor.history.layout import Target

SEPARATOR = "\x1f"
"""Between the fields: rare in keys, so that hardly any field has to be quoted."""

_SPECIAL = re.compile('["\r\n]')
_SEPARATORS = len(ROW_FIELDS) - 1


class Written(Struct):
    """What was written."""

    rows: int = 0
    files: int = 0

    def add(self, other: Written) -> None:
        """Add the figures of another step."""
        self.rows += other.rows
        self.files += other.files


def line_of(row: ArchiveRow) -> str:
    """A row as one line of delimited text, as :func:`select_text` reads it."""
    fields = ["" if value is None else value if type(value) is str else str(value) for value in astuple(row)]
    line = SEPARATOR.join(fields)
    # Three plain searches take a fifth of the time of one for a class of characters.
    if line.count(SEPARATOR) != _SEPARATORS or '"' in line or "\n" in line or "\r" in line:
        line = SEPARATOR.join(map(_quoted, fields))
    return line + "\n"


def _quoted(field: str) -> str:
    return '"' + field.replace('"', '""') + '"' if SEPARATOR in field or _SPECIAL.search(field) else field


def select_text(files: Iterable[Path], *, hour: bool = False) -> str:
    """The SQL that reads such text as the archive's columns; with ``hour`` each line has one before it."""
    types = ", ".join(f"'{name}': '{_text_type(name)}'" for name in ROW_FIELDS)
    if hour:
        types = f"'hour': 'VARCHAR', {types}"
    names = ", ".join(map(text, files))
    values = ", ".join(_value(column.name) for column in COLUMNS)
    if hour:
        values = f"hour, {values}"
    return (
        f"SELECT {values} FROM read_csv([{names}], columns={{{types}}}, header=false, auto_detect=false,"
        f" delim='{SEPARATOR}', quote='\"', escape='\"', nullstr='', strict_mode=true, max_line_size=131072,"
        r" new_line='\n',"
        " buffer_size=4194304)"
    )


def _text_type(name: str) -> str:
    if name == "lag_ms" or name in TIMES:
        return "BIGINT"
    return next(column.sql for column in COLUMNS if column.name == name)


def _value(name: str) -> str:
    if name == "lag_seconds":
        return f"{FROM_ROW[name]} / 1000.0 AS {name}"
    if name in TIMES:
        return f"make_timestamp_ms({name}) AS {name}"
    return f'"{name}"' if name == "key" else name


_PARQUET = "FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, ROW_GROUP_SIZE 122880"


def copy_to(database: Database, select: str, to: Path) -> int:
    """Write the rows of a query as one Parquet file; gives their number."""
    counted = database.execute(f"COPY ({select}) TO {text(to)} ({_PARQUET})").fetchone()
    return counted[0] if counted else 0


def copy_by_hour(database: Database, select: str, to: Path) -> tuple[int, list[tuple[str, Path]]]:
    """Write the rows of a query into a folder, one Parquet file for each value of its column ``hour``.

    Gives their number, and the files by hour. What the folder held before is removed.
    """
    if to.exists():
        shutil.rmtree(to)
    counted = database.execute(f"COPY ({select}) TO {text(to)} ({_PARQUET}, PARTITION_BY (hour))").fetchone()
    files = [(file.parent.name.removeprefix("hour="), file) for file in sorted(to.glob("hour=*/*"))]
    return (counted[0] if counted else 0), files


def write_rows(
    rows: Iterable[ArchiveRow], target: Target, name: str, came: Callable[[ArchiveRow], int] = latest_event
) -> Written:
    """Write rows into the partitions of their arrival, a file called ``name`` in each.

    ``came`` tells when a row came, in milliseconds: without it, when the last thing happened that it tells of.
    The same rows under the same name give the same files: written again, they replace themselves. For as many rows as
    fit into memory as text.

    Raises:
        HistoryError: DuckDB is missing, or the archive cannot be written.
    """
    written = Written()
    with TemporaryDirectory(prefix="crr-monitor-") as folder:
        work = Path(folder)
        partitions = _spread(rows, work, came)
        if not partitions:
            return written
        with connected(work, threads=1, place="--archive") as database:
            for (day, hour), file in sorted(partitions.items()):
                made = target.scratch(work) / f"{day}-{hour}-{name}{ENDING}.part"
                written.rows += copy_to(database, select_text([file]), made)
                target.put(made, day, hour, name + ENDING)
                written.files += 1
    return written


def _spread(rows: Iterable[ArchiveRow], work: Path, came: Callable[[ArchiveRow], int]) -> dict[tuple[str, str], Path]:
    """One text file per partition."""
    lines: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        lines.setdefault(partition_of(arrival(row, came(row))), []).append(line_of(row))
    files = {}
    for (day, hour), some in lines.items():
        path = work / f"{day}-{hour}.txt"
        with path.open("w", encoding="utf-8", newline="") as file:
            file.writelines(some)
        files[day, hour] = path
    return files
