"""Who was watching a hub's queue, as told look by look: the files of coverage beside the archive.

A hub's queue keeps what comes, so a look that finds it empty, or finds that messages were taken out of it, tells that
events were read up to now. Where messages wait and none is taken, nobody reads. What is not in its final file yet is
remembered in the store, so that no file has to be read again, and one that could not be written is written later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct, field

from crr_monitor.core.coverage import Stretch, extend, files
from crr_monitor.core.times import DAY_MS, HOUR_MS, MINUTE_MS, format_time

if TYPE_CHECKING:
    from collections.abc import Callable

    from crr_monitor.stores.base import Store

NOTE = "looks"

MISSED_LOOKS = 3
"""Looks that are further apart than so many times their interval are a gap, of which nothing is said."""

STANDS_MS = 15 * MINUTE_MS
"""Nobody reads a queue in which messages wait, none of which was taken out for so long."""

KEPT_MS = HOUR_MS
"""A day is written anew for so long after its end: it may still turn out that its last minutes were blind."""

UNWRITTEN_MS = 31 * DAY_MS
"""How far back days are kept that could not be written."""


class Remembered(Struct, frozen=True):
    """From the looks before: the stretches of days that are not over, or could not be written.

    ``taken``: messages that were read since the store was made. ``waits_since``: since when messages have been waiting
    of which none was taken, if so.
    """

    stretches: list[Stretch] = field(default_factory=list)
    taken: int = 0
    waits_since: int | None = None


class Looks(Struct, frozen=True, kw_only=True):
    """Whose looks: ``monitor`` names the files, ``source`` is the queue, ``interval_ms`` is between two looks."""

    monitor: str
    source: str
    interval_ms: int

    def tell(self, store: Store, waiting: int, now: int, put: Callable[[str, bytes], None]) -> None:
        """One look, at which so many messages waited; ``put`` writes a file, given its path below the archive.

        What ``put`` raises goes on to the caller; what could not be written is written at the next look.

        Raises:
            StoreError: the store could not be asked or written.
        """
        before = _remembered(store)
        taken, newest = store.counts().messages, store.newest()
        stands = before.waits_since if waiting and taken == before.taken else None
        waits_since = (now if stands is None else stands) if waiting else None
        first = (now - KEPT_MS) // DAY_MS * DAY_MS
        beat = Stretch(
            self.monitor,
            self.source,
            "live",
            "watched",
            now,
            now,
            newest_event_at=None if newest is None else newest.event_at,
            waiting=waiting,
        )
        if waits_since is not None and now - waits_since >= STANDS_MS:
            problem = f"messages waited and none was taken since {format_time(waits_since)}"
            # A day that was written for the last time stays as it is.
            beat = msgspec.structs.replace(beat, state="blind", since=max(waits_since, first), problem=problem)
        stretches = extend(before.stretches, [beat], MISSED_LOOKS * self.interval_ms)
        kept = [each for each in stretches if each.since >= first - UNWRITTEN_MS]
        _keep(store, Remembered(kept, taken, waits_since))
        for below, lines in files(kept, f"hub-{self.monitor}").items():
            put(below, lines)
        left = [each for each in kept if each.since >= first]
        if left != kept:
            _keep(store, Remembered(left, taken, waits_since))


def _remembered(store: Store) -> Remembered:
    body = store.note(NOTE)
    try:
        return Remembered() if body is None else msgspec.json.decode(body, type=Remembered)
    except msgspec.MsgspecError:
        return Remembered()


def _keep(store: Store, remembered: Remembered) -> None:
    store.keep_note(NOTE, msgspec.json.encode(remembered))
