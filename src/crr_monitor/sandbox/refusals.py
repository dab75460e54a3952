"""Calls that AWS refuses and the emulator would take: of rules that still have targets, and beyond trails' quotas."""

# ruff: noqa: SLF001 - the emulator has no public interface to extend

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crr_monitor.sandbox import points, selectors

if TYPE_CHECKING:
    from collections.abc import Callable

_events = points.module("services.eventbridge")
_responses = points.module("core.responses")
_trails = points.module("services.cloudtrail")


def without_targets(old: Callable[[dict[str, Any]], Any]) -> Callable[[dict[str, Any]], Any]:
    """EventBridge API Reference, "DeleteRule": "Before you can delete the rule, you must remove all targets"."""

    def delete(data: dict[str, Any]) -> Any:  # noqa: ANN401
        key = _events._rule_key(data.get("Name"), data.get("EventBusName") or "default")
        if _events._targets.get(key):
            return _refused("ValidationException", "Rule can't be deleted since it has targets.")
        return old(data)

    return delete


def _refused(code: str, text: str) -> Any:  # noqa: ANN401 - an HTTP answer
    return _responses.error_response_json(code, text, 400)


def within_quota(old: Callable[[dict[str, Any]], Any]) -> Callable[[dict[str, Any]], Any]:
    """A trail's selectors hold no more than CloudTrail allows: see :mod:`crr_monitor.sandbox.selectors`."""

    def put(body: dict[str, Any]) -> Any:  # noqa: ANN401
        text = selectors.excess(body.get("EventSelectors"), body.get("AdvancedEventSelectors"))
        return _refused("InvalidEventSelectorsException", text) if text else old(body)

    return put


def within_region(old: Callable[[dict[str, Any]], Any]) -> Callable[[dict[str, Any]], Any]:
    """A Region has no more trails than CloudTrail allows."""

    def create(body: dict[str, Any]) -> Any:  # noqa: ANN401
        # Trails that log in this Region count, multi-Region trails of other home Regions too.
        if len(list(_trails._visible_trail_items())) >= selectors.MAX_TRAILS:
            account = _responses.get_account_id()
            text = f"User: {account} already has {selectors.MAX_TRAILS} trails in {_responses.get_region()}."
            return _refused("MaximumNumberOfTrailsExceededException", text)
        return old(body)

    return create
