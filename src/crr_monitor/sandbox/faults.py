"""Trouble on request: with messages, with API calls, with replication."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from random import Random

MESSAGES = frozenset({"notification", "event", "trail"})
"""What can be lost or late: S3 notifications, S3's EventBridge events, CloudTrail's events."""


@dataclass
class Fault:
    """One fault in force. ``match`` restricts it; a name that it does not hold matches everything.

    ``action`` is ``drop``, ``duplicate``, ``delay``, ``reorder`` (of messages), ``error`` (of API calls), ``refuse``
    (of records in a call to Firehose), ``outage`` or ``fail`` (of replication). ``times`` is how often it still strikes
    (``None``: for ever).
    """

    number: int
    action: str
    match: Mapping[str, str] = field(default_factory=dict)
    probability: float = 1.0
    times: int | None = None
    seconds: float = 0.0
    code: str = ""
    status: int = 400

    def concerns(self, facts: Mapping[str, str]) -> bool:
        """Whether every restriction holds; ``resource`` needs only be contained."""
        return all(
            wanted in facts.get(name, "") if name == "resource" else facts.get(name) == wanted
            for name, wanted in self.match.items()
        )


class Faults:
    """All faults in force, and how often each kind has struck."""

    def __init__(self, dice: Random) -> None:
        self._dice = dice
        self._numbers = itertools.count(1)
        self._faults: dict[int, Fault] = {}
        self.struck: dict[str, int] = {}

    def add(self, document: Mapping[str, Any]) -> int:
        """Put a fault in force; returns its number."""
        fault = Fault(number=next(self._numbers), **document)
        self._faults[fault.number] = fault
        return fault.number

    def remove(self, number: int | None) -> None:
        """End one fault, or all."""
        if number is None:
            self._faults.clear()
        else:
            self._faults.pop(number, None)

    def active(self, action: str) -> bool:
        """Whether any fault of that kind is in force."""
        return any(fault.action == action for fault in self._faults.values())

    def strike(self, action: str, facts: Mapping[str, str]) -> Fault | None:
        """The first fault of that kind that concerns the facts and whose dice say so."""
        for fault in list(self._faults.values()):
            if fault.action != action or not fault.concerns(facts) or fault.times == 0:
                continue
            if fault.probability < 1.0 and self._dice.random() >= fault.probability:
                continue
            if fault.times is not None:
                fault.times -= 1
            self.struck[action] = self.struck.get(action, 0) + 1
            return fault
        return None

    def outage(self, *places: Mapping[str, str]) -> bool:
        """Whether one of the buckets (``bucket``, ``region``) is out of order."""
        outages = [fault for fault in self._faults.values() if fault.action == "outage"]
        return any(fault.concerns(place) for fault in outages for place in places)

    def deliveries(self, facts: Mapping[str, str], delay: float) -> list[float]:
        """The delays after which a message is delivered: none when it is lost, several when it is doubled."""
        if self.strike("drop", facts):
            return []
        delays = [delay]
        if doubled := self.strike("duplicate", facts):
            delays.append(delay + doubled.seconds)
        if late := self.strike("delay", facts):
            delays = [each + late.seconds for each in delays]
        if shuffled := self.strike("reorder", facts):
            delays = [each + self._dice.random() * shuffled.seconds for each in delays]
        return delays


def refusal(fault: Fault, *, json_protocol: bool, request_id: str) -> tuple[int, dict[str, str], bytes]:
    """The answer of an API call that a fault refuses, in the protocol of the service."""
    message = f"{fault.code} (a fault of the sandbox)"
    if json_protocol:
        body = json.dumps({"__type": f"com.amazonaws#{fault.code}", "message": message}).encode()
        return fault.status, {"Content-Type": "application/x-amz-json-1.0", "x-amzn-errortype": fault.code}, body
    text = (
        f"<ErrorResponse><Error><Type>Sender</Type><Code>{fault.code}</Code><Message>{message}</Message></Error>"
        f"<RequestId>{request_id}</RequestId></ErrorResponse>"
    )
    return fault.status, {"Content-Type": "text/xml"}, text.encode()


def s3_refusal(fault: Fault, request_id: str) -> tuple[int, dict[str, str], bytes]:
    """The same for S3, whose error document has no envelope."""
    text = f"<Error><Code>{fault.code}</Code><Message>{fault.code}</Message><RequestId>{request_id}</RequestId></Error>"
    return fault.status, {"Content-Type": "application/xml"}, text.encode()
