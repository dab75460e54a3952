"""An archive that is switched on in a hub that has run for a while: what had settled before comes there, too."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from crr_monitor.core.model import Status
from crr_monitor.core.times import DAY_MS
from crr_monitor.lambdas import backlog
from crr_monitor.sandbox import Latency, Sandbox, Settings
from crr_monitor.stores.base import system_clock
from tests.cli.running import asked
from tests.e2e.system import HOME, HUB, WAIT_SECONDS, System
from tests.e2e.traffic import Truth, Writer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.traffic import Version

pytestmark = pytest.mark.slow

SOON = Latency(0.01)
SQL = "SELECT key, destination_bucket, status FROM copies ORDER BY key, destination_bucket"


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> Iterator[System]:
    """The system with IAM enforced, and without an archive."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", HUB)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    settings = Settings(seed=1, auth=True, replication=SOON, notification=SOON, event=SOON, trail=SOON)
    with Sandbox(settings) as sandbox:
        sandbox.client("s3", HUB, HOME).create_bucket(Bucket="history")
        yield System(sandbox, "CloudTrail")


def archived(system: System) -> list[tuple[str, ...]]:
    """Every copy that the archive knows."""
    system.sandbox.settle(WAIT_SECONDS, functions=True)
    endpoint = ("--endpoint-url", system.sandbox.endpoint, "--region", HOME)
    found = json.loads(
        asked("s", "query", SQL, "--archive", system.hub.outputs["ArchivePlace"], *endpoint, "-o", "json")
    )
    return [tuple(row.values()) for row in found]


def change(system: System, version: Version, **times: int) -> None:
    """Give a version's item other times, as if they had passed."""
    names = {f"#{name}": name for name in times}
    system.sandbox.client("dynamodb", HUB, HOME).update_item(
        TableName=system.hub.outputs["StatusTableName"],
        Key={"object_key": {"S": version.key}, "version_id": {"S": version.version_id}},
        UpdateExpression="SET " + ", ".join(f"#{name} = :{name}" for name in times),
        ExpressionAttributeNames=names,
        ExpressionAttributeValues={f":{name}": {"N": str(at)} for name, at in times.items()},
    )


def test_what_had_settled_before_is_archived(system: System) -> None:
    """What failed comes with the next question to S3, what arrived when its record leaves; what is new at once."""
    writer = Writer(system, Truth(Status.FAILED))
    early, broken = writer.put("orders", "data/early"), writer.put("orders", "data/broken/early")
    system.sandbox.settle()
    system.drain()
    system.change_hub(ArchiveToS3="Yes", ArchiveBucket="history")
    writer.put("orders", "data/late")
    system.sandbox.settle()
    system.drain()
    new = [("data/late", "orders-dr", "COMPLETED")]
    assert archived(system) == new
    note = json.loads(system.store().note(backlog.NOTE) or b"")
    assert note["stream"] == system.physical_id("ArchiveStream")
    change(system, broken, asks=1, due_at=system_clock() + DAY_MS)
    failed = [("data/broken/early", "locked", "FAILED"), ("data/broken/early", "orders-dr", "COMPLETED")]
    assert archived(system) == [*failed, *new]
    change(system, early, expires_at=1)
    assert system.sandbox.expire() == 1
    assert archived(system) == [*failed, ("data/early", "orders-dr", "COMPLETED"), *new]
