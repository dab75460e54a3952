"""``crr-monitor destroy``: remove a stack, and say what stays."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import click
from msgspec import Struct

from crr_monitor.aws.artifacts import Bucket, bucket_name
from crr_monitor.aws.parameters import retained
from crr_monitor.aws.stacks import REVIEW, Existing, Resource, Stacks
from crr_monitor.cli.access import NEEDS_AWS, Access, Target, aws_options, confirm, connect, explained
from crr_monitor.cli.deploy import KINDS, ORGANIZATION, STACK_NAME, Kind, check_kind, stack_set, tell
from crr_monitor.cli.leftovers import look_for_left
from crr_monitor.cli.session import example, say, warn

if TYPE_CHECKING:
    from collections.abc import Iterable

BUCKET = "AWS::S3::Bucket"


class _Removal(Struct, frozen=True):
    """What goes, and what the stack leaves behind. ``artifacts``: the code's bucket, if nobody else needs it."""

    stack: Existing
    going: tuple[Resource, ...]
    staying: tuple[Resource, ...]
    artifacts: str
    shared_with: tuple[str, ...]

    @property
    def buckets(self) -> list[str]:
        """The buckets that stay, and that ``--purge`` removes."""
        logs = [each.physical_id for each in self.staying if each.kind == BUCKET]
        return [*logs, *([self.artifacts] if self.artifacts and not self.shared_with else [])]


@click.command(
    "destroy",
    short_help="Remove the hub or an agent from AWS (extra: aws).",
    epilog=example("crr-monitor destroy agent --region eu-west-1"),
    help=f"""Remove what deploy made: the stack, and what its set-up made in all Regions.

    Says what goes and what stays, and asks. The trail's log files and the functions' code stay, in two buckets; --purge
    removes these, too, also when the stack is gone already. Remove the agents before their hub.

    {NEEDS_AWS}""",
)
@click.argument("kind", type=click.Choice(KINDS))
@click.option("--stack-name", metavar="NAME", default=STACK_NAME, show_default=True, help="The stack's name.")
@click.option("--purge", is_flag=True, help="Also empty and remove the buckets that stay.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@aws_options
def command(  # noqa: PLR0913 - one for each option
    *,
    kind: Kind,
    stack_name: str,
    purge: bool,
    yes: bool,
    region: str | None,
    profile: str | None,
    endpoint_url: str | None,
) -> None:
    """See ``help``."""
    access = connect(Target(region, profile, endpoint_url))

    with explained(access.region, endpoint_url):
        stacks = Stacks(access.client("cloudformation"))
        stack = stacks.find(stack_name)
        if stack is None:
            _remove_left(access, stacks, stack_name, purge=purge, ask=not yes)
            return
        check_kind(stack, kind)
        removal = _look(access, stacks, stack)
        _show(access, kind, removal, purge=purge)
        if not yes:
            confirm("Remove it?")
        _remove(access, stacks, removal, purge=purge)


def _look(access: Access, stacks: Stacks, stack: Existing) -> _Removal:
    resources = [] if stack.status == REVIEW else stacks.resources(stack)
    stay = retained(stacks.template(stack)) if resources else set()
    ours = bucket_name(access.account, access.region)
    artifacts = ours if stack.parameters.get("CodeBucket") == ours else ""
    others = [each for each in stacks.all() if each.stack_id != stack.stack_id]
    return _Removal(
        stack,
        tuple(each for each in resources if each.logical_id not in stay),
        tuple(each for each in resources if each.logical_id in stay and each.physical_id),
        artifacts,
        tuple(each.name for each in others if each.parameters.get("CodeBucket") == ours),
    )


def _show(access: Access, kind: Kind, removal: _Removal, *, purge: bool) -> None:
    say(f"remove stack {removal.stack.name} ({kind}, {removal.stack.status}) in {access}:")
    for name, count in sorted(Counter(each.kind for each in removal.going).items()):
        say(f"  {count:>3}  {name}")
    say("  and the trail, rules, topics and queues that its set-up made in all Regions")
    for name in removal.buckets:
        what = "removed with all that is in it" if purge else "stays, with what is in it (--purge removes it)"
        say(f"  bucket {name}: {what}")
    if removal.artifacts and removal.shared_with:
        say(f"  bucket {removal.artifacts} stays: {', '.join(removal.shared_with)} also has its code there")
    code = removal.stack.parameters.get("CodeBucket", "")
    if code and not removal.artifacts:
        say(f"  s3://{code}/{removal.stack.parameters.get('CodeKey', '')} stays: the bucket is yours")
    if kind == "hub" and (removal.stack.parameters.get("AgentAccounts") or removal.stack.parameters.get(ORGANIZATION)):
        say("  agents in other accounts stay, and fail to reach it: destroy them first, with their credentials")
    if kind == "hub" and removal.stack.parameters.get(ORGANIZATION):
        say("  those of a stack set all at once, with credentials of the organization's management account:")
        for line in stack_set(access, removal.stack).removing():
            say(f"    {line}")


def _remove(access: Access, stacks: Stacks, removal: _Removal, *, purge: bool) -> None:
    try:
        stacks.delete(removal.stack, tell)
    except KeyboardInterrupt:
        say("CloudFormation goes on by itself: run the same command again to see how it ended")
        raise
    if purge:
        _purge(access, removal.buckets)
    say(f"stack {removal.stack.name} is removed")


def _purge(access: Access, names: Iterable[str]) -> None:
    for name in names:
        if Bucket(access.client("s3"), name, access.account, access.region, access.partition).remove():
            say(f"removed bucket {name}")


def _remove_left(access: Access, stacks: Stacks, stack_name: str, *, purge: bool, ask: bool) -> None:
    """Where the stack is gone already: the buckets that removed stacks have left, whatever their names were."""
    say(f"there is no stack {stack_name} in {access}: nothing to remove")
    if not purge:
        say("(--purge looks for buckets that removed stacks have left)")
        return
    left = look_for_left(access, stacks)
    for text in left.unknown:
        warn(text)
    if not left.buckets:
        say("no bucket is left of removed stacks")
        return
    say("but removed stacks have left:")
    for name, what in left.buckets:
        say(f"  bucket {name}: {what}; removed with all that is in it")
    if ask:
        confirm("Remove it?")
    _purge(access, [name for name, _ in left.buckets])
