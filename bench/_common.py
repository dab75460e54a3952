"""What the benchmarks share: a stream to work on, and one line per figure."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from crr_monitor.core.topology_document import parse_topology
from crr_monitor.simulate import Plan, run

if TYPE_CHECKING:
    from crr_monitor.stores.base import Store

WORK = Path(__file__).resolve().parent.parent / "build" / "bench"


def stream(name: str, plan: Plan) -> Path:
    """A simulated stream, made once for its plan, in ``build/bench/NAME``."""
    out = WORK / name
    stamp = WORK / f"{name}.plan"
    if stamp.exists() and stamp.read_text() == repr(plan):
        return out
    WORK.mkdir(parents=True, exist_ok=True)
    stamp.unlink(missing_ok=True)
    shutil.rmtree(out, ignore_errors=True)
    print(f"making {plan.objects:,} objects in {out} ...", file=sys.stderr)
    run(plan, out)
    stamp.write_text(repr(plan))
    return out


def learn(store: Store, out: Path) -> None:
    """Teach a store the stream's topology."""
    store.learn(parse_topology(json.loads((out / "topology.json").read_text())))


def remove_store(path: Path) -> None:
    """Remove a store and what belongs to it."""
    for suffix in ("", "-wal", "-shm", ".rejects.ndjson"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


def show(name: str, value: str, note: str = "") -> None:
    """One figure."""
    print(f"{name:<44} {value:>16}  {note}".rstrip())
