"""The tables of the DynamoDB store as data: template, tests and code read the same names from here.

Two tables. *Status* holds one item per object version for as long as its retention lasts, and its change stream is the
outbox. *Statistics* holds what follows from that stream (counters, positions, marks of what was counted) and the
monitor's own few items.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import parse_qsl, urlsplit

from msgspec import Struct

from crr_monitor.stores.base import StoreError

if TYPE_CHECKING:
    from collections.abc import Mapping

KEY = "object_key"
VERSION_ID = "version_id"
OPEN_IN = "open_in"
SORT_AT = "sort_at"
ASKS = "asks"
DUE_AT = "due_at"
BORN_AT = "born_at"
CHANGED_AT = "changed_at"
REVISION = "revision"
EXPIRES_AT = "expires_at"
"""Epoch seconds, as DynamoDB's TTL wants them (Developer Guide, "Time to Live"); all other times are milliseconds."""

KIND = "kind"
NAME = "name"

OPEN_INDEX = "open"
"""Sparse: only items that have ``open_in`` are in it, that is what is pending, failed or uncertain."""

DUE_INDEX = "due"
"""Sparser still: of these, what S3 was asked about, by when the next question is due."""

OPEN_SHARDS = 8
"""Partitions per class of the index. One takes 1,000 writes a second, and a throttled index throttles its table."""

STATUS_SUFFIX = "-status"
STATISTICS_SUFFIX = "-statistics"


class Client(Protocol):
    """The part of boto3's DynamoDB client that the store uses; requests and answers are DynamoDB's own JSON."""

    def update_item(self, **request: Any) -> Any: ...  # noqa: ANN401, D102
    def put_item(self, **request: Any) -> Any: ...  # noqa: ANN401, D102
    def get_item(self, **request: Any) -> Any: ...  # noqa: ANN401, D102
    def query(self, **request: Any) -> Any: ...  # noqa: ANN401, D102
    def batch_get_item(self, **request: Any) -> Any: ...  # noqa: ANN401, D102
    def batch_write_item(self, **request: Any) -> Any: ...  # noqa: ANN401, D102
    def transact_write_items(self, **request: Any) -> Any: ...  # noqa: ANN401, D102
    def close(self) -> None: ...  # noqa: D102


class TableDefinition(Struct, frozen=True):
    """One table. ``keys`` are partition and sort key with their types, also of an index, which has all attributes."""

    suffix: str
    keys: tuple[tuple[str, str], ...]
    indexes: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = ()
    stream: str | None = None
    ttl: str = EXPIRES_AT


STATUS = TableDefinition(
    STATUS_SUFFIX,
    ((KEY, "S"), (VERSION_ID, "S")),
    ((OPEN_INDEX, ((OPEN_IN, "S"), (SORT_AT, "N"))), (DUE_INDEX, ((OPEN_IN, "S"), (DUE_AT, "N")))),
    "NEW_AND_OLD_IMAGES",
)
STATISTICS = TableDefinition(STATISTICS_SUFFIX, ((KIND, "S"), (NAME, "S")))


def key_of(kind: str, name: str) -> dict[str, Any]:
    """Primary key in the statistics table."""
    return {KIND: {"S": kind}, NAME: {"S": name}}


def _key_schema(keys: tuple[tuple[str, str], ...]) -> list[dict[str, str]]:
    return [{"AttributeName": name, "KeyType": kind} for (name, _), kind in zip(keys, ("HASH", "RANGE"), strict=True)]


def cloudformation_properties(table: TableDefinition) -> dict[str, Any]:
    """What ``AWS::DynamoDB::Table`` has to say for the store to work (encryption and names are the template's)."""
    attributes = dict(table.keys)
    for _, keys in table.indexes:
        attributes.update(keys)
    properties: dict[str, Any] = {
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [{"AttributeName": name, "AttributeType": kind} for name, kind in attributes.items()],
        "KeySchema": _key_schema(table.keys),
        "TimeToLiveSpecification": {"AttributeName": table.ttl, "Enabled": True},
    }
    if table.indexes:
        properties["GlobalSecondaryIndexes"] = [
            {"IndexName": name, "KeySchema": _key_schema(keys), "Projection": {"ProjectionType": "ALL"}}
            for name, keys in table.indexes
        ]
    if table.stream is not None:
        properties["StreamSpecification"] = {"StreamViewType": table.stream}
    return properties


def create_tables(client: Any, prefix: str) -> None:  # noqa: ANN401 - boto3's whole client, waiters included
    """Make both tables, named by ``prefix`` and their suffix: for tests, and for trials without a stack."""
    for table in (STATUS, STATISTICS):
        name = prefix + table.suffix
        request = cloudformation_properties(table)
        ttl = request.pop("TimeToLiveSpecification")
        if "StreamSpecification" in request:
            request["StreamSpecification"] = {**request["StreamSpecification"], "StreamEnabled": True}
        client.create_table(TableName=name, **request)
        client.get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
        client.update_time_to_live(TableName=name, TimeToLiveSpecification=ttl)


class Address(Struct, frozen=True):
    """Where a store is: its two tables, and whatever of Region and endpoint was said."""

    status: str
    statistics: str
    region: str | None = None
    endpoint: str | None = None


def parse_address(url: str) -> Address:
    """``dynamodb://TABLE[?region=R&endpoint=URL&statistics=TABLE]``; TABLE is the status table.

    The statistics table is found by name where the status table's ends in ``-status``, as the stack's does.

    Raises:
        StoreError: naming what is wrong with it, and the form.
    """
    form = "the form is dynamodb://TABLE[?region=R&endpoint=URL&statistics=TABLE]"
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = sorted(options.keys() - {"region", "endpoint", "statistics"})
    empty = sorted(name for name, value in options.items() if not value)
    if parts.scheme != "dynamodb" or not parts.netloc or parts.path.strip("/") or parts.fragment:
        message = f"no DynamoDB store: {url!r}; {form}"
    elif unknown or empty:
        what = f"unknown option {unknown[0]!r}" if unknown else f"option {empty[0]!r} is empty"
        message = f"{url!r}: {what}; {form}"
    elif "statistics" not in options and not parts.netloc.endswith(STATUS_SUFFIX):
        message = f"{url!r}: its name does not end in {STATUS_SUFFIX!r}: name the other table with statistics=; {form}"
    else:
        statistics = options.get("statistics", parts.netloc.removesuffix(STATUS_SUFFIX) + STATISTICS_SUFFIX)
        return Address(parts.netloc, statistics, options.get("region"), options.get("endpoint"))
    raise StoreError(message)


CLIENT_OPTIONS: Mapping[str, Any] = {
    # Standard mode backs off with jitter on throttling, and sheds retries while everything fails.
    "retries": {"mode": "standard", "max_attempts": 8},
    "connect_timeout": 3,
    "read_timeout": 10,
    "max_pool_connections": 32,
    # The SDK's check of each request takes a tenth of its time; ours are of few shapes, all of them tested.
    "parameter_validation": False,
}


def connect(address: Address) -> Client:
    """A client with time-outs and retries set.

    Raises:
        StoreError: boto3 is not installed, or no Region is known.
    """
    try:
        boto3 = importlib.import_module("boto3")
        config = importlib.import_module("botocore.config").Config(**CLIENT_OPTIONS)
        no_region = importlib.import_module("botocore.exceptions").NoRegionError
    except ImportError as error:
        message = "a DynamoDB store needs boto3: install it with crr-monitor's extra 'aws'"
        raise StoreError(message) from error
    try:
        client: Client = boto3.client(
            "dynamodb", region_name=address.region, endpoint_url=address.endpoint, config=config
        )
    except no_region as error:
        message = f"store {address.status}: no Region is known: add ?region= to its address, or set AWS_DEFAULT_REGION"
        raise StoreError(message) from error
    return client
