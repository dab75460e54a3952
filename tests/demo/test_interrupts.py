"""Signals end the demo once."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

import dev
from crr_monitor.demo.interrupts import Interrupts

if TYPE_CHECKING:
    from collections.abc import Iterator

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """What handled the signals before the test handles them afterwards."""
    before = [(number, signal.getsignal(number)) for number in SIGNALS]
    yield
    for number, handler in before:
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_only_the_first_signal_ends_it(number: signal.Signals) -> None:
    """The first one raises, as Ctrl-C or as an exit with 143; what follows, also after the block, does nothing."""
    error = KeyboardInterrupt if number == signal.SIGINT else SystemExit
    with Interrupts():
        with pytest.raises(error) as caught:
            os.kill(os.getpid(), number)
        if isinstance(caught.value, SystemExit):
            assert caught.value.code == 143
        for later in SIGNALS:
            os.kill(os.getpid(), later)
    for later in SIGNALS:
        os.kill(os.getpid(), later)


def test_a_lost_exception_is_raised_again() -> None:
    """Where Python dropped the exception, the next check raises it; before any signal a check does nothing."""
    with Interrupts() as interrupts:
        interrupts.check()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            interrupts.check()


def test_without_a_signal_everything_is_as_before() -> None:
    """After a block in which none came, the handlers are those of before."""
    before = [signal.getsignal(number) for number in SIGNALS]
    with Interrupts():
        assert [signal.getsignal(number) for number in SIGNALS] != before
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_dev_py_passes_arguments_and_status_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """``dev.py demo --for 5`` is ``crr-monitor demo --for 5``."""
    called: list[list[str]] = []

    def run(command: list[str]) -> int:
        called.append(command)
        return 7

    monkeypatch.setattr(dev, "run", run)
    assert dev.demo(["--for", "5"]) == 7
    assert [command[1:] for command in called] == [["demo", "--for", "5"]]
