"""Firehose as AWS has it: records are collected for a while, and become one object together.

The emulator writes an object for each record, asks no role, and never refuses a part of a call.

Amazon Data Firehose Developer Guide: "Configure buffering hints" (records are collected by time and size), "Convert
input data format" (a record that does not fit the table's columns goes to the error prefix, the others go on), "Custom
prefixes for Amazon S3 objects" (``timestamp`` is when the oldest record of the object came), "Controlling access"
(what the stream's role needs). API Reference, ``PutRecordBatch``: 4 MiB in a call, and a part of it may be refused.
"""

# ruff: noqa: SLF001 - the emulator has no public interface to extend

from __future__ import annotations

import base64
import json
import threading
from typing import TYPE_CHECKING, Any, TypeAlias

from crr_monitor.sandbox import iam, points

if TYPE_CHECKING:
    import time
    from collections.abc import Callable

    from crr_monitor.sandbox.clock import Clock
    from crr_monitor.sandbox.faults import Faults

_app = points.module("app")
_firehose = points.module("services.firehose")
_responses = points.module("core.responses")

Place: TypeAlias = tuple[str, str, str]
"""Account, Region and name of a stream."""

CALL_BYTES = 4 * 1024 * 1024


class Collecting:
    """What waits in the streams' buffers. ``seconds`` stands for the interval of the stream's buffering hints."""

    def __init__(self, clock: Clock, faults: Faults, seconds: float) -> None:
        self._clock = clock
        self._faults = faults
        self._seconds = seconds
        self._lock = threading.Lock()
        self._waiting: dict[Place, list[bytes]] = {}
        self._came: time.struct_time | None = None

    def install(self) -> None:
        """Put this behaviour in the place of the emulator's."""
        points.replace("services.firehose", "_deliver_records_to_s3", lambda _: self._collect)
        points.replace("services.firehose", "_arrival_time", self._oldest)
        points.replace("services.firehose", "_put_record_batch", self._refusing)
        points.replace("services.firehose", "_convert_to_parquet", _remembering)
        _firehose._HANDLERS["PutRecordBatch"] = _firehose._put_record_batch

    def _oldest(self, old: Callable[[dict[str, Any]], time.struct_time]) -> Callable[..., time.struct_time]:
        return lambda cfg: self._came or old(cfg)

    def _refusing(self, old: Callable[[dict[str, Any]], Any]) -> Callable[[dict[str, Any]], Any]:
        """Records that a fault ``refuse`` strikes are answered with an error, in their places."""

        def put(data: dict[str, Any]) -> Any:  # noqa: ANN401 - an HTTP answer
            given = data.get("Records", [])
            if sum(len(base64.b64decode(each.get("Data", ""))) for each in given) > CALL_BYTES:
                text = "Records size exceeds 4 MB limit"
                return _responses.error_response_json("InvalidArgumentException", text, 400)
            facts = {"service": "firehose", "resource": data.get("DeliveryStreamName", "")}
            struck = {number for number in range(len(given)) if self._faults.strike("refuse", facts)}
            taken = [each for number, each in enumerate(given) if number not in struck]
            if not struck:
                return old(data)
            answered: list[Any] = []
            if taken:
                status, headers, body = old({**data, "Records": taken})
                if status >= 400:  # noqa: PLR2004 - HTTP
                    return status, headers, body
                answered = json.loads(body)["RequestResponses"]
            slow = {"ErrorCode": "ServiceUnavailableException", "ErrorMessage": "Slow down."}
            rest = iter(answered)
            responses = [slow if number in struck else next(rest) for number in range(len(given))]
            failed = sum("ErrorCode" in each for each in responses)
            return _responses.json_response(
                {"FailedPutCount": failed, "Encrypted": False, "RequestResponses": responses}
            )

        return put

    def _collect(self, stream: dict[str, Any], dest: dict[str, Any], records: list[tuple[str, bytes]]) -> None:
        place = (str(_responses.get_account_id()), str(_responses.get_region()), str(stream["name"]))
        with self._lock:
            begins = place not in self._waiting
            self._waiting.setdefault(place, []).extend(data for _, data in records)
        if begins:
            came = _firehose._arrival_time(dest["config"])
            self._clock.after(self._seconds, place[0], place[1], lambda: self._flush(place, stream, dest, came))

    def _flush(self, place: Place, stream: dict[str, Any], dest: dict[str, Any], came: time.struct_time) -> None:
        with self._lock:
            records = self._waiting.pop(place)
        _check_role(dest["config"], *place)
        self._came = came
        try:
            for data in _objects(dest["config"].get("DataFormatConversionConfiguration") or {}, records):
                _firehose._deliver_to_s3(stream, dest, data)
        finally:
            self._came = None


def _objects(conversion: dict[str, Any], records: list[bytes]) -> list[bytes]:
    """What is written together: all records that fit the table, and each of the others alone."""
    together = b"".join(records)
    if not conversion.get("Enabled", bool(conversion)) or _fits(conversion, together):
        return [together]
    fit = [record for record in records if _fits(conversion, record)]
    others = [record for record in records if record not in fit]
    return [*([b"".join(fit)] if fit else []), *others]


def _remembering(old: Callable[[dict[str, Any], bytes], bytes]) -> Callable[[dict[str, Any], bytes], bytes]:
    """What was just tried is delivered next, and converting takes long; so it is kept until then, and used once."""
    tried: list[tuple[bytes, bytes]] = []

    def convert(conversion: dict[str, Any], data: bytes) -> bytes:
        if tried and tried[0][0] == data:
            return tried.pop()[1]
        made = old(conversion, data)
        tried[:] = [(data, made)]
        return made

    return convert


def _fits(conversion: dict[str, Any], record: bytes) -> bool:
    try:
        _firehose._convert_to_parquet(conversion, record)
    except _firehose._DeliveryError:
        return False
    return True


def _check_role(cfg: dict[str, Any], account: str, region: str, name: str) -> None:
    """The stream's role has to be Firehose's to take, and to be allowed what delivery takes.

    Raises:
        PermissionError: it is not; so whoever waits for the sandbox is told.
    """
    role, bucket = str(cfg.get("RoleARN", "")), str(cfg.get("BucketARN", ""))
    if not iam.assumable(role, "firehose.amazonaws.com"):
        message = f"stream {name}: Firehose cannot take the role {role}"
        raise PermissionError(message)
    needed = [("s3:PutObject", f"{bucket}/{_before_expression(cfg.get(prefix))}x") for prefix in _PREFIXES]
    needed += [(action, bucket) for action in ("s3:ListBucket", "s3:GetBucketLocation")]
    schema = (cfg.get("DataFormatConversionConfiguration") or {}).get("SchemaConfiguration")
    if schema:
        glue = f"arn:aws:glue:{region}:{account}"
        table = f"{glue}:table/{schema.get('DatabaseName')}/{schema.get('TableName')}"
        needed += [("glue:GetTableVersions", arn) for arn in (table, f"{glue}:catalog")]
    refused = [
        f"{action} on {arn}" for action, arn in needed if not iam.role_allows(role, action, arn, region, owner=account)
    ]
    if refused:
        message = f"stream {name}: the role {role} may not {', '.join(refused)}"
        raise PermissionError(message)


_PREFIXES = ("Prefix", "ErrorOutputPrefix")


def _before_expression(prefix: object) -> str:
    return str(prefix or "").partition("!{")[0]
