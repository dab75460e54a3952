"""Which rules of a replication configuration take an object version.

S3 User Guide, "Replication configuration file elements".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

ARCHIVED = frozenset({"GLACIER", "DEEP_ARCHIVE"})
"""S3 User Guide, "What does Amazon S3 replicate?": objects in these classes are not replicated."""


def destination(rule: Mapping[str, Any]) -> str:
    """The name of a rule's destination bucket."""
    return str((rule.get("Destination") or {}).get("Bucket", "")).rsplit(":::", 1)[-1]


def rule_tags(rule: Mapping[str, Any]) -> dict[str, str]:
    """The tags that a rule's filter asks for."""
    selection = rule.get("Filter") or {}
    tags = [selection["Tag"]] if selection.get("Tag") else (selection.get("And") or {}).get("Tags") or []
    return {tag["Key"]: tag["Value"] for tag in tags}


def _prefix(rule: Mapping[str, Any]) -> str:
    selection = rule.get("Filter") or {}
    return str(rule.get("Prefix") or selection.get("Prefix") or (selection.get("And") or {}).get("Prefix") or "")


def _matches(rule: Mapping[str, Any], key: str, tags: Mapping[str, str]) -> bool:
    return (
        rule.get("Status") == "Enabled"
        and key.startswith(_prefix(rule))
        and all(tags.get(name) == value for name, value in rule_tags(rule).items())
    )


def _replicates_markers(rule: Mapping[str, Any]) -> bool:
    """V1 rules always do; V2 rules where they say so and have no tag filter.

    S3 User Guide, "Replicating delete markers between buckets".
    """
    if "Filter" not in rule:
        return True
    return (rule.get("DeleteMarkerReplication") or {}).get("Status") == "Enabled" and not rule_tags(rule)


def _takes_kms(rule: Mapping[str, Any]) -> bool:
    """SSE-KMS only where the rule selects it (S3 User Guide, "Replicating encrypted objects")."""
    criteria = (rule.get("SourceSelectionCriteria") or {}).get("SseKmsEncryptedObjects") or {}
    return criteria.get("Status") == "Enabled"


def taking(  # noqa: PLR0913 - what S3 looks at
    configuration: Mapping[str, Any] | None,
    key: str,
    tags: Mapping[str, str],
    *,
    marker: bool = False,
    kms: bool = False,
    storage_class: str = "STANDARD",
) -> list[dict[str, Any]]:
    """The one rule for each destination that replicates the version: of those that match, the highest ``Priority``."""
    if configuration is None or storage_class in ARCHIVED:
        return []
    decisive: dict[str, dict[str, Any]] = {}
    for rule in sorted(configuration.get("Rules", []), key=lambda rule: -int(rule.get("Priority") or 0)):
        if _matches(rule, key, tags):
            decisive.setdefault(destination(rule), rule)
    if marker:
        return [rule for rule in decisive.values() if _replicates_markers(rule)]
    return [rule for rule in decisive.values() if _takes_kms(rule) or not kms]
