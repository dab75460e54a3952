"""The catalogue of failure reasons: what each means, and the short code by which failures are counted."""

from __future__ import annotations

import pytest

from crr_monitor.core.failures import CATALOGUE, Effect, effect_of, explain, reason_code

AWS_CODES = 34
"""So many codes S3 had when the catalogue was written."""


def test_catalogue() -> None:
    """Every code of S3 stands in the catalogue once, with its cause and its fix."""
    assert len(CATALOGUE) == AWS_CODES
    assert all(reason.cause and reason.fix and reason.group for reason in CATALOGUE.values())


@pytest.mark.parametrize(
    ("code", "effect"),
    [
        ("SrcKeyNotFound", Effect.SOURCE_GONE),
        ("SrcObjectNotFound", Effect.SOURCE_GONE),
        ("SrcVersionNotFound", Effect.SOURCE_GONE),
        ("SrcObjectNotEligible", Effect.NOT_ELIGIBLE),
        ("SrcReplicationNotPending", Effect.NOTHING),
        ("SrcBucketNotFound", Effect.FAILED),
        ("DstPutObjNotPermitted", Effect.FAILED),
        ("", Effect.FAILED),
        (None, Effect.FAILED),
    ],
)
def test_effect(code: str | None, effect: Effect) -> None:
    """Benign reasons are no failures; unknown ones are taken for what they are called, failures."""
    assert effect_of(code) is effect


def test_benign_reasons() -> None:
    """Exactly five codes are no failures."""
    assert sum(reason.effect is not Effect.FAILED for reason in CATALOGUE.values()) == 5


DENIAL = "User: arn:aws:sts::1:assumed-role/r/s is not authorized to perform: kms:GenerateDataKey on resource: x"


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        (None, None),
        ("DstKmsKeyNotFound", "DstKmsKeyNotFound"),
        ("SomeNewCode", "SomeNewCode"),
        (DENIAL, "AccessDenied kms:GenerateDataKey"),
        ("Access Denied", "AccessDenied"),
        ("KMS.DisabledException: arn:aws:kms:us-east-1:1:key/k is disabled.\nreally", "KMS.DisabledException"),
        ("it did not work at all", "other"),
        ("x" * 65, "other"),
    ],
)
def test_code(reason: str | None, code: str | None) -> None:
    """Failures are counted by a code, never by words that name one object."""
    assert reason_code(reason) == code


def test_explain() -> None:
    """A known code and the words of a denial are explained with their fix; what nobody knows is not."""
    known, denied, bare = explain("DstBucketUnversioned"), explain(DENIAL), explain("Access Denied")
    assert known is not None
    assert known.fix == "enable versioning on the destination bucket"
    assert denied is not None
    assert denied.fix.startswith("allow kms:GenerateDataKey to the replication role")
    assert denied.cause == "the replication role may not encrypt replicas with the destination's KMS key"
    assert bare is not None
    assert bare.fix.startswith("allow the call that S3 made")
    assert (explain("SomeNewCode"), explain(None)) == (None, None)


@pytest.mark.parametrize(
    ("action", "group"),
    [
        ("s3:GetObjectVersionForReplication", "source permission"),
        ("s3:GetObjectVersionTagging", "source permission"),
        ("kms:Decrypt", "KMS"),
        ("s3:ReplicateObject", "destination permission"),
        ("s3:SomethingNew", "permission"),
    ],
)
def test_denied_action(action: str, group: str) -> None:
    """A denial names the permission that is missing, and at which end it is; from its code as from its words."""
    words = f'User: arn:aws:sts::1:assumed-role/r/s is not authorized to perform: {action} on resource: "x"'
    told = explain(words)
    assert told is not None
    assert (told.code, told.group, told.retry) == (f"AccessDenied {action}", group, True)
    assert told.fix.startswith(f"allow {action} to the replication role: in its policy")
    assert explain(f"AccessDenied {action}") == told


@pytest.mark.parametrize(
    "where",
    ["a resource-based policy", "an identity-based policy", "a service control policy", "a permissions boundary"],
)
def test_explicit_deny(where: str) -> None:
    """Where the words say which policy denies explicitly, the fix begins there: to allow it as well would not help."""
    told = explain(f"{DENIAL} with an explicit deny in {where}")
    assert told is not None
    assert told.fix.startswith(f"take out the explicit deny in {where}; then allow kms:GenerateDataKey")


def test_key_error() -> None:
    """A KMS key's error names the key's state as the cause, and to enable the key as the fix."""
    told = explain("KMS.DisabledException: arn:aws:kms:us-east-1:1:key/k is disabled.")
    assert told is not None
    assert (told.code, told.group) == ("KMS.DisabledException", "KMS")
    assert "there and enabled" in told.fix
