"""What the page shows: the contract's JSON, with what follows from it for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crr_monitor.core.failures import explain
from crr_monitor.core.model import Status, to_json
from crr_monitor.core.times import HOUR_MS, MINUTE_MS, format_time
from crr_monitor.process.figures import QUANTILES, Window, figures
from crr_monitor.serve.questions import QuestionError, read_object
from crr_monitor.stores.base import Query, system_clock

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crr_monitor.process.figures import Figures
    from crr_monitor.stores.base import Store

WINDOW_MS = 24 * HOUR_MS
WINDOWS = {"1h": HOUR_MS, "24h": WINDOW_MS, "7d": 7 * WINDOW_MS}
FAILED_SHOWN = 20
PENDING_SHOWN = 10
_SPARE_MS = 5 * MINUTE_MS
NOT_KNOWN = "(not known)"


def page_of(store: Store, given: Mapping[str, str], target_ms: int) -> dict[str, Any]:
    """Everything on the page that is read from the store, of one moment."""
    chosen = given.get("window", "24h")
    chosen = chosen if chosen in WINDOWS else "24h"
    as_of = system_clock()
    found = figures(store, Window(max(0, as_of - WINDOWS[chosen]), as_of + _SPARE_MS, as_of), target_ms=target_ms)
    body = found.to_json()
    body["groups"] = [complete(group) for group in body["groups"]]
    failed = [to_json(record) for record in store.records(Query(status=Status.FAILED, limit=FAILED_SHOWN))]
    overdue = overdue_of(store, as_of, target_ms)
    return {
        "stats": body,
        "window": chosen,
        "windows": tuple(WINDOWS),
        "totals": totals_of(body, found, earlier=bool(failed or overdue)),
        "reasons": reasons_of(body["groups"]),
        "failed": failed,
        "overdue": overdue,
        "search": search_of(store, given),
        "rules_known": bool(store.topology()),
        "as_of": format_time(as_of),
        "target_seconds": target_ms // 1_000,
    }


def complete(group: Mapping[str, Any]) -> dict[str, Any]:
    """A group in which nothing is absent: what is not known is ``None``, or has a name for people."""
    return {
        "rule_id": None,
        **group,
        "source": group.get("source", NOT_KNOWN),
        "destination": group.get("destination", NOT_KNOWN),
        "lag_seconds": {**{name: None for name, _ in QUANTILES}, **group["lag_seconds"]},
        "rpo": {"share": None, **group["rpo"]},
    }


def totals_of(body: Mapping[str, Any], found: Figures, *, earlier: bool) -> dict[str, Any]:
    """Sums over all pairs, and the one word for how it is: ``quiet``, ``well`` or ``trouble``.

    ``earlier``: something is failed or overdue, maybe of a version that was written before the window.
    """
    groups = body["groups"]
    total: dict[str, Any] = {
        name: sum(group[name] for group in groups)
        for name in ("objects", "bytes", "completed", "failed", "pending", "pending_bytes")
    }
    total["overdue"] = sum(group.backlog.overdue + group.marker_backlog.overdue for group in found.groups)
    for name in ("failed", "pending"):
        total[name] += sum(group.get("delete_markers", {}).get(name, 0) for group in groups)
    within = sum(group["rpo"]["within"] for group in groups)
    judged = within + sum(group["rpo"]["missed"] for group in groups)
    total["share"] = within / judged if judged else None
    oldest = [group["oldest_pending_seconds"] for group in groups if "oldest_pending_seconds" in group]
    total["oldest_pending_seconds"] = max(oldest, default=None)
    total["word"] = "trouble" if found.problems or earlier else "well" if groups else "quiet"
    total["earlier"] = earlier and not found.problems
    return total


def reasons_of(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Failures by pair and reason, the most frequent first, each with cause and fix where the catalogue has them."""
    found = []
    for group in groups:
        for reason, count in group["failed_by_reason"].items():
            known = explain(reason)
            row = {"source": group["source"], "destination": group["destination"], "reason": reason, "count": count}
            if known is not None:
                row |= {"cause": known.cause, "fix": known.fix, "retry": known.retry}
            found.append(row)
    return sorted(found, key=lambda row: (-row["count"], row["source"], row["destination"], row["reason"]))


def overdue_of(store: Store, as_of: int, target_ms: int) -> list[dict[str, Any]]:
    """The newest of those that are pending past their deadline."""
    query = Query(status=Status.PENDING, until=as_of - target_ms, limit=PENDING_SHOWN)
    return [to_json(record) for record in store.records(query)]


def search_of(store: Store, given: Mapping[str, str]) -> dict[str, Any] | None:
    """What was searched for and what was found; ``None`` where nothing was searched for."""
    name = given.get("object", "").strip()
    if not name:
        return None
    asked = name if name.startswith("s3://") else f"s3://{name}"
    try:
        return {"object": asked, "records": read_object({"object": asked}).answer(store), "problem": None}
    except QuestionError:
        return {"object": name, "records": [], "problem": "write it as s3://bucket/key, the key as it is"}
