"""The self-test of a deployed system, IAM enforced: all proven, or the place named that is broken; nothing stays."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from crr_monitor.sandbox import Latency, Sandbox, Settings
from tests.cli.running import FAILED, INTERRUPTED, OK, SOURCE_TREE, USAGE
from tests.e2e.system import AGENT, BUCKETS, HOME, HUB, WAIT_SECONDS, System

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow
SOON = Latency(0.01)
PAIR = "orders:orders-dr"
STEPS = [
    *("stack", "functions", "schedules", "events", "subscription", "queues", "alarms"),
    *("object", "record", "replica", "counted", "metrics", "message", "clean-up"),
]


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    """Both stacks; tests break them, and mend them again."""
    quick = Settings(seed=1, auth=True, replication=SOON, notification=SOON, event=SOON, trail=SOON)
    with Sandbox(quick) as sandbox:
        yield System(sandbox, "CloudTrail", WatchInterval="rate(24 hours)")


def command(system: System, *more: str, pair: str = PAIR, timeout: int = 6) -> list[str]:
    """The command line, as somebody in the hub's account calls it."""
    start = [sys.executable, "-m", "crr_monitor", "selftest", "--stack-name", system.hub.name, "--pair", pair]
    return [*start, "--region", HOME, "--endpoint-url", system.sandbox.endpoint, "--timeout", str(timeout), *more]


def environment(**more: str) -> dict[str, str]:
    """The hub's own credentials."""
    keys = {"AWS_ACCESS_KEY_ID": HUB, "AWS_SECRET_ACCESS_KEY": "test"}
    return {**os.environ, **keys, "PYTHONPATH": str(SOURCE_TREE), **more}


def selftest(
    system: System, *more: str, status: int = OK, pair: str = PAIR, timeout: int = 6, profiles: str = ""
) -> dict[str, str]:
    """What the steps say, by name and what came of them; ``do`` is the first thing to do.

    ``profiles``: a file with credentials.
    """
    found = subprocess.run(
        command(system, *more, pair=pair, timeout=timeout),
        env=environment(AWS_SHARED_CREDENTIALS_FILE=profiles),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert found.returncode == status, found.stdout + found.stderr
    lines = re.findall(r"^(ok|BROKEN|skip) +(\S+) +[\d.]+ s  (.*)$", found.stdout, re.MULTILINE)
    told = {f"{what} {name}": text for what, name, text in lines}
    return {**told, "do": "".join(re.findall(r"^ +do: (.*)$", found.stderr, re.MULTILINE)[:1])}


def tidy(system: System) -> None:
    """When all is mended again: events of the test are done, and nothing of it is left."""
    system.drain()
    assert left(system) == []


def left(system: System) -> list[str]:
    """What a self-test made and did not remove."""
    sqs, sns = (system.sandbox.client(name, HUB, HOME) for name in ("sqs", "sns"))
    found = [each for each in sqs.list_queues().get("QueueUrls", []) if "selftest" in each]
    listed = sns.list_subscriptions()["Subscriptions"]
    found += [each["SubscriptionArn"] for each in listed if "selftest" in each["Endpoint"]]
    for bucket in ("orders", "orders-dr"):
        told = system.s3(*BUCKETS[bucket]).list_object_versions(Bucket=bucket)
        found += [each["Key"] for each in [*told.get("Versions", []), *told.get("DeleteMarkers", [])]]
    return found


def broken(told: dict[str, str]) -> list[str]:
    """The steps that are broken."""
    return [name.removeprefix("BROKEN ") for name in told if name.startswith("BROKEN ")]


def test_all_is_proven(system: System) -> None:
    """Each step says in a line what it has seen, in the order of an object's way; nothing stays behind."""
    told = selftest(system, timeout=30)
    assert [*told] == [*(f"ok {name}" for name in STEPS), "do"]
    assert re.fullmatch(r"arrived in orders-dr, with a lag of [\d.]+ s", told["ok replica"])
    assert told["ok subscription"] == "the queue is subscribed to the topic of events, and confirmed"
    assert told["ok message"].startswith("DeadLettersAlarm was set")
    assert told["ok clean-up"] == (
        "removed the subscription, the queue behind it, the object in orders, the object in orders-dr"
    )
    tidy(system)
    assert list(system.store().cells(None, None)) == []


@pytest.mark.parametrize("destination", ["theirs-dr", "orders-dr"])
def test_buckets_of_another_account(system: System, tmp_path: Path, destination: str) -> None:
    """A pair whose source is another account's is tried with that account's credentials, beside the hub's own.

    Its destination may be of that account, or of the hub's.
    """
    profiles = tmp_path / "credentials"
    profiles.write_text(f"[theirs]\naws_access_key_id = {AGENT}\naws_secret_access_key = test\n")
    pair, key = f"theirs:{destination}", "x/" if destination == "theirs-dr" else ""
    told = selftest(system, "--bucket-profile", "theirs", pair=pair, timeout=30, profiles=str(profiles))
    assert [*told] == [*(f"ok {name}" for name in STEPS), "do"]
    assert told["ok object"].startswith(f"wrote s3://theirs/{key}.crr-monitor/canary/")
    assert "the object in theirs, the object in" in told["ok clean-up"]
    tidy(system)


def test_buckets_of_another_account_without_its_profile(system: System) -> None:
    """Without the other account's credentials the step of the object is broken, and says which option names them."""
    told = selftest(system, pair="theirs:theirs-dr", status=FAILED)
    assert broken(told) == ["object"]
    assert "--bucket-profile" in told["do"]


def test_process_is_broken(system: System) -> None:
    """A process function that cannot even begin is named with what it says, when the record does not come."""
    functions, name = system.sandbox.client("lambda", HUB, HOME), system.hub.outputs["ProcessFunctionName"]
    variables = functions.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
    less = {key: value for key, value in variables.items() if key != "CRR_MONITOR_QUEUE_URL"}
    functions.update_function_configuration(FunctionName=name, Environment={"Variables": less})
    told = selftest(system, status=FAILED)
    functions.update_function_configuration(FunctionName=name, Environment={"Variables": variables})
    tidy(system)
    assert broken(told) == ["record"], told
    assert told["BROKEN record"].startswith(f"the process function ({name}) fails: ")
    assert "environment variable CRR_MONITOR_QUEUE_URL is missing" in told["BROKEN record"]
    assert told["skip replica"] == "not tried, as it needs: record"


def test_trail_does_not_log(system: System) -> None:
    """A trail that was stopped is named, and so is the record that does not come."""
    trail = system.sandbox.client("cloudtrail", HUB, HOME)
    name = f"crr-monitor-{system.hub.outputs['HubToken']}"
    trail.stop_logging(Name=name)
    told = selftest(system, status=FAILED)
    trail.start_logging(Name=name)
    tidy(system)
    assert broken(told) == ["events", "record"]
    assert told["BROKEN events"] == f"set-up would have to: update trail {name} (IsLogging differs)"
    assert told["BROKEN record"] == (
        "no record within 6 s, and nothing waits in the queue: CloudTrail has told nothing of the object"
    )
    assert told["do"].startswith("let set-up mend it: aws lambda invoke")


def test_no_subscription(system: System) -> None:
    """A subscription that was removed is named, with the command that makes it again."""
    sns, topic = system.sandbox.client("sns", HUB, HOME), system.hub.outputs["TopicArn"]
    (known,) = sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
    sns.unsubscribe(SubscriptionArn=known["SubscriptionArn"])
    told = selftest(system, status=FAILED)
    request = {"TopicArn": topic, "Protocol": "sqs", "Endpoint": known["Endpoint"]}
    sns.subscribe(**request, Attributes={"RawMessageDelivery": "true"})
    tidy(system)
    assert "subscription" in broken(told)
    assert told["BROKEN subscription"] == f"the queue is not subscribed to topic {topic}, so no event reaches it"
    assert told["do"].startswith(f"aws sns subscribe --topic-arn {topic} --protocol sqs")


def test_alarm_tells_nobody(system: System) -> None:
    """Alarms whose action was removed are named."""
    client, name = system.sandbox.client("cloudwatch", HUB, HOME), system.physical_id("FailedAlarm")
    (alarm,) = client.describe_alarms(AlarmNames=[name])["MetricAlarms"]
    mine = ("AlarmName", "Namespace", "MetricName", "Statistic", "Period", "EvaluationPeriods", "Threshold")
    request: dict[str, Any] = {key: alarm[key] for key in (*mine, "ComparisonOperator")}
    client.put_metric_alarm(**request, AlarmActions=[])
    told = selftest(system, status=FAILED)
    client.put_metric_alarm(**request, AlarmActions=alarm["AlarmActions"])
    tidy(system)
    topic = system.hub.outputs["NotificationTopicArn"]
    assert broken(told) == ["alarms"]
    assert told["BROKEN alarms"] == f"alarms are missing, or do not tell {topic}: FailedAlarm"
    assert told["skip message"] == "not tried, as it needs: alarms"


def test_replication_is_broken(system: System) -> None:
    """Where S3 cannot write to the destination, the copy is what is broken."""
    outage = system.sandbox.outage(bucket="orders-dr")
    told = selftest(system, status=FAILED)
    system.sandbox.end_fault(outage)
    tidy(system)
    assert broken(told) == ["replica"]
    assert told["BROKEN replica"] == "the copy in orders-dr is still pending after 6 s"


def test_schedule_is_off(system: System) -> None:
    """A rule that was switched off is named, with the command that switches it on."""
    client, name = system.sandbox.client("events", HUB, HOME), system.physical_id("ProcessSchedule")
    client.disable_rule(Name=name)
    told = selftest(system, status=FAILED)
    client.enable_rule(Name=name)
    tidy(system)
    assert broken(told) == ["schedules"]
    assert told["BROKEN schedules"] == f"rule ProcessSchedule ({name}) is DISABLED"
    assert told["do"] == f"aws events enable-rule --name {name}"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--stack-name", "nothing"], "there is no stack nothing in account 111122223333, us-east-1"),
        (["--pair", "orders:theirs"], "canary orders:theirs: no enabled rule of orders replicates to theirs"),
    ],
)
def test_wrong_names(system: System, arguments: list[str], text: str) -> None:
    """A stack or pair that is not there is what is broken."""
    told = selftest(system, *arguments, status=FAILED)
    assert text in {told.get("BROKEN stack"), told.get("BROKEN object")}


def test_usage(system: System) -> None:
    """A pair without a destination is wrong usage."""
    found = subprocess.run(
        command(system, pair="orders"), env=environment(), capture_output=True, text=True, check=False
    )
    assert found.returncode == USAGE
    assert "--pair orders: write SOURCE:DESTINATION, the names of two buckets" in found.stderr


def test_interrupted(system: System) -> None:
    """Interrupted while it waits, it removes what it made and says so."""
    outage = system.sandbox.outage(bucket="orders-dr")
    process = subprocess.Popen(
        command(system, timeout=60), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    _await(lambda: bool(left(system)))
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    system.sandbox.end_fault(outage)
    assert process.returncode == INTERRUPTED
    assert "removed the object in orders, the object in orders-dr" in output
    tidy(system)


def _await(done: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_SECONDS
    while not done() and time.monotonic() < end:
        time.sleep(0.1)
    assert done()
