"""``crr-monitor cost``: an estimate of what the AWS deployment would cost in a month."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from crr_monitor.cli.output import Form, View, output_option, print_document
from crr_monitor.cli.session import PLACE, CommandError, example
from crr_monitor.cli.tables import Column, Row, paragraph, show
from crr_monitor.cost.calls import (
    DENIED_READS,
    METRICS,
    MODES,
    SOURCES,
    DeniedReads,
    Metrics,
    Mode,
    Source,
    Volume,
    VolumeError,
)
from crr_monitor.cost.estimate import SERVICES, Estimate, compared, estimate
from crr_monitor.cost.prices import REGION, UNDATED, PriceError, PriceList, parse_prices

if TYPE_CHECKING:
    from collections.abc import Iterator

CENT = Decimal("0.01")
FIELDS = ("estimate", "service", "what", "quantity", "unit", "price", "usd")
"""Columns of the flat row of a line."""


class _ShareType(click.ParamType[Decimal]):
    """A share from 0 to 1, exactly as it is written."""

    name = "share"

    def convert(self, value: str | Decimal, param: click.Parameter | None, ctx: click.Context | None) -> Decimal:
        if isinstance(value, Decimal):
            return value
        try:
            share = Decimal(value)
        except InvalidOperation:
            share = Decimal("NaN")
        if not (share.is_finite() and 0 <= share <= 1):
            self.fail(f"{value!r} is no share: write a number from 0 to 1, as in 0.5", param, ctx)
        return share


_SHARE = _ShareType()


@click.command(
    "cost",
    short_help="Estimate what the AWS deployment would cost.",
    epilog=example("crr-monitor cost --objects-per-day 1000000 --pairs 10"),
)
@click.option("--objects-per-day", type=click.INT, metavar="N", help="Object versions written in a day.")
@click.option("--size", type=click.INT, default=1_000_000, show_default=True, metavar="BYTES", help="Their mean size.")
@click.option("--pairs", type=click.INT, metavar="N", help="Replication pairs. Default: one for each destination.")
@click.option(
    "--destinations", type=click.INT, default=1, show_default=True, metavar="N", help="To how many buckets each goes."
)
@click.option(
    "--cross-account-share",
    type=_SHARE,
    default="0",
    show_default=True,
    metavar="X",
    help="Share of the events that come from other accounts than the hub's.",
)
@click.option("--accounts", type=click.INT, metavar="N", help="Accounts, the hub's included. Default: 1, or 2.")
@click.option("--regions", type=click.INT, default=2, show_default=True, metavar="N", help="Regions with such buckets.")
@click.option("--source", type=click.Choice(SOURCES), help="Only this source of events. Default: all, side by side.")
@click.option(
    "--mode", type=click.Choice(MODES), default="Scheduled", show_default=True, help="How events are processed."
)
@click.option(
    "--same-batch-share",
    type=_SHARE,
    metavar="X",
    help="Share of the copies that are processed together with their source. Default: 0.75, Continuous 0.25.",
)
@click.option(
    "--metrics", type=click.Choice(METRICS), default="Totals", show_default=True, help="Detail of CloudWatch metrics."
)
@click.option("--canaries", type=click.INT, default=0, metavar="N", help="Pairs with a canary. Default: none.")
@click.option(
    "--denied-reads",
    type=click.Choice(DENIED_READS),
    default="No",
    show_default=True,
    help="Which reads of S3 at the source the trail logs, with CloudTrail.",
)
@click.option("--archive", is_flag=True, help="With the archive through Firehose.")
@click.option(
    "--prices", "prices_file", type=PLACE, metavar="FILE", help="Prices in TOML that override the list prices."
)
@click.option("--show-prices", is_flag=True, help="Print the prices as such a file, and nothing else.")
@output_option
def command(  # noqa: PLR0913 - one for each option
    *,
    objects_per_day: int | None,
    size: int,
    pairs: int | None,
    destinations: int,
    cross_account_share: Decimal,
    accounts: int | None,
    regions: int,
    source: Source | None,
    mode: Mode,
    same_batch_share: Decimal | None,
    metrics: Metrics,
    canaries: int,
    denied_reads: DeniedReads,
    archive: bool,
    prices_file: str | None,
    show_prices: bool,
    form: Form,
) -> None:
    """Estimate what CRR Monitor's AWS deployment would cost in a month of 30 days.

    Counted calls times list prices of us-east-1, without free tiers and discounts: an estimate, no offer. Beside it
    stands what the original design, S3's replication metrics and S3 Replication Time Control would cost.
    """
    prices = PriceList() if prices_file is None else _read_prices(Path(prices_file))
    if show_prices:
        click.echo(prices.to_toml(), nl=False)
        return
    if objects_per_day is None:
        message = "Missing option '--objects-per-day'."
        raise click.UsageError(message)
    try:
        volume = Volume(
            objects_per_day=objects_per_day,
            size=size,
            pairs=destinations if pairs is None else pairs,
            destinations=destinations,
            cross_account_share=cross_account_share,
            accounts=(2 if cross_account_share else 1) if accounts is None else accounts,
            regions=regions,
            same_batch_share=same_batch_share,
            metrics=metrics,
            archive=archive,
            canaries=canaries,
            denied_reads=denied_reads,
        )
    except VolumeError as error:
        message = f"--{error.name.replace('_', '-')} is {error.problem}"
        raise click.UsageError(message) from error
    sources = SOURCES if source is None else (source,)
    ours = [estimate(volume, one, mode, prices) for one in sources]
    _print(volume, mode, ours, compared(volume, prices), prices, form)


def _read_prices(path: Path) -> PriceList:
    try:
        return parse_prices(path.read_text(encoding="utf-8"))
    except OSError as error:
        message = f"cannot read the price file {path}: {error.strerror}"
        raise CommandError(message) from error
    except (PriceError, ValueError) as error:  # ValueError: no UTF-8, or a path with a NUL
        message = f"the price file {path}: {error}"
        raise CommandError(message) from error


def _print(  # noqa: PLR0913, PLR0917 - what is printed
    volume: Volume, mode: Mode, ours: list[Estimate], others: list[Estimate], prices: PriceList, form: Form
) -> None:
    if form == "json":
        print_document(_document(volume, mode, ours, others, prices))
        return
    view: View[Estimate] = View(
        table=lambda _all: _show(volume, mode, ours, others, prices),
        body=lambda one: _body(one, prices),
        fields=FIELDS,
        rows=lambda one: _rows(one, prices),
    )
    view.print([*ours, *others], form)


# ---------------------------------------------------------------------------------------------------- for programs


def _document(
    volume: Volume, mode: Mode, ours: list[Estimate], others: list[Estimate], prices: PriceList
) -> dict[str, Any]:
    return {
        "volume": {
            "objects_per_day": volume.objects_per_day,
            "size": volume.size,
            "pairs": volume.pairs,
            "destinations": volume.destinations,
            "cross_account_share": float(volume.cross_account_share),
            "accounts": volume.accounts,
            "regions": volume.regions,
            "same_batch_share": float(volume.same_batch(mode)),
            "archive": volume.archive,
            "canaries": volume.canaries,
            "denied_reads": volume.denied_reads,
        },
        "mode": mode,
        "metrics": volume.metrics,
        "currency": "USD",
        "days": 30,
        "estimates": [_body(one, prices) for one in ours],
        "compared": [_body(one, prices) for one in others],
        "prices": [
            {
                "name": price.name,
                "usd": float(price.usd),
                "per": price.per,
                "unit": price.unit,
                "page": price.page,
                "as_of": price.as_of,
            }
            for price in prices
        ],
    }


def _body(one: Estimate, prices: PriceList) -> dict[str, Any]:
    return {
        "estimate": one.name,
        "usd": _usd(one.total),
        "services": {name: _usd(usd) for name, usd in one.by_service().items()},
        "lines": [{name: value for name, value in row.items() if name != "estimate"} for row in _rows(one, prices)],
    }


def _rows(one: Estimate, prices: PriceList) -> Iterator[dict[str, Any]]:
    for line in one.lines:
        yield {
            "estimate": one.name,
            "service": line.usage.service,
            "what": line.usage.what,
            "quantity": _usd(line.usage.quantity),
            "unit": prices[line.usage.price].unit,
            "price": line.usage.price,
            "usd": _usd(line.usd),
        }


def _usd(amount: Decimal) -> float:
    """To the ten-thousandth part of a cent: sums of rounded lines still agree with their total."""
    return float(round(amount, 6))


# ------------------------------------------------------------------------------------------------------- for people


def _show(volume: Volume, mode: Mode, ours: list[Estimate], others: list[Estimate], prices: PriceList) -> None:
    paragraph("Estimate for the AWS deployment: USD in a month of 30 days", "")
    paragraph(
        f"Objects a day: {volume.objects_per_day:,}; destinations of each: {volume.destinations:,};"
        f" pairs: {volume.pairs:,}; mode: {mode}; metrics: {volume.metrics}",
        "",
    )
    click.echo()
    if len(ours) == 1:
        _show_lines(ours[0], prices)
    else:
        _show_services(ours)
    click.echo()
    click.echo("For comparison")
    for one in others:
        click.echo(f"  {one.name}: {_money(one.total)}")
    click.echo()
    used = {line.usage.price for one in ours for line in one.lines}
    undated = [price.name for price in prices if price.name in used and price.as_of == UNDATED]
    paragraph(
        f"List prices of {REGION}, without free tiers and discounts: check them (--show-prices), override them"
        " (--prices)." + (f" Not dated: {', '.join(undated)}." if undated else ""),
        "",
    )


def _show_services(ours: list[Estimate]) -> None:
    costs = [one.by_service() for one in ours]
    names = [name for name in SERVICES if any(name in cost for cost in costs)]
    rows = [Row((name, *(_money(cost[name]) if name in cost else "-" for cost in costs))) for name in names]
    total = Row(("total", *(_money(one.total) for one in ours)))
    show((Column("SERVICE"), *(Column(one.name, right=True) for one in ours)), [*rows, total])


def _show_lines(one: Estimate, prices: PriceList) -> None:
    columns = (
        Column("SERVICE"),
        Column("WHAT", fold=True),
        Column("QUANTITY", right=True),
        Column("UNIT", wide=True),
        Column("USD", right=True),
    )
    rows = [
        Row(
            (
                line.usage.service,
                line.usage.what,
                _quantity(line.usage.quantity),
                prices[line.usage.price].unit,
                _money(line.usd),
            )
        )
        for line in one.lines
    ]
    show(columns, [*rows, Row(("total", "", "", "", _money(one.total)))])


def _money(usd: Decimal) -> str:
    """To the cent; what is less, but not nothing, does not read as nothing."""
    return "<0.01" if 0 < usd < CENT else f"{usd:,.2f}"


def _quantity(quantity: Decimal) -> str:
    return f"{quantity:,.0f}" if quantity >= 100 or quantity == int(quantity) else f"{quantity:.3g}"  # noqa: PLR2004 - three digits
