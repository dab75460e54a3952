#!/usr/bin/env python3
"""The project's own commands: ``python3 dev.py COMMAND``.

Needs nothing but Python: everything else goes, in locked versions, into the folder .venv beside this file.

This file has to be read by an old Python too, far enough to say that it is too old: so no syntax newer than 3.6.
"""

import argparse
import hashlib
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO

OLDEST = (3, 11)

if sys.version_info < OLDEST:
    sys.exit(
        "dev.py: this is Python {}.{}, CRR Monitor needs {}.{} or newer: try `python3.11 dev.py ...`".format(
            *sys.version_info[:2], *OLDEST
        )
    )

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
OWNED = VENV / ".made-by-dev.py"
STAMP = VENV / ".complete.json"
TOUR = ROOT / "build" / "tour"
UV = "uv==0.13.9"
"""Only ``dev.py lock`` needs it, so it is no part of the locked environment."""
PROBED = ("click", "crr_monitor", "hatchling", "hypothesis", "msgspec", "mypy", "pip", "pytest", "rich", "ruff")
"""What an environment that is fit for use has."""

FUNCTIONS_LOCK = ROOT / "src" / "crr_monitor" / "lambdas" / "requirements.lock"
IN_LAMBDA = ("msgspec",)
"""Packages in the functions' zip besides our own; boto3 is in Lambda already."""

COVERAGE = ["--cov", "--cov-report=term:skip-covered"]
INTERRUPTED = 130
LAST_WORDS_SECONDS = 5
PROBLEMS_FOUND = 3
"""Exit status of ``crr-monitor status`` when the object's replication is broken: in the tour that is the point."""


class DevError(Exception):
    """Something this script cannot go on without; the text names the cure."""


def say(text: str) -> None:
    """Tell what happens; on stderr, so that output of commands can be piped."""
    print(text, file=sys.stderr, flush=True)


def clean_environment() -> dict[str, str]:
    """The caller's environment less what would change the result: settings of the product, other Python paths."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("CRR_MONITOR_") and name not in {"PYTHONPATH", "PYTHONHOME"}
    }
    kept["PATH"] = os.pathsep.join([str(BIN), kept.get("PATH", "")])
    kept["VIRTUAL_ENV"] = str(VENV)
    return kept


def run(command: list[str], *, cwd: Path = ROOT, output: IO[bytes] | None = None) -> int:
    """Run a command of the environment and give its exit status, as a shell would (128 + n when a signal ended it).

    ``output`` is a file to write to in place of the terminal. On Ctrl-C the command has the same signal from the
    terminal: it gets the time to say its last words.
    """
    with subprocess.Popen(
        command, cwd=cwd, env=clean_environment(), stdout=output, stderr=output and subprocess.STDOUT
    ) as process:
        try:
            status = process.wait()
        except KeyboardInterrupt:
            try:
                process.wait(timeout=LAST_WORDS_SECONDS)
            except (subprocess.TimeoutExpired, KeyboardInterrupt):
                process.terminate()
            raise
    return 128 - status if status < 0 else status


def must(command: list[str], failed: str) -> None:
    """Run a command that has to work.

    Raises:
        DevError: it did not; the text is ``failed``.
    """
    status = run(command)
    if status == INTERRUPTED:
        raise KeyboardInterrupt
    if status:
        raise DevError(failed)


# ---- the environment -------------------------------------------------------------------------------------------------


def digest(name: str) -> str:
    """The hash of one of the project's files."""
    return hashlib.sha256((ROOT / name).read_bytes()).hexdigest()


def wanted_stamp() -> dict[str, str]:
    """What a complete environment was made from; another lock, Python or folder means making it anew."""
    return {
        "lock": digest("requirements/dev.lock"),
        "python": sys.version,
        "folder": str(ROOT),  # a virtual environment does not survive being moved
        "project": digest("pyproject.toml"),  # it names the command to install
    }


def read_stamp() -> dict[str, str]:
    """What the environment at hand was made from; empty when it was never finished."""
    try:
        stamp = json.loads(STAMP.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def python(venv: Path = VENV) -> str:
    """The interpreter of a virtual environment."""
    return str(venv / "Scripts" / "python.exe" if os.name == "nt" else venv / "bin" / "python")


def why_remake() -> str:
    """Why the environment has to be made (again), or an empty text when it is fit for use."""
    if not VENV.exists():
        return "there is none yet"
    stamp, wanted = read_stamp(), wanted_stamp()
    if not stamp:
        return "the one that is there is not complete"
    for name in ("lock", "python", "folder"):
        if stamp.get(name) != wanted[name]:
            return f"the one that is there is of another {name}"
    probe = f"from importlib.util import find_spec; raise SystemExit(not all(map(find_spec, {PROBED!r})))"
    try:
        subprocess.run([python(), "-c", probe], env=clean_environment(), check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return "the one that is there is broken"
    return ""


def clear_venv() -> None:
    """Take away a .venv of ours; one that somebody else made is kept under another name."""
    if not VENV.exists() and not VENV.is_symlink():
        return
    if VENV.is_dir() and not VENV.is_symlink() and (OWNED.exists() or not any(VENV.iterdir())):
        shutil.rmtree(VENV)
        return
    number = 1
    while (ROOT / f".venv.old{number}").exists():
        number += 1
    VENV.rename(ROOT / f".venv.old{number}")
    say(f"dev.py: .venv was not made by this script: it is kept as .venv.old{number}")


def check_python() -> None:
    """See that this Python can make virtual environments.

    Raises:
        DevError: it cannot; Debian ships that part apart.
    """
    if not all(importlib.util.find_spec(name) for name in ("venv", "ensurepip")):
        package = "python{}.{}-venv".format(*sys.version_info[:2])
        message = f"this Python cannot make virtual environments: on Debian and Ubuntu, apt-get install {package}"
        raise DevError(message)


def make_venv(folder: Path) -> None:
    """Make an empty virtual environment with pip in a folder; what venv prints is shown only when it fails.

    Raises:
        DevError: it failed.
    """
    check_python()
    with tempfile.TemporaryFile() as output:
        status = run([sys.executable, "-m", "venv", str(folder)], output=output)
        if status:
            output.seek(0)
            message = f"python -m venv failed: {output.read().decode(errors='replace')}"
            raise DevError(message)


def install(arguments: list[str], failed: str, venv: Path = VENV) -> None:
    """Run pip in an environment.

    Raises:
        DevError: it failed; the text is ``failed``.
    """
    must([python(venv), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments], failed)


def ensure_environment() -> None:
    """Make .venv when it is missing, outdated, half made or broken; its stamp is written last.

    Raises:
        DevError: Python lacks venv, or a package could not be installed.
    """
    reason = why_remake()
    if reason:
        check_python()
        say(f"dev.py: making .venv with the locked packages, this takes about a minute ({reason})")
        clear_venv()
        VENV.mkdir()
        OWNED.touch()
        make_venv(VENV)
        install(
            ["--require-hashes", "--requirement", str(ROOT / "requirements" / "dev.lock")],
            "the locked packages could not be installed (see above): can pip reach its package index?",
        )
    if reason or read_stamp() != wanted_stamp():
        install(
            ["--no-deps", "--no-index", "--no-build-isolation", "--editable", str(ROOT)],
            "CRR Monitor itself could not be installed (see above)",
        )
        unfinished = STAMP.with_suffix(".new")
        unfinished.write_text(json.dumps(wanted_stamp()), encoding="utf-8")
        unfinished.replace(STAMP)


# ---- commands --------------------------------------------------------------------------------------------------------


def monitor(*arguments: str, expect: tuple[int, ...] = (0,)) -> int:
    """Show a crr-monitor command and run it in the tour's folder; an expected exit status becomes 0."""
    print(f"\n$ {shlex.join(['crr-monitor', *arguments])}", flush=True)
    status = run([str(BIN / "crr-monitor"), *arguments], cwd=TOUR)
    return 0 if status in expect else status


def a_failed_object(store: str) -> str:
    """The address of one object whose replication failed, asked from the store.

    Raises:
        DevError: there is none.
    """
    command = [str(BIN / "crr-monitor"), "--store", store, "list", "--status", "FAILED", "--limit", "1", "-o", "ndjson"]
    answer = subprocess.run(
        command, cwd=TOUR, env=clean_environment(), check=False, capture_output=True, encoding="utf-8"
    )
    if answer.returncode or not answer.stdout.strip():
        message = f"the simulated day has no failed object to show {answer.stderr}".strip()
        raise DevError(message)
    record = json.loads(answer.stdout.splitlines()[0])
    return f"s3://{record['source']['bucket']}/{record['key']}"


def demo(arguments: list[str]) -> int:
    """Show the whole system at work in a local AWS (``demo --for 60`` ends by itself)."""
    return run([str(BIN / "crr-monitor"), "demo", *arguments])


def tour(_arguments: list[str]) -> int:
    """Simulate a day of traffic, read it, and show what the monitor without AWS says about it."""
    if TOUR.exists():
        shutil.rmtree(TOUR)
    TOUR.mkdir(parents=True)
    store = "sqlite:///tour.db"
    status = (
        monitor("simulate", "--objects", "20000", "--seed", "7", "--out", "day")
        or monitor("--store", store, "ingest", "--topology", "day/topology.json", "day/events")
        or monitor("--store", store, "topology")
        or monitor("--store", store, "stats", "--window", "24h")
        or monitor("--store", store, "list", "--status", "FAILED", "--limit", "10")
    )
    if status:
        return status
    status = monitor("--store", store, "status", a_failed_object(store), expect=(0, PROBLEMS_FOUND))
    if not status:
        print(
            f"\nAll of it is in {TOUR.relative_to(ROOT)}: look around with {BIN.relative_to(ROOT)}/crr-monitor --help"
        )
    return status


def test(arguments: list[str]) -> int:
    """Run the tests; what follows goes to pytest (``-m slow`` for those that take minutes).

    All of them run in one process more than there are cores, as each waits for others at times, and long ones first;
    named ones, or with ``-n``, as pytest would.
    """
    named = any((ROOT / each.partition("::")[0]).exists() for each in arguments)
    processes = str((os.cpu_count() or 1) + 1)
    spread = [] if named or "-n" in arguments else ["-n", processes, "--dist", "loadfile", "--no-loadscope-reorder"]
    return run([python(), "-m", "pytest", *spread, *arguments])


def lint(_arguments: list[str]) -> int:
    """Run everything of ``check`` but the tests: ruff, its formatter, mypy, the documentation."""
    steps = [
        ["ruff", "check", "."],
        ["ruff", "format", "--check", "."],
        ["mypy"],
        ["tools.check_docs"],
    ]
    for step in steps:
        say(f"dev.py: {shlex.join(step)}")
        status = run([python(), "-m", *step])
        if status:
            return status
    return 0


def check(arguments: list[str]) -> int:
    """Run everything that has to pass before a change lands: ``lint``, then the tests with coverage."""
    return lint([]) or test([*COVERAGE, *arguments])


def lock(_arguments: list[str]) -> int:
    """Compute requirements/*.lock and the functions' lock anew, with the newest versions that pyproject.toml allows."""
    tools = ROOT / "build" / "lock"
    make_venv(tools)
    install([UV], f"{UV} could not be installed (see above)", tools)
    compiler = [python(tools), "-m", "uv", "pip", "compile", "pyproject.toml", "--quiet", "--upgrade", "--universal"]
    compiler += ["--generate-hashes", "--python-version", "3.11", "--custom-compile-command", "python3 dev.py lock"]
    for name, more in (("run", []), ("dev", ["--group", "dev"])):
        must([*compiler, *more, "--output-file", f"requirements/{name}.lock"], f"{name}.lock could not be computed")
    run_lock = (ROOT / "requirements" / "run.lock").read_text(encoding="utf-8")
    FUNCTIONS_LOCK.write_text(functions_lock(run_lock), encoding="utf-8")
    return 0


def functions_lock(run_lock: str) -> str:
    """The lock of the functions in Lambda: of the project's own lock what the functions' zip takes along, unchanged.

    Raises:
        DevError: something that the zip takes along is not locked.
    """
    lines = ["# Of the functions in Lambda: as in the project's own lock."]
    for name in IN_LAMBDA:
        pattern = rf"^{re.escape(name)}==\S+ \\\n(?:    --hash=\S+(?: \\)?\n)+"
        found = re.search(pattern, run_lock, re.MULTILINE)
        if found is None:
            message = f"requirements/run.lock does not lock {name}, which the functions in Lambda need"
            raise DevError(message)
        lines.append(found[0].rstrip("\n"))
    return "\n".join(lines) + "\n"


def docs(_arguments: list[str]) -> int:
    """Write docs/reference.md anew from the commands and settings."""
    return run([python(), "-m", "tools.make_reference", "--write"])


def bench(arguments: list[str]) -> int:
    """List the benches, or run the one that is named; what follows goes to it."""
    scripts = {path.stem: path for path in sorted((ROOT / "bench").glob("*.py")) if not path.stem.startswith("_")}
    if not arguments:
        print("\n".join(f"python3 dev.py bench {name}" for name in scripts) or "there are no benches yet")
        return 0
    if arguments[0] not in scripts:
        message = f"no bench is named {arguments[0]!r}; there is: {', '.join(scripts) or 'none'}"
        raise DevError(message)
    return run([python(), "-m", f"bench.{arguments[0]}", *arguments[1:]])


COMMANDS = {command.__name__: command for command in (demo, tour, test, check, lint, docs, bench, lock)}
WITHOUT_ENVIRONMENT = {"lock"}
"""``lock`` has to work when the locked environment cannot be made."""


def parse(arguments: list[str]) -> tuple[str, list[str]]:
    """The command and what follows it."""
    parser = argparse.ArgumentParser(
        prog="dev.py",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="\n".join(f"{name:8}{(command.__doc__ or '').strip()}" for name, command in COMMANDS.items()),
    )
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="one of the above")
    parser.add_argument("rest", nargs=argparse.REMAINDER, metavar="...", help="arguments of the command")
    parsed = parser.parse_args(arguments)
    return parsed.command, parsed.rest


def main() -> int:
    """Run one command; gives the exit status."""
    command, rest = parse(sys.argv[1:])
    try:
        if command not in WITHOUT_ENVIRONMENT:
            ensure_environment()
        return COMMANDS[command](rest)
    except DevError as error:
        say(f"dev.py: {error}")
        return 1
    except KeyboardInterrupt:
        say("dev.py: interrupted")
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
