"""Files, folders and standard input as sources."""

from __future__ import annotations

import os
import re
import stat
from functools import cached_property
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from crr_monitor.sources.base import DOCUMENTS, MAX_ITEM_BYTES, PIECE_BYTES, PIECE_ITEMS, Piece, Source, SourceError
from crr_monitor.sources.detect import holds_documents
from crr_monitor.sources.documents import DocumentReader
from crr_monitor.sources.fingerprint import still_begins_with, take_fingerprint
from crr_monitor.sources.lines import LineReader
from crr_monitor.sources.scan import Cursor
from crr_monitor.sources.stream import STDIN, ByteStream, explain, readable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

ENDINGS = (".json", ".ndjson", ".jsonl", ".log", ".txt")
"""How the files in a folder end that are read, each also with ``.gz``; a file named itself may end in anything."""

REJECTS_ENDING = ".rejects.ndjson"
"""How reject files end: in a folder they are passed over."""

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


class FileSource:
    """One file, named pipe, or standard input: :class:`crr_monitor.sources.base.Source`."""

    def __init__(self, name: str) -> None:
        """Take an absolute path, or ``-`` for standard input.

        Raises:
            SourceError: there is no such file, it may not be read, or its name is no UTF-8.
        """
        _check_name(name)
        self.name = name
        self._regular = name != STDIN and stat.S_ISREG(_status(name).st_mode)
        if self._regular:
            # Opened once now, so that a wrong argument is told before anything is read.
            ByteStream(name).close()

    @property
    def size(self) -> int | None:
        """Raw bytes by now; ``None`` for pipes and standard input."""
        return _status(self.name).st_size if self._regular else None

    @cached_property
    def fingerprint(self) -> str | None:
        """What the file begins with (:func:`crr_monitor.sources.fingerprint.take_fingerprint`)."""
        return take_fingerprint(self.name) if self._regular else None

    def begins_with(self, fingerprint: str) -> bool:
        """Whether the file still begins with what was hashed then."""
        return still_begins_with(self.name, fingerprint)

    def pieces(
        self, start: int = 0, piece_bytes: int = PIECE_BYTES, max_items: int = PIECE_ITEMS, *, follow: bool = False
    ) -> Iterator[Piece]:
        """Read on from a position; see :meth:`crr_monitor.sources.base.Source.pieces`."""
        stream = ByteStream(self.name)
        try:
            if 0 < start < DOCUMENTS:
                stream.skip_to(start)
            else:
                cursor = Cursor(stream)
                if start or holds_documents(cursor):
                    yield from DocumentReader(cursor, start, follow=follow).pieces(piece_bytes, max_items)
                    return
                cursor.rewind()
            yield from LineReader(stream, max_items, follow=follow).pieces(min(piece_bytes, MAX_ITEM_BYTES))
        finally:
            stream.close()


def _refuse(error: SourceError) -> None:
    raise error


def open_sources(
    arguments: Sequence[str], exclude: Collection[str] = (), tell: Callable[[SourceError], None] = _refuse
) -> list[FileSource]:
    """Give the sources that the arguments name, each once: files, folders with all below them, ``-``.

    In folders, hidden files, reject files, files with other :data:`ENDINGS`, pipes, and those in ``exclude`` (the
    store, its reject file) are passed over; the order is that of the names.

    What lies in a folder and cannot be read (a link to nothing, a file without permission) is given to ``tell``, and
    passed over where that returns.

    Raises:
        SourceError: one of them is not there, may not be read, holds no logs, is excluded, or has an unknown scheme.
    """
    excluded = {os.path.realpath(path) for path in exclude}
    found: dict[str, FileSource] = {}
    for argument in arguments:
        for source in _expand(argument, excluded, tell):
            found.setdefault(source.name, source)
    return list(found.values())


def logs_in(folder: str, exclude: Collection[str] = ()) -> list[str]:
    """Give the logs below a folder by the rules of :func:`open_sources`, in the order of their names; maybe none.

    Raises:
        SourceError: it is no folder, may not be read, or its name is no UTF-8.
    """
    path = os.path.abspath(folder)  # noqa: PTH100 - as in _expand
    _check_name(path)
    if not stat.S_ISDIR(_status(path).st_mode):
        message = f"{path}: is not a folder; name the folder in which logs arrive"
        raise SourceError(message)
    excluded = {os.path.realpath(each) for each in exclude}
    return sorted(name for name in _walk(path, _refuse) if os.path.realpath(name) not in excluded)


class Resumable(Source, Protocol):
    """A source of which some was read before, maybe."""

    def begins_with(self, fingerprint: str) -> bool:
        """Whether it still begins with what had this fingerprint then."""


class Seen(NamedTuple):
    """What was stored of a source together with its last durable piece: its fingerprint, and the piece's numbers."""

    fingerprint: str | None
    position: int
    read_bytes: int
    done: bool


class Decision(NamedTuple):
    """What to do with a source: pass it over, or read it from ``position``; ``reason`` is for people."""

    action: Literal["read", "skip", "resume", "start-over"]
    position: int
    reason: str


def check_resume(source: Resumable, seen: Seen | None) -> Decision:
    """Decide whether a source is read, from the beginning or from where it was left.

    A file that was rewritten in place with the same first 64 KiB and no fewer bytes cannot be told from one that grew.

    Raises:
        SourceError: the file cannot be read.
    """
    size = source.size
    if seen is None or seen.fingerprint is None or size is None:
        return Decision("read", 0, "not read before" if size is not None else "cannot be read twice")
    if not source.begins_with(seen.fingerprint):
        return Decision("start-over", 0, "its content was replaced")
    if size < seen.read_bytes:
        return Decision("start-over", 0, f"it shrank from {seen.read_bytes} to {size} bytes")
    if not seen.done:
        return Decision("resume", seen.position, "it was not read to its end")
    if size == seen.read_bytes:
        return Decision("skip", seen.position, "it was read to its end already")
    return Decision("resume", seen.position, f"it grew by {size - seen.read_bytes} bytes")


def _expand(argument: str, excluded: set[str], tell: Callable[[SourceError], None]) -> Iterator[FileSource]:
    if argument == STDIN:
        yield FileSource(STDIN)
        return
    if scheme := _SCHEME.match(argument):
        message = f"{argument}: unknown scheme {scheme.group()}; name a file, a folder, or - for standard input"
        raise SourceError(message)
    path = os.path.abspath(argument)  # noqa: PTH100 - Path.absolute keeps "..", and one file would have two names
    if stat.S_ISDIR(_status(path).st_mode):
        yield from _in_folder(path, excluded, tell)
        return
    if os.path.realpath(path) in excluded:
        message = f"{path}: is the store or its reject file, not a log; name other files"
        raise SourceError(message)
    yield FileSource(path)


def _in_folder(path: str, excluded: set[str], tell: Callable[[SourceError], None]) -> Iterator[FileSource]:
    empty = True

    def told(error: SourceError) -> None:
        nonlocal empty
        empty = False
        tell(error)

    for name in sorted(_walk(path, told)):
        if os.path.realpath(name) in excluded:
            continue
        try:
            # A pipe that lies in a folder is read only when it is named: it would wait for its writer, maybe for ever.
            source = FileSource(name) if may_be_log(_status(name).st_mode) else None
        except SourceError as error:
            told(error)
            continue
        if source is not None:
            empty = False
            yield source
    if empty:
        endings = " ".join(ENDINGS)
        message = f"{path}: directory without logs; files in it must end in one of {endings} (or that and .gz)"
        raise SourceError(message)


def _walk(folder: str, tell: Callable[[SourceError], None]) -> Iterator[str]:
    def fail(error: OSError) -> None:
        problem = explain(str(error.filename), error)
        problem.__cause__ = error
        tell(problem)

    for parent, folders, files in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (os.path.join(parent, name) for name in files if _is_log(name))  # noqa: PTH118 - names as given


def _is_log(name: str) -> bool:
    plain = name.lower().removesuffix(".gz")
    return plain.endswith(ENDINGS) and not name.startswith(".") and not plain.endswith(REJECTS_ENDING)


def may_be_log(mode: int) -> bool:
    """Whether what lies in a folder is a file, by its mode: no pipe, device or socket."""
    return stat.S_ISREG(mode)


def _check_name(name: str) -> None:
    """The name is stored with the position, goes to other processes, and is told over HTTP: all of that is UTF-8."""
    if name != readable(name):
        message = f"{readable(name)}: the name is not valid UTF-8; rename it"
        raise SourceError(message)


def _status(path: str) -> os.stat_result:
    try:
        return os.stat(path)  # noqa: PTH116 - names may be no Paths
    except OSError as error:
        raise explain(path, error) from error
    except ValueError as error:
        message = f"{path!r}: no valid path ({error}); check the path"
        raise SourceError(message) from error
