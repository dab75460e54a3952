"""``crr-monitor reconcile``: ask S3 about what is overdue, once."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

import click

from crr_monitor.aws.probe import PATH_STYLE, PROBE_OPTIONS, S3Prober
from crr_monitor.aws.sessions import Sessions, call
from crr_monitor.cli.access import Target, aws_options, connect, explained, require_aws
from crr_monitor.cli.opening import configure, opened
from crr_monitor.cli.output import print_line
from crr_monitor.cli.session import Session, example, pass_session, warn
from crr_monitor.core.reconcile import OVERDUE_MS
from crr_monitor.core.times import SECOND_MS
from crr_monitor.process.reconcile import Limits, Reconciler

if TYPE_CHECKING:
    from crr_monitor.process.reconcile import CouldNotAsk

ANY_REGION = "us-east-1"
"""Other stores have one Region, or none; the SDK wants a name for it."""


@click.command(
    "reconcile",
    short_help="Ask S3 about copies that are overdue (extra: aws).",
    epilog=example("crr-monitor reconcile --agent-role replication-reader"),
)
@click.option(
    "--after",
    metavar="SECONDS",
    type=click.IntRange(1, 1_000_000),
    default=OVERDUE_MS // SECOND_MS,
    help="How long after its write S3 is asked about a version. Default: 900.",
)
@click.option(
    "--limit", metavar="N", type=click.IntRange(1, 1_000_000), default=5_000, help="Records at most. Default: 5000."
)
@click.option(
    "--agent-role",
    metavar="NAME",
    help="The role through which buckets of other accounts are asked. Default: with one's own credentials.",
)
@aws_options
@pass_session
def command(  # noqa: PLR0913 - one for each option
    session: Session,
    /,
    *,
    after: int,
    limit: int,
    agent_role: str | None,
    region: str | None,
    profile: str | None,
    endpoint_url: str | None,
) -> None:
    """Ask S3 about versions that are pending, uncertain or failed for too long, and store what it answers.

    What was asked about is asked again after pauses that double, up to six hours. A bucket that cannot be asked is told
    with what is missing, and its records stay as they are; where no bucket at all could be asked, the exit status is 1.
    Prints one line of JSON: due, asked, left, more, questions, records_changed, answers, could_not_ask,
    oldest_due_seconds, seconds.

    It needs the extra aws: pip install 'crr-monitor[aws]'
    """
    target = Target(region, profile, endpoint_url)
    # Other stores than AWS's own may give no status at all, so none says nothing of rules.
    limits = Limits(overdue=after * SECOND_MS, records=limit, always_status=endpoint_url is None)
    with opened(configure(session)) as store:
        found = Reconciler(store, make_prober(target, agent_role), limits).run()
    for each in found.could_not_ask:
        warn(_refusal(each))
    if found.more:
        warn("there is more to ask about: run the same command again")
    print_line(found.to_json())
    if found.could_not_ask and not found.asked:
        click.get_current_context().exit(1)  # scripts have to see that the monitor learned nothing


def _refusal(each: CouldNotAsk) -> str:
    questions = "question" if each.count == 1 else "questions"
    return f"{each.count} {questions} not answered: {each.text}"


def make_prober(target: Target, agent_role: str | None) -> S3Prober:
    """Who asks S3. Without a role one's own credentials ask buckets of other accounts too.

    Of a store that is not AWS nobody may be able to say whose credentials these are, so it is not asked for that.

    Raises:
        CommandError: boto3, credentials or a Region are missing; with what to do.
    """
    require_aws("asking S3")
    with explained(target.region, target.endpoint_url):
        if target.endpoint_url is None:
            access = connect(target)
            base = access.sessions.base
            account, partition, region, options = access.account, access.partition, access.region, PROBE_OPTIONS
        else:
            make = importlib.import_module("boto3").Session
            base = call("the profile", make, profile_name=target.profile, region_name=target.region)
            account, partition, region = "", "aws", base.region_name or ANY_REGION
            options = {**PROBE_OPTIONS, **PATH_STYLE}
    sessions = Sessions(
        account,
        partition=partition,
        role_name=agent_role,
        endpoint_url=target.endpoint_url,
        base=base,
        options=options,
    )
    return S3Prober(sessions, region, own_only=agent_role is None)
