"""``crr-monitor reconcile`` against a local S3: answers are stored, refusals are told, one line of JSON is printed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("boto3")
pytest.importorskip("ministack")

from crr_monitor.core.topology import Topology
from crr_monitor.sandbox import Sandbox
from crr_monitor.stores.base import system_clock
from tests.aws.making import HOME, HUB, make_bucket, replicate
from tests.cli.running import FAILED, OK, USAGE, call, fill, objects
from tests.factories import AUDIT, TWO_DESTINATIONS, config, rule, user_write
from tests.stores.dynamodb_server import without_credentials

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from click.testing import Result

    from crr_monitor.core.events import Written

KEY = "a b+c é.txt"
LONG_AGO = 1_700_000_000_000
BACK = Topology([config(rule("orders"), bucket="orders-dr")])
"""The replica's bucket is the source, as far as anybody knows."""


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """``orders`` replicates to ``orders-dr`` in another Region; the environment has credentials, and no way to AWS."""
    with pytest.MonkeyPatch.context() as patch:
        without_credentials(patch)
        with Sandbox() as running:
            iam = running.client("iam", HUB, HOME)
            statement = {"Effect": "Allow", "Principal": {"Service": "s3.amazonaws.com"}, "Action": "sts:AssumeRole"}
            trust = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
            iam.create_role(RoleName="replication", AssumeRolePolicyDocument=trust)
            everything = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
            policy = json.dumps({"Version": "2012-10-17", "Statement": [everything]})
            iam.put_role_policy(RoleName="replication", PolicyName="all", PolicyDocument=policy)
            make_bucket(running, "orders")
            make_bucket(running, "orders-dr", "eu-west-1")
            replicate(running, "orders", "orders-dr")
            yield running


def overdue(bucket: str = "orders", **fields: Any) -> Written:  # noqa: ANN401 - any field of the event
    """A write of long ago, by whatever clock this runs."""
    return user_write(bucket, **{"at": LONG_AGO, **fields})


def put(sandbox: Sandbox, key: str = KEY) -> str:
    """A version that is replicated."""
    version_id = sandbox.client("s3", HUB, HOME).put_object(Bucket="orders", Key=key, Body=b"x")["VersionId"]
    sandbox.settle()
    return str(version_id)


def reconcile(store: Path, sandbox: Sandbox, *options: str) -> Result:
    """Run the command against the local S3."""
    return call(store, "reconcile", "--endpoint-url", sandbox.endpoint, "--region", HOME, *options)


def figures(result: Result, status: int = OK) -> dict[str, Any]:
    """The line that it prints."""
    assert result.exit_code == status, (result.output, result.exception)
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def test_asks_and_stores(sandbox: Sandbox, tmp_path: Path) -> None:
    """What S3 says is in the store afterwards, and the figures are one line of JSON."""
    store = fill(tmp_path / "store.db", overdue(key=KEY, version_id=put(sandbox)))
    told = figures(reconcile(store, sandbox))
    assert (told["due"], told["asked"], told["records_changed"], told["answers"]) == (1, 1, 1, {"completed": 1})
    assert (told["could_not_ask"], told["more"], told["left"]) == ([], False, 0)
    (record,) = objects(store, "list")
    assert [(copy["status"], copy["evidence"]) for copy in record["destinations"]] == [("COMPLETED", "head")]
    assert figures(reconcile(store, sandbox))["due"] == 0


def test_refusals_are_told(sandbox: Sandbox, tmp_path: Path) -> None:
    """A bucket that cannot be asked is a warning with its reason; the rest is done, and the status is 0."""
    version_id = put(sandbox)
    store = fill(tmp_path / "store.db", overdue(key=KEY, version_id=version_id), topology=TWO_DESTINATIONS)
    result = reconcile(store, sandbox)
    assert result.stderr == (
        "crr-monitor: warning: 1 question not answered: there is no bucket orders-audit: correct the rule, or create it"
        " again\n"
    )
    assert figures(result)["could_not_ask"][0]["cause"] == "bucket-missing"
    (record,) = objects(store, "list")
    statuses = {copy["bucket"]: copy["status"] for copy in record["destinations"]}
    assert statuses == {AUDIT: "PENDING", "orders-dr": "COMPLETED"}


def test_no_status_says_nothing_of_rules(sandbox: Sandbox, tmp_path: Path) -> None:
    """With an endpoint, which may be a store without statuses, a version without one stays pending."""
    client = sandbox.client("s3", HUB, "eu-west-1")
    version_id = client.put_object(Bucket="orders-dr", Key="own", Body=b"x")["VersionId"]
    store = fill(tmp_path / "store.db", overdue("orders-dr", key="own", version_id=version_id), topology=BACK)
    assert figures(reconcile(store, sandbox))["answers"] == {"not-eligible": 1, "missing": 1}
    assert [record["status"] for record in objects(store, "list")] == ["PENDING"]


def test_limits(sandbox: Sandbox, tmp_path: Path) -> None:
    """No more records than ``--limit`` are taken, and it is said that there are more."""
    versions = [overdue(key=f"k{number}", version_id=put(sandbox, f"k{number}")) for number in range(3)]
    store = fill(tmp_path / "store.db", *versions)
    result = reconcile(store, sandbox, "--limit", "2")
    assert (figures(result)["due"], figures(result)["more"]) == (2, True)
    assert "there is more to ask about: run the same command again" in result.stderr
    assert figures(reconcile(store, sandbox, "--after", "1000000"))["due"] in {
        0,
        1,
    }  # by how long ago the test's day is


def test_after(sandbox: Sandbox, tmp_path: Path) -> None:
    """What is younger than ``--after`` seconds is not asked about."""
    young = overdue(key=KEY, version_id=put(sandbox), at=system_clock() - 60_000)
    store = fill(tmp_path / "store.db", young)
    assert figures(reconcile(store, sandbox))["due"] == 0
    assert figures(reconcile(store, sandbox, "--after", "30"))["due"] == 1


def test_nobody_listens(tmp_path: Path) -> None:
    """Without a connection nothing changes, the reason is told, and the status is that of a monitor that cannot."""
    store = fill(tmp_path / "store.db", overdue())
    with pytest.MonkeyPatch.context() as patch:
        without_credentials(patch)
        result = call(store, "reconcile", "--endpoint-url", "http://127.0.0.1:9", "--region", HOME)
    assert [each["cause"] for each in figures(result, FAILED)["could_not_ask"]] == ["unreachable", "unreachable"]
    assert [record["status"] for record in objects(store, "list")] == ["PENDING"]


@pytest.mark.parametrize(("option", "status"), [(("--after", "0"), USAGE), (("--profile", "nobody"), FAILED)])
def test_wrong_options(sandbox: Sandbox, tmp_path: Path, option: tuple[str, str], status: int) -> None:
    """A wrong number is a usage error, a missing profile an error."""
    store = fill(tmp_path / "store.db", overdue())
    assert reconcile(store, sandbox, *option).exit_code == status
