"""Set-up converges over HTTP: made once, nothing to do again, changes followed, all gone in the end."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from crr_monitor.aws.discovery import discover
from crr_monitor.aws.patterns import buckets_in
from crr_monitor.aws.plan_model import Watched
from crr_monitor.aws.record import BUCKETS, DOCUMENTS, REGIONS, Record
from crr_monitor.aws.selectors import trail_selectors
from crr_monitor.aws.setup import Known, execute, look, look_for_removal
from tests.aws.making import (
    AGENT,
    HOME,
    HUB,
    TOKEN,
    agent,
    deny,
    make_bucket,
    new_sessions,
    replicate,
    replicated_pair,
    sessions,
    stack,
)

if TYPE_CHECKING:
    from crr_monitor.aws.plan_model import Stack
    from crr_monitor.aws.setup import Report
    from crr_monitor.sandbox import Sandbox

REGIONS_USED = (HOME, "eu-west-1", "ap-south-1")
PREFIX = f"crr-monitor-{TOKEN}-"


def hub(sandbox: Sandbox, **fields: Any) -> Stack:  # noqa: ANN401 - any field of the stack
    """A hub whose queue is there, as its template makes it."""
    url = sandbox.client("sqs", HUB, HOME).create_queue(QueueName="queue")["QueueUrl"]
    return stack(queue_url=url, **fields)


def converge(sandbox: Sandbox, mine: Stack, known: Known | None = None, **options: Any) -> Report:  # noqa: ANN401
    """One run of set-up."""
    ours = sessions(sandbox, mine.account)
    record = Record(ours, mine)
    return execute(ours, look(ours, mine, record, discover(ours, mine.region), known), record, **options)


def remove(sandbox: Sandbox, mine: Stack) -> Report:
    """What happens when the stack is deleted."""
    ours = sessions(sandbox, mine.account)
    record = Record(ours, mine)
    return execute(ours, look_for_removal(ours, mine, record), record, change_buckets=True)


def inventory(sandbox: Sandbox, account: str = HUB) -> dict[str, list[str]]:
    """Everything of ours that there is, by kind, in any Region."""
    found: dict[str, list[str]] = {"rule": [], "topic": [], "queue": [], "parameter": []}
    for region in REGIONS_USED:
        rules = sandbox.client("events", account, region).list_rules()["Rules"]
        topics = sandbox.client("sns", account, region).list_topics()["Topics"]
        queues = sandbox.client("sqs", account, region).list_queues().get("QueueUrls", [])
        parameters = sandbox.client("ssm", account, region).describe_parameters()["Parameters"]
        found["rule"] += [rule["Name"] for rule in rules]
        found["topic"] += [topic["TopicArn"] for topic in topics]
        found["queue"] += [url for url in queues if not url.endswith("/queue")]
        found["parameter"] += [parameter["Name"] for parameter in parameters]
    return found


def watched_now(sandbox: Sandbox, region: str) -> set[str]:
    """The buckets that the rules of a Region name."""
    rules = sandbox.client("events", HUB, region).list_rules(NamePrefix=PREFIX + "events")["Rules"]
    return {bucket for rule in rules for bucket in buckets_in(json.loads(rule["EventPattern"]))}


def notifications(sandbox: Sandbox, bucket: str, region: str) -> dict[str, Any]:
    """A bucket's notification configuration."""
    client = sandbox.client("s3", HUB, region)
    answer = client.get_bucket_notification_configuration(Bucket=bucket)
    return {name: value for name, value in answer.items() if name != "ResponseMetadata"}


def test_twice_is_once(sandbox: Sandbox) -> None:
    """The first run makes everything, the second finds nothing to do."""
    replicated_pair(sandbox)
    mine = hub(sandbox)
    first, second = converge(sandbox, mine), converge(sandbox, mine)
    assert (first.problems, second.problems) == ([], [])
    assert (len(first.done), second.done) == (9, [])
    assert watched_now(sandbox, HOME) == {"orders"}
    assert watched_now(sandbox, "eu-west-1") == {"orders-dr"}


def test_new_bucket(sandbox: Sandbox) -> None:
    """A bucket that gets its rule later is watched after the next run, in a Region that was not used before."""
    replicated_pair(sandbox)
    mine = hub(sandbox)
    converge(sandbox, mine)
    make_bucket(sandbox, "late", "ap-south-1")
    replicate(sandbox, "late", "orders-dr", region="ap-south-1")
    report = converge(sandbox, mine)
    assert report.problems == []
    assert watched_now(sandbox, "ap-south-1") == {"late"}


def test_rule_taken_away(sandbox: Sandbox) -> None:
    """Where nothing is replicated any more, only the rule that listens for new replication rules stays."""
    replicated_pair(sandbox)
    mine = hub(sandbox)
    converge(sandbox, mine)
    sandbox.client("s3", HUB, HOME).delete_bucket_replication(Bucket="orders")
    assert converge(sandbox, mine).problems == []
    left = inventory(sandbox)
    assert left["rule"] == [PREFIX + "configuration"] * 2
    assert left["topic"] == []


def test_delete_leaves_nothing(sandbox: Sandbox) -> None:
    """Delete removes all that was made, also in a Region that is not used any more and whose removal had failed."""
    replicated_pair(sandbox)
    make_bucket(sandbox, "short", "ap-south-1")
    mine = hub(sandbox)
    converge(sandbox, mine)
    sandbox.client("s3", HUB, "ap-south-1").delete_bucket(Bucket="short")
    number = deny(sandbox, service="events", operation="DeleteRule")
    report = converge(sandbox, mine)
    assert len(report.problems) == 1
    assert "could not delete rule" in report.problems[0]
    sandbox.end_fault(number)
    assert remove(sandbox, mine).problems == []
    assert inventory(sandbox) == {"rule": [], "topic": [], "queue": [], "parameter": []}


def test_delete_twice(sandbox: Sandbox) -> None:
    """Deleting what is gone is no error."""
    replicated_pair(sandbox)
    mine = hub(sandbox)
    converge(sandbox, mine)
    remove(sandbox, mine)
    report = remove(sandbox, mine)
    assert (report.done, report.problems) == ([], [])


def test_stranger_in_our_region_stays(sandbox: Sandbox) -> None:
    """Rules, topics and queues that are not this stack's stay, those of another stack of ours included."""
    replicated_pair(sandbox)
    events = sandbox.client("events", HUB, "eu-west-1")
    events.put_rule(Name="theirs", EventPattern='{"source":["aws.s3"]}')
    events.put_rule(Name="crr-monitor-ffffffffffff-events-0", EventPattern='{"source":["aws.s3"]}')
    mine = hub(sandbox)
    converge(sandbox, mine)
    remove(sandbox, mine)
    assert inventory(sandbox)["rule"] == ["crr-monitor-ffffffffffff-events-0", "theirs"]


def test_partial_failure(sandbox: Sandbox) -> None:
    """What fails in one Region is reported with its reason, the rest is done, and the next run completes it."""
    replicated_pair(sandbox)
    mine = hub(sandbox)
    number = deny(sandbox, service="sns", operation="CreateTopic", region="eu-west-1")
    report = converge(sandbox, mine)
    assert [problem.split(":")[0] for problem in report.problems] == [
        f"could not create topic {PREFIX}events in eu-west-1",
        f"could not create subscription {PREFIX}events in eu-west-1",
    ]
    assert "AccessDenied" in report.problems[0]
    assert watched_now(sandbox, HOME) == {"orders"}
    sandbox.end_fault(number)
    assert converge(sandbox, mine).problems == []
    assert len(inventory(sandbox)["topic"]) == 1


def test_region_that_does_not_answer(sandbox: Sandbox) -> None:
    """In a Region that could not be asked nothing is changed, and it is said; the others are done."""
    replicated_pair(sandbox)
    mine = hub(sandbox)
    deny(sandbox, service="events", operation="ListRules", region="eu-west-1")
    report = converge(sandbox, mine)
    (problem,) = report.problems
    assert problem.startswith(
        "eu-west-1 could not be asked, so nothing is changed there: events:ListRules: AccessDenied"
    )
    assert [each for each in report.done if "eu-west-1" in each] == []
    assert watched_now(sandbox, HOME) == {"orders"}


def test_region_that_is_closed(sandbox: Sandbox) -> None:
    """A Region closed to the account, with a bucket that nobody has to watch, is noted, and in nobody's way later."""
    replicated_pair(sandbox)
    make_bucket(sandbox, "stray", "ap-south-1")
    mine = hub(sandbox)
    number = deny(sandbox, region="ap-south-1", service="events")
    report = converge(sandbox, mine)
    assert report.problems == []
    assert [note for note in report.notes if note.startswith("ap-south-1 could not be asked")] != []
    assert remove(sandbox, mine).problems == []
    sandbox.end_fault(number)
    assert inventory(sandbox) == {"rule": [], "topic": [], "queue": [], "parameter": []}


def test_not_knowing_is_no_reason_to_stop(sandbox: Sandbox) -> None:
    """While a watched bucket cannot be asked for its rules, it stays watched, and its destination as well."""
    replicated_pair(sandbox)
    mine = hub(sandbox)
    converge(sandbox, mine)
    deny(sandbox, service="s3", resource="/orders ")
    report = converge(sandbox, mine)
    assert report.done == []
    assert report.notes[0].startswith("bucket orders: s3:GetBucketReplication in us-east-1: AccessDenied")
    assert watched_now(sandbox, "eu-west-1") == {"orders-dr"}


def test_drift_is_mended(sandbox: Sandbox) -> None:
    """Somebody disabled a rule and removed a subscription: the next run puts it right."""
    replicated_pair(sandbox)
    mine = hub(sandbox)
    converge(sandbox, mine)
    sandbox.client("events", HUB, HOME).disable_rule(Name=PREFIX + "events-0")
    sns = sandbox.client("sns", HUB, "eu-west-1")
    (subscription,) = sns.list_subscriptions()["Subscriptions"]
    sns.unsubscribe(SubscriptionArn=subscription["SubscriptionArn"])
    assert sorted(each.split(":")[0] for each in converge(sandbox, mine).done) == [
        f"create subscription {PREFIX}events in eu-west-1",
        f"update rule {PREFIX}events-0 in us-east-1",
    ]


def test_own_trail(sandbox: Sandbox) -> None:
    """The stack's own trail logs writes to the replicated buckets and no management events, and goes with the stack.

    Others are not touched.
    """
    replicated_pair(sandbox)
    cloudtrail = sandbox.client("cloudtrail", HUB, HOME)
    make_bucket(sandbox, "logs")
    cloudtrail.create_trail(Name="theirs", S3BucketName="logs", IsMultiRegionTrail=True)
    cloudtrail.start_logging(Name="theirs")
    before = cloudtrail.get_event_selectors(TrailName="theirs")["EventSelectors"]
    mine = hub(sandbox, trail_bucket="logs")
    assert converge(sandbox, mine).problems == []
    (selector,) = cloudtrail.get_event_selectors(TrailName=mine.trail)["AdvancedEventSelectors"]
    fields = {field["Field"]: field for field in selector["FieldSelectors"]}
    assert fields["eventCategory"]["Equals"] == ["Data"]
    assert fields["resources.ARN"]["StartsWith"] == ["arn:aws:s3:::orders-dr/", "arn:aws:s3:::orders/"]
    told = cloudtrail.get_trail(Name=mine.trail)["Trail"]
    assert (told["S3BucketName"], told["IsMultiRegionTrail"]) == ("logs", True)
    assert cloudtrail.get_trail_status(Name=mine.trail)["IsLogging"] is True
    assert cloudtrail.get_event_selectors(TrailName="theirs")["EventSelectors"] == before
    assert converge(sandbox, mine).done == []
    assert remove(sandbox, mine).problems == []
    assert [each["Name"] for each in cloudtrail.list_trails()["Trails"]] == ["theirs"]


def test_own_trail_is_put_in_order(sandbox: Sandbox) -> None:
    """A trail that was stopped logs again, with its selectors, and into the stack's present bucket."""
    replicated_pair(sandbox)
    cloudtrail = sandbox.client("cloudtrail", HUB, HOME)
    make_bucket(sandbox, "logs")
    mine = hub(sandbox, trail_bucket="logs")
    converge(sandbox, mine)
    cloudtrail.stop_logging(Name=mine.trail)
    assert [each.split(":")[0] for each in converge(sandbox, replace(mine, trail_bucket="other")).done] == [
        f"update trail {mine.trail} in us-east-1"
    ]
    assert cloudtrail.get_trail_status(Name=mine.trail)["IsLogging"] is True
    assert cloudtrail.get_trail(Name=mine.trail)["Trail"]["S3BucketName"] == "other"


def test_own_trail_stays_until_another_logs(sandbox: Sandbox) -> None:
    """With ``Trail: Existing`` the stack's own trail goes only when another one logs the same."""
    replicated_pair(sandbox)
    cloudtrail = sandbox.client("cloudtrail", HUB, HOME)
    make_bucket(sandbox, "logs")
    mine = hub(sandbox, trail_bucket="logs")
    converge(sandbox, mine)
    existing = replace(mine, trail_bucket="")
    report = converge(sandbox, existing)
    assert report.done == []
    assert "bucket orders: no other trail logs its writes, so the stack's own stays" in report.notes
    cloudtrail.create_trail(Name="theirs", S3BucketName="logs", IsMultiRegionTrail=True)
    cloudtrail.start_logging(Name="theirs")
    every = {"Type": "AWS::S3::Object", "Values": ["arn:aws:s3"]}
    selectors = [{"ReadWriteType": "All", "IncludeManagementEvents": True, "DataResources": [every]}]
    cloudtrail.put_event_selectors(TrailName="theirs", EventSelectors=selectors)
    assert converge(sandbox, existing).done == [f"delete trail {mine.trail} in us-east-1: nothing needs it any more"]
    assert [each["Name"] for each in cloudtrail.list_trails()["Trails"]] == ["theirs"]


def test_existing_trail_is_looked_at(sandbox: Sandbox) -> None:
    """With somebody else's trail, set-up says which buckets it does not log, and changes nothing about it."""
    replicated_pair(sandbox)
    cloudtrail = sandbox.client("cloudtrail", HUB, HOME)
    make_bucket(sandbox, "logs")
    cloudtrail.create_trail(Name="theirs", S3BucketName="logs", IsMultiRegionTrail=True)
    cloudtrail.start_logging(Name="theirs")
    selectors = [
        {
            "ReadWriteType": "WriteOnly",
            "IncludeManagementEvents": True,
            "DataResources": [{"Type": "AWS::S3::Object", "Values": ["arn:aws:s3:::orders/"]}],
        }
    ]
    cloudtrail.put_event_selectors(TrailName="theirs", EventSelectors=selectors)
    report = converge(sandbox, hub(sandbox))
    assert report.notes == ["bucket orders-dr: no trail logs its writes, so nothing is seen of it"]


def test_reads_are_logged_as_long_as_they_are_asked_for(sandbox: Sandbox) -> None:
    """With ``DeniedReads`` the own trail gets a second selector and each Region a rule; without it both go again."""
    replicated_pair(sandbox)
    cloudtrail = sandbox.client("cloudtrail", HUB, HOME)
    make_bucket(sandbox, "logs")
    mine = hub(sandbox, trail_bucket="logs")
    converge(sandbox, mine)
    asking = replace(mine, denied_reads="Objects")
    rules = [f"rule {PREFIX}denied-reads in {region}" for region in ("eu-west-1", "us-east-1")]
    trail = f"update trail {mine.trail} in us-east-1"
    done = [each.split(":")[0] for each in converge(sandbox, asking).done]
    assert sorted(done) == [*(f"create {each}" for each in rules), trail]
    _, reads = cloudtrail.get_event_selectors(TrailName=mine.trail)["AdvancedEventSelectors"]
    fields = {field.pop("Field"): field for field in reads["FieldSelectors"]}
    assert fields == {
        "eventCategory": {"Equals": ["Data"]},
        "resources.type": {"Equals": ["AWS::S3::Object"]},
        "eventName": {"Equals": ["GetObject"]},
        "userIdentity.arn": {"EndsWith": ["/s3-replication"]},
    }
    assert converge(sandbox, asking).done == []
    done = [each.split(":")[0] for each in converge(sandbox, mine).done]
    assert sorted(done) == [*(f"delete {each}" for each in rules), trail]
    assert len(cloudtrail.get_event_selectors(TrailName=mine.trail)["AdvancedEventSelectors"]) == 1


def test_reads_that_an_existing_trail_does_not_log(sandbox: Sandbox) -> None:
    """With ``Trail: Existing`` a trail that lacks the reads is a note with the selector, which then is enough."""
    replicated_pair(sandbox)
    cloudtrail = sandbox.client("cloudtrail", HUB, HOME)
    make_bucket(sandbox, "logs")
    cloudtrail.create_trail(Name="theirs", S3BucketName="logs", IsMultiRegionTrail=True)
    cloudtrail.start_logging(Name="theirs")
    management = {"FieldSelectors": [{"Field": "eventCategory", "Equals": ["Management"]}]}
    writes = trail_selectors("aws", [Watched("orders", HOME), Watched("orders-dr", "eu-west-1")], "x")
    cloudtrail.put_event_selectors(TrailName="theirs", AdvancedEventSelectors=[management, *writes])
    mine = hub(sandbox, denied_reads="Objects")
    report = converge(sandbox, mine)
    (note,) = report.notes
    told, _, selector = note.partition("; in a trail there this selector does so: ")
    assert told == "DeniedReads Objects: no trail is known to log the replication service's reads of orders"
    assert report.problems == []
    added = [management, *writes, json.loads(selector)]
    cloudtrail.put_event_selectors(TrailName="theirs", AdvancedEventSelectors=added)
    again = converge(sandbox, mine)
    assert (again.done, again.notes) == ([], [])


def test_agent(sandbox: Sandbox) -> None:
    """An agent watches its own sources, and the destinations that the hub told it, which it cannot know itself."""
    make_bucket(sandbox, "theirs", "eu-west-1", account=AGENT)
    make_bucket(sandbox, "unrelated", "eu-west-1", account=AGENT)
    mine = agent()
    assert converge(sandbox, mine).problems == []
    assert [name for name in inventory(sandbox, AGENT)["rule"] if "events" in name] == []
    converge(sandbox, mine, Known(destinations=("theirs",)))
    rules = sandbox.client("events", AGENT, "eu-west-1").list_rules()["Rules"]
    named = {bucket for rule in rules for bucket in buckets_in(json.loads(rule["EventPattern"]))}
    assert named == {"theirs"}
    assert remove(sandbox, mine).problems == []
    assert inventory(sandbox, AGENT) == {"rule": [], "topic": [], "queue": [], "parameter": []}


# Buckets' settings ----------------------------------------------------------------------------------------------------


def test_settings_are_printed_by_default(sandbox: Sandbox) -> None:
    """Without permission to change buckets, each gets a patch and a note, and none is changed."""
    replicated_pair(sandbox)
    report = converge(sandbox, hub(sandbox, event_source="EventBridge"))
    assert [patch.split(" ")[1] for patch in report.patches] == ["orders", "orders-dr"]
    assert "bucket orders: its owner has to apply a patch, until then it is not seen" in report.notes
    assert notifications(sandbox, "orders", HOME) == {}


@pytest.mark.parametrize("source", ["EventBridge", "S3Notifications"])
def test_settings_are_merged_and_restored(sandbox: Sandbox, source: str) -> None:
    """With permission, what is needed is merged into what is there, once, and taken out again on delete."""
    replicated_pair(sandbox)
    sandbox.client("sns", HUB, HOME).create_topic(Name=PREFIX + "events")  # the template's
    theirs = {"Id": "theirs", "QueueArn": f"arn:aws:sqs:us-east-1:{HUB}:queue", "Events": ["s3:ObjectTagging:Put"]}
    mine = hub(sandbox, event_source=source)
    client = sandbox.client("s3", HUB, HOME)
    client.put_bucket_notification_configuration(
        Bucket="orders", NotificationConfiguration={"QueueConfigurations": [theirs]}
    )
    before = notifications(sandbox, "orders", HOME)
    report = converge(sandbox, mine, change_buckets=True)
    assert (report.problems, report.patches) == ([], [])
    merged = notifications(sandbox, "orders", HOME)
    assert merged["QueueConfigurations"] == before["QueueConfigurations"]
    assert ("EventBridgeConfiguration" in merged) is (source == "EventBridge")
    assert ("TopicConfigurations" in merged) is (source == "S3Notifications")
    assert converge(sandbox, mine, change_buckets=True).done == []
    assert remove(sandbox, mine).problems == []
    assert notifications(sandbox, "orders", HOME) == before
    assert notifications(sandbox, "orders-dr", "eu-west-1") == {}


def test_settings_are_restored_when_the_source_changes(sandbox: Sandbox) -> None:
    """A stack that goes over to CloudTrail takes back what it had changed, and forgets it."""
    replicated_pair(sandbox)
    converge(sandbox, hub(sandbox, event_source="EventBridge"), change_buckets=True)
    assert notifications(sandbox, "orders", HOME) == {"EventBridgeConfiguration": {}}
    assert converge(sandbox, hub(sandbox), change_buckets=True).problems == []
    assert notifications(sandbox, "orders", HOME) == {}
    assert Record(sessions(sandbox), stack()).get(BUCKETS) == {}


def test_overlap(sandbox: Sandbox) -> None:
    """A bucket whose notifications overlap is left as it is and told; the others are changed."""
    replicated_pair(sandbox)
    sandbox.client("sns", HUB, HOME).create_topic(Name=PREFIX + "events")
    mine = hub(sandbox, event_source="S3Notifications")
    theirs = {"Id": "theirs", "QueueArn": f"arn:aws:sqs:us-east-1:{HUB}:queue", "Events": ["s3:ObjectCreated:*"]}
    sandbox.client("s3", HUB, HOME).put_bucket_notification_configuration(
        Bucket="orders", NotificationConfiguration={"QueueConfigurations": [theirs]}
    )
    report = converge(sandbox, mine, change_buckets=True)
    (text,) = report.blocked
    assert text.startswith("bucket orders is not watched: its notification theirs sends s3:ObjectCreated:*")
    assert (report.problems, report.unseen) == ([], ["orders"])
    assert "TopicConfigurations" not in notifications(sandbox, "orders", HOME)
    assert "TopicConfigurations" in notifications(sandbox, "orders-dr", "eu-west-1")


def test_settings_that_cannot_be_read(sandbox: Sandbox) -> None:
    """A bucket whose notification settings may not be read is told as not watched; the others are changed."""
    replicated_pair(sandbox)
    deny(sandbox, service="s3", operation="GET", resource="/orders?notification")
    report = converge(sandbox, hub(sandbox, event_source="EventBridge"), change_buckets=True)
    (text,) = report.blocked
    assert text.startswith("bucket orders is not watched: its notification settings could not be read: s3:GetBucketN")
    assert (report.problems, report.unseen) == ([], ["orders"])
    assert notifications(sandbox, "orders-dr", "eu-west-1") == {"EventBridgeConfiguration": {}}


def test_settings_that_cannot_be_written(sandbox: Sandbox) -> None:
    """A bucket whose notification settings may not be written is told as not watched."""
    replicated_pair(sandbox)
    deny(sandbox, service="s3", operation="PUT", resource="/orders?notification")
    report = converge(sandbox, hub(sandbox, event_source="EventBridge"), change_buckets=True)
    (text,) = report.blocked
    assert text.startswith("bucket orders is not watched: s3:PutBucketNotificationConfiguration: AccessDenied")
    assert (report.problems, report.unseen) == ([], ["orders"])


def test_agent_waits_for_the_hubs_topic(sandbox: Sandbox) -> None:
    """An agent touches a bucket's notifications only when the hub told that its topic is there.

    S3 would refuse it before.
    """
    make_bucket(sandbox, "theirs", "eu-west-1", account=AGENT)
    make_bucket(sandbox, "copy", "eu-west-1", account=AGENT)
    replicate(sandbox, "theirs", "copy", region="eu-west-1", account=AGENT)
    mine = agent(event_source="S3Notifications")
    report = converge(sandbox, mine, change_buckets=True)
    assert report.problems == []
    assert "the hub's topic in eu-west-1 is awaited; the hub makes it and tells when it is there" in report.notes
    sandbox.client("sns", HUB, "eu-west-1").create_topic(Name=PREFIX + "events")
    report = converge(sandbox, mine, Known(topic_regions=("eu-west-1",)), change_buckets=True)
    assert [each for each in report.done if each.startswith("change notifications")] == [
        "change notifications of bucket copy: the event source needs it",
        "change notifications of bucket theirs: the event source needs it",
    ]


# The record -----------------------------------------------------------------------------------------------------------


def test_record(sandbox: Sandbox) -> None:
    """Documents of any size come back as they were put, replace each other, and leave nothing in the end."""
    record = Record(sessions(sandbox), stack())
    noise = [f"{number * 2654435761 % 2**32:x}" for number in range(3_000)]
    documents: list[Any] = [["a"], noise, noise[::-1], ["b"], {}, noise]
    for document in documents:
        record.put(REGIONS, document)
        assert record.get(REGIONS) == document
    assert record.get(BUCKETS) is None
    for name in DOCUMENTS:
        record.forget(name)
    assert record.get(REGIONS) is None
    assert inventory(sandbox)["parameter"] == []


def test_record_killed_in_between(sandbox: Sandbox) -> None:
    """Killed after any write, the record has the old document or the new one, and forgetting it leaves nothing."""
    ours = new_sessions(sandbox)
    old = [f"{number * 2654435761 % 2**32:x}" for number in range(2_000)]
    new = old[::-1]
    left = [0]

    def die(**_: Any) -> None:  # noqa: ANN401
        left[0] -= 1
        if left[0] == -1:
            raise KeyboardInterrupt

    events = ours.client("ssm", HOME).meta.events
    for name in ("PutParameter", "DeleteParameter"):
        events.register(f"before-call.ssm.{name}", die)
    record = Record(ours, stack())
    seen = []
    for calls in range(12):
        left[0] = -2
        record.put(REGIONS, old)
        left[0] = calls
        with contextlib.suppress(KeyboardInterrupt):
            record.put(REGIONS, new)
        left[0] = -2
        seen.append(record.get(REGIONS))
        record.forget(REGIONS)
        assert inventory(sandbox)["parameter"] == []
    assert (seen[0], seen[-1]) == (old, new)
    assert all(each in (old, new) for each in seen)
