"""Figures as a monitor may have them, for the demo's view."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crr_monitor.core import lag
from crr_monitor.core.statistics import Cell
from crr_monitor.demo.picture import AGES, Moment, Picture
from crr_monitor.process.figures import Backlog, Figures, Group, Window

if TYPE_CHECKING:
    from crr_monitor.demo.scenario import Outage

REFUSED = "DstPutObjectNotPermitted"


def group(source: str, destination: str, cell: Cell, markers: Cell | None = None, oldest: int | None = None) -> Group:
    """A pair; ``oldest`` is the age of its oldest pending copy in milliseconds."""
    return Group(source, destination, puts=cell, markers=markers or Cell(), backlog=Backlog(oldest=oldest))


def picture(*groups: Group, ages: tuple[int, ...] = (0, 0, 0, 0, 0), events: int = 0, queued: int = 0) -> Picture:
    """A picture of some pairs."""
    named = tuple((name, count) for (name, _), count in zip(AGES, ages, strict=True))
    return Picture(Figures(Window(None, None, 0), 900_000, list(groups)), named, events, queued)


def moment(
    elapsed: float = 23.0,
    length: float | None = 60.0,
    outage: Outage | None = None,
    news: tuple[str, ...] = (),
    finishing: str = "",
) -> Moment:
    """A moment at which 92 versions have been written."""
    return Moment(elapsed, length, 92, outage, news, finishing)


def busy() -> Picture:
    """Two pairs: one with a copy that waits and a delete marker, one that is refused."""
    lags = {lag.bin_of(1_500): 8, lag.bin_of(4_000): 1}
    return picture(
        group(
            "orders",
            "orders-dr",
            Cell(objects=10, completed=9, pending=1, lags=lags),
            Cell(objects=1, completed=1, lags={lag.bin_of(2_000): 1}),
            oldest=7_500,
        ),
        group("photos", "partner-inbox", Cell(objects=2, failed=2, reasons={REFUSED: 2})),
        ages=(0, 0, 1, 0, 0),
        events=31,
        queued=4,
    )
