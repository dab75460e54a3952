"""A source with a thread of its own, which goes on until it is stopped, whatever happens to what it reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from crr_monitor.aws.queue import QueueError
from crr_monitor.serve.state import SourceState
from crr_monitor.serve.threads import Background
from crr_monitor.sources.base import SourceError
from crr_monitor.sources.rejects import RejectError
from crr_monitor.stores.base import StoreError, system_clock

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from crr_monitor.stores.base import Counts

EXPECTED = (QueueError, RejectError, SourceError, StoreError)
"""What is told as the source's problem, and tried again."""

LONGEST_PAUSE = 30.0


class Reader(Protocol):
    """What a source is read by."""

    pause: float
    """Seconds to the next look, where nothing is wrong."""

    waiting: int | None
    """Messages that wait in the source, where that is known."""

    def look(self, stopping: threading.Event, taken: Callable[[Counts], None]) -> None:
        """Take what there is; ``taken`` is told what became durable. Returns soon once ``stopping`` is set.

        Raises:
            one of :data:`EXPECTED`: it cannot be read now; the text says why.
        """


class SourceThread(Background):
    """Reads again and again; after a problem with growing pauses."""

    def __init__(self, name: str, kind: str, reader: Reader, say: Callable[[str], None]) -> None:
        """``say`` is told when something is wrong, and when it is well again."""
        self.state = SourceState(name, kind)
        self._reader = reader
        self._say = say
        super().__init__(kind, self._main)

    def _main(self) -> None:
        try:
            self._run()
        except BaseException as error:
            # A bug: the traceback is for the log, and this for whoever asks whether all is well.
            self.state.ready, self.state.problem = False, f"it ended with {type(error).__name__}: {error} (a bug)"
            raise

    def _run(self) -> None:
        pause = self._reader.pause
        while not self.stopping.is_set():
            try:
                self._reader.look(self.stopping, self._taken)
            except EXPECTED as error:
                self._problem(str(error))
                pause = min(LONGEST_PAUSE, max(1.0, 2 * pause))
            else:
                self._well()
                pause = self._reader.pause
            self.stopping.wait(pause)

    def _taken(self, counts: Counts) -> None:
        self.state.messages += counts.messages
        self.state.read_at = system_clock()

    def _problem(self, text: str) -> None:
        if self.state.problem != text:
            self._say(f"{text} (it is tried again)")
        self.state.ready, self.state.problem = False, text

    def _well(self) -> None:
        if self.state.problem is not None:
            self._say(f"{self.state.name}: can be read again")
        self.state.ready, self.state.problem = True, None
        self.state.waiting = self._reader.waiting
