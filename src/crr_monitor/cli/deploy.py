"""``crr-monitor deploy``: hub and agent as CloudFormation stacks."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Literal, TypeAlias

import click
from msgspec import Struct

from crr_monitor import templates
from crr_monitor.aws.artifacts import Bucket, bucket_name
from crr_monitor.aws.parameters import CODE, ParameterError, check, declared, missing
from crr_monitor.aws.stacks import Stacks
from crr_monitor.cli.access import NEEDS_AWS, Access, Target, aws_options, confirm, connect, explained
from crr_monitor.cli.output import Form, View, output_option
from crr_monitor.cli.session import PROGRAM, CommandError, example, say
from crr_monitor.cli.tables import Column, Row, show

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from crr_monitor.aws.stacks import ChangeSet, Event, Existing
    from crr_monitor.lambdas.package import Package

Kind: TypeAlias = Literal["hub", "agent"]
KINDS = ("hub", "agent")
STACK_NAME = "crr-monitor"
HUB_TELLS = ("HubAccount", "HubToken", "HubBusArn", "HubRoleArns", "EventSource")
"""Outputs of a hub that are parameters of its agents, by the same names."""

MARKS: dict[Kind, str] = {"hub": "AgentAccounts", "agent": "HubToken"}
"""A parameter that only such a stack has: so no stack becomes another one by mistake."""


class _Wish(Struct, frozen=True):
    """What is to be deployed, and how it was asked for."""

    kind: Kind
    stack_name: str
    template: str
    given: dict[str, str]
    artifacts: str | None
    dry_run: bool
    target: Target


@click.command(
    "deploy",
    hidden=True,  # until the AWS system is whole
    short_help="Deploy the hub or an agent into AWS (extra: aws).",
    epilog=example("crr-monitor deploy hub --region us-east-1 --dry-run"),
    help=f"""Deploy the monitor into AWS as a CloudFormation stack, or change it.

    First the hub, in the account that is to watch; then an agent in each other account that has source or destination
    buckets. Shows what will change, asks, and follows until it is done. Parameters that are not named keep their value.
    Prints the stack's outputs.

    {NEEDS_AWS}""",
)
@click.argument("kind", type=click.Choice(KINDS))
@click.option("--stack-name", metavar="NAME", default=STACK_NAME, show_default=True, help="The stack's name.")
@click.option("--parameter", "parameters", metavar="KEY=VALUE", multiple=True, help="A template parameter; repeatable.")
@click.option(
    "--artifacts-bucket",
    metavar="BUCKET",
    help="Where the functions' code is put. Default: one that is made, per account and Region.",
)
@click.option("--dry-run", is_flag=True, help="Show what would change, and change nothing.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@aws_options
@output_option
def command(  # noqa: PLR0913 - one for each option
    *,
    kind: Kind,
    stack_name: str,
    parameters: tuple[str, ...],
    artifacts_bucket: str | None,
    dry_run: bool,
    yes: bool,
    region: str | None,
    profile: str | None,
    endpoint_url: str | None,
    form: Form,
) -> None:
    """See ``help``."""
    template, given = _checked(kind, parameters)
    target = Target(region, profile, endpoint_url)
    wish = _Wish(kind, stack_name, template, given, artifacts_bucket, dry_run, target)
    access = connect(target)
    with explained(access.region, endpoint_url):
        stack = _deploy(access, Stacks(access.client("cloudformation")), wish, ask=not yes)
        if stack is None:
            return
        VIEW.print([_Output(name, stack.outputs[name], stack.descriptions[name]) for name in stack.outputs], form)
        _tell_next(access, wish, stack)


def _checked(kind: Kind, parameters: Iterable[str]) -> tuple[str, dict[str, str]]:
    """The template, and the parameters that were given for it."""
    template = templates.text(templates.HUB if kind == "hub" else templates.AGENT)
    try:
        return template, check(declared(template), parameters)
    except ParameterError as error:
        raise click.UsageError(str(error)) from error


def _deploy(access: Access, stacks: Stacks, wish: _Wish, *, ask: bool) -> Existing | None:
    """The stack as it is afterwards; ``None`` after a dry run."""
    before = stacks.find(wish.stack_name)
    check_kind(before, wish.kind)
    kept = _kept(wish, before, access)
    name = wish.artifacts or bucket_name(access.account, access.region)
    bucket = Bucket(access.client("s3"), name, access.account, access.region, access.partition)
    is_there = bucket.exists()
    if wish.artifacts and not is_there:
        message = f"there is no bucket {name} in {access}: make it, or leave --artifacts-bucket out"
        raise CommandError(message)
    code = functions_code(wish.target)
    given = {**wish.given, "CodeBucket": name, "CodeKey": code.key}
    proposal = stacks.propose(wish.stack_name, wish.template, given, kept)
    if proposal is None:
        say(f"stack {wish.stack_name} in {access}: nothing to change")
        return None if wish.dry_run else before
    try:
        _show_plan(access, wish, proposal, None if is_there else name)
        if wish.dry_run:
            stacks.discard(proposal)
            say("this was a dry run: nothing was changed")
            return None
        if ask:
            confirm("Go on?")
        _upload(bucket, code, make=not wish.artifacts)
    except BaseException:  # also when it is interrupted: what was only proposed must not stay
        stacks.discard(proposal)
        raise
    return _execute(stacks, proposal)


def check_kind(stack: Existing | None, kind: Kind) -> None:
    """End with an error where a stack is there that is something else."""
    if stack is None or not stack.parameters or MARKS[kind] in stack.parameters:
        return
    others = [other for other, mark in MARKS.items() if mark in stack.parameters]
    what = f"is an {others[0]}" if others == ["agent"] else "is a hub" if others else "is not of this program"
    message = f"stack {stack.name} {what}: name another one with --stack-name"
    raise CommandError(message)


def _kept(wish: _Wish, before: Existing | None, access: Access) -> list[str]:
    """The parameters that keep their value; ends with an error where some have none."""
    known = declared(wish.template)
    there = () if before is None else before.parameters
    kept = [name for name in there if name in known and name not in wish.given and name not in CODE]
    lacking = missing(known, [*wish.given, *kept])
    if lacking:
        message = f"parameter {', '.join(lacking)} is missing: the hub's outputs tell it (`{PROGRAM} deploy hub` again)"
        raise click.UsageError(message)
    if wish.given.get("HubAccount") == access.account:
        message = (
            f"account {access.account} is the hub's own, which needs no agent: use the credentials of another account"
        )
        raise CommandError(message)
    return kept


def functions_code(target: Target) -> Package:
    """The functions' zip: for Lambda, or for a local AWS, which runs them on this machine."""
    from crr_monitor.lambdas import package  # noqa: PLC0415 - only a deployment needs it

    return package.build(package.Target.HOST if target.endpoint_url else package.Target.LAMBDA)


def _show_plan(access: Access, wish: _Wish, proposal: ChangeSet, new_bucket: str | None) -> None:
    verb = "create" if proposal.creates else "update"
    say(f"{verb} stack {wish.stack_name} ({wish.kind}) in {access}:")
    for name, value in sorted(wish.given.items()):
        say(f"  {name} = {value}")
    if new_bucket:
        say(f"  Make    bucket {new_bucket} for the functions' code: encrypted, private, versioned; it stays")
    for change in proposal.changes:
        say(f"  {change}")


def _upload(bucket: Bucket, code: Package, *, make: bool) -> None:
    if make:
        bucket.make()
    if bucket.put(code.key, code.data):
        say(f"uploaded {len(code.data):,} bytes to s3://{bucket.name}/{code.key}")


def _execute(stacks: Stacks, proposal: ChangeSet) -> Existing:
    try:
        return stacks.execute(proposal, tell)
    except KeyboardInterrupt:
        say("CloudFormation goes on by itself: run the same command again to see how it ended")
        raise


def tell(event: Event) -> None:
    """Show the progress of a stack."""
    say(f"  {event}")


def _tell_next(access: Access, wish: _Wish, stack: Existing) -> None:
    """The command with which one goes on."""
    own = [*wish.target.arguments(), "--region", access.region]
    if wish.kind == "agent":
        say("next, look at the replication rules of this account:")
        say(f"  {shlex.join([PROGRAM, 'topology', '--discover', *own])}")
        return
    if not (stack.parameters.get("AgentAccounts") or stack.parameters.get("AgentOrganization")):
        say("for buckets in other accounts, let their agents in first:")
        let_in = ["--parameter", "AgentAccounts=ACCOUNT,..."]
        name = ["--stack-name", wish.stack_name] if wish.stack_name != STACK_NAME else []
        say(f"  {shlex.join([PROGRAM, 'deploy', 'hub', *own, *name, *let_in])}")
    say("next, in each other account that has source or destination buckets, with its credentials:")
    say(f"  {agent_command(access, stack.outputs)}")
    say("and what the hub sees:")
    say(f"  {shlex.join([PROGRAM, '--store', stack.outputs.get('StoreUrl', ''), 'stats'])}")


def agent_command(access: Access, outputs: Mapping[str, str]) -> str:
    """The call that deploys an agent of this hub."""
    told = [part for name in HUB_TELLS if name in outputs for part in ("--parameter", f"{name}={outputs[name]}")]
    return shlex.join([PROGRAM, "deploy", "agent", "--region", access.region, *told])


class _Output(Struct, frozen=True):
    """One output of the stack."""

    name: str
    value: str
    description: str


def _body(output: _Output) -> dict[str, str]:
    return {"name": output.name, "value": output.value, "description": output.description}


def _table(outputs: Iterable[_Output]) -> None:
    columns = (Column("OUTPUT"), Column("VALUE", fold=True), Column("MEANING", fold=True, wide=True))
    show(columns, [Row((each.name, each.value, each.description)) for each in outputs])


VIEW = View(table=_table, body=_body, fields=("name", "value", "description"), rows=lambda output: [_body(output)])
