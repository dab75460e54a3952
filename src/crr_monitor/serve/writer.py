"""The one thread that changes the store: what comes from all sides is decoded and committed in groups.

Everything in a group becomes durable in one transaction, and only then is anybody told that it was taken. While one
group is committed the next one gathers, so that the groups grow with the load by themselves.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

from msgspec import Struct

from crr_monitor.process.gather import Gatherer
from crr_monitor.process.ingest import keep
from crr_monitor.sources.rejects import RejectError, RejectFile
from crr_monitor.stores.base import Counts, Store, StoreError, system_clock

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from crr_monitor.serve.state import State

T = TypeVar("T")

GROUP_SECONDS = 0.002
"""How long the first of a group waits for others: with it a hundred small requests share one write to the disk."""

GROUP_EVENTS = 1_500
GROUP_BYTES = 8 << 20
"""A group ends with either of them, so that nobody waits long for others: this takes about 50 ms."""

BEAT_SECONDS = 1.0
TOPOLOGY_SECONDS = 5.0
"""How soon rules that another process learned are known here."""


class RefusedError(Exception):
    """What was handed in cannot be taken, and nothing of it was: why, for who sent it. ``status``: as in HTTP."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


Outcome: TypeAlias = Counts | RefusedError | StoreError | RejectError


class Intake(Protocol):
    """Something that becomes durable as a whole."""

    size: int
    """Bytes, about."""

    loop: AbstractEventLoop | None
    """Whose thread :meth:`finish` is called in; without one it is the writer's."""

    def take(self, gatherer: Gatherer) -> Counts:
        """Decode it into the group.

        Raises:
            RefusedError: it cannot be taken; nothing of it has been.
        """

    def finish(self, outcome: Outcome) -> None:
        """Hear what came of it: what was in it, once that is durable, or why it could not be stored."""


class Call(Struct):
    """Something else to be done with the store, between two groups."""

    function: Callable[[Store, RejectFile], Any]
    future: Future[Any]


class _Stop(Struct):
    """Everything that was handed in before is still done."""


class Writer:
    """Hand in from any thread; the thread starts with :meth:`start` and ends with :meth:`stop`."""

    def __init__(
        self,
        open_store: Callable[[], Store],
        rejects: RejectFile,
        state: State,
        say: Callable[[str], None] = lambda _text: None,
    ) -> None:
        """``open_store`` is called in the writer's thread, where the store then lives.

        ``say`` is told when nothing can be stored, and when it can be again.
        """
        self._say = say
        self._open_store = open_store
        self._rejects = rejects
        self._state = state
        self._queue: queue.SimpleQueue[Intake | Call | _Stop] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._main, name="writer", daemon=True)
        self._opened: Future[None] = Future()
        self._stopped = False
        self._read_topology_at = 0.0
        self.beat = time.monotonic()
        self.failure: BaseException | None = None

    def start(self) -> None:
        """Open the store and begin.

        Raises:
            StoreError: it cannot be opened.
        """
        self._thread.start()
        self._opened.result()

    def stop(self) -> None:
        """Finish what was handed in, then close the store."""
        if not self._stopped:
            self._stopped = True
            self._queue.put(_Stop())
        self._thread.join()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def submit(self, intake: Intake) -> None:
        """Hand something in; its ``finish`` is called when it is durable, or cannot be."""
        self._queue.put(intake)

    def call(self, function: Callable[[Store, RejectFile], T]) -> Future[T]:
        """Have something done with the store and the reject file in the writer's thread.

        The future has the :class:`StoreError` or :class:`RejectError` that it raises.
        """
        future: Future[T] = Future()
        self._queue.put(Call(function, future))
        return future

    def _main(self) -> None:
        try:
            store = self._open_store()
        except StoreError as error:
            self._opened.set_exception(error)
            return
        try:
            group = _Group(store)
            self._opened.set_result(None)
            self._run(store, group)
        except BaseException as error:
            # A bug: whoever watches the process has to hear of it, so it ends instead of refusing everything.
            self.failure = error
            raise
        finally:
            store.close()

    def _run(self, store: Store, group: _Group) -> None:
        while True:
            self.beat = time.monotonic()
            try:
                first = self._queue.get(timeout=BEAT_SECONDS)
            except queue.Empty:
                continue
            if isinstance(first, _Stop):
                return
            if isinstance(first, Call):
                self._do(first, store)
                continue
            self._refresh(group, store)
            following = self._gather(first, group)
            self._commit(group, store)
            if isinstance(following, Call):
                self._do(following, store)
            elif following is not None:
                return

    def _refresh(self, group: _Group, store: Store) -> None:
        now = time.monotonic()
        if now - self._read_topology_at >= TOPOLOGY_SECONDS:
            try:
                group.begin(store)
            except StoreError:
                return  # the commit that follows tells what is wrong with it
            self._read_topology_at = now

    def _gather(self, first: Intake, group: _Group) -> Call | _Stop | None:
        """Take what waits, and what comes in the next moment; what is no intake ends the group and is returned."""
        if self._queue.empty():
            time.sleep(GROUP_SECONDS)
        item: Intake | Call | _Stop = first
        while True:
            if isinstance(item, Call | _Stop):
                return item
            group.take(item)
            if group.events >= GROUP_EVENTS or group.bytes >= GROUP_BYTES:
                return None
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                return None

    def _commit(self, group: _Group, store: Store) -> None:
        began = time.monotonic()
        gathered, state = group.gatherer.give(), self._state
        problem: StoreError | RejectError | None = None
        try:
            if gathered is not None:
                state.records_changed += keep(gathered, store, self._rejects)
        except (StoreError, RejectError) as error:
            problem = error
            state.store_failures += 1
            self._tell(str(error))
        else:
            self._tell(None)
            state.stored_at = system_clock()
            if gathered is not None:
                _count(state, gathered.counts)
        state.batches += 1
        state.commits.add(time.monotonic() - began)
        group.finish(problem)

    def _tell(self, problem: str | None) -> None:
        """Keep why nothing can be stored, for whoever asks, and say it when it changes."""
        before, self._state.store_problem = self._state.store_problem, problem
        if problem is not None and problem != before:
            self._say(f"not stored: {problem} (senders are told, and files are read again)")
        elif problem is None and before is not None:
            self._say("it can be stored again")

    def _do(self, call: Call, store: Store) -> None:
        if not call.future.set_running_or_notify_cancel():
            return  # who asked has gone
        try:
            call.future.set_result(call.function(store, self._rejects))
        except (StoreError, RejectError) as error:
            call.future.set_exception(error)


class _Group:
    """What is committed together, and who waits for it."""

    def __init__(self, store: Store) -> None:
        self.begin(store)
        self._taken: list[tuple[Intake, Outcome]] = []
        self.events = 0
        self.bytes = 0

    def begin(self, store: Store) -> None:
        """Read events in the light of the rules that are known now."""
        self.gatherer = Gatherer(store.topology())

    def take(self, intake: Intake) -> None:
        """Decode one more."""
        outcome: Outcome
        try:
            outcome = intake.take(self.gatherer)
            self.events += outcome.events
        except RefusedError as error:
            outcome = error
        self.bytes += intake.size
        self._taken.append((intake, outcome))

    def finish(self, problem: StoreError | RejectError | None) -> None:
        """Tell everybody, and begin anew."""
        told = [
            (intake, outcome if problem is None or isinstance(outcome, RefusedError) else problem)
            for intake, outcome in self._taken
        ]
        self._taken, self.events, self.bytes = [], 0, 0
        loops = {intake.loop for intake, _ in told}
        for loop in loops:
            here = [(intake, outcome) for intake, outcome in told if intake.loop is loop]
            if loop is None:
                _finish(here)
            else:
                loop.call_soon_threadsafe(_finish, here)


def _finish(told: list[tuple[Intake, Outcome]]) -> None:
    for intake, outcome in told:
        intake.finish(outcome)


def _count(state: State, counts: Counts) -> None:
    state.messages += counts.messages
    state.events += counts.events
    state.malformed += counts.malformed
    for kind, count in counts.ignored.items():
        state.ignored[kind] = state.ignored.get(kind, 0) + count
