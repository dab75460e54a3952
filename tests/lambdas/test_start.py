"""What each function loads at its start, every time that Lambda makes a new place for it to run in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NEVER = (
    "boto3",  # Lambda's own, loaded with the first client
    "click",
    "difflib",
    "rich",
    "sqlite3",
    "tomllib",
    "crr_monitor.aws.drain",
    "crr_monitor.cli",
    "crr_monitor.config",
    "crr_monitor.history",
    "crr_monitor.serve",
    "crr_monitor.sources",
    "crr_monitor.stores.memory",
    "crr_monitor.stores.sqlite",
)
"""What only people use, and what loads itself when it is needed."""

NOT_NEEDED = {
    "process": (
        "crr_monitor.aws.plan_model",
        "crr_monitor.aws.sessions",
        "crr_monitor.core.canary",
        "crr_monitor.core.reconcile",
        "crr_monitor.process.gather",
        "crr_monitor.process.reconcile",
        "crr_monitor.sinks.metrics",
        "crr_monitor.stores.dynamodb",
        "crr_monitor.stores.dynamodb_due",
        "crr_monitor.stores.dynamodb_statistics",
    ),
    "settle": (
        "crr_monitor.aws.plan_model",
        "crr_monitor.core.canary",
        "crr_monitor.core.reconcile",
        "crr_monitor.decode",
    ),
    "reconcile": (
        "crr_monitor.aws.plan_model",
        "crr_monitor.core.canary",
        "crr_monitor.decode",
        "crr_monitor.sinks.metrics",
    ),
    "watch": (
        "crr_monitor.aws.setup",
        "crr_monitor.core.canary",
        "crr_monitor.decode",
        "crr_monitor.process.reconcile",
    ),
    "setup": ("crr_monitor.core.status", "crr_monitor.decode", "crr_monitor.sinks.metrics", "crr_monitor.stores"),
}
"""What is another function's work, or another agent's: heavy, and not this one's."""


def loaded(function: str) -> set[str]:
    """The modules that a new interpreter has when it has loaded a function, with the packages that they are in."""
    code = f"import sys, crr_monitor.lambdas.{function}; print('\\n'.join(sys.modules))"
    command = [sys.executable, "-c", code]
    told = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT / "src").stdout.split()
    assert f"crr_monitor.lambdas.{function}" in told
    return {*told}


@pytest.mark.parametrize("function", NOT_NEEDED)
def test_nothing_needless_is_loaded(function: str) -> None:
    """A function loads nothing that it has no use for: its cold start is paid for, and delays what it watches."""
    assert loaded(function) & {*NEVER, *NOT_NEEDED[function]} == set()


def test_named_modules_exist() -> None:
    """What is named here as not loaded is there, so that a module that gets another name is named anew."""
    names = {name for name in {*NEVER}.union(*NOT_NEEDED.values()) if name.startswith("crr_monitor.")}
    paths = [ROOT / "src" / name.replace(".", "/") for name in names]
    assert [str(path) for path in paths if not path.is_dir() and not path.with_suffix(".py").is_file()] == []
