"""``topology --enable-failure-events``: planned, applied on demand, kept for the way back."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from crr_monitor.cli.main import main
from crr_monitor.decode import Decoded, decode
from crr_monitor.sandbox import Sandbox, Settings
from tests.cli.running import FAILED, OK, USAGE
from tests.sandbox.making import EAST, FAST, HOME, OTHER, WEST, World, rule

pytest.importorskip("ministack")
pytest.importorskip("boto3")

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """One local AWS for the module."""
    with Sandbox(Settings(seed=5, replication=FAST, notification=FAST, event=FAST, trail=FAST)) as running:
        yield running


class Scene:
    """A bucket whose copies fail, and the program."""

    def __init__(self, sandbox: Sandbox, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.world = World(sandbox)
        self.folder = folder
        self._capsys = capsys
        self.source, self.replica = self.world.bucket("orders"), self.world.bucket("theirs", OTHER, WEST)
        self.world.replicate(self.source, rule(self.replica))
        self.access = ["--endpoint-url", sandbox.endpoint, "--region", EAST]

    def call(self, *arguments: str, status: int = OK) -> tuple[str, str]:
        """Ask for failure events of the bucket; gives both streams."""
        options = ["--enable-failure-events", self.source, *self.access, "--keep", str(self.folder / "kept")]
        found = main(["--store", str(self.folder / "a.db"), "topology", *options, *arguments])
        streams = self._capsys.readouterr()
        assert found == status, streams.err
        return streams.out, streams.err

    def settings(self) -> tuple[object, object]:
        """The bucket's rules and notifications."""
        s3 = self.world.s3()
        told = s3.get_bucket_notification_configuration(Bucket=self.source)
        return (
            s3.get_bucket_replication(Bucket=self.source)["ReplicationConfiguration"],
            {name: value for name, value in told.items() if name != "ResponseMetadata"},
        )


@pytest.fixture
def scene(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Scene:
    """Credentials of the home account, and no other setting of AWS."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", HOME)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    return Scene(sandbox, tmp_path, capsys)


def test_plan_changes_nothing(scene: Scene) -> None:
    """Without --apply every step is printed with its command, and the cost; nothing is done."""
    before = scene.settings()
    out, err = scene.call("-o", "json")
    steps = json.loads(out)
    assert [(step["do"], step["kind"]) for step in steps[-2:]] == [
        ("change", "notification"),
        ("change", "replication"),
    ]
    command = shlex.split(steps[-1]["patch"])
    document = json.loads(command[command.index("--replication-configuration") + 1])
    assert document["Rules"][0]["Destination"]["Metrics"] == {"Status": "Enabled"}
    assert "metrics on 1 more rules cost about 1.20 USD a month (list price of 2026-02)" in err
    assert "--apply carries it out" in err
    assert scene.settings() == before
    assert not (scene.folder / "kept").exists()


def test_several_buckets(scene: Scene) -> None:
    """Any number of buckets is planned at once, each with its own steps, and they share the topic of their Region."""
    other = scene.world.bucket("invoices")
    scene.world.replicate(other, rule(scene.replica))
    steps = json.loads(scene.call("-o", "json", other, scene.source)[0])
    assert [step["name"] for step in steps if step["kind"] == "replication"] == [scene.source, other]
    assert len([step for step in steps if step["kind"] == "topic"]) <= 1


def test_failures_come_with_their_reason(scene: Scene) -> None:
    """Applied, S3 tells the queue why a copy failed, as the decoder reads it; a second call has nothing to do."""
    queue = scene.world.queue()
    _, err = scene.call("--apply", "--queue-arn", queue)
    assert f"{scene.source}: done" in err
    version = scene.world.put(scene.source, "a b")
    scene.world.sandbox.settle()
    decoded = Decoded()
    for message in scene.world.messages(queue):
        decode(message["Body"].encode(), decoded)
    (event,) = decoded.events
    assert (event.key, event.version_id) == ("a b", version)
    assert getattr(event, "reason", None) == "DstPutObjectNotPermitted"
    out, err = scene.call("--apply", "--queue-arn", queue, "-o", "json")
    assert (json.loads(out), "nothing has to change" in err) == ([], True)


def test_way_back(scene: Scene) -> None:
    """The previous values are in files, which the printed commands put back."""
    before = scene.settings()
    _, err = scene.call("--apply")
    assert scene.settings() != before
    calls = [shlex.split(line) for line in err.splitlines() if "aws s3api put-bucket" in line]
    assert [call[2] for call in calls] == ["put-bucket-replication", "put-bucket-notification-configuration"]
    replication, notification = (json.loads(Path(call[-1].removeprefix("file://")).read_text()) for call in calls)
    s3 = scene.world.s3()
    s3.put_bucket_replication(Bucket=scene.source, ReplicationConfiguration=replication)
    s3.put_bucket_notification_configuration(Bucket=scene.source, NotificationConfiguration=notification)
    assert scene.settings() == before


def test_others_receiver_is_respected(scene: Scene) -> None:
    """Where somebody else gets the failures already nothing is changed, also with --apply, and the status says so."""
    entry = {"Id": "pager", "QueueArn": scene.world.queue(), "Events": ["s3:Replication:OperationFailedReplication"]}
    scene.world.s3().put_bucket_notification_configuration(
        Bucket=scene.source, NotificationConfiguration={"QueueConfigurations": [entry]}
    )
    before = scene.settings()
    _, err = scene.call("--apply", status=FAILED)
    assert "problem: bucket" in err
    assert "its notification pager sends s3:Replication:* to" in err
    assert scene.settings() == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["--apply"],
        ["orders"],
        ["--topic-arn", "arn:aws:sns:us-east-1:1:t"],
        ["--enable-failure-events", "orders", "--discover"],
    ],
    ids=" ".join,
)
def test_wrong_usage(arguments: list[str], tmp_path: Path) -> None:
    """The options go together, and with no other question."""
    assert main(["--store", str(tmp_path / "a.db"), "topology", *arguments]) == USAGE
