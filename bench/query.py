"""How fast a full store answers, and how fast the command starts.

``python3 dev.py bench query [RECORDS]`` (5,000,000): one day of three pairs in SQLite. Targets: one object and the
first page of failures under 50 ms, the statistics of an hour under 100 ms, ``crr-monitor --version`` under 150 ms.
Medians and the slowest of all runs.
"""

from __future__ import annotations

import random
import statistics
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from bench._common import WORK, remove_store, show
from crr_monitor.core.events import Failed, Mark, Written
from crr_monitor.core.interpret import interpret
from crr_monitor.core.merge import merge
from crr_monitor.core.model import Status
from crr_monitor.core.times import DAY_MS, HOUR_MS, parse_time
from crr_monitor.core.topology import Topology
from crr_monitor.core.topology_document import parse_topology
from crr_monitor.process.figures import Window, figures
from crr_monitor.stores.base import Batch, Query, VersionKey
from crr_monitor.stores.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from crr_monitor.core.evidence import Evidence

RECORDS = 5_000_000
BATCH = 10_000
BEGIN = parse_time("2026-11-01T00:00:00Z")[0]
PAIRS = (("orders", "orders-dr"), ("media", "media-copy"), ("logs", "logs-copy"))
FAILURES, PENDING = 0.01, 0.005
RUNS = 30


def topology() -> Topology:
    """Three pairs, one rule each."""
    document = [
        {
            "bucket": source,
            "since": "2026-10-01T00:00:00Z",
            "ReplicationConfiguration": {
                "Rules": [
                    {
                        "ID": "all",
                        "Status": "Enabled",
                        "Priority": 1,
                        "Filter": {"Prefix": ""},
                        "DeleteMarkerReplication": {"Status": "Enabled"},
                        "Destination": {"Bucket": f"arn:aws:s3:::{destination}"},
                    }
                ]
            },
        }
        for source, destination in PAIRS
    ]
    return Topology().learn(parse_topology(document), 0)


def name(number: int) -> tuple[str, str, str]:
    """Source bucket, key and version id of a record."""
    bucket = PAIRS[number % len(PAIRS)][0]
    return bucket, f"2026/11/01/part-{number % 997}/object-{number}.parquet", f"{number:032x}"


def evidence(number: int, records: int, rules: Topology, dice: random.Random) -> Evidence:
    """A version and what became of it."""
    bucket, key, version = name(number)
    at = BEGIN + number * DAY_MS // records
    written = interpret(Written(bucket, key, version, at, False, Mark.SOURCE, size=1_000), rules)  # noqa: FBT003
    assert written is not None
    destination = PAIRS[number % len(PAIRS)][1]
    fate = dice.random()
    if fate < PENDING:
        return written
    if fate < PENDING + FAILURES:
        failed = Failed(bucket, destination, key, version, at + 9_000, False, "failure-event", "DstKmsKeyNotFound")  # noqa: FBT003
        news = interpret(failed, rules)
    else:
        lag = int(dice.lognormvariate(9, 0.9))
        news = interpret(Written(destination, key, version, at + lag, False, Mark.REPLICA, size=1_000), rules)  # noqa: FBT003
    assert news is not None
    return merge(written, news)


def fill(path: Path, records: int) -> SqliteStore:
    """The store, made once."""
    stamp = path.with_suffix(".records")
    if stamp.exists() and stamp.read_text() == str(records):
        return SqliteStore(path)
    stamp.unlink(missing_ok=True)
    WORK.mkdir(parents=True, exist_ok=True)
    remove_store(path)
    store, rules, dice = SqliteStore(path), topology(), random.Random(1)
    begin = time.perf_counter()
    for start in range(0, records, BATCH):
        batch: dict[VersionKey, Evidence] = {}
        for number in range(start, min(start + BATCH, records)):
            part = evidence(number, records, rules, dice)
            batch[part.key, part.version_id] = part
        store.apply(Batch(batch))
    print(f"filled in {time.perf_counter() - begin:.0f} s", file=sys.stderr)
    stamp.write_text(str(records))
    return store


def measure(title: str, target: float, run: Callable[[], object]) -> None:
    """Time some runs."""
    times = []
    for _ in range(RUNS):
        begin = time.perf_counter()
        run()
        times.append(1e3 * (time.perf_counter() - begin))
    median, slowest = statistics.median(times), max(times)
    verdict = "ok" if median < target else "MISSED"
    show(title, f"{median:.1f} ms", f"slowest {slowest:.1f} ms, target {target:.0f} ms: {verdict}")


def main() -> None:
    """Print the figures."""
    records = int(sys.argv[1]) if len(sys.argv) > 1 else RECORDS
    path = WORK / "query.db"
    store = fill(path, records)
    dice = random.Random(2)
    as_of = BEGIN + DAY_MS
    show("records", f"{records:,}", f"{path.stat().st_size / 1e9:.1f} GB")

    def some() -> tuple[str, str, str]:
        return name(dice.randrange(records))

    measure("status of one object", 50, lambda: store.versions(*some()[:2]))
    measure("list --status FAILED, first 100", 50, lambda: list(store.records(Query(status=Status.FAILED, limit=100))))
    measure("list, first 100", 50, lambda: list(store.records(Query(limit=100))))
    measure(
        "list --status FAILED --source B, first 100",
        50,
        lambda: list(store.records(Query(status=Status.FAILED, source="media", limit=100))),
    )
    measure("stats --window 1h", 100, lambda: figures(store, Window(as_of - HOUR_MS, as_of, as_of)).to_json())
    measure("stats of the whole day", 1_000, lambda: figures(store, Window(None, None, as_of)).to_json())
    command = [sys.executable, "-m", "crr_monitor", "--version"]
    measure(
        "crr-monitor --version, whole process", 150, lambda: subprocess.run(command, check=True, capture_output=True)
    )
    bare = [sys.executable, "-c", "pass"]
    measure("  of which the interpreter alone", 150, lambda: subprocess.run(bare, check=True, capture_output=True))


if __name__ == "__main__":
    main()
