"""``crr-monitor retry``: groups, manifests, commands, and jobs in a local AWS, whose reports go into the store."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pytest

from crr_monitor.cli.main import main
from crr_monitor.core.topology import Topology
from crr_monitor.sandbox import Sandbox, Settings
from tests.cli.running import FAILED, OK, USAGE, fill
from tests.factories import AUDIT, KEY, REPLICA, SOURCE, TWO_DESTINATIONS, config, failed, rule, user_write
from tests.sandbox.making import EAST, FAST, HOME, OTHER, WEST, World
from tests.sandbox.making import rule as replication_rule

pytest.importorskip("ministack")
pytest.importorskip("boto3")

if TYPE_CHECKING:
    from collections.abc import Iterator

ROLE = f"arn:aws:iam::{HOME}:role/batch"
KEYS = ["plain", "a b+c é.txt", "50%/%41", 'q"u,o', "日本", "-o", "a\tb"]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """One local AWS for the module."""
    with Sandbox(Settings(seed=3, replication=FAST, notification=FAST, event=FAST, trail=FAST)) as running:
        yield running


class Scene:
    """Versions that failed for want of a permission, in S3 and in the store, and the program."""

    def __init__(self, sandbox: Sandbox, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.world = World(sandbox)
        self._capsys = capsys
        self.source, self.replica = self.world.bucket("orders"), self.world.bucket("theirs", OTHER, WEST)
        self.world.replicate(self.source, replication_rule(self.replica))
        self.work = self.world.bucket("work")
        self.versions = {key: self.world.put(self.source, key) for key in KEYS}
        sandbox.settle()
        topology = Topology([config(rule(self.replica), bucket=self.source, account=HOME, region=EAST)])
        about = [{"key": key, "version_id": version} for key, version in self.versions.items()]
        events = [user_write(self.source, size=3, **each) for each in about]
        broken = [failed(self.replica, source=self.source, reason="DstPutObjectNotPermitted", **each) for each in about]
        self.store = fill(folder / "a.db", *events, *broken, topology=topology)
        self.access = ["--endpoint-url", sandbox.endpoint, "--region", EAST]
        self.run_options = ["--run", "-y", "--work", f"s3://{self.work}/w", "--role-arn", ROLE, *self.access]

    def call(self, *arguments: str, status: int = OK) -> tuple[str, str]:
        """Run a command; gives both streams."""
        found = main(["--store", str(self.store), *arguments])
        streams = self._capsys.readouterr()
        assert found == status, streams.err
        return streams.out, streams.err

    def run(self, *more: str, status: int = OK) -> Any:  # noqa: ANN401 - what the program prints
        """Run jobs for everything; gives what is printed."""
        return json.loads(self.call("retry", *self.run_options, *more, "-o", "json", status=status)[0])

    def copies(self) -> set[tuple[str, str | None, str | None]]:
        """Status, reason and evidence of all copies in the store."""
        records = json.loads(self.call("list", "--limit", "0", "-o", "json")[0])
        assert len(records) == len(KEYS)
        each = [copy for record in records for copy in record["destinations"]]
        return {(copy["status"], copy.get("failure_reason"), copy.get("evidence")) for copy in each}

    def jobs(self) -> int:
        """How many jobs there are for this source."""
        manifests = self.world.s3().list_objects_v2(Bucket=self.work, Prefix="w/reports/", Delimiter="/")
        return len(manifests.get("CommonPrefixes", []))


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
    sandbox.end_fault()
    return Scene(sandbox, tmp_path, capsys)


# ---- the plan


def test_plan_tells_what_to_mend(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without AWS: groups with cause, fix, destinations, price and time; nothing is written."""
    both = (failed(), failed(AUDIT, reason="DstObjectHardDeleted"))
    store = fill(tmp_path / "a.db", user_write(size=5), *both, topology=TWO_DESTINATIONS)
    assert main(["--store", str(store), "retry"]) == OK
    out, err = capsys.readouterr()
    assert f"{SOURCE}: 1 version, 2 failed copies, 10 bytes" in out
    assert "mend first: name an existing key of the destination's Region in the replication rule" in out
    assert "instead of a retry: copy the object in place at the source" in out
    assert f"to {AUDIT} 1, {REPLICA} 1" in out
    assert "failing since 2026-11-22 07:00:30 UTC" in out
    assert "a job costs about 0.25 USD" in out
    assert "aws s3control" not in out
    assert "--out DIR writes the manifests" in err
    assert [path.name for path in tmp_path.iterdir() if "a.db" not in path.name] == []


@pytest.mark.parametrize(
    ("options", "versions"),
    [
        ([], [2, 1, 1]),
        (["--reason", "DstKmsKeyNotFound"], [2]),
        (["--reason", "DstKmsKeyNotFound", "--reason", "DstBucketNotFound"], [2, 1]),
        (["--reason", "Nonesuch"], []),
        (["--prefix", "b"], [1]),
        (["--source", REPLICA], []),
        (["--destination", REPLICA], [2, 1, 1]),
        (["--destination", AUDIT], []),
        (["--until", "2026-11-22T07:00:00Z"], []),
        (["--since", "2h"], [2, 1, 1]),
    ],
)
def test_selection(options: list[str], versions: list[int], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each option leaves only what it says; groups that a retry helps come first."""
    reasons = {"a1": "DstKmsKeyNotFound", "a2": "DstKmsKeyNotFound", "b": "DstBucketNotFound", "c": "SrcBucketNotFound"}
    events = [user_write(key=key) for key in reasons]
    store = fill(tmp_path / "a.db", *events, *(failed(key=key, reason=reason) for key, reason in reasons.items()))
    assert main(["--store", str(store), "retry", *options, "-o", "json"]) == OK
    assert [group["versions"] for group in json.loads(capsys.readouterr().out)] == versions


def test_manifests_and_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--out writes a manifest for each group, also of what no retry helps, and commands for those that it does."""
    apart = (user_write(key="b"), failed(key="b", reason="DstObjectHardDeleted"))
    store = fill(tmp_path / "a.db", user_write(key=KEY), failed(), *apart)
    options = ["--out", str(tmp_path / "new folder"), "--work", "s3://work/p", "--role-arn", ROLE]
    assert main(["--store", str(store), "retry", *options, "-o", "json"]) == OK
    helped, other = json.loads(capsys.readouterr().out)
    bucket, key, _ = Path(helped["manifest"]).read_text().rstrip("\n").split(",")
    assert (bucket, unquote(key)) == (SOURCE, KEY)
    assert helped["manifest"].endswith(".retry.csv")
    assert other["manifest"].endswith(".no-retry.csv")
    assert "commands" not in other
    assert "price" not in other
    put, create = map(shlex.split, helped["commands"])
    assert put[put.index("--body") + 1] == helped["manifest"]
    assert create[create.index("--role-arn") + 1] == ROLE


def test_unknown_parts_of_commands_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was not given or is not known stands in capital letters in the commands, and is told."""
    store = fill(tmp_path / "a.db", user_write(), failed())
    assert main(["--store", str(store), "retry", "--out", str(tmp_path / "m")]) == OK
    out, err = capsys.readouterr()
    assert "--account-id ACCOUNT_ID" in out
    assert "write what you use for ACCOUNT_ID, REGION, ROLE_ARN, WORK_BUCKET" in err


def test_nothing_failed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """That is told, and is no error; an array stays an array."""
    store = fill(tmp_path / "a.db", user_write())
    assert main(["--store", str(store), "retry", "-o", "json"]) == OK
    out, err = capsys.readouterr()
    assert json.loads(out) == []
    assert "nothing failed that matches" in err


def test_rows_are_flat(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """CSV has a row for each group."""
    store = fill(tmp_path / "a.db", user_write(size=7), failed())
    assert main(["--store", str(store), "retry", "-o", "csv"]) == OK
    titles, row = capsys.readouterr().out.splitlines()
    told = dict(zip(titles.split(","), row.split(","), strict=True))
    assert (told["source_bucket"], told["retry"], told["reasons"], told["bytes"]) == (
        SOURCE,
        "true",
        "DstKmsKeyNotFound",
        "7",
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["--run"],
        ["--run", "--work", "s3://work"],
        ["--run", "--role-arn", ROLE],
        ["--no-wait"],
        ["--region", EAST],
        ["--work", "work/p"],
        ["--role-arn", "batch"],
        ["--report", "s3://work/r", "--run"],
        ["--report", "s3://work/r", "--prefix", "a"],
        ["--since", "yesterday"],
    ],
    ids=" ".join,
)
def test_wrong_usage(arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Options that do not go together, and values that cannot be, are usage errors."""
    store = fill(tmp_path / "a.db")
    assert main(["--store", str(store), "retry", *arguments]) == USAGE
    assert "Error: " in capsys.readouterr().err


# ---- the jobs


def test_repaired(scene: Scene) -> None:
    """Once the policy is mended, a job replicates versions of any keys, and its report completes them."""
    scene.world.open(scene.replica)
    (group,) = scene.run()
    job = group["job"]
    assert (job["status"], job["succeeded"], job["failed"]) == ("Complete", len(KEYS), 0)
    assert job["report"] == {
        "completed": len(KEYS),
        "failed": {},
        "untried": {},
        "unreadable": 0,
        "records_changed": len(KEYS),
    }
    assert {(status, evidence) for status, _, evidence in scene.copies()} == {("COMPLETED", "batch-report")}
    for key, version in scene.versions.items():
        assert scene.world.status(scene.replica, key, version, OTHER, WEST) == "REPLICA"


def test_still_broken(scene: Scene) -> None:
    """While another thing is broken the versions stay failed, with the reason of the report."""
    scene.world.sandbox.fault("fail", match={"bucket": scene.source}, code="DstKmsKeyInvalidState")
    (group,) = scene.run()
    assert group["job"]["report"]["failed"] == {"DstKmsKeyInvalidState": len(KEYS)}
    assert scene.copies() == {("FAILED", "DstKmsKeyInvalidState", "batch-report")}


def test_mended_afterwards(scene: Scene) -> None:
    """When a job has ended and nothing was mended, the next call after mending is a job of its own, with success."""
    first = scene.run()[0]["job"]
    assert first["failed"] == len(KEYS)
    scene.world.open(scene.replica)
    second = scene.run()[0]["job"]
    assert (second["succeeded"], second["id"] != first["id"], scene.jobs()) == (len(KEYS), True, 2)
    assert scene.run() == []


def test_twice_in_a_row(scene: Scene) -> None:
    """A second call, while nobody has followed the first one's job, finds that job and takes its report."""
    scene.world.open(scene.replica)
    (group,) = scene.run("--no-wait")
    assert "report" not in group["job"]
    assert {status for status, _, _ in scene.copies()} == {"FAILED"}
    (again,) = scene.run()
    assert again["job"]["id"] == group["job"]["id"]
    assert {status for status, _, _ in scene.copies()} == {"COMPLETED"}
    assert scene.jobs() == 1


def test_report_is_taken_later(scene: Scene) -> None:
    """--report reads the report of a job that somebody else followed."""
    scene.world.open(scene.replica)
    (group,) = scene.run("--no-wait")
    scene.world.sandbox.settle()
    where = f"s3://{scene.work}/w/reports/job-{group['job']['id']}"
    out, _ = scene.call("retry", "--report", where, *scene.access)
    assert f"{len(KEYS)} replicated; 0 failed again; {len(KEYS)} records changed" in out
    assert {status for status, _, _ in scene.copies()} == {"COMPLETED"}
    told = json.loads(scene.call("retry", "--report", where, *scene.access, "-o", "json")[0])
    assert (told["completed"], told["records_changed"]) == (len(KEYS), 0)


def test_new_attempt_after_a_report(scene: Scene) -> None:
    """Once --report took the report of a job that failed, the next call is a new job, and not that one again."""
    (group,) = scene.run("--no-wait")
    scene.world.sandbox.settle()
    where = f"s3://{scene.work}/w/reports/job-{group['job']['id']}/manifest.json"
    told = json.loads(scene.call("retry", "--report", where, *scene.access, "-o", "json")[0])
    assert told["failed"] == {"DstPutObjectNotPermitted": len(KEYS)}
    scene.world.open(scene.replica)
    (again,) = scene.run()
    assert again["job"]["id"] != group["job"]["id"]
    assert again["job"]["succeeded"] == len(KEYS)


def test_report_that_is_not_there(scene: Scene) -> None:
    """That is an error of one line."""
    _, err = scene.call("retry", "--report", f"s3://{scene.work}/none", *scene.access, status=FAILED)
    assert f"s3:GetObject of s3://{scene.work}/none/manifest.json: NoSuchKey" in err


def test_job_that_fails_as_a_whole(scene: Scene) -> None:
    """A role that S3 may not assume: the reason is told, nothing is known of versions, and a new call tries anew."""
    allowed = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
    trusting_others = scene.world.role("batch", "ec2.amazonaws.com", allowed)
    options = ["--role-arn", trusting_others]
    out, err = scene.call("retry", *scene.run_options, *options, status=FAILED)
    assert "AccessDenied: batchoperations.s3.amazonaws.com may not assume" in err
    assert "left no report that could be read: s3:GetObject of s3://" in err
    assert "Failed, 0 of 0 succeeded" in out
    assert scene.copies() == {("FAILED", "DstPutObjectNotPermitted", "failure-event")}
    iam = scene.world.sandbox.client("iam", HOME, EAST)
    name = trusting_others.rpartition("/")[2]
    principal = {"Service": "batchoperations.s3.amazonaws.com"}
    trust = {"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}
    iam.update_assume_role_policy(RoleName=name, PolicyDocument=json.dumps({"Statement": [trust]}))
    scene.world.open(scene.replica)
    assert scene.run(*options)[0]["job"]["succeeded"] == len(KEYS)


def test_job_whose_role_may_not_initiate(scene: Scene) -> None:
    """What was not tried is counted with its reason and changes no record."""
    statement = {"Effect": "Allow", "Action": ["s3:GetObject", "s3:PutObject"], "Resource": "*"}
    role = scene.world.role("batch", "batchoperations.s3.amazonaws.com", statement)
    before = scene.copies()
    (group,) = scene.run("--role-arn", role)
    assert group["job"]["report"]["untried"] == {"InitiateReplicationNotPermitted": len(KEYS)}
    assert scene.copies() == before


def test_no_bucket_for_manifests(scene: Scene) -> None:
    """A place that is not there is told, and no job is made."""
    _, err = scene.call("retry", *scene.run_options, "--work", "s3://no-such-bucket", status=FAILED)
    assert "no job was created: s3:PutObject of s3://no-such-bucket/manifests/" in err
    assert "NoSuchBucket" in err
    assert scene.jobs() == 0


def test_bucket_of_another_account(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job runs in the account of the source bucket: with others' credentials there is none."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", OTHER)
    _, err = scene.call("retry", *scene.run_options, status=FAILED)
    assert f"its bucket is in account {HOME}: use that account's credentials, with --profile" in err


def test_region_and_account_that_nobody_told(scene: Scene, tmp_path: Path) -> None:
    """Where the store does not know them the bucket is asked for its Region, and the account is one's own."""
    scene.world.open(scene.replica)
    about = {"key": "plain", "version_id": scene.versions["plain"]}
    topology = Topology([config(rule(scene.replica), bucket=scene.source)])
    events = (user_write(scene.source, **about), failed(scene.replica, source=scene.source, **about))
    scene.store = fill(tmp_path / "b.db", *events, topology=topology)
    assert scene.run()[0]["job"]["succeeded"] == 1


def test_one_asks_first(scene: Scene) -> None:
    """Without -y nothing is done unless somebody says yes; nobody does here."""
    options = [option for option in scene.run_options if option != "-y"]
    _, err = scene.call("retry", *options, status=FAILED)
    assert "this has to be mended before: allow s3:ReplicateObject" in err
    assert scene.jobs() == 0
