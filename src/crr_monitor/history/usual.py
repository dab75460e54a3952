"""The usual records of CloudTrail logs, read by a short way.

Most records of a log are alike: a write by somebody, or by the replication service, whole and with nothing odd about
it. Of each of those, which the decoder could only read in one way, one line of text is made, for
:mod:`crr_monitor.history.settle` to settle thousands of them at once. All others go to the decoder as they came: when
in doubt, a record is not usual. A test holds both ways equal.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from typing import TYPE_CHECKING

import msgspec
from msgspec import Raw, Struct

from crr_monitor.core.canary_keys import FOLDER
from crr_monitor.core.events import MAX_KEY_BYTES, MAX_TIME
from crr_monitor.core.topology import ARCHIVED
from crr_monitor.decode.cloudtrail import BUCKET, WRITES
from crr_monitor.decode.fields import REPLICATION_SESSION, S3_SERVICE, account_id, bucket_name, time_of
from crr_monitor.decode.result import RejectError
from crr_monitor.history.driver import text
from crr_monitor.history.spill import number_of

if TYPE_CHECKING:
    from pathlib import Path

    from crr_monitor.core.topology import Topology

MAX_PREFIXES = 200
MAX_BUCKET_PREFIXES = 40
MAX_CHANGES = 100
"""How many prefixes of rules, and times at which rules changed, are worth telling apart."""

MARKER = 1
KMS = 2
_PERIOD = 4
_PREFIXES = _PERIOD * (MAX_CHANGES + 1)
"""What the bits of a class say: a delete marker, encryption by KMS; above them the period, then the prefixes."""

_SEPARATOR = "\x1f"
_COLUMNS = {
    "key": "VARCHAR",
    "version_id": "VARCHAR",
    "bucket": "VARCHAR",
    "account": "VARCHAR",
    "region": "VARCHAR",
    "ms": "BIGINT",
    "replica": "BOOLEAN",
    "class": "BIGINT",
    "size": "BIGINT",
}
"""The fields of a line: where and by whom the version was written, when (milliseconds), and its class."""

_UNFIT = re.compile("[\x1f\r\n\0]")
"""What cannot stand in a line, or not in DuckDB's text."""

_SURELY_SHORT = MAX_KEY_BYTES // 4
"""Characters that have not more bytes than a key may have."""

_MAX_KNOWN = 100_000
"""Times that are remembered."""

_LARGE = 10**15
"""Bytes: more than any object has."""


def select_lines(lines: Path) -> str:
    """The SQL that reads lines of usual records."""
    columns = ", ".join(f"'{name}': '{kind}'" for name, kind in _COLUMNS.items())
    return (
        f"SELECT *, class & {MARKER} <> 0 AS marker, class & {KMS} <> 0 AS kms FROM read_csv({text(lines)},"
        f" columns={{{columns}}}, header=false, auto_detect=false, delim='{_SEPARATOR}', quote='', escape='',"
        r" nullstr='', strict_mode=true, max_line_size=131072, new_line='\n', buffer_size=4194304)"
    )


# ------------------------------------------------------------- records


class _Identity(Struct, gc=False, rename={"principal": "principalId", "invoked_by": "invokedBy"}):
    principal: str | None = None
    invoked_by: str | None = None


class _Request(
    Struct,
    gc=False,
    rename={
        "bucket": "bucketName",
        "named": "versionId",
        "tagging": "x-amz-tagging",
        "storage_class": "x-amz-storage-class",
        "encryption": "x-amz-server-side-encryption",
    },
):
    bucket: str = ""
    key: str = ""
    named: str | None = None
    tagging: str | None = None
    storage_class: str | None = None
    encryption: str | None = None


class _Response(
    Struct,
    gc=False,
    rename={
        "encryption": "x-amz-server-side-encryption",
        "version": "x-amz-version-id",
        "delete_marker": "x-amz-delete-marker",
    },
):
    encryption: str | None = None
    version: str = ""
    delete_marker: str | None = None


class _Extra(
    Struct, gc=False, rename={"size": "objectSize", "bytes_in": "bytesTransferredIn", "encryption": "SSEApplied"}
):
    size: int | float | None = None
    bytes_in: int | float | None = None
    encryption: str | None = None


class _Resource(Struct, gc=False, rename={"account": "accountId", "arn": "ARN"}):
    type: str | None = None
    account: str | None = None
    arn: str | None = None


class _Record(
    Struct,
    gc=False,
    rename={
        "identity": "userIdentity",
        "time": "eventTime",
        "service": "eventSource",
        "name": "eventName",
        "region": "awsRegion",
        "source_ip": "sourceIPAddress",
        "error": "errorCode",
        "request": "requestParameters",
        "response": "responseElements",
        "extra": "additionalEventData",
        "kind": "eventType",
        "records": "Records",
        "messages": "Messages",
    },
):
    """A record of which every field that is read has the type that it mostly has."""

    identity: _Identity | None = None
    time: str = ""
    service: str = ""
    name: str = ""
    region: str = ""
    source_ip: str | None = None
    error: str | None = None
    request: _Request | None = None
    response: _Response | None = None
    extra: _Extra | None = None
    resources: list[_Resource] | None = None
    kind: str = ""
    # What makes something else of a record.
    records: None = None
    messages: None = None


class _Log(Struct, forbid_unknown_fields=True):
    records: list[Raw] = msgspec.field(name="Records")


_parse_log = msgspec.json.Decoder(_Log).decode
_parse_record = msgspec.json.Decoder(_Record).decode
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def records_of(document: bytes) -> list[Raw] | None:
    """The records of a CloudTrail log, or ``None`` where the document is anything else."""
    try:
        return _parse_log(document).records
    except _UNREADABLE:
        return None


# ------------------------------------------------------------- classes


class Classes:
    """What rules can tell versions apart by, beside what every record tells: prefixes of keys, and changes of rules."""

    def __init__(self, prefixes: dict[str, tuple[str, ...]], changes: tuple[int, ...]) -> None:
        """``prefixes`` by bucket; ``changes`` in milliseconds, in order."""
        self._changes = changes
        self._prefixes = {
            bucket: tuple((prefix, _PREFIXES << place) for place, prefix in enumerate(found))
            for bucket, found in prefixes.items()
        }

    def number(self, bucket: str, key: str, at: int) -> int:
        """A version's class without its lowest bits; versions of one bucket and class have the same expectations."""
        number = _PERIOD * bisect_right(self._changes, at)
        for prefix, bit in self._prefixes.get(bucket, ()):
            if key.startswith(prefix):
                number += bit
        return number


def classes_of(topology: Topology) -> Classes | None:
    """How to tell a topology's classes apart; ``None``: there are no rules, or too many for it to be worth it."""
    if not topology.any_rules:
        return None
    by_bucket: dict[str, set[str]] = {}
    for config in topology.configs:
        by_bucket.setdefault(config.bucket, set()).update(rule.prefix for rule in config.rules if rule.prefix)
    changes = {config.since for config in topology.configs}
    many = sum(map(len, by_bucket.values())) > MAX_PREFIXES or len(changes) > MAX_CHANGES
    if many or any(len(found) > MAX_BUCKET_PREFIXES for found in by_bucket.values()):
        return None
    prefixes = {bucket: tuple(sorted(found)) for bucket, found in by_bucket.items() if found}
    return Classes(prefixes, tuple(sorted(changes)))


# --------------------------------------------------------------- lines


class Usual:
    """Makes lines of the usual records of logs, spread over partitions by version."""

    def __init__(self, classes: Classes, partitions: int) -> None:
        """Begin without any."""
        self._number = classes.number
        self._partitions = partitions
        self._times: dict[str, int | None] = {}
        self._places: dict[tuple[str | None, str | None, str, str], str | None] = {}
        self.newest = 0
        """The latest time of all lines, in milliseconds."""
        self.lines: list[list[str]] = [[] for _ in range(partitions)]
        """What was made and not yet given away, by partition."""

    def give(self) -> list[bytes]:
        """The lines of each partition as one text, and begin anew."""
        blocks = ["".join(lines).encode() for lines in self.lines]
        self.lines = [[] for _ in range(self._partitions)]
        return blocks

    def take(self, document: bytes) -> tuple[int, list[bytes]] | None:
        """Take the usual records of a log; gives how many records it has, and those that are not usual.

        ``None`` if it is no log.
        """
        records = records_of(document)
        if records is None:
            return None
        others = []
        lines, partitions, line_of = self.lines, self._partitions, self._line
        for raw in records:
            data = bytes(raw)
            try:
                if not data.isascii():
                    data.decode()  # what is skipped in parsing is not looked at there
                line = line_of(_parse_record(data))
            except _UNREADABLE:
                line = None
            if line is None:
                others.append(data)
            else:
                lines[number_of(line[0]) % partitions].append(line[1])
        return len(records), others

    def _line(self, record: _Record) -> tuple[str, str] | None:
        """Version id and line of a record; ``None`` unless the decoder could only read it in one way."""
        request, response = record.request, record.response
        if request is None or response is None:
            return None
        bits, key, version_id, bucket = _bits(record, request, response), request.key, response.version, request.bucket
        if bits is None or not _fits(key) or not _fits(version_id) or version_id == "null" or FOLDER in key:
            return None
        who = _replica(record)
        at = self._times.get(record.time) or self._time(record.time)
        where = self._where(record, bucket)
        size = _size(record)
        if who is None or not at or where is None or size is None:
            return None
        if at > self.newest:  # noqa: PLR1730 - max() takes four times as long, for each record
            self.newest = at
        number = self._number(bucket, key, at) + bits
        return version_id, f"{key}\x1f{version_id}\x1f{where}\x1f{at}\x1f{who}\x1f{number}\x1f{size}\n"

    def _time(self, value: str) -> int | None:
        if len(self._times) > _MAX_KNOWN:
            self._times.clear()
        try:
            at, whole_seconds = time_of(("eventTime", value))
        except RejectError:
            at, whole_seconds = 0, False
        self._times[value] = found = at if whole_seconds and 0 < at <= MAX_TIME else None
        return found

    def _where(self, record: _Record, bucket: str) -> str | None:
        """Bucket, account and Region as a line has them; the same few come again and again."""
        for row in record.resources or ():
            if row.type == BUCKET:
                named = (row.arn, row.account, bucket, record.region)
                return self._places[named] if named in self._places else self._place(named)
        return None

    def _place(self, named: tuple[str | None, str | None, str, str]) -> str | None:
        arn, account, bucket, region = named
        place = None
        if account is not None and account_id(account) == account and bucket_name(arn) == bucket and _fits(region):
            place = _SEPARATOR.join((bucket, account, region)) if _fits(bucket) else None
        self._places[named] = place
        return place


def _bits(record: _Record, request: _Request, response: _Response) -> int | None:
    """The lowest bits of the class of a write or delete marker of which nothing else has to be known."""
    if record.error is not None or record.service != S3_SERVICE or record.kind != "AwsApiCall":
        return None
    if record.name == "DeleteObject":
        return MARKER if request.named is None and response.delete_marker == "true" else None
    if record.name not in WRITES or request.tagging is not None or request.storage_class in ARCHIVED:
        return None
    applied = response.encryption or request.encryption
    if applied:
        return KMS if applied.startswith("aws:kms") else 0
    extra = record.extra
    return KMS if extra is not None and extra.encryption and "KMS" in extra.encryption else 0


def _replica(record: _Record) -> int | None:
    """1 for a replica, 0 for what nothing shows to be S3's own doing; ``None`` where S3 did it for whatever reason."""
    identity = record.identity
    principal = None
    if identity is not None:
        principal = identity.principal
        if identity.invoked_by == S3_SERVICE:
            return 1 if principal is not None and principal.endswith(REPLICATION_SESSION) else None
    if record.source_ip != S3_SERVICE:
        return 0
    return 1 if principal is not None and principal.endswith(REPLICATION_SESSION) else None


def _fits(value: str) -> bool:
    """Whether a key, or a name, can stand in a line and is one that S3 takes."""
    if len(value) <= _SURELY_SHORT and value.isprintable():
        return value != ""
    return len(value.encode()) <= MAX_KEY_BYTES and _UNFIT.search(value) is None


def _size(record: _Record) -> int | str | None:
    """The object's size in bytes, empty where the record does not tell it; ``None`` where it tells something odd."""
    extra = record.extra
    if extra is None or record.name == "DeleteObject":
        return ""
    size = extra.size
    if size is None:
        size = extra.bytes_in if record.name == "PutObject" else None
        if size is None:
            return ""
    return size if type(size) is int and 0 <= size < _LARGE else None
