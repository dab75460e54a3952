"""The whole process: everything started in its order, and at the end stopped in the order that loses nothing."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web
from msgspec import Struct

from crr_monitor import __version__
from crr_monitor.aws.drain import SCHEME, open_queue
from crr_monitor.aws.queue import Queue
from crr_monitor.config import NO_ARCHIVE, Config
from crr_monitor.core.times import DAY_MS, HOUR_MS, SECOND_MS
from crr_monitor.history.drain import new_name
from crr_monitor.history.layout import Target
from crr_monitor.process.clock import feed_live
from crr_monitor.process.reconcile import Limits, Prober
from crr_monitor.serve.access import Access, is_loopback
from crr_monitor.serve.app import Site
from crr_monitor.serve.archive import Beat, Feed, Watchlog
from crr_monitor.serve.errors import ServeError
from crr_monitor.serve.folder import FolderReader
from crr_monitor.serve.health import Health
from crr_monitor.serve.readers import Readers
from crr_monitor.serve.sources import SourceThread
from crr_monitor.serve.sqs import QueueReader
from crr_monitor.serve.state import State
from crr_monitor.serve.subscriptions import Subscriptions
from crr_monitor.serve.ticks import Purge, Tick, TickError, TickThread, WrittenStore
from crr_monitor.serve.tokens import Guard, read_token
from crr_monitor.serve.watching import Ask, Look
from crr_monitor.serve.webhook import Webhook
from crr_monitor.serve.writer import Writer
from crr_monitor.sinks.openmetrics import Own
from crr_monitor.sinks.senders import Sender
from crr_monitor.sinks.watching import Watch
from crr_monitor.sources.files import logs_in
from crr_monitor.sources.rejects import RejectFile
from crr_monitor.stores.base import Retention, StoreError, system_clock
from crr_monitor.stores.sqlite import SqliteStore

if TYPE_CHECKING:
    from crr_monitor.config import Address

LOOK_SECONDS = 0.5
"""How often it is looked whether the writer still lives."""

FINISH_SECONDS = 20.0
"""How long requests may take to be finished at the end."""

WRITER_CACHE_KIB, READER_CACHE_KIB = 32_768, 8_192
"""What the store may keep of its file in memory: there are one writer and several readers."""

TICK_SECONDS = 5.0
"""How long a task may take to end its run at the end."""

ARCHIVE_SECONDS = 30.0
"""How long writing to the archive may take at the end: what is not written then is written at the next start."""

SWITCH_SECONDS = 0.0005
"""How long one thread may keep the interpreter while another wants it: SQLite gives it up at each step, and would wait
for it 5 ms by default. On a busy machine that is half of the rate."""

GC_THRESHOLD = 100_000
"""Evidence is trees of values: looking for cycles among them often only takes time."""


class Options(Struct, frozen=True, kw_only=True):
    """What to serve.

    ``sources``: folders and ``sqs://`` addresses. ``prober``: with it S3 is asked about what is overdue. ``senders``:
    who is told of trouble. ``archive``: where to write what settles. ``open_queue``: opens such an address.
    ``topics``: ARNs of topics of SNS that may subscribe; ``endpoint_url``: of a local AWS.
    """

    config: Config
    sources: tuple[str, ...] = ()
    allow_remote: bool = False
    prober: Prober | None = None
    limits: Limits = Limits()
    senders: tuple[Sender, ...] = ()
    archive: Target | None = None
    open_queue: Callable[[str], Queue] = open_queue
    topics: tuple[str, ...] = ()
    endpoint_url: str | None = None


def serve(options: Options, say: Callable[[str], None]) -> None:
    """Run until SIGTERM or SIGINT; a second one ends at once. ``say`` is told what happens, line by line.

    Raises:
        ServeError, TokenError, SourceError, StoreError: it could not start; one line says why.
    """
    gc.set_threshold(GC_THRESHOLD)
    sys.setswitchinterval(SWITCH_SECONDS)
    with _only_one(_store_path(options.config)):
        asyncio.run(_Service(options, say).run())


def _store_path(config: Config) -> Path:
    if isinstance(config.store, Path):
        return config.store
    message = f"serve keeps its records in a file of SQLite: name one with --store, instead of {config.store}"
    raise ServeError(message)


@contextlib.contextmanager
def _only_one(store: Path) -> Iterator[None]:
    """Two of them would read every source twice."""
    path = Path(f"{store}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        message = f"cannot make the lock file {path}: {error.strerror}; name a store in a folder that may be written"
        raise ServeError(message) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        message = f"another crr-monitor serve uses the store {store}: stop it, or name another store with --store"
        raise ServeError(message) from error
    else:
        yield
    finally:
        os.close(descriptor)


def _checked_token(options: Options) -> str | None:
    """The token; addresses that others can reach need one, and that somebody said so."""
    token, address = read_token(options.config), options.config.listen
    if is_loopback(address.host):
        return token
    if not options.allow_remote:
        message = f"{address} can be reached from other machines: add --allow-remote if that is meant"
        raise ServeError(message)
    if token is None:
        message = f"{address} can be reached from other machines, so a token is needed: --token-file FILE"
        raise ServeError(message)
    return token


def _ticks(options: Options, own: Own) -> list[Tick]:
    config = options.config
    settings = Watch(rpo_ms=config.rpo_seconds * SECOND_MS, command=f"crr-monitor --store {config.store}")
    ticks: list[Tick] = [Purge(), Look(options.senders, settings, own)]
    if options.prober is not None:
        ticks.append(Ask(options.prober, options.limits, own))
    return ticks


class _Service:
    """One run."""

    def __init__(self, options: Options, say: Callable[[str], None]) -> None:
        config = options.config
        self._say = say
        self._config = config
        self._open_queue = options.open_queue
        token = _checked_token(options)
        guard = None if token is None else Guard(token)
        self.state = State(system_clock(), __version__)
        self._rejects = RejectFile(config.rejects)
        self._writer = Writer(lambda: self._open(create=True), self._rejects, self.state, say)
        self._readers = Readers(lambda: self._open(create=False))
        self._hears = guard is not None or bool(options.sources)
        access = Access(guard, local=is_loopback(config.listen.host))
        health = Health(self._writer, self.state)
        own = Own(rpo_seconds=float(config.rpo_seconds))
        self._site = Site(config, access, self._readers, self.state, own, health)
        topics = Subscriptions(options.topics, say, options.endpoint_url)
        self._app = self._site.app(Webhook(self._writer, guard, self.state, topics))
        self._sources = [self._source(each) for each in options.sources]
        watchlog = Watchlog(self.state, hears_http=guard is not None)
        self._feed = None if options.archive is None else Feed(options.archive, watchlog)
        ticks = _ticks(options, own)
        if self._feed is not None:
            ticks += [Beat(watchlog), self._feed]
        self._ticks = [TickThread(tick, self._open_written, say) for tick in ticks]
        self._threads: tuple[SourceThread | TickThread, ...] = (*self._sources, *self._ticks)
        self.state.sources = [source.state for source in self._sources]
        self.state.ticks = [tick.state for tick in self._ticks]
        self._signals: list[int] = []
        self._stop = asyncio.Event()

    def _source(self, address: str) -> SourceThread:
        """A folder, or a queue.

        Raises:
            SourceError, QueueError: it is neither, or cannot be read.
        """
        if address.startswith(SCHEME):
            queue = self._open_queue(address)
            return SourceThread(queue.url, "queue", QueueReader(queue, self._writer), self._say)
        logs_in(address)
        own = [f"{self._config.store}{ending}" for ending in ("", "-wal", "-shm", ".lock")]
        exclude = [*own, str(self._config.rejects)]
        folder = os.path.abspath(address)  # noqa: PTH100 - as sources name their files
        return SourceThread(folder, "folder", FolderReader(folder, exclude, self._writer), self._say)

    def _open_written(self) -> WrittenStore:
        return WrittenStore(_store_path(self._config), self._writer, READER_CACHE_KIB)

    def _open(self, *, create: bool) -> SqliteStore:
        config = self._config
        retention = Retention(
            config.retention_hours * HOUR_MS, config.unsettled_days * DAY_MS, config.statistics_days * DAY_MS
        )
        cache_kib = WRITER_CACHE_KIB if create else READER_CACHE_KIB
        store = SqliteStore(_store_path(config), retention, create=create, cache_kib=cache_kib)
        if create:
            self._switch_archiving(store)
            if self._hears:
                feed_live(store, "serve", system_clock())
        return store

    def _switch_archiving(self, store: SqliteStore) -> None:
        """Before anything else happens to the store, so that no record leaves it unarchived."""
        if self._feed is not None:
            store.archive_as(new_name())
        elif self._config.archive == NO_ARCHIVE:
            store.archive_as(None)
        elif store.archiving:
            self._say(
                "this store fed an archive, and none is named: what settles waits in it; name the archive with"
                f" --archive, or stop this with --archive {NO_ARCHIVE}"
            )

    async def run(self) -> None:
        """From start to end."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)
        self._writer.start()
        self._readers.start()
        try:
            runner = web.AppRunner(
                self._app, access_log=None, auto_decompress=False, shutdown_timeout=FINISH_SECONDS, keepalive_timeout=60
            )
            await runner.setup()
            try:
                await self._listen(runner, self._config.listen)
                await self._site.exposition()
                for thread in self._threads:
                    thread.start()
                await self._until_stopped()
            finally:
                for thread in self._threads:
                    thread.stop()
                await runner.cleanup()
        finally:
            await asyncio.to_thread(self._close)
        if self._writer.failure is not None:
            message = f"the writer ended: {self._writer.failure!r} (this is a bug); nothing that was answered is lost"
            raise ServeError(message) from self._writer.failure

    def _on_signal(self, number: int) -> None:
        self._signals.append(number)
        if len(self._signals) > 1:
            self._say("ended at once, on the second signal")
            os._exit(128 + number)
        self._say("stopping: what was taken is finished; once more to end at once")
        self._stop.set()

    async def _listen(self, runner: web.AppRunner, address: Address) -> None:
        site = web.TCPSite(runner, address.host, address.port)
        try:
            await site.start()
        except OSError as error:
            # asyncio puts its own words around the number.
            reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
            hint = {
                errno.EADDRINUSE: "stop what listens there, or name another port with --listen",
                errno.EACCES: "ports below 1024 need a privilege: name another one with --listen",
                errno.EADDRNOTAVAIL: "name an address of this machine with --listen",
            }.get(error.errno or 0, "name an address of this machine with --listen")
            message = f"cannot listen on {address}: {reason.lower()}; {hint}"
            raise ServeError(message) from error
        if not self._hears:
            self._say("nothing is read: name a folder or a queue, or take events over HTTP with --token-file")
        for bound in runner.addresses:
            host, port = bound[0], bound[1]
            self._say(f"listening on http://{f'[{host}]' if ':' in host else host}:{port}/")

    async def _until_stopped(self) -> None:
        while not self._stop.is_set() and self._writer.alive:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), LOOK_SECONDS)

    def _close(self) -> None:
        """What was taken becomes durable; a task that goes on for long is left alone, as a kill would."""
        for source in self._sources:
            while source.alive and self._writer.alive:
                source.join(LOOK_SECONDS)
        for tick in self._ticks:
            if tick.alive:
                tick.join(TICK_SECONDS)
        self._finish_archive()
        self._readers.stop()
        self._writer.stop()
        self._rejects.close()

    def _finish_archive(self) -> None:
        """Write what waits, in a thread that is left alone if it takes too long."""
        feed = self._feed
        if feed is None or not self._writer.alive or any(tick.alive for tick in self._ticks):
            return

        def finish() -> None:
            store = self._open_written()
            try:
                feed.finish(store, system_clock())
            except (StoreError, TickError) as error:
                self._say(f"archive: {error} (what waits is written at the next start)")
            finally:
                store.close()

        thread = threading.Thread(target=finish, name="archive at the end", daemon=True)
        thread.start()
        thread.join(ARCHIVE_SECONDS)
        if thread.is_alive():
            self._say("archive: it takes too long; what waits is written at the next start")
