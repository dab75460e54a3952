"""From files into a store: what happens to what is broken, and to what breaks on the way."""

from __future__ import annotations

import gzip
import json
import os
import signal
import threading
import time
from typing import TYPE_CHECKING

import pytest

from crr_monitor.process.ingest import Ingest, Totals
from crr_monitor.process.reading import Child, Order, Task
from crr_monitor.simulate import Plan, messages
from crr_monitor.sources.base import MAX_ITEM_BYTES, SourceError
from crr_monitor.sources.files import FileSource, open_sources
from crr_monitor.sources.rejects import RejectError, RejectFile, read_rejects
from crr_monitor.stores.base import Batch, Query, Retention, StoreError
from crr_monitor.stores.memory import MemoryStore
from crr_monitor.stores.sqlite import SqliteStore
from tests.integration.helpers import everything

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DAY_MS = 86_400_000


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    """Three hundred simulated messages, one per line."""
    path = tmp_path / "events.ndjson"
    sent = [message for _, message in messages(Plan(seed=1, objects=160, malformed_rate=0, ignored_rate=0))]
    path.write_bytes(b"\n".join(sent[:300]) + b"\n")
    return path


def run(store: MemoryStore | SqliteStore, *paths: Path, rejects: Path, child: bool = False) -> Totals:
    """Ingest with small batches."""
    return Ingest(store, RejectFile(rejects), child=child, batch_events=50).run(open_sources([*map(str, paths)]))


def test_a_second_process_changes_nothing_but_the_time(lines: Path, tmp_path: Path) -> None:
    """Read here or in the child: same totals, same records, same statistics."""
    alone, beside = MemoryStore(), MemoryStore()
    assert run(alone, lines, rejects=tmp_path / "a") == run(beside, lines, rejects=tmp_path / "b", child=True)
    assert everything(alone) == everything(beside)
    assert everything(alone)[0]


@pytest.mark.parametrize("child", [False, True])
def test_a_line_too_long_for_memory_is_kept_whole(lines: Path, tmp_path: Path, *, child: bool) -> None:
    """It is rejected byte for byte and its neighbours are read, also when the child has to hand over to the parent."""
    half = lines.read_bytes().splitlines(keepends=True)
    long = b'{"x":"' + b"y" * (MAX_ITEM_BYTES + 5) + b'"}'
    lines.write_bytes(b"".join(half[:150]) + long + b"\n" + b"".join(half[150:]))
    store, calm = MemoryStore(), MemoryStore()
    totals = run(store, lines, rejects=tmp_path / "rejects", child=child)
    lines.write_bytes(b"".join(half))
    run(calm, lines, rejects=tmp_path / "none")
    assert totals.counts.messages == len(half) + 1
    assert totals.counts.malformed == 1
    assert [reject.message for reject in read_rejects(tmp_path / "rejects")] == [long]
    assert everything(store) == everything(calm)


@pytest.mark.parametrize("child", [False, True])
def test_a_truncated_gzip_gives_what_came_before(lines: Path, tmp_path: Path, *, child: bool) -> None:
    """The whole lines of a cut-off file are read, the rest is one reject, and the completed file is read on."""
    packed = gzip.compress(lines.read_bytes())
    path = tmp_path / "events.ndjson.gz"
    path.write_bytes(packed[: len(packed) // 2])
    store = MemoryStore()
    totals = run(store, path, rejects=tmp_path / "rejects", child=child)
    assert totals.counts.malformed == 1
    assert 0 < totals.counts.messages < 300
    assert "gzip" in next(iter(read_rejects(tmp_path / "rejects"))).error
    path.write_bytes(packed)
    assert run(store, path, rejects=tmp_path / "rejects", child=child).resumed == 1
    whole = MemoryStore()
    run(whole, lines, rejects=tmp_path / "none")
    assert everything(store) == everything(whole)


@pytest.mark.parametrize("child", [False, True])
def test_a_source_that_vanishes_costs_only_itself(lines: Path, tmp_path: Path, *, child: bool) -> None:
    """What was read before stays, the error names the file, and the next run goes on."""
    gone = tmp_path / "gone.ndjson"
    test_event = b'{"Event":"s3:TestEvent","Service":"Amazon S3"}\n'
    gone.write_bytes(test_event)
    lines.write_bytes(lines.read_bytes() * 40)
    store = MemoryStore()
    ingest = Ingest(
        store,
        RejectFile(tmp_path / "rejects"),
        child=child,
        progress=lambda _: gone.unlink(missing_ok=True),
        batch_events=50,
    )
    with pytest.raises(SourceError, match=r"gone\.ndjson"):
        ingest.run(open_sources([str(lines), str(gone)]))
    assert store.counts().messages == 300 * 40
    gone.write_bytes(test_event)
    assert run(store, lines, gone, rejects=tmp_path / "rejects", child=child).counts.messages == 1


def test_a_child_that_dies_is_told(lines: Path) -> None:
    """When the reading process is killed, the run ends with an error that says so, and what to do."""
    order = Order([Task(str(lines), 0)], (), 10)
    child = Child(order)
    os.kill(child._process.pid, signal.SIGKILL)
    with pytest.raises(SourceError, match="reading process ended early"):
        list(child.answers())
    child.close()


def test_a_child_ends_with_its_parent(lines: Path) -> None:
    """Nobody listens any more: the child notices at its next word, and ends by itself."""
    lines.write_bytes(lines.read_bytes() * 100)
    child = Child(Order([Task(str(lines), 0)], (), 10))
    assert child._process.stdout is not None
    child._closed = True
    child._thread.join()
    child._process.stdout.close()
    assert child._process.wait(timeout=60) == 0


class _Refusing(RejectFile):
    def write(self, source: str, position: int, error: str, data: object) -> bool:
        message = f"{self.path}: no room for {source} {position} {error} {data!r}"
        raise RejectError(message)


def test_no_reject_is_lost_when_it_cannot_be_written(lines: Path, tmp_path: Path) -> None:
    """Without room for a reject its batch is not stored, and the next run writes it."""
    with lines.open("ab") as file:
        file.write(b"not json\n")
    store = MemoryStore()
    with pytest.raises(RejectError):
        Ingest(store, _Refusing(tmp_path / "full")).run(open_sources([str(lines)]))
    assert store.counts().messages == 0
    run(store, lines, rejects=tmp_path / "rejects")
    assert [reject.message for reject in read_rejects(tmp_path / "rejects")] == [b"not json"]


def test_a_store_that_refuses_loses_nothing(lines: Path, tmp_path: Path) -> None:
    """The batch that it refused is read again by the next run, and its reject is not written twice."""
    with lines.open("ab") as file:
        file.write(b"not json\n")

    class Refusing(MemoryStore):
        def apply(self, batch: Batch) -> int:
            if batch.counts.malformed:
                message = "the disk is full"
                raise StoreError(message)
            return super().apply(batch)

    refusing = Refusing()
    with pytest.raises(StoreError):
        run(refusing, lines, rejects=tmp_path / "rejects")
    calm = MemoryStore()
    calm._state = refusing._state
    run(calm, lines, rejects=tmp_path / "rejects")
    whole = MemoryStore()
    run(whole, lines, rejects=tmp_path / "none")
    assert everything(calm) == everything(whole)
    assert calm.counts() == whole.counts()
    assert len(list(read_rejects(tmp_path / "rejects"))) == 1


def test_an_ingest_removes_what_is_too_old(lines: Path, tmp_path: Path) -> None:
    """What was settled for longer than the retention is gone after the next ingest, by the store's clock."""
    now = [10 * DAY_MS]
    store = SqliteStore(tmp_path / "s.db", Retention(), lambda: now[0])
    run(store, lines, rejects=tmp_path / "rejects")
    before = sum(1 for _ in store.records(Query()))
    now[0] += 20 * DAY_MS
    empty = tmp_path / "empty.ndjson"
    empty.write_bytes(b"")
    run(store, empty, rejects=tmp_path / "rejects")
    assert before > 0
    assert sum(1 for _ in store.records(Query())) == 0


def test_progress_is_told_when_it_is_durable(lines: Path, tmp_path: Path) -> None:
    """At each call the store has what is reported; at the end the whole file was read."""
    store = MemoryStore()
    told: list[tuple[int, int]] = []

    def progress(totals: Totals) -> None:
        assert store.counts().events == totals.counts.events
        told.append((totals.read_bytes, totals.counts.messages))

    ingest = Ingest(store, RejectFile(tmp_path / "rejects"), progress=progress, batch_events=50)
    ingest.run(open_sources([str(lines)]))
    assert told[-1] == (lines.stat().st_size, 300)
    assert told == sorted(told)
    assert json.loads(lines.read_bytes().splitlines()[0]) is not None


def _feed(path: Path, data: bytes, wait: Callable[[], bool]) -> None:
    with path.open("wb", buffering=0) as pipe:
        half = data.index(b"\n", len(data) // 2) + 1
        pipe.write(data[:half])
        deadline = time.monotonic() + 60
        while not wait() and time.monotonic() < deadline:
            time.sleep(0.01)
        pipe.write(data[half:])


def test_what_comes_slowly_is_not_kept_waiting(lines: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a pipe, a batch is stored after its time, however small it is."""
    monkeypatch.setattr("crr_monitor.process.gather.BATCH_SECONDS", 0.0)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    store = MemoryStore()
    feeder = threading.Thread(target=_feed, args=(pipe, lines.read_bytes(), lambda: store.counts().messages > 0))
    feeder.start()
    told: list[int] = []
    ingest = Ingest(
        store, RejectFile(tmp_path / "rejects"), progress=lambda totals: told.append(totals.counts.messages)
    )
    ingest.run([FileSource(str(pipe))])
    feeder.join()
    assert told[-1] == 300
    assert len(told) > 1
