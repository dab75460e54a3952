"""What options and arguments may look like: instants, durations, objects."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from crr_monitor.core.times import BadTimeError, parse_duration, parse_moment

if TYPE_CHECKING:
    from collections.abc import Iterable

_SIZE = re.compile(r"\d+(\.\d+)? ?[KMGT]i?B", re.IGNORECASE)
_STORES = ("dynamodb://", "sqlite://")


class DurationType(click.ParamType[int]):
    """A length of time, in milliseconds."""

    name = "duration"

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read it."""
        if isinstance(value, int):
            return value
        parsed = parse_duration(value)
        if parsed is None:
            self.fail(f"{value!r} is no length of time: write a number and ms, s, m, h, d or w, as in 90m", param, ctx)
        return parsed


@dataclass(frozen=True)
class Moment:
    """An instant (milliseconds since the epoch), or with ``ago`` so many milliseconds before the question's time."""

    value: int
    ago: bool = False

    def at(self, as_of: int) -> int:
        """Milliseconds since the epoch."""
        return max(0, as_of - self.value) if self.ago else self.value


class MomentType(click.ParamType[Moment]):
    """An instant: RFC 3339, a date (midnight in UTC), or a length of time ago."""

    name = "time"

    def convert(self, value: str | Moment, param: click.Parameter | None, ctx: click.Context | None) -> Moment:
        """Read it."""
        if isinstance(value, Moment):
            return value
        ago = parse_duration(value)
        if ago is not None:
            return Moment(ago, ago=True)
        try:
            at = parse_moment(value)
        except BadTimeError as error:
            self.fail(f"{error}; write 2026-11-22T07:00:00Z, 2026-11-22, or how long ago: 90m, 24h, 7d", param, ctx)
        return Moment(at)


def moments(since: Moment | None, until: Moment | None, as_of: int) -> tuple[int | None, int | None]:
    """Begin and end of the time that was asked for; milliseconds since the epoch.

    Raises:
        UsageError: it ends before it begins.
    """
    begin = None if since is None else since.at(as_of)
    end = None if until is None else until.at(as_of)
    if begin is not None and end is not None and begin >= end:
        message = "--since is not before --until"
        raise click.UsageError(message)
    return begin, end


class TextType(click.ParamType[str]):
    """What is compared with keys and version ids: both are UTF-8."""

    name = "text"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Read it."""
        if not _is_unicode(value):
            self.fail(f"{value!r} is not valid UTF-8, and every key and version id is", param, ctx)
        return value


class SizeType(click.ParamType[str]):
    """How much memory, as DuckDB understands it."""

    name = "size"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Read it."""
        if _SIZE.fullmatch(value) is None:
            self.fail(f"{value!r} is no size: write a number and KB, MB or GB, as in 512MB", param, ctx)
        return value


@dataclass(frozen=True)
class ObjectName:
    """A bucket and a key in it."""

    bucket: str
    key: str

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


class ObjectType(click.ParamType[ObjectName]):
    """``s3://bucket/key``; the key is taken as it is, without any decoding."""

    name = "object"

    def convert(self, value: str | ObjectName, param: click.Parameter | None, ctx: click.Context | None) -> ObjectName:
        """Read it."""
        if isinstance(value, ObjectName):
            return value
        bucket, _, key = value.removeprefix("s3://").partition("/")
        if not value.startswith("s3://") or not bucket or not key:
            self.fail(f"{value!r} is no object: write s3://bucket/key", param, ctx)
        if not _is_unicode(value):
            self.fail(f"{value!r} is not valid UTF-8, and every key is", param, ctx)
        return ObjectName(bucket, key)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # bytes of the command line that are no UTF-8 come as lone surrogates
        return False
    return True


MOMENT = MomentType()
DURATION = DurationType()
OBJECT = ObjectType()
SIZE = SizeType()
TEXT = TextType()


def refuse_stores(values: Iterable[str]) -> None:
    """End with a usage error where a store is named as a source."""
    for value in values:
        if value.lower().startswith(_STORES):
            message = f"{value}: is a store, not a source; name it with --store"
            raise click.UsageError(message)
