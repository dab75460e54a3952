"""``deploy``, ``destroy``, ``topology --discover`` and DynamoDB stores, against a local AWS over HTTP."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import sys
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from crr_monitor import templates
from crr_monitor.cli import deploy
from crr_monitor.cli.main import main
from crr_monitor.lambdas.package import Package
from crr_monitor.sandbox import Sandbox
from crr_monitor.stores.base import Batch
from crr_monitor.stores.dynamodb import open_store
from crr_monitor.stores.dynamodb_tables import create_tables
from tests.aws.making import AGENT, HOME, HUB, TOKEN, deny, make_bucket, replicate, replicated_pair
from tests.cli.running import FAILED, INTERRUPTED, OK, USAGE
from tests.factories import ONE_WAY, merged_by_version, replica, user_write
from tests.stores.dynamodb_server import without_pauses

pytest.importorskip("ministack")
pytest.importorskip("boto3")

if TYPE_CHECKING:
    from collections.abc import Iterator

ARTIFACTS = f"crr-monitor-artifacts-{HUB}-{HOME}"

SMALL_HUB = """\
Parameters:
  AgentAccounts:
    Type: CommaDelimitedList
    Default: ""
  EventSource:
    Type: String
    Default: CloudTrail
    AllowedValues: [CloudTrail, EventBridge, S3Notifications]
  Seconds:
    Type: Number
    Default: 30
  CodeBucket:
    Type: String
  CodeKey:
    Type: String

Resources:
  Queue:
    Type: AWS::SQS::Queue
    Properties:
      VisibilityTimeout: !Ref Seconds

  TrailBucket:
    Type: AWS::S3::Bucket
    DeletionPolicy: RetainExceptOnCreate

Outputs:
  StoreUrl:
    Value: dynamodb://t-status
  HubAccount:
    Description: Whose it is
    Value: !Ref AWS::AccountId
  HubToken:
    Value: 0123456789ab
  HubBusArn:
    Value: !Sub arn:aws:events:${AWS::Region}:${AWS::AccountId}:event-bus/hub
  HubRoleArns:
    Value: !Sub arn:aws:iam::${AWS::AccountId}:role/a,arn:aws:iam::${AWS::AccountId}:role/b
  EventSource:
    Value: !Ref EventSource
"""
"""What matters to the commands of the hub's template; it deploys at once."""

SMALL_AGENT = """\
Parameters:
  HubAccount:
    Type: String
  HubToken:
    Type: String
  HubBusArn:
    Type: String
  HubRoleArns:
    Type: CommaDelimitedList
  EventSource:
    Type: String
    Default: CloudTrail
  CodeBucket:
    Type: String
  CodeKey:
    Type: String

Resources:
  Queue:
    Type: AWS::SQS::Queue
"""
BROKEN_RESOURCE = """\
  Broken:
    Type: AWS::Events::EventBusPolicy
    Properties:
      EventBusName: no-such-bus
      StatementId: s
      Statement: {Effect: Allow, Principal: "*", Action: events:PutEvents, Resource: "*"}

Outputs:
"""


@pytest.fixture(scope="module")
def running() -> Iterator[Sandbox]:
    """One sandbox for all tests of the module."""
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(running: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    """An empty AWS, with the hub account's credentials; no call of this process can reach another one."""
    running.end_fault()
    request = urllib.request.Request(f"{running.endpoint}/_ministack/reset", method="POST")  # noqa: S310 - our own
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
        assert answer.status == 200
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ENDPOINT_URL", running.endpoint)
    sign_in(monkeypatch, HUB)
    without_pauses(monkeypatch)
    return running


def sign_in(monkeypatch: pytest.MonkeyPatch, account: str) -> None:
    """Have the credentials of an account."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", account)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Small templates, that a test may change, and a zip that needs no packaging."""
    texts = {templates.HUB: SMALL_HUB, templates.AGENT: SMALL_AGENT}
    monkeypatch.setattr(templates, "text", lambda name: texts[name])
    monkeypatch.setattr(deploy, "functions_code", lambda _target: Package(b"code", "ab" * 32))
    return texts


class Told:
    """What a command said."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def run(self, *arguments: str, status: int = OK) -> tuple[str, str]:
        """Run the program; gives both streams."""
        found = main(arguments)
        streams = self._capsys.readouterr()
        assert found == status, streams.err
        return streams.out, streams.err


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Told:
    """Runs the program in this process."""
    return Told(capsys)


def buckets(sandbox: Sandbox, account: str = HUB) -> list[str]:
    """The account's buckets."""
    return [each["Name"] for each in sandbox.client("s3", account, HOME).list_buckets()["Buckets"]]


def stacks(sandbox: Sandbox, account: str = HUB) -> list[str]:
    """Names of the stacks that are there, also those that are only proposed."""
    listed = sandbox.client("cloudformation", account, HOME).list_stacks()["StackSummaries"]
    return [each["StackName"] for each in listed if each["StackStatus"] != "DELETE_COMPLETE"]


# Deploying ------------------------------------------------------------------------------------------------------------


def test_what_set_up_warns_of(sandbox: Sandbox, small: dict[str, str], told: Told) -> None:
    """Of each bucket that is not watched the command warns at its end, before the next command that it names."""
    del sandbox
    summary = "9 done, 0 problems, 1 notes, 2 buckets not watched: WARNING: bucket a: x; WARNING: bucket b: y; z"
    small[templates.HUB] += f'  SetupSummary:\n    Value: "{summary}"\n'
    _, err = told.run("deploy", "hub", "--region", HOME, "-y")
    lines = err.splitlines()
    at = lines.index("crr-monitor: warning: set-up: bucket a: x")
    assert lines[at + 1] == "crr-monitor: warning: set-up: bucket b: y; z"
    assert lines[at + 2].startswith("for buckets in other accounts")


def test_deploying_a_hub(sandbox: Sandbox, small: dict[str, str], told: Told) -> None:
    """The plan, the progress and the agent's command go to stderr, the outputs to stdout, and the code is uploaded."""
    del small
    out, err = told.run("deploy", "hub", "--region", HOME, "-y", "--parameter", f"AgentAccounts={AGENT}", "-o", "json")
    outputs = {each["name"]: each["value"] for each in json.loads(out)}
    assert (outputs["HubAccount"], outputs["HubToken"], outputs["EventSource"]) == (HUB, TOKEN, "CloudTrail")
    lines = err.splitlines()
    assert lines[:3] == [
        f"create stack crr-monitor (hub) in account {HUB}, {HOME}:",
        f"  AgentAccounts = {AGENT}",
        f"  Make    bucket {ARTIFACTS} for the functions' code: encrypted, private, versioned; it stays",
    ]
    assert "  Add     Queue (AWS::SQS::Queue)" in lines
    assert any(line.startswith("  CREATE_COMPLETE       Queue (AWS::SQS::Queue)") for line in lines)
    assert lines[-3].strip() == (
        f"crr-monitor deploy agent --region {HOME} --parameter HubAccount={HUB} --parameter HubToken={TOKEN}"
        f" --parameter HubBusArn=arn:aws:events:{HOME}:{HUB}:event-bus/hub"
        f" --parameter HubRoleArns=arn:aws:iam::{HUB}:role/a,arn:aws:iam::{HUB}:role/b"
        " --parameter EventSource=CloudTrail"
    )
    assert lines[-1].strip() == "crr-monitor --store dynamodb://t-status stats"
    key = f"crr-monitor-{'ab' * 16}.zip"
    assert f"uploaded 4 bytes to s3://{ARTIFACTS}/{key}" in lines
    assert sandbox.client("s3", HUB, HOME).get_object(Bucket=ARTIFACTS, Key=key)["Body"].read() == b"code"


def test_the_agents_command_works_as_it_is_printed(
    sandbox: Sandbox, small: dict[str, str], told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With another account's credentials the printed command deploys an agent, which names ``topology --discover``."""
    del small
    _, err = told.run("deploy", "hub", "--region", HOME, "-y")
    (line,) = [line for line in err.splitlines() if " deploy agent " in line]
    sign_in(monkeypatch, AGENT)
    _, err = told.run(*line.split()[1:], "-y")
    assert err.splitlines()[-1] == f"  crr-monitor topology --discover --region {HOME}"
    client = sandbox.client("cloudformation", AGENT, HOME)
    (stack,) = client.describe_stacks(StackName="crr-monitor")["Stacks"]
    given = {each["ParameterKey"]: each["ParameterValue"] for each in stack["Parameters"]}
    assert (given["HubAccount"], given["CodeBucket"]) == (HUB, f"crr-monitor-artifacts-{AGENT}-{HOME}")


def test_who_may_send_is_told_where_nobody_may(sandbox: Sandbox, small: dict[str, str], told: Told) -> None:
    """A hub that lets no other account in says how to let one in, before it tells the agents' command."""
    del sandbox, small
    _, err = told.run("deploy", "hub", "--region", HOME, "-y", "--stack-name", "other")
    assert (
        f"  crr-monitor deploy hub --region {HOME} --stack-name other --parameter AgentAccounts=ACCOUNT,..."
        in err.splitlines()
    )


def test_artifacts_bucket_is_in_order(sandbox: Sandbox, small: dict[str, str], told: Told) -> None:
    """The bucket for code is encrypted, private, versioned and by TLS only, also where one was there half made."""
    del small
    make = sandbox.client("s3", HUB, HOME)
    make.create_bucket(Bucket=ARTIFACTS)
    _, err = told.run("deploy", "hub", "--region", HOME, "-y")
    assert "Make " not in err
    assert make.get_bucket_versioning(Bucket=ARTIFACTS)["Status"] == "Enabled"
    block = make.get_public_access_block(Bucket=ARTIFACTS)["PublicAccessBlockConfiguration"]
    assert set(block.values()) == {True}
    assert len(block) == 4
    rules = make.get_bucket_encryption(Bucket=ARTIFACTS)["ServerSideEncryptionConfiguration"]["Rules"]
    assert rules[0]["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
    assert '"aws:SecureTransport": "false"' in make.get_bucket_policy(Bucket=ARTIFACTS)["Policy"]


def test_own_bucket_for_code(sandbox: Sandbox, small: dict[str, str], told: Told) -> None:
    """A bucket that one names is used as it is, and no other one is made; a missing one is told."""
    del small
    make_bucket(sandbox, "mine")
    told.run("deploy", "hub", "--region", HOME, "-y", "--artifacts-bucket", "mine")
    assert ARTIFACTS not in buckets(sandbox)
    _, err = told.run("deploy", "hub", "--region", HOME, "-y", "--artifacts-bucket", "none", status=FAILED)
    assert err == (
        f"crr-monitor: there is no bucket none in account {HUB}, {HOME}: make it, or leave --artifacts-bucket out\n"
    )


def test_bucket_in_another_region(sandbox: Sandbox, small: dict[str, str], told: Told) -> None:
    """Code cannot come from another Region, and that is said before anything is proposed."""
    del small
    make_bucket(sandbox, "far", "eu-west-1")
    _, err = told.run("deploy", "hub", "--region", HOME, "-y", "--artifacts-bucket", "far", status=FAILED)
    assert err == f"crr-monitor: bucket far is in eu-west-1: code has to be in the stack's own Region, {HOME}\n"
    assert stacks(sandbox) == []


def test_dry_run_changes_nothing(sandbox: Sandbox, small: dict[str, str], told: Told) -> None:
    """A dry run shows the changes and leaves neither stack, change set nor bucket."""
    del small
    out, err = told.run("deploy", "hub", "--region", HOME, "--dry-run")
    assert out == ""
    assert "  Add     Queue (AWS::SQS::Queue)" in err.splitlines()
    assert err.splitlines()[-1] == "this was a dry run: nothing was changed"
    assert (stacks(sandbox), buckets(sandbox)) == ([], [])


def test_long_template_leaves_nothing_of_a_dry_run(sandbox: Sandbox, small: dict[str, str], told: Told) -> None:
    """A template too long to be sent goes by the bucket; a dry run leaves neither, or the bucket as it was."""
    small[templates.HUB] += "#" * 60_000
    _, err = told.run("deploy", "hub", "--region", HOME, "--dry-run")
    assert "  Add     Queue (AWS::SQS::Queue)" in err.splitlines()
    assert (stacks(sandbox), buckets(sandbox)) == ([], [])
    make_bucket(sandbox, ARTIFACTS)
    told.run("deploy", "hub", "--region", HOME, "--dry-run")
    assert sandbox.client("s3", HUB, HOME).list_object_versions(Bucket=ARTIFACTS).get("Versions", []) == []
    assert buckets(sandbox) == [ARTIFACTS]


def test_long_template_is_kept_beside_the_code(sandbox: Sandbox, small: dict[str, str], told: Told) -> None:
    """A stack with a long template is made, and template and code are in the bucket."""
    small[templates.HUB] += "#" * 60_000
    told.run("deploy", "hub", "--region", HOME, "-y")
    assert stacks(sandbox) == ["crr-monitor"]
    there = sandbox.client("s3", HUB, HOME).list_objects_v2(Bucket=ARTIFACTS)["Contents"]
    assert sorted(each["Key"].partition(".")[2] for each in there) == ["template", "zip"]


WITH_TRAIL = SMALL_HUB.replace("  Seconds:\n", "  Trail:\n    Type: String\n    Default: Create\n  Seconds:\n")


def five_trails(sandbox: Sandbox, own: str = "t0") -> None:
    """As many trails as CloudTrail allows in a Region."""
    make_bucket(sandbox, "logs")
    for name in (own, "t1", "t2", "t3", "t4"):
        sandbox.client("cloudtrail", HUB, HOME).create_trail(Name=name, S3BucketName="logs", IsMultiRegionTrail=True)


def test_no_room_for_a_trail(sandbox: Sandbox, small: dict[str, str], told: Told) -> None:
    """Where a Region has five trails, a stack that wants one more is refused before anything is proposed."""
    small[templates.HUB] = WITH_TRAIL
    five_trails(sandbox)
    _, err = told.run("deploy", "hub", "--region", HOME, "-y", status=FAILED)
    assert err == (
        f"crr-monitor: {HOME} has 5 trails, which is all that CloudTrail allows: choose Trail Existing, remove a trail,"
        " or choose EventSource EventBridge\n"
    )
    assert (stacks(sandbox), ARTIFACTS in buckets(sandbox)) == ([], False)
    told.run("deploy", "hub", "--region", HOME, "-y", "--parameter", "EventSource=EventBridge")
    assert stacks(sandbox) == ["crr-monitor"]


def test_a_stack_that_has_its_trail(sandbox: Sandbox, small: dict[str, str], told: Told) -> None:
    """A stack whose own trail is one of the five can be changed."""
    small[templates.HUB] = WITH_TRAIL
    told.run("deploy", "hub", "--region", HOME, "-y")
    (stack,) = sandbox.client("cloudformation", HUB, HOME).describe_stacks(StackName="crr-monitor")["Stacks"]
    five_trails(sandbox, "crr-monitor-" + stack["StackId"].rpartition("-")[2])
    told.run("deploy", "hub", "--region", HOME, "-y", "--parameter", "Seconds=60")


def test_trails_that_cannot_be_asked(sandbox: Sandbox, small: dict[str, str], told: Told) -> None:
    """Not knowing whether there is room is said, and is no reason to refuse."""
    small[templates.HUB] = WITH_TRAIL
    deny(sandbox, service="cloudtrail", operation="DescribeTrails", region=HOME)
    _, err = told.run("deploy", "hub", "--region", HOME, "-y")
    assert err.startswith(
        "whether there is room for another trail is not known: cloudtrail:DescribeTrails: AccessDenied"
    )


READS = '  DeniedReads:\n    Type: String\n    Default: "No"\n    AllowedValues: ["No", Objects, All]\n'
WITH_READS = SMALL_HUB.replace("  Seconds:\n", READS + "  Seconds:\n", 1)


def test_price_and_room_of_reads(sandbox: Sandbox, small: dict[str, str], told: Told) -> None:
    """What it costs to log reads at the source, and the room that takes, is told beforehand, once it is asked for."""
    small[templates.HUB] = WITH_READS
    deploy = ("deploy", "hub", "--region", HOME, "--dry-run")
    _, plain = told.run(*deploy, "--parameter", "DeniedReads=No")
    _, asked = told.run(*deploy, "--parameter", "DeniedReads=Objects")
    cost = "  reads of S3 Replication in the trail: about $1.00 for each million copies"
    room = "  room in the stack's own trail: 489 buckets, instead of 493"
    assert (cost in plain, cost in asked, room in plain, room in asked) == (False, True, False, True)
    assert stacks(sandbox) == []


def test_update_keeps_what_is_not_named(sandbox: Sandbox, small: dict[str, str], told: Told) -> None:
    """A parameter that an update does not name keeps its value, and the same again has nothing to change."""
    del small
    told.run("deploy", "hub", "--region", HOME, "-y", "--parameter", f"AgentAccounts={AGENT}")
    _, err = told.run("deploy", "hub", "--region", HOME, "-y", "--parameter", "Seconds=60")
    assert err.startswith(f"update stack crr-monitor (hub) in account {HUB}, {HOME}:\n  Seconds = 60\n  Modify  Queue")
    client = sandbox.client("cloudformation", HUB, HOME)
    (stack,) = client.describe_stacks(StackName="crr-monitor")["Stacks"]
    given = {each["ParameterKey"]: each["ParameterValue"] for each in stack["Parameters"]}
    assert (given["AgentAccounts"], given["Seconds"]) == (AGENT, "60")
    out, err = told.run("deploy", "hub", "--region", HOME)
    assert err.splitlines()[0] == f"stack crr-monitor in account {HUB}, {HOME}: nothing to change"
    assert "HubBusArn" in out


@pytest.mark.parametrize("answer", ["n\n", ""])
def test_no_is_no(
    answer: str, sandbox: Sandbox, small: dict[str, str], told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever does not say yes gets nothing, and nothing stays of the proposal."""
    del small
    monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
    _, err = told.run("deploy", "hub", "--region", HOME, status=FAILED)
    assert "Go on? [y/N]: " in err
    assert "crr-monitor: nothing was changed" in err
    assert (stacks(sandbox), buckets(sandbox)) == ([], [])


def test_yes_is_yes(sandbox: Sandbox, small: dict[str, str], told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever says yes gets the stack."""
    del small
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    told.run("deploy", "hub", "--region", HOME)
    assert stacks(sandbox) == ["crr-monitor"]


def test_failed_resource_is_named(sandbox: Sandbox, small: dict[str, str], told: Told) -> None:
    """A resource that fails is named with its reason in one line, and the stack is gone."""
    small[templates.HUB] = SMALL_HUB.replace("Outputs:\n", BROKEN_RESOURCE)
    _, err = told.run("deploy", "hub", "--region", HOME, "-y", status=FAILED)
    assert err.splitlines()[-1] == (
        "crr-monitor: stack crr-monitor: Broken (AWS::Events::EventBusPolicy) CREATE_FAILED: Event bus no-such-bus does"
        " not exist; everything was taken back: mend it, and deploy again"
    )
    assert stacks(sandbox) == []


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--parameter", "EventSorce=x"], "unknown parameter EventSorce (did you mean EventSource?)"),
        (["--parameter", "EventSource=SNS"], "'SNS': allowed is CloudTrail, EventBridge, S3Notifications"),
        (["--parameter", "CodeKey=x"], "CodeKey is set by deploy itself"),
    ],
)
def test_wrong_parameter(arguments: list[str], text: str, sandbox: Sandbox, told: Told) -> None:
    """A wrong parameter is wrong usage, before AWS is asked anything."""
    sandbox.fault("error", match={"service": "sts"}, code="Unexpected", status=500)
    _, err = told.run("deploy", "hub", "--region", HOME, *arguments, status=USAGE)
    assert text in err


def test_agent_needs_the_hubs_outputs(sandbox: Sandbox, small: dict[str, str], told: Told) -> None:
    """An agent without its hub's outputs is told which are missing, and where they are."""
    del small
    _, err = told.run("deploy", "agent", "--region", HOME, "-y", status=USAGE)
    assert "parameter HubAccount, HubBusArn, HubRoleArns, HubToken is missing: the hub's outputs tell it" in err
    assert stacks(sandbox) == []


def test_a_hub_does_not_become_an_agent(sandbox: Sandbox, small: dict[str, str], told: Told) -> None:
    """A stack of another kind, or of somebody else, is neither changed nor removed."""
    del small
    told.run("deploy", "hub", "--region", HOME, "-y")
    for verb in ("deploy", "destroy"):
        _, err = told.run(verb, "agent", "--region", HOME, "-y", status=FAILED)
        assert err == "crr-monitor: stack crr-monitor is a hub: name another one with --stack-name\n"
    client = sandbox.client("cloudformation", HUB, HOME)
    foreign = "Parameters: {A: {Type: String, Default: a}}\nResources: {Q: {Type: 'AWS::SQS::Queue'}}"
    client.create_stack(StackName="theirs", TemplateBody=foreign)
    client.get_waiter("stack_create_complete").wait(StackName="theirs", WaiterConfig={"Delay": 0.1})
    _, err = told.run("destroy", "hub", "--region", HOME, "-y", "--stack-name", "theirs", status=FAILED)
    assert err == "crr-monitor: stack theirs is not of this program: name another one with --stack-name\n"
    assert sorted(stacks(sandbox)) == ["crr-monitor", "theirs"]


def test_the_hubs_own_account_needs_no_agent(sandbox: Sandbox, small: dict[str, str], told: Told) -> None:
    """An agent in its hub's own account is refused."""
    del sandbox, small
    hub = [f"HubAccount={HUB}", f"HubToken={TOKEN}", "HubBusArn=a", "HubRoleArns=b"]
    given = [part for each in hub for part in ("--parameter", each)]
    _, err = told.run("deploy", "agent", "--region", HOME, "-y", "--stack-name", "agent", *given, status=FAILED)
    assert f"account {HUB} is the hub's own, which needs no agent" in err


# When AWS refuses -----------------------------------------------------------------------------------------------------


def test_no_credentials(sandbox: Sandbox, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without credentials the one line says so, and how to get some."""
    del sandbox
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    _, err = told.run("deploy", "hub", "--region", HOME, "-y", status=FAILED)
    assert err == (
        "crr-monitor: sts:GetCallerIdentity: Unable to locate credentials"
        " (sign in (`aws sso login`, `aws configure`), or name a profile with --profile)\n"
    )


def test_no_region(sandbox: Sandbox, told: Told) -> None:
    """Without a Region the one line says how to name one."""
    del sandbox
    _, err = told.run("deploy", "hub", "-y", status=FAILED)
    assert err == "crr-monitor: no Region is known: name one with --region, or set AWS_DEFAULT_REGION\n"


def test_unknown_profile(sandbox: Sandbox, told: Told) -> None:
    """A profile that does not exist is told, with how to see those that do."""
    del sandbox
    _, err = told.run("destroy", "hub", "--profile", "nonesuch", status=FAILED)
    assert "nonesuch" in err
    assert err.endswith("(`aws configure list-profiles` shows which there are)\n")
    assert err.count("\n") == 1


def test_nobody_listens(sandbox: Sandbox, told: Told) -> None:
    """An endpoint at which nobody listens is named."""
    del sandbox
    _, err = told.run("topology", "--discover", "--region", HOME, "--endpoint-url", "http://127.0.0.1:9", status=FAILED)
    assert err.endswith("(is something listening at --endpoint-url?)\n")
    assert err.count("\n") == 1


def test_misspelt_region(sandbox: Sandbox, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a Region's endpoint is not found and its name is unknown, the nearest one is suggested."""
    del sandbox
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    _, err = told.run("deploy", "hub", "--region", "us-esat-1", "-y", status=FAILED)
    assert err.endswith("(is there a Region us-esat-1? did you mean us-east-1?)\n")
    assert err.count("\n") == 1


def test_access_denied(sandbox: Sandbox, small: dict[str, str], told: Told) -> None:
    """A missing permission is told with the action and what to do, and nothing stays of the proposal."""
    del small
    deny(sandbox, service="s3", operation="PUT", resource="ab.zip")
    _, err = told.run("deploy", "hub", "--region", HOME, "-y", status=FAILED)
    assert err.splitlines()[-1].startswith(f"crr-monitor: s3:PutObject to {ARTIFACTS}: AccessDenied: ")
    assert err.endswith("(allow this action to the user or role of these credentials, or use others with --profile)\n")
    assert stacks(sandbox) == []


def test_invalid_credentials(sandbox: Sandbox, told: Told) -> None:
    """Credentials that the Region does not know may be those of a Region that is not enabled."""
    sandbox.fault("error", match={"service": "sts"}, code="InvalidClientTokenId", status=403)
    _, err = told.run("deploy", "hub", "--region", "af-south-1", "-y", status=FAILED)
    assert "the credentials are not valid in af-south-1: the Region may have to be enabled for this account" in err


def test_missing_boto3(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without boto3 every way to AWS names the command that installs it."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    for arguments, what in (
        (["deploy", "hub"], "this command"),
        (["destroy", "hub"], "this command"),
        (["topology", "--discover"], "this command"),
        (["--store", "dynamodb://t-status", "stats"], "the store dynamodb://t-status"),
    ):
        _, err = told.run(*arguments, status=FAILED)
        assert err == f"crr-monitor: {what} needs boto3: pip install 'crr-monitor[aws]'\n"


@pytest.mark.parametrize(
    ("service", "operation", "code", "cure"),
    [
        (
            "cloudformation",
            "ExecuteChangeSet",
            "InvalidChangeSetStatus",
            "somebody else changes the same at this moment",
        ),
        (
            "cloudformation",
            "CreateChangeSet",
            "AlreadyExistsException",
            "somebody else changes the same at this moment",
        ),
        ("cloudformation", "CreateChangeSet", "LimitExceededException", "a quota of this account is used up"),
        ("cloudformation", "DescribeStacks", "ThrottlingException", "run the same command again in a minute"),
        ("s3", "HEAD", "SlowDown", "run the same command again in a minute"),
        ("cloudformation", "DescribeStacks", "OptInRequired", "enable the Region for this account first"),
    ],
)
def test_what_aws_says_has_its_cure(  # noqa: PLR0913, PLR0917 - a table
    service: str, operation: str, code: str, cure: str, sandbox: Sandbox, small: dict[str, str], told: Told
) -> None:
    """What AWS refuses ends in one line with what to do; of a proposal that was not begun nothing stays."""
    del small
    status = 503 if code == "SlowDown" else 400
    sandbox.fault("error", match={"service": service, "operation": operation}, code=code, status=status)
    _, err = told.run("deploy", "hub", "--region", HOME, "-y", status=FAILED)
    assert cure in err.splitlines()[-1]
    sandbox.end_fault()
    assert bool(stacks(sandbox)) is (operation == "ExecuteChangeSet")


def test_the_reason_is_not_hidden(sandbox: Sandbox, small: dict[str, str], told: Told) -> None:
    """Where a proposal cannot be taken back either, that is a warning, and the last line is why it had to be."""
    del small
    deny(sandbox, service="s3", operation="PUT", resource="ab.zip")
    deny(sandbox, service="cloudformation", operation="DeleteChangeSet")
    _, err = told.run("deploy", "hub", "--region", HOME, "-y", status=FAILED)
    warning, reason = err.splitlines()[-2:]
    assert warning.startswith(
        "crr-monitor: warning: the proposed change stays, it does nothing: delete change set arn:"
    )
    assert reason.startswith(f"crr-monitor: s3:PutObject to {ARTIFACTS}: AccessDenied: ")


def test_interrupted(sandbox: Sandbox, small: dict[str, str], told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while the stack is made: CloudFormation goes on, that is said, and the same command goes on from there."""
    del small
    before = deploy.tell

    def interrupt(_event: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(deploy, "tell", interrupt)
    _, err = told.run("deploy", "hub", "--region", HOME, "-y", status=INTERRUPTED)
    assert "CloudFormation goes on by itself: run the same command again to see how it ended" in err.splitlines()
    monkeypatch.setattr(deploy, "tell", before)
    client = sandbox.client("cloudformation", HUB, HOME)
    client.get_waiter("stack_create_complete").wait(StackName="crr-monitor", WaiterConfig={"Delay": 1})
    _, err = told.run("deploy", "hub", "--region", HOME, "-y")
    assert err.splitlines()[0] == f"stack crr-monitor in account {HUB}, {HOME}: nothing to change"


def test_dry_run_of_an_agent(
    sandbox: Sandbox, small: dict[str, str], told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan of an agent shows its parameters and resources, and nothing is made in its account."""
    del small
    sign_in(monkeypatch, AGENT)
    code = f"crr-monitor-artifacts-{AGENT}-{HOME}"
    given = [f"HubAccount={HUB}", f"HubToken={TOKEN}", "HubBusArn=bus", "HubRoleArns=role"]
    options = [part for each in given for part in ("--parameter", each)]
    _, err = told.run("deploy", "agent", "--region", HOME, "--dry-run", *options)
    assert err.splitlines() == [
        f"create stack crr-monitor (agent) in account {AGENT}, {HOME}:",
        f"  HubAccount = {HUB}",
        "  HubBusArn = bus",
        "  HubRoleArns = role",
        f"  HubToken = {TOKEN}",
        f"  Make    bucket {code} for the functions' code: encrypted, private, versioned; it stays",
        "  Add     Queue (AWS::SQS::Queue)",
        "this was a dry run: nothing was changed",
    ]
    assert (stacks(sandbox, AGENT), buckets(sandbox, AGENT)) == ([], [])


# Removing -------------------------------------------------------------------------------------------------------------


def test_destroying_says_what_goes_and_what_stays(sandbox: Sandbox, small: dict[str, str], told: Told) -> None:
    """The removal tells counts by type, what is retained and the code's bucket; these are left."""
    del small
    told.run("deploy", "hub", "--region", HOME, "-y", "--parameter", f"AgentAccounts={AGENT}")
    (logs,) = [name for name in buckets(sandbox) if name != ARTIFACTS]
    out, err = told.run("destroy", "hub", "--region", HOME, "-y")
    assert out == ""
    lines = err.splitlines()
    assert lines[:6] == [
        f"remove stack crr-monitor (hub, CREATE_COMPLETE) in account {HUB}, {HOME}:",
        "    1  AWS::SQS::Queue",
        "  and the trail, rules, topics and queues that its set-up made in all Regions",
        f"  bucket {logs}: stays, with what is in it (--purge removes it)",
        f"  bucket {ARTIFACTS}: stays, with what is in it (--purge removes it)",
        "  agents in other accounts stay, and fail to reach it: destroy them first, with their credentials",
    ]
    assert lines[-1] == "stack crr-monitor is removed"
    assert (stacks(sandbox), sorted(buckets(sandbox))) == ([], sorted([logs, ARTIFACTS]))


def test_purging_leaves_nothing(sandbox: Sandbox, small: dict[str, str], told: Told) -> None:
    """With ``--purge`` the buckets go with all versions in them."""
    del small
    told.run("deploy", "hub", "--region", HOME, "-y")
    s3 = sandbox.client("s3", HUB, HOME)
    for name in buckets(sandbox):
        for number in range(3):
            s3.put_object(Bucket=name, Key="log", Body=str(number).encode())
        s3.delete_object(Bucket=name, Key="log")
    told.run("destroy", "hub", "--region", HOME, "-y", "--purge")
    assert (stacks(sandbox), buckets(sandbox)) == ([], [])


def test_purging_keeps_what_another_stack_needs(sandbox: Sandbox, small: dict[str, str], told: Told) -> None:
    """The code's bucket stays while another stack has its code there."""
    del small
    for name in ("one", "two"):
        told.run("deploy", "hub", "--region", HOME, "-y", "--stack-name", name)
    _, err = told.run("destroy", "hub", "--region", HOME, "-y", "--purge", "--stack-name", "one")
    assert f"  bucket {ARTIFACTS} stays: two also has its code there" in err.splitlines()
    assert ARTIFACTS in buckets(sandbox)


def test_destroying_nothing(sandbox: Sandbox, told: Told) -> None:
    """Where there is no stack, that is said, and it is no error."""
    del sandbox
    line = f"there is no stack crr-monitor in account {HUB}, {HOME}: nothing to remove\n"
    more = "(--purge looks for buckets that removed stacks have left)\n"
    assert told.run("destroy", "hub", "--region", HOME) == ("", line + more)


def test_purging_after_the_stack_is_gone(sandbox: Sandbox, small: dict[str, str], told: Told) -> None:
    """``--purge`` finds what removed stacks have left by what is in it, and leaves what others have or need."""
    del small
    told.run("deploy", "hub", "--region", HOME, "-y")
    s3 = sandbox.client("s3", HUB, HOME)
    (logs,) = [name for name in buckets(sandbox) if name != ARTIFACTS]
    make_bucket(sandbox, "mine")
    for name, token in ((logs, TOKEN), ("mine", "elsewhere")):
        s3.put_bucket_policy(Bucket=name, Policy=trail_policy(name, f"crr-monitor-{token}"))
    told.run("destroy", "hub", "--region", HOME, "-y")
    _, err = told.run("destroy", "hub", "--region", HOME)
    assert err.splitlines()[1:] == ["(--purge looks for buckets that removed stacks have left)"]
    _, err = told.run("destroy", "hub", "--region", HOME, "--purge", "-y")
    assert err.splitlines()[1:4] == [
        "but removed stacks have left:",
        f"  bucket {logs}: log files of trail crr-monitor-{TOKEN}, whose stack is gone; removed with all that is in it",
        f"  bucket {ARTIFACTS}: functions' code, which no stack needs any more; removed with all that is in it",
    ]
    assert buckets(sandbox) == ["mine"]
    _, err = told.run("destroy", "hub", "--region", HOME, "--purge", "-y")
    assert err.splitlines()[1:] == ["no bucket is left of removed stacks"]


def test_purging_leaves_a_living_stacks_buckets(sandbox: Sandbox, small: dict[str, str], told: Told) -> None:
    """The log bucket and the code of a stack that is there are not taken for left, whatever its name is."""
    del small
    told.run("deploy", "hub", "--region", HOME, "-y", "--stack-name", "other")
    (logs,) = [name for name in buckets(sandbox) if name != ARTIFACTS]
    (stack,) = sandbox.client("cloudformation", HUB, HOME).describe_stacks(StackName="other")["Stacks"]
    policy = trail_policy(logs, f"crr-monitor-{stack['StackId'].rpartition('-')[2]}")
    sandbox.client("s3", HUB, HOME).put_bucket_policy(Bucket=logs, Policy=policy)
    _, err = told.run("destroy", "hub", "--region", HOME, "--purge", "-y")
    assert err.splitlines()[1:] == ["no bucket is left of removed stacks"]
    assert sorted(buckets(sandbox)) == sorted([logs, ARTIFACTS])


def test_what_is_left_is_not_guessed(sandbox: Sandbox, small: dict[str, str], told: Told) -> None:
    """A bucket that cannot be asked whose it is stays, and is named."""
    del small
    make_bucket(sandbox, "closed")
    deny(sandbox, service="s3", operation="GET", resource="closed")
    _, err = told.run("destroy", "hub", "--region", HOME, "--purge", "-y")
    assert "crr-monitor: warning: bucket closed could not be asked whose it is: s3:GetBucketPolicy of closed" in err
    assert buckets(sandbox) == ["closed"]


def trail_policy(bucket: str, trail: str) -> str:
    """What in the policy of a log bucket names its trail."""
    statement = {
        "Sid": "CloudTrailWrites",
        "Effect": "Allow",
        "Principal": {"Service": "cloudtrail.amazonaws.com"},
        "Action": "s3:PutObject",
        "Resource": f"arn:aws:s3:::{bucket}/AWSLogs/{HUB}/*",
        "Condition": {"StringEquals": {"aws:SourceArn": f"arn:aws:cloudtrail:{HOME}:{HUB}:trail/{trail}"}},
    }
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def test_destroying_asks(sandbox: Sandbox, small: dict[str, str], told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a yes the stack stays."""
    del small
    told.run("deploy", "hub", "--region", HOME, "-y")
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n"))
    told.run("destroy", "hub", "--region", HOME, status=FAILED)
    assert stacks(sandbox) == ["crr-monitor"]


# Discovery ------------------------------------------------------------------------------------------------------------


def test_discovery_is_learned(sandbox: Sandbox, told: Told, tmp_path: Path) -> None:
    """The rules of the account's buckets are learned and listed; a rule that has gone is gone with the next one."""
    replicated_pair(sandbox)
    store = str(tmp_path / "a.db")
    out, _ = told.run("--store", store, "topology", "--discover", "--region", HOME, "-o", "json")
    (pair,) = json.loads(out)
    assert (pair["source"], pair["destination"], pair["rule_id"]) == (
        {"account": HUB, "region": HOME, "bucket": "orders"},
        {"account": HUB, "region": "eu-west-1", "bucket": "orders-dr"},
        "to-orders-dr",
    )
    assert json.loads(told.run("--store", store, "topology", "-o", "json")[0]) == [pair]
    sandbox.client("s3", HUB, HOME).delete_bucket_replication(Bucket="orders")
    out, _ = told.run("--store", store, "topology", "--discover", "--region", HOME, "-o", "json")
    assert json.loads(out) == []


def test_plan_without_a_stack(sandbox: Sandbox, told: Told, tmp_path: Path) -> None:
    """Before anything is deployed, the plan shows what a hub would make in each Region, and nothing is learned."""
    replicated_pair(sandbox)
    store = tmp_path / "a.db"
    line = ["--store", str(store), "topology", "--discover", "--plan", "--region", HOME, "-o", "ndjson"]
    out, err = told.run(*line)
    assert err == f"note: there is no stack crr-monitor in account {HUB}, {HOME}: this is what a new hub would do\n"
    steps = [json.loads(each) for each in out.splitlines()]
    assert {(step["do"], step["kind"], step["region"]) for step in steps if step["kind"] in {"rule", "topic"}} == {
        ("create", "rule", HOME),
        ("create", "rule", "eu-west-1"),
        ("create", "topic", "eu-west-1"),
    }
    assert not store.exists()
    steps = [json.loads(each) for each in told.run(*line, "--event-source", "EventBridge")[0].splitlines()]
    patches = [step for step in steps if step["do"] == "patch"]
    assert [step["name"] for step in patches] == ["orders", "orders-dr"]
    assert "aws s3api put-bucket-notification-configuration" in patches[0]["patch"]


def test_plan_that_is_refused(sandbox: Sandbox, told: Told, tmp_path: Path) -> None:
    """Regions between which SNS does not deliver are a problem of the plan, and it ends with 1."""
    make_bucket(sandbox, "orders", "af-south-1")
    make_bucket(sandbox, "orders-dr", "me-south-1")
    replicate(sandbox, "orders", "orders-dr", region="af-south-1")
    line = ["--store", str(tmp_path / "a.db"), "topology", "--discover", "--plan", "--region", "af-south-1"]
    _, err = told.run(*line, status=FAILED)
    assert "problem: me-south-1 cannot be watched from af-south-1: both are opt-in Regions" in err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--plan"],
        ["--stack-name", "s", "--discover"],
        ["--region", HOME],
        ["--discover", "--plan", "--learn", "f"],
    ],
    ids=" ".join,
)
def test_options_that_do_not_go_together(arguments: list[str], told: Told) -> None:
    """Options that mean nothing without another one are wrong usage."""
    told.run("topology", *arguments, status=USAGE)


# The store ------------------------------------------------------------------------------------------------------------


def test_store_in_dynamodb(sandbox: Sandbox, told: Told) -> None:
    """``--store dynamodb://`` with Region and endpoint lists, shows and counts what is in the tables."""
    create_tables(sandbox.client("dynamodb", HUB, HOME), "t")
    url = f"dynamodb://t-status?region={HOME}&endpoint={sandbox.endpoint}"
    store = open_store(url)
    store.learn([(config, True) for config in ONE_WAY.configs])
    store.apply(Batch(evidence=merged_by_version([user_write(), replica()], ONE_WAY)))
    store.close()
    out, _ = told.run("--store", url, "status", "s3://orders/2026/11/22/a b+c é.txt", "-o", "ndjson")
    assert json.loads(out)["status"] == "COMPLETED"
    assert json.loads(told.run("--store", url, "list", "--status", "PENDING", "-o", "json")[0]) == []
    assert json.loads(told.run("--store", url, "topology", "-o", "json")[0])[0]["rule_id"] == "to-orders-dr"
    assert json.loads(told.run("--store", url, "stats", "-o", "json")[0])["groups"] == []
    _, err = told.run("--store", url, "list", status=FAILED)
    assert "only what is FAILED, PENDING or uncertain can be listed" in err


def test_ingest_into_dynamodb(sandbox: Sandbox, told: Told, tmp_path: Path) -> None:
    """Events from a file go into the tables; what is malformed is kept in the user's data folder."""
    create_tables(sandbox.client("dynamodb", HUB, HOME), "t")
    url = f"dynamodb://t-status?region={HOME}&endpoint={sandbox.endpoint}"
    (tmp_path / "bad.ndjson").write_text("{}\n{broken\n")
    out, err = told.run("--store", url, "ingest", str(tmp_path / "bad.ndjson"))
    assert (json.loads(out)["messages"], json.loads(out)["malformed"]) == (2, 1)
    (line,) = [line for line in err.splitlines() if line.startswith("malformed 1")]
    kept = Path(line.rpartition(" ")[2])
    assert kept.name == "t-status.rejects.ndjson"
    assert len(kept.read_text().splitlines()) == 1


def test_missing_table(sandbox: Sandbox, told: Told) -> None:
    """A table that is not there is told in one line with what to do."""
    url = f"dynamodb://none-status?region={HOME}&endpoint={sandbox.endpoint}"
    _, err = told.run("--store", url, "stats", status=FAILED)
    assert err.startswith("crr-monitor: table none-statistics")
    assert err.endswith("(there is no such table in this account and Region: deploy the hub, or check --store)\n")


# The real hub ---------------------------------------------------------------------------------------------------------


def test_the_real_hub(sandbox: Sandbox, told: Told) -> None:
    """The hub's own template deploys, has nothing to change the second time, shows its plan, and goes."""
    replicated_pair(sandbox)
    hub = ["--region", HOME, "--endpoint-url", sandbox.endpoint, "--parameter", "Schedule=rate(1 hour)"]
    out, _ = told.run("deploy", "hub", "-y", *hub, "-o", "json")
    outputs = {each["name"]: each["value"] for each in json.loads(out)}
    assert outputs["SetupSummary"].split(",")[1] == " 0 problems"
    _, err = told.run("deploy", "hub", "-y", *hub)
    assert err.splitlines()[0].endswith(": nothing to change")
    _, err = told.run("topology", "--discover", "--plan", "--region", HOME)
    assert err.splitlines()[-1] == "set-up would change nothing"
    make_bucket(sandbox, "more", "eu-central-1")
    replicate(sandbox, "more", "orders-dr", region="eu-central-1")
    steps = json.loads(told.run("topology", "--discover", "--plan", "--region", HOME, "-o", "json")[0])
    assert {(each["do"], each["kind"]) for each in steps if each["region"] == "eu-central-1"} == {
        ("create", kind) for kind in ("queue", "topic", "subscription", "rule")
    }
    store = f"{outputs['StoreUrl']}&endpoint={sandbox.endpoint}"
    (pair,) = json.loads(told.run("--store", store, "topology", "-o", "json")[0])
    assert (pair["source"]["bucket"], pair["destination"]["region"]) == ("orders", "eu-west-1")
    told.run("destroy", "hub", "-y", "--region", HOME, "--purge")
    assert (stacks(sandbox), sorted(buckets(sandbox))) == ([], ["more", "orders", "orders-dr"])
