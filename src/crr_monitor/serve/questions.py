"""What is asked over HTTP: parameters to questions, and the answers in the contract's JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn, get_args

from msgspec import Struct

from crr_monitor.core.model import VISIBLE, Status, to_json
from crr_monitor.core.times import DAY_MS, BadTimeError, parse_duration, parse_moment
from crr_monitor.process.clock import Clock
from crr_monitor.process.figures import By, Window, figures
from crr_monitor.stores.base import Query, system_clock

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from crr_monitor.stores.base import Store

DEFAULT_LIMIT, MAX_LIMIT = 100, 1_000
WINDOW_MS = DAY_MS
STATUSES = tuple(status.name for status in reversed(VISIBLE))


class QuestionError(Exception):
    """A parameter is wrong: the text names it, its value, and what is allowed."""


class Moment(Struct, frozen=True):
    """An instant in milliseconds, or with ``ago`` so many before the time of the question."""

    value: int
    ago: bool

    def at(self, as_of: int) -> int:
        """Milliseconds since the epoch."""
        return max(0, as_of - self.value) if self.ago else self.value


class Stats(Struct, frozen=True):
    """``/api/stats``."""

    window: int | None = None
    since: Moment | None = None
    until: Moment | None = None
    as_of: Moment | None = None
    by: By = "pair"

    def answer(self, store: Store, target_ms: int) -> dict[str, Any]:
        """The figures, as ``crr-monitor stats -o json`` has them."""
        now = system_clock()
        as_of = now if self.as_of is None else self.as_of.at(now)
        since = None if self.since is None else self.since.at(as_of)
        until = None if self.until is None else self.until.at(as_of)
        if since is None and until is None:
            # One more millisecond: what is written exactly then counts too.
            since, until = max(0, as_of - (self.window or WINDOW_MS)), as_of + 1
        elif since is not None and until is not None and since >= until:
            message = "since is not before until"
            raise QuestionError(message)
        newest = store.newest()
        clock = Clock("now" if self.as_of is None else "given", as_of, None if newest is None else newest.event_at)
        return clock.told(figures(store, Window(since, until, as_of), self.by, target_ms).to_json())


class Records(Struct, frozen=True):
    """``/api/records``."""

    status: Status | None = None
    source: str | None = None
    destination: str | None = None
    prefix: str | None = None
    since: Moment | None = None
    until: Moment | None = None
    limit: int = DEFAULT_LIMIT
    uncertain: bool = False

    def answer(self, store: Store) -> list[dict[str, Any]]:
        """The records, as ``crr-monitor list -o json`` has them."""
        as_of = system_clock()
        query = Query(
            self.status,
            self.source,
            self.destination,
            self.prefix,
            None if self.since is None else self.since.at(as_of),
            None if self.until is None else self.until.at(as_of),
            self.limit,
            self.uncertain,
        )
        return [to_json(record, uncertain=self.uncertain) for record in store.records(query)]


class OneObject(Struct, frozen=True):
    """``/api/status``."""

    bucket: str
    key: str
    version_id: str | None = None

    def answer(self, store: Store) -> list[dict[str, Any]]:
        """The versions' records, as ``crr-monitor status -o json`` has them."""
        records = store.versions(self.bucket, self.key, self.version_id)
        return [to_json(record, uncertain=True) for record in records]


def read_stats(given: Mapping[str, str]) -> Stats:
    """The question that parameters ask; raises :class:`QuestionError`."""
    _only(given, ("window", "since", "until", "as_of", "by"))
    if "window" in given and ("since" in given or "until" in given):
        message = "window excludes since and until"
        raise QuestionError(message)
    told = given.get("by", "pair")
    by: By | None = next((each for each in get_args(By) if each == told), None)
    if by is None:
        _refuse("by", told, "one of " + ", ".join(get_args(By)))
    return Stats(
        _duration(given, "window"), _moment(given, "since"), _moment(given, "until"), _moment(given, "as_of"), by
    )


def read_records(given: Mapping[str, str]) -> Records:
    """The question that parameters ask; raises :class:`QuestionError`."""
    names = ("status", "source", "destination", "prefix", "since", "until", "limit", "uncertain")
    _only(given, names)
    status = given.get("status")
    if status is not None and status.upper() not in STATUSES:
        _refuse("status", status, "one of " + ", ".join(STATUSES))
    uncertain = given.get("uncertain", "false").lower()
    if uncertain not in {"true", "false", "1", "0"}:
        _refuse("uncertain", uncertain, "true or false")
    return Records(
        None if status is None else Status[status.upper()],
        given.get("source"),
        given.get("destination"),
        given.get("prefix"),
        _moment(given, "since"),
        _moment(given, "until"),
        _limit(given),
        uncertain in {"true", "1"},
    )


def read_object(given: Mapping[str, str]) -> OneObject:
    """The question that parameters ask; raises :class:`QuestionError`."""
    _only(given, ("object", "version_id"))
    name = given.get("object", "")
    bucket, _, key = name.removeprefix("s3://").partition("/")
    if not name.startswith("s3://") or not bucket or not key:
        _refuse("object", name, "s3://BUCKET/KEY, with the key as it is, URL-encoded once")
    return OneObject(bucket, key, given.get("version_id") or None)


def _only(given: Iterable[str], names: tuple[str, ...]) -> None:
    for name in given:
        if name not in names:
            message = f"unknown parameter {name!r}: there are {', '.join(names)}"
            raise QuestionError(message)


def _refuse(name: str, value: str, allowed: str) -> NoReturn:
    message = f"{name} is {value!r}: allowed is {allowed}"
    raise QuestionError(message)


def _duration(given: Mapping[str, str], name: str) -> int | None:
    text = given.get(name)
    if text is None:
        return None
    found = parse_duration(text)
    if not found:
        _refuse(name, text, "a length of time, as in 90m, 24h or 7d")
    return found


def _moment(given: Mapping[str, str], name: str) -> Moment | None:
    text = given.get(name)
    if text is None:
        return None
    ago = parse_duration(text)
    if ago is not None:
        return Moment(ago, ago=True)
    try:
        return Moment(parse_moment(text), ago=False)
    except BadTimeError:
        _refuse(name, text, "a time as in 2026-11-22T07:00:00Z, or how long ago, as in 90m, 24h, 7d")


def _limit(given: Mapping[str, str]) -> int:
    text = given.get("limit", str(DEFAULT_LIMIT))
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= MAX_LIMIT):
        _refuse("limit", text, f"a whole number from 1 to {MAX_LIMIT}")
    return int(text)
