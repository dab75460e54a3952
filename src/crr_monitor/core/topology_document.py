"""Topology documents: replication configurations as ``GetBucketReplication`` returns them.

V1 rules have ``Prefix`` on the rule, V2 rules have ``Filter`` (S3 API Reference, ``ReplicationConfiguration``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crr_monitor.core.times import BadTimeError, parse_time
from crr_monitor.core.topology import BucketConfig, Rule

if TYPE_CHECKING:
    from collections.abc import Mapping

JsonValue = object
"""Anything that JSON can hold: a document is checked before any of it is believed."""


class TopologyError(ValueError):
    """A topology document breaks its form; the text names the entry, the field and what is allowed."""


def bucket_name(arn_or_name: str) -> str:
    """``arn:aws:s3:::name`` -> ``name``; a plain name stays."""
    return arn_or_name.rsplit(":::", 1)[-1]


def parse_topology(document: JsonValue) -> list[tuple[BucketConfig, bool]]:
    """A topology document (design: a JSON list of buckets) as configurations, each with whether it states ``since``.

    Raises:
        TopologyError: naming the entry and the field.
    """
    if not isinstance(document, list):
        message = (
            f"a topology is a JSON list of buckets, this is {_kind(document)}: write "
            '[{"account": ..., "region": ..., "bucket": ..., "ReplicationConfiguration": ...}, ...]'
        )
        raise TopologyError(message)
    return [_parse_entry(entry, f"entry {number}") for number, entry in enumerate(document, 1)]


def _kind(value: JsonValue) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _field(entry: Mapping[str, Any], name: str, kind: type, where: str, *, required: bool = False) -> Any:  # noqa: ANN401 - of the kind asked for
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


def _parse_entry(entry: JsonValue, where: str) -> tuple[BucketConfig, bool]:
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
    parsed = tuple(_parse_rule(rule, f"{where}, rule {number}") for number, rule in enumerate(rules, 1))
    for number, rule in enumerate(parsed, 1):
        if rule.destination == bucket:
            message = f"{where}, rule {number}: its Destination is the bucket itself: name the bucket of the replicas"
            raise TopologyError(message)
    config = BucketConfig(
        bucket,
        _field(entry, "account", str, where),
        _field(entry, "region", str, where),
        parsed,
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


def _parse_tag(tag: JsonValue, where: str) -> tuple[str, str]:
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


def _parse_rule(rule: JsonValue, where: str) -> Rule:
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
