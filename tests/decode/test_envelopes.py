"""Unwrapping: any nesting of SNS, SQS, Lambda and EventBridge, one bad record among good ones, and any bytes at all."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crr_monitor.decode import MAX_DEPTH, Decoded, decode
from tests.decode.results import event_of, ignored_of
from tests.messages import (
    Json,
    cloudtrail,
    cloudtrail_denied,
    cloudtrail_replica,
    custom_bus,
    encoded,
    eventbridge,
    minio,
    native,
    native_deleted,
    notification,
    records,
    replication_notification,
    setup_event,
    sns,
    sns_lambda,
    sqs_lambda,
    sqs_received,
    sqs_response,
)

if TYPE_CHECKING:
    from collections.abc import Callable

MESSAGES = [
    cloudtrail(),
    cloudtrail("GetObject"),
    cloudtrail_replica(),
    cloudtrail_denied(),
    records(cloudtrail(), cloudtrail_replica()),
    eventbridge(cloudtrail()),
    notification(),
    records(notification(), notification("ObjectRemoved:Delete")),
    replication_notification(),
    replication_notification("OperationMissedThreshold"),
    minio(notification()),
    native(),
    native_deleted(),
    setup_event(),
]
WRAPPERS: list[Callable[[object], object]] = [
    sns,
    sns_lambda,
    sqs_lambda,
    sqs_received,
    sqs_response,
    custom_bus,
    records,
    lambda message: [message],
]


def summary(out: Decoded) -> tuple[object, ...]:
    """All that was decoded, to be compared."""
    return out.events, out.ignored, [bad.reason for bad in out.malformed]


def count(out: Decoded) -> int:
    """How many records there were."""
    return len(out.events) + sum(out.ignored.values()) + len(out.malformed)


@given(st.sampled_from(MESSAGES), st.lists(st.sampled_from(WRAPPERS), max_size=4))
def test_wrapping_changes_nothing(message: Json, wrappers: list[Callable[[object], object]]) -> None:
    """A message means the same however it is wrapped."""
    wrapped: object = message
    for wrap in wrappers:
        wrapped = wrap(wrapped)
    assert summary(decode(encoded(wrapped))) == summary(decode(encoded(message)))


def test_into() -> None:
    """Results are added to what is given, and that is returned."""
    out = Decoded()
    assert decode(encoded(cloudtrail()), out) is out
    decode(encoded(cloudtrail("GetObject")), out)
    decode(encoded(cloudtrail("GetObject")), out)
    decode(b"x", out)
    assert (len(out.events), out.ignored, len(out.malformed)) == (1, {"GetObject": 2}, 1)


def test_mixed_records() -> None:
    """What a record is, is decided for each by itself: one list may hold all kinds."""
    out = decode(encoded(records(cloudtrail(), notification(), native(), sqs_received(cloudtrail()))))
    assert out.events == [event_of(message) for message in (cloudtrail(), notification(), native(), cloudtrail())]


def test_message_as_an_object() -> None:
    """Some recorders write the message inside SNS as an object."""
    assert event_of({"Type": "Notification", "Message": records(notification())}) == event_of(notification())


@pytest.mark.parametrize("encode", [json.dumps, lambda message: json.dumps(message, indent=2)])
def test_spelling_of_json(encode: Callable[[object], str]) -> None:
    """Escapes and white space mean nothing."""
    message = encode(sqs_lambda(encode(sns(encode(records(notification()))))))
    assert decode(f" \n{message}\n".encode()).events == [event_of(notification())]


def test_minio_lists() -> None:
    """MinIO's lists in Redis are a time with records, or objects with them."""
    expected = [event_of(notification())]
    assert decode(encoded(["2026-11-22T07:00:00Z", [notification()]])).events == expected
    assert decode(encoded([{"Event": [notification()], "EventTime": "2026-11-22T07:00:00Z"}])).events == expected


@pytest.mark.parametrize("message", [[], records(), {"Messages": []}])
def test_empty(message: object) -> None:
    """An empty log or answer holds no record."""
    assert count(decode(encoded(message))) == 0


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ({}, "unknown message"),
        ({"foo": 1}, "unknown message"),
        ({"eventType": "Send", "mail": {"source": "a@example.com"}}, "unknown message"),
        ({"Type": "SubscriptionConfirmation", "Message": "You have chosen"}, "SubscriptionConfirmation"),
        ({"eventSource": "aws:dynamodb", "eventName": "INSERT"}, "other service"),
        (custom_bus({"a": 1}), "other service"),
        (eventbridge(cloudtrail(eventSource="kms.amazonaws.com")), "other service"),
        ({"detail": None, "source": "aws.s3"}, "unknown message"),
        ({"Records": None, "Messages": 5, "body": None}, "unknown message"),
    ],
)
def test_none_of_ours(message: object, kind: str) -> None:
    """An object that speaks of something else is ignored, and counted."""
    assert ignored_of(message) == {kind: 1}


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"", "not JSON: Input data was truncated"),
        (b"hello", "not JSON: JSON is malformed: invalid character (byte 0)"),
        (b'{"a":1', "not JSON: Input data was truncated"),
        (b'{"a":1} x', "not JSON: JSON is malformed: trailing characters (byte 9)"),
        (b"[1,", "not JSON: Input data was truncated"),
        (b"5", "neither a JSON object nor a list"),
        (b'"text"', "neither a JSON object nor a list"),
        (b"null", "neither a JSON object nor a list"),
        (b'{"eventName":"\xff"}', "not valid UTF-8: invalid start byte"),
        (b'{"eventName":1e999}', "Number out of range - at `$.eventName`"),
        (b"[" * 100_000, "JSON is nested too deep"),
        (b'{"a":' * 100_000, "JSON is nested too deep"),
        (b'{"Records":[' * 100_000, "JSON is nested too deep"),
        (b'{"Records":{}}', "Expected `bool | int | float | str | array | null`, got `object` - at `$.Records`"),
        (b'{"source":"x","detail":' + b"[" * 400 + b"]" * 400 + b"}", "detail: Expected `object`, got `array`"),
    ],
)
def test_no_message(message: bytes, reason: str) -> None:
    """What is no JSON object or list at all is rejected, byte for byte."""
    out = decode(message)
    assert (out.events, out.ignored) == ([], {})
    assert [(bad.reason, bad.message) for bad in out.malformed] == [(reason, message)]


def test_bad_bytes_where_nobody_looks() -> None:
    """Invalid UTF-8 in a field that is not read is found too, and harms only its record."""
    good = encoded(cloudtrail())
    bad = good.replace(b"[example/1.0]", b"\xff")
    assert [(one.reason, one.message) for one in decode(bad).malformed] == [
        ("not valid UTF-8: invalid start byte", bad)
    ]
    out = decode(b'{"Records":[' + good + b"," + bad + b"," + good + b"]}")
    assert (len(out.events), [one.message for one in out.malformed]) == (2, [bad])


HARM = [b"\\ud800", b"\\udc00\\u0041", b"\\q", b"\t", b"\xff"]
"""What makes a string, and so its record, unreadable: halves of surrogate pairs, escapes, control characters, bytes."""


DEEP = 20_000
"""Deeper than the parser goes, also where another library has raised Python's limit of recursion."""


@pytest.mark.parametrize("harm", [*(b'"' + text + b'"' for text in HARM), b"[" * DEEP + b"]" * DEEP, b"nonsense"])
@pytest.mark.parametrize("frame", [b'{"Records":[%s]}', b'{"x":[1,{"Records":2}],"Records" : [%s],"y":"]"}', b"[%s]"])
def test_unreadable_record(frame: bytes, harm: bytes) -> None:
    """A record that the parser cannot even skip is rejected alone, and its neighbours are taken."""
    good = encoded(notification(key="a,[b]%7B%22"))
    bad = good.replace(b'"A2EXAMPLEOWNER"', harm)
    out = decode(frame % b" , ".join([good, bad, good]))
    assert out.events == [event_of(notification(key="a,[b]%7B%22"))] * 2
    assert [one.message for one in out.malformed] == [bad]


@pytest.mark.parametrize(
    "message",
    [
        b'{"Records":[%s],"x":\\q}',
        b"[%s,]",
        b'[%s] "',
    ],
)
def test_damage_outside_of_the_records(message: bytes) -> None:
    """Damage that is no record's is rejected with the whole message; what can be read is taken as far as it is safe."""
    whole = message % encoded(cloudtrail())
    out = decode(whole)
    assert [bad.message for bad in out.malformed] == [whole]
    assert len(out.events) == (0 if message.endswith(b'"') else 1)


@pytest.mark.parametrize(
    "message",
    [
        b"[%s",
        b'{"Records":[%s}',
        b'{"Records":[%s]]',
        b'{"Other":[%s],"x":\\q}',
        b"[%s}",
        b"[%s] and so on",
        b"say [%s]",
        b"[INFO] %s",
        b"[INFO, %s",
    ],
)
def test_mismatched_brackets(message: bytes) -> None:
    """Where brackets do not match, or other text stands around them, nothing is taken for a record."""
    whole = message % encoded(cloudtrail())
    out = decode(whole)
    assert (out.events, [bad.message for bad in out.malformed]) == ([], [whole])


def test_line_of_a_log() -> None:
    """A line that only looks like a list is rejected whole."""
    assert [bad.message for bad in decode(b"[INFO]").malformed] == [b"[INFO]"]


def test_quotes_without_end() -> None:
    """A string that never ends costs one look, not one for each quote in it."""
    started = time.process_time()
    assert count(decode(b'{"a":"' + b'\\"' * 1_000_000)) == 1
    assert time.process_time() - started < 2


@pytest.mark.parametrize("wrap", [sns, sqs_received])
def test_text_in_a_wrapper(wrap: Callable[[object], Json]) -> None:
    """Text that is no JSON is rejected together with the message that carries it."""
    message = encoded(wrap("this is a raw message"))
    assert [(bad.reason, bad.message) for bad in decode(message).malformed] == [
        ("not JSON: JSON is malformed: invalid character (byte 4)", message)
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            b'"\xff"',
            "the text inside cannot be read: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte",
        ),
        (b'"\\ud800 and no other half"', "not JSON: JSON is malformed: unexpected end of hex escape (byte 15)"),
        (b'"\\q"', "not JSON: JSON is malformed: invalid escaped character (byte 10)"),
    ],
)
def test_broken_string_in_a_wrapper(text: bytes, reason: str) -> None:
    """A string that is no text is rejected together with the message that carries it."""
    message = b'{"Body":' + text + b"}"
    assert [(bad.reason, bad.message) for bad in decode(message).malformed] == [(reason, message)]


def test_bad_record_in_a_wrapper() -> None:
    """A bad record is kept as it stood in the innermost JSON, which can be ingested again once it is mended."""
    bad = notification(s3={})
    out = decode(encoded(sqs_lambda(sns(records(notification(), bad)))))
    assert (len(out.events), [one.message for one in out.malformed]) == (1, [encoded(bad)])


def test_bad_detail() -> None:
    """A bad detail is kept with its envelope, which holds its time."""
    message = eventbridge(cloudtrail(key=""))
    assert [bad.message for bad in decode(encoded(sqs_lambda(message))).malformed] == [encoded(message)]


def wrapped(depth: int, wrap: Callable[[object], object]) -> bytes:
    """A write in so many wrappers."""
    message: object = cloudtrail()
    for _ in range(depth):
        message = wrap(message)
    return encoded(message)


@pytest.mark.parametrize(
    "wrap",
    [
        records,
        custom_bus,
        lambda message: [message],
        lambda message: {"Body": message},
        lambda message: {"Sns": message},
    ],
)
def test_depth(wrap: Callable[[object], object]) -> None:
    """So many wrappers are opened and no more; what is deeper is rejected with that reason."""
    assert len(decode(wrapped(MAX_DEPTH, wrap)).events) == 1
    for depth in (MAX_DEPTH + 1, 300):
        (bad,) = decode(wrapped(depth, wrap)).malformed
        assert bad.reason == f"wrapped more than {MAX_DEPTH} times"


def test_depth_of_strings() -> None:
    """JSON in a string counts as a layer too."""
    message: object = setup_event()
    for _ in range(MAX_DEPTH + 1):
        message = {"Body": encoded(message).decode()}
    (bad,) = decode(encoded(message)).malformed
    assert bad.reason == f"wrapped more than {MAX_DEPTH} times"


def test_depth_at_the_limit() -> None:
    """Nesting that is just not too deep for the envelope may be so for its detail: it counts once, no more."""
    for depth in range(sys.getrecursionlimit() - 200, sys.getrecursionlimit() + 1):
        out = decode(b'{"source":"x","detail":{"eventTime":' + b"[" * depth + b"]" * depth + b"}}")
        assert count(out) == 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.binary())
def test_any_bytes(message: bytes) -> None:
    """Whatever the bytes, they are counted and nothing is raised."""
    out = decode(message)
    assert count(out) == 1 or message.strip()[:1] == b"["


@given(JSON)
def test_any_json(message: object) -> None:
    """Whatever the JSON, each entry of a list and each other value counts once."""
    out = decode(json.dumps(message).encode())
    assert out.events == []
    if not isinstance(message, list):
        assert count(out) == 1


def paths(value: object) -> list[tuple[str | int, ...]]:
    """The way to every value inside a message."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path for key, inner in entries for path in [(key,), *((key, *rest) for rest in paths(inner))]]


SINGLE = [message for message in MESSAGES if message != setup_event() and "Records" not in message]
"""No lists of records, and nothing that becomes one by a change of a value."""


@given(st.data())
def test_any_value_anywhere(data: st.DataObject) -> None:
    """With any value anywhere in it, a record counts once, in one of the three."""
    message = json.loads(encoded(data.draw(st.sampled_from(SINGLE))))
    *way, last = data.draw(st.sampled_from(paths(message)))
    place = message
    for step in way:
        place = place[step]
    place[last] = data.draw(JSON)
    assert count(decode(json.dumps(message).encode())) == 1


@given(st.sampled_from(MESSAGES), st.data())
def test_any_damage(message: Json, data: st.DataObject) -> None:
    """A message that lost some of its bytes still counts, and nothing is raised."""
    whole = encoded(message)
    start = data.draw(st.integers(0, len(whole) - 1))
    end = data.draw(st.integers(start + 1, len(whole)))
    assert count(decode(whole[:start] + whole[end:])) >= 1
