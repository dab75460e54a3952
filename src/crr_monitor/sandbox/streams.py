"""Lambda reading DynamoDB streams; the emulator's reader knows neither partial answers nor retry limits.

Lambda Developer Guide: "Process DynamoDB records with Lambda", "Retaining discarded records", "Reporting batch item
failures" (retried from the lowest sequence number that the function names; an unknown one fails the batch),
"Implementing stateful DynamoDB stream processing in Lambda" (with ``TumblingWindowInSeconds`` the event names shard and
window and hands on the function's ``state``, without which an answer is an error; a window ends with its own call).
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

WINDOW = "TumblingWindowInSeconds"
SHARD = "shardId-00000000000000000000-00000000"
"""A table has one shard here, which never ends."""

BACKOFF_SECONDS = 0.2
"""Between attempts; Lambda's own grows and is not documented."""


@dataclass
class _Retry:
    """What a mapping remembers of a batch that failed: attempts made, and how many records the next one has."""

    attempts: int = 0
    limit: int | None = None
    after: float = 0.0


@dataclass
class _Window:
    """A tumbling window in which the function was called: its end, and what the function last answered as state."""

    end: float
    state: dict[str, Any]


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

    @property
    def window_seconds(self) -> int:
        """The length of its tumbling windows; 0 without."""
        return int(self.mapping.get(WINDOW) or 0)


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


def _iso(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))


def _answer(result: dict[str, Any]) -> dict[str, Any]:
    """What the function returned; nothing where that is no object."""
    body = result.get("body")
    try:
        answer = json.loads(body) if isinstance(body, str) else body
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def failed_from(result: dict[str, Any], batch: list[dict[str, Any]], *, partial: bool) -> int | None:
    """The index of the first record to try again, or ``None`` when all were processed."""
    if result.get("error"):
        return 0
    failures = _answer(result).get("batchItemFailures") if partial else None
    if not failures:
        return None
    numbers = [record["dynamodb"]["SequenceNumber"] for record in batch]
    named = [failure.get("itemIdentifier") for failure in failures]
    return min(numbers.index(each) for each in named) if set(named) <= set(numbers) else 0


class Reader:
    """Reads every stream that a function is mapped to, one batch at a time and in order."""

    def __init__(self) -> None:
        self._retries: dict[str, _Retry] = {}
        self._windows: dict[str, _Window] = {}

    def __call__(self) -> bool:
        """One pass over all mappings; whether any went forward."""
        forward = False
        for account, region, mapping in list(_functions._iter_all_esms()):
            with _responses.request_scope(account, region):
                source = _source(mapping)
                forward = (source is not None and self._step(source)) or forward
        return forward

    def _call(self, source: _Source, batch: list[dict[str, Any]], *, final: bool = False) -> dict[str, Any]:
        """One call of the function, with its window where the mapping has some."""
        seconds = source.window_seconds
        if not seconds:
            result: dict[str, Any] = _functions._execute_function(source.function, {"Records": batch})
            return result
        end = (time.time() // seconds + 1) * seconds
        window = self._windows.setdefault(source.name, _Window(end, {}))
        event = {
            "Records": batch,
            "window": {"start": _iso(window.end - seconds), "end": _iso(window.end)},
            "state": window.state,
            "shardId": SHARD,
            "eventSourceARN": source.mapping["EventSourceArn"],
            "isFinalInvokeForWindow": final,
            "isWindowTerminatedEarly": False,
        }
        result = _functions._execute_function(source.function, event)
        state = _answer(result).get("state")
        if not result.get("error") and not isinstance(state, dict):
            return {"error": True, "body": {"errorMessage": "the answer has no state"}}
        if state is not None:
            window.state = state
        return result

    def _end_window(self, source: _Source) -> None:
        """Tell the function that its window is over."""
        window = self._windows.get(source.name)
        if window is not None and time.time() >= window.end and not self._call(source, [], final=True).get("error"):
            del self._windows[source.name]

    def _step(self, source: _Source) -> bool:
        self._end_window(source)
        retry = self._retries.setdefault(source.name, _Retry())
        position = _position(source)
        size = retry.limit or int(source.mapping.get("BatchSize", 100))
        raw = _dynamodb.stream_records_since(source.table, position, size)
        if not raw or time.monotonic() < retry.after:
            return False
        batch = _functions._apply_filter_criteria(raw, source.mapping)
        if not batch:
            return self._advance(source, position, len(raw))
        result = self._call(source, batch)
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


def whole_mapping(create: Callable[..., Any]) -> Callable[..., Any]:
    """A mapping with what the emulator's CloudFormation forgets (windows) or keeps as text (maximum concurrency)."""

    def handle(*arguments: Any) -> Any:  # noqa: ANN401 - create and update differ
        physical_id, attributes = create(*arguments)
        mapping = _functions._esms[physical_id]
        seconds = arguments[-2].get(WINDOW)  # the new properties stand before the stack's name
        if seconds is not None:
            mapping[WINDOW] = int(seconds)
        if mapping.get("ScalingConfig"):
            mapping["ScalingConfig"] = {name: int(value) for name, value in mapping["ScalingConfig"].items()}
        return physical_id, attributes

    return handle


def replacing(_old: Callable[[], bool]) -> Callable[[], bool]:
    """Our reader for the emulator's."""
    return Reader()
