"""The text for Prometheus: counters of this process, gauges of how it is, every family declared."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse

from crr_monitor.core.notices import CANARY_NOTE, Flight, encode_canaries
from crr_monitor.sinks import metrics
from crr_monitor.sinks.openmetrics import BUCKETS, Own, Queue, exposition
from crr_monitor.stores.base import Counts
from crr_monitor.stores.memory import MemoryStore
from tests.factories import AT, REPLICA, SOURCE, batch_of, failed, replica, user_write

if TYPE_CHECKING:
    from crr_monitor.stores.base import Store

PAIR = f'destination="{REPLICA}",source="{SOURCE}"'


def samples(store: Store, own: Own, now: int = AT + 60_000) -> dict[str, float]:
    """Every sample by its name and labels as written."""
    text = exposition(store, own, now).decode()
    found = {}
    for family in parse(text):  # type: ignore[no-untyped-call]
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def test_counters_begin_with_the_process() -> None:
    """What was counted before the first scrape is no count of this process; what comes after it is."""
    store, own = MemoryStore(clock=lambda: AT), Own()
    store.apply(batch_of(user_write(version_id="old"), replica(version_id="old")))
    first = samples(store, own)
    assert first[f"crr_monitor_replicated_objects_total{{{PAIR}}}"] == 0
    store.apply(batch_of(user_write(size=7), replica()))
    store.apply(batch_of(user_write(version_id="bad"), failed(version_id="bad")))
    found = samples(store, own)
    assert found[f"crr_monitor_objects_total{{{PAIR}}}"] == 2
    assert found[f"crr_monitor_object_bytes_total{{{PAIR}}}"] == 7
    assert found[f"crr_monitor_replicated_objects_total{{{PAIR}}}"] == 1
    reason = f'destination="{REPLICA}",reason="DstKmsKeyNotFound",source="{SOURCE}"'
    assert found[f"crr_monitor_failed_replications_total{{{reason}}}"] == 1
    assert found[f"crr_monitor_failed_objects{{{reason}}}"] == 1


def test_repair_takes_nothing_from_counters() -> None:
    """A failed copy that arrives after all is no longer failed, while its counter stays; it has no lag."""
    store, own = MemoryStore(clock=lambda: AT), Own()
    samples(store, own)
    store.apply(batch_of(user_write(), failed()))
    samples(store, own)
    store.apply(batch_of(replica(at=AT + 40_000)))
    found = samples(store, own)
    reason = f'destination="{REPLICA}",reason="DstKmsKeyNotFound",source="{SOURCE}"'
    assert found[f"crr_monitor_failed_replications_total{{{reason}}}"] == 1
    assert f"crr_monitor_failed_objects{{{reason}}}" not in found
    assert found[f"crr_monitor_replicated_objects_total{{{PAIR}}}"] == 1
    assert found[f"crr_monitor_replication_lag_seconds_count{{{PAIR}}}"] == 0


def test_histogram() -> None:
    """A lag of ten seconds is counted in every bucket from its own on, and 15 minutes are within 15 minutes."""
    store, own = MemoryStore(clock=lambda: AT), Own()
    samples(store, own)
    store.apply(batch_of(user_write(), replica(at=AT + 9_000)))
    store.apply(batch_of(user_write(version_id="slow"), replica(version_id="slow", at=AT + 900_000)))
    found = samples(store, own, AT + 1_000_000)
    name = "crr_monitor_replication_lag_seconds"
    counts = [found[f'{name}_bucket{{destination="{REPLICA}",le="{float(le)}",source="{SOURCE}"}}'] for le in BUCKETS]
    assert counts == [0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2]
    assert found[f"{name}_count{{{PAIR}}}"] == 2
    assert abs(found[f"{name}_sum{{{PAIR}}}"] - 909) < 9.09


def test_pending() -> None:
    """Pending copies, their bytes and the age of the oldest."""
    store = MemoryStore(clock=lambda: AT)
    store.apply(batch_of(user_write(size=5), user_write(version_id="2", at=AT + 30_000, size=6)))
    found = samples(store, Own(), AT + 90_000)
    assert found[f"crr_monitor_pending_objects{{{PAIR}}}"] == 2
    assert found[f"crr_monitor_pending_bytes{{{PAIR}}}"] == 11
    assert found[f"crr_monitor_oldest_pending_seconds{{{PAIR}}}"] == 90


def test_the_monitor_itself() -> None:
    """Events by kind, what was malformed, queues, and what could not be asked."""
    store = MemoryStore(clock=lambda: AT)
    batch = batch_of(user_write())
    batch.counts = Counts(messages=5, events=2, malformed=1, ignored={"read": 3})
    store.apply(batch)
    own = Own(
        queues={"webhook": Queue(4, 1.5), "logs": Queue(2)}, could_not_ask=6, throttled=1, unsent=2, requests={429: 3}
    )
    found = samples(store, own)
    assert found['crr_monitor_events_total{kind="taken"}'] == 2
    assert found['crr_monitor_events_total{kind="read"}'] == 3
    assert found["crr_monitor_malformed_total"] == 1
    assert found['crr_monitor_queue_depth{queue="webhook"}'] == 4
    assert found['crr_monitor_queue_age_seconds{queue="webhook"}'] == 1.5
    assert 'crr_monitor_queue_age_seconds{queue="logs"}' not in found
    assert (found["crr_monitor_could_not_ask_objects"], found["crr_monitor_throttled_objects"]) == (6, 1)
    assert found["crr_monitor_unsent_notifications"] == 2
    codes = [found[f'crr_monitor_http_requests_total{{code="{code}"}}'] for code in (200, 429)]
    assert codes == [0, 3]
    assert "crr_monitor_canary_age_seconds" not in found


def test_canaries() -> None:
    """The age is of the pair where it is longest; each lag counts once, and not those from before the process."""
    store, own = MemoryStore(clock=lambda: AT), Own()
    store.keep_note(CANARY_NOTE, encode_canaries({f"{SOURCE} {REPLICA}": Flight(AT, {AT: 700})}))
    name = "crr_monitor_canary_lag_seconds"
    first = samples(store, own, AT + 60_000)
    assert first["crr_monitor_canary_age_seconds"] == 60
    assert first[f"{name}_count{{{PAIR}}}"] == 0
    lags = {AT: 700, AT + 10_000: 4_000, AT + 20_000: 5_000}
    store.keep_note(CANARY_NOTE, encode_canaries({f"{SOURCE} {REPLICA}": Flight(AT + 20_000, lags), "a b": Flight(AT)}))
    for _ in range(2):
        found = samples(store, own, AT + 60_000)
        assert found["crr_monitor_canary_age_seconds"] == 60
        assert found[f"{name}_count{{{PAIR}}}"] == 2
        assert abs(found[f"{name}_sum{{{PAIR}}}"] - 9) < 0.09


def test_every_family_is_declared() -> None:
    """The families of the text are those that are declared, each with its meaning as help."""
    text = exposition(MemoryStore(), Own(), AT).decode()
    helps = dict(re.findall(r"^# HELP (\S+) (.+)$", text, re.MULTILINE))
    assert helps == {name: metric.meaning for name, metric in metrics.BY_OPEN_NAME.items()}
