"""Every way to write messages down gives the same messages, in pieces of any size, from any position on."""

from __future__ import annotations

import gzip
import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crr_monitor.sources import detect, documents, lines, scan
from crr_monitor.sources.files import FileSource
from tests.sources.pieces import bytes_of, data_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from crr_monitor.sources.base import Piece

NASTY = st.text(alphabet=st.sampled_from('{}[]",:\\ \n\u00e9\U0001f600aRecords'), max_size=12)
SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | NASTY
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NASTY, inner, max_size=3), max_leaves=8
)
SMALL = st.dictionaries(NASTY, SCALARS, max_size=1)
OBJECTS = st.dictionaries(NASTY, VALUES, max_size=3)
SPACE = st.text(alphabet=" \t\r\n", max_size=3)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the path of a file that each example writes anew."""
    return tmp_path_factory.mktemp("sources") / "log"


@contextmanager
def limits(item_bytes: int, block_bytes: int) -> Iterator[None]:
    """Lower what is "too large for memory", and how much is read at once, so that small examples meet both."""
    with (
        patch.object(detect, "MAX_ITEM_BYTES", item_bytes),
        patch.object(documents, "MAX_ITEM_BYTES", item_bytes),
        patch.object(lines, "MAX_ITEM_BYTES", item_bytes),
        patch.object(scan, "BLOCK_BYTES", block_bytes),
    ):
        yield


def read(path: Path, start: int = 0, piece_bytes: int = 1 << 20, max_items: int = 2_000) -> list[Piece]:
    """Return all pieces of a file from a position on."""
    return list(FileSource(str(path)).pieces(start, piece_bytes, max_items))


def values_of(pieces: list[Piece]) -> list[Any]:
    """Return the items of all pieces, decoded."""
    return [json.loads(data) for data in data_of(pieces)]


def dump(value: object, indent: int | None = None) -> str:
    """Return the JSON text of a value, with its characters as they are."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


def write(path: Path, text: str, *, zipped: bool = False) -> None:
    """Write a text as UTF-8, compressed if wished."""
    data = text.encode()
    path.write_bytes(gzip.compress(data, 1) if zipped else data)


def assert_resumable(path: Path, pieces: list[Piece], piece_bytes: int, max_items: int) -> None:
    """Assert that from each piece's position exactly the rest comes, counted as in the first run."""
    assert [piece.done for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert [piece.position for piece in pieces[:-1]] == sorted(piece.position for piece in pieces[:-1])
    for index, piece in enumerate(pieces):
        rest = read(path, piece.position, piece_bytes, max_items)
        later = pieces[index + 1 :]
        assert [item for one in rest for item in one.items] == [item for one in later for item in one.items]
        assert sum(one.messages for one in rest) == sum(one.messages for one in later)
        assert [broken.reason for one in rest for broken in one.broken] == []


@given(
    first=OBJECTS,
    others=st.lists(VALUES, max_size=6),
    ending=st.sampled_from(["\n", "\r\n", "\n\n", "\n \t\n"]),
    newline_at_end=st.booleans(),
    bom=st.booleans(),
    zipped=st.booleans(),
    piece_bytes=st.integers(1, 60),
    max_items=st.integers(1, 4),
)
def test_lines_give_their_values(  # noqa: PLR0913 - the ways to write lines
    path: Path,
    first: dict[str, Any],
    others: list[Any],
    ending: str,
    *,
    newline_at_end: bool,
    bom: bool,
    zipped: bool,
    piece_bytes: int,
    max_items: int,
) -> None:
    """Lines give one item and one message each, whatever ends them, in any piece size, and resume after any piece."""
    # A whole object at the end: an unfinished last line is read again, which another test shows.
    values = [first, *others, first]
    text = ending.join(map(dump, values)) + (ending if newline_at_end else "")
    write(path, "\ufeff" * bom + text, zipped=zipped)
    pieces = read(path, 0, piece_bytes, max_items)
    assert data_of(pieces) == [dump(value).encode() for value in values]
    assert sum(piece.messages for piece in pieces) == len(values)
    assert max(len(piece.data) for piece in pieces) <= max_items
    assert_resumable(path, pieces, piece_bytes, max_items)


@given(
    values=st.lists(st.tuples(SPACE, VALUES, SPACE), max_size=8),
    bom=st.booleans(),
    zipped=st.booleans(),
    block_bytes=st.integers(1, 40),
    piece_bytes=st.integers(1, 60),
    max_items=st.integers(1, 4),
)
def test_a_top_level_list_gives_its_entries(  # noqa: PLR0913 - the ways to write a list
    path: Path,
    values: list[tuple[str, Any, str]],
    *,
    bom: bool,
    zipped: bool,
    block_bytes: int,
    piece_bytes: int,
    max_items: int,
) -> None:
    """A list gives the exact bytes of each entry as one message, whatever white space stands around them."""
    text = "[" + ",".join(before + dump(value) + after for before, value, after in values) + "]"
    write(path, "\ufeff" * bom + text, zipped=zipped)
    with limits(1_000, block_bytes):
        pieces = read(path, 0, piece_bytes, max_items)
        assert data_of(pieces) == [dump(value).encode() for _, value, _ in values]
        assert sum(piece.messages for piece in pieces) == len(values)
        assert_resumable(path, pieces, piece_bytes, max_items)


@given(
    values=st.lists(OBJECTS, min_size=1, max_size=5),
    indent=st.sampled_from([0, 2]),
    between=st.sampled_from(["\n", "", "\n\n"]),
    zipped=st.booleans(),
    block_bytes=st.integers(1, 40),
)
def test_pretty_documents_give_one_item_each(  # noqa: PLR0913 - the ways to write documents
    path: Path, values: list[dict[str, Any]], indent: int, between: str, *, zipped: bool, block_bytes: int
) -> None:
    """Documents one after another give one item and one message each, also with nothing between them."""
    values = [{"first": 1}, *values]
    texts = [dump(value, indent) for value in values]
    write(path, between.join(texts), zipped=zipped)
    with limits(1_000, block_bytes):
        pieces = read(path, 0, 1, 1)
        assert data_of(pieces) == [text.encode() for text in texts]
        assert sum(piece.messages for piece in pieces) == len(values)
        assert_resumable(path, pieces, 1, 1)


@given(
    documents_=st.lists(st.lists(OBJECTS, max_size=6), min_size=1, max_size=3),
    indent=st.sampled_from([None, 2]),
    zipped=st.booleans(),
    block_bytes=st.integers(1, 40),
    piece_bytes=st.integers(1, 60),
)
def test_large_documents_give_their_records(  # noqa: PLR0913 - the ways to write documents
    path: Path,
    documents_: list[list[dict[str, Any]]],
    indent: int | None,
    *,
    zipped: bool,
    block_bytes: int,
    piece_bytes: int,
) -> None:
    """Documents too large for memory give the entries of Records one by one, and count one message at their end."""
    padding = {"Note": ["}", {"Records": [1]}], "pad": "x" * 1_200}
    wholes = [{**padding, "Records": records, "after": {"Records": []}} for records in documents_]
    write(path, "\n".join(dump(whole, indent) for whole in wholes), zipped=zipped)
    with limits(1_000, block_bytes):
        pieces = read(path, 0, piece_bytes, 2)
        assert values_of(pieces) == [record for records in documents_ for record in records]
        assert sum(piece.messages for piece in pieces) == len(documents_)
        assert_resumable(path, pieces, piece_bytes, 2)


@given(
    records=st.lists(SMALL, min_size=1, max_size=12),
    kept=st.floats(0, 1, exclude_max=True),
    limit=st.sampled_from([150, 100_000]),
    block_bytes=st.integers(1, 40),
    listed=st.booleans(),
)
def test_a_truncated_document_gives_what_is_whole(  # noqa: PLR0913 - the ways to write documents
    path: Path, records: list[dict[str, Any]], kept: float, limit: int, block_bytes: int, *, listed: bool
) -> None:
    """Cut anywhere, a document gives its first entries and one broken rest; completed later, nothing is missing."""
    text = ",\n".join(map(dump, records))
    whole = (f"[{text}]" if listed else f'{{"Records": [{text}]}}').encode()
    cut = whole[: max(1, int(kept * len(whole)))]
    path.write_bytes(cut)
    with limits(limit, block_bytes):
        pieces = read(path, 0, 1, 3)
        found = values_of(pieces)
        assert found == records[: len(found)]
        (broken,) = (broken for piece in pieces for broken in piece.broken)
        assert "truncated" in broken.reason
        assert cut.endswith(bytes_of(broken))
        path.write_bytes(whole)
        later = pieces[-1].position
        rest = read(path, later, 1, 3)
    assert [one for piece in rest for one in piece.broken] == []
    if len(whole) <= limit and not listed:
        assert values_of(rest) == [{"Records": records}]
    else:
        assert values_of(rest) == (records[len(found) :] if later else records)
