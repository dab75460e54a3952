"""The answer to CloudFormation for a custom resource: exactly one, whatever happens, or the stack hangs for an hour.

CloudFormation User Guide, "Custom resource response objects".
"""

from __future__ import annotations

import json
import logging
import threading
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_log = logging.getLogger(__name__)

REASON_CHARACTERS = 1_000
REASON_BYTES = 1_400
"""Of each text, the second as it is encoded in the answer, which may have 4,096 bytes and holds two of them."""

TRIES = 4
TIMEOUT_SECONDS = 5.0
EARLY_SECONDS = 20.0
"""The time-out is told this long before Lambda ends the function."""

Late: TypeAlias = tuple[Literal["SUCCESS", "FAILED"], str]
"""What is answered when time runs out."""

OUT_OF_TIME: Late = (
    "FAILED",
    "set-up ran out of time before it was done: update the stack again, it goes on where it was",
)


def cut(text: str) -> str:
    """As much of a text as has room in the answer."""
    text = text[:REASON_CHARACTERS]
    while len(json.dumps(text)) > REASON_BYTES:
        text = text[:-10]
    return text


class Answer:
    """Answers one request of CloudFormation once; when time runs out first, with what is to be said then."""

    def __init__(
        self, event: Mapping[str, Any], physical_id: str, seconds_left: float, late: Late = OUT_OF_TIME
    ) -> None:
        self._event = event
        self._out_of_time = late
        self._physical_id = str(event.get("PhysicalResourceId") or physical_id)
        self._lock = threading.Lock()
        self._given = False
        self._ran_out = False
        self._late: Callable[[], None] | None = None
        self._timer = threading.Timer(max(1.0, seconds_left - EARLY_SECONDS), self._run_out)
        self._timer.daemon = True
        self._timer.start()

    def when_late(self, note: Callable[[], None]) -> None:
        """Have something noted as well, once time has run out: at once if it has already."""
        with self._lock:
            self._late = note
            ran_out = self._ran_out
        if ran_out:
            note()

    def keep(self) -> None:
        """Say nothing, as it has been said before."""
        with self._lock:
            self._given = True
        self._timer.cancel()

    def _run_out(self) -> None:
        status, reason = self._out_of_time
        # An output that is asked for has to be there.
        if not self.give(status, reason, {"Summary": reason}):
            return
        with self._lock:
            self._ran_out = True
            note = self._late
        if note is not None:
            note()

    def give(self, status: str, reason: str, data: Mapping[str, str] | None = None) -> bool:
        """Send the answer, unless one was sent already; tells whether it was sent now."""
        with self._lock:
            if self._given:
                return False
            self._given = True
        self._timer.cancel()
        document = {
            "Status": status,
            "Reason": cut(reason) or status,
            "PhysicalResourceId": self._physical_id,
            "StackId": self._event.get("StackId", ""),
            "RequestId": self._event.get("RequestId", ""),
            "LogicalResourceId": self._event.get("LogicalResourceId", ""),
            "Data": {name: cut(value) for name, value in (data or {}).items()},
        }
        self._send(json.dumps(document).encode())
        return True

    def _send(self, body: bytes) -> None:
        for left in reversed(range(TRIES)):
            # The address is CloudFormation's own, signed; a content type would break the signature.
            request = urllib.request.Request(  # noqa: S310
                self._event["ResponseURL"], data=body, method="PUT", headers={"Content-Type": ""}
            )
            try:
                with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS):  # noqa: S310
                    return
            except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
                _log.warning("CloudFormation could not be answered, %d tries left: %s", left, error)
                if not left:
                    raise
                time.sleep(0.5)
