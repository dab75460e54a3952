"""From options to what they name: settings, the store, a topology file, the clock."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from crr_monitor.cli.access import require_aws
from crr_monitor.cli.session import say
from crr_monitor.cli.words import duration_text, time_text
from crr_monitor.config import Config, ConfigError, load
from crr_monitor.core.times import DAY_MS, HOUR_MS
from crr_monitor.core.topology_document import TopologyError, parse_topology
from crr_monitor.process.clock import Clock
from crr_monitor.process.clock import clock_of as clock_of_store
from crr_monitor.stores.base import Retention, StoreError, system_clock
from crr_monitor.stores.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crr_monitor.cli.arguments import Moment
    from crr_monitor.cli.session import Session
    from crr_monitor.core.topology import BucketConfig
    from crr_monitor.stores.base import Store


def configure(session: Session, **flags: str | int | None) -> Config:
    """The settings in force. ``flags`` are the command's own; a wrong one is a usage error."""
    try:
        return load({"store": session.store, **flags}, session.config)
    except ConfigError as error:
        if error.flag:
            raise click.UsageError(str(error)) from error
        raise


@contextmanager
def opened(config: Config, *, create: bool = False, reading: bool = False) -> Iterator[Store]:
    """The store, closed at the end.

    Without ``create`` a missing file is an error that says what to do; tables are made by the stack only. With
    ``reading`` nothing is changed, so that a file is enough that may be read.
    """
    retention = Retention(
        config.retention_hours * HOUR_MS, config.unsettled_days * DAY_MS, config.statistics_days * DAY_MS
    )
    if create and isinstance(config.store, str):
        # With a file its folder is made, in which the rejects are, too; a table has none.
        config.rejects.parent.mkdir(parents=True, exist_ok=True)
    store = _open(config.store, retention, create=create, reading=reading)
    try:
        yield store
    finally:
        store.close()


def _open(where: Path | str, retention: Retention, *, create: bool, reading: bool) -> Store:
    if isinstance(where, str):
        require_aws(f"the store {where}")
        from crr_monitor.stores.dynamodb import open_store  # noqa: PLC0415 - most stores are files

        return open_store(where, retention)
    if where.is_dir():
        message = f"the store {where} is a folder: name a file in it, with --store"
        raise StoreError(message)
    return SqliteStore(where, retention, create=create, reading=reading)


def clock_of(store: Store, config: Config, as_of: Moment | None = None) -> Clock:
    """The time of the question: ``as_of``; else now, or in a replay of old logs the newest event.

    Tables are a hub's, and so never a replay.
    """
    found = clock_of_store(store, system_clock(), hub=isinstance(config.store, str))
    return found if as_of is None else Clock("given", as_of.at(found.at), found.newest)


def tell_clock(clock: Clock) -> None:
    """Say on standard error by which time it is judged, where that is not to be expected."""
    if clock.kind == "newest-event":
        say(f"these are old logs: the time is that of the newest event, {time_text(clock.at)} UTC")
    elif clock.quiet_ms is not None:
        say(f"no event has come for {duration_text(clock.quiet_ms)}: the newest is of {time_text(clock.newest)} UTC")


def tell_origin(clock: Clock, *times: Moment | None) -> None:
    """Say from when lengths of time count, where that is not now."""
    if clock.kind == "newest-event" and any(each is not None and each.ago for each in times):
        tell_clock(clock)


def read_topology(path: str) -> list[tuple[BucketConfig, bool]]:
    """The configurations in a file, each with whether it states ``since``.

    Raises:
        TopologyError: the file cannot be read, or is no topology.
    """
    try:
        document: Any = msgspec.json.decode(Path(path).read_bytes())
        return parse_topology(document)
    except OSError as error:
        message = f"cannot read the topology {path}: {error.strerror}"
        raise TopologyError(message) from error
    except ValueError as error:  # no JSON, no UTF-8, no topology
        message = f"topology {path}: {error}"
        raise TopologyError(message) from error
