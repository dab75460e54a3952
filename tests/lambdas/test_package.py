"""The functions' zip: what is in it, that it is small, and that the same input gives the same bytes."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import os
import re
import subprocess
import sys
import types
import zipfile
from pathlib import Path

import pytest

from crr_monitor import templates
from crr_monitor.lambdas import package
from crr_monitor.lambdas.package import LAMBDA_TAG, LEFT_OUT, LOCK, MAX_BYTES, PackageError, Target, build

ROOT = Path(__file__).resolve().parents[2]
IMPORT_ALL = """
import sys
sys.path.insert(0, sys.argv[1])
import crr_monitor.lambdas.process, crr_monitor.lambdas.settle, crr_monitor.lambdas.setup, msgspec
print(crr_monitor.__file__, msgspec.__file__)
"""


def names(data: bytes) -> list[str]:
    """What is in a zip."""
    return zipfile.ZipFile(io.BytesIO(data)).namelist()


def sources(data: bytes) -> dict[str, bytes]:
    """What is in a zip besides bytecode."""
    archive = zipfile.ZipFile(io.BytesIO(data))
    return {name: archive.read(name) for name in archive.namelist() if not name.endswith(".pyc")}


def test_same_bytes() -> None:
    """Made twice, the sources in the zip are the same bytes, and their hash is its name."""
    first, second = build(Target.HOST), build(Target.HOST)
    assert sources(first.data) == sources(second.data)
    assert first.sha256 == second.sha256
    assert first.key == f"crr-monitor-{first.sha256[:32]}.zip"


def test_name_without_bytecode(monkeypatch: pytest.MonkeyPatch) -> None:
    """With and without bytecode the zip has the same name, and the hash is that of the zip without."""
    with_bytecode = build(Target.HOST)
    monkeypatch.setattr(package, "_bytecode", lambda _files, _target: {})
    without = build(Target.HOST)
    assert without.sha256 == with_bytecode.sha256 == hashlib.sha256(without.data).hexdigest()
    assert sources(with_bytecode.data) == sources(without.data)
    assert len(names(with_bytecode.data)) > len(names(without.data))


def test_every_module_has_its_bytecode() -> None:
    """Beside each source lies its bytecode for this Python, which is used without a look at the source."""
    data = build(Target.HOST).data
    archive = zipfile.ZipFile(io.BytesIO(data))
    tag = sys.implementation.cache_tag
    for name in sources(data):
        if name.endswith(".py"):
            folder, _, module = name.rpartition("/")
            compiled = archive.read(f"{folder}/__pycache__/{module.removesuffix('.py')}.{tag}.pyc")
            assert compiled[:8] == importlib.util.MAGIC_NUMBER + b"\x01\0\0\0"
            assert compiled[8:16] == importlib.util.source_hash(archive.read(name))


@pytest.mark.parametrize(("tag", "there"), [("cpython-313", True), ("cpython-312", False), ("pypy-313", False)])
def test_bytecode_for_lambda(tag: str, there: bool, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: FBT001 - a table
    """For Lambda bytecode comes along only when the Python that packages is Lambda's."""
    monkeypatch.setattr(sys, "implementation", types.SimpleNamespace(cache_tag=tag))
    monkeypatch.setattr(package, "_locked_files", lambda _wheels: {})
    found = [name for name in names(build(Target.LAMBDA).data) if name.endswith(".pyc")]
    assert (f"crr_monitor/lambdas/__pycache__/process.{tag}.pyc" in found) is there
    assert bool(found) is there


def test_lambda_has_the_python_of_the_bytecode() -> None:
    """Both templates ask for the Python whose bytecode is packaged."""
    for name in (templates.HUB, templates.AGENT):
        versions = set(re.findall(r"Runtime: python(\d)\.(\d+)", templates.text(name)))
        assert {f"cpython-{''.join(version)}" for version in versions} == {LAMBDA_TAG}


def test_same_bytes_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the clock, or of files' times and permissions, is in the zip."""
    first = build(Target.HOST)
    module = Path(package.__file__)
    before = module.stat()
    try:
        os.utime(module, (0, 1_000_000_000))
        monkeypatch.setenv("TZ", "Asia/Tokyo")
        assert build(Target.HOST).sha256 == first.sha256
    finally:
        os.utime(module, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_content() -> None:
    """Our package without what people use, and msgspec, are in it, and no boto3."""
    found = names(build(Target.HOST).data)
    assert {name.split("/")[0] for name in found} == {"crr_monitor", "msgspec"}
    assert "crr_monitor/lambdas/process.py" in found
    assert not [name for name in found if name.split("/")[1] in LEFT_OUT]
    assert found == sorted(found)


def test_functions_run_from_it(tmp_path: Path) -> None:
    """All functions can be imported from the zip's content alone, with boto3 being all that is there besides."""
    pytest.importorskip("boto3")
    zipfile.ZipFile(io.BytesIO(build(Target.HOST).data)).extractall(tmp_path)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-P", "-c", IMPORT_ALL, str(tmp_path)]
    done = subprocess.run(command, env=environment, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert [Path(path).is_relative_to(tmp_path) for path in done.stdout.split()] == [True, True]


def test_size() -> None:
    """The zip for this machine is at most 5 MB; that for Lambda differs by msgspec's compiled part only."""
    assert MAX_BYTES == 5_000_000
    assert len(build(Target.HOST).data) <= MAX_BYTES


def test_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """A zip that grew too large is refused."""
    monkeypatch.setattr(package, "MAX_BYTES", 1_000)
    with pytest.raises(PackageError, match="more than 1,000"):
        build(Target.HOST)


def test_lock() -> None:
    """What is locked for Lambda is locked for the project: the same version with the same hashes."""
    lines = [line for line in LOCK.read_text().splitlines() if not line.startswith("#")]
    assert lines[0].startswith("msgspec==")
    assert "\n".join(lines) in (ROOT / "requirements" / "run.lock").read_text()


def test_lock_is_made_by_dev() -> None:
    """``dev.py lock`` makes the functions' lock from the project's, just as it is here."""
    code = "import sys, dev; sys.stdout.write(dev.functions_lock(open('requirements/run.lock').read()))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout == LOCK.read_text()


def test_wrong_wheel(tmp_path: Path) -> None:
    """A wheel that is not the locked one is refused, wherever it comes from."""
    pytest.importorskip("pip")
    version = LOCK.read_text().split("msgspec==")[1].split()[0]
    (tmp_path / f"msgspec-{version}-cp313-cp313-manylinux2014_aarch64.whl").write_bytes(b"PK\x05\x06" + bytes(18))
    with pytest.raises(PackageError, match=r"(?i)hash"):
        build(Target.LAMBDA, tmp_path)


def test_no_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pip the error says how to get it."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(PackageError, match="ensurepip"):
        build(Target.LAMBDA)


@pytest.mark.slow
def test_for_lambda() -> None:
    """The zip for Lambda has msgspec's compiled part for Python 3.13 on arm64, and at most 5 MB (needs the network)."""
    made = build(Target.LAMBDA)
    compiled = [name for name in names(made.data) if name.endswith(".so")]
    assert compiled == ["msgspec/_core.cpython-313-aarch64-linux-gnu.so"]
    assert len(made.data) <= MAX_BYTES
    assert made.sha256 == build(Target.LAMBDA).sha256
