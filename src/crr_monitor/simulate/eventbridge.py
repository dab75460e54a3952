"""S3's own events on EventBridge. Nothing in them tells a replica from a write, and none tells of a failure."""

from __future__ import annotations

from json.encoder import encode_basestring_ascii as quote
from typing import TYPE_CHECKING

from crr_monitor.simulate.facts import Fact, What
from crr_monitor.simulate.texts import Ids, sequencer, whole_seconds

if TYPE_CHECKING:
    from crr_monitor.simulate.world import Place

_REASONS = ("PutObject", "CopyObject", "CompleteMultipartUpload", "POST Object")


def event(fact: Fact, ids: Ids) -> str:
    """The event of a write, an arrival or a delete; failures are notifications (:mod:`.notification`)."""
    version = fact.version
    place = version.source.place if fact.copy is None else fact.copy.destination.place
    name, tail = "Object Deleted", f'"reason":"DeleteObject","deletion-type":"{_deletion(fact)}"'
    facts = ""
    if fact.what is not What.DELETE and not version.delete_marker:
        reason = _REASONS[version.operation] if fact.what is What.WRITE else "PutObject"
        name, tail = "Object Created", f'"reason":"{reason}"'
        facts = f'"size":{version.size},"etag":"{version.etag}",'
    facts += f'"version-id":"{version.version_id}","sequencer":"{sequencer(fact.at, version.etag)}"'
    return envelope(
        ids, fact.at, name, place, quote(version.key), facts, requester=version.source.place.account, tail=tail
    )


def _deletion(fact: Fact) -> str:
    return "Permanently Deleted" if fact.what is What.DELETE else "Delete Marker Created"


def envelope(  # noqa: PLR0913, PLR0917 - the slots of one text
    ids: Ids, at: int, name: str, place: Place, key: str, facts: str, *, requester: str, tail: str
) -> str:
    """An event about one object; ``key`` is a JSON string, ``facts`` and ``tail`` are fields without braces."""
    return (
        f'{{"version":"0","id":"{ids.uuid(0)}","detail-type":"{name}","source":"aws.s3","account":"{place.account}",'
        f'"time":"{whole_seconds(at)}","region":"{place.region}","resources":["arn:aws:s3:::{place.bucket}"],'
        f'"detail":{{"version":"0","event-version":"1.2","bucket":{{"name":"{place.bucket}"}},'
        f'"object":{{"key":{key},{facts}}},"request-id":"{ids.request_id}","requester":"{requester}",'
        f'"source-ip-address":"{ids.address}",{tail}}}}}'
    )
