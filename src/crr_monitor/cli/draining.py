"""``sqs://`` sources of ``crr-monitor ingest``: a queue is read until it is empty."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from crr_monitor.aws.drain import SCHEME, Drain, open_queue
from crr_monitor.cli.access import require_aws
from crr_monitor.process.drain import drain

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from crr_monitor.aws.queue import Queue
    from crr_monitor.history.s3 import Reach
    from crr_monitor.process.ingest import RejectSink, Totals
    from crr_monitor.stores.base import Store


def split_queues(sources: Iterable[str], reach: Reach) -> tuple[list[str], list[Queue]]:
    """The sources that are no queues, and the queues.

    Raises:
        CommandError, QueueError: boto3 is missing, or an address is none.
    """
    others, queues = [], []
    for source in sources:
        if source.startswith(SCHEME):
            require_aws(f"the source {source}")
            queues.append(open_queue(source, reach.region, reach.profile, reach.endpoint_url))
        else:
            others.append(source)
    return others, queues


def drain_queues(queues: Sequence[Queue], store: Store, rejects: RejectSink, totals: Totals) -> None:
    """Read all of them, and add what was in them to the totals.

    Raises:
        QueueError, SourceError, StoreError, RejectError: what came before is stored, the rest is still in the queue.
    """
    for queue in queues:
        with closing(Drain(queue)) as rounds:
            found = drain(queue.url, rounds, store, rejects)
        totals.counts.add(found.counts)
        totals.records_changed += found.records_changed
        totals.read_bytes += found.read_bytes
