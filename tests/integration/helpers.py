"""What the tests of the whole share: an ingest of a simulated stream, and all that a store holds as plain values."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from crr_monitor.core.model import to_json
from crr_monitor.core.topology_document import parse_topology
from crr_monitor.process.ingest import Ingest, Totals
from crr_monitor.simulate import Differences, compare
from crr_monitor.sources.files import open_sources
from crr_monitor.sources.rejects import RejectFile
from crr_monitor.stores.base import Query

if TYPE_CHECKING:
    from pathlib import Path

    from crr_monitor.core.statistics import Cell
    from crr_monitor.stores.base import Store

PairStatus = tuple[str, str, str]


def learn(store: Store, stream: Path) -> None:
    """Teach a store the stream's topology."""
    store.learn(parse_topology(json.loads((stream / "topology.json").read_text())))


def ingest(store: Store, *sources: Path, rejects: Path, again: bool = False, child: bool = False) -> Totals:
    """Read the sources into the store."""
    kept = RejectFile(rejects)
    try:
        return Ingest(store, kept, again=again, child=child, batch_events=3_000).run(open_sources([*map(str, sources)]))
    finally:
        kept.close()


def check(store: Store, stream: Path) -> Differences:
    """The store's records against the stream's truth."""

    def lookup(bucket: str, key: str, version_id: str) -> dict[str, Any] | None:
        found = store.versions(bucket, key, version_id)
        return to_json(found[0]) if found else None

    return compare(stream / "truth.ndjson", lookup, lambda: sum(1 for _ in store.records(Query())))


def everything(store: Store) -> tuple[list[dict[str, Any]], dict[tuple[Any, ...], Cell]]:
    """All listed records and all statistics, comparable."""
    records = [to_json(record) for record in store.records(Query())]
    records.sort(key=lambda record: (record["key"], record["version_id"]))
    return records, {tuple(key): cell for key, cell in store.cells(None, None)}


def counted(store: Store) -> Counter[PairStatus]:
    """Copies by source, destination and status, as the statistics have them."""
    found: Counter[PairStatus] = Counter()
    for key, cell in store.cells(None, None):
        pair = (key.source, key.destination)
        found[*pair, "COMPLETED"] += cell.completed
        found[*pair, "FAILED"] += cell.failed
        found[*pair, "PENDING"] += cell.pending
        found[*pair, "SOURCE_DELETED"] += cell.source_deleted
    return +found


def true_counts(stream: Path) -> Counter[PairStatus]:
    """Copies by source, destination and status, as the truth has them."""
    found: Counter[PairStatus] = Counter()
    with (stream / "truth.ndjson").open() as lines:
        for line in lines:
            record = json.loads(line)
            for copy in record["destinations"]:
                found[record["source"]["bucket"], copy["bucket"], copy["status"]] += 1
    return found
