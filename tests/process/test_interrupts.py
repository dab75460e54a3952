"""Ctrl-C that has to wait."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING

import pytest

from crr_monitor.process.interrupts import ctrl_c_afterwards

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def handler() -> Iterator[None]:
    """Python's own, whoever began the tests."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("handler")
def test_held_back() -> None:
    """What is under way is finished, then the exception comes, once."""
    done: list[str] = []
    with pytest.raises(KeyboardInterrupt), ctrl_c_afterwards():  # noqa: PT012 - what is done in between is the matter
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        done.append("all")
    assert done == ["all"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with ctrl_c_afterwards():
        done.append("quiet")
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


@pytest.mark.usefixtures("handler")
@pytest.mark.parametrize("others", [signal.SIG_IGN, signal.SIG_DFL])
def test_nobody_handles_it(others: signal.Handlers) -> None:
    """Where the signal is ignored, or ends the process, that stays so."""
    signal.signal(signal.SIGINT, others)
    with ctrl_c_afterwards():
        assert signal.getsignal(signal.SIGINT) is others
    assert signal.getsignal(signal.SIGINT) is others


@pytest.mark.usefixtures("handler")
def test_other_threads() -> None:
    """Other threads get no such exceptions, and may not change handlers."""
    seen: list[object] = []

    def work() -> None:
        with ctrl_c_afterwards():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]
