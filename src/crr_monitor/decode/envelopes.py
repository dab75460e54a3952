"""Unwrapping: which kind a message is, and what it holds, down to the single record.

Decided record by record, never by the wrapper: CloudTrail logs, notifications and Lambda's batches all come as
``{"Records": [...]}``, and both kinds of EventBridge event come from ``aws.s3``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import DecodeError, Raw, ValidationError

from crr_monitor.core.events import BadEventError
from crr_monitor.decode import cloudtrail, eventbridge, notification
from crr_monitor.decode.fields import S3_SERVICE
from crr_monitor.decode.result import Decoded, Malformed, RejectError
from crr_monitor.decode.salvage import split_entries
from crr_monitor.decode.wire import Message, parse_list, parse_message, parse_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TypeAlias

    from crr_monitor.core.events import Event

    Bytes: TypeAlias = bytes | Raw
    Interpret: TypeAlias = Callable[[Message, Message], Event | str]

MAX_DEPTH = 16
"""Layers inside each other, where a list is one as well: SQS with SNS with a log, as Lambda gets it, has four."""

UNKNOWN = "unknown message"
OTHER_SERVICE = "other service"
TEST_EVENT = "test event"
NOT_JSON = "not JSON"
TOO_DEEP = "JSON is nested too deep"
_SPACE = b" \t\r\n"
_CONFIRMATIONS = frozenset({"SubscriptionConfirmation", "UnsubscribeConfirmation"})
_NO_ENVELOPE = Message()


def decode(message: bytes, into: Decoded | None = None) -> Decoded:
    """Decode one message: a line, a document, or an entry of a list. Never raises, whatever the bytes.

    Results are added to ``into`` where it is given, else to a new :class:`Decoded`; it is returned either way.
    """
    out = Decoded() if into is None else into
    _unwrap(message, out, 0, message)
    return out


def _unwrap(raw: Bytes, out: Decoded, depth: int, whole: Bytes) -> None:
    """Decode ``raw``; where that is no JSON object or list at all, ``whole`` (what it came in) is rejected."""
    try:
        message = parse_message(raw)
    except RecursionError:
        _salvage(raw, out, depth, whole, TOO_DEEP)
    except ValidationError as error:
        _not_an_object(raw, out, depth, whole, error)
    except UnicodeDecodeError as error:
        _reject(out, whole, f"not valid UTF-8: {error.reason}")
    except DecodeError as error:
        _salvage(raw, out, depth, whole, f"{NOT_JSON}: {error}")
    else:
        if message.event_source == S3_SERVICE:
            _take(message, _NO_ENVELOPE, cloudtrail.interpret, raw, out)
        else:
            _dispatch(message, raw, out, depth)


def _not_an_object(raw: Bytes, out: Decoded, depth: int, whole: Bytes, error: ValidationError) -> None:
    start = bytes(raw).lstrip(_SPACE)[:1]
    if start == b"{":
        _reject(out, raw, str(error))
    elif start == b"[":
        _unwrap_list(raw, out, depth, whole)
    else:
        _reject(out, whole, "neither a JSON object nor a list")


def _unwrap_list(raw: Bytes, out: Decoded, depth: int, whole: Bytes) -> None:
    try:
        entries = parse_list(raw)
    except RecursionError:
        _salvage(raw, out, depth, whole, TOO_DEEP)
    except DecodeError as error:
        _salvage(raw, out, depth, whole, f"{NOT_JSON}: {error}")
    else:
        if len(entries) == 2 and _first(entries[0]) == b'"' and _first(entries[1]) == b"[":  # noqa: PLR2004
            entries = entries[1:]  # MinIO's older Redis format: [time, [record, ...]]
        _each(entries, out, depth)


def _salvage(raw: Bytes, out: Decoded, depth: int, whole: Bytes, reason: str) -> None:
    """Decode record by record what the parser refuses as a whole, and reject it where no record is to blame."""
    rejected = len(out.malformed)
    _each(split_entries(bytes(raw)), out, depth)
    if len(out.malformed) == rejected:
        _reject(out, whole, reason)


def _dispatch(message: Message, raw: Bytes, out: Decoded, depth: int) -> None:
    if message.s3 is not None or _is_notification(message.event_source):
        _take(message, _NO_ENVELOPE, notification.interpret, raw, out)
    elif depth >= MAX_DEPTH:
        _reject(out, raw, f"wrapped more than {MAX_DEPTH} times")
    elif isinstance(message.records, list):
        _each(message.records, out, depth)
    elif isinstance(message.messages, list):
        _each(message.messages, out, depth)
    elif _holds(message.detail) and (message.detail_type is not None or message.source is not None):
        _unwrap_detail(message, raw, out, depth)
    elif _holds(message.sns):
        _unwrap(message.sns, out, depth + 1, raw)
    elif _holds(message.text) and message.type_ == "Notification":
        _unwrap_payload(message.text, raw, out, depth)
    elif _holds(message.body) or _holds(message.upper_body):
        _unwrap_payload(message.body if _holds(message.body) else message.upper_body, raw, out, depth)
    elif _first(message.event) == b"[":
        _unwrap_list(message.event, out, depth + 1, raw)
    else:
        out.ignore(_kind(message))


def _kind(message: Message) -> str:
    if message.service == "Amazon S3" and bytes(message.event) == b'"s3:TestEvent"':
        return TEST_EVENT
    if isinstance(message.type_, str) and message.type_ in _CONFIRMATIONS:
        return message.type_
    return OTHER_SERVICE if isinstance(message.event_source, str) else UNKNOWN


def _each(entries: Iterable[Bytes], out: Decoded, depth: int) -> None:
    for entry in entries:
        if depth >= MAX_DEPTH:
            _reject(out, entry, f"wrapped more than {MAX_DEPTH} times")
        else:
            _unwrap(entry, out, depth + 1, entry)


def _unwrap_payload(payload: Raw, raw: Bytes, out: Decoded, depth: int) -> None:
    """Decode what an SNS or SQS message carries: a string that holds JSON, or (from some recorders) the JSON itself."""
    if _first(payload) != b'"':
        _unwrap(payload, out, depth + 1, raw)
        return
    try:
        inner = parse_text(payload)
    except (UnicodeDecodeError, DecodeError) as error:
        _reject(out, raw, f"the text inside cannot be read: {error}")
    else:
        _unwrap(inner.encode(), out, depth + 1, raw)


def _unwrap_detail(envelope: Message, raw: Bytes, out: Decoded, depth: int) -> None:
    """Decode an EventBridge event; it is rejected whole, because its detail lacks time and place."""
    try:
        detail = parse_message(envelope.detail)
    except (DecodeError, UnicodeDecodeError, RecursionError) as error:
        _reject(out, raw, f"detail: {error}")
        return
    via_cloudtrail = isinstance(envelope.detail_type, str) and envelope.detail_type.endswith("via CloudTrail")
    if detail.event_source == S3_SERVICE or (via_cloudtrail and detail.event_source is None):
        _take(detail, envelope, cloudtrail.interpret, raw, out)
    elif detail.s3 is not None or _is_notification(detail.event_source):
        _take(detail, envelope, notification.interpret, raw, out)
    elif envelope.source == "aws.s3" and not via_cloudtrail:
        _take(detail, envelope, eventbridge.interpret, raw, out)
    elif _wraps(detail):
        _unwrap(envelope.detail, out, depth + 1, raw)
    else:
        kind = _kind(detail)
        out.ignore(OTHER_SERVICE if kind == UNKNOWN else kind)


def _take(record: Message, envelope: Message, interpret: Interpret, raw: Bytes, out: Decoded) -> None:
    """Have one record interpreted, and keep what comes of it."""
    text = raw if type(raw) is bytes else bytes(raw)
    if not text.isascii():
        # What is skipped is not checked while parsing, so bad bytes there would pass unnoticed.
        try:
            text.decode()
        except UnicodeDecodeError as error:
            _reject(out, raw, f"not valid UTF-8: {error.reason}")
            return
    try:
        outcome = interpret(record, envelope)
    except (RejectError, BadEventError) as error:
        _reject(out, raw, str(error))
    else:
        if isinstance(outcome, str):
            out.ignore(outcome)
        else:
            out.events.append(outcome)


def _reject(out: Decoded, raw: Bytes, reason: str) -> None:
    out.malformed.append(Malformed(reason, bytes(raw)))


def _is_notification(event_source: object) -> bool:
    return isinstance(event_source, str) and event_source.endswith(":s3")


def _holds(part: Raw) -> bool:
    return bool(part) and bytes(part) != b"null"


def _first(part: Raw) -> bytes:
    return bytes(memoryview(part)[:1])


def _wraps(message: Message) -> bool:
    if isinstance(message.records, list) or isinstance(message.messages, list):
        return True
    return any(map(_holds, (message.detail, message.sns, message.text, message.body, message.upper_body)))
