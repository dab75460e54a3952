"""Ctrl-C while something is being loaded or started that an exception in its middle would break."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType


@contextmanager
def ctrl_c_afterwards() -> Iterator[None]:
    """Hold the exception back that Ctrl-C raises: for the time in which large modules are loaded.

    Half loaded, some tell of it as a fault of their own, and in a callback of the import system it is lost. Only in the
    main thread are there such exceptions, and only where somebody handles the signal.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    came: list[tuple[int, FrameType | None]] = []
    signal.signal(signal.SIGINT, lambda number, frame: came.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        for each in came[:1]:
            before(*each)


@contextmanager
def ctrl_c_not_for_starting() -> Iterator[None]:
    """Hold the signal back while processes of :mod:`multiprocessing` are started, from this thread and from them.

    A terminal sends it to the whole group, and one that has only begun, and cannot ignore it yet, would show a
    traceback. They have it held back until they say otherwise.
    """
    from multiprocessing import resource_tracker  # noqa: PLC0415 - few start any, and it takes a while

    resource_tracker.ensure_running()  # when it starts, it lets all signals through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT,))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
