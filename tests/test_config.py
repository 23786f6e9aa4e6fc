"""What the commands are told: by a file, the environment and flags."""

from __future__ import annotations

import argparse
import os
import stat
from collections.abc import Mapping
from dataclasses import FrozenInstanceError, dataclass, field, fields
from pathlib import Path
from typing import Annotated

import pytest

from atoma_crypto.cli import main, node
from atoma_crypto.cli._config import (
    BOOLEAN,
    FILE,
    INTEGER,
    PORT,
    SECONDS,
    TEXT,
    ConfigError,
    Option,
    add_options,
    load,
)

SECRET = "sesame-canary-4402"  # noqa: S105 - the test's


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    name: Annotated[str, Option(TEXT, "a name")] = "none"
    port: Annotated[int, Option(PORT, "a port, 100 %")] = 1
    wait_seconds: Annotated[int, Option(SECONDS, "a while")] = 2
    seed: Annotated[int | None, Option(INTEGER, "a seed", "N")] = None
    key_file: Annotated[Path | None, Option(FILE, "a file")] = None
    open_wide: Annotated[bool, Option(BOOLEAN, "or not")] = False
    places: Annotated[tuple[str, ...], Option(TEXT, "where", many=True)] = ()
    token: Annotated[str | None, Option(TEXT, "a secret", secret=True)] = field(default=None, repr=False)


def told(*flags: str, environ: Mapping[str, str] | None = None, file: Path | None = None) -> Table:
    parser = argparse.ArgumentParser()
    add_options(parser, Table)
    config = [] if file is None else ["--config", str(file)]
    return load(Table, parser.parse_args([*config, *flags]), environ or {})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.toml"
    path.touch(mode=0o600)
    return path


ALL_IN_TOML = f"""
name = "file"   # a comment
port = 10
wait_seconds = 11
seed = -12
key_file = "f"
open_wide = true
places = ["f1", "f2"]
token = "{SECRET}"
"""
ALL_IN_ENVIRON = {
    "ATOMA_CRYPTO_NAME": "env",
    "ATOMA_CRYPTO_PORT": "20",
    "ATOMA_CRYPTO_WAIT_SECONDS": "21",
    "ATOMA_CRYPTO_SEED": "-22",
    "ATOMA_CRYPTO_KEY_FILE": "e",
    "ATOMA_CRYPTO_OPEN_WIDE": "True",
    "ATOMA_CRYPTO_PLACES": " e1, e2\ne3 ",
    "ATOMA_CRYPTO_TOKEN": "env token",
}
ALL_IN_FLAGS = (
    *("--name", "flag", "--port", "30", "--wait-seconds", "31", "--seed", "-32", "--key-file", "g", "--open-wide"),
    *("--places", "g1", "g2", "--places", "g3", "--token", "flag token"),
)
DEFAULTS = Table()
FROM_TOML = Table(
    name="file",
    port=10,
    wait_seconds=11,
    seed=-12,
    key_file=Path("f"),
    open_wide=True,
    places=("f1", "f2"),
    token=SECRET,
)
FROM_ENVIRON = Table(
    name="env",
    port=20,
    wait_seconds=21,
    seed=-22,
    key_file=Path("e"),
    open_wide=True,
    places=("e1", "e2", "e3"),
    token="env token",  # noqa: S106 - the test's
)
FROM_FLAGS = Table(
    name="flag",
    port=30,
    wait_seconds=31,
    seed=-32,
    key_file=Path("g"),
    open_wide=True,
    places=("g1", "g2", "g3"),
    token="flag token",  # noqa: S106 - the test's
)


def test_each_source_by_itself(file: Path) -> None:
    assert told() == DEFAULTS
    assert told(file=file) == DEFAULTS
    assert told(environ=ALL_IN_ENVIRON) == FROM_ENVIRON
    assert told(*ALL_IN_FLAGS) == FROM_FLAGS
    file.write_text(ALL_IN_TOML)
    assert told(file=file) == FROM_TOML


@pytest.mark.parametrize("name", [member.name for member in fields(Table)])
def test_later_wins_option_by_option(name: str, file: Path) -> None:
    """Only this one is in the environment, or among the flags: all others stay what they were."""
    file.write_text(ALL_IN_TOML)
    variable = f"ATOMA_CRYPTO_{name.upper()}"
    environ = {variable: ALL_IN_ENVIRON[variable]}
    by_environ = told(file=file, environ=environ)
    assert getattr(by_environ, name) == getattr(FROM_ENVIRON, name)
    flags = {
        "name": ["--name", "flag"],
        "port": ["--port", "30"],
        "wait_seconds": ["--wait-seconds", "31"],
        "seed": ["--seed", "-32"],
        "key_file": ["--key-file", "g"],
        "open_wide": ["--no-open-wide"],
        "places": ["--places", "g1", "--places", "g2", "g3"],
        "token": ["--token", "flag token"],
    }
    by_flags = told(*flags[name], file=file, environ=ALL_IN_ENVIRON)
    assert getattr(by_flags, name) == (False if name == "open_wide" else getattr(FROM_FLAGS, name))
    for other in fields(Table):
        if other.name != name:
            assert getattr(by_environ, other.name) == getattr(FROM_TOML, other.name)
            assert getattr(by_flags, other.name) == getattr(FROM_ENVIRON, other.name)


WRONG_IN_TOML = {
    "unknown key": ("prot = 1", "unknown key 'prot'; known are name, port,"),
    "unknown table": ("[node]\nport = 1", "unknown key 'node'"),
    "hyphens": ("wait-seconds = 1", "unknown key 'wait-seconds'"),
    "text for a number": ('port = "80"', "port: a port is a number from 0 to 65535"),
    "number for a text": ("name = 1", "name: a text is needed"),
    "truth for a number": ("seed = true", "seed: an integer is needed"),
    "fraction for a number": ("seed = 1.0", "seed: an integer is needed"),
    "number for truth": ("open_wide = 1", "open_wide: true or false is needed"),
    "text for truth": ('open_wide = "true"', "open_wide: true or false is needed"),
    "text for many": ('places = "a"', "places: an array is needed"),
    "number among texts": ('places = ["a", 1]', "places: a text is needed"),
    "port too large": ("port = 65536", "port: a port is a number"),
    "negative seconds": ("wait_seconds = -1", "wait_seconds: a whole number of seconds from 0 to 86400"),
    "number too long": (f"seed = {'9' * 30}", "seed: an integer is needed"),
    "number much too long": (f"seed = {'9' * 5000}", "not TOML"),
    "number for a secret": ("token = 440244024402", "token: a text is needed"),
    "not TOML": (f'token = "{SECRET}\nport = 1', "not TOML (at line 1"),
    "twice": (f'token = "{SECRET}"\ntoken = "{SECRET}"', "not TOML (at "),
    "nested too deeply": ("seed = " + "[" * 100_000, "not TOML"),
}


@pytest.mark.parametrize(("content", "message"), WRONG_IN_TOML.values(), ids=WRONG_IN_TOML.keys())
def test_what_is_wrong_in_a_file(content: str, message: str, file: Path) -> None:
    file.write_text(content)
    with pytest.raises(ConfigError) as refused:
        told(file=file)
    assert str(refused.value).startswith(f"{file}: {message}")
    assert refused.value.__cause__ is refused.value.__context__ is None
    assert "4402" not in str(refused.value)


def test_a_file_that_is_not_utf8_or_not_there(file: Path) -> None:
    file.write_bytes(b'token = "\xff"')
    with pytest.raises(ConfigError, match="not TOML") as refused:
        told(file=file)
    assert refused.value.__context__ is None
    with pytest.raises(FileNotFoundError):
        told(file=file.parent / "b.toml")
    with pytest.raises(IsADirectoryError):
        told(file=file.parent)


WRONG_IN_ENVIRON = {
    "PORT": ("x", "a port is a number from 0 to 65535"),
    "WAIT_SECONDS": ("86401", "a whole number of seconds from 0 to 86400 is needed"),
    "SEED": ("", "an integer is needed"),
    "OPEN_WIDE": ("yes", "true or false is needed"),
}


@pytest.mark.parametrize("name", WRONG_IN_ENVIRON)
def test_what_is_wrong_in_the_environment(name: str) -> None:
    text, message = WRONG_IN_ENVIRON[name]
    with pytest.raises(ConfigError) as refused:
        told(environ={f"ATOMA_CRYPTO_{name}": text})
    assert str(refused.value) == f"ATOMA_CRYPTO_{name}: {message}"
    assert refused.value.__cause__ is refused.value.__context__ is None


def test_what_is_wrong_among_flags(capsys: pytest.CaptureFixture[str]) -> None:
    for flags in (["--seed", "1_000"], ["--seed", "٣"], ["--wait-seconds", "-1"], ["--open-wide", "true"]):
        with pytest.raises(SystemExit) as left:
            told(*flags)
        assert left.value.code == 2
        assert flags[0 if flags[1] != "true" else 1] in capsys.readouterr().err


def test_the_table_is_frozen_and_shows_no_secret(file: Path) -> None:
    file.write_text(ALL_IN_TOML)
    table = told(file=file)
    assert SECRET not in repr(table)
    assert "'file'" in repr(table)
    with pytest.raises(FrozenInstanceError):
        table.port = 5  # type: ignore[misc] # that it fails is the test


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
@pytest.mark.parametrize("mode", [0o600, 0o400, 0o620, 0o640, 0o604, 0o644])
def test_a_file_with_a_secret_that_others_can_read(mode: int, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(ALL_IN_TOML)
    file.chmod(mode)
    assert told(file=file) == FROM_TOML
    warned = capsys.readouterr().err
    if mode & (stat.S_IRGRP | stat.S_IROTH):
        assert warned == f"atoma-crypto: {file} holds token, and others can read it: chmod 600 {file}\n"
    else:
        assert warned == ""
    file.write_text("port = 10")
    assert told(file=file).port == 10
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("content", "environ", "message"),
    [
        ("prot = 1", {}, "unknown key 'prot'"),
        ("port = '1'", {}, "port: a port is a number"),
        ("", {"ATOMA_CRYPTO_PORT": "x"}, "ATOMA_CRYPTO_PORT: a port is a number"),
        (None, {}, "No such file"),
        ("token = ''", {}, "the token is empty"),
        ("seed = 1\nupstream = 'http://h'", {}, "--seed is eliza's"),
    ],
)
def test_the_command_says_it_and_leaves_with_2(
    *,
    content: str | None,
    environ: Mapping[str, str],
    message: str,
    file: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if content is None:
        file.unlink()
    else:
        file.write_text(content + ("" if "port" in content else "\nport = 0"))
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert main(["node", "--config", str(file)]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("atoma-crypto node: ")
    assert printed.err.count("\n") == 1
    assert message in printed.err
    assert printed.out == ""


def test_every_option_of_the_node_has_its_three_names(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["node", "--help"])
    text = capsys.readouterr().out
    for member in fields(node.Settings):
        assert f"--{member.name.replace('_', '-')}" in text
    assert "ATOMA_CRYPTO_SOME_NAME" in text


def test_a_secret_is_not_in_what_argparse_keeps() -> None:
    """The environment is read by load(), so that a parser which is shown knows nothing of it."""
    parser = argparse.ArgumentParser()
    add_options(parser, Table)
    assert vars(parser.parse_args([])) == {"config": None}
