"""By which time questions are judged, and how a store comes to remember that it is fed as things happen."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING

import pytest

from crr_monitor.core.times import DAY_MS, HOUR_MS, format_time
from crr_monitor.process.clock import LIVE_NOTE, Clock, Live, clock_of, feed_live, live, note_fresh
from crr_monitor.process.ingest import Ingest
from crr_monitor.sources.files import open_sources
from crr_monitor.sources.rejects import RejectFile
from crr_monitor.stores.base import Batch, system_clock
from crr_monitor.stores.memory import MemoryStore
from tests.factories import AT

if TYPE_CHECKING:
    from pathlib import Path

NOW = AT + 30 * DAY_MS


def heard(event_at: int, late: int = 0) -> MemoryStore:
    """A store whose newest event is of then, and came so late."""
    store = MemoryStore(clock=lambda: event_at + late)
    store.apply(Batch(newest_event=event_at))
    return store


@pytest.mark.parametrize(
    ("late", "clock"),
    [
        (-5, Clock("now", NOW, AT)),
        (0, Clock("now", NOW, AT)),
        (HOUR_MS, Clock("now", NOW, AT)),
        (HOUR_MS + 1, Clock("newest-event", AT, AT)),
    ],
)
def test_of_a_store_that_remembers_nothing(late: int, clock: Clock) -> None:
    """Events that came as they happened make a store live, however long nothing came; others make it a replay."""
    assert clock_of(heard(AT, late), NOW) == clock


def test_of_an_empty_store() -> None:
    """Where there is no event the time is now."""
    assert clock_of(MemoryStore(), NOW) == Clock("now", NOW, None)


def test_a_live_store_stays_one() -> None:
    """After an outage the newest event comes hours late, and the clock is still now."""
    store = heard(AT, DAY_MS)
    feed_live(store, "queue", AT)
    feed_live(store, "serve", AT + 1)
    assert (live(store), clock_of(store, NOW)) == (Live("queue", AT), Clock("now", NOW, AT))


def test_a_hub_is_never_a_replay() -> None:
    """A hub is fed by its functions, so late events are an outage."""
    assert clock_of(heard(AT, DAY_MS), NOW, hub=True) == Clock("now", NOW, AT)


def test_a_note_that_cannot_be_read() -> None:
    """Says nothing, and is written anew."""
    store = heard(AT, DAY_MS)
    store.keep_note(LIVE_NOTE, b"{")
    assert clock_of(store, NOW).kind == "newest-event"
    feed_live(store, "serve", AT)
    assert live(store) == Live("serve", AT)


@pytest.mark.parametrize(("late", "told"), [(HOUR_MS, Live("files", NOW)), (HOUR_MS + 1, None)])
def test_what_was_fresh_is_noted_before_it_is_forgotten(late: int, told: Live | None) -> None:
    """Before more is read, a store whose newest event came as it happened is noted as live."""
    store = heard(AT, late)
    note_fresh(store, NOW)
    assert live(store) == told


def written(path: Path, at: int) -> Path:
    """A notification of a write then."""
    record = {
        "eventVersion": "2.2",
        "eventSource": "aws:s3",
        "eventName": "ObjectCreated:Put",
        "eventTime": format_time(at),
        "awsRegion": "us-east-1",
        "userIdentity": {"principalId": "AWS:AIDAEXAMPLE"},
        "s3": {
            "bucket": {"name": "orders", "ownerIdentity": {"principalId": "A"}, "arn": "arn:aws:s3:::orders"},
            "object": {"key": "a", "size": 1, "eTag": "e", "versionId": f"v{at}", "sequencer": "00"},
        },
    }
    path.write_bytes(gzip.compress(json.dumps({"Records": [record]}).encode()))
    return path


def ingest(store: MemoryStore, path: Path) -> None:
    """Read a file."""
    rejects = RejectFile(path.parent / "rejects")
    Ingest(store, rejects, child=False).run(open_sources([str(path)], [], lambda _error: None))
    rejects.close()


def test_files_of_what_happens_make_a_store_live(tmp_path: Path) -> None:
    """Old logs do not, however many; one file of now does, and after an outage late files leave it so."""
    store = MemoryStore()
    now = system_clock()
    ingest(store, written(tmp_path / "old.json.gz", now - 30 * DAY_MS))
    assert (live(store), clock_of(store, now).kind) == (None, "newest-event")
    ingest(store, written(tmp_path / "now.json.gz", now - 8 * HOUR_MS))
    assert live(store) is None
    ingest(store, written(tmp_path / "new.json.gz", now))
    found = live(store)
    assert found is not None
    assert (found.by, found.since >= now) == ("files", True)


@pytest.mark.parametrize(
    ("clock", "quiet"),
    [
        (Clock("now", NOW, NOW - HOUR_MS), None),
        (Clock("now", NOW, NOW - HOUR_MS - 1), HOUR_MS + 1),
        (Clock("now", NOW, None), None),
        (Clock("newest-event", AT, AT), None),
        (Clock("given", NOW, AT), None),
    ],
)
def test_when_silence_is_told(clock: Clock, quiet: int | None) -> None:
    """Where the clock is now and the newest event is older than an hour."""
    assert clock.quiet_ms == quiet


def test_as_json() -> None:
    """Figures say by which clock they are and when the newest event was, where there is any."""
    body = {"as_of": "x", "groups": []}
    assert Clock("given", NOW, None).told(body) == {"as_of": "x", "clock": "given", "groups": []}
    told = Clock("now", NOW, AT).told(body)
    assert list(told.items()) == [
        ("as_of", "x"),
        ("clock", "now"),
        ("newest_event_at", "2026-11-22T07:00:00.000Z"),
        ("groups", []),
    ]
