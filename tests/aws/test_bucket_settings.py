"""Notification settings of buckets: merged with care, taken out again, or printed as a patch."""

from __future__ import annotations

import json
import shlex
from typing import Any

import pytest
import yaml

from crr_monitor.aws.bucket_settings import (
    Change,
    OverlapError,
    configuration,
    patch,
    restored,
    wanted_configuration,
)
from tests.aws.making import HUB, TOKEN, stack, watched

EVENTBRIDGE = stack(event_source="EventBridge")
NOTIFICATIONS = stack(event_source="S3Notifications")
TOPIC = f"arn:aws:sns:us-east-1:{HUB}:crr-monitor-{TOKEN}-events"
VERSIONS = ["s3:ObjectCreated:*", "s3:ObjectRemoved:Delete", "s3:ObjectRemoved:DeleteMarkerCreated"]
OURS = {"Id": f"crr-monitor-{TOKEN}-events", "TopicArn": TOPIC, "Events": [*VERSIONS, "s3:Replication:*"]}


def entry(*events: str, prefix: str = "", suffix: str = "") -> dict[str, Any]:
    """Somebody else's notification to a queue."""
    rules = [{"Name": name, "Value": value} for name, value in (("Prefix", prefix), ("Suffix", suffix)) if value]
    found: dict[str, Any] = {"Id": "theirs", "QueueArn": "arn:aws:sqs:us-east-1:1:q", "Events": list(events)}
    return found | ({"Filter": {"Key": {"FilterRules": rules}}} if rules else {})


def test_switch_is_added() -> None:
    """With EventBridge the switch is added to what is there."""
    current = {"QueueConfigurations": [entry("s3:ObjectCreated:*")]}
    assert wanted_configuration(EVENTBRIDGE, watched(), current) == {**current, "EventBridgeConfiguration": {}}


def test_source_gets_failure_events_too() -> None:
    """With S3Notifications a source sends its versions' events and replication's, to the topic of its Region."""
    assert wanted_configuration(NOTIFICATIONS, watched(), {}) == {"TopicConfigurations": [OURS]}


def test_destination_sends_versions_only() -> None:
    """A bucket that is only a destination has no replication to report."""
    wanted = wanted_configuration(NOTIFICATIONS, watched(source=False), {})
    assert wanted == {"TopicConfigurations": [{**OURS, "Events": VERSIONS}]}


def test_by_prefix() -> None:
    """A rule's prefix becomes the filter, with an entry for each."""
    wanted = wanted_configuration(NOTIFICATIONS, watched(prefixes=("a/", "b/")), {}) or {}
    filters = [each["Filter"]["Key"]["FilterRules"] for each in wanted["TopicConfigurations"]]
    assert filters == [[{"Name": "prefix", "Value": "a/"}], [{"Name": "prefix", "Value": "b/"}]]
    assert [each["Id"].removeprefix(OURS["Id"]) for each in wanted["TopicConfigurations"]] == ["", "-1"]


@pytest.mark.parametrize(
    ("mine", "current"),
    [
        (EVENTBRIDGE, {"EventBridgeConfiguration": {}}),
        (NOTIFICATIONS, {"TopicConfigurations": [{**OURS, "Events": sorted(OURS["Events"], reverse=True)}]}),
    ],
)
def test_nothing_to_do(mine: Any, current: dict[str, Any]) -> None:  # noqa: ANN401 - a stack
    """What is there already, in whatever order S3 gives it, is left alone."""
    assert wanted_configuration(mine, watched(), current) is None


@pytest.mark.parametrize(
    "theirs",
    [
        entry("s3:ObjectCreated:Put"),
        entry("s3:ObjectCreated:*", prefix="2026/"),
        entry("s3:ObjectCreated:*", suffix=".txt"),
        entry("s3:Replication:OperationFailedReplication"),
        entry("s3:ObjectRemoved:*"),
    ],
)
def test_overlap_is_refused(theirs: dict[str, Any]) -> None:
    """S3 takes one receiver per event and key: where another entry has it, nothing is merged and the entry is named."""
    with pytest.raises(OverlapError, match=r"bucket orders: its notification theirs sends .* to arn:aws:sqs"):
        wanted_configuration(NOTIFICATIONS, watched(), {"QueueConfigurations": [theirs]})


@pytest.mark.parametrize(
    "theirs",
    [entry("s3:ObjectRestore:Completed"), entry("s3:ObjectCreated:*", prefix="other/"), entry("s3:ObjectTagging:*")],
)
def test_no_overlap(theirs: dict[str, Any]) -> None:
    """Other events, and the same events under a prefix of their own, are left as they are beside ours."""
    wanted = wanted_configuration(NOTIFICATIONS, watched(prefixes=("2026/",)), {"QueueConfigurations": [theirs]}) or {}
    assert wanted["QueueConfigurations"] == [theirs]
    assert len(wanted["TopicConfigurations"]) == 1


def test_restore_takes_out_ours_only() -> None:
    """What others changed in the meantime stays; our entry goes, and the switch where it was off before."""
    since = entry("s3:ObjectTagging:*")
    current = {"TopicConfigurations": [OURS], "QueueConfigurations": [since], "EventBridgeConfiguration": {}}
    assert restored(NOTIFICATIONS, current, {}) == {"QueueConfigurations": [since]}


def test_restore_leaves_the_switch_that_was_on() -> None:
    """A switch that was on before is not turned off."""
    before: dict[str, Any] = {"EventBridgeConfiguration": {}}
    assert restored(EVENTBRIDGE, before, before) is None


def test_merge_and_restore_are_opposites() -> None:
    """After merging and restoring, a configuration is what it was."""
    before = {"QueueConfigurations": [entry("s3:ObjectTagging:*")]}
    for mine in (EVENTBRIDGE, NOTIFICATIONS):
        merged = wanted_configuration(mine, watched(), before)
        assert merged is not None
        assert restored(mine, merged, before) == before


def test_another_stack_in_the_same_bucket_is_not_ours() -> None:
    """A second stack's entry overlaps like anybody else's, and is not taken for ours."""
    other = {**OURS, "Id": "crr-monitor-ffffffffffff-events", "TopicArn": "arn:other"}
    with pytest.raises(OverlapError, match="crr-monitor-ffffffffffff-events"):
        wanted_configuration(NOTIFICATIONS, watched(), {"TopicConfigurations": [other]})


def test_answer_becomes_document() -> None:
    """GetBucketNotificationConfiguration's answer has more than can be put again."""
    answer: dict[str, Any] = {"ResponseMetadata": {}, "EventBridgeConfiguration": {}, "QueueConfigurations": []}
    assert configuration(answer) == {"EventBridgeConfiguration": {}, "QueueConfigurations": []}


def lines(change: Change, title: str) -> str:
    """One part of the patch, without its title."""
    (found,) = [part for part in patch(change).split("# orders")[1:] if title in part.splitlines()[0]]
    return found.split("\n", 1)[1]


def test_patch() -> None:
    """The patch has the whole document for the CLI, and what is new for the other two, all well formed."""
    each = watched(prefixes=("it's ${x}/",))
    current = {"QueueConfigurations": [entry("s3:ObjectTagging:*")]}
    wanted = wanted_configuration(NOTIFICATIONS, each, current)
    assert wanted is not None
    change = Change("orders", "us-east-1", current, wanted)
    command = shlex.split(lines(change, "AWS CLI").replace("\\\n", " "))
    assert command[:3] == ["aws", "s3api", "put-bucket-notification-configuration"]
    assert json.loads(command[-1]) == wanted
    properties = yaml.safe_load(lines(change, "CloudFormation"))["NotificationConfiguration"]
    assert [each["Event"] for each in properties["TopicConfigurations"]] == OURS["Events"]
    (rule,) = properties["TopicConfigurations"][0]["Filter"]["S3Key"]["Rules"]
    assert rule == {"Name": "prefix", "Value": "it's ${x}/"}
    assert 'filter_prefix = "it\'s $${x}/"' in lines(change, "Terraform")


def test_patch_of_the_switch() -> None:
    """For EventBridge the patch is the switch."""
    change = Change("orders", "us-east-1", {}, wanted_configuration(EVENTBRIDGE, watched(), {}) or {})
    properties = yaml.safe_load(lines(change, "CloudFormation"))
    assert properties == {"NotificationConfiguration": {"EventBridgeConfiguration": {"EventBridgeEnabled": True}}}
    assert lines(change, "Terraform").strip() == "eventbridge = true"
