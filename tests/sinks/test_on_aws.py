"""CloudWatch and SNS over HTTP, against the sandbox."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from crr_monitor.core.notices import Told, decide
from crr_monitor.core.troubles import Trouble
from crr_monitor.sandbox import Sandbox
from crr_monitor.sinks import cloudwatch, metrics
from crr_monitor.sinks.cloudwatch import PublishError, publish
from crr_monitor.sinks.points import Point
from crr_monitor.sinks.senders import SendError
from crr_monitor.sinks.sns import SnsSender
from tests.factories import REPLICA, SOURCE
from tests.stores.dynamodb_server import without_credentials

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.aws

ACCOUNT, REGION = "111122223333", "us-east-1"
NOW = int(datetime.now(UTC).timestamp() * 1_000)
_numbers = count(1)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """One for all tests."""
    with pytest.MonkeyPatch.context() as patch:
        without_credentials(patch)
        with Sandbox() as running:
            yield running


@pytest.fixture
def client(sandbox: Sandbox) -> Iterator[Any]:
    """CloudWatch; faults end with the test."""
    yield sandbox.client("cloudwatch", ACCOUNT, REGION)
    sandbox.end_fault()


def statistics(client: Any, point: Point, *asked: str) -> dict[str, float]:  # noqa: ANN401 - boto3's client
    """What CloudWatch makes of a metric within this hour."""
    at = datetime.fromtimestamp(NOW / 1_000, UTC)
    request = {
        "Namespace": metrics.NAMESPACE,
        "MetricName": point.metric.name,
        "Dimensions": [{"Name": name, "Value": value} for name, value in point.names],
        "StartTime": at - timedelta(minutes=30),
        "EndTime": at + timedelta(minutes=30),
        "Period": 3_600,
    }
    (found,) = client.get_metric_statistics(**request, Statistics=list(asked))["Datapoints"]
    return {name: found[name] for name in asked}


def lag_point(values: dict[float, int]) -> Point:
    """The lag of a pair that no other test has."""
    name = f"bucket-{next(_numbers)}"
    return Point(metrics.REPLICATION_LAG, (("SourceBucket", name), ("DestBucket", "dr")), values)


def test_values_and_counts(client: Any) -> None:  # noqa: ANN401
    """All values are there with their counts, also when there are more than one datum takes."""
    point = lag_point({float(value): value for value in range(1, 401)})
    assert publish(client, [point], NOW) == 3
    found = statistics(client, point, "SampleCount", "Sum", "Minimum", "Maximum")
    values = range(1, 401)
    assert found == {
        "SampleCount": sum(values),
        "Sum": sum(value * value for value in values),
        "Minimum": 1,
        "Maximum": 400,
    }


def test_calls_are_small_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """No call has more than 1,000 data, nor more than a megabyte as it is sent; nothing is left out."""
    boto3 = pytest.importorskip("boto3")
    sent: list[tuple[int, int]] = []
    client = boto3.client(
        "cloudwatch",
        region_name=REGION,
        aws_access_key_id="test",
        aws_secret_access_key="test",  # noqa: S106
    )
    serializer = client._serializer
    model = client.meta.service_model.operation_model("PutMetricData")

    def put(**request: Any) -> None:  # noqa: ANN401 - the call's own
        body = serializer.serialize_to_request(request, model)["body"]
        text = "&".join(f"{name}={value}" for name, value in body.items()) if isinstance(body, dict) else body
        sent.append((len(request["MetricData"]), len(text)))

    monkeypatch.setattr(client, "put_metric_data", put, raising=False)
    few = [lag_point({1.0: 1}) for _ in range(2_500)]
    many = [lag_point({1.234e-5 * value: 3 for value in range(1, 151)}) for _ in range(300)]
    assert publish(client, [*few, *many], NOW) == 2_800
    assert sum(number for number, _ in sent) == 2_800
    assert max(number for number, _ in sent) <= 1_000
    assert max(size for _, size in sent) < 1_000_000


def test_one_call_fails(sandbox: Sandbox, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ANN401
    """What is in another call is published all the same, and the error says how many are lost and why."""
    monkeypatch.setattr(cloudwatch, "DATA", 1)
    first, second = lag_point({1.0: 1}), lag_point({2.0: 5})
    sandbox.fault(
        "error",
        code="InvalidParameterValue",
        times=1,
        match={"service": "monitoring", "operation": "PutMetricData"},
    )
    with pytest.raises(PublishError, match="1 of 2 metric data could not be published: InvalidParameterValue"):
        publish(client, [first, second], NOW)
    assert statistics(client, second, "SampleCount") == {"SampleCount": 5}


def test_throttled_for_a_moment(sandbox: Sandbox, client: Any) -> None:  # noqa: ANN401
    """Throttling is waited out by the SDK, and nothing is published twice."""
    sandbox.fault("error", code="Throttling", times=1, match={"service": "monitoring", "operation": "PutMetricData"})
    point = lag_point({3.0: 4})
    assert publish(client, [point], NOW) == 1
    assert statistics(client, point, "SampleCount") == {"SampleCount": 4}


def test_nothing_to_say(client: Any) -> None:  # noqa: ANN401
    """Without points nothing is called."""
    assert publish(client, [], NOW) == 0


class Inbox:
    """A topic and a queue that is subscribed to it."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sns = sandbox.client("sns", ACCOUNT, REGION)
        self.sqs = sandbox.client("sqs", ACCOUNT, REGION)
        name = f"inbox-{next(_numbers)}"
        self.topic = self.sns.create_topic(Name=name)["TopicArn"]
        self.url = self.sqs.create_queue(QueueName=name)["QueueUrl"]
        attributes = self.sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=["QueueArn"])["Attributes"]
        self.sns.subscribe(TopicArn=self.topic, Protocol="sqs", Endpoint=attributes["QueueArn"])

    def messages(self) -> list[dict[str, Any]]:
        """What came, as SNS wraps it."""
        found = self.sqs.receive_message(QueueUrl=self.url, WaitTimeSeconds=1, MaxNumberOfMessages=10)
        return [json.loads(each["Body"]) for each in found.get("Messages", [])]


def test_notice_to_topic(sandbox: Sandbox) -> None:
    """A notice arrives with its subject and text, and attributes to filter by."""
    inbox = Inbox(sandbox)
    (notice,) = decide([Trouble("failed", SOURCE, REPLICA, "DstKmsKeyNotFound", 3)], Told(), NOW)
    SnsSender(inbox.sns, inbox.topic).send(notice)
    (message,) = inbox.messages()
    assert (message["Subject"], message["Message"]) == (notice.subject, notice.text)
    attributes = {name: each["Value"] for name, each in message["MessageAttributes"].items()}
    assert attributes == {"kind": "failed", "what": "new", "source": SOURCE}


def test_notice_without_topic(sandbox: Sandbox) -> None:
    """A topic that is gone is told by its name, with what to do."""
    inbox = Inbox(sandbox)
    inbox.sns.delete_topic(TopicArn=inbox.topic)
    (notice,) = decide([Trouble("failed", SOURCE, REPLICA, "DstKmsKeyNotFound", 3)], Told(), NOW)
    with pytest.raises(SendError, match="there is no such topic: deploy the hub's stack again"):
        SnsSender(inbox.sns, inbox.topic).send(notice)
