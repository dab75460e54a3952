"""The monitor's own figures: what a process counts of itself while it runs, since it started.

Each counter is changed by one thread only, so that none of them needs a lock; readers may see them a moment late.
"""

from __future__ import annotations

from msgspec import Struct, field

SECONDS_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper ends of the classes in which durations are counted; the last class is open."""


class Durations(Struct):
    """How long something took: counts by class, and the sum in seconds."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(SECONDS_BOUNDS) + 1))
    total: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        self.total += seconds
        for number, bound in enumerate(SECONDS_BOUNDS):
            if seconds <= bound:
                self.counts[number] += 1
                return
        self.counts[-1] += 1


class SourceState(Struct):
    """One source: whether it can be read now, and what was taken from it.

    ``problem`` is one line for people, with what to do. ``read_at``: when something was last taken from it. Times are
    milliseconds since the epoch.
    """

    name: str
    kind: str
    ready: bool = False
    problem: str | None = None
    read_at: int | None = None
    messages: int = 0
    waiting: int | None = None


class TickState(Struct):
    """One thing that is done again and again: how often it was, how it went last."""

    name: str
    seconds: float
    runs: int = 0
    failures: int = 0
    problem: str | None = None
    ran_at: int | None = None


class State(Struct):
    """All of it.

    ``requests``: answers to ``POST /events`` by status code. ``waiting`` and ``waiting_bytes``: what was taken and is
    not durable yet, ``oldest_waiting`` when the oldest of it came (monotonic seconds, as ``time.monotonic`` has it).
    ``ignored`` are counts by kind. ``store_problem``: why the last change could not be stored, in one line.
    """

    started_at: int
    version: str
    requests: dict[int, int] = field(default_factory=dict)
    waiting: int = 0
    waiting_bytes: int = 0
    oldest_waiting: float | None = None
    batches: int = 0
    messages: int = 0
    events: int = 0
    malformed: int = 0
    ignored: dict[str, int] = field(default_factory=dict)
    records_changed: int = 0
    commits: Durations = field(default_factory=Durations)
    store_problem: str | None = None
    store_failures: int = 0
    stored_at: int | None = None
    sources: list[SourceState] = field(default_factory=list)
    ticks: list[TickState] = field(default_factory=list)
