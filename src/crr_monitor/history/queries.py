"""The shipped queries: each is one SQL text, for DuckDB and for Athena alike.

Every query reads only the partitions in which rows of its time can be (:class:`~crr_monitor.history.views.Span`).
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from crr_monitor.history.views import Chosen, Recent, Span, last_word

SLA_SECONDS = 900
"""The 15 minutes of S3 Replication Time Control."""

PAIR = "source_bucket, destination_bucket"
QUANTILES = (("p50", "0.5"), ("p90", "0.9"), ("p99", "0.99"), ("p999", "0.999"))


def verdict(seconds: int) -> str:
    """The expression that says how a copy counts for an RPO of so many seconds.

    ``within``, ``missed`` or ``unknown``; NULL where it does not count. What failed is missed, repaired or not.
    """
    return (
        "CASE WHEN status = 'COMPLETED' AND repaired THEN 'missed'"
        " WHEN status = 'COMPLETED' AND lag_seconds IS NULL THEN 'unknown'"
        f" WHEN status = 'COMPLETED' AND lag_seconds <= {seconds} THEN 'within'"
        " WHEN status = 'COMPLETED' OR status = 'FAILED' THEN 'missed'"
        " WHEN status = 'PENDING' AND state = 'expired' THEN 'missed'"
        f" WHEN status = 'PENDING' AND recorded_at > counted_at + INTERVAL '{seconds}' SECOND THEN 'missed' END"
    )


def copies(span: Chosen) -> str:
    """The copies of a time, to begin a ``WITH`` of that name with."""
    return f"copies AS (SELECT * FROM ({last_word(span.arrived)}) AS last_words WHERE {span.counted})"


LAG_STEP = (
    "CASE WHEN lag_seconds < 10 THEN ceil(lag_seconds * 100 - 0.01) / 100"
    " WHEN lag_seconds < 100 THEN ceil(lag_seconds * 10 - 0.01) / 10 ELSE ceil(lag_seconds - 0.0001) END + 0"
)
"""The lag, raised to the next hundredth, tenth or whole second: by less than 1 % from a second on, and never lowered.

So there are some thousand different lags to count, however many copies. Lags have whole milliseconds: what is taken off
before is far less, and keeps a float that is a little too high from going up a step.
"""


def quantiles(groups: str, source: str) -> str:
    """Quantiles of the lag per group (nearest rank), of the counted lags that ``source`` gives; the longest is exact.

    ``source`` has the columns of the group, ``lag_step``, ``n`` and ``longest``.
    """
    shown = ", ".join(
        f"min(CASE WHEN upto >= {share} * total THEN lag_step END) AS {name}" for name, share in QUANTILES
    )
    return (
        f"SELECT {groups}, max(total) AS copies, {shown}, max(longest) AS longest FROM ("
        f"SELECT {groups}, lag_step, longest, sum(n) OVER (PARTITION BY {groups} ORDER BY lag_step) AS upto,"
        f" sum(n) OVER (PARTITION BY {groups}) AS total FROM ({source}) AS counts) AS ranks GROUP BY {groups}"
    )


def _counts(groups: str, chosen: str) -> str:
    return (
        f"SELECT {chosen}, {LAG_STEP} AS lag_step, count(*) AS n, max(lag_seconds) AS longest FROM copies"
        f" WHERE lag_seconds IS NOT NULL AND operation = 'put' GROUP BY {groups}, {LAG_STEP}"
    )


def _lag_by_day(span: Chosen, _seconds: int) -> str:
    counts = _counts(f"{PAIR}, CAST(counted_at AS DATE)", f"{PAIR}, CAST(counted_at AS DATE) AS written_on")
    groups = f"{PAIR}, written_on"
    return f"WITH {copies(span)} {quantiles(groups, counts)} ORDER BY {groups}"


def tally(groups: str, seconds: int) -> str:
    """The columns that count copies by status and by verdict, beside those of the group."""
    judged = verdict(seconds)
    within = f"sum(CASE WHEN {judged} = 'within' THEN 1 ELSE 0 END)"
    missed = f"sum(CASE WHEN {judged} = 'missed' THEN 1 ELSE 0 END)"
    return (
        f"SELECT {groups}, operation, count(*) AS copies, sum(coalesce(size, 0)) AS bytes, {within} AS within,"
        f" {missed} AS missed, sum(CASE WHEN {judged} = 'unknown' THEN 1 ELSE 0 END) AS unknown,"
        f" CASE WHEN {within} + {missed} > 0 THEN CAST({within} AS DOUBLE) / ({within} + {missed}) END AS share"
    )


def _rpo_by_month(span: Chosen, seconds: int) -> str:
    groups = f"{PAIR}, month"
    return (
        f"WITH {copies(span)}, dated AS (SELECT *, CAST(date_trunc('month', counted_at) AS DATE) AS month FROM copies)"
        f" {tally(groups, seconds)} FROM dated GROUP BY {groups}, operation ORDER BY {groups}, operation"
    )


def _failures_by_reason(span: Chosen, _seconds: int) -> str:
    return (
        f"WITH {copies(span)} SELECT {PAIR}, coalesce(reason_code, 'unknown') AS reason, count(*) AS failed,"
        " sum(CASE WHEN status = 'COMPLETED' THEN 1 ELSE 0 END) AS replicated_later,"
        " sum(CASE WHEN status = 'FAILED' THEN 1 ELSE 0 END) AS still_failed, sum(coalesce(size, 0)) AS bytes,"
        " min(failed_at) AS first_failed_at, max(failed_at) AS last_failed_at"
        " FROM copies WHERE status = 'FAILED' OR (status = 'COMPLETED' AND repaired)"
        f" GROUP BY {PAIR}, coalesce(reason_code, 'unknown') ORDER BY failed DESC, {PAIR}, reason"
    )


def _slowest(span: Chosen, _seconds: int) -> str:
    return (
        f"WITH {copies(span)} SELECT lag_seconds, {PAIR}, key, version_id, size, written_at, replicated_at, repaired"
        " FROM copies WHERE lag_seconds IS NOT NULL"
        f" ORDER BY lag_seconds DESC, {PAIR}, key, version_id LIMIT 100"
    )


def _volume_by_pair(span: Chosen, _seconds: int) -> str:
    return (
        f"WITH {copies(span)} SELECT {PAIR}, CAST(counted_at AS DATE) AS written_on, count(*) AS copies,"
        " sum(coalesce(size, 0)) AS bytes, sum(CASE WHEN status = 'COMPLETED' THEN 1 ELSE 0 END) AS completed"
        f" FROM copies GROUP BY {PAIR}, CAST(counted_at AS DATE) ORDER BY {PAIR}, written_on"
    )


def _never_replicated(span: Chosen, _seconds: int) -> str:
    return (
        f"WITH {copies(span)} SELECT status, state, {PAIR}, key, version_id, size, counted_at, reason_code"
        " FROM copies WHERE status IN ('FAILED', 'PENDING')"
        f" ORDER BY counted_at, {PAIR}, key, version_id"
    )


LAST_DAYS = "current_date - INTERVAL '30' DAY"
LAST_MONTHS = "date_trunc('month', current_date) - INTERVAL '2' MONTH"


class NamedQuery(Struct, frozen=True):
    """One shipped query. ``recent`` is the date from which on it looks where it is saved in Athena, as SQL."""

    name: str
    answers: str
    build: Callable[[Chosen, int], str]
    recent: str = LAST_DAYS

    def sql(self, span: Span, rpo_seconds: int = SLA_SECONDS) -> str:
        """The text for a time and an RPO."""
        return self.build(span, rpo_seconds)

    @property
    def saved(self) -> str:
        """The text as it is saved in Athena: of the last 30 days or months, for the SLA's 15 minutes."""
        return self.build(Recent(self.recent), SLA_SECONDS)


_ALL = (
    NamedQuery("lag-by-day", "lag percentiles per pair and day", _lag_by_day),
    NamedQuery("rpo-by-month", "copies within and beyond the RPO per pair and month", _rpo_by_month, LAST_MONTHS),
    NamedQuery("failures-by-reason", "failures per pair and reason, and how they ended", _failures_by_reason),
    NamedQuery("slowest", "the 100 copies that took longest", _slowest),
    NamedQuery("volume-by-pair", "copies and bytes per pair and day", _volume_by_pair),
    NamedQuery("never-replicated", "copies that failed or never arrived", _never_replicated),
)

QUERIES = {query.name: query for query in _ALL}
