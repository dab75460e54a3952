"""From options to what they name: settings, the store, a topology file, the clock."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from crr_monitor.cli.access import require_aws
from crr_monitor.config import Config, ConfigError, load
from crr_monitor.core.times import DAY_MS, HOUR_MS
from crr_monitor.core.topology_document import TopologyError, parse_topology
from crr_monitor.process.figures import default_as_of
from crr_monitor.stores.base import Retention, StoreError, system_clock
from crr_monitor.stores.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Iterator

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


def clock_of(store: Store) -> int:
    """The time of the question: now, or in a replay of old logs the newest event."""
    return default_as_of(store.newest(), system_clock())


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
