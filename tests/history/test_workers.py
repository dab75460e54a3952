"""The processes of a backfill: one run at a time, and none that a kill leaves behind is in the way of the next."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from crr_monitor.history import workers
from crr_monitor.history.driver import HistoryError
from crr_monitor.history.workers import alone, pool
from tests.processes import alive

if TYPE_CHECKING:
    from pathlib import Path


def test_one_run_at_a_time(tmp_path: Path) -> None:
    """A second run of the same logs is refused while the first is at work, and not afterwards."""
    with (
        alone(tmp_path),
        pytest.raises(HistoryError, match="another process is at work on the same logs"),
        alone(tmp_path),
    ):
        pass
    with alone(tmp_path):
        pass


def test_workers_that_were_left_behind_are_waited_for(tmp_path: Path) -> None:
    """The next run begins when the last worker of one that was killed has ended."""
    ended = threading.Event()
    with (tmp_path / "workers").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)

        def end() -> None:
            ended.set()
            fcntl.flock(file, fcntl.LOCK_UN)

        timer = threading.Timer(0.3, end)
        timer.start()
        with alone(tmp_path):
            assert ended.is_set()
        timer.join()


def test_workers_that_do_not_end_are_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing begins beside processes that write the same files; the folder is named."""
    monkeypatch.setattr(workers, "WAIT_SECONDS", 0.1)
    with (tmp_path / "workers").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        with pytest.raises(HistoryError, match=f"still at work in {tmp_path}: end them first"), alone(tmp_path):
            pass


def note(path: Path) -> int:
    """A task that never ends by itself; it says which process does it."""
    path.with_suffix(".unfinished").write_text(str(os.getpid()))
    path.with_suffix(".unfinished").replace(path)
    time.sleep(600)
    return 0


def parent(folder: Path) -> None:
    """A run with two workers, which is going to be killed."""
    with alone(folder), pool(2, folder, note) as submit:
        list(submit([folder / "1.pid", folder / "2.pid"]))


def test_workers_end_with_a_killed_run(tmp_path: Path) -> None:
    """The next run has the folder for itself: both workers of the killed one have ended when it begins."""
    process = multiprocessing.get_context("spawn").Process(target=parent, args=(tmp_path,))
    process.start()
    try:
        deadline = time.monotonic() + 60
        while not all((tmp_path / f"{number}.pid").exists() for number in (1, 2)):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        numbers = [int((tmp_path / f"{number}.pid").read_text()) for number in (1, 2)]
        with pytest.raises(HistoryError, match="another process is at work"), alone(tmp_path):
            pass
    finally:
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    with alone(tmp_path):
        assert not any(alive(number) for number in numbers)


INTERRUPTED_AT_THE_START = """
import os, signal, sys
if "--multiprocessing-fork" in sys.argv:
    os.kill(os.getpid(), signal.SIGINT)
"""

RUN = """
import sys
from pathlib import Path
from crr_monitor.history.workers import pool

if __name__ == "__main__":
    with pool(2, Path(sys.argv[1]), abs) as submit:
        print(sorted(submit([-1, -2, 3])))
"""


def test_ctrl_c_while_workers_start(tmp_path: Path) -> None:
    """It reaches all processes of the group; those that have only begun pass it over, without a traceback."""
    (tmp_path / "sitecustomize.py").write_text(INTERRUPTED_AT_THE_START)
    (tmp_path / "run.py").write_text(RUN)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "run.py"), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=60,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("[1, 2, 3]\n", "", 0)
