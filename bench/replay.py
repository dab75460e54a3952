"""How fast CloudTrail logs become the archive and its report, against one DuckDB query over the same files.

``python3 dev.py bench replay [OBJECTS]``. The baseline only pairs writes with replicas and aggregates lags: it checks
nothing, knows no rules, no duplicates' roles, no failures, and keeps nothing. Ours reads the same gzipped log files,
applies all rules, and ends with durable Parquet and the month's report. Both use one process, then two.

The memory is that of all processes together, looked at every tenth of a second.
"""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import duckdb

from bench._common import WORK, show, stream
from crr_monitor.simulate import Plan

OBJECTS = 1_000_000
TARGET = 0.4

_STRUCT = (
    "STRUCT(eventSource VARCHAR, eventName VARCHAR, eventTime VARCHAR, errorCode VARCHAR,"
    " userIdentity STRUCT(principalId VARCHAR),"
    ' requestParameters STRUCT(bucketName VARCHAR, "key" VARCHAR, "x-amz-version-id" VARCHAR),'
    ' responseElements STRUCT("x-amz-version-id" VARCHAR))[]'
)
_PAIRING = """
WITH records AS (SELECT unnest(Records) AS r FROM read_json({files}, columns={{Records: '{struct}'}},
    maximum_object_size=268435456)),
events AS (SELECT r.requestParameters."key" AS key, r.requestParameters.bucketName AS bucket,
    coalesce(r.responseElements."x-amz-version-id", r.requestParameters."x-amz-version-id") AS version,
    try_cast(r.eventTime AS TIMESTAMP) AS moment, r.userIdentity.principalId LIKE '%:s3-replication' AS replica
    FROM records WHERE r.errorCode IS NULL AND r.eventSource = 's3.amazonaws.com'),
pairs AS (SELECT key, version, min(CASE WHEN NOT replica THEN moment END) AS written,
    min(CASE WHEN replica THEN moment END) AS arrived, max(CASE WHEN replica THEN bucket END) AS destination
    FROM events GROUP BY key, version)
SELECT destination, count(*), quantile_cont(epoch(arrived - written), 0.99),
    avg(CASE WHEN epoch(arrived - written) <= 900 THEN 1 ELSE 0 END) FROM pairs GROUP BY destination
"""


def baseline(logs: list[str], threads: int) -> tuple[float, float]:
    """Seconds that the plain query takes, the best of two; and its seconds of CPU."""
    best = used = float("inf")
    for _ in range(2):
        database = duckdb.connect()
        database.execute(f"SET threads = {threads}")
        begin, cpu = time.perf_counter(), time.process_time()
        database.execute(_PAIRING.format(files=logs, struct=_STRUCT)).fetchall()
        best = min(best, time.perf_counter() - begin)
        used = min(used, time.process_time() - cpu)
        database.close()
    return best, used


def _group_memory(group: int) -> float:
    """Megabytes that the processes of a session have in memory; what they share counts once for each."""
    total = 0
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended meanwhile
            continue
        if int(fields[3]) == group:
            total += int(fields[21]) * 4_096
    return total / 1e6


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def ours(out: Path, processes: int) -> tuple[float, float, float, int]:
    """Seconds from logs to durable Parquet and the report, those of CPU, peak memory in MB, and the events in them."""
    archive, store = WORK / "replay-archive", WORK / "replay.db"
    shutil.rmtree(archive, ignore_errors=True)
    ingest = [
        "ingest", "--archive-only", "--archive", str(archive), "--topology", str(out / "topology.json"),
        "--processes", str(processes), str(out / "AWSLogs"),
    ]  # fmt: skip
    report = ["report", "--archive", str(archive), "--month", "2026-11", "-o", "json"]
    peak, events = 0.0, 0
    begin, cpu = time.perf_counter(), _children_cpu()
    for arguments in (ingest, report):
        command = [sys.executable, "-m", "crr_monitor", "--store", str(store), *arguments]
        with (WORK / "replay.out").open("w+b") as answer:
            process = subprocess.Popen(command, stdout=answer, stderr=subprocess.DEVNULL, start_new_session=True)
            while process.poll() is None:
                peak = max(peak, _group_memory(process.pid))
                time.sleep(0.1)
            assert process.returncode == 0, arguments
            answer.seek(0)
            events = events or json.load(answer)["events"]
    return time.perf_counter() - begin, _children_cpu() - cpu, peak, events


def main() -> None:
    """Print the figures."""
    objects = int(sys.argv[1]) if len(sys.argv) > 1 else OBJECTS
    plan = Plan(
        objects=objects, kinds=("cloudtrail",), layout="logs", gz=True, messages_per_file=1_000, malformed_rate=0
    )
    out = stream("replay-logs", plan)
    logs = sorted(map(str, (out / "AWSLogs").rglob("*.json.gz")))
    for processes in (1, 2):
        plain, plain_cpu = baseline(logs, processes)
        seconds, cpu, peak, events = ours(out, processes)
        show(f"plain DuckDB query, {processes} thread(s)", f"{events / plain:,.0f}/s", f"{events:,} events")
        show(f"logs to Parquet and report, {processes} process(es)", f"{events / seconds:,.0f}/s", f"{seconds:.1f} s")
        show(f"RATIO (target {TARGET})", f"{plain / seconds:.2f}", f"of CPU seconds {plain_cpu / cpu:.2f}")
        show("peak memory of all processes (target 1,000)", f"{peak:,.0f} MB")


if __name__ == "__main__":
    main()
