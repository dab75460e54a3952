"""The demo as it is run: it shows, checks, ends by itself or at Ctrl-C, and leaves nothing behind."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from crr_monitor.cli.main import main
from crr_monitor.demo import DemoError
from crr_monitor.demo.show import Show
from crr_monitor.demo.system import System, in_a_line

pytest.importorskip("boto3")
pytest.importorskip("ministack")

if TYPE_CHECKING:
    from collections.abc import Callable

    from crr_monitor.demo.picture import Moment, Picture

DEMO = [sys.executable, "-m", "crr_monitor", "demo"]
WAIT_SECONDS = 60.0
READY = "list --status FAILED"


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """The demo as a process whose temporary files are in a folder of its own."""
    environment = {**os.environ, "TMPDIR": str(folder), "CRR_MONITOR_CONFIG": os.devnull}
    pipe = subprocess.PIPE
    return subprocess.Popen([*DEMO, *arguments], env=environment, stdout=pipe, stderr=pipe, text=True)


def said(process: subprocess.Popen[str], text: str) -> list[str]:
    """Its words up to the line with a text in it."""
    lines: list[str] = []
    assert process.stderr is not None
    for line in process.stderr:
        lines.append(line.strip())
        if text in line:
            return lines
    pytest.fail(f"it never said {text!r}: {lines}")


def processes_of(folder: Path) -> list[str]:
    """Processes that were told of the folder, where the system can list them."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_text(errors="replace")
        except OSError:  # it ended meanwhile
            continue
        if str(folder) in words:
            found.append(words)
    return found


def test_it_ends_by_itself_and_agrees(tmp_path: Path) -> None:
    """It says what it does, can be asked from a second terminal, and ends with figures that agree with its truth."""
    with start(tmp_path, "--for", "6") as process:
        lines = said(process, READY)
        (export,) = [line for line in lines if line.startswith("export CRR_MONITOR_STORE=")]
        store = shlex.split(export)[1].partition("=")[2]
        keys = {"AWS_ACCESS_KEY_ID": "111122223333", "AWS_SECRET_ACCESS_KEY": "test"}
        ask = [*DEMO[:-1], "--store", store, "stats", "-o", "json"]
        asked = subprocess.run(ask, env={**os.environ, **keys}, capture_output=True, text=True, check=False)
        output, errors = process.communicate(timeout=WAIT_SECONDS)
    assert asked.returncode == 0, asked.stderr
    assert isinstance(json.loads(asked.stdout)["groups"], list)
    assert process.returncode == 0, output + errors
    pairs = re.findall(r"^(\S+ -> \S+) +\d+ +(\d+) +(\d+) +(\d+)", output.partition("Failures")[0], re.MULTILINE)
    assert [(name, pending) for name, _, _, pending in pairs] == [
        ("logs -> logs-central", "0"),
        ("orders -> orders-audit", "0"),
        ("orders -> orders-dr", "0"),
        ("photos -> partner-inbox", "0"),
        ("photos -> photos-dr", "0"),
    ]
    assert [name for name, _, failed, _ in pairs if failed != "0"] == ["photos -> partner-inbox"]
    assert "DstPutObjectNotPermitted" in output
    assert "fix: allow s3:ReplicateObject" in output
    assert output.endswith("; missing: 0.\nEvery record and every figure agrees with what was written.\n")
    assert (list(tmp_path.iterdir()), processes_of(tmp_path)) == ([], [])


@pytest.mark.parametrize("moment", ["starting a local AWS", "deploying the hub", READY])
def test_an_interrupt_leaves_nothing_behind(tmp_path: Path, moment: str) -> None:
    """Ctrl-C during start-up or later, and again while it tidies up: status 130, no traceback, no process, no file."""
    with start(tmp_path) as process:
        said(process, moment)
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == 130, errors
    assert output == ""
    assert "Traceback" not in errors
    assert errors.endswith("crr-monitor: interrupted\n")
    assert (list(tmp_path.iterdir()), processes_of(tmp_path)) == ([], [])


class Quiet:
    """Progress and audience of whom nobody hears; ``act`` is called once, after some versions were written."""

    def __init__(self, act: Callable[[], object] = lambda: None) -> None:
        self._act: Callable[[], object] | None = act

    def step(self, text: str) -> None:
        """Nothing."""

    def detail(self, text: str) -> None:
        """Nothing."""

    def look(self, _picture: Picture, moment: Moment) -> None:
        """Act, once."""
        if moment.written and self._act is not None:
            act, self._act = self._act, None
            act()


def test_a_lost_event_is_found_out() -> None:
    """One notification that never comes makes the comparison fail, with the version named."""
    with System() as system:
        system.start(Quiet())
        system._sandbox.fault("drop", match={"kind": "notification", "bucket": "orders-dr"}, times=1)
        with Show(system, 2, 0.05) as show:
            verdict = show.run(Quiet())
    assert not verdict.agrees
    (version, figure, pending) = verdict.differences
    assert version.startswith("s3://orders/")
    assert version.endswith("PENDING at orders-dr")
    assert figure.startswith("orders -> orders-dr: ")
    assert pending == "orders -> orders-dr: 0 objects are PENDING, and the monitor counts 1"


def test_a_local_aws_that_dies_is_told() -> None:
    """When the local AWS goes away in the middle, the demo ends with an error instead of waiting for ever."""
    with System() as system:
        system.start(Quiet())

        def kill() -> None:
            assert system._sandbox._process is not None
            system._sandbox._process.kill()

        with pytest.raises(Exception) as caught, Show(system, None, 0.05) as show:  # noqa: PT011 - whoever asks first
            show.run(Quiet(kill))
    assert type(caught.value).__name__ in {"AwsError", "DemoError", "StoreError"}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--for", "0"], "0 is not in the range 1<=x<=3600"),
        (["--for", "-5"], "-5 is not in the range"),
        (["--for", "3601"], "3601 is not in the range"),
        (["--for", "soon"], "'soon' is not a valid integer"),
        (["--for"], "requires an argument"),
        (["now"], "unexpected extra argument"),
    ],
)
def test_wrong_arguments_are_usage_errors(capsys: pytest.CaptureFixture[str], arguments: list[str], told: str) -> None:
    """Status 2 and what is allowed; nothing is started."""
    assert main(["demo", *arguments]) == 2
    captured = capsys.readouterr()
    assert told in captured.err
    assert "starting" not in captured.err


def test_without_the_extra_it_says_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where ministack is missing, one line names the extra, and nothing is started."""
    known = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ministack" else known(name))
    assert main(["demo"]) == 1
    assert capsys.readouterr().err == (
        "crr-monitor: the demo needs the extra sandbox (ministack missing): pip install 'crr-monitor[sandbox]'\n"
    )


def test_it_cannot_be_asked_before_it_is_started() -> None:
    """A system that is not deployed says so, and stopping it does nothing."""
    with System() as system, pytest.raises(DemoError, match="not deployed yet"):
        system.store()


def test_a_traceback_is_told_in_a_line() -> None:
    """Of a traceback the last error stays, of other texts the last line, of one line that line."""
    trace = "it did not start:\nTraceback (most recent call last):\n  File x\na.b.ChangedError: install y\nFatal end\n"
    assert in_a_line(trace) == "it did not start: a.b.ChangedError: install y"
    assert in_a_line("it did not start:\nno\n\nport\n") == "it did not start: port"
    assert in_a_line("no answer") == "no answer"
