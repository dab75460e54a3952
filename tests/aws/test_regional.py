"""Reading and writing single resources."""

from __future__ import annotations

from typing import Any

import pytest

from crr_monitor.aws.plan_model import Action, Resource
from crr_monitor.aws.regional import perform
from crr_monitor.aws.sessions import AwsError
from tests.aws.making import HOME, stack


class Refusing:
    """EventBridge that answers 200 and does only a part: what it did not do is in the answer."""

    def put_rule(self, **_: Any) -> dict[str, Any]:  # noqa: ANN401
        """Is made."""
        return {}

    def put_targets(self, **_: Any) -> dict[str, Any]:  # noqa: ANN401
        """Is refused, in part."""
        entry = {"TargetId": "crr-monitor", "ErrorCode": "LimitExceeded", "ErrorMessage": "too many targets"}
        return {"FailedEntryCount": 1, "FailedEntries": [entry]}


class Refused:
    """Sessions with that EventBridge."""

    def client(self, *_: str) -> Refusing:
        """The client."""
        return Refusing()


def test_partial_failure_is_a_failure() -> None:
    """A target that EventBridge did not take is an error, although the call succeeded."""
    rule = Resource("rule", HOME, "name", {"EventPattern": {}, "State": "ENABLED", "Targets": []})
    with pytest.raises(AwsError, match="events:PutTargets: LimitExceeded: too many targets"):
        perform(Refused(), stack(), Action("create", rule, "it is missing"))  # type: ignore[arg-type]
