"""Who was watching: files beside the archive, what logs cover, and what the report makes of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from crr_monitor.core.coverage import Stretch
from crr_monitor.core.times import DAY_MS, HOUR_MS, MINUTE_MS, format_time
from crr_monitor.history import coverage
from crr_monitor.history.ask import opened
from crr_monitor.history.driver import HistoryError
from crr_monitor.history.layout import Folder
from crr_monitor.history.report import Wanted, build, month_span
from crr_monitor.history.report_page import html, markdown
from crr_monitor.history.schema import COVERAGE
from tests.cli.running import OK, call, run
from tests.factories import AT, replica, user_write
from tests.history.making import archived, asked, rows_of
from tests.messages import cloudtrail, encoded, records

if TYPE_CHECKING:
    from pathlib import Path

MONTH = month_span("2026-11")
LOG = "AWSLogs/111122223333/CloudTrail/us-east-1/2026/11/22/111122223333_CloudTrail_us-east-1_{}_ab12.json.gz"


def live(since: int, until: int, **more: Any) -> Stretch:  # noqa: ANN401 - any field
    """A monitor that watched."""
    return replace(Stretch("one", "logs", "live", "watched", since, until), **more)


def days(since: int, until: int) -> list[Stretch]:
    """A monitor that watched for days."""
    return [live(at, min(at + DAY_MS, until)) for at in range(since, until, DAY_MS)]


def load(folder: Path) -> list[Stretch]:
    """What is known of the month."""
    return coverage.load(str(folder), lambda: None, folder / "none", MONTH)


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    """Every field comes back, from a file per day; the same name replaces what was there."""
    some = [
        live(AT, AT + 1, account="111122223333", region="us-east-1", newest_event_at=AT, waiting=3),
        live(AT + DAY_MS, AT + DAY_MS + 5, state="blind", problem="é", queue_age_seconds=1.5),
    ]
    coverage.save([live(AT, AT)], Folder(tmp_path), "one")
    coverage.save(some, Folder(tmp_path), "one")
    assert load(tmp_path) == some
    assert [file.parent.name for file in sorted((tmp_path / "coverage").glob("*/*"))] == [
        "day=2026-11-22",
        "day=2026-11-23",
    ]


def test_only_the_days_that_matter_are_read(tmp_path: Path) -> None:
    """From a month before the time to its end."""
    times = (MONTH.since - 32 * DAY_MS, MONTH.since - 31 * DAY_MS, MONTH.until - 1, MONTH.until)
    coverage.save([live(at, at) for at in times], Folder(tmp_path), "one")
    assert [each.since for each in load(tmp_path)] == list(times[1:3])


def test_a_file_that_is_none_of_ours_is_named(tmp_path: Path) -> None:
    """The error names the file and says what to do."""
    file = tmp_path / "coverage" / "day=2026-11-22" / "x.ndjson"
    file.parent.mkdir(parents=True)
    for text in ("no json", '{"since": 1}', "{}"):
        file.write_text(text)
        with pytest.raises(HistoryError, match=r"x\.ndjson is no record of coverage"):
            load(tmp_path)


def test_it_can_be_asked_with_sql(tmp_path: Path) -> None:
    """The view has the declared columns; without any file it is empty."""
    archived(tmp_path, rows_of(user_write(), replica()))
    assert asked(tmp_path, "SELECT count(*) AS n FROM coverage") == [{"n": 0}]
    coverage.save([live(AT, AT + HOUR_MS, waiting=2)], Folder(tmp_path), "one")
    names = ", ".join(column.name for column in COVERAGE)
    (row,) = asked(tmp_path, f"SELECT {names} FROM coverage")
    assert {name: value for name, value in row.items() if value is not None} == {
        "monitor": "one",
        "source": "logs",
        "kind": "live",
        "state": "watched",
        "since": format_time(AT),
        "until": format_time(AT + HOUR_MS),
        "waiting": 2,
    }


def test_the_declared_columns_are_the_fields() -> None:
    """What is written has the names that the schema says."""
    assert tuple(column.name for column in COVERAGE) == (
        "monitor", "source", "kind", "state", "since", "until", "account", "region", "newest_event_at", "waiting",
        "queue_age_seconds", "problem",
    )  # fmt: skip
    assert {column.name for column in COVERAGE} == set(Stretch.__struct_fields__)


def test_logs_cover_the_time_before_their_names() -> None:
    """A quarter of an hour each, joined where they meet, per account and Region, cut at midnight; other names none."""
    stamps = ("20261122T0710Z", "20261122T0720Z", "20261122T0900Z", "20261123T0005Z")
    other = "444455556666_CloudTrail_eu-west-1_20261122T0710Z_x.json.gz"
    found = coverage.of_logs(
        [LOG.format(stamp) for stamp in stamps] + [other, "events.json", LOG.format("20261322T0710Z")]
    )
    assert [(each.account, format_time(each.since)[5:16], format_time(each.until)[5:16]) for each in found] == [
        ("111122223333", "11-22T06:55", "11-22T07:20"),
        ("111122223333", "11-22T08:45", "11-22T09:00"),
        ("111122223333", "11-22T23:50", "11-23T00:00"),
        ("111122223333", "11-23T00:00", "11-23T00:05"),
        ("444455556666", "11-22T06:55", "11-22T07:10"),
    ]
    assert {(each.kind, each.state) for each in found} == {("logs", "watched")}


@pytest.mark.parametrize("options", [[], ["--archive-only"]], ids=["through the store", "past the store"])
def test_reading_logs_tells_what_they_cover(tmp_path: Path, options: list[str]) -> None:
    """Both ways of reading logs into an archive leave their time there, and again the same changes nothing."""
    log = tmp_path / "111122223333_CloudTrail_us-east-1_20261122T0710Z_ab12.json"
    log.write_bytes(encoded(records(cloudtrail())))
    for _ in range(2):
        archive = ["--archive", str(tmp_path / "archive")]
        assert call(tmp_path / "s.db", "ingest", *options, *archive, str(log)).exit_code == OK
    (found,) = load(tmp_path / "archive")
    assert (found.account, found.region, found.until - found.since) == ("111122223333", "us-east-1", 15 * MINUTE_MS)


def reported(folder: Path, as_of: int = MONTH.until + DAY_MS, *stretches: Stretch) -> dict[str, Any]:
    """The report of November 2026, with one copy in it."""
    archived(folder, rows_of(user_write(), replica()))
    with opened(folder, folder / ".work") as database:
        return build(database, Wanted("2026-11", MONTH, as_of), stretches)


HOURS = {"hours": 720, "watched_hours": 0, "blind_hours": 0, "unknown_hours": 0}


def test_without_any_record_nothing_is_known(tmp_path: Path) -> None:
    """All hours are unknown, and silence is neither quiet nor blindness."""
    report = reported(tmp_path)
    assert {name: report["coverage"][0][name] for name in HOURS} == {**HOURS, "unknown_hours": 720}
    evidence = report["evidence"][0]
    assert (evidence["silent_hours"], evidence["quiet_hours"]) == (719, 0)
    assert {period["kind"] for period in evidence["periods"]} == {"silent"}
    assert "Nothing in the archive says when a monitor was watching" in html(report)


def test_a_pause_of_the_monitor_is_blind_and_shown(tmp_path: Path) -> None:
    """Unknown before the first beat, blind in the gap with its times, watched and quiet otherwise."""
    begin, stop = MONTH.since + 2 * DAY_MS, MONTH.since + 10 * DAY_MS
    again = stop + 5 * HOUR_MS
    report = reported(tmp_path, MONTH.until + DAY_MS, *days(begin, stop), *days(again, MONTH.until))
    counts = {**HOURS, "unknown_hours": 48, "blind_hours": 5, "watched_hours": 720 - 53}
    gap = {"kind": "blind", "since": format_time(stop), "until": format_time(again), "hours": 5}
    for place in report["coverage"]:
        assert {name: place[name] for name in HOURS} == counts
        assert {**gap, "reasons": []} in place["periods"]
    evidence = report["evidence"][0]
    assert {name: evidence[name] for name in HOURS} == counts
    assert gap in evidence["periods"]
    assert (evidence["silent_hours"], evidence["quiet_hours"]) == (719, 720 - 53 - 1)
    for page in (html(report), markdown(report)):
        assert "2026-11-11 00:00" in page
        assert "no monitor was running" in page


def test_a_monitor_that_never_came_back_is_blind_to_the_end(tmp_path: Path) -> None:
    """It watched in the month before and in none of this one's hours: all of them are blind."""
    report = reported(tmp_path, MONTH.until + DAY_MS, *days(MONTH.since - 3 * DAY_MS, MONTH.since))
    assert {name: report["coverage"][0][name] for name in HOURS} == {**HOURS, "blind_hours": 720}


def test_why_it_was_blind_is_told(tmp_path: Path) -> None:
    """The monitor's own words stand beside the time, and cannot act on the page."""
    at = MONTH.since + DAY_MS
    problem = live(at, at + HOUR_MS, state="blind", problem="access denied <b>")
    report = reported(tmp_path, MONTH.until + DAY_MS, *days(MONTH.since, MONTH.until), problem)
    (period,) = report["coverage"][0]["periods"]
    assert (period["hours"], period["reasons"]) == (1, ["logs: access denied <b>"])
    assert "logs: access denied &lt;b&gt;" in html(report)


def test_the_last_minutes_before_the_report_are_not_called_blind(tmp_path: Path) -> None:
    """What was watched just now is not in the archive yet, so nothing is said of it."""
    as_of = MONTH.since + 2 * HOUR_MS + 5 * MINUTE_MS
    report = reported(tmp_path, as_of, live(MONTH.since, as_of - 14 * MINUTE_MS))
    counts = {"hours": 3, "watched_hours": 2, "blind_hours": 0, "unknown_hours": 1}
    assert {name: report["coverage"][0][name] for name in HOURS} == counts


def test_a_pair_is_watched_where_both_its_ends_are(tmp_path: Path) -> None:
    """Logs of the source's account alone leave its pair unknown; each place has its own hours."""
    here, there = ("111122223333", "us-east-1"), ("444455556666", "eu-west-1")
    (row,) = rows_of(user_write(), replica())
    row = replace(
        row,
        source_account=here[0], source_region=here[1], destination_account=there[0], destination_region=there[1],
    )  # fmt: skip
    archived(tmp_path, [row])
    logs = [live(AT, AT + HOUR_MS, kind="logs", account=account, region=region) for account, region in (here, there)]
    for some, hours in ((logs[:1], (1, 0, 0)), (logs, (1, 1, 1))):
        with opened(tmp_path, tmp_path / ".work") as database:
            report = build(database, Wanted("2026-11", MONTH, MONTH.until), some)
        assert [(each["account"], each["region"]) for each in report["coverage"]] == [here, there]
        watched = [each["watched_hours"] for each in (*report["coverage"], report["evidence"][0])]
        assert tuple(watched) == hours


def test_an_account_that_was_not_heard_is_blind_alone(tmp_path: Path) -> None:
    """Where canaries of an account were not heard, its hours are blind, with the reason; so are those of its pair."""
    here, there = ("111122223333", "us-east-1"), ("444455556666", "eu-west-1")
    (row,) = rows_of(user_write(), replica())
    row = replace(
        row,
        source_account=here[0], source_region=here[1], destination_account=there[0], destination_region=there[1],
    )  # fmt: skip
    archived(tmp_path, [row])
    deaf = live(AT, AT + 3 * HOUR_MS, state="blind", account=there[0], region=there[1], problem="not heard")
    with opened(tmp_path, tmp_path / ".work") as database:
        wanted = Wanted("2026-11", MONTH, MONTH.until + DAY_MS)
        report = build(database, wanted, [*days(MONTH.since, MONTH.until), replace(deaf, source="canary in theirs-dr")])
    assert [each["blind_hours"] for each in (*report["coverage"], report["evidence"][0])] == [0, 3, 3]
    (period,) = report["coverage"][1]["periods"]
    assert (period["since"], period["reasons"]) == (format_time(AT), ["canary in theirs-dr: not heard"])


def test_the_month_has_to_have_begun(tmp_path: Path) -> None:
    """A month in the future is told instead of an empty report."""
    with pytest.raises(HistoryError, match=r"the month 2026-11 has not begun: name one that has"):
        reported(tmp_path, MONTH.since)


def test_a_pair_that_is_not_there_is_told_with_those_that_are(tmp_path: Path) -> None:
    """A misspelled pair is an error, and no report of nothing."""
    archived(tmp_path, rows_of(user_write(), replica()))
    wanted = Wanted("2026-11", MONTH, MONTH.until, pairs=(("order", ""),))
    with (
        opened(tmp_path, tmp_path / ".work") as database,
        pytest.raises(
            HistoryError, match=r"^no copy of order: in 2026-11 is in the archive: there are orders:orders-dr$"
        ),
    ):
        build(database, wanted)


def test_query_and_report_read_the_archive_of_the_settings(tmp_path: Path) -> None:
    """Without ``--archive`` the setting names it."""
    archived(tmp_path / "archive", rows_of(user_write(), replica()))
    settings = tmp_path / "config.toml"
    settings.write_text(f"archive = {json.dumps(str(tmp_path / 'archive'))}\n")
    options = ["--config", str(settings)]

    assert run(*options, "query", "SELECT count(*) AS n FROM copies", "-o", "csv").stdout == "n\n1\n"
    assert json.loads(run(*options, "report", "--month", "2026-11", "-o", "json").stdout)["pairs"][0]["copies"] == 1
