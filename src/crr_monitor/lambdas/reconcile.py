"""Asks S3 about what is overdue, on a schedule: what events did not tell, and what was repaired outside.

What could not be asked is no failure of the function: it is in the log, and in a note that metrics and notices are
made from. The function fails where the tables refuse.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from crr_monitor.aws.probe import PROBE_OPTIONS, S3Prober
from crr_monitor.core.times import SECOND_MS
from crr_monitor.environment import environment
from crr_monitor.lambdas.log import write
from crr_monitor.lambdas.reach import reach
from crr_monitor.lambdas.settings import ReconcileSettings, from_environment
from crr_monitor.process.reconcile import Limits, Reconciler
from crr_monitor.stores.dynamodb import open_store

if TYPE_CHECKING:
    from crr_monitor.lambdas.context import Context
    from crr_monitor.process.reconcile import Reconciled

SPARE_SECONDS = 60.0
"""What the last questions and the storing of their answers may take: no question begins with less time left."""


def handler(_event: dict[str, Any], context: Context) -> dict[str, Any]:
    """The function of the schedule; the answer is what the log says."""
    return run(_reconciler(context.invoked_function_arn), context)


@functools.cache
def _reconciler(function_arn: str) -> Reconciler:
    return make_reconciler(from_environment(ReconcileSettings, environment()), function_arn)


def make_reconciler(settings: ReconcileSettings, function_arn: str) -> Reconciler:
    """Store and clients; nothing is called yet."""
    sessions, region = reach(function_arn, settings.store, settings.agent_role_name, PROBE_OPTIONS)
    limits = Limits(overdue=settings.ask_after_seconds * SECOND_MS)
    return Reconciler(open_store(settings.store, workers=limits.workers), S3Prober(sessions, region), limits)


def run(reconciler: Reconciler, context: Context) -> dict[str, Any]:
    """One pass, as long as the function may run; raises ``StoreError`` when the tables refuse."""
    found: Reconciled = reconciler.run(context.get_remaining_time_in_millis() / SECOND_MS - SPARE_SECONDS)
    told = found.to_json()
    write("WARNING" if found.could_not_ask else "INFO", "reconciled", **told)
    return told
