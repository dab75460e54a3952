"""``crr-monitor topology``: the replication pairs that are known."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

import click
from msgspec import Struct

from crr_monitor.aws.words import EventSource
from crr_monitor.cli.access import Target, aws_options, connect, explained
from crr_monitor.cli.opening import configure, opened, read_topology
from crr_monitor.cli.output import Form, View, output_option
from crr_monitor.cli.session import PLACE, Session, example, pass_session, say
from crr_monitor.cli.tables import Column, Row, show
from crr_monitor.cli.words import NOTHING, time_text
from crr_monitor.core.times import format_time
from crr_monitor.core.topology import BucketConfig, Rule, Topology

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from crr_monitor.aws.discovery import Discovery
    from crr_monitor.config import Config
    from crr_monitor.stores.base import Store

STACK_NAME = "crr-monitor"
SOURCES: tuple[str, ...] = get_args(EventSource)
PROBLEMS = 1
"""The exit status of a plan that set-up could not carry out."""


class Entry(Struct, frozen=True):
    """A replication pair: one rule, or without one inferred from what was seen."""

    source: BucketConfig
    destination: BucketConfig
    rule: Rule | None = None
    rule_id: str | None = None


class _FailureEvents(NamedTuple):
    """What goes with ``--enable-failure-events``, as it was given."""

    buckets: tuple[str, ...]
    topic_arn: str | None
    queue_arn: str | None
    stack_name: str | None
    apply: bool
    keep: str


@click.command("topology", epilog=example("crr-monitor topology -o json"))
@click.option(
    "--learn", type=PLACE, metavar="FILE", help="Learn the rules in this file first, as ingest --topology does."
)
@click.option("--discover", is_flag=True, help="Learn the rules of this AWS account's buckets first (extra: aws).")
@click.option("--plan", is_flag=True, help="With --discover: show what set-up would do, and learn nothing.")
@click.option("--stack-name", metavar="NAME", help="The stack of --plan. Default: crr-monitor, or else a new hub.")
@click.option("--event-source", type=click.Choice(SOURCES), help="Plan for this source of events instead.")
@click.argument("more", metavar="", nargs=-1)  # further buckets of --enable-failure-events
@click.option(
    "--enable-failure-events",
    "failing",
    metavar="BUCKET",
    multiple=True,
    help="Show what lets S3 tell why replication of these buckets failed: BUCKET...",
)
@click.option("--apply", is_flag=True, help="With --enable-failure-events: carry the plan out.")
@click.option("--topic-arn", metavar="ARN", help="Use this topic of the bucket's Region.")
@click.option("--queue-arn", metavar="ARN", help="Subscribe this queue to the topic.")
@click.option("--keep", type=PLACE, metavar="DIR", default=".", help="Where previous values are kept.")
@aws_options
@output_option
@click.pass_context
@pass_session
def command(  # noqa: PLR0913 - one for each option
    session: Session,
    context: click.Context,
    /,
    *,
    learn: str | None,
    discover: bool,
    plan: bool,
    stack_name: str | None,
    event_source: EventSource | None,
    more: tuple[str, ...],
    failing: tuple[str, ...],
    apply: bool,
    topic_arn: str | None,
    queue_arn: str | None,
    keep: str,
    region: str | None,
    profile: str | None,
    endpoint_url: str | None,
    form: Form,
) -> None:
    """List the replication pairs that are known.

    Those that were learned from a topology file come with their rules. Pairs that only showed themselves in the events
    are marked as inferred: of these, nothing is ever expected.
    """
    target = Target(region, profile, endpoint_url)
    _check_failing(failing, more, others=bool(discover or plan or learn), options=bool(apply or topic_arn or queue_arn))
    if failing:
        asked = (*failing, *more)
        wish = _FailureEvents(asked, topic_arn, queue_arn, stack_name, apply, keep)
        context.exit(_enable_failure_events(target, wish, form))
    _check_options(target, discover=discover, plan=plan, chosen=stack_name or event_source, learn=learn)
    config = configure(session)
    if plan:
        context.exit(_plan(config, target, stack_name or STACK_NAME, event_source, form))
    learned = read_topology(learn) if learn is not None else []
    found = _discovered(target) if discover else None
    learning = bool(learned) or found is not None
    with opened(config, create=learning, reading=not learning) as store:
        if learned:
            store.learn(learned)
        if found is not None:
            _learn(store, found)
        entries = list(known_pairs(store))
    VIEW.print(entries, form)
    if not entries:
        say("no replication pair is known yet: ingest events, or learn a topology (--learn FILE)")


def _check_failing(failing: tuple[str, ...], more: tuple[str, ...], *, others: bool, options: bool) -> None:
    """End with a usage error where something does not go with ``--enable-failure-events``, or only with it."""
    message = ""
    if failing and others:
        message = "--enable-failure-events goes with no other question"
    elif options and not failing:
        message = "--apply, --topic-arn and --queue-arn go with --enable-failure-events"
    elif more and not failing:
        message = f"Got unexpected extra argument ({more[0]})"
    if message:
        raise click.UsageError(message)


def _check_options(target: Target, *, discover: bool, plan: bool, chosen: str | None, learn: str | None) -> None:
    """End with a usage error where options do not go together."""
    message = ""
    if plan and not discover:
        message = "--plan goes with --discover"
    elif plan and learn is not None:
        message = "--plan learns nothing: leave --learn out"
    elif chosen and not plan:
        message = "--stack-name and --event-source go with --plan"
    elif target != Target(None, None, None) and not discover:
        message = "--region, --profile and --endpoint-url go with --discover"
    if message:
        raise click.UsageError(message)


def _enable_failure_events(target: Target, asked: _FailureEvents, form: Form) -> int:
    access = connect(target)
    from crr_monitor.cli.failure_events import Wish, enable  # noqa: PLC0415 - only what reaches AWS needs it

    with explained(access.region, target.endpoint_url):
        return enable(access, Wish(*asked[:-1], Path(asked.keep)), form)


def _discovered(target: Target) -> Discovery:
    access = connect(target)
    from crr_monitor.cli.discover import discover_account  # noqa: PLC0415 - only what reaches AWS needs it

    with explained(access.region, target.endpoint_url):
        return discover_account(access)


def _learn(store: Store, found: Discovery) -> None:
    from crr_monitor.aws.agents import learn  # noqa: PLC0415

    learn(store, [found])


def _plan(config: Config, target: Target, stack_name: str, event_source: EventSource | None, form: Form) -> int:
    """Print what set-up would do; the exit status, which tells whether there are problems."""
    access = connect(target)
    from crr_monitor.cli.discover import PLAN_VIEW, plan  # noqa: PLC0415

    with explained(access.region, target.endpoint_url):
        proposal = plan(access, stack_name, event_source, _learned(config))
    PLAN_VIEW.print(proposal.steps, form)
    for note in proposal.notes:
        say(f"note: {note}")
    for problem in proposal.problems:
        say(f"problem: {problem}")
    if not proposal.steps:
        say("set-up would change nothing")
    return PROBLEMS if proposal.problems else 0


def _learned(config: Config) -> Topology:
    """What the store knows of other accounts; where there is no store yet, nothing."""
    if isinstance(config.store, Path) and not config.store.exists():
        return Topology()
    with opened(config, reading=True) as store:
        return store.topology()


def known_pairs(store: Store) -> Iterator[Entry]:
    """Every rule that was learned, then the pairs of the statistics that no rule covers."""
    topology = store.topology()
    covered = set()
    for pair in topology.pairs():
        covered.add((pair.source.bucket, pair.destination.bucket))
        yield Entry(pair.source, pair.destination, pair.rule, pair.rule.rule_id)
    seen: dict[tuple[str, str], set[str]] = {}
    for source, destination, rule_id in store.pairs():
        if source and destination and (source, destination) not in covered:
            seen.setdefault((source, destination), set()).add(rule_id)
    for (source, destination), rules in sorted(seen.items()):
        places = [BucketConfig(bucket, *topology.place(bucket)) for bucket in (source, destination)]
        named = rules - {""}
        yield Entry(places[0], places[1], rule_id=named.pop() if len(named) == 1 else None)


def _place(config: BucketConfig) -> dict[str, str]:
    place = {"account": config.account, "region": config.region, "bucket": config.bucket}
    return {name: value for name, value in place.items() if value is not None}


def entry_json(entry: Entry) -> dict[str, Any]:
    """The pair as JSON; unknown is absent, and so is ``since`` where the rule always counts."""
    body: dict[str, Any] = {"source": _place(entry.source), "destination": _place(entry.destination)}
    if entry.rule_id is not None:
        body["rule_id"] = entry.rule_id
    if entry.rule is None:
        return {**body, "inferred": True}
    body |= {
        "inferred": False,
        "state": "enabled" if entry.rule.enabled else "disabled",
        "priority": entry.rule.priority,
        "prefix": entry.rule.prefix,
        "tags": dict(entry.rule.tags),
        "delete_markers": entry.rule.delete_markers,
        "kms": entry.rule.kms,
    }
    if entry.source.since:
        body["since"] = format_time(entry.source.since)
    return body


FIELDS = (
    *(f"{role}_{part}" for role in ("source", "destination") for part in ("account", "region", "bucket")),
    *("rule_id", "inferred", "state", "priority", "prefix", "tags", "delete_markers", "kms", "since"),
)


def _entry_rows(entry: Entry) -> Iterator[dict[str, Any]]:
    body = entry_json(entry)
    for role in ("source", "destination"):
        body |= {f"{role}_{name}": value for name, value in body.pop(role).items()}
    yield body


_COLUMNS = (
    Column("SOURCE", fold=True),
    Column("REGION", wide=True),
    Column("DESTINATION", fold=True),
    Column("REGION", wide=True),
    Column("RULE", fold=True),
    Column("STATE"),
    Column("PRIORITY", right=True, wide=True),
    Column("TAKES", fold=True),
    Column("MARKERS"),
    Column("SINCE", fold=True),
)


def _row(entry: Entry) -> Row:
    rule = entry.rule
    about = (NOTHING,) * 4
    state = "inferred"
    if rule is not None:
        state = "enabled" if rule.enabled else "disabled"
        since = time_text(entry.source.since) if entry.source.since else "always"
        about = (str(rule.priority), _takes(rule), "yes" if rule.delete_markers else "no", since)
    places = [part for place in (entry.source, entry.destination) for part in (place.bucket, place.region or NOTHING)]
    return Row((*places, entry.rule_id or NOTHING, state, *about))


def _takes(rule: Rule) -> str:
    """What the rule's filter lets through."""
    tags = " ".join(f"{key}={value}" for key, value in rule.tags)
    return " ".join(part for part in (f"{rule.prefix}*" if rule.prefix else "", tags) if part) or "all"


def _table(entries: Iterable[Entry]) -> None:
    show(_COLUMNS, map(_row, entries))


VIEW = View(table=_table, body=entry_json, fields=FIELDS, rows=_entry_rows)
