"""The settings: one frozen object, parsed once from a TOML file, the environment and flags, in rising precedence.

The environment is read by :mod:`crr_monitor.environment`, but for shell completion, which click answers by itself when
the shell sets ``_CRR_MONITOR_COMPLETE``.
"""

from __future__ import annotations

import difflib
import re
import sys
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from msgspec import Struct

from crr_monitor.environment import environment

if TYPE_CHECKING:
    from collections.abc import Iterable

PREFIX = "CRR_MONITOR_"
CONFIG_VARIABLE = PREFIX + "CONFIG"
"""Names the TOML file, as ``--config`` does. It is the only variable that is no setting."""

FOLDER = "crr-monitor"
STORE_FILE = "monitor.db"
CONFIG_FILE = "config.toml"
SQLITE = "sqlite:///"
DYNAMODB = "dynamodb://"
S3 = "s3://"
NO_ARCHIVE = "off"
DYNAMODB_FORM = f"{DYNAMODB}TABLE[?region=R&endpoint=URL&statistics=TABLE]"

_TABLE = re.compile(r"dynamodb://([A-Za-z0-9_.-]{3,255})(\?[^#\0]*)?", re.ASCII)
"""Table names: DynamoDB Developer Guide, "Naming rules"."""

_TABLE_MARKS = "hyphens, underscores and dots"

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")  # two letters at least: C:\ is a drive
_DIGITS = re.compile(r"[0-9]{1,9}", re.ASCII)
_ADDRESS = re.compile(r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9.-]{1,253})):([0-9]{1,5})", re.ASCII)
_HIGHEST_PORT = 65_535

Kind: TypeAlias = Literal["store", "file", "archive", "whole number", "address", "secret"]


class ConfigError(Exception):
    """A setting is wrong: the text names it, its value, and what is allowed. ``flag``: it came with the command."""

    def __init__(self, message: str, *, flag: bool = False) -> None:
        super().__init__(message)
        self.flag = flag


class Setting(Struct, frozen=True):
    """One setting. ``default`` is for people where it is no number; ``flag`` is the option that overrides it."""

    name: str
    kind: Kind
    default: str | int
    meaning: str
    flag: str | None = None
    low: int = 1
    high: int = 1

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return PREFIX + self.name.upper()

    @property
    def allowed(self) -> str:
        """What it may be, in words."""
        if self.kind == "whole number":
            return f"a whole number from {self.low} to {self.high}"
        return {
            "store": f"{SQLITE}PATH, {DYNAMODB_FORM}, or the path of a file",
            "archive": f"the path of a folder, {S3}BUCKET/PREFIX, or {NO_ARCHIVE}",
            "address": "HOST:PORT, as in 127.0.0.1:9470 or [::1]:9470",
            "secret": "a text that is not empty",
        }.get(self.kind, "the path of a file")


SETTINGS: tuple[Setting, ...] = (
    Setting(
        "store",
        "store",
        f"{STORE_FILE} in the user's data folder (Linux: ~/.local/share/{FOLDER}/)",
        "where records and statistics are kept",
        "--store",
    ),
    Setting(
        "retention_hours",
        "whole number",
        24,
        "how many hours a settled record stays after its last change",
        high=87_600,
    ),
    Setting(
        "unsettled_days",
        "whole number",
        14,
        "how many days a pending, failed or uncertain record stays after its last change",
        high=3_650,
    ),
    Setting(
        "statistics_days",
        "whole number",
        400,
        "how many days statistics stay after their last change",
        high=3_650,
    ),
    Setting(
        "rpo_seconds",
        "whole number",
        900,
        "the recovery point objective: in how many seconds a copy has to arrive",
        "--rpo",
        high=2_592_000,
    ),
    Setting(
        "rejects",
        "file",
        "the store's path and .rejects.ndjson",
        "where messages go that could not be understood",
        "--rejects",
    ),
    Setting(
        "archive",
        "archive",
        "none",
        "the archive that `serve` and `ingest` feed, and that `query` and `report` read;"
        f" {NO_ARCHIVE}: the store stops keeping what would go there",
        "--archive",
    ),
    Setting(
        "listen",
        "address",
        "127.0.0.1:9470",
        "where `serve` listens; other addresses than this machine's own also need --allow-remote",
        "--listen",
    ),
    Setting(
        "token_file",
        "file",
        "none",
        "the file with the token that senders of events have to show to `serve`",
        "--token-file",
    ),
    Setting(
        "notify_url",
        "secret",
        "none",
        "an http:// or https:// address to which `serve` posts what people have to know, as JSON",
    ),
    Setting("token", "secret", "none", "the token itself, where there is no token_file"),
)
"""Every setting, declared once: the reference is made from this table."""


class Address(Struct, frozen=True):
    """Where to listen: a name or number of this machine, and a port (0: any that is free)."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Secret(str):
    """A text that is not shown by accident."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'...'"


class Config(Struct, frozen=True, kw_only=True):
    """The settings as they are in force. See :data:`SETTINGS` for what they mean.

    ``store`` is a file of SQLite, or as text the address of a DynamoDB table. ``archive`` is the path of a folder, or
    an address of S3, or :data:`NO_ARCHIVE`.
    """

    store: Path | str
    rejects: Path
    retention_hours: int
    unsettled_days: int
    statistics_days: int
    rpo_seconds: int
    archive: str | None = None
    listen: Address = Address("127.0.0.1", 9470)
    token_file: Path | None = None
    token: Secret | None = None
    notify_url: Secret | None = None


class Surroundings(Struct, frozen=True):
    """What defaults depend on: the environment, and the platform as ``sys.platform`` names it."""

    environment: Mapping[str, str]
    platform: str

    @property
    def data_folder(self) -> Path:
        """Where the user's data is kept, by the platform's convention."""
        return self._folder("LOCALAPPDATA", "XDG_DATA_HOME", ".local/share")

    @property
    def config_folder(self) -> Path:
        """Where the user's settings are kept, by the platform's convention."""
        return self._folder("APPDATA", "XDG_CONFIG_HOME", ".config")

    def _folder(self, windows: str, xdg: str, below_home: str) -> Path:
        if self.platform == "darwin":
            return self._home() / "Library" / "Application Support" / FOLDER
        told = self.environment.get(windows if self.platform == "win32" else xdg, "")
        # The XDG specification has relative paths ignored.
        return (Path(told) if Path(told).is_absolute() else self._home() / below_home) / FOLDER

    def _home(self) -> Path:
        told = self.environment.get("USERPROFILE" if self.platform == "win32" else "HOME")
        if told:
            return Path(told)
        try:
            return Path.home()
        except RuntimeError as error:
            message = f"there is no home folder: name the store with --store or {PREFIX}STORE"
            raise ConfigError(message) from error


def surroundings() -> Surroundings:
    """Those of this process."""
    return Surroundings(environment(), sys.platform)


def load(flags: Mapping[str, Any], file: str | None = None, around: Surroundings | None = None) -> Config:
    """The settings from flags (``None``: not given), environment, file and defaults.

    ``file`` has to be there when it is named; the one in the user's settings folder may be missing.

    Raises:
        ConfigError: a value, a setting or a variable is wrong, or the file cannot be read.
    """
    around = around or surroundings()
    environment = {name: value for name, value in around.environment.items() if name.startswith(PREFIX)}
    named = file if file is not None else environment.pop(CONFIG_VARIABLE, None)
    environment.pop(CONFIG_VARIABLE, None)
    told = _read_file(named, around)
    _check_known(environment, [*(setting.variable for setting in SETTINGS), CONFIG_VARIABLE], "environment variable")
    values: dict[str, Any] = {}
    for setting in SETTINGS:
        if flags.get(setting.name) is not None:
            values[setting.name] = _parse(setting, flags[setting.name], setting.flag or setting.name, flag=True)
        elif setting.variable in environment:
            values[setting.name] = _parse(setting, environment[setting.variable], setting.variable)
        elif setting.name in told:
            where, value = told[setting.name]
            values[setting.name] = _parse(setting, value, f"{setting.name} in {where}")
        elif setting.kind == "whole number":
            values[setting.name] = setting.default
    values["store"] = values.get("store") or around.data_folder / STORE_FILE
    values["rejects"] = values.get("rejects") or _rejects_of(values["store"], around)
    return Config(**values)


def _rejects_of(store: Path | str, around: Surroundings) -> Path:
    """Beside a file; what does not go into a table is kept in the user's data folder, under the table's name."""
    if isinstance(store, Path):
        return Path(f"{store}.rejects.ndjson")
    table = _TABLE.fullmatch(store)
    return around.data_folder / f"{table[1] if table else 'store'}.rejects.ndjson"


def _read_file(named: str | None, around: Surroundings) -> dict[str, tuple[str, Any]]:
    """What the file sets: name -> the file, and the value."""
    path = Path(named) if named is not None else around.config_folder / CONFIG_FILE
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        if named is None and isinstance(error, FileNotFoundError | NotADirectoryError):
            return {}
        message = f"cannot read the settings file {path}: {error.strerror}"
        raise ConfigError(message) from error
    except ValueError as error:  # no UTF-8, no TOML, or a path with a NUL
        message = f"the settings file {path} is no valid TOML: {error}"
        raise ConfigError(message) from error
    _check_known(document, [setting.name for setting in SETTINGS], f"setting in {path}")
    return {name: (str(path), value) for name, value in document.items()}


def _check_known(given: Iterable[str], known: list[str], what: str) -> None:
    for name in given:
        if name not in known:
            # Without the prefix, in which all variables resemble each other.
            plain = {one.removeprefix(PREFIX): one for one in known}
            near = difflib.get_close_matches(name.removeprefix(PREFIX), plain, 1)
            hint = f"did you mean {plain[near[0]]}?" if near else f"there are {', '.join(known)}"
            message = f"unknown {what}: {name} ({hint})"
            raise ConfigError(message)


def _parse(setting: Setting, value: object, where: str, *, flag: bool = False) -> Path | str | int | Address:
    if setting.kind == "store" and isinstance(value, str) and _TABLE.fullmatch(value):
        return value
    parsed = _PARSERS[setting.kind](setting, value)
    if parsed is not None:
        return parsed
    shown = "not one" if setting.kind == "secret" else repr(value)
    message = f"{where} is {shown}: allowed is {setting.allowed}"
    if setting.kind == "store" and isinstance(value, str) and value.startswith(DYNAMODB):
        message += f" (the name of a table has 3 to 255 letters, digits, {_TABLE_MARKS})"
    raise ConfigError(message, flag=flag)


def _whole_number(setting: Setting, value: object) -> int | None:
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        value = int(value)
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return value if is_number and setting.low <= value <= setting.high else None  # type: ignore[operator,return-value]


def _path(setting: Setting, value: object) -> Path | None:
    if not isinstance(value, str):
        return None
    if setting.kind == "store":
        if not value.startswith(SQLITE) and _SCHEME.match(value):
            return None
        value = value.removeprefix(SQLITE)
    if not value or "\0" in value:
        return None
    try:
        return Path(value).expanduser()
    except RuntimeError:  # ~nobody
        return None


def _archive(setting: Setting, value: object) -> str | None:
    if isinstance(value, str) and (value == NO_ARCHIVE or re.match(rf"{S3}[^/]", value)):
        return value
    path = None if isinstance(value, str) and _SCHEME.match(value) else _path(setting, value)
    return None if path is None else str(path)


def _address(_setting: Setting, value: object) -> Address | None:
    found = _ADDRESS.fullmatch(value) if isinstance(value, str) else None
    if found is None or int(found[3]) > _HIGHEST_PORT:
        return None
    return Address(found[1] or found[2], int(found[3]))


def _secret(_setting: Setting, value: object) -> Secret | None:
    return Secret(value) if isinstance(value, str) and value else None


_PARSERS: dict[Kind, Callable[[Setting, object], Path | str | int | Address | None]] = {
    "store": _path,
    "file": _path,
    "archive": _archive,
    "whole number": _whole_number,
    "address": _address,
    "secret": _secret,
}
