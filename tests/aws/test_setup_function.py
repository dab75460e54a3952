"""The set-up function's edges: its settings, and the answer that CloudFormation always gets."""

from __future__ import annotations

import json
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from crr_monitor.aws.agent_register import Agent, AgentRegister
from crr_monitor.aws.record import AGENTS, Record
from crr_monitor.lambdas import response, setup
from crr_monitor.lambdas.response import Answer
from crr_monitor.lambdas.settings import ProcessSettings, SettingsError, SetupSettings, from_environment, variables
from crr_monitor.lambdas.setup import SetupFailedError
from crr_monitor.stores.dynamodb import open_store
from crr_monitor.stores.dynamodb_tables import create_tables
from tests.aws.making import (
    AGENT,
    HOME,
    HUB,
    TOKEN,
    deny,
    make_bucket,
    new_sessions,
    replicate,
    replicated_pair,
    stack,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crr_monitor.sandbox import Sandbox


class Receiver:
    """Stands for the signed address that CloudFormation gives; refuses the first ``refusals`` answers."""

    def __init__(self) -> None:
        self.answers: list[dict[str, Any]] = []
        self.types: list[str | None] = []
        self.refusals = 0
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if receiver.refusals:
                    receiver.refusals -= 1
                    self.send_response(503)
                else:
                    receiver.answers.append(json.loads(body))
                    receiver.types.append(self.headers["Content-Type"])
                    self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.event = {
            "RequestType": "Create",
            "ResponseURL": f"http://127.0.0.1:{self.server.server_port}/answer",
            "StackId": "the stack",
            "RequestId": "the request",
            "LogicalResourceId": "SetUp",
        }


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver of answers."""
    found = Receiver()
    thread = threading.Thread(target=found.server.serve_forever)
    thread.start()
    yield found
    found.server.shutdown()
    thread.join()
    found.server.server_close()


class Context:
    """Lambda's context, with much time left."""

    invoked_function_arn = f"arn:aws:lambda:{HOME}:{HUB}:function:set-up"

    def get_remaining_time_in_millis(self) -> int:
        """Fifteen minutes."""
        return 900_000


def test_answer(receiver: Receiver) -> None:
    """The answer names request, stack and resource, and has no content type, which would break the signed address."""
    Answer(receiver.event, "id", 900).give("SUCCESS", "all done", {"Summary": "x"})
    assert receiver.answers == [
        {
            "Status": "SUCCESS",
            "Reason": "all done",
            "PhysicalResourceId": "id",
            "StackId": "the stack",
            "RequestId": "the request",
            "LogicalResourceId": "SetUp",
            "Data": {"Summary": "x"},
        }
    ]
    assert receiver.types == [""]


def test_one_answer_only(receiver: Receiver) -> None:
    """Only the first answer is sent."""
    answer = Answer(receiver.event, "id", 900)
    answer.give("FAILED", "first")
    answer.give("SUCCESS", "second")
    assert [each["Reason"] for each in receiver.answers] == ["first"]


def test_same_resource_on_update(receiver: Receiver) -> None:
    """An update keeps the resource's id.

    Another one would make CloudFormation delete the old, and with it all that is there.
    """
    Answer({**receiver.event, "PhysicalResourceId": "before"}, "id", 900).give("SUCCESS", "")
    assert receiver.answers[0]["PhysicalResourceId"] == "before"


def test_long_reasons_are_cut(receiver: Receiver) -> None:
    """CloudFormation takes 4,096 bytes, and ignores a longer answer."""
    Answer(receiver.event, "id", 900).give("FAILED", "x" * 9_000, {"Summary": "y" * 9_000})
    assert len(json.dumps(receiver.answers[0])) < 4_096


def test_answer_before_time_runs_out(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the function's time runs out, the failure is told by itself, before Lambda ends the function."""
    monkeypatch.setattr(response, "EARLY_SECONDS", 0.0)
    Answer(receiver.event, "id", 1.0)
    deadline = time.monotonic() + 10
    while not receiver.answers and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [each["Status"] for each in receiver.answers] == ["FAILED"]
    assert "ran out of time" in receiver.answers[0]["Reason"]


def test_answer_is_tried_again(receiver: Receiver) -> None:
    """An address that fails for a moment is tried again."""
    receiver.refusals = 2
    Answer(receiver.event, "id", 900).give("SUCCESS", "")
    assert len(receiver.answers) == 1


@pytest.mark.parametrize("kind", ["Create", "Update", "Delete"])
def test_errors_are_answered(receiver: Receiver, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Whatever goes wrong, CloudFormation hears of it, with the cure; here the environment lacks a variable."""
    for name in variables(SetupSettings):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SettingsError):
        setup.handler({**receiver.event, "RequestType": kind}, Context())
    (answer,) = receiver.answers
    assert answer["Status"] == "FAILED"
    assert answer["Reason"] == (
        "SettingsError: environment variable CRR_MONITOR_STACK_KIND is missing: the stack's template sets it, so "
        "deploy the stack again"
    )


ENVIRONMENT = {
    **dict.fromkeys(variables(SetupSettings), ""),
    "CRR_MONITOR_STACK_KIND": "hub",
    "CRR_MONITOR_EVENT_SOURCE": "EventBridge",
    "CRR_MONITOR_BUCKET_SETTINGS": "Print",
    "CRR_MONITOR_TOKEN": TOKEN,
    "CRR_MONITOR_AGENT_ACCOUNTS": "111122223333,444455556666",
}


def test_settings() -> None:
    """Settings are parsed once: lists are split, empty ones are empty, and place and partition are the function's."""
    settings = from_environment(SetupSettings, ENVIRONMENT)
    assert settings.agent_accounts == ("111122223333", "444455556666")
    assert settings.topic_keys == ()
    stack = settings.stack("arn:aws-cn:lambda:cn-north-1:111122223333:function:x")
    assert (stack.partition, stack.region, stack.account) == ("aws-cn", "cn-north-1", "111122223333")
    assert (stack.event_source, stack.prefix) == ("EventBridge", f"crr-monitor-{TOKEN}-")


@pytest.mark.parametrize("missing", variables(SetupSettings))
def test_missing_variable_is_named(missing: str) -> None:
    """Each variable that is missing is named."""
    with pytest.raises(SettingsError, match=f"environment variable {missing} is missing"):
        from_environment(SetupSettings, {name: value for name, value in ENVIRONMENT.items() if name != missing})


def test_wrong_value_is_named() -> None:
    """A value that is not among the allowed ones is named with its field."""
    with pytest.raises(SettingsError, match=r"'Sometimes'.*processing_mode"):
        from_environment(
            ProcessSettings,
            {**dict.fromkeys(variables(ProcessSettings), "x"), "CRR_MONITOR_PROCESSING_MODE": "Sometimes"},
        )


# The whole function ---------------------------------------------------------------------------------------------------

ANNOUNCEMENT: dict[str, Any] = {
    "source": "crr-monitor.agent",
    "detail-type": "CRR Monitor Agent Is Set Up",
    "account": AGENT,
    "region": "eu-west-1",
    "detail": {"told": {"destinations": [], "topic_regions": []}, "digest": "d1"},
}
HOURLY = {"source": "aws.events", "detail-type": "Scheduled Event"}


@pytest.fixture
def deployed(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    """What the hub's template makes for the function: queue, tables, environment."""
    queue = sandbox.client("sqs", HUB, HOME).create_queue(QueueName="queue")["QueueUrl"]
    create_tables(sandbox.client("dynamodb", HUB, HOME), "crr")
    environment = {
        **ENVIRONMENT,
        "CRR_MONITOR_HUB_ACCOUNT": HUB,
        "CRR_MONITOR_HUB_TOKEN": TOKEN,
        "CRR_MONITOR_OWN_BUS_ARN": f"arn:aws:events:{HOME}:{HUB}:event-bus/hub",
        "CRR_MONITOR_FORWARD_ROLE_ARN": f"arn:aws:iam::{HUB}:role/forward",
        "CRR_MONITOR_QUEUE_ARN": f"arn:aws:sqs:{HOME}:{HUB}:queue",
        "CRR_MONITOR_QUEUE_URL": queue,
        "CRR_MONITOR_AGENT_ACCOUNTS": "",
        "CRR_MONITOR_AGENT_ROLE_NAME": f"crr-monitor-{TOKEN}-agent",
        "CRR_MONITOR_STORE": "dynamodb://crr-status",
        "AWS_ENDPOINT_URL": sandbox.endpoint,
        "AWS_ACCESS_KEY_ID": HUB,
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": HOME,
        "AWS_DEFAULT_REGION": HOME,
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return sandbox


def test_hourly_run_learns_and_converges(deployed: Sandbox) -> None:
    """The hourly run makes what is missing and stores the rules; the next one has nothing to do."""
    replicated_pair(deployed)
    first = setup.handler(HOURLY, Context())
    assert (len(first["done"]), first["problems"]) == (9, [])
    (pair,) = open_store(f"dynamodb://crr-status?region={HOME}&endpoint={deployed.endpoint}").topology().pairs()
    assert (pair.source.bucket, pair.destination.region) == ("orders", "eu-west-1")
    assert setup.handler(HOURLY, Context())["done"] == []


def test_problems_fail_the_run(deployed: Sandbox) -> None:
    """A run that could not do everything fails with what it could not do, so that the alarm is raised."""
    replicated_pair(deployed)
    deny(deployed, service="events", operation="PutRule", region="eu-west-1")
    with pytest.raises(
        SetupFailedError, match="could not create rule crr-monitor-0123456789ab-s3-events-0 in eu-west-1"
    ):
        setup.handler(HOURLY, Context())


def test_problems_fail_the_stack(deployed: Sandbox, receiver: Receiver) -> None:
    """CloudFormation hears of a problem as a failure with its reason, and of a run without problems as a success."""
    replicated_pair(deployed)
    number = deny(deployed, service="events", operation="PutRule", region="eu-west-1")
    setup.handler(receiver.event, Context())
    deployed.end_fault(number)
    setup.handler(receiver.event, Context())
    assert [each["Status"] for each in receiver.answers] == ["FAILED", "SUCCESS"]
    assert "could not create rule" in receiver.answers[0]["Reason"]


def test_undelivered_events_fail_an_agents_run(
    deployed: Sandbox, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events that wait undelivered in some Region fail an agent's hourly run, with the cure, and no change of it."""
    replicated_pair(deployed)
    deployed.client("events", HUB, HOME).create_event_bus(Name="hub")  # stands for the agent's own
    monkeypatch.setenv("CRR_MONITOR_STACK_KIND", "agent")
    monkeypatch.setenv("CRR_MONITOR_HUB_BUS_ARN", f"arn:aws:events:{HOME}:{HUB}:event-bus/hub")
    setup.handler(HOURLY, Context())
    sqs = deployed.client("sqs", HUB, "eu-west-1")
    url = sqs.get_queue_url(QueueName=f"crr-monitor-{TOKEN}-undelivered")["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="{}")
    with pytest.raises(SetupFailedError) as caught:
        setup.handler(HOURLY, Context())
    assert str(caught.value).partition("notes: ")[2] == (
        f"eu-west-1: 1 events could not be delivered and wait in queue crr-monitor-{TOKEN}-undelivered; the messages'"
        " attributes (ERROR_CODE, ERROR_MESSAGE) say why: mend that, then send their bodies to the hub's queue"
    )
    setup.handler(receiver.event, Context())
    assert [each["Status"] for each in receiver.answers] == ["SUCCESS"]


def test_announcement(deployed: Sandbox) -> None:
    """An agent that announces itself is asked for its rules at once; said again without news, nothing is asked."""
    make_bucket(deployed, "orders")
    make_bucket(deployed, "theirs", "eu-west-1", account=AGENT)
    replicate(deployed, "theirs", "orders", region="eu-west-1", account=AGENT)
    assert "create rule crr-monitor-0123456789ab-s3-events-0 in us-east-1: it is missing" in announced("d1")["done"]
    assert learned(deployed) == [("theirs", AGENT, "orders", HUB)]
    assert announced("d1")["notes"] == [f"the agent of {AGENT} is there, and nothing has changed with it"]
    make_bucket(deployed, "more", "eu-west-1", account=AGENT)
    replicate(deployed, "more", "orders", region="eu-west-1", account=AGENT)
    announced("d2")
    assert learned(deployed) == [("more", AGENT, "orders", HUB), ("theirs", AGENT, "orders", HUB)]


def test_agents_are_asked_every_hour_until_they_go(deployed: Sandbox) -> None:
    """The hourly run asks every agent that has announced itself and has not gone."""
    announced("d1")
    make_bucket(deployed, "orders")
    make_bucket(deployed, "theirs", account=AGENT)
    replicate(deployed, "theirs", "orders", account=AGENT)
    setup.handler(HOURLY, Context())
    assert learned(deployed) == [("theirs", AGENT, "orders", HUB)]
    setup.handler({**ANNOUNCEMENT, "detail-type": "CRR Monitor Agent Is Removed"}, Context())
    deployed.client("s3", AGENT, HOME).delete_bucket_replication(Bucket="theirs")
    setup.handler(HOURLY, Context())
    assert learned(deployed) == [("theirs", AGENT, "orders", HUB)]


def test_agents_that_announce_themselves_together(deployed: Sandbox) -> None:
    """Of agents that announce themselves at the same time each is remembered; one that goes takes no other with it."""
    accounts = [f"{200_000_000_000 + number}" for number in range(6)]
    with ThreadPoolExecutor(len(accounts)) as pool:
        list(pool.map(lambda account: announced("d1", account), accounts))
    assert known_agents(deployed) == accounts
    events = [{**ANNOUNCEMENT, "detail-type": "CRR Monitor Agent Is Removed", "account": each} for each in accounts[:2]]
    with ThreadPoolExecutor(len(accounts)) as pool:
        gone = [pool.submit(setup.handler, event, Context()) for event in events]
        pool.submit(announced, "d2", accounts[2]).result()
        for each in gone:
            each.result()
    assert known_agents(deployed) == accounts[2:]


def test_announcement_in_the_middle_of_another(deployed: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent that announces itself while the hub is busy with another is not lost, wherever that run stands."""
    other = "200000000001"
    announced("d1")
    original, nested = AgentRegister.put, iter([other])

    def put(register: AgentRegister, agent: Agent) -> None:
        for account in nested:
            announced("d1", account)
        original(register, agent)

    monkeypatch.setattr(AgentRegister, "put", put)
    announced("d2")
    assert known_agents(deployed) == [other, AGENT]


def test_announcement_reads_no_other_agent(deployed: Sandbox) -> None:
    """An announcement costs the same however many agents there are: the others are not even listed."""
    announced("d1", "200000000001")
    deny(deployed, service="ssm", operation="GetParametersByPath")
    assert announced("d1")["problems"] == []
    deployed.end_fault()
    assert known_agents(deployed) == ["200000000001", AGENT]


def test_agents_of_the_document_before_are_asked(deployed: Sandbox) -> None:
    """The first hourly run asks the agents that are in the one document of before, which is then gone."""
    made = from_environment(SetupSettings, dict(os.environ)).stack(Context.invoked_function_arn)
    record = Record(new_sessions(deployed), made)
    record.put(AGENTS, {AGENT: {"account": AGENT, "region": "eu-west-1"}})
    make_bucket(deployed, "orders")
    make_bucket(deployed, "theirs", account=AGENT)
    replicate(deployed, "theirs", "orders", account=AGENT)
    setup.handler(HOURLY, Context())
    assert learned(deployed) == [("theirs", AGENT, "orders", HUB)]
    assert (known_agents(deployed), record.get(AGENTS)) == ([AGENT], None)


def test_removal_forgets_agents(deployed: Sandbox, receiver: Receiver) -> None:
    """After the hub's removal no parameter is left, also with more agents than one call lists."""
    register = AgentRegister(new_sessions(deployed), stack())
    for number in range(12):
        register.put(Agent(f"{200_000_000_000 + number}", HOME))
    announced("d1")
    setup.handler({**receiver.event, "RequestType": "Delete"}, Context())
    assert deployed.client("ssm", HUB, HOME).describe_parameters()["Parameters"] == []


def announced(digest: str, account: str = AGENT) -> dict[str, Any]:
    """What the hub does when an agent announces itself."""
    detail = {**ANNOUNCEMENT["detail"], "digest": digest}
    return setup.handler({**ANNOUNCEMENT, "account": account, "detail": detail}, Context())


def known_agents(sandbox: Sandbox) -> list[str]:
    """The accounts of the agents that the hub knows."""
    return sorted(AgentRegister(new_sessions(sandbox), stack()).all())


def learned(sandbox: Sandbox) -> list[tuple[str, str | None, str, str | None]]:
    """The pairs in the store, with their accounts."""
    pairs = open_store(f"dynamodb://crr-status?region={HOME}&endpoint={sandbox.endpoint}").topology().pairs()
    return [
        (each.source.bucket, each.source.account, each.destination.bucket, each.destination.account) for each in pairs
    ]


@pytest.mark.usefixtures("deployed")
@pytest.mark.parametrize("detail", [{}, {"told": {"destinations": "all"}, "digest": "d"}, {"told": [], "digest": 1}])
def test_nonsense_is_not_remembered(detail: dict[str, Any]) -> None:
    """What an account sends is checked before it is remembered, so that it cannot spoil later runs."""
    with pytest.raises(msgspec.ValidationError):
        setup.handler({**ANNOUNCEMENT, "detail": detail}, Context())
    assert [note for note in setup.handler(HOURLY, Context())["notes"] if AGENT in note] == []
