"""What one message gives, for tests that expect exactly one outcome."""

from __future__ import annotations

from crr_monitor.core.events import Event, Failed, Written
from crr_monitor.decode import decode
from tests.messages import encoded


def event_of(message: object) -> Event:
    """The one event that a message gives, and nothing else."""
    out = decode(encoded(message))
    assert (out.ignored, out.malformed) == ({}, [])
    (event,) = out.events
    return event


def written_of(message: object) -> Written:
    """The one write that a message gives."""
    event = event_of(message)
    assert isinstance(event, Written)
    return event


def failed_of(message: object) -> Failed:
    """The one failure that a message gives."""
    event = event_of(message)
    assert isinstance(event, Failed)
    return event


def ignored_of(message: object) -> dict[str, int]:
    """What is ignored of a message that gives nothing else."""
    out = decode(encoded(message))
    assert (out.events, out.malformed) == ([], [])
    return out.ignored


def reason_of(message: object) -> str:
    """Why a message is rejected that gives nothing else; it is kept byte for byte."""
    out = decode(encoded(message))
    assert (out.events, out.ignored) == ([], {})
    (malformed,) = out.malformed
    assert malformed.message == encoded(message)
    return malformed.reason
