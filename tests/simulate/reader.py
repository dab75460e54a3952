"""A monitor in its simplest form, for tests: reads messages as text and says what they prove."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Found = tuple[str, dict[str, Any]]
"""The kind of a record (``cloudtrail``, ``notification``, ``eventbridge``) and the record."""


def unwrap(body: bytes) -> Iterator[Found]:
    """All records of S3 within a message, whatever it is wrapped in."""
    yield from _open(json.loads(body))


def _open(document: dict[str, Any]) -> Iterator[Found]:
    if "Records" in document:
        for record in document["Records"]:
            yield from _open(record)
    elif "Sns" in document:
        yield from _open(document["Sns"])
    elif document.get("Type") == "Notification":
        yield from _open(json.loads(document["Message"]))
    elif "body" in document or "Body" in document:
        yield from _open(json.loads(document.get("body") or document["Body"]))
    elif "s3" in document:
        yield "notification", document
    elif document.get("detail-type", "").endswith("via CloudTrail"):
        yield from _open(document["detail"])
    elif "detail" in document:
        yield "eventbridge", document
    elif document.get("eventSource") == "s3.amazonaws.com":
        yield "cloudtrail", document


def sightings(bodies: Iterable[bytes]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """What each message tells, by (key, version id): the event's name, bucket, time, and what else is known."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    readers = {"cloudtrail": _cloudtrail, "notification": _notification, "eventbridge": _eventbridge}
    for body in bodies:
        for kind, record in unwrap(body):
            fact = readers[kind](record)
            if fact is not None and fact["version"] not in {None, "null"}:
                found.setdefault((fact["key"], fact["version"]), []).append(fact)
    return found


def _cloudtrail(record: dict[str, Any]) -> dict[str, Any] | None:
    request, response = record["requestParameters"], record["responseElements"] or {}
    name = record["eventName"]
    service = record["userIdentity"].get("invokedBy") == "s3.amazonaws.com"
    fact = {"bucket": request["bucketName"], "key": request["key"], "at": record["eventTime"], "kind": "cloudtrail"}
    if "errorCode" in record:
        if not service:
            return None
        fact |= {"what": "failure", "to": fact["bucket"], "reason": record["errorMessage"], "evidence": "denied-call"}
        return {**fact, "version": request["x-amz-version-id"]}
    if name == "DeleteObject" and "versionId" in request:
        return {**fact, "what": "delete", "version": request["versionId"]}
    if name not in {"PutObject", "CopyObject", "CompleteMultipartUpload", "PostObject", "DeleteObject"}:
        return None
    return {
        **fact,
        "what": "write",
        "version": response.get("x-amz-version-id"),
        "marker": name == "DeleteObject",
        "size": record["additionalEventData"].get("objectSize"),
    }


def _notification(record: dict[str, Any]) -> dict[str, Any] | None:
    item, name = record["s3"]["object"], record["eventName"]
    fact = {
        "bucket": record["s3"]["bucket"]["name"],
        "key": unquote_plus(item["key"]),
        "version": item.get("versionId"),
        "at": record["eventTime"],
        "size": item.get("size"),
        "etag": item.get("eTag"),
        "kind": "notification",
    }
    if name == "Replication:OperationFailedReplication":
        data = record["replicationEventData"]
        to = data["destinationBucket"].removeprefix("arn:aws:s3:::")
        fact |= {"what": "failure", "to": to, "reason": data["failureReason"], "evidence": "failure-event"}
        return {**fact, "requested": data["requestTime"]}
    if name == "ObjectRemoved:Delete":
        return {**fact, "what": "delete"}
    marker = name == "ObjectRemoved:DeleteMarkerCreated"
    return {**fact, "what": "write", "marker": marker} if marker or name.startswith("ObjectCreated:") else None


def _eventbridge(event: dict[str, Any]) -> dict[str, Any] | None:
    detail = event["detail"]
    if event["detail-type"] not in {"Object Created", "Object Deleted"}:
        return None
    item = detail["object"]
    fact = {
        "bucket": detail["bucket"]["name"],
        "key": item["key"],
        "version": item.get("version-id"),
        "at": event["time"],
        "size": item.get("size"),
        "etag": item.get("etag"),
        "kind": "eventbridge",
    }
    if detail.get("deletion-type") == "Permanently Deleted":
        return {**fact, "what": "delete"}
    return {**fact, "what": "write", "marker": event["detail-type"] == "Object Deleted"}


def records(bodies: Iterable[bytes], topology: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The record of each version that has one, by version id, derived from the messages and the topology alone."""
    places = {entry["bucket"]: entry for entry in topology}
    rules = {
        (entry["bucket"], rule["Destination"]["Bucket"].removeprefix("arn:aws:s3:::")): rule
        for entry in topology
        for rule in entry.get("ReplicationConfiguration", {}).get("Rules", [])
    }
    found = {}
    for (key, version), facts in sightings(bodies).items():
        record = _record(key, version, facts, places, rules)
        if record is not None:
            found[version] = record
    return found


def _record(
    key: str, version: str, facts: list[dict[str, Any]], places: dict[str, Any], rules: dict[tuple[str, str], Any]
) -> dict[str, Any] | None:
    named = {fact.get("to", fact["bucket"]) for fact in facts}
    (source,) = {pair[0] for pair in rules if pair[0] in named or pair[1] in named}
    writes = [fact for fact in facts if fact["what"] == "write"]
    marker = any(fact["marker"] for fact in writes)
    taken = {
        to: rule
        for (bucket, to), rule in rules.items()
        if bucket == source and key.startswith(rule["Filter"]["Prefix"])
        if not marker or rule["DeleteMarkerReplication"]["Status"] == "Enabled"
    }
    if not taken:
        return None
    home = [fact for fact in writes if fact["bucket"] == source]
    failures = [fact for fact in facts if fact["what"] == "failure"]
    times = sorted({fact["at"] for fact in home} | {fact["requested"] for fact in failures if "requested" in fact})
    record: dict[str, Any] = {
        "source": {name: places[source][name] for name in ("account", "region", "bucket")},
        "key": key,
        "version_id": version,
        "operation": "delete_marker" if marker else "put",
    }
    telling = [fact for fact in home + failures if fact.get("etag")]
    sizes = [fact["size"] for fact in facts if fact.get("size") is not None]
    if not marker:
        record["size"] = sizes[0]
        record |= {"etag": telling[0]["etag"]} if telling else {}
    # Of two times within one second the text with the fraction is the finer one, and sorts first ("." before "Z").
    record |= {"written_at": _long(times[0])} if times else {}
    gone = any(fact["what"] == "delete" for fact in facts)
    record["destinations"] = [
        {
            **{name: places[to][name] for name in ("bucket", "account", "region")},
            "rule_id": rule["ID"],
            **_outcome(
                sorted(fact["at"] for fact in writes if fact["bucket"] == to),
                [fact for fact in failures if fact["to"] == to],
                times[0] if times else None,
                unsettled="SOURCE_DELETED" if gone else "PENDING",
            ),
        }
        for to, rule in taken.items()
    ]
    shown = times[:1] + [fact["at"] for fact in failures + [one for one in writes if one["bucket"] != source]]
    record["time_precision"] = 0.001 if all("." in time for time in shown) else 1.0
    statuses = [copy["status"] for copy in record["destinations"]]
    record["status"] = next(one for one in ("FAILED", "PENDING", "COMPLETED", "SOURCE_DELETED") if one in statuses)
    return record


def _outcome(
    arrivals: list[str], failures: list[dict[str, Any]], written_at: str | None, *, unsettled: str
) -> dict[str, Any]:
    outcome: dict[str, Any] = {"status": unsettled}
    if failures:
        last = max(failures, key=lambda fact: str(fact["at"]))
        outcome |= {"status": "FAILED", "failed_at": _long(last["at"]), "failure_reason": last["reason"]}
        outcome["evidence"] = last["evidence"]
    if arrivals:
        outcome |= {"status": "COMPLETED", "replicated_at": _long(arrivals[0]), "evidence": "replica-event"}
        if written_at is not None:
            outcome["lag_seconds"] = max(0.0, (moment(arrivals[0]) - moment(written_at)).total_seconds())
    return outcome


def moment(text: str) -> datetime:
    """The instant that a message names."""
    return datetime.fromisoformat(text).astimezone(UTC)


def _long(text: str) -> str:
    return text if "." in text else text.replace("Z", ".000Z")
