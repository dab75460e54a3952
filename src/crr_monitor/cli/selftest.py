"""``crr-monitor selftest``: prove the whole path of a deployed hub, from an object to an alarm and back."""

from __future__ import annotations

import time
from collections.abc import Callable

import click
from msgspec import Struct

from crr_monitor.aws.sessions import AwsError
from crr_monitor.cli.access import NEEDS_AWS, Target, aws_options, connect, explained
from crr_monitor.cli.deploy import STACK_NAME
from crr_monitor.cli.proof import BrokenError
from crr_monitor.cli.proof_path import Proof
from crr_monitor.cli.session import escape, example, say
from crr_monitor.core.canary import PAIR
from crr_monitor.stores.base import StoreError

FAILED = 1
CURES = "allow this action to the credentials that were used (--profile, --bucket-profile)"


class _Step(Struct, frozen=True):
    """``needs`` are the numbers of steps without which it would tell nothing."""

    name: str
    prove: Callable[[Proof], str]
    needs: tuple[str, ...] = ()


STEPS = (
    _Step("stack", Proof.stack),
    _Step("functions", Proof.functions, ("stack",)),
    _Step("schedules", Proof.schedules, ("stack",)),
    _Step("events", Proof.events, ("stack",)),
    _Step("subscription", Proof.subscription, ("stack",)),
    _Step("queues", Proof.queues, ("stack",)),
    _Step("alarms", Proof.alarms, ("stack",)),
    _Step("object", Proof.write, ("stack",)),
    _Step("record", Proof.record, ("object",)),
    _Step("replica", Proof.replica, ("record",)),
    _Step("counted", Proof.counted, ("record",)),
    _Step("metrics", Proof.metrics, ("stack",)),
    _Step("message", Proof.message, ("alarms",)),
)
"""In the order of an object's way, what is cheap to see first."""


@click.command(
    "selftest",
    short_help="Prove that the deployed hub works (extra: aws).",
    epilog=example("crr-monitor selftest --region us-east-1 --pair orders:orders-dr"),
    help=f"""Prove in a deployed hub that everything works, from an object to an alarm's message and back.

    Looks at what is there, writes a tiny object below .crr-monitor/canary/ into the pair's source, follows it to its
    replica, its record and the metrics, and sets an alarm for a moment, whose message also those get who are
    subscribed. Prints a line per step; where something is broken, also what to do. Removes what it made, also when it
    is interrupted. Exit status: 0 all is proven, 1 something is not.

    {NEEDS_AWS}""",
)
@click.option("--stack-name", metavar="NAME", default=STACK_NAME, show_default=True, help="The hub's stack.")
@click.option("--pair", metavar="SOURCE:DESTINATION", required=True, help="The two buckets of the pair to try.")
@click.option(
    "--timeout",
    metavar="SECONDS",
    type=click.IntRange(1, 3_600),
    default=600,
    show_default=True,
    help="How long each thing may take to arrive.",
)
@click.option(
    "--bucket-profile",
    metavar="NAME",
    help="The profile that may write to the pair's buckets, where they are another account's. Default: --profile.",
)
@aws_options
def command(  # noqa: PLR0913 - one for each option
    *,
    stack_name: str,
    pair: str,
    timeout: int,
    bucket_profile: str | None,
    region: str | None,
    profile: str | None,
    endpoint_url: str | None,
) -> int:
    """See ``help``."""
    match = PAIR.fullmatch(pair)
    if match is None or match[2] is None:
        message = f"--pair {pair}: write SOURCE:DESTINATION, the names of two buckets"
        raise click.UsageError(message)
    access = connect(Target(region, profile, endpoint_url))
    # In the hub's Region; only the buckets' own Regions differ.
    owner = access if bucket_profile is None else connect(Target(access.region, bucket_profile, endpoint_url))
    with explained(access.region, endpoint_url):
        proof = Proof(access, owner, stack_name, (match[1], match[2]), timeout)
        return _run(proof)


def _run(proof: Proof) -> int:
    broken: set[str] = set()
    try:
        for step in STEPS:
            needed = [name for name in step.needs if name in broken]
            if needed:
                broken.add(step.name)
                _print("skip", step.name, f"not tried, as it needs: {', '.join(needed)}", 0.0)
            elif not _try(step, proof):
                broken.add(step.name)
    finally:
        left = _clean(proof)
    if broken or left:
        say("something is not proven: mend what is broken above, the first one first, and run the same command again")
        return FAILED
    say("all is proven")
    return 0


def _try(step: _Step, proof: Proof) -> bool:
    began = time.monotonic()
    try:
        found = step.prove(proof)
    except BrokenError as error:
        _print("BROKEN", step.name, str(error), time.monotonic() - began)
        say(f"          do: {error.cure}")
        return False
    except AwsError as error:
        _print("BROKEN", step.name, str(error), time.monotonic() - began)
        say(f"          do: {CURES if error.denied else 'run the same command again, and see whether AWS answers'}")
        return False
    except StoreError as error:
        _print("BROKEN", step.name, str(error), time.monotonic() - began)
        say("          do: see that these credentials may read the hub's tables, and that they are there")
        return False
    _print("ok", step.name, found, time.monotonic() - began)
    return True


def _print(what: str, name: str, text: str, seconds: float) -> None:
    """A line of the report; it is data, so it goes to standard output."""
    click.echo(escape(f"{what:<6}  {name:<12}  {seconds:6.1f} s  {text}"))


def _clean(proof: Proof) -> bool:
    """Remove what was made; whether something of it is left."""
    began = time.monotonic()
    removed, left = proof.clean()
    if removed:
        _print("ok", "clean-up", f"removed {', '.join(removed)}", time.monotonic() - began)
    for each in left:
        _print("BROKEN", "clean-up", each, time.monotonic() - began)
        say("          do: remove it by hand; versions of the object go with `aws s3api delete-object --version-id`")
    return bool(left)
