"""A light world for the alarms: copies of a few pairs, written and arriving as a generator says, and what watches them.

No Lambda, no table: copies are counted by ``core/statistics`` as the stores count them, the real watch looks at them
every five minutes, what settles becomes points as in the settle function, and of AWS's own metrics there is what the
monitor's functions and queues would give. Times are milliseconds.
"""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any

from crr_monitor.core import lag
from crr_monitor.core.model import Copy, Record, Status
from crr_monitor.core.notices import (
    CANARY_NOTE,
    UNANSWERED_NOTE,
    Flight,
    Unanswered,
    encode_canaries,
    encode_unanswered,
)
from crr_monitor.core.statistics import SLOT_MS, Cell, CellKey, Share, move
from crr_monitor.core.times import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS
from crr_monitor.core.topology import BucketConfig, Rule, Topology
from crr_monitor.sinks.points import of_changes
from crr_monitor.sinks.senders import SendError
from crr_monitor.sinks.watching import Watch, watch
from crr_monitor.stores.base import Counts, Query
from tests.alarms.evaluator import Evaluator, from_template

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crr_monitor.core.notices import Notice

BEGIN = 1_795_305_600_000
"""2026-11-22T00:00:00Z, a Sunday."""

LOOK_MS = 5 * MINUTE_MS
RECONCILE_MS = 15 * MINUTE_MS
REASON = "DstPutObjectNotPermitted"
PAIRS = (("orders", "orders-dr"), ("orders", "orders-audit"), ("theirs", "theirs-dr"))
ACCOUNTS = {"orders": "1", "orders-dr": "1", "orders-audit": "2", "theirs": "3", "theirs-dr": "1"}


@dataclass
class Made:
    """One copy. ``arrives`` is when it is there, ``known`` when an event tells, ``seen`` whether one tells its time."""

    number: int
    pair: tuple[str, str]
    written: int
    size: int
    arrives: int
    known: int
    seen: bool = True
    status: Status = Status.PENDING

    def share(self) -> Share:
        """What it contributes now."""
        slot, arrived = self.written // SLOT_MS, self.status is Status.COMPLETED
        bin_ = lag.bin_of(self.arrives - self.written) if arrived and self.seen else None
        reason = REASON if self.status is Status.FAILED else None
        return Share(CellKey(slot, *self.pair, "rule", False), self.status, self.size, reason, bin_, False)

    def record(self) -> Record:
        """As the store lists it."""
        source, destination = self.pair
        reason = REASON if self.status is Status.FAILED else None
        made = Copy(destination, self.status, rule_id="rule", failure_reason=reason)
        return Record(f"key-{self.number}", "v", self.status, self.written, (made,), source, size=self.size)


@dataclass
class Step:
    """A change, as the settle function sees it."""

    old: list[Share]
    new: list[Share]


class LightStore:
    """What the watch reads of a store."""

    def __init__(self) -> None:
        self.open: dict[int, Made] = {}
        self.slots: dict[CellKey, Cell] = {}
        self.notes: dict[str, bytes] = {}
        self.read = Counts()
        rules = [
            BucketConfig(source, ACCOUNTS[source], rules=tuple(Rule(None, d) for s, d in PAIRS if s == source))
            for source in dict.fromkeys(source for source, _ in PAIRS)
        ]
        places = [BucketConfig(name, ACCOUNTS[name], place_only=True) for _, name in PAIRS]
        self._topology = Topology([*rules, *places])

    def records(self, query: Query) -> Iterator[Record]:
        """The open ones of a status."""
        found = [made for made in self.open.values() if made.status is query.status]
        return (made.record() for made in sorted(found, key=lambda made: -made.written))

    def oldest(self, status: Status) -> int | None:
        """The oldest open one."""
        return min((made.written for made in self.open.values() if made.status is status), default=None)

    def cells(self, since: int | None, until: int | None, *, unsettled: bool = False) -> Iterator[tuple[CellKey, Cell]]:
        """Cells from a slot on; the world throws away those of long ago."""
        for key, cell in self.slots.items():
            begin = key.slot * SLOT_MS
            in_window = (since is None or begin >= since) and (until is None or begin < until)
            if in_window and (cell.unsettled or not unsettled):
                yield key, cell

    def note(self, name: str) -> bytes | None:
        """A small document."""
        return self.notes.get(name)

    def keep_note(self, name: str, body: bytes | None) -> None:
        """Keep it."""
        self.notes[name] = body or b""

    def counts(self) -> Counts:
        """What was read."""
        return Counts(self.read.messages, self.read.events, self.read.malformed, dict(self.read.ignored))

    def topology(self) -> Topology:
        """The rules."""
        return self._topology


@dataclass
class Trouble:
    """What is broken between two times; see :class:`World` for what each does."""

    kind: str
    begin: int
    end: int

    def now(self, at: int) -> bool:
        """Whether it is broken at a time."""
        return self.begin <= at < self.end


@dataclass
class Box:
    """The topic."""

    name: str = "topic"
    broken: bool = False
    notices: list[Notice] = field(default_factory=list)

    def send(self, notice: Notice) -> None:
        """Keep it, unless broken."""
        if self.broken:
            message = "the topic is broken"
            raise SendError(message)
        self.notices.append(notice)


class World:
    """Days of traffic with one trouble or none; ``also`` is one of the topic that comes with it."""

    def __init__(
        self,
        seed: int = 1,
        trouble: Trouble | None = None,
        *,
        also: Trouble | None = None,
        busy: bool = True,
        parameters: dict[str, float] | None = None,
    ) -> None:
        self._dice = random.Random(seed)
        self._trouble = trouble
        self._all = [each for each in (trouble, also) if each is not None]
        self._busy = busy
        self._numbers = count()
        self._coming: list[tuple[int, int, Made]] = []
        self._steps: list[Step] = []
        self._canary = BEGIN
        self.store = LightStore()
        self.box = Box()
        self.alarms = Evaluator(from_template(["orders", "theirs"], parameters))

    def broken(self, kind: str, at: int) -> bool:
        """Whether this trouble is there now."""
        return any(each.kind == kind and each.now(at) for each in self._all)

    def run(self, begin: int, end: int) -> None:
        """Minute by minute."""
        for at in range(begin, end, MINUTE_MS):
            self._write(at)
            self._learn(at)
            if at % LOOK_MS == 0:
                self._look(at)
                self._forget(at)
            self._own_metrics(at)
            self.alarms.evaluate((at + MINUTE_MS) / SECOND_MS)

    # Traffic ----------------------------------------------------------------------------------------------------------

    def rate(self, at: int) -> float:
        """Writes a minute: few at night and on Sundays, many by day, bursts now and then."""
        hour, day = at % DAY_MS / HOUR_MS, (at - BEGIN) // DAY_MS % 7
        if not self._busy or day == 0:
            return 0.02
        if self.broken("burst", at):
            return 400.0
        return {True: 6.0, False: 0.1}[8 <= hour < 18] * (8 if at // MINUTE_MS % 240 < 5 else 1)

    def _write(self, at: int) -> None:
        rate = self.rate(at)
        for _ in range(int(rate) + (self._dice.random() < rate % 1)):
            written = at + self._dice.randrange(MINUTE_MS)
            for pair in PAIRS if self._dice.random() < 0.3 else PAIRS[:1]:
                self._send(pair, written)
        self._canary_tick(at)

    def _send(self, pair: tuple[str, str], written: int) -> None:
        size = int(self._dice.lognormvariate(10, 2))
        took = min(int(self._dice.lognormvariate(9, 0.8)), 10 * MINUTE_MS)
        if self.broken("slow", written):
            took += 20 * MINUTE_MS
        arrives = written + took
        if self._trouble is not None and pair[1] == "orders-dr" and self.broken("outage", arrives):
            arrives = self._trouble.end + took
        made = Made(next(self._numbers), pair, written, size, arrives, arrives + 5 * SECOND_MS)
        self.store.open[made.number] = made
        move(self.store.slots, [], [made.share()])
        if self._trouble is not None and self._refused(made):
            made.known, made.arrives = written + MINUTE_MS, self._trouble.end + MINUTE_MS
            made.seen = False  # repaired by Batch Replication
        cut_off = pair[1] == "orders-audit" and self.broken("cut-off", arrives)
        if not cut_off and self._dice.random() >= 1e-3:  # else the replica's event is lost
            heapq.heappush(self._coming, (made.known, made.number, made))
        self.store.read.events += 2
        self.store.read.ignored["read"] = self.store.read.ignored.get("read", 0) + 1

    def _learn(self, at: int) -> None:
        """What events tell by the end of this minute, unless nothing is processed now; and what S3 says when asked."""
        if at % LOOK_MS == 0:
            self._reconcile(at)
        while self._coming and self._coming[0][0] <= at + MINUTE_MS and not self._blocked(at):
            made = heapq.heappop(self._coming)[2]
            if made.number not in self.store.open:
                continue  # S3 was asked
            if self._refused(made) and made.status is Status.PENDING:
                self._change(made, Status.FAILED)
                heapq.heappush(self._coming, (made.arrives, made.number, made))
            else:
                self._change(made, Status.COMPLETED)
        if self._steps:
            self.alarms.series.publish(of_changes(self._steps, "Totals"), at / SECOND_MS)
            self._steps.clear()

    def _blocked(self, at: int) -> bool:
        return self.broken("process", at) or self.broken("queue", at)

    def _refused(self, made: Made) -> bool:
        return made.pair[1] == "orders-dr" and self.broken("denied", made.written)

    def _reconcile(self, at: int) -> None:
        """What is overdue and there is found, without a time; that needs neither events nor their queue."""
        for made in list(self.store.open.values()):
            if at - made.written < RECONCILE_MS:
                continue
            if made.arrives <= at:
                made.seen = False
                self._change(made, Status.COMPLETED)
            elif self._refused(made) and made.status is Status.PENDING:
                self._change(made, Status.FAILED)

    def _change(self, made: Made, status: Status) -> None:
        old = [made.share()]
        made.status = status
        if status is Status.COMPLETED:
            del self.store.open[made.number]
        new = [made.share()]
        move(self.store.slots, old, new)
        self._steps.append(Step(old, new))

    def _canary_tick(self, at: int) -> None:
        """Every five minutes one is written to orders-audit and arrives soon."""
        if at % LOOK_MS == 0 and not self.broken("cut-off", at):
            self._canary = at

    # Watching ---------------------------------------------------------------------------------------------------------

    def _look(self, at: int) -> None:
        if self.broken("watch", at):
            return
        self.box.broken = self.broken("topic", at)
        refused = [Unanswered("theirs", "the agent's role is gone", 3)] if self.broken("agent", at) else []
        self.store.keep_note(UNANSWERED_NOTE, encode_unanswered(refused))
        self.store.keep_note(CANARY_NOTE, encode_canaries({"orders orders-audit": Flight(self._canary)}))
        undelivered = 2 if self.broken("undelivered", at) else 0
        seen = watch(self.store, Watch(), [self.box], at, undelivered)  # type: ignore[arg-type]
        self.alarms.series.publish(seen.points, at / SECOND_MS)
        if seen.problems:
            self._lambda("Errors", "WatchFunction", at)

    def _lambda(self, metric: str, function: str, at: int, value: float = 1.0) -> None:
        self.alarms.series.put(("AWS/Lambda", metric, (("FunctionName", function),)), at / SECOND_MS, value)

    def _sqs(self, metric: str, queue: str, at: int, value: float) -> None:
        self.alarms.series.put(("AWS/SQS", metric, (("QueueName", queue),)), at / SECOND_MS, value)

    def _own_metrics(self, at: int) -> None:
        """What AWS says of the monitor's functions, queues and topic."""
        for function in ("ProcessFunction", "SettleFunction"):
            self._lambda("Errors", function, at, float(function == "ProcessFunction" and self.broken("process", at)))
        waiting = at - self._trouble.begin if self._trouble is not None and self._blocked(at) else 0
        self._sqs("ApproximateAgeOfOldestMessage", "Queue", at, waiting / SECOND_MS + self._dice.randrange(60))
        for queue in ("DeadLetterQueue", "UncountedQueue"):
            self._sqs("ApproximateNumberOfMessagesVisible", queue, at, 0)
        self._lambda("IteratorAge", "SettleFunction", at, self._dice.randrange(3_000))
        if self._dice.random() < 1e-4:  # now and then a run fails or is throttled, and the next one goes on
            self._lambda(self._dice.choice(["Errors", "Throttles"]), "ProcessFunction", at)
        if at % HOUR_MS == 0:
            self._lambda("Errors", "SetupFunction", at, 0.0)
        if self.box.notices and self.broken("receiver", at):
            names: Any = (("TopicName", "NotificationTopic"),)
            self.alarms.series.put(("AWS/SNS", "NumberOfNotificationsFailed", names), at / SECOND_MS, 1.0)

    def _forget(self, at: int) -> None:
        """The watch reads an hour back, and further only what is open."""
        kept = min([at - 2 * HOUR_MS, *(made.written for made in self.store.open.values())]) // SLOT_MS
        self.store.slots = {key: cell for key, cell in self.store.slots.items() if key.slot >= kept}
