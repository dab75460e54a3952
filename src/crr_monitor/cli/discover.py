"""``crr-monitor topology --discover``: replication rules as AWS tells them, and what set-up would do about them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from msgspec import Struct, convert
from msgspec.structs import replace

from crr_monitor.aws.agent_register import Told
from crr_monitor.aws.agents import known_to_hub, latest
from crr_monitor.aws.bucket_settings import Change, OverlapError, patch, wanted_configuration
from crr_monitor.aws.discovery import Discovery, discover, topology_entries
from crr_monitor.aws.overlap import look_with_old_source
from crr_monitor.aws.plan_model import Stack, watched_buckets
from crr_monitor.aws.record import TOLD, Record
from crr_monitor.aws.sessions import AwsError, call
from crr_monitor.aws.setup import Known, read_configuration
from crr_monitor.aws.setup_plan import desired, diff
from crr_monitor.cli.output import View
from crr_monitor.cli.session import escape, warn
from crr_monitor.cli.tables import Column, Row, show
from crr_monitor.lambdas.settings import SetupSettings, from_environment

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from crr_monitor.aws.plan_model import Action
    from crr_monitor.aws.words import EventSource
    from crr_monitor.cli.access import Access
    from crr_monitor.core.topology import Topology

SETUP_FUNCTION = "SetupFunction"
"""Its logical id in both templates."""

NO_TOKEN = "TOKEN"  # noqa: S105 - a part of names
"""Stands in names for the stack's token, where there is no stack yet."""


class Step(Struct, frozen=True):
    """One line of a plan. ``patch`` is what the bucket's owner has to apply, where set-up does not change buckets."""

    do: str
    kind: str
    region: str
    name: str
    why: str
    patch: str | None = None


def discover_account(access: Access) -> Discovery:
    """The rules of the account's buckets in all Regions; what could not be asked is told as warnings."""
    found = discover(access.sessions, access.region)
    for each in found.unknown:
        warn(str(each))
    return found


class Proposal(Struct, frozen=True):
    """A plan: what would be done, what stands against it, and what is worth knowing."""

    steps: tuple[Step, ...]
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def plan(access: Access, stack_name: str, event_source: EventSource | None, learned: Topology) -> Proposal:
    """What set-up would do now for a stack, or for a new hub where there is none; nothing is changed.

    ``learned`` is what is known of other accounts, whose rules a hub's set-up has to know.

    Raises:
        AwsError: AWS could not be asked.
    """
    found = discover_account(access)
    settings = stack_settings(access, stack_name)
    stack = _new_hub(access) if settings is None else settings[0]
    if event_source is not None:
        stack = replace(stack, event_source=event_source)
    record = Record(access.sessions, stack)
    if stack.kind == "agent":
        told = convert(record.get(TOLD) or {}, Told)
        known = Known(destinations=told.destinations, topic_regions=told.topic_regions)
    else:
        own = [config for config, _ in topology_entries([found])]
        foreign = [config for config in latest(learned) if config.bucket not in found.buckets]
        known = known_to_hub(found, [*foreign, *own])
    if settings is None:
        proposal = _first_plan(access, stack, found, known)
        note = f"there is no stack {stack_name} in {access}: this is what a new hub would do"
        return replace(proposal, notes=(note, *proposal.notes))
    situation, _ = look_with_old_source(access.sessions, stack, record, found, known)
    steps = _steps(situation.actions, situation.changes, changes_buckets=settings[1])
    restored = [Step("restore", "bucket", "", each, "set-up had changed its settings") for each in situation.restore]
    return Proposal((*steps, *restored), (*situation.problems, *situation.blocked), situation.notes)


def _first_plan(access: Access, stack: Stack, found: Discovery, known: Known) -> Proposal:
    """That of a hub of which nothing is there, so that only buckets can be looked at."""
    watched = watched_buckets(found.buckets, [*found.configs, *known.configs], known.destinations)
    wanted = desired(stack, watched, found.buckets.values(), known.agent_regions)
    changes, problems = [], list(wanted.problems)
    for each in watched if stack.event_source != "CloudTrail" else ():
        current = read_configuration(access.sessions, each.region, each.bucket)
        try:
            after = wanted_configuration(stack, each, current)
        except OverlapError as error:
            problems.append(str(error))
        else:
            changes += [] if after is None else [Change(each.bucket, each.region, current, after)]
    steps = _steps(diff((), wanted.resources), changes, changes_buckets=False)
    return Proposal(tuple(steps), tuple(problems), wanted.notes)


def stack_settings(access: Access, stack_name: str) -> tuple[Stack, bool] | None:
    """A stack as its own set-up function knows it, and whether it may change buckets; ``None`` without such a stack."""
    try:
        told = call(
            f"cloudformation:DescribeStackResource of {stack_name}",
            access.client("cloudformation").describe_stack_resource,
            StackName=stack_name,
            LogicalResourceId=SETUP_FUNCTION,
        )
    except AwsError as error:
        if error.code == "ValidationError" and "does not exist" in error.text:
            return None
        raise
    name = told["StackResourceDetail"]["PhysicalResourceId"]
    client = access.client("lambda")
    function = call("lambda:GetFunctionConfiguration", client.get_function_configuration, FunctionName=name)
    settings = from_environment(SetupSettings, function["Environment"]["Variables"])
    return settings.stack(function["FunctionArn"]), settings.bucket_settings == "Change"


def _new_hub(access: Access) -> Stack:
    """A hub as the template's defaults would make it."""
    stack = Stack(
        kind="hub",
        stack_id="",
        token=NO_TOKEN,
        account=access.account,
        region=access.region,
        partition=access.partition,
        hub_account=access.account,
        hub_token=NO_TOKEN,
        hub_bus_arn="",
        own_bus_arn="",
        forward_role_arn="",
    )
    return replace(
        stack,
        own_bus_arn=stack.arn("events", stack.region, f"event-bus/{stack.prefix}hub"),
        queue_arn=stack.arn("sqs", stack.region, stack.prefix + "QUEUE"),
        queue_url=stack.prefix + "QUEUE",
        trail_bucket=stack.prefix + "trail",
    )


def _steps(actions: Iterable[Action], changes: Iterable[Change], *, changes_buckets: bool) -> Iterator[Step]:
    for action in actions:
        resource = action.resource
        yield Step(action.verb, resource.kind, resource.region, resource.name, action.why)
    for change in changes:
        if changes_buckets:
            yield Step("change", "bucket", change.region, change.bucket, "the event source needs it")
        else:
            why = "the event source needs it, and its owner has to apply it"
            yield Step("patch", "bucket", change.region, change.bucket, why, patch(change))


def _body(step: Step) -> dict[str, Any]:
    told = {name: getattr(step, name) for name in FIELDS}
    return {name: value for name, value in told.items() if value}


def _table(steps: Iterable[Step]) -> None:
    steps = list(steps)
    columns = (Column("DO"), Column("WHAT"), Column("REGION"), Column("NAME", fold=True), Column("WHY", fold=True))
    show(columns, [Row((each.do, each.kind, each.region or "-", each.name, each.why)) for each in steps])
    for each in steps:
        for line in (each.patch or "").splitlines():
            click.echo(escape(line))


FIELDS = ("do", "kind", "region", "name", "why", "patch")
PLAN_VIEW = View(table=_table, body=_body, fields=FIELDS, rows=lambda step: [_body(step)])
