"""The small texts that messages are made of: times, identifiers, JSON strings."""

from __future__ import annotations

from binascii import b2a_base64
from functools import lru_cache
from typing import Self

import msgspec

from crr_monitor.core.times import MINUTE_MS, SECOND_MS, format_time
from crr_monitor.simulate.dice import digest

_encode = msgspec.json.Encoder().encode


def quote(text: str) -> str:
    """The text as a JSON string, letters beyond ASCII as they are."""
    return _encode(text).decode()


@lru_cache(maxsize=16_384)
def _minute(minutes: int) -> str:
    return format_time(minutes * MINUTE_MS)[: len("2026-11-22T07:00:")]


def whole_seconds(at: int) -> str:
    """The time without its fraction, as CloudTrail and EventBridge write it."""
    return f"{_minute(at // MINUTE_MS)}{at // SECOND_MS % 60:02d}Z"


def milliseconds(at: int) -> str:
    """The time with three decimals, as S3 event notifications write it."""
    return f"{_minute(at // MINUTE_MS)}{at // SECOND_MS % 60:02d}.{at % SECOND_MS:03d}Z"


class Ids:
    """The identifiers of one fact: the same whenever and however often the fact is told."""

    __slots__ = ("extended_id", "hex")

    def __init__(self, digits: str, extended_id: str) -> None:
        self.hex = digits
        self.extended_id = extended_id

    @classmethod
    def of(cls, name: str) -> Self:
        """The identifiers that belong to a name."""
        raw = digest(name)
        return cls(raw.hex(), b2a_base64(raw[:56], newline=False).decode())

    def sent(self, number: int) -> Ids:
        """The identifiers of the envelopes of one delivery: new ones each time, unlike those of what is inside."""
        count = f"{number:016x}"
        digits = self.hex
        return Ids(f"{count}{digits[80:96]}{count}{digits[48:]}", self.extended_id)

    def uuid(self, at: int) -> str:
        """A UUID from the digits that begin at ``at`` (0 to 96)."""
        digits = self.hex
        return (
            f"{digits[at : at + 8]}-{digits[at + 8 : at + 12]}-{digits[at + 12 : at + 16]}"
            f"-{digits[at + 16 : at + 20]}-{digits[at + 20 : at + 32]}"
        )

    @property
    def request_id(self) -> str:
        """S3's ``x-amz-request-id``."""
        return self.hex[64:80].upper()

    @property
    def address(self) -> str:
        """An IPv4 address of the caller, from the range for documentation (RFC 5737)."""
        return f"203.0.113.{int(self.hex[80:82], 16)}"


def sequencer(written_at: int, digits: str) -> str:
    """S3's ``sequencer``: time first, in hexadecimal, upper case as S3 sends it today."""
    return f"00{written_at // SECOND_MS:08X}{digits[:8].upper()}"
