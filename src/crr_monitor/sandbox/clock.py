"""What happens later: work on the sandbox's event loop, counted, so that one can wait until nothing is in flight.

All of S3's handlers run on that loop as well; work and requests therefore never interleave.
"""

from __future__ import annotations

import asyncio
import threading
import traceback
from typing import TYPE_CHECKING

from crr_monitor.sandbox import points

if TYPE_CHECKING:
    from collections.abc import Callable

_responses = points.module("core.responses")


class Clock:
    """Runs work after a delay, inside one account and Region of the emulator."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()
        self._pending = 0
        self.failures: list[str] = []

    @property
    def pending(self) -> int:
        """Pieces of work that have not run yet."""
        with self._lock:
            return self._pending

    def _count(self, change: int) -> None:
        with self._lock:
            self._pending += change

    def start(self) -> None:
        """Take the running loop as the one on which all work runs."""
        self._loop = asyncio.get_running_loop()

    def after(
        self, seconds: float, account: str, region: str, work: Callable[[], None], *, counts: bool = True
    ) -> None:
        """Run ``work`` in that account and Region ``seconds`` from now; any thread may ask.

        What does not count is not waited for: a deadline that nobody may reach.
        """
        loop = self._loop
        if loop is None:
            message = "the sandbox's clock is not started"
            raise RuntimeError(message)
        self._count(int(counts))

        def run() -> None:
            failed = True
            try:
                with _responses.request_scope(account, region):
                    work()
                failed = False
            finally:
                if failed:  # the loop logs it and goes on; here it is kept for whoever waits
                    self.failures.append(traceback.format_exc())
                self._count(-int(counts))

        try:
            here = asyncio.get_running_loop() is loop
        except RuntimeError:
            here = False
        if here:
            loop.call_later(seconds, run)
        else:
            loop.call_soon_threadsafe(loop.call_later, seconds, run)
