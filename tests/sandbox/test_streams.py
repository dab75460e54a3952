"""Functions that read DynamoDB streams: order, partial answers, halved batches, and what is given up."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.sandbox.making import EAST, HOME

pytest.importorskip("ministack")
pytest.importorskip("boto3")

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.sandbox.making import World

CODE = """
import boto3, json, os
client = boto3.client("sqs")
url = client.get_queue_url(QueueName=os.environ["SEEN"])["QueueUrl"]
def handler(event, context):
    keys = [record["dynamodb"]["Keys"]["k"]["S"] for record in event["Records"]]
    client.send_message(QueueUrl=url, MessageBody=json.dumps(keys))
    bad = [record for record in event["Records"] if record["dynamodb"]["Keys"]["k"]["S"].startswith("bad")]
    if not bad:
        return {"batchItemFailures": []}
    if os.environ["HOW"] == "raise":
        raise ValueError("bad record")
    return {"batchItemFailures": [{"itemIdentifier": record["dynamodb"]["SequenceNumber"]} for record in bad]}
"""


class Reading:
    """A table with a stream, and a function that tells a queue which batches it got."""

    def __init__(self, world: World, how: str, **options: Any) -> None:  # noqa: ANN401
        self.world = world
        self.seen, self.dead = world.queue(name="seen"), world.queue(name="dead")
        self.table = self.seen.rsplit(":", 1)[-1]
        dynamodb = world.sandbox.client("dynamodb", HOME, EAST)
        table = dynamodb.create_table(
            TableName=self.table,
            BillingMode="PAY_PER_REQUEST",
            KeySchema=[{"AttributeName": "k", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "k", "AttributeType": "S"}],
            StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"},
        )["TableDescription"]
        functions = world.sandbox.client("lambda", HOME, EAST)
        world.function(self.table, CODE, Timeout=20, Environment={"Variables": {"SEEN": self.table, "HOW": how}})
        self.put("first")
        self.mapping = functions.create_event_source_mapping(
            EventSourceArn=table["LatestStreamArn"],
            FunctionName=self.table,
            StartingPosition="TRIM_HORIZON",
            DestinationConfig={"OnFailure": {"Destination": self.dead}},
            FunctionResponseTypes=["ReportBatchItemFailures"],
            **options,
        )["UUID"]
        world.sandbox.settle(functions=True)
        assert world.bodies(self.seen) == [["first"]]

    def arrive(self, *keys: str) -> None:
        """Write items while the function does not read, so that it finds them together."""
        functions = self.world.sandbox.client("lambda", HOME, EAST)
        functions.update_event_source_mapping(UUID=self.mapping, Enabled=False)
        self.put(*keys)
        functions.update_event_source_mapping(UUID=self.mapping, Enabled=True)

    def put(self, *keys: str) -> None:
        """Write items in one transaction."""
        items = [{"Put": {"TableName": self.table, "Item": {"k": {"S": key}}}} for key in keys]
        self.world.sandbox.client("dynamodb", HOME, EAST).transact_write_items(TransactItems=items)

    def batches(self, count: int) -> Sequence[list[str]]:
        """The next ``count`` batches that the function got."""
        found: list[list[str]] = []
        deadline = time.monotonic() + 60
        while len(found) < count and time.monotonic() < deadline:
            found += self.world.bodies(self.seen)
            time.sleep(0.02)
        return found


def test_a_partial_answer_repeats_from_the_record_that_it_names(world: World) -> None:
    """What stands before the named record is done; the rest comes again, and is given up after the retries."""
    reading = Reading(world, "partial", MaximumRetryAttempts=1)
    reading.arrive("a", "b", "bad", "c")
    assert reading.batches(2) == [["a", "b", "bad", "c"], ["bad", "c"]]
    world.sandbox.settle(functions=True)
    (letter,) = world.bodies(reading.dead)
    assert letter["requestContext"]["condition"] == "RetryAttemptsExhausted"
    assert letter["DDBStreamBatchInfo"]["batchSize"] == 2


def test_a_raising_function_gets_halves_until_the_bad_record_stands_alone(world: World) -> None:
    """With ``BisectBatchOnFunctionError`` only the bad record is lost to the failure destination."""
    reading = Reading(world, "raise", MaximumRetryAttempts=1, BisectBatchOnFunctionError=True)
    reading.arrive("a", "b", "bad", "c")
    assert reading.batches(6) == [["a", "b", "bad", "c"], ["a", "b"], ["bad", "c"], ["bad"], ["bad"], ["c"]]
    world.sandbox.settle(functions=True)
    (letter,) = world.bodies(reading.dead)
    assert letter["DDBStreamBatchInfo"]["batchSize"] == 1


def test_batches_keep_the_order_of_writes_and_the_size(world: World) -> None:
    """No batch is larger than ``BatchSize``, and together they are the writes in their order."""
    reading = Reading(world, "partial", BatchSize=3)
    keys = [str(number) for number in range(10)]
    reading.arrive(*keys)
    world.sandbox.settle(functions=True)
    batches = reading.batches(4)
    assert [key for batch in batches for key in batch] == keys
    assert max(len(batch) for batch in batches) == 3


def test_the_identifiers_of_a_partial_answer_have_to_be_known(world: World) -> None:
    """An identifier that is in no record fails the whole batch."""
    del world
    streams = pytest.importorskip("crr_monitor.sandbox.streams")
    batch = [{"dynamodb": {"SequenceNumber": number}} for number in ("1", "2", "3")]

    def first(*numbers: str, partial: bool = True) -> int | None:
        body = {"batchItemFailures": [{"itemIdentifier": number} for number in numbers]}
        answer: int | None = streams.failed_from({"body": json.dumps(body)}, batch, partial=partial)
        return answer

    assert [first(), first("3", "2"), first("x"), first("2", partial=False)] == [None, 1, 0, None]
    assert streams.failed_from({"error": True}, batch, partial=True) == 0


def test_a_window_names_the_shard_and_hands_on_the_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a window each call names the shard and brings the last state; without one, an answer is an error."""
    streams = pytest.importorskip("crr_monitor.sandbox.streams")
    calls: list[dict[str, Any]] = []
    answers: list[dict[str, Any]] = [
        {"body": {"state": {"seen": 1}}},
        {"body": json.dumps({"state": {"seen": 2}})},
        {"body": {}},
    ]

    def execute(_function: object, event: dict[str, Any]) -> dict[str, Any]:
        calls.append(event)
        return answers[len(calls) - 1]

    monkeypatch.setattr(streams._functions, "_execute_function", execute)
    mapping = {"UUID": "m", "EventSourceArn": "arn:stream", "TumblingWindowInSeconds": 900}
    source, reader = streams._Source(mapping, "t", {}), streams.Reader()
    results = [reader._call(source, [{"n": 1}]), reader._call(source, [{"n": 2}]), reader._call(source, [], final=True)]
    assert [bool(each.get("error")) for each in results] == [False, False, True]
    assert [each["state"] for each in calls] == [{}, {"seen": 1}, {"seen": 2}]
    assert [each["isFinalInvokeForWindow"] for each in calls] == [False, False, True]
    assert {(each["shardId"], each["eventSourceARN"]) for each in calls} == {(streams.SHARD, "arn:stream")}
