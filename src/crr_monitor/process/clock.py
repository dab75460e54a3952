"""By which time questions are judged: now, where a store is fed as things happen; else that of the logs in it.

Which of the two it is, a store remembers: whoever feeds it with what happens notes that. It is no guess by age: after
an outage of hours, whether of the source or of the monitor, a live store is still one, and its backlog ages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

import msgspec
from msgspec import Struct

from crr_monitor.core.times import HOUR_MS, format_time

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crr_monitor.stores.base import Newest

LIVE_NOTE = "live"
"""Name of the note that says by what a store is fed with events as they happen."""

FRESH_MS = HOUR_MS
"""An event that is no older than this when it comes has come as things happen."""

QUIET_MS = HOUR_MS
"""Where the newest event is older than this, it is told along with the time."""

Feeder: TypeAlias = Literal["serve", "queue", "files"]
Kind: TypeAlias = Literal["now", "newest-event", "given"]


class ClockStore(Protocol):
    """The part of :class:`crr_monitor.stores.base.Store` that is needed."""

    def newest(self) -> Newest | None: ...  # noqa: D102
    def note(self, name: str) -> bytes | None: ...  # noqa: D102
    def keep_note(self, name: str, body: bytes | None) -> None: ...  # noqa: D102


class Live(Struct, frozen=True):
    """A store is fed with events as they happen: by what, and since when that is known (milliseconds)."""

    by: Feeder
    since: int


class Clock(Struct, frozen=True):
    """The time of a question, in milliseconds, and of the newest event, if there is any.

    ``kind``: what it is: ``now``; ``newest-event``, in a replay of old logs; or ``given`` by who asks.
    """

    kind: Kind
    at: int
    newest: int | None

    @property
    def quiet_ms(self) -> int | None:
        """How old the newest event is, where the clock is now and that is worth telling."""
        if self.kind != "now" or self.newest is None or self.at - self.newest <= QUIET_MS:
            return None
        return self.at - self.newest

    def told(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The JSON of figures, with which clock they are by, and when the newest event was."""
        before = {name: value for name, value in body.items() if name != "groups"}
        newest = {} if self.newest is None else {"newest_event_at": format_time(self.newest)}
        return {**before, "clock": self.kind, **newest, "groups": body["groups"]}


def live(store: ClockStore) -> Live | None:
    """By what a store is fed as things happen; ``None`` where nobody ever noted it, or what is noted is unreadable."""
    body = store.note(LIVE_NOTE)
    try:
        return None if body is None else msgspec.json.decode(body, type=Live)
    except msgspec.MsgspecError:
        return None


def feed_live(store: ClockStore, by: Feeder, now: int) -> None:
    """Note that a store is fed as things happen, unless that is known.

    Raises:
        StoreError: the store could not be asked or written.
    """
    if live(store) is None:
        store.keep_note(LIVE_NOTE, msgspec.json.encode(Live(by, now)))


def note_fresh(store: ClockStore, now: int) -> None:
    """Note the same of a store whose newest event was fresh when it came, before it is fed with other files.

    So that is not forgotten of a store that an earlier version made.

    Raises:
        StoreError: the store could not be asked or written.
    """
    if is_fresh(store.newest()):
        feed_live(store, "files", now)


def is_fresh(newest: Newest | None) -> bool:
    """Whether the newest event came as things happened."""
    return newest is not None and newest.stored_at - newest.event_at <= FRESH_MS


def clock_of(store: ClockStore, now: int, *, hub: bool = False) -> Clock:
    """Now; but where only old logs were ever read, the time of the newest event. ``hub``: a hub feeds the store.

    Raises:
        StoreError: the store could not be asked.
    """
    newest = store.newest()
    if newest is None:
        return Clock("now", now, None)
    if hub or is_fresh(newest) or live(store) is not None:
        return Clock("now", now, newest.event_at)
    return Clock("newest-event", newest.event_at, newest.event_at)
