"""``crr-monitor deploy``: hub and agent as CloudFormation stacks."""

from __future__ import annotations

import json
import shlex
from contextlib import ExitStack
from typing import TYPE_CHECKING, Literal, TypeAlias

import click
from msgspec import Struct, convert

from crr_monitor import templates
from crr_monitor.aws.artifacts import Bucket, bucket_name, reading, template_key
from crr_monitor.aws.parameters import CODE, ParameterError, check, declared, missing
from crr_monitor.aws.patterns import READS
from crr_monitor.aws.regional import read_trails
from crr_monitor.aws.selectors import MAX_ARNS, most_arns, room_for_trail
from crr_monitor.aws.sessions import AwsError
from crr_monitor.aws.stacks import Stacks, can_be_sent
from crr_monitor.aws.words import DeniedReads
from crr_monitor.cli.access import NEEDS_AWS, Access, Target, aws_options, confirm, connect, explained
from crr_monitor.cli.output import Form, View, output_option
from crr_monitor.cli.session import PROGRAM, CommandError, example, say, warn
from crr_monitor.cli.stacksets import UNIT, StackSet
from crr_monitor.cli.tables import Column, Row, show

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from crr_monitor.aws.stacks import ChangeSet, Event, Existing, StoredTemplate
    from crr_monitor.lambdas.package import Package

Kind: TypeAlias = Literal["hub", "agent"]
KINDS = ("hub", "agent")
STACK_NAME = "crr-monitor"

CANARIES = "CanaryPairs"
"""The hub's parameter that names pairs with a canary."""

DENIED_READS = "DeniedReads"
"""The parameter of both that says which reads at the source a trail logs."""

ORGANIZATION = "AgentOrganization"
"""The hub's parameter that lets in a whole organization."""

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
    _check_room_for_trail(access, wish, before)
    code = functions_code(wish.target)
    given = {**wish.given, "CodeBucket": name, "CodeKey": code.key}
    with ExitStack() as undo:  # also when it is interrupted: what was only proposed must not stay
        template = _offered(bucket, wish.template, undo, is_there=is_there)
        proposal = stacks.propose(wish.stack_name, template, given, kept)
        if proposal is None:
            say(f"stack {wish.stack_name} in {access}: nothing to change")
            return None if wish.dry_run else before
        undo.callback(_take_back, stacks, proposal)
        _show_plan(access, wish, proposal, None if is_there else name)
        if wish.dry_run:
            say("this was a dry run: nothing was changed")
            return None
        if ask:
            confirm("Go on?")
        _upload(bucket, code, wish, _organization(wish, before))
        undo.pop_all()
    return _execute(stacks, proposal)


def _check_room_for_trail(access: Access, wish: _Wish, before: Existing | None) -> None:
    """End with an error where the stack wants a trail of its own and CloudTrail would refuse it, as set-up makes it."""
    there = {} if before is None else before.parameters
    values = {
        name: wish.given.get(name, there.get(name, each.default)) for name, each in declared(wish.template).items()
    }
    if (values.get("EventSource"), values.get("Trail")) != ("CloudTrail", "Create"):
        return
    try:
        trails = read_trails(access.sessions, access.region)
    except AwsError as error:
        say(f"whether there is room for another trail is not known: {error}")
        return
    token = "" if before is None else before.stack_id.rpartition("-")[2]
    if any(token and trail.arn.endswith(f"-{token}") for trail in trails):
        return
    for problem in room_for_trail(trails, [access.region]):
        raise CommandError(problem)


def _take_back(stacks: Stacks, proposal: ChangeSet) -> None:
    """Take a proposal back; that it cannot be is told beside the reason why it has to be, and does not hide it."""
    try:
        stacks.discard(proposal)
    except AwsError as error:
        warn(f"the proposed change stays, it does nothing: delete change set {proposal.arn} ({error})")


def _offered(bucket: Bucket, template: str, undo: ExitStack, *, is_there: bool) -> str | StoredTemplate:
    """The template as CloudFormation takes it; what has to be stored for that goes again unless the stack is made."""
    if can_be_sent(template):
        return template
    if not is_there:
        undo.callback(bucket.remove)
        bucket.make()
    stored, new = bucket.put_template(template)
    if new and is_there:
        undo.callback(bucket.take_back, template_key(template))
    return stored


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
    if wish.given.get(CANARIES):
        from crr_monitor.cost.canary import cost_told  # noqa: PLC0415 - few deployments have canaries

        say(cost_told(wish.given[CANARIES], wish.given.get("EventSource", "")))
    _show_reads(convert(wish.given.get(DENIED_READS, "No"), DeniedReads))


def _show_reads(detail: DeniedReads) -> None:
    """What it costs that reads are logged, and what it takes of the trail's room, before it is done."""
    if detail != "No":
        from crr_monitor.cost.denied_reads import reads_told  # noqa: PLC0415 - few deployments ask for reads

        say(reads_told(detail))
        say(f"  room in the stack's own trail: {most_arns(READS[detail])} buckets, instead of {MAX_ARNS}")


def _organization(wish: _Wish, before: Existing | None) -> str:
    """The organization whose accounts have agents of this hub, if it is a whole one."""
    return wish.given.get(ORGANIZATION, "" if before is None else before.parameters.get(ORGANIZATION, ""))


def _upload(bucket: Bucket, code: Package, wish: _Wish, organization: str) -> None:
    """Put the functions' code where CloudFormation finds it; for an organization also the agent's template."""
    if not wish.artifacts:
        bucket.make(organization)
    elif organization:
        statement = json.dumps(reading(bucket.partition, bucket.name, organization))
        say(f"for the agents in the organization, the policy of your bucket {bucket.name} needs: {statement}")
    if bucket.put(code.key, code.data):
        say(f"uploaded {len(code.data):,} bytes to s3://{bucket.name}/{code.key}")
    if organization:
        bucket.put_template(templates.text(templates.AGENT))


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
    """The command with which one goes on, after what set-up has warned of."""
    for each in stack.outputs.get("SetupSummary", "").split("WARNING: ")[1:]:
        warn(f"set-up: {each.removesuffix('; ')}")
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
    if stack.parameters.get(ORGANIZATION):
        _tell_organization(stack_set(access, stack))
    else:
        say("next, in each other account that has source or destination buckets, with its credentials:")
    say(f"  {agent_command(access, stack.outputs)}")
    say("and what the hub sees:")
    say(f"  {shlex.join([PROGRAM, '--store', stack.outputs.get('StoreUrl', ''), 'stats'])}")


def _tell_organization(agents: StackSet) -> None:
    say("next, for all accounts of the organization at once, with credentials of its management account (a delegated")
    say(f"administrator adds --call-as DELEGATED_ADMIN); {UNIT} is the id of a unit, or of the root, which")
    say("`aws organizations list-roots` shows:")
    for line in agents.making():
        say(f"  {line}")
    say("or, where they are there already:")
    say(f"  {agents.updating()}")
    say("the management account itself gets no agent by that; in single accounts, with their credentials:")


def stack_set(access: Access, hub: Existing) -> StackSet:
    """The stack set of a hub's agents."""
    code = {name: hub.parameters.get(name, "") for name in CODE}
    told = {name: hub.outputs[name] for name in templates.HUB_TELLS if name in hub.outputs}
    bucket = Bucket(access.client("s3"), code["CodeBucket"], access.account, access.region, access.partition)
    url = bucket.address(template_key(templates.text(templates.AGENT)))
    return StackSet(f"{hub.name}-agents", access.region, access.account, url, {**told, **code})


def agent_command(access: Access, outputs: Mapping[str, str]) -> str:
    """The call that deploys an agent of this hub."""
    told = [
        part for name in templates.HUB_TELLS if name in outputs for part in ("--parameter", f"{name}={outputs[name]}")
    ]
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
