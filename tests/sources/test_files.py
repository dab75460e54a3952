"""Arguments become sources, mistakes become one clear line, and what was read before is known again."""

from __future__ import annotations

import gc
import gzip
import os
import subprocess
import sys
import tempfile
import weakref
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import pytest

from crr_monitor.sources.base import MAX_ITEM_BYTES, SourceError
from crr_monitor.sources.files import FileSource, Seen, check_resume, logs_in, open_sources
from crr_monitor.sources.stream import ByteStream

if TYPE_CHECKING:
    from collections.abc import Iterator

LINE = b'{"a":1}\n'


@contextmanager
def powerless() -> Iterator[None]:
    """Act as a user to whom file modes apply: root gives up its privileges for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(0)


def make(path: Path, data: bytes = LINE) -> str:
    """Write a file, with the folders above it, and return its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return str(path)


def names(*arguments: Path | str, exclude: tuple[str, ...] = ()) -> list[str]:
    """Return the names of the sources that arguments give."""
    return [source.name for source in open_sources([str(argument) for argument in arguments], exclude)]


def test_a_folder_gives_its_logs_by_name(tmp_path: Path) -> None:
    """Logs at any depth are found, each once and sorted; hidden, foreign and reject files are passed over."""
    wanted = [
        make(tmp_path / name)
        for name in ("a/2.json.gz", "a/b/1.ndjson", "c.LOG", "d.jsonl", "e.txt", "f.log.gz", "g.json")
    ]
    for name in (".hidden.json", ".git/x.json", "s.sqlite", "s.sqlite-wal", "s.rejects.ndjson", "x.png", "y.gz"):
        make(tmp_path / name)
    assert names(tmp_path, tmp_path / "a" / ".." / "g.json") == wanted


def test_a_pipe_in_a_folder_is_passed_over(tmp_path: Path) -> None:
    """Nobody may ever write to it: it is read only when it is named itself."""
    wanted = make(tmp_path / "a.json")
    pipe = tmp_path / "b.json"
    os.mkfifo(pipe)
    assert names(tmp_path) == [wanted]
    assert names(pipe) == [str(pipe)]


def test_a_name_that_is_no_utf_8_is_refused(tmp_path: Path) -> None:
    """The line that says so can be printed and stored, whatever the bytes are; the same of a folder that is watched."""
    name = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.json")
    Path(name).write_bytes(LINE)
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/\xff")
    Path(folder).mkdir()
    for asked, told in (
        (lambda: open_sources([str(tmp_path)]), r"caf\udce9.json"),
        (lambda: logs_in(folder), r"\udcff"),
    ):
        with pytest.raises(SourceError) as caught:
            asked()
        assert str(caught.value) == f"{tmp_path}/{told}: the name is not valid UTF-8; rename it"


def test_what_is_excluded_is_passed_over(tmp_path: Path) -> None:
    """The store's own files are no logs in a folder, and an error when named."""
    log, own = make(tmp_path / "a.json"), make(tmp_path / "own.json")
    assert names(tmp_path, exclude=(own,)) == [log]
    with pytest.raises(SourceError, match="is the store or its reject file"):
        names(own, exclude=(own,))


def test_a_named_file_may_be_called_anything(tmp_path: Path) -> None:
    """Only in folders do names decide."""
    assert names(make(tmp_path / ".hidden"), "-") == [str(tmp_path / ".hidden"), "-"]


def test_mistaken_arguments_are_told(tmp_path: Path) -> None:
    """No such file, an empty folder, an unknown scheme and a broken path each give one line with the fix."""
    make(tmp_path / "file")
    make(tmp_path / "empty" / "x.png")
    mistakes: list[tuple[Path | str, str]] = [
        (tmp_path / "none.json", "none.json: no such file or folder; check the path"),
        (tmp_path / "file" / "x", "x: a part of the path is no folder"),
        (tmp_path / "empty", "empty: directory without logs; files in it must end in one of .json"),
        ("gopher://bucket/prefix", "gopher://bucket/prefix: unknown scheme gopher://; name a file"),
        ("a\0b", "no valid path"),
    ]
    for argument, said in mistakes:
        with pytest.raises(SourceError) as caught:
            names(argument)
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_file_without_permission_is_told() -> None:
    """A file and a folder that may not be read are told before anything is read."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        secret = make(folder / "secret.json")
        make(folder / "closed" / "log.json")
        Path(secret).chmod(0)
        (folder / "closed").chmod(0)
        with powerless():
            for argument in (secret, folder / "closed", folder):
                with pytest.raises(SourceError, match="no permission to read it; change its mode"):
                    names(argument)
        (folder / "closed").chmod(0o755)


def test_a_vanished_file_is_told(tmp_path: Path) -> None:
    """A file that goes away between opening and reading is a source error, no other exception."""
    log = make(tmp_path / "log")
    source = FileSource(log)
    Path(log).unlink()
    with pytest.raises(SourceError, match="log: no such file"):
        next(source.pieces())


def test_a_folder_in_place_of_a_file_is_told(tmp_path: Path) -> None:
    """Reading a folder as a file is a source error."""
    with pytest.raises(SourceError, match="is a folder, not a file"):
        next(FileSource(str(tmp_path)).pieces())


def test_an_error_of_the_disk_is_told() -> None:
    """A read that the system refuses in the middle is a source error (a process's own memory file at address 0)."""
    if not Path("/proc/self/mem").exists():
        pytest.skip("needs Linux's /proc")
    with pytest.raises(SourceError, match=r"/proc/self/mem: cannot be read \(Input/output error\)"):
        list(FileSource("/proc/self/mem").pieces())


def seen_of(source: FileSource) -> Seen:
    """Return what is stored of a source that was read to its end."""
    *_, last = source.pieces()
    return Seen(source.fingerprint, last.position, last.read_bytes, last.done)


def test_what_is_new_is_read(tmp_path: Path) -> None:
    """A file not seen before is read from its beginning, and standard input always."""
    source = FileSource(make(tmp_path / "log"))
    assert check_resume(source, None)[:2] == ("read", 0)
    assert check_resume(FileSource("-"), Seen(None, 7, 7, done=True))[:2] == ("read", 0)


def test_what_was_read_is_skipped(tmp_path: Path) -> None:
    """A file that did not change since it was read to its end is skipped."""
    source = FileSource(make(tmp_path / "log"))
    assert check_resume(source, seen_of(source)) == ("skip", 8, "it was read to its end already")


@pytest.mark.parametrize("count", [0, 1, 20_000])
def test_what_grew_is_resumed(tmp_path: Path, count: int) -> None:
    """A file that has more lines than before is read on, whether its beginning was all of it or only 64 KiB."""
    log = Path(make(tmp_path / "log", LINE * count))
    seen = seen_of(FileSource(str(log)))
    log.write_bytes(LINE * count + b'{"b":2}\n')
    source = FileSource(str(log))
    assert check_resume(source, seen) == ("resume", 8 * count, "it grew by 8 bytes")
    assert [data for piece in source.pieces(8 * count) for data in piece.data] == [b'{"b":2}']


def test_what_was_interrupted_is_resumed(tmp_path: Path) -> None:
    """A file that was not read to its end goes on at its position, although it did not grow."""
    source = FileSource(make(tmp_path / "log", LINE * 3))
    assert check_resume(source, Seen(source.fingerprint, 16, 24, done=False))[:2] == ("resume", 16)


def test_what_was_replaced_is_read_anew(tmp_path: Path) -> None:
    """A file with another beginning, or one that shrank, is read from its beginning."""
    log = Path(make(tmp_path / "log", LINE * 20_000))
    seen = seen_of(FileSource(str(log)))
    log.write_bytes(b'{"b":2}\n' * 20_001)
    assert check_resume(FileSource(str(log)), seen) == ("start-over", 0, "its content was replaced")
    log.write_bytes(LINE * 19_000)
    reason = "it shrank from 160000 to 152000 bytes"
    assert check_resume(FileSource(str(log)), seen) == ("start-over", 0, reason)


READ_STDIN = """
import sys
from crr_monitor.sources.files import open_sources
(source,) = open_sources([sys.argv[1]])
assert (source.size, source.fingerprint) == (None, None)
for piece in source.pieces(int(sys.argv[2])):
    for data in piece.data:
        print(len(data), data[:20].decode())
    for broken in piece.broken:
        print("broken", sum(map(len, broken.data)), broken.position, broken.reason)
"""


@pytest.mark.parametrize("name", ["-", "/dev/stdin"])
def test_standard_input_is_read_like_a_file(name: str) -> None:
    """A pipe gives its lines, and a line too long for memory with all its bytes although it cannot be read twice."""
    data = LINE + b"x" * (MAX_ITEM_BYTES + 5_000_000) + b"\n" + LINE
    command = [sys.executable, "-c", READ_STDIN, name, "0"]
    done = subprocess.run(command, input=data, capture_output=True, check=True, env=environment())
    broken = f"broken {MAX_ITEM_BYTES + 5_000_000} 8 line longer than 16 MiB"
    assert done.stdout.decode().splitlines() == ['7 {"a":1}', '7 {"a":1}', broken]


def test_a_truncated_document_on_standard_input_is_kept() -> None:
    """The rest of a cut-off document is kept although the pipe cannot be read twice."""
    data = b'{"pad": "' + b"x" * (MAX_ITEM_BYTES + 5_000_000) + b'", "more'
    command = [sys.executable, "-c", READ_STDIN, "-", "0"]
    done = subprocess.run(command, input=data, capture_output=True, check=True, env=environment())
    reason = "document is truncated: it ends before its last bracket"
    assert done.stdout.decode().splitlines() == [f"broken {len(data)} 1000000000000000 {reason}"]


def test_standard_input_skips_to_a_position() -> None:
    """A position means the same on a pipe: what lies before it is read and dropped."""
    command = [sys.executable, "-c", READ_STDIN, "-", "8"]
    done = subprocess.run(command, input=LINE + b'{"b":2}\n', capture_output=True, check=True, env=environment())
    assert done.stdout.decode().splitlines() == ['7 {"b":2}']


@contextmanager
def piped(data: bytes) -> Iterator[str]:
    """Write bytes into a pipe, as fast as they are read, and give the name under which it is read."""
    reading, writing = os.pipe()

    def feed() -> None:
        with os.fdopen(writing, "wb") as pipe, suppress(BrokenPipeError):
            pipe.write(data)

    feeder = Thread(target=feed)
    feeder.start()
    try:
        yield f"/dev/fd/{reading}"
    finally:
        os.close(reading)
        feeder.join()


def test_each_long_message_of_a_pipe_is_kept() -> None:
    """Several long entries and lines of one pipe each give their own bytes, and nothing of each other's."""
    first, second = (b'"' + letter * (MAX_ITEM_BYTES + 70_000) + b'"' for letter in (b"a", b"b"))
    kept = []
    with piped(b"[1, " + first + b", 2, " + second + b"]\n" + first + b"\n[3]") as name:
        for piece in FileSource(name).pieces():
            kept += [b"".join(broken.data) for broken in piece.broken if not isinstance(broken.data, bytes)]
    assert kept == [first, second, first]


def test_no_room_for_a_long_message_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the long line of a pipe cannot be kept, the source says so, and where room is needed."""
    monkeypatch.setattr("tempfile.tempdir", "/no/such/folder")
    said = r"cannot keep a long message in /no/such/folder \(No such file or directory\); make room, or set TMPDIR"
    with piped(b"x" * (MAX_ITEM_BYTES + 70_000)) as name, pytest.raises(SourceError, match=said):
        list(FileSource(name).pieces())


def test_a_closed_standard_input_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process without standard input says so."""
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(SourceError, match="standard input is closed"):
        list(FileSource("-").pieces())


def environment() -> dict[str, str]:
    """Return an environment in which a new process finds the same code."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


MEASURE = """
import resource, sys
from crr_monitor.sources.files import FileSource
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
items = size = messages = 0
for piece in FileSource(sys.argv[1]).pieces():
    items += len(piece.data)
    size += sum(map(len, piece.data))
    messages += piece.messages
print(items, size, messages, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.parametrize(
    ("begin", "between", "end", "messages"),
    [(b'{"Records":[', b",", b"]}", 1), (b"[\n", b",\n", b"\n]\n", 100_000), (b"", b"\n", b"\n", 100_000)],
    ids=["log file", "list", "lines"],
)
def test_memory_is_flat(tmp_path: Path, begin: bytes, between: bytes, end: bytes, messages: int) -> None:
    """100 MB of any format cost less than 50 MiB of memory, and every byte of every entry comes."""
    entry = b'{"eventName":"PutObject","pad":"' + b"x" * 966 + b'"}'
    log = tmp_path / "log"
    with log.open("wb") as file:
        file.write(begin)
        for _ in range(99_999):
            file.write(entry + between)
        file.write(entry + end)
    command = [sys.executable, "-c", MEASURE, str(log)]
    done = subprocess.run(command, capture_output=True, check=True, env=environment())
    *counts, mebibytes = map(int, done.stdout.split())
    assert counts == [100_000, 100_000_000, messages]
    assert mebibytes < 50


def test_a_closed_file_leaves_nothing_in_memory(tmp_path: Path) -> None:
    """What was read ahead of a gzip file goes when it is closed, not with some later collection of garbage."""
    gc.disable()
    try:
        stream = ByteStream(make(tmp_path / "log.json.gz", gzip.compress(LINE)))
        known = weakref.ref(stream)
        assert stream.read() == LINE
        stream.close()
        del stream
        assert known() is None
    finally:
        gc.enable()
