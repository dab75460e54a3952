"""Regions that do not answer set-up: an outage is nobody's mistake here, and ends by itself.

It is a problem, so that the run fails, once it lasts from one hourly run to the next; until then it is a warning. What
AWS refuses, as a permission is missing or a setting is wrong, is a problem at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from crr_monitor.aws.record import UNREACHED
from crr_monitor.core.times import MINUTE_MS

if TYPE_CHECKING:
    from crr_monitor.aws.record import Record
    from crr_monitor.aws.setup import Report

LASTING_MS = 50 * MINUTE_MS
"""A little less than from one hourly run to the next. Runs in between, on events, do not make it fail sooner."""


def forgive(report: Report, record: Record, now: int) -> None:
    """Make warnings of problems that say only that a Region does not answer, while that is new.

    Since when is remembered (``now`` in milliseconds); raises ``AwsError`` where that cannot be.
    """
    before: dict[str, int] = record.get(UNREACHED) or {}
    since = {region: before.get(region, now) for region in report.unreached}
    if since != before:
        record.put(UNREACHED, since)
    new = {text for region, texts in report.unreached.items() if now - since[region] < LASTING_MS for text in texts}
    report.warnings += [text for text in report.problems if text in new]
    report.problems = [text for text in report.problems if text not in new]
