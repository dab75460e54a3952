"""Functions that read queues: messages that come within the window are handed over together, up to the batch size."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.sandbox.making import EAST, HOME

pytest.importorskip("ministack")
pytest.importorskip("boto3")

if TYPE_CHECKING:
    from tests.sandbox.making import World

CODE = """
import boto3, json, os
client = boto3.client("sqs")
url = client.get_queue_url(QueueName=os.environ["SEEN"])["QueueUrl"]
def handler(event, context):
    client.send_message(QueueUrl=url, MessageBody=json.dumps(sorted(each["body"] for each in event["Records"])))
    return {}
"""


def batches(world: World, count: int, **options: Any) -> list[list[str]]:  # noqa: ANN401
    """The batches in which a function gets so many messages, which wait when it begins to read."""
    source, seen = world.queue(name="source"), world.queue(name="seen")
    sqs, functions = (world.sandbox.client(name, HOME, EAST) for name in ("sqs", "lambda"))
    url = sqs.get_queue_url(QueueName=source.rsplit(":", 1)[-1])["QueueUrl"]
    name = seen.rsplit(":", 1)[-1]
    world.function(name, CODE, Timeout=20, Environment={"Variables": {"SEEN": name}})
    for number in range(count):
        sqs.send_message(QueueUrl=url, MessageBody=f"{number:03}")
    functions.create_event_source_mapping(EventSourceArn=source, FunctionName=name, **options)
    world.sandbox.settle(functions=True)
    return sorted(world.bodies(seen))


def test_a_window_collects(world: World) -> None:
    """What comes within the window is one batch, also of more messages than one call receives."""
    (batch,) = batches(world, 25, BatchSize=1_000, MaximumBatchingWindowInSeconds=20)
    assert batch == [f"{number:03}" for number in range(25)]


def test_no_batch_is_larger_than_asked_for(world: World) -> None:
    """A batch has no more messages than the mapping says; what is left comes with the next."""
    found = batches(world, 25, BatchSize=20, MaximumBatchingWindowInSeconds=20)
    assert sorted(len(batch) for batch in found) == [5, 20]


def test_a_single_message_waits_for_the_window_only(world: World) -> None:
    """A message to which no other comes is handed over when the window is over, which is short here."""
    began = time.monotonic()
    assert batches(world, 1, BatchSize=1_000, MaximumBatchingWindowInSeconds=300) == [["000"]]
    assert time.monotonic() - began < 60
