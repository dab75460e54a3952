"""Whether the monitor itself is well: alive (does it answer at all), ready (does it do its work), and how it went."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from msgspec.structs import asdict

from crr_monitor.core.times import format_time
from crr_monitor.stores.base import Batch, StoreError

if TYPE_CHECKING:
    from crr_monitor.serve.state import State
    from crr_monitor.serve.writer import Writer

BEAT_SECONDS = 60.0
"""The writer's longest single step is waiting half a minute for a locked store."""

PROBE_SECONDS = 3.0
LIKELY = "the store did not answer in time: is another process writing to it, or the disk slow?"


class Health:
    """Answers for ``/healthz``, ``/readyz`` and ``/api/monitor``."""

    def __init__(self, writer: Writer, state: State) -> None:
        self._writer = writer
        self._state = state

    def alive(self) -> str | None:
        """Why not, or ``None``. That somebody runs this shows that the event loop answers."""
        if not self._writer.alive:
            return "the thread that writes to the store has ended"
        silent = time.monotonic() - self._writer.beat
        if silent > BEAT_SECONDS:
            return f"the thread that writes to the store has not answered for {silent:.0f} s"
        return None

    async def ready(self) -> dict[str, Any]:
        """What is ready and what is not, each with its problem."""
        store = self.alive() or await self._store_problem()
        things = [_thing("store", store)]
        things += [
            _thing(source.name, source.problem or (None if source.ready else "was not read yet"))
            for source in self._state.sources
        ]
        return {"ready": all(thing["ready"] for thing in things), "checks": things}

    async def _store_problem(self) -> str | None:
        """An empty transaction needs the store's lock, as every other; what failed last may fail again."""
        waiting = asyncio.wrap_future(self._writer.call(lambda store, _rejects: store.apply(Batch())))
        try:
            await asyncio.wait_for(waiting, PROBE_SECONDS)
        except StoreError as error:
            return str(error)
        except TimeoutError:
            return LIKELY
        return self._state.store_problem

    def to_json(self) -> dict[str, Any]:
        """All figures of the process itself, as ``/api/monitor`` shows them; what is unknown is left out."""
        state = self._state
        body: dict[str, Any] = {
            "version": state.version,
            "started_at": format_time(state.started_at),
            "stored_at": _time(state.stored_at),
            "requests": {str(status): count for status, count in sorted(state.requests.items())},
            "waiting": state.waiting,
            "waiting_bytes": state.waiting_bytes,
            "messages": state.messages,
            "events": state.events,
            "malformed": state.malformed,
            "ignored": dict(sorted(state.ignored.items())),
            "records_changed": state.records_changed,
            "batches": state.batches,
            "batch_seconds": round(state.commits.total, 3),
            "store_failures": state.store_failures,
            "store_problem": state.store_problem,
            "sources": [_known({**asdict(source), "read_at": _time(source.read_at)}) for source in state.sources],
            "ticks": [_known({**asdict(tick), "ran_at": _time(tick.ran_at)}) for tick in state.ticks],
        }
        return _known(body)


def _thing(name: str, problem: str | None) -> dict[str, Any]:
    return _known({"name": name, "ready": problem is None, "problem": problem})


def _known(pairs: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in pairs.items() if value is not None}


def _time(at: int | None) -> str | None:
    return None if at is None else format_time(at)
