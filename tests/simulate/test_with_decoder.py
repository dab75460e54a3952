"""What a run says that it wrote is what the decoder finds in it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from crr_monitor.simulate import Plan, run

if TYPE_CHECKING:
    from pathlib import Path

decoding = pytest.importorskip("crr_monitor.decode")

LINES = Plan(objects=2_000, malformed_rate=0.05, ignored_rate=0.1, failure_rate=0.1, loss_rate=0.02)
LOGS = replace(LINES, kinds=("cloudtrail",), layout="logs", messages_per_file=500)


@pytest.mark.parametrize("plan", [LINES, LOGS], ids=["lines", "logs"])
def test_counts(tmp_path: Path, plan: Plan) -> None:
    """Messages, events, malformed records and ignored ones by kind are as the summary says."""
    summary = run(plan, tmp_path)
    found = decoding.Decoded()
    read = 0
    for path in sorted((tmp_path / ("AWSLogs" if plan.layout == "logs" else "events")).rglob("*json")):
        data = path.read_bytes()
        for message in [data] if plan.layout == "logs" else data.removesuffix(b"\n").split(b"\n"):
            decoding.decode(message, found)
            read += 1
    assert read == summary.messages
    assert len(found.events) == summary.events
    assert len(found.malformed) == summary.malformed
    assert Counter(found.ignored) == Counter(summary.ignored_by)
