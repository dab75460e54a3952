"""Changes of records to statistics: reads the status table's change stream, and counts each change exactly once.

Where there is an archive, the rows of all entries go there before any of them is counted, also of those that were
counted when they came before. So a run that ends anywhere leaves nothing out: what failed comes again as a whole, and
rows that are sent twice say the same under the same ``row_id``.

Counting once needs the position in each *shard*, since only within a shard are sequence numbers in order. Lambda names
the shard only to a function whose event source mapping has a tumbling window (Developer Guide, "Implementing stateful
DynamoDB stream processing in Lambda": ``window``, ``state``, ``shardId``, ``isFinalInvokeForWindow``). So the mapping
has one, and nothing of it is used but the shard's name: the answer's ``state`` has to be there and stays empty, and
the final call of a window brings no entries. Without the shard's name nothing is counted, and the error says why; a
position for the stream as a whole would skip what a slower shard still has to bring.

The same page says that entries which come again may come out of order. They do not count again, as they lie before the
position; entries that come for the first time are in order.
"""

from __future__ import annotations

import functools
import importlib
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from msgspec import MsgspecError

from crr_monitor.environment import environment
from crr_monitor.lambdas.backlog import changes_of, since_of
from crr_monitor.lambdas.log import write
from crr_monitor.lambdas.settings import SettleSettings, from_environment
from crr_monitor.sinks import cloudwatch
from crr_monitor.sinks.cloudwatch import PublishError
from crr_monitor.sinks.firehose import OPTIONS as FIREHOSE_OPTIONS
from crr_monitor.sinks.firehose import ArchiveError, Firehose
from crr_monitor.sinks.points import of_changes
from crr_monitor.stores.base import StoreError, system_clock
from crr_monitor.stores.dynamodb import DynamoStore
from crr_monitor.stores.dynamodb_items import read_change
from crr_monitor.stores.dynamodb_tables import CLIENT_OPTIONS, parse_address

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from crr_monitor.lambdas.context import Context
    from crr_monitor.sinks.words import Detail
    from crr_monitor.stores.dynamodb_items import Transition

_UNREADABLE = (KeyError, TypeError, ValueError, AttributeError, MsgspecError)
"""What reading an item raises that is not of this store's making, or was damaged."""


class Store(Protocol):
    """What of the store is needed."""

    def settle(self, shard: str, entries: Sequence[Mapping[str, Any]]) -> list[Transition]: ...  # noqa: D102


class SettleFailedError(Exception):
    """Nothing of a batch could be counted; it comes again. The text says why."""


class _UnreadableError(Exception):
    """An entry that cannot be read: its index in the batch, its sequence number, and why."""

    def __init__(self, index: int, sequence: str, reason: str) -> None:
        super().__init__(f"change {sequence} cannot be read: {reason}")
        self.index = index
        self.sequence = sequence


def handler(event: dict[str, Any], context: Context) -> dict[str, Any]:
    """The function of the status table's change stream."""
    return run(store(), event, context, publish, archive)


@functools.cache
def store() -> DynamoStore:
    """Made once, from the environment.

    Raises:
        SettingsError: a variable is missing or wrong.
    """
    settings = from_environment(SettleSettings, environment())
    address = parse_address(settings.store)
    config = importlib.import_module("botocore.config").Config(**CLIENT_OPTIONS)
    boto3 = importlib.import_module("boto3")
    client = boto3.client("dynamodb", region_name=address.region, endpoint_url=address.endpoint, config=config)
    return DynamoStore(client, address.status, address.statistics)


@functools.cache
def _cloudwatch() -> tuple[cloudwatch.Client, Detail, str]:
    settings = from_environment(SettleSettings, environment())
    config = importlib.import_module("botocore.config").Config(**cloudwatch.OPTIONS)
    endpoint = parse_address(settings.store).endpoint
    client = importlib.import_module("boto3").client("cloudwatch", endpoint_url=endpoint, config=config)
    return client, settings.metrics_detail, settings.metrics_namespace


def publish(changes: Sequence[Transition]) -> None:
    """Copies that arrived or failed, as metrics. Raises ``PublishError``."""
    client, detail, namespace = _cloudwatch()
    cloudwatch.publish(client, of_changes(changes, detail), system_clock(), namespace)


@functools.cache
def _firehose() -> tuple[Firehose, int] | None:
    """The archive, and since when all changes go there. Raises ``StoreError``."""
    settings = from_environment(SettleSettings, environment())
    if not settings.archive_stream:
        return None
    config = importlib.import_module("botocore.config").Config(**FIREHOSE_OPTIONS)
    endpoint = parse_address(settings.store).endpoint
    client = importlib.import_module("boto3").client("firehose", endpoint_url=endpoint, config=config)
    since = since_of(store(), settings.archive_stream, system_clock())
    return Firehose(client, settings.archive_stream), since


def archive(entries: Sequence[Mapping[str, Any]]) -> int:
    """Rows of entries to the archive, if there is one; gives their number. Raises ``ArchiveError``, ``StoreError``."""
    found = _firehose()
    if found is None:
        return 0
    firehose, since = found
    return firehose.send(changes_of(entries, since), since)


def run(
    store: Store,
    event: Mapping[str, Any],
    context: Context,
    publish: Callable[[Sequence[Transition]], None] = lambda _changes: None,
    archive: Callable[[Sequence[Mapping[str, Any]]], int] = lambda _entries: 0,
) -> dict[str, Any]:
    """Count the entries of one event; the answer is Lambda's partial batch response, with the state of the window.

    ``archive`` gets all entries before they are counted, each time they come. ``publish`` gets what was counted, each
    change once; what it could not do is not done again.

    Raises:
        SettleFailedError: none of them could be archived or counted, or ``publish`` failed. They come again, and those
            that were counted are not counted again: so it only makes the function's error metric tell.
    """
    entries: Sequence[Mapping[str, Any]] = event.get("Records") or []
    if not entries:
        return _answer()  # the end of a window
    shard = shard_of(event)
    try:
        return _answer(*_settle(_Steps(store, archive, publish), shard, entries, context))
    except PublishError as error:
        write("ERROR", "counted, but not all metrics were published", shard=shard, reason=str(error))
        raise SettleFailedError(str(error)) from error
    except (StoreError, ArchiveError, _UnreadableError) as error:
        write("ERROR", "not settled", shard=shard, entries=len(entries), reason=str(error))
        message = f"none of {len(entries)} changes could be counted, they come again: {error}"
        raise SettleFailedError(message) from error


class _Steps(NamedTuple):
    """What is done with entries, in this order."""

    store: Store
    archive: Callable[[Sequence[Mapping[str, Any]]], int]
    publish: Callable[[Sequence[Transition]], None]

    def take(self, shard: str, entries: Sequence[Mapping[str, Any]]) -> dict[str, int]:
        """Archive, count, publish; gives how many rows and changes."""
        archived = self.archive(entries)
        counted = self.store.settle(shard, entries)
        self.publish(counted)
        return {"archived": archived, "counted": len(counted)}


def _settle(steps: _Steps, shard: str, entries: Sequence[Mapping[str, Any]], context: Context) -> list[str]:
    """Settle entries; the sequence number of the first that cannot be read, where others come before it."""
    unreadable: _UnreadableError | None = None
    try:
        done = steps.take(shard, entries)
    except _UNREADABLE:
        unreadable = _first_unreadable(entries)
        if unreadable is None:
            raise  # no entry is to blame
        if unreadable.index == 0:
            raise unreadable from None
        done = steps.take(shard, entries[: unreadable.index])
    figures = {"shard": shard, "entries": len(entries), **done}
    if unreadable is None:
        write("INFO", "settled", request_id=context.aws_request_id, **figures)
        return []
    write("ERROR", "settled in part", request_id=context.aws_request_id, **figures, reason=str(unreadable))
    return [unreadable.sequence]


def _answer(*failed: str) -> dict[str, Any]:
    """All from the named sequence number on comes again; with a window, an answer without ``state`` is an error."""
    return {"state": {}, "batchItemFailures": [{"itemIdentifier": sequence} for sequence in failed]}


def shard_of(event: Mapping[str, Any]) -> str:
    """The name under which a shard's position is kept: with the stream's, so that a new stream begins anew.

    Raises:
        SettleFailedError: the event names no shard.
    """
    shard = event.get("shardId")
    if not shard:
        message = (
            "the event does not name the stream's shard, without which changes cannot be counted once: set"
            " TumblingWindowInSeconds on the function's event source mapping (the hub's template does: deploy it again)"
        )
        raise SettleFailedError(message)
    stream = event.get("eventSourceARN") or event["Records"][0].get("eventSourceARN", "")
    return f"{stream}/{shard}"


def _first_unreadable(entries: Sequence[Mapping[str, Any]]) -> _UnreadableError | None:
    for index, entry in enumerate(entries):
        try:
            read_change(entry)
        except _UNREADABLE as error:
            return _UnreadableError(index, str(entry["dynamodb"]["SequenceNumber"]), f"{type(error).__name__}: {error}")
    return None
