"""What a cold start of *process* costs beyond boto3 itself: both in new interpreters, turn by turn, in one run.

``python3 dev.py bench cold_start [TURNS]`` (15): the time until boto3 is imported and has its DynamoDB and SQS clients,
and the time until *process* is imported and has its clients, store and queues, from the zip that is deployed, unpacked.
Bytecode is there in both (``with bytecode``), and then only boto3's, as in Lambda, where the zip holds sources
(``from sources``). Medians. Exits with 1 when the difference with bytecode is over the target.
"""

from __future__ import annotations

import io
import os
import statistics
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from bench._common import show
from crr_monitor.lambdas.package import Target, build

TARGET_MS = 50.0

_BEFORE = "import sys, time; sys.path.insert(0, sys.argv[1]); begin = time.perf_counter()\n"
_AFTER = "\nprint((time.perf_counter() - begin) * 1000)"
_BOTO3 = "import boto3; boto3.client('dynamodb'); boto3.client('sqs')"
_PROCESS = "from crr_monitor.lambdas import process; process.runtime()"

_ENVIRONMENT = {
    "PATH": os.defpath,
    "AWS_ACCESS_KEY_ID": "none",
    "AWS_SECRET_ACCESS_KEY": "none",
    "AWS_DEFAULT_REGION": "us-east-1",
    "CRR_MONITOR_STORE": "dynamodb://bench-status",
    "CRR_MONITOR_QUEUE_URL": "http://127.0.0.1:9/events",
    "CRR_MONITOR_DEAD_LETTER_QUEUE_URL": "http://127.0.0.1:9/dead",
    "CRR_MONITOR_PROCESSING_MODE": "Scheduled",
    "CRR_MONITOR_EVENT_LOG": "",
}


def milliseconds(code: str, folder: Path, *, keep_bytecode: bool) -> float:
    """One new interpreter."""
    options = [] if keep_bytecode else ["-B"]
    command = [sys.executable, *options, "-c", _BEFORE + code + _AFTER, str(folder)]
    return float(subprocess.run(command, env=_ENVIRONMENT, check=True, capture_output=True, text=True).stdout)


def compare(folder: Path, turns: int, *, keep_bytecode: bool) -> tuple[float, float]:
    """Medians of boto3 alone and of *process*, measured in turns."""
    for code in (_BOTO3, _PROCESS):
        milliseconds(code, folder, keep_bytecode=keep_bytecode)
    pairs = [
        (
            milliseconds(_BOTO3, folder, keep_bytecode=keep_bytecode),
            milliseconds(_PROCESS, folder, keep_bytecode=keep_bytecode),
        )
        for _ in range(turns)
    ]
    boto3, process = (statistics.median(column) for column in zip(*pairs, strict=True))
    return boto3, process


def main() -> None:
    """Measure and print."""
    turns = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        zipfile.ZipFile(io.BytesIO(build(Target.HOST).data)).extractall(folder)
        plain = compare(folder, turns, keep_bytecode=False)
        warm = compare(folder, turns, keep_bytecode=True)
    for title, (boto3, process) in (("with bytecode", warm), ("from sources", plain)):
        print(f"\n{title}")
        show("boto3 with clients for DynamoDB and SQS", f"{boto3:.0f} ms")
        show("process, with its clients, store and queues", f"{process:.0f} ms")
        show("difference", f"{process - boto3:.0f} ms", f"target {TARGET_MS:.0f} ms" if boto3 == warm[0] else "")
    sys.exit(warm[1] - warm[0] > TARGET_MS)


if __name__ == "__main__":
    main()
