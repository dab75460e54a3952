"""One look: what is told to whom, what is remembered across processes, and the figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crr_monitor.core.agent_notes import AGENTS_NOTE, AgentQueue, AgentsNote, encode_agents
from crr_monitor.core.model import Status
from crr_monitor.core.notices import (
    CANARY_NOTE,
    UNANSWERED_NOTE,
    Flight,
    Unanswered,
    encode_canaries,
    encode_unanswered,
)
from crr_monitor.core.statistics import SLOT_MS
from crr_monitor.core.times import DAY_MS, MINUTE_MS, SECOND_MS
from crr_monitor.core.topology import Topology
from crr_monitor.sinks import now as now_module
from crr_monitor.sinks.now import look, newest_by_account
from crr_monitor.sinks.senders import SendError
from crr_monitor.sinks.watching import NOTE, Watch, growth, watch
from crr_monitor.stores.base import Counts, Query
from crr_monitor.stores.memory import MemoryStore
from tests.factories import (
    AT,
    AUDIT,
    REPLICA,
    SOURCE,
    TWO_DESTINATIONS,
    batch_of,
    config,
    failed,
    replica,
    rule,
    user_write,
)

if TYPE_CHECKING:
    from crr_monitor.core.notices import Notice
    from crr_monitor.sinks.watching import Seen

SETTINGS = Watch(overdue_ms=30 * MINUTE_MS)
OVERDUE_BOTH = [("overdue", AUDIT), ("overdue", REPLICA)]


class Box:
    """A receiver that keeps what it is sent, unless it is broken."""

    def __init__(self, name: str = "box") -> None:
        self.name = name
        self.notices: list[Notice] = []
        self.broken = False

    def send(self, notice: Notice) -> None:
        """Keep it."""
        if self.broken:
            message = "broken"
            raise SendError(message)
        self.notices.append(notice)

    def told(self) -> list[tuple[str, str, str]]:
        """What it was told: what, of which kind, for which destination."""
        return [(each.what, each.trouble.kind, each.trouble.destination) for each in self.notices]


def value(seen: Seen, name: str, **names: str) -> float | None:
    """The one value of a gauge."""
    for point in seen.points:
        if point.metric.name == name and dict(point.names) == names:
            (only,) = point.values
            return only
    return None


def store_with(*events: Any, **fields: Any) -> MemoryStore:  # noqa: ANN401 - events and what makes a batch
    """A store with some events in it."""
    store = MemoryStore(clock=lambda: AT)
    store.apply(batch_of(*events, **fields))
    return store


def test_failed_and_overdue() -> None:
    """Each destination is told apart: what failed there, and what should have arrived there."""
    store = store_with(user_write(size=7), failed(), topology=TWO_DESTINATIONS)
    box = Box()
    seen = watch(store, SETTINGS, [box], AT + 31 * MINUTE_MS)
    assert sorted(box.told()) == [("new", "failed", REPLICA), ("new", "overdue", AUDIT)]
    assert [(each.trouble.objects, each.trouble.bytes, each.trouble.since) for each in box.notices] == [(1, 7, AT)] * 2
    assert (value(seen, "FailedObjects"), value(seen, "PendingObjects")) == (1, 1)
    assert (value(seen, "UnsentNotifications"), seen.problems) == (0, [])


def test_over() -> None:
    """When the copy arrives it is over, told once; a look later there is nothing more to say."""
    store, box = store_with(user_write(), failed()), Box()
    watch(store, SETTINGS, [box], AT + MINUTE_MS)
    store.apply(batch_of(replica(at=AT + 2 * MINUTE_MS)))
    for minutes in (6, 11, 16):
        watch(store, SETTINGS, [box], AT + minutes * MINUTE_MS)
    assert box.told() == [("new", "failed", REPLICA), ("over", "failed", REPLICA)]


def test_failures_of_a_bucket_end() -> None:
    """For an hour after its last failure a bucket says 0, so that its alarm ends; before and after it says nothing."""
    store = store_with(user_write(), failed())
    looks = [value(watch(store, SETTINGS, [], AT), "FailedObjects", SourceBucket=SOURCE)]
    store.apply(batch_of(replica()))
    for minutes in (5, 60, 65):
        seen = watch(store, SETTINGS, [], AT + minutes * MINUTE_MS)
        looks.append(value(seen, "FailedObjects", SourceBucket=SOURCE))
    assert looks == [1, 0, 0, None]
    assert value(watch(store_with(), SETTINGS, [], AT), "FailedObjects", SourceBucket=SOURCE) is None


def test_each_receiver_for_itself() -> None:
    """Who could not be reached is told at the next look, and the other is not told twice."""
    store, one, other = store_with(user_write(), failed()), Box("one"), Box("other")
    other.broken = True
    seen = watch(store, SETTINGS, [one, other], AT + MINUTE_MS)
    assert (len(seen.problems), value(seen, "UnsentNotifications")) == (1, 1)
    assert seen.problems[0].endswith("(DstKmsKeyNotFound): broken")
    other.broken = False
    seen = watch(store, SETTINGS, [one, other], AT + 6 * MINUTE_MS)
    assert (one.told(), other.told()) == ([("new", "failed", REPLICA)],) * 2
    assert value(seen, "UnsentNotifications") == 0


def test_many_troubles() -> None:
    """Of very many troubles at once the largest are told alone and the rest in one message; each counts as told."""
    store, box = MemoryStore(clock=lambda: AT), Box()
    for number in range(30):
        bad = [
            event
            for copy in range(number + 1)
            for event in (
                user_write(f"b{number}", version_id=f"{number}-{copy}"),
                failed(source=f"b{number}", version_id=f"{number}-{copy}"),
            )
        ]
        store.apply(batch_of(*bad, topology=Topology([config(rule(), bucket=f"b{number}")])))
    watch(store, SETTINGS, [box], AT)
    assert [notice.trouble.objects for notice in box.notices[:19]] == list(range(30, 11, -1))
    assert box.notices[19].subject == "CRR Monitor: 11 more notices, 66 copies"
    assert "1 failed, b0 -> orders-dr (DstKmsKeyNotFound)" in box.notices[19].text.splitlines()
    watch(store, SETTINGS, [box], AT + 5 * MINUTE_MS)
    assert len(box.notices) == 20


def test_what_was_not_answered() -> None:
    """What reconciling left is told with its reason; being asked to slow down is only a figure."""
    store, box = store_with(user_write()), Box()
    assert value(watch(store, SETTINGS, [box], AT), "CouldNotAsk") is None
    found = [Unanswered(SOURCE, "role x may not s3:GetObjectVersion", 4), Unanswered(AUDIT, "slow", 2, throttled=True)]
    store.keep_note(UNANSWERED_NOTE, encode_unanswered(found))
    seen = watch(store, SETTINGS, [box], AT + 1)
    assert box.told() == [("new", "could-not-ask", "")]
    assert (value(seen, "CouldNotAsk"), value(seen, "Throttles")) == (4, 2)


@pytest.mark.parametrize(
    ("unanswered", "told", "age"),
    [
        (Unanswered(AUDIT, "no role", 1), [("could-not-ask", ""), ("overdue", REPLICA)], 31 * 60),
        (Unanswered(SOURCE, "no role", 1), [("could-not-ask", "")], 0),
        (Unanswered(SOURCE, "its key is its owner's", 1, single=True), [("could-not-ask", ""), *OVERDUE_BOTH], 31 * 60),
        (Unanswered(SOURCE, "slow down", 1, throttled=True), OVERDUE_BOTH, 31 * 60),
    ],
)
def test_what_is_not_known_is_not_overdue(unanswered: Unanswered, told: list[tuple[str, str]], age: float) -> None:
    """Where a bucket does not answer at all, that is told, and nothing as overdue; single objects hide nothing."""
    store, box = store_with(user_write(), topology=TWO_DESTINATIONS), Box()
    store.keep_note(UNANSWERED_NOTE, encode_unanswered([unanswered]))
    seen = watch(store, SETTINGS, [box], AT + 31 * MINUTE_MS)
    assert sorted((kind, destination) for _, kind, destination in box.told()) == sorted(told)
    assert (value(seen, "OldestPendingAge"), value(seen, "PendingObjects")) == (age, 2)


@pytest.mark.parametrize(
    ("reason", "days"),
    [("DstObjectHardDeleted", 1), ("DstBucketNotFound", None), (None, None)],
)
def test_failed_for_good(reason: str | None, days: int | None) -> None:
    """What no retry repairs is told for a day after it failed, also when it was written long before; the rest stays."""
    at = AT + 3 * DAY_MS
    store, box = store_with(user_write(), failed(reason=reason, at=at)), Box()
    counted = [value(watch(store, SETTINGS, [box], at + after), "FailedObjects") for after in (0, DAY_MS - 1, DAY_MS)]
    assert counted == [1, 1, 0 if days else 1]
    assert [record.status for record in store.records(Query())] == [Status.FAILED]
    if days:
        watch(store, SETTINGS, [box], at + DAY_MS + 5 * MINUTE_MS)
        assert box.notices[-1].what == "over"
        assert "They are still listed as FAILED." in box.notices[-1].text


def test_canary() -> None:
    """The canary that is latest counts; without one there is no figure."""
    store = store_with()
    assert value(watch(store, SETTINGS, [], AT), "CanaryAge") is None
    flights = {"a b": Flight(AT - 5 * SECOND_MS), "a c": Flight(AT - 60 * SECOND_MS)}
    store.keep_note(CANARY_NOTE, encode_canaries(flights))
    assert value(watch(store, SETTINGS, [], AT), "CanaryAge") == 60


def test_canary_lag() -> None:
    """The lag of each canary is published once, for all together and, with each pair, by source and destination."""
    store, settings = store_with(), msgspec.structs.replace(SETTINGS, detail="PerPair")
    looks = []
    for lags in ({AT: 2_500}, {AT: 2_500}, {AT: 2_500, AT + 1: 900, AT + 2: 900}):
        store.keep_note(CANARY_NOTE, encode_canaries({"a b": Flight(AT, lags)}))
        seen = watch(store, settings, [], AT)
        looks.append({point.names: point.values for point in seen.points if point.metric.name == "CanaryLag"})
    pair = (("SourceBucket", "a"), ("DestBucket", "b"))
    assert looks == [{(): {2.5: 1}, pair: {2.5: 1}}, {}, {(): {0.9: 2}, pair: {0.9: 2}}]


def test_events_since_the_last_look() -> None:
    """Counts are those since the look before; the first look has nothing to compare with."""
    store = store_with()
    counts = Counts(messages=9, events=5, malformed=1, ignored={"read": 3, "other": 1})
    batch = batch_of()
    batch.counts = counts
    store.apply(batch)
    assert value(watch(store, SETTINGS, [], AT), "Events", Kind="taken") == 0
    store.apply(batch)
    seen = watch(store, SETTINGS, [], AT)
    assert [value(seen, "Events", Kind=kind) for kind in ("taken", "ignored")] == [5, 4]
    assert value(seen, "Malformed") == 1


def test_unreadable_memory() -> None:
    """A damaged document is like none, not the end of watching."""
    store = store_with()
    store.keep_note(NOTE, b"{")
    assert value(watch(store, SETTINGS, [], AT), "BacklogGrowth") == 0


def test_undeliverable() -> None:
    """The number that is given is published, and none when nobody knows it."""
    assert value(watch(store_with(), SETTINGS, [], AT, 3), "UndeliverableEvents") == 3
    assert value(watch(store_with(), SETTINGS, [], AT), "UndeliverableEvents") is None


def test_per_pair() -> None:
    """With each pair, every pair of the topology has its backlog, also if that is 0."""
    store = store_with()
    store.learn([(config(rule()), True)])
    seen = watch(store, Watch(detail="PerPair"), [], AT)
    assert value(seen, "PendingObjects", SourceBucket=SOURCE, DestBucket=REPLICA) == 0


@pytest.mark.parametrize(
    ("late", "expected"),
    [([0, 0, 0, 0], 0), ([1, 5, 9, 12], 11), ([1, 5, 4, 12], 0), ([5, 5, 6, 6], 1), ([0, 100], 0)],
)
def test_growth(late: list[int], expected: int) -> None:
    """A backlog grows when it never fell for a quarter of an hour at least."""
    assert growth([(AT + number * 5 * MINUTE_MS, count) for number, count in enumerate(late)]) == expected


def test_growing_backlog() -> None:
    """What is only under way does not make a backlog grow; what is late does."""
    store = store_with()
    seen = []
    for number in range(7):
        at = AT + number * 5 * MINUTE_MS
        store.apply(batch_of(*(user_write(version_id=f"{number}-{each}", at=at) for each in range(10))))
        seen.append(value(watch(store, SETTINGS, [], at + 10_000), "BacklogGrowth"))
    assert seen == [0, 0, 0, 30, 40, 50, 60]


def test_many_open_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where records are too many to be read, the statistics give the same numbers, and ages to a slot."""
    events = [user_write(version_id=str(number), at=AT + number * MINUTE_MS, size=3) for number in range(40)]
    store = store_with(*events, *(failed(version_id=str(number)) for number in range(4)))
    at = AT + 50 * MINUTE_MS
    exact = look(store, at, overdue_ms=20 * MINUTE_MS, rpo_ms=15 * MINUTE_MS)
    monkeypatch.setattr(now_module, "FEW", 10)
    rough = look(store, at, overdue_ms=20 * MINUTE_MS, rpo_ms=15 * MINUTE_MS)
    one, other = exact.pair(SOURCE, REPLICA), rough.pair(SOURCE, REPLICA)
    assert (one.pending.objects, one.pending.bytes) == (other.pending.objects, other.pending.bytes) == (36, 108)
    assert (one.failed["DstKmsKeyNotFound"].objects, other.failed["DstKmsKeyNotFound"].objects) == (4, 4)
    assert (one.failed["DstKmsKeyNotFound"].bytes, other.failed["DstKmsKeyNotFound"].bytes) == (12, None)
    assert (one.overdue.objects, other.overdue.objects) == (26, 26)
    assert (one.pending.since, other.pending.since) == (AT + 4 * MINUTE_MS, AT)


@given(st.lists(st.integers(0, 100), max_size=30), st.integers(0, 60))
def test_never_overdue_too_early(minutes: list[int], threshold: int) -> None:
    """The statistics never call overdue what is not, and miss it by one slot at most."""
    events = [user_write(version_id=str(n), at=AT + minute * MINUTE_MS) for n, minute in enumerate(minutes)]
    store = store_with(*events)
    at, overdue_ms = AT + 100 * MINUTE_MS, threshold * MINUTE_MS
    exact = look(store, at, overdue_ms=overdue_ms, rpo_ms=1).pair(SOURCE, REPLICA).overdue.objects
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(now_module, "FEW", -1)
        rough = look(store, at, overdue_ms=overdue_ms, rpo_ms=1).pair(SOURCE, REPLICA).overdue.objects
        later = look(store, at + SLOT_MS, overdue_ms=overdue_ms, rpo_ms=1).pair(SOURCE, REPLICA).overdue.objects
    assert rough <= exact <= later


def test_share() -> None:
    """The share counts what was in time and what is past its deadline, and not what still has time."""
    store = store_with(
        user_write(version_id="1"),
        replica(version_id="1"),
        user_write(version_id="2"),
        user_write(version_id="3", at=AT + 20 * MINUTE_MS),
    )
    state = look(store, AT + 21 * MINUTE_MS, overdue_ms=1, rpo_ms=15 * MINUTE_MS)
    assert (state.share, state.shares) == (0.5, {(SOURCE, REPLICA): 0.5})
    assert store.oldest(Status.PENDING) == AT


def test_newest_by_account() -> None:
    """A source's account is heard by its writes, a destination's by what arrived."""
    store = store_with(user_write())
    store.learn(
        [
            (config(rule(), account="111122223333"), True),
            (config(bucket=REPLICA, account="444455556666", place_only=True), True),
        ]
    )
    slot = AT // SLOT_MS * SLOT_MS + SLOT_MS
    assert newest_by_account(store, AT + SLOT_MS) == {"111122223333": slot}
    store.apply(batch_of(replica()))
    assert newest_by_account(store, AT + SLOT_MS) == {"111122223333": slot, "444455556666": slot}
    assert newest_by_account(store, AT + 10_000)["111122223333"] == AT + 10_000
    later = AT + 3 * 3_600_000
    assert newest_by_account(store, later, {"111122223333": slot, "other": 1}) == {"111122223333": slot}


@pytest.mark.parametrize(("own", "agents", "published"), [(3, 2, 5), (None, 2, 2), (3, 0, 3), (None, 0, None)])
def test_undeliverable_at_agents(own: int | None, agents: int, published: int | None) -> None:
    """What agents could not deliver is added, and told with the account; what nobody knows is no 0."""
    store, box = store_with(), Box()
    queues = {"444455556666": AgentQueue("queue", {"eu-west-1": agents})} if agents else {}
    store.keep_note(AGENTS_NOTE, encode_agents(AgentsNote(queues)))
    assert value(watch(store, SETTINGS, [box], AT, own), "UndeliverableEvents") == published
    assert [(notice.trouble.kind, notice.trouble.account) for notice in box.notices] == (
        [("undelivered", "444455556666")] if agents else []
    )
