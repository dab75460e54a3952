"""``crr-monitor simulate``: streams of events with their truth, and the comparison of a store with it."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click
import msgspec
from click.core import ParameterSource

from crr_monitor.cli.arguments import DURATION, MOMENT, Moment
from crr_monitor.cli.opening import configure, opened
from crr_monitor.cli.output import print_line
from crr_monitor.cli.session import PLACE, Session, example, pass_session, say
from crr_monitor.cli.words import duration_text
from crr_monitor.core.model import Status, to_json
from crr_monitor.core.times import format_time
from crr_monitor.simulate import KINDS, WRAPPERS, Layout, Plan, SimulateError, compare, run
from crr_monitor.stores.base import Query

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from crr_monitor.simulate import Difference
    from crr_monitor.stores.base import Store

DIFFERENT = 1
_DEFAULT = Plan()
_RATES = (
    ("audit_share", "of the objects go to a second destination too"),
    ("failure_rate", "of the copies fail"),
    ("repaired_share", "of the failed copies are repaired later"),
    ("pending_rate", "of the copies never arrive and never fail"),
    ("duplicate_rate", "of the messages come twice"),
    ("loss_rate", "of the writes, and of the arrivals, are told by no message"),
    ("delete_marker_rate", "of the objects get a delete marker"),
    ("delete_rate", "of the objects are deleted for good"),
    ("malformed_rate", "so many malformed messages for each object"),
    ("ignored_rate", "so many messages that do not matter for each object"),
)


class _SubsetType(click.ParamType[tuple[str, ...]]):
    """Some of a few names, with commas between them."""

    name = "names"

    def __init__(self, known: tuple[str, ...]) -> None:
        self._known = known

    def convert(
        self, value: str | tuple[str, ...], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        chosen = tuple(value.split(","))
        unknown = [one for one in chosen if one not in self._known]
        if unknown:
            self.fail(f"{unknown[0]!r} is none of {', '.join(self._known)}", param, ctx)
        return chosen


def _plan_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add an option for each of the plan's values, with the plan's own defaults."""
    options = [
        _option("objects", click.INT, "How many objects are written."),
        _option("seed", click.INT, "The same seed gives the same bytes."),
        _option("start", MOMENT, "When the first object is written.", format_time(_DEFAULT.start)),
        _option(
            "duration_ms", DURATION, "In what time all objects are written. Default: a day, or longer for very many."
        ),
        _option("pairs", click.INT, "How many source buckets there are."),
        *(_option(name, click.FLOAT, f"Share: {text}.") for name, text in _RATES),
        _option("lag_p50_ms", DURATION, "Half of the copies need at most this.", duration_text(_DEFAULT.lag_p50_ms)),
        _option("lag_p99_ms", DURATION, "99 of 100 copies need at most this.", duration_text(_DEFAULT.lag_p99_ms)),
        _option("reorder_ms", DURATION, "Messages are shuffled within this time.", duration_text(_DEFAULT.reorder_ms)),
        _option("kinds", _SubsetType(KINDS), "Kinds of messages, with commas between them.", ",".join(KINDS)),
        _option("wrappers", _SubsetType(WRAPPERS), "What messages are wrapped in, likewise.", ",".join(WRAPPERS)),
        _option("layout", click.Choice(get_args(Layout)), "A message per line, or CloudTrail's log files."),
        _option("gz", click.BOOL, "Compress the files.", flag=True),
        _option("messages_per_file", click.INT, "A new file begins after so many."),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def _option(
    name: str, kind: click.ParamType[Any], text: str, default: str | None = None, *, flag: bool = False
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    shown = getattr(_DEFAULT, name) if default is None else default
    if isinstance(shown, float):
        shown = round(shown, 4)
    return click.option(
        "--" + name.removesuffix("_ms").replace("_", "-"),
        name,
        type=kind,
        is_flag=flag,
        default=shown,
        show_default=not flag and shown is not None,
        help=text,
    )


@click.command(
    "simulate",
    short_help="Make events with their truth, or check a store with it.",
    epilog=example("crr-monitor simulate --objects 20000 --seed 7 --out day"),
)
@click.option(
    "--out", type=PLACE, metavar="FOLDER", help="Write the simulation into this folder, in place of an earlier one."
)
@click.option(
    "--check", type=PLACE, metavar="TRUTH", help="Instead, compare the store with the truth.ndjson of a simulation."
)
@_plan_options
@click.pass_context
@pass_session
def command(
    session: Session,
    context: click.Context,
    /,
    *,
    out: str | None,
    check: str | None,
    **plan: Any,  # noqa: ANN401 - each plan option has a type of its own
) -> None:
    """Simulate the events of replicated buckets, with the truth about every object version; or check the store with it.

    Writes topology.json, truth.ndjson and the events into a folder. With --check, ends with exit status 1 where store
    and truth differ.
    """
    if (out is None) == (check is None):
        message = "give one of --out and --check"
        raise click.UsageError(message)
    given = [name for name in plan if context.get_parameter_source(name) is ParameterSource.COMMANDLINE]
    if check is not None:
        if given:
            message = f"--check excludes --{given[0].removesuffix('_ms').replace('_', '-')}"
            raise click.UsageError(message)
        if not _check(session, Path(check)):
            context.exit(DIFFERENT)
    elif out is not None:
        _write(_plan({name: plan[name] for name in given}), Path(out))


def _plan(given: dict[str, Any]) -> Plan:
    """Only what was given: the plan has its own defaults, which the help merely shows rounded."""
    start = given.get("start")
    if isinstance(start, Moment):
        if start.ago:
            message = "--start has to be a time as 2026-11-22T07:00:00Z, so that the same command gives the same bytes"
            raise click.UsageError(message)
        given["start"] = start.value
    if given.get("layout") == "logs":
        given.setdefault("kinds", ("cloudtrail",))
    try:
        return Plan(**given)
    except SimulateError as error:
        raise click.UsageError(str(error)) from error


def _write(plan: Plan, out: Path) -> None:
    with _progress(plan.objects) as progress:
        summary = run(plan, out, progress)
    say(f"{summary.objects:,} objects, {summary.records:,} records, {summary.messages:,} messages in {out}")
    events = "AWSLogs" if plan.layout == "logs" else "events"
    say(f"next: crr-monitor ingest --topology {out / 'topology.json'} {out / events}")
    print_line(msgspec.to_builtins(summary))


@contextmanager
def _progress(objects: int) -> Iterator[Callable[[int], None]]:
    if not sys.stderr.isatty():
        yield lambda _done: None
        return
    from rich.console import Console  # noqa: PLC0415 - only a terminal needs it, and it takes its time
    from rich.progress import Progress  # noqa: PLC0415

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("objects", total=objects)
        yield lambda done: bar.update(task, completed=done)


def _check(session: Session, truth: Path) -> bool:
    with opened(configure(session), reading=True) as store:
        found = compare(truth, lambda *version: _look_up(store, *version), lambda: _count(store))
    names = ("compared", "missing", "extra", "different")
    print_line({name: getattr(found, name) for name in names})
    for example_ in found.examples:
        say(_sentence(example_))
    if found.none:
        say("the store holds the truth and nothing else")
    return found.none


def _look_up(store: Store, bucket: str, key: str, version_id: str) -> dict[str, Any] | None:
    for record in store.versions(bucket, key, version_id):
        if record.source_bucket == bucket and record.status > Status.UNCERTAIN:
            return to_json(record)
    return None


def _count(store: Store) -> int:
    return sum(1 for _ in store.records(Query()))


def _sentence(difference: Difference) -> str:
    name = f"s3://{difference.bucket}/{difference.key} version {difference.version_id}"
    expected, actual = ("absent" if value is None else value for value in (difference.expected, difference.actual))
    return f"{name}: {difference.field} should be {expected}, is {actual}"
