"""What the functions' tests share: a fake context, a fake SQS, a store with trouble on request, and short words."""

from __future__ import annotations

import json
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import TYPE_CHECKING, Any

from crr_monitor.aws.queue import Queue
from crr_monitor.lambdas.batch import WORKERS
from crr_monitor.lambdas.process import Runtime
from crr_monitor.stores.base import StoreError
from crr_monitor.stores.memory import MemoryStore
from tests.factories import config, rule
from tests.messages import cloudtrail, cloudtrail_replica, eventbridge

if TYPE_CHECKING:
    from collections.abc import Callable

    from crr_monitor.core.topology import Topology
    from crr_monitor.stores.base import Batch

KEY = "2026/11/22/a b+c é.txt"
MALFORMED = '{"Records": [{"eventSource": "aws:s3", "eventName": 7}]}'
BROKEN = "no JSON"
SCHEDULE = {"source": "aws.events", "detail-type": "Scheduled Event", "detail": {}}
ENOUGH = 110.0
_versions = count(1)


class FakeContext:
    """A run with ``seconds`` left, or with what a function says at each look."""

    aws_request_id = "request-1"
    invoked_function_arn = "arn:aws:lambda:us-east-1:111122223333:function:f"

    def __init__(self, seconds: float | Callable[[], float] = ENOUGH) -> None:
        self._seconds = seconds

    def get_remaining_time_in_millis(self) -> int:
        """As Lambda tells it."""
        seconds = self._seconds() if callable(self._seconds) else self._seconds
        return int(seconds * 1_000)


def source(version: str, key: str = KEY) -> str:
    """The message of a user's write."""
    return json.dumps(eventbridge(cloudtrail(key=key, version=version)))


def replica(version: str) -> str:
    """The message of the replica's write."""
    return json.dumps(eventbridge(cloudtrail_replica(version=version)))


def new_version() -> str:
    """A version id that no other test has."""
    return f"v{next(_versions):06}.EXAMPLE"


class FakeSqs:
    """As much of SQS as is used: messages stay in flight for ever, and deleting may fail for some.

    ``undeletable`` bodies fail to be deleted, ``unsendable`` ones to be sent; ``errors`` are raised by the operation
    of that name, as often as is said. A test puts messages in with :meth:`put`.
    """

    def __init__(self) -> None:
        self.queues: dict[str, dict[str, dict[str, Any]]] = {"events": {}, "dead": {}}
        self.calls: Counter[str] = Counter()
        self.undeletable: set[str] = set()
        self.unsendable: set[str] = set()
        self.errors: dict[str, list[Exception]] = {}
        self._flying: set[str] = set()
        self._numbers = count(1)

    def _called(self, operation: str) -> None:
        self.calls[operation] += 1
        if self.errors.get(operation):
            raise self.errors[operation].pop()

    def put(self, *bodies: str, sent_at: int = 0) -> None:
        """Messages for the function."""
        for body in bodies:
            self._add("events", body, {}, sent_at)

    def _add(self, queue: str, body: str, attributes: dict[str, Any], sent_at: int = 0) -> None:
        name = f"m{next(self._numbers)}"
        system = {"SentTimestamp": str(sent_at)}
        self.queues[queue][name] = {"Body": body, "MessageAttributes": attributes, "Attributes": system}

    def bodies(self, queue: str = "events") -> list[str]:
        """What is in a queue, also what is in flight."""
        return [each["Body"] for each in self.queues[queue].values()]

    def reasons(self) -> list[str]:
        """Why what is in the dead-letter queue is there."""
        return [each["MessageAttributes"]["reason"]["StringValue"] for each in self.queues["dead"].values()]

    def receive_message(self, **request: Any) -> dict[str, Any]:  # noqa: ANN401
        """Those not yet given, ten at most."""
        self._called("receive_message")
        queue = self.queues[request["QueueUrl"]]
        names = [name for name in queue if name not in self._flying][: request["MaxNumberOfMessages"]]
        self._flying.update(names)
        found = [
            {
                "MessageId": name,
                "Body": queue[name]["Body"],
                "ReceiptHandle": f"handle-{name}",
                "Attributes": queue[name]["Attributes"],
            }
            for name in names
        ]
        return {"Messages": found} if found else {}

    def delete_message_batch(self, **request: Any) -> dict[str, Any]:  # noqa: ANN401
        """Each by itself."""
        self._called("delete_message_batch")
        queue = self.queues[request["QueueUrl"]]
        failed = []
        for entry in request["Entries"]:
            name = entry["ReceiptHandle"].removeprefix("handle-")
            if queue[name]["Body"] in self.undeletable:
                failed.append({"Id": entry["Id"], "Code": "InternalError", "SenderFault": False})
            else:
                del queue[name]
        return {"Failed": failed}

    def send_message_batch(self, **request: Any) -> dict[str, Any]:  # noqa: ANN401
        """Each by itself."""
        self._called("send_message_batch")
        failed = []
        for entry in request["Entries"]:
            if entry["MessageBody"] in self.unsendable:
                failed.append({"Id": entry["Id"], "Code": "InvalidParameterValue", "Message": "too long"})
            else:
                self._add(request["QueueUrl"], entry["MessageBody"], entry["MessageAttributes"])
        return {"Failed": failed}


class SdkError(Exception):
    """Has what the SDK's error has."""

    def __init__(self, code: str, message: str = "") -> None:
        super().__init__(code)
        self.response = {"Error": {"Code": code, "Message": message}}


def trouble(code: str, message: str = "") -> StoreError:
    """A store's error with its cause, as the DynamoDB store raises it."""
    error = StoreError(f"table t, update item: {code}: {message}")
    error.__cause__ = SdkError(code, message)
    return error


THROTTLED = trouble("ProvisionedThroughputExceededException", "too fast")
TOO_LARGE = trouble("ValidationException", "Item size to update has exceeded the maximum allowed size")


class TroubledStore(MemoryStore):
    """In memory; ``troubles`` are raised for versions, and for every version if ``all_versions`` is set."""

    def __init__(self) -> None:
        super().__init__()
        self._one = threading.Lock()
        self.troubles: dict[str, StoreError] = {}
        self.all_versions: StoreError | None = None
        self.tried = 0
        self.unreachable: StoreError | None = None
        self.learn([(config(rule()), True)])

    def apply(self, batch: Batch) -> int:
        """Raise what is asked for. One at a time: in memory a change is written by replacing the whole."""
        with self._one:
            for _, version in batch.evidence:
                self.tried += 1
                error = self.all_versions or self.troubles.get(version)
                if error is not None:
                    raise error
            return super().apply(batch)

    def topology(self) -> Topology:
        """Raise what is asked for."""
        if self.unreachable is not None:
            raise self.unreachable
        return super().topology()


def runtime(store: Any, sqs: Any, queue: str = "events", dead: str = "dead") -> Runtime:  # noqa: ANN401
    """As the function keeps it."""
    return Runtime(store, Queue(sqs, queue), Queue(sqs, dead), None, ThreadPoolExecutor(WORKERS))


def handed_over(*bodies: str) -> dict[str, Any]:
    """The event with which Lambda hands over a batch of the queue."""
    records = [
        {"messageId": f"m{number}", "receiptHandle": f"h{number}", "body": body, "eventSource": "aws:sqs"}
        for number, body in enumerate(bodies, 1)
    ]
    return {"Records": records}


def log_lines(text: str) -> list[dict[str, Any]]:
    """A function's output, each line of which is JSON."""
    return [json.loads(line) for line in text.splitlines()]
