"""Ask S3 about what is overdue, and store its answers as evidence like any other.

A run takes what is due from the store, asks within its limits, and stores portion by portion: first the evidence, then
that it was asked. Killed anywhere, it asks again. What could not be asked changes no record; it is counted with its
cause, and asked about again later.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, Any, Protocol

from msgspec import Struct, field
from msgspec.structs import asdict

from crr_monitor.core.interpret import interpret
from crr_monitor.core.merge import merge
from crr_monitor.core.notices import UNANSWERED_NOTE, Unanswered, decode_unanswered, encode_unanswered
from crr_monitor.core.reconcile import (
    LONGEST_UNASKED_MS,
    OVERDUE_MS,
    Cause,
    Found,
    Reply,
    Unasked,
    conclude,
    meaning,
    next_due,
    replicas_to_ask,
    sources_to_ask,
)
from crr_monitor.core.times import SECOND_MS
from crr_monitor.core.topology import Topology
from crr_monitor.stores.base import Asked, Batch, Due, spread, system_clock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from crr_monitor.core.evidence import Evidence
    from crr_monitor.core.model import Record
    from crr_monitor.core.reconcile import Place
    from crr_monitor.stores.base import Look, VersionKey

PORTION = 200
"""Records that are asked about before their answers are stored."""

REMEMBERED_MS = 2 * LONGEST_UNASKED_MS
"""For so long a bucket counts as not answering when nothing of it was asked since: nothing waits for it any more."""

LOOK_NOTE = "reconcile"
"""Name of the note that says where the next run begins to look for what waits behind very much of one bucket."""

LOOKS = 5
"""So many looks in a row a run takes at most, and begins none after this part of its time (a fifth)."""

GIVE_UP = 10
"""After so many questions in a row that a bucket did not answer, it is not asked again in this run."""

NO_RULES = Topology()
"""In whose light answers are read: what S3 says of a version stands by itself."""

ABOUT_ONE_OBJECT = frozenset({"encrypted", "refused"})
"""Causes that say nothing of the bucket's other objects."""


class Prober(Protocol):
    """Asks one bucket about one version. It answers always, also that it could not ask; any thread may call it."""

    def ask(self, place: Place, key: str, version_id: str) -> Reply: ...  # noqa: D102


class ReconcileStore(Protocol):
    """The part of :class:`crr_monitor.stores.base.Store` that is needed."""

    def topology(self) -> Topology: ...  # noqa: D102
    def due(self, now: int, overdue: int, limit: int) -> list[Due]: ...  # noqa: D102
    def look(self, now: int, overdue: int, limit: int, begin: int | None = None) -> Look: ...  # noqa: D102
    def apply(self, batch: Batch) -> int: ...  # noqa: D102
    def asked(self, questions: Sequence[Asked]) -> None: ...  # noqa: D102
    def note(self, name: str) -> bytes | None: ...  # noqa: D102
    def keep_note(self, name: str, body: bytes | None) -> None: ...  # noqa: D102


class Limits(Struct, frozen=True, kw_only=True):
    """How much one run asks.

    ``overdue``: milliseconds after which a version is asked about. ``records``: in one run at most; ``seconds``: no
    question begins later. ``per_second``: questions to one bucket. ``always_status``: the stores give a replication
    status for every version that a rule took, as AWS does.
    """

    overdue: int = OVERDUE_MS
    records: int = 5_000
    seconds: float = 240.0
    per_second: float = 50.0
    workers: int = 16
    always_status: bool = True


class CouldNotAsk(Struct, frozen=True):
    """Questions of one kind that nobody answered. ``permission`` is missing, if that is why; ``text`` is of one."""

    account: str | None
    bucket: str
    cause: Cause
    permission: str | None
    count: int
    text: str


class Reconciled(Struct):
    """What one run did.

    ``due``: records that were taken; ``asked``: those of them about which some bucket answered; ``left``: those for
    which no time was left; ``more``: there is more to do at once. ``questions``: calls that were made. ``answers``:
    replies by kind (``completed``, ``failed``, ``pending``, ``not-eligible``, ``gone``, ``replica``, ``there`` of the
    source; ``found``, ``missing`` of a destination). ``oldest_due_seconds``: how long the first one had been due.
    """

    due: int = 0
    asked: int = 0
    left: int = 0
    more: bool = False
    questions: int = 0
    records_changed: int = 0
    oldest_due_seconds: float = 0.0
    seconds: float = 0.0
    answers: dict[str, int] = field(default_factory=dict)
    could_not_ask: list[CouldNotAsk] = field(default_factory=list)

    @property
    def unasked(self) -> int:
        """Questions that nobody answered."""
        return sum(each.count for each in self.could_not_ask)

    def to_json(self) -> dict[str, Any]:
        """As commands and logs show it; what is unknown is left out."""
        told = [
            {name: value for name, value in asdict(each).items() if value is not None} for each in self.could_not_ask
        ]
        return {**asdict(self), "seconds": round(self.seconds, 3), "could_not_ask": told}


class _Case(Struct, frozen=True):
    """One record, and what each bucket replied about it."""

    due: Due
    replies: dict[str, Reply]


class Reconciler:
    """Asks about what is overdue, each time it is run. ``clock`` gives milliseconds, ``monotonic`` seconds."""

    def __init__(  # noqa: PLR0913 - two ports and the limits, then what tests replace
        self,
        store: ReconcileStore,
        prober: Prober,
        limits: Limits = Limits(),  # noqa: B008 - frozen
        *,
        clock: Callable[[], int] = system_clock,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._store = store
        self._prober = prober
        self._limits = limits
        self._clock = clock
        self._monotonic = monotonic
        self._sleep = sleep

    def run(self, seconds: float | None = None) -> Reconciled:
        """One pass, of at most ``seconds`` in place of those of the limits.

        Raises:
            StoreError: the store refuses; what was stored before stays.
        """
        began = self._monotonic()
        until = began + (self._limits.seconds if seconds is None else seconds)
        run = _Run(self._prober, self._limits.per_second, until, self._monotonic, self._sleep)
        found, now = Reconciled(), self._clock()
        dues = self._due(now, began + (until - began) / LOOKS)
        topology = self._store.topology() if dues else None
        if dues and topology is not None:
            found.due, found.more = len(dues), len(dues) >= self._limits.records
            found.oldest_due_seconds = (now - dues[0].due_at) / SECOND_MS
            with ThreadPoolExecutor(self._limits.workers, thread_name_prefix="reconcile") as pool:
                for portion in _portions(interleaved(dues)):
                    cases = list(pool.map(lambda due: run.ask(due, topology), portion))
                    found.left += cases.count(None)
                    self._keep([case for case in cases if case is not None], found)
        found.more = found.more or found.left > 0
        found.questions, found.answers, found.could_not_ask = run.questions, dict(run.answers), run.unasked()
        self._remember(run.buckets, found.could_not_ask, now, cut=found.more)
        found.seconds = self._monotonic() - began
        return found

    def _due(self, now: int, until: float) -> list[Due]:
        """What to ask about, the longest due first; where more is due than one run asks, evenly of all buckets.

        So a bucket of which very much is overdue, as it is throttled or denied, keeps no other one waiting: it gets
        what the others leave.
        """
        most = self._limits.records
        first = self._store.due(now, self._limits.overdue, most)
        if len(first) < most:
            return first
        known = {(due.record.key, due.record.version_id) for due in first}
        others = (due for due in self._look(now, until) if (due.record.key, due.record.version_id) not in known)
        return spread(chain(first, others), most)

    def _look(self, now: int, until: float) -> list[Due]:
        """What further looks find, from where the run before ended; where this one ends is noted for the next.

        It is noted before anything is asked: who is killed again and again still gets on, and comes by again.
        """
        body = self._store.note(LOOK_NOTE)
        begin = None if body is None else int(body)
        found: list[Due] = []
        for _ in range(LOOKS):
            look = self._store.look(now, self._limits.overdue, self._limits.records, begin)
            found += look.dues
            begin = look.end
            if begin is None or self._monotonic() >= until:
                break
        told = None if begin is None else b"%d" % begin
        if told != body:
            self._store.keep_note(LOOK_NOTE, told)
        return found

    def _remember(self, asked: set[str], refusals: Iterable[CouldNotAsk], now: int, *, cut: bool) -> None:
        """Keep the note of what is not answered: of this round, and of buckets that were not asked in it."""
        body = self._store.note(UNANSWERED_NOTE)
        news = [
            Unanswered(
                each.bucket,
                each.text,
                each.count,
                each.cause == "throttled",
                now,
                single=each.cause in ABOUT_ONE_OBJECT,
                cut=cut,
            )
            for each in refusals
        ]
        kept = [
            each for each in decode_unanswered(body) or () if each.bucket not in asked and now - each.at < REMEMBERED_MS
        ]
        told = encode_unanswered([*news, *kept])
        if told != body:
            self._store.keep_note(UNANSWERED_NOTE, told)

    def _keep(self, cases: Sequence[_Case], found: Reconciled) -> None:
        now = self._clock()
        evidence: dict[VersionKey, Evidence] = {}
        for case in cases:
            found.asked += any(not isinstance(reply, Unasked) for reply in case.replies.values())
            news = self._news(case, now)
            if news is not None:
                evidence[news.key, news.version_id] = news
        if evidence:
            found.records_changed += self._store.apply(Batch(evidence))
        if cases:
            self._store.asked([self._asked(case, now) for case in cases])

    def _news(self, case: _Case, now: int) -> Evidence | None:
        told: Evidence | None = None
        record = case.due.record
        for event in conclude(record, case.replies, now, always_status=self._limits.always_status):
            news = interpret(event, NO_RULES)
            if news is not None:
                told = news if told is None else merge(told, news)
        return told

    def _asked(self, case: _Case, now: int) -> Asked:
        record, asks = case.due.record, case.due.asks + 1
        answered = not any(isinstance(reply, Unasked) for reply in case.replies.values())
        due_at = next_due(asks, now, self._limits.overdue, answered=answered)
        return Asked(record.key, record.version_id, asks, due_at)


class _Run:
    """The questions of one run, from several threads: paced per bucket, and ended where a bucket does not answer."""

    def __init__(
        self,
        prober: Prober,
        per_second: float,
        until: float,
        monotonic: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self.questions = 0
        self.buckets: set[str] = set()
        self.answers: Counter[str] = Counter()
        self._prober = prober
        self._gap = 1.0 / per_second
        self._until = until
        self._monotonic = monotonic
        self._sleep = sleep
        self._lock = threading.Lock()
        self._next: dict[str, float] = {}
        self._refusals: Counter[str] = Counter()
        self._given_up: dict[str, Unasked] = {}
        self._unasked: Counter[tuple[str | None, str, Cause, str | None]] = Counter()
        self._texts: dict[tuple[str | None, str, Cause, str | None], str] = {}

    def ask(self, due: Due, topology: Topology) -> _Case | None:
        """Ask all who have to be asked about a record; ``None`` where no time is left."""
        if self._monotonic() >= self._until:
            return None
        record, replies = due.record, dict[str, "Reply"]()
        for place in sources_to_ask(record, topology):
            replies[place.bucket] = self._put(place, record, at_source=True)
        pending = any(isinstance(reply, Found) and reply.status == "PENDING" for reply in replies.values())
        for place in replicas_to_ask(record, topology, replies):
            replies[place.bucket] = self._put(place, record, at_source=False, pending=pending)
        return _Case(due, replies)

    def _put(self, place: Place, record: Record, *, at_source: bool, pending: bool = False) -> Reply:
        """Ask one bucket. ``pending``: the source has said that the version is still on its way."""
        known = self._wait(place.bucket)
        reply = known or self._prober.ask(place, record.key, record.version_id)
        with self._lock:
            self.questions += known is None
            self.buckets.add(place.bucket)
            if isinstance(reply, Unasked):
                # The source has answered, and that a Region is out of reach is why a version is pending.
                self._refused(place, reply, told=pending and reply.cause == "unreachable")
            else:
                self._refusals[place.bucket] = 0
                self.answers[meaning(reply, at_source=at_source)] += 1
        return reply

    def _wait(self, bucket: str) -> Unasked | None:
        """Return when the bucket may be asked; or, if it was given up, with the reason."""
        with self._lock:
            if bucket in self._given_up:
                return self._given_up[bucket]
            now = self._monotonic()
            begin = max(now, self._next.get(bucket, now))
            self._next[bucket] = begin + self._gap
        if begin > now:
            self._sleep(begin - now)
        return None

    def _refused(self, place: Place, reply: Unasked, *, told: bool) -> None:
        """A question that nobody answered; ``told``: what it was about is told in another way."""
        if not told:
            kind = (place.account, place.bucket, reply.cause, reply.permission)
            self._unasked[kind] += 1
            self._texts.setdefault(kind, reply.text)
        if reply.cause not in ABOUT_ONE_OBJECT:
            self._refusals[place.bucket] += 1
            if self._refusals[place.bucket] >= GIVE_UP:
                self._given_up.setdefault(place.bucket, reply)

    def unasked(self) -> list[CouldNotAsk]:
        """What could not be asked, the most frequent first."""
        return [CouldNotAsk(*kind, count, self._texts[kind]) for kind, count in self._unasked.most_common()]


def interleaved(dues: Iterable[Due]) -> list[Due]:
    """In turns from each source bucket, so that none of them has to wait for all of another's."""
    by_source: defaultdict[str | None, list[Due]] = defaultdict(list)
    for due in dues:
        by_source[due.record.source_bucket].append(due)
    return [due for due in chain.from_iterable(zip_longest(*by_source.values())) if due is not None]


def _portions(dues: Sequence[Due]) -> Iterable[Sequence[Due]]:
    return (dues[start : start + PORTION] for start in range(0, len(dues), PORTION))
