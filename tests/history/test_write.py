"""Rows reach Parquet unharmed, in the right partitions, whole or not at all."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crr_monitor.core.model import FLAT_FIELDS
from crr_monitor.core.times import HOUR_MS
from crr_monitor.history.driver import HistoryError
from crr_monitor.history.layout import Folder, local_copy, split_address
from crr_monitor.history.schema import COLUMNS, COVERAGE_FOLDER, NAMES, glue_columns, glue_partitions
from crr_monitor.history.write import Written, write_rows
from tests.factories import AT, failed, replica, user_write
from tests.history.making import archived, asked, rows_of
from tests.sources.test_files import powerless

NASTY = (
    "a,b",
    'q"uo""te',
    "new\nline",
    "cr\r\nlf",
    "sep\x1fx",
    "é☃😀",
    "nul\0x",
    " lead ",
    " ",
    "NULL",
    "-",
    "'",
    "\ufeff",
)


def test_the_columns_begin_with_those_of_the_flat_row() -> None:
    """The archive has the contract's flat row, in its order, then what it needs beside it."""
    assert NAMES[: len(FLAT_FIELDS)] == FLAT_FIELDS
    assert glue_columns()[0] == {"Name": "source_account", "Type": "string"}
    assert glue_partitions() == [{"Name": "day", "Type": "string"}, {"Name": "hour", "Type": "string"}]


def test_files_have_the_declared_columns_and_types(tmp_path: Path) -> None:
    """What DuckDB reads back from a file is the schema, column by column."""
    archived(tmp_path, rows_of(user_write(), replica()))
    file = next(tmp_path.glob("day=*/hour=*/*.parquet"))
    described = asked(tmp_path, f"DESCRIBE SELECT * FROM read_parquet('{file}', hive_partitioning = false)")
    assert [(row["column_name"], row["column_type"]) for row in described] == [
        (column.name, column.sql) for column in COLUMNS
    ]


def test_keys_come_back_as_they_were(tmp_path: Path) -> None:
    """Separators, quotes, line ends, NUL and blanks in keys change nothing."""
    rows = [row for key in NASTY for row in rows_of(user_write(key=key), replica(key=key))]
    archived(tmp_path, rows)
    assert {row["key"] for row in asked(tmp_path, "SELECT key FROM copies")} == set(NASTY)


_ANY = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
_KEYS = st.one_of(_ANY, st.text('\r\n"\x1f,\0 a', min_size=1, max_size=8))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(keys=st.lists(_KEYS, min_size=1, max_size=20, unique=True), reason=_KEYS)
def test_any_text_survives(tmp_path_factory: pytest.TempPathFactory, keys: list[str], reason: str) -> None:
    """Whatever characters a key or a reason has, they are read back."""
    folder = tmp_path_factory.mktemp("any")
    archived(folder, [row for key in keys for row in rows_of(user_write(key=key), failed(key=key, reason=reason))])
    found = asked(folder, "SELECT key, failure_reason FROM copies")
    assert {row["key"] for row in found} == set(keys)
    assert {row["failure_reason"] for row in found} == {reason}


def test_rows_lie_in_the_hour_of_their_arrival(tmp_path: Path) -> None:
    """Without a time of coming a row is filed under the last event that it tells of, with one under that."""
    rows = rows_of(user_write(), replica(at=AT + 3 * HOUR_MS))
    assert write_rows(rows, Folder(tmp_path), "one") == Written(rows=1, files=1)
    write_rows(rows, Folder(tmp_path), "two", lambda _row: AT + 5 * HOUR_MS)
    found = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.glob("day=*/hour=*/*"))
    assert found == ["day=2026-11-22/hour=10/one.parquet", "day=2026-11-22/hour=12/two.parquet"]


def test_the_same_rows_under_the_same_name_replace_themselves(tmp_path: Path) -> None:
    """A step that is repeated after a crash leaves one file, not two."""
    rows = rows_of(user_write(), replica())
    archived(tmp_path, rows)
    archived(tmp_path, rows)
    assert asked(tmp_path, "SELECT count(*) AS n FROM archive") == [{"n": 1}]


def test_no_rows_make_no_file(tmp_path: Path) -> None:
    """Nothing to write writes nothing."""
    assert write_rows([], Folder(tmp_path), "none") == Written()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """The error names the folder and what to do."""
    (tmp_path / "file").write_text("")
    with pytest.raises(HistoryError, match=r"cannot make the archive .*file/in: .*--archive"):
        Folder(tmp_path / "file" / "in")


def test_an_address_without_a_bucket_is_refused() -> None:
    """Bucket and prefix are told apart; without a bucket there is nothing to write to."""
    assert split_address("s3://b/x/y/") == ("b", "x/y/")
    assert split_address("s3://b") == ("b", "")
    with pytest.raises(HistoryError, match="names no bucket"):
        split_address("s3:///x")


def test_a_full_disk_is_told_with_the_option_that_names_the_archive(tmp_path: Path) -> None:
    """Where a file does not fit beside the archive, that is where space is needed."""
    rows = rows_of(user_write(), replica())
    write_rows(rows, Folder(tmp_path / "probe"), "a")
    (made,) = (tmp_path / "probe").glob("day=*/hour=*/a.parquet")
    day, hour = (part.partition("=")[2] for part in made.parent.relative_to(tmp_path / "probe").parts)
    full = Folder(tmp_path / "full")
    (full.scratch(tmp_path) / f"{day}-{hour}-a.parquet.part").symlink_to("/dev/full")
    with pytest.raises(HistoryError) as caught:
        write_rows(rows, full, "a")
    assert str(caught.value).endswith(
        "No space left on device (free some space there, or name another folder with --archive)"
    )


def test_an_archive_that_may_not_be_read_is_not_empty() -> None:
    """A folder of the archive that may not be listed is an error that names it, whichever of them it is."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        archive = Path(name) / "archive"
        write_rows(rows_of(user_write(), replica()), Folder(archive), "a")
        (made,) = archive.glob("day=*/hour=*/a.parquet")
        watched = archive / COVERAGE_FOLDER / "day=2026-11-01"
        watched.mkdir(parents=True)
        for folder in (archive, made.parent.parent, made.parent, watched.parent, watched):
            mode = folder.stat().st_mode
            folder.chmod(0)
            with powerless(), pytest.raises(HistoryError) as caught:
                local_copy(str(archive), lambda: None, archive)
            folder.chmod(mode)
            assert str(caught.value) == (
                f"cannot read {folder} of the archive: Permission denied; change its mode, or run as a user who may"
                " read it"
            )
