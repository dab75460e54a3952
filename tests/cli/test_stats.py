"""``crr-monitor stats``: the window, the forms, the tables, ``--check``."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from crr_monitor.cli.words import time_text
from crr_monitor.core.times import HOUR_MS, MINUTE_MS, format_time
from crr_monitor.core.topology import Topology
from crr_monitor.process.clock import feed_live
from crr_monitor.stores.base import system_clock
from crr_monitor.stores.sqlite import SqliteStore
from tests.cli.running import FAILED, NEWEST, OK, PROBLEMS, USAGE, asked, call, fill, look, objects, rows, run
from tests.factories import (
    AT,
    AUDIT,
    REPLICA,
    SOURCE,
    TWO_DESTINATIONS,
    config,
    deleted,
    denied_write,
    failed,
    replica,
    rule,
    user_write,
)

if TYPE_CHECKING:
    from pathlib import Path

MARKERS = Topology([config(rule(delete_markers=True), rule(AUDIT))])


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Where a store may be made."""
    return tmp_path / "a.db"


def trouble(store: Path) -> Path:
    """Of ten objects at 07:00: eight arrived, one failed, one is still pending at 08:00."""
    arrived = [event for name in "abcdefgh" for event in (user_write(key=name, size=100), replica(key=name))]
    return fill(store, *arrived, user_write(key="x"), failed(key="x"), user_write(key="p", size=7))


def figures(store: Path, *arguments: str, status: int = OK) -> dict[str, Any]:
    """The JSON document."""
    found: dict[str, Any] = json.loads(asked(store, "stats", "-o", "json", *arguments, status=status))
    return found


def test_json_is_one_document(store: Path) -> None:
    """The document has window, clock and a group with all figures of the pair."""
    found = figures(trouble(store))
    (group,) = found.pop("groups")
    assert found == {
        "since": "2026-11-21T08:00:00.000Z",
        "until": "2026-11-22T08:05:00.000Z",
        "as_of": "2026-11-22T08:00:00.000Z",
        "clock": "newest-event",
        "newest_event_at": "2026-11-22T08:00:00.000Z",
    }
    lag = group.pop("lag_seconds")
    assert {name: round(value) for name, value in lag.items()} == {"p50": 10, "p90": 10, "p99": 10, "max": 10}
    assert group == {
        "source": SOURCE,
        "destination": REPLICA,
        "rule_id": "to-orders-dr",
        "objects": 10,
        "bytes": 807,
        "completed": 8,
        "failed": 1,
        "failed_by_reason": {"DstKmsKeyNotFound": 1},
        "source_deleted": 0,
        "not_eligible": 0,
        "pending": 1,
        "pending_bytes": 7,
        "pending_by_age": {"0-5m": 0, "5-15m": 0, "15-60m": 0, "1-6h": 1, "6-24h": 0, "24h+": 0},
        "oldest_pending_seconds": 3600.0,
        "expired": 0,
        "rpo": {"target_seconds": 900, "within": 8, "missed": 2, "unknown": 0, "share": 0.8},
    }


def test_lines_and_rows_are_the_groups(store: Path) -> None:
    """JSON lines are the groups, each with the window; CSV has the same, flat."""
    document = figures(trouble(store))
    (group,) = document.pop("groups")
    assert objects(store, "stats") == [{**document, **group}]
    (row,) = rows(store, "stats")
    assert json.loads(row["failed_by_reason"]) == {"DstKmsKeyNotFound": 1}
    assert (row["as_of"], row["rpo_share"], row["pending_by_age_1-6h"]) == ("2026-11-22T08:00:00.000Z", "0.8", "1")
    assert (row["lag_seconds_p99"], row["delete_markers_objects"]) == (str(group["lag_seconds"]["p99"]), "")


def test_every_figure_has_a_column(store: Path) -> None:
    """Each value of the JSON, those of delete markers among them, has its column in CSV."""
    marker: dict[str, Any] = {"key": "m", "delete_marker": True}
    fill(store, user_write(), failed(), user_write(**marker), replica(**marker), topology=MARKERS)
    first, second = (group for group in figures(store)["groups"])
    assert "delete_markers" in second
    for group, row in zip((first, second), rows(store, "stats"), strict=True):
        values = sorted(value for value in leaves(group) if value != "")
        assert sorted(row[name] for name in row if row[name] != "" and name not in WHEN) == values


WHEN = {"since", "until", "as_of", "clock", "newest_event_at"}


def leaves(group: dict[str, Any]) -> list[str]:
    """All values of a group as CSV has them."""
    found = []
    for name, value in group.items():
        if isinstance(value, dict) and name != "failed_by_reason":
            found.extend(leaves(value))
        else:
            found.append(value if isinstance(value, str) else json.dumps(value, separators=(",", ":")))
    return found


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        ([], 2),
        (["--window", "24h"], 2),
        (["--window", "30m"], 1),
        (["--window", "1d"], 2),
        (["--since", "2026-11-22T07:30:00Z"], 1),
        (["--until", "2026-11-22T07:30:00Z"], 1),
        (["--since", "30m"], 1),
        (["--since", "2h", "--until", "30m"], 1),
        (["--as-of", "2026-11-22T07:15:00Z", "--window", "15m"], 1),
        (["--as-of", "45m", "--window", "10m"], 0),
        (["--as-of", "2026-11-24T00:00:00Z"], 0),
        (["--window", "9999w"], 2),
        (["--window", "999999999w"], 2),
    ],
    ids=str,
)
def test_window(arguments: list[str], count: int, store: Path) -> None:
    """Objects are selected by when they were written; the default is the 24 hours up to the clock."""
    fill(store, user_write(), user_write(key="later", at=NEWEST - 10 * MINUTE_MS))
    assert sum(group["objects"] for group in figures(store, *arguments)["groups"]) == count


def test_newest_event_is_in_the_window(store: Path) -> None:
    """A write at the very instant of a replay's clock counts, also where a five-minute slot begins with it."""
    fill(store, user_write(at=AT), newest=AT)
    (group,) = figures(store, "--window", "1h")["groups"]
    assert group["objects"] == 1


def test_as_of_is_the_clock_of_ages(store: Path) -> None:
    """With an earlier clock the same copy is younger and its deadline has not passed."""
    (group,) = figures(trouble(store), "--as-of", "2026-11-22T07:10:00Z")["groups"]
    assert (group["oldest_pending_seconds"], group["rpo"]["missed"]) == (600.0, 1)


@pytest.mark.parametrize(
    ("by", "names"),
    [
        ("pair", [(SOURCE, AUDIT), (SOURCE, REPLICA)]),
        ("source", [(SOURCE, None)]),
        ("destination", [(None, AUDIT), (None, REPLICA)]),
    ],
)
def test_grouping(by: str, names: list[tuple[str | None, str | None]], store: Path) -> None:
    """Groups are pairs, sources or destinations; the other name is absent, and the table's title says which."""
    fill(store, user_write(), replica(), replica(AUDIT), topology=TWO_DESTINATIONS)
    groups = figures(store, "--by", by)["groups"]
    assert [(group.get("source"), group.get("destination")) for group in groups] == names
    assert asked(store, "stats", "--by", by).splitlines()[2].split()[0] == by.upper()


def test_rpo(store: Path) -> None:
    """``--rpo`` is the target of the shares, before the setting."""
    assert figures(trouble(store), "--rpo", "5")["groups"][0]["rpo"]["within"] == 0
    done = run("--store", str(store), "stats", "-o", "json", CRR_MONITOR_RPO_SECONDS="60")
    assert json.loads(done.stdout)["groups"][0]["rpo"]["target_seconds"] == 60


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--window", "1h", "--since", "2h"], "--window excludes --since and --until"),
        (["--since", "1h", "--until", "2h"], "--since is not before --until"),
        (["--window", "1 hour"], "'1 hour' is no length of time"),
        (["--window", "nonsense"], "'nonsense' is no length of time"),
        (["--rpo", "0"], "--rpo is '0': allowed is a whole number from 1 to 2592000"),
        (["--by", "rule"], "'rule' is not one of 'pair', 'source', 'destination'"),
        (["--as-of", "noon"], "not an RFC 3339 time: 'noon'"),
    ],
)
def test_wrong_values(arguments: list[str], told: str, store: Path) -> None:
    """A wrong value is told with what is allowed, and ends with 2."""
    result = call(trouble(store), "stats", *arguments)
    assert (result.exit_code, result.stdout) == (USAGE, "")
    assert told in result.stderr


@pytest.mark.parametrize("form", ["table", "json", "ndjson", "csv"])
def test_check(form: str, store: Path) -> None:
    """``--check`` ends with 3 where something failed or is overdue, prints the same, and without it the status is 0."""
    trouble(store)
    assert asked(store, "stats", "-o", form, "--check", status=PROBLEMS) == asked(store, "stats", "-o", form)


@pytest.mark.parametrize(
    ("newest", "status"), [(AT + 15 * MINUTE_MS, OK), (AT + 15 * MINUTE_MS + 1, PROBLEMS)], ids=["due", "overdue"]
)
def test_check_of_pending_copies(newest: int, status: int, store: Path) -> None:
    """A pending copy is a problem from its deadline on."""
    fill(store, user_write(), newest=newest)
    figures(store, "--check", status=status)


def test_check_of_good_replication(store: Path) -> None:
    """Where all copies arrived, or their versions are gone, ``--check`` finds nothing."""
    fill(store, user_write(), replica(), user_write(key="gone"), deleted(key="gone"))
    figures(store, "--check")


def test_table(store: Path) -> None:
    """The table in a pipe: header, a line for each pair, failures with their fix, pending copies by age."""
    lines = asked(trouble(store), "stats").splitlines()
    assert lines[0] == (
        "Written from 2026-11-21 08:00 UTC to 2026-11-22 08:05 UTC, as of 2026-11-22 08:00 UTC"
        " (the newest event: these are old logs)"
    )
    assert lines[2].split() == (
        "PAIR OBJECTS COMPLETED FAILED PENDING OLDEST P50 P90 P99 MAX RPO 15m".split()  # noqa: SIM905 - as it is printed
    )
    assert lines[3].split()[3:8] == ["10", "8", "1", "1", "1h"]
    assert lines[3].endswith("80.00%")
    assert lines[5:8] == [
        "Failures by reason (delete markers included)",
        f"  DstKmsKeyNotFound: 1 ({SOURCE} -> {REPLICA} 1)",
        "    fix: name an existing key of the destination's Region in the replication rule",
    ]
    assert lines[9] == "Pending by age"
    assert lines[11].split()[3:] == ["0", "0", "0", "1", "0", "0", "1"]
    assert len(lines) == 12


@pytest.mark.parametrize(
    ("hours", "which"),
    [(0, " (now)"), (5, " (now; the newest event is of {newest} UTC, 5h ago)")],
)
def test_which_clock_it_is_of_a_live_store(hours: int, which: str, store: Path) -> None:
    """A live store is asked by the clock of now, also after late events, and told how long none has come."""
    at = system_clock() - hours * HOUR_MS
    fill(store, user_write(at=at), newest=at)
    with closing(SqliteStore(store)) as kept:
        feed_live(kept, "serve", AT)
    line = asked(store, "stats").splitlines()[0]
    assert line.endswith(which.format(newest=time_text(at)))
    found = figures(store)
    assert (found["clock"], found["newest_event_at"]) == ("now", format_time(at))
    (group,) = found["groups"]
    assert hours * 3_600 <= group["oldest_pending_seconds"] < hours * 3_600 + 600
    given = asked(store, "stats", "--as-of", "2026-11-22T08:00:00Z").splitlines()[0]
    assert given.endswith("as of 2026-11-22 08:00 UTC (--as-of)")


def test_table_of_the_rest(store: Path) -> None:
    """What the line of a pair leaves out stands below it, and delete markers have a table of their own."""
    marker: dict[str, Any] = {"key": "m", "delete_marker": True}
    topology = Topology([config(rule(delete_markers=True))])
    fill(store, user_write(), deleted(), user_write(**marker), replica(**marker), topology=topology)
    lines = asked(store, "stats").splitlines()
    assert lines[5:7] == ["Besides", f"  {SOURCE} -> {REPLICA}: 1 deleted at the source before a replica was seen"]
    assert lines[8] == "Delete markers"
    assert lines[10].split()[3:8] == ["1", "1", "0", "0", "0"]


def test_table_of_denied_calls(store: Path) -> None:
    """Denied calls are counted by the action, not by the words that name each object."""
    fill(store, user_write(), denied_write(), user_write(key="b"), denied_write(key="b"))
    assert f"  AccessDenied s3:ReplicateObject: 2 ({SOURCE} -> {REPLICA} 2)" in asked(store, "stats").splitlines()


def test_empty_window(store: Path) -> None:
    """Where nothing was written, the header is there, and standard error suggests what to try."""
    result = call(fill(store, user_write(at=AT - 100 * HOUR_MS)), "stats")
    assert (result.exit_code, len(result.stdout.splitlines())) == (OK, 1)
    assert result.stderr == "nothing was written in that time that is known; try a longer --window, or --since\n"


def test_table_on_a_terminal_that_is_too_narrow(store: Path) -> None:
    """Where there is no room for every column, all of them are written as into a pipe: no pair loses its name."""
    seen = look("--store", str(trouble(store)), "stats", columns=60)
    assert "\nPAIR " in seen.replace("\r", "")
    assert f"\n{SOURCE} -> {REPLICA} " in seen.replace("\r", "")


@pytest.mark.parametrize("columns", [80, 160])
def test_table_fits_the_terminal(columns: int, store: Path) -> None:
    """On a terminal no line is wider than it, and each pair's share is to be seen."""
    seen = look("--store", str(trouble(store)), "stats", columns=columns).replace("\x1b[1m", "").replace("\x1b[0m", "")
    assert max(len(line) for line in seen.splitlines()) <= columns
    assert ("80.00%" in seen, "P90" in seen) == (True, columns == 160)


def test_heard_within(store: Path) -> None:
    """With an event newer than that the status is that of ``--check``; else it is 1, after the same figures."""
    now = system_clock()
    fill(store, user_write(at=now), replica(at=now + 1_000), newest=now)
    assert asked(store, "stats", "--check", "--heard-within", "1h") != ""
    silent = fill(store.parent / "silent.db", user_write(), replica(), newest=NEWEST)
    result = call(silent, "stats", "--as-of", "2026-11-22T08:00:00Z", "--check", "--heard-within", "1ms")
    assert result.exit_code == FAILED
    assert "completed" in result.stdout.lower()
    assert str(result.exception) == (
        "the newest event is of 2026-11-22 08:00:00 UTC, and --heard-within is 1ms: see whether events still arrive"
        " here, and whether anything was written at all"
    )


def test_heard_within_of_an_empty_store(store: Path) -> None:
    """Where no event was ever heard the silence is told, too."""
    SqliteStore(store).close()
    assert str(call(store, "stats", "--heard-within", "1h").exception).startswith("no event was ever heard, and")


def test_check_tells_a_broken_monitor_from_broken_replication(tmp_path: Path) -> None:
    """Without a store ``--check`` ends with 1, not with 3."""
    assert run("--store", str(tmp_path / "none.db"), "stats", "--check").returncode == FAILED
