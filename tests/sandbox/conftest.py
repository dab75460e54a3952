"""A sandbox for each module of contract tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from crr_monitor.sandbox import Sandbox, Settings
from tests.sandbox.making import FAST, World

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """One sandbox for the module, with delays of a few milliseconds."""
    settings = Settings(seed=7, replication=FAST, notification=FAST, event=FAST, trail=FAST)
    with Sandbox(settings) as running:
        yield running


@pytest.fixture
def world(sandbox: Sandbox) -> Iterator[World]:
    """The module's sandbox in short words; faults end with the test."""
    yield World(sandbox)
    sandbox.end_fault()
