"""The usual versions of CloudTrail logs, settled by DuckDB instead of one by one.

What follows from a version's records is left to SQL only where nothing but usual records is known of the version
(:mod:`crr_monitor.history.usual`): one bucket in which it was written, and replicas in buckets for which the rules of
that bucket take it. Which rules take it is asked of the topology, once per class of versions that no rule can tell
apart.

So there is no second set of rules: there is a short way for what cannot be judged in two ways. A test holds both ways
equal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from crr_monitor.core.archive import LATENESS_MS
from crr_monitor.core.events import Mark, Written
from crr_monitor.core.evidence import Taken
from crr_monitor.history.driver import text
from crr_monitor.history.layout import sync
from crr_monitor.history.schema import COLUMNS
from crr_monitor.history.spill import SLOT_SQL
from crr_monitor.history.usual import KMS, select_lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from crr_monitor.core.evidence import Expectation
    from crr_monitor.core.topology import Topology
    from crr_monitor.history.driver import Database

MEMORY = "300MB"
"""What the settling of a partition may use."""

# ------------------------------------------------------------ settling

_BY_VERSION = (
    'CREATE OR REPLACE TEMP TABLE versions AS SELECT "key", version_id,'
    " min(bucket) FILTER (NOT replica) AS source, max(bucket) FILTER (NOT replica) AS other_source,"
    " min(ms) FILTER (NOT replica) AS written, max(ms) FILTER (NOT replica) AS other_written,"
    " min(class) FILTER (NOT replica) AS class, max(class) FILTER (NOT replica) AS other_class,"
    " bool_or(marker) AS marker, bool_and(marker) AS all_markers,"
    " min(size) FILTER (NOT replica) AS size, min(size) FILTER (replica) AS replica_size,"
    " min(account) FILTER (NOT replica) AS account, min(region) FILTER (NOT replica) AS region,"
    " min(bucket) FILTER (replica) AS first, max(bucket) FILTER (replica) AS last,"
    " min(ms) FILTER (replica) AS arrived, min(account) FILTER (replica) AS replica_account,"
    " min(region) FILTER (replica) AS replica_region"
    ' FROM mine GROUP BY "key", version_id'
)
"""What its records say of a version: that of the replica only where there is one (``first`` is ``last``)."""

_CLEAR = (
    "source = other_source AND written = other_written AND class = other_class AND marker = all_markers AND plain"
    " AND (first IS NULL OR list_contains(destinations, first) AND list_contains(destinations, last))"
)
_SETTLED = (
    'SELECT v."key", v.version_id, v.source, v.account, v.region, v.marker, CASE WHEN NOT v.marker THEN'
    " coalesce(v.size, v.replica_size) END AS size, v.written, e.destination,"
    " coalesce({account}, e.account) AS destination_account, coalesce({region}, e.region) AS destination_region,"
    " e.rule_id, {arrived} AS arrived FROM clear AS v JOIN expected AS e ON v.source = e.source AND v.class = e.class"
)


def _settled() -> str:
    one = _SETTLED.format(
        account="CASE WHEN v.first = e.destination THEN v.replica_account END",
        region="CASE WHEN v.first = e.destination THEN v.replica_region END",
        arrived="CASE WHEN v.first = e.destination THEN v.arrived END",
    )
    several = _SETTLED.format(account="r.account", region="r.region", arrived="r.ms")
    # An arrival is filed as crr_monitor.core.archive.arrival does it.
    filed = f"make_timestamp_ms(least(greatest(written, coalesce(arrived, 0)), written + {LATENESS_MS}))"
    hour = f"strftime({filed}, '%H')"
    slot = SLOT_SQL.format(day=f"strftime({filed}, '%Y-%m-%d')", hour=hour)
    return (
        f"SELECT *, {slot} AS slot, {hour} AS hour FROM ("
        f"{one} WHERE v.first IS NOT DISTINCT FROM v.last AND (v.first = e.destination OR e.taken)"
        f' UNION ALL {several} LEFT JOIN replicas AS r ON v."key" = r."key" AND v.version_id = r.version_id'
        " AND e.destination = r.bucket WHERE v.first <> v.last AND (r.bucket IS NOT NULL OR e.taken))"
    )


class Settler:
    """Settles the versions of a partition of which only usual records are known, and tells which others there are."""

    def __init__(self, database: Database, topology: Topology, lines: Path) -> None:
        """Load a partition's lines, as :class:`crr_monitor.history.usual.Usual` makes them."""
        self._database = database
        database.execute(f"CREATE OR REPLACE TEMP TABLE mine AS {select_lines(lines)}")
        database.execute(_BY_VERSION)
        database.execute('CREATE OR REPLACE TEMP TABLE known ("key" VARCHAR, version_id VARCHAR)')
        self._answer(topology)

    def _answer(self, topology: Topology) -> None:
        """Ask the topology once per class."""
        database = self._database
        database.execute(
            "CREATE OR REPLACE TEMP TABLE answers (source VARCHAR, class BIGINT, plain BOOLEAN, destinations VARCHAR[])"
        )
        database.execute(
            "CREATE OR REPLACE TEMP TABLE expected (source VARCHAR, class BIGINT, destination VARCHAR, taken BOOLEAN,"
            " rule_id VARCHAR, account VARCHAR, region VARCHAR)"
        )
        found = database.execute(
            'SELECT source, class, min("key"), min(written), bool_or(marker) FROM versions WHERE source IS NOT NULL'
            " AND class = other_class AND source = other_source AND marker = all_markers GROUP BY source, class"
        ).fetchall()
        for source, number, key, written, marker in found:
            whole_seconds = True
            event = Written(source, key, "any", written, whole_seconds, Mark.SOURCE, marker, kms=bool(number & KMS))
            answer = topology.expected(event)
            plain = all(map(_is_plain, answer)) and all(each.bucket != source for each in answer)
            names = [each.bucket for each in answer]
            database.execute("INSERT INTO answers VALUES (?, ?, ?, ?)", [source, number, plain, names])
            for each in answer if plain else ():
                told = [source, number, each.bucket, each.taken is Taken.YES, each.rule_id, each.account, each.region]
                database.execute("INSERT INTO expected VALUES (?, ?, ?, ?, ?, ?, ?)", told)

    def know(self, blocks: Iterable[Iterable[tuple[str, str]]], work: Path) -> None:
        """Leave out versions (key and version id) of which something else is known; ``work`` is a file to use."""
        # Handed over as parameters, each value would cost as much as a record costs in all.
        encode = msgspec.json.Encoder().encode_lines
        with work.open("wb") as file:
            for block in blocks:
                # Of a text with NUL no line was made: see crr_monitor.history.usual.
                file.write(encode([(key, number) for key, number in block if "\0" not in key and "\0" not in number]))
        if work.stat().st_size:
            self._database.execute(
                "INSERT INTO known SELECT pair[1], pair[2] FROM"
                f" read_json({text(work)}, format='newline_delimited', records=false, columns={{pair: 'VARCHAR[]'}})"
            )

    def settle(self, to: Path, name: str) -> set[str]:
        """Write the copies of the clear versions into folders ``slot=SLOT`` of ``to``; gives the slots."""
        database = self._database
        database.execute(
            f"CREATE OR REPLACE TEMP TABLE clear AS SELECT * FROM versions JOIN answers USING (source, class)"
            f' ANTI JOIN known USING ("key", version_id) WHERE coalesce({_CLEAR}, false)'
        )
        database.execute(
            'CREATE OR REPLACE TEMP TABLE replicas AS SELECT m."key", m.version_id, m.bucket, min(m.ms) AS ms,'
            " min(m.account) AS account, min(m.region) AS region, list_contains(any_value(destinations), m.bucket)"
            ' AS expected FROM mine AS m JOIN clear AS v ON m."key" = v."key" AND m.version_id = v.version_id'
            ' WHERE m.replica AND v.first <> v.last GROUP BY m."key", m.version_id, m.bucket'
        )
        database.execute(
            'DELETE FROM clear USING replicas WHERE clear."key" = replicas."key"'
            " AND clear.version_id = replicas.version_id AND NOT replicas.expected"
        )
        to.mkdir(exist_ok=True)
        database.execute(
            f"COPY ({_settled()}) TO {text(to)} (FORMAT parquet, PARTITION_BY (slot), OVERWRITE_OR_IGNORE,"
            f" FILENAME_PATTERN {text(name + '-{i}')})"
        )
        files = list(to.glob(f"slot=*/{name}-*"))
        for file in files:
            sync(file)
        return {file.parent.name.removeprefix("slot=") for file in files}

    def others(self) -> Iterator[Written]:
        """The records of all other versions, as the decoder would have read them."""
        self._database.execute(
            'SELECT "key", version_id, bucket, replica, ms, marker, kms, size, account, region FROM mine'
            ' ANTI JOIN clear USING ("key", version_id)'
        )
        while rows := self._database.fetchmany(10_000):
            for key, version_id, bucket, replica, ms, marker, kms, size, account, region in rows:
                mark = Mark.REPLICA if replica else Mark.SOURCE
                whole_seconds = True
                yield Written(
                    bucket, key, version_id, ms, whole_seconds, mark, marker, size, None, account, region, kms=kms
                )


def _is_plain(answer: Expectation) -> bool:
    return answer.taken is not Taken.UNCERTAIN and bool(answer.rule_id)


# -------------------------------------------------------------- filing


def _numbered(*parts: str) -> str:
    """The number that :mod:`crr_monitor.core.archive` makes of some parts."""
    joined = ", chr(31), ".join(parts)  # concat() takes NULL for an empty text
    return f"CAST(md5_number_lower(concat({joined})) & 9223372036854775807 AS BIGINT)"


_STATUS = "CASE WHEN arrived IS NULL THEN 'PENDING' ELSE 'COMPLETED' END"
_STATE = "CASE WHEN arrived IS NULL THEN 'open' ELSE 'settled' END"
_OPERATION = "CASE WHEN marker THEN 'delete_marker' ELSE 'put' END"
_EVIDENCE = "CASE WHEN arrived IS NOT NULL THEN 'replica-event' END"
_COPY_ID = _numbered("version_id", "destination", '"key"')
_ROW_ID = _numbered(
    "copy_id", _STATE, "account", "region", "source", _OPERATION, "size", "NULL", "written", "written", "'1.0'",
    "destination_account", "destination_region", "rule_id", _STATUS, "arrived", "lag_ms", "NULL", "NULL", _EVIDENCE,
    "'0'",
)  # fmt: skip


def select_settled(files: Iterable[Path], recorded_at: int) -> str:
    """The SQL that reads what :meth:`Settler.settle` wrote as the archive's columns, with the hour before them."""
    names = ", ".join(map(text, files))
    stamp = f"make_timestamp_ms({recorded_at})"
    said = {
        "source_account": "account",
        "source_region": "region",
        "source_bucket": "source",
        "key": '"key"',
        "version_id": "version_id",
        "operation": _OPERATION,
        "size": "size",
        "etag": "NULL",
        "written_at": "make_timestamp_ms(written)",
        "destination_account": "destination_account",
        "destination_region": "destination_region",
        "destination_bucket": "destination",
        "rule_id": "rule_id",
        "status": _STATUS,
        "replicated_at": "make_timestamp_ms(arrived)",
        "lag_seconds": "lag_ms / 1000.0",
        "failed_at": "NULL",
        "failure_reason": "NULL",
        "evidence": _EVIDENCE,
        "time_precision": "1.0",
        "recorded_at": stamp,
        "counted_at": "make_timestamp_ms(written)",
        "repaired": "false",
        "reason_code": "NULL",
        "state": _STATE,
        "copy_id": "copy_id",
        "row_id": "row_id",
        "revision": "0",
    }
    columns = ", ".join(f'CAST({said[column.name]} AS {column.sql}) AS "{column.name}"' for column in COLUMNS)
    return (
        f"SELECT hour, {columns} FROM (SELECT *, {_ROW_ID} AS row_id FROM (SELECT *, {_COPY_ID} AS copy_id,"
        f" CASE WHEN arrived IS NOT NULL THEN greatest(arrived - written, 0) END AS lag_ms"
        f" FROM read_parquet([{names}], hive_partitioning=false)))"
    )
