"""How fast CloudTrail lines become durable records, against decoders alone on the same bytes.

``python3 dev.py bench ingest [OBJECTS]``. The ingest reads the files, splits, decodes, applies the rules, merges, and
commits to SQLite with an fsync per batch, in two processes. Its rate is compared, in the same run, with what decoders
do alone on one core with lines that are in memory already:

- the product's own decoder, the fastest that makes events of these bytes: typed msgspec, then values checked, times
  read, roles marked. The target held here is 0.3 of it;
- msgspec's bare parse into a typed struct with exactly the fields that evidence needs (:class:`_Line`): no value is
  looked at and no event made, so it is the floor below which no decoder can get;
- the same with six fields, too few to make evidence of.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from bench._common import WORK, learn, remove_store, show, stream
from crr_monitor.decode import Decoded, decode
from crr_monitor.process.ingest import Ingest
from crr_monitor.simulate import Plan
from crr_monitor.sources.files import open_sources
from crr_monitor.sources.rejects import RejectFile
from crr_monitor.stores.sqlite import SqliteStore

if TYPE_CHECKING:
    from crr_monitor.stores.base import Batch

OBJECTS = 200_000
SAMPLE_BYTES = 256 << 20


class _SixIdentity(msgspec.Struct, gc=False):
    principalId: str | None = None  # noqa: N815 - CloudTrail's name


class _SixRequest(msgspec.Struct, gc=False):
    bucketName: str | None = None  # noqa: N815
    key: str | None = None


class _SixAnswer(msgspec.Struct, gc=False, rename={"version": "x-amz-version-id"}):
    version: str | None = None


class _Six(msgspec.Struct, gc=False):
    """Six fields: who, what, when, where; not enough to tell a replica, a denial, a size or an owner."""

    userIdentity: _SixIdentity | None = None  # noqa: N815
    eventTime: str | None = None  # noqa: N815
    eventName: str | None = None  # noqa: N815
    requestParameters: _SixRequest | None = None  # noqa: N815
    responseElements: _SixAnswer | None = None  # noqa: N815


class _Identity(msgspec.Struct, gc=False):
    principalId: str | None = None  # noqa: N815 - CloudTrail's name
    invokedBy: str | None = None  # noqa: N815


class _Request(
    msgspec.Struct,
    gc=False,
    rename={
        "version": "versionId",
        "given_version": "x-amz-version-id",
        "tagging": "x-amz-tagging",
        "storage_class": "x-amz-storage-class",
        "encryption": "x-amz-server-side-encryption",
    },
):
    bucketName: str | None = None  # noqa: N815
    key: str | None = None
    version: str | None = None
    given_version: str | None = None
    tagging: str | None = None
    storage_class: str | None = None
    encryption: str | None = None


class _Answer(
    msgspec.Struct,
    gc=False,
    rename={
        "version": "x-amz-version-id",
        "delete_marker": "x-amz-delete-marker",
        "encryption": "x-amz-server-side-encryption",
    },
):
    encryption: str | None = None
    version: str | None = None
    delete_marker: str | None = None


class _Extra(msgspec.Struct, gc=False):
    objectSize: float | None = None  # noqa: N815
    bytesTransferredIn: float | None = None  # noqa: N815
    SSEApplied: str | None = None


class _Resource(msgspec.Struct, gc=False):
    type: str | None = None
    accountId: str | None = None  # noqa: N815
    ARN: str | None = None


class _Line(msgspec.Struct, gc=False):
    """What evidence needs of a CloudTrail record, in the order in which CloudTrail writes it."""

    userIdentity: _Identity | None = None  # noqa: N815
    eventTime: str | None = None  # noqa: N815
    eventSource: str | None = None  # noqa: N815
    eventName: str | None = None  # noqa: N815
    awsRegion: str | None = None  # noqa: N815
    sourceIPAddress: str | None = None  # noqa: N815
    errorCode: str | None = None  # noqa: N815
    errorMessage: str | None = None  # noqa: N815
    requestParameters: _Request | None = None  # noqa: N815
    responseElements: _Answer | None = None  # noqa: N815
    additionalEventData: _Extra | None = None  # noqa: N815
    resources: list[_Resource] | None = None
    eventType: str | None = None  # noqa: N815


def sample(out: Path) -> list[bytes]:
    """Lines of the stream that decode, up to 256 MiB."""
    lines: list[bytes] = []
    left = SAMPLE_BYTES
    decoder = msgspec.json.Decoder(_Line)
    for path in sorted((out / "events").iterdir()):
        with path.open("rb") as file:
            for line in file:
                try:
                    decoder.decode(line)
                except (msgspec.DecodeError, UnicodeDecodeError):
                    continue
                lines.append(line)
                left -= len(line)
                if left < 0:
                    return lines
    return lines


def bare(lines: list[bytes], shape: type[msgspec.Struct]) -> float:
    """Lines per second of a typed decoder alone, the best of three."""
    decode_line = msgspec.json.Decoder(shape).decode
    best = 0.0
    for _ in range(3):
        begin = time.perf_counter()
        for line in lines:
            decode_line(line)
        best = max(best, len(lines) / (time.perf_counter() - begin))
    return best


def ours(lines: list[bytes]) -> float:
    """Lines per second of the product's decoder, the best of three."""
    best = 0.0
    for _ in range(3):
        into = Decoded()
        begin = time.perf_counter()
        for line in lines:
            decode(line, into)
        best = max(best, len(lines) / (time.perf_counter() - begin))
    return best


def peak_memory(status: Path) -> float:
    """Peak resident memory in MB, of this program alone (``ru_maxrss`` would include what started it)."""
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def children_status() -> list[Path]:
    """Where the processes that this one started tell of themselves."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        with suppress(OSError):
            if f"\nPPid:\t{os.getpid()}\n" in status.read_text():
                found.append(status)
    return found


def measure(out: Path) -> None:
    """Ingest everything once, and print where the time went as JSON (run in a process of its own)."""
    path = WORK / "ingest.db"
    remove_store(path)
    store = SqliteStore(path)
    learn(store, out)
    spent = {"apply": 0.0}
    memory = {"child": 0.0}
    apply = store.apply
    children: list[Path] = []

    def timed_apply(batch: Batch) -> int:
        children[:] = children or children_status()
        for status in children:
            with suppress(OSError, StopIteration):
                memory["child"] = max(memory["child"], peak_memory(status))
        begin = time.perf_counter()
        changed = apply(batch)
        spent["apply"] += time.perf_counter() - begin
        return changed

    store.apply = timed_apply  # type: ignore[method-assign]
    begin = time.perf_counter()
    cpu = time.process_time()
    totals = Ingest(store, RejectFile(f"{path}.rejects.ndjson")).run(open_sources([str(out / "events")]))
    seconds = time.perf_counter() - begin
    cpu = time.process_time() - cpu
    store.close()
    child = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(
        json.dumps(
            {
                "events": totals.counts.events,
                "seconds": seconds,
                **spent,
                "cpu": cpu,
                "child_cpu": child.ru_utime + child.ru_stime,
                "parent_mb": peak_memory(Path("/proc/self/status")),
                "child_mb": memory["child"],
                "store_bytes": path.stat().st_size,
            }
        )
    )


def main() -> None:
    """Print the figures."""
    if sys.argv[1:2] == ["--measure"]:
        measure(Path(sys.argv[2]))
        return
    objects = int(sys.argv[1]) if len(sys.argv) > 1 else OBJECTS
    out = stream("cloudtrail-lines", Plan(objects=objects, kinds=("cloudtrail",), wrappers=("bare",)))
    lines = sample(out)
    show("lines in the sample", f"{len(lines):,}", f"{sum(map(len, lines)) / len(lines):,.0f} bytes each")
    parse, six, own = bare(lines, _Line), bare(lines, _Six), ours(lines)
    del lines
    got = json.loads(subprocess.check_output([sys.executable, "-m", "bench.ingest", "--measure", str(out)]))
    rate = got["events"] / got["seconds"]
    show("events into durable SQLite, two processes", f"{rate:,.0f}/s", f"{got['events']:,} events")
    show("the product's decoder alone, one core", f"{own:,.0f}/s")
    show("msgspec's bare parse alone, one core", f"{parse:,.0f}/s", "no value looked at, no event made")
    show("  the same of six fields only", f"{six:,.0f}/s")
    show("RATIO to the decoder alone (target 0.3)", f"{rate / own:.2f}")
    show("ratio to the bare parse", f"{rate / parse:.2f}")
    per = 1e6 / got["events"]
    print("where the time goes, microseconds per event:")
    show("  second process: read, decode, merge", f"{got['child_cpu'] * per:.1f}", "CPU time")
    show("  first process: all of it", f"{got['cpu'] * per:.1f}", "CPU time")
    show("  first process: derive, count, store, fsync", f"{got['apply'] * per:.1f}")
    show("  first process: receive, or wait for it", f"{(got['seconds'] - got['apply']) * per:.1f}")
    show("peak memory, first and second process", f"{got['parent_mb']:.0f} + {got['child_mb']:.0f} MB")
    show("store, bytes per record", f"{got['store_bytes'] / objects:,.0f}")


if __name__ == "__main__":
    main()
