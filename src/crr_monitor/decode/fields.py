"""Reading single values, the same way for every kind of message.

What an event cannot do without is checked and rejected by name; what it can do without is unknown when it is odd.
"""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING
from urllib.parse import unquote_plus

from crr_monitor.core.events import MAX_TIME
from crr_monitor.core.times import BadTimeError, parse_time
from crr_monitor.decode.result import RejectError
from crr_monitor.decode.wire import Bucket, Item

if TYPE_CHECKING:
    from crr_monitor.decode.wire import Odd

S3_SERVICE = "s3.amazonaws.com"
REPLICATION_SESSION = ":s3-replication"
"""How the principal id of S3's replication session ends, after the role's id."""

UNVERSIONED = "unversioned"
"""The kind under which writes and deletions without a real version id are counted."""

NO_BUCKET = Bucket()
NO_ITEM = Item()
_ACCOUNT_DIGITS = 12
_MAX_SIZE_DIGITS = 18
_MAX_SIZE = 10**_MAX_SIZE_DIGITS


def required(value: object, field: str) -> str:
    """Return a text that is there and not empty.

    Raises:
        RejectError: it is missing, empty or of another type.
    """
    if isinstance(value, str) and value:
        return value
    problem = "is missing" if value is None or value == "" else f"is no text but {type(value).__name__}"
    message = f"{field} {problem}"
    raise RejectError(message)


def text(value: object) -> str | None:
    """Return an optional text: None unless it is one and not empty."""
    return value if value and type(value) is str else None


def real_version(value: object, field: str) -> str | None:
    """Return a version id, or None where the object has none (absent, null, ``""`` or ``"null"``).

    Raises:
        RejectError: it is of another type.
    """
    if type(value) is str:
        return value if value and value != "null" else None
    if value is None:
        return None
    message = f"{field} is no text but {type(value).__name__}"
    raise RejectError(message)


def size_of(value: object) -> int | None:
    """Return a size in bytes: also from a float or a numeral; None where it is unknown (-1, absent, odd)."""
    if type(value) is int:
        return value if 0 <= value <= _MAX_SIZE else None
    if isinstance(value, str):
        numeral = value.isascii() and value.isdecimal() and len(value) <= _MAX_SIZE_DIGITS
        return int(value) if numeral else None
    return size_of(int(value)) if isinstance(value, float) and isfinite(value) else None


def account_id(value: object) -> str | None:
    """Return an account's 12 digits, also from a number that lost its leading zeros; None for anything else."""
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        value = f"{value:0{_ACCOUNT_DIGITS}d}"
    if isinstance(value, str) and len(value) == _ACCOUNT_DIGITS and value.isascii() and value.isdecimal():
        return value
    return None


def time_of(*candidates: tuple[str, object]) -> tuple[int, bool]:
    """Return the first time that is there, as milliseconds and whether it came in whole seconds.

    Raises:
        RejectError: none is there, or the first that is cannot be read; the text names the field.
    """
    for field, value in candidates:
        if value is None:
            continue
        try:
            return parse_time(required(value, field))
        except BadTimeError as error:
            message = f"{field}: {error}"
            raise RejectError(message) from error
    message = f"{candidates[0][0]} is missing"
    raise RejectError(message)


def optional_time(value: object) -> tuple[int | None, bool]:
    """Return a time that an event can do without: unknown where it cannot be read."""
    if isinstance(value, str):
        try:
            at, whole_seconds = parse_time(value)
        except BadTimeError:
            return None, False
        if 0 <= at <= MAX_TIME:
            return at, whole_seconds
    return None, False


def form_decoded(key: str) -> str:
    """Return an object key as S3 knows it, from the form encoding of notifications (``+`` is a space), decoded once.

    Raises:
        RejectError: the decoded bytes are not UTF-8.
    """
    if "%" not in key and "+" not in key:
        return key
    try:
        return unquote_plus(key, errors="strict")
    except UnicodeDecodeError as error:
        message = f"key is not valid UTF-8: {key[:64]!r}"
        raise RejectError(message) from error


def bucket_name(value: object) -> str | None:
    """Return a bucket's name from its name or its ARN."""
    name = text(value)
    return (name.rpartition(":")[2] or None) if name is not None and name.startswith("arn:") else name


def bucket_of(value: Bucket | Odd) -> Bucket:
    """Return the bucket object, or an empty one where something else stands in its place."""
    return value if isinstance(value, Bucket) else NO_BUCKET


def item_of(value: Item | Odd) -> Item:
    """Return the object's object, or an empty one where something else stands in its place."""
    return value if isinstance(value, Item) else NO_ITEM


def etag_of(item: Item) -> str | None:
    """Return the ETag without quotes, under either of its spellings."""
    etag = text(item.upper_etag) or text(item.etag)
    return (etag.strip('"') or None) if etag is not None else None
