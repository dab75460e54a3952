"""What the monthly report sums up, in two passes over the archive however large it is, and in little memory.

Ranking a hundred million rows by copy, as the view ``copies`` does, takes minutes. But nearly each row is its copy's
only one, and within every RPO: these are *ordinary*. So all rows are counted as they are, by pair, hour and lag; the
few rows that stand *apart* are taken off again, and in their place come the last words of their copies. Numbers can be
taken off, so the counts are exact. The longest lag cannot: where it went with such a row, it is looked for anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from crr_monitor.history.queries import LAG_STEP, PAIR, SLA_SECONDS, verdict
from crr_monitor.history.schema import NAMES, TABLE
from crr_monitor.history.views import last_word, only_word

if TYPE_CHECKING:
    from crr_monitor.history.driver import Database
    from crr_monitor.history.views import Chosen

PASS_ROWS = 30_000_000
"""Rows whose ids are sorted at once when copies with several rows are looked for: they take 800 MB at most."""

TWICE = "several_words"
"""Table of the numbers of the copies about which there is more than one row."""

APART = "rows_apart"
"""Table of the rows that are not ordinary, and of all rows of the copies in :data:`TWICE`. ``again``: of the latter."""

RESOLVED = "last_words"
"""Table of the last words of the copies that have rows in :data:`APART`."""

CHOSEN = "words_chosen"
"""View of those of :data:`RESOLVED` that the report is about."""

TALLIES = "tallies"
"""Table of the copies by all that the report tells apart but their lag: ``n`` copies with ``bytes`` each."""

LAGS = "lags"
"""Table of the objects' lags by pair and day: ``n`` lags up to ``lag_step``. The longest of a pair's day is exact."""

_LEFT_OUT = {"key", "version_id", "etag", "failure_reason", "evidence", "rule_id", "time_precision"}
NARROW = tuple(name for name in NAMES if name not in _LEFT_OUT)
"""The columns that say nothing of a single object: what counting needs, and a quarter of the bytes."""

AS_IT_STANDS = "state <> 'withdrawn' AND written_at = counted_at AND lag_seconds IS NOT NULL"
"""Holds only for rows that are the last word of their copy, without any change, where it has no other row."""

PLACES = "source_account, source_region, source_bucket, destination_account, destination_region, destination_bucket"
_HOURS = "epoch_ms(counted_at) // 3600000 AS counted_hour, epoch_ms(replicated_at) // 3600000 AS arrived_hour"
_BY_HOUR = f"{PLACES}, operation, counted_hour, arrived_hour"
_BY_LAG = "pair, counted_day, lag_step"
_DAY = "CAST(make_timestamp_ms(counted_day * 86400000) AS DATE)"
_NUMBER = "xor(hash(source_bucket), hash(destination_bucket) >> 1) AS pair"
"""A number for a pair, of 64 bits. Grouping by it instead of the names is worth it where there are many groups."""


def apart_statements(where: str, ordinary: str, passes: int = 1) -> list[str]:
    """Make :data:`TWICE`, :data:`APART` and :data:`RESOLVED` of the rows in the partitions for which ``where`` holds.

    ``ordinary`` is a condition that implies :data:`AS_IT_STANDS`. There are ``passes`` (a power of 2) over the ids, of
    which each sorts only its part. A copy is known by its number of 63 bits and its destination here: of 1,800 archives
    of a hundred million copies, one has two copies with the same number, and counts them as one.
    """
    parts = [f" AND copy_id & {passes - 1} = {part}" for part in range(passes)] if passes > 1 else [""]
    # Sorting numbers takes half the time and memory of grouping by them.
    found = [
        f"INSERT INTO {TWICE} SELECT DISTINCT copy_id FROM (SELECT copy_id, lag(copy_id) OVER (ORDER BY copy_id)"
        f" AS before FROM {TABLE} WHERE {where}{part}) AS ids WHERE copy_id = before"
        for part in parts
    ]
    columns = ", ".join(NARROW)
    # As a column, not as a join: that would copy what it passes on.
    rows = f"SELECT {columns}, coalesce(copy_id IN (FROM {TWICE}), false) AS again FROM {TABLE} WHERE {where}"
    apart = f"FROM ({rows}) AS marked WHERE again OR NOT coalesce({ordinary}, false)"
    several = last_word("again", APART, columns, "copy_id, destination_bucket")
    alone = only_word("NOT again", APART, columns)
    return [
        f"CREATE OR REPLACE TEMP TABLE {TWICE} (copy_id BIGINT)",
        *found,
        f"CREATE OR REPLACE TEMP TABLE {APART} AS {apart}",
        f"CREATE OR REPLACE TEMP TABLE {RESOLVED} AS {several} UNION ALL {alone}",
    ]


def _counts(table: str, where: str) -> str:
    """The rows of a table, counted by hour, and by day and lag."""
    # Each column to group by takes its time a hundred million times, so there is none too many.
    return (
        f"SELECT {_BY_HOUR}, pair, counted_hour // 24 AS counted_day, lag_step,"
        " count(*) AS n, coalesce(sum(size), 0) AS bytes, max(lag_seconds) AS longest"
        f" FROM (SELECT {PLACES}, {_NUMBER}, operation, {_HOURS}, CASE WHEN operation = 'put' THEN {LAG_STEP} END"
        f" AS lag_step, size, lag_seconds FROM {table} WHERE {where}) AS counts"
        f" GROUP BY GROUPING SETS (({_BY_HOUR}), ({_BY_LAG}))"
    )


def prepare(database: Database, span: Chosen, condition: str, rpo_seconds: int) -> None:
    """Make :data:`TALLIES` and :data:`LAGS` of a time and of the pairs for which ``condition`` holds."""
    ordinary = (
        f"{AS_IT_STANDS} AND status = 'COMPLETED' AND NOT repaired AND lag_seconds <= {min(SLA_SECONDS, rpo_seconds)}"
    )
    counted = database.execute(f"SELECT count(*) FROM {TABLE} WHERE {span.arrived}").fetchone()
    passes = 1
    while counted and counted[0] > passes * PASS_ROWS:
        passes *= 2
    for statement in apart_statements(span.arrived, ordinary, passes):
        database.execute(statement)
    chosen = f"{span.counted} AND {condition}"
    database.execute(f"CREATE OR REPLACE TEMP VIEW {CHOSEN} AS FROM {RESOLVED} WHERE {chosen}")
    database.execute(f"CREATE OR REPLACE TEMP TABLE taken_off AS {_counts(APART, chosen)}")
    database.execute(f"DROP TABLE {APART}")
    database.execute(f"CREATE OR REPLACE TEMP TABLE counted AS {_counts(TABLE, f'{span.arrived} AND {chosen}')}")
    _tally(database, rpo_seconds)
    _lags(database, f"{span.arrived} AND {chosen} AND {ordinary}")


def _tally(database: Database, rpo_seconds: int) -> None:
    database.execute(
        f"CREATE OR REPLACE TEMP TABLE {TALLIES} AS WITH ordinary AS (SELECT {_BY_HOUR}, sum(n) AS n, sum(bytes) AS"
        " bytes FROM (FROM counted UNION ALL SELECT * REPLACE (-n AS n, -bytes AS bytes) FROM taken_off) AS counts"
        f" WHERE counted_hour IS NOT NULL GROUP BY {_BY_HOUR} HAVING sum(n) > 0), sums AS (SELECT {PLACES}, operation,"
        f" status, repaired, reason_code, {verdict(SLA_SECONDS)} AS sla, {verdict(rpo_seconds)} AS rpo,"
        f" written_at IS NULL AS unseen, {_HOURS}, count(*) AS n, sum(coalesce(size, 0)) AS bytes,"
        f" min(failed_at) AS first_failed, max(failed_at) AS last_failed FROM {CHOSEN} GROUP BY ALL"
        f" UNION ALL SELECT {PLACES}, operation, 'COMPLETED', false, NULL, 'within', 'within', false, counted_hour,"
        " arrived_hour, n, bytes, NULL, NULL FROM ordinary)"
        " SELECT * EXCLUDE (counted_hour, arrived_hour), make_timestamp_ms(counted_hour * 3600000) AS hour,"
        " make_timestamp_ms(arrived_hour * 3600000) AS arrived FROM sums"
    )


def _lags(database: Database, left: str) -> None:
    """The lags; ``left`` is the condition for ordinary rows, to which :data:`TWICE` has still to be added."""
    words = (
        f"SELECT {PAIR}, CAST(counted_at AS DATE) AS day, {LAG_STEP} AS lag_step, 0 AS ordinary, count(*) AS words,"
        " NULL AS longest_any, NULL AS longest_taken, max(lag_seconds) AS longest_word"
        f" FROM {CHOSEN} WHERE lag_seconds IS NOT NULL AND operation = 'put' GROUP BY ALL"
    )
    database.execute(
        f"CREATE OR REPLACE TEMP TABLE {LAGS} AS WITH"
        f" pairs AS (SELECT DISTINCT {PAIR}, {_NUMBER} FROM counted WHERE counted_hour IS NOT NULL),"
        f" steps AS (SELECT pair, {_DAY} AS day, lag_step, n AS ordinary, longest AS longest_any, NULL AS longest_taken"
        f" FROM counted UNION ALL SELECT pair, {_DAY}, lag_step, -n, NULL, longest FROM taken_off),"
        f" counts AS ({words} UNION ALL SELECT {PAIR}, day, lag_step, ordinary, 0, longest_any, longest_taken, NULL"
        " FROM steps JOIN pairs USING (pair) WHERE lag_step IS NOT NULL),"
        f" sums AS (SELECT {PAIR}, day, lag_step, sum(ordinary) AS ordinary, sum(words) AS words, max(longest_any) AS"
        " longest_any, max(longest_taken) AS longest_taken, max(longest_word) AS longest_word FROM counts"
        f" GROUP BY {PAIR}, day, lag_step HAVING sum(ordinary + words) > 0)"
        # The longest lag of a step is still there where it was not taken off, or came back with a last word.
        f" SELECT {PAIR}, day, lag_step, ordinary + words AS n, coalesce(longest_taken >= longest_any, false) AS lost,"
        " CASE WHEN lost THEN longest_word ELSE greatest(longest_any, longest_word) END AS longest,"
        " lost AND ordinary > 0 AND coalesce(longest_word < longest_any, true) AS unsure FROM sums"
    )
    top = f"lag_step = max(lag_step) OVER (PARTITION BY {PAIR}, day)"
    lowest = database.execute(
        f"SELECT min(lag_step) FROM (SELECT lag_step, unsure FROM {LAGS} QUALIFY {top}) AS tops WHERE unsure"
    ).fetchone()
    if lowest and lowest[0] is not None:
        # Steps are one second wide at most.
        database.execute(
            f"INSERT INTO {LAGS} BY NAME SELECT {PAIR}, CAST(counted_at AS DATE) AS day, {LAG_STEP} AS lag_step,"
            f" 0 AS n, max(lag_seconds) AS longest FROM {TABLE} ANTI JOIN {TWICE} USING (copy_id)"
            f" WHERE {left} AND lag_seconds > {lowest[0] - 1} AND operation = 'put' GROUP BY ALL"
        )
