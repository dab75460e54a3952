"""What flows past a monitor without being evidence (``ignored``), and what is broken (``malformed``)."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from msgspec import structs

from crr_monitor.simulate import cloudtrail, eventbridge, notification
from crr_monitor.simulate.facts import Fact, What
from crr_monitor.simulate.texts import Ids, milliseconds, quote, sequencer, whole_seconds

if TYPE_CHECKING:
    from crr_monitor.simulate.plan import Kind, Layout

Noise: TypeAlias = Callable[[Fact, Ids], str]

UNVERSIONED = "unversioned"
TEST_EVENT = "test event"
OTHER_SERVICE = "other service"

_BREAKS_IN_LOGS = ("bucket", "key", "time")
_BREAKS = (*_BREAKS_IN_LOGS, "cut", "utf-8", "text")
_TEXT = b"Sep 21 09:45:53 forwarder[412]: connection reset by peer, 3 messages dropped"


def ignored(fact: Fact, ids: Ids) -> tuple[str, str]:
    """A message without evidence, and the name under which a monitor counts it."""
    choices = _NOISE[fact.version.kind]
    name, make = choices[fact.choice % len(choices)]
    return name, make(fact, ids)


def malformed(fact: Fact, ids: Ids, layout: Layout) -> bytes:
    """The write of the fact's version, broken; in a log file only such that the file around it stays whole."""
    breaks = _BREAKS_IN_LOGS if layout == "logs" else _BREAKS
    how = breaks[fact.choice % len(breaks)]
    if how == "text":
        return _TEXT
    whole = _write(structs.replace(fact, what=What.WRITE), ids)
    if how == "cut":
        return whole.encode()[: 40 + fact.choice % (len(whole) - 40)]
    if how == "utf-8":
        return whole.encode().replace(b'"key":"', b'"key":"\xff\xfe', 1)
    document = json.loads(whole)
    _remove(fact.version.kind, document, how)
    return json.dumps(document, separators=(",", ":")).encode()


def _write(fact: Fact, ids: Ids) -> str:
    kind = fact.version.kind
    if kind == "cloudtrail":
        return cloudtrail.record(fact, ids, fact.version.source.place.account)
    return notification.message(fact, ids) if kind == "notification" else eventbridge.event(fact, ids)


def _remove(kind: Kind, document: dict[str, Any], what: str) -> None:
    """Take bucket, key or time out of a message, from everywhere where a reader may find it."""
    if kind == "cloudtrail":
        fields, places = {"bucket": "bucketName", "key": "key", "time": "eventTime"}, document["requestParameters"]
        document.pop("resources")
        (document if what == "time" else places).pop(fields[what])
    elif kind == "notification":
        record = document["Records"][0]
        place = {"bucket": record["s3"], "key": record["s3"]["object"], "time": record}[what]
        place.pop({"bucket": "bucket", "key": "key", "time": "eventTime"}[what])
    else:
        document.pop("resources")
        place = {"bucket": document["detail"], "key": document["detail"]["object"], "time": document}[what]
        place.pop(what)


def _user_call(name: str, parameters: str, *, read_only: str = "false", error: str = "") -> Noise:
    def make(fact: Fact, ids: Ids) -> str:
        source = fact.version.source
        return cloudtrail.call(
            ids, fact.at, name, source.place, quote(fact.version.key), source.place.account, identity=source.identity,
            parameters=parameters.replace("VERSION", fact.version.version_id), read_only=read_only, error=error,
        )  # fmt: skip

    return make


def _replication_read(fact: Fact, ids: Ids) -> str:
    """S3's replication session reads what it copies: no write, although all its marks are on it."""
    source = fact.version.source
    return cloudtrail.call(
        ids, fact.at, "GetObject", source.place, quote(fact.version.key), source.place.account,
        identity=source.destinations[0].identity, parameters=f'"versionId":"{fact.version.version_id}",',
        address="s3.amazonaws.com", agent="s3.amazonaws.com", read_only="true",
    )  # fmt: skip


def _other_service(fact: Fact, ids: Ids) -> str:
    place = fact.version.source.place
    return (
        f'{{"eventVersion":"1.11","userIdentity":{fact.version.source.identity},"eventTime":"{whole_seconds(fact.at)}",'
        f'"eventSource":"ec2.amazonaws.com","eventName":"DescribeInstances","awsRegion":"{place.region}",'
        f'"sourceIPAddress":"{ids.address}","requestParameters":{{"instancesSet":{{}}}},"responseElements":null,'
        f'"requestID":"{ids.uuid(32)}","eventID":"{ids.uuid(0)}","readOnly":true,"eventType":"AwsApiCall",'
        f'"managementEvent":true,"recipientAccountId":"{place.account}","eventCategory":"Management"}}'
    )


def _test_event(fact: Fact, ids: Ids) -> str:
    return (
        f'{{"Service":"Amazon S3","Event":"s3:TestEvent","Time":"{milliseconds(fact.at)}",'
        f'"Bucket":"{fact.version.source.place.bucket}","RequestId":"{ids.request_id}","HostId":"{ids.extended_id}"}}'
    )


def _notification(name: str, facts: str) -> Noise:
    def make(fact: Fact, ids: Ids) -> str:
        version = fact.version
        return notification.record(
            ids, milliseconds(fact.at), name, version.source.place, notification.encoded_key(version),
            facts.replace("VERSION", version.version_id) + f'"sequencer":"{sequencer(fact.at, version.etag)}"',
            principal=version.source.principal, address=ids.address, owner=version.source.place.account,
        )  # fmt: skip

    return make


def _native(name: str, facts: str, tail: str) -> Noise:
    def make(fact: Fact, ids: Ids) -> str:
        version = fact.version
        place = version.source.place
        return eventbridge.envelope(
            ids, fact.at, name, place, quote(version.key), facts.replace("VERSION", version.version_id),
            requester=place.account, tail=tail,
        )  # fmt: skip

    return make


def _other_event(fact: Fact, ids: Ids) -> str:
    place = fact.version.source.place
    return (
        f'{{"version":"0","id":"{ids.uuid(0)}","detail-type":"EC2 Instance State-change Notification",'
        f'"source":"aws.ec2","account":"{place.account}","time":"{whole_seconds(fact.at)}","region":"{place.region}",'
        f'"resources":[],"detail":{{"instance-id":"i-{ids.hex[:17]}","state":"running"}}}}'
    )


_ETAG = '"eTag":"d41d8cd98f00b204e9800998ecf8427e",'
_DENIED = '"errorCode":"AccessDenied","errorMessage":"Access Denied",'
_NOISE: dict[Kind, tuple[tuple[str, Noise], ...]] = {
    "cloudtrail": (
        ("GetObject", _user_call("GetObject", '"versionId":"VERSION",', read_only="true")),
        ("GetObject", _replication_read),
        ("PutObjectTagging", _user_call("PutObjectTagging", '"tagging":"","versionId":"VERSION",')),
        ("PutObject with error", _user_call("PutObject", "", error=_DENIED)),
        (UNVERSIONED, _user_call("PutObject", "")),
        (OTHER_SERVICE, _other_service),
    ),
    "notification": (
        ("ObjectTagging:Put", _notification("ObjectTagging:Put", f'{_ETAG}"versionId":"VERSION",')),
        ("ObjectRestore:Completed", _notification("ObjectRestore:Completed", f'{_ETAG}"versionId":"VERSION",')),
        (UNVERSIONED, _notification("ObjectCreated:Put", f'"size":5,{_ETAG}')),
        (UNVERSIONED, _notification("ObjectCreated:Put", f'"size":5,{_ETAG}"versionId":"null",')),
        (UNVERSIONED, _notification("ObjectRemoved:Delete", '"versionId":null,')),
        (TEST_EVENT, _test_event),
    ),
    "eventbridge": (
        ("Object Tags Added", _native("Object Tags Added", '"version-id":"VERSION"', '"disclaimer":"none"')),
        ("Object Storage Class Changed", _native(
            "Object Storage Class Changed", '"size":5,"version-id":"VERSION"', '"destination-storage-class":"GLACIER"'
        )),
        (UNVERSIONED, _native("Object Created", '"size":5,"sequencer":"00AF"', '"reason":"PutObject"')),
        (UNVERSIONED, _native("Object Created", '"size":5,"version-id":"null"', '"reason":"CopyObject"')),
        (OTHER_SERVICE, _other_event),
    ),
}  # fmt: skip
