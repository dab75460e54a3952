"""``crr-monitor serve``: the embedded monitor as one process."""

from __future__ import annotations

import functools
import importlib.util
from typing import TYPE_CHECKING

import click

from crr_monitor.aws.drain import SCHEME, open_queue
from crr_monitor.cli.access import Target, aws_options, require_aws
from crr_monitor.cli.feeding import archive_of
from crr_monitor.cli.opening import configure
from crr_monitor.cli.session import PLACE, CommandError, Session, example, pass_session, say
from crr_monitor.history.s3 import Reach
from crr_monitor.process.interrupts import ctrl_c_afterwards
from crr_monitor.process.reconcile import Limits

if TYPE_CHECKING:
    from crr_monitor.process.reconcile import Prober
    from crr_monitor.sinks.senders import Sender

NEEDED = {"aiohttp": "aiohttp", "jinja2": "jinja2", "prometheus_client": "prometheus-client"}
"""Modules, and the packages that they are in."""


def _checked_topics(_context: click.Context, _option: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...]:
    from crr_monitor.serve.subscriptions import is_topic  # noqa: PLC0415 - few name topics

    for topic in given:
        if not is_topic(topic):
            message = f"{topic} is no ARN of a topic: write arn:aws:sns:REGION:ACCOUNT:NAME"
            raise click.BadParameter(message)
    return given


@click.command(
    "serve",
    short_help="Run the monitor as a service, with a page (extra: serve).",
    epilog=example("crr-monitor serve --token-file token.txt /var/log/s3-events"),
)
@click.argument("sources", type=PLACE, metavar="[SOURCE]...", nargs=-1)
@click.option("--listen", metavar="HOST:PORT", help="Where to listen. Default: 127.0.0.1:9470.")
@click.option("--allow-remote", is_flag=True, help="Listen also where other machines can reach it; needs a token.")
@click.option(
    "--token-file", type=PLACE, metavar="FILE", help="The file with the token that senders of events have to show."
)
@click.option(
    "--sns-topic",
    "topics",
    metavar="ARN",
    multiple=True,
    callback=_checked_topics,
    help="A topic of SNS that may send events over HTTP: its subscription is confirmed; repeatable.",
)
@click.option("--rejects", type=PLACE, metavar="FILE", help="Where malformed messages go. Default: beside the store.")
@click.option("--archive", type=PLACE, metavar="FOLDER", help="Archive what settles: a folder, or s3://bucket/prefix.")
@click.option("--ask-s3", is_flag=True, help="Ask S3 about what is overdue, with these credentials.")
@click.option("--agent-role", metavar="NAME", help="The role through which other accounts are asked.")
@aws_options
@pass_session
def command(  # noqa: PLR0913 - one for each option
    session: Session,
    /,
    *,
    sources: tuple[str, ...],
    listen: str | None,
    allow_remote: bool,
    token_file: str | None,
    topics: tuple[str, ...],
    rejects: str | None,
    archive: str | None,
    ask_s3: bool,
    agent_role: str | None,
    region: str | None,
    profile: str | None,
    endpoint_url: str | None,
) -> None:
    """Run the monitor: read events as they come, and answer over HTTP.

    SOURCE is a folder in which logs arrive, or an SQS queue (sqs://QUEUE-URL). Events are also taken over HTTP, with
    POST /events and the token. There is a page at /, figures at /metrics, JSON below /api/, and the monitor's own
    health at /healthz and /readyz. Ctrl-C or SIGTERM ends it once everything that was taken is stored.

    It needs the extra serve, and for queues and --ask-s3 aws: pip install 'crr-monitor[serve,aws]'
    """
    missing = [package for name, package in NEEDED.items() if importlib.util.find_spec(name) is None]
    if missing:
        message = f"serve needs {' and '.join(missing)}: pip install 'crr-monitor[serve]'"
        raise CommandError(message)
    with ctrl_c_afterwards():
        from crr_monitor.serve.service import Options, serve  # noqa: PLC0415 - what it needs is an extra, and takes time

    config = configure(session, listen=listen, token_file=token_file, rejects=rejects, archive=archive)
    for source in sources:
        if source.startswith(SCHEME):
            require_aws(f"the source {source}")
    options = Options(
        config=config,
        sources=sources,
        allow_remote=allow_remote,
        prober=_prober(Target(region, profile, endpoint_url), agent_role) if ask_s3 else None,
        open_queue=functools.partial(open_queue, region=region, profile=profile, endpoint_url=endpoint_url),
        # Other stores than AWS's own do not give a status with every version that a rule took.
        limits=Limits(always_status=endpoint_url is None),
        archive=archive_of(config, Reach(region, profile, endpoint_url)),
        topics=topics,
        endpoint_url=endpoint_url,
        senders=() if config.notify_url is None else (_sender(config.notify_url),),
    )
    serve(options, say)


def _sender(url: str) -> Sender:
    from crr_monitor.sinks.webhook import WebhookSender  # noqa: PLC0415 - most have none

    try:
        return WebhookSender(url)
    except ValueError as error:
        message = f"the setting notify_url cannot be used: {error}"
        raise CommandError(message) from error


def _prober(target: Target, agent_role: str | None) -> Prober:
    from crr_monitor.cli.reconcile import make_prober  # noqa: PLC0415 - asking is asked for, and needs the SDK

    return make_prober(target, agent_role)
