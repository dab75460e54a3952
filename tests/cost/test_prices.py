"""The price list: complete, dated, and overridden by files that say what they mean."""

from __future__ import annotations

import re
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crr_monitor.cost.calls import METRICS_AT_ONCE, SOURCES, Volume, metrics_usages, original_usages, rtc_usages, usages
from crr_monitor.cost.prices import PRICES, UNDATED, Price, PriceError, PriceList, parse_prices
from crr_monitor.cost.repair import failure_event_usages, quote, repair_usages

NAMES = [price.name for price in PRICES]
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
AMOUNTS = st.decimals(0, 1_000_000, allow_nan=False, places=10)


def error_of(text: str) -> str:
    """The text of the error that a price file gives."""
    with pytest.raises(PriceError) as caught:
        parse_prices(text)
    return str(caught.value)


def test_names_are_unique() -> None:
    """No price is declared twice."""
    assert len(set(NAMES)) == len(NAMES)


def test_every_price_is_used() -> None:
    """The usages name exactly the prices of the list, no other and no fewer."""
    volume = Volume(objects_per_day=1, archive=True)
    found = [usage for source in SOURCES for usage in usages(volume, source, "Scheduled")]
    found += [*original_usages(volume), *metrics_usages(volume), *rtc_usages(volume)]
    found += repair_usages(versions=1, copies=1, size=1)
    assert {usage.price for usage in found} == set(NAMES)


def test_every_price_names_its_page_and_date() -> None:
    """Each price has a unit, an AWS page, and a year and month, or says that it is undated."""
    for price in PRICES:
        assert price.unit
        assert "pricing" in price.page
        assert price.as_of == UNDATED or re.fullmatch(r"20\d\d-(0[1-9]|1[0-2])", price.as_of)


def test_quote_of_a_repair() -> None:
    """A job over 2 million versions with 3 million copies of 10 GB is 17.45 USD, of which some prices are undated."""
    told = quote(repair_usages(2_000_000, 3_000_000, 10 * 10**9), PriceList())
    assert (told.usd, told.as_of) == (Decimal("17.45"), UNDATED)


def test_quote_of_failure_events() -> None:
    """S3's metrics for two rules are eight custom metrics, by a price with a date."""
    told = quote(failure_event_usages(2), PriceList())
    assert (told.usd, told.as_of) == (Decimal("2.40"), "2026-02")


def test_cost_of_a_quantity() -> None:
    """3,000 requests at 0.40 for a million are 0.0012."""
    assert PriceList()["sqs_request"].cost(Decimal(3_000)) == Decimal("0.0012")


def test_override_changes_one_price() -> None:
    """An overridden price has the file's value, is undated without as_of, and all others stay."""
    found = parse_prices("[sqs_request]\nusd = 0.5\n")
    assert found["sqs_request"] == Price("sqs_request", Decimal("0.5"), 1_000_000, "requests", "Amazon SQS pricing")
    assert [price for price in found if price.name != "sqs_request"] == [
        price for price in PRICES if price.name != "sqs_request"
    ]


def test_override_of_all_settings() -> None:
    """A price file may also say for how many units, by which page, and as of when."""
    found = parse_prices('[s3_put]\nusd = 6\nper = 1_000_000\npage = "our contract"\nas_of = "2026-11"\n')
    assert found["s3_put"] == Price("s3_put", Decimal(6), 1_000_000, "requests", "our contract", "2026-11")


def test_list_as_a_file_is_the_same_list() -> None:
    """The list written as a price file and read again is the same, dates included."""
    assert parse_prices(PriceList().to_toml()) == PriceList()


@given(st.sampled_from(PRICES), AMOUNTS, st.integers(1, 10**12), TEXT, TEXT)
def test_any_list_as_a_file_is_the_same_list(price: Price, usd: Decimal, per: int, page: str, as_of: str) -> None:
    """So is a list with any price, unit, page and date overridden."""
    changed = msgspec.structs.replace(price, usd=usd, per=per, page=page, as_of=as_of)
    prices = PriceList({price.name: changed})
    assert parse_prices(prices.to_toml()) == prices


def test_lists_with_other_prices_differ() -> None:
    """Two lists are equal only where all prices are."""
    assert parse_prices("[s3_put]\nusd = 1\n") != PriceList()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[sqs_requests]\nusd = 1\n", "unknown price: sqs_requests (did you mean sqs_request?)"),
        ("[zzz]\nusd = 1\n", f"unknown price: zzz (there are {', '.join(NAMES)})"),
        ("[s3_put]\nusb = 1\n", "unknown setting of s3_put: usb (did you mean usd?)"),
        ("[s3_put]\nper = 1\n", "s3_put has no usd: write what 1,000 requests cost, as in usd = 0.005"),
        ("s3_put = 1\n", "s3_put is 1: write a table, [s3_put] and below it usd = 0.005"),
        ("[s3_put]\nusd = -1\n", "usd of s3_put is -1: allowed is a number from 0 to 1,000,000"),
        ("[s3_put]\nusd = nan\n", "usd of s3_put is NaN: allowed is a number from 0 to 1,000,000"),
        ("[s3_put]\nusd = 1e7\n", "usd of s3_put is 1E+7: allowed is a number from 0 to 1,000,000"),
        ("[s3_put]\nusd = true\n", "usd of s3_put is True: allowed is a number from 0 to 1,000,000"),
        ('[s3_put]\nusd = "1"\n', "usd of s3_put is 1: allowed is a number from 0 to 1,000,000"),
        ("[s3_put]\nusd = 1\nper = 0\n", "per of s3_put is 0: allowed is a whole number from 1 to 1,000,000,000,000"),
        ("[s3_put]\nusd = 1\nas_of = 2026\n", "as_of of s3_put is 2026: allowed is a text in quotes"),
    ],
)
def test_wrong_file(text: str, message: str) -> None:
    """A wrong price file is an error that names the price, the value and what is allowed."""
    assert error_of(text) == message


def test_no_toml() -> None:
    """A file that is no TOML is an error that says where it ends to be."""
    assert error_of("[").startswith("no valid TOML: ")


def test_metrics_are_put_together() -> None:
    """One request at each look puts up to a thousand metrics, two put the next thousand."""
    for pairs, requests in ((97, 8_640), (98, 17_280)):  # ten metrics of a pair with its source bucket, 23 of all
        volume = Volume(objects_per_day=0, pairs=pairs, metrics="PerPair")
        found = {usage.what: usage.quantity for usage in usages(volume, "EventBridge", "Scheduled")}
        assert found["custom metrics"] == 23 + 10 * pairs
        assert found["requests that put them"] == requests
    assert METRICS_AT_ONCE == 1_000
