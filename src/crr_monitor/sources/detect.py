"""Lines or documents? Told by what a source begins with, never by its name.

A first line that is a JSON object means lines. Documents begin with a line that is the beginning of a value which
later lines go on with (pretty-printed), with a line that holds several values, with a list, or with a value that does
not end within 16 MiB. Everything else is lines, so that garbage stays within its line.
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from crr_monitor.sources.base import MAX_ITEM_BYTES
from crr_monitor.sources.scan import LIST, OBJECT, Cursor

_SPACE = b" \t\r\n"
_OPENING = (OBJECT, LIST)
_GLANCE_BYTES = 1 << 20
"""How far to look behind a truncated first line."""

_DECODER = msgspec.json.Decoder(msgspec.Raw)
_FIRST_LINE = re.compile(rb'\s*(\[|\{|\{\s*"Records"\s*:\s*\[)\s*')
_GOES_ON = re.compile(rb'[ \t"\]}]')

Verdict = Literal["complete", "truncated", "malformed"]


def judge(data: bytes | bytearray | memoryview) -> Verdict:
    """Tell whether the bytes are one JSON value, the beginning of one, or neither."""
    try:
        _DECODER.decode(data)
    except msgspec.DecodeError as error:
        # msgspec has no type of its own for this; a test holds it to these words. A number that was cut off is
        # malformed to it, just behind the last byte.
        words = str(error)
        cut_off = "truncated" in words or words.endswith(f"invalid number (byte {len(data)})")
        return "truncated" if cut_off else "malformed"
    except RecursionError:
        return "malformed"
    return "complete"


def is_complete(line: bytes) -> bool:
    """Tell whether a line without a newline is certainly whole: a number could still go on, a list or object not."""
    text = line.strip(_SPACE)
    return text[:1] in {b"{", b"["} and judge(text) == "complete"


def holds_documents(cursor: Cursor) -> bool:
    """Tell whether what the cursor stands before has to be read as documents; the cursor does not move."""
    first = cursor.peek()
    if first not in _OPENING:
        return False
    cursor.drop()
    newline = _first_newline(cursor)
    if newline < 0 and not cursor.ended:
        return True
    with memoryview(cursor.data) as view:
        line = view[cursor.at : newline] if newline >= 0 else view[cursor.at :]
        verdict = judge(line)
        line.release()
    if verdict == "complete":
        return first == LIST
    if verdict == "malformed":
        return _holds_another(cursor, newline)
    return newline < 0 or _goes_on(cursor, newline)


def _first_newline(cursor: Cursor) -> int:
    newline = cursor.data.find(b"\n", cursor.at)
    while newline < 0 and len(cursor.data) - cursor.at <= MAX_ITEM_BYTES:
        seen = len(cursor.data)
        if not cursor.more():
            break
        newline = cursor.data.find(b"\n", seen)
    return newline


def _holds_another(cursor: Cursor, newline: int) -> bool:
    """Tell whether the first line has one more value right behind its first (as Firehose strings them together)."""
    end = cursor.measure(MAX_ITEM_BYTES)
    line_end = newline if newline >= 0 else len(cursor.data)
    if end <= 0 or end >= line_end:
        return False
    with memoryview(cursor.data) as view:
        value, rest = bytes(view[cursor.at : end]), bytes(view[end:line_end])
    return judge(value) == "complete" and rest.lstrip(_SPACE)[:1] in {b"{", b"["}


def _goes_on(cursor: Cursor, newline: int) -> bool:
    """Tell whether the lines after a truncated first line go on with it, or begin anew (a writer was killed)."""
    if newline + 1 >= len(cursor.data):
        cursor.more()
    if _FIRST_LINE.fullmatch(cursor.data, cursor.at, newline):
        return True
    end = cursor.measure(_GLANCE_BYTES)
    with memoryview(cursor.data) as view:
        begin = bytes(view[cursor.at : end if end > 0 else cursor.data.rfind(b"\n") + 1])
    if judge(begin) != "malformed":
        return True
    # Malformed further down: pretty-printed nevertheless when the next line looks like it.
    return _GOES_ON.match(begin, newline + 1) is not None
