"""A long simulated stream has to end in exactly its truth, also when the ingest is killed twenty times on the way.

``python3 dev.py bench truth [OBJECTS [KILLS]]`` (1,000,000 and 20): all message kinds and wrappers, two destinations
for a third of the objects, 3 % duplicates, shuffled within 15 minutes, 1 % failures of which a third is repaired
later, deletes, 0.1 % malformed. Exits with 1 when a single record, count or statistic differs. Takes about 5 minutes
and 6 GB of disk for the default.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from bench._common import WORK, learn, remove_store, show, stream
from crr_monitor.core.model import to_json
from crr_monitor.simulate import Plan, compare
from crr_monitor.stores.base import Query
from crr_monitor.stores.sqlite import SqliteStore

if TYPE_CHECKING:
    from pathlib import Path

_INGEST = """
import sys
from crr_monitor.process.ingest import Ingest
from crr_monitor.sources.files import open_sources
from crr_monitor.sources.rejects import RejectFile
from crr_monitor.stores.sqlite import SqliteStore
store, events = sys.argv[1:]
totals = Ingest(SqliteStore(store), RejectFile(store + ".rejects.ndjson")).run(open_sources([events]))
"""


def ingest(path: Path, events: Path, kills: int) -> int:
    """Ingest in processes that are killed at random moments; returns how often that hit."""
    when = random.Random(1)
    hit = 0
    while True:
        process = subprocess.Popen([sys.executable, "-c", _INGEST, str(path), str(events)])
        if hit < kills:
            try:
                process.wait(timeout=when.uniform(0.3, 3.0))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
                hit += 1
                continue
        if process.wait() == 0:
            return hit
        sys.exit(f"the ingest failed with status {process.returncode}")


def copies_of(lines: Path) -> Counter[tuple[str, str, str]]:
    """Copies by source, destination and status, as the truth has them."""
    found: Counter[tuple[str, str, str]] = Counter()
    with lines.open() as truth:
        for line in truth:
            record = json.loads(line)
            for copy in record["destinations"]:
                found[record["source"]["bucket"], copy["bucket"], copy["status"]] += 1
    return found


def counted(store: SqliteStore) -> Counter[tuple[str, str, str]]:
    """The same from the statistics."""
    found: Counter[tuple[str, str, str]] = Counter()
    for key, cell in store.cells(None, None):
        for status, count in (
            ("COMPLETED", cell.completed),
            ("FAILED", cell.failed),
            ("PENDING", cell.pending),
            ("SOURCE_DELETED", cell.source_deleted),
        ):
            found[key.source, key.destination, status] += count
    return +found


def main() -> None:
    """Make, ingest, compare."""
    objects = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    kills = int(sys.argv[2]) if len(sys.argv) > 2 else 20  # noqa: PLR2004 - the second argument
    out = stream("truth", Plan(seed=1, objects=objects))
    path = WORK / "truth.db"
    remove_store(path)
    store = SqliteStore(path)
    learn(store, out)
    store.close()
    begin = time.perf_counter()
    hit = ingest(path, out / "events", kills)
    seconds = time.perf_counter() - begin
    store = SqliteStore(path)

    def lookup(bucket: str, key: str, version_id: str) -> dict[str, Any] | None:
        found = store.versions(bucket, key, version_id)
        return to_json(found[0]) if found else None

    found = compare(out / "truth.ndjson", lookup, lambda: sum(1 for _ in store.records(Query())))
    same_counts = counted(store) == copies_of(out / "truth.ndjson")
    counts = store.counts()
    show("messages, events", f"{counts.messages:,}", f"{counts.events:,}")
    show("ignored, malformed", f"{sum(counts.ignored.values()):,}", f"{counts.malformed:,}")
    show("killed while ingesting", f"{hit} times", f"{seconds:.0f} s in all")
    show("records compared", f"{found.compared:,}")
    show("missing, extra, different", f"{found.missing}, {found.extra}, {found.different}")
    show("statistics per pair and status", "equal" if same_counts else "DIFFERENT")
    for example in found.examples:
        print(example)
    sys.exit(0 if found.none and same_counts else 1)


if __name__ == "__main__":
    main()
