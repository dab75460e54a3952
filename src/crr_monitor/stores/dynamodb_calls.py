"""Calls to one DynamoDB table: the SDK's errors become ours here only, and partial answers are asked for again."""

from __future__ import annotations

import importlib
import random
import time
from typing import TYPE_CHECKING, Any

from crr_monitor.stores.base import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from crr_monitor.stores.dynamodb_items import Attributes
    from crr_monitor.stores.dynamodb_tables import Client

TRIES = 8
"""How often what was throttled or collided is tried; with the pauses between that is about ten seconds."""

FIRST_PAUSE = 0.05
BATCH_GET = 100
BATCH_WRITE = 25
TRANSACTION = 100
"""Most actions in one call (API Reference: BatchGetItem, BatchWriteItem, TransactWriteItems)."""

_PASSING = frozenset({"TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"})
"""Reasons of a cancelled transaction that go away by themselves; the SDK does not try these again."""

_THROTTLED = (
    "it is throttled, and stayed so through all retries: nothing is lost, what was not stored comes again;"
    " raise the account's table quotas if it goes on"
)
_NO_ACCESS = "allow the action on this table to the role in use"
_HINTS = {
    "ResourceNotFoundException": "there is no such table in this account and Region: deploy the hub, or check --store",
    "AccessDeniedException": _NO_ACCESS,
    "UnrecognizedClientException": "the credentials are not valid in this account or Region",
    "ExpiredTokenException": "the credentials have expired: sign in again",
    "ProvisionedThroughputExceededException": _THROTTLED,
    "ThrottlingException": _THROTTLED,
    "RequestLimitExceeded": _THROTTLED,
}


class ConditionFailedError(Exception):
    """The condition of a write did not hold. ``item`` is what is there instead, where that was asked for."""

    def __init__(self, item: Attributes | None = None) -> None:
        super().__init__(item)
        self.item = item


class Table:
    """One table. Every method raises :class:`StoreError`, which names the table, the cause and what to do."""

    def __init__(self, client: Client, name: str, pause: Callable[[float], None] = time.sleep) -> None:
        self.client = client
        self.name = name
        self._pause = pause
        self._sdk = importlib.import_module("botocore.exceptions")

    def call(self, operation: str, **request: Any) -> Any:  # noqa: ANN401 - DynamoDB's own JSON
        """One call about this table.

        Raises:
            ConditionFailedError: the write's condition did not hold.
        """
        return self._call(operation, TableName=self.name, **request)

    def _call(self, operation: str, **request: Any) -> Any:  # noqa: ANN401
        try:
            return getattr(self.client, operation)(**request)
        except self._sdk.ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            if code == "ConditionalCheckFailedException":
                raise ConditionFailedError(error.response.get("Item")) from None
            if code == "TransactionCanceledException":
                raise _CancelledError(error.response.get("CancellationReasons", [])) from error
            text = error.response.get("Error", {}).get("Message") or code
            raise self._error(operation, f"{code}: {text}", _HINTS.get(code)) from error
        except self._sdk.BotoCoreError as error:
            raise self._error(operation, str(error), "check the network, the Region and the credentials") from error

    def _error(self, operation: str, text: str, hint: str | None = None) -> StoreError:
        message = f"table {self.name}, {operation.replace('_', ' ')}: {text}" + (f" ({hint})" if hint else "")
        return StoreError(message)

    def get(self, key: Attributes) -> Attributes | None:
        """The item as it is now."""
        found: Attributes | None = self.call("get_item", Key=key, ConsistentRead=True).get("Item")
        return found

    def query(self, limit: int | None = None, **request: Any) -> Iterator[Attributes]:  # noqa: ANN401
        """All items that a query gives, page by page; ``limit`` is the size of a page."""
        if limit is not None:
            request["Limit"] = limit
        while True:
            page = self.call("query", **request)
            yield from page.get("Items", [])
            if not page.get("LastEvaluatedKey"):
                return
            request["ExclusiveStartKey"] = page["LastEvaluatedKey"]

    def get_many(self, keys: Sequence[Attributes]) -> Iterator[Attributes]:
        """Those of the items that are there, as they are now, in any order."""
        for start in range(0, len(keys), BATCH_GET):
            left: Any = {self.name: {"Keys": list(keys[start : start + BATCH_GET]), "ConsistentRead": True}}
            for _ in self._tries("batch_get_item"):
                answer = self._call("batch_get_item", RequestItems=left)
                yield from answer["Responses"].get(self.name, [])
                left = answer.get("UnprocessedKeys")
                if not left:
                    break

    def put_many(self, items: Sequence[Attributes]) -> None:
        """Write items as they are, in any order."""
        for start in range(0, len(items), BATCH_WRITE):
            requests = [{"PutRequest": {"Item": item}} for item in items[start : start + BATCH_WRITE]]
            left: Any = {self.name: requests}
            for _ in self._tries("batch_write_item"):
                left = self._call("batch_write_item", RequestItems=left).get("UnprocessedItems")
                if not left:
                    break

    def transact(self, updates: Sequence[Attributes]) -> None:
        """All of some updates of this table or none: at most :data:`TRANSACTION`, at twice the cost of writes.

        Raises:
            ConditionFailedError: some condition did not hold.
        """
        operation = "transact_write_items"
        actions = [{"Update": {"TableName": self.name, **update}} for update in updates]
        for _ in self._tries(operation):
            try:
                self._call(operation, TransactItems=actions)
            except _CancelledError as error:
                if "ConditionalCheckFailed" in error.codes:
                    raise ConditionFailedError(None) from None
                if not error.codes <= _PASSING:
                    raise self._error(operation, f"cancelled: {', '.join(sorted(error.codes))}") from error
            else:
                return

    def _tries(self, operation: str) -> Iterator[None]:
        """As many turns as there are tries, with growing random pauses between; who runs out of them gets an error."""
        for number in range(TRIES):
            if number:
                self._pause(FIRST_PAUSE * 2**number * (0.5 + random.random() / 2))  # noqa: S311 - no secret
            yield
        raise self._error(operation, "still not done after all tries", _THROTTLED)


class _CancelledError(Exception):
    """A transaction did not happen; ``codes`` are the reasons that DynamoDB gives."""

    def __init__(self, reasons: list[Attributes]) -> None:
        super().__init__(reasons)
        self.codes = {reason.get("Code") or "None" for reason in reasons} - {"None"}
