"""The sandbox's process: the emulator with our parts in it, on one loopback port, for as long as its parent lives.

Started by :class:`crr_monitor.sandbox.Sandbox` in a clean environment and with the listening socket, which it inherits.
Its settings are one line of JSON on standard input, which then stays open: its end means that the parent is gone,
however it died. The answer is one line on standard output.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

from crr_monitor.sandbox.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


def end_group() -> None:
    """End this process and the functions' processes that it started, at once."""
    os.killpg(os.getpgid(0), signal.SIGKILL)


def watch_parent(folder: str) -> None:
    """Wait for the end of standard input; then nobody is left to tidy up."""
    while sys.stdin.buffer.read(4096):
        pass
    shutil.rmtree(folder, ignore_errors=True)
    end_group()


async def _serve(descriptor: int, settings: Settings, ready: Callable[[], None]) -> None:
    from hypercorn.asyncio import serve  # noqa: PLC0415 - of the extra, and slow to import
    from hypercorn.config import Config  # noqa: PLC0415

    from crr_monitor.sandbox import points  # noqa: PLC0415
    from crr_monitor.sandbox.control import Control  # noqa: PLC0415
    from crr_monitor.sandbox.world import World  # noqa: PLC0415

    world = World(settings)
    world.install()
    world.clock.start()
    emulator = points.module("app").app
    control = Control(world)

    async def entrance(scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Any) -> None:  # noqa: ANN401
        if scope["type"] == "http" and scope["path"].startswith(control.PREFIX):
            await control(scope, receive, send)
        else:
            await emulator(scope, receive, send)

    config = Config()
    config.bind = [f"fd://{descriptor}"]
    config.keep_alive_timeout = 75
    config.loglevel = "WARNING"
    # hypercorn serves what is queued on the listening socket as soon as the emulator's start-up is complete.
    ready()
    await serve(entrance, config, shutdown_trigger=asyncio.Event().wait)  # type: ignore[arg-type]


def main() -> None:
    """Serve until killed; arguments: the listening socket's number, the folder to remove at the parent's end."""
    descriptor, folder = sys.argv[1:]
    settings = Settings.from_json(json.loads(sys.stdin.buffer.readline()))
    threading.Thread(target=watch_parent, args=(folder,), daemon=True).start()
    signal.signal(signal.SIGTERM, lambda *_: end_group())
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)

    def ready() -> None:
        sys.stdout.write("ready\n")
        sys.stdout.flush()

    asyncio.run(_serve(int(descriptor), settings, ready))


if __name__ == "__main__":
    main()
