"""What the demo shows: on a wide and a narrow terminal, and as lines."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from crr_monitor.cli import demoview
from crr_monitor.cli.demo import conclusion, invitation, own_name
from crr_monitor.demo.scenario import EUROPE, Outage
from crr_monitor.demo.truth import Verdict
from tests.demo.making import busy, moment, picture

if TYPE_CHECKING:
    from crr_monitor.demo.picture import Moment, Picture

DOWN = Outage(EUROPE, 15.0, 33.0)
SHOW_CURSOR = "\x1b[?25h"
NEWS = tuple(f"{number:5.1f}s  wrote s3://orders/{number}" for number in range(8))


def rendered(shown: Picture, at: Moment, width: int, height: int) -> list[str]:
    """The lines of a frame, less the blanks at their ends."""
    file = io.StringIO()
    console = Console(file=file, width=width, height=height, color_system=None)
    console.print(demoview.frame(shown, at, width, height))
    return [line.rstrip() for line in file.getvalue().splitlines()]


def test_a_wide_terminal_shows_everything() -> None:
    """Pairs with a total, bars of the backlog, the failure with cause and fix, six lines of news."""
    lines = rendered(busy(), moment(outage=DOWN, news=NEWS), 120, 40)
    assert lines[:16] == [
        "CRR Monitor demo: 23 s of 60 s   92 versions written, 31 events taken in, 4 in the queue",
        "eu-west-1 is down since 8 s, for 10 s more: copies from and to it wait",
        "",
        "PAIR                     OBJECTS  COMPLETED  FAILED  PENDING  OLDEST   P50   P99",
        "orders -> orders-dr           11         10       0        1    7.5s  1.5s  4.0s",
        "photos -> partner-inbox        2          0       2        0       -     -     -",
        "all                           13         10       2        1    7.5s  1.5s  4.0s",
        "",
        "Backlog by age",
        "under 2s  0",
        "2-5s      0",
        "5-15s     1  #",
        "15-60s    0",
        "over 1m   0",
        "",
        "2 failed: DstPutObjectNotPermitted (photos -> partner-inbox)",
    ]
    assert lines[16].startswith("  cause: the replication role may not write objects")
    assert lines[17].startswith("  fix: allow s3:ReplicateObject")
    assert lines[-8:] == ["", *NEWS[-6:], "Ctrl-C ends it and cleans up."]


def test_a_small_terminal_loses_nothing_important() -> None:
    """In 80 columns and 24 lines no line is longer, none is cut off below, and pairs, backlog and fix are there."""
    lines = rendered(busy(), moment(outage=DOWN, news=NEWS), 80, 24)
    assert max(map(len, lines)) <= 80
    assert len(lines) <= 24
    assert lines[3] == "PAIR                     OBJ  DONE  FAILED  PEND  OLDEST   P50   P99"
    assert lines[4] == "orders -> orders-dr       11    10       0     1    7.5s  1.5s  4.0s"
    assert "Backlog by age: under 2s 0, 2-5s 0, 5-15s 1, 15-60s 0, over 1m 0" in lines
    assert [line for line in lines if line.startswith("  fix: allow s3:ReplicateObject")]
    assert lines[-3:] == [*NEWS[-2:], "Ctrl-C ends it and cleans up."]


def test_before_the_first_record_it_says_so() -> None:
    """An empty store gives an empty table that says why, and no failures."""
    lines = rendered(picture(), moment(length=None), 120, 40)
    assert lines[0].startswith("CRR Monitor demo: 23 s   92 versions")
    assert lines[1] == "all Regions can be reached"
    assert lines[4] == "nothing is recorded yet"
    assert not [line for line in lines if "failed" in line]


def test_keys_cannot_act_upon_the_terminal() -> None:
    """A control character in a key is shown escaped, and brackets are no markup."""
    lines = rendered(picture(), moment(news=("wrote s3://orders/a\x1b[2Jb[red]c",)), 120, 40)
    assert r"wrote s3://orders/a\x1b[2Jb[red]c" in lines


@pytest.mark.parametrize("count", [1, 30, 31, 3_000])
def test_bars_are_never_longer_than_their_place(count: int) -> None:
    """The largest backlog has the longest bar, of at most thirty characters."""
    lines = rendered(picture(ages=(count, 1, 0, 0, 0)), moment(), 120, 40)
    bars = [line.count("#") for line in lines]
    assert max(bars) == min(count, demoview.BAR)
    assert sorted(bars)[-2] == 1


def test_a_line_says_everything() -> None:
    """Without a terminal one line holds counts, backlog, lag and what happens."""
    assert demoview.line(busy(), moment(outage=DOWN)) == (
        "23 s of 60 s: 92 versions written; copies: 10 completed, 2 failed, 1 pending (oldest 7.5s); lag p50 1.5s,"
        " p99 4.0s; eu-west-1 is down since 8 s, for 10 s more: copies from and to it wait"
    )


def test_lines_come_every_few_seconds_and_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    """Between two lines are five seconds, but the end of the traffic is told at once; nothing goes to the output."""
    now = 0.0
    lines = demoview.Lines(lambda: None, lambda: now)
    told = []
    for now in (0.0, 4.9, 5.0, 7.0, 9.9, 10.0, 11.0):
        lines.look(picture(), moment(elapsed=now))
        told.append(capsys.readouterr())
    lines.look(picture(), moment(elapsed=12.0, finishing="waiting"))
    told.append(capsys.readouterr())
    assert [bool(each.err) for each in told] == [False, False, True, False, False, True, False, True]
    assert [each.out for each in told] == [""] * 8
    assert told[-1].err.endswith("; waiting\n")


def test_each_step_can_be_interrupted() -> None:
    """Whatever lines and screens are asked to show, they first ask whether it has to end."""

    def stop() -> None:
        raise KeyboardInterrupt

    for audience in (demoview.Lines(stop), demoview.Screen(stop)):
        with pytest.raises(KeyboardInterrupt):
            audience.step("x")
        with pytest.raises(KeyboardInterrupt):
            audience.detail("x")
        with pytest.raises(KeyboardInterrupt):
            audience.look(picture(), moment())


def test_a_screen_shows_steps_that_stay_and_a_picture() -> None:
    """Finished steps stay with their seconds, long lines are not broken, and the cursor is there again at the end."""
    file = io.StringIO()
    console = Console(file=file, width=80, height=24, force_terminal=True, color_system=None)
    screen = demoview.Screen(lambda: None, console)
    screen.start()
    screen.step("one")
    screen.detail("half of it")
    screen.step("two")
    screen.tell(["x" * 200])
    screen.look(busy(), moment())
    screen.clear()
    screen.stop()
    told = file.getvalue()
    assert "  ...  one  half of it" in told
    assert " 0.0s  one\n" in told
    assert " 0.0s  two\n" in told
    assert "x" * 200 in told
    assert "orders -> orders-dr" in told
    assert told.rindex(SHOW_CURSOR) > told.rindex("Ctrl-C ends it")


def test_the_invitation_is_ready_to_be_copied() -> None:
    """It names credentials and store in the shell's own words, and the program as it is called."""
    lines = invitation("dynamodb://a-status?region=r&endpoint=http://127.0.0.1:1", "crr-monitor")
    assert lines[1:] == [
        "While this runs, ask in a second terminal:",
        "  export AWS_ACCESS_KEY_ID=111122223333 AWS_SECRET_ACCESS_KEY=test",
        "  export CRR_MONITOR_STORE='dynamodb://a-status?region=r&endpoint=http://127.0.0.1:1'",
        "  crr-monitor stats",
        "  crr-monitor list --status FAILED",
        "",
    ]
    assert invitation("", ".venv/bin/crr-monitor")[1] == "While this runs, ask in a second terminal, in this folder:"


@pytest.mark.parametrize(
    ("called", "name"),
    [
        ("/usr/bin/crr-monitor", "crr-monitor"),
        (".venv/bin/crr-monitor", ".venv/bin/crr-monitor"),
        ("src/crr_monitor/__main__.py", "crr-monitor"),
    ],
)
def test_the_program_is_named_as_it_can_be_called(monkeypatch: pytest.MonkeyPatch, called: str, name: str) -> None:
    """Below the folder one is in by its path, else by its name."""
    monkeypatch.setattr("sys.argv", [called, "demo"])
    assert own_name() == name


def test_the_conclusion_names_differences_but_not_all_of_them() -> None:
    """What agrees is said in a sentence; of what differs ten are shown and the others counted."""
    good = Verdict(versions=1_200, markers=20, copies=1_500, without_rule=10, recorded=1_190)
    wrote = "The demo wrote 1,200 versions, 20 of them delete markers: 1,500 copies to make."
    assert conclusion(good) == [
        f"{wrote} No rule takes 10 of the versions.",
        "The monitor recorded 1,190 of 1,190; missing: 0.",
        "Every record and every figure agrees with what was written.",
    ]
    bad = Verdict(versions=12, recorded=0, missing=12, differences=[f"no {number}" for number in range(12)])
    assert conclusion(bad)[1:] == [
        "The monitor recorded 0 of 12; missing: 12.",
        "The monitor's word differs from what was written (12 times):",
        *(f"  no {number}" for number in range(10)),
        "  and 2 more",
    ]
