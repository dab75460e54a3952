"""Who was watching a hub's queue, as told look by look: the files of coverage beside the archive.

A hub's queue keeps what comes, so a look that finds it empty, or finds that messages were taken out of it, tells that
events were read up to now. Where fewer are taken than wait, some of them are as old as the look that saw them wait: too
old, and the monitor was blind. So it was for the events of a bucket in which a canary lies whose event does not come
(:mod:`crr_monitor.core.hearing`). That an account is quiet is noted, with its newest event, and is no blindness. What
is not in its final file yet is remembered in the store, so that no file has to be read again, and one that could not be
written is written later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct, field

from crr_monitor.core import hearing
from crr_monitor.core.coverage import Stretch, extend, files
from crr_monitor.core.hearing import Heard, heard_from
from crr_monitor.core.times import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, format_time
from crr_monitor.sinks.watching import NOTE as LOOK_NOTE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from crr_monitor.stores.base import Store

NOTE = "looks"

MISSED_LOOKS = 3
"""Looks that are further apart than so many times their interval are a gap, of which nothing is said."""

STANDS_MS = 15 * MINUTE_MS
"""A queue in which messages have waited for so long was not read, or not fast enough."""

MOST_WAITS = 1_000
"""Looks that are remembered while messages of theirs wait. More would only be needed when these are over."""

QUIET_MS = HOUR_MS
"""An account of which nothing was heard for so long has a line of its own, with its newest event."""

STALE_MS = HOUR_MS
"""What the canary said longer ago says nothing of now."""

KEPT_MS = HOUR_MS
"""A day is written anew for so long after its end: it may still turn out that its last minutes were blind."""

UNWRITTEN_MS = 31 * DAY_MS
"""How far back days are kept that could not be written."""


class Remembered(Struct, frozen=True):
    """From the looks before: the stretches of days that are not over, or could not be written.

    ``waits``: the looks of whose messages some still wait: when, how many waited, and how many had been taken by then
    since the store was made.
    """

    stretches: list[Stretch] = field(default_factory=list)
    waits: list[tuple[int, int, int]] = field(default_factory=list)


class Looks(Struct, frozen=True, kw_only=True):
    """Whose looks: ``monitor`` names the files, ``source`` is the queue, ``interval_ms`` is between two looks.

    A canary is late that was not heard for ``late_ms``.
    """

    monitor: str
    source: str
    interval_ms: int
    late_ms: int

    def tell(self, store: Store, waiting: int, now: int, put: Callable[[str, bytes], None]) -> None:
        """One look, at which so many messages waited; ``put`` writes a file, given its path below the archive.

        What ``put`` raises goes on to the caller; what could not be written is written at the next look.

        Raises:
            StoreError: the store could not be asked or written.
        """
        before = _remembered(store)
        taken, newest = store.counts().messages, store.newest()
        # Of the messages that waited at a look some still wait, if fewer were taken since.
        waits = [each for each in before.waits if waiting and taken - each[2] < each[1]]
        if waiting and len(waits) < MOST_WAITS:
            waits.append((now, waiting, taken))
        first = (now - KEPT_MS) // DAY_MS * DAY_MS
        since = waits[0][0] if waits else now
        beat = Stretch(
            self.monitor,
            self.source,
            "live",
            "watched",
            now,
            now,
            newest_event_at=None if newest is None else newest.event_at,
            waiting=waiting,
            queue_age_seconds=(now - since) / SECOND_MS if since < now else None,
        )
        if now - since >= STANDS_MS:
            problem = f"messages have waited to be read since {format_time(since)}"
            # A day that was written for the last time stays as it is.
            beat = msgspec.structs.replace(beat, state="blind", since=max(since, first), problem=problem)
        beats = [beat, *self._quiet(beat, store), *self._deaf(heard_from(store.note(hearing.NOTE)), now, first)]
        stretches = extend(before.stretches, beats, MISSED_LOOKS * self.interval_ms)
        kept = [each for each in stretches if each.since >= first - UNWRITTEN_MS]
        _keep(store, Remembered(kept, waits))
        for below, lines in files(kept, f"hub-{self.monitor}").items():
            put(below, lines)
        left = [each for each in kept if each.since >= first]
        if left != kept:
            _keep(store, Remembered(left, waits))

    def _quiet(self, beat: Stretch, store: Store) -> Iterator[Stretch]:
        """Of each account that is quiet, if events are read: what its newest event was, to five minutes."""
        if beat.state == "watched":
            for account, at in sorted(_newest(store.note(LOOK_NOTE)).items()):
                if beat.until - at >= QUIET_MS:
                    yield Stretch(
                        self.monitor, self.source, "live", "watched", beat.until, beat.until, account,
                        newest_event_at=at,
                    )  # fmt: skip

    def _deaf(self, heard: Heard, now: int, first: int) -> Iterator[Stretch]:
        """Of each bucket whose canaries are there, and not heard: since when, and until the last look at it."""
        if now - heard.at > STALE_MS:
            return
        for bucket, each in sorted(heard.buckets.items()):
            since = each.deaf_since
            if since is not None and heard.at - since > self.late_ms:
                yield Stretch(
                    self.monitor,
                    f"canary in {bucket}",
                    "live",
                    "blind",
                    max(since, first),
                    heard.at,
                    each.account,
                    each.region,
                    problem=f"canaries are there, and no event of them has come since {format_time(since)}",
                )


class _Newest(Struct):
    """Of what the look remembers, the newest event of each account."""

    newest: dict[str, int] | None = None


def _newest(body: bytes | None) -> dict[str, int]:
    try:
        return {} if body is None else msgspec.json.decode(body, type=_Newest).newest or {}
    except msgspec.MsgspecError:
        return {}


def _remembered(store: Store) -> Remembered:
    body = store.note(NOTE)
    try:
        return Remembered() if body is None else msgspec.json.decode(body, type=Remembered)
    except msgspec.MsgspecError:
        return Remembered()


def _keep(store: Store, remembered: Remembered) -> None:
    store.keep_note(NOTE, msgspec.json.encode(remembered))
