"""The simulated buckets: which replicate where, under which rules, and who writes to them."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from crr_monitor.core.times import DAY_MS, format_time
from crr_monitor.simulate.dice import digest

if TYPE_CHECKING:
    from crr_monitor.simulate.plan import Plan

HOME = "111122223333"
OTHER = "444455556666"

_REGIONS = (
    ("us-east-1", "eu-west-1"),
    ("us-west-2", "ap-northeast-1"),
    ("eu-central-1", "eu-north-1"),
    ("sa-east-1", "us-east-2"),
    ("ap-south-1", "ap-southeast-2"),
)
_REPLICATION_SESSION = "s3-replication"
AUDIT_PREFIX = "audit/"


class Place(Struct, frozen=True):
    """A bucket and where it is."""

    bucket: str
    account: str
    region: str


class Destination(Struct, frozen=True):
    """Where one replication rule of a source sends what it takes, and as whom S3 writes there.

    ``identity`` is CloudTrail's ``userIdentity`` as JSON text, ``principal`` the ``principalId`` of notifications.
    """

    place: Place
    rule_id: str
    priority: int
    identity: str
    principal: str
    session_arn: str
    prefix: str = ""
    delete_markers: bool = True

    def takes(self, key: str, *, delete_marker: bool) -> bool:
        """Whether the rule takes such a version."""
        return key.startswith(self.prefix) and (self.delete_markers or not delete_marker)


class Source(Struct, frozen=True):
    """A replicated bucket, its rules, and the application that writes to it (as in :class:`Destination`)."""

    place: Place
    destinations: tuple[Destination, ...]
    identity: str
    principal: str


@lru_cache(maxsize=8)
def sources(pairs: int) -> tuple[Source, ...]:
    """The sources of the first ``pairs`` bucket pairs, orders first.

    Pair 1 is orders -> orders-dr, pair 2 orders -> orders-audit (keys under ``audit/``, delete markers stay), pair 3
    media -> media-copy (one account, delete markers stay); all further pairs have a bucket of their own.
    """
    orders = Place("orders", HOME, "us-east-1")
    rules = [_destination(orders, Place("orders-dr", OTHER, "eu-west-1"), "dr", 1)]
    if pairs > 1:
        audit = Place("orders-audit", OTHER, "eu-central-1")
        rules.append(_destination(orders, audit, "audit", 2, prefix=AUDIT_PREFIX, delete_markers=False))
    found = [_source(orders, *rules)]
    if pairs > 2:  # noqa: PLR2004 - the third pair
        media = Place("media", HOME, "us-west-2")
        copy = Place("media-copy", HOME, "ap-northeast-1")
        found.append(_source(media, _destination(media, copy, "copy", 1, delete_markers=False)))
    for number in range(4, pairs + 1):
        here, there = _REGIONS[number % len(_REGIONS)]
        place = Place(f"bucket-{number:04d}", HOME, here)
        copy = Place(f"bucket-{number:04d}-copy", OTHER if number % 2 else HOME, there)
        found.append(_source(place, _destination(place, copy, f"rule-{number}", 1)))
    return tuple(found)


def topology(plan: Plan) -> list[dict[str, Any]]:
    """The topology file of the plan: what ``ingest --topology`` takes, known since a day before the start."""
    entries: list[dict[str, Any]] = []
    for source in sources(plan.pairs):
        entries.append(
            {
                "account": source.place.account,
                "region": source.place.region,
                "bucket": source.place.bucket,
                "ReplicationConfiguration": {
                    "Role": f"arn:aws:iam::{source.place.account}:role/{_role_name(source.place)}",
                    "Rules": [_rule(destination) for destination in source.destinations],
                },
                "since": format_time(plan.start - DAY_MS),
            }
        )
        entries.extend(
            {"bucket": to.place.bucket, "region": to.place.region, "account": to.place.account}
            for to in source.destinations
        )
    return entries


def _rule(destination: Destination) -> dict[str, Any]:
    return {
        "ID": destination.rule_id,
        "Priority": destination.priority,
        "Status": "Enabled",
        "Filter": {"Prefix": destination.prefix},
        "DeleteMarkerReplication": {"Status": "Enabled" if destination.delete_markers else "Disabled"},
        "Destination": {
            "Bucket": f"arn:aws:s3:::{destination.place.bucket}",
            "Account": destination.place.account,
            "Metrics": {"Status": "Enabled"},
        },
    }


def _source(place: Place, *destinations: Destination) -> Source:
    name = f"{place.bucket}-writer"
    role = _unique_id("AROA", name)
    identity = _session(place.account, name, role, session="app")
    return Source(place, destinations, json.dumps(identity, separators=(",", ":")), f"AWS:{role}:app")


def _destination(  # noqa: PLR0913 - a rule has so many parts
    source: Place, place: Place, rule_id: str, priority: int, *, prefix: str = "", delete_markers: bool = True
) -> Destination:
    role = _unique_id("AROA", _role_name(source))
    if place.account == source.account:
        identity = _session(source.account, _role_name(source), role, session=_REPLICATION_SESSION)
    else:
        # The owner of a bucket is told less of callers from another account: no arn, no session
        # (CloudTrail User Guide, "CloudTrail userIdentity element").
        identity = {"type": "AWSAccount", "principalId": f"{role}:{_REPLICATION_SESSION}", "accountId": source.account}
    identity["invokedBy"] = "s3.amazonaws.com"
    return Destination(
        place=place,
        rule_id=rule_id,
        priority=priority,
        identity=json.dumps(identity, separators=(",", ":")),
        principal=f"AWS:{role}:{_REPLICATION_SESSION}",
        session_arn=f"arn:aws:sts::{source.account}:assumed-role/{_role_name(source)}/{_REPLICATION_SESSION}",
        prefix=prefix,
        delete_markers=delete_markers,
    )


def _session(account: str, role_name: str, role: str, *, session: str) -> dict[str, Any]:
    return {
        "type": "AssumedRole",
        "principalId": f"{role}:{session}",
        "arn": f"arn:aws:sts::{account}:assumed-role/{role_name}/{session}",
        "accountId": account,
        "accessKeyId": _unique_id("ASIA", role_name),
        "sessionContext": {
            "sessionIssuer": {
                "type": "Role",
                "principalId": role,
                "arn": f"arn:aws:iam::{account}:role/{role_name}",
                "accountId": account,
                "userName": role_name,
            },
            "attributes": {"creationDate": "2026-10-31T22:10:04Z", "mfaAuthenticated": "false"},
        },
    }


def _role_name(source: Place) -> str:
    return f"replicate-{source.bucket}"


def _unique_id(prefix: str, name: str) -> str:
    return prefix + digest(name).hex()[:17].upper()
