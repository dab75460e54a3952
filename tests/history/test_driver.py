"""How DuckDB is loaded."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

INTERRUPTED = """
import os, signal
try:
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(1_000):
        pass
except KeyboardInterrupt as error:
    raise ImportError("initialization failed") from error
print("loaded")
"""
"""What DuckDB does of an exception while it is loaded."""

LOAD = """
import signal
from crr_monitor.history.driver import load
try:
    load()
    print("done")
except KeyboardInterrupt:
    print("interrupted")
"""

IGNORE = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
THREAD = (
    "import threading\ndef work():\n    {}\nthread = threading.Thread(target=work)\nthread.start()\nthread.join()\n"
)


@pytest.mark.parametrize(
    ("script", "told"),
    [
        pytest.param(LOAD, ["loaded", "interrupted"], id="heard"),
        pytest.param(IGNORE + LOAD, ["loaded", "done"], id="ignored"),
        pytest.param(IGNORE + THREAD.format(LOAD.replace("\n", "\n    ")), ["loaded", "done"], id="thread"),
    ],
)
def test_ctrl_c_while_it_is_loaded(script: str, told: list[str], tmp_path: Path) -> None:
    """It waits until all is there: half loaded, DuckDB says that it is broken, or breaks."""
    (tmp_path / "duckdb.py").write_text(INTERRUPTED)
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=60,
    )
    assert (done.stdout.splitlines(), done.stderr, done.returncode) == (told, "", 0)
