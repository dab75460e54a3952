"""What keeps a version from being replicated: permissions at both ends, KMS keys, and the destination's settings.

S3 User Guide, "Setting up permissions for live replication", "Replicating encrypted objects" and "Replication failure
reasons".
"""

# ruff: noqa: SLF001 - the emulator has no public interface to extend

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from crr_monitor.sandbox import iam, points, rules, storage
from crr_monitor.sandbox.model import SERVICE

if TYPE_CHECKING:
    from crr_monitor.sandbox.model import S3Event

_kms = points.module("services.kms")
_responses = points.module("core.responses")

_OBJECT_READS = (
    ("s3:GetObjectVersionForReplication", "SrcGetObjectNotPermitted", "GetObject"),
    ("s3:GetObjectVersionAcl", "SrcGetAclNotPermitted", "GetObjectAcl"),
)
_TAGS_READ = ("s3:GetObjectVersionTagging", "SrcGetTaggingNotPermitted", "GetObjectTagging")


@dataclass(frozen=True)
class Job:
    """One version on its way to one destination."""

    event: S3Event
    rule: dict[str, Any]
    role: str
    kind: str = "OBJECT_PUT"

    @property
    def target(self) -> str:
        """The destination bucket."""
        return rules.destination(self.rule)

    @property
    def name(self) -> tuple[str, str, str, str]:
        """What makes it one: source bucket, key, version, destination."""
        return self.event.bucket, self.event.key, self.event.version_id or "", self.target


@dataclass(frozen=True)
class Denied:
    """A call that the replication role may not make: ``action`` on ``resource`` is missing, or ``code`` tells why."""

    call: str
    bucket: str
    action: str
    resource: str
    code: str = "AccessDenied"

    def error(self, who: str) -> tuple[str, str]:
        """Code and words of the denial, for the session ``who``."""
        if self.code != "AccessDenied":
            return self.code, f"{self.resource} is disabled."
        return self.code, f'User: {who} is not authorized to perform: {self.action} on resource: "{self.resource}"'


@dataclass(frozen=True)
class Failure:
    """Why a version was not replicated. ``denied``: the call that CloudTrail logs."""

    reason: str
    denied: Denied | None = None


def obstacle(job: Job, entry: dict[str, Any]) -> Failure | None:
    """What keeps the version from its destination; the order of the checks is ours."""
    if not iam.assumable(job.role, SERVICE):
        return Failure("AssumeRoleNotPermitted")
    marker = bool(entry.get("is_delete_marker"))
    tagged = bool(storage.tags(job.event.bucket, job.event.key, entry["version_id"]))
    unread = None if marker else _unreadable(job, entry, tagged=tagged)
    if unread is not None:
        return unread
    owner = storage.owner(job.target)
    if owner is None:
        return Failure("DstBucketNotFound")
    if not storage.versioned(job.target):
        return Failure("DstBucketUnversioned")
    return _refused(job, owner, tagged=tagged, marker=marker)


def _unreadable(job: Job, entry: dict[str, Any], *, tagged: bool) -> Failure | None:
    """What the role may not read at the source, or with which KMS key it may not decrypt it."""
    event = job.event
    source = f"arn:aws:s3:::{event.bucket}/{event.key}"
    for action, reason, call in (*_OBJECT_READS, *((_TAGS_READ,) if tagged else ())):
        if not iam.role_allows(job.role, action, source, event.region, storage.policy(event.bucket), event.account):
            return Failure(reason, Denied(call, event.bucket, action, source))
    with _responses.request_scope(event.account, event.region):
        key = _kms._resolve_key(storage.kms_key(entry)) if storage.kms_key(entry) else None
    if key is None:  # none, or the account's managed one, which is always there
        return None
    denied = Denied("GetObject", event.bucket, "kms:Decrypt", key["Arn"])
    if not iam.role_allows(job.role, denied.action, key["Arn"], event.region):
        return Failure("SrcGetObjectNotPermitted", denied)
    if key.get("KeyState") != "Enabled":
        return Failure("SrcKmsKeyInvalidState", replace(denied, code="KMS.DisabledException"))
    return None


def _refused(job: Job, owner: str, *, tagged: bool, marker: bool) -> Failure | None:
    """What the destination's owner does not permit, or its KMS key does not allow."""
    call = "DeleteObject" if marker else "PutObject"
    needed = [("s3:ReplicateDelete", "DstDelObjNotPermitted")] if marker else []
    if job.kind == "OBJECT_PUT_TAGGING":
        call, needed = "PutObjectTagging", [("s3:ReplicateTags", "DstPutTaggingNotPermitted")]
    elif not marker:
        needed.append(("s3:ReplicateObject", "DstPutObjectNotPermitted"))
        if tagged:
            needed.append(("s3:ReplicateTags", "DstPutTaggingNotPermitted"))
        if (job.rule.get("Destination") or {}).get("AccessControlTranslation"):
            needed.append(("s3:ObjectOwnerOverrideToBucketOwner", "DstPutObjectNotPermitted"))
    resource = f"arn:aws:s3:::{job.target}/{job.event.key}"
    for action, reason in needed:
        region = storage.region(job.target)
        if not iam.role_allows(job.role, action, resource, region, storage.policy(job.target), owner):
            return Failure(reason, Denied(call, job.target, action, resource))
    return None if marker else _key_obstacle(job, owner)


def _key_obstacle(job: Job, owner: str) -> Failure | None:
    """The replica's KMS key, where the rule names one, has to exist and to be enabled."""
    wanted = ((job.rule.get("Destination") or {}).get("EncryptionConfiguration") or {}).get("ReplicaKmsKeyID")
    if not wanted:
        return None
    account, region = owner, storage.region(job.target)
    with _responses.request_scope(account, region):
        key = _kms._resolve_key(wanted)
    if key is None:
        return Failure("DstKmsKeyNotFound")
    return None if key.get("KeyState") == "Enabled" else Failure("DstKmsKeyInvalidState")
