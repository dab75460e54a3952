"""The reject file: what could not be understood, kept byte for byte with the reason, one JSON object per line.

``{"at", "source", "position", "error", "message"}``, or ``message_base64`` when the bytes are not valid UTF-8.

It is written ahead of the store: whoever commits a position calls :meth:`RejectFile.sync` before, so that no reject
is lost. After a kill some rejects were written whose position was never committed; they come again, and
:meth:`RejectFile.resume` makes sure that they are not written again.
"""

from __future__ import annotations

import base64
import codecs
import fcntl
import hashlib
import json
import os
import re
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from crr_monitor.core.times import format_time
from crr_monitor.sources.base import Chunks, SourceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_BLOCK = 1 << 20
_AT_BYTES = len('{"at":"2026-11-22T07:00:00.000Z",')
_HEAD = re.compile(rb'"source":("(?:[ !#-\[\]-~]|\\["\\/bfnrt]|\\u[0-9a-f]{4})*"),"position":(\d+),')
_HEAD_BYTES = 1 << 16
"""More than a line's beginning up to its position has: a path has at most 4,096 bytes."""


class RejectError(Exception):
    """The reject file cannot be written or read: the text is one line with the reason and the fix."""


class Reject(NamedTuple):
    """One thing that was rejected; ``message`` has its exact bytes."""

    at: str
    source: str
    position: int
    error: str
    message: bytes


class _Line(NamedTuple):
    """Where a line of the file begins, which source and position it is of, and the hash of what follows the time."""

    offset: int
    source: str
    position: int
    digest: bytes


class _Trace(NamedTuple):
    """Of one source: where its first line is in the file, and its highest position."""

    offset: int
    position: int


def _now() -> int:
    return time.time_ns() // 1_000_000


class RejectFile:
    """Appends rejects to a file, which is made with the first one. Several processes may share the file."""

    def __init__(self, path: str | Path, *, now: Callable[[], int] = _now) -> None:
        """Do nothing yet; ``now`` gives milliseconds since the epoch."""
        self.path = Path(path)
        self._now = now
        self._descriptor: int | None = None
        self._unsynced = False
        self._traces: dict[str, _Trace] | None = None
        self._expected: dict[str, Counter[bytes]] = {}

    def resume(self, source: str, position: int) -> None:
        """Expect that everything of the source from that position on comes again: what is written is not repeated.

        Two rejects are the same when source, position, error and bytes are; when there are several of them, each
        counts. The file is read once for all sources, and again only for a source that was interrupted.

        Raises:
            RejectError: the file cannot be read.
        """
        with self._translated("read"):
            if self._traces is None:
                self._traces = _trace(_scan(self.path, 0))
            trace = self._traces.get(source)
            self._expected.pop(source, None)
            if trace is not None and trace.position >= position:
                lines = _scan(self.path, trace.offset)
                again = (line.digest for line in lines if line.source == source and line.position >= position)
                self._expected[source] = Counter(again)

    def write(self, source: str, position: int, error: str, data: bytes | Chunks) -> bool:
        """Append one reject, unless it is there already (false).

        Raises:
            RejectError: no permission, no room, or the file is not there any more.
            SourceError: the bytes cannot be read any more.
        """
        chunks: Iterable[bytes] = (data,) if isinstance(data, bytes) else data
        head = f'"source":{json.dumps(source)},"position":{position},"error":{json.dumps(error)},'.encode()
        text = _is_text(chunks)
        if self._expected and self._is_expected(source, _digest(head, chunks, text=text)):
            return False
        prefix = f'{{"at":"{format_time(self._now())}",'.encode() + head
        with self._translated("write"):
            self._append(prefix, chunks, text=text)
        self._remember(source, position)
        return True

    def sync(self) -> None:
        """Make everything written so far durable.

        Raises:
            RejectError: the disk refused.
        """
        if self._unsynced and self._descriptor is not None:
            with self._translated("write"):
                os.fsync(self._descriptor)
            self._unsynced = False

    def close(self) -> None:
        """Make everything durable and close the file.

        Raises:
            RejectError: the disk refused.
        """
        try:
            self.sync()
        finally:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None

    def _is_expected(self, source: str, digest: bytes) -> bool:
        expected = self._expected.get(source)
        if not expected or not expected[digest]:
            return False
        expected[digest] -= 1
        return True

    def _remember(self, source: str, position: int) -> None:
        """Keep the traces true, so that the same source can be resumed once more by this process."""
        if self._traces is not None:
            known = self._traces.get(source)
            self._traces[source] = _Trace(known.offset, max(known.position, position)) if known else _Trace(0, position)

    def _append(self, prefix: bytes, chunks: Iterable[bytes], *, text: bool) -> None:
        descriptor = self._open()
        # A reader of another process never sees half a line of ours, nor do lines of two processes mix.
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        try:
            end = _cut_half_line(descriptor)
            try:
                for part in _joined((prefix, *_opening(text=text)), _encoded(chunks, text=text), b'"}\n'):
                    _write_all(descriptor, part)
            except (OSError, SourceError):
                if os.fstat(descriptor).st_size > end:
                    os.ftruncate(descriptor, end)
                raise
            self._unsynced = True
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)

    def _open(self) -> int:
        if self._descriptor is None:
            existed = self.path.exists()
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
            if not existed:
                _sync_folder(self.path.parent)
        return self._descriptor

    @contextmanager
    def _translated(self, verb: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            fix = "make room, or choose another place"
            message = f"{self.path}: cannot {verb} the reject file ({error.strerror}); {fix}"
            raise RejectError(message) from error


def read_rejects(path: str | Path) -> Iterator[Reject]:
    """Give what a reject file holds, with the exact bytes of each message; a half-written last line is left out.

    Raises:
        RejectError: the file cannot be read, or holds something else.
    """
    try:
        with Path(path).open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.endswith(b"\n"):
                    yield _parse(path, number, line)
    except OSError as error:
        message = f"{path}: cannot read the reject file ({error.strerror}); check the path"
        raise RejectError(message) from error


def _parse(path: str | Path, number: int, line: bytes) -> Reject:
    try:
        found = json.loads(line)
        packed = found.get("message_base64")
        message = found["message"].encode() if packed is None else base64.b64decode(packed, validate=True)
        return Reject(found["at"], found["source"], found["position"], found["error"], message)
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        message = f"{path}: line {number} is no reject; is this the right file?"
        raise RejectError(message) from error


def _is_text(chunks: Iterable[bytes]) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for chunk in chunks:
            decoder.decode(chunk)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _opening(*, text: bool) -> tuple[bytes]:
    return (b'"message":"' if text else b'"message_base64":"',)


def _encoded(chunks: Iterable[bytes], *, text: bool) -> Iterator[bytes]:
    """Give the message as the inside of a JSON string, chunk by chunk."""
    if text:
        decoder = codecs.getincrementaldecoder("utf-8")()
        for chunk in chunks:
            yield json.dumps(decoder.decode(chunk), ensure_ascii=False)[1:-1].encode()
        return
    rest = b""
    for chunk in chunks:
        whole = rest + chunk
        usable = len(whole) - len(whole) % 3
        rest = whole[usable:]
        yield base64.b64encode(whole[:usable])
    yield base64.b64encode(rest)


def _joined(before: tuple[bytes, ...], parts: Iterable[bytes], after: bytes) -> Iterator[bytes]:
    """Join what is small, so that a normal line is a single write."""
    buffer = bytearray().join(before)
    for part in parts:
        buffer += part
        if len(buffer) >= _BLOCK:
            yield bytes(buffer)
            buffer.clear()
    yield bytes(buffer + after)


def _digest(head: bytes, chunks: Iterable[bytes], *, text: bool) -> bytes:
    """Hash a line as it would be written, from behind its time to before its newline."""
    digest = hashlib.blake2b(head, digest_size=16)
    digest.update(*_opening(text=text))
    for part in _encoded(chunks, text=text):
        digest.update(part)
    digest.update(b'"}')
    return digest.digest()


def _trace(lines: Iterable[_Line]) -> dict[str, _Trace]:
    traces: dict[str, _Trace] = {}
    for line in lines:
        known = traces.get(line.source, _Trace(line.offset, line.position))
        traces[line.source] = _Trace(known.offset, max(known.position, line.position))
    return traces


def _scan(path: Path, offset: int) -> Iterator[_Line]:
    """Give the whole lines of a reject file from an offset on, without ever having a long one in memory."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        file.seek(offset)
        while head := file.readline(_HEAD_BYTES):
            begin, part = offset, head
            digest = hashlib.blake2b(part[_AT_BYTES:].removesuffix(b"\n"), digest_size=16)
            offset += len(part)
            while not part.endswith(b"\n") and (part := file.readline(_BLOCK)):
                digest.update(part.removesuffix(b"\n"))
                offset += len(part)
            found = _HEAD.match(head, _AT_BYTES)
            if found and part:
                yield _Line(begin, json.loads(found[1]), int(found[2]), digest.digest())


def _cut_half_line(descriptor: int) -> int:
    """Cut off what a killed writer left behind the last newline, and give the file's length then."""
    size = os.fstat(descriptor).st_size
    if not size or os.pread(descriptor, 1, size - 1) == b"\n":
        return size
    end = size
    while end > 0:
        begin = max(0, end - _BLOCK)
        newline = os.pread(descriptor, end - begin, begin).rfind(b"\n")
        end = begin + newline + 1
        if newline >= 0:
            break
    os.ftruncate(descriptor, end)
    return end


def _write_all(descriptor: int, data: bytes) -> None:
    with memoryview(data) as view:
        done = 0
        while done < len(view):
            done += os.write(descriptor, view[done:])


def _sync_folder(folder: Path) -> None:
    """Make a new file's name durable too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
