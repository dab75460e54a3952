"""What is built is what works: the wheel, installed without the source tree beside it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BIN = "Scripts" if os.name == "nt" else "bin"


def call(*command: str | Path, cwd: Path) -> str:
    """Run a command without this process's Python paths; gives its standard output, fails with all it said."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, f"{command} gave {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built offline with the locked backend."""
    folder = tmp_path_factory.mktemp("wheel")
    build = ["-m", "pip", "wheel", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", str(folder)]
    call(sys.executable, *build, str(ROOT), cwd=folder)
    (built,) = folder.glob("crr_monitor-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The executables' folder of a new environment with the wheel; its dependencies are those of this environment."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, with_pip=False)
    python = folder / BIN / "python"
    install = ["--python", str(python), "install", "--no-deps", "--no-index", "--disable-pip-version-check"]
    call(sys.executable, "-m", "pip", *install, str(wheel), cwd=folder)
    own = Path(call(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip())
    # Python reads no .pth files of a folder that it has from a .pth file: an editable install there stays unseen.
    (own / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return folder / BIN


def test_wheel_has_the_package_and_nothing_else(wheel: Path) -> None:
    """The wheel holds every file of the package, its metadata with the licence, and nothing more."""
    source = ROOT / "src"
    files = [path for path in (source / "crr_monitor").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    names = zipfile.ZipFile(wheel).namelist()
    assert sorted(name for name in names if ".dist-info/" not in name) == sorted(
        path.relative_to(source).as_posix() for path in files
    )
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_installed_package_is_not_the_source_tree(installed: Path, tmp_path: Path) -> None:
    """The new environment imports the package from its own folder."""
    place = call(installed / "python", "-c", "import crr_monitor; print(crr_monitor.__file__)", cwd=tmp_path).strip()
    assert Path(place).is_relative_to(installed.parent)
    assert not Path(place).is_relative_to(ROOT / "src")


def test_installed_command_tells_its_version(installed: Path, tmp_path: Path) -> None:
    """``crr-monitor --version`` tells the version that the wheel's name carries."""
    python = "from importlib.metadata import version; print(version('crr-monitor'))"
    version = call(installed / "python", "-c", python, cwd=tmp_path).strip()
    assert version in call(installed / "crr-monitor", "--version", cwd=tmp_path)


def test_installed_command_works(installed: Path, tmp_path: Path) -> None:
    """A simulated stream goes in, and the statistics come out, with nothing but the wheel."""
    monitor = installed / "crr-monitor"
    store = ["--store", "sqlite:///wheel.db"]
    call(monitor, "simulate", "--objects", "50", "--seed", "1", "--out", "day", cwd=tmp_path)
    call(monitor, *store, "ingest", "--topology", "day/topology.json", "day/events", cwd=tmp_path)
    stats = json.loads(call(monitor, *store, "stats", "--window", "24h", "-o", "json", cwd=tmp_path))
    assert sum(group["objects"] for group in stats["groups"]) > 0
