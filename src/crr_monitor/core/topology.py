"""Replication configurations, and which destinations they let an object version expect.

Read from the form in which ``GetBucketReplication`` returns them (S3 API Reference, ``ReplicationConfiguration``). Both rule
forms are known: V1 has ``Prefix`` on the rule and replicates delete markers; V2 has ``Filter`` and does so only where
``DeleteMarkerReplication`` is enabled and the rule has no tag filter (User Guide, "What does Amazon S3 replicate?").
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from msgspec import Struct

from crr_monitor.core.events import Written
from crr_monitor.core.evidence import Expectation, Origin, Taken
from crr_monitor.core.times import BadTimeError, format_time, parse_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    Check: TypeAlias = Callable[["Rule", Written], Taken]

ARCHIVED = frozenset({"GLACIER", "DEEP_ARCHIVE"})
"""Storage classes that replication never takes (Glacier Flexible Retrieval, Deep Archive)."""

YES, NO = Taken.YES, Taken.NO


class TopologyError(ValueError):
    """A topology document breaks its form; the text names the entry, the field and what is allowed."""


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
    """Whether the rule's filter matches: ``YES``, ``UNCERTAIN``, ``NO`` (known tags exclude it), ``None`` (its form excludes it)."""
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
            taken = _replicates(first, event)
            if taken is None:
                return None
            return self.answers[first.rule_id][taken if in_force or taken is NO else Taken.EARLIER]
        outcomes: list[tuple[Rule, Taken | None]] = []
        excluded: Rule | None = None
        for rule in self.rules:
            match = _matches(rule, event)
            if match is Taken.NO:
                excluded = excluded or rule
            elif match is not None:
                outcomes.append((rule, _replicates(rule, event)))
                if match is Taken.YES:
                    break
        else:  # no rule matches for sure
            if not outcomes:
                return None if excluded is None else self.answers[excluded.rule_id][Taken.NO]
            outcomes.append((outcomes[0][0], None))
        rule, taken = outcomes[0]
        rule_id = rule.rule_id
        answers = {outcome for _, outcome in outcomes}
        if answers == {Taken.NO, None}:  # whichever rule decides, none takes it
            taken = Taken.NO
        elif len(outcomes) > 1:
            rule_id = rule_id if all(other.rule_id == rule_id for other, _ in outcomes) else None
            taken = taken if all(outcome is taken for _, outcome in outcomes) else Taken.UNCERTAIN
        if taken is None:
            return None
        return self.answers[rule_id][taken if in_force or taken is Taken.NO else Taken.EARLIER]


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
        for config in sorted(self.configs, key=lambda config: config.since):
            self._add(config)

    def __bool__(self) -> bool:
        """Whether any rule is known; without one, pairs are inferred from the replica writes that are seen."""
        return self.any_rules

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Topology) and self.configs == other.configs

    def __hash__(self) -> int:
        return hash(self.configs)

    def _add(self, config: BucketConfig) -> None:
        enabled = [rule for rule in config.rules if rule.enabled]
        by_destination: dict[str, list[Rule]] = {}
        for rule in sorted(enabled, key=lambda rule: -rule.priority):
            by_destination.setdefault(rule.destination, []).append(rule)
            inbound = self._inbound.setdefault(rule.destination, [])
            account, region = self.place(config.bucket)
            origin = Origin(config.bucket, account or "", region or "", rule.rule_id or "")
            if (rule.prefix, rule.delete_markers, origin) not in inbound:
                inbound.append((rule.prefix, rule.delete_markers, origin))
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

    def origins(self, bucket: str, key: str, delete_marker: bool = False) -> tuple[Origin, ...]:  # noqa: FBT001, FBT002 - hot
        """Whose rules could have replicated ``key`` (or its delete marker) into ``bucket``, sorted; tags are left aside."""
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

        Each configuration comes with whether it states its own ``since``. One without counts from now, unless the same rules
        were known already: these keep their beginning. A place replaces the place known before.
        """
        known = list(self.configs)
        ruled = {config.bucket for config, _ in configs if config.rules}
        for config, has_since in configs:
            mine = [old for old in known if old.bucket == config.bucket]
            latest = max(mine, key=lambda old: old.since, default=BucketConfig(config.bucket))
            place = {"account": config.account or latest.account, "region": config.region or latest.region}
            # A list that has the bucket's rules may name it once more as the place of somebody's destination.
            only_place = config.place_only or (not config.rules and config.bucket in ruled)
            same = only_place or (latest.rules == config.rules and not (has_since and config.since != latest.since))
            if mine and same:
                known[known.index(latest)] = _with(latest, **place)
                continue
            since = config.since if has_since else (now if config.rules or (mine and not only_place) else 0)
            known = [
                old
                for old in known
                # What only told the place is replaced; that there were no rules for a while is history.
                if old.bucket != config.bucket or (old.since != since and (old.rules or old.since))
            ]
            known.append(_with(config, since=since, **place))
        return Topology(known)


def _with(config: BucketConfig, **changes: Any) -> BucketConfig:
    values = {name: getattr(config, name) for name in config.__struct_fields__}
    return BucketConfig(**{**values, **changes})


def bucket_name(arn_or_name: str) -> str:
    """``arn:aws:s3:::name`` -> ``name``; a plain name stays."""
    return arn_or_name.rsplit(":::", 1)[-1]


def parse_topology(document: Any) -> list[tuple[BucketConfig, bool]]:
    """A topology document (design: a JSON list of buckets) as configurations, each with whether it states ``since``.

    Raises:
        TopologyError: naming the entry and the field.
    """
    if not isinstance(document, list):
        message = f"a topology is a JSON list of buckets, this is {_kind(document)}"
        raise TopologyError(message)
    return [_parse_entry(entry, f"entry {number}") for number, entry in enumerate(document, 1)]


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _field(entry: Mapping[str, Any], name: str, kind: type, where: str, *, required: bool = False) -> Any:
    value = entry.get(name)
    if value is None:
        if required:
            message = f"{where}: {name} is missing"
            raise TopologyError(message)
        return None
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        wanted = {str: "a string", dict: "an object", list: "a list", int: "a whole number"}[kind]
        message = f"{where}: {name} is {_kind(value)}, not {wanted}"
        raise TopologyError(message)
    return value


def _parse_entry(entry: Any, where: str) -> tuple[BucketConfig, bool]:
    if not isinstance(entry, dict):
        message = f"{where} is {_kind(entry)}, not an object with a bucket"
        raise TopologyError(message)
    bucket = _field(entry, "bucket", str, where, required=True)
    where = f"{where} ({bucket})"
    told = _field(entry, "ReplicationConfiguration", dict, where)
    configuration = told or {}
    # GetBucketReplication's whole answer is taken as well as what stands inside it.
    configuration = _field(configuration, "ReplicationConfiguration", dict, where) or configuration
    rules = _field(configuration, "Rules", list, where) or []
    since = _field(entry, "since", str, where)
    config = BucketConfig(
        bucket,
        _field(entry, "account", str, where),
        _field(entry, "region", str, where),
        tuple(_parse_rule(rule, f"{where}, rule {number}") for number, rule in enumerate(rules, 1)),
        _parse_since(since, where) if since is not None else 0,
        place_only=told is None,
    )
    return config, since is not None


def _parse_since(text: str, where: str) -> int:
    try:
        return parse_time(text)[0]
    except BadTimeError as error:
        message = f"{where}: since: {error}"
        raise TopologyError(message) from error


def _choice(holder: Mapping[str, Any], name: str, where: str) -> bool | None:
    """``{"Status": "Enabled" | "Disabled"}`` under ``name``, or ``None`` where it is absent."""
    part = _field(holder, name, dict, where)
    return None if part is None else _status(part, f"{where}, {name}")


def _status(holder: Mapping[str, Any], where: str) -> bool:
    status = _field(holder, "Status", str, where, required=True)
    if status not in {"Enabled", "Disabled"}:
        message = f"{where}: Status is {status!r}, allowed are 'Enabled' and 'Disabled'"
        raise TopologyError(message)
    return bool(status == "Enabled")


def _parse_tag(tag: Any, where: str) -> tuple[str, str]:
    if not isinstance(tag, dict):
        message = f"{where}: Tag is {_kind(tag)}, not an object with Key and Value"
        raise TopologyError(message)
    return _field(tag, "Key", str, where, required=True), _field(tag, "Value", str, where, required=True)


def _parse_filter(selection: Mapping[str, Any], where: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    both = _field(selection, "And", dict, where) or selection
    tags = [_parse_tag(tag, where) for tag in _field(both, "Tags", list, where) or []]
    if "Tag" in selection and selection["Tag"] is not None:
        tags.append(_parse_tag(selection["Tag"], where))
    return _field(both, "Prefix", str, where) or "", tuple(sorted(tags))


def _parse_rule(rule: Any, where: str) -> Rule:
    if not isinstance(rule, dict):
        message = f"{where} is {_kind(rule)}, not an object"
        raise TopologyError(message)
    destination = _field(rule, "Destination", dict, where, required=True)
    selection = _field(rule, "Filter", dict, where)
    markers = _choice(rule, "DeleteMarkerReplication", where)
    tags: tuple[tuple[str, str], ...]
    if selection is None:  # V1
        prefix, tags = _field(rule, "Prefix", str, where) or "", ()
        delete_markers = markers is not False
    else:
        prefix, tags = _parse_filter(selection, where)
        delete_markers = markers is True and not tags
    criteria = _field(rule, "SourceSelectionCriteria", dict, where) or {}
    return Rule(
        _field(rule, "ID", str, where),
        bucket_name(_field(destination, "Bucket", str, where, required=True)),
        _field(destination, "Account", str, where),
        _status(rule, where),
        _field(rule, "Priority", int, where) or 0,
        prefix,
        tags,
        delete_markers,
        bool(_choice(criteria, "SseKmsEncryptedObjects", where)),
    )


def dump_topology(topology: Topology) -> list[dict[str, Any]]:
    """The topology as the document that :func:`parse_topology` reads."""
    return [_dump_config(config) for config in topology.configs]


def _dump_config(config: BucketConfig) -> dict[str, Any]:
    entry: dict[str, Any] = {"account": config.account, "region": config.region, "bucket": config.bucket}
    if not config.place_only:
        entry["ReplicationConfiguration"] = {"Rules": [_dump_rule(rule) for rule in config.rules]}
        entry["since"] = format_time(config.since)
    return {name: value for name, value in entry.items() if value is not None}


def _dump_rule(rule: Rule) -> dict[str, Any]:
    tags = [{"Key": key, "Value": value} for key, value in rule.tags]
    body: dict[str, Any] = {
        "ID": rule.rule_id,
        "Status": "Enabled" if rule.enabled else "Disabled",
        "Priority": rule.priority,
        "Filter": {"And": {"Prefix": rule.prefix, "Tags": tags}} if tags else {"Prefix": rule.prefix},
        "DeleteMarkerReplication": {"Status": "Enabled" if rule.delete_markers else "Disabled"},
        "Destination": {"Bucket": f"arn:aws:s3:::{rule.destination}"},
    }
    if rule.destination_account is not None:
        body["Destination"]["Account"] = rule.destination_account
    if rule.kms:
        body["SourceSelectionCriteria"] = {"SseKmsEncryptedObjects": {"Status": "Enabled"}}
    return {name: value for name, value in body.items() if value is not None}
