"""Event patterns of the rules on the default bus of each Region, and how many rules they need."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from crr_monitor.aws.words import DeniedReads, EventSource

PATTERN_BYTES = 2_048
"""EventBridge quotas, "Event pattern size": 2,048 characters."""

OBJECT_EVENTS = ("PutObject", "PostObject", "CopyObject", "CompleteMultipartUpload", "DeleteObject")
"""CloudTrail's names of what makes or removes an object version.

By name: "all writes" would log and bill every UploadPart.
"""

NAMES: dict[EventSource, str] = {"CloudTrail": "events", "EventBridge": "s3-events"}
"""What the names of a source's rules begin with."""

READS: dict[DeniedReads, tuple[str, ...]] = {
    "No": (),
    "Objects": ("GetObject",),
    "All": (
        "GetObject",
        "GetObjectAcl",
        "GetObjectLegalHold",
        "GetObjectRetention",
        "GetObjectTagging",
        "HeadObject",
    ),
}
"""CloudTrail's names of what the replication service reads at the source, sorted.

Of one copy it logs ``GetObject``, and with ``All`` also ``GetObjectAcl`` and ``GetObjectTagging``; the rest is rare.
"""

SESSION = "s3-replication"
"""The name of every session in which S3 replicates; anybody may name one so, which the decoder knows."""

DENIALS: tuple[Any, ...] = (
    {"wildcard": "*AccessDenied*"},
    {"prefix": "KMS."},
    {"prefix": "Kms"},
    "AllAccessDisabled",
    "Forbidden",
    "UnauthorizedAccess",
)
"""Error codes of a denial, as the decoder takes them. A 405 of a delete marker's ``HeadObject`` is none: S3 asks so."""

CONFIGURATION_EVENTS = ("PutBucketReplication", "DeleteBucketReplication")


def objects_pattern(source: EventSource, buckets: Iterable[str]) -> dict[str, Any]:
    """Events about objects of these buckets.

    CloudTrail's detail-type reads "Amazon API Call via CloudTrail" in the documentation of China's Regions: so by its
    end.
    """
    names = sorted(buckets)
    if source == "EventBridge":
        kinds: list[Any] = ["Object Created", "Object Deleted"]
        return {"source": ["aws.s3"], "detail-type": kinds, "detail": {"bucket": {"name": names}}}
    return _cloudtrail({"eventName": list(OBJECT_EVENTS), "requestParameters": {"bucketName": names}})


def configuration_pattern() -> dict[str, Any]:
    """Changes of replication rules: management events, which arrive only where some trail logs management events."""
    return _cloudtrail({"eventName": list(CONFIGURATION_EVENTS)})


def denied_reads_pattern() -> dict[str, Any]:
    """Denied reads of the replication service, whatever the bucket; those that succeed are not taken.

    A selector cannot tell them apart (CloudTrail User Guide, "Filtering data events": there is no field for the error),
    so both are logged, and only here the many are left out. No buckets are named, as that service reads no others.
    """
    who = {"principalId": [{"suffix": f":{SESSION}"}]}
    return _cloudtrail({"eventName": list(READS["All"]), "errorCode": list(DENIALS), "userIdentity": who})


def _cloudtrail(detail: dict[str, Any]) -> dict[str, Any]:
    return {
        "source": ["aws.s3"],
        "detail-type": [{"suffix": "API Call via CloudTrail"}],
        "detail": {"eventSource": ["s3.amazonaws.com"], **detail},
    }


def rules_for(source: EventSource, buckets: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Patterns for all buckets, by the name's end of their rule (``events-0``...), each as long as EventBridge takes.

    Each source's rules have names of their own, so that two sources can go on side by side. A bucket's place follows
    from its name alone, and the number of rules doubles: when a rule is split, its half appears in a new rule before
    it leaves the old one, so that no event is missed in between.
    """
    names = set(buckets)
    if not names:
        return {}
    count = 1
    while True:
        groups: dict[int, list[str]] = {}
        for name in names:
            groups.setdefault(_digest(name) % count, []).append(name)
        patterns = {f"{NAMES[source]}-{number}": objects_pattern(source, groups[number]) for number in sorted(groups)}
        if all(len(dump(pattern)) <= PATTERN_BYTES for pattern in patterns.values()):
            return patterns
        count *= 2


def _digest(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4])


def dump(document: Mapping[str, Any]) -> str:
    """JSON as short as it gets, always the same for the same content."""
    return json.dumps(document, separators=(",", ":"), sort_keys=True)


def buckets_in(pattern: Mapping[str, Any]) -> frozenset[str]:
    """The buckets that a pattern made by :func:`objects_pattern` names."""
    detail = pattern.get("detail") or {}
    names = (detail.get("requestParameters") or {}).get("bucketName") or (detail.get("bucket") or {}).get("name") or []
    return frozenset(name for name in names if isinstance(name, str))
