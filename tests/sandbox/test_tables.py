"""Tables of the local AWS: what has expired is deleted when that is asked for, and at no other moment."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("ministack")

REMOVE = """
import threading
from crr_monitor.sandbox import tables

removed = []
remove = tables.only_when_told(removed.append)
for name in ("dynamodb-ttl-reaper", "request"):
    thread = threading.Thread(target=remove, args=(name,), name=name)
    thread.start()
    thread.join()
print(removed)
"""

REFUSE = """
import threading
from crr_monitor.sandbox import tables

threading.enumerate = lambda: [threading.main_thread()]
tables.only_when_told(print)
"""


def outcome(script: str) -> subprocess.CompletedProcess[str]:
    """What a script does in a process of its own: the emulator changes the one that loads it."""
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)


def test_only_the_emulators_own_expiry_is_held_back() -> None:
    """Its thread removes nothing, everybody else does."""
    done = outcome(REMOVE)
    assert (done.stdout, done.returncode) == ("['request']\n", 0), done.stderr


def test_an_emulator_with_another_thread_is_refused() -> None:
    """Where the thread has another name, holding it back would do nothing: the sandbox does not start."""
    done = outcome(REFUSE)
    assert done.returncode == 1
    assert "RuntimeError: the emulator has no thread dynamodb-ttl-reaper" in done.stderr
