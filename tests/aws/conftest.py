"""A sandbox for the tests that talk to AWS over HTTP."""

from __future__ import annotations

import urllib.request
from typing import TYPE_CHECKING

import pytest

from crr_monitor.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def running() -> Iterator[Sandbox]:
    """One sandbox for all tests: it takes seconds to start."""
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(running: Sandbox) -> Sandbox:
    """An empty sandbox without faults."""
    running.end_fault()
    request = urllib.request.Request(f"{running.endpoint}/_ministack/reset", method="POST")  # noqa: S310 - our own
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
        assert answer.status == 200
    return running
