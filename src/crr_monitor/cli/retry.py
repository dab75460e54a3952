"""``crr-monitor retry``: failed versions in groups, what to mend first, and S3 Batch Replication for them."""

from __future__ import annotations

import re
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click
from msgspec import Struct

from crr_monitor.aws.batch_replication import Location, parse_location
from crr_monitor.cli.access import Target, aws_options, confirm, connect, explained
from crr_monitor.cli.arguments import MOMENT, TEXT, Moment, moments
from crr_monitor.cli.opening import clock_of, configure, opened, tell_origin
from crr_monitor.cli.output import Form, output_option, print_document
from crr_monitor.cli.repairs import TO_FILL_IN, VIEW, Planned, money, place_text, quantity_text, taken_body, taken_text
from crr_monitor.cli.repairs import plan as plan_repairs
from crr_monitor.cli.session import PLACE, Session, example, pass_session, say
from crr_monitor.core.model import Status
from crr_monitor.core.repair import Selection
from crr_monitor.process.manifests import ManifestFiles
from crr_monitor.stores.base import Query

if TYPE_CHECKING:
    from crr_monitor.stores.base import Store

NOT_DONE = 1
"""The exit status where not every job was created and completed."""

ROLE = re.compile(r"arn:aws[a-z-]*:iam::[0-9]{12}:role/.+", re.ASCII)


class _LocationType(click.ParamType[Location]):
    """``s3://bucket/prefix``."""

    name = "location"

    def convert(self, value: str | Location, param: click.Parameter | None, ctx: click.Context | None) -> Location:
        found = value if isinstance(value, Location) else parse_location(value)
        if found is None:
            self.fail(f"{value!r} is no place in S3: write s3://bucket/prefix", param, ctx)
        return found


def _role(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None and not ROLE.fullmatch(value):
        message = f"{value!r} is no role: write arn:aws:iam::ACCOUNT:role/NAME"
        raise click.BadParameter(message)
    return value


_LOCATION = _LocationType()


class Wish(Struct, frozen=True):
    """What is wanted of a retry: files, place and role, and how far to go."""

    out: Path | None
    work: Location | None
    role_arn: str | None
    run: bool
    wait: bool
    ask: bool
    target: Target


@click.command(
    "retry",
    short_help="Repair failed versions with S3 Batch Replication.",
    epilog=example("crr-monitor retry --source orders --since 7d --out manifests"),
)
@click.option("--source", metavar="BUCKET", help="Only from this bucket.")
@click.option("--destination", metavar="BUCKET", help="Only what failed on its way to this bucket.")
@click.option("--reason", "reasons", metavar="REASON", multiple=True, help="Only with this reason; repeatable.")
@click.option("--since", type=MOMENT, help="Written then or later: 2026-11-22[T07:00:00Z], or 90m, 24h, 7d ago.")
@click.option("--until", type=MOMENT, help="Written before this time.")
@click.option("--prefix", type=TEXT, metavar="PREFIX", help="Only keys that begin so.")
@click.option("--out", type=PLACE, metavar="DIR", help="Write the manifests into this folder.")
@click.option("--work", type=_LOCATION, metavar="S3URL", help="s3://bucket/prefix for manifests and reports of jobs.")
@click.option("--role-arn", metavar="ARN", callback=_role, help="The role with which S3 runs the jobs.")
@click.option("--run", is_flag=True, help="Create the jobs, follow them, and take in their reports (extra: aws).")
@click.option("--no-wait", is_flag=True, help="With --run: do not follow the jobs; --report reads a report later.")
@click.option("--report", type=_LOCATION, metavar="S3URL", help="Only take in the report of a job that has ended.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@aws_options
@output_option
@click.pass_context
@pass_session
def command(  # noqa: PLR0913 - one for each option
    session: Session,
    context: click.Context,
    /,
    *,
    source: str | None,
    destination: str | None,
    reasons: tuple[str, ...],
    since: Moment | None,
    until: Moment | None,
    prefix: str | None,
    out: str | None,
    work: Location | None,
    role_arn: str | None,
    run: bool,
    no_wait: bool,
    report: Location | None,
    yes: bool,
    region: str | None,
    profile: str | None,
    endpoint_url: str | None,
    form: Form,
) -> None:
    """Show what failed, in groups by cause, and what to mend before a retry.

    For each group that a retry helps there is a manifest for S3 Batch Replication (--out), its price, and the commands
    for a job. With --run the jobs are created and followed, and what their reports say goes into the store.
    """
    target = Target(region, profile, endpoint_url)
    wish = Wish(None if out is None else Path(out), work, role_arn, run, not no_wait, not yes, target)
    selected = (source, destination, reasons, since, until, prefix)
    _check_options(wish, report, any(map(bool, selected)))
    config = configure(session)
    with opened(config, reading=report is None and not run) as store:
        if report is not None:
            _take_report(store, report, target, form)
            return
        clock = clock_of(store, config)
        begin, end = moments(since, until, clock.at)
        tell_origin(clock, since, until)
        query = Query(
            Status.FAILED,
            source,
            destination,
            prefix,
            begin,
            end,
        )
        context.exit(_retry(store, query, Selection(destination, frozenset(reasons)), wish, form))


def _check_options(wish: Wish, report: Location | None, selected: bool) -> None:  # noqa: FBT001 - one of several facts
    """End with a usage error where options do not go together."""
    message = ""
    if report is not None and (selected or wish.run or wish.out or wish.work or wish.role_arn):
        message = "--report reads one report, and nothing else goes with it"
    elif wish.run and (wish.work is None or wish.role_arn is None):
        message = "--run needs --work s3://bucket/prefix and --role-arn ARN"
    elif not wish.run and not wish.wait:
        message = "--no-wait goes with --run"
    elif wish.target != Target(None, None, None) and not wish.run and report is None:
        message = "--region, --profile and --endpoint-url go with --run and --report"
    if message:
        raise click.UsageError(message)


def _retry(store: Store, query: Query, selection: Selection, wish: Wish, form: Form) -> int:
    with ExitStack() as stack:
        folder = wish.out
        if folder is None and wish.run:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="crr-monitor-")))
        files = None if folder is None else ManifestFiles(folder)
        planned = plan_repairs(store, query, selection, files, wish.work, wish.role_arn)
        status = 0
        if wish.run and any(each.group.retry for each in planned):
            status = _run(store, planned, wish)
    if wish.out is None:  # what was written for the jobs is gone again
        for each in planned:
            each.manifest = None
    VIEW.print(planned, form)
    if not planned:
        say("nothing failed that matches")
    elif files is None:
        say("this is the plan: --out DIR writes the manifests, --run creates the jobs")
    elif not wish.run:
        _say_what_to_fill_in(planned)
    return status


def _say_what_to_fill_in(planned: list[Planned]) -> None:
    commands = " ".join(line for each in planned if each.order is not None for line in each.order.commands(""))
    missing = [word for word in TO_FILL_IN.values() if word in commands]
    if missing:
        say(f"in the commands, write what you use for {', '.join(missing)} (--work and --role-arn put it there)")


def _run(store: Store, planned: list[Planned], wish: Wish) -> int:
    """Create and follow the jobs; the exit status."""
    from crr_monitor.cli.retryrun import Runner  # noqa: PLC0415 - only what reaches AWS needs it

    access = connect(wish.target)
    repairable = [each for each in planned if each.group.retry]
    say(f"with {wish.role_arn}, from {access}:")
    for each in repairable:
        say(f"  a job for {place_text(each.group.source)}: {quantity_text(each.group)}, about {money(each.quote)}")
        for cause in each.group.causes:
            say(f"    {cause.reason}; this has to be mended before: {cause.fix}")
    if wish.ask:
        confirm("Go on?")
    with explained(access.region, wish.target.endpoint_url):
        done = Runner(store, access).run(repairable, wait=wish.wait)
    return 0 if done else NOT_DONE


def _take_report(store: Store, where: Location, target: Target, form: Form) -> None:
    from crr_monitor.cli.retryrun import take  # noqa: PLC0415

    access = connect(target)
    with explained(access.region, target.endpoint_url):
        taken = take(store, access.client("s3"), where)
    body = {"report": str(where), **taken_body(taken)}
    if form == "table":
        click.echo(taken_text(taken))
    else:
        print_document(body)
