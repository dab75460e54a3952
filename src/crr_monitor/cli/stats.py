"""``crr-monitor stats``: figures of a window of time."""

from __future__ import annotations

from typing import Any

import click

from crr_monitor.cli.arguments import DURATION, MOMENT, Moment, moments
from crr_monitor.cli.opening import clock_of, configure, opened
from crr_monitor.cli.output import Form, View, output_option, print_document
from crr_monitor.cli.session import CommandError, Session, example, pass_session, say
from crr_monitor.cli.statstable import FIELDS, flat_group, show_figures
from crr_monitor.cli.words import duration_text, time_text
from crr_monitor.core.times import DAY_MS, SECOND_MS
from crr_monitor.process.figures import By, Window, figures
from crr_monitor.stores.base import system_clock

PROBLEMS = 3
DEFAULT_WINDOW_MS = DAY_MS


@click.command(
    "stats",
    short_help="Show counts, lag, backlog and the share within the RPO.",
    epilog=example("crr-monitor stats --window 24h --check"),
)
@click.option("--window", type=DURATION, help="Objects written in this length of time up to now. Default: 24h.")
@click.option("--since", type=MOMENT, help="Written then or later: 2026-11-22[T07:00:00Z], or 90m, 24h, 7d ago.")
@click.option("--until", type=MOMENT, help="Written before this time.")
@click.option(
    "--as-of",
    type=MOMENT,
    help="The clock for ages and deadlines. Default: now; where only old logs were read the newest event.",
)
@click.option(
    "--by",
    type=click.Choice(["pair", "source", "destination"]),
    default="pair",
    show_default=True,
    help="What to sum up in a line.",
)
@click.option("--rpo", metavar="SECONDS", help="In how many seconds a copy has to arrive. Default: 900.")
@click.option("--check", is_flag=True, help="End with exit status 3 if something failed or is overdue.")
@click.option(
    "--heard-within",
    type=DURATION,
    help="End with exit status 1 if the newest event is older than that.",
)
@output_option
@click.pass_context
@pass_session
def command(  # noqa: PLR0913 - one for each option
    session: Session,
    context: click.Context,
    /,
    *,
    window: int | None,
    since: Moment | None,
    until: Moment | None,
    as_of: Moment | None,
    by: By,
    rpo: str | None,
    form: Form,
    check: bool,
    heard_within: int | None,
) -> None:
    """Show how replication does: copies completed, failed and pending, lag, and the share within the RPO.

    Objects are selected by when they were written, in whole five minutes. Delete markers are counted apart.
    """
    if window is not None and (since or until):
        message = "--window excludes --since and --until"
        raise click.UsageError(message)
    config = configure(session, rpo_seconds=rpo)
    with opened(config, reading=True) as store:
        clock = clock_of(store, config, as_of)
        chosen = _window(window, since, until, clock.at)
        found = figures(store, chosen, by, config.rpo_seconds * SECOND_MS)
    body = clock.told(found.to_json())
    if form == "json":
        print_document(body)
    else:
        view: View[dict[str, Any]] = View(
            table=lambda _groups: show_figures(found, body, clock),
            body=lambda group: {**_span(body), **group},
            fields=FIELDS,
            rows=lambda group: [flat_group({**_span(body), **group})],
        )
        view.print(body["groups"], form)
    if not found.groups:
        say("nothing was written in that time that is known; try a longer --window, or --since")
    if heard_within is not None:
        _check_heard(clock.newest, heard_within)
    if check and found.problems:
        context.exit(PROBLEMS)


def _check_heard(newest: int | None, within: int) -> None:
    """What is not heard of is neither failed nor overdue, so silence is told apart from both.

    Raises:
        CommandError: no event is newer than so many milliseconds, by the clock of this machine.
    """
    if newest is not None and system_clock() - newest <= within:
        return
    last = "no event was ever heard" if newest is None else f"the newest event is of {time_text(newest)} UTC"
    message = (
        f"{last}, and --heard-within is {duration_text(within)}: see whether events still arrive here, and whether"
        " anything was written at all"
    )
    raise CommandError(message)


def _window(window: int | None, since: Moment | None, until: Moment | None, as_of: int) -> Window:
    if since is None and until is None:
        # One more millisecond: the newest event of a replay is written exactly then.
        length = DEFAULT_WINDOW_MS if window is None else window
        return Window(Moment(length, ago=True).at(as_of), as_of + 1, as_of)
    return Window(*moments(since, until, as_of), as_of)


def _span(body: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name != "groups"}
