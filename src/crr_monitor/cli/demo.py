"""``crr-monitor demo``: the whole system at work on this machine."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from crr_monitor.cli.session import PROGRAM, example, say
from crr_monitor.cli.tables import paragraph
from crr_monitor.demo.scenario import HUB, SECRET

if TYPE_CHECKING:
    from crr_monitor.cli.demoview import Lines, Screen
    from crr_monitor.demo.picture import Picture
    from crr_monitor.demo.system import System
    from crr_monitor.demo.truth import Verdict

DISAGREES = 1
UNSEEN_SECONDS = 60
"""How long it goes on where the output is no terminal, and nobody could say when it is enough."""

LONGEST_SECONDS = 3_600
FRAME_SECONDS = 0.25
SHOWN = 10
"""So many differences are shown one by one."""


@click.command(
    "demo",
    short_help="Show the whole system at work on this machine (extra: sandbox).",
    epilog=example("crr-monitor demo --for 60"),
)
@click.option(
    "--for",
    "seconds",
    type=click.IntRange(1, LONGEST_SECONDS),
    metavar="SECONDS",
    help="End after so many seconds of traffic, 1 to 3600. Default: at Ctrl-C; where the output is no terminal, 60.",
)
@click.pass_context
def command(context: click.Context, /, *, seconds: int | None) -> None:
    """Show the whole system at work on this machine; no AWS account is needed, and nothing leaves the machine.

    Starts a local AWS with two accounts and three Regions, deploys the hub and an agent into it, writes objects into
    replicated buckets, and shows what the monitor says: copies, lag, backlog, failures. Regions fail and come back,
    and one destination refuses its copies. With --for it ends by itself and compares the monitor's records and
    figures with what was written: exit status 0 when they agree, 1 when they do not. Ctrl-C ends it at any time.

    It needs the extra sandbox: pip install 'crr-monitor[sandbox]'
    """
    from crr_monitor.cli import demoview  # noqa: PLC0415 - rich takes its time
    from crr_monitor.demo.interrupts import Interrupts  # noqa: PLC0415 - only here
    from crr_monitor.demo.system import System, require_extra  # noqa: PLC0415

    require_extra()
    seen = demoview.has_screen()
    length = seconds if seconds is not None or seen else UNSEEN_SECONDS
    try:
        with Interrupts() as interrupts, System() as system:
            screen = demoview.Screen(interrupts.check) if seen else demoview.Lines(interrupts.check)
            picture, verdict = _play(system, screen, length)
    except KeyboardInterrupt:
        say("the demo was interrupted: nothing of it is left")
        raise
    _conclude(picture, verdict)
    if not verdict.agrees:
        context.exit(DISAGREES)


def _play(system: System, screen: Screen | Lines, length: int | None) -> tuple[Picture, Verdict]:
    """Start, show, and give the last picture and how it compares with the truth."""
    from crr_monitor.demo.show import Show  # noqa: PLC0415 - only here

    screen.start()
    try:
        system.start(screen)
        screen.tell(invitation(system.store_url, own_name()))
        with Show(system, length, FRAME_SECONDS) as show:
            verdict = show.run(screen)
            screen.clear()
            return show.picture, verdict
    finally:
        screen.stop()


def own_name() -> str:
    """How this program is called from the folder one is in: by its path if it is below it, else by its name."""
    called = Path(sys.argv[0]).absolute()
    below = called.name == PROGRAM and called.is_relative_to(Path.cwd())
    return str(called.relative_to(Path.cwd())) if below else PROGRAM


def invitation(store_url: str, program: str) -> list[str]:
    """What to type in a second terminal: the sandbox takes an account's number as access key, and any secret."""
    where = "a second terminal" if program == PROGRAM else "a second terminal, in this folder"
    return [
        "",
        f"While this runs, ask in {where}:",
        f"  export AWS_ACCESS_KEY_ID={HUB} AWS_SECRET_ACCESS_KEY={SECRET}",
        f"  export CRR_MONITOR_STORE={shlex.quote(store_url)}",
        f"  {program} stats",
        f"  {program} list --status FAILED",
        "",
    ]


def _conclude(picture: Picture, verdict: Verdict) -> None:
    """Say what was seen: the figures as ``stats`` shows them, and how they compare with what was written."""
    from crr_monitor.cli.statstable import show_figures  # noqa: PLC0415 - only at the end
    from crr_monitor.process.clock import Clock  # noqa: PLC0415

    figures = picture.figures
    show_figures(figures, figures.to_json(), Clock("now", figures.window.as_of, None))
    click.echo()
    for text in conclusion(verdict):
        paragraph(text, "")


def conclusion(verdict: Verdict) -> list[str]:
    """The comparison in words."""
    recordable = verdict.versions - verdict.without_rule
    wrote = f"The demo wrote {verdict.versions:,} versions, {verdict.markers:,} of them delete markers"
    lines = [
        f"{wrote}: {verdict.copies:,} copies to make. No rule takes {verdict.without_rule:,} of the versions.",
        f"The monitor recorded {verdict.recorded:,} of {recordable:,}; missing: {verdict.missing:,}.",
    ]
    if verdict.agrees:
        return [*lines, "Every record and every figure agrees with what was written."]
    lines.append(f"The monitor's word differs from what was written ({len(verdict.differences):,} times):")
    lines += [f"  {text}" for text in verdict.differences[:SHOWN]]
    left = len(verdict.differences) - SHOWN
    return [*lines, f"  and {left:,} more"] if left > 0 else lines
