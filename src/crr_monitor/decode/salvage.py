"""Taking a list of records apart that the parser refuses as a whole, because of one of them.

The parser checks escapes and depth also where it only skips. So one record with half a surrogate pair, a control
character or thousands of brackets would take all its neighbours with it. Here only quotes and brackets are looked at.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# The last alternative is a quote that is never closed; without it each later quote would be tried up to the end.
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[][{},"]', re.DOTALL)
_COLON = re.compile(rb"\s*:")
_LISTS = frozenset({b'"Records"', b'"Messages"'})
_NO_LIST = -2


class _DamagedError(ValueError):
    """Quotes or brackets do not match or are not all there is, so what looks like an entry may be none."""


def split_entries(document: bytes) -> list[bytes]:
    """Return the entries of a list, or of the list under ``Records`` or ``Messages`` of an object, byte for byte.

    Nothing is returned where there is no such list, where quotes or brackets do not match or stand in other text, or
    where no entry looks like a record (``[INFO] started`` is a line of somebody's log).
    """
    document = document.strip()
    if not document.startswith(b"[") and not any(name in document for name in _LISTS):
        return []  # a broken record, as most are: no need to read it
    try:
        entries = [entry for entry in _entries(document) if entry]
    except _DamagedError:
        return []
    return entries if any(entry.startswith((b"{", b"[")) for entry in entries) else []


def _entries(document: bytes) -> Iterator[bytes]:
    outside, begin, key = _NO_LIST, 0, b""  # how deep the list stands, where its current entry starts
    for token, start, end, depth in _tokens(document):
        if outside != _NO_LIST:
            closed = token == b"]" and depth == outside
            if closed or (token == b"," and depth == outside + 1):
                yield document[begin:start].strip()
                begin = end
            if closed:
                outside = _NO_LIST
        elif token == b"[" and (depth == 0 or (depth == 1 and key in _LISTS)):
            outside, begin = depth, end
        elif depth == 1 and _COLON.match(document, end):
            key = token


def _tokens(document: bytes) -> Iterator[tuple[bytes, int, int, int]]:
    """Yield strings, brackets and commas, each with start, end, and how many brackets stand open around it."""
    still_open: list[bytes] = []
    ended = 0
    for match in _TOKEN.finditer(document):
        token = match[0]
        if token in (b"]", b"}"):
            if not still_open or still_open.pop() + token not in (b"[]", b"{}"):
                raise _DamagedError
        elif token == b'"' or (not still_open and match.start() > 0):
            raise _DamagedError
        yield token, match.start(), match.end(), len(still_open)
        if token in (b"[", b"{"):
            still_open.append(token)
        ended = match.end()
    if still_open or ended != len(document):
        raise _DamagedError
