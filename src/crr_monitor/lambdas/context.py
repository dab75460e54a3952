"""What Lambda tells a function of its run, as far as functions here need it."""

from __future__ import annotations

from typing import Protocol


class Context(Protocol):
    """Lambda Developer Guide, "Using the Lambda context object to retrieve Python function information"."""

    aws_request_id: str
    invoked_function_arn: str

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until Lambda ends the function."""
