"""Invocations: how many are running or about to run, so that one can wait for them, and how many failed."""

# ruff: noqa: SLF001 - the emulator has no public interface to extend

from __future__ import annotations

import threading
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from crr_monitor.sandbox import points

if TYPE_CHECKING:
    from collections.abc import Callable

_functions = points.module("services.lambda_svc")
_processes = points.module("core.lambda_runtime")
_responses = points.module("core.responses")

_DEFAULT_TIMEOUT_SECONDS = 30
"""The emulator's, of a function that names none."""

_LOOK_SECONDS = 0.05

_announced: ContextVar[list[bool] | None] = ContextVar("sandbox_announced", default=None)
"""Travels into the thread of an asynchronous invocation; its first attempt takes the entry out."""


class Invocations:
    """Counts from the moment when an invocation is asked for until its first attempt has ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.running = 0

    def _count(self, change: int) -> None:
        with self._lock:
            self.running += change

    def asynchronous(self, old: Callable[..., None]) -> Callable[..., None]:
        """The emulator starts a thread here, which has not counted itself when the caller goes on."""

        def invoke(func: dict[str, Any], event: dict[str, Any]) -> None:
            self._count(1)
            token = _announced.set([True])
            try:
                old(func, event)
            finally:
                _announced.reset(token)

        return invoke

    def executing(self, old: Callable[..., Any]) -> Callable[..., Any]:
        """Every invocation passes here, whoever asked for it."""

        def execute(func: dict[str, Any], event: dict[str, Any]) -> Any:  # noqa: ANN401 - the emulator's result
            announced = _announced.get()
            if announced:
                announced.pop()
            else:
                self._count(1)
            try:
                return old(func, event)
            finally:
                self._count(-1)

        return execute


def own_workers(old: Callable[..., None]) -> Callable[..., None]:
    """The processes of the function that changes and no others, and none in the middle of a call.

    A stack of the same name gives its function the same name in every account, and the emulator's CloudFormation ends
    the processes of all that are called so. In Lambda a call that is running goes on with the code and the settings
    with which it began, whatever changes meanwhile.
    """

    def invalidate(
        func_name: str, qualifier: str | None = None, account: str | None = None, region: str | None = None
    ) -> None:
        place = (account or _responses.get_account_id(), region or _responses.get_region())
        for worker in _take_busy(func_name, qualifier, *place):
            threading.Thread(target=_end_after_its_call, args=(worker,), daemon=True).start()
        old(func_name, qualifier, *place)

    return invalidate


def _take_busy(func_name: str, qualifier: str | None, account: str, region: str) -> list[Any]:
    """Out of the pools, so that no other call gets them, and the emulator does not find them."""
    with _processes._lock:
        pools = [
            pool
            for key, pool in _processes._workers.items()
            if _is_of(key, func_name, account, region) and qualifier in {None, key.rsplit(":", 1)[-1]}
        ]
        busy = [worker for pool in pools for worker in pool if worker.in_use]
        for pool in pools:
            pool[:] = [worker for worker in pool if not worker.in_use]
    return busy


def _is_of(key: str, func_name: str, account: str, region: str) -> bool:
    return key.split(":")[:3] == [account, region, func_name]


def _end_after_its_call(worker: Any) -> None:  # noqa: ANN401 - the emulator's
    latest = time.monotonic() + worker.config.get("Timeout", _DEFAULT_TIMEOUT_SECONDS) + 1
    while worker.in_use and time.monotonic() < latest:
        time.sleep(_LOOK_SECONDS)
    _processes.kill_workers([worker])


def measure() -> None:
    """Count errors of every invocation; the emulator counts those of direct calls only, and throttles of all.

    Lambda Developer Guide, "Viewing metrics for Lambda functions": asynchronous ones and those of event sources count
    as well. Every invocation that was let run writes its log once, in the scope of its function.
    """
    metrics = _functions._emit_lambda_metrics

    def throttled(old: Callable[..., None]) -> Callable[..., None]:
        def emit(function_name: str, duration_ms: float, *, error: bool, throttle: bool) -> None:
            if throttle and not duration_ms:  # of a direct call it is told twice
                old(function_name, duration_ms, error, throttle)

        return emit

    def run(old: Callable[..., None]) -> Callable[..., None]:
        def emit(func: dict[str, Any], request_id: str, log: str, error: bool, duration_ms: int, **more: Any) -> None:  # noqa: ANN401, FBT001
            old(func, request_id, log, error, duration_ms, **more)
            metrics((func.get("config") or func)["FunctionName"], duration_ms, error, throttle=False)

        return emit

    points.replace("services.lambda_svc", "_emit_lambda_metrics", throttled)
    points.replace("services.lambda_svc", "_emit_lambda_logs", run)
