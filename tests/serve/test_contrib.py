"""The service's unit and the container's file: what they start is what the program understands, and as whom."""

from __future__ import annotations

import configparser
import json
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest

from crr_monitor.cli.serve import command as serve
from tests.messages import encoded, notification
from tests.serve.running import Server, token_file

if TYPE_CHECKING:
    from collections.abc import Sequence

CONTRIB = Path(__file__).resolve().parents[2] / "contrib"
UNIT = (CONTRIB / "crr-monitor.service").read_text(encoding="utf-8")
CONTAINER = (CONTRIB / "Containerfile").read_text(encoding="utf-8")


def unit() -> dict[str, str]:
    """The unit's section ``Service``; of what is there twice the last."""
    parser = configparser.RawConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(UNIT)
    return dict(parser["Service"])


def unit_call() -> list[str]:
    """What the unit starts, without the program."""
    program, *arguments = shlex.split(unit()["ExecStart"])
    assert program == "/opt/crr-monitor/bin/crr-monitor"
    return arguments


def container_call() -> list[str]:
    """What the container starts, without the program."""
    found = {name: json.loads(value) for name, value in re.findall(r"^(ENTRYPOINT|CMD) (.*)$", CONTAINER, re.MULTILINE)}
    assert found["ENTRYPOINT"] == ["crr-monitor"]
    arguments: list[str] = found["CMD"]
    return arguments


@pytest.mark.parametrize("arguments", [unit_call(), container_call()], ids=["unit", "container"])
def test_options_exist(arguments: Sequence[str]) -> None:
    """Every option that is given to ``serve`` is one of its options."""
    name, *rest = arguments
    assert name == "serve"
    given, _, _ = serve.make_parser(click.Context(serve)).parse_args(rest)
    assert {"listen", "token_file"} <= given.keys()


def test_unit_starts(tmp_path: Path) -> None:
    """Started as the unit has it, with its credentials and its settings, the monitor takes an event."""
    token_file(tmp_path)
    given = [part.replace("%d", str(tmp_path)) for part in unit_call()[1:] if part != "$SOURCES"]
    at = given.index("--listen")
    with Server(tmp_path, *given[:at], *given[at + 2 :]) as server:
        assert server.post(encoded(notification())).status == 200


def test_unit_keeps_its_store_in_its_own_folder() -> None:
    """The store is in the only folder that the unit may write."""
    service = unit()
    assert service["Environment"] == "CRR_MONITOR_STORE=/var/lib/crr-monitor/monitor.db"
    assert (service["StateDirectory"], service["ProtectSystem"]) == ("crr-monitor", "strict")
    assert "ReadWritePaths" not in service


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DynamicUser", "yes"),
        ("NoNewPrivileges", "yes"),
        ("CapabilityBoundingSet", ""),
        ("ProtectHome", "yes"),
        ("PrivateTmp", "yes"),
        ("PrivateDevices", "yes"),
        ("RestrictAddressFamilies", "AF_INET AF_INET6 AF_UNIX"),
        ("UMask", "0077"),
    ],
)
def test_unit_may_do_little(name: str, value: str) -> None:
    """The process has no privileges, and sees nobody's files."""
    assert unit()[name] == value


def test_container_is_not_root() -> None:
    """The container runs as a user with a number, so that a cluster can see that it is not root."""
    assert re.findall(r"^USER (.*)$", CONTAINER, re.MULTILINE) == ["10001:10001"]
