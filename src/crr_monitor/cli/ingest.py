"""``crr-monitor ingest``: read events into the store."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from crr_monitor.cli.arguments import refuse_planned
from crr_monitor.cli.opening import configure, opened, read_topology
from crr_monitor.cli.output import print_line
from crr_monitor.cli.session import Session, escape, example, pass_session, say, warn
from crr_monitor.core.times import format_time
from crr_monitor.process.ingest import Ingest, Totals
from crr_monitor.sources.files import open_sources
from crr_monitor.sources.rejects import RejectFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from crr_monitor.config import Config
    from crr_monitor.core.topology import BucketConfig
    from crr_monitor.sources.files import FileSource
    from crr_monitor.stores.base import Store

SHOWN_KINDS = 8
"""How many of the kinds that were ignored are named; the most frequent ones."""


@click.command("ingest", epilog=example("crr-monitor ingest --topology topology.json AWSLogs/"))
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True)
@click.option("--topology", metavar="FILE", help="Learn the replication rules in this file first.")
@click.option("--rejects", metavar="FILE", help="Where malformed messages go. Default: beside the store.")
@click.option("--again", is_flag=True, help="Read files once more that were read before; that counts nothing twice.")
@click.option("--strict", is_flag=True, help="End with exit status 1 if a message was malformed.")
@click.option("--no-progress", is_flag=True, help="Show no progress bar on a terminal.")
@click.pass_context
@pass_session
def command(  # noqa: PLR0913 - one for each option
    session: Session,
    context: click.Context,
    /,
    *,
    sources: tuple[str, ...],
    topology: str | None,
    rejects: str | None,
    again: bool,
    strict: bool,
    no_progress: bool,
) -> None:
    """Read events into the store.

    SOURCE is a file, a folder with all that is in it, or - for standard input: CloudTrail logs, S3 event notifications,
    EventBridge events, one document or one message per line, also gzipped. An interrupted ingest goes on where it
    stopped. Prints one line of JSON: messages, events, ignored, malformed, records_changed, seconds.
    """
    refuse_planned(sources)
    config = configure(session, rejects=rejects)
    learned = read_topology(topology) if topology is not None else []
    found = open_sources(sources, exclude=_own_files(config))
    began = time.monotonic()
    with opened(config, create=True) as store:
        if learned:
            store.learn(learned)
        with _progress(found, wanted=not no_progress) as progress:
            totals = _ingest(store, config, found, again=again, progress=progress)
        seconds = time.monotonic() - began
        _tell(totals, config, sources=len(found), seconds=seconds)
        _warn(store, learned, totals)
    print_line(_summary(totals, seconds))
    if strict and totals.counts.malformed:
        context.exit(1)


def _own_files(config: Config) -> list[str]:
    return [f"{config.store}{ending}" for ending in ("", "-wal", "-shm")] + [str(config.rejects)]


def _ingest(
    store: Store, config: Config, sources: Sequence[FileSource], *, again: bool, progress: Callable[[Totals], None]
) -> Totals:
    rejects = RejectFile(config.rejects)
    try:
        return Ingest(store, rejects, again=again, progress=progress).run(sources)
    except KeyboardInterrupt:
        say("what was stored is kept: run the same command again to go on")
        raise
    finally:
        rejects.close()


def _summary(totals: Totals, seconds: float) -> dict[str, Any]:
    return {
        "messages": totals.counts.messages,
        "events": totals.counts.events,
        "ignored": sum(totals.counts.ignored.values()),
        "malformed": totals.counts.malformed,
        "records_changed": totals.records_changed,
        "seconds": round(seconds, 3),
    }


def _tell(totals: Totals, config: Config, *, sources: int, seconds: float) -> None:
    """The same for people."""
    notes = []
    if totals.skipped:
        notes.append(f"{totals.skipped:,} skipped: read before")
    if totals.resumed:
        notes.append(f"{totals.resumed:,} resumed")
    say(
        f"{sources:,} source{'s' if sources != 1 else ''} in {seconds:.1f} s"
        + (f" ({', '.join(notes)})" if notes else "")
    )
    counts = totals.counts
    say(f"{counts.messages:,} messages, {counts.events:,} events, {totals.records_changed:,} records changed")
    if counts.ignored:
        kinds = sorted(counts.ignored.items(), key=lambda kind: (-kind[1], kind[0]))
        shown = [f"{name} {count:,}" for name, count in kinds[:SHOWN_KINDS]]
        if len(kinds) > SHOWN_KINDS:
            rest = sum(count for _, count in kinds[SHOWN_KINDS:])
            shown.append(f"{len(kinds) - SHOWN_KINDS} other kinds {rest:,}")
        say(f"ignored {sum(counts.ignored.values()):,}: {', '.join(shown)}")
    if counts.malformed:
        say(f"malformed {counts.malformed:,}: kept with the reasons in {config.rejects}")


def _warn(store: Store, learned: Sequence[tuple[BucketConfig, bool]], totals: Totals) -> None:
    """Tell why nothing may be pending although something is missing."""
    topology, newest = store.topology(), store.newest()
    if not topology and totals.counts.events:
        say("no replication rules are known (--topology): pairs are inferred from replicas, and nothing can be pending")
    if newest is None:
        return
    without = {config.bucket for config, has_since in learned if config.rules and not has_since}
    late = {pair.source.bucket: pair.source.since for pair in topology.pairs() if pair.source.since > newest.event_at}
    buckets = sorted(without & set(late))
    if buckets:
        since, last = format_time(late[buckets[0]]), format_time(newest.event_at)
        warn(
            f"the rules of {', '.join(buckets)} have no `since` and count from {since} on, but the newest event is of"
            f' {last}: nothing is expected of these writes; add "since" to the topology and ingest with --again'
        )


@contextmanager
def _progress(sources: Sequence[FileSource], *, wanted: bool) -> Iterator[Callable[[Totals], None]]:
    """What is to be called with the totals as they grow; a bar, if somebody looks."""
    if not wanted or not sys.stderr.isatty():
        yield lambda _totals: None
        return
    from rich.console import Console  # noqa: PLC0415 - only a terminal needs it, and it takes its time
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    sizes = [source.size for source in sources]
    total = None if None in sizes else sum(size or 0 for size in sizes)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        TaskProgressColumn(show_speed=False),
        TextColumn("{task.fields[events]:,} events, {task.fields[rate]:,.0f}/s", markup=False),
        TimeRemainingColumn(compact=True),
    )
    what = escape(sources[0].name.rpartition("/")[2]) if len(sources) == 1 else f"{len(sources):,} sources"
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total, events=0, rate=0.0)
        began = time.monotonic()

        def advance(totals: Totals) -> None:
            rate = totals.counts.events / max(time.monotonic() - began, 0.001)
            bar.update(task, completed=totals.read_bytes, events=totals.counts.events, rate=rate)

        yield advance
