"""The monthly report's numbers: attained RPO, lags, failures, backlog, and how complete the evidence for them is.

Everything is counted in SQL over the month's copies; here the figures are only put together.
"""

from __future__ import annotations

import re
from collections import defaultdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from crr_monitor.core.times import format_time, to_milliseconds
from crr_monitor.history.ask import plain
from crr_monitor.history.driver import HistoryError, text
from crr_monitor.history.evidence import Sights, places_of
from crr_monitor.history.queries import PAIR, QUANTILES, SLA_SECONDS, quantiles, verdict
from crr_monitor.history.tallies import CHOSEN, LAGS, TALLIES, prepare
from crr_monitor.history.views import Span, timestamp

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from crr_monitor.core.coverage import Stretch
    from crr_monitor.history.driver import Database

STEPS = ((0.999, "99.9 % or more"), (0.98, "98 to 99.9 %"), (0.95, "95 to 98 %"), (0.0, "below 95 %"))
"""The steps of the S3 Replication Time Control SLA: lower end of the attained share, and the step's name."""

SHOWN_PAIRS = 10
"""How many pairs are named to who asked for one that is not there."""

_MONTH = re.compile(r"(\d{4})-(0[1-9]|1[0-2])")
_FAILED = "(status = 'FAILED' OR (status = 'COMPLETED' AND repaired))"

Pair = tuple[str | None, str | None]


class Wanted(Struct, frozen=True):
    """What the report is about. ``as_of`` (milliseconds): what lies behind it has not happened yet.

    ``pairs`` are source and destination bucket; either may be empty, which stands for any.
    """

    month: str
    span: Span
    as_of: int
    rpo_seconds: int = SLA_SECONDS
    pairs: tuple[tuple[str, str], ...] = ()

    @property
    def condition(self) -> str:
        """The condition that selects the pairs."""
        chosen = []
        for source, destination in self.pairs:
            parts = [f"source_bucket = {text(source)}"] if source else []
            parts += [f"destination_bucket = {text(destination)}"] if destination else []
            chosen.append(f"({' AND '.join(parts) or 'true'})")
        return f"({' OR '.join(chosen)})" if chosen else "true"


def month_span(month: str) -> Span:
    """A month in UTC, as in ``2026-10``.

    Raises:
        HistoryError: it is no month.
    """
    found = _MONTH.fullmatch(month)
    if found is None or not int(found[1]):
        message = f"{month!r} is no month: write it as in 2026-10"
        raise HistoryError(message)
    year, number = int(found[1]), int(found[2])
    after = (year + number // 12, number % 12 + 1)
    try:
        begin, end = (to_milliseconds(datetime(y, m, 1, tzinfo=UTC)) for y, m in ((year, number), after))
    except ValueError as error:
        message = f"{month!r} is outside of what calendars know"
        raise HistoryError(message) from error
    return Span(begin, end)


def build(database: Database, wanted: Wanted, coverage: Sequence[Stretch] = ()) -> dict[str, Any]:
    """The report as plain values: what ``-o json`` prints, and all that the pages show.

    ``coverage`` is what is known of who watched when.

    Raises:
        HistoryError: the month has not begun, or has nothing of the pairs that were chosen.
    """
    if wanted.as_of <= wanted.span.since:
        message = f"the month {wanted.month} has not begun: name one that has"
        raise HistoryError(message)
    prepare(database, wanted.span, wanted.condition, wanted.rpo_seconds)
    pairs = _pairs(database, wanted)
    if wanted.pairs and not pairs:
        raise HistoryError(_no_such_pair(database, wanted))
    sights = Sights(coverage, wanted.span, wanted.as_of)
    return {
        "month": wanted.month,
        "since": format_time(wanted.span.since),
        "until": format_time(wanted.span.until),
        "as_of": format_time(wanted.as_of),
        "rpo_seconds": wanted.rpo_seconds,
        "sla_seconds": SLA_SECONDS,
        "region_pairs": _region_pairs(database),
        "pairs": pairs,
        "lag_by_day": _rows(database, f"{_lag_by_day()} ORDER BY {PAIR}, day"),
        "backlog": _backlog(database, wanted),
        "coverage": sights.places(pairs),
        "evidence": _evidence(database, pairs, sights),
    }


def _no_such_pair(database: Database, wanted: Wanted) -> str:
    """What there is instead."""
    rows = database.execute(
        f"SELECT DISTINCT {PAIR} FROM archive WHERE {wanted.span.arrived} AND {wanted.span.counted}"
        f" ORDER BY {PAIR} LIMIT {SHOWN_PAIRS + 1}"
    ).fetchall()
    names = [f"{source or ''}:{destination or ''}" for source, destination in rows[:SHOWN_PAIRS]]
    there = ", ".join(names) + (" and others" if len(rows) > SHOWN_PAIRS else "")
    asked = ", ".join(":".join(pair) for pair in wanted.pairs)
    return f"no copy of {asked} in {wanted.month} is in the archive" + (f": there are {there}" if there else "")


def _rows(database: Database, sql: str) -> list[dict[str, Any]]:
    database.execute(sql)
    names = [str(column[0]) for column in database.description]
    return [dict(zip(names, map(plain, row), strict=True)) for row in database.fetchall()]


def _known(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if value is not None}


def _sums(names: Iterable[str], column: str) -> str:
    return ", ".join(f"coalesce(sum(n) FILTER ({column} = '{name}'), 0) AS {name}" for name in names)


def _attained(row: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Within, missed, unknown and the share of what counts."""
    within, missed = row[f"{prefix}within"], row[f"{prefix}missed"]
    body = {"within": within, "missed": missed, "unknown": row[f"{prefix}unknown"]}
    if within + missed:
        body["share"] = within / (within + missed)
    return body


def step_of(share: float) -> str:
    """The step of the SLA that an attained share reaches."""
    return next(name for least, name in STEPS if share >= least)


def _sla(row: dict[str, Any]) -> dict[str, Any]:
    body = _attained(row)
    return {**body, "step": step_of(body["share"])} if "share" in body else body


_VERDICTS = ("within", "missed", "unknown")


def _region_pairs(database: Database) -> list[dict[str, Any]]:
    """Attained share per account and pair of Regions, as the SLA counts: objects only, no delete markers."""
    places = "source_account, source_region, destination_region"
    rows = _rows(
        database,
        f"SELECT {places}, sum(n) AS copies, sum(bytes) AS bytes, {_sums(_VERDICTS, 'sla')} FROM {TALLIES}"
        f" WHERE operation = 'put' GROUP BY {places} ORDER BY {places}",
    )
    names = ("source_account", "source_region", "destination_region", "copies", "bytes")
    return [{**_known({name: row[name] for name in names}), "sla": _sla(row)} for row in rows]


_STATUSES = ("COMPLETED", "FAILED", "PENDING", "SOURCE_DELETED", "NOT_ELIGIBLE")


def _pairs(database: Database, wanted: Wanted) -> list[dict[str, Any]]:
    rows = _rows(
        database,
        f"SELECT {PAIR}, operation, max(source_account) AS source_account, max(source_region) AS source_region,"
        " max(destination_account) AS destination_account, max(destination_region) AS destination_region,"
        f" sum(n) AS copies, sum(bytes) AS bytes, {_sums(_STATUSES, 'status')}, {_sums(_VERDICTS, 'sla')},"
        + ", ".join(f" coalesce(sum(n) FILTER (rpo = '{name}'), 0) AS rpo_{name}" for name in _VERDICTS)
        + f" FROM {TALLIES} GROUP BY {PAIR}, operation ORDER BY {PAIR}, operation DESC",
    )
    counts = f"SELECT {PAIR}, lag_step, sum(n) AS n, max(longest) AS longest FROM {LAGS} GROUP BY {PAIR}, lag_step"
    lags = {_pair(row): row for row in _rows(database, quantiles(PAIR, counts))}
    minutes = {_pair(row): row["minutes"] for row in _rows(database, _missed_minutes(wanted))}
    failures: dict[Pair, list[dict[str, Any]]] = defaultdict(list)
    for row in _rows(database, _failures()):
        failures[_pair(row)].append({name: row[name] for name in row if name not in {*_PAIR_NAMES}})
    found: dict[Pair, dict[str, Any]] = {}
    for row in rows:
        pair = _pair(row)
        body = found.setdefault(pair, _new_pair(row))
        figures = _figures(row)
        if row["operation"] == "put":
            body.update(figures, sla=_sla(row))
        else:
            body["delete_markers"] = figures
    for pair, body in found.items():
        lag = lags.get(pair)
        if lag is not None:
            body["lag_seconds"] = {**{name: lag[name] for name, _ in QUANTILES}, "max": lag["longest"]}
        body["missed_rpo_minutes"] = minutes.get(pair, 0)
        body["failures"] = failures[pair]
    return list(found.values())


_PAIR_NAMES = ("source_bucket", "destination_bucket")


def _pair(row: dict[str, Any]) -> Pair:
    return row["source_bucket"], row["destination_bucket"]


def _new_pair(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "source": _known({name: row[f"source_{name}"] for name in ("account", "region", "bucket")}),
        "destination": _known({name: row[f"destination_{name}"] for name in ("account", "region", "bucket")}),
        **_figures(defaultdict(int)),
        "sla": _sla(defaultdict(int)),
    }


def _figures(row: dict[str, Any]) -> dict[str, Any]:
    counts = {name.lower(): row[name] for name in _STATUSES}
    return {"copies": row["copies"], "bytes": row["bytes"], **counts, "rpo": _attained(row, "rpo_")}


def _failures() -> str:
    reason = "coalesce(reason_code, 'unknown')"
    return (
        f"SELECT {PAIR}, {reason} AS reason, sum(n) AS failed,"
        " coalesce(sum(n) FILTER (status = 'COMPLETED'), 0) AS replicated_later,"
        " coalesce(sum(n) FILTER (status = 'FAILED'), 0) AS still_failed, sum(bytes) AS bytes,"
        " min(first_failed) AS first_failed_at, max(last_failed) AS last_failed_at"
        f" FROM {TALLIES} WHERE {_FAILED} GROUP BY {PAIR}, {reason} ORDER BY {PAIR}, failed DESC, reason"
    )


def _missed_minutes(wanted: Wanted) -> str:
    """Minutes in which at least one copy of the pair was older than the RPO and not there, up to the month's end.

    Each copy that is missing past its deadline is a stretch of time; stretches that overlap are one.
    """
    last = timestamp(min(wanted.as_of, wanted.span.until))
    end = f"least(coalesce(replicated_at, {last}), {last})"
    return (
        f"WITH late AS (SELECT {PAIR}, counted_at + INTERVAL '{wanted.rpo_seconds}' SECOND AS begins, {end} AS ends"
        f" FROM {CHOSEN} WHERE operation = 'put' AND ({verdict(wanted.rpo_seconds)}) = 'missed'),"
        f" ordered AS (SELECT *, max(ends) OVER (PARTITION BY {PAIR} ORDER BY begins, ends"
        " ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before FROM late WHERE ends > begins)"
        f" SELECT {PAIR}, round(sum(greatest(date_diff('millisecond', greatest(begins, coalesce(before, begins)),"
        f" ends), 0)) / 60000.0, 1) AS minutes FROM ordered GROUP BY {PAIR}"
    )


def _lag_by_day() -> str:
    return quantiles(
        f"{PAIR}, day", f"SELECT {PAIR}, day, lag_step, sum(n) AS n, max(longest) AS longest FROM {LAGS} GROUP BY ALL"
    )


def _backlog(database: Database, wanted: Wanted) -> list[dict[str, Any]]:
    """How many copies of a pair were missing at the end of each hour in which that changed.

    Of what is known to have had to go: replicated at a known time, failed, or still pending.
    """
    open_ = "status = 'FAILED' OR status = 'PENDING' OR (status = 'COMPLETED' AND arrived IS NOT NULL)"
    until = timestamp(min(wanted.as_of, wanted.span.until))
    rows = _rows(
        database,
        f"WITH steps AS (SELECT {PAIR}, hour, n FROM {TALLIES} WHERE {open_} UNION ALL"
        f" SELECT {PAIR}, greatest(arrived, hour) AS hour, -n FROM {TALLIES}"
        f" WHERE status = 'COMPLETED' AND arrived IS NOT NULL),"
        f" changes AS (SELECT {PAIR}, hour, sum(n) AS change FROM steps WHERE hour < {until} GROUP BY {PAIR}, hour)"
        f" SELECT {PAIR}, hour AS moment, sum(change) OVER (PARTITION BY {PAIR} ORDER BY hour) AS copies FROM changes"
        f" ORDER BY {PAIR}, moment",
    )
    return [_known(row) for row in rows]


def _evidence(database: Database, pairs: list[dict[str, Any]], sights: Sights) -> list[dict[str, Any]]:
    """Per pair: what could not be seen, and when."""
    hours = _rows(
        database,
        f"WITH heard AS (SELECT {PAIR}, hour, n, unseen, sla IS NOT NULL AND sla = 'unknown' AND NOT unseen AS untimed"
        f" FROM {TALLIES} UNION ALL SELECT {PAIR}, arrived, 0, false, false FROM {TALLIES} WHERE arrived IS NOT NULL)"
        f" SELECT {PAIR}, hour, sum(CASE WHEN unseen THEN n ELSE 0 END) AS unseen,"
        " sum(CASE WHEN untimed THEN n ELSE 0 END) AS untimed FROM heard"
        f" GROUP BY {PAIR}, hour ORDER BY {PAIR}, hour",
    )
    sums = _rows(
        database,
        f"SELECT {PAIR}, sum(n) AS copies, coalesce(sum(n) FILTER (unseen), 0) AS without_source_event,"
        " coalesce(sum(n) FILTER (sla = 'unknown' AND NOT unseen), 0) AS without_arrival_time,"
        " coalesce(sum(n) FILTER (status = 'PENDING'), 0) AS unsettled"
        f" FROM {TALLIES} GROUP BY {PAIR} ORDER BY {PAIR}",
    )
    by_pair: dict[Pair, list[dict[str, Any]]] = defaultdict(list)
    for row in hours:
        by_pair[_pair(row)].append(row)
    places = {(pair["source"].get("bucket"), pair["destination"].get("bucket")): places_of(pair) for pair in pairs}
    return [{**_known(row), **sights.gaps(by_pair[_pair(row)], places[_pair(row)])} for row in sums]
