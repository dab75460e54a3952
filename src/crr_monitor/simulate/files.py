"""A simulation as files: the events, the topology that they need, and the truth that they end in."""

from __future__ import annotations

import io
from contextlib import ExitStack
from gzip import GzipFile
from shutil import rmtree
from typing import IO, TYPE_CHECKING, Self

import msgspec
from msgspec import Struct

from crr_monitor.core.times import format_time
from crr_monitor.simulate.dice import Dice, digest
from crr_monitor.simulate.lives import Version, lives
from crr_monitor.simulate.plan import Plan, SimulateError
from crr_monitor.simulate.stream import Message, Stream
from crr_monitor.simulate.truth import record_of
from crr_monitor.simulate.world import topology

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import TracebackType

MARKER = ".crr-monitor-simulation.json"
"""This file says that a folder was made by :func:`run` and may be made anew; it holds plan and summary."""

TOPOLOGY = "topology.json"
TRUTH = "truth.ndjson"
EVENTS = "events"
LOGS = "AWSLogs"

_PROGRESS_EVERY = 1_000
_LEVEL = 6


class Summary(Struct, frozen=True):
    """What a run wrote. ``messages`` counts as ``ingest`` does: lines, or log files.

    ``events``, ``ignored`` and ``malformed`` count records within the messages; ``ignored_by`` by the kinds under which
    a monitor counts them. ``records`` are the object versions in the truth, ``copies`` their destinations, ``bytes``
    what the events take before compression.
    """

    objects: int
    messages: int
    events: int
    ignored: int
    malformed: int
    records: int
    copies: int
    files: int
    bytes: int
    ignored_by: dict[str, int]


class _State(Struct, omit_defaults=True):
    plan: Plan
    summary: Summary | None = None


def run(plan: Plan, out: Path, progress: Callable[[int], None] | None = None) -> Summary:
    """Write the simulation into the folder ``out``, in place of an earlier one.

    Writes ``topology.json``, ``truth.ndjson``, and ``events/*.ndjson`` or, in the layout ``logs``, ``AWSLogs/...`` as
    CloudTrail does. ``progress`` is called with the number of objects written so far.

    Raises:
        SimulateError: the folder holds something else, or could not be written.
    """
    try:
        return _run(plan, out, progress)
    except OSError as error:
        message = f"cannot write the simulation to {out}: {error.strerror or error} ({error.filename or out})"
        raise SimulateError(message) from error


def _run(plan: Plan, out: Path, progress: Callable[[int], None] | None) -> Summary:
    _clear(out)
    # First of all, so that a run which was killed can be repeated in the same folder.
    (out / MARKER).write_bytes(msgspec.json.encode(_State(plan)))
    (out / TOPOLOGY).write_bytes(msgspec.json.format(msgspec.json.encode(topology(plan)), indent=2) + b"\n")
    with (out / TRUTH).open("wb") as file:
        truth = _Truth(file, plan.objects, progress)
        stream = Stream(plan, truth.watch(lives(plan)))
        with _writer(plan, out) as writer:
            for message in stream:
                writer.write(message)
    tally = stream.tally
    summary = Summary(
        objects=plan.objects,
        messages=writer.documents or tally.messages,
        events=tally.events,
        ignored=sum(tally.ignored.values()),
        malformed=tally.malformed,
        records=truth.records,
        copies=truth.copies,
        files=writer.files,
        bytes=writer.bytes,
        ignored_by=dict(sorted(tally.ignored.items())),
    )
    (out / MARKER).write_bytes(msgspec.json.encode(_State(plan, summary)))
    return summary


def _clear(out: Path) -> None:
    """Make the folder, or remove what an earlier run left in it, and nothing else."""
    out.mkdir(parents=True, exist_ok=True)
    if not (out / MARKER).exists() and any(out.iterdir()):
        message = f"{out} is not empty and no simulation: choose another folder, or empty it"
        raise SimulateError(message)
    for name in (EVENTS, LOGS):
        if (out / name).exists():
            rmtree(out / name)
    for name in (TOPOLOGY, TRUTH):
        (out / name).unlink(missing_ok=True)


class _Truth:
    """Writes the record of each version as it passes on its way into the stream."""

    def __init__(self, file: IO[bytes], objects: int, progress: Callable[[int], None] | None) -> None:
        self.records = 0
        self.copies = 0
        self._file = file
        self._objects = objects
        self._progress = progress

    def watch(self, versions: Iterator[tuple[Version, Dice]]) -> Iterator[tuple[Version, Dice]]:
        encode = msgspec.json.Encoder().encode
        for version, dice in versions:
            record = record_of(version)
            if record is not None:
                self.records += 1
                self.copies += len(version.copies)
                self._file.write(encode(record) + b"\n")
            yield version, dice
            done = version.index + 1
            if self._progress is not None and (done % _PROGRESS_EVERY == 0 or done == self._objects):
                self._progress(done)


def _writer(plan: Plan, out: Path) -> _Lines | _Logs:
    return _Logs(plan, out / LOGS) if plan.layout == "logs" else _Lines(plan, out / EVENTS)


class _Writer:
    """What both layouts share: counts, and files that are closed whatever happens."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self.files = 0
        self.bytes = 0
        self.documents = 0
        self._plan = plan
        self._folder = folder
        folder.mkdir()

    def __enter__(self) -> Self:
        return self

    def _open(self, path: Path) -> _File:
        self.files += 1
        return _File(path.with_name(path.name + ".gz") if self._plan.gz else path, gz=self._plan.gz)


class _File:
    """A file of the stream, compressed or not; the same content always gives the same bytes."""

    def __init__(self, path: Path, *, gz: bool) -> None:
        with ExitStack() as stack:
            raw = stack.enter_context(path.open("wb"))
            self._file: IO[bytes] = raw
            if gz:
                # Neither name nor time in the header; small writes gathered, because each one costs.
                packed = GzipFile(filename="", mode="wb", compresslevel=_LEVEL, fileobj=raw, mtime=0)
                stack.callback(packed.close)
                self._file = stack.enter_context(io.BufferedWriter(packed, 1 << 16))
            self.written = 0
            self._stack = stack.pop_all()

    def write(self, data: bytes) -> None:
        self._file.write(data)

    def close(self) -> None:
        self._stack.close()


class _Lines(_Writer):
    """One message per line, in files that begin anew after so many messages."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        super().__init__(plan, folder)
        self._file: _File | None = None

    def write(self, message: Message) -> None:
        if self._file is not None and self._file.written == self._plan.messages_per_file:
            self._file.close()
            self._file = None
        if self._file is None:
            self._file = self._open(self._folder / f"{self.files + 1:06d}.ndjson")
        self._file.write(message.body + b"\n")
        self._file.written += 1
        self.bytes += len(message.body) + 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()


class _Logs(_Writer):
    """CloudTrail's log files: one open per account and Region."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        super().__init__(plan, folder)
        self._open_files: dict[tuple[str, str], _File] = {}

    def write(self, message: Message) -> None:
        place = (message.account, message.region)
        file = self._open_files.get(place)
        if file is None:
            file = self._open_files[place] = self._begin(message)
        data = (b"," if file.written else b'{"Records":[') + message.body
        file.write(data)
        file.written += 1
        self.bytes += len(data)
        if file.written == self._plan.messages_per_file:
            self._end(self._open_files.pop(place))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._open_files.values():
            self._end(file)

    def _begin(self, message: Message) -> _File:
        account, region = message.account, message.region
        time = format_time(message.at)
        folder = self._folder / account / "CloudTrail" / region / time[:4] / time[5:7] / time[8:10]
        folder.mkdir(parents=True, exist_ok=True)
        stamp = f"{time[:10]}{time[10:16]}".replace("-", "").replace(":", "") + "Z"
        unique = digest(f"{self._plan.seed}/log/{self.files}").hex()[:16]
        self.documents += 1
        return self._open(folder / f"{account}_CloudTrail_{region}_{stamp}_{unique}.json")

    def _end(self, file: _File) -> None:
        file.write(b"]}")
        self.bytes += 2
        file.close()
