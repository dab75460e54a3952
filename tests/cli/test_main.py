"""The edge of the process: start-up, exit statuses, streams, interrupts."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from crr_monitor import __version__
from crr_monitor.cli import main as edge
from crr_monitor.cli.main import COMMANDS, main
from crr_monitor.core.topology_document import TopologyError
from crr_monitor.simulate.plan import SimulateError
from crr_monitor.sources.base import SourceError
from crr_monitor.sources.rejects import RejectError
from crr_monitor.stores.base import StoreError
from tests.cli.running import FAILED, INTERRUPTED, OK, USAGE, command, environment, fill, look, run
from tests.factories import replica, user_write
from tests.messages import cloudtrail, encoded

if TYPE_CHECKING:
    from pathlib import Path

    import click

PIPE_CLOSED = 141


def test_version_is_told_by_module_call() -> None:
    """``python -m crr_monitor --version`` prints name and version, and ends with 0."""
    done = run("--version")
    assert (done.returncode, done.stdout) == (OK, f"crr-monitor, version {__version__}\n")


def test_version_imports_little() -> None:
    """Telling the version imports neither msgspec, rich, sqlite3 nor any command."""
    code = (
        "import sys; from crr_monitor.cli.main import main; main(['--version']);"
        "print(sorted(name for name in sys.modules if name.split('.')[0] in {'msgspec', 'rich', 'sqlite3'}"
        " or name.startswith('crr_monitor.')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, encoding="utf-8", check=True
    )
    assert done.stdout.splitlines()[1] == "['crr_monitor.cli', 'crr_monitor.cli.main', 'crr_monitor.cli.session']"


@pytest.mark.parametrize("name", COMMANDS)
def test_command_imports_no_rich_for_its_help(name: str) -> None:
    """The help of a command comes without rich, which only a terminal needs."""
    code = (
        f"import sys; from crr_monitor.cli.main import main; main([{name!r}, '--help']); print('rich' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, encoding="utf-8", check=True
    )
    assert done.stdout.splitlines()[-1] == "False"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_has_an_example_and_fits(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The help of every command ends with a line that calls it, and no line is wider than 80 columns."""
    assert main([name, "--help"]) == OK
    lines = capsys.readouterr().out.splitlines()
    assert f"crr-monitor {name}" in lines[-1]
    assert lines[-2].strip() == "Example:"
    assert max(map(len, lines)) <= 80


def test_group_help_tells_every_command_whole(capsys: pytest.CaptureFixture[str]) -> None:
    """The program's help names every command, with a line that is not cut off."""
    assert main(["--help"]) == OK
    told = capsys.readouterr().out
    assert [name for name in COMMANDS if f"\n  {name} " not in told] == []
    assert "..." not in told.partition("Commands:")[2]


@pytest.mark.parametrize("name", ["deploy", "destroy", "reconcile"])
def test_what_needs_the_extra_says_so(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The help of commands that need boto3 says how to install it."""
    assert main([name, "--help"]) == OK
    assert "pip install 'crr-monitor[aws]'" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonesuch"],
        ["--nonesuch"],
        ["ingest"],
        ["status", "orders/key"],
        ["list", "--status", "BROKEN"],
        ["list", "--limit", "-1"],
        ["stats", "-o", "xml"],
        ["completion", "powershell"],
        ["deploy"],
        ["deploy", "satellite"],
        ["topology", "--plan"],
        ["ingest", "dynamodb://table"],
        ["ingest", "--processes", "2", "logs"],
        ["ingest", "--work", "folder", "logs"],
        ["--store", "dynamodb://", "stats"],
        ["--store", "postgres://host", "stats"],
    ],
    ids=" ".join,
)
def test_wrong_usage_ends_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong command, option or value, and what this version cannot do, is told on stderr and ends with 2."""
    assert main(arguments) == USAGE
    streams = capsys.readouterr()
    assert streams.out == ""
    assert "Error: " in streams.err


@pytest.mark.parametrize("source", ["dynamodb://table", "sqlite:///status.db"])
def test_a_store_is_no_source(source: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever names a store where logs are read learns where it belongs."""
    assert main(["ingest", source]) == USAGE
    assert f"{source}: is a store, not a source; name it with --store" in capsys.readouterr().err


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Let every command raise an error."""

    def fail(*_: object) -> click.Command:
        raise error

    monkeypatch.setattr(edge.cli, "get_command", fail)


@pytest.mark.parametrize("kind", [StoreError, SourceError, RejectError, TopologyError, SimulateError])
def test_error_of_ours_is_one_line(
    kind: type[Exception], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An error of a lower room becomes one line on stderr with its text, and status 1."""
    failing(monkeypatch, kind("it broke: mend it"))
    assert main(["stats"]) == FAILED
    assert capsys.readouterr() == ("", "crr-monitor: it broke: mend it\n")


def test_unexpected_error_says_that_it_is_a_bug(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Any other error becomes one line with type, text and what to do, and status 1."""
    failing(monkeypatch, KeyError("size"))
    assert main(["stats"]) == FAILED
    line = "crr-monitor: KeyError: 'size' (this is a bug, run `crr-monitor -v ...` for the traceback)\n"
    assert capsys.readouterr() == ("", line)


def test_verbose_shows_the_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """With -v the traceback comes before the line."""
    failing(monkeypatch, StoreError("it broke"))
    assert main(["-v", "stats"]) == FAILED
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-1] == "crr-monitor: it broke"


def test_error_text_cannot_act_on_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Control characters in an error's text are escaped, line ends among them."""
    failing(monkeypatch, SourceError("a\x1b[2Jb\nc"))
    assert main(["stats"]) == FAILED
    assert capsys.readouterr().err == "crr-monitor: a\\x1b[2Jb\\x0ac\n"


def test_keyboard_interrupt_ends_with_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C is told in a line without a traceback, and the status is 130."""
    failing(monkeypatch, KeyboardInterrupt())
    assert main(["stats"]) == INTERRUPTED
    assert capsys.readouterr().err.strip() == "crr-monitor: interrupted"


@pytest.mark.parametrize("start", [["-m", "crr_monitor"], ["-c", "from crr_monitor.__main__ import main; main()"]])
def test_ctrl_c_while_the_program_is_loaded(start: list[str], tmp_path: Path) -> None:
    """Before there is anything to end in order, Ctrl-C ends the process without a word."""
    (tmp_path / "click.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nprint('went on')\n")
    done = subprocess.run(
        [sys.executable, *start, "stats"],
        env=environment(PYTHONPATH=str(tmp_path)),
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


def stored(path: Path) -> int:
    """Records that another process has stored so far."""
    if not path.exists():
        return 0
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        try:
            return int(db.execute("SELECT COUNT(*) FROM version").fetchone()[0])
        except sqlite3.OperationalError:  # it is being made
            return 0


def test_ctrl_c_during_an_ingest(tmp_path: Path) -> None:
    """An ingest that waits for its input ends on Ctrl-C with 130, and says that what is stored is kept."""
    store = tmp_path / "a.db"
    process = subprocess.Popen(
        command("--store", str(store), "ingest", "-"),
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    with process:
        assert process.stdin is not None
        deadline = time.monotonic() + 60
        while not stored(store) and time.monotonic() < deadline:
            process.stdin.write(encoded(cloudtrail()).decode() + "\n")
            process.stdin.flush()
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.wait(timeout=60) == INTERRUPTED
        assert process.stdout.read() == ""
        told = process.stderr.read().split("\n")
    assert [line for line in told if line] == [
        "what was stored is kept: run the same command again to go on",
        "crr-monitor: interrupted",
    ]


@pytest.mark.parametrize("milliseconds", [0, 2, 8, 25])
def test_ctrl_c_twice_during_an_ingest(milliseconds: int, tmp_path: Path) -> None:
    """A second Ctrl-C right after the first, while the reading process is ended, is no reason for a traceback."""
    events, store = tmp_path / "events.ndjson", tmp_path / "a.db"
    events.write_bytes((encoded(cloudtrail()) + b"\n") * 20_000)
    links = [tmp_path / f"{number}.ndjson" for number in range(12)]
    for link in links:
        link.symlink_to(events)
    process = subprocess.Popen(
        command("--store", str(store), "ingest", *map(str, links)),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    with process:
        deadline = time.monotonic() + 60
        while not store.with_name("a.db-wal").exists() and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        time.sleep(milliseconds / 1_000)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
    assert process.returncode == INTERRUPTED
    assert "Traceback" not in told


def test_letters_that_the_encoding_lacks(tmp_path: Path) -> None:
    """A key is written out in escapes where the caller's encoding has no such letters."""
    store = fill(tmp_path / "a.db", user_write(key="ключ é"))
    done = subprocess.run(
        command("--store", str(store), "list"),
        env=environment(PYTHONIOENCODING="latin-1"),
        capture_output=True,
        encoding="latin-1",
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\u043a\\u043b\\u044e\\u0447 é" in done.stdout


def test_closed_pipe_is_quiet(tmp_path: Path) -> None:
    """A reader that stops early (``| head -1``) ends a long listing without a word, with 141."""
    writes = [user_write(key=f"{number:06d}" + "x" * 400) for number in range(2_000)]
    store = fill(tmp_path / "a.db", *writes)
    line = 'set -o pipefail; "$@" | head -1; echo ${PIPESTATUS[0]}'
    arguments = command("--store", str(store), "list", "--limit", "0", "-o", "ndjson")
    done = subprocess.run(
        ["bash", "-c", line, "bash", *arguments],  # noqa: S607 - the reader's shell
        env=environment(),
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.stdout.splitlines()[0].startswith('{"source"')
    assert (done.stdout.splitlines()[1:], done.stderr) == ([str(PIPE_CLOSED)], "")


@pytest.mark.parametrize("form", ["table", "json", "csv"])
def test_full_disk_behind_standard_output(form: str, tmp_path: Path) -> None:
    """Output that cannot be written is told in one line, and ends with 1."""
    store = fill(tmp_path / "a.db", user_write(), replica())
    with open("/dev/full", "wb") as full:  # noqa: PTH123 - a device
        done = subprocess.run(
            command("--store", str(store), "list", "-o", form),
            env=environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            check=False,
        )
    assert (done.returncode, done.stderr) == (FAILED, "crr-monitor: No space left on device\n")


def test_closed_streams_do_not_matter(tmp_path: Path) -> None:
    """Without standard output and error the command does its work all the same."""
    store = fill(tmp_path / "a.db", user_write(), replica())
    done = subprocess.run(
        ["bash", "-c", '"$@" >&- 2>&-', "bash", *command("--store", str(store), "stats")],  # noqa: S607
        env=environment(),
        check=False,
    )
    assert done.returncode == OK


@pytest.mark.parametrize("name", ["status", "list", "stats", "topology", "simulate"])
def test_missing_store_says_what_to_do(name: str, tmp_path: Path) -> None:
    """A command that reads a store which is not there names it, says to ingest first, and makes none."""
    store = tmp_path / "none.db"
    more = {"status": ["s3://orders/a"], "simulate": ["--check", "truth"]}.get(name, [])
    done = run("--store", f"sqlite:///{store}", name, *more)
    line = f"crr-monitor: no store at {store}: ingest something first, or name another one with --store\n"
    assert (done.returncode, done.stdout, done.stderr) == (FAILED, "", line)
    assert list(tmp_path.iterdir()) == []


def test_store_that_is_a_folder(tmp_path: Path) -> None:
    """A folder as store is told as such."""
    done = run("--store", str(tmp_path), "stats")
    line = f"crr-monitor: the store {tmp_path} is a folder: name a file in it, with --store\n"
    assert (done.returncode, done.stderr) == (FAILED, line)


def test_store_that_cannot_be_made(tmp_path: Path) -> None:
    """Where no folder can be made for the store, the line says so."""
    (tmp_path / "file").write_text("x")
    (tmp_path / "log.json").write_text("{}")
    done = run("--store", str(tmp_path / "file" / "a.db"), "ingest", str(tmp_path / "log.json"))
    line = f"crr-monitor: cannot make the folder of the store {tmp_path / 'file' / 'a.db'}: File exists\n"
    assert (done.returncode, done.stdout, done.stderr) == (FAILED, "", line)


def test_file_that_is_no_store(tmp_path: Path) -> None:
    """A file that is no database is refused, and stays as it is."""
    (tmp_path / "a.db").write_text("my notes, not a database at all" * 100)
    done = run("--store", str(tmp_path / "a.db"), "stats")
    assert (done.returncode, done.stderr.count("\n")) == (FAILED, 1)
    assert "the file is no SQLite database" in done.stderr
    assert (tmp_path / "a.db").read_text().startswith("my notes")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script(shell: str) -> None:
    """Each shell gets a script that asks the program with click's variable."""
    done = run("completion", shell)
    assert done.returncode == OK
    assert f"_CRR_MONITOR_COMPLETE={shell}_complete" in done.stdout


def test_completion_answers() -> None:
    """Asked by bash, the program names the commands that begin with what was typed."""
    done = run(_CRR_MONITOR_COMPLETE="bash_complete", COMP_WORDS="crr-monitor st", COMP_CWORD="1")
    assert (done.returncode, done.stdout.split()) == (OK, ["plain,status", "plain,stats"])


@pytest.mark.parametrize(
    "words",
    ["--store da", "ingest da", "ingest --topology da", "serve da", "report --archive da", "simulate --check da"],
)
def test_completion_of_files(words: str) -> None:
    """Where a file or a folder is meant, the shell is told to complete files itself."""
    count = str(len(words.split()))
    done = run(_CRR_MONITOR_COMPLETE="bash_complete", COMP_WORDS=f"crr-monitor {words}", COMP_CWORD=count)
    assert (done.returncode, done.stdout.split()) == (OK, ["file,da"])


def test_settings_come_from_the_environment(tmp_path: Path) -> None:
    """The store that ``CRR_MONITOR_STORE`` names is used, and a misspelt variable is an error."""
    store = fill(tmp_path / "a.db", user_write(), replica())
    assert '"key"' in run("list", "-o", "ndjson", CRR_MONITOR_STORE=f"sqlite:///{store}").stdout
    done = run("list", CRR_MONITOR_STOR="x")
    line = "crr-monitor: unknown environment variable: CRR_MONITOR_STOR (did you mean CRR_MONITOR_STORE?)\n"
    assert (done.returncode, done.stderr) == (FAILED, line)


def test_terminal_has_colours_and_a_pipe_has_not(tmp_path: Path) -> None:
    """On a terminal statuses are coloured; in a pipe there is not one escape character."""
    store = str(fill(tmp_path / "a.db", user_write(), replica()))
    for arguments in (["list"], ["status", "s3://orders/2026/11/22/a b+c é.txt"], ["stats"]):
        assert "\x1b[" in look("--store", store, *arguments)
        assert "\x1b" not in run("--store", store, *arguments).stdout
