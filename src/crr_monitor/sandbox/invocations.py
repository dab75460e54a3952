"""How many functions are running or about to run, so that one can wait for the asynchronous ones as well."""

from __future__ import annotations

import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_announced: ContextVar[list[bool] | None] = ContextVar("sandbox_announced", default=None)
"""Travels into the thread of an asynchronous invocation; its first attempt takes the entry out."""


class Invocations:
    """Counts from the moment when an invocation is asked for until its first attempt has ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.running = 0

    def _count(self, change: int) -> None:
        with self._lock:
            self.running += change

    def asynchronous(self, old: Callable[..., None]) -> Callable[..., None]:
        """The emulator starts a thread here, which has not counted itself when the caller goes on."""

        def invoke(func: dict[str, Any], event: dict[str, Any]) -> None:
            self._count(1)
            token = _announced.set([True])
            try:
                old(func, event)
            finally:
                _announced.reset(token)

        return invoke

    def executing(self, old: Callable[..., Any]) -> Callable[..., Any]:
        """Every invocation passes here, whoever asked for it."""

        def execute(func: dict[str, Any], event: dict[str, Any]) -> Any:  # noqa: ANN401 - the emulator's result
            announced = _announced.get()
            if announced:
                announced.pop()
            else:
                self._count(1)
            try:
                return old(func, event)
            finally:
                self._count(-1)

        return execute
