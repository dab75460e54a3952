"""Settings: precedence, wrong values, unknown names, the platforms' folders."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crr_monitor import config
from crr_monitor import environment as reader
from crr_monitor.config import SETTINGS, Config, ConfigError, Surroundings, load

HOME = {"HOME": "/home/me", "USERPROFILE": "C:\\Users\\me"}


def around(platform: str = "linux", **environment: str) -> Surroundings:
    """A user's environment with a home folder in which nothing is."""
    return Surroundings({**HOME, **environment}, platform)


def settings_file(folder: Path, text: str) -> str:
    """A settings file with this text."""
    path = folder / "settings.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def error_of(flags: dict[str, object] | None = None, file: str | None = None, **environment: str) -> str:
    """The text of the error that these settings give."""
    with pytest.raises(ConfigError) as caught:
        load(flags or {}, file, around(**environment))
    return str(caught.value)


def test_defaults() -> None:
    """Without any setting the store is in the data folder, the rejects beside it, the numbers are as documented."""
    assert load({}, None, around()) == Config(
        store=Path("/home/me/.local/share/crr-monitor/monitor.db"),
        rejects=Path("/home/me/.local/share/crr-monitor/monitor.db.rejects.ndjson"),
        retention_hours=24,
        unsettled_days=14,
        statistics_days=400,
        rpo_seconds=900,
    )


def test_flags_beat_environment_beats_file(tmp_path: Path) -> None:
    """Each setting has the value of the flag, else of the environment, else of the file."""
    file = settings_file(tmp_path, "rpo_seconds = 1\nretention_hours = 1\nunsettled_days = 1\n")
    found = load({"rpo_seconds": "3"}, file, around(CRR_MONITOR_RPO_SECONDS="2", CRR_MONITOR_RETENTION_HOURS="2"))
    assert (found.rpo_seconds, found.retention_hours, found.unsettled_days) == (3, 2, 1)


def test_flag_that_was_not_given_counts_for_nothing() -> None:
    """``None`` is no value of a flag."""
    assert load({"rpo_seconds": None}, None, around(CRR_MONITOR_RPO_SECONDS="2")).rpo_seconds == 2


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ("sqlite:///old.db", "old.db"),
        ("sqlite:////var/lib/crr.db", "/var/lib/crr.db"),
        ("old.db", "old.db"),
        ("/var/lib/a b#c.db", "/var/lib/a b#c.db"),
        ("C:\\data\\crr.db", "C:\\data\\crr.db"),
    ],
)
def test_store(value: str, path: str) -> None:
    """A store is a SQLite URL, relative with three slashes and absolute with four, or simply a path."""
    assert load({"store": value}, None, around()).store == Path(path)


def test_home_of_the_store() -> None:
    """``~`` is the user's home folder, also where no shell has replaced it."""
    assert load({"store": "sqlite:///~/a.db"}, None, around()).store == Path("~/a.db").expanduser()


def test_rejects_are_beside_the_store() -> None:
    """The reject file's default follows the store, and can be set apart."""
    assert load({"store": "x/a.db"}, None, around()).rejects == Path("x/a.db.rejects.ndjson")
    assert load({"store": "x/a.db", "rejects": "r"}, None, around()).rejects == Path("r")


@pytest.mark.parametrize(
    "value",
    ["", "sqlite:///", "sqlite://a.db", "sqlite:a.db", "postgres://host/db", "a\0b", "dynamodb:t"],
)
def test_wrong_store(value: str) -> None:
    """What names neither file nor table is refused, with the name of the flag, the value, and what is allowed."""
    forms = "sqlite:///PATH, dynamodb://TABLE[?region=R&endpoint=URL&statistics=TABLE], or the path of a file"
    assert error_of({"store": value}) == f"--store is {value!r}: allowed is {forms}"


@pytest.mark.parametrize("value", ["dynamodb://", "dynamodb://x", "dynamodb://a/b"])
def test_wrong_table(value: str) -> None:
    """A name that no table can have is refused with what a name may be."""
    told = error_of({"store": value})
    assert told.startswith(f"--store is {value!r}: allowed is sqlite:///PATH, dynamodb://TABLE[")
    assert told.endswith("(the name of a table has 3 to 255 letters, digits, hyphens, underscores and dots)")


@pytest.mark.parametrize("value", ["dynamodb://t-status", "dynamodb://t.1?region=eu-west-1&statistics=u"])
def test_store_in_dynamodb(value: str) -> None:
    """The address of a table stays as it is; what cannot be read is kept in the data folder, under the table's name."""
    found = load({"store": value}, None, around())
    table = value.removeprefix("dynamodb://").partition("?")[0]
    rejects = Path("/home/me/.local/share/crr-monitor") / f"{table}.rejects.ndjson"
    assert (found.store, found.rejects) == (value, rejects)


@pytest.mark.parametrize("value", ["", "x", "0", "-1", "1.5", "1e3", " 1", "87601", "1" * 400, "\uff11"])
def test_wrong_number_in_the_environment(value: str) -> None:
    """A number out of range, or that is none, is refused with variable, value and range."""
    text = f"CRR_MONITOR_RETENTION_HOURS is {value!r}: allowed is a whole number from 1 to 87600"
    assert error_of(CRR_MONITOR_RETENTION_HOURS=value) == text


@pytest.mark.parametrize(("text", "shown"), [("true", "True"), ("1.0", "1.0"), ("0", "0"), ("[1]", "[1]")])
def test_wrong_number_in_the_file(text: str, shown: str, tmp_path: Path) -> None:
    """A value of a wrong type in the file is refused with setting, file and range."""
    file = settings_file(tmp_path, f"rpo_seconds = {text}")
    wrong = f"rpo_seconds in {file} is {shown}: allowed is a whole number from 1 to 2592000"
    assert error_of(file=file) == wrong


def test_wrong_path_in_the_file(tmp_path: Path) -> None:
    """A path has to be a text."""
    file = settings_file(tmp_path, "rejects = 1")
    assert error_of(file=file) == f"rejects in {file} is 1: allowed is the path of a file"


def test_unknown_setting_has_a_suggestion(tmp_path: Path) -> None:
    """A misspelt setting in the file is an error that names the nearest one."""
    file = settings_file(tmp_path, "retention_hour = 1")
    assert error_of(file=file) == f"unknown setting in {file}: retention_hour (did you mean retention_hours?)"


def test_unknown_variable_has_a_suggestion() -> None:
    """A misspelt variable is an error that names the nearest one; where none is near, all are named."""
    text = "unknown environment variable: CRR_MONITOR_STORES (did you mean CRR_MONITOR_STORE?)"
    assert error_of(CRR_MONITOR_STORES="x") == text
    assert "there are CRR_MONITOR_STORE, CRR_MONITOR_RETENTION_HOURS, " in error_of(CRR_MONITOR_42="x")


def test_flag_errors_are_marked() -> None:
    """An error knows whether a flag is its cause: that is wrong usage."""
    for flags, environment, expected in (
        ({"rpo_seconds": "x"}, {}, True),
        ({}, {"CRR_MONITOR_RPO_SECONDS": "x"}, False),
    ):
        with pytest.raises(ConfigError) as caught:
            load(flags, None, around(**environment))
        assert caught.value.flag is expected


def test_file_of_the_settings_folder(tmp_path: Path) -> None:
    """The file in the user's settings folder is read where it is."""
    (tmp_path / "crr-monitor").mkdir()
    (tmp_path / "crr-monitor" / "config.toml").write_text("rpo_seconds = 60")
    assert load({}, None, around(XDG_CONFIG_HOME=str(tmp_path))).rpo_seconds == 60


def test_named_file_replaces_that_of_the_settings_folder(tmp_path: Path) -> None:
    """A file that is named, by flag before variable, is the only one that is read."""
    first = settings_file(tmp_path, "rpo_seconds = 1")
    (tmp_path / "b.toml").write_text("rpo_seconds = 2")
    second = str(tmp_path / "b.toml")
    assert load({}, None, around(CRR_MONITOR_CONFIG=second)).rpo_seconds == 2
    assert load({}, first, around(CRR_MONITOR_CONFIG=second)).rpo_seconds == 1


def test_named_file_has_to_be_there(tmp_path: Path) -> None:
    """A file that is named and missing, or that is a folder, is an error."""
    missing = str(tmp_path / "none.toml")
    assert error_of(file=missing) == f"cannot read the settings file {missing}: No such file or directory"
    assert error_of(file=str(tmp_path)) == f"cannot read the settings file {tmp_path}: Is a directory"


@pytest.mark.parametrize("data", [b"rpo_seconds", b"rpo_seconds = 1\nrpo_seconds = 2", b"\xff = 1"])
def test_file_that_is_no_toml(data: bytes, tmp_path: Path) -> None:
    """What is no TOML is an error that names the file."""
    path = tmp_path / "a.toml"
    path.write_bytes(data)
    assert error_of(file=str(path)).startswith(f"the settings file {path} is no valid TOML: ")


@pytest.mark.parametrize(
    ("platform", "environment", "data", "settings"),
    [
        ("linux", {}, "/home/me/.local/share", "/home/me/.config"),
        ("linux", {"XDG_DATA_HOME": "/d", "XDG_CONFIG_HOME": "/c"}, "/d", "/c"),
        ("linux", {"XDG_DATA_HOME": "d", "XDG_CONFIG_HOME": ""}, "/home/me/.local/share", "/home/me/.config"),
        ("darwin", {}, "/home/me/Library/Application Support", "/home/me/Library/Application Support"),
        ("win32", {"LOCALAPPDATA": "/local", "APPDATA": "/roaming"}, "/local", "/roaming"),
    ],
)
def test_folders_of_the_platforms(platform: str, environment: dict[str, str], data: str, settings: str) -> None:
    """Data and settings are where the platform has them; relative XDG paths are passed over."""
    here = around(platform, **environment)
    assert (here.data_folder, here.config_folder) == (Path(data, "crr-monitor"), Path(settings, "crr-monitor"))


@given(st.sampled_from(SETTINGS), st.text())
def test_every_value_is_taken_or_refused_by_name(setting: config.Setting, value: str) -> None:
    """Any text for any setting gives a configuration, or an error with the variable and (no secret's) value."""
    try:
        found = load({}, None, around(**{setting.variable: value}))
    except ConfigError as error:
        shown = "not one" if setting.kind == "secret" else repr(value)
        assert str(error).startswith(f"{setting.variable} is {shown}: ")  # noqa: PT017 - both outcomes are right
    else:
        kinds = {"whole number": int, "address": config.Address}
        assert isinstance(getattr(found, setting.name), kinds.get(setting.kind, Path | str))


def test_table_and_object_agree() -> None:
    """Every setting of the table is a field of the object, and the other way round."""
    assert sorted(setting.name for setting in SETTINGS) == sorted(Config.__struct_fields__)


def test_configuration_is_frozen() -> None:
    """The settings cannot be changed after they were parsed."""
    found = load({}, None, around())
    with pytest.raises(AttributeError):
        found.rpo_seconds = 1  # type: ignore[misc]


def test_environment_is_read_at_one_place() -> None:
    """The module that reads the process's environment mentions it once."""
    tree = ast.parse(Path(reader.__file__).read_text(encoding="utf-8"))
    assert sum(isinstance(node, ast.Attribute) and node.attr == "environ" for node in ast.walk(tree)) == 1


@pytest.mark.parametrize(
    ("value", "host", "port", "text"),
    [
        ("127.0.0.1:9470", "127.0.0.1", 9470, "127.0.0.1:9470"),
        ("localhost:0", "localhost", 0, "localhost:0"),
        ("[::1]:80", "::1", 80, "[::1]:80"),
    ],
)
def test_address(value: str, host: str, port: int, text: str) -> None:
    """An address is a host and a port, with brackets around what has colons of its own; it is shown as it was given."""
    found = load({"listen": value}, None, around()).listen
    assert (found.host, found.port, str(found)) == (host, port, text)


@pytest.mark.parametrize("value", ["9470", ":9470", "127.0.0.1", "::1:80", "127.0.0.1:65536", "http://here:80"])
def test_address_that_is_none(value: str) -> None:
    """An address without a host or a port, or with a port that cannot be, is refused with what is allowed."""
    assert error_of({"listen": value}) == (
        f"--listen is {value!r}: allowed is HOST:PORT, as in 127.0.0.1:9470 or [::1]:9470"
    )


def test_secret_is_never_shown() -> None:
    """Neither the settings nor an error show the token."""
    shown = "0123456789abcdef"
    found = load({}, None, around(CRR_MONITOR_TOKEN=shown))
    assert found.token == shown
    assert shown not in repr(found)
    assert error_of(CRR_MONITOR_TOKEN="") == "CRR_MONITOR_TOKEN is not one: allowed is a text that is not empty"
