"""Check the shape of the source: what the core may touch, which room may import which, and how big things may be.

Every check takes source text and gives the breaches as sentences with a line number; what is allowed is in the literal
tables below, and a change of the architecture is a change of these tables.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src"
PACKAGE = "crr_monitor"

CORE_MAY_IMPORT = (
    "__future__",
    "bisect",
    "collections",
    "dataclasses",
    "datetime",
    "enum",
    "functools",
    "hashlib",
    "heapq",
    "itertools",
    "math",
    "operator",
    "re",
    "typing",
    "urllib.parse",
    "msgspec",
    "crr_monitor.core",
)
"""All that the core may import; each name stands for the module and what is in it."""

IMPURE_CALLS = {"open", "print", "input", "exec", "eval", "compile", "__import__", "breakpoint"}
CATCH_ALL = {"Exception", "BaseException"}
CLOCKS = {"now", "utcnow", "today"}

MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "core": (),
    "environment": (),
    "config": ("crr_monitor.core", "crr_monitor.environment"),
    "decode": ("crr_monitor.core",),
    "stores": ("crr_monitor.core",),
    "sources": ("crr_monitor.core",),
    "process": (
        "crr_monitor.core",
        "crr_monitor.decode",
        "crr_monitor.stores.base",
        "crr_monitor.stores.packed",
        "crr_monitor.sources",
    ),
    # Its truth is worked out independently, so that comparing it with a store can find a wrong merge.
    "simulate": ("crr_monitor.core.times", "crr_monitor.core.model"),
    "sinks": ("crr_monitor.core", "crr_monitor.stores.base", "crr_monitor.process.figures"),
    "cost": ("crr_monitor.core",),
    "aws": ("crr_monitor.core",),
    "history": (
        "crr_monitor.core",
        "crr_monitor.decode",
        "crr_monitor.sources",
        "crr_monitor.process",
        "crr_monitor.stores.base",
        "crr_monitor.stores.packed",
    ),
    "templates": (),
    "dashboards": (),
    "lambdas": (
        "crr_monitor.core",
        "crr_monitor.environment",
        "crr_monitor.decode",
        "crr_monitor.process",
        "crr_monitor.stores",
        "crr_monitor.aws",
        "crr_monitor.sinks",
    ),
    # A local AWS for the demo and the tests: it knows nothing of the product, and only the demo knows it.
    "sandbox": (),
    "demo": (
        "crr_monitor.core",
        "crr_monitor.stores",
        "crr_monitor.process",
        "crr_monitor.aws",
        "crr_monitor.lambdas",
        "crr_monitor.templates",
        "crr_monitor.sandbox",
    ),
    # Templates and the page's own files: it is given values, and asks nobody.
    "web": ("crr_monitor.core",),
    "serve": (
        "crr_monitor.core",
        "crr_monitor.config",
        "crr_monitor.stores",
        "crr_monitor.sources",
        "crr_monitor.process",
        "crr_monitor.sinks",
        "crr_monitor.aws",
        "crr_monitor.history",
        "crr_monitor.web",
    ),
    "cli": ("crr_monitor",),
    "__main__": ("crr_monitor.cli",),
    "__init__": (),
}
"""Room -> the product's other modules that it may import; its own it always may."""

MAY_CATCH_ALL = ("crr_monitor/cli/main.py", "crr_monitor/lambdas/setup.py")
"""Files at the edge of the process, where an unknown error becomes a message and an exit status, or CloudFormation's
answer."""

MAY_READ_ENVIRONMENT = ("crr_monitor/environment.py",)
SDKS = ("boto3", "botocore")

LONGEST_MODULE = 500
LONGEST_FUNCTION = 55

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef


def modules() -> list[Path]:
    """Every Python file of the product."""
    return sorted((SOURCE / PACKAGE).rglob("*.py"))


def relative(path: Path) -> str:
    """A file's name as the tables write it, as in ``crr_monitor/core/times.py``."""
    return path.relative_to(SOURCE).as_posix()


def room_of(name: str) -> str:
    """The room of a file: its folder below the package, or its own name when it lies in none."""
    return Path(name).with_suffix("").parts[1]


def _package_of(name: str) -> str:
    return ".".join(Path(name).parent.parts)


def _imported(node: ast.AST, package: str) -> Iterator[str]:
    """The full names that an import statement brings in, as in ``collections.abc.Iterator``."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            parts = package.split(".")
            parents = parts[: len(parts) - node.level + 1]
            base = ".".join([*parents, *([base] if base else [])])
        yield from (f"{base}.{alias.name}" for alias in node.names)


def imports(source: str, name: str) -> list[tuple[int, str]]:
    """Every import of a file, also those inside functions and those for types only: line and full name."""
    package = _package_of(name)
    return [
        (node.lineno, full)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for full in _imported(node, package)
    ]


def _within(full: str, allowed: tuple[str, ...]) -> bool:
    return any(full == prefix or full.startswith(prefix + ".") for prefix in allowed)


def impurities(source: str, name: str = "crr_monitor/core/snippet.py") -> list[str]:
    """What in a file of the core is not pure: an import off the list, a clock, a call that reads or writes."""
    found = [
        f"{name}:{line}: imports {full}" for line, full in imports(source, name) if not _within(full, CORE_MAY_IMPORT)
    ]
    tree = ast.parse(source)
    called = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in IMPURE_CALLS:
            found.append(f"{name}:{node.lineno}: uses {node.id}")
        elif isinstance(node, ast.Attribute) and node.attr in CLOCKS and (node in called or _is_clock(node)):
            found.append(f"{name}:{node.lineno}: asks for the time with .{node.attr}")
    return found


def _is_clock(node: ast.Attribute) -> bool:
    """Whether the attribute is taken of ``datetime``, ``date``, ``datetime.datetime`` or ``datetime.date``."""
    owner = node.value
    last = owner.attr if isinstance(owner, ast.Attribute) else owner.id if isinstance(owner, ast.Name) else ""
    return last in {"datetime", "date"}


def wrong_directions(source: str, name: str) -> list[str]:
    """Imports of the product's own modules that the room may not make."""
    room = room_of(name)
    if room not in MAY_IMPORT:
        return [f"{name}:1: the room {room!r} is not in the table of rooms"]
    own = f"{PACKAGE}.{room}"
    allowed = (own, f"{PACKAGE}.__version__", *MAY_IMPORT[room])
    return [
        f"{name}:{line}: {room} may not import {full}"
        for line, full in imports(source, name)
        if _within(full, (PACKAGE,)) and not _within(full, allowed)
    ]


def too_long(source: str, name: str) -> list[str]:
    """The file when it has too many lines, and its functions that have."""
    length = len(source.splitlines())
    found = [f"{name}:1: {length} lines, {LONGEST_MODULE} at most"] if length > LONGEST_MODULE else []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, Function):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > LONGEST_FUNCTION:
                found.append(f"{name}:{node.lineno}: {node.name} has {lines} lines, {LONGEST_FUNCTION} at most")
    return found


def _names(node: ast.expr) -> set[str]:
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}


def _is_broad(handler: ast.ExceptHandler) -> bool:
    return handler.type is None or bool(_names(handler.type) & CATCH_ALL)


def _raises_again(handler: ast.ExceptHandler) -> bool:
    """Whether the handler only tidies up: it ends with a bare ``raise`` and has no other way out."""
    last = handler.body[-1]
    leaves = any(
        isinstance(part, ast.Return | ast.Break | ast.Continue) for node in handler.body for part in ast.walk(node)
    )
    return isinstance(last, ast.Raise) and last.exc is None and not leaves


def broad_excepts(source: str, name: str) -> list[str]:
    """Handlers that catch everything and do not raise it again, in a file that is not at the edge of the process."""
    if name in MAY_CATCH_ALL:
        return []
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ExceptHandler) and _is_broad(node) and not _raises_again(node):
            found.append(f"{name}:{node.lineno}: catches everything")
        elif isinstance(node, ast.Call) and "suppress" in ast.unparse(node.func) and _names(node) & CATCH_ALL:
            found.append(f"{name}:{node.lineno}: suppresses everything")
    return found


def environment_reads(source: str, name: str) -> list[str]:
    """Reads of environment variables outside the one file that may: also click's ``envvar``."""
    if name in MAY_READ_ENVIRONMENT:
        return []
    readers = {"environ", "environb", "getenv", "getenvb", "expandvars"}
    found = [
        f"{name}:{line}: imports {full}" for line, full in imports(source, name) if full in {f"os.{r}" for r in readers}
    ]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and node.attr in readers:
            found.append(f"{name}:{node.lineno}: reads the environment with .{node.attr}")
        elif isinstance(node, ast.keyword) and node.arg in {"envvar", "auto_envvar_prefix"}:
            found.append(f"{name}:{node.value.lineno}: reads the environment with {node.arg}=")
    return found


def _runs_at_import(tree: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a file that run when it is imported: all but the bodies of functions."""
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, Function | ast.Lambda):
            yield node
            yield from _runs_at_import(node)


def eager_sdks(source: str, name: str) -> list[str]:
    """AWS SDK imports that run as soon as the file is imported, which would slow down every command."""
    return [
        f"{name}:{node.lineno}: imports {full} at import time"
        for node in _runs_at_import(ast.parse(source))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for full in _imported(node, _package_of(name))
        if _within(full, SDKS)
    ]
