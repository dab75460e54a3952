"""Calls of the canary: a Region that does not answer takes little of a run's time."""

from __future__ import annotations

import importlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("boto3")

from crr_monitor.aws.canary import QUICK, SILENT_SECONDS, CanaryBuckets
from crr_monitor.aws.sessions import AwsError
from crr_monitor.core.reconcile import Place

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY = ".crr-monitor/canary/abc"
NEAR, FAR, FARTHER = (Place(name, None, region) for name, region in (("a", "one"), ("b", "two"), ("c", "two")))


class World:
    """Regions with what their calls raise; the clients of all of them, and a clock."""

    def __init__(self) -> None:
        self.trouble: dict[str, Exception] = {}
        self.asked: list[str] = []
        self.now = 0.0
        self.buckets = CanaryBuckets(self, "one", lambda: self.now)

    def client(self, _service: str, region: str, _account: str | None = None) -> Any:  # noqa: ANN401
        """The client of a Region."""
        return Client(self, region)


class Client:
    """The part of S3's client that the canary uses."""

    def __init__(self, world: World, region: str) -> None:
        self._world = world
        self._region = region

    def _ask(self) -> None:
        self._world.asked.append(self._region)
        if self._region in self._world.trouble:
            raise self._world.trouble[self._region]

    def put_object(self, **_request: Any) -> dict[str, str]:  # noqa: ANN401
        """A new version."""
        self._ask()
        return {"VersionId": "v"}

    def delete_object(self, **_request: Any) -> None:  # noqa: ANN401
        """Removed."""
        self._ask()

    def get_paginator(self, _method: str) -> Client:
        """A listing."""
        return self

    def paginate(self, **_request: Any) -> Iterator[dict[str, Any]]:  # noqa: ANN401
        """One page with one version."""
        self._ask()
        yield {"Versions": [{"Key": KEY, "VersionId": "v", "LastModified": datetime(2026, 1, 1, tzinfo=UTC)}]}


def sdk_error(name: str, *arguments: Any, **fields: Any) -> Exception:  # noqa: ANN401
    """An error of the SDK."""
    made: Exception = getattr(importlib.import_module("botocore.exceptions"), name)(*arguments, **fields)
    return made


@pytest.fixture
def world() -> World:
    """All is well."""
    return World()


def test_a_silent_region_is_asked_once(world: World) -> None:
    """After a call that nobody answered the Region's other buckets are refused at once, and other Regions are asked."""
    world.trouble["two"] = sdk_error("ConnectTimeoutError", endpoint_url="https://two")
    with pytest.raises(AwsError, match="https://two"):
        world.buckets.write(FAR, KEY)
    for place in (FAR, FARTHER):
        with pytest.raises(AwsError, match="two did not answer a moment ago") as refused:
            world.buckets.remove(place, KEY, ["v"])
        assert not refused.value.denied
    assert world.buckets.write(NEAR, KEY) == "v"
    assert world.asked == ["two", "one"]


def test_it_is_asked_again(world: World) -> None:
    """A minute later the Region is asked again, and once it answers, so are all its buckets."""
    world.trouble["two"] = sdk_error("EndpointConnectionError", endpoint_url="https://two")
    with pytest.raises(AwsError):
        world.buckets.versions(FAR, KEY)
    world.trouble.clear()
    world.now = SILENT_SECONDS
    assert [each.version_id for place in (FAR, FARTHER) for each in world.buckets.versions(place, KEY)] == ["v", "v"]


def test_one_bucket_in_trouble_silences_no_other(world: World) -> None:
    """An answer, whatever it says, shows that the Region is there."""
    answer = {"Error": {"Code": "SlowDown"}, "ResponseMetadata": {"HTTPStatusCode": 503}}
    world.trouble["two"] = sdk_error("ClientError", answer, "PutObject")
    for place in (FAR, FARTHER):
        with pytest.raises(AwsError, match="SlowDown"):
            world.buckets.write(place, KEY)
    assert world.asked == ["two", "two"]


def test_time_outs_leave_time_for_others() -> None:
    """To find out that a Region does not answer takes less than a twelfth of the time that the function has."""
    assert QUICK["retries"]["total_max_attempts"] * (QUICK["connect_timeout"] + QUICK["read_timeout"]) < 300 / 12
