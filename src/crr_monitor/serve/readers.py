"""Threads that answer questions from the store, each with a view of its own, so that nobody waits for the writer."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from crr_monitor.stores.base import StoreError

if TYPE_CHECKING:
    from crr_monitor.stores.base import Store

T = TypeVar("T")
Question: TypeAlias = Callable[["Store"], Any]

THREADS = 2
"""So that a long listing does not keep the figures waiting."""

WAITING = 100
"""So many questions may wait; more are refused, because somebody asks faster than the store can answer."""


class BusyError(Exception):
    """Too many questions wait already."""


class Readers:
    """Ask with :meth:`ask`, from the event loop."""

    def __init__(self, open_store: Callable[[], Store], threads: int = THREADS) -> None:
        """``open_store`` is called in each thread; the store is there already."""
        self._open_store = open_store
        self._queue: queue.SimpleQueue[tuple[Question, Future[Any]] | None] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._main, name="reader", daemon=True) for _ in range(threads)]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Answer what was asked, and close the stores."""
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()

    async def ask(self, question: Callable[[Store], T]) -> T:
        """The answer to a question.

        Raises:
            StoreError: the store could not answer.
            BusyError: too many questions wait.
        """
        if self._queue.qsize() >= WAITING:
            message = f"{WAITING} questions wait to be answered: ask again later"
            raise BusyError(message)
        future: Future[T] = Future()
        self._queue.put((question, future))
        return await asyncio.wrap_future(future)

    def _main(self) -> None:
        store: Store | None = None
        try:
            while (asked := self._queue.get()) is not None:
                question, future = asked
                if not future.set_running_or_notify_cancel():
                    continue  # who asked has gone
                try:
                    store = store or self._open_store()
                    answer = question(store)
                except StoreError as error:
                    future.set_exception(error)
                except BaseException as error:
                    future.set_exception(error)
                    raise
                else:
                    future.set_result(answer)
        finally:
            if store is not None:
                store.close()
