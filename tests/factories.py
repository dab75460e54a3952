"""Makers of events, topologies, evidence and batches; what a test does not state is ordinary.

The ordinary version is written in ``orders`` at :data:`AT` and goes to ``orders-dr``; times are milliseconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crr_monitor.core.events import Answered, Awaited, Confirmed, Deleted, Failed, Mark, Written
from crr_monitor.core.interpret import interpret
from crr_monitor.core.merge import merge
from crr_monitor.core.status import derive
from crr_monitor.core.topology import BucketConfig, Rule, Topology
from crr_monitor.stores.base import Batch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from crr_monitor.core.events import Event
    from crr_monitor.core.evidence import Evidence
    from crr_monitor.core.model import Copy, Record

SOURCE = "orders"
REPLICA = "orders-dr"
AUDIT = "orders-audit"
KEY = "2026/11/22/a b+c é.txt"
VERSION = "3v567TKlEQF5IBoeXrFBRiRX8vY.bY1m"
AT = 1_795_330_800_000
"""2026-11-22T07:00:00Z"""


def _made(kind: type[Any], defaults: dict[str, Any], fields: dict[str, Any]) -> Any:  # noqa: ANN401 - one of many events
    return kind(**{"key": KEY, "version_id": VERSION, "at": AT, **defaults, **fields})


def written(bucket: str = SOURCE, **fields: Any) -> Written:  # noqa: ANN401 - any field of the event
    """A write whose message does not tell roles."""
    event: Written = _made(Written, {"bucket": bucket, "whole_seconds": False, "mark": Mark.UNKNOWN}, fields)
    return event


def user_write(bucket: str = SOURCE, **fields: Any) -> Written:  # noqa: ANN401
    """A write that certainly was not replication's."""
    return written(bucket, **{"mark": Mark.SOURCE, **fields})


def replica(bucket: str = REPLICA, **fields: Any) -> Written:  # noqa: ANN401
    """A write with the marks of the replication service, ten seconds after the source's."""
    return written(bucket, **{"mark": Mark.REPLICA, "at": AT + 10_000, **fields})


def deleted(bucket: str = SOURCE, **fields: Any) -> Deleted:  # noqa: ANN401
    """The version is deleted for good a minute after it was written."""
    event: Deleted = _made(Deleted, {"bucket": bucket, "at": AT + 60_000, "whole_seconds": False}, fields)
    return event


def failed(destination: str | None = REPLICA, **fields: Any) -> Failed:  # noqa: ANN401
    """S3 reports at the source, 30 seconds after the write, that replication failed."""
    defaults = {
        "source": SOURCE,
        "destination": destination,
        "at": AT + 30_000,
        "whole_seconds": False,
        "label": "failure-event",
        "reason": "DstKmsKeyNotFound",
    }
    event: Failed = _made(Failed, defaults, fields)
    return event


def denied_read(**fields: Any) -> Failed:  # noqa: ANN401
    """The replication service may not read the version at the source: no destination is named."""
    defaults = {"label": "denied-call", "reason": "not authorized to perform: s3:GetObjectVersionForReplication"}
    return failed(None, **{**defaults, **fields})


def denied_write(destination: str = REPLICA, **fields: Any) -> Failed:  # noqa: ANN401
    """The replication service may not write at the destination: no source is named."""
    defaults = {"source": None, "label": "denied-call", "reason": "not authorized to perform: s3:ReplicateObject"}
    return failed(destination, **{**defaults, **fields})


def confirmed(destination: str | None = REPLICA, **fields: Any) -> Confirmed:  # noqa: ANN401
    """The source's side says, 20 minutes after the write, that the copy arrived."""
    defaults = {"source": SOURCE, "destination": destination, "at": AT + 1_200_000, "whole_seconds": False}
    event: Confirmed = _made(Confirmed, defaults, fields)
    return event


def awaited(destination: str = REPLICA, **fields: Any) -> Awaited:  # noqa: ANN401
    """S3 says, 15 minutes after the write, that the copy is still to come."""
    defaults = {"source": SOURCE, "destination": destination, "at": AT + 900_000, "whole_seconds": False}
    event: Awaited = _made(Awaited, defaults, fields)
    return event


def answered(says: str, bucket: str = SOURCE, **fields: Any) -> Answered:  # noqa: ANN401
    """S3 was asked about the version an hour later."""
    event: Answered = _made(Answered, {"bucket": bucket, "says": says, "at": AT + 3_600_000}, fields)
    return event


def rule(destination: str = REPLICA, **fields: Any) -> Rule:  # noqa: ANN401
    """A rule that takes everything but delete markers and KMS-encrypted objects; its id is the destination's name."""
    return Rule(**{"rule_id": f"to-{destination}", "destination": destination, **fields})


def config(*rules: Rule, bucket: str = SOURCE, **fields: Any) -> BucketConfig:  # noqa: ANN401
    """A bucket with rules that have always counted."""
    return BucketConfig(**{"bucket": bucket, "rules": rules, **fields})


ONE_WAY = Topology([config(rule())])
TWO_DESTINATIONS = Topology([config(rule(), rule(AUDIT))])
TWO_WAY = Topology([config(rule()), config(rule(SOURCE), bucket=REPLICA)])
BY_TAG = Topology([config(rule(tags=(("class", "gold"),)))])
INFERRED = Topology()
"""Nothing is known of rules."""


def evidence_of(*events: Event, topology: Topology = ONE_WAY) -> Evidence:
    """All that some events about one version tell. A test that wants none at all asks ``interpret`` itself."""
    parts = [part for part in (interpret(event, topology) for event in events) if part is not None]
    merged = parts[0]
    for part in parts[1:]:
        merged = merge(merged, part)
    return merged


def record_of(*events: Event, topology: Topology = ONE_WAY) -> Record:
    """The record that follows from some events."""
    return derive(evidence_of(*events, topology=topology))


def copy_of(*events: Event, topology: Topology = ONE_WAY) -> Copy:
    """The only copy of the record that follows from some events."""
    (copy,) = record_of(*events, topology=topology).copies
    return copy


def batch_of(*events: Event, topology: Topology = ONE_WAY, **fields: Any) -> Batch:  # noqa: ANN401
    """Events as one step of a change, merged by version."""
    return Batch(evidence=merged_by_version(events, topology), **fields)


def merged_by_version(events: Iterable[Event], topology: Topology) -> dict[tuple[str, str], Evidence]:
    """Evidence of some events by key and version id."""
    found: dict[tuple[str, str], Evidence] = {}
    for event in events:
        news = interpret(event, topology)
        if news is not None:
            version = (event.key, event.version_id)
            known = found.get(version)
            found[version] = news if known is None else merge(known, news)
    return found
