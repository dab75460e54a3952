"""The local AWS of the demo with its buckets, and the monitor deployed into both accounts by its own templates."""

from __future__ import annotations

import importlib.util
import re
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, Self

from crr_monitor import templates
from crr_monitor.aws.artifacts import Bucket, bucket_name
from crr_monitor.aws.sessions import call
from crr_monitor.aws.stacks import Stacks
from crr_monitor.demo import DemoError
from crr_monitor.demo.scenario import (
    AGENT,
    BUCKETS,
    EUROPE,
    HOME,
    HUB,
    PREFIXES,
    REGIONS,
    RIGHTS,
    ROLE,
    TRUST,
    bucket_policies,
    configuration,
)
from crr_monitor.lambdas.package import Package, Target, build
from crr_monitor.sandbox import Latency, Sandbox, SandboxError, Settings
from crr_monitor.stores.dynamodb import DynamoStore
from crr_monitor.stores.dynamodb_tables import parse_address

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType

    from crr_monitor.aws.stacks import Event, Existing

EXTRA = ("boto3", "ministack")
EVENT_SOURCE = "S3Notifications"
"""Of the three it tells times to the millisecond and S3's own reasons of failures."""

HUB_STACK, AGENT_STACK = "crr-monitor", "crr-agent"
NEVER = "rate(24 hours)"
"""The demo lets the schedule fire itself, oftener than the minute that is the shortest in AWS."""

SETTLE_SECONDS = 120.0
ASK_SECONDS = 0.2
_RAISED = re.compile(r"[\w.]+(Error|Exception)\b")
LATENCIES = Settings(
    seed=1,
    auth=True,
    replication=Latency(1.2, spread=0.7, limit=8.0),
    notification=Latency(0.2, spread=0.5, limit=2.0),
    event=Latency(0.2, spread=0.5, limit=2.0),
    trail=Latency(0.4, spread=0.5, limit=3.0),
)
"""Policies are enforced, and everything takes about as long as it does in AWS on a good day."""


class Progress(Protocol):
    """Hears how the start goes on."""

    def step(self, text: str) -> None:
        """Something begins."""

    def detail(self, text: str) -> None:
        """How far it is."""


def require_extra() -> None:
    """See that the local AWS is installed.

    Raises:
        DemoError: it is not; with what to install.
    """
    missing = [name for name in EXTRA if importlib.util.find_spec(name) is None]
    if missing:
        message = (
            f"the demo needs the extra sandbox ({' and '.join(missing)} missing): pip install 'crr-monitor[sandbox]'"
        )
        raise DemoError(message)


@contextmanager
def _told() -> Iterator[None]:
    """Within it, what goes wrong in the local AWS is an error of the demo."""
    try:
        yield
    except SandboxError as error:
        message = f"the local AWS: {in_a_line(str(error))}"
        raise DemoError(message) from error


def in_a_line(text: str) -> str:
    """The first line of a text, and of a traceback in it what was raised; all of it is shown with ``-v``."""
    first, *others = [line.strip() for line in text.splitlines() if line.strip()]
    raised = [line for line in others if _RAISED.match(line)] or others
    return " ".join([first, *raised[-1:]])


class System:
    """A context manager: in its block the local AWS is there, afterwards nothing of it is left.

    Methods may raise :class:`DemoError`, and what :mod:`crr_monitor.aws` and the store raise.
    """

    def __init__(self, settings: Settings = LATENCIES) -> None:
        self._sandbox = Sandbox(settings)
        self._code: Package | None = None
        self._hub: Existing | None = None
        self._schedule = ""
        self._outages: list[int] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the local AWS, also one that has only begun to start. A second call does nothing."""
        self._sandbox.stop()

    # Making -----------------------------------------------------------------------------------------------------------

    def start(self, progress: Progress) -> None:
        """Start everything and wait until it is ready for traffic."""
        accounts = {bucket.account for bucket in BUCKETS.values()}
        progress.step(f"starting a local AWS: {len(accounts)} accounts, {len(REGIONS)} Regions, permissions enforced")
        with _told():
            self._sandbox.start()
        progress.step(f"making {len(BUCKETS)} buckets, {len(PREFIXES)} of them with replication rules")
        self._make_buckets()
        progress.step("packing the functions' code")
        self._code = build(Target.HOST)
        progress.step(f"deploying the hub into account {HUB}, {HOME}")
        given = {"EventSource": EVENT_SOURCE, "AgentAccounts": AGENT, "BucketSettings": "Change", "Schedule": NEVER}
        hub = self._deploy(HUB, HOME, HUB_STACK, templates.HUB, given, progress)
        progress.step(f"deploying the agent into account {AGENT}, {EUROPE}")
        given = {**{name: hub.outputs[name] for name in templates.HUB_TELLS}, "BucketSettings": "Change"}
        self._deploy(AGENT, EUROPE, AGENT_STACK, templates.AGENT, given, progress)
        self._hub = hub
        found = {each.logical_id: each.physical_id for each in self._stacks(HUB, HOME).resources(hub)}
        self._schedule = found["ProcessSchedule"]
        progress.step("waiting until the rules are known in every Region")
        self.settle()

    def client(self, service: str, account: str, region: str) -> Any:  # noqa: ANN401 - boto3 makes its classes at run time
        """A client of the local AWS."""
        return self._sandbox.client(service, account, region)

    def s3(self, account: str, region: str) -> Any:  # noqa: ANN401
        """A client of S3."""
        return self.client("s3", account, region)

    def _make_buckets(self) -> None:
        for account in sorted({bucket.account for bucket in BUCKETS.values()}):
            iam = self.client("iam", account, HOME)
            call("iam:CreateRole", iam.create_role, RoleName=ROLE, AssumeRolePolicyDocument=TRUST)
            call("iam:PutRolePolicy", iam.put_role_policy, RoleName=ROLE, PolicyName="all", PolicyDocument=RIGHTS)
        for bucket in BUCKETS.values():
            s3 = self.s3(bucket.account, bucket.region)
            named = {"Bucket": bucket.name}
            place = {"LocationConstraint": bucket.region}
            more = {} if bucket.region == HOME else {"CreateBucketConfiguration": place}
            call(f"s3:CreateBucket {bucket.name}", s3.create_bucket, **named, **more)
            enabled = {"Status": "Enabled"}
            call("s3:PutBucketVersioning", s3.put_bucket_versioning, **named, VersioningConfiguration=enabled)
        for name, policy in bucket_policies().items():
            s3 = self.s3(BUCKETS[name].account, BUCKETS[name].region)
            call("s3:PutBucketPolicy", s3.put_bucket_policy, Bucket=name, Policy=policy)
        for name in PREFIXES:
            s3 = self.s3(BUCKETS[name].account, BUCKETS[name].region)
            rules = {"Bucket": name, "ReplicationConfiguration": configuration(name)}
            call("s3:PutBucketReplication", s3.put_bucket_replication, **rules)

    def _stacks(self, account: str, region: str) -> Stacks:
        client = self.client("cloudformation", account, region)
        return Stacks(client, sleep=lambda seconds: time.sleep(min(seconds, ASK_SECONDS)))

    def _deploy(  # noqa: PLR0913, PLR0917 - what, where, with what
        self, account: str, region: str, name: str, template: str, given: Mapping[str, str], progress: Progress
    ) -> Existing:
        """Deploy a template as ``crr-monitor deploy`` does, from a bucket."""
        bucket = Bucket(self.s3(account, region), bucket_name(account, region), account, region)
        bucket.make()
        code = self._code or build(Target.HOST)
        bucket.put(code.key, code.data)
        stored, _ = bucket.put_template(templates.text(template))
        stacks = self._stacks(account, region)
        proposal = stacks.propose(name, stored, {**given, "CodeBucket": bucket.name, "CodeKey": code.key})
        if proposal is None:
            message = f"CloudFormation finds nothing to make in {template}: this is a bug"
            raise DemoError(message)
        made = 0

        def tell(event: Event) -> None:
            nonlocal made
            made += event.status == "CREATE_COMPLETE" and not event.of_stack
            progress.detail(f"{made} resources made, last {event.logical_id}")

        return stacks.execute(proposal, tell)

    # Asking -----------------------------------------------------------------------------------------------------------

    @property
    def hub(self) -> Existing:
        """The hub's stack.

        Raises:
            DemoError: it is not there yet.
        """
        if self._hub is None:
            message = "the hub is not deployed yet: start() first"
            raise DemoError(message)
        return self._hub

    @property
    def store_url(self) -> str:
        """The hub's store, as ``--store`` takes it."""
        return f"{self.hub.outputs['StoreUrl']}&endpoint={self._sandbox.endpoint}"

    def store(self) -> DynamoStore:
        """The hub's store."""
        address = parse_address(self.store_url)
        return DynamoStore(self.client("dynamodb", HUB, HOME), address.status, address.statistics)

    def waiting(self) -> int:
        """Events in the queue, those that the function has received included."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        sqs, queue = self.client("sqs", HUB, HOME), self.hub.outputs["QueueUrl"]
        told = call("sqs:GetQueueAttributes", sqs.get_queue_attributes, QueueUrl=queue, AttributeNames=names)
        return sum(int(told["Attributes"][name]) for name in names)

    # Driving ----------------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Let the schedule of the processing function fire, unless a function still runs."""
        with _told():
            if not self._sandbox.state()["invocations"]["running"]:
                self._sandbox.run_rule(HUB, HOME, self._schedule)

    def begin_outage(self, region: str) -> None:
        """Nothing is replicated from or to this Region from now on."""
        with _told():
            self._outages.append(self._sandbox.outage(region=region))

    def end_outages(self) -> None:
        """Every Region is reachable again, and what waited is replicated."""
        with _told():
            while self._outages:
                self._sandbox.end_fault(self._outages.pop())

    def settle(self) -> None:
        """Wait until nothing is under way."""
        with _told():
            self._sandbox.settle(SETTLE_SECONDS, functions=True)

    def drain(self) -> None:
        """Wait for everything that is under way, and let the monitor take in all of it."""
        self.settle()
        end = time.monotonic() + SETTLE_SECONDS
        while self.waiting():
            if time.monotonic() > end:
                message = f"events are still in the queue after {SETTLE_SECONDS:.0f} s"
                raise DemoError(message)
            self.tick()
            self.settle()
