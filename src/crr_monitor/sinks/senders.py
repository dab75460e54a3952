"""What every receiver of notices is: something with a name that takes one notice, or says why not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from crr_monitor.core.notices import Notice


class SendError(Exception):
    """A notice did not get there, so it is sent again at the next look. The text says where to, why, and what to do.

    It holds no secret: neither headers, nor what of an address may be one.
    """


class Sender(Protocol):
    """One receiver."""

    @property
    def name(self) -> str:
        """Under which it is remembered what the receiver was told; the same each time."""

    def send(self, notice: Notice) -> None:
        """Send one notice.

        Raises:
            SendError: it did not get there, as far as is known.
        """
