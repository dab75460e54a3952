"""The entry of ``crr-monitor``, and the edge of the process: what goes wrong becomes a line and an exit status."""

from __future__ import annotations

import importlib
import io
import os
import signal
import sys
import time
import traceback
from typing import TYPE_CHECKING

import click

from crr_monitor import __version__
from crr_monitor.cli.session import PLACE, PROGRAM, Session, example, pass_session, say

if TYPE_CHECKING:
    from collections.abc import Sequence

FAILED = 1
INTERRUPTED = 130
PATIENCE_SECONDS = 1.0
"""How long after a Ctrl-C others are taken for the same one."""

PIPE_CLOSED = 141
"""As of any program that a closed pipe ended (128 + SIGPIPE)."""

COMMANDS = (
    "ingest",
    "topology",
    "status",
    "list",
    "stats",
    "query",
    "report",
    "reconcile",
    "retry",
    "serve",
    "simulate",
    "deploy",
    "destroy",
    "selftest",
    "cost",
    "demo",
    "completion",
)
"""In the order of their use; each is ``command`` in the module of its name."""


class _PipeClosedError(Exception):
    """Nobody reads our output any more. An error of our own: click answers a broken pipe with status 1."""


class _LazyGroup(click.Group):
    """Imports a command when it is asked for, so that each call starts with only what it needs."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"crr_monitor.cli.{cmd_name}")
        _hear_ctrl_c()
        command: click.Command = module.command
        return command

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise _PipeClosedError from error


def _set_verbose(context: click.Context, _parameter: click.Parameter, given: bool) -> None:  # noqa: FBT001 - click's
    """At once, so that also an error before the command begins shows its traceback."""
    context.ensure_object(Session).verbose = given


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=example("crr-monitor ingest AWSLogs/", "crr-monitor stats --window 24h"),
)
@click.option(
    "--store",
    type=PLACE,
    metavar="STORE",
    help="The store: sqlite:///PATH, or the deployed hub's (dynamodb://...). Default: a file in your data folder.",
)
@click.option(
    "--config",
    type=PLACE,
    metavar="FILE",
    help="Settings in TOML. Default: config.toml in your settings folder, if any.",
)
@click.option(
    "-v",
    "--verbose",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_set_verbose,
    help="Show the traceback of an error.",
)
@click.version_option(__version__, "--version", prog_name=PROGRAM)
@pass_session
def cli(session: Session, store: str | None, config: str | None) -> None:
    """Tell for every object version in replicated S3 buckets where its copies are.

    Feed it with event messages (ingest) or deploy it into AWS (deploy), then ask (status, list, stats). Data goes to
    standard output, everything else to standard error. Exit status: 0 done, 1 could not do it, 2 wrong usage,
    3 (status, stats --check) done, and replication has problems.
    """
    session.store, session.config = store, config


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line (default: this process's); gives the exit status."""
    _open_missing_streams()
    status = _flushed(_guarded(arguments, Session()))
    if status == INTERRUPTED and arguments is None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the interpreter's last moment would end it with another status
    return status


def _hear_ctrl_c() -> None:
    """From when everything is loaded on: before, there is nothing to end in order, and Ctrl-C just ends the process.

    Where it is ignored it stays so, and whoever calls :func:`main` from Python has a handler of their own.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, _Interrupts().take)


class _Interrupts:
    """Ctrl-C: the first one is an exception, and the command ends in order.

    An exception in the middle of that would be told as a bug, or break a lock. So one that follows at once is passed
    over, and whoever does not want to wait any longer ends the process with the next.
    """

    def __init__(self) -> None:
        self._first: float | None = None

    def take(self, _number: int, _frame: object) -> None:
        """As a handler of the signal."""
        now = time.monotonic()
        if self._first is None:
            self._first = now
            raise KeyboardInterrupt
        if now - self._first >= PATIENCE_SECONDS:
            os._exit(INTERRUPTED)


def _guarded(arguments: Sequence[str] | None, session: Session) -> int:
    """The exit status of one command line, with everything that goes wrong told."""
    try:
        status = _run(arguments, session)
    except (click.Abort, KeyboardInterrupt):
        say(f"{PROGRAM}: interrupted")
        status = INTERRUPTED
    except click.NoSuchOption as error:
        _misplaced(error).show()
        status = error.exit_code
    except click.ClickException as error:
        error.show()
        status = error.exit_code
    except (BrokenPipeError, _PipeClosedError):
        status = PIPE_CLOSED
    except Exception as error:  # noqa: BLE001 - the edge of the process: everything becomes a line and a status
        _tell(error, session)
        status = FAILED
    return status


def _run(arguments: Sequence[str] | None, session: Session) -> int:
    try:
        status = cli.main(arguments, prog_name=PROGRAM, standalone_mode=False, obj=session)
    except SystemExit as leaving:  # click has answered a shell's completion
        return leaving.code if isinstance(leaving.code, int) else 0
    sys.stdout.flush()
    return status if isinstance(status, int) else 0


def _misplaced(error: click.NoSuchOption) -> click.UsageError:
    """The error in words that help, where an option of the program was given to a command."""
    if error.option_name not in {"--store", "--config", "--verbose", "-v"}:
        return error
    name = error.option_name
    return click.UsageError(f"{name} goes before the command: {PROGRAM} {name} ...", error.ctx)


def _tell(error: Exception, session: Session) -> None:
    from crr_monitor.cli.errors import EXPECTED  # noqa: PLC0415 - only needed when something went wrong

    if session.verbose:
        click.echo("".join(traceback.format_exception(error)), err=True, nl=False)
    if isinstance(error, EXPECTED):
        say(f"{PROGRAM}: {error}")
    elif isinstance(error, OSError):
        where = f" ({error.filename})" if error.filename else ""
        say(f"{PROGRAM}: {error.strerror or error}{where}")
    else:
        hint = "" if session.verbose else f", run `{PROGRAM} -v ...` for the traceback"
        say(f"{PROGRAM}: {type(error).__name__}: {error} (this is a bug{hint})")


def _open_missing_streams() -> None:
    """A caller may close our streams (``>&-``), and then Python has none; what we say goes nowhere then."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115 - open until the end
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        # A key may have letters that the caller's encoding lacks: they are written out, as on standard error.
        sys.stdout.reconfigure(errors="backslashreplace")


def _flushed(status: int) -> int:
    """The status, with nothing left for the interpreter to write, and to complain about, at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - a descriptor, not a path, is what matters
            os.dup2(nowhere.fileno(), 1)
        return status or FAILED
    return status
