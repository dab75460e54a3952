"""An SQS queue as a source: a message is removed once what it says is durable.

A message that cannot be understood goes into the reject file, is counted, and is removed as well: left in the queue it
would only come again, until it is given up in some other place.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from crr_monitor.aws.drain import Drain
from crr_monitor.aws.queue import Queue, QueueError
from crr_monitor.serve.handing import Texts

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from crr_monitor.serve.writer import Writer
    from crr_monitor.stores.base import Counts

DEPTH_SECONDS = 60.0
"""How often it is asked how many messages wait."""

WAIT_SECONDS = 5
"""How long a question waits for messages: less costs more calls, more makes the end of the process wait."""


class QueueReader:
    """Reads one queue; see :class:`crr_monitor.serve.sources.Reader`."""

    pause = 0.0

    waiting: int | None = None
    _asked_at = -DEPTH_SECONDS

    def __init__(self, queue: Queue, writer: Writer, wait_seconds: int = WAIT_SECONDS) -> None:
        self._queue = queue
        self._drain = Drain(queue)
        self._writer = writer
        self._wait_seconds = wait_seconds

    def look(self, stopping: threading.Event, taken: Callable[[Counts], None]) -> None:
        """Take one round."""
        if time.monotonic() - self._asked_at >= DEPTH_SECONDS:
            self._asked_at = time.monotonic()
            self.waiting = self._queue.depth()
        messages = self._drain.receive(self._wait_seconds)
        if not messages or stopping.is_set():
            return  # what was received and is left alone comes again
        handed = Texts(self._queue.url, [message.data for message in messages])
        self._writer.submit(handed)
        taken(handed.wait())
        failed = self._drain.delete(messages)
        if failed:
            text = f"queue {self._queue.url}: {len(failed)} messages are stored and were not removed: {failed[0]}"
            raise QueueError(text)
