"""Failure events: what a bucket needs for them, merged without changing anything else."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crr_monitor.aws import failure_events
from crr_monitor.aws.bucket_settings import OverlapError
from crr_monitor.aws.failure_events import ENTRY_ID, TOPIC, FailureEvents, publish_statement, with_entry, with_metrics
from crr_monitor.aws.sessions import AwsError
from tests.aws.making import HOME, HUB, make_bucket, new_sessions, replicate, replicated_pair, sessions
from tests.sandbox.making import rule

if TYPE_CHECKING:
    from collections.abc import Callable

    from crr_monitor.sandbox import Sandbox

ARN = f"arn:aws:sns:{HOME}:{HUB}:{TOPIC}"
ENTRY = {"Id": ENTRY_ID, "TopicArn": ARN, "Events": ["s3:Replication:*"]}
RTC = {
    "Metrics": {"Status": "Enabled", "EventThreshold": {"Minutes": 15}},
    "ReplicationTime": {"Status": "Enabled", "Time": {"Minutes": 15}},
}


def configuration(*rules: dict[str, Any]) -> dict[str, Any]:
    """A replication configuration."""
    return {"Role": "arn:aws:iam::1:role/r", "Rules": list(rules)}


def events(sandbox: Sandbox, **options: Any) -> FailureEvents:  # noqa: ANN401
    """For the hub's account."""
    named = options.get("topic_arn")
    return FailureEvents(sessions(sandbox), "aws", None if named is None else lambda _: named)


RULES = st.fixed_dictionaries(
    {
        "ID": st.text(),
        "Status": st.sampled_from(["Enabled", "Disabled"]),
        "Filter": st.sampled_from(
            [{}, {"Prefix": "a/"}, {"And": {"Prefix": "a", "Tags": [{"Key": "k", "Value": "v"}]}}]
        ),
        "Destination": st.sampled_from(
            [
                {"Bucket": "arn:aws:s3:::b"},
                {"Bucket": "arn:aws:s3:::b", **RTC},
                {"Bucket": "b", "StorageClass": "GLACIER"},
            ]
        ),
    },
    optional={"Priority": st.integers(1), "SourceSelectionCriteria": st.dictionaries(st.text(), st.text())},
)


@given(st.lists(RULES).map(lambda rules: configuration(*rules)))
def test_metrics_change_nothing_else(current: dict[str, Any]) -> None:
    """Every enabled rule has metrics afterwards; without them all is as it was, and a second look adds none."""
    before = copy.deepcopy(current)
    wanted, changed, problems = with_metrics("orders", current)
    assert (current, problems) == (before, [])
    enabled = [each for each in wanted["Rules"] if each["Status"] == "Enabled"]
    assert all(each["Destination"]["Metrics"]["Status"] == "Enabled" for each in enabled)
    assert with_metrics("orders", wanted)[:2] == (wanted, ())
    stripped = copy.deepcopy(wanted)
    for old, new in zip(before["Rules"], stripped["Rules"], strict=True):
        if "Metrics" not in old["Destination"]:
            new["Destination"].pop("Metrics", None)
    assert stripped == before
    assert len(changed) == sum(
        "Metrics" not in old["Destination"] and old["Status"] == "Enabled" for old in before["Rules"]
    )


def test_metrics_that_were_switched_off() -> None:
    """A threshold of before belongs to Replication Time Control, which stays off, and goes."""
    off = {"Metrics": {"Status": "Disabled", "EventThreshold": {"Minutes": 15}}}
    wanted, changed, _ = with_metrics("orders", configuration(rule("dr", target=off)))
    assert changed == ("dr",)
    assert wanted["Rules"][0]["Destination"]["Metrics"] == {"Status": "Enabled"}


def test_rules_of_the_first_kind_are_refused() -> None:
    """S3 takes no metrics for a rule without Filter; what to do is told."""
    old = {"ID": "old", "Status": "Enabled", "Prefix": "", "Destination": {"Bucket": "b"}}
    _, _, problems = with_metrics("orders", configuration(old))
    (problem,) = problems
    assert problem.startswith("orders: rule old has no Filter")
    assert problem.endswith("give it a Filter, a Priority and DeleteMarkerReplication")


def test_entry_is_added() -> None:
    """Entries of others stay, also for other events of the same bucket, and the EventBridge switch."""
    theirs = {"Id": "theirs", "QueueArn": "q", "Events": ["s3:ObjectCreated:*"]}
    current = {"QueueConfigurations": [theirs], "EventBridgeConfiguration": {}}
    assert with_entry("orders", current, ARN) == {**current, "TopicConfigurations": [ENTRY]}
    assert with_entry("orders", {"TopicConfigurations": [ENTRY]}, ARN) == {"TopicConfigurations": [ENTRY]}


def test_entry_of_another_topic_is_replaced() -> None:
    """An entry of ours that names another topic is changed, not doubled."""
    old = {**ENTRY, "TopicArn": "arn:aws:sns:x:1:old"}
    assert with_entry("orders", {"TopicConfigurations": [old]}, ARN) == {"TopicConfigurations": [ENTRY]}


def test_same_topic_already() -> None:
    """A topic that gets all of replication's events already needs nothing, whatever its entry is called."""
    current = {
        "TopicConfigurations": [{"Id": "x", "TopicArn": ARN, "Events": ["s3:ObjectCreated:*", "s3:Replication:*"]}]
    }
    assert with_entry("orders", current, ARN) == current


def test_hub_gets_them_already() -> None:
    """Where a hub's set-up has let the bucket publish to the hub's topic, its entry is enough, also by prefix."""
    rules = [{"Name": "prefix", "Value": "data/"}]
    topic = f"arn:aws:sns:{HOME}:{HUB}:crr-monitor-0123456789ab-events"
    entry = {"Id": "x", "TopicArn": topic, "Events": ["s3:Replication:*"], "Filter": {"Key": {"FilterRules": rules}}}
    assert with_entry("orders", {"TopicConfigurations": [entry]}, ARN) == {"TopicConfigurations": [entry]}


@pytest.mark.parametrize("event", ["s3:Replication:*", "s3:Replication:OperationFailedReplication"])
def test_overlap_is_refused(event: str) -> None:
    """Somebody else's receiver of failures is named, and nothing is merged."""
    current = {"LambdaFunctionConfigurations": [{"Id": "pager", "LambdaFunctionArn": "arn:f", "Events": [event]}]}
    with pytest.raises(OverlapError, match=r"its notification pager sends s3:Replication:.* to arn:f"):
        with_entry("orders", current, ARN)


def test_everything_is_done_once(sandbox: Sandbox) -> None:
    """Topic, notification and metrics are made; afterwards nothing is left to do, and the rest is as it was."""
    replicated_pair(sandbox)
    s3 = sandbox.client("s3", HUB, HOME)
    before = s3.get_bucket_replication(Bucket="orders")["ReplicationConfiguration"]
    found = events(sandbox).look({"orders": HOME})
    (topic,), (wanted,) = found.topics.values(), found.buckets
    assert (topic.arn, topic.there, wanted.rules, found.problems) == (ARN, False, ("to-orders-dr",), [])
    events(sandbox).make_topic(topic)
    events(sandbox).change(wanted)
    after = s3.get_bucket_replication(Bucket="orders")["ReplicationConfiguration"]
    assert after["Rules"][0]["Destination"].pop("Metrics") == {"Status": "Enabled"}
    assert after == before
    again = events(sandbox).look({"orders": HOME})
    assert (again.buckets[0].rules, again.buckets[0].notification_after) == ((), again.buckets[0].notification)
    assert (again.topics[ARN].there, again.topics[ARN].open) == (True, True)


def test_change_in_the_meantime(sandbox: Sandbox) -> None:
    """Who changed the bucket after the plan is not overruled."""
    replicated_pair(sandbox)
    found = events(sandbox).look({"orders": HOME})
    events(sandbox).make_topic(found.topics[ARN])
    make_bucket(sandbox, "other")
    replicate(sandbox, "orders", "other")
    with pytest.raises(AwsError, match="somebody has changed its settings in the meantime"):
        events(sandbox).change(found.buckets[0])
    rules = sandbox.client("s3", HUB, HOME).get_bucket_replication(Bucket="orders")["ReplicationConfiguration"]["Rules"]
    assert [each["Destination"] for each in rules] == [{"Bucket": "arn:aws:s3:::other"}]


def test_what_the_sdk_does_not_know_is_not_lost(sandbox: Sandbox) -> None:
    """Settings of a newer S3, which this boto3 would drop on the way back, are a reason to refuse."""
    replicated_pair(sandbox)
    own = new_sessions(sandbox)

    def newer(response_dict: dict[str, Any], **_: Any) -> None:  # noqa: ANN401
        response_dict["body"] = response_dict["body"].replace(b"</Rule>", b"<Moon><Phase>Full</Phase></Moon></Rule>")

    own.client("s3", HOME).meta.events.register_first("before-parse.s3.GetBucketReplication", newer)
    found = FailureEvents(own, "aws").look({"orders": HOME})
    assert found.buckets == []
    (problem,) = found.problems
    assert problem.startswith("orders: its replication configuration holds what this version of boto3 does not know")


def closed_topic(sandbox: Sandbox) -> str:
    """A topic whose policy says nothing of S3."""
    return str(sandbox.client("sns", HUB, HOME).create_topic(Name="closed")["TopicArn"])


@pytest.mark.parametrize(
    ("topic", "told"),
    [
        (lambda _: f"arn:aws:sns:{HOME}:{HUB}:none", "there is no topic"),
        (lambda _: f"arn:aws:sns:eu-west-1:{HUB}:abroad", "S3 publishes to topics of that Region only"),
        (closed_topic, "does not let S3 publish: its policy needs"),
    ],
)
def test_topic_that_will_not_do(topic: Callable[[Sandbox], str], told: str, sandbox: Sandbox) -> None:
    """A topic that was named and is missing, elsewhere or closed is refused, with what to do."""
    replicated_pair(sandbox)
    (problem,) = events(sandbox, topic_arn=topic(sandbox)).look({"orders": HOME}).problems
    assert told in problem


def test_bucket_without_rules(sandbox: Sandbox) -> None:
    """Where nothing is replicated nothing can fail."""
    make_bucket(sandbox, "plain")
    assert events(sandbox).look({"plain": HOME}).problems == ["plain: has no replication rules"]


def test_statement_lets_in_one_account() -> None:
    """Only buckets of the account may publish."""
    condition = publish_statement(ARN, HUB)["Condition"]
    assert condition == {"StringEquals": {"aws:SourceAccount": HUB}}
    assert failure_events.queue_statement(ARN, "q")["Condition"] == {"ArnEquals": {"aws:SourceArn": ARN}}
