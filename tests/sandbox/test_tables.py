"""Tables of the local AWS: what has expired is deleted when that is asked for, and at no other moment."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

pytest.importorskip("ministack")

from crr_monitor.sandbox import tables


def in_thread(name: str, work: object) -> None:
    """Do something in a thread of that name."""
    assert callable(work)
    thread = threading.Thread(target=work, name=name)
    thread.start()
    thread.join()


def test_only_the_emulators_own_expiry_is_held_back() -> None:
    """Its thread removes nothing, everybody else does."""
    removed: list[str] = []
    remove = tables.only_when_told(removed.append)
    in_thread("dynamodb-ttl-reaper", lambda: remove("expired"))
    in_thread("request", lambda: remove("deleted"))
    assert removed == ["deleted"]


def test_an_emulator_with_another_thread_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the thread has another name, holding it back would do nothing: the sandbox does not start."""
    monkeypatch.setattr(threading, "enumerate", lambda: [SimpleNamespace(name="MainThread")])
    with pytest.raises(RuntimeError, match="no thread dynamodb-ttl-reaper"):
        tables.only_when_told(lambda: None)
