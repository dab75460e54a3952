"""The few kinds of evidence about one object version, frozen and self-validating.

A decoder makes events, nothing else does. An event says what one message *proves*, never what it suggests:
which status follows is decided where all evidence is merged (:mod:`crr_monitor.core.merge`).

Times are whole milliseconds since the epoch (UTC); ``whole_seconds`` marks a time that came without a fraction
(CloudTrail, EventBridge). Sizes are bytes. What a message does not tell is ``None``.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Literal, TypeAlias

from msgspec import Struct

MAX_KEY_BYTES = 1_024
"""S3's limit for an object key (User Guide, "Naming Amazon S3 objects")."""

MAX_TIME = 253_402_300_799_999
"""The last millisecond of the year 9999, the last that RFC 3339 can write."""


class BadEventError(ValueError):
    """What was to become an event breaks a rule that every event keeps; the text names field and value."""


class Mark(IntEnum):
    """What a sighting says of the role of the bucket in which the version was written.

    ``REPLICA``: the replication service wrote it (its marks are on the message). ``SOURCE``: somebody else
    certainly did. ``UNKNOWN``: the message cannot tell, so topology or time has to.
    """

    UNKNOWN = 0
    SOURCE = 1
    REPLICA = 2


Label: TypeAlias = Literal["replica-event", "failure-event", "denied-call", "head", "batch-report"]
"""Where a copy's status comes from, as the record prints it (``evidence``)."""

Answer: TypeAlias = Literal["completed", "failed", "pending", "not-eligible", "gone", "replica"]
"""What S3 said when it was asked for a version: its replication status, none, no such version, or REPLICA."""


def _check_identity(bucket: str | None, key: str, version_id: str) -> None:
    if bucket == "":
        message = "bucket is empty"
        raise BadEventError(message)
    if not key:
        message = "key is empty"
        raise BadEventError(message)
    if not version_id or version_id == "null":
        message = f"no real version id: {version_id!r}"
        raise BadEventError(message)
    if not (key.isascii() and version_id.isascii() and len(key) <= MAX_KEY_BYTES and len(version_id) <= MAX_KEY_BYTES):
        _check_text("key", key)
        _check_text("version id", version_id)


def _check_text(name: str, text: str) -> None:
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        message = f"{name} is not valid UTF-8: {text[:64]!r}"
        raise BadEventError(message) from error
    if size > MAX_KEY_BYTES:
        message = f"{name} has {size} bytes, S3 allows {MAX_KEY_BYTES}: {text[:64]!r}..."
        raise BadEventError(message)


def _check_time(name: str, at: int | None) -> None:
    if at is not None and not 0 <= at <= MAX_TIME:
        message = f"{name} is outside 1970-9999: {at}"
        raise BadEventError(message)


class Written(Struct, frozen=True, array_like=True, tag=1, gc=False):
    """A version (or a delete marker) appeared in ``bucket``: written by somebody, or by replication (``mark``).

    ``tags``, ``storage_class``, ``kms`` and ``by_lifecycle`` are what rule selection needs, where the message
    tells it: ``kms`` is true for SSE-KMS and DSSE-KMS; lifecycle's own delete markers are never replicated.
    """

    bucket: str
    key: str
    version_id: str
    at: int
    whole_seconds: bool
    mark: Mark
    delete_marker: bool = False
    size: int | None = None
    etag: str | None = None
    account: str | None = None
    region: str | None = None
    tags: dict[str, str] | None = None
    storage_class: str | None = None
    kms: bool | None = None
    by_lifecycle: bool = False

    def __post_init__(self) -> None:
        _check_identity(self.bucket, self.key, self.version_id)
        if not 0 <= self.at <= MAX_TIME:
            _check_time("time", self.at)
        if self.size is not None and self.size < 0:
            message = f"size is negative: {self.size}"
            raise BadEventError(message)


class Deleted(Struct, frozen=True, array_like=True, tag=2, gc=False):
    """The version was deleted for good from ``bucket`` (a delete that named the version id, or lifecycle)."""

    bucket: str
    key: str
    version_id: str
    at: int
    whole_seconds: bool

    def __post_init__(self) -> None:
        _check_identity(self.bucket, self.key, self.version_id)
        _check_time("time", self.at)


class Failed(Struct, frozen=True, array_like=True, tag=3, gc=False):
    """Replication of the version failed.

    A failure event names ``source`` and ``destination``; a denied call names only the bucket that was called
    (``source`` for a read, ``destination`` for a write): the other one is ``None``. ``reason`` is S3's code, or the
    words of the denial. ``metadata`` is true when a later tag, ACL or lock change failed, not the object.
    ``written_at`` (with ``size``, ``etag``) is the time of the source's write where the message has it.
    """

    source: str | None
    destination: str | None
    key: str
    version_id: str
    at: int
    whole_seconds: bool
    label: Label
    reason: str | None = None
    metadata: bool = False
    rule_id: str | None = None
    written_at: int | None = None
    written_whole_seconds: bool = False
    size: int | None = None
    etag: str | None = None
    account: str | None = None
    region: str | None = None
    delete_marker: bool | None = None

    def __post_init__(self) -> None:
        _check_identity(self.source, self.key, self.version_id)
        _check_time("time", self.at)
        _check_time("request time", self.written_at)
        if self.source is None and self.destination is None:
            message = "a failure names neither its source nor its destination"
            raise BadEventError(message)


class Confirmed(Struct, frozen=True, array_like=True, tag=4, gc=False):
    """The source's side says that the copy arrived (``OperationReplicatedAfterThreshold``, MinIO's ``Completed``).

    Without a ``destination`` it holds for every destination of the version.
    """

    source: str
    destination: str | None
    key: str
    version_id: str
    at: int
    whole_seconds: bool
    rule_id: str | None = None
    written_at: int | None = None
    written_whole_seconds: bool = False
    size: int | None = None
    etag: str | None = None
    account: str | None = None
    region: str | None = None

    def __post_init__(self) -> None:
        _check_identity(self.source, self.key, self.version_id)
        _check_time("time", self.at)
        _check_time("request time", self.written_at)


class Awaited(Struct, frozen=True, array_like=True, tag=5, gc=False):
    """S3 says that it still has to replicate the version (``OperationMissedThreshold``, ``OperationNotTracked``)."""

    source: str
    destination: str
    key: str
    version_id: str
    at: int
    whole_seconds: bool
    rule_id: str | None = None
    written_at: int | None = None
    written_whole_seconds: bool = False
    size: int | None = None
    etag: str | None = None
    account: str | None = None
    region: str | None = None

    def __post_init__(self) -> None:
        _check_identity(self.source, self.key, self.version_id)
        _check_time("time", self.at)
        _check_time("request time", self.written_at)


class Answered(Struct, frozen=True, array_like=True, tag=6, gc=False):
    """S3 was asked about the version in ``bucket`` and said so: facts only, never "could not ask".

    ``completed``, ``failed``, ``pending`` and ``not-eligible`` are said of the source; ``gone`` and ``replica`` of the
    bucket that was asked. ``at`` is when it was asked, which is no sighting time.
    """

    bucket: str
    key: str
    version_id: str
    says: Answer
    at: int
    label: Label = "head"
    reason: str | None = None
    destination: str | None = None

    def __post_init__(self) -> None:
        _check_identity(self.bucket, self.key, self.version_id)
        _check_time("time", self.at)


Event: TypeAlias = Written | Deleted | Failed | Confirmed | Awaited | Answered
