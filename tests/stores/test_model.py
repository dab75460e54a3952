"""The SQLite store does what the store in memory does, whatever is done to both."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from crr_monitor.core.times import DAY_MS, HOUR_MS
from crr_monitor.stores.base import Counts, Position, Query
from crr_monitor.stores.memory import MemoryStore
from crr_monitor.stores.sqlite import SqliteStore
from tests.core.generated import BUCKETS, configs, events
from tests.factories import AT, batch_of
from tests.stores.contract import KEEP, everything

if TYPE_CHECKING:
    from crr_monitor.core.events import Event
    from crr_monitor.core.topology import BucketConfig


class Stores(RuleBasedStateMachine):
    """Both stores, with one clock."""

    @initialize()
    def begin(self) -> None:
        """Two empty stores."""
        self.now = AT
        self.folder = tempfile.TemporaryDirectory()
        self.memory = MemoryStore(KEEP, self.clock)
        self.sqlite = self.opened()

    def clock(self) -> int:
        """The clock of both."""
        return self.now

    def opened(self) -> SqliteStore:
        """The database file, opened (again)."""
        return SqliteStore(Path(self.folder.name) / "store.db", KEEP, self.clock)

    def teardown(self) -> None:
        """Remove the file."""
        if hasattr(self, "folder"):
            self.sqlite.close()
            self.folder.cleanup()

    @rule(told=st.lists(events, max_size=8), number=st.integers(0, 3), newest=st.none() | st.integers(AT, AT + 9))
    def apply(self, told: list[Event], number: int, newest: int | None) -> None:
        """A batch of any events, interpreted by the topology that both know."""
        topology = self.memory.topology()
        counts = Counts(messages=number, ignored={"read": number} if number else {})
        positions = [Position("one", number, done=number == 3)]
        changed = [
            store.apply(batch_of(*told, topology=topology, counts=counts, positions=positions, newest_event=newest))
            for store in (self.memory, self.sqlite)
        ]
        assert changed[0] == changed[1]

    @rule()
    def purge(self) -> None:
        """Retention."""
        assert self.memory.purge() == self.sqlite.purge()

    @rule(step=st.sampled_from([1, HOUR_MS, DAY_MS - 1, DAY_MS, 13 * DAY_MS, 14 * DAY_MS, 390 * DAY_MS]))
    def wait(self, step: int) -> None:
        """Time goes by."""
        self.now += step

    @rule(news=st.lists(st.tuples(configs, st.booleans()), max_size=2))
    def learn(self, news: list[tuple[BucketConfig, bool]]) -> None:
        """Rules are learned."""
        assert self.memory.learn(news) == self.sqlite.learn(news)

    @rule()
    def reopen(self) -> None:
        """The process ends and another one begins."""
        self.sqlite.close()
        self.sqlite = self.opened()

    @invariant()
    def same(self) -> None:
        """Both stores show the same."""
        if not hasattr(self, "memory"):
            return
        assert everything(self.sqlite) == everything(self.memory)

    @rule(bucket=st.sampled_from(BUCKETS), key=st.sampled_from(["k1", "k2"]), prefix=st.sampled_from([None, "k", "k2"]))
    def look(self, bucket: str, key: str, prefix: str | None) -> None:
        """Both answer the same to a question."""
        asked = [Query(source=bucket), Query(destination=bucket, prefix=prefix), Query(uncertain=True, prefix=prefix)]
        for query in asked:
            first, second = (sorted(map(repr, store.records(query))) for store in (self.memory, self.sqlite))
            assert first == second
        assert sorted(map(repr, self.memory.versions(bucket, key))) == sorted(
            map(repr, self.sqlite.versions(bucket, key))
        )


TestStores = Stores.TestCase
TestStores.settings = settings(max_examples=60, stateful_step_count=25)
