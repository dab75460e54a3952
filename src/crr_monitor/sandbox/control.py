"""The control API: JSON over HTTP on the sandbox's own port, under a path that no AWS service has."""

# ruff: noqa: SLF001 - the emulator has no public interface to extend

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from crr_monitor.sandbox import organization, points, streams, tables

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from crr_monitor.sandbox.world import World

_concurrency = points.module("core.concurrency")
_events = points.module("services.eventbridge")
_responses = points.module("core.responses")
_sqs = points.module("services.sqs")


class Control:
    """Answers requests under :attr:`PREFIX`; what is wrong with a request is said in ``error``, with status 400."""

    PREFIX = "/_sandbox/"

    def __init__(self, world: World) -> None:
        self._world = world
        self._actions: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "state": self._state,
            "add-fault": self._add_fault,
            "end-fault": self._end_fault,
            "retry": self._retry,
            "run-rule": self._run_rule,
            "organization": lambda body: {"id": organization.found(body["management"], body["members"])},
            "expire": lambda _: {"items": tables.expire()},
        }

    async def __call__(self, scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Any) -> None:  # noqa: ANN401
        """Serve one request."""
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        status, answer = self._answer(scope["path"].removeprefix(self.PREFIX), body)
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(answer).encode()})

    def _answer(self, name: str, body: bytes) -> tuple[int, dict[str, Any]]:
        action = self._actions.get(name)
        if action is None:
            return 400, {"error": f"no such action: {name!r}, there are {', '.join(self._actions)}"}
        try:
            return 200, action(json.loads(body or b"{}"))
        except (KeyError, TypeError, ValueError) as error:
            return 400, {"error": f"{name}: {error!r}"}

    def _state(self, _: dict[str, Any]) -> dict[str, Any]:
        """What is in flight, what waits for the end of an outage, what went wrong."""
        queues = {}
        for queue in list(_sqs._queues._data.values()):
            if queue["messages"]:
                queues[queue["attributes"]["QueueArn"]] = len(queue["messages"])
        return {
            "pending": self._world.clock.pending,
            "invocations": {"running": self._world.invocations.running, **_concurrency.active_counts()},
            "held": self._world.replication.held,
            "queues": queues,
            "functions": streams.backlog(),
            "undeliverable": self._world.delivery.failed,
            "failures": self._world.clock.failures,
            "struck": self._world.faults.struck,
        }

    def _add_fault(self, body: dict[str, Any]) -> dict[str, Any]:
        return {"number": self._world.faults.add(body)}

    def _end_fault(self, body: dict[str, Any]) -> dict[str, Any]:
        self._world.faults.remove(body.get("number"))
        self._world.replication.resume()
        return {}

    def _retry(self, body: dict[str, Any]) -> dict[str, Any]:
        return {"copies": self._world.replication.retry(body["bucket"], body.get("key"), body.get("version_id"))}

    def _run_rule(self, body: dict[str, Any]) -> dict[str, Any]:
        """Let a scheduled rule fire now instead of at its time."""
        with _responses.request_scope(body["account"], body["region"]):
            key = _events._rule_key(body["rule"], body.get("bus", "default"))
            rule = _events._rules[key]
            event = {
                "EventId": _responses.new_uuid(),
                "Source": "aws.events",
                "DetailType": "Scheduled Event",
                "Detail": "{}",
                "EventBusName": rule["EventBusName"],
                "Time": int(_responses.now_epoch()),
                "Resources": [rule["Arn"]],
                "Account": body["account"],
                "Region": body["region"],
            }
            targets = _events._targets.get(key, [])
            for target in targets:
                _events._invoke_target(target, event, rule)
        return {"targets": len(targets)}
