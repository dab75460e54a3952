"""Tasks that look at the store from time to time: asking S3 about what is overdue, and telling people of trouble."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from crr_monitor.process.reconcile import Limits, Prober, Reconciler
from crr_monitor.serve.ticks import TickError
from crr_monitor.sinks.openmetrics import Own
from crr_monitor.sinks.senders import Sender
from crr_monitor.sinks.watching import Watch, watch

if TYPE_CHECKING:
    from crr_monitor.stores.base import Store

ASK_SECONDS = 60.0
LOOK_SECONDS = 60.0


class Ask(Struct):
    """Asks S3 about what is overdue, and stores its answers as evidence like any other."""

    prober: Prober
    limits: Limits
    own: Own
    name: str = "ask S3"
    seconds: float = ASK_SECONDS

    def run(self, store: Store, now: int) -> None:  # noqa: ARG002 - it has a clock of its own
        """One pass; what could not be asked is told, and left as it is."""
        found = Reconciler(store, self.prober, self.limits).run()
        throttled = sum(each.count for each in found.could_not_ask if each.cause == "throttled")
        self.own.throttled, self.own.could_not_ask = throttled, found.unasked - throttled
        if self.own.could_not_ask:
            worst = next(each for each in found.could_not_ask if each.cause != "throttled")
            message = f"{self.own.could_not_ask} questions were not answered; of {worst.bucket}: {worst.text}"
            raise TickError(message)


class Look(Struct):
    """Looks at what failed and what is overdue, and tells who is to be told."""

    senders: tuple[Sender, ...]
    settings: Watch
    own: Own
    name: str = "notices"
    seconds: float = LOOK_SECONDS

    def run(self, store: Store, now: int) -> None:
        """One look."""
        seen = watch(store, self.settings, self.senders, now)
        self.own.backlog_growth, self.own.unsent = seen.monitor.backlog_growth, len(seen.problems)
        if seen.problems:
            raise TickError(seen.problems[0])
