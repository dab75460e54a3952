"""Asks S3 about one object version, with HeadObject by version id, through the right account's role.

An answer to HEAD has no body (API Reference, "HeadObject"), so its status code is nearly all there is, and one code
has several causes: 404 is said of a missing version and of a missing bucket; 403 where the version may not be read,
and in place of 404 where the bucket may not be listed. So of a bucket that refuses, HeadBucket is asked as well.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from crr_monitor.aws.sessions import AwsError, MissingSdkError, call, pages
from crr_monitor.core.reconcile import Found, Header, Missing, Unasked

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from crr_monitor.aws.sessions import Sessions
    from crr_monitor.core.reconcile import Place, Reply

PROBE_OPTIONS: dict[str, Any] = {
    # Who does not answer is asked again later, so nobody waits long for him now.
    "connect_timeout": 3,
    "read_timeout": 10,
    "retries": {"mode": "standard", "total_max_attempts": 3},
    "max_pool_connections": 32,
    # With a checksum HEAD of an encrypted object would need kms:Decrypt (API Reference, "HeadObject").
    "response_checksum_validation": "when_required",
}
"""Of the clients, for :class:`crr_monitor.aws.sessions.Sessions`."""

PATH_STYLE: dict[str, Any] = {"s3": {"addressing_style": "path"}}
"""Besides, where an endpoint is named: most S3-compatible stores have no name for each bucket."""

REMEMBERED_SECONDS = 15.0
"""How long it is remembered that an account cannot be reached, or what HeadBucket said."""

LISTED_PAGES = 3
PAGE_VERSIONS = 1_000
"""So many pages of so many versions of keys that begin alike are looked through."""

READ_VERSION = "s3:GetObjectVersion"
LIST_BUCKET = "s3:ListBucket"
LIST_VERSIONS = "s3:ListBucketVersions"

_HEADERS: dict[str, Header] = {
    "COMPLETED": "COMPLETED",
    "COMPLETE": "COMPLETED",  # as the API's own list of values has it
    "FAILED": "FAILED",
    "PENDING": "PENDING",
    "REPLICA": "REPLICA",
}
_NOT_FOUND, _FORBIDDEN, _BAD, _NOT_ALLOWED, _TOO_MANY, _ERROR, _SLOW_DOWN = 404, 403, 400, 405, 429, 500, 503

_Bucket: TypeAlias = Literal["there", "missing", "denied", "unknown"]


class S3Prober:
    """Asks buckets of any account and Region; any thread may call it.

    ``region`` is asked first about a bucket whose Region is not known; S3 then says which it is. ``own_only``: buckets
    of other accounts are asked with one's own credentials too, as their policies may allow it.
    """

    def __init__(
        self,
        sessions: Sessions,
        region: str,
        *,
        own_only: bool = False,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._own_only = own_only
        self._sessions = sessions
        self._region = region
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._unreachable: dict[str, tuple[float, Unasked]] = {}
        self._renewed_until: dict[str, float] = {}
        self._buckets: dict[tuple[str | None, str], tuple[float, _Bucket]] = {}

    def ask(self, place: Place, key: str, version_id: str) -> Reply:
        """Whether the version is in the bucket, with which status; or why that could not be found out.

        Raises:
            MissingSdkError: boto3 is not installed.
        """
        client = self._client(place)
        if isinstance(client, Unasked):
            return client
        version = {"Bucket": place.bucket, "Key": key, "VersionId": version_id}
        try:
            told = call(f"s3:HeadObject in {place.bucket}", client.head_object, **version)
        except AwsError as error:
            return self._refused(error, client, place, key, version_id)
        status = told.get("ReplicationStatus")
        # A status that nobody knows yet is not the same as none.
        return Found(_HEADERS.get(status or ""), silent=bool(status) and status not in _HEADERS)

    def _client(self, place: Place) -> Any:  # noqa: ANN401 - boto3's client
        account = None if self._own_only else place.account
        account = account or self._sessions.account
        with self._lock:
            until, known = self._unreachable.get(account, (0.0, None))
        if known is not None and self._monotonic() < until:
            return known
        try:
            return self._sessions.client("s3", place.region or self._region, account)
        except MissingSdkError:
            raise
        except AwsError as error:
            hint = "is its agent deployed, for this hub?" if error.denied else "check the network and the credentials"
            text = f"account {account} cannot be reached ({hint}): {error}"
            reply = Unasked("account-unreachable", text, "sts:AssumeRole" if error.denied else None)
            with self._lock:
                self._unreachable[account] = (self._monotonic() + REMEMBERED_SECONDS, reply)
            return reply

    def _refused(  # noqa: PLR0911 - one for each answer
        self,
        error: AwsError,
        client: Any,  # noqa: ANN401
        place: Place,
        key: str,
        version_id: str,
    ) -> Reply:
        code, headers = _answer(error)
        if code == _NOT_FOUND:
            return self._not_found(error, client, place)
        if code == _NOT_ALLOWED and headers.get("x-amz-delete-marker") == "true":
            return Found(silent=True)
        if code == _FORBIDDEN:
            return self._denied(error, client, place)
        if code == _BAD:
            return _listed(client, place, key, version_id)
        if code in {_SLOW_DOWN, _TOO_MANY}:
            return Unasked("throttled", f"{error}; it is asked again later")
        if code >= _ERROR:
            return Unasked("unreachable", f"{error}; it is asked again later")
        if not code:
            name = type(error.__cause__).__name__
            text = f"{error.operation}: {_unanswered(name, client.meta)}"
            return Unasked("refused" if name == "ParamValidationError" else "unreachable", text)
        region = headers.get("x-amz-bucket-region")
        return Unasked("refused", f"{error}" + (f" (the bucket is in {region})" if region else ""))

    def _not_found(self, error: AwsError, client: Any, place: Place) -> Reply:  # noqa: ANN401
        bucket = self._bucket(client, place)
        if bucket == "there":
            return Missing()
        if bucket == "missing":
            return Unasked("bucket-missing", f"there is no bucket {place.bucket}: correct the rule, or create it again")
        # 404 without the right to list the bucket: not S3's way, so it is not taken for an answer.
        return Unasked("refused", f"{error}; HeadBucket was refused as well: allow {LIST_BUCKET} on the bucket")

    def _denied(self, error: AwsError, client: Any, place: Place) -> Unasked:  # noqa: ANN401
        """Without the right to list, 403 may also mean that the version is missing; so both rights are named then."""
        client = self._renewed(client, place)
        if isinstance(client, Unasked):
            return client
        bucket = self._bucket(client, place)
        if bucket == "missing":
            return Unasked("bucket-missing", f"there is no bucket {place.bucket}: correct the rule, or create it again")
        permission = READ_VERSION if bucket == "there" else f"{READ_VERSION}, {LIST_BUCKET}"
        who = f"account {place.account}" if place.account else "the bucket's account"
        text = f"{error}; allow {permission} on bucket {place.bucket} to the role that asks in {who}"
        return Unasked("denied", text, permission)

    def _renewed(self, client: Any, place: Place) -> Any:  # noqa: ANN401
        """A client whose role was assumed a moment ago: an old session does not tell that its role was removed."""
        account, now = place.account, self._monotonic()
        if account is None or account == self._sessions.account or self._own_only:
            return client
        with self._lock:
            known = now < self._renewed_until.get(account, 0.0)
            if not known:
                self._renewed_until[account] = now + REMEMBERED_SECONDS
        if not known:
            self._sessions.forget(account)
        return self._client(place)

    def _bucket(self, client: Any, place: Place) -> _Bucket:  # noqa: ANN401
        """What HeadBucket says; a moment ago is good enough."""
        name, now = (place.account, place.bucket), self._monotonic()
        with self._lock:
            until, known = self._buckets.get(name, (0.0, "unknown"))
        if now < until:
            return known
        try:
            call(f"s3:HeadBucket of {place.bucket}", client.head_bucket, Bucket=place.bucket)
        except AwsError as error:
            codes: dict[int, _Bucket] = {_NOT_FOUND: "missing", _FORBIDDEN: "denied"}
            found = codes.get(_answer(error)[0], "unknown")
        else:
            found = "there"
        with self._lock:
            self._buckets[name] = (now + REMEMBERED_SECONDS, found)
        return found


_NO_ANSWER = {
    "ConnectTimeoutError": "{endpoint} (Region {region}) did not take the connection in time: check the network and the"
    " firewall, and the address, if you named it (--endpoint-url)",
    "ConnectionClosedError": "{endpoint} (Region {region}) closed the connection: it is asked again later",
    "EndpointConnectionError": "{endpoint} (Region {region}) cannot be reached: check name resolution and network, and"
    " the address, if you named it (--endpoint-url)",
    "NoCredentialsError": "there are no credentials: sign in, or name a profile (--profile)",
    "ProxyConnectionError": "the proxy to {endpoint} (Region {region}) cannot be reached: check HTTPS_PROXY",
    "ReadTimeoutError": "{endpoint} (Region {region}) did not answer in time: it is asked again later",
    "SSLError": "the certificate of {endpoint} (Region {region}) is not trusted: name its authority in AWS_CA_BUNDLE",
}


def _unanswered(name: str, about: Any) -> str:  # noqa: ANN401 - boto3's
    """Why there was no answer. The error's own words name the address with the key in it, and reasons are compared."""
    words = _NO_ANSWER.get(name)
    return name if words is None else f"{words.format(endpoint=about.endpoint_url, region=about.region_name)} ({name})"


def _answer(error: AwsError) -> tuple[int, Mapping[str, str]]:
    """Status code (0 where there was no answer at all) and headers of an answer."""
    response = getattr(error.__cause__, "response", None) or {}
    metadata = response.get("ResponseMetadata", {})
    return int(metadata.get("HTTPStatusCode", 0)), metadata.get("HTTPHeaders", {})


def _listed(client: Any, place: Place, key: str, version_id: str) -> Reply:  # noqa: ANN401 - boto3's client
    """Whether the bucket's listing has the version: of an object whose key is its owner's (SSE-C) HEAD says only 400.

    A listing tells no status.
    """
    operation = f"s3:ListObjectVersions in {place.bucket}"
    request = {"Bucket": place.bucket, "Prefix": key, "PaginationConfig": {"PageSize": PAGE_VERSIONS}}
    found = pages(operation, client, "list_object_versions", **request)
    try:
        for number, page in enumerate(found, 1):
            versions = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
            if any(each["Key"] == key and each["VersionId"] == version_id for each in versions):
                return Found(silent=True)
            if number == LISTED_PAGES and page.get("IsTruncated"):
                return Unasked("encrypted", f"HEAD was refused (SSE-C?), and {place.bucket} has too many such keys")
    except AwsError as error:
        if not error.denied:  # an expired token, for example, answers HEAD with 400 too
            return Unasked("refused", f"HEAD was refused with 400, and then {error}")
        text = f"HEAD was refused with 400, as of objects with a customer's key (SSE-C), and so was the list: {error}"
        return Unasked("encrypted", f"{text}; allow {LIST_VERSIONS} on the bucket", LIST_VERSIONS)
    # HEAD of a missing version answers 404, so this is no answer to rely on.
    return Unasked("refused", f"HEAD in {place.bucket} was refused with 400, and the version is not in its list")
