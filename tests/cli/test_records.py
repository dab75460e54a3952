"""``crr-monitor list`` and ``status``: selection, forms, hostile keys, exit status."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crr_monitor.cli.session import escape
from crr_monitor.cli.words import time_text
from crr_monitor.core.model import FLAT_FIELDS, to_json, to_rows
from crr_monitor.core.times import DAY_MS, HOUR_MS, MINUTE_MS, format_time
from crr_monitor.core.topology import Topology
from crr_monitor.process.clock import feed_live
from crr_monitor.stores.base import system_clock
from crr_monitor.stores.sqlite import SqliteStore
from tests.cli.running import FAILED, NEWEST, OK, PROBLEMS, USAGE, asked, call, fill, look, objects, rows, run
from tests.factories import (
    AT,
    AUDIT,
    BY_TAG,
    INFERRED,
    KEY,
    ONE_WAY,
    REPLICA,
    SOURCE,
    TWO_DESTINATIONS,
    VERSION,
    config,
    confirmed,
    deleted,
    denied_write,
    failed,
    record_of,
    replica,
    rule,
    user_write,
    written,
)

if TYPE_CHECKING:
    from pathlib import Path

NAME = f"s3://{SOURCE}/{KEY}"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Where a store may be made."""
    return tmp_path / "a.db"


def keys(store: Path, *arguments: str) -> list[str]:
    """The keys that ``list`` prints."""
    return [record["key"] for record in objects(store, "list", *arguments)]


def several(store: Path) -> Path:
    """One failed, one pending, one completed version, a minute between them, the failed one the oldest."""
    return fill(
        store,
        *(user_write(key="a/failed"), failed(key="a/failed")),
        user_write(key="b/pending", at=AT + MINUTE_MS),
        *(user_write(key="a/done", at=AT + 2 * MINUTE_MS), replica(key="a/done", at=AT + 2 * MINUTE_MS + 9_000)),
    )


# ---- list


def test_list_is_newest_first(store: Path) -> None:
    """All listed versions come, the newest write first."""
    assert keys(several(store)) == ["a/done", "b/pending", "a/failed"]


def test_list_prints_the_record(store: Path) -> None:
    """JSON lines are the record, JSON is an array of them, CSV its flat rows."""
    events = (user_write(size=5), replica(), replica(AUDIT))
    record = record_of(*events, topology=TWO_DESTINATIONS)
    fill(store, *events, topology=TWO_DESTINATIONS)
    assert objects(store, "list") == [to_json(record)]
    assert json.loads(asked(store, "list", "-o", "json")) == [to_json(record)]
    expected = [{name: "" if row[name] is None else str(row[name]) for name in FLAT_FIELDS} for row in to_rows(record)]
    assert rows(store, "list") == expected


def test_list_json_is_an_array_of_any_length(store: Path) -> None:
    """None, one and several records are each a valid array."""
    several(store)
    for arguments, count in ((["--prefix", "none"], 0), (["--prefix", "b"], 1), ([], 3)):
        assert len(json.loads(asked(store, "list", *arguments, "-o", "json"))) == count


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--status", "FAILED"], ["a/failed"]),
        (["--status", "pending"], ["b/pending"]),
        (["--prefix", "a/"], ["a/done", "a/failed"]),
        (["--source", SOURCE], ["a/done", "b/pending", "a/failed"]),
        (["--source", REPLICA], []),
        (["--destination", REPLICA], ["a/done", "b/pending", "a/failed"]),
        (["--destination", AUDIT], []),
        (["--since", "2026-11-22T07:01:00Z"], ["a/done", "b/pending"]),
        (["--until", "2026-11-22T07:01:00Z"], ["a/failed"]),
        (["--since", "59m"], ["a/done", "b/pending"]),
        (["--since", "2026-11-22"], ["a/done", "b/pending", "a/failed"]),
        (["--until", "2026-11-22"], []),
        (["--until", "1h"], []),
        (["--since", "7d", "--until", "0s"], ["a/done", "b/pending", "a/failed"]),
        (["--limit", "2"], ["a/done", "b/pending"]),
        (["--limit", "0"], ["a/done", "b/pending", "a/failed"]),
        (["--status", "FAILED", "--prefix", "b"], []),
    ],
)
def test_list_selects(arguments: list[str], expected: list[str], store: Path) -> None:
    """Each option selects what it says; lengths of time count back from the newest event of a replay."""
    assert NEWEST == AT + 60 * MINUTE_MS
    assert keys(several(store), *arguments) == expected


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--limit", "2"], "there are more: these are the newest 2 (--limit 0 shows all)\n"),
        (["--limit", "3"], ""),
        (["--limit", "0"], ""),
        (["--prefix", "none"], "no object version matches\n"),
    ],
)
@pytest.mark.parametrize("form", ["table", "json", "ndjson", "csv"])
def test_list_says_what_it_leaves_out(form: str, arguments: list[str], told: str, store: Path) -> None:
    """Only where the limit cut something off, or nothing matches, standard error says so."""
    assert call(several(store), "list", *arguments, "-o", form).stderr == told


@pytest.mark.parametrize(
    "time", ["yesterday", "2026-11-22T07:00:00", "7", "7y", "-1h", "1969-12-31T00:00:00Z", "2026-13-01", "20261122", ""]
)
def test_list_refuses_what_is_no_time(time: str, store: Path) -> None:
    """A time without zone, unit or sense is wrong usage."""
    result = call(several(store), "list", "--since", time)
    assert (result.exit_code, result.stdout) == (USAGE, "")
    assert "Invalid value for '--since'" in result.stderr


def test_list_leaves_uncertain_versions_out(store: Path) -> None:
    """What a rule may or may not take is listed with ``--uncertain`` only."""
    fill(store, user_write(), topology=BY_TAG)
    assert keys(store) == []
    (record,) = objects(store, "list", "--uncertain")
    assert (record["status"], record["destinations"][0]["status"]) == ("UNCERTAIN", "UNCERTAIN")
    assert rows(store, "list", "--uncertain")[0]["destination_bucket"] == REPLICA


def test_undecided_version_has_a_row(store: Path) -> None:
    """A version of which nobody knows the source yet is in every form of ``--uncertain``."""
    fill(store, written("left"), written("right"), topology=INFERRED)
    (row,) = rows(store, "list", "--uncertain")
    assert (row["key"], row["version_id"], row["status"], row["source_bucket"]) == (KEY, VERSION, "UNCERTAIN", "")
    assert f"s3://?/{KEY}" in asked(store, "list", "--uncertain")


def test_list_as_plain_text(store: Path) -> None:
    """In a pipe the table has aligned columns and whole values, whatever the width of the terminal."""
    fill(store, user_write(key="k" * 200), failed(key="k" * 200))
    lines = asked(store, "list").splitlines()
    name = f"s3://orders/{'k' * 200}"
    assert lines == [
        f"WRITTEN (UTC)        {'OBJECT':<{len(name)}}  {'VERSION':<32}  DESTINATION  STATUS  LAG  REASON",
        f"2026-11-22 07:00:00  {name}  {VERSION}  orders-dr    FAILED    -  DstKmsKeyNotFound",
    ]


def test_list_repeats_the_object_in_a_pipe(store: Path) -> None:
    """Each line of the plain table stands for itself, so that grep finds all copies of an object."""
    fill(store, user_write(), replica(), replica(AUDIT), topology=TWO_DESTINATIONS)
    assert [NAME in line for line in asked(store, "list").splitlines()] == [False, True, True]


def test_list_names_the_object_once_on_a_terminal(store: Path) -> None:
    """A terminal shows the object beside its first copy only."""
    fill(store, user_write(key="once"), replica(key="once"), replica(AUDIT, key="once"), topology=TWO_DESTINATIONS)
    seen = look("--store", str(store), "list", columns=160)
    assert (seen.count("s3://orders/once"), seen.count("COMPLETED")) == (1, 2)


@pytest.mark.parametrize("columns", [80, 160])
def test_list_fits_the_terminal(columns: int, store: Path) -> None:
    """On a terminal no line is wider than it, and no part of a key is lost."""
    key = "abcdefghij" * 12
    fill(store, user_write(key=key), failed(key=key))
    plain = escape_free(look("--store", str(store), "list", columns=columns))
    assert max(len(line.rstrip()) for line in plain.splitlines()) <= columns
    assert sum(plain.count(letter) for letter in "ghij") >= 4 * 12


def escape_free(text: str) -> str:
    """The text without colours."""
    found = ""
    for number, part in enumerate(text.split("\x1b[")):
        found += part if number == 0 else part.partition("m")[2]
    return found


HOSTILE = "a\x1b[2J\x1b]0;x\x07b\nc\td\x9be\u202ef\u2028[red]g[/red]:smile:"
SHOWN = "a\\x1b[2J\\x1b]0;x\\x07b\\x0ac\\x09d\\x9be\\u202ef\\u2028[red]g[/red]:smile:"


def test_hostile_key_is_escaped_in_a_pipe(store: Path) -> None:
    """Neither table nor block passes on a control character, and the line stays one line."""
    fill(store, user_write(key=HOSTILE), replica(key=HOSTILE))
    assert SHOWN in asked(store, "list").splitlines()[1]
    assert asked(store, "status", f"s3://{SOURCE}/{HOSTILE}").splitlines()[0] == f"s3://{SOURCE}/{SHOWN}"


def test_hostile_key_is_escaped_on_a_terminal(store: Path) -> None:
    """A key's control sequences and markup reach the terminal as plain text."""
    fill(store, user_write(key=HOSTILE), replica(key=HOSTILE))
    seen = look("--store", str(store), "list", columns=200)
    assert SHOWN in seen
    assert ("\x1b[2J" in seen, "\x07" in seen, "\u202e" in seen) == (False, False, False)


def test_hostile_key_survives_csv_and_json(store: Path) -> None:
    """Forms for programs give the key back as it is."""
    key = HOSTILE + '",\r\n"quoted"'
    fill(store, user_write(key=key), replica(key=key))
    assert rows(store, "list")[0]["key"] == key
    assert keys(store) == [key]


@given(st.text())
def test_escaped_text_is_printable(text: str) -> None:
    """Any text becomes printable, and printable text stays as it is."""
    assert escape(text).isprintable()
    assert escape(escape(text)) == escape(text)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(key=st.text(st.characters(codec="utf-8"), min_size=1, max_size=40))
def test_every_key_is_found_again(key: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whatever a key holds, ``status`` finds its object, and CSV and JSON give it back."""
    store = fill(tmp_path_factory.mktemp("key") / "a.db", user_write(key=key), replica(key=key))
    assert [record["key"] for record in objects(store, "status", f"s3://{SOURCE}/{key}")] == [key]
    assert rows(store, "list")[0]["key"] == key


# ---- status


def test_status_of_a_completed_copy(store: Path) -> None:
    """The block tells version, size, time, status and lag."""
    fill(store, user_write(size=520_080), replica())
    assert asked(store, "status", NAME).splitlines() == [
        NAME,
        f"  version  {VERSION}",
        "  size     520,080 bytes (508 KiB)",
        "  written  2026-11-22 07:00:00 UTC",
        "  status   COMPLETED",
        "",
        f"  -> {REPLICA} (rule to-{REPLICA}): COMPLETED",
        "     replicated at 2026-11-22 07:00:10 UTC, 10.0s after the write (the replica was seen)",
    ]


def test_status_of_a_failed_copy(store: Path) -> None:
    """A failure is told with reason, cause, fix and whether a retry helps; the exit status is 3."""
    fill(store, user_write(), failed())
    assert asked(store, "status", NAME, status=PROBLEMS).splitlines()[-5:] == [
        f"  -> {REPLICA} (rule to-{REPLICA}): FAILED",
        "     failed at 2026-11-22 07:00:30 UTC: DstKmsKeyNotFound (S3 reported it)",
        "     cause: the KMS key that the rule names for replicas does not exist in the destination's Region",
        "     fix: name an existing key of the destination's Region in the replication rule",
        "     retry: helps once that is done (S3 Batch Replication)",
    ]


def test_status_of_a_failure_that_no_retry_helps(store: Path) -> None:
    """Where a retry is in vain, the block says so."""
    fill(store, user_write(), failed(reason="DstObjectHardDeleted"))
    assert asked(store, "status", NAME, status=PROBLEMS).splitlines()[-1] == "     retry: does not help"


def test_status_of_a_denied_call(store: Path) -> None:
    """The action that was denied is named in the cure."""
    fill(store, user_write(), denied_write())
    told = asked(store, "status", NAME, status=PROBLEMS)
    assert "not authorized to perform: s3:ReplicateObject (a call of S3 was denied)" in told
    assert "     fix: allow s3:ReplicateObject to the replication role" in told


def test_status_of_an_unknown_reason(store: Path) -> None:
    """A reason that nobody knows yet is shown as it is, and said to be unknown."""
    fill(store, user_write(), failed(reason="DstMoonTooFar"))
    told = asked(store, "status", NAME, status=PROBLEMS)
    assert ": DstMoonTooFar (S3 reported it)" in told
    assert "     cause: not in the catalogue of reasons" in told


def test_status_of_a_repaired_copy(store: Path) -> None:
    """A copy that failed first and came later is no problem; its failure is told as history."""
    fill(store, user_write(), failed(), confirmed())
    assert asked(store, "status", NAME).splitlines()[-2:] == [
        "     replicated at 2026-11-22 07:20:00 UTC, 20m after the write (the replica was seen)",
        "     before that, it failed at 2026-11-22 07:00:30 UTC: DstKmsKeyNotFound",
    ]


@pytest.mark.parametrize(
    ("newest", "state", "status"),
    [
        (AT + 15 * MINUTE_MS, "waiting for 15m at 2026-11-22 07:15:00 UTC, due in 0ms", OK),
        (AT + 15 * MINUTE_MS + 1, "waiting for 15m at 2026-11-22 07:15:00.001 UTC, overdue by 1ms", PROBLEMS),
        (NEWEST, "waiting for 1h at 2026-11-22 08:00:00 UTC, overdue by 45m", PROBLEMS),
    ],
)
def test_status_of_a_pending_copy(newest: int, state: str, status: int, store: Path) -> None:
    """A pending copy is a problem once its deadline has passed; in a replay the newest event is the clock."""
    fill(store, user_write(), newest=newest)
    assert asked(store, "status", NAME, status=status).splitlines()[-1] == f"     {state}"


def test_status_says_which_clock_it_is(store: Path) -> None:
    """Of old logs, and where nothing has come for long, standard error says by what time a copy is overdue, or not."""
    fill(store, user_write())
    old = "these are old logs: the time is that of the newest event, 2026-11-22 08:00:00 UTC\n"
    assert call(store, "status", NAME).stderr == old
    asked_then = call(store, "status", NAME, "--as-of", "2026-11-22T07:15:00Z")
    assert (asked_then.exit_code, asked_then.stderr) == (OK, "")
    assert "waiting for 15m at 2026-11-22 07:15:00 UTC, due in 0ms" in asked_then.stdout
    at = system_clock() - 5 * HOUR_MS
    live = fill(store.parent / "live.db", user_write(at=at), newest=at)
    with closing(SqliteStore(live)) as kept:
        feed_live(kept, "queue", AT)
    quiet = call(live, "status", NAME)
    assert (quiet.exit_code, quiet.stderr) == (
        PROBLEMS,
        f"no event has come for 5h: the newest is of {time_text(at)} UTC\n",
    )


@pytest.mark.parametrize("command", ["list", "retry"])
def test_from_when_lengths_of_time_count(command: str, store: Path) -> None:
    """Of old logs standard error says that they count from the newest event; of a time nothing has to be said."""
    fill(store, user_write(), failed())
    old = "these are old logs: the time is that of the newest event, 2026-11-22 08:00:00 UTC\n"
    assert call(store, command, "--since", "2h").stderr.startswith(old)
    assert old not in call(store, command, "--since", "2026-11-22T06:00:00Z").stderr


def test_status_counts_by_the_rpo_setting(store: Path) -> None:
    """The deadline of a pending copy is that of the setting ``rpo_seconds``."""
    fill(store, user_write())
    for seconds, status in (("3599", PROBLEMS), ("3600", OK)):
        done = run("--store", str(store), "status", NAME, CRR_MONITOR_RPO_SECONDS=seconds)
        assert done.returncode == status


def test_status_of_a_deleted_version(store: Path) -> None:
    """A version that was deleted before a replica was seen is no problem."""
    fill(store, user_write(), deleted())
    told = asked(store, "status", NAME)
    assert told.splitlines()[-1] == "     the version was deleted at the source before a replica was seen"


def test_status_of_an_uncertain_copy(store: Path) -> None:
    """Where nobody knows whether a rule takes a version, the block says why; that is no problem."""
    fill(store, user_write(), topology=BY_TAG)
    told = asked(store, "status", NAME)
    assert "whether a rule takes it is not known" in told
    assert objects(store, "status", NAME)[0]["status"] == "UNCERTAIN"


def test_status_without_the_sources_event(store: Path) -> None:
    """A replica without its source's event is completed, with its time and lag unknown."""
    fill(store, replica())
    told = asked(store, "status", f"s3://{REPLICA}/{KEY}")
    assert "  written  not known: its event is missing" in told
    assert "replicated at 2026-11-22 07:00:10 UTC, lag not known" in told


def test_status_of_a_delete_marker(store: Path) -> None:
    """A delete marker is called one, and has no size."""
    topology = Topology([config(rule(delete_markers=True))])
    fill(store, user_write(delete_marker=True), replica(delete_marker=True), topology=topology)
    told = asked(store, "status", NAME).splitlines()
    assert "  kind     delete marker" in told
    assert not any(line.startswith("  size") for line in told)


def test_status_takes_source_and_destination(store: Path) -> None:
    """The same record is found under the source's name and under a destination's."""
    fill(store, user_write(), replica())
    assert objects(store, "status", NAME) == objects(store, "status", f"s3://{REPLICA}/{KEY}")


def test_status_shows_all_versions_or_one(store: Path) -> None:
    """All versions come, the newest first, and one bad among them makes the status 3; ``--version-id`` picks one."""
    later = AT + MINUTE_MS
    fill(store, user_write(), failed(), user_write(version_id="v2", at=later), replica(version_id="v2", at=later + 1))
    assert [record["version_id"] for record in objects(store, "status", NAME, status=PROBLEMS)] == ["v2", VERSION]
    assert [record["version_id"] for record in objects(store, "status", NAME, "--version-id", "v2")] == ["v2"]
    assert asked(store, "status", NAME, status=PROBLEMS).count(f"{NAME}\n") == 2


def test_status_decodes_nothing(store: Path) -> None:
    """A key is taken as it is: blanks, plus, per cent, question mark, hash and slashes mean themselves."""
    key = "/a b?c#d%20+//e/"
    fill(store, user_write(key=key), replica(key=key))
    assert [record["key"] for record in objects(store, "status", f"s3://{SOURCE}/{key}")] == [key]


def test_status_of_nothing_known(store: Path) -> None:
    """An object of which nothing is known ends with 1 and possible reasons, its URL encoding among them."""
    fill(store, user_write(), replica())
    done = run("--store", str(store), "status", f"s3://{SOURCE}/a%20b", "-o", "json")
    assert (done.returncode, done.stdout) == (FAILED, "")
    assert done.stderr == (
        f"crr-monitor: nothing is known of s3://{SOURCE}/a%20b: no event of it was ingested, or no rule takes it, or it"
        " was settled and did not change for 24 hours, or its bucket is neither source nor destination, or the key is"
        " URL-encoded here: write it as it is\n"
    )


def test_status_of_an_unknown_version(store: Path) -> None:
    """Where other versions are known, the line says how many."""
    fill(store, user_write(), replica())
    done = run("--store", str(store), "status", NAME, "--version-id", "nonesuch")
    line = f"crr-monitor: nothing is known of version nonesuch of {NAME}, but of 1 other: leave out --version-id\n"
    assert (done.returncode, done.stderr) == (FAILED, line)


@pytest.mark.parametrize("name", ["orders/key", "s3://", "s3://orders", "s3://orders/", "s3:///key", "S3://orders/key"])
def test_status_refuses_what_is_no_object(name: str, store: Path) -> None:
    """Anything but ``s3://bucket/key`` is wrong usage."""
    result = call(fill(store, user_write()), "status", name)
    assert (result.exit_code, result.stdout) == (USAGE, "")


def test_status_refuses_what_is_no_utf8(store: Path) -> None:
    """A key that is not valid UTF-8 cannot be, and is refused as wrong usage."""
    assert call(fill(store, user_write()), "status", f"s3://{SOURCE}/\udcff").exit_code == USAGE


@pytest.mark.parametrize(
    "arguments",
    [("status", f"s3://{SOURCE}/a", "--version-id"), ("list", "--prefix"), ("retry", "--prefix")],
    ids=["status", "list", "retry"],
)
def test_what_is_compared_with_keys_is_utf8(arguments: tuple[str, ...], store: Path) -> None:
    """A prefix or a version id that is not valid UTF-8 is wrong usage, and the option is named."""
    result = call(fill(store, user_write()), *arguments, "\udcff")
    assert result.exit_code == USAGE
    assert f"Invalid value for '{arguments[-1]}': '\\udcff' is not valid UTF-8" in result.stderr


@pytest.mark.parametrize("command", ["list", "retry", "stats"])
def test_a_time_that_ends_before_it_begins(command: str, store: Path) -> None:
    """``--since`` after ``--until`` is wrong usage, not an empty answer."""
    result = call(fill(store, user_write()), command, "--since", "1h", "--until", "2h")
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (USAGE, "Error: --since is not before --until")


def test_live_store_ages_by_the_clock(tmp_path: Path) -> None:
    """Where events come as they happen, the real time is the clock, also when no more come."""
    from crr_monitor.stores.base import Batch, system_clock  # noqa: PLC0415 - only this test has a store of today
    from crr_monitor.stores.sqlite import SqliteStore  # noqa: PLC0415
    from tests.factories import merged_by_version  # noqa: PLC0415

    now = system_clock()
    path = tmp_path / "live.db"
    store = SqliteStore(path, clock=lambda: now - DAY_MS)
    store.learn([(config, True) for config in ONE_WAY.configs])
    event = user_write(at=now - DAY_MS)
    store.apply(Batch(evidence=merged_by_version([event], ONE_WAY), newest_event=event.at))
    store.close()
    assert "overdue by 23h45m" in asked(path, "status", NAME, status=PROBLEMS)
    assert format_time(now - DAY_MS)[:10] in asked(path, "list", "--since", "25h")
