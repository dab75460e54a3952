"""A topic of SNS that sends over HTTP: its subscription is confirmed if it was named, and nobody else's."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("boto3")

from crr_monitor.sandbox import Sandbox
from crr_monitor.serve.subscriptions import SubscriptionError, Subscriptions, _address, is_topic
from tests.cli.running import USAGE, run
from tests.messages import notification
from tests.serve.running import TOKEN, WAIT_SECONDS, Server, token_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ACCOUNT, REGION = "000000000000", "us-east-1"
"""A visit to SNS is not signed, and the local AWS takes it for one of this account and Region."""
TOPIC = f"arn:aws:sns:{REGION}:{ACCOUNT}:events"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """A local AWS with SNS."""
    with Sandbox() as running:
        yield running


def server(folder: Path, sandbox: Sandbox) -> Server:
    """One that takes events of a topic."""
    token = str(token_file(folder))
    return Server(folder, "--token-file", token, "--sns-topic", TOPIC, "--endpoint-url", sandbox.endpoint)


def until(question: Callable[[], bool]) -> None:
    """Wait until it is so."""
    end = time.monotonic() + WAIT_SECONDS
    while not question():
        assert time.monotonic() < end
        time.sleep(0.05)


def confirmation(topic: str = TOPIC, token: str = "t" * 40, **fields: str) -> bytes:
    """A message as SNS sends it to a new subscriber."""
    return json.dumps(
        {
            "Type": "SubscriptionConfirmation",
            "MessageId": "165545c9-2a5c-472c-8df2-7ff2be2b3b1b",
            "Token": token,
            "TopicArn": topic,
            "Message": "You have chosen to subscribe to the topic.",
            "SubscribeURL": "http://127.0.0.1:1/?Action=ConfirmSubscription",
            "Timestamp": "2026-11-22T07:00:00.000Z",
            **fields,
        }
    ).encode()


HEADER = {"x-amz-sns-message-type": "SubscriptionConfirmation"}


def test_a_topic_subscribes_and_sends(tmp_path: Path, sandbox: Sandbox) -> None:
    """A topic that was named subscribes with the token as its password; then what is published there is stored."""
    sns = sandbox.client("sns", ACCOUNT, REGION)
    assert sns.create_topic(Name="events")["TopicArn"] == TOPIC
    with server(tmp_path, sandbox) as running:
        endpoint = f"http://sns:{TOKEN}@127.0.0.1:{running.port}/events"
        sns.subscribe(TopicArn=TOPIC, Protocol="http", Endpoint=endpoint)
        until(lambda: f"topic {TOPIC}: its subscription is confirmed" in running.lines)
        (subscription,) = sns.list_subscriptions_by_topic(TopicArn=TOPIC)["Subscriptions"]
        attributes = sns.get_subscription_attributes(SubscriptionArn=subscription["SubscriptionArn"])["Attributes"]
        assert attributes["PendingConfirmation"] == "false"
        sns.publish(TopicArn=TOPIC, Message=json.dumps(notification(key="by-sns")))
        until(lambda: running.get("/api/monitor").json["events"] == 1)


def test_what_is_not_confirmed(tmp_path: Path, sandbox: Sandbox) -> None:
    """Without the token, of a topic that was not named, or with a token that SNS does not know, nothing is confirmed.

    SNS is asked for its password, as it sends that only then.
    """
    with server(tmp_path, sandbox) as running:
        nobody = running.post(confirmation(), token=None, **HEADER)
        assert (nobody.status, nobody.headers["WWW-Authenticate"]) == (401, 'Basic realm="crr-monitor"')
        other = running.post(confirmation(TOPIC + "-2"), **HEADER)
        text = f"topic {TOPIC}-2 may not send here: name it with --sns-topic"
        assert (other.status, other.json) == (403, {"error": text})
        assert running.post(b"[]", **HEADER).status == 403
        wrong = running.post(confirmation(), **HEADER)
        assert wrong.status == 503
        assert f"did not confirm the subscription of {TOPIC}: it answered 4" in wrong.json["error"]
        assert [line for line in running.lines if "confirmed" in line] == []


def test_without_topics_nothing_is_confirmed(tmp_path: Path) -> None:
    """Who names no topic confirms nothing: the message is stored as one that tells nothing of replication."""
    with Server(tmp_path, "--token-file", str(token_file(tmp_path))) as running:
        reply = running.post(confirmation(), **HEADER)
        assert (reply.status, reply.json["events"], reply.json["ignored"]) == (200, 0, 1)
        assert running.post(b"{}", token=None).headers["WWW-Authenticate"] == 'Bearer realm="crr-monitor"'


def test_only_sns_is_visited() -> None:
    """The address is made of the topic's Region, whatever the message names; where nobody answers, that is said."""
    assert _address("arn:aws:sns:eu-west-1:111122223333:events") == "https://sns.eu-west-1.amazonaws.com/"
    assert _address("arn:aws-cn:sns:cn-north-1:111122223333:events") == "https://sns.cn-north-1.amazonaws.com.cn/"
    assert _address("arn:aws-us-gov:sns:us-gov-west-1:111122223333:e") == "https://sns.us-gov-west-1.amazonaws.com/"
    said: list[str] = []
    with pytest.raises(SubscriptionError, match="no answer \\(check the network\\)"):
        Subscriptions([TOPIC], said.append, "http://127.0.0.1:1").confirm(confirmation())
    assert said == []


@pytest.mark.parametrize(
    "topic",
    [
        "events",
        f"{TOPIC}.fifo",
        f"{TOPIC}\n",
        f"arn:aws:sns:evil.example/#:{ACCOUNT}:events",
        f"arn:aws:sqs:{REGION}:{ACCOUNT}:events",
    ],
)
def test_no_topic(tmp_path: Path, topic: str) -> None:
    """What is no ARN of a topic that can send over HTTP is refused as the command begins."""
    assert not is_topic(topic)
    done = run("--store", str(tmp_path / "store.db"), "serve", "--sns-topic", topic)
    assert done.returncode == USAGE
    assert "write arn:aws:sns:REGION:ACCOUNT:NAME" in done.stderr
