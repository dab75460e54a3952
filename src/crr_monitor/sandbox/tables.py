"""DynamoDB tables: properties that the emulator's CloudFormation forgets, and expiry as the change stream shows it.

Items expire when they are told to, and only then: the emulator's own thread for that deletes each minute, at a moment
that no test can foresee, and without the record in the change stream.
"""

# ruff: noqa: SLF001 - the emulator has no public interface to extend

from __future__ import annotations

import json
import threading
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from crr_monitor.sandbox import points

if TYPE_CHECKING:
    from collections.abc import Callable

_dynamodb = points.module("services.dynamodb")
_provisioners = points.module("services.cloudformation.provisioners")
_responses = points.module("core.responses")

_SERVICE = {"type": "Service", "principalId": "dynamodb.amazonaws.com"}
"""DynamoDB Developer Guide, "DynamoDB Streams and Time to Live": who deletes what has expired."""

_REAPER = "dynamodb-ttl-reaper"
"""The emulator's thread that deletes what has expired."""

_expiring: ContextVar[bool] = ContextVar("sandbox_expiring", default=False)


def _apply(name: str, props: dict[str, Any]) -> None:
    """AWS::DynamoDB::Table: ``TimeToLiveSpecification``, ``SSESpecification``, ``PointInTimeRecoverySpecification``."""
    expiry = props.get("TimeToLiveSpecification")
    if expiry:
        enabled = str(expiry.get("Enabled")).lower() == "true"
        specification = {"AttributeName": expiry.get("AttributeName"), "Enabled": enabled}
        status, _, answer = _dynamodb._update_ttl({"TableName": name, "TimeToLiveSpecification": specification})
        if status >= 400:  # noqa: PLR2004 - HTTP
            message = f"TimeToLiveSpecification: {json.loads(answer).get('message')}"
            raise ValueError(message)
    encryption = props.get("SSESpecification")
    if encryption:
        renamed = {
            "Enabled": str(encryption.get("SSEEnabled")).lower() == "true",
            **{part: encryption[part] for part in ("SSEType", "KMSMasterKeyId") if part in encryption},
        }
        _dynamodb._tables[name]["SSEDescription"] = _dynamodb._sse_description_from_spec(renamed)
    recovery = props.get("PointInTimeRecoverySpecification")
    if recovery:
        _dynamodb._update_continuous_backups({"TableName": name, "PointInTimeRecoverySpecification": recovery})


def _completed(
    handler: Callable[..., tuple[str, dict[str, Any]]], new: int
) -> Callable[..., tuple[str, dict[str, Any]]]:
    """A create or update handler that also applies what it forgets; ``new`` is where it gets the properties."""

    def handle(*arguments: Any) -> tuple[str, dict[str, Any]]:  # noqa: ANN401 - create and update differ
        name, attributes = handler(*arguments)
        _apply(name, arguments[new])
        return name, attributes

    return handle


def _deleted(handler: Callable[[str, dict[str, Any]], None]) -> Callable[[str, dict[str, Any]], None]:
    def handle(physical_id: str, props: dict[str, Any]) -> None:
        _dynamodb._ttl_settings.pop(physical_id, None)
        handler(physical_id, props)

    return handle


def marked(old: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """A change record that says that the service deleted the item, where it did."""

    def build(table: Any, event_name: str, old_item: Any, new_item: Any, view_type: str) -> dict[str, Any]:  # noqa: ANN401
        record = old(table, event_name, old_item, new_item, view_type)
        return {**record, "userIdentity": _SERVICE} if _expiring.get() else record

    return build


def only_when_told(old: Callable[..., Any]) -> Callable[..., Any]:
    """The removal of an item, for everybody but the emulator's thread that deletes what has expired.

    Raises:
        RuntimeError: there is no such thread, so that it would be another one.
    """
    if _REAPER not in {thread.name for thread in threading.enumerate()}:
        message = f"the emulator has no thread {_REAPER} (any more)"
        raise RuntimeError(message)

    def remove(*arguments: Any) -> Any:  # noqa: ANN401 - as it is
        return None if threading.current_thread().name == _REAPER else old(*arguments)

    return remove


def _expired(item: dict[str, Any], attribute: str, now: float) -> bool:
    """Only a number is an expiry time, in seconds since the epoch."""
    value = item.get(attribute) or {}
    return "N" in value and float(value["N"]) <= now


def expire() -> int:
    """Delete every item whose time has come, as DynamoDB does within days; returns how many."""
    count, now = 0, time.time()
    for (account, region, name), setting in list(_dynamodb._ttl_settings.all_items()):
        table = _dynamodb._tables.get_scoped(account, region, name)
        if table is None or setting.get("TimeToLiveStatus") != "ENABLED":
            continue
        with _responses.request_scope(account, region), _dynamodb._lock:
            due = [
                (partition, sort)
                for partition, kept in table["items"].items()
                for sort, item in kept.items()
                if _expired(item, setting["AttributeName"], now)
            ]
            token = _expiring.set(True)
            for partition, sort in due:
                item = _dynamodb._remove_item(table, partition, sort)
                _dynamodb._emit_stream_event(name, "REMOVE", item, None)
            _expiring.reset(token)
        count += len(due)
    return count


def install() -> None:
    """Complete the type's handlers."""
    handlers = _provisioners._RESOURCE_HANDLERS["AWS::DynamoDB::Table"]
    handlers["create"] = _completed(handlers["create"], 1)
    handlers["update"] = _completed(handlers["update"], 2)
    handlers["delete"] = _deleted(handlers["delete"])
