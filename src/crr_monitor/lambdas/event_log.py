"""Copies of raw events in a CloudWatch Logs group, where the stack's ``KeepEventLog`` asks for them.

A copy is a convenience: what cannot be copied is logged and does not hold up the event itself.
"""

from __future__ import annotations

import importlib
import time
from typing import TYPE_CHECKING, Any, Protocol

from crr_monitor.lambdas.log import write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

CALL_EVENTS = 10_000
CALL_BYTES = 1_000_000
EVENT_BYTES = 250_000
OVERHEAD_BYTES = 26
"""Limits of one call and of one event in it (CloudWatch Logs API Reference, ``PutLogEvents``), with room to spare."""


class Client(Protocol):
    """The part of boto3's CloudWatch Logs client that is used."""

    def create_log_stream(self, **request: Any) -> Any: ...  # noqa: ANN401, D102
    def put_log_events(self, **request: Any) -> Any: ...  # noqa: ANN401, D102


class EventLog:
    """One log group; each run of a function writes a stream of its own, named by its request."""

    def __init__(self, client: Client, group: str, clock: Callable[[], float] = time.time) -> None:
        self._client = client
        self._group = group
        self._clock = clock
        self._stream = ""
        self._sdk = importlib.import_module("botocore.exceptions")

    def copy(self, bodies: Sequence[str], stream: str) -> None:
        """Copy messages; a longer one than an event may be is cut."""
        if not bodies:
            return
        now = int(self._clock() * 1_000)
        try:
            self._open(stream)
            for texts in _calls(bodies):
                events = [{"timestamp": now, "message": text} for text in texts]
                answer = self._client.put_log_events(logGroupName=self._group, logStreamName=stream, logEvents=events)
                if answer.get("rejectedLogEventsInfo"):
                    write("WARNING", "events not copied", group=self._group, reason=answer["rejectedLogEventsInfo"])
        except (self._sdk.ClientError, self._sdk.BotoCoreError) as error:
            write("WARNING", "events not copied", group=self._group, reason=str(error))

    def _open(self, stream: str) -> None:
        if stream == self._stream:
            return
        try:
            self._client.create_log_stream(logGroupName=self._group, logStreamName=stream)
        except self._sdk.ClientError as error:
            if error.response["Error"]["Code"] != "ResourceAlreadyExistsException":
                raise
        self._stream = stream


def _calls(bodies: Sequence[str]) -> Iterator[list[str]]:
    """Texts that one call takes together."""
    group: list[str] = []
    size = 0
    for body in bodies:
        data = body.encode("utf-8", "replace")[:EVENT_BYTES]
        text = data.decode("utf-8", "ignore") or " "  # an empty event would be refused
        if group and (len(group) == CALL_EVENTS or size + len(data) + OVERHEAD_BYTES > CALL_BYTES):
            yield group
            group, size = [], 0
        group.append(text)
        size += len(data) + OVERHEAD_BYTES
    if group:
        yield group
