"""The answer to CloudFormation: one, in time, and short enough."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crr_monitor.lambdas.response import OUT_OF_TIME, REASON_CHARACTERS, Answer, Late, cut

ANSWER_BYTES = 4_096
EVENT = {
    "ResponseURL": "https://x",
    "StackId": f"arn:aws:cloudformation:ap-northeast-1:111122223333:stack/{'s' * 128}/{'0' * 36}",
    "RequestId": "0" * 36,
    "LogicalResourceId": "r" * 255,
}


@pytest.fixture
def bodies(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What is sent."""
    sent: list[bytes] = []
    monkeypatch.setattr(Answer, "_send", lambda _self, body: sent.append(body))
    return sent


@pytest.mark.parametrize("text", ["ok", "\n\"'" * 5_000, "\N{GRINNING FACE}" * 5_000, "\N{HIRAGANA LETTER A}" * 5_000])
def test_short_enough(bodies: list[bytes], text: str) -> None:
    """Whatever reason and summary are made of, the answer has less than the 4,096 bytes that CloudFormation takes."""
    Answer(EVENT, "crr-monitor-setup", 900.0).give("FAILED", text, {"Summary": text})
    (body,) = bodies
    told = json.loads(body)
    assert len(body) < ANSWER_BYTES
    assert text.startswith(told["Reason"])
    assert told["Reason"] == told["Data"]["Summary"]
    assert len(told["Reason"]) >= min(len(text), 100)


@given(st.text(max_size=2 * REASON_CHARACTERS))
def test_cut(text: str) -> None:
    """What is cut is a beginning of the text, and plain words stay as they are up to a thousand characters."""
    assert text.startswith(cut(text))
    plain = "a" * len(text)
    assert cut(plain) == plain[:REASON_CHARACTERS]


@pytest.mark.parametrize("late", [OUT_OF_TIME, ("SUCCESS", "the next run goes on")])
def test_out_of_time(monkeypatch: pytest.MonkeyPatch, late: Late) -> None:
    """When time runs out, what was to be said then is said, with the summary that the stack's outputs ask for."""
    told = threading.Event()
    bodies: list[dict[str, Any]] = []

    def send(_self: Answer, body: bytes) -> None:
        bodies.append(json.loads(body))
        told.set()

    monkeypatch.setattr(Answer, "_send", send)
    answer = Answer(EVENT, "crr-monitor-canary", 0.0, late)
    assert told.wait(60)
    answer.give("SUCCESS", "too late")
    (body,) = bodies
    assert (body["Status"], body["Reason"], body["Data"]) == (*late, {"Summary": late[1]})


@pytest.mark.parametrize("early", [True, False], ids=["before", "afterwards"])
def test_noted_when_time_ran_out(monkeypatch: pytest.MonkeyPatch, *, early: bool) -> None:
    """What is to be noted when time runs out is noted once, also if it is said only after that."""
    told, noted = threading.Event(), threading.Event()
    notes: list[int] = []

    def note() -> None:
        notes.append(1)
        noted.set()

    monkeypatch.setattr(Answer, "_send", lambda _self, _body: told.set())
    answer = Answer(EVENT, "crr-monitor-setup", 0.0)
    if early:
        answer.when_late(note)
        assert told.wait(60)
    else:
        assert told.wait(60)
        answer.when_late(note)
    assert noted.wait(60)
    assert notes == [1]


def test_nothing_is_noted_of_what_was_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer in time leaves nothing to be noted."""
    notes: list[int] = []
    sent: list[bytes] = []
    monkeypatch.setattr(Answer, "_send", lambda _self, body: sent.append(body))
    answer = Answer(EVENT, "crr-monitor-setup", 900.0)
    answer.when_late(lambda: notes.append(1))
    assert answer.give("SUCCESS", "done")
    answer._run_out()
    assert (len(sent), notes) == (1, [])
