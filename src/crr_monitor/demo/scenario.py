"""Who is in the demo: two accounts, three Regions, buckets that replicate between them, and when a Region is down.

``orders`` goes as a whole to ``orders-dr``, its invoices also to another account's ``orders-audit``. ``photos`` goes to
``photos-dr``, and what is for the partner also to ``partner-inbox``, whose policy refuses it. ``logs`` of the other
account goes to the hub's ``logs-central``.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

HUB = "111122223333"
AGENT = "444455556666"
HOME = "us-east-1"
EUROPE = "eu-west-1"
SYDNEY = "ap-southeast-2"
REGIONS = (HOME, EUROPE, SYDNEY)
SECRET = "test"  # noqa: S105 - the sandbox's, the same for everybody
ROLE = "replication"


class Bucket(Struct, frozen=True):
    """A bucket and where it is."""

    name: str
    account: str
    region: str


class Rule(Struct, frozen=True):
    """A replication rule of ``source``: what begins with ``prefix`` goes to ``destination``."""

    source: str
    destination: str
    prefix: str = ""
    markers: bool = False
    refused: bool = False
    """Whether the destination's policy refuses it."""

    @property
    def rule_id(self) -> str:
        """Its name in the bucket's configuration."""
        return f"to-{self.destination}"


BUCKETS = {
    bucket.name: bucket
    for bucket in (
        Bucket("orders", HUB, HOME),
        Bucket("orders-dr", HUB, EUROPE),
        Bucket("orders-audit", AGENT, SYDNEY),
        Bucket("photos", HUB, HOME),
        Bucket("photos-dr", HUB, EUROPE),
        Bucket("partner-inbox", AGENT, EUROPE),
        Bucket("logs", AGENT, SYDNEY),
        Bucket("logs-central", HUB, HOME),
    )
}

RULES = (
    Rule("orders", "orders-dr", markers=True),
    Rule("orders", "orders-audit", "invoices/"),
    Rule("photos", "photos-dr", markers=True),
    Rule("photos", "partner-inbox", "partner/", refused=True),
    Rule("logs", "logs-central"),
)

PREFIXES: Mapping[str, tuple[str, ...]] = {
    "orders": ("baskets/", "baskets/", "invoices/"),
    "photos": ("holiday/", "holiday/", "holiday/", "partner/"),
    "logs": ("web/", "api/"),
}
"""What the keys of a source bucket begin with; what stands there more often is more often written."""


def rules_of(source: str) -> tuple[Rule, ...]:
    """The rules of a bucket."""
    return tuple(rule for rule in RULES if rule.source == source)


def takers(bucket: str, key: str, *, marker: bool) -> Iterator[Rule]:
    """The rules that take a version."""
    for rule in rules_of(bucket):
        if key.startswith(rule.prefix) and (rule.markers or not marker):
            yield rule


def configuration(source: str) -> dict[str, Any]:
    """The bucket's replication configuration, with metrics, so that S3 tells of failures where it is asked to."""
    rules = [
        {
            "ID": rule.rule_id,
            "Status": "Enabled",
            "Priority": number,
            "Filter": {"Prefix": rule.prefix},
            "DeleteMarkerReplication": {"Status": "Enabled" if rule.markers else "Disabled"},
            "Destination": {
                "Bucket": f"arn:aws:s3:::{rule.destination}",
                "Account": BUCKETS[rule.destination].account,
                "Metrics": {"Status": "Enabled"},
            },
        }
        for number, rule in enumerate(rules_of(source), 1)
    ]
    return {"Role": f"arn:aws:iam::{BUCKETS[source].account}:role/{ROLE}", "Rules": rules}


def policy(*statements: dict[str, Any]) -> str:
    """A policy document."""
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


TRUST = policy({"Effect": "Allow", "Principal": {"Service": "s3.amazonaws.com"}, "Action": "sts:AssumeRole"})
"""The replication role may be assumed by S3."""

RIGHTS = policy({"Effect": "Allow", "Action": "s3:*", "Resource": "*"})
"""What the replication role may do; what other accounts' buckets allow it is their own policies' business."""


def bucket_policies() -> dict[str, str]:
    """The policies of the buckets into which another account replicates: they let it in, or refuse it."""
    found = {}
    for rule in RULES:
        writer = BUCKETS[rule.source].account
        if writer != BUCKETS[rule.destination].account:
            actions = ["s3:ReplicateObject", "s3:ReplicateDelete", "s3:ReplicateTags"]
            found[rule.destination] = policy(
                {
                    "Effect": "Deny" if rule.refused else "Allow",
                    "Principal": {"AWS": f"arn:aws:iam::{writer}:root"},
                    "Action": actions,
                    "Resource": f"arn:aws:s3:::{rule.destination}/*",
                }
            )
    return found


# Trouble with time ----------------------------------------------------------------------------------------------------

CYCLE_SECONDS = 60.0
OUTAGE_FROM, OUTAGE_TO = 0.25, 0.55
"""The part of each cycle during which a Region is down."""

DOWN = (EUROPE, SYDNEY)
"""The Regions that are down, in turn."""


class Outage(Struct, frozen=True):
    """A Region cannot be reached by replication; ``begins`` and ``ends`` are seconds since the traffic began."""

    region: str
    begins: float
    ends: float


def outage_at(elapsed: float, length: float | None) -> Outage | None:
    """The outage that is due so many seconds after the traffic began; ``length``: how long there will be traffic."""
    cycle = CYCLE_SECONDS if length is None else min(CYCLE_SECONDS, length)
    number = int(elapsed // cycle)
    begins, ends = (number + OUTAGE_FROM) * cycle, (number + OUTAGE_TO) * cycle
    return Outage(DOWN[number % len(DOWN)], begins, ends) if begins <= elapsed < ends else None
