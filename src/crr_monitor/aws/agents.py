"""How hub and agents find each other.

An agent announces itself, the hub asks it through its role and tells it what it cannot know.

An agent cannot know which of its buckets are destinations of other accounts' rules. The hub does, as it reads all
accounts' rules. Announcements are events on the agent's own bus, which a rule of its template forwards; who sent one
is told by EventBridge (the event's ``account``), not by its content.
"""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Annotated, Any, Protocol

from msgspec import Meta, Struct, to_builtins
from msgspec.json import encode as json_encode

from crr_monitor.aws.agent_register import Told
from crr_monitor.aws.discovery import Discovery, discover, topology_entries
from crr_monitor.aws.sessions import AwsError, call
from crr_monitor.aws.setup import Known

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from crr_monitor.aws.agent_register import Agent
    from crr_monitor.aws.plan_model import Stack
    from crr_monitor.aws.sessions import Sessions
    from crr_monitor.core.topology import BucketConfig, Topology

AGENT_SOURCE = "crr-monitor.agent"
HUB_SOURCE = "crr-monitor.hub"
ANNOUNCED = "CRR Monitor Agent Is Set Up"
REMOVED = "CRR Monitor Agent Is Removed"
TOLD = "CRR Monitor Destinations"

AT_ONCE = 8
"""So many accounts are asked at a time: one after the other, some hundred would take longer than a function may run."""

MOST_ROLES = 20
"""Roles of the hub that an agent tells of: a hub has a few."""


class TopologyStore(Protocol):
    """The part of the store that set-up uses."""

    def topology(self) -> Topology:
        """What was learned of replication rules."""

    def learn(self, configs: Sequence[tuple[BucketConfig, bool]]) -> Topology:
        """Learn configurations (with whether they state ``since``)."""

    def note(self, name: str) -> bytes | None:
        """A small document."""

    def keep_note(self, name: str, body: bytes | None) -> None:
        """Keep a small document, or none any more."""


AGENT_VERSION = 1
"""Of the agent's template, as far as a hub needs it: what the role allows that the hub assumes there. Agents that were
deployed before it was told have 0."""


class Said(Struct, frozen=True):
    """What an agent says of itself when it announces itself.

    ``roles`` are the hub's roles that it lets in.
    """

    told: Told
    digest: str
    token: Annotated[str, Meta(pattern=r"^([0-9a-f]{12})?$")] = ""
    version: int = 0
    roles: Annotated[tuple[str, ...], Meta(max_length=MOST_ROLES)] = ()


def agent_bus(hub_token: str) -> str:
    """The name of an agent's bus, in its account and its stack's Region."""
    return f"crr-monitor-{hub_token}-agent"


def destinations_in(owned: Iterable[str], configs: Iterable[BucketConfig]) -> tuple[str, ...]:
    """Which of an account's buckets other accounts' rules replicate to."""
    owned = set(owned)
    rules = [rule for config in configs if config.bucket not in owned for rule in config.rules if rule.enabled]
    return tuple(sorted({rule.destination for rule in rules} & owned))


def ask_agents(
    sessions: Sessions, accounts: Iterable[str], regions: Mapping[str, str], home: str
) -> tuple[list[Discovery], list[str]]:
    """What the agents' accounts tell, and why others tell nothing.

    ``regions`` says where an agent lives, if it said so.
    """

    def ask(account: str) -> Discovery | str:
        try:
            return discover(sessions, regions.get(account, home), account)
        except AwsError as error:
            return f"account {account} could not be asked; is its agent deployed, for this hub? {error}"
        finally:
            sessions.forget(account)  # clients of many accounts and Regions would fill the function's memory

    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="account") as pool:
        answers = list(pool.map(ask, sorted(set(accounts) - {sessions.account})))
    found = [answer for answer in answers if isinstance(answer, Discovery)]
    return found, [answer for answer in answers if isinstance(answer, str)]


def learn(store: TopologyStore, found: Sequence[Discovery]) -> Topology:
    """Let the store learn what was discovered, also that rules have gone; raises what the store raises."""
    known = {config.bucket for config in store.topology().configs if config.rules}
    return store.learn(topology_entries(found, known))


def latest(topology: Topology) -> list[BucketConfig]:
    """The newest configuration of every bucket."""
    newest: dict[str, BucketConfig] = {}
    for config in topology.configs:
        if config.bucket not in newest or config.since >= newest[config.bucket].since:
            newest[config.bucket] = config
    return list(newest.values())


def known_to_hub(own: Discovery, configs: Sequence[BucketConfig]) -> Known:
    """What the hub's own set-up has to know of other accounts; all of it is in what the store has learned."""
    foreign = tuple(config for config in configs if config.bucket not in own.buckets)
    sources = {config.bucket for config in configs if any(rule.enabled for rule in config.rules)}
    targets = {rule.destination for config in configs for rule in config.rules if rule.enabled}
    agents = [config for config in foreign if config.bucket in sources | targets]
    return Known(foreign, (), tuple(sorted({config.region for config in agents if config.region and config.account})))


def digest_of(found: Discovery) -> str:
    """Tells whether an account's buckets or rules have changed."""
    configs = sorted(found.configs, key=lambda config: config.bucket)
    return hashlib.sha256(json_encode([sorted(found.buckets.items()), configs, found.unknown])).hexdigest()


def is_same(one: Discovery, other: Discovery) -> bool:
    """Whether an account told the same twice; why a bucket could not be asked does not matter."""
    unknown = [sorted(each.bucket for each in found.unknown) for found in (one, other)]
    configs = [{config.bucket: config for config in found.configs} for found in (one, other)]
    return one.buckets == other.buckets and configs[0] == configs[1] and unknown[0] == unknown[1]


def announce(sessions: Sessions, stack: Stack, told: Told, found: Discovery | None, roles: Sequence[str] = ()) -> None:
    """Tell the hub that this agent is there, and what it knows, or with ``None`` that it goes; raises ``AwsError``.

    ``roles`` are the hub's roles that may ask this account.
    """
    digest = "" if found is None else digest_of(found)
    detail = to_builtins(Said(told, digest, stack.token, AGENT_VERSION, tuple(roles[:MOST_ROLES])))
    kind = REMOVED if found is None else ANNOUNCED
    client, bus = sessions.client("events", stack.region), stack.own_bus_arn.rsplit("/", 1)[-1]
    _put_event(client, bus, AGENT_SOURCE, kind, detail)


def tell(sessions: Sessions, stack: Stack, agent: Agent, news: Told) -> bool:
    """Tell an agent what it does not know yet; raises ``AwsError``.

    An agent that was told converges and announces itself again, knowing it: so this ends.
    """
    if news.digest == agent.told:
        return False
    client = sessions.client("events", agent.region, agent.account)
    _put_event(client, agent_bus(stack.hub_token), HUB_SOURCE, TOLD, to_builtins(news))
    return True


def _put_event(client: Any, bus: str, source: str, kind: str, detail: dict[str, Any]) -> None:  # noqa: ANN401
    entry = {"Source": source, "DetailType": kind, "Detail": json.dumps(detail), "EventBusName": bus}
    answer = call("events:PutEvents", client.put_events, Entries=[entry])
    if answer.get("FailedEntryCount"):
        failed = answer["Entries"][0]
        operation = "events:PutEvents"
        raise AwsError(operation, str(failed.get("ErrorCode", "")), str(failed.get("ErrorMessage", "")))
