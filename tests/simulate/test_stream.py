"""The stream is deterministic, ordered by delivery, one line per message, and flat in memory."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from itertools import pairwise

import pytest

from crr_monitor.core.times import MINUTE_MS
from crr_monitor.simulate import KINDS, WRAPPERS, Kind, Plan, Wrapper, messages
from crr_monitor.simulate.stream import Stream
from tests.simulate.reader import unwrap


def fingerprint(plan: Plan) -> str:
    """One hash over all messages and their times."""
    digest = hashlib.sha256()
    for at, body in messages(plan):
        digest.update(f"{at}:{len(body)}:".encode() + body)
    return digest.hexdigest()


def test_same_plan_same_bytes() -> None:
    """The same plan gives the same messages, byte for byte."""
    assert fingerprint(Plan(objects=500)) == fingerprint(Plan(objects=500))


def test_other_seed_other_bytes() -> None:
    """Another seed gives other messages."""
    assert fingerprint(Plan(objects=50)) != fingerprint(Plan(objects=50, seed=2))


def test_bytes_stay() -> None:
    """The messages are those of every release and every Python: a change of this hash is a change for users."""
    assert (
        fingerprint(Plan(objects=300, malformed_rate=0.1, ignored_rate=0.2))
        == "dcb47e214031a0c4791032424d1707c463235b710a90300b12b257e80910309a"
    )


def test_order_of_delivery() -> None:
    """Messages come in the order of delivery, none before it happened, and the writes out of their order."""
    plan = Plan(objects=3_000, duration_ms=10 * MINUTE_MS, wrappers=("bare",), kinds=("cloudtrail",), malformed_rate=0)
    delivered = list(messages(plan))
    happened = [json.loads(body)["eventTime"] for _, body in delivered]
    assert all(before[0] <= after[0] for before, after in pairwise(delivered))
    assert sum(before > after for before, after in pairwise(happened)) > 1_000


def test_lines() -> None:
    """No message is empty or holds a line break, not even a broken one."""
    plan = Plan(objects=1_000, malformed_rate=0.5)
    assert all(body and b"\n" not in body and b"\r" not in body for _, body in messages(plan))


@pytest.mark.no_cover
def test_memory_does_not_grow_with_objects() -> None:
    """Four times as many objects at the same rate leave no more facts waiting: memory follows the rate alone."""
    waiting = []
    for objects in (10_000, 40_000):
        stream = Stream(Plan(objects=objects, duration_ms=objects * 300))
        assert sum(1 for _ in stream) == stream.tally.messages
        waiting.append(stream.most_waiting)
    assert waiting[1] < 1.1 * waiting[0]
    assert waiting[1] < 5_000


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("kind", KINDS)
def test_wrapper(kind: Kind, wrapper: Wrapper) -> None:
    """Each kind in each wrapper is JSON from which every event can be unwrapped again."""
    stream = Stream(Plan(objects=60, kinds=(kind,), wrappers=(wrapper,), malformed_rate=0, ignored_rate=0))
    found = [record for message in stream for record in unwrap(message.body)]
    assert len(found) == stream.tally.events
    assert {name for name, _ in found} <= {kind, "notification"}


def test_batches() -> None:
    """Lambda gets batches of one to four messages from its queue, and none is left behind."""
    stream = Stream(Plan(objects=500, wrappers=("lambda-sqs",), malformed_rate=0))
    sizes = Counter(len(json.loads(message.body)["Records"]) for message in stream)
    assert set(sizes) == {1, 2, 3, 4}
    assert sum(size * times for size, times in sizes.items()) == stream.tally.events + sum(
        stream.tally.ignored.values()
    )


def test_everything_twice() -> None:
    """With a duplicate rate of 1 every event is delivered exactly twice."""
    counts = {}
    for rate in (0, 1):
        stream = Stream(Plan(objects=300, duplicate_rate=rate))
        assert sum(1 for _ in stream) == stream.tally.messages
        counts[rate] = stream.tally.events
    assert counts[1] == 2 * counts[0]


def test_the_same_event_in_two_accounts() -> None:
    """What crosses accounts may be told in both: another recipient and event id, the same request and shared id."""
    told: dict[str, list[dict[str, str]]] = {}
    plan = Plan(objects=200, kinds=("cloudtrail",), wrappers=("bare",), duplicate_rate=1, malformed_rate=0)
    for _, body in messages(plan):
        record = json.loads(body)
        if "sharedEventID" in record:
            told.setdefault(record["sharedEventID"], []).append(record)
    twice = [(a, b) for a, b in told.values() if a["recipientAccountId"] != b["recipientAccountId"]]
    assert len(twice) > 20
    for a, b in twice:
        assert a["eventID"] != b["eventID"]
        assert a["requestID"] == b["requestID"]
        assert {a["recipientAccountId"], b["recipientAccountId"]} == {"111122223333", "444455556666"}


def test_redelivery_is_identical() -> None:
    """Within one account, a bare message that is delivered again is the same to the last byte."""
    plan = Plan(
        objects=200, kinds=("notification",), wrappers=("bare",), duplicate_rate=1, malformed_rate=0, ignored_rate=0
    )
    assert set(Counter(body for _, body in messages(plan)).values()) == {2}


def test_no_objects() -> None:
    """A plan without objects gives no message."""
    assert list(messages(Plan(objects=0))) == []


def test_sorts_of_damage() -> None:
    """Malformed messages are cut, no text, no UTF-8, or lack bucket, key or time; all six sorts occur."""
    plan = Plan(
        objects=600, kinds=("notification",), wrappers=("bare",), malformed_rate=1, ignored_rate=0, failure_rate=0
    )
    assert set(map(_damage, (body for _, body in messages(plan)))) == {
        "none", "bytes", "cut", "text", "no bucket", "no key", "no time",
    }  # fmt: skip


def _damage(body: bytes) -> str:
    try:
        (record,) = json.loads(body)["Records"]
    except UnicodeDecodeError:
        return "bytes"
    except json.JSONDecodeError:
        return "cut" if body.startswith(b"{") else "text"
    if "eventTime" not in record:
        return "no time"
    if "bucket" not in record["s3"]:
        return "no bucket"
    return "none" if "key" in record["s3"]["object"] else "no key"


def test_sorts_of_noise() -> None:
    """Each kind of message has its own noise, counted under the name that it goes by."""
    stream = Stream(Plan(objects=2_000, ignored_rate=1))
    assert sum(1 for _ in stream) == stream.tally.messages
    assert set(stream.tally.ignored) == {
        "GetObject", "PutObjectTagging", "PutObject with error", "unversioned", "other service", "ObjectTagging:Put",
        "ObjectRestore:Completed", "test event", "Object Tags Added", "Object Storage Class Changed",
    }  # fmt: skip
    assert sum(stream.tally.ignored.values()) == 2_000
