"""The functions' code as one zip: our package without what only people use, and msgspec; boto3 is in Lambda already.

The same input gives the same files on every machine: names are sorted, times and permissions are fixed, and nothing is
compressed, since compressors differ. So the hash names the code, and a stack changes only when the code did.

Where the Python that packages is that of the target, its bytecode comes along, which makes a cold start faster. The
hash is of all but the bytecode: whoever packages with another Python has the same name for the same code.

msgspec has a compiled part, so its wheel is that of Lambda's platform, not of this machine. It is downloaded by pip, in
the version and with the hashes of the lock beside this file.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import io
import marshal
import re
import subprocess
import sys
import tempfile
import zipfile
from enum import Enum
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Iterator

LOCK = Path(__file__).with_name("requirements.lock")
"""What is in the zip besides our package, with hashes: the part of the project's own lock that the functions need."""

MAX_BYTES = 5_000_000
"""A zip that is larger has something in it that does not belong there."""

LEFT_OUT = frozenset(
    {"cli", "cost", "dashboards", "demo", "history", "sandbox", "serve", "simulate", "templates", "web", "__main__.py"}
)
"""Of our package: what only people use. A room that is new is taken along unless it is named here."""

LAMBDA_TAG = "cpython-313"
"""Of the bytecode that Lambda's Python reads; the templates name the same version."""

_UNCHECKED_HASH = (1).to_bytes(4, "little")
"""The bytecode is used without a look at its source: both are in the zip, and nobody changes either (PEP 552)."""

_CODE = frozenset({".py", ".so", ".lock"})
_TIME = (1980, 1, 1, 0, 0, 0)
_MODE = 0o100644 << 16
_PLATFORMS = ("manylinux2014_aarch64", "manylinux_2_28_aarch64")
_SECONDS = 300


class Target(Enum):
    """Where the zip is to run: in Lambda (Python 3.13 on arm64), or on this machine, in the sandbox's Lambda."""

    LAMBDA = "lambda"
    HOST = "host"


class PackageError(Exception):
    """The zip could not be made; the text says why, and what to do."""


class Package(Struct, frozen=True):
    """The zip, and in hexadecimal the SHA-256 of it without bytecode, which makes a good key for it."""

    data: bytes
    sha256: str

    @property
    def key(self) -> str:
        """Name in a bucket: another code has another name, by which CloudFormation sees that it changed."""
        return f"crr-monitor-{self.sha256[:32]}.zip"


def build(target: Target = Target.LAMBDA, wheels: Path | None = None) -> Package:
    """Make the zip.

    ``wheels`` is a folder with the locked wheels for Lambda, where they should not be downloaded. For this machine
    the msgspec that is installed is taken.

    Raises:
        PackageError: the wheels could not be had, or the zip is too large.
    """
    files = dict(_own_files())
    files |= _installed_files() if target is Target.HOST else _locked_files(wheels)
    data = _zip(files | _bytecode(files, target))
    if len(data) > MAX_BYTES:
        message = f"the functions' zip has {len(data):,} bytes, more than {MAX_BYTES:,}: is there a room to leave out?"
        raise PackageError(message)
    return Package(data, hashlib.sha256(_zip(files)).hexdigest())


def _bytecode(files: dict[str, bytes], target: Target) -> dict[str, bytes]:
    """Compiled modules beside their sources, if this Python is the target's; format as in PEP 552."""
    tag = sys.implementation.cache_tag
    if target is Target.LAMBDA and tag != LAMBDA_TAG:
        return {}
    found = {}
    for name, source in files.items():
        path = PurePosixPath(name)
        if path.suffix == ".py":
            header = importlib.util.MAGIC_NUMBER + _UNCHECKED_HASH + importlib.util.source_hash(source)
            code = compile(source, name, "exec", dont_inherit=True)
            found[f"{path.parent}/__pycache__/{path.stem}.{tag}.pyc"] = header + marshal.dumps(code)
    return found


def _zip(files: dict[str, bytes]) -> bytes:
    found = io.BytesIO()
    with zipfile.ZipFile(found, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _TIME)
            entry.external_attr = _MODE
            entry.create_system = 3  # Unix, also when made on Windows: the permissions are read only then
            archive.writestr(entry, files[name])
    return found.getvalue()


def _own_files() -> Iterator[tuple[str, bytes]]:
    package = Path(__file__).parents[1]
    for path in package.rglob("*"):
        parts = path.relative_to(package).parts
        if parts[0] not in LEFT_OUT and path.suffix in _CODE and path.is_file():
            yield "/".join((package.name, *parts)), path.read_bytes()


def _installed_files() -> dict[str, bytes]:
    found = {}
    for path in importlib.metadata.distribution("msgspec").files or []:
        if path.parts[0] == "msgspec" and path.suffix in _CODE:
            found[path.as_posix()] = path.read_binary()
    if not found:
        message = "the installed msgspec has no list of its files: install it with pip"
        raise PackageError(message)
    return found


def _locked_files(wheels: Path | None) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        _download(Path(folder), wheels)
        found: dict[str, bytes] = {}
        for wheel in sorted(Path(folder).glob("*.whl")):
            with zipfile.ZipFile(wheel) as archive:
                for name in archive.namelist():
                    if not name.endswith("/") and (Path(name).suffix in _CODE or "/licenses/" in name):
                        found[name] = archive.read(name)
    return found


def _download(folder: Path, wheels: Path | None) -> None:
    """Have pip fetch what the lock names; it checks the hashes, whatever the source."""
    if importlib.util.find_spec("pip") is None:
        message = (
            "pip is needed to fetch the functions' locked packages and is not in this environment: run"
            f" `{sys.executable} -m ensurepip`, or install crr-monitor with pip"
        )
        raise PackageError(message)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", "--implementation=cp", "--python-version=3.13", "--abi=cp313"]
    command += [f"--platform={name}" for name in _PLATFORMS]
    command += ["--require-hashes", f"--requirement={LOCK}", f"--dest={folder}"]
    if wheels is not None:
        command += ["--no-index", f"--find-links={wheels}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_SECONDS)  # noqa: S603
    except subprocess.TimeoutExpired as error:
        message = f"the functions' locked packages did not come within {_SECONDS} s: can pip reach its package index?"
        raise PackageError(message) from error
    if done.returncode:
        message = f"the functions' locked packages could not be fetched: {_last_line(done.stderr)}"
        raise PackageError(message)


def _last_line(text: str) -> str:
    lines = [re.sub(r"^ERROR: ", "", line) for line in text.splitlines() if line.startswith("ERROR")]
    return lines[-1] if lines else text.strip()[-500:] or "pip did not say why"
