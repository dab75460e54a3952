"""The figures of ``crr-monitor stats`` for people, and as flat rows."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from crr_monitor.cli.tables import Column, Row, paragraph, show
from crr_monitor.cli.words import duration_text, seconds_text, share_text, time_text
from crr_monitor.core.failures import explain
from crr_monitor.process.figures import AGES, QUANTILES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crr_monitor.process.clock import Clock
    from crr_monitor.process.figures import Figures, Group

_COUNTS = ("objects", "completed", "failed", "failed_by_reason", "source_deleted", "not_eligible", "pending")
_LAGS = tuple(f"lag_seconds_{name}" for name, _ in QUANTILES)

FIELDS = (
    *("since", "until", "as_of", "clock", "newest_event_at"),
    *("source", "destination", "rule_id", "objects", "bytes", "completed", "failed"),
    *("failed_by_reason", "source_deleted", "not_eligible", "pending", "pending_bytes"),
    *(f"pending_by_age_{name}" for name, _ in AGES),
    *("oldest_pending_seconds", "expired", *_LAGS),
    *(f"rpo_{name}" for name in ("target_seconds", "within", "missed", "unknown", "share")),
    *(f"delete_markers_{name}" for name in (*_COUNTS, "overdue", "expired", *_LAGS)),
)
"""Columns of the flat row of a group: names of the JSON, inner ones behind outer ones."""


def flat_group(group: dict[str, Any]) -> dict[str, Any]:
    """The flat row of a group; the failures by reason, whose names are open, stay one value."""
    return dict(_flat(group, ""))


def _flat(body: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in body.items():
        if isinstance(value, dict) and name != "failed_by_reason":
            yield from _flat(value, f"{prefix}{name}_")
        else:
            yield prefix + name, value


def show_figures(figures: Figures, body: dict[str, Any], clock: Clock) -> None:
    """Print everything: the header, a line for each group, and below it what is broken or late."""
    since, until = body.get("since", "the beginning"), body.get("until", "now on")
    paragraph(f"Written from {_short(since)} to {_short(until)}, as of {_short(body['as_of'])}{_which(clock)}", "")
    groups = list(zip(figures.groups, body["groups"], strict=True))
    if not groups:
        return
    click.echo()
    show(_main_columns(figures), (_main_row(group, json) for group, json in groups))
    _notes(groups)
    _failures(groups)
    _backlog(groups)
    _markers(groups)


def _which(clock: Clock) -> str:
    if clock.kind == "newest-event":
        return " (the newest event: these are old logs)"
    if clock.quiet_ms is not None:
        return f" (now; the newest event is of {time_text(clock.newest)} UTC, {duration_text(clock.quiet_ms)} ago)"
    return " (now)" if clock.kind == "now" else " (--as-of)"


def _short(time: str) -> str:
    return time.replace("T", " ").replace(":00.000Z", " UTC").replace(".000Z", " UTC").replace("Z", " UTC")


def _name(group: Group) -> str:
    if group.source is None or group.destination is None:
        return (group.source if group.destination is None else group.destination) or "(not known)"
    return f"{group.source or '(not known)'} -> {group.destination or '(not known)'}"


def _main_columns(figures: Figures) -> tuple[Column, ...]:
    first = figures.groups[0]
    title = "SOURCE" if first.destination is None else "DESTINATION" if first.source is None else "PAIR"
    right = ("OBJECTS", "COMPLETED", "FAILED", "PENDING", "OLDEST", "P50", "P90", "P99", "MAX")
    return (
        Column(title, fold=True),
        *(Column(name, right=True, wide=name in {"P90", "MAX"}) for name in right),
        Column(f"RPO {duration_text(figures.target_ms)}", right=True),
    )


def _main_row(group: Group, json: dict[str, Any]) -> Row:
    counts = tuple(f"{json[name]:,}" for name in ("objects", "completed", "failed", "pending"))
    oldest = seconds_text(json.get("oldest_pending_seconds"))
    return Row((_name(group), *counts, oldest, *_lags(json), share_text(json["rpo"].get("share"))))


def _lags(json: dict[str, Any]) -> tuple[str, ...]:
    return tuple(seconds_text(json["lag_seconds"].get(name)) for name, _ in QUANTILES)


def _notes(groups: list[tuple[Group, dict[str, Any]]]) -> None:
    """What the lines leave out."""
    told = (
        ("source_deleted", "deleted at the source before a replica was seen"),
        ("not_eligible", "not eligible, says S3"),
        ("expired", "given up: pending for longer than the retention"),
    )
    lines = [
        f"{_name(group)}: {json[field]:,} {words}" for group, json in groups for field, words in told if json[field]
    ]
    lines += [
        f"{_name(group)}: {json['rpo']['unknown']:,} completed, when is not known"
        for group, json in groups
        if json["rpo"]["unknown"]
    ]
    if lines:
        _heading("Besides")
    for line in lines:
        paragraph(line, "  ")


def _failures(groups: list[tuple[Group, dict[str, Any]]]) -> None:
    counts: Counter[str] = Counter()
    where: dict[str, list[str]] = {}
    for group, json in groups:
        markers = json.get("delete_markers", {}).get("failed_by_reason", {})
        for reason, count in (Counter(json["failed_by_reason"]) + Counter(markers)).items():
            counts[reason] += count
            where.setdefault(reason, []).append(f"{_name(group)} {count:,}")
    if counts:
        _heading("Failures by reason (delete markers included)")
    for reason, count in counts.most_common():
        known = explain(reason)
        paragraph(f"{reason}: {count:,} ({', '.join(where[reason])})", "  ")
        paragraph(
            f"fix: {known.fix if known else 'not in the catalogue of reasons; look at one with `status`'}", "    "
        )


def _heading(title: str) -> None:
    click.echo()
    click.echo(click.style(title, bold=True))


def _backlog(groups: list[tuple[Group, dict[str, Any]]]) -> None:
    late = [(group, json) for group, json in groups if json["pending"]]
    if not late:
        return
    _heading("Pending by age")
    columns = (Column("", fold=True), *(Column(name, right=True) for name, _ in AGES), Column("OVERDUE", right=True))
    show(
        columns,
        (
            Row(
                (
                    _name(group),
                    *(f"{count:,}" for count in json["pending_by_age"].values()),
                    f"{group.backlog.overdue:,}",
                )
            )
            for group, json in late
        ),
    )


def _markers(groups: list[tuple[Group, dict[str, Any]]]) -> None:
    marked = [(group, json["delete_markers"]) for group, json in groups if "delete_markers" in json]
    if not marked:
        return
    _heading("Delete markers")
    names = ("objects", "completed", "failed", "pending", "overdue")
    titles = ("MARKERS", "COMPLETED", "FAILED", "PENDING", "OVERDUE", "P50", "P90", "P99", "MAX")
    columns = (Column("", fold=True), *(Column(name, right=True, wide=name in {"P90", "MAX"}) for name in titles))
    show(
        columns,
        (Row((_name(group), *(f"{json[name]:,}" for name in names), *_lags(json))) for group, json in marked),
    )
