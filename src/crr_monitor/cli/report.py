"""``crr-monitor report``: what was attained in a month."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import click
from msgspec.structs import replace

from crr_monitor.cli.access import Target, aws_options
from crr_monitor.cli.arguments import SIZE
from crr_monitor.cli.output import print_document
from crr_monitor.cli.query import Asked, archive_named
from crr_monitor.cli.session import PLACE, Session, example, pass_session
from crr_monitor.core.archive import LATENESS_DAYS
from crr_monitor.history import ask, report_page
from crr_monitor.history.driver import HistoryError
from crr_monitor.history.queries import SLA_SECONDS
from crr_monitor.history.report import Wanted, build, month_span
from crr_monitor.stores.base import system_clock

if TYPE_CHECKING:
    from collections.abc import Iterable

    from crr_monitor.history.views import Span

ReportForm: TypeAlias = Literal["html", "md", "json"]
MEMORY = "2GB"


@click.command(
    "report",
    short_help="Report what replication attained in a month.",
    epilog=example("crr-monitor report --archive archive/ --month 2026-10 > 2026-10.html"),
)
@click.option(
    "--archive",
    type=PLACE,
    metavar="FOLDER",
    help="The archive: a folder, or s3://bucket/prefix. Default: the setting archive.",
)
@click.option("--month", metavar="YYYY-MM", required=True, help="The month, in UTC, by time of writing.")
@click.option(
    "--pair", "pairs", metavar="SOURCE:DESTINATION", multiple=True, help="Only this pair; either may be empty."
)
@click.option("--rpo", type=click.IntRange(1), default=SLA_SECONDS, show_default=True, help="Your own RPO, in seconds.")
@click.option(
    "--lateness",
    type=click.IntRange(0, 3_650),
    default=LATENESS_DAYS,
    show_default=True,
    help="How many days after the month rows are looked for.",
)
@click.option(
    "--memory", type=SIZE, default=MEMORY, show_default=True, metavar="SIZE", help="What the database may use."
)
@click.option("-o", "--output", "form", type=click.Choice(("html", "md", "json")), default="html", show_default=True)
@aws_options
@pass_session
def command(  # noqa: PLR0913 - one for each option
    session: Session,
    /,
    *,
    archive: str | None,
    month: str,
    pairs: tuple[str, ...],
    rpo: int,
    lateness: int,
    memory: str,
    form: ReportForm,
    region: str | None,
    profile: str | None,
    endpoint_url: str | None,
) -> None:
    """Report what replication attained in a month: RPO, lag, failures, backlog, and how complete the evidence is."""
    span = replace(_span(month), lateness_days=lateness)
    wanted = Wanted(month, span, system_clock(), rpo, tuple(_pairs(pairs)))
    asked = Asked(Target(region, profile, endpoint_url), archive_named(session, archive), memory, None)
    with asked.folder(span) as (folder, work):
        coverage = asked.coverage(span, work)
        with ask.opened(folder, work, memory) as database:
            report = build(database, wanted, coverage)
    if form == "json":
        print_document(report)
    else:
        click.echo((report_page.html if form == "html" else report_page.markdown)(report), nl=False)


def _span(month: str) -> Span:
    try:
        span = month_span(month)
    except HistoryError as error:
        raise click.BadParameter(str(error), param_hint="'--month'") from error
    if span.since < 0:
        message = f"{month!r} is before 1970, and no time in an archive is: write it as in 2026-10"
        raise click.BadParameter(message, param_hint="'--month'")
    return span


def _pairs(given: Iterable[str]) -> Iterable[tuple[str, str]]:
    for pair in given:
        source, colon, destination = pair.partition(":")
        if not (source or destination) or ":" in destination:
            message = f"--pair {pair!r} names no pair: write SOURCE:DESTINATION, or SOURCE for all its destinations"
            raise click.UsageError(message)
        yield source, destination if colon else ""
