"""The catalogue of S3's replication failure reasons: class, likely cause, fix, and whether a retry helps.

Source: Amazon S3 User Guide, "Replication failure reasons" (S3 Event Notifications and Batch Replication reports). The
list grows, so an unknown code is taken as it is. Three codes are no failures at all: the version was gone before it
was replicated, no rule takes it, or it was done already.
"""

from __future__ import annotations

import re
from enum import Enum

from msgspec import Struct


class Effect(Enum):
    """What a reason means for the copy."""

    FAILED = "failed"
    SOURCE_GONE = "source-gone"
    NOT_ELIGIBLE = "not-eligible"
    NOTHING = "nothing"


class Reason(Struct, frozen=True):
    """One entry. ``retry`` tells whether Batch Replication helps once ``fix`` is done."""

    code: str
    group: str
    cause: str
    fix: str
    retry: bool
    effect: Effect = Effect.FAILED


def _destination_permission(code: str, action: str, what: str) -> Reason:
    return Reason(
        code,
        "destination permission",
        f"the replication role may not {what} in the destination bucket",
        f"allow {action} to the replication role: in its policy and, in another account, the destination's policy",
        retry=True,
    )


def _source_permission(code: str, action: str, what: str) -> Reason:
    return Reason(
        code,
        "source permission",
        f"the replication role may not read {what} at the source",
        f"allow {action} to the replication role, and let no policy of role or bucket deny it",
        retry=True,
    )


def _source_object(code: str) -> Reason:
    """A read of the object: of one that KMS encrypts, S3 names the read although it was the key that refused."""
    return Reason(
        code,
        "source permission or KMS",
        "the replication role may not read object versions at the source, or not use the KMS key that encrypts them",
        "allow s3:GetObjectVersionForReplication to the replication role, and for encrypted objects kms:Decrypt on "
        "their key; let no policy of role, bucket or key deny it",
        retry=True,
    )


def _gone(code: str) -> Reason:
    return Reason(
        code,
        "benign race",
        "the version was deleted at the source before it was replicated",
        "nothing to do",
        retry=False,
        effect=Effect.SOURCE_GONE,
    )


def _batch_job(code: str, cause: str) -> Reason:
    return Reason(code, "batch job", cause, "mend the batch job and run a new one", retry=True)


_REASONS = (
    Reason(
        "AssumeRoleNotPermitted",
        "role",
        "S3 may not assume the replication role",
        "name s3.amazonaws.com in the role's trust policy, and check that the role in the rule exists",
        retry=True,
    ),
    Reason(
        "DstBucketNotFound",
        "destination",
        "the destination bucket does not exist",
        "create the bucket again, or correct the replication rule",
        retry=True,
    ),
    Reason(
        "DstBucketUnversioned",
        "destination settings",
        "versioning of the destination bucket is off or suspended",
        "enable versioning on the destination bucket",
        retry=True,
    ),
    Reason(
        "DstBucketObjectLockConfigMissing",
        "destination settings",
        "the source has Object Lock, the destination bucket has not",
        "enable Object Lock on the destination bucket",
        retry=True,
    ),
    Reason(
        "DstPutObjectNotPermitted",
        "destination permission or KMS",
        "the replication role may not write objects into the destination bucket, or not use its KMS key",
        "allow s3:ReplicateObject (with owner override also s3:ObjectOwnerOverrideToBucketOwner) to the replication "
        "role; for an encrypted destination allow kms:Decrypt and kms:GenerateDataKey* in the key's policy",
        retry=True,
    ),
    _destination_permission("DstMultipartInitNotPermitted", "s3:ReplicateObject", "begin multipart uploads"),
    _destination_permission("DstMultipartUploadNotPermitted", "s3:ReplicateObject", "upload parts"),
    _destination_permission("DstMultipartCompleteNotPermitted", "s3:ReplicateObject", "complete multipart uploads"),
    _destination_permission("DstPutAclNotPermitted", "s3:ReplicateObject", "set ACLs"),
    _destination_permission("DstPutTaggingNotPermitted", "s3:ReplicateTags", "set tags"),
    _destination_permission("DstDelObjNotPermitted", "s3:ReplicateDelete", "write delete markers"),
    _destination_permission("DstPutLegalHoldNotPermitted", "s3:PutObjectLegalHold", "set legal holds"),
    _destination_permission("DstPutRetentionNotPermitted", "s3:PutObjectRetention", "set retention"),
    Reason(
        "DstKmsKeyNotFound",
        "KMS",
        "the KMS key that the rule names for replicas does not exist in the destination's Region",
        "name an existing key of the destination's Region in the replication rule",
        retry=True,
    ),
    Reason(
        "DstKmsKeyInvalidState",
        "KMS",
        "the KMS key for replicas is disabled or scheduled for deletion",
        "enable the key, or name another one in the replication rule",
        retry=True,
    ),
    Reason(
        "SrcKmsKeyInvalidState",
        "KMS",
        "the KMS key of the source object is disabled or scheduled for deletion",
        "enable the key",
        retry=True,
    ),
    Reason(
        "DstVersionNotFound",
        "out of step",
        "metadata was to be replicated to a version that the destination does not have",
        "replicate the object first (Batch Replication), then its metadata",
        retry=True,
    ),
    Reason(
        "DstObjectHardDeleted",
        "permanent",
        "the replica was deleted by version id, and S3 does not replicate that version again",
        "copy the object in place at the source: that makes a new version, which is replicated",
        retry=False,
    ),
    _source_object("SrcGetObjectNotPermitted"),
    _source_object("SrcHeadObjectNotPermitted"),
    Reason(
        "SrcGetAclNotPermitted",
        "source permission or ownership",
        "the replication role may not read the version's ACL, or the bucket's owner does not own the object",
        "allow s3:GetObjectVersionAcl to the replication role; set Object Ownership to bucket owner enforced",
        retry=True,
    ),
    _source_permission("SrcGetTaggingNotPermitted", "s3:GetObjectVersionTagging", "tags"),
    _source_permission("SrcGetLegalHoldNotPermitted", "s3:GetObjectLegalHold", "legal holds"),
    _source_permission("SrcGetRetentionNotPermitted", "s3:GetObjectRetention", "retention"),
    Reason(
        "SrcBucketReplicationConfigMissing",
        "source settings",
        "the source bucket has no replication configuration any more",
        "restore the replication configuration",
        retry=True,
    ),
    Reason(
        "SrcBucketNotFound", "source", "the source bucket does not exist", "nothing is left to replicate", retry=False
    ),
    _gone("SrcKeyNotFound"),
    _gone("SrcObjectNotFound"),
    _gone("SrcVersionNotFound"),
    Reason(
        "SrcReplicationNotPending",
        "benign",
        "the version was replicated already",
        "nothing to do",
        retry=False,
        effect=Effect.NOTHING,
    ),
    Reason(
        "SrcObjectNotEligible",
        "not eligible",
        "the version's storage class or tags do not match the rule",
        "nothing to do, or change the rule",
        retry=False,
        effect=Effect.NOT_ELIGIBLE,
    ),
    _batch_job("InitiateReplicationNotPermitted", "the batch job's role may not initiate replication"),
    _batch_job("DstBucketInvalidRegion", "the batch job names a destination in the wrong Region"),
    _batch_job("SrcBucketInvalidRegion", "the batch job runs in another Region than the source bucket"),
)

CATALOGUE = {reason.code: reason for reason in _REASONS}


def effect_of(code: str | None) -> Effect:
    """What a reason code means for the copy; an unknown code, or none, is a failure."""
    reason = CATALOGUE.get(code) if code else None
    return Effect.FAILED if reason is None else reason.effect


_DENIED_ACTION = re.compile(r"not authorized to perform: ([a-z0-9-]+:[A-Za-z0-9*]+)")
_EXPLICIT = re.compile(r"explicit deny in (an? (?:[A-Za-z-]+ ){1,3}?(?:policy|boundary))")
_KEY_ERROR = re.compile(r"(K(?:MS|ms)\.[A-Za-z]+)(?:: .*)?", re.DOTALL)
_DENIED_CODE = re.compile(r"AccessDenied [a-z0-9-]+:[A-Za-z0-9*]+")
MAX_CODE = 64


def reason_code(reason: str | None) -> str | None:
    """A reason as a short code to count by: S3's own code, or ``AccessDenied ACTION`` for the words of a denied call.

    The words of a denial name the object, so counting by them would count every object apart. Before the words of a
    KMS key's error stands its code.
    """
    if reason is None or reason in CATALOGUE or _DENIED_CODE.fullmatch(reason):
        return reason
    key_error = _KEY_ERROR.fullmatch(reason)
    if key_error is not None:
        return key_error[1]
    denied = _DENIED_ACTION.search(reason)
    if denied is not None:
        return f"{ACCESS_DENIED} {denied[1]}"
    if len(reason) <= MAX_CODE and " " not in reason:
        return reason
    return ACCESS_DENIED if "denied" in reason.lower() else "other"


ACCESS_DENIED = "AccessDenied"

_SOURCE = "source permission", "in its policy; no policy of the source bucket may deny it"
_DESTINATION = "destination permission", "in its policy and, in another account, the destination's policy"
_KEY = "KMS", "in its policy and in the policy of the key, which the words of the denial name"

_ACTIONS = {
    "s3:GetObjectVersionForReplication": (*_SOURCE, "read object versions at the source"),
    "s3:GetObjectVersionAcl": (*_SOURCE, "read ACLs at the source"),
    "s3:GetObjectVersionTagging": (*_SOURCE, "read tags at the source"),
    "s3:GetObjectLegalHold": (*_SOURCE, "read legal holds at the source"),
    "s3:GetObjectRetention": (*_SOURCE, "read retention at the source"),
    "s3:ReplicateObject": (*_DESTINATION, "write objects into the destination bucket"),
    "s3:ReplicateDelete": (*_DESTINATION, "write delete markers into the destination bucket"),
    "s3:ReplicateTags": (*_DESTINATION, "set tags in the destination bucket"),
    "s3:ObjectOwnerOverrideToBucketOwner": (*_DESTINATION, "make the destination's account the owner of replicas"),
    "kms:Decrypt": (*_KEY, "decrypt with a KMS key, as a rule that of the source objects"),
    "kms:GenerateDataKey": (*_KEY, "encrypt replicas with the destination's KMS key"),
    "kms:Encrypt": (*_KEY, "encrypt replicas with the destination's KMS key"),
}
"""What the replication role needs each action for: the group, where it is allowed, and what it may not do without it.

S3 User Guide, "Setting up permissions for live replication" and "Replicating encrypted objects".
"""


def explain(reason: str | None) -> Reason | None:
    """Cause and fix of a reason as a message gave it, or ``None`` where nobody knows it (yet)."""
    code = reason_code(reason)
    if code is None or code in CATALOGUE:
        return CATALOGUE.get(code or "")
    if _KEY_ERROR.fullmatch(code):
        fix = "see that the key which the words of the error name is there and enabled, or name another in the rule"
        return Reason(code, "KMS", f"a KMS key could not be used ({code})", fix, retry=True)
    if not code.startswith(ACCESS_DENIED):
        return None
    action = code.removeprefix(ACCESS_DENIED).strip()
    if action in _ACTIONS:
        group, where, what = _ACTIONS[action]
        cause, fix = f"the replication role may not {what}", f"allow {action} to the replication role: {where}"
    else:
        group, what = "permission", action or "the call that S3 made"
        cause = f"S3 was denied {what} while it replicated"
        fix = f"allow {what} to the replication role: in its policy, the bucket's, and for kms actions the key's policy"
    forbidden = _EXPLICIT.search(reason or "")
    if forbidden is not None:
        fix = f"take out the explicit deny in {forbidden[1]}; then {fix}"
    return Reason(code, group, cause, fix, retry=True)
