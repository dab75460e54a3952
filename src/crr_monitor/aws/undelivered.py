"""Events that could not be delivered, as problems of a set-up run: so that its error metric tells of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crr_monitor.aws.sessions import AwsError
from crr_monitor.aws.waiting import undelivered

if TYPE_CHECKING:
    from crr_monitor.aws.plan_model import Stack
    from crr_monitor.aws.record import Record
    from crr_monitor.aws.sessions import Sessions


def count_undelivered(sessions: Sessions, stack: Stack, record: Record) -> tuple[list[str], list[str]]:
    """A problem for each Region in which events wait undelivered, and a note for each that could not be asked."""
    try:
        found, *unknown = undelivered(sessions, stack, record)
    except AwsError as error:
        return [], [f"it is not known in which Regions there are queues for undelivered events: {error}"]
    # Such a queue cannot be redriven: SQS does that only for the dead-letter queue of another queue (API Reference,
    # "StartMessageMoveTask").
    problems = [
        f"{region}: {count} events could not be delivered and wait in queue {stack.undelivered}; the messages'"
        " attributes (ERROR_CODE, ERROR_MESSAGE) say why: mend that, then send their bodies to the hub's queue"
        for region, count in found.items()
        if count
    ]
    return problems, [note for notes in unknown for note in notes]
