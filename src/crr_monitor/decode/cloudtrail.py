"""CloudTrail data events of S3: writes, deletions, and the denied calls of the replication service.

Field by field: User Guide, "Amazon S3 CloudTrail events" and "CloudTrail record contents". Keys are raw here. A
response is no proof of success and its absence none of failure: ``errorCode`` alone tells.
"""

from __future__ import annotations

from functools import lru_cache
from urllib.parse import parse_qsl

from crr_monitor.core.events import Deleted, Event, Failed, Mark, Written
from crr_monitor.decode.fields import (
    REPLICATION_SESSION,
    S3_SERVICE,
    UNVERSIONED,
    account_id,
    bucket_name,
    real_version,
    required,
    size_of,
    text,
    time_of,
)
from crr_monitor.decode.wire import Extra, Identity, Message, Request, Resource, Response

WRITES = frozenset({"PutObject", "CopyObject", "CompleteMultipartUpload", "PostObject"})
"""The calls that create an object version (UploadPart, RestoreObject and the metadata calls do not)."""

NO_CALLS = frozenset({"AwsVpceEvent", "AwsServiceEvent"})
"""Event types that are no call of their own: the endpoint's second record of one, and S3's own jobs."""

BUCKET = "AWS::S3::Bucket"
"""The type of a row of ``resources`` that names a bucket, and its owner."""

NO_VERSION = "denied call without version id"
_METADATA_CALLS = ("Tagging", "Acl", "Retention", "LegalHold")
_READS = ("Get", "Head", "List")
_UPLOADS = frozenset({*WRITES, "CreateMultipartUpload", "UploadPart", "UploadPartCopy"})
_DENIALS = frozenset({"AllAccessDisabled", "Forbidden", "UnauthorizedAccess"})
_MAX_REASON = 1_024

CALLS = {
    "GetObject": "SrcGetObjectNotPermitted",
    "HeadObject": "SrcHeadObjectNotPermitted",
    "GetObjectAcl": "SrcGetAclNotPermitted",
    "GetObjectTagging": "SrcGetTaggingNotPermitted",
    "GetObjectLegalHold": "SrcGetLegalHoldNotPermitted",
    "GetObjectRetention": "SrcGetRetentionNotPermitted",
    "PutObject": "DstPutObjectNotPermitted",
    "CompleteMultipartUpload": "DstMultipartCompleteNotPermitted",
    "CreateMultipartUpload": "DstMultipartInitNotPermitted",
    "UploadPart": "DstMultipartUploadNotPermitted",
    "DeleteObject": "DstDelObjNotPermitted",
    "PutObjectAcl": "DstPutAclNotPermitted",
    "PutObjectTagging": "DstPutTaggingNotPermitted",
    "PutObjectLegalHold": "DstPutLegalHoldNotPermitted",
    "PutObjectRetention": "DstPutRetentionNotPermitted",
}
"""S3's own code for the denial of each call of the replication service, for where the denial has no words."""

_NO_WORDS = frozenset({None, "Access Denied"})
_KEY_ERRORS = ("KMS.", "Kms")
_TEMPORARY = ("Throttl", "Internal", "Timeout", "Unavailable", "LimitExceeded")
"""Parts of codes that say "not now": S3 tries again, so they are no failure."""

# Looking up a member of an enumeration takes longer than a global name.
_UNKNOWN, _SOURCE, _REPLICA = Mark

_NO_IDENTITY = Identity()
_NO_REQUEST = Request()
_NO_RESPONSE = Response()
_NO_EXTRA = Extra()
_ENVELOPE = Message()


def interpret(record: Message, envelope: Message = _ENVELOPE) -> Event | str:
    """Return the event that a CloudTrail record of S3 proves, or the kind under which it is ignored.

    ``envelope`` is EventBridge's, where there is one: it gives time and Region where the record has none.

    Raises:
        RejectError: a write, deletion or denied replication lacks what an event needs, or has it in another type.
        BadEventError: the event would break a rule of its own.
    """
    name, event_type = record.event_name, record.event_type
    if type(event_type) is str and event_type in NO_CALLS:
        return event_type
    if record.error_code:
        return _failed_call(record, envelope, required(name, "eventName"))
    if name == "DeleteObject":
        return _deletion(record, envelope)
    if type(name) is str and name in WRITES:
        return _write(record, envelope, name)
    return required(name, "eventName")


def _write(record: Message, envelope: Message, name: str) -> Written | str:
    """Read what nearly every message tells of; what is there as it should be is taken without a further call."""
    request, response, extra = record.request, record.response, record.extra
    if type(request) is not Request:
        request = _NO_REQUEST
    if type(response) is not Response:
        response = _NO_RESPONSE
    if type(extra) is not Extra:
        extra = _NO_EXTRA
    bucket, key, size = request.bucket, request.key, extra.object_size
    if not (bucket and key and type(bucket) is str and type(key) is str):
        bucket, key = _place(record, request)
    mark = _mark(record, request)
    version = _written_version(request, response, mark)
    if version is None:
        return UNVERSIONED
    at, whole_seconds = _time(record, envelope)
    if size is not None:
        size = size_of(size)
    if size is None and name == "PutObject":
        # Of a copy this is 0 and of a completed multipart upload the length of its XML: neither is the size.
        size = size_of(extra.bytes_in)
    # By position: names would cost a quarter of this call's time.
    return Written(
        bucket,
        key,
        version,
        at,
        whole_seconds,
        mark,
        False,  # noqa: FBT003 - no delete marker
        size,
        None,
        _account(record, bucket),
        text(record.aws_region) or text(envelope.region),
        None if request.tagging is None else _tags(request.tagging),
        None if request.storage_class is None else text(request.storage_class),
        _kms(request, response, extra),
    )


def _deletion(record: Message, envelope: Message) -> Written | Deleted | str:
    request = record.request if isinstance(record.request, Request) else _NO_REQUEST
    response = record.response if isinstance(record.response, Response) else _NO_RESPONSE
    bucket, key = _place(record, request)
    if request.version not in (None, ""):
        # Whoever names a version deletes it for good, also where that version is itself a delete marker.
        version = real_version(request.version, "requestParameters.versionId")
        if version is None:
            return UNVERSIONED
        return Deleted(bucket, key, version, *_time(record, envelope))
    mark = _mark(record, request)
    version = _written_version(request, response, mark)
    made_marker = response.delete_marker in ("true", True) or mark is Mark.REPLICA
    if version is None or not made_marker:
        return UNVERSIONED
    at, whole_seconds = _time(record, envelope)
    return Written(
        bucket=bucket,
        key=key,
        version_id=version,
        at=at,
        whole_seconds=whole_seconds,
        mark=mark,
        delete_marker=True,
        account=_account(record, bucket),
        region=text(record.aws_region) or text(envelope.region),
    )


def _failed_call(record: Message, envelope: Message, name: str) -> Failed | str:
    """A failed call wrote nothing; one that was denied to the replication service says why a copy is missing."""
    request = record.request if isinstance(record.request, Request) else _NO_REQUEST
    if _mark(record, request) is not Mark.REPLICA or not _is_denial(record.error_code):
        return f"{name} with error"
    version = real_version(request.given_version, "requestParameters.x-amz-version-id") or real_version(
        request.version, "requestParameters.versionId"
    )
    if version is None:
        return NO_VERSION
    bucket, key = _place(record, request)
    read = name.startswith(_READS)
    at, whole_seconds = _time(record, envelope)
    return Failed(
        source=bucket if read else None,
        destination=None if read else bucket,
        key=key,
        version_id=version,
        at=at,
        whole_seconds=whole_seconds,
        label="denied-call",
        reason=_reason(record, name),
        metadata=not read and name.endswith(_METADATA_CALLS),
        account=_account(record, bucket) if read else None,
        region=(text(record.aws_region) or text(envelope.region)) if read else None,
        delete_marker=_is_marker_call(name),
    )


def _reason(record: Message, name: str) -> str:
    """The words of the denial, which name the missing permission; else S3's code for the call, or the error's code.

    Of a KMS key's error the code stands before the words, which say less.
    """
    words, code = text(record.error_message), str(record.error_code)
    if words in _NO_WORDS:
        return CALLS.get(name, code) if "AccessDenied" in code else code[:_MAX_REASON]
    return (f"{code}: {words}" if code.startswith(_KEY_ERRORS) else str(words))[:_MAX_REASON]


def _is_denial(code: object) -> bool:
    if not isinstance(code, str):
        return False
    if code.startswith(_KEY_ERRORS):
        return not any(part in code for part in _TEMPORARY)
    return "AccessDenied" in code or code in _DENIALS


def _is_marker_call(name: str) -> bool | None:
    if name == "DeleteObject":
        return True
    return False if name in _UPLOADS else None


def _mark(record: Message, request: Request) -> Mark:
    """Say who wrote: the replication service, S3 for another reason, or somebody else.

    Anybody can name a session ``s3-replication``, and Batch Operations are invoked by S3 as well: only both together,
    or the version id in the request, which no client can set, prove replication.
    """
    identity = record.identity
    if type(identity) is not Identity:
        identity = _NO_IDENTITY
    if S3_SERVICE not in (identity.invoked_by, record.source_ip):
        return _SOURCE
    principal = identity.principal
    if type(principal) is str and principal.endswith(REPLICATION_SESSION):
        return _REPLICA
    if real_version(request.given_version, "requestParameters.x-amz-version-id") is not None:
        return _REPLICA
    return _UNKNOWN


def _written_version(request: Request, response: Response, mark: Mark) -> str | None:
    version = real_version(response.version, "responseElements.x-amz-version-id")
    if version is None and mark is _REPLICA:
        return real_version(request.given_version, "requestParameters.x-amz-version-id")
    return version


def _place(record: Message, request: Request) -> tuple[str, str]:
    bucket, key = request.bucket, request.key
    if type(bucket) is str and type(key) is str and bucket and key:
        return bucket, key
    if bucket is None:
        bucket = next((bucket_name(row.upper_arn or row.arn) for row in _bucket_rows(record)), None)
    return required(bucket, "requestParameters.bucketName"), required(key, "requestParameters.key")


def _bucket_rows(record: Message) -> list[Resource]:
    rows = record.resources
    if not isinstance(rows, list):
        rows = [rows] if isinstance(rows, Resource) else []
    return [row for row in rows if isinstance(row, Resource) and row.type == BUCKET]


def _account(record: Message, bucket: str) -> str | None:
    """Return the bucket owner's account: nothing else in the record tells it (the recipient may be the requester)."""
    rows = record.resources
    for row in rows if type(rows) is list else (rows,):
        if type(row) is not Resource or row.type != BUCKET:
            continue
        arn, account = row.upper_arn or row.arn, row.account
        if type(arn) is str and type(account) is str:
            name, owner = _owner(arn, account)
        else:
            name, owner = bucket_name(arn), account_id(account)
        if name == bucket:
            return owner
    return None


@lru_cache(maxsize=4_096)
def _owner(arn: str, account: str) -> tuple[str | None, str | None]:
    """A bucket's name and account; the same few rows come again and again."""
    return bucket_name(arn), account_id(account)


def _time(record: Message, envelope: Message) -> tuple[int, bool]:
    if type(record.event_time) is str:
        return _event_time(record.event_time)
    return time_of(("eventTime", record.event_time), ("@timestamp", record.timestamp), ("time", envelope.time))


@lru_cache(maxsize=4_096)
def _event_time(value: str) -> tuple[int, bool]:
    """A time in whole seconds, as CloudTrail writes them: many records share one."""
    return time_of(("eventTime", value))


def _tags(value: object) -> dict[str, str] | None:
    if not isinstance(value, str):
        return None
    try:
        return dict(parse_qsl(value, keep_blank_values=True, errors="strict"))
    except ValueError:
        return None


def _kms(request: Request, response: Response, extra: Extra) -> bool | None:
    for applied in (response.encryption, request.encryption):
        if applied and type(applied) is str:
            return applied.startswith("aws:kms")
    applied = extra.encryption
    return "KMS" in applied if applied and type(applied) is str else None
