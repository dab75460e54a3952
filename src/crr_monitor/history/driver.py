"""DuckDB, loaded when it is needed, with limits on what it may use."""

from __future__ import annotations

import importlib
import importlib.util
import signal
import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from crr_monitor.process.interrupts import ctrl_c_afterwards

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MEMORY = "512MB"
"""What one connection may use: enough for writing; queries over a large archive get more."""


class HistoryError(Exception):
    """The archive cannot be read, written or asked; the text says what, and what to do."""


class Database(Protocol):
    """What is used of DuckDB's connection."""

    description: Any

    def execute(self, query: Any, parameters: object = None) -> Database:  # noqa: ANN401 - text, or a parsed statement
        """Run SQL."""

    def fetchall(self) -> list[tuple[Any, ...]]:
        """All rows of the last query."""

    def fetchmany(self, size: int = 1) -> list[tuple[Any, ...]]:
        """So many more rows of the last query."""

    def fetchone(self) -> tuple[Any, ...] | None:
        """The next row."""

    def interrupt(self) -> None:
        """End the query that runs; for other threads."""

    def close(self) -> None:
        """End it."""


def load() -> Any:  # noqa: ANN401 - the module
    """The module ``duckdb``.

    Raises:
        HistoryError: it is not installed.
    """
    if importlib.util.find_spec("duckdb") is None:
        message = "the archive needs DuckDB: pip install 'crr-monitor[history]'"
        raise HistoryError(message)
    with ctrl_c_afterwards():
        return importlib.import_module("duckdb")


def text(value: str | Path) -> str:
    """A text as an SQL literal."""
    return "'" + str(value).replace("'", "''") + "'"


def quoted(name: str) -> str:
    """A name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


@contextmanager
def connected(
    work: Path, memory: str = MEMORY, threads: int | None = None, place: str = "--work"
) -> Iterator[Database]:
    """A database in memory that may spill into the folder ``work``; what goes wrong is told as :class:`HistoryError`.

    ``place`` is the option or variable that names the folder with the files that it writes, for when its disk is full.
    Nothing is loaded from the internet, and no state is kept anywhere.
    """
    duckdb = load()
    config: dict[str, Any] = {
        "temp_directory": str(work),
        "memory_limit": memory,
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "preserve_insertion_order": False,
        # Files here are in the system's cache; with a second copy of them an archive of many files takes twice as much.
        "enable_external_file_cache": False,
    }
    if threads is not None:
        config["threads"] = threads
    try:
        database = duckdb.connect(":memory:", config=config)
        try:
            # What the product says is UTC, wherever it runs.
            database.execute("SET TimeZone = 'UTC'")
            # It would be drawn on standard output, which belongs to the answer.
            database.execute("SET enable_progress_bar = false")
            with _interruptible(database):
                yield database
        finally:
            database.close()
    except RuntimeError as error:
        if "interrupted" not in str(error):
            raise
        # So DuckDB tells of Ctrl-C while a query runs.
        raise KeyboardInterrupt from error
    except duckdb.InterruptException as error:
        raise KeyboardInterrupt from error
    except duckdb.Error as error:
        first = str(error).partition("\n\n")[0]
        raise HistoryError(_with_hint(" ".join(first.split()), place)) from error


@contextmanager
def _interruptible(database: Database) -> Iterator[None]:
    """Let Ctrl-C end a query at once, also one that DuckDB computes without coming back to Python.

    DuckDB looks for signals between its tasks, and one task of a join may take hours. Python's own handler of a signal
    runs when the main thread is back; but the number of the signal is written to a descriptor at once, and read here in
    another thread. Elsewhere than in the main thread nobody gets signals, and nothing is done.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reader, writer = socket.socketpair()
    with reader, writer:
        writer.settimeout(0)  # a handler of signals must not wait
        before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)

        def wait() -> None:
            while told := reader.recv(1):
                if told[0] == signal.SIGINT:
                    database.interrupt()

        watcher = threading.Thread(target=wait, name="interrupts", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            signal.set_wakeup_fd(before)
            writer.shutdown(socket.SHUT_RDWR)
            watcher.join()


def _with_hint(words: str, place: str) -> str:
    if words.startswith("Out of Memory"):
        return f"{words} (give more with --memory, or ask for less time)"
    if "Parquet file" in words or "magic bytes" in words:
        return f"{words} (the file is damaged: restore it, or move it out of the archive)"
    if "No space left" in words:
        return f"{words} (free some space there, or name another folder with {place})"
    if "Permission denied" in words:
        return f"{words} (change the mode of the archive's folders and files, or run as a user who may read them)"
    return words
