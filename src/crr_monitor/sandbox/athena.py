"""Athena as AWS has it, where the emulator is more generous or knows less: partitions, and views.

The emulator reads all files below a table's place. Amazon Athena User Guide, "Partition your data": a partitioned table
has just the partitions that are registered in Glue; "Set up partition projection" and "Supported types for partition
projection": where ``projection.enabled`` is true it has instead those that the table's properties give, and what is
registered is not looked at. So whatever lies elsewhere is not seen.

A view of Athena is a table of type ``VIRTUAL_VIEW`` whose original text holds the query as JSON in Base64 ("Work with
views"; the form is the one that Athena itself writes, as ``GetTable`` shows it).
"""

# ruff: noqa: SLF001 - the emulator has no public interface to extend

from __future__ import annotations

import base64
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crr_monitor.sandbox import points

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

_athena = points.module("services.athena")
_glue = points.module("services.glue")

_DAYS = {"DAY": 1, "WEEK": 7, "MONTH": 30, "YEAR": 365}
"""Months and years of a range are about so long: nothing here is as old as that it mattered."""

_NOW = re.compile(r"NOW(?:([+-])(\d+)(DAY|WEEK|MONTH|YEAR)S?)?")
_JAVA_DATE = {"yyyy-MM-dd": "%Y-%m-%d", "yyyy/MM/dd": "%Y/%m/%d", "yyyyMMdd": "%Y%m%d"}
_VIEW = re.compile(r"/\* Presto View: ([A-Za-z0-9+/=]+) \*/")


def install() -> None:
    """Put this behaviour in the place of the emulator's."""
    points.replace("services.athena", "_table_relation", _in_partitions)
    points.replace("services.athena", "_rewrite_data_paths", _with_views)


# Partitions -----------------------------------------------------------------------------------------------------------


def _in_partitions(old: Callable[[dict[str, Any], list[str]], str]) -> Callable[[dict[str, Any], list[str]], str]:
    def relation(table_data: dict[str, Any], files: list[str]) -> str:
        keys = [str(key["Name"]) for key in table_data.get("PartitionKeys") or []]
        kept = [file for file in files if not keys or _seen(table_data, keys, file)]
        return old(table_data, kept) if kept else str(_athena._empty_relation(table_data))

    return relation


def _seen(table: dict[str, Any], keys: Sequence[str], file: str) -> bool:
    """Whether a file lies in a partition that the table has, in folders as Hive names them."""
    folders = Path(file).parts[-1 - len(keys) : -1]
    parted = [folder.partition("=") for folder in folders]
    if [name for name, _, _ in parted] != list(keys):
        return False
    values = [value for _, _, value in parted]
    parameters = table.get("Parameters") or {}
    if str(parameters.get("projection.enabled", "")).lower() == "true":
        return all(_projected(parameters, key, value) for key, value in zip(keys, values, strict=True))
    registered = _glue._partitions.get(f"{table['DatabaseName']}/{table['Name']}", [])
    return any(each.get("Values") == values for each in registered)


def _projected(parameters: dict[str, str], key: str, value: str) -> bool:
    """Whether a value is one of those that the table's properties give for a partition key."""
    kind = parameters.get(f"projection.{key}.type", "").strip().lower()
    if kind == "enum":
        return value in parameters[f"projection.{key}.values"].split(",")
    low, high = (each.strip() for each in parameters[f"projection.{key}.range"].split(","))
    if kind == "integer":
        digits = int(parameters.get(f"projection.{key}.digits", "0"))
        return value in {f"{number:0{digits}}" for number in range(int(low), int(high) + 1)}
    if kind == "date":
        form = _JAVA_DATE[parameters[f"projection.{key}.format"]]
        return _moment(low, form) <= _moment(value, form) <= _moment(high, form)
    message = f"projection.{key}.type {kind!r} is not known to the sandbox"
    raise ValueError(message)


def _moment(text: str, form: str) -> datetime:
    found = _NOW.fullmatch(text)
    if found is None:
        return datetime.strptime(text, form).replace(tzinfo=UTC)
    sign, count, unit = found.groups("")
    days = int(count or 0) * _DAYS.get(unit, 0)
    return datetime.now(UTC) + timedelta(days=-days if sign == "-" else days)


# Views ----------------------------------------------------------------------------------------------------------------


def _with_views(old: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    async def rewrite(query: str, database: str, catalog: str | None = None) -> Any:  # noqa: ANN401 - passed on
        return await old(_expanded(query, database), database, catalog)

    return rewrite


def _expanded(query: str, database: str) -> str:
    """A query with each view in place of its name; Athena's views may not stand for others in our templates."""
    for ref in reversed(_athena._table_references(query)):
        table = _glue._tables.get(f"{ref.database or database}/{ref.table}")
        if table and table.get("TableType") == "VIRTUAL_VIEW":
            alias = "" if ref.aliased else f' AS "{ref.table}"'
            query = f"{query[: ref.start]}({_view(table)}){alias}{query[ref.end :]}"
    return query


def _view(table: dict[str, Any]) -> str:
    """The view's query.

    Raises:
        ValueError: it is not as Athena would have it.
    """
    found = _VIEW.fullmatch(table.get("ViewOriginalText") or "")
    if found is None:
        message = f"view {table['Name']}: its original text is no Presto view"
        raise ValueError(message)
    view = json.loads(base64.b64decode(found[1]))
    columns = [each["Name"] for each in table["StorageDescriptor"]["Columns"]]
    if view["schema"] not in _glue._databases or [each["name"] for each in view["columns"]] != columns:
        message = f"view {table['Name']} is stale or in invalid state"
        raise ValueError(message)
    return str(view["originalSql"])
