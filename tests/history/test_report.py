"""The monthly report: its numbers are those of SQL and of the truth, and it shows what could not be seen."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections import Counter
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest

from crr_monitor.core.archive import all_rows
from crr_monitor.core.times import DAY_MS, HOUR_MS, MINUTE_MS
from crr_monitor.history.ask import opened
from crr_monitor.history.driver import HistoryError
from crr_monitor.history.queries import QUERIES
from crr_monitor.history.report import Wanted, build, month_span, step_of
from crr_monitor.history.report_page import duration, html, markdown, percent, size
from crr_monitor.simulate import Plan
from tests.factories import AT, answered, failed, replica, user_write
from tests.history.making import RECORDED, archived, asked, rows_of, simulated, true_copies

if TYPE_CHECKING:
    from pathlib import Path

    from crr_monitor.core.archive import ArchiveRow

MONTH = month_span("2026-11")


def reported(folder: Path, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - any field of what is wanted
    """The report of November 2026, seen from its end."""
    wanted = Wanted(**{"month": "2026-11", "span": MONTH, "as_of": MONTH.until, **more})
    with opened(folder, folder / ".work") as database:
        return build(database, wanted)


def one_pair(tmp_path: Path, rows: list[ArchiveRow], **more: Any) -> dict[str, Any]:  # noqa: ANN401
    """The only pair of a report about these rows."""
    (pair,) = reported(archived(tmp_path, rows), **more)["pairs"]
    found: dict[str, Any] = pair
    return found


PLAN = Plan(
    seed=9,
    objects=2_000,
    failure_rate=0.1,
    repaired_share=0.5,
    pending_rate=0.02,
    loss_rate=0.02,
    duration_ms=5 * DAY_MS,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive of five simulated days."""
    records, newest = simulated(PLAN)
    folder = tmp_path_factory.mktemp("report") / "archive"
    return archived(folder, [row for record in records for row in all_rows(record, newest + HOUR_MS, "open")])


@pytest.fixture(scope="module")
def report(folder: Path) -> dict[str, Any]:
    """Its report."""
    return reported(folder)


def test_counts_are_those_of_the_truth(report: dict[str, Any]) -> None:
    """Copies per pair, operation and status are what was simulated."""
    true = Counter((copy["destination_bucket"], copy["operation"], copy["status"]) for copy in true_copies(PLAN))
    found: Counter[tuple[str, str, str]] = Counter()
    for pair in report["pairs"]:
        bucket = pair["destination"]["bucket"]
        for operation, figures in (("put", pair), ("delete_marker", pair.get("delete_markers", {}))):
            for status in ("completed", "failed", "pending", "source_deleted", "not_eligible"):
                found[bucket, operation, status.upper()] += figures.get(status, 0)
    assert +found == true


def test_attained_shares_are_those_of_the_truth(report: dict[str, Any]) -> None:
    """Within, missed and unknown follow the contract: a failure that was repaired later is missed."""
    true: Counter[tuple[str, str]] = Counter()
    for copy in true_copies(PLAN):
        if copy["operation"] != "put" or copy["status"] in {"SOURCE_DELETED", "NOT_ELIGIBLE"}:
            continue
        if copy["status"] != "COMPLETED" or copy["failed_at"] is not None:
            verdict = "missed"
        elif copy["lag_seconds"] is None:
            verdict = "unknown"
        else:
            verdict = "within" if copy["lag_seconds"] <= 900 else "missed"
        true[copy["destination_bucket"], verdict] += 1
    found: Counter[tuple[str, str]] = Counter()
    for pair in report["pairs"]:
        for verdict in ("within", "missed", "unknown"):
            found[pair["destination"]["bucket"], verdict] += pair["sla"][verdict]
    assert +found == true


def test_numbers_are_those_of_the_shipped_queries(folder: Path, report: dict[str, Any]) -> None:
    """RPO, lag per day and failures by reason are the same from the report and from ``query --name``."""
    rpo = {
        (row["source_bucket"], row["destination_bucket"]): row
        for row in asked(folder, QUERIES["rpo-by-month"].sql(MONTH))
        if row["operation"] == "put"
    }
    lags = asked(folder, QUERIES["lag-by-day"].sql(MONTH))
    assert [{**row, "day": row["written_on"]} | {"written_on": None} for row in lags] == [
        {**row, "written_on": None} for row in report["lag_by_day"]
    ]
    reasons = asked(folder, QUERIES["failures-by-reason"].sql(MONTH))
    for pair in report["pairs"]:
        name = (pair["source"]["bucket"], pair["destination"]["bucket"])
        assert {**pair["sla"], "step": None} == {
            "within": rpo[name]["within"],
            "missed": rpo[name]["missed"],
            "unknown": rpo[name]["unknown"],
            "share": rpo[name]["share"],
            "step": None,
        }
        assert pair["failures"] == [
            {key: value for key, value in row.items() if not key.endswith("_bucket")}
            for row in reasons
            if (row["source_bucket"], row["destination_bucket"]) == name
        ]


def test_region_pairs_sum_the_pairs_in_them(report: dict[str, Any]) -> None:
    """The share per pair of Regions counts each object once, and no delete marker."""
    by_regions: Counter[tuple[str, str]] = Counter()
    for pair in report["pairs"]:
        by_regions[pair["source"]["region"], pair["destination"]["region"]] += pair["copies"]
    assert by_regions == {
        (row["source_region"], row["destination_region"]): row["copies"] for row in report["region_pairs"]
    }


def test_a_pair_can_be_chosen(folder: Path) -> None:
    """Only the pair that is named is reported; a source alone stands for all its destinations."""
    chosen = reported(folder, pairs=(("orders", "orders-audit"),))["pairs"]
    assert [pair["destination"]["bucket"] for pair in chosen] == ["orders-audit"]
    chosen = reported(folder, pairs=(("orders", ""),))["pairs"]
    assert [pair["destination"]["bucket"] for pair in chosen] == ["orders-audit", "orders-dr"]


def test_the_own_rpo_is_beside_the_sla(tmp_path: Path) -> None:
    """A copy that took ten minutes is within 15 minutes, and beyond an RPO of five."""
    pair = one_pair(tmp_path, rows_of(user_write(), replica(at=AT + 10 * MINUTE_MS)), rpo_seconds=300)
    assert (pair["sla"]["within"], pair["sla"]["missed"]) == (1, 0)
    assert (pair["rpo"]["within"], pair["rpo"]["missed"]) == (0, 1)
    assert pair["missed_rpo_minutes"] == 5.0


def test_minutes_beyond_the_rpo_are_counted_once(tmp_path: Path) -> None:
    """Two copies that are late at the same time make one stretch; a third makes another."""
    late = [
        row
        for key, begin, end in (("a", 0, 60), ("b", 20, 70), ("c", 200, 216))
        for row in rows_of(user_write(key=key, at=AT + begin * MINUTE_MS), replica(key=key, at=AT + end * MINUTE_MS))
    ]
    assert one_pair(tmp_path, late)["missed_rpo_minutes"] == 56.0  # 15 to 70, and 215 to 216


def test_pending_is_missed_once_its_deadline_passed(tmp_path: Path) -> None:
    """A copy that is pending counts when what was known reached beyond its deadline, and not before."""
    rows = rows_of(user_write(), at=AT + 900_000) + rows_of(user_write(key="late"), at=AT + 900_001)
    pair = one_pair(tmp_path, rows)
    assert (pair["pending"], pair["sla"]) == (
        2,
        {"within": 0, "missed": 1, "unknown": 0, "share": 0.0, "step": "below 95 %"},
    )


def test_a_copy_known_without_its_time_is_unknown(tmp_path: Path) -> None:
    """It counts neither way, and the evidence says that its time of arrival is missing."""
    folder = archived(tmp_path, rows_of(user_write(), answered("completed")))
    report = reported(folder)
    assert report["pairs"][0]["sla"] == {"within": 0, "missed": 0, "unknown": 1}
    assert report["evidence"][0]["without_arrival_time"] == 1


def test_blind_hours_are_shown(tmp_path: Path) -> None:
    """Replicas whose source's event is missing show when the monitor was blind, and silence is told apart from it."""
    seen = rows_of(user_write(), replica())
    blind = rows_of(replica(key="orphan", at=AT + 2 * HOUR_MS))
    evidence = reported(archived(tmp_path, seen + blind), as_of=AT + 4 * HOUR_MS)["evidence"]
    named = next(part for part in evidence if part["copies"] == 2)
    kinds = [(part["kind"], part["since"][11:16], part["until"][11:16], part["hours"]) for part in named["periods"][1:]]
    assert named["without_source_event"] == 1
    assert kinds == [
        ("silent", "08:00", "09:00", 1),
        ("source events missing", "09:00", "10:00", 1),
        ("silent", "10:00", "11:00", 1),
    ]
    assert named["hours"] == 21 * 24 + 11


def test_backlog_rises_and_falls(tmp_path: Path) -> None:
    """Two copies wait, one arrives two hours later, the other never does."""
    rows = rows_of(user_write(), replica(at=AT + 2 * HOUR_MS)) + rows_of(user_write(key="b"), failed(key="b"))
    backlog = reported(archived(tmp_path, rows))["backlog"]
    assert [(row["moment"][11:13], row["copies"]) for row in backlog] == [("07", 2), ("09", 1)]


def test_an_empty_month_is_a_report_too(folder: Path) -> None:
    """A month without copies has no shares, and its page says so."""
    empty = reported(folder, month="2026-01", span=month_span("2026-01"))
    assert (empty["pairs"], empty["region_pairs"]) == ([], [])
    assert "No object of this month is in the archive" in html(empty)


class _Page(HTMLParser):
    """What a page refers to, and the text in it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.references: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.references += [f"{tag} {name}" for name, _ in attrs if name in {"src", "href", "srcset", "data"}]
        self.references += [tag] if tag in {"script", "link", "img", "iframe"} else []

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_shows_the_numbers_and_needs_nothing_else(report: dict[str, Any]) -> None:
    """Each pair's counts stand on the page; it has no script and loads nothing; its drawings are whole."""
    page = html(report)
    parsed = _Page(page)
    assert parsed.references == []
    assert "url(" not in page
    for pair in report["pairs"]:
        assert f"{pair['copies']:,}" in parsed.text
        assert percent(pair["sla"]["share"]) in parsed.text
    drawings = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(drawings) >= 2 * len(report["pairs"])
    for drawing in drawings:
        ET.fromstring(drawing)  # noqa: S314 - our own page


def test_names_cannot_act_on_the_page(tmp_path: Path) -> None:
    """A bucket's name comes from messages: markup in it is shown, not obeyed."""
    bad = "<script>alert(1)</script>|x"
    rows = rows_of(user_write(bad), failed(source=bad, reason="<b>"))
    report = reported(archived(tmp_path, rows))
    assert "<script>" not in html(report)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;|x" in html(report)
    assert "&lt;script>alert(1)&lt;/script>\\|x" in markdown(report)


def test_what_was_left_out_is_told_in_both_forms(report: dict[str, Any]) -> None:
    """Where only the longest periods are shown, page and Markdown say how many are not."""
    one = {**report["evidence"][0], "periods_left_out": 7}
    one["periods"] = [{"kind": "silent", "since": report["since"], "until": report["until"], "hours": 1}]
    told = {**report, "evidence": [one, *report["evidence"][1:]]}
    for form in (html, markdown):
        assert form(told).count("These are the longest; 7 shorter ones are left out.") == 1


def test_markdown_has_the_same_numbers(report: dict[str, Any]) -> None:
    """Each pair's row has its counts."""
    text = markdown(report)
    for pair in report["pairs"]:
        rpo = pair["rpo"]
        assert f"| {rpo['within']} | {rpo['missed']} | {rpo['unknown']} | {percent(rpo['share'])} |" in text


@pytest.mark.parametrize(
    ("share", "step"),
    [
        (1.0, "99.9 % or more"),
        (0.999, "99.9 % or more"),
        (0.99899, "98 to 99.9 %"),
        (0.95, "95 to 98 %"),
        (0.1, "below 95 %"),
    ],
)
def test_steps_begin_at_their_lower_end(share: float, step: str) -> None:
    """A share that reaches a step's lower end is on it."""
    assert step_of(share) == step


def test_a_share_is_cut_so_that_a_missed_step_never_looks_attained() -> None:
    """99.8999 % is not shown as 99.9 %."""
    assert (percent(0.998999), percent(1.0), percent(None)) == ("99.899 %", "100.000 %", "\N{EN DASH}")


def test_figures_for_people() -> None:
    """Bytes and lengths of time have the unit that suits them."""
    assert (size(999), size(1_500), size(2_500_000_000)) == ("999 bytes", "1.5 KB", "2.5 GB")
    assert [duration(each) for each in (8.0, 90, 7_200, 200_000, None)] == [
        "8.0 s",
        "1.5 min",
        "2.0 h",
        "2.3 d",
        "\N{EN DASH}",
    ]


@pytest.mark.parametrize("month", ["2026-13", "2026-1", "26-01", "0000-01", "9999-12", "nonsense"])
def test_what_is_no_month_is_refused(month: str) -> None:
    """The error names it and shows how a month is written."""
    with pytest.raises(HistoryError, match=r"is no month|outside"):
        month_span(month)


def test_december_ends_where_january_begins() -> None:
    """A month is taken whole, across the end of the year."""
    assert month_span("2026-12").until == month_span("2027-01").since
    assert month_span("2026-11").since < RECORDED < month_span("2026-11").until
