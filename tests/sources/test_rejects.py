"""The reject file keeps every byte, exactly once, through kills and with several writers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tracemalloc
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crr_monitor.sources.base import SourceError
from crr_monitor.sources.rejects import Reject, RejectError, RejectFile, read_rejects

if TYPE_CHECKING:
    from collections.abc import Iterator

SEVEN = 1_795_330_800_168  # 2026-11-22T07:00:00.168Z


class Pieces:
    """Chunks as a source gives them: they can be read again and again."""

    def __init__(self, *chunks: bytes, error: Exception | None = None) -> None:
        """Give these chunks, then raise the error if there is one."""
        self.chunks, self.error = chunks, error

    def __iter__(self) -> Iterator[bytes]:
        """Give the chunks from the beginning."""
        yield from self.chunks
        if self.error:
            raise self.error


def opened(path: Path) -> closing[RejectFile]:
    """Return a reject file with a fixed clock, that is closed at the end of a block."""
    return closing(RejectFile(path, now=lambda: SEVEN))


def found(path: Path) -> list[tuple[str, int, str, bytes]]:
    """Return what is in a reject file, without the times."""
    return [reject[1:] for reject in read_rejects(path)]


def test_a_line_is_one_object(tmp_path: Path) -> None:
    """A reject is one line with exactly the documented fields; other bytes than UTF-8 are in base64."""
    path = tmp_path / "r.ndjson"
    with opened(path) as rejects:
        assert rejects.write("/log", 7, "no JSON", "é\n".encode())
        assert rejects.write("/log", 9, "no UTF-8", b"\xff")
    at = "2026-11-22T07:00:00.168Z"
    assert list(map(json.loads, path.read_text().splitlines())) == [
        {"at": at, "source": "/log", "position": 7, "error": "no JSON", "message": "é\n"},
        {"at": at, "source": "/log", "position": 9, "error": "no UTF-8", "message_base64": "/w=="},
    ]


def test_the_file_is_made_with_the_first_reject(tmp_path: Path) -> None:
    """Without a reject there is no file, whatever else is called."""
    path = tmp_path / "r.ndjson"
    with opened(path) as rejects:
        rejects.resume("/log", 0)
        rejects.sync()
    assert not path.exists()


@given(chunks=st.lists(st.binary(max_size=9) | st.text(max_size=4).map(str.encode), max_size=5), whole=st.booleans())
def test_every_byte_comes_back(tmp_path_factory: pytest.TempPathFactory, chunks: list[bytes], *, whole: bool) -> None:
    """Any bytes in any chunks come back as they were, also where a chunk ends within a character."""
    path = tmp_path_factory.mktemp("rejects") / "r.ndjson"
    with opened(path) as rejects:
        rejects.write('/l"o\\g\udc80\u2028é', 1, "error\n", b"".join(chunks) if whole else Pieces(*chunks))
    assert found(path) == [('/l"o\\g\udc80\u2028é', 1, "error\n", b"".join(chunks))]


WRITES = st.lists(
    st.tuples(st.sampled_from(["/a", "/b"]), st.integers(0, 5), st.sampled_from([b"x", b"\xff", b""])),
    min_size=1,
    max_size=12,
)


@given(writes=WRITES, written=st.integers(0, 12), committed=st.integers(0, 12), half=st.integers(0, 40))
def test_a_kill_neither_loses_nor_repeats(
    tmp_path_factory: pytest.TempPathFactory,
    writes: list[tuple[str, int, bytes]],
    written: int,
    committed: int,
    half: int,
) -> None:
    """Killed after any write, in the middle of the next, and resumed from any earlier position: each is there once."""
    path = tmp_path_factory.mktemp("rejects") / "r.ndjson"
    writes = sorted(writes, key=lambda write: (write[0], write[1]))
    with opened(path) as rejects:
        for source, position, data in writes[:written]:
            rejects.write(source, position, "no", data)
    if half and path.exists():
        with path.open("ab") as file:
            file.write((path.read_bytes().splitlines(keepends=True)[0] * 2)[:half].rstrip(b"\n"))
    with opened(path) as rejects:
        for name in ("/a", "/b"):
            done = [position for source, position, _ in writes[: min(written, committed)] if source == name]
            resume = max(done, default=-1)
            # Whatever stands at the position itself comes again, and is known by its bytes.
            rejects.resume(name, max(resume, 0))
            for source, position, data in writes:
                if source == name and position >= resume:
                    rejects.write(source, position, "no", data)
    assert sorted(found(path)) == sorted((source, position, "no", data) for source, position, data in writes)


def test_another_error_at_the_same_place_is_another_reject(tmp_path: Path) -> None:
    """What comes again with other bytes or another reason is written: only the very same reject is not."""
    path = tmp_path / "r.ndjson"
    with opened(path) as rejects:
        rejects.write("/log", 5, "cut", b'{"a"')
        rejects.resume("/log", 5)
        assert rejects.write("/log", 5, "malformed", b'{"a"}')
        assert not rejects.write("/log", 5, "cut", b'{"a"')
        assert rejects.write("/log", 5, "cut", b'{"a"')
    assert [error for _, _, error, _ in found(path)] == ["cut", "malformed", "cut"]


def test_what_was_committed_is_not_expected_again(tmp_path: Path) -> None:
    """Only rejects at or after the position are taken for repeated."""
    path = tmp_path / "r.ndjson"
    with opened(path) as rejects:
        rejects.write("/log", 5, "no", b"x")
    with opened(path) as rejects:
        rejects.resume("/log", 6)
        assert rejects.write("/log", 5, "no", b"x")


def test_long_rejects_are_known_again(tmp_path: Path) -> None:
    """A reject of many chunks is recognised after a kill like a short one, however it is cut into chunks."""
    path = tmp_path / "r.ndjson"
    data = "é".encode() * 1_500_000
    with opened(path) as rejects:
        rejects.write("/log", 5, "long", Pieces(data[:7], data[7:]))
        rejects.write("/log", 9, "no", b"x")
    with opened(path) as rejects:
        rejects.resume("/log", 0)
        assert not rejects.write("/log", 5, "long", Pieces(data[:1_000_001], data[1_000_001:]))
        assert not rejects.write("/log", 9, "no", b"x")
    assert [message for _, _, _, message in found(path)] == [data, b"x"]


def test_long_rejects_need_no_memory(tmp_path: Path) -> None:
    """40 MB in chunks, text or not, are written and scanned with less than 12 MB of memory."""
    path = tmp_path / "r.ndjson"
    tracemalloc.start()
    with opened(path) as rejects:
        rejects.write("/log", 1, "long", Pieces(*[b"x" * 1_000_000] * 40))
        rejects.write("/log", 2, "long", Pieces(*[b"\xff" * 1_000_000] * 40))
    with opened(path) as rejects:
        rejects.resume("/log", 0)
        assert not rejects.write("/log", 2, "long", Pieces(*[b"\xff" * 1_000_000] * 40))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12_000_000
    assert path.stat().st_size > 93_000_000


def test_a_half_line_is_cut_off_before_the_next(tmp_path: Path) -> None:
    """What a killed writer left behind the last newline goes, also when it is long; what stands before it stays."""
    path = tmp_path / "r.ndjson"
    for half in (b'{"at":', b"x" * 2_500_000):
        with opened(path) as rejects:
            rejects.write("/log", 1, "no", b"x")
            with path.open("ab") as file:
                file.write(half)
            assert [position for _, position, _, _ in found(path)][-1] == 1
            rejects.write("/log", 2, "no", b"y")
    assert [position for _, position, _, _ in found(path)] == [1, 2, 1, 2]


def test_a_file_of_half_a_line_becomes_empty(tmp_path: Path) -> None:
    """A first reject that was cut off leaves nothing behind."""
    path = tmp_path / "r.ndjson"
    path.write_bytes(b'{"at"')
    with opened(path) as rejects:
        rejects.write("/log", 2, "no", b"y")
    assert len(found(path)) == 1


def test_a_source_that_vanishes_leaves_no_half_line(tmp_path: Path) -> None:
    """When the bytes of a long reject cannot be read to their end, nothing of it stays in the file."""
    path = tmp_path / "r.ndjson"
    gone = Pieces(b"x" * 3_000_000, error=SourceError("/log: no such file"))
    with opened(path) as rejects:
        rejects.write("/log", 1, "no", b"x")
        before = path.read_bytes()
        with pytest.raises(SourceError):
            rejects.write("/log", 2, "long", gone)
        with pytest.raises(SourceError):
            rejects._append(b"{", gone, text=True)
    assert path.read_bytes() == before


def test_a_full_disk_is_told() -> None:
    """No room on the disk is a reject error with the path and the fix."""
    if not Path("/dev/full").exists():
        pytest.skip("needs Linux's /dev/full")
    rejects = RejectFile("/dev/full")
    with pytest.raises(
        RejectError, match=r"/dev/full: cannot write the reject file \(No space left on device\); make room"
    ):
        rejects.write("/log", 1, "no", b"x")
    rejects.close()


def test_a_wrong_place_is_told(tmp_path: Path) -> None:
    """A folder in place of the file, and a missing folder, are reject errors, for writing as for reading."""
    for path in (tmp_path, tmp_path / "none" / "r.ndjson"):
        with pytest.raises(RejectError, match="cannot write the reject file"):
            RejectFile(path).write("/log", 1, "no", b"x")
        with pytest.raises(RejectError, match="cannot read the reject file"):
            list(read_rejects(path))


@pytest.mark.parametrize("line", [b"oops", b"[]", b"{}", b'{"message_base64":"*"}', b'"x"', b'{"message":1}'])
def test_another_file_is_no_reject_file(tmp_path: Path, line: bytes) -> None:
    """What is no reject is told by its line's number; resuming passes it over."""
    path = tmp_path / "r.ndjson"
    path.write_bytes(line + b"\n")
    RejectFile(path).resume("/log", 0)
    with pytest.raises(RejectError, match="line 1 is no reject"):
        list(read_rejects(path))


WRITE_MANY = """
import sys
from crr_monitor.sources.rejects import RejectFile
rejects = RejectFile(sys.argv[1])
for number in range(150):
    data = sys.argv[2].encode() * (1_500_000 if number % 50 == 0 else 50)
    rejects.write(sys.argv[2], number, "no", data if number % 100 else [data[:9], data[9:]])
rejects.close()
"""


def test_two_processes_do_not_mix_their_lines(tmp_path: Path) -> None:
    """Two processes that write short and long rejects to one file at once leave whole lines, in order for each."""
    path = tmp_path / "r.ndjson"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITE_MANY, str(path), name], env=environment) for name in ("a", "b")
    ]
    assert [writer.wait() for writer in writers] == [0, 0]
    rejects: list[Reject] = list(read_rejects(path))
    for name in ("a", "b"):
        mine = [reject for reject in rejects if reject.source == name]
        assert [reject.position for reject in mine] == list(range(150))
        assert all(set(reject.message) == {ord(name)} for reject in mine)
