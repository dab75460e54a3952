"""What the set-up function is told: one event, or many that waited in its queue together.

Changes come in bursts: one deployment gives many buckets their replication rules, and all agents of an organization
announce themselves in the same minute. A run for each would be hundreds at the same time, which slow each other down.
So they wait in a queue for some seconds, and one run does what all of them ask for. As a run asks anew what there is,
only the newest word of each agent, and of the hub, matters.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from msgspec import Struct, ValidationError, convert

from crr_monitor.aws.agent_register import Agent, Told, role_digest
from crr_monitor.aws.agents import ANNOUNCED, HUB_SOURCE, REMOVED, TOLD, Said
from crr_monitor.aws.queue import Message, in_groups
from crr_monitor.aws.sessions import AwsError, call

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_log = logging.getLogger("crr_monitor.setup")

AGAIN_SECONDS = 60
"""After so long what a run could not do is tried again."""

TRIES = 3
"""So often; then it is the hourly run that goes on, whose failure keeps the alarm up. As many as Lambda makes for an
asynchronous call."""


class Heard(Struct, frozen=True):
    """What events have told together.

    ``agents`` has the newest word of each agent that said something, ``None`` where it goes. ``told`` is what the hub
    told this agent last. ``everything`` is whether there was anything besides agents' words, so that all has to be
    looked at. ``malformed`` says of events that cannot be understood why, by their place.
    """

    trigger: str = "call"
    agents: Mapping[str, Agent | None] = {}
    told: Mapping[str, Any] | None = None
    everything: bool = True
    malformed: Mapping[int, str] = {}

    @property
    def empty(self) -> bool:
        """Whether there is nothing to be done."""
        return not (self.agents or self.everything)


def hear(events: Iterable[Mapping[str, Any] | str]) -> Heard:
    """Merge events, given as objects or as texts, in the order in which they were sent."""
    agents: dict[str, Agent | None] = {}
    told: Mapping[str, Any] | None = None
    malformed: dict[int, str] = {}
    kinds: set[str] = set()
    everything = False
    for place, event in sorted(_read(events, malformed), key=lambda row: str(row[1].get("time", ""))):
        kind = str(event.get("detail-type", "call"))
        try:
            if kind == ANNOUNCED:
                agents[event["account"]] = _announced(event)
            elif kind == REMOVED:
                agents[event["account"]] = None
            else:
                if event.get("source") == HUB_SOURCE and kind == TOLD:
                    convert(event["detail"], Told)
                    told = event["detail"]
                everything = True
            kinds.add(kind)
        except (KeyError, ValidationError) as error:
            # What an account sends may be anything: it must neither be remembered nor keep others from being heard.
            malformed[place] = f"what account {event.get('account')} sent ({kind}) is not understood: {error}"
    return Heard(", ".join(sorted(kinds)), agents, told, everything, malformed)


def _read(
    events: Iterable[Mapping[str, Any] | str], malformed: dict[int, str]
) -> Iterable[tuple[int, Mapping[str, Any]]]:
    for place, event in enumerate(events):
        try:
            read = json.loads(event) if isinstance(event, str) else event
        except ValueError as error:
            malformed[place] = f"a message is no JSON: {error}"
            continue
        if isinstance(read, dict):
            yield place, read
        else:
            malformed[place] = "a message is no event"


def _announced(event: Mapping[str, Any]) -> Agent:
    """The agent that announces itself; the account and the Region are what EventBridge says of the sender."""
    said = convert(event["detail"], Said)
    roles = tuple(sorted(role_digest(role) for role in said.roles))
    return Agent(event["account"], event["region"], said.told.digest, said.digest, said.token, said.version, roles)


class Batch:
    """The messages of one call by Lambda, and what becomes of them.

    Lambda removes them when the function ends well. When it fails they would come again only after the queue's
    visibility time-out, which is longer than the function may run: hence :meth:`again`.
    """

    def __init__(self, client: Any, url: str, records: Sequence[Mapping[str, Any]]) -> None:  # noqa: ANN401 - boto3's
        self._client = client
        self._url = url
        rows = sorted(records, key=lambda record: int(record["attributes"]["SentTimestamp"]))
        self._tries = [int(record["attributes"]["ApproximateReceiveCount"]) for record in rows]
        self.messages = [Message(record["messageId"], record["body"], record["receiptHandle"]) for record in rows]
        self.heard = hear(message.body for message in self.messages)

    def failures(self, *, every: bool = False) -> list[dict[str, str]]:
        """What Lambda is not to remove: what cannot be understood, which comes again until the queue puts it away.

        Or ``every`` message, where the run has done nothing and :meth:`again` lets them come again.
        """
        if every:
            return [{"itemIdentifier": message.id} for message in self.messages]
        for place, why in self.heard.malformed.items():
            _log.error("message %s comes again, and ends in the dead-letter queue: %s", self.messages[place].id, why)
        self._show_again([self.messages[place] for place in self.heard.malformed])
        return [{"itemIdentifier": self.messages[place].id} for place in self.heard.malformed]

    def again(self, *, ended: bool) -> None:
        """Let the messages come again soon, as the run could not do all.

        Where it ``ended``, all that they told is remembered, and the hourly run goes on with the rest: so after some
        tries they are removed. Where it broke off they stay, until the queue puts them away.
        """
        few = [message for message, tries in zip(self.messages, self._tries, strict=True) if tries < TRIES]
        self._show_again(few)
        if ended:
            bad = {self.messages[place].id for place in self.heard.malformed}
            self._remove([each for each in self.messages if each not in few and each.id not in bad])

    def _show_again(self, messages: Sequence[Message]) -> None:
        for group in in_groups(messages):
            entries = [{**entry, "VisibilityTimeout": AGAIN_SECONDS} for entry in _entries(group)]
            self._call("sqs:ChangeMessageVisibility", "change_message_visibility_batch", entries)

    def _remove(self, messages: Sequence[Message]) -> None:
        for group in in_groups(messages):
            self._call("sqs:DeleteMessage", "delete_message_batch", _entries(group))

    def _call(self, operation: str, method: str, entries: Sequence[Mapping[str, Any]]) -> None:
        """What goes wrong here is told only: the messages come again anyway, later."""
        try:
            answer = call(operation, getattr(self._client, method), QueueUrl=self._url, Entries=entries)
        except AwsError as error:
            _log.warning("%d messages come again later: %s", len(entries), error)
            return
        for failed in answer.get("Failed", []):
            _log.warning("a message comes again later: %s: %s", failed.get("Code"), failed.get("Message"))


def _entries(messages: Sequence[Message]) -> list[dict[str, Any]]:
    return [{"Id": str(number), "ReceiptHandle": message.handle} for number, message in enumerate(messages)]
