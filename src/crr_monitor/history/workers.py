"""The processes of a backfill: one run of the same logs at a time, and none that outlives its run.

A run that is killed cannot end its workers, and a kill can come at any moment. They notice and end by themselves, which
takes a while on a busy machine; the next run waits for that, or two processes would write the same files.
"""

from __future__ import annotations

import fcntl
import gc
import os
import signal
import threading
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from typing import TYPE_CHECKING, Any, TypeVar

from crr_monitor.history.driver import HistoryError
from crr_monitor.process.interrupts import ctrl_c_not_for_starting
from crr_monitor.process.reading import GC_THRESHOLD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

WAIT_SECONDS = 60.0
"""How long a run waits for the workers of one that was killed."""

_LOOK_SECONDS = 0.05
_RUN = "lock"
_WORKERS = "workers"
_held: list[Any] = []
"""What a worker has open as long as it lives."""

Task = TypeVar("Task")
Done = TypeVar("Done")


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep a second run of the same logs out, and wait until the workers of an earlier one have ended.

    Raises:
        HistoryError: another run is at work, or workers of an earlier one do not end.
    """
    with (folder / _RUN).open("wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            message = f"another process is at work on the same logs in {folder}: let it finish"
            raise HistoryError(message) from error
        _wait_for_workers(folder)
        yield


def _wait_for_workers(folder: Path) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    with (folder / _WORKERS).open("wb") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    message = f"processes of a run that was killed are still at work in {folder}: end them first"
                    raise HistoryError(message) from error
                time.sleep(_LOOK_SECONDS)
            else:
                return


@contextmanager
def pool(
    processes: int, folder: Path, do: Callable[[Task], Done]
) -> Iterator[Callable[[Iterable[Task]], Iterator[Done]]]:
    """A function that does tasks, in this process or in several, and gives what each ends with as it ends."""
    if processes <= 1:
        before = gc.get_threshold()
        gc.set_threshold(GC_THRESHOLD)
        try:
            yield lambda tasks: map(do, tasks)
        finally:
            gc.set_threshold(*before)
        return
    # New interpreters: what this process has open and holds locked is none of theirs.
    executor = ProcessPoolExecutor(processes, get_context("spawn"), initializer=_begin, initargs=(folder / _WORKERS,))

    def submit(tasks: Iterable[Task]) -> Iterator[Done]:
        with ctrl_c_not_for_starting():
            futures = [executor.submit(do, task) for task in tasks]
        return (future.result() for future in as_completed(futures))

    try:
        yield submit
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _begin(lock: Path) -> None:
    # Ctrl-C is for the parent, which then waits for what is under way.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    file = lock.open("ab")
    fcntl.flock(file, fcntl.LOCK_SH)
    _held.append(file)
    # Only now: the next run looks at the lock after the parent's end, so it waits for this worker, or this worker sees
    # that its parent has ended.
    parent = parent_process()
    if parent is not None and not parent.is_alive():
        os._exit(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    gc.set_threshold(GC_THRESHOLD)


def _end_with_parent() -> None:
    """A parent that was killed cannot tell its workers to end, and they would wait for tasks for ever."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
