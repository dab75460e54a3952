"""Every store keeps the contract."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from crr_monitor.stores.memory import MemoryStore
from crr_monitor.stores.sqlite import SqliteStore
from tests.stores.contract import KEEP, Backend, StoreContract

if TYPE_CHECKING:
    from crr_monitor.stores.base import Store


class MemoryBackend(Backend):
    """One store in memory; all handles are the same."""

    concurrent = False

    def __init__(self) -> None:
        super().__init__()
        self._store = MemoryStore(KEEP, self.clock, self.on_step)

    def open(self) -> Store:
        """The store."""
        return self._store


class SqliteBackend(Backend):
    """A database file of its own."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self.path = Path(self._folder.name) / "store.db"

    def open(self) -> SqliteStore:
        """One more connection."""
        return SqliteStore(self.path, KEEP, self.clock, self.on_step)

    def close(self) -> None:
        """Remove the file."""
        self._folder.cleanup()


class TestMemory(StoreContract):
    """The store in memory."""

    def make(self) -> Backend:
        """A store in memory."""
        return MemoryBackend()


class TestSqlite(StoreContract):
    """The store in a SQLite file."""

    def make(self) -> Backend:
        """A new file."""
        return SqliteBackend()
