"""What the tests of the commands share: a filled store, a call within this process, and a real one."""

from __future__ import annotations

import csv
import fcntl
import io
import json
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import TYPE_CHECKING, Any

from click.testing import CliRunner, Result

from crr_monitor.cli.main import cli
from crr_monitor.core.times import DAY_MS, HOUR_MS
from crr_monitor.stores.base import Batch
from crr_monitor.stores.sqlite import SqliteStore
from tests.factories import AT, ONE_WAY, merged_by_version

if TYPE_CHECKING:
    from crr_monitor.core.events import Event
    from crr_monitor.core.topology import Topology

SOURCE_TREE = Path(__file__).resolve().parents[2] / "src"
NEWEST = AT + HOUR_MS
"""The newest event of a filled store, and so its clock: all its events came a day later."""

OK, FAILED, USAGE, PROBLEMS, INTERRUPTED = 0, 1, 2, 3, 130


def fill(path: Path, *events: Event, topology: Topology = ONE_WAY, newest: int = NEWEST) -> Path:
    """A store that knows a topology and has seen some events; gives its path."""
    store = SqliteStore(path, clock=lambda: AT + DAY_MS)
    store.learn([(config, True) for config in topology.configs])
    store.apply(Batch(evidence=merged_by_version(events, topology), newest_event=newest))
    store.close()
    return path


def call(store: Path | str, *arguments: str) -> Result:
    """Run a command in this process; what it raises is in the result."""
    return CliRunner().invoke(cli, ["--store", str(store), *arguments])


def asked(store: Path | str, *arguments: str, status: int = OK) -> str:
    """What a command prints that has to end with this status."""
    result = call(store, *arguments)
    assert result.exit_code == status, (result.output, result.exception)
    return result.stdout_bytes.decode()  # its ``stdout`` has other line ends than what was printed


def objects(store: Path | str, *arguments: str, status: int = OK) -> list[Any]:
    """What a command prints as JSON lines."""
    lines = asked(store, *arguments, "-o", "ndjson", status=status).split("\n")
    assert lines.pop() == ""
    return [json.loads(line) for line in lines]


def rows(store: Path | str, *arguments: str, status: int = OK) -> list[dict[str, str]]:
    """What a command prints as CSV."""
    text = asked(store, *arguments, "-o", "csv", status=status)
    return list(csv.DictReader(io.StringIO(text, newline="")))


def environment(**more: str) -> dict[str, str]:
    """That of a real call: this code, and no settings of the caller."""
    return {**os.environ, "PYTHONPATH": str(SOURCE_TREE), **more}


def command(*arguments: str) -> list[str]:
    """The program and its arguments."""
    return [sys.executable, "-m", "crr_monitor", *arguments]


def run(*arguments: str, stdin: str | None = None, **more: str) -> subprocess.CompletedProcess[str]:
    """Run the program as a process of its own, with pipes; ``more`` are environment variables."""
    return subprocess.run(
        command(*arguments),
        input=stdin,
        env=environment(**more),
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=60,
    )


def look(*arguments: str, columns: int = 80) -> str:
    """What appears on a terminal of so many columns: both streams, with all control sequences."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    # The terminal says how wide it is; a caller's variables would say it louder.
    terminal = {"TERM": "xterm-256color", "LANG": "C.UTF-8", "COLUMNS": str(columns), "LINES": "50"}
    with subprocess.Popen(
        command(*arguments), stdin=theirs, stdout=theirs, stderr=theirs, env=environment(**terminal)
    ) as process:
        os.close(theirs)
        seen = bytearray()
        while True:
            try:
                part = os.read(ours, 65_536)
            except OSError:  # Linux says so that the other side is closed
                break
            if not part:
                break
            seen += part
        process.wait(timeout=60)
    os.close(ours)
    return seen.decode()
