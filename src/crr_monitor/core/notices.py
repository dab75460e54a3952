"""What to tell people about trouble, and when: grouped, with cause and cure, at most hourly, and when it is over.

A *trouble* (:mod:`crr_monitor.core.troubles`) is what is wrong now. What was told of it before is remembered per
receiver:

* a trouble of which nothing was told is told at once;
* while it lasts it is told again once :data:`REPEAT_MS` have passed since;
* when it was told and is gone for :data:`GONE_MS`, it is told that it is over; a trouble that comes back sooner is
  still the same one.

Only what was really sent is remembered, so what could not be sent is told at the next look.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct, field

from crr_monitor.core import notice_words as words
from crr_monitor.core.times import DAY_MS, HOUR_MS, MINUTE_MS, format_time
from crr_monitor.core.troubles import Trouble, What

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

REPEAT_MS = HOUR_MS
GONE_MS = 4 * MINUTE_MS
"""A little less than the time between two looks, so that the look after the first without it tells."""

SELDOM_MS = DAY_MS
"""What only has to be done some day, and breaks nothing so far, is repeated so seldom."""

MOST = 20
"""Messages of one look to one receiver; more notices share the last of them, with :data:`WORST_LINES` lines."""

WORST_LINES = 200
MOST_REASONS = 3


class Entry(Struct, frozen=True):
    """What was told of one trouble last, when, and since when it is gone (``None``: it was there at the last look)."""

    trouble: Trouble
    told_at: int
    first_at: int
    gone_since: int | None = None


class Told(Struct, frozen=True):
    """What one receiver was told, by the trouble's key."""

    entries: dict[str, Entry] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """As a small document, to be kept."""
        return msgspec.json.encode(self)


def told_from(body: bytes | None) -> Told:
    """Read back what was kept; of something unreadable nothing was told."""
    if body is None:
        return Told()
    try:
        return msgspec.json.decode(body, type=Told)
    except msgspec.MsgspecError:
        return Told()


class Notice(Struct, frozen=True):
    """One message: ``what`` it says of its trouble, for whom it concerns, with the words for it."""

    what: What
    trouble: Trouble
    at: int
    first_at: int
    subject: str
    text: str

    @property
    def key(self) -> str:
        """The trouble's."""
        return self.trouble.key

    def to_json(self) -> dict[str, Any]:
        """For programs: the fields of the trouble, and the words."""
        trouble = self.trouble
        known = {
            "bytes": trouble.bytes,
            "since": None if trouble.since is None else format_time(trouble.since),
            "destination": trouble.destination or None,
            "reason": trouble.reason or None,
            "account": trouble.account or None,
        }
        return {
            "id": self.key,
            "what": self.what,
            "kind": trouble.kind,
            "source": trouble.source,
            "objects": trouble.objects,
            **({"at_least": True} if trouble.at_least else {}),
            "first_told_at": format_time(self.first_at),
            "at": format_time(self.at),
            **{name: value for name, value in known.items() if value is not None},
            "subject": self.subject,
            "text": self.text,
        }


class Pace(Struct, frozen=True):
    """How often a trouble is told, and how long it has to be gone before that is told; milliseconds."""

    repeat_ms: int = REPEAT_MS
    gone_ms: int = GONE_MS


def decide(
    troubles: Iterable[Trouble],
    told: Told,
    now: int,
    command: str = "crr-monitor",
    pace: Pace = Pace(),  # noqa: B008 - frozen
) -> list[Notice]:
    """What to send now. ``command`` is how the reader calls us, with the store: as in ``crr-monitor --store URL``."""
    present = {trouble.key: trouble for trouble in troubles}
    notices = []
    for key, trouble in present.items():
        entry = told.entries.get(key)
        if entry is None:
            notices.append(_notice("new", trouble, now, now, command))
        elif now - entry.told_at >= (max(SELDOM_MS, pace.repeat_ms) if trouble.kind == "outdated" else pace.repeat_ms):
            notices.append(_notice("still", trouble, now, entry.first_at, command))
    for key, entry in told.entries.items():
        if key not in present and now - (now if entry.gone_since is None else entry.gone_since) >= pace.gone_ms:
            notices.append(_notice("over", entry.trouble, now, entry.first_at, command))
    return notices


def remember(told: Told, troubles: Iterable[Trouble], sent: Collection[Notice], now: int) -> Told:
    """What was told, once ``sent`` has been: the rest of the notices counts as never made."""
    present = {trouble.key: trouble for trouble in troubles}
    spoken = {notice.key: notice for notice in sent}
    entries: dict[str, Entry] = {}
    for key, trouble in present.items():
        old, notice = told.entries.get(key), spoken.get(key)
        if notice is not None:
            entries[key] = Entry(trouble, now, notice.first_at)
        elif old is not None:
            entries[key] = Entry(old.trouble, old.told_at, old.first_at)
    for key, entry in told.entries.items():
        if key not in present and key not in spoken:
            gone_since = now if entry.gone_since is None else entry.gone_since
            entries[key] = Entry(entry.trouble, entry.told_at, entry.first_at, gone_since)
    return Told(entries)


def bundled(notices: Iterable[Notice], most: int = MOST) -> list[tuple[Notice, tuple[Notice, ...]]]:
    """Messages, each with the notices that it stands for: where they are too many, the smaller ones share one.

    So that a cause which many pairs have in common, a role for instance, does not bury people in messages.
    """
    ordered = sorted(notices, key=lambda notice: -notice.trouble.objects)
    if len(ordered) <= most:
        return [(notice, (notice,)) for notice in ordered]
    alone, rest = ordered[: most - 1], ordered[most - 1 :]
    lines = [
        f"{len(rest)} more notices, of {WORST_LINES} at most the first lines. The others of this look came alone.",
        "",
    ]
    lines += [f"{notice.subject.removeprefix(words.PREFIX)}" for notice in rest[:WORST_LINES]]
    first = rest[0]
    objects = sum(notice.trouble.objects for notice in rest)
    together = Trouble(
        first.trouble.kind, "", "", "", objects, at_least=any(notice.trouble.at_least for notice in rest)
    )
    copies = f"{words.least(together)}{words.number(objects)} copies"
    subject = words.ascii_subject(f"{words.PREFIX}{len(rest)} more notices, {copies}")
    message = Notice(first.what, together, first.at, first.at, subject, "\n".join(lines) + "\n")
    return [*((notice, (notice,)) for notice in alone), (message, tuple(rest))]


def _notice(what: What, trouble: Trouble, now: int, first_at: int, command: str) -> Notice:
    subject = words.subject(what, trouble)
    body = (
        words.when_over(trouble, now, first_at)
        if what == "over"
        else words.while_it_lasts(what, trouble, first_at, command)
    )
    return Notice(what, trouble, now, first_at, subject, "\n".join(body) + "\n")


# What other parts of the monitor leave for the look ------------------------------------------------------------------

UNANSWERED_NOTE = "could-not-ask"
"""Name of the note in which reconciling keeps what S3 did not answer in its last round."""

CANARY_NOTE = "canary"
"""Name of the note in which the canary keeps what arrived."""


class Unanswered(Struct, frozen=True):
    """A bucket about which S3 gave no answer to questions in one round.

    ``reason`` names what is missing, as in the words of the refusal; ``throttled``: S3 only asked to slow down. ``at``
    is when it was so (milliseconds): as pauses between questions grow, it may have been in an earlier round.
    ``single``: it is about some objects, and the bucket answers about others. ``cut``: more was due than was asked
    about in that round, so ``objects`` are the least that there are.
    """

    bucket: str
    reason: str
    objects: int
    throttled: bool = False
    at: int = 0
    single: bool = False
    cut: bool = False


def encode_unanswered(found: Iterable[Unanswered]) -> bytes:
    """The note of one round."""
    return msgspec.json.encode(list(found))


def decode_unanswered(body: bytes | None) -> list[Unanswered] | None:
    """The note, or ``None`` where nobody ever asked."""
    return None if body is None else msgspec.json.decode(body, type=list[Unanswered])


def unanswered_troubles(found: Iterable[Unanswered]) -> list[Trouble]:
    """One trouble for each bucket, with its most frequent reasons; being asked to slow down is none.

    The next round goes on with what was slowed down.
    """
    buckets: dict[str, list[Unanswered]] = {}
    for each in sorted(found, key=lambda each: -each.objects):
        if not each.throttled:
            buckets.setdefault(each.bucket, []).append(each)
    return [
        Trouble(
            "could-not-ask",
            bucket,
            "",
            _reasons(several),
            sum(each.objects for each in several),
            at_least=any(each.cut for each in several),
        )
        for bucket, several in buckets.items()
    ]


def silent_buckets(found: Iterable[Unanswered]) -> frozenset[str]:
    """Buckets that do not answer at all: nothing is known of what is pending there, so it is not told as overdue."""
    return frozenset(each.bucket for each in found if not each.throttled and not each.single)


def _reasons(several: list[Unanswered]) -> str:
    texts = list(dict.fromkeys(each.reason for each in several))
    more = len(texts) - MOST_REASONS
    return "; ".join(texts[:MOST_REASONS]) + (f"; and {more} more" if more > 0 else "")


CANARY_LAGS = 12
"""So many lags of canaries are kept of each pair: more than arrive from one look to the next."""


class Flight(Struct, frozen=True):
    """The canaries of one pair: when the one was written that arrived last, or was to be the first (milliseconds).

    ``lags`` in milliseconds, of the last :data:`CANARY_LAGS` that arrived with a known lag, by when they were written.
    """

    at: int
    lags: dict[int, int] = field(default_factory=dict)

    def arrived(self, lags: Mapping[int, int | None]) -> Flight:
        """With more that arrived, by when they were written; those that are known already change nothing."""
        known = {**self.lags, **{at: lag for at, lag in lags.items() if lag is not None}}
        return Flight(max(self.at, *lags), dict(sorted(known.items())[-CANARY_LAGS:])) if lags else self


def encode_canaries(flights: Mapping[str, Flight]) -> bytes:
    """The note of the canary, by pair (``SOURCE DESTINATION``)."""
    return msgspec.json.encode(flights)


def decode_canaries(body: bytes | None) -> dict[str, Flight]:
    """The note, empty where there is no canary. That of an earlier deployment has times only."""
    found = {} if body is None else msgspec.json.decode(body, type=dict[str, int | Flight])
    return {name: Flight(each) if isinstance(each, int) else each for name, each in found.items()}


def new_lags(flights: Mapping[str, Flight], told: Mapping[str, Collection[int]]) -> dict[str, list[int]]:
    """By pair the lags of canaries (milliseconds) but those that were told, each by when it was written."""
    return {
        name: [lag for at, lag in flight.lags.items() if at not in told.get(name, ())]
        for name, flight in flights.items()
    }
