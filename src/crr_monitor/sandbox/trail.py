"""CloudTrail: records of S3 calls, and their way to EventBridge where a logging trail covers them.

Record fields: CloudTrail User Guide, "CloudTrail record contents", S3 User Guide, "Amazon S3 CloudTrail events", and
captured records, those of replica writes in particular.
"""

# ruff: noqa: SLF001 - the emulator has no public interface to extend

from __future__ import annotations

import json
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from crr_monitor.sandbox import organization, points, selectors
from crr_monitor.sandbox.notifications import seconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from crr_monitor.sandbox.model import Requester

_events = points.module("services.eventbridge")
_trails = points.module("services.cloudtrail")

_READS = ("Get", "Head", "List")


@dataclass(frozen=True)
class ApiCall:
    """One call of S3, as CloudTrail sees it: ``account`` and ``region`` of the bucket; no ``key``: about a bucket."""

    name: str
    account: str
    region: str
    bucket: str
    key: str | None
    requester: Requester
    parameters: dict[str, Any] = field(default_factory=dict)
    answer: dict[str, Any] | None = None
    bytes_in: int = 0
    object_size: int | None = None
    error: tuple[str, str] | None = None
    data: bool = True

    @property
    def read_only(self) -> bool:
        """Whether the call changes nothing."""
        return self.name.startswith(_READS)


def _logging_trails(account: str, region: str) -> list[list[dict[str, Any]]]:
    """The selectors of every trail of the account that logs in the Region: its own, or its organization's."""
    own = [(home, name, each) for (holder, home, name), each in _trails._trails.all_items() if holder == account]
    found = []
    for home, name, each in own + organization.trails(account):
        if each.get("IsLogging") and (home == region or each.get("IsMultiRegionTrail")):
            holder = each["TrailARN"].split(":")[4]
            stored = _trails._event_selectors.get_scoped(holder, home, name, None)
            found.append(stored or _trails._DEFAULT_EVENT_SELECTORS)
    return found


def covered(call: ApiCall, account: str) -> bool:
    """Whether a trail of ``account`` logs the call in the Region in which it was made."""
    seen = selectors.Call(
        call.name,
        f"arn:aws:s3:::{call.bucket}/{call.key or ''}",
        call.read_only,
        call.data,
        str(call.requester.seen_by(account).get("arn", "")),
    )
    return any(selectors.logged(stored, seen) for stored in _logging_trails(account, call.region))


def _resources(call: ApiCall) -> list[dict[str, str]]:
    bucket = {"accountId": call.account, "type": "AWS::S3::Bucket", "ARN": f"arn:aws:s3:::{call.bucket}"}
    if call.key is None:
        return [bucket]
    return [{"type": "AWS::S3::Object", "ARN": f"arn:aws:s3:::{call.bucket}/{call.key}"}, bucket]


def record(call: ApiCall, recipient: str, at: float, request_id: str, shared_id: str | None) -> dict[str, Any]:
    """The record of a call as delivered to the account ``recipient``."""
    additional: dict[str, Any] = {
        "SignatureVersion": "SigV4",
        "CipherSuite": "TLS_AES_128_GCM_SHA256",
        "bytesTransferredIn": float(call.bytes_in),
        "AuthenticationMethod": "AuthHeader",
        "x-amz-id-2": request_id * 2,
        "bytesTransferredOut": 0.0,
    }
    if call.object_size is not None:
        additional["objectSize"] = call.object_size
    parameters = {"bucketName": call.bucket, "Host": f"{call.bucket}.s3.{call.region}.amazonaws.com"}
    document: dict[str, Any] = {
        "eventVersion": "1.11",
        "userIdentity": call.requester.seen_by(recipient),
        "eventTime": seconds(at),
        "eventSource": "s3.amazonaws.com",
        "eventName": call.name,
        "awsRegion": call.region,
        "sourceIPAddress": call.requester.address,
        "userAgent": call.requester.agent,
        "requestParameters": {**parameters, **({} if call.key is None else {"key": call.key}), **call.parameters},
        "responseElements": None if call.error else call.answer,
        "additionalEventData": additional,
        "requestID": request_id,
        "eventID": str(uuid.uuid4()),
        "readOnly": call.read_only,
        "resources": _resources(call),
        "eventType": "AwsApiCall",
        "managementEvent": not call.data,
        "recipientAccountId": recipient,
        "eventCategory": "Data" if call.data else "Management",
    }
    if call.error:
        document |= {"errorCode": call.error[0], "errorMessage": call.error[1]}
    if shared_id:
        document["sharedEventID"] = shared_id
    return document


def _deliver(document: dict[str, Any]) -> None:
    _events._dispatch_event(
        {
            "EventId": str(uuid.uuid4()),
            "Source": "aws.s3",
            "DetailType": "AWS API Call via CloudTrail",
            "Detail": json.dumps(document),
            "EventBusName": "default",
            "Time": document["eventTime"],
            "Resources": [],
            "Account": document["recipientAccountId"],
            "Region": document["awsRegion"],
        }
    )


def tell(call: ApiCall, request_id: str, send: Callable[[str, ApiCall, str, Callable[[], None]], None]) -> None:
    """Deliver the record to the default buses of the bucket's and of the requester's account, where a trail logs it.

    CloudTrail User Guide, "Amazon S3 CloudTrail events": a cross-account call is delivered to both accounts, with the
    same ``sharedEventID``. EventBridge User Guide, "AWS service events delivered via CloudTrail": read-only
    management events do not reach EventBridge.
    """
    if call.read_only and not call.data:
        return
    at = time.time()
    recipients = sorted({call.account, call.requester.account} - {""})
    shared_id = str(uuid.uuid4()) if len(recipients) > 1 else None
    for recipient in recipients:
        if covered(call, recipient):
            document = record(call, recipient, at, request_id, shared_id)
            send("trail", call, recipient, lambda document=document: _deliver(document))  # type: ignore[misc]
