"""Replication rules, and which destinations they let an object version expect.

A V1 rule (``Prefix`` on the rule) replicates delete markers; a V2 rule (``Filter``) does so only where
``DeleteMarkerReplication`` is enabled and the rule has no tag filter (User Guide, "What does Amazon S3 replicate?").
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from crr_monitor.core.evidence import Expectation, Origin, Taken

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from crr_monitor.core.events import Written

ARCHIVED = frozenset({"GLACIER", "DEEP_ARCHIVE"})
"""Storage classes that replication never takes (Glacier Flexible Retrieval, Deep Archive)."""

YES, NO = Taken.YES, Taken.NO


class Rule(Struct, frozen=True):
    """One replication rule, reduced to what decides whether it takes a version."""

    rule_id: str | None
    destination: str
    destination_account: str | None = None
    enabled: bool = True
    priority: int = 0
    prefix: str = ""
    tags: tuple[tuple[str, str], ...] = ()
    delete_markers: bool = False
    kms: bool = False


class BucketConfig(Struct, frozen=True):
    """A bucket: where it is, and its rules, which count for writes from ``since`` (milliseconds; 0: always) on.

    ``place_only``: nothing was told of rules, only where the bucket is. Without it, no rules means that there are none.
    """

    bucket: str
    account: str | None = None
    region: str | None = None
    rules: tuple[Rule, ...] = ()
    since: int = 0
    place_only: bool = False


class Pair(Struct, frozen=True):
    """One rule of one source bucket, as ``crr-monitor topology`` lists it."""

    source: BucketConfig
    rule: Rule
    destination: BucketConfig


def _matches(rule: Rule, event: Written) -> Taken | None:
    """Whether the rule's filter matches; ``NO``: known tags exclude it, ``None``: its form excludes it."""
    if not event.key.startswith(rule.prefix):
        return None
    if not rule.tags:
        return Taken.YES
    if event.delete_marker:
        return None  # markers have no tags
    if event.tags is None:
        return Taken.UNCERTAIN
    return Taken.YES if all(event.tags.get(key) == value for key, value in rule.tags) else Taken.NO


def _replicates(rule: Rule, event: Written) -> Taken | None:
    """Whether a rule that matches replicates the version; ``None``: its form excludes it, ``NO``: a fact does."""
    if event.delete_marker:
        if not rule.delete_markers:
            return None
        return Taken.NO if event.by_lifecycle else Taken.YES
    if (event.kms and not rule.kms) or event.storage_class in ARCHIVED:
        return NO
    return YES


class _Destination(Struct, frozen=True):
    """All enabled rules of a source towards one destination, highest priority first, with their ready answers."""

    rules: tuple[Rule, ...]
    answers: dict[str | None, tuple[Expectation, ...]]

    def expect(self, event: Written, *, in_force: bool) -> Expectation | None:
        """The answer of the first rule that matches; where that one is not sure, all that may decide have to agree."""
        first = self.rules[0]
        if not first.tags and event.key.startswith(first.prefix):  # it matches, so nothing else is asked
            rule_id, taken = first.rule_id, _replicates(first, event)
        else:
            rule_id, taken = self._decide(event)
        if taken is None:
            return None
        return self.answers[rule_id][taken if in_force or taken is NO else Taken.EARLIER]

    def _decide(self, event: Written) -> tuple[str | None, Taken | None]:
        outcomes: list[tuple[str | None, Taken | None]] = []
        excluded: Rule | None = None
        for rule in self.rules:
            match = _matches(rule, event)
            if match is NO:
                excluded = excluded or rule
            elif match is not None:
                outcomes.append((rule.rule_id, _replicates(rule, event)))
                if match is YES:
                    break
        else:  # no rule matches for sure
            if not outcomes:
                return (None, None) if excluded is None else (excluded.rule_id, NO)
            outcomes.append((outcomes[0][0], None))
        return _agreed(outcomes)


def _agreed(outcomes: list[tuple[str | None, Taken | None]]) -> tuple[str | None, Taken | None]:
    """What the rules say, of which any may be the one that decides."""
    rule_ids = {rule_id for rule_id, _ in outcomes}
    answers = {taken for _, taken in outcomes}
    rule_id = outcomes[0][0] if len(rule_ids) == 1 else None
    if len(answers) == 1:
        return rule_id, outcomes[0][1]
    if answers == {NO, None}:  # whichever decides, none takes it
        return outcomes[0][0], NO
    return rule_id, Taken.UNCERTAIN


class _Compiled(Struct, frozen=True):
    since: int
    destinations: tuple[_Destination, ...]


class Topology:
    """What is known of all buckets: an immutable value with its look-ups prepared.

    ``configs`` may hold several configurations of one bucket: each counts from its ``since`` until the next one's.
    """

    def __init__(self, configs: Iterable[BucketConfig] = ()) -> None:
        self.configs: tuple[BucketConfig, ...] = tuple(configs)
        self.any_rules = any(config.rules for config in self.configs)
        self._places: dict[str, BucketConfig] = {}
        for config in self.configs:
            known = self._places.get(config.bucket)
            if known is None or config.since >= known.since:
                self._places[config.bucket] = config
        self._sources: dict[str, list[_Compiled]] = {}
        self._inbound: dict[str, list[tuple[str, bool, Origin]]] = {}
        seen: set[tuple[str, str, bool, Origin]] = set()
        for config in sorted(self.configs, key=lambda config: config.since):
            self._add(config, seen)

    def __bool__(self) -> bool:
        """Whether any rule is known; without one, pairs are inferred from the replica writes that are seen."""
        return self.any_rules

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Topology) and self.configs == other.configs

    def __hash__(self) -> int:
        return hash(self.configs)

    def _add(self, config: BucketConfig, seen: set[tuple[str, str, bool, Origin]]) -> None:
        enabled = [rule for rule in config.rules if rule.enabled]
        by_destination: dict[str, list[Rule]] = {}
        for rule in sorted(enabled, key=lambda rule: -rule.priority):
            by_destination.setdefault(rule.destination, []).append(rule)
            account, region = self.place(config.bucket)
            origin = Origin(config.bucket, account or "", region or "", rule.rule_id or "")
            way = (rule.destination, rule.prefix, rule.delete_markers, origin)
            if way not in seen:
                seen.add(way)
                self._inbound.setdefault(rule.destination, []).append(way[1:])
        compiled = _Compiled(config.since, tuple(self._compile(rules) for rules in by_destination.values()))
        self._sources.setdefault(config.bucket, []).append(compiled)

    def _compile(self, rules: list[Rule]) -> _Destination:
        account, region = self.place(rules[0].destination, rules[0].destination_account)
        answers = {
            rule_id: tuple(Expectation(rules[0].destination, taken, rule_id, account, region) for taken in Taken)
            for rule_id in {None, *(rule.rule_id for rule in rules)}
        }
        return _Destination(tuple(rules), answers)

    def place(self, bucket: str, account: str | None = None) -> tuple[str | None, str | None]:
        """Account and Region of a bucket, as far as they are known."""
        config = self._places.get(bucket)
        if config is None:
            return account, None
        return config.account or account, config.region

    def expected(self, event: Written) -> tuple[Expectation, ...]:
        """Where the version has to go if the bucket in which it was written is its source, sorted by bucket.

        The configuration in force when it was written answers; a later one can only say "now it would be taken".
        """
        history = self._sources.get(event.bucket)
        if history is None:
            return ()
        if len(history) == 1 and len(history[0].destinations) == 1:
            only = history[0].destinations[0].expect(event, in_force=history[0].since <= event.at)
            return () if only is None else (only,)
        found: dict[str, Expectation] = {}
        current = max((compiled.since for compiled in history if compiled.since <= event.at), default=None)
        for compiled in history:
            if current is not None and compiled.since < current:
                continue  # replaced before the version was written
            for destination in compiled.destinations:
                answer = destination.expect(event, in_force=compiled.since == current)
                if answer is not None:
                    found.setdefault(answer.bucket, answer)
        return tuple([found[bucket] for bucket in sorted(found)])

    def is_source(self, bucket: str) -> bool:
        """Whether the bucket has, or had, any rule."""
        return bool(self._sources.get(bucket))

    def origins(self, bucket: str, key: str, *, delete_marker: bool = False) -> tuple[Origin, ...]:
        """Whose rules could have replicated ``key`` (or its marker) into ``bucket``, sorted; tags are left aside."""
        inbound = self._inbound.get(bucket)
        if inbound is None:
            return ()
        if len(inbound) == 1:
            prefix, markers, origin = inbound[0]
            return (origin,) if key.startswith(prefix) and (markers or not delete_marker) else ()
        found: dict[str, Origin] = {}
        for prefix, markers, origin in inbound:
            if key.startswith(prefix) and (markers or not delete_marker):
                known = found.get(origin.bucket)
                same = known is None or known.rule_id == origin.rule_id
                found[origin.bucket] = origin if same else Origin(origin.bucket, origin.account, origin.region)
        return tuple([found[source] for source in sorted(found)])

    def pairs(self) -> tuple[Pair, ...]:
        """Every rule of the newest configuration of every source."""
        found = []
        for bucket in sorted(self._places):
            source = self._places[bucket]
            for rule in source.rules:
                account, region = self.place(rule.destination, rule.destination_account)
                found.append(Pair(source, rule, BucketConfig(rule.destination, account, region)))
        return tuple(found)

    def learn(self, configs: Sequence[tuple[BucketConfig, bool]], now: int) -> Topology:
        """This topology with what was learned at ``now`` (milliseconds).

        Each configuration comes with whether it states its own ``since``. One without counts from now, unless the same
        rules were known already: these keep their beginning. A place replaces the place known before.
        """
        known: dict[str, list[BucketConfig]] = {}
        for config in self.configs:
            known.setdefault(config.bucket, []).append(config)
        ruled = {config.bucket for config, _ in configs if config.rules}
        for config, has_since in configs:
            mine = known.setdefault(config.bucket, [])
            latest = max(mine, key=lambda old: old.since, default=BucketConfig(config.bucket))
            account, region = config.account or latest.account, config.region or latest.region
            # A list that has the bucket's rules may name it once more as the place of somebody's destination.
            only_place = config.place_only or (not config.rules and config.bucket in ruled)
            same = only_place or (latest.rules == config.rules and not (has_since and config.since != latest.since))
            if mine and same:
                mine[mine.index(latest)] = replace(latest, account=account, region=region)
                continue
            since = config.since if has_since else (now if config.rules or (mine and not only_place) else 0)
            # What only told the place is replaced; that there were no rules for a while is history.
            kept = [old for old in mine if old.since != since and (old.rules or old.since)]
            known[config.bucket] = [*kept, replace(config, since=since, account=account, region=region)]
        return Topology(config for mine in known.values() for config in mine)
