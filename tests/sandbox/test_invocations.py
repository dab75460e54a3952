"""How the sandbox runs functions, as Lambda does."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from tests.sandbox.making import EAST, HOME

if TYPE_CHECKING:
    from pathlib import Path

    from tests.sandbox.making import World

WAITS = """
import os, pathlib, time

def handler(event, context):
    pathlib.Path(event["started"]).touch()
    while not pathlib.Path(event["go"]).exists():
        time.sleep(0.01)
    return os.environ["WORD"]
"""
"""Tells that it has started, and ends when it is let."""


def test_a_call_goes_on_while_its_function_changes(world: World, tmp_path: Path) -> None:
    """A call that is running ends well and with the settings it began with; the next has the new ones."""
    functions = world.sandbox.client("lambda", HOME, EAST)
    world.function("waits", WAITS, Timeout=60, Environment={"Variables": {"WORD": "old"}})
    started, go = tmp_path / "started", tmp_path / "go"
    event = json.dumps({"started": str(started), "go": str(go)})

    def call() -> object:
        answer = functions.invoke(FunctionName="waits", Payload=event)
        return json.load(answer["Payload"])

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(call)
        while not started.exists():
            assert not running.done()
        functions.update_function_configuration(FunctionName="waits", Environment={"Variables": {"WORD": "new"}})
        go.touch()
        assert (running.result(), call()) == ("old", "new")
