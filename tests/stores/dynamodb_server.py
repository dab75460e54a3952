"""A DynamoDB for tests, on this machine: the endpoint that the environment names, or a sandbox started here."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import time
import uuid
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from crr_monitor.stores.base import Purged, Query, matches
from crr_monitor.stores.dynamodb import CannotListError, DynamoStore
from crr_monitor.stores.dynamodb_items import derived, item_key, read_item
from crr_monitor.stores.dynamodb_statistics import read_cell
from crr_monitor.stores.dynamodb_tables import (
    EXPIRES_AT,
    KIND,
    NAME,
    STATISTICS_SUFFIX,
    STATUS_SUFFIX,
    create_tables,
)
from tests.stores.contract import KEEP, Backend

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crr_monitor.core.model import Record
    from crr_monitor.core.statistics import Cell, CellKey, Share
    from crr_monitor.stores.base import Batch
    from crr_monitor.stores.dynamodb_items import Item

NAMED = os.environ.get("CRR_MONITOR_TEST_DYNAMODB_ENDPOINT")
"""Read when tests are collected: while they run, no setting of the caller's reaches them."""

LOOPBACK = {"127.0.0.1", "localhost", "::1"}
TRIES = 3
NOBODY = {"AWS_ACCESS_KEY_ID": "111122223333", "AWS_SECRET_ACCESS_KEY": "none", "AWS_REGION": "us-east-1"}
"""Credentials that are none; a sandbox takes a key of twelve digits as the account."""


def without_credentials(patch: pytest.MonkeyPatch) -> None:
    """No credentials, profile or metadata service of the caller's can be found, so no test can reach AWS."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        patch.delenv(name)
    for name, value in {
        **NOBODY,
        "AWS_DEFAULT_REGION": NOBODY["AWS_REGION"],
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }.items():
        patch.setenv(name, value)


def without_pauses(patch: pytest.MonkeyPatch) -> None:
    """What the SDK in this process tries again, it tries again at once: as often as ever, and nobody waits for it."""
    endpoint = pytest.importorskip("botocore.endpoint")
    patch.setattr(endpoint, "time", SimpleNamespace(sleep=lambda _seconds: None))


def serve() -> Iterator[str]:
    """The endpoint, for as long as tests need it."""
    if NAMED:
        if urlsplit(NAMED).hostname not in LOOPBACK:
            pytest.fail(f"CRR_MONITOR_TEST_DYNAMODB_ENDPOINT is not on this machine: {NAMED}")
        yield NAMED
        return
    if importlib.util.find_spec("ministack") is None:
        pytest.skip("no DynamoDB: install ministack, or name one with CRR_MONITOR_TEST_DYNAMODB_ENDPOINT")
    port, server = _started()
    with server:
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


def _started() -> tuple[int, subprocess.Popen[bytes]]:
    """The emulator and its port; on another one where somebody was faster to take it."""
    for _ in range(TRIES):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        environment = {**os.environ, "GATEWAY_PORT": str(port), "SERVICES": "dynamodb,dynamodbstreams"}
        server = subprocess.Popen(
            [sys.executable, "-m", "ministack"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        if _answers(port, server):
            return port, server
        server.kill()
        server.wait()
    pytest.fail(f"the emulator of DynamoDB did not start in {TRIES} tries")


def _answers(port: int, server: subprocess.Popen[bytes]) -> bool:
    """Whether it listens, within a minute."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and server.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return True
        time.sleep(0.1)
    return False


class Server:
    """Clients of one endpoint; they are slow to make, so all tests share them."""

    def __init__(self, endpoint: str) -> None:
        boto3 = pytest.importorskip("boto3")
        options = {"retries": {"mode": "standard", "max_attempts": 3}, "max_pool_connections": 16}
        config = pytest.importorskip("botocore.config").Config(**options)
        self.endpoint = endpoint
        self.client: Any = boto3.client("dynamodb", endpoint_url=endpoint, config=config)
        self.streams: Any = boto3.client("dynamodbstreams", endpoint_url=endpoint, config=config)

    def close(self) -> None:
        """Release connections."""
        self.client.close()
        self.streams.close()


class Stream:
    """The change stream of a table, read as Lambda does: what was handled is not read again, what failed is."""

    def __init__(self, server: Server, table: str) -> None:
        self._streams = server.streams
        self._arn = server.client.describe_table(TableName=table)["Table"]["LatestStreamArn"]
        self._iterators: dict[str, str] = {}

    def shards(self) -> list[str]:
        """Shards of the stream, in its own order (parents first)."""
        answer = self._streams.describe_stream(StreamArn=self._arn)
        return [shard["ShardId"] for shard in answer["StreamDescription"]["Shards"]]

    def drain(self, store: DynamoStore) -> None:
        """Settle all that is there now."""
        for shard in self.shards():
            while True:
                iterator = self._iterators.pop(shard, None) or self._begin(shard)
                try:
                    answer = self._streams.get_records(ShardIterator=iterator)
                except self._streams.exceptions.TrimmedDataAccessException:
                    continue  # DynamoDB Local: an iterator made of an empty shard; begin again
                store.settle(shard, answer["Records"])
                self._iterators[shard] = answer.get("NextShardIterator") or iterator
                if not answer["Records"] or "NextShardIterator" not in answer:
                    break

    def _begin(self, shard: str) -> str:
        request = {"StreamArn": self._arn, "ShardId": shard, "ShardIteratorType": "TRIM_HORIZON"}
        iterator: str = self._streams.get_shard_iterator(**request)["ShardIterator"]
        return iterator

    def entries(self, shard: str) -> list[dict[str, Any]]:
        """Everything in a shard from its beginning."""
        found: list[dict[str, Any]] = []
        iterator = self._begin(shard)
        while True:
            answer = self._streams.get_records(ShardIterator=iterator)
            found.extend(answer["Records"])
            if not answer["Records"] or "NextShardIterator" not in answer:
                return found
            iterator = answer["NextShardIterator"]


class SettledStore(DynamoStore):
    """The store with what AWS does beside it.

    Whoever looks at statistics has the stream settled first, by the clock of the last ``apply``; ``purge`` stands for
    TTL. Listings that the store refuses are answered by a scan, which tests may do; each scan checks the derived
    attributes of every item that it meets.
    """

    def __init__(self, backend: DynamoBackend) -> None:
        self.backend = backend
        tables = backend.status, backend.statistics
        super().__init__(backend.server.client, *tables, KEEP, backend.clock, backend.on_step)

    def close(self) -> None:
        """The client is shared."""

    def apply(self, batch: Batch) -> int:
        """As the process function does it; when that was is remembered."""
        self.backend.applied_at = self.backend.now
        return super().apply(batch)

    def records(self, query: Query) -> Iterator[Record]:
        """Listed by the index where it can, else by a scan."""
        try:
            return super().records(query)
        except CannotListError:
            found = [item.record for item in self.backend.items() if not item.expired(self.backend.now)]
            listed = sorted((one for one in found if matches(one, query)), key=lambda one: -one.sort_at)
            return iter(listed[: query.limit])

    def cells(self, since: int | None, until: int | None, *, unsettled: bool = False) -> Iterator[tuple[CellKey, Cell]]:
        """Settled first."""
        self.backend.settle(self)
        return super().cells(since, until, unsettled=unsettled)

    def pending(self, since: int, until: int) -> Iterator[Share]:
        """Settled first."""
        self.backend.settle(self)
        return super().pending(since, until)

    def pairs(self) -> list[tuple[str, str, str]]:
        """Settled first."""
        self.backend.settle(self)
        return super().pairs()

    def purge(self, limit: int = 20_000) -> Purged:
        """What DynamoDB's TTL does at some time: expired items are deleted, and the stream tells."""
        self.backend.settle(self)
        over = [item for item in self.backend.items() if item.expired(self.backend.now)][:limit]
        for item in over:
            self.backend.delete(item)
        self.backend.applied_at = self.backend.now
        self.backend.settle(self)
        expired = sum(not item.record.settled for item in over)
        cells = self.backend.delete_old_statistics() if len(over) < limit else 0
        return Purged(len(over) - expired, expired, cells)


class DynamoBackend(Backend):
    """Two tables of their own."""

    def __init__(self, server: Server) -> None:
        super().__init__()
        self.server = server
        self.applied_at = self.now
        prefix = f"test-{uuid.uuid4().hex}"
        create_tables(server.client, prefix)
        self.status, self.statistics = prefix + STATUS_SUFFIX, prefix + STATISTICS_SUFFIX
        self.stream = Stream(server, self.status)

    def open(self) -> SettledStore:
        """One more handle."""
        return SettledStore(self)

    def settle(self, store: DynamoStore) -> None:
        """What the settle function does all the time: at once, however much later a test's clock is."""
        now, self.now = self.now, self.applied_at
        try:
            self.stream.drain(store)
        finally:
            self.now = now

    def delete(self, item: Item) -> None:
        """An item leaves."""
        self.server.client.delete_item(TableName=self.status, Key=item_key(item.key, item.version_id))

    def items(self) -> list[Item]:
        """Everything in the status table."""
        found = []
        for attributes in self.raw_items():
            item = read_item(attributes)
            assert item is not None
            assert item.derived == derived(item.record, item.derived.changed_at, KEEP, asked=item.asks > 0)
            assert (item.due_at is None) == (item.asks == 0)
            found.append(item)
        return found

    def raw_items(self) -> list[dict[str, Any]]:
        """The same as DynamoDB has it."""
        return list(self._scan(self.status))

    def delete_old_statistics(self) -> int:
        """TTL on the statistics table; returns how many cells went."""
        cells = 0
        for attributes in self._scan(self.statistics):
            if EXPIRES_AT in attributes and int(attributes[EXPIRES_AT]["N"]) * 1000 <= self.now:
                key = {name: attributes[name] for name in (KIND, NAME)}
                self.server.client.delete_item(TableName=self.statistics, Key=key)
                cells += attributes[KIND]["S"].startswith("cells#") and not read_cell(attributes)[1].empty
        return cells

    def _scan(self, table: str) -> Iterator[dict[str, Any]]:
        for page in self.server.client.get_paginator("scan").paginate(TableName=table, ConsistentRead=True):
            yield from page["Items"]

    def close(self) -> None:
        """Remove the tables."""
        for table in (self.status, self.statistics):
            self.server.client.delete_table(TableName=table)
