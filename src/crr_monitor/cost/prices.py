"""The price list: AWS list prices of us-east-1 as data, each with its unit, its page, and as of when it is known.

They are list prices, to be checked before anything depends on them: no free tier, no volume tier, no discount. A price
file in TOML overrides any of them::

    [sqs_request]
    usd = 0.40
    per = 1_000_000
    page = "Amazon SQS pricing"
    as_of = "2026-03"
"""

from __future__ import annotations

import difflib
import json
import tomllib
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

REGION = "us-east-1"
UNDATED = "undated"
"""No publication with a date was found that states the price: check this one first.

Copies of AWS's own pages state those of CloudTrail's data events and of DynamoDB's storage, without a date.
"""

MILLION = 1_000_000
DEAREST = 1_000_000
LARGEST_UNIT = 10**12


class PriceError(Exception):
    """A price file is wrong: the text names the price, what is wrong with it, and what is allowed."""


class Price(Struct, frozen=True):
    """``usd`` for ``per`` of ``unit``, by the AWS page named ``page``, as of the year and month ``as_of``."""

    name: str
    usd: Decimal
    per: int
    unit: str
    page: str
    as_of: str = UNDATED

    def cost(self, quantity: Decimal) -> Decimal:
        """What a quantity costs, in USD."""
        return self.usd * quantity / self.per


def _price(name: str, usd: str, per: int, unit: str, page: str, as_of: str = UNDATED) -> Price:  # noqa: PLR0913, PLR0917
    return Price(name, Decimal(usd), per, unit, page, as_of)


PRICES: tuple[Price, ...] = (
    _price("cloudtrail_data_event", "0.10", 100_000, "events", "AWS CloudTrail pricing"),
    # Whether data events that a trail hands to EventBridge count as opt-in data events, the page does not say.
    _price("eventbridge_cloudtrail_event", "0", MILLION, "events", "Amazon EventBridge pricing"),
    _price("eventbridge_s3_event", "1.00", MILLION, "events", "Amazon EventBridge pricing"),
    _price("eventbridge_cross_account_event", "1.00", MILLION, "events", "Amazon EventBridge pricing", "2026-03"),
    _price("sns_publish", "0.50", MILLION, "requests", "Amazon SNS pricing", "2026-06"),
    _price("sqs_request", "0.40", MILLION, "requests", "Amazon SQS pricing", "2026-03"),
    _price("lambda_request", "0.20", MILLION, "requests", "AWS Lambda pricing", "2026-03"),
    _price("lambda_gb_second", "0.0000133334", 1, "GB-seconds (Arm)", "AWS Lambda pricing", "2026-03"),
    _price("dynamodb_write", "0.625", MILLION, "write request units", "Amazon DynamoDB pricing, on-demand", "2025-07"),
    _price("dynamodb_read", "0.125", MILLION, "read request units", "Amazon DynamoDB pricing, on-demand", "2025-07"),
    _price("dynamodb_storage", "0.25", 1, "GB-months", "Amazon DynamoDB pricing, on-demand"),
    _price("cloudwatch_metric", "0.30", 1, "metrics", "Amazon CloudWatch pricing", "2026-02"),
    _price("cloudwatch_put", "0.01", 1_000, "requests", "Amazon CloudWatch pricing"),
    _price("cloudwatch_alarm", "0.10", 1, "alarms", "Amazon CloudWatch pricing"),
    _price("cloudwatch_dashboard", "3.00", 1, "dashboards", "Amazon CloudWatch pricing", "2026-06"),
    _price("cloudwatch_log_gb", "0.50", 1, "GB", "Amazon CloudWatch pricing", "2026-06"),
    _price("s3_put", "0.005", 1_000, "requests", "Amazon S3 pricing"),
    _price("s3_get", "0.0004", 1_000, "requests", "Amazon S3 pricing"),
    _price("s3_batch_job", "0.25", 1, "jobs", "Amazon S3 pricing, Batch Operations", "2025-09"),
    _price("s3_batch_object", "1.00", MILLION, "objects", "Amazon S3 pricing, Batch Operations"),
    _price("s3_storage", "0.023", 1, "GB-months", "Amazon S3 pricing"),
    _price("s3_rtc_gb", "0.015", 1, "GB", "Amazon S3 pricing, replication"),
    _price("transfer_gb", "0.02", 1, "GB", "Amazon EC2 on-demand pricing, data transfer", "2026-06"),
    _price("firehose_gb", "0.029", 1, "GB", "Amazon Data Firehose pricing"),
    _price("firehose_conversion_gb", "0.018", 1, "GB", "Amazon Data Firehose pricing"),
)
"""Every price that a usage may name, declared once."""


class PriceList:
    """Prices by name; those of :data:`PRICES` unless they are overridden."""

    def __init__(self, prices: Mapping[str, Price] | None = None) -> None:
        self._prices = {price.name: price for price in PRICES} | dict(prices or {})

    def __getitem__(self, name: str) -> Price:
        return self._prices[name]

    def __iter__(self) -> Iterator[Price]:
        return iter(self._prices.values())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PriceList) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment] # equal by content

    def to_toml(self) -> str:
        """A price file with all of them, which read again gives the same list."""
        return "\n".join(_table(price) for price in self)


def _table(price: Price) -> str:
    return (
        f"[{price.name}]  # USD for {price.per:,} {price.unit}\n"
        f"usd = {price.usd:f}\n"
        f"per = {price.per}\n"
        f"page = {_text(price.page)}\n"
        f"as_of = {_text(price.as_of)}\n"
    )


def _text(value: str) -> str:
    """A basic string of TOML has the escapes of JSON, and does not allow DEL as it is."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def parse_prices(text: str) -> PriceList:
    """The price list with what a price file overrides; a price without ``as_of`` in the file is undated.

    Raises:
        PriceError: no TOML, an unknown price or setting, or a value that cannot be.
    """
    try:
        document = tomllib.loads(text, parse_float=Decimal)
    except ValueError as error:
        message = f"no valid TOML: {error}"
        raise PriceError(message) from error
    known = {price.name: price for price in PRICES}
    found = {}
    for name, table in document.items():
        _check_known(name, list(known), "price")
        found[name] = _override(known[name], table)
    return PriceList(found)


def _check_known(name: str, known: list[str], what: str) -> None:
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
        message = f"unknown {what}: {name} ({hint})"
        raise PriceError(message)


def _override(price: Price, table: object) -> Price:
    if not isinstance(table, dict):
        message = f"{price.name} is {table!s}: write a table, [{price.name}] and below it usd = {price.usd:f}"
        raise PriceError(message)
    for name in table:
        _check_known(name, ["usd", "per", "page", "as_of"], f"setting of {price.name}")
    if "usd" not in table:
        message = f"{price.name} has no usd: write what {price.per:,} {price.unit} cost, as in usd = {price.usd:f}"
        raise PriceError(message)
    changes: dict[str, Any] = {"as_of": UNDATED, "usd": _amount(price, table["usd"])}
    if "per" in table:
        changes["per"] = _count(price, table["per"])
    for name in table.keys() & {"page", "as_of"}:
        if not isinstance(table[name], str):
            message = f"{name} of {price.name} is {table[name]!s}: allowed is a text in quotes"
            raise PriceError(message)
        changes[name] = table[name]
    return msgspec.structs.replace(price, **changes)


def _amount(price: Price, value: object) -> Decimal:
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        amount = Decimal(value)
        if amount.is_finite() and 0 <= amount <= DEAREST:
            return amount
    message = f"usd of {price.name} is {value!s}: allowed is a number from 0 to {DEAREST:,}"
    raise PriceError(message)


def _count(price: Price, value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= LARGEST_UNIT:
        return value
    message = f"per of {price.name} is {value!s}: allowed is a whole number from 1 to {LARGEST_UNIT:,}"
    raise PriceError(message)
