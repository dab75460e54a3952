"""Copies of raw events: calls within the limits of CloudWatch Logs, all in order, and no failure that stops work."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crr_monitor.lambdas import event_log
from crr_monitor.lambdas.event_log import EventLog

pytest.importorskip("boto3")

LOGS = "crr-events"
CALL_LIMIT = 1_048_576
EVENT_LIMIT = 262_144
COUNT_LIMIT = 10_000
"""CloudWatch Logs API Reference, "PutLogEvents": bytes of a call, of an event in it, and events of a call."""


class Client:
    """Takes what CloudWatch Logs would take; a call beyond its limits ends the test."""

    def __init__(self, *failures: str) -> None:
        self.failures = list(failures)
        self.streams: list[str] = []
        self.calls: list[list[dict[str, Any]]] = []
        self.rejected: dict[str, int] = {}

    def _fail(self, operation: str) -> None:
        from botocore.exceptions import ClientError  # type: ignore[import-untyped] # noqa: PLC0415 - an optional extra

        if self.failures and (code := self.failures.pop(0)):
            raise ClientError({"Error": {"Code": code, "Message": "no"}}, operation)

    def create_log_stream(self, **request: Any) -> dict[str, Any]:  # noqa: ANN401
        """One stream."""
        self._fail("CreateLogStream")
        self.streams.append(request["logStreamName"])
        return {}

    def put_log_events(self, **request: Any) -> dict[str, Any]:  # noqa: ANN401
        """One call."""
        self._fail("PutLogEvents")
        events = request["logEvents"]
        sizes = [len(each["message"].encode()) + 26 for each in events]
        assert 0 < len(events) <= COUNT_LIMIT
        assert sum(sizes) <= CALL_LIMIT
        assert 26 < min(sizes) <= max(sizes) <= EVENT_LIMIT
        self.calls.append(events)
        return {"rejectedLogEventsInfo": self.rejected} if self.rejected else {}

    @property
    def texts(self) -> list[str]:
        """All that was taken."""
        return [each["message"] for call in self.calls for each in call]


def copied(client: Client, bodies: list[str]) -> list[str]:
    """What of messages is taken."""
    EventLog(client, LOGS, lambda: 1_800_000_000.5).copy(bodies, "request")
    return client.texts


@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=60), max_size=40), st.integers(1, 5))
def test_nothing_is_lost(bodies: list[str], count: int) -> None:
    """However many and however long, all messages are copied, once, in order, as they are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(event_log, "CALL_EVENTS", count)
        patch.setattr(event_log, "CALL_BYTES", 400)
        client = Client()
        assert copied(client, bodies) == bodies
        assert all(len(call) <= count for call in client.calls)
        assert all(len(call) == 1 or sum(len(e["message"].encode()) + 26 for e in call) <= 400 for call in client.calls)


def test_many() -> None:
    """More events than a call takes are sent in several, and all have the time of the copy in milliseconds."""
    client = Client()
    assert len(copied(client, ["{}"] * 20_001)) == 20_001
    assert [len(call) for call in client.calls] == [10_000, 10_000, 1]
    assert {each["timestamp"] for call in client.calls for each in call} == {1_800_000_000_500}
    assert client.streams == ["request"]


def test_large() -> None:
    """Calls hold as many bytes as they may, whatever a character takes."""
    client = Client()
    body = "ü" * 100_000
    assert copied(client, [body] * 11) == [body] * 11
    assert [len(call) for call in client.calls] == [4, 4, 3]


@pytest.mark.parametrize(
    ("body", "text"),
    [("x" * 400_000, "x" * 250_000), ("😀" * 100_000, "😀" * 62_500), ("", " "), ("a\ud800b", "a?b")],
    ids=["long", "wide", "empty", "half a pair"],
)
def test_what_cannot_be_copied_as_it_is(body: str, text: str) -> None:
    """A longer event than CloudWatch Logs takes is cut between two characters; others are made such as it takes."""
    assert copied(Client(), [body]) == [text]


def test_a_stream_is_made_once() -> None:
    """The rounds of one run share a stream, also when it is there already; no messages need none."""
    client = Client("ResourceAlreadyExistsException")
    log = EventLog(client, LOGS)
    log.copy([], "first")
    for _ in range(2):
        log.copy(["{}"], "first")
    log.copy(["{}"], "second")
    assert (client.streams, len(client.calls)) == (["second"], 3)


@pytest.mark.parametrize(
    "failures", [("ResourceNotFoundException",), ("", "ThrottlingException")], ids=["the group is gone", "throttled"]
)
def test_failures_are_told_and_stop_nothing(failures: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """What is refused is told in the function's log, and the caller goes on."""
    assert copied(Client(*failures), ["{}"]) == []
    line = json.loads(capsys.readouterr().out)
    assert (line["level"], line["message"], line["group"]) == ("WARNING", "events not copied", LOGS)
    assert failures[-1] in line["reason"]


def test_rejected_events_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    """What CloudWatch Logs takes without keeping it is told, too."""
    client = Client()
    client.rejected = {"tooOldLogEventEndIndex": 1}
    copied(client, ["{}"])
    assert json.loads(capsys.readouterr().out)["reason"] == {"tooOldLogEventEndIndex": 1}
