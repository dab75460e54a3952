"""Object versions inside the emulator: reading them, changing their replication status, and writing replicas.

The emulator cannot write a version with a given id, which is what S3 replication does (S3 User Guide, "What does
Amazon S3 replicate?": the replica keeps version id, creation time and metadata).
"""

# ruff: noqa: SLF001 - the emulator has no public interface to extend

from __future__ import annotations

import copy
import itertools
from typing import Any

from crr_monitor.sandbox import points

_s3 = points.module("services.s3")
_order = itertools.count(1)

ORDER = "_sandbox_order"
"""The place of a version among all versions of its key; a replica has its source's: the newest stays so."""


def owner(bucket: str) -> str | None:
    """The account that owns a bucket, or ``None`` when there is no such bucket."""
    account: str | None = _s3._bucket_owner_account(bucket)
    return account


def region(bucket: str) -> str:
    """The Region of an existing bucket, whoever owns it."""
    record = _s3._buckets.get_scoped(owner(bucket), None, bucket) or {}
    return str(record.get("region") or "us-east-1")


def versioned(bucket: str) -> bool:
    """Whether versioning is enabled."""
    return bool(_s3._bucket_versioning.get_scoped(owner(bucket), None, bucket) == "Enabled")


def configuration(bucket: str) -> dict[str, Any] | None:
    """The replication configuration in force: none while versioning is suspended."""
    found: dict[str, Any] | None = _s3._bucket_replication.get_scoped(owner(bucket), None, bucket)
    return found if found is not None and versioned(bucket) else None


def policy(bucket: str) -> str | None:
    """The bucket policy's text."""
    text: str | None = _s3._bucket_policies.get_scoped(owner(bucket), None, bucket)
    return text


def versions(bucket: str, key: str) -> list[dict[str, Any]]:
    """All versions and delete markers of a key, oldest first."""
    found: list[dict[str, Any]] = _s3._object_versions.get_scoped(owner(bucket), None, (bucket, key)) or []
    return found


def all_versions(bucket: str) -> list[tuple[str, dict[str, Any]]]:
    """Key and version of everything in a bucket."""
    account = owner(bucket)
    found = [
        (name[1], version)
        for (holder, name), kept in list(_s3._object_versions._data.items())
        if holder == account and name[0] == bucket
        for version in kept
    ]
    return sorted(found, key=lambda entry: (entry[0], entry[1].get(ORDER, 0)))


def version(bucket: str, key: str, version_id: str) -> dict[str, Any] | None:
    """One version or delete marker."""
    return next((entry for entry in versions(bucket, key) if entry["version_id"] == version_id), None)


def number(entry: dict[str, Any]) -> None:
    """Give a version that was just written its place in the order of all writes."""
    entry.setdefault(ORDER, next(_order))


def tags(bucket: str, key: str, version_id: str) -> dict[str, str]:
    """The tags of one version."""
    found = _s3._object_tags.get_scoped(owner(bucket), None, (bucket, key, version_id))
    return dict(found or {})


def set_tags(bucket: str, key: str, version_id: str, values: dict[str, str]) -> None:
    """Replace the tags of one version."""
    _s3._object_tags.set_scoped(owner(bucket), None, (bucket, key, version_id), dict(values))


def set_status(bucket: str, key: str, version_id: str, status: str) -> None:
    """What ``x-amz-replication-status`` of one version says from now on."""
    entry = version(bucket, key, version_id)
    if entry is not None:
        entry["replication_status"] = status
    held = _s3._buckets.get_scoped(owner(bucket), None, bucket)
    current = held["objects"].get(key) if held else None
    if current is not None and current.get("version_id") == version_id:
        current["replication_status"] = status


def uses_kms(entry: dict[str, Any]) -> bool:
    """Whether a version is encrypted with a KMS key."""
    return str(entry.get("preserved_headers", {}).get("x-amz-server-side-encryption", "")).startswith("aws:kms")


def kms_key(entry: dict[str, Any]) -> str:
    """The KMS key that a version was encrypted with, as its write named it; empty for none."""
    headers = entry.get("preserved_headers", {})
    return str(headers.get("x-amz-server-side-encryption-aws-kms-key-id", "")) if uses_kms(entry) else ""


def put_replica(source: str, target: str, key: str, entry: dict[str, Any], storage_class: str | None) -> bool:
    """Write the replica of ``entry`` with its version id; ``False`` when it is there already.

    The caller is in the destination's account. The newest version of the source is the newest at the destination, too,
    in whatever order replicas arrive (they keep their creation time).
    """
    if version(target, key, entry["version_id"]) is not None:
        return False
    bucket = _s3._buckets.get_scoped(owner(target), None, target)
    kept = _s3._object_versions.setdefault((target, key), [])
    _s3._preserve_null_version(target, key, kept, bucket["objects"].get(key))
    replica = copy.deepcopy(entry)
    replica["replication_status"] = "REPLICA"
    if storage_class:
        replica["storage_class"] = storage_class
    kept.append(replica)
    kept.sort(key=lambda each: each.get(ORDER, 0))
    for each in kept:
        each["is_latest"] = each is kept[-1]
    newest = kept[-1]
    if newest.get("is_delete_marker"):
        bucket["objects"].pop(key, None)
    else:
        bucket["objects"][key] = _s3._object_record_from_version(newest)
    if not entry.get("is_delete_marker"):
        set_tags(target, key, entry["version_id"], tags(source, key, entry["version_id"]))
    return True
