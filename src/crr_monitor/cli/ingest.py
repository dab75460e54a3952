"""``crr-monitor ingest``: read events into the store."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from crr_monitor.cli.access import aws_options
from crr_monitor.cli.arguments import refuse_stores
from crr_monitor.cli.draining import drain_queues, split_queues
from crr_monitor.cli.feeding import archive_of, feeding
from crr_monitor.cli.opening import configure, opened, read_topology
from crr_monitor.cli.output import print_line
from crr_monitor.cli.session import PLACE, Session, escape, example, pass_session, say, warn
from crr_monitor.cli.words import number_of
from crr_monitor.core.times import format_time
from crr_monitor.history.s3 import Reach
from crr_monitor.process.clock import feed_live, note_fresh
from crr_monitor.process.ingest import Ingest, Totals
from crr_monitor.sources.files import open_sources
from crr_monitor.sources.objects import SCHEME, list_logs, object_sources
from crr_monitor.sources.rejects import RejectFile
from crr_monitor.stores.base import system_clock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from crr_monitor.aws.queue import Queue
    from crr_monitor.config import Config
    from crr_monitor.core.topology import BucketConfig
    from crr_monitor.sources.base import SourceError
    from crr_monitor.sources.files import Resumable
    from crr_monitor.stores.base import Store

SHOWN_KINDS = 8
"""How many of the kinds that were ignored are named; the most frequent ones."""


@click.command("ingest", epilog=example("crr-monitor ingest --topology topology.json AWSLogs/"))
@click.argument("sources", type=PLACE, metavar="SOURCE...", nargs=-1, required=True)
@click.option("--topology", type=PLACE, metavar="FILE", help="Learn the replication rules in this file first.")
@click.option("--rejects", type=PLACE, metavar="FILE", help="Where malformed messages go. Default: beside the store.")
@click.option("--again", is_flag=True, help="Read files once more that were read before; that counts nothing twice.")
@click.option("--strict", is_flag=True, help="End with exit status 1 if a message was malformed.")
@click.option("--no-progress", is_flag=True, help="Show no progress bar on a terminal.")
@click.option("--archive", type=PLACE, metavar="FOLDER", help="Archive what settles: a folder, or s3://bucket/prefix.")
@click.option("--archive-only", is_flag=True, help="Past the store: logs straight into the archive.")
@click.option("--work", type=PLACE, metavar="FOLDER", help="Where --archive-only keeps what is unfinished.")
@click.option("--processes", type=click.IntRange(1, 256), help="So many processes for --archive-only.")
@aws_options
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
    archive: str | None,
    archive_only: bool,
    work: str | None,
    processes: int | None,
    region: str | None,
    profile: str | None,
    endpoint_url: str | None,
) -> None:
    """Read events into the store.

    SOURCE is a file, a folder with all that is in it, - for standard input, or with the extra aws what is below
    s3://bucket/prefix, or an SQS queue (sqs://QUEUE-URL): CloudTrail logs, S3 event notifications, EventBridge events,
    one document or one message per line, also gzipped. An interrupted ingest goes on where it stopped. Of a queue,
    messages are removed once they are stored. Prints one line of JSON: messages, events, ignored, malformed,
    records_changed (with --archive-only rows and files), seconds.
    """
    _check_options(sources, past_store=archive_only, only_then=work is not None or processes is not None)
    config = configure(session, rejects=rejects, archive=archive)
    learned = read_topology(topology) if topology is not None else []
    reach = Reach(region, profile, endpoint_url)
    if archive_only:
        from crr_monitor.cli import archiving  # noqa: PLC0415 - pools of processes take their time to load

        options = archiving.Backfill(config.archive, reach, work, processes, progress=not no_progress)
        unread = Unread()
        done = archiving.archive_only(sources, config, learned, options, unread.tell)
        context.exit(1 if unread.count or (strict and done.counts.malformed) else 0)
    source = split_queues(sources, reach)
    _into_store(context, config, source, learned, reach, again=again, strict=strict, progress=not no_progress)


def _into_store(  # noqa: PLR0913 - what to read, and how
    context: click.Context,
    config: Config,
    found_at: tuple[list[str], list[Queue]],
    learned: list[tuple[BucketConfig, bool]],
    reach: Reach,
    *,
    again: bool,
    strict: bool,
    progress: bool,
) -> None:
    """Read sources into the store, and say what came of it."""
    others, queues = found_at
    unread = Unread()
    found = _sources(others, config, reach, unread)
    target = archive_of(config, reach)
    began = time.monotonic()
    with opened(config, create=True) as store:
        if learned:
            store.learn(learned)
        note_fresh(store, system_clock())
        if queues:
            feed_live(store, "queue", system_clock())
        with (
            _progress(found, wanted=progress) as bar,
            feeding(store, config, target, [source.name for source in found], bar) as told,
        ):
            totals = _ingest(store, config, found, queues, again=again, progress=told)
        seconds = time.monotonic() - began
        _tell(totals, config, sources=len(found) + len(queues), seconds=seconds)
        _warn(store, learned, totals)
    print_line(_summary(totals, seconds))
    if unread.count or (strict and totals.counts.malformed):
        context.exit(1)


class Unread:
    """What lies in folders and could not be read: told at once, and counted."""

    def __init__(self) -> None:
        self.count = 0

    def tell(self, error: SourceError) -> None:
        """One more."""
        self.count += 1
        say(f"not read: {error}")


def _check_options(sources: Sequence[str], *, past_store: bool, only_then: bool) -> None:
    """End with a usage error where a source is of a kind that is to come, or options do not go together."""
    refuse_stores(sources)
    if only_then and not past_store:
        message = "--work and --processes go with --archive-only"
        raise click.UsageError(message)


def _sources(names: Sequence[str], config: Config, reach: Reach, unread: Unread) -> list[Resumable]:
    """Files and what is in folders, then objects of S3."""
    found: list[Resumable] = []
    local = [name for name in names if not name.startswith(SCHEME)]
    found.extend(open_sources(local, _own_files(config), unread.tell))
    if len(local) < len(names):
        client = reach.client()
        objects = [each for name in names if name.startswith(SCHEME) for each in list_logs(client, name)]
        found.extend(object_sources(client, objects))
    return found


def _own_files(config: Config) -> list[str]:
    return [f"{config.store}{ending}" for ending in ("", "-wal", "-shm")] + [str(config.rejects)]


def _ingest(  # noqa: PLR0913 - what goes where, then options by name
    store: Store,
    config: Config,
    sources: Sequence[Resumable],
    queues: Sequence[Queue],
    *,
    again: bool,
    progress: Callable[[Totals], None],
) -> Totals:
    rejects = RejectFile(config.rejects)
    try:
        totals = Ingest(store, rejects, again=again, progress=progress).run(sources)
        drain_queues(queues, store, rejects, totals)
    except KeyboardInterrupt:
        say("what was stored is kept: run the same command again to go on")
        raise
    else:
        return totals
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
    say(f"{number_of(sources, 'source')} in {seconds:.1f} s" + (f" ({', '.join(notes)})" if notes else ""))
    counts = totals.counts
    read = f"{number_of(counts.messages, 'message')}, {number_of(counts.events, 'event')}"
    say(f"{read}, {number_of(totals.records_changed, 'record')} changed")
    if counts.ignored:
        kinds = sorted(counts.ignored.items(), key=lambda kind: (-kind[1], kind[0]))
        shown = [f"{name} {count:,}" for name, count in kinds[:SHOWN_KINDS]]
        if len(kinds) > SHOWN_KINDS:
            rest = sum(count for _, count in kinds[SHOWN_KINDS:])
            shown.append(f"{number_of(len(kinds) - SHOWN_KINDS, 'other kind')} {rest:,}")
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
def _progress(sources: Sequence[Resumable], *, wanted: bool) -> Iterator[Callable[[Totals], None]]:
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
    what = escape(sources[0].name.rpartition("/")[2]) if len(sources) == 1 else number_of(len(sources), "source")
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total, events=0, rate=0.0)
        began = time.monotonic()

        def advance(totals: Totals) -> None:
            rate = totals.counts.events / max(time.monotonic() - began, 0.001)
            bar.update(task, completed=totals.read_bytes, events=totals.counts.events, rate=rate)

        yield advance
