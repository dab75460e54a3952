"""What the tests of the archive share: archives of some events, or of a simulated stream, and their copies."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from crr_monitor.core.archive import all_rows
from crr_monitor.core.status import derive
from crr_monitor.core.topology import Topology
from crr_monitor.core.topology_document import parse_topology
from crr_monitor.decode import Decoded, decode
from crr_monitor.history.ask import ask, opened
from crr_monitor.history.layout import Folder
from crr_monitor.history.write import write_rows
from crr_monitor.process.collect import collect
from crr_monitor.simulate import Plan, messages, topology, truth
from tests.factories import AT, record_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from crr_monitor.core.archive import ArchiveRow
    from crr_monitor.core.events import Event
    from crr_monitor.core.evidence import Evidence
    from crr_monitor.core.model import Record

RECORDED = AT + 7_200_000
"""When rows are recorded, if a test does not say: two hours after the ordinary version was written."""


def rows_of(*events: Event, at: int = RECORDED) -> list[ArchiveRow]:
    """All copies of one version as rows; what is pending is open."""
    return list(all_rows(record_of(*events), at, "open"))


def archived(folder: Path, rows: Iterable[ArchiveRow], name: str = "test") -> Path:
    """An archive with these rows."""
    write_rows(rows, Folder(folder), name)
    return folder


def asked(folder: Path, sql: str) -> list[dict[str, Any]]:
    """The answer to a query as dictionaries."""
    with opened(folder, folder / ".work") as database:
        answer = ask(database, sql)
        return [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]


def simulated(plan: Plan) -> tuple[list[Record], int]:
    """The records of a simulated stream by the core, and the newest event's time."""
    decoded = Decoded()
    for _, message in messages(plan):
        decode(message, decoded)
    evidence: dict[tuple[str, str], Evidence] = {}
    rules = Topology().learn(parse_topology(json.loads(json.dumps(topology(plan)))), 0)
    newest = collect(decoded.events, rules, evidence)
    return [derive(part) for part in evidence.values()], newest or 0


def true_copies(plan: Plan) -> Iterator[dict[str, Any]]:
    """The copies of the truth, flat and with unknown as ``None``: what each row of ``copies`` has to say."""
    for record in truth(plan):
        for copy in record["destinations"]:
            yield {
                "source_bucket": record["source"]["bucket"],
                "key": record["key"],
                "version_id": record["version_id"],
                "operation": record["operation"],
                "size": record.get("size"),
                "written_at": record.get("written_at"),
                "destination_bucket": copy["bucket"],
                "destination_region": copy["region"],
                "rule_id": copy["rule_id"],
                "status": copy["status"],
                "replicated_at": copy.get("replicated_at"),
                "lag_seconds": copy.get("lag_seconds"),
                "failed_at": copy.get("failed_at"),
                "failure_reason": copy.get("failure_reason"),
                "evidence": copy.get("evidence"),
                "time_precision": record["time_precision"],
            }


TRUE_COLUMNS = (
    "source_bucket, key, version_id, operation, size, written_at, destination_bucket, destination_region, rule_id,"
    " status, replicated_at, lag_seconds, failed_at, failure_reason, evidence, time_precision"
)


def in_order(copies: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Copies sorted by what they are, to be compared."""
    return sorted(copies, key=lambda copy: (copy["key"], copy["version_id"], copy["destination_bucket"] or ""))
