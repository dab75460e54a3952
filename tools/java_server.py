"""Servers in Java beside which tests may run: fetched by Maven into ``build/``, started on loopback, and stopped."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROOT = Path(__file__).resolve().parent.parent


class Server(NamedTuple):
    """How to start one, and what to run beside it."""

    name: str
    folder: Path
    """Where it is started; its output goes to ``log`` there."""
    arguments: Sequence[str]
    """Of ``java``."""
    variable: str
    """The environment variable that tells the tests its address."""
    tests: Sequence[str]
    """What is run where no arguments of pytest are given."""
    seconds: float
    """How long it may take to start."""


def java_and_maven(hint: str) -> tuple[str, str] | None:
    """Where they are; where one is missing, ``hint`` is told, and there is no answer."""
    java, mvn = shutil.which("java"), shutil.which("mvn")
    if java is None or mvn is None:
        print(hint, file=sys.stderr)
        return None
    return java, mvn


def fetch(mvn: str, folder: Path, pom: str, goals: Sequence[tuple[Path, Sequence[str]]]) -> None:
    """Have Maven make each of some files that is not there yet, by the goal beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pom.xml").write_text(pom, encoding="utf-8")
    for made, goal in goals:
        if not made.exists():
            subprocess.run([mvn, "--quiet", "--batch-mode", *goal], cwd=folder, check=True)  # noqa: S603 - named above


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def run_tests(java: str, server: Server, port: int, ready: Callable[[int], bool]) -> int:
    """Start a server, run the tests when it is ``ready`` at its port, stop it; gives the exit status of pytest."""
    with (
        (server.folder / "log").open("wb") as log,
        subprocess.Popen([java, *server.arguments], cwd=server.folder, stdout=log, stderr=log) as process,  # noqa: S603
    ):
        try:
            if not _started(process, port, ready, server.seconds):
                print(f"{server.name} did not start: see {server.folder / 'log'}", file=sys.stderr)
                return 1
            environment = {**os.environ, server.variable: f"http://127.0.0.1:{port}"}
            return subprocess.run(  # noqa: S603 - what is named above
                [sys.executable, "-m", "pytest", *(sys.argv[1:] or server.tests)],
                cwd=ROOT,
                env=environment,
                check=False,
            ).returncode
        finally:
            process.terminate()


def _started(process: subprocess.Popen[bytes], port: int, ready: Callable[[int], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        if ready(port):
            return True
        time.sleep(0.2)
    return False
