"""The sandbox's process: it ends with its owner, listens on the loopback only, and refuses a ministack that changed."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import crr_monitor.sandbox
from crr_monitor.sandbox import Latency, Sandbox, SandboxError, Settings
from tests.processes import alive
from tests.sandbox.making import EAST, HOME, World

pytest.importorskip("ministack")
pytest.importorskip("boto3")

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(crr_monitor.sandbox.__file__).parent
ROOT = HERE.parents[1]


def until(true: Callable[[], bool], seconds: float = 60.0) -> bool:
    """Whether it becomes true in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if true():
            return True
        time.sleep(0.02)
    return False


def answers(endpoint: str) -> bool:
    """Whether somebody listens there."""
    port = int(endpoint.rsplit(":", 1)[-1])
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_stopping_ends_the_process_and_frees_the_port() -> None:
    """After the block nothing listens, the folder is gone, and a second stop does nothing."""
    with Sandbox() as sandbox:
        endpoint, folder = sandbox.endpoint, Path(sandbox._folder)
        assert answers(endpoint)
        assert folder.exists()
    assert not answers(endpoint)
    assert not folder.exists()
    sandbox.stop()


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs Linux's list of sockets")
def test_it_listens_on_the_loopback_interface_only() -> None:
    """The one listening socket of the process is bound to 127.0.0.1."""
    with Sandbox() as sandbox:
        World(sandbox).bucket("orders")
        process = sandbox._process
        assert process is not None
        descriptors = (str(path.readlink()) for path in Path(f"/proc/{process.pid}/fd").iterdir() if path.is_symlink())
        inodes = {match.group(1) for name in descriptors if (match := re.match(r"socket:\[(\d+)\]", name))}
        tables = [Path(f"/proc/{process.pid}/net/{table}").read_text().splitlines()[1:] for table in ("tcp", "tcp6")]
        rows = [line.split() for lines in tables for line in lines]
        listening = [row[1] for row in rows if row[3] == "0A" and row[9] in inodes]
        port = int(sandbox.endpoint.rsplit(":", 1)[-1])
        assert listening == [f"0100007F:{port:04X}"]


OWNER = """
import io, json, time, zipfile
from crr_monitor.sandbox import Sandbox
sandbox = Sandbox()
sandbox.start()
archive = io.BytesIO()
with zipfile.ZipFile(archive, "w") as package:
    package.writestr("f.py", "import os\\ndef handler(event, context):\\n    return os.getpid()")
functions = sandbox.client("lambda", "111122223333", "us-east-1")
role = "arn:aws:iam::111122223333:role/f"
functions.create_function(
    FunctionName="f", Runtime="python3.13", Handler="f.handler", Role=role, Code={"ZipFile": archive.getvalue()}
)
worker = json.load(functions.invoke(FunctionName="f")["Payload"])
print(sandbox.endpoint, sandbox._process.pid, worker, sandbox._folder, flush=True)
time.sleep(60)
"""


def test_it_ends_when_its_owner_is_killed(tmp_path: Path) -> None:
    """A SIGKILL of the parent leaves neither the process nor a function's process nor a folder behind."""
    script = tmp_path / "owner.py"
    script.write_text(OWNER)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=environment) as owner:
        assert owner.stdout is not None
        endpoint, server, worker, folder = owner.stdout.readline().split()
        assert answers(endpoint)
        assert [alive(int(server)), alive(int(worker)), Path(folder).exists()] == [True, True, True]
        owner.send_signal(signal.SIGKILL)
        owner.wait()
    assert until(lambda: not alive(int(server)) and not alive(int(worker)))
    assert not answers(endpoint)
    assert not Path(folder).exists()


def test_credentials_and_endpoints_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the environment says, clients talk to the sandbox, as the account that they were made for."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "somebody-real")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with Sandbox() as sandbox:
        assert sandbox.client("sts", HOME, EAST).get_caller_identity()["Account"] == HOME


def test_it_says_why_it_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error holds what the process said last."""
    sandbox = Sandbox(Settings(replication=Latency(1)))
    monkeypatch.setattr(sandbox.settings.__class__, "as_json", lambda _: {"nonsense": 1})
    with pytest.raises(SandboxError, match="nonsense"):
        sandbox.start()
    with pytest.raises(SandboxError, match="not started"):
        sandbox.state()


def run(code: str) -> subprocess.CompletedProcess[str]:
    """Run Python with the emulator's modules at hand."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)


def test_every_place_in_ministack_is_as_this_package_knows_it() -> None:
    """The installed ministack has every attribute and signature that the package relies on."""
    result = run("from crr_monitor.sandbox import points; print(points.differences())")
    assert result.stdout == "[]\n", result.stderr


def test_a_changed_ministack_is_refused_with_what_changed() -> None:
    """A function that is gone, and one with another parameter, are both named."""
    code = (
        "from crr_monitor.sandbox import points\n"
        "s3 = points.module('services.s3')\n"
        "del s3._maybe_replicate\n"
        "s3._event_object_key = lambda other: other\n"
        "points.check()\n"
    )
    error = run(code).stderr
    assert "services.s3._maybe_replicate is gone" in error
    assert "services.s3._event_object_key takes (other) instead of (key)" in error


def test_nothing_of_ministack_is_used_that_is_not_listed() -> None:
    """Every attribute of the emulator's modules that the sources name stands in ``POINTS``, and nothing else does."""
    from crr_monitor.sandbox import points  # noqa: PLC0415 - the one module that names them all

    used: set[tuple[str, str]] = {("app", "app")}
    for path in HERE.glob("*.py"):
        text = path.read_text()
        for alias, module in re.findall(r'^(_\w+) = points\.module\("([\w.]+)"\)', text, re.MULTILINE):
            used |= {(module, name) for name in re.findall(rf"(?<![\w.]){alias}\.(\w+)", text)}
        used |= set(re.findall(r'points\.replace\(\s*"([\w.]+)", "(\w+)"', text))
    listed = {(module, name) for module, names in points.POINTS.items() for name in names}
    assert used == listed


def test_nothing_of_the_product_imports_the_sandbox() -> None:
    """Only the demo names it, and it imports nothing of the product."""
    package = HERE.parent
    importing = re.compile(r"^\s*(?:from|import) crr_monitor\.sandbox", re.MULTILINE)
    users = {path.relative_to(package).parts[0] for path in package.rglob("*.py") if importing.search(path.read_text())}
    assert users <= {"sandbox", "demo"}
    own = re.compile(r"^\s*(?:from|import) crr_monitor(?!\.sandbox)", re.MULTILINE)
    assert [path.name for path in HERE.glob("*.py") if own.search(path.read_text())] == []


def test_the_same_seed_gives_the_same_delays() -> None:
    """Latencies are drawn from the seed, around the median and below the limit."""
    from random import Random  # noqa: PLC0415

    latency = Latency(2.0, spread=1.0, limit=10.0)
    one, two = Random(3), Random(3)
    draws = [latency.draw(one) for _ in range(2001)]
    assert draws == [latency.draw(two) for _ in range(2001)]
    assert sorted(draws)[1000] == pytest.approx(2.0, rel=0.1)
    assert max(draws) == 10.0
    assert Latency(0).draw(one) == 0.0
