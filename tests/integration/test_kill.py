"""Real processes killed for real: what is resumed is what an undisturbed run gives, to the last count."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from crr_monitor.simulate import Plan, run
from crr_monitor.sources.rejects import read_rejects
from crr_monitor.stores.sqlite import SqliteStore
from tests.integration.helpers import check, everything, ingest, learn

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.no_cover

KILLS = 20
LIVES = 400

_INGEST = """
import sys
from crr_monitor.process.ingest import Ingest
from crr_monitor.sources.files import open_sources
from crr_monitor.sources.rejects import RejectFile
from crr_monitor.stores.sqlite import SqliteStore
store, rejects, events, child = sys.argv[1:]
ingest = Ingest(SqliteStore(store), RejectFile(rejects), child=child == "child", batch_events=250)
print("begun", flush=True)
ingest.run(open_sources([events]))
"""


def _die_often(tmp_path: Path, events: Path, seed: int) -> int:
    """Ingest, killed again and again; returns how often it was killed before it came to its end."""
    when = random.Random(seed)
    for life in range(LIVES):
        mode = "child" if life % 2 else "alone"
        process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                _INGEST,
                str(tmp_path / "s.db"),
                str(tmp_path / "rejects.ndjson"),
                str(events),
                mode,
            ],
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        process.stdout.readline()
        if life < KILLS:
            time.sleep(when.uniform(0.0, 0.12))
            process.send_signal(signal.SIGKILL)
        process.stdout.close()
        if process.wait() == 0:
            return life
    message = f"not done after {LIVES} lives"
    raise AssertionError(message)


def test_killed_twenty_times_it_ends_as_if_undisturbed(tmp_path: Path) -> None:
    """SIGKILL at twenty moments: records, statistics, counts and rejects are those of a run that nobody disturbed."""
    stream = tmp_path / "stream"
    run(Plan(seed=21, objects=20_000, malformed_rate=0.01, messages_per_file=7_000), stream)
    calm = SqliteStore(tmp_path / "calm.db")
    learn(calm, stream)
    ingest(calm, stream / "events", rejects=tmp_path / "calm.rejects.ndjson")
    store = SqliteStore(tmp_path / "s.db")
    learn(store, stream)
    store.close()

    kills = _die_often(tmp_path, stream / "events", seed=21)

    store = SqliteStore(tmp_path / "s.db")
    assert kills == KILLS
    assert everything(store) == everything(calm)
    assert store.counts() == calm.counts()
    assert check(store, stream).none
    kept = sorted(
        (reject.source, reject.position, reject.message) for reject in read_rejects(tmp_path / "rejects.ndjson")
    )
    calm_kept = read_rejects(tmp_path / "calm.rejects.ndjson")
    assert kept == sorted((reject.source, reject.position, reject.message) for reject in calm_kept)
