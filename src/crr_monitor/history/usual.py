"""The usual records of CloudTrail logs, read and settled by DuckDB instead of one by one.

Most records of a log are alike: a write by somebody, or by the replication service, whole and with nothing odd about
it. SQL takes only those whose every field that the decoder looks at is what it is for certain; all others go to the
decoder as they came. What follows from a version's records is again left to SQL only where nothing else is known of
the version: one bucket in which it was written, and replicas in buckets for which the rules of that bucket take it.
Which rules take it is asked of the topology, once per class of versions that no rule can tell apart.

So there is no second set of rules: there is a short way for what cannot be judged in two ways. A test holds both ways
equal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Raw, Struct

from crr_monitor.core.archive import LATENESS_MS
from crr_monitor.core.canary_keys import FOLDER
from crr_monitor.core.events import Mark, Written
from crr_monitor.core.evidence import Taken
from crr_monitor.core.topology import ARCHIVED
from crr_monitor.history.driver import load, text
from crr_monitor.history.layout import sync
from crr_monitor.history.schema import COLUMNS
from crr_monitor.history.spill import NUMBER_SQL, SLOT_SQL

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from crr_monitor.core.evidence import Expectation
    from crr_monitor.core.topology import Topology
    from crr_monitor.history.driver import Database

MEMORY = "300MB"

MAX_DOCUMENT_BYTES = 12 << 20
"""The longest log that DuckDB gets: less than what it takes as one object."""


class UnusualError(Exception):
    """DuckDB cannot read what the decoder can, or reads something else: all of it is for the decoder."""


MAX_PREFIXES = 200
MAX_BUCKET_PREFIXES = 40
MAX_CHANGES = 100
"""How many prefixes of rules, and times at which rules changed, are worth telling apart in SQL."""


class _Log(Struct, forbid_unknown_fields=True):
    records: list[Raw] = msgspec.field(name="Records")


_parse_log = msgspec.json.Decoder(_Log).decode


def records_of(document: bytes) -> list[Raw] | None:
    """The records of a CloudTrail log, or ``None`` where the document is anything else."""
    try:
        return _parse_log(document).records
    except (msgspec.DecodeError, RecursionError):
        return None


# ------------------------------------------------------------- reading

_RECORD = (
    'STRUCT("Records" STRUCT("userIdentity" STRUCT("principalId" VARCHAR, "invokedBy" VARCHAR), "eventTime" VARCHAR,'
    ' "eventSource" VARCHAR, "eventName" VARCHAR, "awsRegion" VARCHAR, "sourceIPAddress" VARCHAR, "errorCode" VARCHAR,'
    ' "requestParameters" STRUCT("bucketName" VARCHAR, "key" VARCHAR, "versionId" VARCHAR, "x-amz-tagging" VARCHAR,'
    ' "x-amz-storage-class" VARCHAR, "x-amz-server-side-encryption" VARCHAR),'
    ' "responseElements" STRUCT("x-amz-server-side-encryption" VARCHAR, "x-amz-version-id" VARCHAR,'
    ' "x-amz-delete-marker" VARCHAR), "additionalEventData" STRUCT("objectSize" VARCHAR, "bytesTransferredIn" VARCHAR,'
    ' "SSEApplied" VARCHAR), "resources" STRUCT("type" VARCHAR, "accountId" VARCHAR, "ARN" VARCHAR)[],'
    ' "eventType" VARCHAR)[])'
)
"""What is read of a log. DuckDB turns numbers, lists and objects into text where it is asked for text: so a field is
taken for a text only where no other JSON value could look like it."""

_FIELDS = (
    "SELECT n, i, r.eventName AS name, r.eventSource AS service, r.errorCode AS error, r.eventType AS kind,"
    " r.eventTime AS moment, r.awsRegion AS region, r.userIdentity.principalId AS principal,"
    " r.userIdentity.invokedBy = 's3.amazonaws.com' AS invoked, r.sourceIPAddress = 's3.amazonaws.com' AS addressed,"
    ' r.requestParameters.bucketName AS bucket, r.requestParameters."key" AS "key",'
    ' r.requestParameters.versionId AS named, r.requestParameters."x-amz-tagging" AS tagging,'
    ' r.requestParameters."x-amz-storage-class" AS class, r.responseElements."x-amz-version-id" AS version_id,'
    ' r.responseElements."x-amz-delete-marker" AS made_marker,'
    ' r.responseElements."x-amz-server-side-encryption" AS answered_encryption,'
    ' r.requestParameters."x-amz-server-side-encryption" AS asked_encryption,'
    " r.additionalEventData.SSEApplied AS encryption, r.additionalEventData.objectSize AS object_size,"
    " r.additionalEventData.bytesTransferredIn AS received,"
    " CASE WHEN r.resources[1].type = 'AWS::S3::Bucket' THEN r.resources[1]"
    " WHEN r.resources[2].type = 'AWS::S3::Bucket' THEN r.resources[2] END AS owned"
    ' FROM (SELECT n, unnest(log."Records") AS r, generate_subscripts(log."Records", 1) - 1 AS i'
    " FROM read_json(FILE, format='newline_delimited', columns={n: 'BIGINT', log: 'RECORD'}))"
)

_NUMERAL = "-?[0-9][-+0-9.eE]*"


def _is_text(name: str) -> str:
    """Whether a value that came as text cannot have been anything else in JSON."""
    return (
        f"NOT ({name} IN ('', 'null', 'true', 'false')"
        f" OR {name} >= '-' AND {name} < ':' AND regexp_full_match({name}, '{_NUMERAL}')"
        f" OR starts_with({name}, '{{') AND ends_with({name}, '}}')"
        f" OR starts_with({name}, '[') AND ends_with({name}, ']'))"
    )


def _begins(name: str, first: str, behind: str) -> str:
    return f"({name} >= '{first}' AND {name} < '{behind}')"


_KEYS = (
    f'{_is_text(chr(34) + "key" + chr(34))} AND strlen("key") <= 1024 AND NOT contains("key", {text(FOLDER)})'
    ' AND NOT contains("key", chr(0))'
)
_ARCHIVED = f"({', '.join(map(text, sorted(ARCHIVED)))})"
_ENCRYPTIONS = "('AES256', 'aws:kms', 'aws:kms:dsse')"

_MOMENT = "(19[7-9][0-9]|2[0-9]{3})-[0-9]{2}-[0-9]{2}T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z"
_USUAL = (
    "service = 's3.amazonaws.com' AND error IS NULL AND kind = 'AwsApiCall'"
    " AND (name IN ('PutObject', 'CopyObject', 'CompleteMultipartUpload', 'PostObject')"
    " OR name = 'DeleteObject' AND named IS NULL AND made_marker = 'true')"
    f" AND regexp_full_match(moment, '{_MOMENT}') AND coalesce(epoch_ms(try_cast(moment AS TIMESTAMP)), 0) > 0"
    f" AND {_begins('region', 'a', '{')} AND contains(region, '-')"
    f" AND ({_begins('bucket', 'a', '{')} AND bucket NOT IN ('true', 'false')"
    f" OR {_begins('bucket', '0', ':')} AND contains(bucket, '-') AND NOT contains(lower(bucket), 'e-'))"
    f" AND {_KEYS}"
    f" AND {_is_text('version_id')} AND strlen(version_id) <= 1024 AND NOT contains(version_id, chr(0))"
    # Either nothing tells that S3 did it, or all the marks of its replication service are there.
    " AND (NOT by_s3 OR principal LIKE '%:s3-replication')"
    # What rules select by, where it says something that they need not know.
    f" AND tagging IS NULL AND (class IS NULL OR {_begins('class', 'A', '[')} AND class NOT IN {_ARCHIVED})"
    f" AND (answered_encryption IS NULL OR answered_encryption IN {_ENCRYPTIONS})"
    f" AND (asked_encryption IS NULL OR asked_encryption IN {_ENCRYPTIONS})"
    f" AND (encryption IS NULL OR {_begins('encryption', 'A', '[')})"
    " AND (object_size IS NULL OR regexp_full_match(object_size, '[0-9]{1,15}'))"
    " AND (object_size IS NOT NULL OR name <> 'PutObject' OR received IS NULL"
    " OR regexp_full_match(received, '[0-9]{1,15}'))"
    " AND starts_with(owned.ARN, 'arn:') AND ends_with(owned.ARN, ':::' || bucket)"
    " AND regexp_full_match(owned.accountId, '[0-9]{12}')"
)
"""What makes a record usual: :mod:`crr_monitor.decode.cloudtrail` could only read it in one way."""


class Classes(Struct, frozen=True):
    """What rules can tell versions apart by, beside what every record tells: prefixes of keys, and changes of rules."""

    prefixes: tuple[tuple[str, str, int], ...]
    changes: tuple[int, ...]

    @property
    def sql(self) -> str:
        """A version's class as a number; versions of one bucket and class have the same expectations."""
        period = " + ".join([f"CAST(ms >= {since} AS BIGINT)" for since in self.changes] or ["0"])
        prefixes = "".join(
            f' + CASE WHEN bucket = {text(bucket)} AND starts_with("key", {text(prefix)})'
            f" THEN {1 << place} ELSE 0 END * {4 * (MAX_CHANGES + 1)}"
            for bucket, prefix, place in self.prefixes
        )
        return f"CAST(marker AS BIGINT) + 2 * CAST(kms AS BIGINT) + 4 * ({period}){prefixes}"


def classes_of(topology: Topology) -> Classes | None:
    """How to tell a topology's classes apart; ``None``: there are no rules, or too many for SQL to be worth it."""
    if not topology.any_rules:
        return None
    by_bucket: dict[str, list[str]] = {}
    for config in topology.configs:
        by_bucket.setdefault(config.bucket, []).extend(rule.prefix for rule in config.rules if rule.prefix)
    prefixes = tuple(
        (bucket, prefix, place)
        for bucket, found in by_bucket.items()
        for place, prefix in enumerate(sorted(set(found)))
    )
    changes = tuple(sorted({config.since for config in topology.configs}))
    too_many = len(prefixes) > MAX_PREFIXES or len(changes) > MAX_CHANGES
    if too_many or any(place >= MAX_BUCKET_PREFIXES for _, _, place in prefixes):
        return None
    return Classes(prefixes, changes)


_COLUMNS = (
    'n BIGINT, i BIGINT, part INTEGER, "key" VARCHAR, version_id VARCHAR, bucket VARCHAR, replica BOOLEAN, ms BIGINT,'
    " marker BOOLEAN, kms BOOLEAN, class BIGINT, size BIGINT, account VARCHAR, region VARCHAR"
)
_KMS = (
    "name <> 'DeleteObject' AND CASE WHEN answered_encryption IS NOT NULL OR asked_encryption IS NOT NULL"
    " THEN starts_with(coalesce(answered_encryption, asked_encryption), 'aws:kms')"
    " ELSE encryption IS NOT NULL AND contains(encryption, 'KMS') END"
)
_SIZE = (
    "CASE WHEN name = 'DeleteObject' THEN NULL WHEN object_size IS NOT NULL THEN CAST(object_size AS BIGINT)"
    " WHEN name = 'PutObject' THEN CAST(received AS BIGINT) END"
)
_JUDGED = (
    f"SELECT *, coalesce({_USUAL}, false) AS usual FROM (SELECT *, coalesce(invoked, false)"
    f" OR coalesce(addressed, false) AS by_s3 FROM ({_FIELDS.replace('RECORD', _RECORD)}))"
)
_TAKEN = (
    'SELECT n, i, CASE WHEN usual THEN "key" END AS "key", version_id, bucket, by_s3 AS replica,'
    f" epoch_ms(try_cast(moment AS TIMESTAMP)) AS ms, name = 'DeleteObject' AS marker, {_KMS} AS kms, {_SIZE} AS size,"
    f" owned.accountId AS account, region FROM ({_JUDGED})"
)


class Taker:
    """Takes the usual records out of logs, and keeps them until they are saved."""

    def __init__(self, database: Database, classes: Classes, partitions: int, lines: Path) -> None:
        """Begin with none. ``lines`` is the file in which logs are handed over."""
        self._database = database
        part = f"CAST({NUMBER_SQL.format(name='version_id')} % {partitions} AS INTEGER)"
        take = (
            f'INSERT INTO taken SELECT n, i, {part}, "key", version_id, bucket, replica, ms, marker, kms,'
            f" {classes.sql}, size, account, region FROM ({_TAKEN})"
        )
        database.execute(f"CREATE OR REPLACE TEMP TABLE taken ({_COLUMNS})")
        lines.touch()  # DuckDB looks whether it is there
        # So it is planned once, which takes a tenth of the time of what it then does.
        database.execute(f"PREPARE take AS {take.replace('FILE', text(lines))}")

    def take(self, expected: int) -> list[tuple[int, int]]:
        """Take the usual records of the file; gives number of document and index of each of the others, in order.

        Each line of it is ``{"n": NUMBER, "log": DOCUMENT}``; ``expected`` is how many records there are in all.

        Raises:
            UnusualError: DuckDB refuses something in it, or reads something else; nothing was taken.
        """
        database = self._database
        database.execute("BEGIN")
        try:
            inserted = _one(database, "EXECUTE take")
            if inserted != expected:
                database.execute("ROLLBACK")
                raise UnusualError
            database.execute('SELECT n, i FROM taken WHERE "key" IS NULL ORDER BY n, i')
            others = [(n, i) for n, i in database.fetchall()]
            database.execute('DELETE FROM taken WHERE "key" IS NULL')
            database.execute("COMMIT")
        except load().Error as error:
            database.execute("ROLLBACK")
            raise UnusualError from error
        return others

    def save(self, to: Path) -> int:
        """Write what was taken, durably; gives the latest time in it, 0 where nothing was taken."""
        newest = _one(self._database, "SELECT max(ms) FROM taken")
        if newest is None:
            return 0
        unfinished = to.with_suffix(".unfinished")
        self._database.execute(
            f"COPY (SELECT * EXCLUDE (n, i) FROM taken ORDER BY part) TO {text(unfinished)}"
            " (FORMAT parquet, ROW_GROUP_SIZE 8192)"
        )
        sync(unfinished)
        unfinished.replace(to)
        return int(newest)


def _one(database: Database, query: str) -> Any:  # noqa: ANN401 - whatever the query gives
    found = database.execute(query).fetchone()
    return None if found is None else found[0]


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

    def __init__(self, database: Database, topology: Topology, parts: Sequence[Path], partition: int) -> None:
        """Load the partition from what :meth:`Taker.save` wrote."""
        self._database = database
        files = ", ".join(map(text, parts))
        database.execute(
            f"CREATE OR REPLACE TEMP TABLE mine AS SELECT * EXCLUDE (part) FROM read_parquet([{files}])"
            f" WHERE part = {partition}"
        )
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
            event = Written(source, key, "any", written, whole_seconds, Mark.SOURCE, marker, kms=bool(number & 2))
            answer = topology.expected(event)
            plain = all(map(_is_plain, answer)) and all(each.bucket != source for each in answer)
            names = [each.bucket for each in answer]
            database.execute("INSERT INTO answers VALUES (?, ?, ?, ?)", [source, number, plain, names])
            for each in answer if plain else ():
                told = [source, number, each.bucket, each.taken is Taken.YES, each.rule_id, each.account, each.region]
                database.execute("INSERT INTO expected VALUES (?, ?, ?, ?, ?, ?, ?)", told)

    def know(self, versions: Iterable[tuple[str, str]], work: Path) -> None:
        """Leave out versions (key and version id) of which something else is known; ``work`` is a file to use."""
        # Handed over as parameters, each value would cost as much as a record costs in all.
        told = [version for version in versions if not any("\0" in part for part in version)]  # none such is usual
        work.write_bytes(msgspec.json.Encoder().encode_lines([{"key": key, "id": number} for key, number in told]))
        if told:
            columns = "{\"key\": 'VARCHAR', id: 'VARCHAR'}"
            self._database.execute(
                f"INSERT INTO known SELECT * FROM read_json({text(work)}, format='newline_delimited',"
                f" columns={columns})"
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
