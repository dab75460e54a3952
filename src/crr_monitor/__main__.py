"""The program's start: ``python -m crr_monitor`` is the same as ``crr-monitor``."""

from __future__ import annotations

import signal
import sys


def main() -> int:
    """Load the program and run this process's command line; gives the exit status."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is ignored
        # Ctrl-C while modules are being loaded would be told as a traceback through all of them.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from crr_monitor.cli.main import main as run  # noqa: PLC0415 - loading it is what takes a while

    return run()


if __name__ == "__main__":
    sys.exit(main())
