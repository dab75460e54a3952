"""The values of a set-up plan: what a stack is, what it watches, what it wants to be there, and what has to be done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from msgspec import Struct

from crr_monitor.aws.words import DeniedReads, EventSource, StackKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from crr_monitor.core.topology import BucketConfig

Kind: TypeAlias = Literal["queue", "queue-policy", "topic", "subscription", "rule", "trail"]
Verb: TypeAlias = Literal["create", "update", "delete"]

ORDER: tuple[Kind, ...] = ("queue", "queue-policy", "topic", "subscription", "rule", "trail")
"""Kinds in the order in which they are made; they are removed in the opposite order."""

GIVEN: frozenset[Kind] = frozenset({"queue-policy"})
"""Kinds that are a setting of something the template makes: they go with it, and are never removed by themselves."""

STACK_TAG = "crr-monitor:stack"
"""Tag on everything that set-up makes; its value is the stack's id."""


class Stack(Struct, frozen=True, kw_only=True):
    """What set-up has to know of its stack.

    ``token`` are the last 12 hexadecimal digits of the stack's id: part of every name, so that any number of stacks
    get along. An agent's names have its hub's token too, where the hub has to find them. ``topic_keys`` are ARNs of
    the KMS keys that the user named for topics, each for its own Region. ``trail_bucket`` takes the log files of the
    stack's own trail; without one there is no such trail. ``retiring`` are sources of events of which the stack was
    told before, and which go on for a while beside the present one. ``denied_reads`` counts with CloudTrail only.
    """

    kind: StackKind
    stack_id: str
    token: str
    account: str
    region: str
    partition: str = "aws"
    event_source: EventSource = "CloudTrail"
    hub_account: str
    hub_token: str
    hub_bus_arn: str
    own_bus_arn: str
    forward_role_arn: str
    queue_arn: str = ""
    queue_url: str = ""
    trail_bucket: str = ""
    denied_reads: DeniedReads = "No"
    topic_keys: tuple[str, ...] = ()
    agent_accounts: tuple[str, ...] = ()
    agent_organization: str = ""
    retiring: tuple[EventSource, ...] = ()

    @property
    def sources(self) -> frozenset[EventSource]:
        """Every source whose events are taken now."""
        return frozenset({self.event_source, *self.retiring})

    @property
    def trail(self) -> str:
        """The name of the stack's own trail."""
        return f"crr-monitor-{self.token}"

    @property
    def prefix(self) -> str:
        """The beginning of every name that this stack's set-up gives."""
        return f"crr-monitor-{self.token}-"

    @property
    def undelivered(self) -> str:
        """The queue of one Region for what could not be delivered."""
        return self.prefix + "undelivered"

    @property
    def topic(self) -> str:
        """The hub's topic; it has the same name in every Region, and the template makes the one in the hub's own."""
        return f"crr-monitor-{self.hub_token}-events"

    def arn(self, service: str, region: str, name: str, account: str | None = None) -> str:
        """An ARN of this partition."""
        return f"arn:{self.partition}:{service}:{region}:{account or self.account}:{name}"

    def topic_arn(self, region: str) -> str:
        """The hub's topic in a Region."""
        return self.arn("sns", region, self.topic, self.hub_account)


class Watched(Struct, frozen=True):
    """A bucket of this account whose writes have to be seen; ``prefixes`` are those that rules replicate (``""``.

    All).
    """

    bucket: str
    region: str
    prefixes: tuple[str, ...] = ("",)
    source: bool = False
    destination: bool = False


class Resource(Struct, frozen=True):
    """Something that set-up makes, or finds, in one Region; ``properties`` are plain JSON, in one canonical form."""

    kind: Kind
    region: str
    name: str
    properties: dict[str, Any]

    @property
    def address(self) -> tuple[Kind, str, str]:
        """What makes two of them the same thing."""
        return self.kind, self.region, self.name

    def __str__(self) -> str:
        return f"{self.kind} {self.name} in {self.region}"


class Action(Struct, frozen=True):
    """One thing to do, with its reason."""

    verb: Verb
    resource: Resource
    why: str

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}: {self.why}"


class Plan(Struct, frozen=True):
    """What has to be there. ``problems`` are refusals: what they name is left out and has to be mended by somebody.

    ``untouched`` are kinds of which nothing is made, changed or removed now.
    """

    resources: tuple[Resource, ...] = ()
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    untouched: frozenset[Kind] = frozenset()


def minimal_prefixes(prefixes: Iterable[str]) -> tuple[str, ...]:
    """The prefixes that are left when those go that another one covers."""
    kept: list[str] = []
    for prefix in sorted(set(prefixes)):
        if not any(prefix.startswith(shorter) for shorter in kept):
            kept.append(prefix)
    return tuple(kept)


def watched_buckets(
    owned: Mapping[str, str], configs: Iterable[BucketConfig], destinations: Iterable[str] = ()
) -> tuple[Watched, ...]:
    """Which of an account's buckets (name -> Region) are a source or a destination of some enabled rule.

    ``configs`` may be of any account. ``destinations`` are names that another account's rules are known to replicate
    to.
    """
    prefixes: dict[str, set[str]] = {}
    sources: set[str] = set()
    targets: set[str] = set()
    for config in configs:
        for rule in config.rules:
            if rule.enabled:
                sources.add(config.bucket)
                targets.add(rule.destination)
                for bucket in (config.bucket, rule.destination):
                    prefixes.setdefault(bucket, set()).add(rule.prefix)
    for bucket in destinations:
        targets.add(bucket)
        prefixes.setdefault(bucket, set()).add("")
    return tuple(
        Watched(bucket, owned[bucket], minimal_prefixes(prefixes[bucket]), bucket in sources, bucket in targets)
        for bucket in sorted(prefixes.keys() & owned.keys())
    )
