"""Which call of the S3 API a request is, as CloudTrail names it ("Amazon S3 CloudTrail events")."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from crr_monitor.sandbox import trail

if TYPE_CHECKING:
    from crr_monitor.sandbox.model import Requester, S3Event

_OBJECT_PARTS = {
    "tagging": "ObjectTagging",
    "acl": "ObjectAcl",
    "retention": "ObjectRetention",
    "legal-hold": "ObjectLegalHold",
}
_VERBS = {"GET": "Get", "PUT": "Put", "DELETE": "Delete"}
_BUCKET_PARTS = {
    "replication": "BucketReplication",
    "versioning": "BucketVersioning",
    "notification": "BucketNotification",
    "policy": "BucketPolicy",
    "encryption": "BucketEncryption",
    "lifecycle": "BucketLifecycle",
    "tagging": "BucketTagging",
}
_ANSWERED = ("x-amz-version-id", "x-amz-delete-marker", "x-amz-server-side-encryption", "x-amz-copy-source-version-id")
_UNKNOWN_SIZE = -1

Answer = tuple[int, dict[str, str], Any]


def object_call_name(method: str, key: str, headers: dict[str, str], query: dict[str, list[str]]) -> str | None:  # noqa: PLR0911 - one answer each
    """The API name of a request about an object, or about several (no ``key``); ``None``: not logged here."""
    for part, noun in _OBJECT_PARTS.items():
        if part in query:
            return _VERBS.get(method, "") + noun if method in _VERBS else None
    if not key:
        form = headers.get("content-type", "").startswith("multipart/form-data")
        return "DeleteObjects" if "delete" in query else "PostObject" if form else None
    copied = "x-amz-copy-source" in headers
    if "uploadId" in query:
        named = {"PUT": "UploadPartCopy" if copied else "UploadPart", "POST": "CompleteMultipartUpload"}
        return {**named, "DELETE": "AbortMultipartUpload", "GET": "ListParts"}.get(method)
    if "uploads" in query:
        return "CreateMultipartUpload"
    if "restore" in query:
        return "RestoreObject"
    if method == "PUT":
        return "CopyObject" if copied else "PutObject"
    return {"GET": "GetObject", "HEAD": "HeadObject", "DELETE": "DeleteObject"}.get(method)


def _error(answer: Answer) -> tuple[str, str] | None:
    if answer[0] < 400:  # noqa: PLR2004 - HTTP
        return None
    text = answer[2].decode("utf-8", "replace") if isinstance(answer[2], bytes) else ""
    code, message = (re.search(f"<{tag}>(.*?)</{tag}>", text) for tag in ("Code", "Message"))
    return (code.group(1) if code else "Error", message.group(1) if message else "")


def _object_size(name: str, body: bytes, answer: Answer, written: list[S3Event]) -> int | None:
    if name == "PutObject":
        return len(body)
    if name == "CompleteMultipartUpload":
        # Repeated or failed: it made no version, and captured records then say -1.
        return written[0].size if written and answer[0] < 400 else _UNKNOWN_SIZE  # noqa: PLR2004 - HTTP
    return None


def object_call(  # noqa: PLR0913, PLR0917 - a request has as many parts
    place: tuple[str, str, str],
    requester: Requester,
    method: str,
    key: str,
    headers: dict[str, str],
    body: bytes,
    query: dict[str, list[str]],
    answer: Answer,
    written: list[S3Event],
) -> trail.ApiCall | None:
    """The call that a request about an object is; ``place`` is account, Region and name of the bucket."""
    name = object_call_name(method, key, headers, query)
    if name is None:
        return None
    account, region, bucket = place
    parameters = {part: values[0] for part, values in query.items()}
    if "x-amz-copy-source" in headers:
        parameters["x-amz-copy-source"] = headers["x-amz-copy-source"]
    elements = {part: answer[1][part] for part in _ANSWERED if part in answer[1]}
    if name == "PostObject" and written:
        key = written[0].key
    return trail.ApiCall(
        name,
        account,
        region,
        bucket,
        key or None,
        requester,
        parameters,
        elements or None,
        bytes_in=len(body),
        object_size=_object_size(name, body, answer, written),
        error=_error(answer),
    )


def bucket_call(
    place: tuple[str, str, str],
    requester: Requester,
    method: str,
    _key: str,
    _headers: dict[str, str],
    _body: bytes,
    query: dict[str, list[str]],
    answer: Answer,
    _written: list[S3Event],
) -> trail.ApiCall | None:
    """The management call that a request about a bucket is; only changes, since reads do not reach EventBridge."""
    if method not in {"PUT", "DELETE"}:
        return None
    account, region, bucket = place
    verb = _VERBS[method]
    noun = next((noun for part, noun in _BUCKET_PARTS.items() if part in query), None)
    if noun is None and query:
        return None
    name = verb + noun if noun else {"PUT": "CreateBucket", "DELETE": "DeleteBucket"}[method]
    parameters = {part: values[0] for part, values in query.items()}
    return trail.ApiCall(name, account, region, bucket, None, requester, parameters, error=_error(answer), data=False)
