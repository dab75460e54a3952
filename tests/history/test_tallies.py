"""What the monthly report sums up: counted without ranking all rows, and equal to the plain SQL on any archive."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from crr_monitor.core.archive import arrival, latest_event, partition_of
from crr_monitor.core.times import DAY_MS, HOUR_MS
from crr_monitor.history import tallies
from crr_monitor.history.ask import ask
from crr_monitor.history.driver import connected
from crr_monitor.history.queries import QUERIES, SLA_SECONDS
from crr_monitor.history.report import Wanted, build, month_span
from crr_monitor.history.tallies import APART, AS_IT_STANDS, NARROW, RESOLVED, apart_statements
from crr_monitor.history.views import last_word
from crr_monitor.history.write import SEPARATOR, line_of, select_text
from tests.factories import AT, replica, user_write
from tests.history.making import RECORDED, rows_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from crr_monitor.core.archive import ArchiveRow
    from crr_monitor.history.driver import Database

MONTH = month_span("2026-11")
(ORDINARY,) = rows_of(user_write(), replica())
TIMES = (AT, AT + 1, AT + HOUR_MS, AT + DAY_MS, MONTH.since, MONTH.since - 1, MONTH.until, MONTH.until - HOUR_MS)
LAGS = (0, 1, 8_001, 8_002, 8_009, 8_011, 10_000, 10_001, 99_999, 300_000, 300_001, 900_000, 900_001, 5_000_000)

times = st.sampled_from(TIMES)
ordinary = st.builds(
    lambda copy, at, lag, **more: replace(
        ORDINARY,
        copy_id=copy,
        key=str(copy),
        written_at=at,
        counted_at=at,
        lag_ms=lag,
        replicated_at=at + lag,
        **more,
    ),
    copy=st.integers(0, 7),
    at=st.sampled_from(TIMES[:3]),
    lag=st.sampled_from(LAGS[:6]),
    size=st.integers(0, 5),
    revision=st.integers(0, 3),
)
"""Completed in time; with luck the only row of its copy."""

nearly = st.builds(
    lambda row, change: replace(row, **dict([change])),
    ordinary,
    st.sampled_from(
        (
            ("repaired", True),
            ("status", "FAILED"),
            ("state", "open"),
            ("state", "withdrawn"),
            ("lag_ms", None),
            ("lag_ms", 900_001),
            ("written_at", None),
            ("replicated_at", None),
            ("counted_at", AT + 2 * HOUR_MS),
            ("size", None),
        )
    ),
)
"""The same but for one thing."""

anything = st.builds(
    lambda copy, **more: replace(ORDINARY, copy_id=copy, key=str(copy), **more),
    copy=st.integers(0, 7),
    source_bucket=st.sampled_from(("orders", "media", None)),
    operation=st.sampled_from(("put", "put", "delete_marker")),
    size=st.sampled_from((None, 0, 5)),
    written_at=st.none() | times,
    replicated_at=st.none() | times,
    lag_ms=st.none() | st.sampled_from(LAGS),
    failed_at=st.none() | times,
    counted_at=times,
    recorded_at=st.sampled_from((RECORDED, RECORDED + DAY_MS)),
    status=st.sampled_from(("COMPLETED", "COMPLETED", "FAILED", "SOURCE_DELETED", "NOT_ELIGIBLE", "PENDING")),
    state=st.sampled_from(("settled", "settled", "open", "expired", "withdrawn")),
    repaired=st.booleans(),
    reason_code=st.sampled_from((None, "DstKmsKeyNotFound", "DstBucketNotFound")),
    revision=st.integers(0, 3),
)
"""A row that says anything, sensible or not."""


@st.composite
def archives(draw: st.DrawFn) -> list[ArchiveRow]:
    """Some rows about few copies, out of order, some of them twice."""
    rows = [
        replace(row, row_id=number)
        for number, row in enumerate(draw(st.lists(ordinary | nearly | anything, max_size=12)))
    ]
    again = draw(st.lists(st.sampled_from(rows), max_size=4)) if rows else []
    return draw(st.permutations(rows + again))


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for what a database spills and reads."""
    return tmp_path_factory.mktemp("tallies")


@pytest.fixture(scope="module")
def database(work: Path) -> Iterator[Database]:
    """A database whose archive is a table that each example fills anew: no file has to be made for it."""
    with connected(work, threads=1) as database:
        yield database


def fill(database: Database, rows: list[ArchiveRow], work: Path) -> None:
    """Make these rows the archive."""
    file = work / "rows.txt"
    with file.open("w", encoding="utf-8", newline="") as lines:
        for row in rows:
            day, _ = partition_of(arrival(row, latest_event(row)))
            lines.write(day + SEPARATOR + line_of(row))
    select = select_text([file], hour=True)
    database.execute(f"CREATE OR REPLACE TABLE archive AS SELECT * RENAME (hour AS day) FROM ({select})")


def plain(database: Database, name: str, rpo: int = SLA_SECONDS) -> list[dict[str, Any]]:
    """The answer to a shipped query."""
    answer = ask(database, QUERIES[name].sql(MONTH, rpo))
    return [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]


def figures(report: dict[str, Any]) -> Iterator[tuple[tuple[str | None, str | None, str], dict[str, Any]]]:
    """The figures of each pair and operation that has copies."""
    for pair in report["pairs"]:
        source, destination = pair["source"].get("bucket"), pair["destination"].get("bucket")
        for operation, body in (("put", pair), ("delete_marker", pair.get("delete_markers"))):
            if body and body["copies"]:
                yield (source, destination, operation), body


def open_copies(database: Database, moment: str, pair: tuple[str | None, str | None]) -> int:
    """How many copies of a pair had to go and were not there at the end of an hour, counted one by one."""
    sql = (
        f"SELECT source_bucket, destination_bucket FROM ({last_word(MONTH.arrived)}) AS copies WHERE {MONTH.counted}"
        " AND (status IN ('FAILED', 'PENDING') OR status = 'COMPLETED' AND replicated_at IS NOT NULL)"
        f" AND counted_at < TIMESTAMP '{moment[:-1]}' + INTERVAL 1 HOUR AND NOT (status = 'COMPLETED'"
        f" AND greatest(replicated_at, counted_at) < TIMESTAMP '{moment[:-1]}' + INTERVAL 1 HOUR)"
    )
    return database.execute(sql).fetchall().count(pair)


@settings(deadline=None, max_examples=60)
@given(rows=archives(), rpo=st.sampled_from((300, SLA_SECONDS, 3_600)), pass_rows=st.sampled_from((2, 1_000)))
def test_the_report_of_any_archive_is_what_plain_sql_says(
    database: Database, work: Path, rows: list[ArchiveRow], rpo: int, pass_rows: int
) -> None:
    """Copies, bytes, RPO, lags, failures and backlog are those of the shipped queries, which rank all rows."""
    fill(database, rows, work)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tallies, "PASS_ROWS", pass_rows)
        report = build(database, Wanted("2026-11", MONTH, MONTH.until + DAY_MS, rpo))
    judged = {
        (row["source_bucket"], row["destination_bucket"], row["operation"]): row
        for row in plain(database, "rpo-by-month", rpo)
    }
    names = ("within", "missed", "unknown")
    assert {
        key: (body["copies"], body["bytes"], *(body["rpo"][name] for name in names)) for key, body in figures(report)
    } == {key: (row["copies"], row["bytes"], *(row[name] for name in names)) for key, row in judged.items()}
    lags = plain(database, "lag-by-day")
    assert report["lag_by_day"] == [
        {"day" if name == "written_on" else name: value for name, value in row.items()} for row in lags
    ]
    failures = plain(database, "failures-by-reason")
    found = [
        {"source_bucket": pair["source"].get("bucket"), "destination_bucket": pair["destination"].get("bucket"), **row}
        for pair in report["pairs"]
        for row in pair["failures"]
    ]
    assert Counter(map(str, found)) == Counter(map(str, failures))
    for row in report["backlog"]:
        pair = (row.get("source_bucket"), row.get("destination_bucket"))
        assert row["copies"] == open_copies(database, row["moment"], pair)


@settings(deadline=None, max_examples=60)
@given(
    rows=archives(),
    passes=st.sampled_from((1, 4)),
    ordinary=st.sampled_from((AS_IT_STANDS, f"{AS_IT_STANDS} AND status = 'COMPLETED' AND lag_seconds < 9")),
)
def test_all_rows_without_those_apart_and_with_their_last_words_are_the_view(
    database: Database, work: Path, rows: list[ArchiveRow], passes: int, ordinary: str
) -> None:
    """Whatever is called ordinary, and in any number of passes, the same rows come out as from ranking all."""
    fill(database, rows, work)
    for statement in apart_statements("true", ordinary, passes):
        database.execute(statement)
    every, apart, words, view = (
        Counter(database.execute(f"SELECT {', '.join(NARROW)} FROM {table}").fetchall())
        for table in ("archive", APART, RESOLVED, f"({last_word()})")
    )
    assert apart <= every
    assert every - apart + words == view


def late(key: str, lag: int, **more: object) -> ArchiveRow:
    """The row of a copy that took so many milliseconds."""
    (row,) = rows_of(user_write(key=key), replica(key=key, at=AT + lag))
    return replace(row, **more)


OTHER = late("b", 8_005)


@pytest.mark.parametrize(
    ("rows", "longest"),
    [
        ((late("a", 8_009), OTHER), 8.009),
        ((late("a", 8_009), late("a", 8_009), OTHER), 8.009),
        ((late("a", 8_009), late("a", 8_001, recorded_at=RECORDED + 1), OTHER), 8.005),
        ((late("a", 8_009), late("a", 8_009, state="withdrawn"), OTHER), 8.005),
        ((late("a", 8_009), late("a", 7_000, recorded_at=RECORDED + 1), OTHER), 8.005),
        ((late("a", 8_009), late("a", 9_000, recorded_at=RECORDED + 1), OTHER), 9.0),
    ],
)
def test_the_longest_lag_is_one_that_still_holds(
    database: Database, work: Path, rows: tuple[ArchiveRow, ...], longest: float
) -> None:
    """A longest lag that was overruled or withdrawn is not shown, though other lags of its step stay."""
    fill(database, list(rows), work)
    report = build(database, Wanted("2026-11", MONTH, MONTH.until))
    assert [row["longest"] for row in report["lag_by_day"]] == [longest]
    assert report["pairs"][0]["lag_seconds"]["max"] == longest


def test_a_copy_that_was_read_in_two_goes_is_counted_with_its_lag(database: Database, work: Path) -> None:
    """The write came from one run past the store and the replica from another: it is in time, on the write's day."""
    write, copy = rows_of(user_write()), rows_of(replica(), at=RECORDED + DAY_MS)
    fill(database, [*copy, *write], work)
    (pair,) = build(database, Wanted("2026-11", MONTH, MONTH.until))["pairs"]
    assert (pair["copies"], pair["sla"]["within"], pair["lag_seconds"]["max"]) == (1, 1, 10.0)
