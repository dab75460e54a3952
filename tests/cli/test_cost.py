"""``crr-monitor cost``: its forms, its options, and what it refuses."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from crr_monitor.cli.main import cli
from crr_monitor.cost.prices import PriceList, parse_prices
from tests.cli.running import FAILED, OK, USAGE, run

if TYPE_CHECKING:
    from pathlib import Path

SOURCES = ["CloudTrail", "EventBridge", "S3Notifications"]
OTHERS = ["original design", "S3 metrics", "S3 RTC"]


def printed(*arguments: str) -> str:
    """What the command prints."""
    result = CliRunner().invoke(cli, ["cost", *arguments])
    assert result.exit_code == OK, (result.output, result.exception)
    return result.stdout


def document(*arguments: str) -> dict[str, Any]:
    """The JSON document for a million objects a day."""
    found: dict[str, Any] = json.loads(printed("--objects-per-day", "1000000", "-o", "json", *arguments))
    return found


def price_file(folder: Path, text: str) -> str:
    """A price file with this text."""
    path = folder / "prices.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_all_sources_side_by_side() -> None:
    """Without --source the table has a column for each event source, a line for each service, and the total."""
    lines = printed("--objects-per-day", "1000000", "--same-batch-share", "1").splitlines()
    assert lines[0] == "Estimate for the AWS deployment: USD in a month of 30 days"
    assert lines[1] == "Objects a day: 1,000,000; destinations of each: 1; pairs: 1; mode: Scheduled; metrics: Totals"
    table = [line.split("  ") for line in lines[3 : lines.index("For comparison") - 1]]
    cells = [[cell.strip() for cell in line if cell] for line in table]
    assert cells[0] == ["SERVICE", *SOURCES]
    assert ["CloudTrail", "60.00", "-", "-"] in cells
    assert ["EventBridge", "0.00", "60.00", "-"] in cells
    assert ["SNS", "30.00", "30.00", "30.00"] in cells
    assert cells[-1][0] == "total"
    assert "  S3 RTC: 451.20" in lines


def test_one_source_shows_its_lines() -> None:
    """With --source the table shows each thing that is counted, with its quantity."""
    table = printed("--objects-per-day", "1000000", "--source", "EventBridge")
    (line,) = (line for line in table.splitlines() if "events of AWS services" in line)
    assert line.split() == ["EventBridge", "events", "of", "AWS", "services", "60,000,000", "events", "60.00"]


def test_small_costs_do_not_read_as_nothing() -> None:
    """What costs less than a cent, but something, is shown as such."""
    table = printed("--objects-per-day", "1", "--source", "EventBridge")
    (line,) = (line for line in table.splitlines() if "messages published" in line)
    assert line.split()[-1] == "<0.01"


def test_undated_prices_are_named() -> None:
    """The table says that prices have to be checked, and which of those used have no date."""
    last = printed("--objects-per-day", "1", "--source", "EventBridge").splitlines()[-1]
    assert last.startswith("List prices of us-east-1, without free tiers and discounts: check them")
    assert "Not dated: eventbridge_s3_event, " in last
    assert "cloudtrail" not in last


def test_dated_prices_are_not_named(tmp_path: Path) -> None:
    """With a date on all prices in use, none is called undated."""
    text = PriceList().to_toml().replace('"undated"', '"2026-11"')
    table = printed("--objects-per-day", "1", "--prices", price_file(tmp_path, text))
    assert "Not dated" not in table


def test_json_is_one_document() -> None:
    """The document says what was asked, the estimates with their lines, what they are compared with, and the prices."""
    found = document("--pairs", "10", "--cross-account-share", "0.5")
    assert found["volume"] == {
        "objects_per_day": 1_000_000,
        "size": 1_000_000,
        "pairs": 10,
        "destinations": 1,
        "cross_account_share": 0.5,
        "accounts": 2,
        "regions": 2,
        "same_batch_share": 0.75,
        "archive": False,
        "canaries": 0,
        "denied_reads": "No",
    }
    assert (found["mode"], found["metrics"], found["currency"], found["days"]) == ("Scheduled", "Totals", "USD", 30)
    assert [one["estimate"] for one in found["estimates"]] == SOURCES
    assert [one["estimate"] for one in found["compared"]] == OTHERS
    assert found["estimates"][0]["services"]["EventBridge"] == 30.0
    assert found["estimates"][0]["lines"][0] == {
        "service": "CloudTrail",
        "what": "data events",
        "quantity": 60_000_000.0,
        "unit": "events",
        "price": "cloudtrail_data_event",
        "usd": 60.0,
    }
    assert [price["name"] for price in found["prices"]] == [price.name for price in PriceList()]


def test_totals_are_the_sums_of_their_lines() -> None:
    """Each estimate's total is that of its lines, to a hundredth of a cent."""
    found = document()
    for one in (*found["estimates"], *found["compared"]):
        assert sum(line["usd"] for line in one["lines"]) == pytest.approx(one["usd"], abs=1e-4)


def test_csv_has_a_row_for_each_line() -> None:
    """The CSV has a flat row for each line of each estimate, those compared with included."""
    text = printed("--objects-per-day", "1000000", "--source", "S3Notifications", "-o", "csv")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert list(dict.fromkeys(row["estimate"] for row in rows)) == ["S3Notifications", *OTHERS]
    assert rows[0] == {
        "estimate": "S3Notifications",
        "service": "SNS",
        "what": "messages published",
        "quantity": "60000000.0",
        "unit": "requests",
        "price": "sns_publish",
        "usd": "30.0",
    }


def test_lines_of_json_are_the_estimates() -> None:
    """As NDJSON there is an estimate in a line."""
    lines = printed("--objects-per-day", "5", "-o", "ndjson").splitlines()
    assert [json.loads(line)["estimate"] for line in lines] == [*SOURCES, *OTHERS]


def test_reads_at_the_source() -> None:
    """With ``--denied-reads`` CloudTrail's estimate has the reads, and the other sources' have none."""
    found = document("--denied-reads", "Objects")
    lines = {one["estimate"]: [line["what"] for line in one["lines"]] for one in found["estimates"]}
    assert found["volume"]["denied_reads"] == "Objects"
    assert [source for source in SOURCES if "data events of reads" in lines[source]] == ["CloudTrail"]


def test_options_reach_the_estimate() -> None:
    """Mode, metrics, destinations, size and archive change what they should."""
    found = document(
        *("--mode", "Continuous", "--metrics", "PerPair", "--destinations", "2", "--size", "1000", "--archive")
    )
    assert (found["mode"], found["metrics"]) == ("Continuous", "PerPair")
    volume = found["volume"]
    assert (volume["pairs"], volume["same_batch_share"], volume["archive"]) == (2, 0.25, True)
    # 60 million rows of 750 bytes, and less than a tenth more for rounding.
    assert 45 * 0.047 < found["estimates"][0]["services"]["Firehose"] < 1.1 * 45 * 0.047
    # 60 million copies of 1,000 bytes are 60 GB; 8 metrics.
    assert found["compared"][2]["usd"] == pytest.approx(0.9 + 2.4)


def test_price_file_overrides(tmp_path: Path) -> None:
    """A price of the file is used in place of the list's, and listed with its date."""
    file = price_file(tmp_path, '[sns_publish]\nusd = 1\nas_of = "2026-11"\n')
    found = document("--prices", file)
    assert [one["services"]["SNS"] for one in found["estimates"]] == [60.0, 60.0, 60.0]
    (price,) = (price for price in found["prices"] if price["name"] == "sns_publish")
    assert (price["usd"], price["as_of"]) == (1.0, "2026-11")


def test_shown_prices_are_a_price_file(tmp_path: Path) -> None:
    """--show-prices prints the prices in force, without and with a file, as a file that gives the same prices."""
    assert parse_prices(printed("--show-prices")) == PriceList()
    file = price_file(tmp_path, "[sns_publish]\nusd = 1\n")
    assert parse_prices(printed("--show-prices", "--prices", file)) == parse_prices("[sns_publish]\nusd = 1\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing option '--objects-per-day'."),
        (["--objects-per-day", "-1"], "--objects-per-day is -1: allowed is a whole number from 0 to"),
        (
            ["--objects-per-day", "1", "--destinations", "2", "--pairs", "1"],
            "--pairs is 1: objects with 2 destinations",
        ),
        (
            ["--objects-per-day", "1", "--cross-account-share", "0.1", "--accounts", "1"],
            "--accounts is 1: where events come from other accounts, there are 2 at least",
        ),
        (["--objects-per-day", "1", "--accounts", "0"], "--accounts is 0: allowed is a whole number from 1 to"),
        (["--objects-per-day", "1", "--cross-account-share", "2"], "'2' is no share: write a number from 0 to 1"),
        (["--objects-per-day", "1", "--cross-account-share", "nan"], "'nan' is no share"),
        (["--objects-per-day", "1", "--same-batch-share", "half"], "'half' is no share"),
    ],
)
def test_wrong_usage(arguments: list[str], message: str) -> None:
    """A missing or senseless figure is wrong usage, and the message names the option, the value and what is allowed."""
    result = CliRunner().invoke(cli, ["cost", *arguments])
    assert result.exit_code == USAGE
    assert message in result.stderr


def test_unknown_price_is_an_error(tmp_path: Path) -> None:
    """An unknown name in a price file ends the command with status 1 and a line with the file and the nearest name."""
    file = price_file(tmp_path, "[sqs_requests]\nusd = 1\n")
    done = run("cost", "--objects-per-day", "1", "--prices", file)
    message = f"crr-monitor: the price file {file}: unknown price: sqs_requests (did you mean sqs_request?)\n"
    assert (done.returncode, done.stdout, done.stderr) == (FAILED, "", message)


def test_unreadable_price_files_are_errors(tmp_path: Path) -> None:
    """A price file that is not there, and one that is no UTF-8, end the command with status 1 and name the file."""
    missing = tmp_path / "missing.toml"
    done = run("cost", "--objects-per-day", "1", "--prices", str(missing))
    message = f"crr-monitor: cannot read the price file {missing}: No such file or directory\n"
    assert (done.returncode, done.stderr) == (FAILED, message)
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff")
    done = run("cost", "--objects-per-day", "1", "--prices", str(binary))
    assert done.returncode == FAILED
    assert done.stderr.startswith(f"crr-monitor: the price file {binary}: ")
