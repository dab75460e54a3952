"""The demo on a screen, and as lines where nobody looks at a screen."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeAlias

from rich.console import Console
from rich.console import Group as Stack
from rich.live import Live
from rich.table import Table
from rich.text import Text

from crr_monitor.cli.session import escape, say
from crr_monitor.cli.tables import on_terminal
from crr_monitor.cli.words import NOTHING, duration_text
from crr_monitor.core import lag
from crr_monitor.core.failures import explain
from crr_monitor.demo.picture import total

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from rich.console import RenderableType

    from crr_monitor.demo.picture import Moment, Picture, Sum
    from crr_monitor.demo.scenario import Outage
    from crr_monitor.process.figures import Group

WIDE = 100
"""From how many columns on the table shows everything."""

TALL = 32
"""From how many lines on there are bars, and more news."""

BAR = 30
"""Characters of the longest bar."""

LINE_SECONDS = 5.0

Check: TypeAlias = "Callable[[], None]"
"""Called at each step, so that what has to end the demo can."""


# Words ----------------------------------------------------------------------------------------------------------------


def happening(moment: Moment) -> tuple[str, str]:
    """What is going on, and its colour."""
    if moment.finishing:
        return moment.finishing, "cyan"
    if moment.outage is None:
        return "all Regions can be reached", "green"
    return outage_text(moment.outage, moment.elapsed), "bold red"


def outage_text(outage: Outage, elapsed: float) -> str:
    """``eu-west-1 is down since 10 s, for 8 s more: copies from and to it wait``."""
    since, more = elapsed - outage.begins, max(0.0, outage.ends - elapsed)
    return f"{outage.region} is down since {since:.0f} s, for {more:.0f} s more: copies from and to it wait"


def time_passed(moment: Moment) -> str:
    """``23 s of 60 s``; once the traffic has ended only the time."""
    whole = "" if moment.length is None or moment.finishing else f" of {moment.length:.0f} s"
    return f"{moment.elapsed:.0f} s{whole}"


def lag_texts(each: Sum) -> tuple[str, str]:
    """The median and the 99th percentile of the lag."""
    median, high = (duration_text(lag.quantile(each.cell.lags, q)) for q in (0.5, 0.99))
    return median, high


def line(picture: Picture, moment: Moment) -> str:
    """Everything in one line."""
    whole = total(picture.figures.groups)
    cell, (median, high) = whole.cell, lag_texts(whole)
    pending = f"{cell.pending} pending" + (f" (oldest {duration_text(whole.oldest)})" if whole.oldest else "")
    return (
        f"{time_passed(moment)}: {moment.written} versions written; copies: {cell.completed} completed,"
        f" {cell.failed} failed, {pending}; lag p50 {median}, p99 {high}; {happening(moment)[0]}"
    )


# The screen -----------------------------------------------------------------------------------------------------------


def frame(picture: Picture, moment: Moment, width: int, height: int) -> RenderableType:
    """One picture of everything, for a terminal of this size."""
    text, style = happening(moment)
    head = Text(f"CRR Monitor demo: {time_passed(moment)}", style="bold", no_wrap=True)
    head.append(f"   {moment.written} versions written, {picture.events} events taken in", style="not bold")
    if width >= WIDE:
        head.append(f", {picture.queued} in the queue", style="not bold")
    tall = height >= TALL
    return Stack(
        head,
        Text(text, style=style, no_wrap=True, overflow="ellipsis"),
        Text(),
        pairs_table(picture.figures.groups, wide=width >= WIDE),
        Text(),
        _ages(picture.ages, bars=tall),
        *_failures(picture.figures.groups, blank=tall),
        *([Text()] if tall else []),
        *_news(moment.news[-6:] if tall else moment.news[-2:]),
        Text("Ctrl-C ends it and cleans up.", style="bright_black"),
    )


def pairs_table(groups: Sequence[Group], *, wide: bool) -> Table:
    """A line for each pair, delete markers included, and one for all."""
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0), pad_edge=False)
    titles = (
        ["OBJECTS", "COMPLETED", "FAILED", "PENDING", "OLDEST", "P50", "P99"]
        if wide
        else ["OBJ", "DONE", "FAILED", "PEND", "OLDEST", "P50", "P99"]
    )
    table.add_column("PAIR", no_wrap=True)
    for title in titles:
        table.add_column(title, justify="right", no_wrap=True)
    for group in groups:
        table.add_row(*_cells(_name(group), total([group])))
    if not groups:
        table.add_row(Text("nothing is recorded yet", style="bright_black"))
    else:
        table.add_row(*_cells("all", total(groups)), style="bold")
    return table


def _name(group: Group) -> str:
    return f"{group.source or NOTHING} -> {group.destination or NOTHING}"


def _cells(name: str, each: Sum) -> Iterator[Text]:
    cell = each.cell
    yield Text(name)
    yield Text(f"{cell.objects:,}")
    yield Text(f"{cell.completed:,}", style="green" if cell.completed else "")
    yield Text(f"{cell.failed:,}", style="red" if cell.failed else "")
    yield Text(f"{cell.pending:,}", style="yellow" if cell.pending else "")
    yield Text(duration_text(each.oldest) if cell.pending else NOTHING)
    for text in lag_texts(each):
        yield Text(text)


def _ages(ages: Sequence[tuple[str, int]], *, bars: bool) -> RenderableType:
    if not bars:
        parts = [f"{name} {count}" for name, count in ages]
        return Text("Backlog by age: " + ", ".join(parts), no_wrap=True, overflow="ellipsis")
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    most = max(BAR, *(count for _, count in ages))
    for name, count in ages:
        bar = "#" * -(-count * BAR // most)
        table.add_row(Text(name), Text(str(count)), Text(bar, style="yellow"))
    return Stack(Text("Backlog by age", style="bold"), table)


def reasons(groups: Iterable[Group]) -> dict[str, tuple[int, list[str]]]:
    """Failures by reason: how many, and of which pairs; the most frequent first."""
    found: dict[str, tuple[int, list[str]]] = {}
    for group in groups:
        for reason, count in total([group]).cell.reasons.items():
            before, names = found.get(reason, (0, []))
            found[reason] = (before + count, [*names, _name(group)])
    return dict(sorted(found.items(), key=lambda each: -each[1][0]))


def _failures(groups: Sequence[Group], *, blank: bool) -> Iterator[Text]:
    for reason, (count, names) in reasons(groups).items():
        if blank:
            yield Text()
        told = Text(f"{count} failed: {reason}", style="red", no_wrap=True, overflow="ellipsis")
        yield told.append(f" ({', '.join(names)})", style="default")
        known = explain(reason)
        if known is not None:
            yield Text(f"  cause: {known.cause}")
            yield Text(f"  fix: {known.fix}")


def _news(news: Sequence[str]) -> Iterator[Text]:
    for text in news:
        yield Text(escape(text), style="bright_black", no_wrap=True, overflow="ellipsis")


def has_screen() -> bool:
    """Whether somebody looks at a terminal that can show moving pictures."""
    return on_terminal() and not Console().is_dumb_terminal


class Screen:
    """A terminal: steps of the start with their seconds, then a live picture."""

    def __init__(self, check: Check, console: Console | None = None) -> None:
        self._check = check
        self._console = console or Console(highlight=False)
        self._live = Live(console=self._console, auto_refresh=False)
        self._step = ""
        self._began = 0.0

    def start(self) -> None:
        """Take the screen."""
        self._live.start()

    def stop(self) -> None:
        """Give it back: the last picture stays, and the cursor is there again."""
        self._live.stop()

    def clear(self) -> None:
        """Take the live part away."""
        self._live.update(Text(), refresh=True)

    def step(self, text: str) -> None:
        """A step of the start begins, and the one before is done."""
        self._check()
        self._close_step()
        self._step, self._began = text, time.monotonic()
        self.detail("")

    def detail(self, text: str) -> None:
        """How far the step is."""
        self._check()
        shown = Text(f"  ...  {self._step}", no_wrap=True, overflow="ellipsis")
        shown.append(f"  {text}", style="bright_black")
        self._live.update(shown, refresh=True)

    def _close_step(self) -> None:
        if self._step:
            seconds = time.monotonic() - self._began
            self._console.print(Text(f"{seconds:4.1f}s  {self._step}"))
            self._step = ""

    def tell(self, lines: Iterable[str]) -> None:
        """Show lines that stay, and that can be copied whole."""
        self._close_step()
        for text in lines:
            self._console.print(Text(text), soft_wrap=True)

    def look(self, picture: Picture, moment: Moment) -> None:
        """Show everything anew."""
        self._check()
        size = self._console.size
        self._live.update(frame(picture, moment, size.width, size.height), refresh=True)


class Lines:
    """A pipe or a file: a line on standard error for each step, and then every few seconds."""

    def __init__(self, check: Check, clock: Callable[[], float] = time.monotonic) -> None:
        self._check = check
        self._clock = clock
        self._next: float | None = None
        self._finishing = False

    def start(self) -> None:
        """Nothing: lines need no preparation."""

    def stop(self) -> None:
        """Nothing."""

    def clear(self) -> None:
        """Nothing."""

    def step(self, text: str) -> None:
        """A step of the start begins."""
        self._check()
        say(text)

    def detail(self, text: str) -> None:  # noqa: ARG002 - as a screen has it
        """Too much for lines."""
        self._check()

    def tell(self, lines: Iterable[str]) -> None:
        """Show lines."""
        for text in lines:
            say(text)

    def look(self, picture: Picture, moment: Moment) -> None:
        """Say it in a line, if it is time, or if the end has begun."""
        self._check()
        now = self._clock()
        ends = bool(moment.finishing) and not self._finishing
        if self._next is None:
            self._next = now + LINE_SECONDS
        elif now >= self._next or ends:
            say(line(picture, moment))
            self._next = now + LINE_SECONDS
        self._finishing = bool(moment.finishing)
