"""Canaries in S3: written, listed and removed by version id, in the right account and Region.

A bucket whose Object Lock keeps new objects for a time is refused, as nothing could be removed from it (User Guide,
"Locking objects with Object Lock": a default retention applies to each new object version).
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from msgspec import Struct

from crr_monitor.aws.sessions import AwsError, call, pages
from crr_monitor.core.canary import BODY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from crr_monitor.core.reconcile import Place

NO_LOCK = "ObjectLockConfigurationNotFoundError"
REMEMBERED_SECONDS = 3_600.0
"""How long it is remembered that a bucket has no default retention."""

SILENT_SECONDS = 60.0
"""How long a Region is left alone that did not answer: waiting for it with each bucket would take all of a run."""

QUICK: dict[str, Any] = {
    # A Region that does not answer must not keep the canaries of others from being written.
    "connect_timeout": 2,
    "read_timeout": 5,
    "retries": {"mode": "standard", "total_max_attempts": 3},
}
"""Of the clients, for :class:`crr_monitor.aws.sessions.Sessions`: what is asked is small."""

PAGE_VERSIONS = 1_000


class Clients(Protocol):
    """What makes clients that act in an account (``None``: one's own), as ``Sessions`` do. May raise ``AwsError``."""

    def client(self, service: str, region: str, account: str | None = None) -> Any: ...  # noqa: ANN401, D102


class Version(Struct, frozen=True):
    """A version of a canary in a bucket, or a delete marker; ``at`` is its time there (milliseconds)."""

    version_id: str
    at: int


class CanaryBuckets:
    """The calls, with ``region`` for buckets of which no Region is known. Every method may raise ``AwsError``."""

    def __init__(self, sessions: Clients, region: str, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._sessions = sessions
        self._region = region
        self._monotonic = monotonic
        self._unlocked: dict[str, float] = {}
        self._silent: dict[str, tuple[float, AwsError]] = {}

    @contextmanager
    def _client(self, place: Place, operation: str) -> Iterator[Any]:
        """The client for a bucket; refused at once while its Region is known not to answer."""
        region = place.region or self._region
        until, last = self._silent.get(region, (0.0, None))
        if last is not None and self._monotonic() < until:
            text = f"{region} did not answer a moment ago"
            raise AwsError(operation, last.code, text) from last
        try:
            yield self._sessions.client("s3", region, place.account)
        except AwsError as error:
            if error.unreachable and not error.code:  # with a code it is one bucket that is in trouble, or slowed down
                self._silent[region] = (self._monotonic() + SILENT_SECONDS, error)
            raise

    def keeps(self, place: Place) -> bool:
        """Whether the bucket keeps new objects by a default retention, so that a canary could not be removed."""
        if self._monotonic() < self._unlocked.get(place.bucket, 0.0):
            return False
        operation = f"s3:GetObjectLockConfiguration of {place.bucket}"
        try:
            with self._client(place, operation) as client:
                told = call(operation, client.get_object_lock_configuration, Bucket=place.bucket)
        except AwsError as error:
            if error.code != NO_LOCK:
                raise
            told = {}
        if told.get("ObjectLockConfiguration", {}).get("Rule", {}).get("DefaultRetention"):
            return True
        self._unlocked[place.bucket] = self._monotonic() + REMEMBERED_SECONDS
        return False

    def write(self, place: Place, key: str) -> str:
        """Write a new version; gives its id. S3's own encryption is named, as a bucket's default may be another."""
        operation = f"s3:PutObject of {key} in {place.bucket}"
        request = {"Bucket": place.bucket, "Key": key, "Body": BODY, "ContentType": "text/plain"}
        with self._client(place, operation) as client:
            told = call(operation, client.put_object, **request, ServerSideEncryption="AES256")
        version_id = told.get("VersionId")
        if not version_id:
            operation = f"s3:PutObject in {place.bucket}"
            raise AwsError(operation, "", "S3 gave the object no version id: switch the bucket's versioning on")
        return str(version_id)

    def versions(self, place: Place, key: str) -> list[Version]:
        """All versions and delete markers of just this key."""
        operation = f"s3:ListObjectVersions in {place.bucket}"
        request = {"Bucket": place.bucket, "Prefix": key, "PaginationConfig": {"PageSize": PAGE_VERSIONS}}
        with self._client(place, operation) as client:
            return [
                Version(each["VersionId"], int(each["LastModified"].timestamp() * 1_000))
                for page in pages(operation, client, "list_object_versions", **request)
                for each in [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
                if each["Key"] == key
            ]

    def remove(self, place: Place, key: str, version_ids: Sequence[str]) -> None:
        """Remove versions for good; one that is not there is fine."""
        operation = f"s3:DeleteObjectVersion of {key} in {place.bucket}"
        for version_id in version_ids:
            with self._client(place, operation) as client:
                call(operation, client.delete_object, Bucket=place.bucket, Key=key, VersionId=version_id)
