"""Stacks in a local AWS: change sets, progress, failures with their reasons, outputs, deletion and what stays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from crr_monitor import templates
from crr_monitor.aws.artifacts import Bucket, template_key
from crr_monitor.aws.parameters import ParameterError, check, declared, missing, retained
from crr_monitor.aws.stacks import (
    STACK,
    STORED_TEMPLATE_BYTES,
    TEMPLATE_BYTES,
    ChangeSet,
    Event,
    Existing,
    Stacks,
    can_be_sent,
)
from crr_monitor.aws.stacks import Change as StackChange
from crr_monitor.aws.stacks import StackError as Refused
from tests.aws.making import HOME, HUB, make_bucket

pytest.importorskip("ministack")
pytest.importorskip("boto3")

if TYPE_CHECKING:
    from crr_monitor.sandbox import Sandbox

NAME = "small"
TEMPLATE = """\
Parameters:
  Seconds:
    Type: Number
    Default: 30
    MinValue: 0
    MaxValue: 43200
  Mode:
    Type: String
    AllowedValues: [Calm, "Wild"]
  Account:
    Type: CommaDelimitedList
    Default: ""
    AllowedPattern: "(\\\\d{12})?"
    ConstraintDescription: account ids have 12 digits
  CodeKey:
    Type: String

Resources:
  Queue:
    Type: AWS::SQS::Queue
    Properties:
      VisibilityTimeout: !Ref Seconds

  Kept:
    Type: AWS::S3::Bucket
    # It stays.
    DeletionPolicy: RetainExceptOnCreate

Outputs:
  QueueUrl:
    Description: Where it is
    Value: !Ref Queue
"""
BROKEN = TEMPLATE.replace(
    "Outputs:",
    """\
  Broken:
    Type: AWS::Events::EventBusPolicy
    DependsOn: Queue
    Properties:
      EventBusName: no-such-bus
      StatementId: s
      Statement: {Effect: Allow, Principal: "*", Action: events:PutEvents, Resource: "*"}

Outputs:""",
)
"""With a policy of a bus that is not there."""

CALM = {"Mode": "Calm", "CodeKey": "k"}


class Watcher:
    """Stacks without pauses, and the events that were told."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.client = sandbox.client("cloudformation", HUB, HOME)
        self.stacks = Stacks(self.client)
        self.events: list[Event] = []

    def deploy(
        self, given: dict[str, str] | None = None, kept: tuple[str, ...] = (), template: str = TEMPLATE
    ) -> Existing:
        """Propose and execute at once."""
        proposal = self.stacks.propose(NAME, template, CALM if given is None else given, kept)
        assert proposal is not None
        return self.stacks.execute(proposal, self.events.append)

    def told(self) -> list[tuple[str, str]]:
        """Resource and status of each event, since this was asked last."""
        found = [(event.logical_id, event.status) for event in self.events]
        self.events.clear()
        return found


@pytest.fixture
def watcher(sandbox: Sandbox) -> Watcher:
    """An AWS without stacks."""
    return Watcher(sandbox)


def test_creation(watcher: Watcher) -> None:
    """A new stack's change set adds each resource; carried out, it tells each event once and gives the outputs."""
    proposal = watcher.stacks.propose(NAME, TEMPLATE, CALM)
    assert proposal is not None
    assert (proposal.creates, sorted(proposal.changes, key=str)) == (
        True,
        [StackChange("Add", "Kept", "AWS::S3::Bucket"), StackChange("Add", "Queue", "AWS::SQS::Queue")],
    )
    stack = watcher.stacks.execute(proposal, watcher.events.append)
    assert (stack.status, stack.parameters["Mode"], stack.descriptions) == (
        "CREATE_COMPLETE",
        "Calm",
        {"QueueUrl": "Where it is"},
    )
    assert stack.outputs["QueueUrl"].startswith("http")
    told = watcher.told()
    assert len(told) == len({*told})
    assert {("Queue", "CREATE_COMPLETE"), ("Kept", "CREATE_COMPLETE")} <= {*told}
    assert told[-1] == (NAME, "CREATE_COMPLETE")


def test_update_tells_only_what_is_new(watcher: Watcher) -> None:
    """An update keeps the parameters that it is told to keep, and tells no event of the creation again."""
    watcher.deploy()
    watcher.told()
    stack = watcher.deploy({"Seconds": "60"}, ("Mode", "CodeKey"))
    assert (stack.status, stack.parameters["Seconds"], stack.parameters["Mode"]) == ("UPDATE_COMPLETE", "60", "Calm")
    told = watcher.told()
    assert ("Queue", "UPDATE_COMPLETE") in told
    assert [status for _, status in told if status.startswith("CREATE")] == []


def test_nothing_to_change(watcher: Watcher) -> None:
    """The same again is no proposal, and leaves no change set behind."""
    watcher.deploy()
    assert watcher.stacks.propose(NAME, TEMPLATE, CALM) is None
    left = watcher.client.list_change_sets(StackName=NAME)["Summaries"]
    assert [each["Status"] for each in left if each["ExecutionStatus"] == "AVAILABLE"] == []
    assert [each["ChangeSetName"] for each in left if each["Status"] == "FAILED"] == []


def test_discarded_proposal_leaves_nothing(watcher: Watcher) -> None:
    """A proposal that is taken back leaves neither change set nor stack."""
    proposal = watcher.stacks.propose(NAME, TEMPLATE, CALM)
    assert proposal is not None
    watcher.stacks.discard(proposal)
    assert watcher.stacks.find(NAME) is None


def test_discarded_update_leaves_the_stack(watcher: Watcher) -> None:
    """A proposal to change a stack that is taken back leaves the stack as it was."""
    before = watcher.deploy()
    proposal = watcher.stacks.propose(NAME, TEMPLATE, {**CALM, "Seconds": "60"})
    assert proposal is not None
    watcher.stacks.discard(proposal)
    assert watcher.stacks.find(NAME) == before


def test_failed_creation_names_resource_and_reason(watcher: Watcher) -> None:
    """The error names the failed resource, its type and its own reason, and nothing is left of the stack."""
    with pytest.raises(Refused) as caught:
        watcher.deploy(template=BROKEN)
    text = str(caught.value)
    assert text.startswith(f"stack {NAME}: Broken (AWS::Events::EventBusPolicy) CREATE_FAILED: ")
    assert "no-such-bus" in text
    assert text.endswith("; everything was taken back: mend it, and deploy again")
    assert watcher.stacks.find(NAME) is None
    watcher.deploy()


def test_failed_update_says_that_all_is_as_before(watcher: Watcher) -> None:
    """After an update that failed the error says that the stack is as it was, and it is."""
    watcher.deploy()
    with pytest.raises(
        Refused, match=r"Broken \(AWS::Events::EventBusPolicy\) (CREATE|UPDATE)_FAILED: .*; the stack is as it was"
    ):
        watcher.deploy({**CALM, "Seconds": "60"}, template=BROKEN)
    stack = watcher.stacks.find(NAME)
    assert stack is not None
    assert (stack.status, stack.parameters["Seconds"]) == ("UPDATE_ROLLBACK_COMPLETE", "30")


def test_refused_change(watcher: Watcher) -> None:
    """What CloudFormation refuses before it begins leaves no stack behind."""
    with pytest.raises(Exception, match="Mode"):
        watcher.stacks.propose(NAME, TEMPLATE, {"CodeKey": "k", "Mode": "Loud"})
    assert watcher.stacks.find(NAME) is None


def test_deletion_tells_what_stays(watcher: Watcher) -> None:
    """Deleting a stack gives what its template retains, with the physical id, and removes the rest."""
    stack = watcher.deploy()
    physical = {each.logical_id: each.physical_id for each in watcher.stacks.resources(stack)}
    kept = watcher.stacks.delete(stack, watcher.events.append)
    assert [(event.logical_id, event.physical_id) for event in kept] == [("Kept", physical["Kept"])]
    assert watcher.stacks.find(NAME) is None
    assert watcher.told()[-1] == (NAME, "DELETE_COMPLETE")


def test_template_is_given_as_it_was_sent(watcher: Watcher) -> None:
    """The text of a deployed template tells what it retains."""
    assert retained(watcher.stacks.template(watcher.deploy())) == {"Kept"}


@pytest.mark.parametrize(
    "status", ["ROLLBACK_COMPLETE", "DELETE_FAILED", "UPDATE_IN_PROGRESS", "UPDATE_ROLLBACK_FAILED"]
)
def test_unusable_stack_is_told_before_anything_is_done(status: str) -> None:
    """A stack that cannot be changed now is told with its status and what to do, and no change set is made."""
    stack = {"StackName": NAME, "StackId": "arn:small", "StackStatus": status}
    client = Client(describe_stacks=[{"Stacks": [stack]}])
    with pytest.raises(Refused, match=f"stack {NAME} is {status}: .*(then|first)"):
        Stacks(client).propose(NAME, TEMPLATE, CALM)


class Client:
    """Answers each operation with what it was given for it, the last answer again and again."""

    def __init__(self, **answers: list[Any]) -> None:
        self._answers = answers

    def __getattr__(self, operation: str) -> Any:  # noqa: ANN401 - as boto3's
        answers = self._answers[operation]
        return lambda *_, **__: answers.pop(0) if len(answers) > 1 else answers[0]


def test_failed_creation_that_could_not_be_taken_back() -> None:
    """Where a bucket was written to before the rollback, the stack is removed all the same, and the bucket named."""

    def event(number: int, name: str, status: str, kind: str = "AWS::S3::Bucket") -> dict[str, Any]:
        physical = "arn:small" if kind == STACK else "small-kept"
        told = {"EventId": str(number), "StackId": "arn:small", "PhysicalResourceId": physical, "ResourceType": kind}
        return {**told, "LogicalResourceId": name, "ResourceStatus": status}

    before = [event(0, NAME, "REVIEW_IN_PROGRESS", STACK)]
    failed = [event(2, NAME, "ROLLBACK_FAILED", STACK), event(1, "SetUp", "CREATE_FAILED", "Custom::SetUp"), *before]
    deleted = [event(4, NAME, "DELETE_COMPLETE", STACK), event(3, "Kept", "DELETE_SKIPPED"), *failed]
    client = Client(
        describe_stacks=[{"Stacks": [{"StackName": NAME, "StackId": "arn:small", "StackStatus": "ROLLBACK_FAILED"}]}],
        execute_change_set=[{}],
        delete_stack=[{}],
        get_paginator=[Pages([before, failed, failed, deleted])],
    )
    with pytest.raises(Refused) as caught:
        Stacks(client).execute(ChangeSet("arn:set", "arn:small", NAME, creates=True, new=True), lambda _: None)
    assert str(caught.value) == (
        f"stack {NAME}: SetUp (Custom::SetUp) CREATE_FAILED: no reason is told; everything was taken back but"
        " small-kept: mend it, and deploy again"
    )


class Pages:
    """Gives at each listing of events the next of some."""

    def __init__(self, answers: list[list[dict[str, Any]]]) -> None:
        self._answers = answers

    def paginate(self, **_: str) -> list[dict[str, Any]]:
        """One page."""
        return [{"StackEvents": self._answers.pop(0)}]


def test_waiting_ends() -> None:
    """A change set that never gets ready is an error after ten minutes, which says where to look."""
    seconds = [0.0]

    def sleep(pause: float) -> None:
        seconds[0] += pause

    client = Client(
        describe_stacks=[{"Stacks": [{"StackName": NAME, "StackId": "arn:small", "StackStatus": "CREATE_COMPLETE"}]}],
        create_change_set=[{"Id": "arn:set", "StackId": "arn:small"}],
        describe_change_set=[{"Status": "CREATE_IN_PROGRESS"}],
    )
    with pytest.raises(Refused, match=r"stack small is not ready after 10 minutes: see the stack's events"):
        Stacks(client, sleep=sleep, clock=lambda: seconds[0]).propose(NAME, TEMPLATE, CALM)
    assert 600 <= seconds[0] < 604


# Parameters -----------------------------------------------------------------------------------------------------------


def test_parameters_as_given() -> None:
    """Values that are allowed are taken as they are, also when they hold an equals sign or are empty."""
    known = declared(TEMPLATE)
    assert check(known, ["Mode=Wild", "Account=111122223333,444455556666", "Seconds=0"]) == {
        "Mode": "Wild",
        "Account": "111122223333,444455556666",
        "Seconds": "0",
    }
    assert check(known, ["Account="]) == {"Account": ""}
    assert (missing(known, []), missing(known, ["Mode"])) == (["Mode"], [])


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (["Mod=Calm"], "unknown parameter Mod (did you mean Mode?)"),
        (["Xyz=1"], "unknown parameter Xyz (there are Seconds, Mode, Account)"),
        (["Mode"], "'Mode': write it as KEY=VALUE"),
        (["Mode=Loud"], "parameter Mode is 'Loud': allowed is Calm, Wild"),
        (["Mode=Calm", "Mode=Calm"], "parameter Mode is given twice"),
        (["Account=1"], "parameter Account is '1': account ids have 12 digits"),
        (["Seconds=x"], "parameter Seconds is 'x': it has to be a whole number"),
        (["Seconds=43201"], "parameter Seconds is '43201': allowed is 0 to 43200"),
        (["CodeKey=k"], "CodeKey is set by deploy itself"),
    ],
    ids=str,
)
def test_wrong_parameters(given: list[str], text: str) -> None:
    """A parameter that is unknown, wrong, given twice or not for people is refused, and what is allowed is said."""
    with pytest.raises(ParameterError) as caught:
        check(declared(TEMPLATE), given)
    assert str(caught.value) == text


def artifacts(sandbox: Sandbox) -> Bucket:
    """The bucket for templates, made."""
    make_bucket(sandbox, "artifacts")
    return Bucket(sandbox.client("s3", HUB, HOME), "artifacts", HUB, HOME)


def long(size: int) -> str:
    """The template with a comment that makes it as long as that."""
    return TEMPLATE + "#" * (size - len(TEMPLATE))


def test_long_template(sandbox: Sandbox, watcher: Watcher) -> None:
    """A template that is too long to be sent is stored once, and CloudFormation reads it from there."""
    bucket, text = artifacts(sandbox), long(TEMPLATE_BYTES + 1)
    assert (can_be_sent(long(TEMPLATE_BYTES)), can_be_sent(text)) == (True, False)
    stored, new = bucket.put_template(text)
    assert (new, bucket.put_template(text)) == (True, (stored, False))
    proposal = watcher.stacks.propose(NAME, stored, CALM)
    assert proposal is not None
    assert watcher.stacks.template(watcher.stacks.execute(proposal, watcher.events.append)) == text
    bucket.take_back(template_key(text))
    assert sandbox.client("s3", HUB, HOME).list_object_versions(Bucket="artifacts").get("Versions", []) == []


def test_too_long_template(sandbox: Sandbox) -> None:
    """A template that CloudFormation would not take even from a bucket is refused with the limit, and not stored."""
    bucket = artifacts(sandbox)
    with pytest.raises(Refused) as caught:
        bucket.put_template(long(STORED_TEMPLATE_BYTES + 1))
    assert str(caught.value) == "the template has 1,000,001 bytes, and CloudFormation takes at most 1,000,000"
    assert sandbox.client("s3", HUB, HOME).list_objects_v2(Bucket="artifacts")["KeyCount"] == 0


@pytest.mark.parametrize("name", [templates.HUB, templates.AGENT])
def test_templates_are_understood_as_cloudformation_does(sandbox: Sandbox, watcher: Watcher, name: str) -> None:
    """Names, types and defaults of the real templates' parameters are those that CloudFormation reads."""
    text = templates.text(name)
    url = artifacts(sandbox).put_template(text)[0].url
    told = watcher.client.get_template_summary(TemplateURL=url)["Parameters"]
    known = declared(text)
    assert {each["ParameterKey"]: (each["ParameterType"], each.get("DefaultValue")) for each in told} == {
        each.name: (each.kind, each.default or "") for each in known.values()
    }
    assert retained(text) == {"TrailBucket", "TrailBucketPolicy"}
    for each in known.values():
        assert each.default is None or each.problem(each.default) is None, each.name


@pytest.mark.parametrize(
    ("name", "needed"), [(templates.HUB, []), (templates.AGENT, ["HubAccount", "HubBusArn", "HubRoleArns", "HubToken"])]
)
def test_what_a_deployment_has_to_be_told(name: str, needed: list[str]) -> None:
    """A hub needs no parameter, an agent those that a hub's outputs give."""
    assert missing(declared(templates.text(name)), []) == needed
