"""What the archive keeps of a change: each settled copy once, again when it changed, and withdrawn when it was none."""

from __future__ import annotations

from msgspec.structs import replace

from crr_monitor.core.archive import (
    LATENESS_MS,
    all_rows,
    arrival,
    changed_rows,
    copy_id,
    expired_rows,
    latest_event,
    partition_of,
)
from crr_monitor.core.times import DAY_MS, HOUR_MS
from tests.factories import (
    AT,
    INFERRED,
    KEY,
    REPLICA,
    TWO_DESTINATIONS,
    VERSION,
    answered,
    denied_read,
    failed,
    record_of,
    replica,
    user_write,
)

NOW = AT + HOUR_MS
PENDING = record_of(user_write())
ARRIVED = record_of(user_write(), replica())
FAILED = record_of(user_write(), failed())
REPAIRED = record_of(user_write(), failed(), replica(at=AT + 7_200_000))


def test_a_copy_that_settles_is_one_row() -> None:
    """The row says what the copy says, under the contract's names, with the reason as a code beside its words."""
    (row,) = changed_rows(PENDING, FAILED, NOW)
    assert (row.key, row.version_id, row.destination_bucket) == (KEY, VERSION, REPLICA)
    assert (row.status, row.state, row.reason_code, row.repaired) == ("FAILED", "settled", "DstKmsKeyNotFound", False)
    assert (row.written_at, row.counted_at, row.recorded_at) == (AT, AT, NOW)


def test_pending_is_not_archived_until_it_expires() -> None:
    """A pending copy gives no row when it changes, and one in the state expired when its record leaves."""
    assert changed_rows(None, PENDING, NOW) == []
    assert [(row.status, row.state) for row in expired_rows(PENDING, NOW)] == [("PENDING", "expired")]
    assert expired_rows(ARRIVED, NOW) == []


def test_a_repair_is_a_second_row_of_the_same_copy() -> None:
    """A copy that failed and arrived later has two rows with one copy id and two idempotency keys."""
    (first,), (second,) = changed_rows(None, FAILED, NOW), changed_rows(FAILED, REPAIRED, NOW + 1)
    assert (second.status, second.repaired) == ("COMPLETED", True)
    assert first.copy_id == second.copy_id == copy_id(KEY, VERSION, REPLICA)
    assert first.row_id != second.row_id


def test_the_same_change_told_twice_has_the_same_idempotency_key() -> None:
    """When and in which revision a row is recorded does not change its key."""
    (one,), (other,) = changed_rows(None, ARRIVED, NOW, 1), changed_rows(PENDING, ARRIVED, NOW + 5, 9)
    assert one.row_id == other.row_id


def test_what_did_not_change_is_not_archived_again() -> None:
    """Of two copies only the one that arrives adds a row, and no change adds none."""
    half = record_of(user_write(), replica(), topology=TWO_DESTINATIONS)
    whole = record_of(user_write(), replica(), replica("orders-audit"), topology=TWO_DESTINATIONS)
    assert [row.destination_bucket for row in changed_rows(half, whole, NOW)] == ["orders-audit"]
    assert changed_rows(whole, whole, NOW) == []


def test_a_late_source_event_gives_the_settled_copy_its_lag() -> None:
    """What all copies have in common changed, so each settled copy is told again."""
    orphan = record_of(replica())
    (row,) = changed_rows(orphan, ARRIVED, NOW)
    assert row.lag_ms == 10_000


def test_a_failure_without_a_place_is_withdrawn_when_the_place_is_known() -> None:
    """The copy that nobody could name is taken back once the copy it meant has a name."""
    nameless = record_of(user_write(), denied_read(), topology=INFERRED)
    named = record_of(user_write(), denied_read(), replica(at=AT + 7_200_000), topology=INFERRED)
    rows = {row.destination_bucket: row for row in changed_rows(nameless, named, NOW)}
    assert (rows[REPLICA].status, rows[REPLICA].state) == ("COMPLETED", "settled")
    assert (rows[None].status, rows[None].state) == ("FAILED", "withdrawn")


def test_of_a_version_that_was_only_asked_about_the_recording_counts() -> None:
    """Where no event ever told a time, the row is counted when it was recorded, not in 1970."""
    record = record_of(answered("completed"), topology=INFERRED)
    (row,) = all_rows(record, NOW, "open")
    assert (row.written_at, row.counted_at, row.lag_ms) == (None, NOW, None)


def test_a_row_arrives_when_it_came_but_never_later_than_queries_look() -> None:
    """Live rows lie in the hour they came in, rows from old logs within the stated lateness."""
    (row,) = changed_rows(None, ARRIVED, NOW)
    assert arrival(row, NOW) == NOW
    assert arrival(row, NOW + 400 * DAY_MS) == AT + LATENESS_MS
    assert arrival(replace(row, counted_at=NOW + 5), NOW) == NOW + 5
    assert latest_event(row) == AT + 10_000
    assert partition_of(AT + 59 * 60_000) == ("2026-11-22", "07")
