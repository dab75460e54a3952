"""How long the report of a month with 100 million archived copies takes, on two threads and 4 GB.

``python3 dev.py bench month [COPIES]``. The archive is made once, by DuckDB, with the schema of the product: four
pairs, 30 days, lags from a long-tailed distribution, 1 % failures, some repaired, and 0.5 % of the rows twice. It takes
about 10 GB in ``build/bench``.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import duckdb

from bench._common import WORK, show
from crr_monitor.history.schema import COLUMNS

if TYPE_CHECKING:
    from pathlib import Path

COPIES = 100_000_000
DAYS = 30
TARGET = 30.0

_VALUES = {
    "source_account": "'111122223333'",
    "source_region": "'us-east-1'",
    "source_bucket": "'source-' || (i % 4)",
    "key": "'data/' || (i // 1000) || '/part-' || i || '.parquet'",
    "version_id": "md5(i::VARCHAR)",
    "operation": "CASE WHEN i % 50 = 0 THEN 'delete_marker' ELSE 'put' END",
    "size": "(hash(i) % 10000000)::BIGINT",
    "etag": "NULL::VARCHAR",
    "written_at": "written",
    "destination_account": "'444455556666'",
    "destination_region": "CASE WHEN i % 2 = 0 THEN 'eu-west-1' ELSE 'eu-central-1' END",
    "destination_bucket": "'copy-' || (i % 4)",
    "rule_id": "'rule-' || (i % 4)",
    "status": "CASE WHEN failed AND NOT fixed THEN 'FAILED' ELSE 'COMPLETED' END",
    "replicated_at": "CASE WHEN failed AND NOT fixed THEN NULL ELSE written + to_milliseconds(lag) END",
    "lag_seconds": "CASE WHEN failed AND NOT fixed THEN NULL ELSE lag / 1000.0 END",
    "failed_at": "CASE WHEN failed THEN written + INTERVAL 30 SECOND END",
    "failure_reason": "CASE WHEN failed THEN 'DstKmsKeyNotFound' END",
    "evidence": "'replica-event'",
    "time_precision": "0.001::DOUBLE",
    "recorded_at": "written + INTERVAL 1 HOUR",
    "counted_at": "written",
    "repaired": "failed AND fixed",
    "reason_code": "CASE WHEN failed THEN 'DstKmsKeyNotFound' END",
    "state": "'settled'",
    "copy_id": "(hash(i, 1) >> 1)::BIGINT",
    "row_id": "(hash(i, 2) >> 1)::BIGINT",
    "revision": "i",
}


def make(folder: Path, copies: int) -> None:
    """Write the archive, a file per day, and one with the rows that came twice."""
    select = ", ".join(f"{_VALUES[column.name]} AS {column.name}" for column in COLUMNS)
    database = duckdb.connect(config={"threads": 2, "memory_limit": "4GB", "preserve_insertion_order": False})
    per_day = copies // DAYS
    for day in range(DAYS):
        for name, numbers in (("all", f"range({per_day})"), ("again", f"range(0, {per_day}, 200)")):
            inner = (
                f"SELECT {day * per_day} + range AS i, TIMESTAMP '2026-10-01' + INTERVAL {day} DAY"
                f" + to_milliseconds(range * 86400000 // {per_day}) AS written,"
                " (exp(2.1 + 1.2 * sqrt(-2 * ln(1 - (hash(range) % 1000000) / 1000001.0))) * 1000)::BIGINT AS lag,"
                f" hash(range, 7) % 100 = 0 AS failed, hash(range, 8) % 3 = 0 AS fixed FROM {numbers}"
            )
            to = folder / f"day=2026-10-{day + 1:02d}" / "hour=12"
            to.mkdir(parents=True, exist_ok=True)
            database.execute(
                f"COPY (SELECT {select} FROM ({inner})) TO '{to}/{name}.parquet' (FORMAT parquet, COMPRESSION zstd)"
            )
        print(f"day {day + 1}", file=sys.stderr)
    database.close()


def main() -> None:
    """Print the figures."""
    copies = int(sys.argv[1]) if len(sys.argv) > 1 else COPIES
    folder = WORK / f"month-{copies}"
    if not (folder / "done").exists():
        make(folder, copies)
        (folder / "done").touch()
    arguments = ["report", "--archive", str(folder), "--month", "2026-10", "--memory", "3GB", "-o", "json"]
    begin = time.perf_counter()
    answer = subprocess.check_output([sys.executable, "-m", "crr_monitor", *arguments])
    seconds = time.perf_counter() - begin
    counted = sum(
        pair["copies"] + pair.get("delete_markers", {}).get("copies", 0) for pair in json.loads(answer)["pairs"]
    )
    assert counted == copies // DAYS * DAYS, counted
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    show("copies in the month's report", f"{counted:,}")
    show(f"seconds (target {TARGET:.0f})", f"{seconds:.1f}")
    show("processor seconds", f"{used.ru_utime + used.ru_stime:.1f}")
    show("peak memory (target 4,000)", f"{used.ru_maxrss / 1024:,.0f} MB")


if __name__ == "__main__":
    main()
