"""Failed versions repaired with S3 Batch Replication in the deployed system: IAM enforced, the hub's own table."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from crr_monitor.cli.main import main
from crr_monitor.core.model import Status
from crr_monitor.sandbox import Latency, Sandbox, Settings
from tests.e2e.system import ABROAD, BUCKETS, HOME, HUB, System, document, rule, statement

if TYPE_CHECKING:
    from collections.abc import Iterator

SOON = Latency(0.01)
SERVICE = "batchoperations.s3.amazonaws.com"
KEYS = ("data/broken/a b+c é", "data/broken/50%")


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    """One system for all tests."""
    settings = Settings(seed=1, auth=True, replication=SOON, notification=SOON, event=SOON, trail=SOON)
    with Sandbox(settings) as sandbox:
        yield System(sandbox, "S3Notifications")


def batch_role(system: System) -> str:
    """A role with no more than User Guide, "Configuring an IAM role for S3 Batch Replication", tells; its ARN."""
    iam = system.sandbox.client("iam", HUB, HOME)
    allow = {"Effect": "Allow"}
    trust = document({**allow, "Principal": {"Service": SERVICE}, "Action": "sts:AssumeRole"})
    arn = str(iam.create_role(RoleName="batch", AssumeRolePolicyDocument=trust)["Role"]["Arn"])
    policy = document(
        {**allow, "Action": "s3:InitiateReplication", "Resource": "arn:aws:s3:::orders/*"},
        {**allow, "Action": ["s3:GetObject", "s3:GetObjectVersion"], "Resource": "arn:aws:s3:::work/p/manifests/*"},
        {**allow, "Action": "s3:PutObject", "Resource": "arn:aws:s3:::work/p/reports/*"},
    )
    iam.put_role_policy(RoleName="batch", PolicyName="p", PolicyDocument=policy)
    return arn


def test_broken_mended_repaired(
    system: System, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A refused copy fails, and fails again in a job; once the policy is mended, a job completes it in the table."""
    s3, store = system.s3(HUB, HOME), system.store()
    versions = {key: str(s3.put_object(Bucket="orders", Key=key, Body=b"x")["VersionId"]) for key in KEYS}
    system.drain()
    system.make_bucket("work", HUB, HOME)
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, os.devnull)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", HUB)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    options = ["--work", "s3://work/p", "--role-arn", batch_role(system), "--region", HOME]
    where = f"{system.hub.outputs['StoreUrl']}&endpoint={system.sandbox.endpoint}"

    def retry() -> list[dict[str, Any]]:
        call = ["--store", where, "retry", "--run", "-y", "-o", "json", *options]
        assert main([*call, "--endpoint-url", system.sandbox.endpoint]) == 0
        groups: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
        system.drain()
        return groups

    def told() -> list[tuple[dict[str | None, Status], str | None, str | None]]:
        found = []
        for key, version in versions.items():
            (record,) = store.versions("orders", key, version)
            copies = {copy.bucket: copy for copy in record.visible_copies}
            statuses = {bucket: copy.status for bucket, copy in copies.items()}
            found.append((statuses, copies["locked"].failure_reason, copies["locked"].evidence))
        return found

    reason = "DstPutObjectNotPermitted"
    broken = {"locked": Status.FAILED, "orders-dr": Status.COMPLETED}
    assert told() == [(broken, reason, "failure-event")] * len(KEYS)
    (group,) = retry()
    assert group["job"]["report"]["failed"] == {reason: len(KEYS)}
    assert [(statuses, why) for statuses, why, _ in told()] == [(broken, reason)] * len(KEYS)
    actions = ["s3:ReplicateObject", "s3:ReplicateDelete", "s3:ReplicateTags"]
    policy = document(statement("Allow", HUB, actions, "locked/*"))
    system.s3(*BUCKETS["locked"]).put_bucket_policy(Bucket="locked", Policy=policy)
    (group,) = retry()
    assert (group["job"]["status"], group["job"]["succeeded"]) == ("Complete", len(KEYS))
    assert [statuses for statuses, _, _ in told()] == [dict.fromkeys(broken, Status.COMPLETED)] * len(KEYS)
    assert retry() == []
    cells = [cell for key, cell in store.cells(None, None) if key.destination == "locked"]
    assert (sum(cell.completed for cell in cells), sum(cell.failed for cell in cells)) == (len(KEYS), 0)


def test_failure_events_of_a_stack(
    system: System, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the hub takes S3's notifications its topic gets the failures already, and only metrics may be missing."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", HUB)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    system.make_bucket("plain-dr", HUB, ABROAD)
    system.make_bucket("plain", HUB, HOME)
    without = rule(1, "plain-dr", "")
    del without["Destination"]["Metrics"]
    system.replicate("plain", without, place=(HUB, HOME))
    system.set_up()
    options = ["--stack-name", "crr-monitor", "--region", HOME, "--endpoint-url", system.sandbox.endpoint, "-o", "json"]
    assert main(["topology", "--enable-failure-events", "orders", "plain", *options]) == 0
    steps = json.loads(capsys.readouterr().out)
    assert [(step["kind"], step["name"]) for step in steps] == [("replication", "plain")]
    assert main(["topology", "--enable-failure-events", "orders", *options, "--stack-name", "none"]) == 1
    assert "there is no stack none" in capsys.readouterr().err
