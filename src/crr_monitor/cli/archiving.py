"""``crr-monitor ingest --archive-only``: logs straight into the archive, past the store."""

from __future__ import annotations

import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from msgspec import Struct

from crr_monitor.cli.opening import opened
from crr_monitor.cli.output import print_line
from crr_monitor.cli.session import CommandError, say, warn
from crr_monitor.config import NO_ARCHIVE
from crr_monitor.core.topology import Topology
from crr_monitor.history.backfill import Progress, make_plan, run
from crr_monitor.history.coverage import save_logs
from crr_monitor.history.layout import S3, open_target
from crr_monitor.history.s3 import Reach
from crr_monitor.sources.files import open_sources
from crr_monitor.sources.objects import SCHEME, Found, list_logs
from crr_monitor.stores.base import system_clock

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from crr_monitor.config import Config
    from crr_monitor.core.topology import BucketConfig
    from crr_monitor.history.backfill import Done
    from crr_monitor.sources.base import SourceError


def found_logs(
    sources: Sequence[str], reach: Reach, exclude: Collection[str], tell: Callable[[SourceError], None]
) -> list[Found]:
    """Everything that the arguments name, each once, with its size: files, folders, ``s3://`` prefixes.

    What lies in a folder and cannot be read is given to ``tell``, and passed over.

    Raises:
        SourceError: one of them cannot be read or listed.
        CommandError: standard input, which cannot be read twice.
    """
    if "-" in sources:
        message = "standard input cannot be read again after a kill: name files, folders or s3:// for --archive-only"
        raise CommandError(message)
    found: dict[str, Found] = {}
    local = [source for source in sources if not source.startswith(SCHEME)]
    for file in open_sources(local, exclude, tell):
        found[file.name] = Found(file.name, file.size or 0, file.fingerprint or "")
    client = reach.client() if len(local) < len(sources) else None
    for source in sources:
        if source.startswith(SCHEME):
            found.update((each.name, each) for each in list_logs(client, source))
    return list(found.values())


class Backfill(Struct, frozen=True):
    """The options of an ingest past the store, as they were given."""

    archive: str | None
    reach: Reach
    work: str | None
    processes: int | None
    progress: bool


def archive_only(
    sources: Sequence[str],
    config: Config,
    learned: Sequence[tuple[BucketConfig, bool]],
    options: Backfill,
    tell: Callable[[SourceError], None],
) -> Done:
    """Do it, and print the line of JSON; ``tell`` is given what lies in a folder and cannot be read."""
    archive = options.archive
    if archive is None or archive == NO_ARCHIVE:
        message = "--archive-only needs --archive FOLDER (or s3://bucket/prefix)"
        raise click.UsageError(message)
    began = time.monotonic()
    logs = found_logs(sources, options.reach, [str(config.rejects)], tell)
    plan = make_plan(logs, _topology(config, learned), archive, options.reach)
    with _progress(wanted=options.progress) as show:
        try:
            done = run(plan, _work(archive, options.work), config.rejects, options.processes, show)
        except KeyboardInterrupt:
            say("what was done is kept: run the same command again to go on")
            raise
    save_logs([log.name for log in logs], open_target(archive, options.reach.client))
    seconds = time.monotonic() - began
    say(f"{len(logs):,} logs in {seconds:.1f} s: {done.rows:,} copies in {done.files:,} files of {archive}")
    if done.counts.malformed:
        say(f"malformed {done.counts.malformed:,}: kept with the reasons in {config.rejects}")
    print_line(_summary(done, seconds))
    return done


def _summary(done: Done, seconds: float) -> dict[str, Any]:
    return {
        "messages": done.counts.messages,
        "events": done.counts.events,
        "ignored": sum(done.counts.ignored.values()),
        "malformed": done.counts.malformed,
        "rows": done.rows,
        "files": done.files,
        "seconds": round(seconds, 3),
    }


def _topology(config: Config, learned: Sequence[tuple[BucketConfig, bool]]) -> Topology:
    """What the file says, on top of what the store knows, where there is one."""
    known = Topology()
    if isinstance(config.store, str) or config.store.exists():
        with opened(config, reading=True) as store:
            known = store.topology()
    topology = known.learn(learned, system_clock()) if learned else known
    if not topology:
        say("no replication rules are known (--topology): pairs are inferred from replicas, and nothing can be pending")
    without = sorted({each.bucket for each, has_since in learned if each.rules and not has_since})
    if without:
        warn(
            f"the rules of {', '.join(without)} have no `since` and count from now on: nothing is expected of writes"
            ' in older logs; add "since" to the topology'
        )
    return topology


def _work(archive: str, named: str | None) -> Path:
    if named is not None:
        return Path(named)
    if archive.startswith(S3):
        return Path(tempfile.gettempdir()) / "crr-monitor-backfill"
    return Path(archive) / ".unfinished"


_WORDS = {"read": "reading logs", "settle": "merging", "file": "writing Parquet"}


@contextmanager
def _progress(*, wanted: bool) -> Iterator[Callable[[Progress], None]]:
    if not wanted or not sys.stderr.isatty():
        yield lambda _progress: None
        return
    from rich.console import Console  # noqa: PLC0415 - only a terminal needs it, and it takes its time
    from rich.progress import Progress as Bars  # noqa: PLC0415

    with Bars(console=Console(stderr=True), transient=True) as bars:
        tasks = {stage: bars.add_task(words, total=None, visible=False) for stage, words in _WORDS.items()}

        def advance(now: Progress) -> None:
            bars.update(tasks[now.stage], completed=now.done, total=now.total, visible=True)

        yield advance
