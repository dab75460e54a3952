"""The set-up function's edges: its settings, and the answer that CloudFormation always gets."""

from __future__ import annotations

import json
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from crr_monitor.aws import agent_health, agents, discovery, overlap
from crr_monitor.aws import setup as converging
from crr_monitor.aws.agent_register import Agent, AgentRegister
from crr_monitor.aws.agents import AGENT_VERSION
from crr_monitor.aws.patterns import buckets_in
from crr_monitor.aws.record import AGENTS, ANSWERED, REGIONS, Record
from crr_monitor.aws.sessions import OPTIONS, AwsError
from crr_monitor.core.agent_notes import AGENTS_NOTE, AgentQueue, AgentsNote, decode_agents
from crr_monitor.core.times import MINUTE_MS
from crr_monitor.lambdas import changes, converge, response, setup
from crr_monitor.lambdas.response import Answer
from crr_monitor.lambdas.settings import SettingsError, SettleSettings, SetupSettings, from_environment, variables
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
from tests.factories import AT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crr_monitor.aws.discovery import Discovery
    from crr_monitor.aws.overlap import Sources
    from crr_monitor.aws.setup import Report, Situation
    from crr_monitor.core.topology import Topology
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

    aws_request_id = "request"
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
    deadline = time.monotonic() + 60
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
    """Whatever goes wrong, CloudFormation hears of it, with the cure; here the environment lacks a variable.

    The function does not fail then, or Lambda would call it twice more with a request that was answered.
    """
    for name in variables(SetupSettings):
        monkeypatch.delenv(name, raising=False)
    (problem,) = setup.handler({**receiver.event, "RequestType": kind}, Context())["problems"]
    assert problem.startswith("SettingsError: ")
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
    "CRR_MONITOR_DENIED_READS": "No",
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
    with pytest.raises(SettingsError, match=r"'Sometimes'.*metrics_detail"):
        from_environment(
            SettleSettings,
            {**dict.fromkeys(variables(SettleSettings), "x"), "CRR_MONITOR_METRICS_DETAIL": "Sometimes"},
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
AGENT_TOKEN = "ba9876543210"  # noqa: S105 - a part of names
ROLE = f"arn:aws:iam::{HUB}:role/reconcile"
UP_TO_DATE: dict[str, Any] = {"token": AGENT_TOKEN, "version": AGENT_VERSION, "roles": [ROLE]}


@pytest.fixture
def deployed(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    """What the hub's template makes for the function: queue, tables, environment."""
    queue = sandbox.client("sqs", HUB, HOME).create_queue(QueueName="queue")["QueueUrl"]
    attributes = {"VisibilityTimeout": "5420"}
    own = sandbox.client("sqs", HUB, HOME).create_queue(QueueName="changes", Attributes=attributes)["QueueUrl"]
    create_tables(sandbox.client("dynamodb", HUB, HOME), "crr")
    environment = {
        **ENVIRONMENT,
        "CRR_MONITOR_HUB_ACCOUNT": HUB,
        "CRR_MONITOR_HUB_TOKEN": TOKEN,
        "CRR_MONITOR_OWN_BUS_ARN": f"arn:aws:events:{HOME}:{HUB}:event-bus/hub",
        "CRR_MONITOR_FORWARD_ROLE_ARN": f"arn:aws:iam::{HUB}:role/forward",
        "CRR_MONITOR_QUEUE_ARN": f"arn:aws:sqs:{HOME}:{HUB}:queue",
        "CRR_MONITOR_QUEUE_URL": queue,
        "CRR_MONITOR_CHANGES_QUEUE_URL": own,
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
    fault = deny(deployed, service="s3")
    assert announced("d1")["notes"] == [f"the agent of {AGENT} is there, and nothing has changed with it"]
    deployed.end_fault(fault)
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


def agents_note() -> AgentsNote:
    """What set-up has left for the look about agents."""
    return decode_agents(open_store(os.environ["CRR_MONITOR_STORE"]).note(AGENTS_NOTE))


def send_undelivered(sandbox: Sandbox, region: str, number: int) -> None:
    """Let events wait undelivered in a Region of the agent's account."""
    sqs = sandbox.client("sqs", AGENT, region)
    url = sqs.create_queue(QueueName=f"crr-monitor-{AGENT_TOKEN}-undelivered")["QueueUrl"]
    for _ in range(number):
        sqs.send_message(QueueUrl=url, MessageBody="{}")


def test_undelivered_events_of_agents(deployed: Sandbox) -> None:
    """The hourly run counts what waits in an agent's Regions; one that cannot be asked stays as it was."""
    make_bucket(deployed, "theirs", "eu-west-1", account=AGENT)
    make_bucket(deployed, "more", "eu-central-1", account=AGENT)
    announced("d1", **UP_TO_DATE)
    setup.handler(HOURLY, Context())
    assert agents_note() == AgentsNote()
    send_undelivered(deployed, "eu-west-1", 2)
    send_undelivered(deployed, "eu-central-1", 1)
    assert setup.handler(HOURLY, Context())["problems"] == []
    queue = AgentQueue(f"crr-monitor-{AGENT_TOKEN}-undelivered", {"eu-central-1": 1, "eu-west-1": 2})
    assert agents_note() == AgentsNote({AGENT: queue})
    number = deny(deployed, service="sqs", operation="GetQueueAttributes", region="eu-west-1", account=AGENT)
    send_undelivered(deployed, "eu-west-1", 1)
    send_undelivered(deployed, "eu-central-1", 1)
    (note,) = [each for each in setup.handler(HOURLY, Context())["notes"] if "undelivered" in each]
    assert note.startswith(f"account {AGENT}: queue {queue.name} in eu-west-1 could not be asked, so it is not known")
    assert agents_note().undelivered[AGENT].regions == {"eu-central-1": 2, "eu-west-1": 2}
    deployed.end_fault(number)
    setup.handler(HOURLY, Context())
    assert agents_note().undelivered[AGENT].regions == {"eu-central-1": 2, "eu-west-1": 3}
    setup.handler({**ANNOUNCEMENT, "detail-type": "CRR Monitor Agent Is Removed"}, Context())
    setup.handler(HOURLY, Context())
    assert agents_note() == AgentsNote()


def test_region_out_of_reach_is_asked_once(deployed: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Region that does not answer about one agent's queue is not asked about others': each would have to wait."""
    monkeypatch.setitem(OPTIONS, "retries", {"total_max_attempts": 1})
    monkeypatch.setattr(agent_health, "AT_ONCE", 1)
    others = ["200000000001", "200000000002"]
    for account in others:
        make_bucket(deployed, f"bucket-of-{account}", "eu-west-1", account=account)
        announced("d1", account, **UP_TO_DATE)
    match = {"service": "sqs", "operation": "GetQueueUrl", "region": "eu-west-1"}
    deployed.fault("error", code="InternalError", status=500, match=match, times=1)
    notes = [each for each in setup.handler(HOURLY, Context())["notes"] if "undelivered" in each]
    assert [each.partition(":")[0] for each in notes] == [f"account {account}" for account in others]
    assert [each for each in setup.handler(HOURLY, Context())["notes"] if "undelivered" in each] == []


@pytest.mark.parametrize(
    "said",
    [{}, {**UP_TO_DATE, "roles": []}, {**UP_TO_DATE, "version": 0}],
    ids=["before versions", "a role is not let in", "an older version"],
)
def test_outdated_agents(deployed: Sandbox, monkeypatch: pytest.MonkeyPatch, said: dict[str, Any]) -> None:
    """An agent of an older version, or that keeps a role of the hub out, is a warning with the command, no problem."""
    monkeypatch.setenv("CRR_MONITOR_HUB_ROLE_ARNS", ROLE)
    make_bucket(deployed, "theirs", account=AGENT)
    how = f"with the credentials of {AGENT}: crr-monitor deploy agent --region eu-west-1 --parameter HubRoleArns={ROLE}"
    expected = [f"the agent of {AGENT} is not as this version of the hub needs; {how}"]
    report = announced("d1", **said)
    assert (report["warnings"], report["problems"]) == (expected, [])
    assert agents_note() == AgentsNote()
    report = setup.handler(HOURLY, Context())
    assert (report["warnings"], report["problems"]) == (expected, [])
    assert (agents_note().outdated, " ".join(agents_note().cure.split())) == ((AGENT,), how)
    assert announced("d1", **UP_TO_DATE)["warnings"] == []
    assert setup.handler(HOURLY, Context())["warnings"] == []
    assert agents_note() == AgentsNote()


def test_outdated_agents_in_the_stacks_summary(
    deployed: Sandbox, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an update of the hub its output says which agents have to follow; of an organization all by one call."""
    monkeypatch.setenv("CRR_MONITOR_STACK_ID", f"arn:aws:cloudformation:{HOME}:{HUB}:stack/watcher/{TOKEN}")
    monkeypatch.setenv("CRR_MONITOR_AGENT_ORGANIZATION", "o-0123456789")
    for account in ("200000000001", "200000000002"):
        AgentRegister(new_sessions(deployed), stack()).put(Agent(account, HOME))
    setup.handler(receiver.event, Context())
    (answer,) = receiver.answers
    assert answer["Status"] == "SUCCESS"
    assert answer["Data"]["Summary"].partition("WARNING: ")[2] == (
        "2 agents are not as this version of the hub needs (200000000001, 200000000002); `crr-monitor deploy hub"
        " --region us-east-1 --stack-name watcher` prints the call of update-stack-set that updates all agents of the"
        " organization; run that."
    )


def out_of_reach(sandbox: Sandbox, region: str) -> int:
    """A Region whose EventBridge does not work; the number of the fault."""
    return sandbox.fault("error", code="InternalException", status=500, match={"service": "events", "region": region})


def at(minutes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let it be so many minutes after some moment."""
    monkeypatch.setattr(setup, "system_clock", lambda: AT + minutes * MINUTE_MS)


def test_outage_of_a_region_fails_no_single_run(deployed: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Region that does not answer is a warning, and a failure once it lasts until the next hourly run."""
    monkeypatch.setitem(OPTIONS, "retries", {"total_max_attempts": 1})
    replicated_pair(deployed)
    setup.handler(HOURLY, Context())
    fault = out_of_reach(deployed, "eu-west-1")
    at(0, monkeypatch)
    report = setup.handler(HOURLY, Context())
    (told,) = report["warnings"]
    assert told.startswith("eu-west-1 could not be asked, so nothing is changed there: events:ListRules")
    assert report["problems"] == []
    at(30, monkeypatch)
    assert setup.handler(HOURLY, Context())["warnings"] == [told]
    at(60, monkeypatch)
    with pytest.raises(SetupFailedError, match="eu-west-1 could not be asked"):
        setup.handler(HOURLY, Context())
    deployed.end_fault(fault)
    assert setup.handler(HOURLY, Context())["warnings"] == []
    out_of_reach(deployed, "eu-west-1")
    at(120, monkeypatch)
    assert len(setup.handler(HOURLY, Context())["warnings"]) == 1


def test_outage_while_something_is_made(deployed: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an outage keeps from being made is a warning, and made later; a refusal in the same Region is a failure."""
    monkeypatch.setitem(OPTIONS, "retries", {"total_max_attempts": 1})
    replicated_pair(deployed)
    match = {"service": "events", "operation": "PutRule", "region": "eu-west-1"}
    fault = deployed.fault("error", code="InternalException", status=500, match=match)
    number = deny(deployed, service="sns", operation="CreateTopic", region="eu-west-1")
    at(0, monkeypatch)
    with pytest.raises(SetupFailedError, match=r"could not create topic .* could not create rule"):
        setup.handler(HOURLY, Context())
    deployed.end_fault(number)
    report = setup.handler(HOURLY, Context())
    assert report["problems"] == []
    assert [each.partition(": ")[0] for each in report["warnings"]] == [
        f"could not create rule crr-monitor-{TOKEN}-{name} in eu-west-1" for name in ("configuration", "s3-events-0")
    ]
    deployed.end_fault(fault)
    report = setup.handler(HOURLY, Context())
    assert (report["problems"], report["warnings"]) == ([], [])
    assert f"create rule crr-monitor-{TOKEN}-s3-events-0 in eu-west-1: it is missing" in report["done"]


def announced(digest: str, account: str = AGENT, **said: Any) -> dict[str, Any]:  # noqa: ANN401 - whatever it says
    """What the hub does when an agent announces itself."""
    detail = {**ANNOUNCEMENT["detail"], "digest": digest, **said}
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
    with pytest.raises(SetupFailedError, match=f"what account {AGENT} sent .* is not understood"):
        setup.handler({**ANNOUNCEMENT, "detail": detail}, Context())
    assert [note for note in setup.handler(HOURLY, Context())["notes"] if AGENT in note] == []


# Its queue ------------------------------------------------------------------------------------------------------------

CHANGED: dict[str, Any] = {
    "source": "aws.s3",
    "detail-type": "AWS API Call via CloudTrail",
    "account": HUB,
    "region": HOME,
    "detail": {"eventName": "PutBucketReplication"},
}


def received(sandbox: Sandbox, *events: dict[str, Any], tries: int = 1) -> dict[str, Any]:
    """A batch as Lambda hands it over: events that were sent to the queue, received so many times by now."""
    sqs, url = sandbox.client("sqs", HUB, HOME), os.environ["CRR_MONITOR_CHANGES_QUEUE_URL"]
    for event in events:
        sqs.send_message(QueueUrl=url, MessageBody=json.dumps(event))
    names = ["SentTimestamp"]
    records: list[dict[str, Any]] = []
    while len(records) < len(events):
        answer = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, MessageSystemAttributeNames=names)
        records += [
            {
                "messageId": each["MessageId"],
                "body": each["Body"],
                "receiptHandle": each["ReceiptHandle"],
                "attributes": {**each["Attributes"], "ApproximateReceiveCount": str(tries)},
            }
            for each in answer["Messages"]
        ]
    return {"Records": records}


def announcement(digest: str, account: str = AGENT) -> dict[str, Any]:
    """An agent's word of itself."""
    return {**ANNOUNCEMENT, "account": account, "detail": {**ANNOUNCEMENT["detail"], "digest": digest}}


def in_queue(sandbox: Sandbox) -> int:
    """How many messages are in the queue, whether they can be received now or not."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    url = os.environ["CRR_MONITOR_CHANGES_QUEUE_URL"]
    told = sandbox.client("sqs", HUB, HOME).get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    return sum(int(told[name]) for name in names)


def test_one_run_for_many_messages(deployed: Sandbox) -> None:
    """One run does what many messages ask for: rules are learned, and each agent's newest word is remembered."""
    replicated_pair(deployed)
    other = "200000000001"
    gone = {**announcement("d1", "200000000002"), "detail-type": "CRR Monitor Agent Is Removed"}
    events = [CHANGED] * 25 + [announcement("d1"), announcement("d1", other), announcement("d2"), gone]
    report = setup.handler(received(deployed, *events), Context())
    assert (len(report["done"]), report["batchItemFailures"]) == (9, [])
    register = AgentRegister(new_sessions(deployed), stack()).all()
    assert {account: agent.digest for account, agent in register.items()} == {AGENT: "d2", other: "d1"}
    assert learned(deployed) == [("orders", HUB, "orders-dr", HUB)]


def test_agents_in_one_run(deployed: Sandbox) -> None:
    """Agents that announce themselves together are asked together, and others are not even listed."""
    make_bucket(deployed, "orders")
    others = ["200000000001", "200000000002"]
    for account in others:
        make_bucket(deployed, f"of-{account}", account=account)
        replicate(deployed, f"of-{account}", "orders", account=account)
    deny(deployed, service="ssm", operation="GetParametersByPath")
    setup.handler(received(deployed, *(announcement("d1", account) for account in others)), Context())
    assert learned(deployed) == [(f"of-{account}", account, "orders", HUB) for account in others]


def test_nonsense_among_messages(deployed: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be understood comes again alone, until the queue puts it away; the rest is done."""
    monkeypatch.setattr(changes, "AGAIN_SECONDS", 0)
    batch = received(deployed, {**ANNOUNCEMENT, "account": "200000000001", "detail": {}}, announcement("d1"))
    report = setup.handler(batch, Context())
    (bad,) = [each["messageId"] for each in batch["Records"] if '"detail": {}' in each["body"]]
    assert report["batchItemFailures"] == [{"itemIdentifier": bad}]
    assert known_agents(deployed) == [AGENT]
    sqs, url = deployed.client("sqs", HUB, HOME), os.environ["CRR_MONITOR_CHANGES_QUEUE_URL"]
    assert [each["MessageId"] for each in sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]] == [
        bad
    ]


@pytest.mark.parametrize(("tries", "left"), [(1, 12), (2, 12), (3, 0)])
def test_problems_come_again(deployed: Sandbox, monkeypatch: pytest.MonkeyPatch, tries: int, left: int) -> None:
    """What a run could not do comes again soon, twice; after that the hourly run goes on with it."""
    monkeypatch.setattr(changes, "AGAIN_SECONDS", 0)
    replicated_pair(deployed)
    deny(deployed, service="events", operation="PutRule", region="eu-west-1")
    batch = received(deployed, *[CHANGED] * 12, tries=tries)
    with pytest.raises(SetupFailedError, match="could not create rule"):
        setup.handler(batch, Context())
    sqs, url = deployed.client("sqs", HUB, HOME), os.environ["CRR_MONITOR_CHANGES_QUEUE_URL"]
    assert in_queue(deployed) == left
    assert ("Messages" in sqs.receive_message(QueueUrl=url)) == bool(left)


@pytest.mark.parametrize("tries", [1, 3])
def test_broken_off(deployed: Sandbox, tries: int) -> None:
    """Messages of a run that broke off are never removed, as nothing of them is remembered."""
    deny(deployed, service="s3", operation="GET", resource="/?max-buckets")
    batch = received(deployed, announcement("d1"), tries=tries)
    with pytest.raises(AwsError, match="s3:ListBuckets"):
        setup.handler(batch, Context())
    assert (in_queue(deployed), known_agents(deployed)) == (1, [])


# Runs at the same time ------------------------------------------------------------------------------------------------


def watched_buckets(sandbox: Sandbox, region: str) -> set[str]:
    """The buckets in the rules of a Region."""
    rules = sandbox.client("events", HUB, region).list_rules(NamePrefix=f"crr-monitor-{TOKEN}-")["Rules"]
    return {bucket for rule in rules for bucket in buckets_in(json.loads(rule["EventPattern"]))}


@pytest.mark.parametrize("kind", ["hub", "agent"])
def test_older_run_does_not_win(deployed: Sandbox, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """A run that looked before a change, and writes after a later run has seen it, does not undo what that did."""
    monkeypatch.setenv("CRR_MONITOR_STACK_KIND", kind)
    bus = deployed.client("events", HUB, HOME).create_event_bus(Name="own")["EventBusArn"]
    monkeypatch.setenv("CRR_MONITOR_OWN_BUS_ARN", bus)
    monkeypatch.setenv("CRR_MONITOR_HUB_BUS_ARN", bus)
    replicated_pair(deployed)
    make_bucket(deployed, "more")
    original, waiting = converging.execute, iter([True])

    def execute(*arguments: Any, **options: Any) -> Report:  # noqa: ANN401 - as it is called
        for _ in waiting:  # only the first run that comes here is overtaken
            replicate(deployed, "more", "orders-dr")
            setup.handler(received(deployed, CHANGED), Context())
            assert watched_buckets(deployed, HOME) == {"orders", "more"}
        return original(*arguments, **options)

    monkeypatch.setattr(converge, "execute", execute)
    setup.handler(HOURLY, Context())
    assert watched_buckets(deployed, HOME) == {"orders", "more"}
    if kind == "hub":
        assert [pair[0] for pair in learned(deployed)] == ["more", "orders"]


def test_older_run_about_an_agent_does_not_win(deployed: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a slow run learned of an agent's account before a change is not learned after a later run has seen it."""
    make_bucket(deployed, "orders")
    for name in ("theirs", "more"):
        make_bucket(deployed, name, account=AGENT)
    replicate(deployed, "theirs", "orders", account=AGENT)
    announced("d1")
    original, waiting = agents.learn, iter([True])

    def learn(*arguments: Any) -> Topology:  # noqa: ANN401 - as it is called
        for _ in waiting:
            replicate(deployed, "more", "orders", account=AGENT)
            deployed.client("s3", AGENT, HOME).delete_bucket_replication(Bucket="theirs")
            setup.handler(received(deployed, announcement("d2")), Context())
        return original(*arguments)

    monkeypatch.setattr(converge, "learn", learn)
    setup.handler(HOURLY, Context())
    assert [pair[0] for pair in learned(deployed)] == ["more"]


def test_changes_all_the_time(deployed: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where rules change faster than set-up looks, it ends in time, and says that the next run goes on."""
    replicated_pair(deployed)
    original = converging.execute
    seconds = iter(range(300, 0, -100))

    def execute(*arguments: Any, **options: Any) -> Report:  # noqa: ANN401 - as it is called
        name = f"more-{len(deployed.client('s3', HUB, HOME).list_buckets()['Buckets'])}"
        make_bucket(deployed, name)
        replicate(deployed, name, "orders-dr")
        return original(*arguments, **options)

    monkeypatch.setattr(converge, "execute", execute)
    monkeypatch.setattr(Context, "get_remaining_time_in_millis", lambda _: next(seconds) * 1_000)
    monkeypatch.setattr(converge, "LEAST_SECONDS", 150.0)
    report = setup.handler(HOURLY, Context())
    assert report["warnings"] == ["replication rules changed all the time while set-up ran: the next run goes on"]
    assert next(seconds, None) is None


def test_quiet_run_looks_once(deployed: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that has written something looks once more; one that has nothing to write asks each account once."""
    replicated_pair(deployed)
    original, looks = discovery.discover, []

    def counting(*arguments: Any) -> Discovery:  # noqa: ANN401 - as it is called
        looks.append(1)
        return original(*arguments)

    monkeypatch.setattr(converge, "discover", counting)
    setup.handler(HOURLY, Context())
    assert len(looks) == 2
    setup.handler(HOURLY, Context())
    assert len(looks) == 3


NOT_MINE = "the stack has been changed since this run began: the next run goes on, with the new settings"


@pytest.mark.parametrize("queued", [False, True])
@pytest.mark.parametrize("request_type", ["Update", "Delete"])
def test_run_with_settings_of_before_stops(
    deployed: Sandbox, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, request_type: str, *, queued: bool
) -> None:
    """What began before CloudFormation changed the settings, or removed the stack, does nothing with those it has.

    What it was to do is left for the next run.
    """
    setup.handler(receiver.event, Context())
    replicated_pair(deployed)
    monkeypatch.setenv("CRR_MONITOR_BUCKET_SETTINGS", "Change")
    original, waiting = overlap.look_with_old_source, iter([True])

    def look(*arguments: Any) -> tuple[Situation, Sources]:  # noqa: ANN401 - as it is called
        found = original(*arguments)
        for _ in waiting:  # only the first that looks is overtaken
            monkeypatch.setenv("CRR_MONITOR_BUCKET_SETTINGS", "Print")
            setup.handler({**receiver.event, "RequestType": request_type, "RequestId": "newer"}, Context())
        return found

    monkeypatch.setattr(converge, "look_with_old_source", look)
    event: dict[str, Any] = received(deployed, CHANGED) if queued else HOURLY
    report = setup.handler(event, Context())
    assert [each["Status"] for each in receiver.answers] == ["SUCCESS", "SUCCESS"]
    assert (report["done"], report["notes"]) == ([], [NOT_MINE])
    s3 = deployed.client("s3", HUB, HOME)
    assert "EventBridgeConfiguration" not in s3.get_bucket_notification_configuration(Bucket="orders")
    assert watched_buckets(deployed, HOME) == ({"orders"} if request_type == "Update" else set())
    if queued:
        assert report["batchItemFailures"] == [{"itemIdentifier": event["Records"][0]["messageId"]}]
        assert in_queue(deployed) == 1


def test_removal_looks_once_more(deployed: Sandbox, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another run was still making while the stack's things were removed is removed as well, in every Region."""
    replicated_pair(deployed)
    setup.handler(receiver.event, Context())
    original, waiting = converging.execute, iter([True])
    events, name = deployed.client("events", HUB, "eu-west-1"), f"crr-monitor-{TOKEN}-late"

    def execute(*arguments: Any, **options: Any) -> Report:  # noqa: ANN401 - as it is called
        report = original(*arguments, **options)
        for _ in waiting:
            assert events.list_rules()["Rules"] == []
            events.put_rule(Name=name, ScheduleExpression="rate(1 day)")
        return report

    monkeypatch.setattr(converge, "execute", execute)
    report = setup.handler({**receiver.event, "RequestType": "Delete", "RequestId": "last"}, Context())
    assert f"delete rule {name} in eu-west-1" in "; ".join(report["done"])
    assert [each["Status"] for each in receiver.answers] == ["SUCCESS", "SUCCESS"]
    assert (events.list_rules()["Rules"], record(deployed).get(REGIONS)) == ([], None)


# Buckets that are in their own way ------------------------------------------------------------------------------------


def test_blocked_bucket_fails_no_deployment(deployed: Sandbox, receiver: Receiver) -> None:
    """A bucket that cannot be watched is a warning for CloudFormation and for changes, and fails the hourly run."""
    replicated_pair(deployed)
    number = deny(deployed, service="s3", operation="GET", resource="/orders?notification")
    setup.handler(receiver.event, Context())
    (answer,) = receiver.answers
    assert answer["Status"] == "SUCCESS"
    assert ", 1 buckets not watched: WARNING: bucket orders is not watched: " in answer["Data"]["Summary"]
    report = setup.handler(received(deployed, CHANGED), Context())
    assert [each.partition(":")[0] for each in report["warnings"]] == ["bucket orders is not watched"]
    assert ("orders" in report["unseen"], report["problems"]) == (True, [])
    with pytest.raises(SetupFailedError, match="bucket orders is not watched"):
        setup.handler(HOURLY, Context())
    deployed.end_fault(number)
    assert setup.handler(HOURLY, Context())["problems"] == []


def test_answered_request_is_not_done_again(
    deployed: Sandbox, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that was answered as time ran out is not done again when Lambda calls anew; the next one is."""
    monkeypatch.setattr(response, "EARLY_SECONDS", 0.0)
    monkeypatch.setattr(Context, "get_remaining_time_in_millis", lambda _: 1_000)
    original = discovery.discover

    def slow(*arguments: Any) -> Discovery:  # noqa: ANN401 - as it is called
        deadline = time.monotonic() + 60
        while record(deployed).get(ANSWERED) is None and time.monotonic() < deadline:
            time.sleep(0.05)
        return original(*arguments)

    monkeypatch.setattr(converge, "discover", slow)
    setup.handler(receiver.event, Context())
    assert [each["Status"] for each in receiver.answers] == ["FAILED"]
    monkeypatch.setattr(Context, "get_remaining_time_in_millis", lambda _: 900_000)
    report = setup.handler(receiver.event, Context())
    assert report["notes"] == ["this request of CloudFormation was answered when time ran out"]
    assert len(receiver.answers) == 1
    setup.handler({**receiver.event, "RequestType": "Delete", "RequestId": "another"}, Context())
    assert [each["Status"] for each in receiver.answers] == ["FAILED", "SUCCESS"]
    assert record(deployed).get(ANSWERED) is None


def record(sandbox: Sandbox) -> Record:
    """What set-up remembers."""
    made = from_environment(SetupSettings, dict(os.environ)).stack(Context.invoked_function_arn)
    return Record(new_sessions(sandbox), made)
