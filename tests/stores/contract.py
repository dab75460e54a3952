"""What every store promises, as tests: a store joins by a class that says how it is made and opened again."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crr_monitor.core.interpret import interpret
from crr_monitor.core.merge import merge
from crr_monitor.core.model import Status
from crr_monitor.core.statistics import SLOT_MS, Cell
from crr_monitor.core.times import DAY_MS, HOUR_MS, MINUTE_MS
from crr_monitor.core.topology import Topology
from crr_monitor.stores.base import Asked, Batch, Counts, Look, Newest, Position, Purged, Query, Retention, VersionKey
from tests.core.generated import events, topologies
from tests.factories import (
    AT,
    AUDIT,
    BY_TAG,
    INFERRED,
    KEY,
    ONE_WAY,
    REPLICA,
    SOURCE,
    TWO_DESTINATIONS,
    TWO_WAY,
    VERSION,
    answered,
    batch_of,
    config,
    failed,
    replica,
    rule,
    user_write,
    written,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from crr_monitor.core.events import Event
    from crr_monitor.core.evidence import Evidence
    from crr_monitor.core.model import Record
    from crr_monitor.stores.base import Store

KEEP = Retention()
OVERDUE = 15 * MINUTE_MS
GOLD_AUDIT = Topology([config(rule(), rule(AUDIT, tags=(("class", "gold"),)))])
"""Everything goes to the replica, and what has a tag also to the audit bucket."""
THREE_SOURCES = Topology([config(rule()), config(rule(AUDIT), bucket="other"), config(rule(AUDIT), bucket="third")])


class Backend(ABC):
    """Where one store lives: a clock that tests set, a hook between its steps, and handles onto the same data."""

    concurrent = True
    """Whether several handles may write at the same time."""

    def __init__(self) -> None:
        self.now = AT
        self.step: Callable[[str], None] = lambda _name: None

    def clock(self) -> int:
        """The store's clock."""
        return self.now

    def on_step(self, name: str) -> None:
        """Called by the store between its steps."""
        self.step(name)

    @abstractmethod
    def open(self) -> Store:
        """One more handle."""

    def close(self) -> None:  # noqa: B027 - not every backend has something to remove
        """Remove everything."""


class KilledError(Exception):
    """Stands for the end of the process."""


def everything(store: Store) -> dict[str, Any]:
    """All that a store shows."""
    records = list(store.records(Query())) + list(store.records(Query(uncertain=True)))
    return {
        "records": {(record.key, record.version_id): record for record in records},
        "cells": dict(store.cells(None, None)),
        "pending": sorted(map(repr, store.pending(0, 2**60))),
        "counts": store.counts(),
        "newest": store.newest(),
        "positions": [store.position("one"), store.position("two")],
        "topology": store.topology(),
    }


def only(records: Sequence[Record] | Iterator[Record]) -> Record:
    """The one record that is there."""
    (record,) = records
    return record


def statuses(store: Store, **query: Any) -> list[Status]:  # noqa: ANN401 - any field of a query
    """Status of each record that is listed."""
    return [record.status for record in store.records(Query(**query))]


def total(store: Store) -> Cell:
    """All cells in one."""
    whole = Cell()
    for _, cell in store.cells(None, None):
        whole.add(cell)
    return whole


def versions_at(*times: int, **fields: Any) -> list[Event]:  # noqa: ANN401 - any field of the event
    """Writes of different versions, named by their time after ``AT``."""
    return [user_write(version_id=f"v{ms}", at=AT + ms, **fields) for ms in times]


shared = settings(max_examples=60, suppress_health_check=[HealthCheck.differing_executors, HealthCheck.too_slow])
batches = given(
    st.lists(st.tuples(events, st.integers(0, 1)), max_size=12), st.tuples(topologies, topologies), st.data()
)
"""Events with the topology by which each is read, the two topologies, and how to tell them in another way."""


class StoreContract:
    """The promises. Subclasses say how a backend is made."""

    def make(self) -> Backend:
        """A backend without any data."""
        raise NotImplementedError

    @pytest.fixture
    def backend(self) -> Iterator[Backend]:
        """An empty backend."""
        with closing(self.make()) as backend:
            yield backend

    @pytest.fixture
    def store(self, backend: Backend) -> Iterator[Store]:
        """An empty store."""
        with closing(backend.open()) as store:
            yield store

    # ------------------------------------------------------------------ apply

    def test_nothing(self, store: Store) -> None:
        """A new store holds nothing."""
        empty = {
            "records": {},
            "cells": {},
            "pending": [],
            "counts": Counts(),
            "newest": None,
            "positions": [None, None],
            "topology": Topology(),
        }
        assert everything(store) == empty
        assert store.apply(Batch()) == 0
        assert store.purge() == Purged()
        assert everything(store) == empty

    def test_source_and_replica(self, store: Store) -> None:
        """A copy is pending until its replica comes, and counts as one object all the time."""
        assert store.apply(batch_of(user_write(size=7))) == 1
        assert statuses(store) == [Status.PENDING]
        assert (total(store).pending, total(store).pending_bytes) == (1, 7)
        assert [share.key.slot for share in store.pending(AT, AT + 1)] == [AT]
        assert store.apply(batch_of(replica())) == 1
        assert statuses(store) == [Status.COMPLETED]
        assert (total(store).objects, total(store).completed, total(store).pending) == (1, 1, 0)
        assert list(store.pending(0, 2**60)) == []

    def test_again(self, store: Store) -> None:
        """The same evidence again changes nothing but the counts."""
        batch = batch_of(user_write(), failed(), replica(AUDIT), topology=TWO_DESTINATIONS)
        batch.counts = Counts(messages=3, events=3, malformed=1, ignored={"read": 2})
        assert store.apply(batch) == 1
        before = everything(store)
        assert store.apply(batch) == 0
        assert everything(store) == {**before, "counts": Counts(6, 6, 2, {"read": 4})}

    def test_hidden_change(self, store: Store) -> None:
        """Evidence that makes no listed record is no change to count, and is there when the rest comes."""
        assert store.apply(batch_of(user_write(), topology=INFERRED)) == 0
        assert (statuses(store), list(store.cells(None, None))) == ([], [])
        assert store.apply(batch_of(replica(), topology=INFERRED)) == 1
        assert only(store.records(Query())).copies[0].lag_ms == 10_000

    def test_moving_between_cells(self, store: Store) -> None:
        """Late evidence that changes the time or the pair of a record moves it, and leaves no empty cell behind."""
        store.apply(batch_of(replica(at=AT + 2 * SLOT_MS)))
        store.apply(batch_of(user_write()))
        cells = list(store.cells(None, None))
        assert [(key.slot, key.source, key.destination) for key, _ in cells] == [(AT // SLOT_MS, SOURCE, REPLICA)]

    @shared
    @batches
    def test_any_order_any_batches(
        self, told: list[tuple[Event, int]], known: tuple[Topology, Topology], data: st.DataObject
    ) -> None:
        """Any order, with any duplicates, cut into any batches: the same records and the same statistics."""
        self.any_order(told, known, data)

    def any_order(self, told: list[tuple[Event, int]], known: tuple[Topology, Topology], data: st.DataObject) -> None:
        """Compare a store that was told all at once with one that was told the same in another way."""
        again = data.draw(
            st.permutations(told + data.draw(st.lists(st.sampled_from(told), max_size=4)) if told else [])
        )
        cuts = sorted(data.draw(st.lists(st.integers(0, len(again)), max_size=4)))
        with closing(self.make()) as one, closing(self.make()) as other:
            with closing(one.open()) as store:
                store.apply(_batch(told, known))
                expected = everything(store)
            with closing(other.open()) as store:
                for begin, end in zip([0, *cuts], [*cuts, len(again)], strict=True):
                    store.apply(_batch(again[begin:end], known))
                assert everything(store) == expected

    # ------------------------------------------------- positions and the rest

    def test_position(self, backend: Backend, store: Store) -> None:
        """The last position of each source is kept, whole."""
        store.apply(Batch(positions=[Position("one", 7, 70, fingerprint="f"), Position("two", 1)]))
        store.apply(Batch(positions=[Position("one", 9, 90, done=True)]))
        with closing(backend.open()) as other:
            assert other.position("one") == Position("one", 9, 90, done=True)
            assert other.position("two") == Position("two", 1)
            assert other.position("three") is None

    def test_newest(self, backend: Backend, store: Store) -> None:
        """The newest event's time is kept with the store's clock when it came; older ones change nothing."""
        store.apply(Batch(newest_event=AT - 5))
        backend.now += 9
        store.apply(Batch(newest_event=AT - 6))
        store.apply(Batch(newest_event=AT - 5))
        assert store.newest() == Newest(AT - 5, AT)
        store.apply(Batch(newest_event=AT - 4))
        assert store.newest() == Newest(AT - 4, AT + 9)

    def test_topology(self, backend: Backend, store: Store) -> None:
        """What is learned is kept, counts from the store's clock, and survives the process."""
        placed = config(rule(tags=(("class", "gold"),), kms=True), account="1", region="r")
        learned = store.learn([(placed, False), (config(bucket=REPLICA, region="r2"), False)])
        backend.now += 5
        store.learn([(placed, False)])
        with closing(backend.open()) as other:
            assert other.topology() == store.topology() == learned
            assert [one.since for one in other.topology().configs] == [AT, 0]

    # ----------------------------------------------------------------- notes

    def test_notes(self, backend: Backend, store: Store) -> None:
        """A note is kept by its name, survives the process, is replaced, and goes when nothing is kept in its place."""
        assert store.note("one") is None
        store.keep_note("one", b"\0first" * 1_000)
        store.keep_note("two", b"")
        store.keep_note("one", b"second")
        store.keep_note("three", b"third")
        store.keep_note("three", None)
        store.keep_note("four", None)
        with closing(backend.open()) as other:
            assert [other.note(name) for name in ("one", "two", "three", "four")] == [b"second", b"", None, None]

    def test_notes_are_nothing_else(self, store: Store) -> None:
        """Notes change nothing that is counted or listed, and a change of the store changes no note."""
        before = everything(store)
        store.keep_note("one", b"1")
        assert everything(store) == before
        store.apply(batch_of(user_write()))
        store.purge()
        assert store.note("one") == b"1"

    def test_note_is_killed(self, backend: Backend, store: Store) -> None:
        """Killed while it keeps a note, the store has the one before."""
        store.keep_note("one", b"1")

        def kill(_name: str) -> None:
            raise KilledError

        backend.step = kill
        with pytest.raises(KilledError):
            store.keep_note("one", b"2")
        backend.step = lambda _name: None
        assert store.note("one") == b"1"

    def test_oldest(self, backend: Backend, store: Store) -> None:
        """The oldest that is pending and the oldest that failed are found; settled, uncertain and gone ones are not."""
        assert [store.oldest(status) for status in (Status.PENDING, Status.FAILED)] == [None, None]
        store.apply(batch_of(*versions_at(30, 10, 20)))
        store.apply(batch_of(user_write(version_id="tagged", at=AT - 5), topology=BY_TAG))
        store.apply(batch_of(replica(version_id="v10")))
        assert [store.oldest(status) for status in (Status.PENDING, Status.FAILED)] == [AT + 20, None]
        store.apply(batch_of(failed(version_id="v30"), failed(version_id="v20")))
        assert [store.oldest(status) for status in (Status.PENDING, Status.FAILED)] == [None, AT + 20]
        backend.now += KEEP.unsettled
        store.purge()
        assert [store.oldest(status) for status in (Status.PENDING, Status.FAILED)] == [None, None]

    # ------------------------------------------------------------------- kill

    @pytest.mark.parametrize("change", ["apply", "purge", "learn"])
    def test_killed_between_any_two_steps(self, change: str) -> None:
        """Whichever step a change is stopped at, the store is as before; done again, it is as undisturbed."""
        steps: list[str] = []
        with closing(self.make()) as backend:
            store = self._prepared(backend)
            backend.step = steps.append
            _CHANGES[change](store)
            after = everything(store)
            store.close() if backend.concurrent else None
        for number in range(len(steps)):
            with closing(self.make()) as backend:
                store = self._prepared(backend)
                before = everything(store)
                assert before != after
                backend.step = _killer(number)
                with pytest.raises(KilledError):
                    _CHANGES[change](store)
                backend.step = lambda _name: None
                store = self._reopened(backend, store)
                assert everything(store) == before
                _CHANGES[change](store)
                assert everything(store) == after
                store.close()
        assert change == "learn" or len(steps) >= 3

    def _prepared(self, backend: Backend) -> Store:
        """A store with records to change, to add and to remove."""
        store = backend.open()
        store.apply(batch_of(*versions_at(1), *(replica(version_id="v1"),), *versions_at(2)))
        backend.now = AT + 14 * DAY_MS
        store.apply(batch_of(*versions_at(3)))
        return store

    @staticmethod
    def _reopened(backend: Backend, store: Store) -> Store:
        if backend.concurrent:
            store.close()
        return backend.open()

    # -------------------------------------------------------------- side by side

    def test_readers_see_whole_batches(self, backend: Backend, store: Store) -> None:
        """A reader beside the writer sees each batch whole or not at all, and a record that settles meanwhile once."""
        store.apply(batch_of(*versions_at(0)))
        done = threading.Event()
        wrong: list[object] = []

        def read() -> None:
            with closing(backend.open()) if backend.concurrent else _kept(store) as reader:
                while not done.is_set():
                    listed = list(reader.records(Query()))
                    names = {record.version_id for record in listed}
                    if len(names) != len(listed) or len(names) % 2 == 0 or total(reader).objects % 2 == 0:
                        wrong.append(sorted(names))

        thread = threading.Thread(target=read)
        thread.start()
        for number in range(1, 60, 2):
            pair = versions_at(number, number + 1)
            store.apply(batch_of(*pair))
            store.apply(batch_of(*[replica(version_id=event.version_id) for event in pair]))
        done.set()
        thread.join()
        assert wrong == []

    def test_two_writers(self, backend: Backend) -> None:
        """Two writers with overlapping evidence end in what one would have made."""
        batches = [batch_of(*versions_at(number, number + 1), counts=Counts(messages=1)) for number in range(20)]
        with closing(self.make()) as alone, closing(alone.open()) as store:
            for batch in batches:
                store.apply(batch)
            expected = everything(store)

        def write(share: list[Batch]) -> None:
            with closing(backend.open()) if backend.concurrent else _kept(backend.open()) as writer:
                for batch in share:
                    writer.apply(batch)

        threads = [threading.Thread(target=write, args=(batches[start::2],)) for start in range(2)]
        for thread in threads:
            thread.start()
            if not backend.concurrent:
                thread.join()
        for thread in threads:
            thread.join()
        with closing(backend.open()) as store:
            assert everything(store) == expected

    # -------------------------------------------------------------- retention

    def test_settled_leaves_after_a_day(self, backend: Backend, store: Store) -> None:
        """A settled record leaves 24 hours after it last changed, by the store's clock, however old its events are."""
        backend.now = AT + 300 * DAY_MS
        store.apply(batch_of(user_write()))
        backend.now += HOUR_MS
        store.apply(batch_of(replica()))
        backend.now += DAY_MS - 1
        store.apply(batch_of(replica()))  # tells nothing new, so it does not count as a change
        assert (store.purge(), statuses(store)) == (Purged(), [Status.COMPLETED])
        before = total(store)
        backend.now += 1
        assert (store.purge(), statuses(store)) == (Purged(settled=1), [])
        assert total(store) == before

    def test_undecided_write_leaves_after_a_day(self, backend: Backend, store: Store) -> None:
        """A write of which nothing more was heard, where no rules are known, is settled too."""
        store.apply(batch_of(user_write(), topology=INFERRED))
        backend.now += DAY_MS
        assert store.purge() == Purged(settled=1)

    @pytest.mark.parametrize(
        ("told", "topology"),
        [
            ((user_write(),), ONE_WAY),
            ((user_write(), failed()), ONE_WAY),
            ((user_write(),), BY_TAG),
            ((written(), written(REPLICA)), TWO_WAY),
            ((user_write(), replica()), TWO_DESTINATIONS),
        ],
    )
    def test_unsettled_stays(self, backend: Backend, store: Store, told: tuple[Event, ...], topology: Topology) -> None:
        """What is pending, failed, uncertain or undecided stays for 14 days without a change."""
        store.apply(batch_of(*told, topology=topology))
        before = everything(store)
        backend.now += 14 * DAY_MS - 1
        assert (store.purge(), everything(store)) == (Purged(), before)
        backend.now += 1
        assert store.purge() == Purged(expired=1)
        assert everything(store)["records"] == {}

    def test_expired_leaves_a_trace(self, backend: Backend, store: Store) -> None:
        """A pending copy that is given up is counted as expired and no longer as pending; a failed one stays failed."""
        store.apply(batch_of(user_write(size=7), failed(AUDIT), topology=TWO_DESTINATIONS))
        backend.now += 14 * DAY_MS
        store.purge()
        assert total(store) == Cell(objects=2, bytes=14, failed=1, expired=1, reasons={"DstKmsKeyNotFound": 1})
        assert list(store.pending(0, 2**60)) == []

    @pytest.mark.parametrize("event", [replica(), failed(), user_write()])
    def test_counts_once_ever(self, backend: Backend, store: Store, event: Event) -> None:
        """A record that left and comes again is listed again and never counted again, however often that happens."""
        batch = batch_of(user_write(size=7), event)
        store.apply(batch)
        backend.now += 14 * DAY_MS
        store.purge()
        counted = total(store)
        for _ in range(3):
            assert store.apply(batch) == 1
            assert len(statuses(store)) == 1
            assert (total(store), list(store.pending(0, 2**60))) == (counted, [])
            backend.now += 14 * DAY_MS
            assert store.purge().settled + store.purge().expired <= 1
            assert (statuses(store), total(store)) == ([], counted)
        store.apply(batch_of(user_write(size=7)))
        store.apply(batch_of(replica(AUDIT)))
        assert total(store) == counted

    def test_never_counted_is_counted_later(self, backend: Backend, store: Store) -> None:
        """What left before anything of it was counted is counted when it comes again."""
        store.apply(batch_of(user_write(), topology=INFERRED))
        backend.now += DAY_MS
        store.purge()
        store.apply(batch_of(user_write(), replica(), topology=INFERRED))
        assert total(store).completed == 1

    def test_statistics_leave_after_400_days(self, backend: Backend, store: Store) -> None:
        """Cells leave 400 days after they last changed, by the store's clock, however old the time they are about."""
        backend.now = AT + 2_000 * DAY_MS
        batch = batch_of(user_write(size=7), replica())
        store.apply(batch)
        counted = total(store)
        assert store.purge() == Purged()
        backend.now += 400 * DAY_MS - 1
        assert (store.purge(), total(store)) == (Purged(settled=1), counted)
        backend.now += 1
        assert (store.purge(), total(store)) == (Purged(cells=1), Cell())

    def test_a_late_change_keeps_statistics(self, backend: Backend, store: Store) -> None:
        """What changes late stays late: no cell leaves under its records, and none has less than nothing in it."""
        store.apply(batch_of(*versions_at(0, 1, 2)))
        backend.now = AT + 401 * DAY_MS
        store.apply(batch_of(replica(version_id="v0")))
        for _ in range(3):
            store.purge(limit=1)
        assert (total(store).completed, total(store).expired, total(store).pending) == (1, 2, 0)
        backend.now += 400 * DAY_MS
        store.purge()
        store.purge()
        assert (list(store.cells(None, None)), statuses(store)) == ([], [])

    def test_what_was_counted_is_remembered_as_long_as_statistics(self, backend: Backend, store: Store) -> None:
        """A version counts again only after everything that counted it has left."""
        batch = batch_of(user_write(size=7), replica())
        store.apply(batch)
        backend.now += DAY_MS
        store.purge()
        backend.now += 400 * DAY_MS - 1
        store.purge()
        store.apply(batch)
        assert total(store) == Cell()
        backend.now += 400 * DAY_MS
        store.purge()
        backend.now += 400 * DAY_MS
        store.purge()
        store.apply(batch)
        assert total(store).completed == 1

    def test_pairs(self, backend: Backend, store: Store) -> None:
        """Every pair that was ever counted is known, also when its records and statistics have left."""
        assert store.pairs() == []
        store.apply(batch_of(user_write(), replica(), topology=TWO_DESTINATIONS))
        known = store.pairs()
        assert [(source, destination) for source, destination, _ in known] == [(SOURCE, AUDIT), (SOURCE, REPLICA)]
        for days in (14, 400):
            backend.now += days * DAY_MS
            store.purge()
        assert (list(store.cells(None, None)), store.pairs()) == ([], known)

    def test_limit(self, backend: Backend, store: Store) -> None:
        """A purge removes at most so many records, and goes on when called again."""
        store.apply(batch_of(*versions_at(0, 1, 2), *[replica(version_id=f"v{number}") for number in range(2)]))
        backend.now += 14 * DAY_MS
        removed = [store.purge(limit=2) for _ in range(3)]
        assert [one.settled + one.expired for one in removed] == [2, 1, 0]
        assert total(store).expired == 1

    def test_own_retention(self) -> None:
        """The store keeps what it is told to keep."""
        assert (KEEP.settled, KEEP.unsettled, KEEP.statistics) == (DAY_MS, 14 * DAY_MS, 400 * DAY_MS)

    # --------------------------------------------------------- what to ask S3

    @pytest.mark.parametrize(
        ("told", "topology"),
        [
            ((user_write(),), ONE_WAY),
            ((user_write(), failed()), ONE_WAY),
            ((user_write(),), BY_TAG),
            ((written(), written(REPLICA)), TWO_WAY),
            ((user_write(), replica()), TWO_DESTINATIONS),
            ((user_write(), replica()), GOLD_AUDIT),
        ],
        ids=["pending", "failed", "uncertain", "undecided", "one of two", "one of two, the other uncertain"],
    )
    def test_due_when_overdue(self, store: Store, told: tuple[Event, ...], topology: Topology) -> None:
        """What is not settled is due as soon as it is overdue, and not before."""
        store.apply(batch_of(*told, topology=topology))
        assert store.due(AT + OVERDUE - 1, OVERDUE, 9) == []
        (due,) = store.due(AT + OVERDUE, OVERDUE, 9)
        assert (due.record.version_id, due.asks, due.due_at) == (VERSION, 0, AT + OVERDUE)
        assert due.record == only(store.versions(SOURCE, KEY, VERSION))

    @pytest.mark.parametrize("last", [replica(), answered("not-eligible"), answered("gone")])
    def test_settled_is_not_due(self, store: Store, last: Event) -> None:
        """What is settled is never due."""
        store.apply(batch_of(user_write(), last))
        assert store.due(AT + DAY_MS, OVERDUE, 9) == []

    def test_longest_due_first(self, store: Store) -> None:
        """At most so many are given, the longest due first, whether they were asked about or not."""
        store.apply(batch_of(*versions_at(5, 1, 4, 2, 3, 9), failed(version_id="v2"), failed(version_id="v9")))
        store.asked([Asked(KEY, "v1", 1, AT + OVERDUE + 3), Asked(KEY, "v5", 2, AT + OVERDUE)])
        now = AT + OVERDUE + 8
        found = [(due.record.version_id, due.asks, due.due_at - AT - OVERDUE) for due in store.due(now, OVERDUE, 9)]
        assert sorted(found[2:4]) == [("v1", 1, 3), ("v3", 0, 3)]
        assert [*found[:2], *found[4:]] == [("v5", 2, 0), ("v2", 0, 2), ("v4", 0, 4)]
        assert [due.record.version_id for due in store.due(now, OVERDUE, 2)] == ["v5", "v2"]
        assert store.due(now, OVERDUE, 0) == []

    def test_a_look_takes_turns(self, store: Store) -> None:
        """Source buckets take turns in what a look gives, so that others are found behind very many of one."""
        store.apply(batch_of(*versions_at(*range(130)), topology=THREE_SOURCES))
        late = [user_write("other", version_id=f"o{number}", at=AT + 200 + number) for number in range(3)]
        store.apply(batch_of(*late, user_write("third", version_id="t", at=AT + 300), topology=THREE_SOURCES))
        store.asked([Asked(KEY, "v3", 1, AT + OVERDUE), Asked(KEY, "o1", 1, AT + OVERDUE + 1)])
        now = AT + DAY_MS
        names = [due.record.version_id for due in store.look(now, OVERDUE, 20).dues]
        assert (sorted(names[:2]), sorted(names[2:4])) == (["v0", "v3"], ["o1", "v1"])
        assert (names[-3:], len(names)) == (["o0", "o2", "t"], 20)
        assert [due.record.version_id for due in store.look(now, OVERDUE, 14).dues][-3:] == ["o0", "o2", "t"]
        assert store.look(now, OVERDUE, 0).dues == []

    def test_a_look_begins_where_it_should(self, store: Store) -> None:
        """Only what is due since then is looked at, whether somebody asked about it or not."""
        store.apply(batch_of(*versions_at(*range(9))))
        store.asked([Asked(KEY, "v0", 1, AT + OVERDUE + 5), Asked(KEY, "v8", 1, AT + OVERDUE + 4)])
        look = store.look(AT + OVERDUE + 6, OVERDUE, 9, AT + OVERDUE + 5)
        assert sorted(due.record.version_id for due in look.dues) == ["v0", "v5", "v6"]
        assert store.look(AT + OVERDUE + 6, OVERDUE, 9, AT + OVERDUE + 7) == Look([])

    def test_no_bucket_is_hidden(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        """However much more one bucket has than a look reads, looks in a row find all that is due of every other."""
        monkeypatch.setattr("crr_monitor.stores.base.LOOKED", 3)
        store.apply(batch_of(*versions_at(*range(200)), topology=THREE_SOURCES))
        late = [user_write("other", version_id=f"o{number}", at=AT + 150 + number) for number in range(4)]
        store.apply(batch_of(*late, user_write("third", version_id="t", at=AT + 300), topology=THREE_SOURCES))
        found: list[str] = []
        begin, looks = None, 0
        while True:
            look = store.look(AT + DAY_MS, OVERDUE, 10, begin)
            found += [due.record.version_id for due in look.dues]
            begin, looks = look.end, looks + 1
            if begin is None:
                break
        assert {name for name in found if name[0] != "v"} == {"o0", "o1", "o2", "o3", "t"}
        assert looks <= 205 // 30 + 1

    def test_many_are_due(self, store: Store) -> None:
        """More than one page of an index are given in their order."""
        store.apply(batch_of(*versions_at(*range(250))))
        store.asked([Asked(KEY, f"v{number}", 1, AT + OVERDUE + number) for number in range(0, 250, 2)])
        found = [due.due_at - AT - OVERDUE for due in store.due(AT + DAY_MS, OVERDUE, 240)]
        assert found == list(range(240))

    def test_asked_is_due_again(self, backend: Backend, store: Store) -> None:
        """Who was asked about is due when it was said, also after the process ended, and however often."""
        store.apply(batch_of(user_write()))
        for asks, pause in ((1, 15), (2, 30), (3, 60)):
            due_at = AT + pause * MINUTE_MS
            store.asked([Asked(KEY, VERSION, asks, due_at)])
            with closing(backend.open()) if backend.concurrent else _kept(store) as other:
                assert other.due(due_at - 1, OVERDUE, 9) == []
                assert [(due.asks, due.due_at) for due in other.due(due_at, OVERDUE, 9)] == [(asks, due_at)]

    def test_asking_is_no_evidence(self, backend: Backend, store: Store) -> None:
        """That S3 was asked changes nothing that the store shows, nor how long the record stays."""
        store.apply(batch_of(*versions_at(1, 2), failed(version_id="v2")))
        before = everything(store)
        backend.now += 14 * DAY_MS - 1
        store.asked([Asked(KEY, "v1", 7, AT + 30 * DAY_MS), Asked(KEY, "v2", 1, AT + 30 * DAY_MS)])
        assert (everything(store), store.purge()) == (before, Purged())
        assert store.oldest(Status.PENDING) == AT + 1
        backend.now += 1
        assert store.purge() == Purged(expired=2)
        assert store.due(AT + 40 * DAY_MS, OVERDUE, 9) == []

    def test_asked_about_what_is_not_open(self, store: Store) -> None:
        """Who asked about a version that is settled meanwhile, or unknown, leaves no trace."""
        store.apply(batch_of(user_write(), replica()))
        before = everything(store)
        store.asked([Asked(KEY, VERSION, 1, AT), Asked(KEY, "unknown", 1, AT)])
        assert store.due(AT + DAY_MS, OVERDUE, 9) == []
        store.asked([])
        assert everything(store) == before
        store.apply(batch_of(user_write(version_id="unknown")))
        assert [due.asks for due in store.due(AT + DAY_MS, OVERDUE, 9)] == [0]

    @pytest.mark.parametrize("news", [failed(), replica()])
    def test_news_deserve_a_new_look(self, store: Store, news: Event) -> None:
        """What changes a record that stays open makes it due anew; what is known already does not."""
        store.apply(batch_of(user_write(), topology=TWO_DESTINATIONS))
        store.asked([Asked(KEY, VERSION, 5, AT + DAY_MS)])
        store.apply(batch_of(user_write(), topology=TWO_DESTINATIONS))
        assert store.due(AT + DAY_MS - 1, OVERDUE, 9) == []
        store.apply(batch_of(news, topology=TWO_DESTINATIONS))
        assert [(due.asks, due.due_at) for due in store.due(AT + OVERDUE, OVERDUE, 9)] == [(0, AT + OVERDUE)]

    def test_forgotten_when_settled(self, store: Store) -> None:
        """A record that was asked about and is settled since is not due any more."""
        store.apply(batch_of(user_write(), failed()))
        store.asked([Asked(KEY, VERSION, 5, AT + OVERDUE)])
        store.apply(batch_of(replica()))
        assert store.due(AT + DAY_MS, OVERDUE, 9) == []

    # ---------------------------------------------------------------- reading

    @pytest.fixture
    def library(self, store: Store) -> Store:
        """A store with records of every status; each version is named by its time."""
        told = [
            *versions_at(1, 2, 3, 4, 5),
            failed(version_id="v2"),
            replica(version_id="v3"),
            answered("not-eligible", version_id="v4"),
            answered("gone", version_id="v5"),
        ]
        store.apply(batch_of(*told))
        store.apply(batch_of(*versions_at(6), topology=BY_TAG))
        store.apply(batch_of(*versions_at(7, bucket="other"), topology=Topology([config(rule(AUDIT), bucket="other")])))
        return store

    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            ({}, [7, 5, 4, 3, 2, 1]),
            ({"status": Status.PENDING}, [7, 1]),
            ({"status": Status.FAILED}, [2]),
            ({"status": Status.COMPLETED}, [3]),
            ({"status": Status.NOT_ELIGIBLE}, [4]),
            ({"status": Status.SOURCE_DELETED}, [5]),
            ({"status": Status.UNCERTAIN}, []),
            ({"uncertain": True}, [6]),
            ({"uncertain": True, "status": Status.UNCERTAIN}, [6]),
            ({"uncertain": True, "source": "other"}, []),
            ({"source": "other"}, [7]),
            ({"destination": AUDIT}, [7]),
            ({"destination": REPLICA, "limit": 2}, [5, 4]),
            ({"source": SOURCE, "destination": AUDIT}, []),
            ({"since": AT + 4}, [7, 5, 4]),
            ({"until": AT + 4}, [3, 2, 1]),
            ({"since": AT + 2, "until": AT + 5, "limit": 2}, [4, 3]),
            ({"limit": 0}, []),
            ({"prefix": ""}, [7, 5, 4, 3, 2, 1]),
            ({"prefix": "nothing"}, []),
        ],
    )
    def test_query(self, library: Store, query: dict[str, Any], expected: list[int]) -> None:
        """Listings hold what matches all that is asked, newest write first."""
        found = [record.sort_at - AT for record in library.records(Query(**query))]
        assert found == expected

    @pytest.mark.parametrize("prefix", ["a%", "a_", "é", "日", "🙂x", "A", "a", "\\", "*", "?[", "'", "a\0b", "\0"])
    def test_prefix(self, store: Store, prefix: str) -> None:
        """A prefix is compared as it is: no character in it stands for others, and case matters."""
        keys = [
            "a%b",
            "axb",
            "a_b",
            "é1",
            "e\u0301",
            "日本",
            "🙂x",
            "🙂",
            "A%",
            "\\x",
            "*",
            "?[x",
            "'",
            "a\0b",
            "a\0c",
            "\0",
        ]
        store.apply(batch_of(*[user_write(key=key, version_id=f"v{number}") for number, key in enumerate(keys)]))
        found = sorted(record.key for record in store.records(Query(prefix=prefix)))
        assert found == sorted(key for key in keys if key.startswith(prefix))

    def test_ties(self, store: Store) -> None:
        """Records of the same time are all listed, each once."""
        store.apply(batch_of(*[user_write(version_id=f"v{number}") for number in range(9)]))
        store.apply(batch_of(*[replica(version_id=f"v{number}") for number in range(4)]))
        assert sorted(record.version_id for record in store.records(Query())) == [f"v{number}" for number in range(9)]
        assert len(list(store.records(Query(limit=5)))) == 5

    def test_versions(self, store: Store) -> None:
        """All versions of a key are told, newest first, to those who ask for its source or one of its destinations."""
        store.apply(batch_of(*versions_at(1, 2), replica(version_id="v1"), user_write(key=KEY + "2", at=AT + 9)))
        for bucket in (SOURCE, REPLICA):
            assert [record.version_id for record in store.versions(bucket, KEY)] == ["v2", "v1"]
            assert [record.version_id for record in store.versions(bucket, KEY, "v1")] == ["v1"]
        assert store.versions(AUDIT, KEY) == []
        assert store.versions(SOURCE, KEY, VERSION) == []
        assert store.versions(SOURCE, KEY + "3") == []

    def test_versions_that_are_not_listed(self, store: Store) -> None:
        """What is uncertain is told where it is asked for by name, an undecided version in the buckets that saw it."""
        store.apply(batch_of(user_write(key="tagged"), topology=BY_TAG))
        store.apply(batch_of(written(key="tie"), written(REPLICA, key="tie"), topology=TWO_WAY))
        store.apply(batch_of(user_write(key="hidden"), topology=INFERRED))
        assert only(store.versions(SOURCE, "tagged")).uncertain
        assert only(store.versions(REPLICA, "tie")).undecided
        assert only(store.versions(SOURCE, "tie")).undecided
        assert store.versions(AUDIT, "tie") == []
        assert store.versions(SOURCE, "hidden") == []
        assert {record.key for record in store.records(Query(uncertain=True))} == {"tagged", "tie"}

    def test_same_key_and_version_names_elsewhere(self, store: Store) -> None:
        """Key and version id identify a version only together."""
        store.apply(
            batch_of(
                *[user_write(key=key, version_id=version) for key in "ab" for version in "xy"],
                replica(key="a", version_id="y"),
            )
        )
        found = {(record.key, record.version_id): record.status for record in store.records(Query())}
        pending = Status.PENDING
        assert found == {("a", "x"): pending, ("a", "y"): Status.COMPLETED, ("b", "x"): pending, ("b", "y"): pending}

    def test_long_and_odd_names(self, store: Store) -> None:
        """A key of S3's full length, in any script, is kept as it is."""
        keys = ["é" * 512, "🙂" * 256, "a/" * 512, " ", "\n", "a b+c%20"]
        store.apply(batch_of(*[user_write(key=key) for key in keys]))
        assert sorted(record.key for record in store.records(Query())) == sorted(keys)
        assert all(len(store.versions(SOURCE, key)) == 1 for key in keys)

    def test_cells_of_a_window(self, store: Store) -> None:
        """Cells are those whose five minutes begin in the window."""
        store.apply(batch_of(*versions_at(0, SLOT_MS, 2 * SLOT_MS)))
        slot = AT // SLOT_MS

        def slots(since: int | None, until: int | None) -> list[int]:
            return sorted(key.slot - slot for key, _ in store.cells(since, until))

        assert slots(None, None) == [0, 1, 2]
        assert slots(AT, AT + SLOT_MS) == [0]
        assert slots(AT + 1, None) == [1, 2]
        assert slots(None, AT + SLOT_MS + 1) == [0, 1]

    def test_unsettled_cells(self, store: Store) -> None:
        """Cells can be asked for in which something is pending or failed; what has settled since is not among them."""
        store.apply(batch_of(*versions_at(0, SLOT_MS, 2 * SLOT_MS)))
        store.apply(batch_of(failed(version_id=f"v{SLOT_MS}"), replica(version_id=f"v{2 * SLOT_MS}")))
        slot = AT // SLOT_MS

        def slots() -> list[int]:
            return sorted(key.slot - slot for key, _ in store.cells(None, None, unsettled=True))

        assert slots() == [0, 1]
        store.apply(batch_of(replica(version_id="v0")))
        assert slots() == [1]

    def test_pending_of_a_window(self, store: Store) -> None:
        """Pending copies are told with their exact time, also those of a version that failed elsewhere."""
        store.apply(batch_of(*versions_at(1, 2, 3), failed(AUDIT, version_id="v2"), topology=TWO_DESTINATIONS))
        found = sorted((share.key.slot - AT, share.key.destination) for share in store.pending(AT + 1, AT + 3))
        assert found == [(1, AUDIT), (1, REPLICA), (2, REPLICA)]

    def test_what_is_given_out_is_no_way_in(self, store: Store) -> None:
        """Changing what a store gave out does not change the store."""
        store.apply(batch_of(user_write(), counts=Counts(ignored={"read": 1})))
        store.counts().ignored["read"] = 7
        next(iter(store.cells(None, None)))[1].lags[1] = 7
        assert (store.counts().ignored, total(store).lags) == ({"read": 1}, {})


def _batch(told: Sequence[tuple[Event, int]], known: tuple[Topology, Topology]) -> Batch:
    """Events, each interpreted by one of two topologies, as one batch."""
    evidence: dict[VersionKey, Evidence] = {}
    for event, which in told:
        news = interpret(event, known[which])
        if news is not None:
            version = (event.key, event.version_id)
            before = evidence.get(version)
            evidence[version] = news if before is None else merge(before, news)
    return Batch(evidence)


def _killer(number: int) -> Callable[[str], None]:
    """Ends everything at that step."""
    left = iter(range(number + 1))

    def step(_name: str) -> None:
        if next(left) == number:
            raise KilledError

    return step


class _kept:  # noqa: N801 - reads as closing() does
    """A handle that stays open."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __enter__(self) -> Store:
        return self._store

    def __exit__(self, *_: object) -> None:
        pass


_STEP = batch_of(
    *versions_at(4, 5),
    replica(version_id="v2"),
    counts=Counts(messages=4, events=3, ignored={"read": 1}),
    positions=[Position("one", 9), Position("two", 3)],
    newest_event=AT + 10_000,
)

_CHANGES: dict[str, Callable[[Store], object]] = {
    "apply": lambda store: store.apply(_STEP),
    "purge": lambda store: store.purge(),
    "learn": lambda store: store.learn([(config(rule()), False)]),
}
