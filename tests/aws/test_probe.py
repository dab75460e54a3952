"""Asking a real S3 API about versions, with IAM enforced: every kind of answer, and every reason for none."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from crr_monitor.aws import probe
from crr_monitor.aws.probe import PATH_STYLE, PROBE_OPTIONS, S3Prober
from crr_monitor.aws.sessions import Sessions
from crr_monitor.core.reconcile import Found, Missing, Place, Unasked
from crr_monitor.sandbox import Latency, Sandbox, Settings
from tests.aws.making import AGENT, HOME, HUB, make_bucket, replicate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crr_monitor.core.reconcile import Reply

ABROAD = "eu-west-1"
KEY = "2026/a b+c é%41.txt"
ROLE = "crr-monitor-0123456789ab-agent"
READ = ["s3:GetObjectVersion"]
LIST = ["s3:ListBucket"]
LIST_VERSIONS = ["s3:ListBucketVersions"]
SOURCE, DESTINATION, AUDIT = Place("orders", HUB, HOME), Place("orders-dr", HUB, ABROAD), Place("audit", AGENT, ABROAD)
NOBODY = "nobody.such.version.00000000000"


def document(*statements: dict[str, Any]) -> str:
    """A policy."""
    return json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", **each} for each in statements]})


class World:
    """A bucket with two destinations, one of them in another account, and a user of the hub's who asks."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        for account in (HUB, AGENT):
            iam = sandbox.client("iam", account, HOME)
            trust = document({"Principal": {"Service": "s3.amazonaws.com"}, "Action": "sts:AssumeRole"})
            iam.create_role(RoleName="replication", AssumeRolePolicyDocument=trust)
            everything = document({"Action": "s3:*", "Resource": "*"})
            iam.put_role_policy(RoleName="replication", PolicyName="all", PolicyDocument=everything)
        make_bucket(sandbox, "orders")
        make_bucket(sandbox, "orders-dr", ABROAD)
        make_bucket(sandbox, "audit", ABROAD, AGENT)
        self._open_audit()
        replicate(sandbox, "orders", "orders-dr", "audit")
        self.s3 = sandbox.client("s3", HUB, HOME)
        self.version = self.put()
        sandbox.settle()
        self.asker = self._make_asker()

    def _open_audit(self) -> None:
        actions = ["s3:ReplicateObject", "s3:ReplicateDelete", "s3:ReplicateTags"]
        principal = {"AWS": f"arn:aws:iam::{HUB}:root"}
        policy = document({"Principal": principal, "Action": actions, "Resource": "arn:aws:s3:::audit/*"})
        self.sandbox.client("s3", AGENT, ABROAD).put_bucket_policy(Bucket="audit", Policy=policy)

    def put(self, key: str = KEY) -> str:
        """A new version."""
        return str(self.s3.put_object(Bucket="orders", Key=key, Body=b"x")["VersionId"])

    def _make_asker(self) -> Any:  # noqa: ANN401 - boto3's session
        """Credentials of a role of the hub, as its function has them; its rights are those of :meth:`allow`."""
        iam = self.sandbox.client("iam", HUB, HOME)
        trust = document({"Principal": {"AWS": f"arn:aws:iam::{HUB}:root"}, "Action": "sts:AssumeRole"})
        iam.create_role(RoleName="asker", AssumeRolePolicyDocument=trust)
        role = f"arn:aws:iam::{HUB}:role/asker"
        sts = self.sandbox.client("sts", HUB, HOME)
        told = sts.assume_role(RoleArn=role, RoleSessionName="test")["Credentials"]
        boto3 = pytest.importorskip("boto3")
        return boto3.Session(told["AccessKeyId"], told["SecretAccessKey"], told["SessionToken"])

    def allow(self, *actions: list[str], role: str = "asker", account: str = HUB) -> None:
        """Give a role these rights on all buckets, and that of assuming the agent's role; no others."""
        statements = [{"Action": each, "Resource": "arn:aws:s3:::*"} for each in actions]
        statements.append({"Action": ["sts:AssumeRole"], "Resource": f"arn:aws:iam::{AGENT}:role/{ROLE}"})
        iam = self.sandbox.client("iam", account, HOME)
        iam.put_role_policy(RoleName=role, PolicyName="rights", PolicyDocument=document(*statements))

    def make_agent_role(self) -> None:
        """The agent's role, which trusts the asker."""
        iam = self.sandbox.client("iam", AGENT, HOME)
        trust = document({"Principal": {"AWS": f"arn:aws:iam::{HUB}:role/asker"}, "Action": "sts:AssumeRole"})
        iam.create_role(RoleName=ROLE, AssumeRolePolicyDocument=trust)
        self.allow(READ, LIST, role=ROLE, account=AGENT)

    def remove_agent_role(self) -> None:
        """It is gone, as when the agent's stack is deleted."""
        iam = self.sandbox.client("iam", AGENT, HOME)
        if any(each["RoleName"] == ROLE for each in iam.list_roles()["Roles"]):
            iam.delete_role_policy(RoleName=ROLE, PolicyName="rights")
            iam.delete_role(RoleName=ROLE)

    def prober(self, endpoint: str | None = None, **options: Any) -> S3Prober:  # noqa: ANN401
        """One that knows nothing yet."""
        sessions = Sessions(
            HUB,
            role_name=ROLE,
            endpoint_url=endpoint or self.sandbox.endpoint,
            base=self.asker,
            options={**PROBE_OPTIONS, **PATH_STYLE, "retries": {"total_max_attempts": 1}, "read_timeout": 2},
        )
        return S3Prober(sessions, HOME, **options)

    def ask(self, place: Place, version: str = "", key: str = KEY) -> Reply:
        """One question by a new prober."""
        return self.prober().ask(place, key, version or self.version)


@pytest.fixture(scope="module")
def whole() -> Iterator[World]:
    """One for all tests."""
    soon = Latency(0.01)
    with Sandbox(Settings(seed=1, auth=True, replication=soon, notification=soon, event=soon, trail=soon)) as sandbox:
        yield World(sandbox)


@pytest.fixture
def world(whole: World) -> World:
    """Without faults and agent's role, and with all rights that are needed."""
    whole.sandbox.end_fault()
    whole.remove_agent_role()
    whole.allow(READ, LIST, LIST_VERSIONS)
    return whole


def refused(reply: Reply) -> tuple[str, str | None]:
    """Cause and missing permission."""
    assert isinstance(reply, Unasked), reply
    return reply.cause, reply.permission


# Answers --------------------------------------------------------------------------------------------------------------


def test_statuses(world: World) -> None:
    """The source tells COMPLETED and PENDING, the replica REPLICA, and what no rule took has no status."""
    assert world.ask(SOURCE) == Found("COMPLETED")
    assert world.ask(DESTINATION) == Found("REPLICA")
    outage = world.sandbox.outage(bucket="orders-dr")
    waiting = world.put("waiting")
    world.sandbox.settle()
    assert world.ask(SOURCE, waiting, "waiting") == Found("PENDING")
    assert world.ask(DESTINATION, waiting, "waiting") == Missing()
    world.sandbox.end_fault(outage)
    other = world.sandbox.client("s3", HUB, ABROAD).put_object(Bucket="orders-dr", Key="own", Body=b"")["VersionId"]
    assert world.ask(DESTINATION, other, "own") == Found()


def test_failed(world: World) -> None:
    """FAILED is told as such."""
    world.sandbox.fault("fail", match={"destination": "orders-dr"}, code="DstKmsKeyNotFound")
    version = world.put("fails")
    world.sandbox.settle()
    assert world.ask(SOURCE, version, "fails") == Found("FAILED")


def test_missing(world: World) -> None:
    """A version that the bucket does not have is missing, whether it has others of the key or not."""
    assert world.ask(SOURCE, NOBODY) == Missing()
    assert world.ask(SOURCE, NOBODY, "no such key") == Missing()


def test_delete_marker(world: World) -> None:
    """S3 answers 405 for a delete marker by its version id: it is there, and its status is not told."""
    world.s3.put_object(Bucket="orders", Key="marked", Body=b"x")
    marker = world.s3.delete_object(Bucket="orders", Key="marked")["VersionId"]
    assert world.ask(SOURCE, marker, "marked") == Found(silent=True)


def test_wrong_region(world: World) -> None:
    """A bucket whose Region is not known is found all the same."""
    assert world.ask(Place("orders-dr")) == Found("REPLICA")


def test_other_account(world: World) -> None:
    """A bucket of another account is asked through the agent's role there."""
    world.make_agent_role()
    assert world.ask(AUDIT) == Found("REPLICA")
    assert world.ask(AUDIT, NOBODY) == Missing()


# No answers -----------------------------------------------------------------------------------------------------------


def test_no_right_to_read(world: World) -> None:
    """Where only listing is allowed, the right to read versions is named as missing."""
    world.allow(LIST)
    assert refused(world.ask(SOURCE)) == ("denied", "s3:GetObjectVersion")
    reply = world.ask(SOURCE)
    assert isinstance(reply, Unasked)
    assert "allow s3:GetObjectVersion on bucket orders to the role that asks in account 111122223333" in reply.text


def test_no_right_to_list(world: World) -> None:
    """Without the right to list, a missing version answers 403: that is no answer, and both rights are named."""
    world.allow(READ)
    assert world.ask(SOURCE) == Found("COMPLETED")
    assert refused(world.ask(SOURCE, NOBODY)) == ("denied", "s3:GetObjectVersion, s3:ListBucket")


def test_no_bucket(world: World) -> None:
    """A missing bucket is not a missing version."""
    assert refused(world.ask(Place("no-such-bucket", HUB, HOME), NOBODY)) == ("bucket-missing", None)


def test_no_agent(world: World) -> None:
    """Without the agent's role its account cannot be reached, and the role is named."""
    reply = world.ask(AUDIT)
    assert refused(reply) == ("account-unreachable", "sts:AssumeRole")
    assert isinstance(reply, Unasked)
    assert f"arn:aws:iam::{AGENT}:role/{ROLE}" in reply.text


def test_an_unreachable_account_is_left_alone_for_a_while(world: World) -> None:
    """Who has no role is not asked for it at each version, and asked again a moment later."""
    seconds = [0.0]
    prober = world.prober(monotonic=lambda: seconds[0])
    refusal = prober.ask(AUDIT, KEY, world.version)
    world.make_agent_role()
    assert prober.ask(AUDIT, KEY, world.version) is refusal
    seconds[0] = 15.0
    assert prober.ask(AUDIT, KEY, world.version) == Found("REPLICA")


def test_the_role_is_removed_meanwhile(world: World) -> None:
    """A session outlives its role: when it is refused, the role is assumed anew, and so its removal is told."""
    prober = world.prober()
    world.make_agent_role()
    assert prober.ask(AUDIT, KEY, world.version) == Found("REPLICA")
    world.remove_agent_role()
    assert refused(prober.ask(AUDIT, KEY, world.version)) == ("account-unreachable", "sts:AssumeRole")


def test_the_role_may_less_meanwhile(world: World) -> None:
    """A role that is there and may not read is told by the right that it lacks."""
    prober = world.prober()
    world.make_agent_role()
    world.allow(LIST, role=ROLE, account=AGENT)
    assert refused(prober.ask(AUDIT, KEY, world.version)) == ("denied", "s3:GetObjectVersion")
    assert refused(prober.ask(AUDIT, KEY, world.version)) == ("denied", "s3:GetObjectVersion")


def test_own_credentials_everywhere(world: World) -> None:
    """Without roles one's own credentials ask other accounts' buckets, as their policies may allow it."""
    statements = [
        {"Action": actions, "Resource": resource, "Principal": {"AWS": f"arn:aws:iam::{HUB}:root"}}
        for actions, resource in ((READ, "arn:aws:s3:::audit/*"), (LIST, "arn:aws:s3:::audit"))
    ]
    client = world.sandbox.client("s3", AGENT, ABROAD)
    before = client.get_bucket_policy(Bucket="audit")["Policy"]
    client.put_bucket_policy(Bucket="audit", Policy=document(*statements))
    try:
        assert world.prober(own_only=True).ask(AUDIT, KEY, world.version) == Found("REPLICA")
    finally:
        client.put_bucket_policy(Bucket="audit", Policy=before)


@pytest.mark.parametrize(
    ("status", "cause"), [(503, "throttled"), (429, "throttled"), (500, "unreachable"), (405, "refused")]
)
def test_trouble(world: World, status: int, cause: str) -> None:
    """Throttling and errors of the service say nothing of the version, nor does 405 without the mark of a marker."""
    world.sandbox.fault("error", match={"service": "s3", "operation": "HEAD"}, code="SlowDown", status=status)
    assert refused(world.ask(SOURCE)) == (cause, None)


def test_nobody_listens(world: World) -> None:
    """No connection is no answer; the address, its Region and the cure are named."""
    reply = world.prober("http://127.0.0.1:9").ask(SOURCE, KEY, world.version)
    assert reply == Unasked(
        "unreachable",
        f"s3:HeadObject in orders: http://127.0.0.1:9 (Region {HOME}) cannot be reached: check name resolution and"
        " network, and the address, if you named it (--endpoint-url) (EndpointConnectionError)",
        None,
    )


def test_404_without_a_look_at_the_bucket(world: World) -> None:
    """404 where HeadBucket tells nothing is not taken for an answer."""
    world.sandbox.fault("error", match={"service": "s3", "resource": "/orders "}, code="Internal", status=500)
    assert refused(world.ask(SOURCE, NOBODY)) == ("refused", None)


def encrypted(world: World) -> None:
    """Refuse HEAD as S3 does for an object with its owner's key (SSE-C)."""
    world.sandbox.fault("error", match={"service": "s3", "operation": "HEAD"}, code="InvalidRequest", status=400)


def test_customer_key(world: World) -> None:
    """Of an object whose key is its owner's the listing tells that it is there, and no status."""
    encrypted(world)
    assert world.ask(DESTINATION) == Found(silent=True)


def test_400_of_what_is_not_listed(world: World) -> None:
    """400 for a version that the listing does not have is not taken for an answer."""
    encrypted(world)
    assert refused(world.ask(DESTINATION, NOBODY)) == ("refused", None)


def test_400_for_another_reason(world: World) -> None:
    """Where the listing fails for another reason than a missing right, that reason is told."""
    world.sandbox.fault("error", match={"service": "s3"}, code="ExpiredToken", status=400)
    reply = world.ask(SOURCE)
    assert refused(reply) == ("refused", None)
    assert isinstance(reply, Unasked)
    assert "ExpiredToken" in reply.text


def test_customer_key_among_many_versions(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than a few pages of the listing are looked through."""
    monkeypatch.setattr(probe, "LISTED_PAGES", 1)
    monkeypatch.setattr(probe, "PAGE_VERSIONS", 1)
    for _ in range(2):
        world.put("many")
    encrypted(world)
    assert refused(world.ask(SOURCE, NOBODY, "many")) == ("encrypted", None)


def test_customer_key_without_listing(world: World) -> None:
    """Where versions may not be listed either, nothing is known, and that right is named."""
    encrypted(world)
    world.allow(READ, LIST)
    assert refused(world.ask(DESTINATION)) == ("encrypted", "s3:ListBucketVersions")
