"""A simulated day ends in exactly its truth: every record, every count, whatever happened on the way."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crr_monitor.core.topology_document import parse_topology
from crr_monitor.decode import Decoded, decode
from crr_monitor.process.collect import collect
from crr_monitor.simulate import Plan, messages, run, topology
from crr_monitor.stores.base import Batch, VersionKey
from crr_monitor.stores.memory import MemoryStore
from crr_monitor.stores.sqlite import SqliteStore
from tests.integration.helpers import check, counted, everything, ingest, learn, true_counts

if TYPE_CHECKING:
    import random
    from pathlib import Path

    from crr_monitor.core.evidence import Evidence

pytestmark = pytest.mark.no_cover

DAY = Plan(seed=7, objects=20_000)


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty thousand objects, all message kinds and wrappers, with every trouble that the simulator has."""
    out = tmp_path_factory.mktemp("stream") / "day"
    run(DAY, out)
    return out


@pytest.fixture(scope="module")
def store(stream: Path) -> SqliteStore:
    """That day, ingested by two processes."""
    store = SqliteStore(stream.parent / "day.db")
    learn(store, stream)
    totals = ingest(store, stream / "events", rejects=stream.parent / "rejects.ndjson", child=True)
    assert totals.counts.malformed > 0
    return store


def test_a_day_ends_in_its_truth(store: SqliteStore, stream: Path) -> None:
    """Each of the 20,000 versions is recorded as it was simulated, and nothing else is."""
    found = check(store, stream)
    assert found.none, found.examples
    assert found.compared > 19_000


def test_statistics_count_each_copy_once(store: SqliteStore, stream: Path) -> None:
    """The counters per pair and status are those of the truth, although 3 % of the messages came twice."""
    assert counted(store) == true_counts(stream)


def test_what_was_counted_is_what_was_written(tmp_path: Path) -> None:
    """Messages, events, ignored by kind and malformed are exactly those that the simulator wrote."""
    written = run(Plan(seed=3, objects=2_000, ignored_rate=0.1, malformed_rate=0.02), tmp_path / "stream")
    store = SqliteStore(tmp_path / "s.db")
    learn(store, tmp_path / "stream")
    totals = ingest(store, tmp_path / "stream" / "events", rejects=tmp_path / "rejects.ndjson")
    assert totals.counts.messages == written.messages
    assert totals.counts.events == written.events
    assert totals.counts.malformed == written.malformed
    assert totals.counts.ignored == written.ignored_by
    assert store.counts() == totals.counts


def test_the_same_events_under_another_name_change_nothing(tmp_path: Path) -> None:
    """A second copy of the files changes no record and no statistics."""
    run(Plan(seed=5, objects=1_000), tmp_path / "stream")
    store = SqliteStore(tmp_path / "s.db")
    learn(store, tmp_path / "stream")
    ingest(store, tmp_path / "stream" / "events", rejects=tmp_path / "rejects.ndjson")
    before = everything(store)
    (tmp_path / "stream" / "events").rename(tmp_path / "moved")
    totals = ingest(store, tmp_path / "moved", rejects=tmp_path / "rejects.ndjson")
    assert totals.counts.events > 0
    assert totals.records_changed == 0
    assert everything(store) == before


def test_what_was_read_is_skipped_unless_asked_again(tmp_path: Path) -> None:
    """A file that was read to its end is recognised; ``again`` reads it and still changes nothing, rejects included."""
    run(Plan(seed=6, objects=500, malformed_rate=0.05), tmp_path / "stream")
    store = SqliteStore(tmp_path / "s.db")
    learn(store, tmp_path / "stream")
    rejects = tmp_path / "rejects.ndjson"
    first = ingest(store, tmp_path / "stream" / "events", rejects=rejects)
    before, kept = everything(store), rejects.read_bytes()
    second = ingest(store, tmp_path / "stream" / "events", rejects=rejects)
    assert (second.skipped, second.counts.messages) == (1, 0)
    third = ingest(store, tmp_path / "stream" / "events", rejects=rejects, again=True)
    assert third.counts == first.counts
    assert third.records_changed == 0
    assert everything(store) == before
    assert rejects.read_bytes() == kept


@pytest.mark.parametrize(
    "plan",
    [
        Plan(seed=11, objects=1_500, loss_rate=0.03),
        Plan(seed=12, objects=1_500, kinds=("cloudtrail",), layout="logs", gz=True),
        Plan(seed=13, objects=1_500, kinds=("eventbridge",), wrappers=("bare",)),
        Plan(seed=14, objects=1_500, kinds=("notification",), wrappers=("sqs-sns",), gz=True, messages_per_file=500),
        Plan(seed=15, objects=1_500, pairs=12, failure_rate=0.2, repaired_share=0.5, delete_rate=0.1, pending_rate=0.1),
        Plan(seed=16, objects=1_500, duplicate_rate=0.9, reorder_ms=24 * 3_600_000),
    ],
    ids=["losses", "log-files", "eventbridge", "notifications", "trouble", "chaos"],
)
def test_every_kind_of_stream_ends_in_its_truth(plan: Plan, tmp_path: Path) -> None:
    """Whatever the kinds, wrappers, files and troubles: records and counts are the truth."""
    stream = tmp_path / "stream"
    run(plan, stream)
    store = SqliteStore(tmp_path / "s.db")
    learn(store, stream)
    ingest(store, stream / ("AWSLogs" if plan.layout == "logs" else "events"), rejects=tmp_path / "rejects.ndjson")
    found = check(store, stream)
    assert found.none, found.examples
    assert counted(store) == true_counts(stream)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(1, 10_000), order=st.randoms(use_true_random=False))
def test_no_order_and_no_duplicate_matters(seed: int, order: random.Random) -> None:
    """Any permutation of the messages, some of them repeated, in any batches: same records, same statistics."""
    plan = Plan(seed=seed, objects=25, failure_rate=0.3, repaired_share=0.5, delete_rate=0.2, pending_rate=0.1)
    sent = [message for _, message in messages(plan)]
    shuffled = sent + order.choices(sent, k=len(sent) // 2)
    order.shuffle(shuffled)
    assert everything(_filled(plan, shuffled, order)) == everything(_filled(plan, sent, None))


def _filled(plan: Plan, sent: list[bytes], cuts: random.Random | None) -> MemoryStore:
    store = MemoryStore()
    learned = store.learn(parse_topology(json.loads(json.dumps(topology(plan)))))
    left = list(sent)
    while left:
        size = len(left) if cuts is None else cuts.randint(1, len(left))
        part, left = left[:size], left[size:]
        decoded = Decoded()
        for message in part:
            decode(message, decoded)
        evidence: dict[VersionKey, Evidence] = {}
        collect(decoded.events, learned, evidence)
        store.apply(Batch(evidence))
    return store
