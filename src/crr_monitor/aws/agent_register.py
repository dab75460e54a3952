"""The agents that a hub knows, in Parameter Store: one parameter for each, below a path with the stack's token in it.

Agents of a whole organization announce themselves within seconds, and each announcement is a run of set-up of its own.
As every run writes and removes only its own agent's parameter, no two can undo each other's work, and what is kept of
an agent stays small, however many there are: of lists there are digests only.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.json import decode, encode

from crr_monitor.aws.record import ABSENT, AGENTS, Record
from crr_monitor.aws.sessions import AwsError, call, pages

if TYPE_CHECKING:
    from crr_monitor.aws.plan_model import Stack
    from crr_monitor.aws.sessions import Sessions

FOLDER = "agent"
"""Not the name of the document in which all agents were kept before, below which that had its pieces."""
PAGE = 10
"""The most that one call lists (Systems Manager API Reference, ``GetParametersByPath``)."""
PRESENT = "ParameterAlreadyExists"


class Told(Struct, frozen=True):
    """What only the hub knows: which buckets of the account others replicate to, and where the hub has its topic."""

    destinations: tuple[str, ...] = ()
    topic_regions: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """The same for the same."""
        return hashlib.sha256(encode(self)).hexdigest()


class Agent(Struct, frozen=True):
    """An agent as it announced itself: where it lives, digests of what it was told and of what it has discovered.

    ``token`` is a part of its stack's names, ``version`` that of its template; ``roles`` are digests of the hub's roles
    that it lets in.
    """

    account: str
    region: str
    told: str = ""
    digest: str = ""
    token: str = ""
    version: int = 0
    roles: tuple[str, ...] = ()


def role_digest(arn: str) -> str:
    """A few characters for a role, as what is kept of an agent has to stay small."""
    return hashlib.sha256(arn.encode()).hexdigest()[:16]


class _Place(Struct, frozen=True):
    """What is taken of an agent of the document before; the rest is told and asked again."""

    account: str
    region: str


class AgentRegister:
    """The agents of one hub. Every method may raise ``AwsError``."""

    def __init__(self, sessions: Sessions, stack: Stack) -> None:
        self._client = sessions.client("ssm", stack.region)
        self._path = f"/crr-monitor/{stack.token}/{FOLDER}"

    def get(self, account: str) -> Agent | None:
        """The agent of an account, or ``None`` when it has not announced itself, or has gone."""
        try:
            answer = call("ssm:GetParameter", self._client.get_parameter, Name=self._name(account))
        except AwsError as error:
            if error.code == ABSENT:
                return None
            raise
        return decode(answer["Parameter"]["Value"], type=Agent)

    def all(self) -> dict[str, Agent]:
        """Every agent, by account."""
        listed = pages(
            "ssm:GetParametersByPath", self._client, "get_parameters_by_path", Path=self._path, MaxResults=PAGE
        )
        found = [decode(each["Value"], type=Agent) for page in listed for each in page["Parameters"]]
        return {agent.account: agent for agent in found}

    def put(self, agent: Agent) -> None:
        """Remember an agent, in place of what was known of it."""
        self._write(agent, overwrite=True)

    def forget(self, account: str) -> None:
        """Forget an agent, also one that is not known."""
        try:
            call("ssm:DeleteParameter", self._client.delete_parameter, Name=self._name(account))
        except AwsError as error:
            if error.code != ABSENT:
                raise

    def forget_all(self) -> None:
        """Forget every agent."""
        for account in self.all():
            self.forget(account)

    def take_over(self, record: Record) -> None:
        """Take the agents out of the one document in which they were before, which goes.

        One that has announced itself since then is known better than the document knows it.
        """
        document = record.get(AGENTS)
        if document is None:
            return
        for place in decode(encode(document), type=dict[str, _Place]).values():
            try:
                self._write(Agent(place.account, place.region), overwrite=False)
            except AwsError as error:
                if error.code != PRESENT:
                    raise
        record.forget(AGENTS)

    def _name(self, account: str) -> str:
        return f"{self._path}/{account}"

    def _write(self, agent: Agent, *, overwrite: bool) -> None:
        request = {"Name": self._name(agent.account), "Value": encode(agent).decode(), "Type": "String"}
        call("ssm:PutParameter", self._client.put_parameter, **request, Overwrite=overwrite)
