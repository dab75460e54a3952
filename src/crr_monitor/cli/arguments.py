"""What options and arguments may look like: instants, durations, objects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from crr_monitor.core.times import BadTimeError, parse_duration, parse_time

if TYPE_CHECKING:
    from collections.abc import Iterable

_EARLIEST = 0
_LATEST = parse_time("9999-12-30T00:00:00Z")[0]
_SCHEMES_TO_COME = ("dynamodb",)


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
        return max(_EARLIEST, as_of - self.value) if self.ago else self.value


class MomentType(click.ParamType[Moment]):
    """An instant: RFC 3339, or a length of time ago."""

    name = "time"

    def convert(self, value: str | Moment, param: click.Parameter | None, ctx: click.Context | None) -> Moment:
        """Read it."""
        if isinstance(value, Moment):
            return value
        ago = parse_duration(value)
        if ago is not None:
            return Moment(ago, ago=True)
        try:
            at = parse_time(value)[0]
        except BadTimeError as error:
            self.fail(f"{error}; write 2026-11-22T07:00:00Z, or how long ago, as in 90m, 24h, 7d", param, ctx)
        if not _EARLIEST <= at <= _LATEST:
            self.fail(f"{value!r} is not between the years 1970 and 9999", param, ctx)
        return Moment(at)


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


def refuse_planned(values: Iterable[str]) -> None:
    """End with a usage error where a source is of a kind that later versions read."""
    for value in values:
        scheme = value.partition("://")[0].lower()
        if "://" in value and scheme in _SCHEMES_TO_COME:
            message = f"{value}: {scheme}:// is not available in this version; name a file, a folder, or - for stdin"
            raise click.UsageError(message)
