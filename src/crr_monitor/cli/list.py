"""``crr-monitor list``: records, newest write first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from crr_monitor.cli.arguments import MOMENT, TEXT, Moment, moments
from crr_monitor.cli.opening import clock_of, configure, opened, tell_origin
from crr_monitor.cli.output import Form, output_option
from crr_monitor.cli.records import record_view
from crr_monitor.cli.session import Session, example, pass_session, say
from crr_monitor.core.model import VISIBLE, Status
from crr_monitor.stores.base import Query

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crr_monitor.core.model import Record
    from crr_monitor.stores.base import Store

DEFAULT_LIMIT = 100
STATUSES = [status.name for status in reversed(VISIBLE)]


@click.command("list", epilog=example("crr-monitor list --status FAILED --source orders --since 24h"))
@click.option(
    "--status",
    type=click.Choice(STATUSES, case_sensitive=False),
    metavar="|".join(STATUSES),
    help="Only object versions with this status.",
)
@click.option("--source", metavar="BUCKET", help="Only from this bucket.")
@click.option("--destination", metavar="BUCKET", help="Only with a copy in this bucket.")
@click.option("--prefix", type=TEXT, metavar="PREFIX", help="Only keys that begin so.")
@click.option("--since", type=MOMENT, help="Written then or later: 2026-11-22[T07:00:00Z], or 90m, 24h, 7d ago.")
@click.option("--until", type=MOMENT, help="Written before this time.")
@click.option(
    "--limit",
    type=click.IntRange(0),
    default=DEFAULT_LIMIT,
    show_default=True,
    help="So many object versions at most; 0 for all.",
)
@click.option("--uncertain", is_flag=True, help="List what is uncertain instead: whether a rule takes it is not known.")
@output_option
@pass_session
def command(  # noqa: PLR0913 - one for each option
    session: Session,
    /,
    *,
    status: str | None,
    source: str | None,
    destination: str | None,
    prefix: str | None,
    since: Moment | None,
    until: Moment | None,
    limit: int,
    form: Form,
    uncertain: bool,
) -> None:
    """List object versions and their copies, newest write first.

    A time that is given as a length of time (90m, 24h, 7d) is so long ago; where only old logs were read that counts
    from the newest event on.
    """
    config = configure(session)
    with opened(config, reading=True) as store:
        clock = clock_of(store, config)
        begin, end = moments(since, until, clock.at)
        query = Query(
            None if status is None else Status[status],
            source,
            destination,
            prefix,
            begin,
            end,
            limit + 1 if limit else None,
            uncertain,
        )
        listing = _Listing(store, query, limit)
        record_view(uncertain=uncertain).print(listing.records(), form)
    tell_origin(clock, since, until)
    if listing.more:
        say(f"there are more: these are the newest {limit:,} (--limit 0 shows all)")
    elif not listing.count:
        say("no object version matches")


class _Listing:
    """The first records of a query, and whether there are more."""

    def __init__(self, store: Store, query: Query, limit: int) -> None:
        self._store = store
        self._query = query
        self._limit = limit
        self.count = 0
        self.more = False

    def records(self) -> Iterator[Record]:
        for record in self._store.records(self._query):
            if self._limit and self.count == self._limit:
                self.more = True
                return
            self.count += 1
            yield record
