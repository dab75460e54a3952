"""The demo while it runs: somebody writes, Regions fail and come back, the schedule fires, somebody looks."""

from __future__ import annotations

import threading
import time
from collections import deque
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, Protocol, Self

from crr_monitor.demo.picture import Moment, Picture, take
from crr_monitor.demo.scenario import outage_at
from crr_monitor.demo.traffic import Traffic
from crr_monitor.demo.truth import Verdict, check, compare, counted, expected
from crr_monitor.stores.base import system_clock

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future
    from types import TracebackType

    from crr_monitor.demo.scenario import Outage
    from crr_monitor.demo.system import System

WRITE_SECONDS = 0.35
"""Between two writes: modest, since all of AWS runs on this machine."""

TICK_SECONDS = 1.0
"""How often the schedule of the processing function fires; in AWS each minute, at the most."""

LOOK_SECONDS = 0.5
NEWS = 6
SEED = 7


class Audience(Protocol):
    """Sees how it goes on."""

    def look(self, picture: Picture, moment: Moment) -> None:
        """Called several times a second."""


class Show:
    """A context manager around a system that is started; at its end nothing of it runs any more.

    ``length``: seconds for which there is traffic, ``None`` for ever.
    """

    def __init__(self, system: System, length: float | None, frame_seconds: float) -> None:
        self._system = system
        self._length = length
        self._frame = frame_seconds
        self._store = system.store()
        self._traffic = Traffic(system.s3, SEED)
        self._picture = Picture()
        self._news: deque[str] = deque(maxlen=NEWS)
        self._outage: Outage | None = None
        self._finishing = ""
        self._quiet = threading.Event()
        """Set when nothing more is to be written."""
        self._over = threading.Event()
        """Set when everything has to end."""
        self._pool = ThreadPoolExecutor(4, "demo")
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._quiet.set()
        self._over.set()
        if error is not None:
            # Whoever waits for an answer waits no longer.
            self._system.stop()
        self._pool.shutdown(wait=True, cancel_futures=True)

    @property
    def picture(self) -> Picture:
        """The latest that was seen of the monitor."""
        return self._picture

    def run(self, audience: Audience) -> Verdict:
        """Show everything for as long as it was asked for, then compare what was written with what the monitor says."""
        self._began = time.monotonic()
        looking = self._pool.submit(self._every, LOOK_SECONDS, self._over, self._look)
        driving = [
            self._pool.submit(self._every, WRITE_SECONDS, self._quiet, self._write),
            self._pool.submit(self._every, TICK_SECONDS, self._quiet, self._drive),
        ]
        while self._length is None or self._elapsed() < self._length:
            self._wait([looking, *driving], audience)
        self._quiet.set()
        wait(driving)
        for each in driving:
            each.result()
        ending = self._pool.submit(self._finish)
        while not ending.done():
            self._wait([looking, ending], audience)
        verdict = ending.result()
        self._over.set()
        looking.result()
        self._look()
        audience.look(self._picture, self._moment())
        return verdict

    def _elapsed(self) -> float:
        return time.monotonic() - self._began

    def _wait(self, running: Sequence[Future[Any]], audience: Audience) -> None:
        """Show a frame, and wait for the next one; what has gone wrong in a thread is raised here."""
        audience.look(self._picture, self._moment())
        for each in wait(running, self._frame, FIRST_EXCEPTION).done:
            each.result()

    def _moment(self) -> Moment:
        elapsed = self._elapsed()
        news = tuple(self._news)
        return Moment(elapsed, self._length, self._traffic.count, self._outage, news, self._finishing)

    @staticmethod
    def _every(seconds: float, end: threading.Event, work: Callable[[], None]) -> None:
        while not end.is_set():
            began = time.monotonic()
            work()
            end.wait(max(0.0, seconds - (time.monotonic() - began)))

    # What happens -----------------------------------------------------------------------------------------------------

    def _write(self) -> None:
        version = self._traffic.write()
        what = "deleted" if version.marker else "wrote"
        self._tell(f"{what} s3://{version.bucket}/{version.key}")

    def _drive(self) -> None:
        due = outage_at(self._elapsed(), self._length)
        if due != self._outage:
            self._change_outage(due)
        self._system.tick()

    def _change_outage(self, due: Outage | None) -> None:
        before, self._outage = self._outage, due
        if before is not None:
            self._system.end_outages()
            self._tell(f"{before.region} is back: what waited is replicated now")
        if due is not None:
            self._system.begin_outage(due.region)
            self._tell(f"{due.region} is down: nothing is replicated from or to it")

    def _look(self) -> None:
        now = system_clock()
        self._picture = take(self._store, self._system.waiting(), now)

    def _tell(self, text: str) -> None:
        self._news.append(f"{self._elapsed():5.1f}s  {text}")

    def _finish(self) -> Verdict:
        """Let everything come to rest, then compare."""
        self._finishing = "the traffic has ended: waiting for the last copies and events"
        if self._outage is not None:
            self._change_outage(None)
        self._system.drain()
        versions = self._traffic.versions
        verdict = Verdict()
        for number, version in enumerate(versions):
            if self._over.is_set():
                break
            if number % 10 == 0:
                self._finishing = f"comparing with what was written: {number} of {len(versions)} versions"
            check(version, self._store.versions(version.bucket, version.key, version.version_id), verdict)
        compare(expected(versions), counted(self._store.cells(None, None)), verdict)
        self._finishing = "done"
        return verdict
