"""The DynamoDB store keeps the contract, on a DynamoDB that runs on this machine, and what only it can get wrong."""

from __future__ import annotations

import base64
import threading
import time
from collections import Counter
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, run_state_machine_as_test
from hypothesis.stateful import rule as step

pytest.importorskip("boto3")

from crr_monitor.core.model import Status
from crr_monitor.core.statistics import Cell
from crr_monitor.core.times import DAY_MS, HOUR_MS, MINUTE_MS
from crr_monitor.core.topology import Topology
from crr_monitor.stores import dynamodb
from crr_monitor.stores.base import Asked, Counts, Position, Purged, Query, StoreError, system_clock
from crr_monitor.stores.dynamodb import CannotListError, DynamoStore, open_store
from crr_monitor.stores.dynamodb_due import OPEN_CLASSES
from crr_monitor.stores.dynamodb_items import SPARE_PARTS, item_key
from crr_monitor.stores.dynamodb_statistics import CELLS_AT_ONCE, Place
from crr_monitor.stores.dynamodb_tables import (
    OPEN_IN,
    OPEN_INDEX,
    OPEN_SHARDS,
    STATISTICS,
    STATUS,
    cloudformation_properties,
)
from crr_monitor.stores.memory import MemoryStore
from tests.core.generated import configs, events
from tests.factories import (
    AT,
    AUDIT,
    KEY,
    REPLICA,
    SOURCE,
    TWO_DESTINATIONS,
    VERSION,
    batch_of,
    config,
    failed,
    replica,
    rule,
    user_write,
)
from tests.stores.contract import (
    _CHANGES,
    KEEP,
    KilledError,
    StoreContract,
    _killer,
    batches,
    everything,
    only,
    shared,
    statuses,
    total,
    versions_at,
)
from tests.stores.dynamodb_server import DynamoBackend, Server, SettledStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crr_monitor.core.events import Event
    from crr_monitor.core.topology import BucketConfig
    from crr_monitor.stores.base import Store


@pytest.fixture
def backend(server: Server) -> Iterator[DynamoBackend]:
    """Two new tables."""
    with closing(DynamoBackend(server)) as backend:
        yield backend


@pytest.fixture
def store(backend: DynamoBackend) -> SettledStore:
    """An empty store."""
    return backend.open()


OVERDUE = 15 * MINUTE_MS
KEPT = ("counts", "positions", "topology")
"""What a batch that was stopped leaves alone; the newest event comes before, since it may come again."""


class TestDynamo(StoreContract):
    """The contract, as far as a store without transactions over a whole batch can keep it."""

    @pytest.fixture(autouse=True)
    def _server(self, server: Server) -> None:
        self.server = server

    def make(self) -> DynamoBackend:
        """Two new tables."""
        return DynamoBackend(self.server)

    @settings(shared, max_examples=20)
    @batches
    def test_any_order_any_batches(
        self, told: list[tuple[Event, int]], known: tuple[Topology, Topology], data: st.DataObject
    ) -> None:
        """As for every store, with fewer examples: each of them makes four tables."""
        self.any_order(told, known, data)

    @pytest.mark.parametrize("change", ["apply", "purge", "learn"])
    def test_killed_between_any_two_steps(self, change: str) -> None:
        """Whichever step a change is stopped at, each record is as before or as after; done again, all is as after."""
        steps: list[str] = []
        with closing(self.make()) as backend:
            self._change(backend, change, self._ready(backend), steps.append)
            after = everything(backend.open())
        assert len(steps) >= {"apply": 8, "purge": 3, "learn": 1}[change]
        for number in range(len(steps)):
            with closing(self.make()) as backend:
                store = self._ready(backend)
                before = everything(store)
                with pytest.raises(KilledError):
                    self._change(backend, change, store, _killer(number))
                left = {version: backend.open().versions(SOURCE, *version) for version in after["records"]}
                for version, found in left.items():
                    states = [kept["records"][version] for kept in (before, after) if version in kept["records"]]
                    assert found == [] or only(found) in states
                done = backend.open().position("one") is not None  # comes last, and nobody goes back behind it
                if not done:
                    now = everything(backend.open())
                    assert [now[name] for name in KEPT] == [before[name] for name in KEPT]
                self._change(backend, "nothing" if done else change, backend.open(), lambda _name: None)
                assert everything(backend.open()) == after

    def _ready(self, backend: DynamoBackend) -> Store:
        store = self._prepared(backend)
        backend.settle(backend.open())
        return store

    def _change(self, backend: DynamoBackend, change: str, store: Store, step: Any) -> None:  # noqa: ANN401
        backend.step = step
        try:
            if change != "nothing":
                _CHANGES[change](store)
            backend.settle(backend.open())
        finally:
            backend.step = lambda _name: None

    def test_readers_see_whole_batches(self, backend: DynamoBackend, store: Store) -> None:  # type: ignore[override]
        """A reader beside the writer sees each record as it was at some moment; of a batch it may see a part."""
        done = threading.Event()
        wrong: list[object] = []

        def read() -> None:
            reader = backend.open()
            while not done.is_set():
                states = [(one.status, one.copies[0].replicated_at) for one in reader.versions(SOURCE, KEY)]
                pending = [one.status for one in reader.records(Query(status=Status.PENDING))]
                wrong.extend(set(states) - {(Status.PENDING, None), (Status.COMPLETED, AT + 10_000)})
                wrong.extend(set(pending) - {Status.PENDING})

        thread = threading.Thread(target=read)
        thread.start()
        for number in range(20):
            store.apply(batch_of(*versions_at(number)))
            store.apply(batch_of(replica(version_id=f"v{number}")))
        done.set()
        thread.join()
        assert wrong == []
        assert Counter(one.status for one in store.versions(SOURCE, KEY)) == {Status.COMPLETED: 20}


class Stores(RuleBasedStateMachine):
    """The store in memory and this one, with one clock; whatever is done to both, both show the same."""

    server: Server

    @initialize()
    def begin(self) -> None:
        """Two empty stores."""
        self.backend = DynamoBackend(self.server)
        self.memory = MemoryStore(KEEP, self.backend.clock)
        self.dynamo = self.backend.open()

    def teardown(self) -> None:
        """Remove the tables."""
        if hasattr(self, "backend"):
            self.backend.close()

    @step(told=st.lists(events, max_size=8), number=st.integers(0, 3), newest=st.none() | st.integers(AT, AT + 9))
    def apply(self, told: list[Event], number: int, newest: int | None) -> None:
        """A batch of any events, interpreted by the topology that both know."""
        positions = [Position("one", number, done=number == 3)]
        counts = Counts(messages=number, ignored={"read": number} if number else {})
        batch = batch_of(
            *told, topology=self.memory.topology(), counts=counts, positions=positions, newest_event=newest
        )
        assert self.memory.apply(batch) == self.dynamo.apply(batch)

    @step(long=st.sampled_from([1_000, HOUR_MS, DAY_MS - 1_000, DAY_MS, 13 * DAY_MS, 14 * DAY_MS, 390 * DAY_MS]))
    def wait(self, long: int) -> None:
        """Time goes by, and what is over leaves.

        DynamoDB's TTL may be days late, but not by the year that lies between the end of a record and of its figures.
        """
        while long > 0:
            self.backend.now += min(long, KEEP.unsettled)
            long -= KEEP.unsettled
            assert self.memory.purge() == self.dynamo.purge()

    @step(news=st.lists(st.tuples(configs, st.booleans()), max_size=2))
    def learn(self, news: list[tuple[BucketConfig, bool]]) -> None:
        """Rules are learned."""
        assert self.memory.learn(news) == self.dynamo.learn(news)

    @invariant()
    def same(self) -> None:
        """Both stores show the same."""
        if hasattr(self, "memory"):
            assert everything(self.dynamo) == everything(self.memory)


@pytest.mark.no_cover
def test_model(server: Server) -> None:
    """The store does what the store in memory does."""
    Stores.server = server
    # Making a failure smaller would make thousands of tables.
    quick = settings(max_examples=12, stateful_step_count=15, phases=[Phase.explicit, Phase.reuse, Phase.generate])
    run_state_machine_as_test(Stores, settings=quick)


class Counting:
    """A client that counts calls by name, and may do something else instead of one."""

    def __init__(self, client: Any) -> None:  # noqa: ANN401 - boto3's
        self._client = client
        self.calls: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        def call(**request: Any) -> Any:  # noqa: ANN401
            self.calls[name] += 1
            return getattr(self._client, name)(**request)

        return call


def calls(backend: DynamoBackend, *told: Event, topology: Topology | None = None) -> dict[str, int]:
    """Calls that one batch needs."""
    client = Counting(backend.server.client)
    store = DynamoStore(client, backend.status, backend.statistics, KEEP, backend.clock)
    store.apply(batch_of(*told, **({} if topology is None else {"topology": topology})))
    return dict(client.calls)


class TestCalls:
    """One update per object version, and a second one only where the first could not know."""

    def test_together(self, backend: DynamoBackend) -> None:
        """Source and replica in one batch: one call, and the version was never in the index."""
        assert calls(backend, user_write(), replica()) == {"update_item": 1}
        ((_, entries),) = all_entries(backend)
        assert [OPEN_IN in entry["dynamodb"]["NewImage"] for entry in entries] == [False]

    def test_apart(self, backend: DynamoBackend) -> None:
        """Source first and replica later: one call each, into the index and out of it."""
        assert calls(backend, user_write()) == {"update_item": 1}
        assert statuses(backend.open(), status=Status.PENDING) == [Status.PENDING]
        assert calls(backend, replica()) == {"update_item": 1}
        assert index(backend) == []

    def test_replica_first(self, backend: DynamoBackend) -> None:
        """Where the replica's event comes first, the source's needs a second call to leave the index again."""
        assert calls(backend, replica()) == {"update_item": 1}
        assert calls(backend, user_write()) == {"update_item": 2}
        assert index(backend) == []

    def test_two_destinations(self, backend: DynamoBackend) -> None:
        """A version with two destinations stays in the index until both have it."""
        told = [user_write(), replica(), replica(AUDIT)]
        found = [calls(backend, event, topology=TWO_DESTINATIONS)["update_item"] for event in told]
        assert (found, index(backend)) == ([1, 2, 1], [])

    def test_again(self, backend: DynamoBackend) -> None:
        """A message that comes again is one refused call: the item stays as it is, and the stream tells nothing."""
        calls(backend, user_write())
        calls(backend, replica())
        before = list(backend.items()), all_entries(backend)
        backend.now += HOUR_MS
        assert calls(backend, user_write()) == {"update_item": 1}
        assert calls(backend, replica()) == {"update_item": 1}
        assert (list(backend.items()), all_entries(backend)) == before

    def test_killed_before_mending(self, backend: DynamoBackend, store: SettledStore) -> None:
        """A writer that dies between its two updates leaves a wrong index entry until its message comes again."""
        store.apply(batch_of(replica()))

        def die(name: str) -> None:
            if name == "mend":
                raise KilledError

        backend.step = die
        with pytest.raises(KilledError):
            store.apply(batch_of(user_write()))
        backend.step = lambda _name: None
        assert len(index(backend)) == 1
        assert only(store.versions(SOURCE, KEY)).status is Status.COMPLETED
        assert store.apply(batch_of(user_write())) == 0
        assert index(backend) == []

    def test_mending_what_changed_meanwhile(self, backend: DynamoBackend, store: SettledStore) -> None:
        """Who wrote first leaves it to who wrote later to mend the derived attributes."""
        store.apply(batch_of(user_write(), topology=TWO_DESTINATIONS))
        others = [replica(AUDIT)]

        def overtake(name: str) -> None:
            if name == "mend" and others:
                backend.step = lambda _name: None
                backend.open().apply(batch_of(others.pop(), topology=TWO_DESTINATIONS))

        backend.step = overtake
        store.apply(batch_of(replica(), topology=TWO_DESTINATIONS))
        assert others == []
        assert [item.derived.place for item in backend.items()] == [None]

    def test_size(self, backend: DynamoBackend) -> None:
        """An ordinary record with one destination is one write unit: its item has less than 1 KB."""
        about: dict[str, Any] = {"account": "111122223333", "region": "us-east-1", "size": 520_080, "etag": "e" * 32}
        where = config(rule(REPLICA, destination_account="444455556666"), account="111122223333", region="us-east-1")
        topology = Topology([where, config(bucket=REPLICA, account="444455556666", region="eu-west-1")])
        calls(backend, user_write(key="k" * 100, **about), replica(key="k" * 100, **about), topology=topology)
        (item,) = backend.raw_items()
        assert 500 < size_of(item) < 1_024

    def test_workers(self, backend: DynamoBackend) -> None:
        """Several updates at a time end in the same."""
        told = [*versions_at(*range(60)), *[replica(version_id=f"v{number}") for number in range(0, 60, 2)]]
        store = DynamoStore(backend.server.client, backend.status, backend.statistics, KEEP, backend.clock, workers=8)
        assert store.apply(batch_of(*told)) == 60
        assert Counter(one.status for one in store.versions(SOURCE, KEY)) == {Status.PENDING: 30, Status.COMPLETED: 30}


def size_of(item: dict[str, Any]) -> int:
    """Bytes of an item as DynamoDB counts them, numbers at their most."""
    total = 0
    for name, value in item.items():
        ((kind, content),) = value.items()
        total += len(name) + (11 if kind == "N" else len(content if kind == "B" else content.encode()))
    return total


def index(backend: DynamoBackend) -> list[str]:
    """Partitions of everything in the sparse index."""
    pages = backend.server.client.get_paginator("scan").paginate(TableName=backend.status, IndexName=OPEN_INDEX)
    return [item[OPEN_IN]["S"] for page in pages for item in page["Items"]]


def all_entries(backend: DynamoBackend) -> list[tuple[str, list[dict[str, Any]]]]:
    """The whole change stream by shard; empty shards left out."""
    found = [(shard, backend.stream.entries(shard)) for shard in backend.stream.shards()]
    return [(shard, entries) for shard, entries in found if entries]


class TestQuestions:
    """What S3 is to be asked about is found by the indexes, and news go before questions."""

    def test_calls(self, backend: DynamoBackend, store: SettledStore) -> None:
        """Nothing is scanned: two queries per partition find what is due, one look and one update note a question."""
        store.apply(batch_of(*versions_at(1, 2)))
        client = Counting(backend.server.client)
        other = DynamoStore(client, backend.status, backend.statistics, KEEP, backend.clock)
        assert len(other.due(AT + OVERDUE + 2, OVERDUE, 9)) == 2
        assert client.calls == {"query": 2 * len(OPEN_CLASSES) * OPEN_SHARDS}
        client.calls.clear()
        assert len(other.look(AT + OVERDUE + 2, OVERDUE, 9, AT + OVERDUE + 2).dues) == 1
        assert client.calls == {"query": 2 * len(OPEN_CLASSES) * OPEN_SHARDS}
        client.calls.clear()
        other.asked([Asked(KEY, "v1", 1, AT + DAY_MS), Asked(KEY, "v2", 1, AT + DAY_MS)])
        assert client.calls == {"batch_get_item": 1, "update_item": 2}

    def test_what_was_asked_is_not_read_again_before_it_is_due(
        self, backend: DynamoBackend, store: SettledStore
    ) -> None:
        """An item about which S3 was asked leaves the partition of those about which nobody asked."""
        store.apply(batch_of(user_write()))
        (before,) = index(backend)
        store.asked([Asked(KEY, VERSION, 1, AT + DAY_MS)])
        (after,) = index(backend)
        assert (before.partition("#")[0], after.partition("#")[0]) == ("PENDING", "PENDING+")

    def test_workers(self, backend: DynamoBackend) -> None:
        """Several questions noted at a time end in the same."""
        store = DynamoStore(backend.server.client, backend.status, backend.statistics, KEEP, backend.clock, workers=8)
        store.apply(batch_of(*versions_at(*range(130))))
        store.asked([Asked(KEY, f"v{number}", 2, AT + number) for number in range(130)])
        assert [(due.asks, due.due_at) for due in store.due(AT + 200, OVERDUE, 200)] == [
            (2, AT + number) for number in range(130)
        ]

    @pytest.mark.parametrize("news", [failed(), replica(), replica(AUDIT)])
    def test_news_at_the_same_moment(self, backend: DynamoBackend, store: SettledStore, news: Event) -> None:
        """News between the look at an item and the note that S3 was asked: the item is as if nobody had asked."""
        store.apply(batch_of(user_write(), topology=TWO_DESTINATIONS))

        def bring_news(_name: str) -> None:
            backend.step = lambda _name: None
            backend.open().apply(batch_of(news, topology=TWO_DESTINATIONS))

        backend.step = bring_news
        store.asked([Asked(KEY, VERSION, 4, AT + DAY_MS)])
        (item,) = backend.items()
        assert (item.asks, item.due_at) == (0, None)
        assert [due.asks for due in store.due(AT + OVERDUE, OVERDUE, 9)] == [0]

    def test_asked_while_an_item_is_mended(self, backend: DynamoBackend, store: SettledStore) -> None:
        """A question noted between an update and its mending leaves the item whole, and due."""
        store.apply(batch_of(user_write(), topology=TWO_DESTINATIONS))

        def ask(name: str) -> None:
            if name == "mend":
                backend.step = lambda _name: None
                backend.open().asked([Asked(KEY, VERSION, 4, AT + DAY_MS)])

        backend.step = ask
        store.apply(batch_of(replica(), topology=TWO_DESTINATIONS))
        (item,) = backend.items()
        assert (item.asks, item.due_at) == (0, None)
        assert [due.asks for due in store.due(AT + OVERDUE, OVERDUE, 9)] == [0]

    def test_what_is_over_is_not_due(self, backend: DynamoBackend, store: SettledStore) -> None:
        """Items that DynamoDB has yet to remove are neither due nor noted."""
        store.apply(batch_of(*versions_at(1, 2)))
        store.asked([Asked(KEY, "v1", 1, AT)])
        backend.now += 14 * DAY_MS
        assert store.due(backend.now, OVERDUE, 9) == []
        store.asked([Asked(KEY, "v2", 1, AT)])
        assert sorted(item.asks for item in backend.items()) == [0, 1]


class TestFlood:
    """However much is told of one version, its item stays far below DynamoDB's limit of 400 KB."""

    def test_many_failures(self, backend: DynamoBackend, store: SettledStore) -> None:
        """Superseded evidence is merged away; first and latest failure are known all the same."""
        store.apply(batch_of(user_write()))
        for number in range(1, 101):
            store.apply(batch_of(failed(at=AT + number, reason="x" * 100)))
        (item,) = backend.raw_items()
        assert len(item) < SPARE_PARTS + 15
        assert size_of(item) < 8_000
        store.apply(batch_of(replica()))
        copy = only(store.versions(SOURCE, KEY)).copies[0]
        assert (copy.status, copy.failed_at, copy.repaired) == (Status.COMPLETED, AT + 100, True)
        assert (total(store).completed, list(total(store).repaired.values())) == (1, [1])

    def test_many_parts_at_once(self, backend: DynamoBackend, store: SettledStore) -> None:
        """Evidence of more parts than an expression holds is stored whole."""
        names = [f"bucket-{number:03}" for number in range(250)]
        topology = Topology([config(*[rule(name) for name in names])])
        store.apply(batch_of(user_write(), *[replica(name) for name in names], topology=topology))
        record = only(store.versions(SOURCE, KEY))
        assert [copy.bucket for copy in record.copies] == names
        assert record.status is Status.COMPLETED
        assert total(store).completed == 250
        ((shard, entries),) = all_entries(backend)
        assert store._statistics.place(shard) == Place(entries[-1]["dynamodb"]["SequenceNumber"].zfill(40))

    def test_killed_within_a_large_change(self, backend: DynamoBackend, store: SettledStore) -> None:
        """A change of more cells than a transaction takes is counted in portions, each once, however often stopped."""
        names = [f"bucket-{number:03}" for number in range(2 * CELLS_AT_ONCE + 5)]
        store.apply(batch_of(user_write(size=1), topology=Topology([config(*[rule(name) for name in names])])))
        for _ in range(2):
            backend.step = _killer(3)  # after marks, days, transaction: one portion of three
            with pytest.raises(KilledError):
                backend.settle(store)
            backend.step = lambda _name: None
        assert (total(store).pending, total(store).pending_bytes) == (len(names), len(names))

    def test_longest_names(self, store: SettledStore) -> None:
        """Key and version id of 1,024 bytes each are kept as they are."""
        store.apply(batch_of(user_write(key="é" * 512, version_id="v" * 1024)))
        assert only(store.versions(SOURCE, "é" * 512, "v" * 1024)).status is Status.PENDING
        assert only(store.records(Query(status=Status.PENDING))).key == "é" * 512
        assert [share.status for share in store.pending(AT, AT + 1)] == [Status.PENDING]


class TestListing:
    """What the index answers, and what nothing answers without reading the whole table."""

    @pytest.mark.parametrize("query", [Query(), Query(status=Status.COMPLETED), Query(status=Status.SOURCE_DELETED)])
    def test_refused(self, backend: DynamoBackend, query: Query) -> None:
        """A listing that would need a scan is refused at once, with what can answer instead."""
        store = DynamoStore(backend.server.client, backend.status, backend.statistics)
        with pytest.raises(CannotListError) as caught:
            store.records(query)
        assert f"table {backend.status}: only what is FAILED, PENDING or uncertain" in str(caught.value)
        assert "--status FAILED, --status PENDING or --uncertain" in str(caught.value)

    def test_many(self, store: SettledStore, monkeypatch: pytest.MonkeyPatch) -> None:
        """Partitions and pages of the index make one listing, newest first."""
        monkeypatch.setattr(dynamodb, "PAGE", 7)
        store.apply(batch_of(*versions_at(*range(0, 400, 2))))
        listed = [record.sort_at - AT for record in store.records(Query(status=Status.PENDING))]
        assert listed == list(range(398, -1, -2))
        assert len(list(store.pending(AT, AT + 200))) == 100

    def test_expired_is_invisible(self, backend: DynamoBackend, store: SettledStore) -> None:
        """What is over is not shown, although DynamoDB takes its time to delete it; told again, it is there again."""
        store.apply(batch_of(*versions_at(1), user_write(key="done"), replica(key="done")))
        backend.now += 14 * DAY_MS
        assert store.versions(SOURCE, KEY) == store.versions(SOURCE, "done") == []
        assert statuses(store, status=Status.PENDING) == []
        assert list(store.pending(0, 2**60)) == []
        before = total(store)
        assert store.apply(batch_of(*versions_at(1))) == 0
        assert (statuses(store, status=Status.PENDING), total(store)) == ([Status.PENDING], before)
        assert store.purge() == Purged(settled=1)


class TestSettling:
    """Statistics follow from the change stream, exactly once."""

    def test_again_and_cut_otherwise(self, backend: DynamoBackend, store: SettledStore) -> None:
        """Entries that come again, alone or among others, are counted once."""
        store.apply(batch_of(*versions_at(*range(10))))
        store.apply(batch_of(*[replica(version_id=f"v{number}") for number in range(5)]))
        ((shard, entries),) = all_entries(backend)
        assert len(store.settle(shard, entries[:7])) == 7
        assert store.settle(shard, entries[:7]) == []
        assert [one.version_id for one in store.settle(shard, entries[4:12])] == ["v7", "v8", "v9", "v0", "v1"]
        assert len(store.settle(shard, entries)) == 3
        assert (total(store).objects, total(store).completed, total(store).pending) == (10, 5, 5)

    def test_two_consumers(self, backend: DynamoBackend, store: SettledStore) -> None:
        """Of two consumers of one shard the slower one goes on behind the faster one."""
        store.apply(batch_of(*versions_at(*range(6))))
        ((shard, entries),) = all_entries(backend)
        others = [backend.open()]

        def overtake(name: str) -> None:
            if name == "transaction" and others:
                others.pop().settle(shard, entries[:4])

        backend.step = overtake
        assert [one.version_id for one in store.settle(shard, entries)] == ["v4", "v5"]
        assert total(store).objects == 6

    def test_as_lambda_has_it(self, backend: DynamoBackend, store: SettledStore) -> None:
        """A Lambda event has binary as Base64, and TTL's deletions with a service's name; both mean the same."""
        store.apply(batch_of(user_write(size=7)))
        store.apply(batch_of(user_write(size=7), failed(AUDIT), topology=TWO_DESTINATIONS))
        for item in backend.items():
            backend.delete(item)
        ((shard, entries),) = all_entries(backend)
        for entry in entries:
            for image in ("OldImage", "NewImage"):
                for value in entry["dynamodb"].get(image, {}).values():
                    if "B" in value:
                        value["B"] = base64.b64encode(value["B"]).decode()
        entries[-1]["userIdentity"] = {"type": "Service", "principalId": "dynamodb.amazonaws.com"}
        settled = store.settle(shard, entries)
        assert [one.after is None for one in settled] == [False, False, True]
        found = {key.destination: cell for key, cell in DynamoStore.cells(store, None, None)}
        assert found[REPLICA] == Cell(objects=1, bytes=7, expired=1)
        assert found[AUDIT] == Cell(objects=1, bytes=7, failed=1, reasons={"DstKmsKeyNotFound": 1})

    def test_derived_changes_are_no_transitions(self, backend: DynamoBackend, store: SettledStore) -> None:
        """What only mends derived attributes, or is not ours, is passed over."""
        store.apply(batch_of(replica()))
        store.apply(batch_of(user_write()))
        backend.server.client.put_item(TableName=backend.status, Item=item_key("by hand", "x"))
        ((shard, entries),) = all_entries(backend)
        assert len(entries) == 4
        assert [one.key for one in store.settle(shard, entries)] == [KEY, KEY]


@pytest.mark.slow
def test_ttl(backend: DynamoBackend, store: SettledStore) -> None:
    """DynamoDB itself removes what is over, and then its stream tells: a pending copy is counted as expired."""
    backend.now = system_clock() - 15 * DAY_MS
    store.apply(batch_of(user_write(), user_write(key="done"), replica(key="done")))
    assert (total(store).pending, total(store).completed) == (1, 1)
    for _ in range(200):
        left = {item.key for item in backend.items()}  # in any order, some of it minutes later
        if KEY not in left:
            break
        time.sleep(1)
    assert KEY not in left
    removals = [entry for _, entries in all_entries(backend) for entry in entries if entry["eventName"] == "REMOVE"]
    if not removals:
        pytest.skip("this DynamoDB removes what is over, and its stream does not tell")
    assert (total(store).pending, total(store).expired, total(store).completed) == (0, 1, 1)
    backend.now += 1
    assert store.apply(batch_of(user_write())) == 1
    assert (total(store).pending, total(store).expired) == (0, 1)


class TestTables:
    """Tables are declared once."""

    @pytest.mark.parametrize("table", [STATUS, STATISTICS])
    def test_made_as_declared(self, backend: DynamoBackend, table: Any) -> None:  # noqa: ANN401
        """What was made is what is declared: on demand, with its keys, index, stream and TTL."""
        client = backend.server.client
        name = backend.status if table is STATUS else backend.statistics
        found = client.describe_table(TableName=name)["Table"]
        want = cloudformation_properties(table)
        assert found["BillingModeSummary"]["BillingMode"] == want["BillingMode"] == "PAY_PER_REQUEST"
        assert found["KeySchema"] == want["KeySchema"]
        assert sorted(map(repr, found["AttributeDefinitions"])) == sorted(map(repr, want["AttributeDefinitions"]))
        indexes = [
            {name: one[name] for name in ("IndexName", "KeySchema", "Projection")}
            for one in found.get("GlobalSecondaryIndexes", [])
        ]
        assert sorted(map(repr, indexes)) == sorted(map(repr, want.get("GlobalSecondaryIndexes", [])))
        assert found.get("StreamSpecification", {}).get("StreamViewType") == table.stream
        ttl = client.describe_time_to_live(TableName=name)["TimeToLiveDescription"]
        assert (ttl["TimeToLiveStatus"], ttl["AttributeName"]) == ("ENABLED", "expires_at")

    def test_missing(self, server: Server) -> None:
        """A table that is not there is named, with what to do."""
        with closing(open_store(f"dynamodb://no-status?region=eu-west-1&endpoint={server.endpoint}")) as store:
            text = r"table no-status, update item: ResourceNotFoundException: .*deploy the hub"
            with pytest.raises(StoreError, match=text):
                store.apply(batch_of(user_write()))
            with pytest.raises(StoreError, match="table no-statistics, get item"):
                store.newest()

    def test_by_address(self, backend: DynamoBackend, store: SettledStore) -> None:
        """A store that is opened by its address is the same store."""
        store.apply(batch_of(user_write()))
        with closing(open_store(f"dynamodb://{backend.status}?endpoint={backend.server.endpoint}")) as other:
            assert other.versions(SOURCE, KEY, VERSION) == store.versions(SOURCE, KEY, VERSION)
            assert list(other.records(Query(status=Status.PENDING))) == store.versions(SOURCE, KEY)

    def test_nobody_answers(self) -> None:
        """An endpoint that cannot be reached is an error that says so."""
        boto3 = pytest.importorskip("boto3")
        config = pytest.importorskip("botocore.config").Config(retries={"total_max_attempts": 1}, connect_timeout=1)
        client = boto3.client("dynamodb", region_name="r", endpoint_url="http://127.0.0.1:9", config=config)
        text = r"table x-statistics, get item: .*127.0.0.1:9.*check the network"
        with closing(DynamoStore(client, "x-status", "x-statistics")) as store, pytest.raises(StoreError, match=text):
            store.counts()
