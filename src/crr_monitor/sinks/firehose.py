"""Rows of the archive to Firehose, which writes them to S3 as Parquet.

API Reference, ``PutRecordBatch``: at most 500 records and 4 MiB in a call, 1,000 KiB in a record; a call may succeed
and yet refuse some of its records, which are those to send again. Developer Guide, "Convert input data format": a
record may hold several JSON documents, one after the other. Each record is billed as a multiple of 5 KB (Firehose
pricing), so rows are packed: alone, a row of some 700 bytes would cost seven times as much.

At least once: whoever is told that rows were not sent sends all of them again. ``row_id`` tells the doubles.
"""

from __future__ import annotations

import importlib
import time
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from msgspec.structs import astuple, replace

from crr_monitor.core.archive import ArchiveRow, changed_rows, expired_rows
from crr_monitor.core.times import SECOND_MS, format_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from crr_monitor.core.model import Record

CALL_RECORDS = 500
CALL_BYTES = 3_000_000
"""Below 4 MiB also as Base64, in which a call carries them."""

RECORD_BYTES = 100_000
"""Rows that are packed into one record: rounding it up to 5 KB adds 5 % at most."""

LONGEST_REASON = 2_000
"""Characters that are kept of a reason, so that no row outgrows a record."""

ATTEMPTS = 6
FIRST_PAUSE = 0.1
"""Seconds before refused records are sent again; each further pause is twice as long."""

TIMES = frozenset({"written_at", "replicated_at", "failed_at", "recorded_at", "counted_at"})
"""Columns that are sent as RFC 3339 text, which the OpenX JSON SerDe takes."""

OPTIONS: dict[str, Any] = {
    "retries": {"mode": "standard", "max_attempts": 4},
    "connect_timeout": 3,
    "read_timeout": 15,
}
"""For botocore's ``Config``."""

_HINTS = {
    "AccessDeniedException": "allow firehose:PutRecordBatch on this stream to the function's role",
    "ResourceNotFoundException": "there is no such stream: deploy the hub again",
    "InvalidKMSResourceException": "the key that encrypts the stream cannot be used: look at its state and policy",
    "ServiceUnavailableException": "more was sent than the stream takes: ask AWS for a higher quota",
    "ThrottlingException": "more was sent than the stream takes: ask AWS for a higher quota",
}

_FIELDS = ArchiveRow.__struct_fields__
_encode = msgspec.json.Encoder().encode


class ArchiveError(Exception):
    """Rows did not get to Firehose, or not all of them: send them again. The text says why, and what to do."""


class Change(Protocol):
    """A change of one record, as the status table's change stream tells it."""

    @property
    def before(self) -> Record | None:
        """The record before."""

    @property
    def after(self) -> Record | None:
        """The record after, or ``None`` if it left the table."""

    @property
    def at(self) -> int:
        """When, in milliseconds."""

    @property
    def revision(self) -> int:
        """The number of this state of the record."""

    @property
    def before_at(self) -> int:
        """When it had changed before, in milliseconds."""


class Client(Protocol):
    """The part of boto3's Firehose client that is used."""

    def put_record_batch(self, **request: Any) -> Any: ...  # noqa: ANN401, D102


def rows_of(change: Change, since: int = 0) -> list[ArchiveRow]:
    """What a change adds to the archive; given again, it adds rows of the same ``row_id``.

    ``since``: until then (milliseconds) it is not certain that changes were archived. So of a record that had not
    changed later, all is told that has settled, with its next change or when it leaves.
    """
    before, after, at, revision = change.before, change.after, change.at, change.revision
    told = before is None or change.before_at > since
    if after is not None:
        rows = changed_rows(before, after, at, revision)
        if told:
            return rows
        return changed_rows(None, after, at, revision) + [row for row in rows if row.state == "withdrawn"]
    if before is None:
        return []
    rows = expired_rows(before, at, revision)
    return rows if told else rows + changed_rows(None, before, change.before_at, revision)


def line(row: ArchiveRow) -> bytes:
    """A row as one line of JSON, with the archive's column names; what is unknown is left out."""
    if row.failure_reason is not None and len(row.failure_reason) > LONGEST_REASON:
        row = replace(row, failure_reason=row.failure_reason[:LONGEST_REASON])
    found: dict[str, object] = {}
    for name, value in zip(_FIELDS, astuple(row), strict=True):
        if value is None:
            continue
        if name == "lag_ms":
            found["lag_seconds"] = value / SECOND_MS
        else:
            found[name] = format_time(value) if name in TIMES else value
    return _encode(found) + b"\n"


class Firehose:
    """Sends rows to one delivery stream."""

    def __init__(self, client: Client, stream: str, wait: Callable[[float], None] = time.sleep) -> None:
        self._client = client
        self._stream = stream
        self._wait = wait
        self._sdk = importlib.import_module("botocore.exceptions")

    def send(self, changes: Iterable[Change], since: int = 0) -> int:
        """Send what changes add to the archive; gives the number of rows, all of which are durable then.

        ``since`` as of :func:`rows_of`.

        Raises:
            ArchiveError: some are not, or it is not known.
        """
        lines = [line(row) for change in changes for row in rows_of(change, since)]
        for call in _calls(_packed(lines)):
            self._put(call)
        return len(lines)

    def _put(self, records: list[bytes]) -> None:
        pause = FIRST_PAUSE
        refused = self._try(records)
        for _ in range(ATTEMPTS - 1):
            if not refused:
                return
            self._wait(pause)
            pause *= 2
            refused = self._try([record for record, _ in refused])
        if refused:
            why = refused[0][1]
            hint = _HINTS.get(why.partition(":")[0], "look at the stream's metrics in CloudWatch")
            message = (
                f"Firehose stream {self._stream} refused {len(refused)} of {len(records)} records,"
                f" {ATTEMPTS} times: {why} ({hint})"
            )
            raise ArchiveError(message)

    def _try(self, records: list[bytes]) -> list[tuple[bytes, str]]:
        """Send records once; gives those that were refused, each with the reason."""
        try:
            answer = self._client.put_record_batch(
                DeliveryStreamName=self._stream, Records=[{"Data": record} for record in records]
            )
        except self._sdk.ClientError as error:
            told = error.response.get("Error", {})
            code = told.get("Code", "")
            hint = f" ({_HINTS[code]})" if code in _HINTS else ""
            message = f"Firehose stream {self._stream}: {code}: {told.get('Message') or code}{hint}"
            raise ArchiveError(message) from error
        except self._sdk.BotoCoreError as error:
            message = f"Firehose stream {self._stream}: {error} (check the network and the Region)"
            raise ArchiveError(message) from error
        if not answer.get("FailedPutCount"):
            return []
        return [
            (record, f"{each['ErrorCode']}: {each.get('ErrorMessage', '')}")
            for record, each in zip(records, answer["RequestResponses"], strict=True)
            if "ErrorCode" in each
        ]


def _packed(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Lines as records."""
    pack: list[bytes] = []
    size = 0
    for each in lines:
        if pack and size + len(each) > RECORD_BYTES:
            yield b"".join(pack)
            pack, size = [], 0
        pack.append(each)
        size += len(each)
    if pack:
        yield b"".join(pack)


def _calls(records: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Records in groups that one call takes."""
    group: list[bytes] = []
    size = 0
    for record in records:
        if group and (len(group) == CALL_RECORDS or size + len(record) > CALL_BYTES):
            yield group
            group, size = [], 0
        group.append(record)
        size += len(record)
    if group:
        yield group
