"""What all tests share: no setting of the caller's reaches them, and none of them reaches the caller's data."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Iterator

settings.register_profile("here", deadline=None)  # a busy machine is no defect
settings.register_profile("ci", parent=settings.get_profile("here"), derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")


@pytest.fixture(scope="session", autouse=True)
def _clean_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    home = str(tmp_path_factory.mktemp("home"))
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("CRR_MONITOR_")]:
            patch.delenv(name)
        for name in ("HOME", "USERPROFILE", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "APPDATA", "LOCALAPPDATA"):
            patch.setenv(name, home)
        patch.setenv("TZ", "UTC")
        yield


LONG = ("e2e", "demo", "templates", "lambdas", "serve", "integration", "stores", "alarms", "history", "cli")
"""Folders whose files take long, begun first: the small ones then fill what is left, and all processes end together."""


def pytest_configure() -> None:
    """Processes that tests start hear Ctrl-C, also where a shell has begun the tests in the background."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long tests first, and no property test is measured: that takes three times as long, and adds no covered line."""
    folder = Path(__file__).parent
    places = {name: number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path.relative_to(folder).parts[0], len(LONG)))
    for item in items:
        if item.get_closest_marker("hypothesis") is not None:
            item.add_marker(pytest.mark.no_cover)
