"""After a change of EventSource the old source goes on for a while, and nothing of it is left afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from crr_monitor.aws.discovery import discover
from crr_monitor.aws.overlap import OVERLAP_SECONDS, Sources, TooEarlyError, give_back, look_with_old_source, remember
from crr_monitor.aws.record import BUCKETS, SOURCES, Record
from crr_monitor.aws.setup import Known, Report, execute
from tests.aws.making import HOME, HUB, TOKEN, make_bucket, replicated_pair, sessions, stack

if TYPE_CHECKING:
    from crr_monitor.aws.plan_model import Stack
    from crr_monitor.aws.words import EventSource
    from crr_monitor.sandbox import Sandbox

PREFIX = f"crr-monitor-{TOKEN}-"
NOW = 1_800_000_000.0
LATER = NOW + OVERLAP_SECONDS


class Monitor:
    """A hub whose source of events changes; ``now`` is what its clock says."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.sessions = sessions(sandbox)
        self.now = NOW
        self.url = sandbox.client("sqs", HUB, HOME).create_queue(QueueName="queue")["QueueUrl"]
        sandbox.client("sns", HUB, HOME).create_topic(Name=PREFIX + "events")  # the template's
        make_bucket(sandbox, "logs")
        replicated_pair(sandbox)
        self.record = Record(self.sessions, self.stack("CloudTrail"))

    def stack(self, source: EventSource) -> Stack:
        """The hub with a source of events."""
        return stack(event_source=source, queue_url=self.url, trail_bucket="logs" if source == "CloudTrail" else "")

    def run(self, source: EventSource, *, change: bool = True) -> Report:
        """One run of set-up."""
        mine, found = self.stack(source), discover(self.sessions, HOME)
        situation, sources = look_with_old_source(self.sessions, mine, self.record, found, Known(), lambda: self.now)
        remember(self.record, sources)
        return execute(self.sessions, situation, self.record, change_buckets=change)

    def tells(self) -> set[str]:
        """The sources whose events of bucket ``orders`` arrive."""
        rules = self.sandbox.client("events", HUB, HOME).list_rules()["Rules"]
        names = {each["Name"].removeprefix(PREFIX) for each in rules}
        client = self.sandbox.client("s3", HUB, HOME)
        settings = client.get_bucket_notification_configuration(Bucket="orders")
        trails = self.sandbox.client("cloudtrail", HUB, HOME).list_trails()["Trails"]
        found = {
            "CloudTrail": bool(trails) and "events-0" in names,
            "EventBridge": "EventBridgeConfiguration" in settings and "s3-events-0" in names,
            "S3Notifications": "TopicConfigurations" in settings,
        }
        return {name for name, there in found.items() if there}


@pytest.fixture
def monitor(sandbox: Sandbox) -> Monitor:
    """A hub with a replicated bucket."""
    return Monitor(sandbox)


CHANGES = [
    ("CloudTrail", "EventBridge"),
    ("CloudTrail", "S3Notifications"),
    ("EventBridge", "CloudTrail"),
    ("EventBridge", "S3Notifications"),
    ("S3Notifications", "CloudTrail"),
    ("S3Notifications", "EventBridge"),
]


@pytest.mark.parametrize(("old", "new"), CHANGES)
def test_change(monitor: Monitor, old: EventSource, new: EventSource) -> None:
    """Both sources tell for an hour, which the report says, and after it the hourly run leaves only the new one."""
    monitor.run(old)
    assert monitor.tells() == {old}
    assert f"{old} goes on beside {new} until 2027-01-15T09:00Z, so that no event is missed" in monitor.run(new).notes
    assert monitor.tells() == {old, new}
    monitor.now = LATER - 1
    assert monitor.run(new).done == []
    monitor.now = LATER
    assert monitor.run(new).problems == []
    assert monitor.tells() == {new}
    assert monitor.record.get(SOURCES) == {"current": new, "retiring": {}}
    assert monitor.run(new).done == []


def test_change_and_back(monitor: Monitor) -> None:
    """Who changes back within the hour has the same trail as before, and the source in between goes on in its turn."""
    monitor.run("CloudTrail")
    monitor.run("EventBridge")
    assert monitor.run("CloudTrail").problems == []
    assert monitor.tells() == {"CloudTrail", "EventBridge"}
    assert monitor.record.get(SOURCES) == {"current": "CloudTrail", "retiring": {"EventBridge": LATER}}


def test_old_source_stays_while_the_new_one_reaches_not_all(monitor: Monitor) -> None:
    """Where owners have not applied their patches, the old source goes on beyond the hour, and it is said why."""
    monitor.run("CloudTrail", change=False)
    monitor.run("EventBridge", change=False)
    monitor.now = LATER
    assert (
        "CloudTrail goes on, as EventBridge does not reach orders, orders-dr yet"
        in monitor.run("EventBridge", change=False).notes
    )
    assert monitor.tells() == {"CloudTrail"}
    for bucket, region in (("orders", HOME), ("orders-dr", "eu-west-1")):
        settings: dict[str, Any] = {"EventBridgeConfiguration": {}}
        client = monitor.sandbox.client("s3", HUB, region)
        client.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=settings)
    monitor.run("EventBridge", change=False)
    assert monitor.tells() == {"EventBridge"}


def test_settings_are_given_back(monitor: Monitor) -> None:
    """Who takes back the leave to change buckets gets their settings as they were."""
    monitor.run("EventBridge")
    report = give_back(monitor.sessions, monitor.stack("EventBridge"), monitor.record)
    assert report.done == [
        "restore notifications of bucket orders: set-up had changed them",
        "restore notifications of bucket orders-dr: set-up had changed them",
    ]
    assert (monitor.tells(), monitor.record.get(BUCKETS)) == (set(), {})
    assert give_back(monitor.sessions, monitor.stack("EventBridge"), monitor.record).done == []


def test_settings_are_not_given_back_too_early(monitor: Monitor) -> None:
    """While the old source still needs the buckets' settings, giving them back is refused with the time to wait for."""
    monitor.run("EventBridge")
    with pytest.raises(TooEarlyError, match="BucketSettings has to stay Change until about 2027-01-15T09:00Z"):
        give_back(monitor.sessions, monitor.stack("CloudTrail"), monitor.record, lambda: NOW)
    assert monitor.tells() == {"EventBridge"}


def test_sources() -> None:
    """A change starts the hour of the source before, a change back ends it, and no change changes nothing."""
    first = Sources("CloudTrail")
    second = first.changed_to("EventBridge", NOW)
    assert first.changed_to("CloudTrail", NOW) == first
    assert second == Sources("EventBridge", {"CloudTrail": LATER})
    assert second.changed_to("EventBridge", LATER) == second
    assert second.changed_to("CloudTrail", NOW) == Sources("CloudTrail", {"EventBridge": LATER})
    assert (first.over(NOW), second.over(LATER - 1), second.over(LATER)) == (False, False, True)


def test_looking_changes_nothing(monitor: Monitor) -> None:
    """A look at what a change of the source would do, as the plan shows it, leaves everything as it is."""
    monitor.run("CloudTrail")
    before = monitor.record.get(SOURCES)
    found = discover(monitor.sessions, HOME)
    situation, sources = look_with_old_source(
        monitor.sessions, monitor.stack("EventBridge"), monitor.record, found, Known(), lambda: NOW
    )
    assert {action.verb for action in situation.actions} == {"create"}
    assert (sources.current, sources.retiring) == ("EventBridge", {"CloudTrail": LATER})
    assert (monitor.record.get(SOURCES), monitor.tells()) == (before, {"CloudTrail"})
