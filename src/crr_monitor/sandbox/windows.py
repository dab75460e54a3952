"""Lambda collecting a queue's messages for a function; the emulator hands over what is there, ten at most.

Lambda Developer Guide, "Using Lambda with Amazon SQS" and "Batching behavior": with ``MaximumBatchingWindowInSeconds``
a batch is handed over when it has ``BatchSize`` messages, or the window is over, which begins with the first of them.
"""

# ruff: noqa: SLF001 - the emulator has no public interface to extend

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from crr_monitor.sandbox import points

if TYPE_CHECKING:
    from collections.abc import Callable

_functions = points.module("services.lambda_svc")
_sqs = points.module("services.sqs")

WINDOW = "MaximumBatchingWindowInSeconds"
AT_ONCE = 10
"""As many messages does one call receive."""


def _has_window(queue: dict[str, Any]) -> bool:
    arn = queue["attributes"]["QueueArn"]
    mappings = [mapping for _, _, mapping in _functions._iter_all_esms() if mapping.get("EventSourceArn") == arn]
    return any(int(mapping.get(WINDOW) or 0) for mapping in mappings)


def collecting(window: float) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Every window, however long, is ``window`` seconds here."""

    def wrap(old: Callable[..., Any]) -> Callable[..., Any]:
        def receive(queue_url: str, max_number: int) -> list[dict[str, Any]]:
            queue = _sqs._queues.get(queue_url)
            if queue is None or not _has_window(queue):
                return list(old(queue_url, max_number))
            size, now = int(max_number or AT_ONCE), time.time()
            since = [max(each["sent_at"], each.get("visible_at", 0.0)) for each in list(queue["messages"])]
            visible = [at for at in since if at <= now]
            if not visible or (len(visible) < size and now - min(visible) < window):
                return []
            found: list[dict[str, Any]] = []
            while len(found) < size:
                more = old(queue_url, min(AT_ONCE, size - len(found)))
                found += more
                if not more:
                    break
            return found

        return receive

    return wrap
