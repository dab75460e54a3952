"""Addresses of queues: what they mean, and what is said of those that mean nothing."""

from __future__ import annotations

import pytest

from crr_monitor.aws.drain import open_queue
from crr_monitor.aws.queue import Queue, QueueError

URL = "https://sqs.eu-west-1.amazonaws.com/111122223333/events"


@pytest.fixture(autouse=True)
def _no_region(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/nonexistent")


def place(queue: Queue) -> tuple[str, str, str]:
    """URL, Region and endpoint of a queue."""
    meta = queue._client.meta  # type: ignore[attr-defined]
    return queue.url, meta.region_name, meta.endpoint_url


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (f"sqs://{URL}", (URL, "eu-west-1", "https://sqs.eu-west-1.amazonaws.com")),
        (f"sqs://{URL.removeprefix('https://')}", (URL, "eu-west-1", "https://sqs.eu-west-1.amazonaws.com")),
        (
            "sqs://eu-west-1.queue.amazonaws.com/111122223333/events",
            (
                "https://eu-west-1.queue.amazonaws.com/111122223333/events",
                "eu-west-1",
                "https://sqs.eu-west-1.amazonaws.com",
            ),
        ),
        (
            "sqs://sqs.cn-north-1.amazonaws.com.cn/111122223333/events",
            (
                "https://sqs.cn-north-1.amazonaws.com.cn/111122223333/events",
                "cn-north-1",
                "https://sqs.cn-north-1.amazonaws.com.cn",
            ),
        ),
        (
            "sqs://http://localhost:4566/111122223333/events?region=us-east-1",
            ("http://localhost:4566/111122223333/events", "us-east-1", "http://localhost:4566"),
        ),
        (
            f"sqs://{URL}?endpoint=http://localhost:4566",
            (URL, "eu-west-1", "http://localhost:4566"),
        ),
    ],
)
def test_address(address: str, expected: tuple[str, str, str]) -> None:
    """An address gives the queue's URL, its Region, and where calls go."""
    assert place(open_queue(address)) == expected


def test_options_fill_what_the_address_leaves_open() -> None:
    """Region and endpoint of the options count where the address does not tell its own."""
    queue = open_queue("sqs://http://localhost:1/1/q", region="us-west-2", endpoint_url="http://localhost:2")
    assert place(queue) == ("http://localhost:1/1/q", "us-west-2", "http://localhost:2")


@pytest.mark.parametrize(
    ("address", "error"),
    [
        ("sqs://", "is no address of a queue: write sqs://sqs.REGION.amazonaws.com/ACCOUNT/NAME"),
        ("sqs://events", "is no address of a queue"),
        (f"sqs://{URL}?regoin=x", "is no address of a queue"),
        (f"https://{URL}", "is no address of a queue"),
        ("sqs://http://localhost:1/1/q", "its Region is not known: add [?]region=us-east-1"),
        (f"sqs://{URL}?endpoint=nonsense", "Invalid endpoint"),
    ],
)
def test_address_that_is_none(address: str, error: str) -> None:
    """An address that is none is named, with how one looks."""
    with pytest.raises(QueueError, match=error) as caught:
        open_queue(address)
    assert str(caught.value).startswith(f"{address}: ")
