"""What had settled before a stack's archive was switched on: it is told by the change stream, too, only later.

No table is read for it. Every record leaves the status table, a day after it settled, or 14 days after it failed, and
the stream then brings all that it said. What failed is brought sooner, as S3 is asked about it again and again. So all
that has to be known is until when records may have changed with no archive to tell it to: that is noted once, in the
statistics table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from msgspec import Struct

from crr_monitor.core.times import HOUR_MS, MINUTE_MS
from crr_monitor.stores.dynamodb_items import Transition, read_change, read_touched

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

NOTE = "archive"

MARGIN_MS = 15 * MINUTE_MS
"""So long after its first run the function without an archive may still be at work, or a writer's clock be ahead.

What changes meanwhile is told twice, and says the same under the same ``row_id``.
"""

ASKED_MS = 7 * HOUR_MS
"""Within this time S3 is asked once at least about all that failed; some of it oftener, and so told oftener.

An hour more than the longest pause between two questions; what they need to be asked is not loaded for that.
"""


class Store(Protocol):
    """What of the store is needed."""

    def note(self, name: str) -> bytes | None: ...  # noqa: D102
    def keep_note(self, name: str, body: bytes | None) -> None: ...  # noqa: D102


class Begun(Struct, frozen=True):
    """A delivery stream, and since when (milliseconds) all changes go there."""

    stream: str
    since: int


def since_of(store: Store, stream: str, now: int) -> int:
    """Since when all changes go to a delivery stream, in milliseconds: noted by whoever asks first.

    A stream that was made anew has another name: then everything that is in the table is told again.

    Raises:
        StoreError: the note could not be read or kept.
    """
    body = store.note(NOTE)
    try:
        known = None if body is None else msgspec.json.decode(body, type=Begun)
    except msgspec.MsgspecError:
        known = None
    if known is None or known.stream != stream:
        known = Begun(stream, now + MARGIN_MS)
        store.keep_note(NOTE, msgspec.json.encode(known))
    return known.since


def changes_of(entries: Iterable[Mapping[str, Any]], since: int) -> Iterator[Transition]:
    """The changes that entries of the stream tell; and as if they were new, records of before at a question to S3."""
    for entry in entries:
        sequence, change = read_change(entry)
        if change is not None:
            yield change
            continue
        touched = read_touched(entry)
        if touched is None:
            continue
        at, item = touched
        if item.derived.changed_at <= since and at <= since + ASKED_MS:
            changed_at = item.derived.changed_at
            yield Transition(
                sequence, item.key, item.version_id, item.born_at, None, item.record, [], [], changed_at, item.revision
            )
