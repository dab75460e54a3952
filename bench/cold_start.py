"""What a cold start of *process* costs beyond boto3 itself: both in new interpreters, turn by turn, in one run.

``python3 dev.py bench cold_start [TURNS]`` (15): the time until boto3 is imported and has its DynamoDB and SQS clients,
and the time until *process* is imported and has its clients, store and queues, from the zip that is deployed, unpacked:
with the bytecode that is in it where Lambda's Python has packaged it, and without, as any other one packages it.
Nothing is written beside the sources, as in Lambda. Medians. Exits with 1 when the difference with bytecode is over the
target.
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
    "CRR_MONITOR_EVENT_LOG": "",
}


def milliseconds(code: str, folder: Path) -> float:
    """One new interpreter."""
    command = [sys.executable, "-B", "-c", _BEFORE + code + _AFTER, str(folder)]
    return float(subprocess.run(command, env=_ENVIRONMENT, check=True, capture_output=True, text=True).stdout)


def compare(folder: Path, turns: int) -> tuple[float, float]:
    """Medians of boto3 alone and of *process*, measured in turns after a first one that does not count."""
    pairs = [(milliseconds(_BOTO3, folder), milliseconds(_PROCESS, folder)) for _ in range(turns + 1)][1:]
    boto3, process = (statistics.median(column) for column in zip(*pairs, strict=True))
    return boto3, process


def main() -> None:
    """Measure and print."""
    turns = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    found = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        zipfile.ZipFile(io.BytesIO(build(Target.HOST).data)).extractall(folder)
        found["with bytecode"] = compare(folder, turns)
        for path in folder.rglob("*.pyc"):
            path.unlink()
        found["from sources"] = compare(folder, turns)
    for title, (boto3, process) in found.items():
        aim = f"target {TARGET_MS:.0f} ms" if title == "with bytecode" else ""
        print(f"\n{title}")
        show("boto3 with clients for DynamoDB and SQS", f"{boto3:.0f} ms")
        show("process, with its clients, store and queues", f"{process:.0f} ms", f"{process / boto3:.2f} times boto3")
        show("difference", f"{process - boto3:.0f} ms", aim)
    boto3, process = found["with bytecode"]
    sys.exit(process - boto3 > TARGET_MS)


if __name__ == "__main__":
    main()
