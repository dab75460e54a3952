"""Events refuse what would poison everything after them, and name the field and the value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from crr_monitor.core.events import MAX_TIME, BadEventError
from tests.factories import answered, awaited, confirmed, deleted, failed, user_write

if TYPE_CHECKING:
    from collections.abc import Callable

MAKERS: list[Callable[..., Any]] = [
    user_write,
    deleted,
    failed,
    confirmed,
    awaited,
    lambda **fields: answered("gone", **fields),
]


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"key": ""}, "key is empty"),
        ({"version_id": ""}, "no real version id: ''"),
        ({"version_id": "null"}, "no real version id: 'null'"),
        ({"key": "é" * 513}, "key has 1026 bytes, S3 allows 1024"),
        ({"key": "x" * 1_025}, "key has 1025 bytes, S3 allows 1024"),
        ({"version_id": "x" * 1_025}, "version id has 1025 bytes"),
        ({"key": "\ud800"}, "key is not valid UTF-8"),
        ({"at": -1}, "time is outside 1970-9999: -1"),
        ({"at": MAX_TIME + 1}, f"time is outside 1970-9999: {MAX_TIME + 1}"),
    ],
)
def test_identity_and_time(make: Callable[..., Any], fields: dict[str, Any], message: str) -> None:
    """No kind of event takes a key, version id or time that cannot be one."""
    with pytest.raises(BadEventError) as caught:
        make(**fields)
    assert message in str(caught.value)


@pytest.mark.parametrize("make", [failed, confirmed, awaited])
def test_request_time(make: Callable[..., Any]) -> None:
    """The time of the write that a report tells is checked like any other."""
    with pytest.raises(BadEventError, match="request time is outside 1970-9999"):
        make(written_at=-1)


@pytest.mark.parametrize("make", [user_write, deleted, lambda bucket: failed(source=bucket)])
def test_bucket(make: Callable[..., Any]) -> None:
    """A bucket has a name."""
    with pytest.raises(BadEventError, match="bucket is empty"):
        make(bucket="")


def test_size() -> None:
    """A size is not negative; zero is a size."""
    with pytest.raises(BadEventError, match="size is negative: -1"):
        user_write(size=-1)
    assert user_write(size=0).size == 0


def test_failure_names_a_bucket() -> None:
    """A failure names its source or its destination."""
    with pytest.raises(BadEventError, match="names neither its source nor its destination"):
        failed(None, source=None)


def test_limits_are_taken() -> None:
    """A key of exactly S3's length, and the first and the last moment, are taken."""
    assert user_write(key="é" * 512, at=0).at == 0
    assert user_write(at=MAX_TIME).at == MAX_TIME
