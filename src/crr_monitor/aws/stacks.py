"""CloudFormation stacks: proposed as a change set, carried out and followed event by event, deleted.

What a failed operation says is the failed resource's own reason, not the stack's "resource creation failed".
CloudFormation User Guide, "Update CloudFormation stacks using change sets" and "Stack status codes".
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

from crr_monitor.aws.sessions import AwsError, call, pages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

TEMPLATE_BYTES = 51_200
"""The longest template that can be sent as it is (User Guide, "CloudFormation quotas")."""

STORED_TEMPLATE_BYTES = 1_000_000
"""The longest template that CloudFormation takes from a bucket: 1 MB (the same page)."""

STACK = "AWS::CloudFormation::Stack"
REVIEW = "REVIEW_IN_PROGRESS"
"""A stack of which there is only a change set."""

UNUSABLE = {
    "ROLLBACK_COMPLETE": "it is what a failed creation left",
    "ROLLBACK_FAILED": "it is what a failed creation left",
    "CREATE_FAILED": "it is what a failed creation left",
    "DELETE_FAILED": "its deletion has begun and failed",
}
"""Stacks that can only be deleted."""

TAKEN_BACK = frozenset({"ROLLBACK_COMPLETE", "ROLLBACK_FAILED"})
"""How a failed creation ends. The latter where something could not be removed, as a bucket in which files are already:
whoever then deletes the stack keeps what its template retains."""

NO_CHANGES = ("didn't contain changes", "No updates are to be performed")
"""How CloudFormation says that a change set is empty: it has no status of its own for that."""

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 3.0
CHANGE_SET_SECONDS = 600.0
STACK_SECONDS = 3 * 3_600.0
"""A custom resource may take an hour, and failing may take another."""


class StackError(Exception):
    """The stack is not as it has to be, or could not be brought there; the text names resource, reason and cure."""


class StoredTemplate(Struct, frozen=True):
    """A template that is in a bucket, where CloudFormation reads it with the caller's own rights."""

    url: str


class Existing(Struct, frozen=True):
    """A stack as it is. ``outputs`` and ``descriptions`` are by the outputs' names."""

    name: str
    stack_id: str
    status: str
    parameters: Mapping[str, str]
    outputs: Mapping[str, str]
    descriptions: Mapping[str, str]


class Change(Struct, frozen=True):
    """What a change set does to one resource; ``replacement`` is CloudFormation's ``True``, ``Conditional`` or none."""

    action: str
    logical_id: str
    kind: str
    replacement: str = ""

    def __str__(self) -> str:
        how = {"True": ", replaced by a new one", "Conditional": ", perhaps replaced"}.get(self.replacement, "")
        return f"{self.action:<6}  {self.logical_id} ({self.kind}{how})"


class ChangeSet(Struct, frozen=True):
    """A proposal. ``creates``: nothing of the stack is there yet; ``new``: not even an older proposal."""

    arn: str
    stack_id: str
    stack_name: str
    creates: bool
    new: bool
    changes: tuple[Change, ...] = ()


class Event(Struct, frozen=True):
    """Something that happened to one resource of a stack, or to the stack itself."""

    event_id: str
    logical_id: str
    physical_id: str
    kind: str
    status: str
    reason: str = ""
    of_stack: bool = False

    @property
    def ends(self) -> bool:
        """Whether the stack's operation is over with this."""
        return self.of_stack and not self.status.endswith("_IN_PROGRESS")

    @property
    def failed(self) -> bool:
        """Whether this is a cause: what is cancelled because something else failed is none."""
        return not self.of_stack and self.status.endswith("_FAILED") and "cancelled" not in self.reason.lower()

    def __str__(self) -> str:
        return f"{self.status:<20}  {self.logical_id} ({self.kind})" + (f": {self.reason}" if self.reason else "")


class Resource(Struct, frozen=True):
    """A resource of a stack."""

    logical_id: str
    physical_id: str
    kind: str


class Stacks:
    """The stacks of one account and Region. Every method may raise :class:`AwsError`.

    ``sleep`` waits between two questions, ``clock`` gives seconds.
    """

    def __init__(
        self,
        client: Any,  # noqa: ANN401 - boto3's client of CloudFormation
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._sleep = sleep
        self._clock = clock

    # Looking ----------------------------------------------------------------------------------------------------------

    def find(self, name: str) -> Existing | None:
        """The stack with a name or an id, or ``None``."""
        try:
            told = call("cloudformation:DescribeStacks", self._client.describe_stacks, StackName=name)["Stacks"][0]
        except AwsError as error:
            # There is no code of its own for it (API Reference, "DescribeStacks").
            if error.code == "ValidationError" and "does not exist" in error.text:
                return None
            raise
        outputs = told.get("Outputs", [])
        return Existing(
            told["StackName"],
            told["StackId"],
            told["StackStatus"],
            {each["ParameterKey"]: each.get("ParameterValue", "") for each in told.get("Parameters", [])},
            {each["OutputKey"]: each["OutputValue"] for each in outputs},
            {each["OutputKey"]: each.get("Description", "") for each in outputs},
        )

    def all(self) -> Iterator[Existing]:
        """Every stack that is there."""
        for page in pages("cloudformation:DescribeStacks", self._client, "describe_stacks"):
            for told in page["Stacks"]:
                given = {each["ParameterKey"]: each.get("ParameterValue", "") for each in told.get("Parameters", [])}
                yield Existing(told["StackName"], told["StackId"], told["StackStatus"], given, {}, {})

    def resources(self, stack: Existing) -> list[Resource]:
        """What is in a stack."""
        found = pages(
            "cloudformation:ListStackResources", self._client, "list_stack_resources", StackName=stack.stack_id
        )
        return [
            Resource(each["LogicalResourceId"], each.get("PhysicalResourceId", ""), each["ResourceType"])
            for page in found
            for each in page["StackResourceSummaries"]
            if each["ResourceStatus"] != "DELETE_COMPLETE"
        ]

    def template(self, stack: Existing) -> str:
        """The text of a stack's template, as it was sent."""
        told = call("cloudformation:GetTemplate", self._client.get_template, StackName=stack.stack_id)
        return str(told["TemplateBody"])

    # Proposing --------------------------------------------------------------------------------------------------------

    def propose(
        self, name: str, template: str | StoredTemplate, given: Mapping[str, str], kept: Sequence[str] = ()
    ) -> ChangeSet | None:
        """A change set that creates or updates a stack, or ``None`` where nothing is to change.

        ``template`` is its text, or where it is stored: it has to be stored unless :func:`can_be_sent`.

        ``given`` are parameters with their values, ``kept`` those that keep the value they have. Parameters named in
        neither have the template's default.

        Raises:
            StackError: the stack cannot be changed now, or CloudFormation refuses the change, with its reason.
        """
        before = self.find(name)
        _check_usable(before)
        creates = before is None or before.status == REVIEW
        told = call(
            "cloudformation:CreateChangeSet",
            self._client.create_change_set,
            StackName=name,
            ChangeSetName=f"crr-monitor-{secrets.token_hex(6)}",
            ChangeSetType="CREATE" if creates else "UPDATE",
            **({"TemplateURL": template.url} if isinstance(template, StoredTemplate) else {"TemplateBody": template}),
            Parameters=[
                *({"ParameterKey": key, "ParameterValue": value} for key, value in given.items()),
                *({"ParameterKey": key, "UsePreviousValue": True} for key in kept),
            ],
            Capabilities=["CAPABILITY_NAMED_IAM"],
        )
        proposal = ChangeSet(told["Id"], told["StackId"], name, creates, before is None)
        answer = self._await_change_set(proposal)
        if answer["Status"] == "FAILED":
            reason = str(answer.get("StatusReason", "no reason is told"))
            self.discard(proposal)
            if any(text in reason for text in NO_CHANGES):
                return None
            message = f"CloudFormation refuses the change of stack {name}: {reason}"
            raise StackError(message)
        return replace(proposal, changes=self._changes(proposal, answer))

    def _await_change_set(self, proposal: ChangeSet) -> Any:  # noqa: ANN401 - the SDK's answer
        for _ in self._turns(CHANGE_SET_SECONDS, f"the change set of stack {proposal.stack_name} is not ready"):
            answer = self._describe(proposal)
            if not answer["Status"].endswith(("_PENDING", "_IN_PROGRESS")):
                return answer
        raise AssertionError  # pragma: no cover - the turns end with an error

    def _describe(self, proposal: ChangeSet, **more: str) -> Any:  # noqa: ANN401
        operation = "cloudformation:DescribeChangeSet"
        return call(operation, self._client.describe_change_set, ChangeSetName=proposal.arn, **more)

    def _changes(self, proposal: ChangeSet, answer: Any) -> tuple[Change, ...]:  # noqa: ANN401
        found = []
        while True:
            for each in answer.get("Changes", []):
                told = each["ResourceChange"]
                found.append(
                    Change(
                        told["Action"], told["LogicalResourceId"], told["ResourceType"], told.get("Replacement") or ""
                    )
                )
            if not answer.get("NextToken"):
                return tuple(found)
            answer = self._describe(proposal, NextToken=answer["NextToken"])

    def discard(self, proposal: ChangeSet) -> None:
        """Take a proposal back: afterwards it is as if it had never been."""
        operation = "cloudformation:DeleteChangeSet"
        call(operation, self._client.delete_change_set, ChangeSetName=proposal.arn)
        if proposal.new:
            call("cloudformation:DeleteStack", self._client.delete_stack, StackName=proposal.stack_id)

    # Doing ------------------------------------------------------------------------------------------------------------

    def execute(self, proposal: ChangeSet, progress: Callable[[Event], None]) -> Existing:
        """Carry out a proposal and wait for its end; ``progress`` hears of every event. Gives the stack as it then is.

        A stack whose creation fails is removed, so that the next try begins afresh.

        Raises:
            StackError: it failed; the text names the resource and its reason.
        """
        last = self._last_event(proposal.stack_id)
        call("cloudformation:ExecuteChangeSet", self._client.execute_change_set, ChangeSetName=proposal.arn)
        events = self._follow(proposal.stack_id, proposal.stack_name, last, progress)
        stack = self.find(proposal.stack_id)
        if stack is not None and stack.status in {"CREATE_COMPLETE", "UPDATE_COMPLETE"}:
            return stack
        message = _failure(proposal.stack_name, events)
        if proposal.creates and stack is not None and stack.status in TAKEN_BACK:
            stays = [event.physical_id for event in self.delete(stack, progress)]
            left = f" but {', '.join(sorted(stays))}" if stays else ""
            message += f"; everything was taken back{left}: mend it, and deploy again"
        elif stack is not None and stack.status == "UPDATE_ROLLBACK_COMPLETE":
            message += "; the stack is as it was before: mend it, and deploy again"
        raise StackError(message)

    def delete(self, stack: Existing, progress: Callable[[Event], None]) -> list[Event]:
        """Delete a stack and wait for its end; gives the events of what stays, by the template's word.

        Raises:
            StackError: it failed; the text names the resource and its reason.
        """
        if stack.status != REVIEW:
            last = self._last_event(stack.stack_id)
            call("cloudformation:DeleteStack", self._client.delete_stack, StackName=stack.stack_id)
            events = self._follow(stack.stack_id, stack.name, last, progress)
            if events[-1].status != "DELETE_COMPLETE":
                raise StackError(_failure(stack.name, events))
            return [event for event in events if event.status == "DELETE_SKIPPED"]
        call("cloudformation:DeleteStack", self._client.delete_stack, StackName=stack.stack_id)
        return []

    def _follow(self, stack_id: str, name: str, last: str, progress: Callable[[Event], None]) -> list[Event]:
        """All events after one, as they come, until the stack's operation is over."""
        found: list[Event] = []
        for _ in self._turns(STACK_SECONDS, f"stack {name} is still being changed"):
            for event in self._events_after(stack_id, last):
                found.append(event)
                last = event.event_id
                progress(event)
                if event.ends:
                    return found
        raise AssertionError  # pragma: no cover - the turns end with an error

    def _last_event(self, stack_id: str) -> str:
        told = next(
            pages("cloudformation:DescribeStackEvents", self._client, "describe_stack_events", StackName=stack_id)
        )
        events = told["StackEvents"]
        return str(events[0]["EventId"]) if events else ""

    def _events_after(self, stack_id: str, last: str) -> list[Event]:
        """They are told newest first, and given oldest first."""
        found: list[Event] = []
        for page in pages(
            "cloudformation:DescribeStackEvents", self._client, "describe_stack_events", StackName=stack_id
        ):
            for told in page["StackEvents"]:
                if told["EventId"] == last:
                    return found[::-1]
                found.append(_event(told))
        return found[::-1]

    def _turns(self, seconds: float, late: str) -> Iterator[None]:
        """Turns with growing pauses between them; after so many seconds an error that says what is late."""
        end, pause = self._clock() + seconds, FIRST_PAUSE
        while self._clock() < end:
            yield
            self._sleep(pause)
            pause = min(pause * 1.5, LONGEST_PAUSE)
        message = f"{late} after {seconds / 60:.0f} minutes: see the stack's events in the CloudFormation console"
        raise StackError(message)


def can_be_sent(template: str) -> bool:
    """Whether a template's text is short enough to be sent as it is."""
    return len(template.encode()) <= TEMPLATE_BYTES


def _check_usable(stack: Existing | None) -> None:
    if stack is None or stack.status == REVIEW:
        return
    if stack.status in UNUSABLE:
        message = (
            f"stack {stack.name} is {stack.status}: {UNUSABLE[stack.status]}; remove it with `crr-monitor destroy`,"
            " then deploy again"
        )
        raise StackError(message)
    if stack.status.endswith("_IN_PROGRESS"):
        message = f"stack {stack.name} is {stack.status}: wait until that is over, then try again"
        raise StackError(message)
    if stack.status == "UPDATE_ROLLBACK_FAILED":
        message = f"stack {stack.name} is {stack.status}: continue its rollback in the CloudFormation console first"
        raise StackError(message)


def _event(told: Mapping[str, Any]) -> Event:
    physical = told.get("PhysicalResourceId", "")
    return Event(
        told["EventId"],
        told["LogicalResourceId"],
        physical,
        told["ResourceType"],
        told["ResourceStatus"],
        told.get("ResourceStatusReason", ""),
        told["ResourceType"] == STACK and physical == told["StackId"],
    )


def _failure(name: str, events: Sequence[Event]) -> str:
    """The causes in the order in which they came; without one, what the stack itself says."""
    causes = [event for event in events if event.failed] or [event for event in events if event.of_stack][-1:]
    told = "; ".join(
        f"{event.logical_id} ({event.kind}) {event.status}: {event.reason.rstrip('. ') or 'no reason is told'}"
        for event in causes
    )
    return f"stack {name}: {told}"
