"""The steps of ``crr-monitor selftest`` that look at what is deployed; each says what it has proven."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from crr_monitor.aws.sessions import AwsError, call, pages
from crr_monitor.aws.stacks import Stacks
from crr_monitor.cli.discover import plan as plan_of
from crr_monitor.stores.dynamodb import open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from crr_monitor.aws.stacks import Existing, Resource
    from crr_monitor.cli.access import Access
    from crr_monitor.stores.dynamodb import DynamoStore

PAUSE_SECONDS = 2.0
"""Between two looks at something that is awaited."""
RECENT = timedelta(minutes=15)


class BrokenError(Exception):
    """A step could not be proven. The text says what is wrong, ``cure`` what to do about it."""

    def __init__(self, text: str, cure: str) -> None:
        super().__init__(text)
        self.cure = cure


class Deployment:
    """A deployed hub as it is. Steps may raise :class:`BrokenError`, ``AwsError`` and ``StoreError``.

    :meth:`stack` comes first. ``timeout`` (seconds) is how long each thing that is awaited may take.
    """

    def __init__(self, access: Access, stack_name: str, timeout: float) -> None:
        self._access = access
        self._stack_name = stack_name
        self._timeout = timeout
        self._stack: Existing
        self._resources: list[Resource] = []
        self._store: DynamoStore

    # What is there ----------------------------------------------------------------------------------------------------

    def stack(self) -> str:
        """The stack is there, whole, and is a hub."""
        stacks = Stacks(self._access.client("cloudformation"))
        found = stacks.find(self._stack_name)
        if found is None:
            text = f"there is no stack {self._stack_name} in {self._access}"
            raise BrokenError(text, "name the hub's with --stack-name and --region, or make it: crr-monitor deploy hub")
        if "StoreUrl" not in found.outputs:
            text = f"stack {found.name} is no hub, or was not made wholly: {found.status}"
            raise BrokenError(text, "run crr-monitor deploy hub again; its events in CloudFormation say why it failed")
        if not found.status.endswith("_COMPLETE") or found.status.endswith("ROLLBACK_FAILED"):
            text = f"stack {found.name} is {found.status}"
            raise BrokenError(text, "wait until it is done, or deploy it again")
        self._stack, self._resources = found, stacks.resources(found)
        endpoint = self._access.client("dynamodb").meta.endpoint_url
        url = found.outputs["StoreUrl"]
        self._store = open_store(url if endpoint.endswith("amazonaws.com") else f"{url}&endpoint={endpoint}")
        return f"{found.name} is {found.status}, with {len(self._resources)} resources"

    def _of_kind(self, kind: str) -> Iterator[Resource]:
        yield from (each for each in self._resources if each.kind == kind)

    def _output(self, name: str) -> str:
        return self._stack.outputs[name]

    def functions(self) -> str:
        """Each function is there, its last runs did not fail, and what feeds it is on."""
        client, names = self._access.client("lambda"), []
        for each in self._of_kind("AWS::Lambda::Function"):
            told = call(
                f"lambda:GetFunctionConfiguration of {each.logical_id}",
                client.get_function_configuration,
                FunctionName=each.physical_id,
            )
            # Inactive is one that was idle for long, and Pending one that is being made: both run when they are called.
            state = told.get("State", "Active")
            if state == "Failed":
                text = f"{each.logical_id} ({each.physical_id}) is {state}: {told.get('StateReason', '')}"
                raise BrokenError(text, "deploy the hub again: crr-monitor deploy hub")
            if self._fails(each.physical_id):
                group = told.get("LoggingConfig", {}).get("LogGroup", "")
                text = f"the last runs of {each.logical_id} ({each.physical_id}) failed"
                raise BrokenError(text, f"its log names the cause: aws logs tail {group} --since 15m; mend that")
            names.append(each.logical_id.removesuffix("Function"))
        for each in self._of_kind("AWS::Lambda::EventSourceMapping"):
            told = call("lambda:GetEventSourceMapping", client.get_event_source_mapping, UUID=each.physical_id)
            if told["State"] not in {"Enabled", "Creating", "Updating"}:
                text = f"{each.logical_id} is {told['State']}, so its function gets nothing"
                raise BrokenError(text, f"aws lambda update-event-source-mapping --uuid {each.physical_id} --enabled")
        return f"{', '.join(names)} are there, and their last runs went well"

    def _fails(self, name: str) -> bool:
        """Whether all runs of the last minute with any have failed: what was mended since is no trouble any more."""
        runs, errors = (
            self._values("AWS/Lambda", metric, "Sum", RECENT, FunctionName=name) for metric in ("Invocations", "Errors")
        )
        last = max((at for at, number in runs.items() if number), default=None)
        return last is not None and errors.get(last, 0) >= runs[last]

    def _values(
        self, namespace: str, metric: str, statistic: str, back: timedelta, **names: str
    ) -> dict[datetime, float]:
        now = datetime.now(UTC)
        told = call(
            f"cloudwatch:GetMetricStatistics of {metric}",
            self._access.client("cloudwatch").get_metric_statistics,
            Namespace=namespace,
            MetricName=metric,
            Dimensions=[{"Name": name, "Value": value} for name, value in names.items()],
            StartTime=now - back,
            EndTime=now + timedelta(minutes=1),
            Period=60,
            Statistics=[statistic],
        )
        return {each["Timestamp"]: float(each[statistic]) for each in told.get("Datapoints", [])}

    def schedules(self) -> str:
        """What calls the functions is switched on, and calls somebody."""
        client, names = self._access.client("events"), []
        for each in self._of_kind("AWS::Events::Rule"):
            name, place, told = self._rule(each)
            if told.get("State") != "ENABLED":
                on_bus = "".join(f" --event-bus-name {bus}" for bus in place.values())
                text = f"rule {each.logical_id} ({name}) is {told.get('State')}"
                raise BrokenError(text, f"aws events enable-rule --name {name}{on_bus}")
            operation = f"events:ListTargetsByRule of {name}"
            if not call(operation, client.list_targets_by_rule, Rule=name, **place).get("Targets"):
                text = f"rule {each.logical_id} ({name}) has no target"
                raise BrokenError(text, "somebody has removed it: put it back as it is in the hub's template")
            names.append(each.logical_id)
        return f"rules are on: {', '.join(names)}"

    def _rule(self, each: Resource) -> tuple[str, dict[str, str], dict[str, Any]]:
        """Name, bus (none: the default one) and settings of a rule.

        CloudFormation User Guide, "AWS::Events::Rule": on another bus its id is ``BUS|NAME``. A rule that is not on
        the default bus can only be on the hub's own.
        """
        client = self._access.client("events")
        bus, _, name = each.physical_id.rpartition("|")
        own = {"EventBusName": self._output("HubBusArn").rsplit("/", 1)[-1]}
        operation = f"events:DescribeRule of {name}"
        for place in [{"EventBusName": bus}] if bus else [{}, own]:
            try:
                return name, place, call(operation, client.describe_rule, Name=name, **place)
            except AwsError as error:
                if error.code != "ResourceNotFoundException":
                    raise
        text = f"rule {each.logical_id} ({name}) is not there"
        raise BrokenError(text, "somebody has removed it: make it again as it is in the hub's template")

    def events(self) -> str:
        """What set-up keeps in each Region is as it has to be: rules, topics, trail, notification settings."""
        proposal = plan_of(self._access, self._stack_name, None, self._store.topology())
        wrong = [*(f"{step.do} {step.kind} {step.name} ({step.why})" for step in proposal.steps), *proposal.problems]
        if wrong:
            name = self._output("SetupFunctionName")
            cure = f"let set-up mend it: aws lambda invoke --function-name {name} /dev/stdout; a patch is for the owner"
            text = f"set-up would have to: {'; '.join(wrong)}"
            raise BrokenError(text, cure)
        blind = [note for note in proposal.notes if note.startswith("bucket ")]
        if blind:
            raise BrokenError("; ".join(blind), "let the trail log this bucket's data events, or choose Trail Create")
        where = f"in each Region of account {self._access.account}"
        return f"{self._output('EventSource')}: all is as set-up wants it, {where}"

    def subscription(self) -> str:
        """The topic of events delivers to the queue."""
        topic, queue = self._output("TopicArn"), self._queue_arn(self._output("QueueUrl"))
        client = self._access.client("sns")
        listed = pages(
            f"sns:ListSubscriptionsByTopic of {topic}", client, "list_subscriptions_by_topic", TopicArn=topic
        )
        found = [each for page in listed for each in page.get("Subscriptions", []) if each["Endpoint"] == queue]
        if not found:
            text = f"the queue is not subscribed to topic {topic}, so no event reaches it"
            cure = f"aws sns subscribe --topic-arn {topic} --protocol sqs --notification-endpoint {queue}"
            raise BrokenError(text, f"{cure} --attributes RawMessageDelivery=true; or make the stack anew")
        if not str(found[0]["SubscriptionArn"]).startswith("arn:"):
            text = f"the queue's subscription to topic {topic} is {found[0]['SubscriptionArn']}"
            raise BrokenError(text, "remove it and subscribe the queue again")
        return "the queue is subscribed to the topic of events, and confirmed"

    def _queue_arn(self, url: str) -> str:
        return self._queue(url, "QueueArn")["QueueArn"]

    def _queue(self, url: str, *names: str) -> dict[str, str]:
        client = self._access.client("sqs")
        told = call(f"sqs:GetQueueAttributes of {url}", client.get_queue_attributes, QueueUrl=url, AttributeNames=names)
        return dict(told["Attributes"])

    def queues(self) -> str:
        """The queues answer, and nothing lies where it must not."""
        number = "ApproximateNumberOfMessages"
        waiting = self._queue(self._output("QueueUrl"), number)[number]
        for name, what in (
            ("DeadLetterQueueUrl", "events could not be understood or delivered"),
            ("UncountedQueueUrl", "changes were given up uncounted"),
        ):
            found = int(self._queue(self._output(name), number)[number])
            if found:
                cure = "their attributes and the functions' logs say why; mend that, then redrive or purge the queue"
                text = f"{found} {what} and lie in {self._output(name)}"
                raise BrokenError(text, cure)
        return f"{waiting} events wait; the dead-letter queues are empty"

    def alarms(self) -> str:
        """Each alarm is there, switched on, and tells the topic of notifications."""
        topic, client = self._output("NotificationTopicArn"), self._access.client("cloudwatch")
        wanted = {each.physical_id: each.logical_id for each in self._of_kind("AWS::CloudWatch::Alarm")}
        listed = pages("cloudwatch:DescribeAlarms", client, "describe_alarms")
        there = {each["AlarmName"]: each for page in listed for each in page.get("MetricAlarms", [])}
        silent = [
            logical_id
            for name, logical_id in wanted.items()
            if name not in there
            or not there[name].get("ActionsEnabled", True)
            or topic not in there[name].get("AlarmActions", [])
        ]
        if silent:
            text = f"alarms are missing, or do not tell {topic}: {', '.join(sorted(silent))}"
            raise BrokenError(text, "somebody has changed them: put the action back, or enable-alarm-actions")
        ringing = sorted(wanted[name] for name in wanted if there[name].get("StateValue") == "ALARM")
        return f"{len(wanted)} tell {topic}" + (f"; in alarm now: {', '.join(ringing)}" if ringing else "")

    # For other steps --------------------------------------------------------------------------------------------------

    def _await(self, look: Callable[[], Any], push: Callable[[], None]) -> Any:  # noqa: ANN401 - what is awaited
        """What ``look`` finds, or ``None`` when the time is over; ``push`` is called before each look but the first."""
        end = time.monotonic() + self._timeout
        while True:
            found = look()
            if found is not None or time.monotonic() >= end:
                return found
            time.sleep(min(PAUSE_SECONDS, max(0.0, end - time.monotonic())))
            push()

    def _invoke(self, output: str, what: str) -> None:
        name = self._output(output)
        answer = call(
            f"lambda:Invoke of {name}",
            self._access.client("lambda").invoke,
            FunctionName=name,
            Payload=json.dumps({"source": "aws.events", "detail-type": "Scheduled Event", "detail": {}}),
        )
        said = answer["Payload"].read()
        if "FunctionError" in answer:
            try:
                text = str(json.loads(said).get("errorMessage", said))
            except ValueError:
                text = str(said)
            text = f"the {what} function ({name}) fails: {text}"
            raise BrokenError(text, "mend what it names; its log has more")
