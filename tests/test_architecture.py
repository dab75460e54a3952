"""The shape of the source is what docs/architecture.md says."""

from __future__ import annotations

import ast
from textwrap import dedent
from typing import TYPE_CHECKING

import pytest

from tools import architecture

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MODULES = architecture.modules()
CORE = [path for path in MODULES if architecture.room_of(architecture.relative(path)) == "core"]


def breaches(check: Callable[[str, str], list[str]], paths: list[Path]) -> list[str]:
    """All that a check finds in some files."""
    return [breach for path in paths for breach in check(path.read_text(encoding="utf-8"), architecture.relative(path))]


def test_core_is_found() -> None:
    """The files of the core are among those that are checked."""
    assert "crr_monitor/core/events.py" in map(architecture.relative, CORE)


def test_core_is_pure() -> None:
    """The core imports only what its list allows, and calls no clock and nothing that reads or writes."""
    assert breaches(architecture.impurities, CORE) == []


def test_imports_point_downwards() -> None:
    """Every room imports only the rooms below it that its line of the table names."""
    assert breaches(architecture.wrong_directions, MODULES) == []


def test_nothing_is_too_long() -> None:
    """No module has more than 500 lines and no function more than 55."""
    assert breaches(architecture.too_long, MODULES) == []


def test_errors_are_caught_by_name() -> None:
    """Only the edge of the process catches everything, others at most to tidy up and raise it again."""
    assert breaches(architecture.broad_excepts, MODULES) == []


def test_environment_is_read_in_one_place() -> None:
    """Only one small module reads environment variables."""
    assert breaches(architecture.environment_reads, MODULES) == []


def test_no_sdk_at_import_time() -> None:
    """No module imports an AWS SDK when it is imported itself."""
    assert breaches(architecture.eager_sdks, MODULES) == []


IMPURE = [
    ("import os", "imports os"),
    ("import sqlite3", "imports sqlite3"),
    ("import time", "imports time"),
    ("import logging as quiet", "imports logging"),
    ("from pathlib import Path", "imports pathlib.Path"),
    ("from urllib import request", "imports urllib.request"),
    ("from urllib.request import urlopen", "imports urllib.request.urlopen"),
    ("import boto3", "imports boto3"),
    ("def f():\n    import random", "imports random"),
    ("if TYPE_CHECKING:\n    import socket", "imports socket"),
    ("from crr_monitor.stores import memory", "imports crr_monitor.stores.memory"),
    ("from ..decode import cloudtrail", "imports crr_monitor.decode.cloudtrail"),
    ("f = open('x')", "uses open"),
    ("def f():\n    print(1)", "uses print"),
    ("write = print", "uses print"),
    ("x = __import__('os')", "uses __import__"),
    ("x = datetime.now(UTC)", "asks for the time with .now"),
    ("x = datetime.datetime.utcnow()", "asks for the time with .utcnow"),
    ("x = date.today()", "asks for the time with .today"),
    ("clock = datetime.now", "asks for the time with .now"),
    ("x = clock.now()", "asks for the time with .now"),
]


@pytest.mark.parametrize(("source", "breach"), IMPURE, ids=[source.splitlines()[-1].strip() for source, _ in IMPURE])
def test_impurity_is_found(source: str, breach: str) -> None:
    """One line of I/O, clock, randomness, logging or SDK in the core is found and named."""
    (found,) = architecture.impurities(source)
    assert found.endswith(": " + breach)


def test_purity_is_no_nuisance() -> None:
    """A pure file with ``now`` as a value, a name that merely resembles a clock's, and allowed imports is fine."""
    source = """
        from __future__ import annotations
        import math
        from collections.abc import Iterable
        from urllib.parse import unquote_plus
        from msgspec import Struct
        from crr_monitor.core.times import parse_time
        from . import events
        def age(at: int, now: int) -> int:
            return max(0, now - at)
        def current(view): return view.now
    """
    assert architecture.impurities(dedent(source)) == []


UPWARD = [
    ("core/a.py", "from crr_monitor.decode import cloudtrail", "core may not import crr_monitor.decode.cloudtrail"),
    ("decode/a.py", "import crr_monitor.stores.sqlite", "decode may not import crr_monitor.stores.sqlite"),
    ("stores/a.py", "from crr_monitor.process import x", "stores may not import crr_monitor.process.x"),
    ("sources/a.py", "def f():\n    from ..decode import x", "sources may not import crr_monitor.decode.x"),
    ("process/a.py", "from crr_monitor.stores import sqlite", "process may not import crr_monitor.stores.sqlite"),
    ("process/a.py", "from crr_monitor.cli import main", "process may not import crr_monitor.cli.main"),
    ("simulate/a.py", "from crr_monitor.core import merge", "simulate may not import crr_monitor.core.merge"),
    ("config.py", "from crr_monitor.cli.main import cli", "config may not import crr_monitor.cli.main.cli"),
    ("attic/a.py", "", "the room 'attic' is not in the table of rooms"),
]


@pytest.mark.parametrize(("file", "source", "breach"), UPWARD, ids=[f"{file}: {what}" for file, _, what in UPWARD])
def test_upward_import_is_found(file: str, source: str, breach: str) -> None:
    """An import that points upwards, sideways or into a room's inside is found and named."""
    (found,) = architecture.wrong_directions(source, f"crr_monitor/{file}")
    assert found.endswith(": " + breach)


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("process/a.py", "from crr_monitor.stores.base import Store"),
        ("process/a.py", "from crr_monitor.decode import cloudtrail"),
        ("stores/a.py", "from .base import Store\nfrom crr_monitor.core.model import Record"),
        ("cli/main.py", "from crr_monitor import __version__\nfrom crr_monitor.stores.sqlite import SqliteStore"),
        ("decode/a.py", "import json\nimport crr_monitorial"),
    ],
    ids=["port", "lower room", "own room", "top", "others' modules"],
)
def test_downward_import_is_fine(file: str, source: str) -> None:
    """Imports of lower rooms, of one's own room and of other people's modules are no breach."""
    assert architecture.wrong_directions(source, f"crr_monitor/{file}") == []


def test_length_is_counted() -> None:
    """A module of 501 lines and a function of 56 are too long, one line less is not."""
    body = "    x = 1\n"
    assert architecture.too_long("def f():\n" + body * 54, "a.py") == []
    assert architecture.too_long("def f():\n" + body * 55, "a.py") == ["a.py:1: f has 56 lines, 55 at most"]
    assert architecture.too_long("x = 1\n" * 500, "a.py") == []
    assert architecture.too_long("x = 1\n" * 501, "a.py") == ["a.py:1: 501 lines, 500 at most"]


@pytest.mark.parametrize(
    "handler", ["except:", "except Exception:", "except BaseException as error:", "except (ValueError, Exception):"]
)
def test_broad_except_is_found(handler: str) -> None:
    """A handler that catches everything is a breach anywhere but at the edge of the process."""
    source = f"try:\n    f()\n{handler}\n    pass"
    assert architecture.broad_excepts(source, "crr_monitor/core/a.py") == [
        "crr_monitor/core/a.py:3: catches everything"
    ]
    assert architecture.broad_excepts(source, "crr_monitor/cli/main.py") == []


@pytest.mark.parametrize(
    ("body", "count"),
    [
        ("db.close()\n    raise", 0),
        ("raise", 0),
        ("raise OtherError from None", 1),
        ("if x:\n        raise", 1),
        ("if x:\n        return\n    raise", 1),
    ],
    ids=["tidies up", "only raises", "another error", "sometimes", "way out"],
)
def test_tidying_up_is_fine(body: str, count: int) -> None:
    """A handler that tidies up and always raises the same error again is no breach."""
    source = f"def f():\n  try:\n    f()\n  except BaseException:\n    {body}"
    assert len(architecture.broad_excepts(source, "crr_monitor/stores/a.py")) == count


def test_named_except_is_fine() -> None:
    """A handler that names its errors is no breach; suppressing everything is one."""
    assert architecture.broad_excepts("try:\n    f()\nexcept (OSError, ValueError):\n    pass", "a.py") == []
    assert architecture.broad_excepts("with suppress(Exception):\n    f()", "a.py") == ["a.py:1: suppresses everything"]


@pytest.mark.parametrize(
    "source",
    [
        "import os\nx = os.environ['A']",
        "import os\nx = os.getenv('A')",
        "from os import environ",
        "x = option('--store', envvar='CRR_MONITOR_STORE')",
    ],
)
def test_environment_read_is_found(source: str) -> None:
    """Reading the environment by any way is a breach anywhere but in that module."""
    assert len(architecture.environment_reads(source, "crr_monitor/cli/main.py")) == 1
    assert architecture.environment_reads(source, "crr_monitor/environment.py") == []


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("import boto3", 1),
        ("try:\n    from botocore.exceptions import ClientError\nexcept ImportError:\n    pass", 1),
        ("class A:\n    import boto3", 1),
        ("def f():\n    import boto3", 0),
        ("import boto3_of_another_name", 0),
    ],
)
def test_eager_sdk_is_found(source: str, count: int) -> None:
    """An SDK import is a breach where it runs at import time, and none inside a function."""
    assert len(architecture.eager_sdks(source, "crr_monitor/aws/a.py")) == count


def test_tables_name_what_exists() -> None:
    """Every file that has a permission of its own exists, so that no permission outlives its file."""
    named = [*architecture.MAY_CATCH_ALL, *architecture.MAY_READ_ENVIRONMENT]
    assert [name for name in named if not (architecture.SOURCE / name).is_file()] == []


def test_source_is_python_of_the_oldest_supported_version() -> None:
    """Every module parses with the grammar of Python 3.11."""
    for path in MODULES:
        ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 11))
