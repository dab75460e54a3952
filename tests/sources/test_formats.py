"""What a source is, is told by its content; what cannot be split is broken, with a reason and all its bytes."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import TYPE_CHECKING

import pytest

from crr_monitor.sources.base import DOCUMENTS, MAX_ITEM_BYTES, Piece
from crr_monitor.sources.detect import is_complete, judge
from crr_monitor.sources.files import FileSource
from tests.sources.pieces import bytes_of, data_of

if TYPE_CHECKING:
    from pathlib import Path

EVENT = b'{"eventName":"PutObject","requestParameters":{"key":"a"}}'
MANY = b"".join(
    json.dumps({"number": number, "key": f"k{number * 7919 % 1000}"}).encode() + b"\n" for number in range(5_000)
)


def read(path: Path, data: bytes | None = None, start: int = 0, *, follow: bool = False) -> list[Piece]:
    """Write the file, if there are bytes for it, and return its pieces from a position on."""
    if data is not None:
        path.write_bytes(data)
    return list(FileSource(str(path)).pieces(start, follow=follow))


def messages_of(pieces: list[Piece]) -> int:
    """Return how many messages ended in all pieces."""
    return sum(piece.messages for piece in pieces)


def broken_of(pieces: list[Piece]) -> list[tuple[str, int, bytes]]:
    """Return reason, position and bytes of everything broken."""
    return [(one.reason, one.position, bytes_of(one)) for piece in pieces for one in piece.broken]


@pytest.mark.parametrize(
    ("data", "items"),
    [
        pytest.param(b"", [], id="nothing"),
        pytest.param(b" \r\n\n\t", [], id="white space"),
        pytest.param(b"\xef\xbb\xbf", [], id="only a byte order mark"),
        pytest.param(b"[]", [], id="empty list"),
        pytest.param(EVENT, [EVENT], id="one line without newline"),
        pytest.param(b"\n\n" + EVENT + b"\n\r\n" + EVENT + b"\r\n", [EVENT, EVENT], id="blank lines"),
        pytest.param(b"oops\n" + EVENT + b"\n", [b"oops", EVENT], id="garbage first"),
        pytest.param(b"\xff\xfe\n" + EVENT + b"\n", [b"\xff\xfe", EVENT], id="no UTF-8 first"),
        pytest.param(b'{"a": "\xff"}\n' + EVENT, [b'{"a": "\xff"}', EVENT], id="no UTF-8 within"),
        pytest.param(b'{"a": tru\n' + EVENT + b"\n" + EVENT + b"\n", [b'{"a": tru', EVENT, EVENT], id="first line cut"),
        pytest.param(b'{"a": 1,\n' + EVENT + b"\n" + EVENT + b"\n", [b'{"a": 1,', EVENT, EVENT], id="cut at a comma"),
        pytest.param(b'{"a": \n' + EVENT + b"\n" + EVENT + b"\n", [b'{"a": ', EVENT, EVENT], id="cut at a colon"),
        pytest.param(b'{"a":1},\n{"b":2}\n', [b'{"a":1},', b'{"b":2}'], id="commas behind lines"),
        pytest.param(EVENT + EVENT, [EVENT, EVENT], id="two on one line"),
        pytest.param(b"[\n" + EVENT + b",\n" + EVENT + b"\n]\n", [EVENT, EVENT], id="list with a line per entry"),
        pytest.param(b"[1]\n[2, 3]\n", [b"1", b"2", b"3"], id="lists one after another"),
        pytest.param(b'{\n "a": 1\n}\n', [b'{\n "a": 1\n}'], id="pretty"),
        pytest.param(
            b'{\n "a": 1\n}\noops\n{\n}\n', [b'{\n "a": 1\n}', b"oops", b"{\n}"], id="garbage between documents"
        ),
        pytest.param(b'{\n "a": oops\n}\n{}\n', [b'{\n "a": oops\n}', b"{}"], id="malformed document"),
        pytest.param(b'[{"a": oops}, {"b": 1}]', [b'[{"a": oops}, {"b": 1}]'], id="malformed list on one line"),
        pytest.param(b'[\n{"a": oops},\n{"b": 1}\n]', [b'{"a": oops}', b'{"b": 1}'], id="malformed entry"),
        pytest.param(b"[" * 20_000 + b"\n" + EVENT, [b"[" * 20_000, EVENT], id="nested too deeply"),
    ],
)
def test_the_format_is_told_by_content(tmp_path: Path, data: bytes, items: list[bytes]) -> None:
    """Garbage stays within its line, what belongs together stays together, and each item is one message."""
    pieces = read(tmp_path / "any.name", data)
    assert data_of(pieces) == items
    assert messages_of(pieces) == len(items)
    assert broken_of(pieces) == []


def test_positions_of_lines_are_offsets(tmp_path: Path) -> None:
    """An item of a line stands at its offset, and the piece ends where the next line begins."""
    (piece, end) = read(tmp_path / "log", b'\xef\xbb\xbf{"a":1}\r\n\n{"b":2}\n')
    assert [item.position for item in piece.items] == [3, 13]
    assert (piece.position, end.position, end.read_bytes) == (21, 21, 21)


def test_positions_of_documents_are_counts(tmp_path: Path) -> None:
    """An item of a document stands at the count of those before it, far above every offset."""
    (piece,) = read(tmp_path / "log", b"[\n1, 2]")
    assert piece.positions == [DOCUMENTS, DOCUMENTS + 1]
    assert piece.position == DOCUMENTS + 2


@pytest.mark.parametrize(
    ("data", "verdict"),
    [
        (b'{"a":1} ', "complete"),
        (b'{"a":"', "truncated"),
        (b"[1,", "truncated"),
        (b"[1.", "truncated"),
        (b"[1e+", "truncated"),
        (b"{}{}", "malformed"),
        (b"", "truncated"),
    ],
)
def test_the_parser_tells_truncated_from_malformed(data: bytes, verdict: str) -> None:
    """The JSON parser still says "truncated" in the words that are looked for."""
    assert judge(data) == verdict


def test_a_number_is_never_surely_complete() -> None:
    """A line without newline is whole only as a list or an object: digits may still follow a number."""
    assert [is_complete(line) for line in (b"12", b"{}", b"[1] ", b'{"a"')] == [False, True, True, False]


def test_an_unfinished_last_line_is_given_and_read_again(tmp_path: Path) -> None:
    """What stands behind the last newline is a message; when the file has grown, the whole line comes."""
    log = tmp_path / "log"
    first = read(log, EVENT + b"\n" + EVENT[:20])
    assert data_of(first) == [EVENT, EVENT[:20]]
    assert first[-1].position == len(EVENT) + 1
    assert data_of(read(log, EVENT + b"\n" + EVENT + b"\n", first[-1].position)) == [EVENT]


@pytest.mark.parametrize("head", [EVENT + b"\n", b'{\n "a": 1}\n'])
def test_following_leaves_what_is_unfinished(tmp_path: Path, head: bytes) -> None:
    """With follow, an unfinished line or document at the end is neither an item nor broken until it is whole."""
    log = tmp_path / "log"
    first = read(log, head + EVENT[:20], follow=True)
    assert data_of(first) == [head.rstrip()]
    assert broken_of(first) == []
    assert data_of(read(log, head + EVENT + b"\n", first[-1].position, follow=True)) == [EVENT]


def test_following_takes_a_whole_last_line(tmp_path: Path) -> None:
    """With follow, a complete object at the end is a message although its newline has not come yet."""
    log = tmp_path / "log"
    first = read(log, EVENT + b"\n" + EVENT, follow=True)
    assert data_of(first) == [EVENT, EVENT]
    assert data_of(read(log, EVENT + b"\n" + EVENT + b"\n", first[-1].position, follow=True)) == []


@pytest.mark.parametrize("zipped", [False, True])
def test_a_long_line_is_broken_and_its_neighbours_are_not(tmp_path: Path, *, zipped: bool) -> None:
    """A line of more than 16 MiB is kept byte for byte, outside of memory, and reading goes on behind it."""
    long = b'{"a":"' + b"x" * (MAX_ITEM_BYTES + 3_000_000) + b'"}'
    data = EVENT + b"\n" + long + b"\n" + EVENT + b"\n" + b"\n"
    pieces = read(tmp_path / "log", gzip.compress(data, 1) if zipped else data)
    assert data_of(pieces) == [EVENT, EVENT]
    assert broken_of(pieces) == [("line longer than 16 MiB", len(EVENT) + 1, long)]
    assert messages_of(pieces) == 3
    assert not isinstance(pieces[-2].broken[0].data, bytes)


def test_a_line_just_over_the_limit_is_broken_in_memory(tmp_path: Path) -> None:
    """The limit is exact: 16 MiB are an item, one byte more is broken."""
    fits = b'{"a":"' + b"x" * (MAX_ITEM_BYTES - 8) + b'"}'
    pieces = read(tmp_path / "log", EVENT + b"\n" + fits + b"\n" + fits + b" \n")
    assert [len(data) for data in data_of(pieces)] == [len(EVENT), MAX_ITEM_BYTES]
    assert [(reason, len(data)) for reason, _, data in broken_of(pieces)] == [
        ("line longer than 16 MiB", MAX_ITEM_BYTES + 1)
    ]


def test_a_long_last_line_is_broken(tmp_path: Path) -> None:
    """A line of more than 16 MiB that has no newline is broken too."""
    long = b"x" * (MAX_ITEM_BYTES + 1)
    pieces = read(tmp_path / "log", EVENT + b"\n" + long)
    assert broken_of(pieces) == [("line longer than 16 MiB", len(EVENT) + 1, long)]


def test_several_members_are_one_stream(tmp_path: Path) -> None:
    """Gzip members one after another, with padding between them, are read as one; so is a byte order mark in them."""
    data = gzip.compress(b"\xef\xbb\xbf" + EVENT + b"\n" + EVENT[:9]) + b"\0" * 7 + gzip.compress(EVENT[9:] + b"\n")
    pieces = read(tmp_path / "log", data)
    assert data_of(pieces) == [EVENT, EVENT]
    assert pieces[-1].read_bytes == len(data)


def test_a_truncated_gzip_gives_all_lines_before_its_end(tmp_path: Path) -> None:
    """Cut anywhere, a compressed log gives its whole lines, then one broken thing; nothing is lost or made up."""
    data = gzip.compress(MANY)
    for size in (3, 10, 11, 500, len(data) // 2, len(data) - 9, len(data) - 8, len(data) - 1):
        pieces = read(tmp_path / "log", data[:size])
        known = zlib.decompressobj(31).decompress(data[:size])
        whole, _, rest = known.rpartition(b"\n")
        assert data_of(pieces) == whole.splitlines()
        assert broken_of(pieces) == [("gzip data is truncated", pieces[-1].position, rest)]


def test_a_corrupt_gzip_gives_everything_before(tmp_path: Path) -> None:
    """A wrong checksum comes after all the data, so that all of it is given."""
    data = bytearray(gzip.compress(MANY))
    data[-6] ^= 1
    pieces = read(tmp_path / "log", bytes(data))
    assert data_of(pieces) == MANY.splitlines()
    ((reason, _, rest),) = broken_of(pieces)
    assert reason.startswith("gzip data is corrupt: ")
    assert rest == b""


def test_bytes_behind_a_gzip_are_told(tmp_path: Path) -> None:
    """What follows compressed data without being gzip is not passed over in silence."""
    pieces = read(tmp_path / "log", gzip.compress(EVENT + b"\n") + b"oops")
    assert data_of(pieces) == [EVENT]
    assert [reason for reason, _, _ in broken_of(pieces)] == ["gzip data is followed by bytes that are no gzip"]


def test_a_truncated_gzip_of_one_document_gives_its_records(tmp_path: Path) -> None:
    """A CloudTrail log file whose download broke off gives the records that arrived."""
    records = MANY.splitlines()
    data = gzip.compress(b'{"Records":[' + b",".join(records) + b"]}")
    pieces = read(tmp_path / "log", data[: len(data) // 2])
    found = data_of(pieces)
    assert found == records[: len(found)]
    assert len(found) > 1_000
    assert [reason for reason, _, _ in broken_of(pieces)] == ["gzip data is truncated"]
    assert messages_of(pieces) == 1
    whole = data + b""
    assert messages_of(read(tmp_path / "log", whole, pieces[-1].position)) == 1


def test_a_large_document_without_records_is_broken(tmp_path: Path) -> None:
    """A document of more than 16 MiB that is no log file is kept whole, and the next one is unharmed."""
    large = b'{\n "Note": "' + b"x" * MAX_ITEM_BYTES + b'"}'
    pieces = read(tmp_path / "log", large + b"\n" + b'{\n"b":1}')
    assert data_of(pieces) == [b'{\n"b":1}']
    reason = "document larger than 16 MiB without a list of Records"
    assert broken_of(pieces) == [(reason, DOCUMENTS, large)]
    assert messages_of(pieces) == 2


def test_a_long_entry_is_broken_and_its_neighbours_are_not(tmp_path: Path) -> None:
    """An entry of more than 16 MiB is kept whole, and the list goes on behind it."""
    long = b'"' + b"\\\\" * (MAX_ITEM_BYTES // 2) + b'"'
    pieces = read(tmp_path / "log", b"[1,\n" + long + b", 3]")
    assert data_of(pieces) == [b"1", b"3"]
    assert broken_of(pieces) == [("entry of a list longer than 16 MiB", DOCUMENTS + 1, long)]


def test_a_long_stray_line_is_broken(tmp_path: Path) -> None:
    """Garbage of more than 16 MiB between documents is broken, and the next document is unharmed."""
    stray = b"x" * (MAX_ITEM_BYTES + 1)
    pieces = read(tmp_path / "log", b"{\n}\n" + stray + b"\n[3]")
    assert data_of(pieces) == [b"{\n}", b"3"]
    assert broken_of(pieces) == [("line longer than 16 MiB", DOCUMENTS + 1, stray)]


@pytest.mark.parametrize(
    ("data", "wanted", "rest"),
    [(b"[\n2 3, 4]", ", or ]", b"3, 4]"), (b"[\n1,, 2]", "a value", b", 2]")],
)
def test_a_lost_structure_breaks_the_rest(tmp_path: Path, data: bytes, wanted: str, rest: bytes) -> None:
    """Where a list goes on with neither comma nor bracket, the rest is broken, and the place is named."""
    reason = f"document is malformed: expected {wanted} at byte {data.index(rest)}"
    ((found, _, kept),) = broken_of(read(tmp_path / "log", data))
    assert (found, kept) == (reason, rest)
