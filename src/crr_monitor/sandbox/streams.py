"""Lambda reading DynamoDB streams; the emulator's reader knows neither partial answers nor retry limits.

Lambda Developer Guide: "Process DynamoDB records with Lambda", "Retaining discarded records", "Reporting batch item
failures" (retried from the lowest sequence number that the function names; an unknown one fails the batch).
"""

# ruff: noqa: SLF001 - the emulator has no public interface to extend

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from crr_monitor.sandbox import points

if TYPE_CHECKING:
    from collections.abc import Callable

_arn = points.module("core.arn")
_dynamodb = points.module("services.dynamodb")
_functions = points.module("services.lambda_svc")
_responses = points.module("core.responses")
_sqs = points.module("services.sqs")

BACKOFF_SECONDS = 0.2
"""Between attempts; Lambda's own grows and is not documented."""


@dataclass
class _Retry:
    """What a mapping remembers of a batch that failed: attempts made, and how many records the next one has."""

    attempts: int = 0
    limit: int | None = None
    after: float = 0.0


@dataclass(frozen=True)
class _Source:
    """One enabled mapping of a stream to a function that exists."""

    mapping: dict[str, Any]
    table: str
    function: dict[str, Any]

    @property
    def name(self) -> str:
        """The mapping's UUID."""
        return str(self.mapping["UUID"])


def _source(mapping: dict[str, Any]) -> _Source | None:
    try:
        spec = _arn.parse_arn(mapping.get("EventSourceArn", ""))
    except _arn.ArnParseError:
        return None
    stream = _functions._dynamodb_stream_table_from_arn_spec(spec) if mapping.get("Enabled", True) else None
    if stream is None:
        return None
    table = _dynamodb._tables.get(stream[0])
    function, _ = _functions._get_func_record_for_qualifier(mapping["FunctionName"], mapping.get("Qualifier"))
    if function is None or not table or table.get("LatestStreamArn") != str(spec):
        return None
    return _Source(mapping, stream[0], function)


def _position(source: _Source) -> int:
    """The next record; where nothing was read yet, the start that the mapping asks for."""
    start, end = _dynamodb.stream_start_position(source.table), _dynamodb.stream_end_position(source.table)
    first = start if source.mapping.get("StartingPosition", "LATEST") == "TRIM_HORIZON" else end
    with _functions._dynamodb_stream_positions_lock:
        position = max(int(_functions._dynamodb_stream_positions.get(source.name, first)), start)
        _functions._dynamodb_stream_positions[source.name] = position
    return int(position)


def backlog() -> dict[str, int]:
    """What functions have still to read, by the ARN of the stream or queue."""
    found: dict[str, int] = {}
    for account, region, mapping in list(_functions._iter_all_esms()):
        with _responses.request_scope(account, region):
            queue = _sqs._queue_by_arn(mapping["EventSourceArn"]) if ":sqs:" in mapping["EventSourceArn"] else None
            if queue is not None and mapping.get("Enabled", True):
                found[mapping["EventSourceArn"]] = len(queue["messages"])
            source = _source(mapping)
            if source is not None:
                waiting = _dynamodb.stream_end_position(source.table) - _position(source)
                found[mapping["EventSourceArn"]] = max(waiting, found.get(mapping["EventSourceArn"], 0))
    return found


def failed_from(result: dict[str, Any], batch: list[dict[str, Any]], *, partial: bool) -> int | None:
    """The index of the first record to try again, or ``None`` when all were processed."""
    if result.get("error"):
        return 0
    body = result.get("body")
    try:
        answer = json.loads(body) if isinstance(body, str) else body
    except ValueError:
        return None
    failures = answer.get("batchItemFailures") if partial and isinstance(answer, dict) else None
    if not failures:
        return None
    numbers = [record["dynamodb"]["SequenceNumber"] for record in batch]
    named = [failure.get("itemIdentifier") for failure in failures]
    return min(numbers.index(each) for each in named) if set(named) <= set(numbers) else 0


class Reader:
    """Reads every stream that a function is mapped to, one batch at a time and in order."""

    def __init__(self) -> None:
        self._retries: dict[str, _Retry] = {}

    def __call__(self) -> bool:
        """One pass over all mappings; whether any went forward."""
        forward = False
        for account, region, mapping in list(_functions._iter_all_esms()):
            with _responses.request_scope(account, region):
                source = _source(mapping)
                forward = (source is not None and self._step(source)) or forward
        return forward

    def _step(self, source: _Source) -> bool:
        retry = self._retries.setdefault(source.name, _Retry())
        position = _position(source)
        size = retry.limit or int(source.mapping.get("BatchSize", 100))
        raw = _dynamodb.stream_records_since(source.table, position, size)
        if not raw or time.monotonic() < retry.after:
            return False
        batch = _functions._apply_filter_criteria(raw, source.mapping)
        if not batch:
            return self._advance(source, position, len(raw))
        result = _functions._execute_function(source.function, {"Records": batch})
        partial = "ReportBatchItemFailures" in (source.mapping.get("FunctionResponseTypes") or [])
        first = failed_from(result, batch, partial=partial)
        if first is None:
            return self._advance(source, position, len(raw))
        done = raw.index(batch[first])
        return self._fail(source, position, done, raw, result)

    def _advance(self, source: _Source, position: int, count: int) -> bool:
        with _functions._dynamodb_stream_positions_lock:
            _functions._dynamodb_stream_positions[source.name] = position + count
        self._retries.pop(source.name, None)
        source.mapping["LastProcessingResult"] = "OK"
        return True

    def _fail(
        self, source: _Source, position: int, done: int, raw: list[dict[str, Any]], result: dict[str, Any]
    ) -> bool:
        """Keep what was processed; try the rest again, halved where the mapping says so, or give it up."""
        retry = self._retries[source.name]
        if done:
            self._advance(source, position, done)
            retry = self._retries.setdefault(source.name, _Retry())
        source.mapping["LastProcessingResult"] = "PROBLEM: Function call failed"
        rest = raw[done:]
        halved = str(source.mapping.get("BisectBatchOnFunctionError")).lower() == "true" and len(rest) > 1
        if halved:
            retry.limit = len(rest) // 2  # "splitting a batch does not count towards the retry quota"
        else:
            retry.attempts += 1
            allowed = int(source.mapping.get("MaximumRetryAttempts", -1))
            if 0 <= allowed < retry.attempts:
                arn = source.mapping["EventSourceArn"]
                _functions._send_ddb_stream_failure_record(
                    source.mapping, source.function, rest, arn, result, "RetryAttemptsExhausted"
                )
                return self._advance(source, position + done, len(rest))
        retry.after = time.monotonic() + BACKOFF_SECONDS
        return False


def replacing(_old: Callable[[], bool]) -> Callable[[], bool]:
    """Our reader for the emulator's."""
    return Reader()
