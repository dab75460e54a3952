"""Ctrl-C, once: the first one ends the demo, and those that follow end neither its tidying up nor its last words."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import FrameType, TracebackType

TERMINATED = 128 + signal.SIGTERM


class Interrupts:
    """A context manager in the main thread: the first SIGINT or SIGTERM ends its block, later ones do nothing."""

    def __init__(self) -> None:
        self._came: int | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            # Once one came the process is about to end, with its own exit status.
            signal.signal(number, handler if self._came is None else signal.SIG_IGN)  # type: ignore[arg-type]

    def check(self) -> None:
        """End the block if a signal came and its exception was lost: Python drops those raised in a destructor."""
        if self._came is not None:
            self._raise(self._came)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self._came is None:
            self._came = number
            self._raise(number)

    @staticmethod
    def _raise(number: int) -> None:
        if number == signal.SIGTERM:
            raise SystemExit(TERMINATED)
        raise KeyboardInterrupt
