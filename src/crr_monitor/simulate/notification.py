"""S3 event notifications (``{"Records": [...]}``): writes, replicas, deletes, and S3's failures of replication."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote_plus

from crr_monitor.simulate.facts import Fact, What
from crr_monitor.simulate.lives import RETRYABLE_REASONS, Version
from crr_monitor.simulate.texts import Ids, milliseconds, sequencer

if TYPE_CHECKING:
    from crr_monitor.simulate.world import Place

_NAMES = ("Put", "Copy", "CompleteMultipartUpload", "Post")
_EMPTY_ETAG = "d41d8cd98f00b204e9800998ecf8427e"


def reason(fact: Fact) -> str:
    """S3's code for why the copy failed."""
    return RETRYABLE_REASONS[fact.choice % len(RETRYABLE_REASONS)]


def message(fact: Fact, ids: Ids) -> str:
    """The notification of a fact."""
    version = fact.version
    if fact.what is What.FAILURE:
        return _failure(fact, ids)
    place = version.source.place
    principal = version.source.principal
    address = ids.address
    if fact.what is What.REPLICA and fact.copy is not None:
        place = fact.copy.destination.place
        principal = fact.copy.destination.principal
        address = "s3.amazonaws.com"
    if fact.what is What.DELETE:
        name, facts = "ObjectRemoved:Delete", ""
    elif version.delete_marker:
        # Native notifications of a marker carry the ETag of nothing.
        name, facts = "ObjectRemoved:DeleteMarkerCreated", f'"eTag":"{_EMPTY_ETAG}",'
    else:
        name = f"ObjectCreated:{_NAMES[version.operation]}" if fact.what is What.WRITE else "ObjectCreated:Put"
        facts = f'"size":{version.size},"eTag":"{version.etag}",'
    return record(
        ids, milliseconds(fact.at), name, place, encoded_key(version),
        f'{facts}"versionId":"{version.version_id}","sequencer":"{sequencer(fact.at, version.etag)}"',
        principal=principal, address=address, owner=f"A{ids.hex[:12].upper()}",
    )  # fmt: skip


def encoded_key(version: Version) -> str:
    """The key as notifications carry it: form-encoded, slashes as they are."""
    return quote_plus(version.key, safe="/")


def _failure(fact: Fact, ids: Ids) -> str:
    version = fact.version
    place = version.source.place
    if fact.copy is None:
        text = "a failure without a copy has no destination"
        raise ValueError(text)
    to = fact.copy.destination
    event_data = (
        f',"replicationEventData":{{"replicationRuleId":"{to.rule_id}",'
        f'"destinationBucket":"arn:aws:s3:::{to.place.bucket}","s3Operation":"OBJECT_PUT",'
        f'"requestTime":"{milliseconds(version.written_at)}","failureReason":"{reason(fact)}"}}'
    )
    return record(
        ids, milliseconds(fact.at), "Replication:OperationFailedReplication", place, encoded_key(version),
        f'"size":{version.size},"eTag":"{version.etag}","versionId":"{version.version_id}",'
        f'"sequencer":"{sequencer(version.written_at, version.etag)}"',
        principal="s3.amazonaws.com", address="s3.amazonaws.com", owner=place.account, event_data=event_data,
    )  # fmt: skip


def record(  # noqa: PLR0913, PLR0917 - the slots of one text
    ids: Ids, time: str, name: str, place: Place, key: str, facts: str,
    *, principal: str, address: str, owner: str, event_data: str = "",
) -> str:  # fmt: skip
    """A message with one record; ``facts`` are the fields of its object after the key, as JSON without braces."""
    return (
        f'{{"Records":[{{"eventVersion":"2.6","eventSource":"aws:s3","awsRegion":"{place.region}",'
        f'"eventTime":"{time}","eventName":"{name}","userIdentity":{{"principalId":"{principal}"}},'
        f'"requestParameters":{{"sourceIPAddress":"{address}"}},"responseElements":{{'
        f'"x-amz-request-id":"{ids.request_id}","x-amz-id-2":"{ids.extended_id}"}},"s3":{{"s3SchemaVersion":"1.0",'
        f'"configurationId":"replication-status","bucket":{{"name":"{place.bucket}","ownerIdentity":{{'
        f'"principalId":"{owner}"}},"arn":"arn:aws:s3:::{place.bucket}"}},"object":{{"key":"{key}",{facts}}}}}'
        f"{event_data}}}]}}"
    )
