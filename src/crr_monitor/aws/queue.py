"""SQS queues: the SDK's errors become ours here only, and partial failures are read."""

from __future__ import annotations

import importlib
import re
from typing import TYPE_CHECKING, Any, Protocol

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

BATCH = 10
"""Most messages in one call (SQS API Reference, ``ReceiveMessage``, ``DeleteMessageBatch``)."""

BATCH_BYTES = 240_000
"""Of messages sent together; a larger one is sent alone. A call takes 256 KB, or more in some Regions."""

REASON = "reason"
ORIGIN = "message_id"
"""Attributes of a message in the dead-letter queue: why it is there, and its id in the queue that it came from."""

REASON_CHARACTERS = 500
_DELETE_TRIES = 2
_NOT_ALLOWED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f]|[\ud800-\udfff]|[\ufffe\uffff]")
"""All characters but those that SQS takes (API Reference, ``SendMessage``).

In three parts, as one set of characters from all over Unicode takes a hundredth of a second to be made.
"""

_HINTS = {
    "AWS.SimpleQueueService.NonExistentQueue": "there is no such queue: check its URL, or deploy the hub's stack again",
    "QueueDoesNotExist": "there is no such queue: check its URL, or deploy the hub's stack again",
    "AccessDenied": "allow the action on this queue to these credentials",
    "AccessDeniedException": "allow the action on this queue to these credentials",
}


class Client(Protocol):
    """The part of boto3's SQS client that is used."""

    def receive_message(self, **request: Any) -> Any: ...  # noqa: ANN401, D102
    def delete_message_batch(self, **request: Any) -> Any: ...  # noqa: ANN401, D102
    def send_message_batch(self, **request: Any) -> Any: ...  # noqa: ANN401, D102


class QueueError(Exception):
    """A call about a queue gave no answer; the text names the queue, the cause and what to do."""


class Message(Struct, frozen=True):
    """A message: its id, its text, the handle of this receipt, and when it was sent (milliseconds since the epoch)."""

    id: str
    body: str
    handle: str = ""
    sent_at: int = 0

    @property
    def data(self) -> bytes:
        """The text as bytes; half a surrogate pair stays what it is, and is found to be malformed."""
        return self.body.encode("utf-8", "surrogatepass")


class Queue:
    """One queue."""

    def __init__(self, client: Client, url: str) -> None:
        self._client = client
        self.url = url
        self._sdk = importlib.import_module("botocore.exceptions")

    def _call(self, operation: str, **request: Any) -> Any:  # noqa: ANN401 - SQS's own JSON
        try:
            return getattr(self._client, operation)(QueueUrl=self.url, **request)
        except self._sdk.ClientError as error:
            told = error.response.get("Error", {})
            code = told.get("Code", "")
            hint = f" ({_HINTS[code]})" if code in _HINTS else ""
            text = f"{code}: {told.get('Message') or code}{hint}"
        except self._sdk.BotoCoreError as error:
            text = f"{error} (check the network and the Region)"
        message = f"queue {self.url}, {operation.replace('_', ' ')}: {text}"
        raise QueueError(message)

    def receive(self, wait_seconds: int) -> list[Message]:
        """Some messages. None, where it waited at least a second, means that there are none now: it asks all servers.

        Raises:
            QueueError: it could not be asked.
        """
        answer = self._call(
            "receive_message",
            MaxNumberOfMessages=BATCH,
            WaitTimeSeconds=wait_seconds,
            MessageSystemAttributeNames=["SentTimestamp"],
        )
        return [
            Message(each["MessageId"], each["Body"], each["ReceiptHandle"], int(each["Attributes"]["SentTimestamp"]))
            for each in answer.get("Messages", [])
        ]

    def depth(self) -> int | None:
        """About how many messages wait; ``None`` where that may not be asked."""
        name = "ApproximateNumberOfMessages"
        try:
            return int(self._call("get_queue_attributes", AttributeNames=[name])["Attributes"][name])
        except QueueError:
            return None

    def delete(self, messages: Sequence[Message]) -> list[str]:
        """Remove at most :data:`BATCH` messages; for each that was not, and so comes again without harm, why."""
        left = {str(number): message.handle for number, message in enumerate(messages)}
        reasons: list[str] = []
        for _ in range(_DELETE_TRIES):
            entries = [{"Id": number, "ReceiptHandle": handle} for number, handle in left.items()]
            try:
                failed = self._call("delete_message_batch", Entries=entries).get("Failed") or []
            except QueueError as error:
                return [str(error)] * len(left)
            left = {each["Id"]: left[each["Id"]] for each in failed}
            reasons = [f"{each.get('Code')}: {each.get('Message')}" for each in failed]
            if not left:
                break
        return reasons

    def bury(self, messages: Sequence[tuple[Message, str]]) -> list[tuple[Message, str]]:
        """Send messages as they are, each with its reason as an attribute; those that could not be, and why."""
        lost: list[tuple[Message, str]] = []
        for group in _groups(messages):
            entries = [
                {"Id": str(number), "MessageBody": message.body, "MessageAttributes": _attributes(message, reason)}
                for number, (message, reason) in enumerate(group)
            ]
            try:
                failed = self._call("send_message_batch", Entries=entries).get("Failed") or []
            except QueueError as error:
                lost += [(message, str(error)) for message, _ in group]
            else:
                lost += [(group[int(each["Id"])][0], f"{each.get('Code')}: {each.get('Message')}") for each in failed]
        return lost


def _attributes(message: Message, reason: str) -> dict[str, dict[str, str]]:
    text = _NOT_ALLOWED.sub("\ufffd", reason)[:REASON_CHARACTERS] or "unknown"
    return {
        name: {"DataType": "String", "StringValue": value} for name, value in ((REASON, text), (ORIGIN, message.id))
    }


def _groups(messages: Sequence[tuple[Message, str]]) -> Iterator[list[tuple[Message, str]]]:
    """Messages that one call takes together."""
    group: list[tuple[Message, str]] = []
    size = 0
    for message, reason in messages:
        more = len(message.data) + 4 * REASON_CHARACTERS
        if group and (len(group) == BATCH or size + more > BATCH_BYTES):
            yield group
            group, size = [], 0
        group.append((message, reason))
        size += more
    if group:
        yield group


def in_groups(messages: Sequence[Message], size: int = BATCH) -> Iterator[Sequence[Message]]:
    """Messages in groups of a size."""
    return (messages[start : start + size] for start in range(0, len(messages), size))
