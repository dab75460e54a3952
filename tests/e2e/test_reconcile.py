"""Replicas whose events never came: the deployed system asks S3, with IAM enforced, and tells each version right."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from crr_monitor.core.model import Status
from crr_monitor.core.notices import UNANSWERED_NOTE, decode_unanswered
from crr_monitor.sandbox import Latency, Sandbox, Settings
from tests.e2e.system import AGENT, BUCKETS, HOME, HUB, System, document, statement

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crr_monitor.core.model import Record

SOON = Latency(0.01)
LOST = ("orders-dr", "audit", "locked", "theirs-dr")
"""Buckets from which no event arrives: the destinations."""

COMPLETED, FAILED, PENDING = Status.COMPLETED, Status.FAILED, Status.PENDING


class Scene:
    """The system without events of replicas, and with questions after one second."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.sandbox = system.sandbox
        self.store = system.store()
        for bucket in LOST:
            self.lose(bucket)

    def lose(self, bucket: str) -> int:
        """From now on no event about a bucket arrives; gives the fault's number."""
        return self.sandbox.fault("drop", match={"bucket": bucket})

    def s3(self, bucket: str) -> Any:  # noqa: ANN401 - boto3 makes its classes at run time
        """The client of a bucket's owner."""
        return self.system.s3(*BUCKETS[bucket])

    def put(self, bucket: str, key: str) -> str:
        """A version, of which the source's event has arrived and S3 has done what it could."""
        version_id = str(self.s3(bucket).put_object(Bucket=bucket, Key=key, Body=b"x")["VersionId"])
        self.system.drain()
        return version_id

    def record(self, bucket: str, key: str, version_id: str) -> Record:
        """The only record of a version."""
        (record,) = self.store.versions(bucket, key, version_id)
        return record

    def copies(self, bucket: str, key: str, version_id: str) -> dict[str | None, tuple[Status, str | None]]:
        """Status of each copy, and where it is known from."""
        record = self.record(bucket, key, version_id)
        return {copy.bucket: (copy.status, copy.evidence) for copy in record.visible_copies}

    def reconcile(self, seconds: float = 2.1) -> dict[str, Any]:
        """Some seconds later the function runs, as its schedule lets it; gives its figures."""
        time.sleep(seconds)
        functions = self.sandbox.client("lambda", HUB, HOME)
        name = self.system.hub.outputs["ReconcileFunctionName"]
        answer = functions.invoke(FunctionName=name, Payload=json.dumps({"detail-type": "Scheduled Event"}))
        figures: dict[str, Any] = json.load(answer["Payload"])
        assert "FunctionError" not in answer, figures
        self.sandbox.settle(functions=True)
        return figures


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    """One system for all tests; each has versions of its own."""
    settings = Settings(seed=1, auth=True, replication=SOON, notification=SOON, event=SOON, trail=SOON)
    with Sandbox(settings) as sandbox:
        yield Scene(System(sandbox, "CloudTrail", AskAfterSeconds="1"))


def test_lost_events(scene: Scene) -> None:
    """Of one and of several destinations, also across accounts, and of delete markers: S3 tells what events did not."""
    one = ("orders", "data/one", scene.put("orders", "data/one"))
    two = ("orders", "data/audit/two", scene.put("orders", "data/audit/two"))
    far = ("theirs", "x/far", scene.put("theirs", "x/far"))
    marker = ("orders", "data/one", str(scene.s3("orders").delete_object(Bucket="orders", Key="data/one")["VersionId"]))
    scene.system.drain()
    assert [scene.record(*each).status for each in (one, two, far, marker)] == [PENDING] * 4
    figures = scene.reconcile()
    done = (COMPLETED, "head")
    assert scene.copies(*one) == {"orders-dr": done}
    assert scene.copies(*two) == {"audit": done, "orders-dr": done}
    assert scene.copies(*far) == {"orders-dr": done, "theirs-dr": done}
    assert scene.copies(*marker) == {"orders-dr": done}
    assert scene.record(*marker).delete_marker
    assert figures["answers"] == {"completed": 3, "there": 1, "found": 5}
    assert (figures["due"], figures["records_changed"], figures["could_not_ask"]) == (4, 4, [])
    cells = [cell for key, cell in scene.store.cells(None, None) if key.source == "orders"]
    assert sum(cell.completed for cell in cells) == sum(cell.unknown_lag for cell in cells) == 4
    assert sum(cell.pending for cell in cells) == 0


def test_failed_and_repaired_outside(scene: Scene) -> None:
    """Which of two copies failed is found by asking; once somebody else has repaired it, that is seen, too."""
    version = ("orders", "data/broken/a", scene.put("orders", "data/broken/a"))
    figures = scene.reconcile()
    assert figures["answers"] == {"failed": 1, "found": 1, "missing": 1}
    assert scene.copies(*version) == {"locked": (FAILED, "head"), "orders-dr": (COMPLETED, "head")}
    actions = ["s3:ReplicateObject", "s3:ReplicateDelete", "s3:ReplicateTags"]
    policy = document(statement("Allow", HUB, actions, "locked/*"))
    scene.s3("locked").put_bucket_policy(Bucket="locked", Policy=policy)
    assert scene.sandbox.retry("orders", "data/broken/a") == 1
    scene.sandbox.settle()
    scene.reconcile()
    assert scene.copies(*version) == {"locked": (COMPLETED, "head"), "orders-dr": (COMPLETED, "head")}
    assert scene.record(*version).status is COMPLETED


def test_still_pending(scene: Scene) -> None:
    """While the destination is out of order the record stays pending, and the pauses between questions grow."""
    outage = scene.sandbox.outage(bucket="orders-dr")
    version = ("orders", "data/slow", scene.put("orders", "data/slow"))
    assert scene.reconcile()["answers"] == {"pending": 1}
    assert scene.reconcile()["answers"] == {"pending": 1}
    assert scene.reconcile(0)["due"] == 0
    assert scene.copies(*version) == {"orders-dr": (PENDING, None)}
    scene.sandbox.end_fault(outage)
    scene.sandbox.settle()
    assert scene.reconcile()["answers"] == {"completed": 1}
    assert scene.copies(*version) == {"orders-dr": (COMPLETED, "head")}


def test_gone_at_the_source(scene: Scene) -> None:
    """A version that was deleted before it was replicated, of which no event told, is told as deleted at the source."""
    outages = [scene.sandbox.outage(bucket=bucket) for bucket in ("orders-dr", "theirs-dr")]
    version = ("theirs", "x/gone", scene.put("theirs", "x/gone"))
    lost = scene.lose("theirs")
    scene.s3("theirs").delete_object(Bucket="theirs", Key="x/gone", VersionId=version[2])
    scene.sandbox.settle()
    for number in (*outages, lost):
        scene.sandbox.end_fault(number)
    assert scene.reconcile()["answers"] == {"gone": 1, "missing": 2}
    gone = (Status.SOURCE_DELETED, None)
    assert scene.copies(*version) == {"orders-dr": gone, "theirs-dr": gone}


def test_agent_role_removed(scene: Scene) -> None:
    """Without the agent's role its buckets cannot be asked: that is told with the reason, and nothing else changes."""
    two = ("orders", "data/audit/unreached", scene.put("orders", "data/audit/unreached"))
    far = ("theirs", "x/unreached", scene.put("theirs", "x/unreached"))
    with scene.system.without_agent_role() as role:
        figures = scene.reconcile()
    assert scene.copies(*two) == {"audit": (PENDING, None), "orders-dr": (COMPLETED, "head")}
    assert scene.copies(*far) == {"theirs-dr": (PENDING, None), "orders-dr": (COMPLETED, "head")}
    refused = sorted(figures["could_not_ask"], key=lambda each: str(each["bucket"]))
    assert [(each["bucket"], each["account"], each["cause"], each["permission"]) for each in refused] == [
        (bucket, AGENT, "account-unreachable", "sts:AssumeRole") for bucket in ("audit", "theirs", "theirs-dr")
    ]
    assert all(role in each["text"] for each in refused)
    note = decode_unanswered(scene.store.note(UNANSWERED_NOTE)) or []
    assert sorted(each.bucket for each in note) == ["audit", "theirs", "theirs-dr"]


@pytest.mark.slow
def test_agent_role_is_back(scene: Scene) -> None:
    """Once the role is there again, what could not be asked is, and nothing is unanswered any more."""
    version = ("orders", "data/audit/back", scene.put("orders", "data/audit/back"))
    with scene.system.without_agent_role():
        assert scene.reconcile()["could_not_ask"] != []
    end = time.monotonic() + 120  # the function remembers the refusal for a moment
    while scene.record(*version).status is PENDING and time.monotonic() < end:
        scene.reconcile()
    assert scene.copies(*version)["audit"] == (COMPLETED, "head")
    note = decode_unanswered(scene.store.note(UNANSWERED_NOTE)) or []
    assert "audit" not in {each.bucket for each in note}
