"""The uncompressed bytes of a file or of standard input, read forward, with the means to get long stretches again."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import tempfile
from typing import IO, TYPE_CHECKING, Protocol, cast

from crr_monitor.sources.base import Chunks, SourceError
from crr_monitor.sources.inflate import MAGIC, Inflater

if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Iterator

STDIN = "-"
BLOCK_BYTES = 1 << 20
_RAW_BYTES = 1 << 16


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes | None: ...

    def close(self) -> None: ...


class _Stdin:
    """Standard input, read as it comes; closing is left to the process."""

    def __init__(self) -> None:
        if sys.stdin is None or sys.stdin.closed:
            message = "-: standard input is closed; pipe data into the command, or name a file"
            raise SourceError(message)
        self._buffer = cast("io.BufferedReader", sys.stdin.buffer)

    def read(self, size: int, /) -> bytes:
        return self._buffer.read1(size)

    def close(self) -> None:
        """Nothing to do."""


def readable(name: str) -> str:
    """A name as text that can be stored and printed: bytes of it that are no UTF-8 are written out."""
    return name.encode(errors="backslashreplace").decode()


def explain(name: str, error: OSError) -> SourceError:
    """Put an error of the operating system into one line that names the source and the fix."""
    fixes: list[tuple[type[OSError], str]] = [
        (FileNotFoundError, "no such file or folder; check the path"),
        (PermissionError, "no permission to read it; change its mode, or run as a user who may"),
        (IsADirectoryError, "is a folder, not a file; name a file in it"),
        (NotADirectoryError, "a part of the path is no folder; check the path"),
    ]
    fix = next((text for kind, text in fixes if isinstance(error, kind)), None)
    told = fix or f"cannot be read ({error.strerror}); check the disk, then run again"
    return SourceError(f"{readable(name)}: {told}")


class ByteStream:
    """Uncompressed bytes, in order; gzip is recognised by its first bytes.

    ``offset`` is that of the next byte that :meth:`read` gives; ``raw_bytes`` is how many raw bytes were read so far.
    """

    def __init__(self, name: str, file: _Readable | None = None) -> None:
        """Open the file of that path, or standard input for ``-``; or take ``file``, which is closed at the end.

        Raises:
            SourceError: it cannot be opened.
        """
        self.name = name
        self.offset = 0
        self.raw_bytes = 0
        self._file, self.rereadable = _open(name) if file is None else (file, False)
        self._unread = b""
        self._inflater: Inflater | None = None
        self._spool: IO[bytes] | None = None
        self._spool_base = 0
        self._holding = False
        try:
            self._ahead = self._first()
        except SourceError:
            self.close()
            raise
        if self._ahead.startswith(MAGIC):
            self._inflater = Inflater(self._raw_block, self._ahead)

    @property
    def fault(self) -> str | None:
        """Why the bytes ended early (damaged gzip), once they did."""
        return self._inflater.fault if self._inflater else None

    def read(self, size: int = BLOCK_BYTES) -> bytes:
        """Give the next bytes, about ``size``; none at the end.

        Raises:
            SourceError: the file or the spool cannot be read.
        """
        data, self._unread = self._unread, b""
        if not data:
            data = self._inflater.read(size) if self._inflater else self._plain(size)
        self.offset += len(data)
        if self._holding:
            self._keep(data)
        return data

    def unread(self, data: bytes) -> None:
        """Put back what was read last: the next read gives it again."""
        self._unread = data + self._unread
        self.offset -= len(data)

    def skip_to(self, offset: int) -> None:
        """Go on at that offset, or at the end where that comes before; only forward.

        Raises:
            SourceError: the file cannot be read.
        """
        if self._inflater is None and self.rereadable:
            cast("io.FileIO", self._file).seek(offset)
            self.offset = self.raw_bytes = offset
            self._ahead = b""
        while self.offset < offset and self.read(min(BLOCK_BYTES, offset - self.offset)):
            pass

    def hold(self, recent: bytes | memoryview) -> None:
        """Make the bytes from here on available to :meth:`excerpt`, and the ``recent`` ones that were read last."""
        if not self.rereadable:
            self.release()
            try:
                self._spool = tempfile.TemporaryFile(prefix="crr-monitor-")  # noqa: SIM115 - closed by release
            except OSError as error:
                raise self._no_room(error) from error
            self._spool_base = self.offset - len(recent)
            self._holding = True
            self._keep(recent)

    def release(self) -> None:
        """Forget what was held: excerpts of it are no longer valid."""
        self._holding = False
        if self._spool is not None:
            # What could not be written is told where it was written; closing would tell it again.
            with contextlib.suppress(OSError):
                self._spool.close()
            self._spool = None

    def excerpt(self, start: int, end: int) -> Chunks:
        """End the holding, and give what was held between two offsets, without having it in memory."""
        self._holding = False
        if self._spool is None:
            return _FileExcerpt(self.name, start, end)
        return _SpoolExcerpt(self._spool, start - self._spool_base, end - self._spool_base)

    def close(self) -> None:
        """Close the file; excerpts of a file stay valid, those of standard input do not."""
        self.release()
        self._file.close()
        if self._inflater:
            self._inflater.close()

    def _first(self) -> bytes:
        data = b""
        while len(data) < len(MAGIC):
            block = self._raw(_RAW_BYTES)
            if not block:
                break
            data += block
        return data

    def _plain(self, size: int) -> bytes:
        if self._ahead:
            data, self._ahead = self._ahead[:size], self._ahead[size:]
            return data
        return self._raw(size)

    def _raw_block(self) -> bytes:
        return self._raw(_RAW_BYTES)

    def _raw(self, size: int) -> bytes:
        try:
            data = self._file.read(size) or b""
        except OSError as error:
            raise explain(self.name, error) from error
        self.raw_bytes += len(data)
        return data

    def _keep(self, data: bytes | memoryview) -> None:
        assert self._spool is not None  # noqa: S101 - for the type checker; both callers made sure
        try:
            self._spool.write(data)
            self._spool.flush()
        except OSError as error:
            raise self._no_room(error) from error

    def _no_room(self, error: OSError) -> SourceError:
        place = f"in {tempfile.tempdir or tempfile.gettempdir()} ({error.strerror})"
        return SourceError(f"{self.name}: cannot keep a long message {place}; make room, or set TMPDIR")


def _open(name: str) -> tuple[_Readable, bool]:
    """Open for reading; the second value tells whether it can be opened again and read from any offset."""
    if name == STDIN:
        return _Stdin(), False
    try:
        file = open(name, "rb", buffering=0)  # noqa: SIM115, PTH123 - the stream closes it; names may be no Paths
        regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
    except OSError as error:
        raise explain(name, error) from error
    return file, regular


class _FileExcerpt:
    """A stretch of a file's uncompressed bytes, read again from the file."""

    def __init__(self, name: str, start: int, end: int) -> None:
        self._name, self._start, self._end = name, start, end

    def __iter__(self) -> Iterator[bytes]:
        stream = ByteStream(self._name)
        try:
            stream.skip_to(self._start)
            yield from _cut(stream.read, self._end - self._start)
        finally:
            stream.close()


class _SpoolExcerpt:
    """A stretch of a spool file."""

    def __init__(self, spool: IO[bytes], start: int, end: int) -> None:
        self._spool, self._start, self._end = spool, start, end

    def __iter__(self) -> Iterator[bytes]:
        here = self._spool.tell()
        self._spool.seek(self._start)
        try:
            yield from _cut(self._spool.read, self._end - self._start)
        finally:
            self._spool.seek(here)


def _cut(read: Callable[[int], bytes], count: int) -> Iterator[bytes]:
    while count > 0:
        data = read(min(BLOCK_BYTES, count))[:count]
        if not data:
            return
        count -= len(data)
        yield data
