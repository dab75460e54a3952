"""What every thread of the service has in common: it is begun, asked to end, and waited for."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Background:
    """A thread that ends when it is asked to; ``main`` looks at ``stopping``."""

    def __init__(self, name: str, main: Callable[[], None]) -> None:
        """It begins with :meth:`start`."""
        self.stopping = threading.Event()
        self._thread = threading.Thread(target=main, name=name, daemon=True)

    def start(self) -> None:
        """Begin at once."""
        self._thread.start()

    def stop(self) -> None:
        """Ask it to begin nothing more; :meth:`join` waits for it."""
        self.stopping.set()

    def join(self, seconds: float) -> None:
        """Wait until what it began is done, at most so long."""
        self._thread.join(seconds)

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()
