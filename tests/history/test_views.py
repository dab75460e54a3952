"""The last word per copy: duplicates, late repairs and any order of files end in the same view."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from crr_monitor.core.archive import changed_rows
from crr_monitor.core.times import DAY_MS, HOUR_MS
from crr_monitor.history.queries import QUERIES
from crr_monitor.history.views import Span
from crr_monitor.simulate import Plan
from tests.factories import AT, INFERRED, denied_read, failed, record_of, replica, user_write
from tests.history.making import RECORDED, TRUE_COLUMNS, archived, asked, in_order, rows_of, simulated, true_copies

if TYPE_CHECKING:
    from pathlib import Path

    from crr_monitor.core.archive import ArchiveRow

from crr_monitor.core.archive import all_rows

FAILED = rows_of(user_write(), failed(), at=RECORDED)
REPAIRED = rows_of(user_write(), failed(), replica(at=AT + 2 * HOUR_MS), at=RECORDED + HOUR_MS)
STATUS = "SELECT status, repaired FROM copies"


@pytest.mark.parametrize("order", [(FAILED, REPAIRED), (REPAIRED, FAILED), (FAILED, REPAIRED, FAILED, REPAIRED)])
def test_a_late_repair_has_the_last_word(tmp_path: Path, order: tuple[list[object], ...]) -> None:
    """Whatever the order and however often the rows came, the copy is completed, and known to have failed before."""
    for number, rows in enumerate(order):
        archived(tmp_path, rows, f"part-{number}")  # type: ignore[arg-type]
    assert asked(tmp_path, STATUS) == [{"status": "COMPLETED", "repaired": True}]


def test_what_was_open_in_a_later_backfill_does_not_undo_what_was_settled(tmp_path: Path) -> None:
    """Logs that end before the replica leave a row recorded later, and it has less to say."""
    archived(tmp_path, rows_of(user_write(), replica(), at=RECORDED), "live")
    archived(tmp_path, rows_of(user_write(), at=RECORDED + DAY_MS), "backfill")
    assert asked(tmp_path, "SELECT status FROM copies") == [{"status": "COMPLETED"}]


def test_of_equal_words_the_one_recorded_last_holds(tmp_path: Path) -> None:
    """A second failure with another reason replaces the first; at the same instant the higher revision does."""
    first, second = rows_of(user_write(), failed()), rows_of(user_write(), failed(reason="DstBucketNotFound"))
    archived(tmp_path, [replace(second[0], recorded_at=RECORDED + 1)], "b")
    archived(tmp_path, first, "a")
    assert asked(tmp_path, "SELECT failure_reason AS why FROM copies") == [{"why": "DstBucketNotFound"}]
    archived(tmp_path, [replace(first[0], recorded_at=RECORDED + 1, revision=7)], "c")
    assert asked(tmp_path, "SELECT failure_reason AS why FROM copies") == [{"why": "DstKmsKeyNotFound"}]


TIMES = "status, written_at, replicated_at, lag_seconds, counted_at"
WRITE, REPLICA = rows_of(user_write(), at=RECORDED), rows_of(replica(), at=RECORDED + DAY_MS)
WHOLE = {
    "status": "COMPLETED",
    "written_at": "2026-11-22T07:00:00.000Z",
    "replicated_at": "2026-11-22T07:00:10.000Z",
    "lag_seconds": 10.0,
    "counted_at": "2026-11-22T07:00:00.000Z",
}


@pytest.mark.parametrize("order", [(WRITE, REPLICA), (REPLICA, WRITE)], ids=["write first", "replica first"])
def test_a_copy_that_was_read_in_two_goes_is_whole(tmp_path: Path, order: tuple[list[ArchiveRow], ...]) -> None:
    """The write came from one run past the store and the replica from another: the lag is known all the same."""
    for number, rows in enumerate(order):
        archived(tmp_path, rows, f"part-{number}")
    assert asked(tmp_path, f"SELECT {TIMES} FROM copies") == [WHOLE]


def test_a_copy_without_any_write_stays_without_a_lag(tmp_path: Path) -> None:
    """Where no row knows the write, nothing is invented."""
    archived(tmp_path, [*REPLICA, *REPLICA])
    (row,) = asked(tmp_path, f"SELECT {TIMES} FROM copies")
    assert (row["written_at"], row["lag_seconds"]) == (None, None)


def test_a_withdrawn_copy_is_gone(tmp_path: Path) -> None:
    """The copy whose place nobody knew leaves the view when its place became known."""
    nameless = record_of(user_write(), denied_read(), topology=INFERRED)
    named = record_of(user_write(), denied_read(), replica(at=AT + HOUR_MS), topology=INFERRED)
    archived(tmp_path, changed_rows(None, nameless, RECORDED), "a")
    assert asked(tmp_path, "SELECT status FROM copies") == [{"status": "FAILED"}]
    archived(tmp_path, changed_rows(nameless, named, RECORDED + 1), "b")
    assert asked(tmp_path, "SELECT destination_bucket AS d FROM copies") == [{"d": "orders-dr"}]


def test_two_copies_with_one_hash_stay_two(tmp_path: Path) -> None:
    """Should two copies have the same number, their names still tell them apart."""
    one, other = rows_of(user_write(), replica()), rows_of(user_write(key="x"), replica(key="x"))
    archived(tmp_path, [one[0], replace(other[0], copy_id=one[0].copy_id)])
    assert asked(tmp_path, "SELECT count(*) AS n FROM copies") == [{"n": 2}]


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Path]:
    """The archive of a simulated stream with much trouble, a tenth of its rows twice."""
    plan = Plan(seed=3, objects=1_500, failure_rate=0.2, repaired_share=0.5, delete_rate=0.1, pending_rate=0.1)
    records, newest = simulated(plan)
    rows = [row for record in records for row in all_rows(record, newest, "open")]
    folder = tmp_path_factory.mktemp("stream") / "archive"
    archived(folder, rows, "first")
    archived(folder, rows[::10], "again")
    return plan, folder


def test_the_view_is_the_truth_of_a_simulated_stream(stream: tuple[Plan, Path]) -> None:
    """Each copy is there once, and says what was simulated."""
    plan, folder = stream
    assert in_order(asked(folder, f"SELECT {TRUE_COLUMNS} FROM copies")) == in_order(true_copies(plan))


@pytest.mark.parametrize("name", QUERIES)
def test_partitions_that_are_left_out_hold_nothing_that_was_asked_for(name: str, stream: tuple[Plan, Path]) -> None:
    """A shipped query of some hours gives the same with all partitions as with those that it reads."""
    plan, folder = stream
    span = Span(plan.start + 6 * HOUR_MS, plan.start + 12 * HOUR_MS)
    sql = QUERIES[name].sql(span)
    assert span.arrived in sql
    everything = sql.replace(span.arrived, "true")
    found = asked(folder, sql)
    assert found
    assert found == asked(folder, everything)


def test_days_are_widened_by_the_lateness() -> None:
    """A month is looked for from its first day to eighteen days after its last."""
    assert Span(AT, AT + DAY_MS).days == ("2026-11-22", "2026-12-11")
    assert Span(AT, AT + DAY_MS, lateness_days=0).days == ("2026-11-22", "2026-11-23")


def test_days_begin_before_those_that_firehose_files_early() -> None:
    """Rows of the first minutes of a day may lie in the day before, where the first row of their file came."""
    midnight = AT - 7 * HOUR_MS
    assert Span(midnight, midnight + 1, lateness_days=0).days == ("2026-11-21", "2026-11-22")
    assert Span(midnight + HOUR_MS, midnight + 2 * HOUR_MS, lateness_days=0).days == ("2026-11-22", "2026-11-22")
