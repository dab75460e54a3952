"""CloudTrail data events, as long and as detailed as the real ones (about 1.8 KB).

Texts with slots, not dictionaries that are encoded: it makes the stream several times as fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from crr_monitor.simulate.facts import Fact, What
from crr_monitor.simulate.lives import Operation
from crr_monitor.simulate.texts import Ids, quote, whole_seconds

if TYPE_CHECKING:
    from crr_monitor.simulate.world import Destination, Place

_NAMES = ("PutObject", "CopyObject", "CompleteMultipartUpload", "PostObject")
_AGENTS = (
    "[aws-cli/2.31.4 md/awscrt#0.27.6 ua/2.1 os/linux#6.1 md/arch#x86_64 lang/python#3.13.7]",
    "[Boto3/1.40.44 md/Botocore#1.40.44 ua/2.1 os/linux#5.10 lang/python#3.12.3 cfg/retry-mode#standard]",
    "[aws-sdk-java/2.34.2 md/io#sync md/http#Apache ua/2.1 os/Linux#6.8 lang/java#21.0.8 md/OpenJDK_64-Bit_Server_VM]",
)
_DENIALS = (
    "because no resource-based policy allows the s3:ReplicateObject action",
    "with an explicit deny in a resource-based policy",
    "because no identity-based policy allows the s3:ReplicateObject action",
)
_COMPLETE_XML_BYTES = 223
"""What a CompleteMultipartUpload transfers is its list of parts, not the object."""


def record(fact: Fact, ids: Ids, recipient: str) -> str:
    """The CloudTrail record of a fact as the account ``recipient`` receives it."""
    if fact.what is What.REPLICA:
        return _replica(fact, ids, recipient)
    if fact.what is What.FAILURE:
        return _denied(fact, ids, recipient)
    return _delete(fact, ids, recipient) if fact.what is What.DELETE else _write(fact, ids, recipient)


def denial(fact: Fact) -> str:
    """The words with which a destination denies the copy."""
    to = _destination(fact)
    return (
        f"User: {to.session_arn} is not authorized to perform: s3:ReplicateObject on resource: "
        f'"arn:aws:s3:::{to.place.bucket}/{fact.version.key}" {_DENIALS[fact.choice % len(_DENIALS)]}'
    )


def _destination(fact: Fact) -> Destination:
    if fact.copy is None:
        message = f"a fact without a copy has no destination: {fact.what!r}"
        raise ValueError(message)
    return fact.copy.destination


def _write(fact: Fact, ids: Ids, recipient: str) -> str:
    version = fact.version
    place = version.source.place
    if version.delete_marker:
        return call(
            ids, fact.at, "DeleteObject", place, quote(version.key), recipient, identity=version.source.identity,
            response=f'{{"x-amz-delete-marker":"true","x-amz-version-id":"{version.version_id}"}}', sizes="",
        )  # fmt: skip
    operation = version.operation
    received = version.size
    parameters = '"x-amz-storage-class":"STANDARD",'
    if operation is Operation.COPY:
        received = 0
        parameters = f'"x-amz-copy-source":"{place.bucket}/staging/{ids.hex[:12]}",'
    elif operation is Operation.MULTIPART:
        received = _COMPLETE_XML_BYTES
        parameters = f'"uploadId":"{ids.extended_id[:40]}",'
    return call(
        ids, fact.at, _NAMES[operation], place, quote(version.key), recipient, identity=version.source.identity,
        parameters=parameters, response=_created(version.version_id), sizes=_sizes(received, version.size, ids),
    )  # fmt: skip


def _replica(fact: Fact, ids: Ids, recipient: str) -> str:
    version = fact.version
    to = _destination(fact)
    parameters = f'"x-amz-version-id":"{version.version_id}",'
    if version.delete_marker:
        return _service_call(
            fact, ids, "DeleteObject", to, recipient, parameters=parameters,
            response=f'{{"x-amz-delete-marker":"true","x-amz-version-id":"{version.version_id}"}}',
        )  # fmt: skip
    multipart = version.operation is Operation.MULTIPART
    name = "CompleteMultipartUpload" if multipart else "PutObject"
    sizes = _sizes(_COMPLETE_XML_BYTES if multipart else version.size, version.size, ids)
    return _service_call(
        fact, ids, name, to, recipient, parameters=parameters, response=_created(version.version_id), sizes=sizes
    )


def _denied(fact: Fact, ids: Ids, recipient: str) -> str:
    return _service_call(
        fact, ids, "PutObject", _destination(fact), recipient,
        parameters=f'"x-amz-version-id":"{fact.version.version_id}",', response="null",
        error=f'"errorCode":"AccessDenied","errorMessage":{quote(denial(fact))},',
    )  # fmt: skip


def _delete(fact: Fact, ids: Ids, recipient: str) -> str:
    version = fact.version
    return call(
        ids, fact.at, "DeleteObject", version.source.place, quote(version.key), recipient,
        identity=version.source.identity, parameters=f'"versionId":"{version.version_id}",',
        response=f'{{"x-amz-version-id":"{version.version_id}"}}', sizes="",
    )  # fmt: skip


def _service_call(  # noqa: PLR0913 - passes them on
    fact: Fact, ids: Ids, name: str, to: Destination, recipient: str,
    *, parameters: str, response: str, sizes: str = "", error: str = "",
) -> str:  # fmt: skip
    # Only what crosses accounts is told twice, and only then do the two records share an id
    # (CloudTrail User Guide, "sharedEventID").
    crosses = to.place.account != fact.version.source.place.account
    return call(
        ids, fact.at, name, to.place, quote(fact.version.key), recipient, identity=to.identity, parameters=parameters,
        response=response, sizes=sizes, error=error, address="s3.amazonaws.com", agent="s3.amazonaws.com",
        shared=f'"sharedEventID":"{ids.uuid(32)}",' if crosses else "",
    )  # fmt: skip


def _created(version_id: str) -> str:
    return f'{{"x-amz-server-side-encryption":"AES256","x-amz-version-id":"{version_id}"}}'


def _sizes(received: int, size: int, ids: Ids) -> str:
    # CloudTrail writes byte counts with and without a fraction.
    fraction = ".0" if ids.hex[90] < "8" else ""
    return f'"bytesTransferredIn":{received}{fraction},"objectSize":{size},"SSEApplied":"Default_SSE_S3",'


def call(  # noqa: PLR0913, PLR0917 - the slots of one text
    ids: Ids, at: int, name: str, place: Place, key: str, recipient: str,
    *, identity: str, parameters: str = "", response: str = "null", sizes: str = '"bytesTransferredIn":0,',
    error: str = "", address: str | None = None, agent: str | None = None, shared: str = "", read_only: str = "false",
) -> str:  # fmt: skip
    """The record of one S3 API call; ``key`` is a JSON string, the parts in the middle are JSON with their commas."""
    bucket = place.bucket
    host = f"{bucket}.s3.{place.region}.amazonaws.com"
    event_id = ids.uuid(0) if recipient == place.account else ids.uuid(96)
    rows = (
        f'{{"type":"AWS::S3::Object","ARN":"arn:aws:s3:::{bucket}/{key[1:]}}}',
        f'{{"accountId":"{place.account}","type":"AWS::S3::Bucket","ARN":"arn:aws:s3:::{bucket}"}}',
    )
    first = ids.hex[91] < "8"
    return (
        f'{{"eventVersion":"1.11","userIdentity":{identity},"eventTime":"{whole_seconds(at)}",'
        f'"eventSource":"s3.amazonaws.com","eventName":"{name}","awsRegion":"{place.region}",'
        f'"sourceIPAddress":"{address or ids.address}","userAgent":"{agent or _AGENTS[int(ids.hex[92], 16) % 3]}",'
        f'{error}"requestParameters":{{"bucketName":"{bucket}","Host":"{host}",{parameters}"key":{key}}},'
        f'"responseElements":{response},"additionalEventData":{{"SignatureVersion":"SigV4",'
        f'"CipherSuite":"TLS_AES_128_GCM_SHA256",{sizes}"AuthenticationMethod":"AuthHeader",'
        f'"x-amz-id-2":"{ids.extended_id}","bytesTransferredOut":0}},"requestID":"{ids.request_id}",'
        f'"eventID":"{event_id}","readOnly":{read_only},"resources":[{rows[not first]},{rows[first]}],'
        f'"eventType":"AwsApiCall","managementEvent":false,"recipientAccountId":"{recipient}",{shared}'
        f'"eventCategory":"Data","tlsDetails":{{"tlsVersion":"TLSv1.3","cipherSuite":"TLS_AES_128_GCM_SHA256",'
        f'"clientProvidedHostHeader":"{host}"}}}}'
    )
