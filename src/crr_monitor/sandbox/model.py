"""The few values that travel between the sandbox's parts."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

SERVICE = "s3.amazonaws.com"
SESSION = "s3-replication"
"""The name of the session in which S3 replicates, seen in captured CloudTrail records and in KMS policies."""


def unique_id(prefix: str, name: str) -> str:
    """An id of the form that IAM gives (``AROA`` and 17 more), always the same for ``name``."""
    return prefix + hashlib.sha256(name.encode()).hexdigest()[:17].upper()


@dataclass(frozen=True)
class Requester:
    """Who called S3. ``identity`` is CloudTrail's ``userIdentity`` as the caller's own account sees it.

    CloudTrail User Guide, "CloudTrail userIdentity element".
    """

    account: str
    identity: dict[str, Any]
    address: str = "127.0.0.1"
    agent: str = "[Boto3]"
    replication: bool = False

    @property
    def principal_id(self) -> str:
        """The id that notifications show after ``AWS:``."""
        return str(self.identity.get("principalId", ""))

    def seen_by(self, account: str) -> dict[str, Any]:
        """``userIdentity`` in a record for ``account``: others than its own learn only type, principal and account."""
        if account == self.account:
            return self.identity
        kept = {"type": "AWSAccount", "principalId": self.principal_id, "accountId": self.account}
        if "invokedBy" in self.identity:
            kept["invokedBy"] = self.identity["invokedBy"]
        return kept


@dataclass(frozen=True)
class S3Event:
    """One thing that happened to one object version: what notifications and EventBridge tell about.

    ``kind`` is the event name without ``s3:``; ``at`` is seconds since the epoch; ``size`` and ``etag`` are ``None``
    where AWS leaves them out.
    """

    account: str
    region: str
    bucket: str
    key: str
    version_id: str | None
    kind: str
    at: float
    requester: Requester
    request_id: str
    sequencer: str | None = None
    size: int | None = None
    etag: str | None = None
    replication: dict[str, Any] | None = None

    @property
    def marker(self) -> bool:
        """Whether a delete marker was made."""
        return self.kind == "ObjectRemoved:DeleteMarkerCreated"

    @property
    def created(self) -> bool:
        """Whether a version with data was made."""
        return self.kind.startswith("ObjectCreated:")
