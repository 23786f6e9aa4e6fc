"""What a command is told by a TOML file, the environment and its flags: one table of options for all three.

A table is a frozen dataclass whose members are `Annotated` with an `Option`: `max_request_bytes` is that key in the
file, `ATOMA_CRYPTO_MAX_REQUEST_BYTES` in the environment and `--max-request-bytes` among the flags. Later wins.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar, get_args, get_type_hints

import atoma_crypto as ac
from atoma_crypto._padding import PadTo
from atoma_crypto._typing import Protocol, Suite

_Table = TypeVar("_Table")
_X25519_CHARS: Final = 44  # 32 bytes in base64
_OTHERS: Final = stat.S_IRGRP | stat.S_IROTH


class ConfigError(ValueError):
    """An option is not known or not of its kind. It names the option and where it stood, never its value."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What a value may be: `said` in an error, `toml` as TOML has it, and `read` from text, or ValueError."""

    said: str
    toml: type | tuple[type, ...]
    read: Callable[[str], Any]


@dataclass(frozen=True, slots=True)
class Option:
    """One option; `many` makes it a tuple: a TOML array, words in the environment. A `secret` is not for everybody.

    `variable` is the name in the environment, where it is another than that of all options.
    """

    kind: Kind
    about: str
    metavar: str | None = None
    many: bool = False
    secret: bool = False
    variable: str | None = None


def _integer(text: str) -> int:
    # as many digits as 64 bits have: int() reads more than those, and refuses thousands of them with another error
    if not re.fullmatch(r"-?[0-9]{1,19}", text):
        raise ValueError
    return int(text)


def _within(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        value = _integer(text)
        if not low <= value <= high:
            raise ValueError
        return value

    return read


def _boolean(text: str) -> bool:
    if text.lower() not in {"true", "1", "false", "0"}:
        raise ValueError
    return text.lower() in {"true", "1"}


def _one_of(kind: object) -> Callable[[str], str]:
    """One of the words of a Literal."""
    words = get_args(kind)

    def read(text: str) -> str:
        if text not in words:
            raise ValueError
        return text

    return read


def _padding(text: str) -> PadTo:
    return "auto" if text == "auto" else _within(1, 1 << 20)(text)


def _public_key(text: str) -> ac.PublicKey:
    """A key has the length of its suite."""
    suite: Suite = "X25519" if len(text) == _X25519_CHARS else "X-Wing"
    return ac.PublicKey.from_base64(text, suite)


TEXT: Final = Kind("a text is needed", str, str)
FILE: Final = Kind("the path of a file is needed", str, Path)
BOOLEAN: Final = Kind("true or false is needed", bool, _boolean)
INTEGER: Final = Kind("an integer is needed", int, _integer)
SECONDS: Final = Kind("a whole number of seconds from 0 to 86400 is needed", int, _within(0, 86400))
MILLISECONDS: Final = Kind("a whole number of milliseconds from 0 to 60000 is needed", int, _within(0, 60000))
PADDING: Final = Kind("auto, or a number of bytes from 1 to 1048576, is needed", (str, int), _padding)
PROTOCOL: Final = Kind("v1 or v2 is needed", str, _one_of(Protocol))
SUITE: Final = Kind(f"a suite is one of {', '.join(get_args(Suite))}", str, _one_of(Suite))
PUBLIC_KEY: Final = Kind("a whole public key in base64 is needed, not its fingerprint", str, _public_key)
PORT: Final = Kind("a port is a number from 0 to 65535", int, _within(0, 65535))


def add_options(parser: argparse.ArgumentParser, table: type[Any]) -> None:
    """Give `parser` a flag for every option of `table`, and `--config`. None has a default: `load` knows them."""
    parser.add_argument("--config", metavar="FILE", type=Path, help="TOML file with any of the options below")
    for name, option, default in _options(table):
        more: dict[str, Any] = {"metavar": option.metavar, "type": _flag_reader(option.kind)}
        if option.kind is BOOLEAN:
            more = {"action": argparse.BooleanOptionalAction}
        elif option.many:
            more |= {"action": "extend", "nargs": "+"}
        shown = "" if default in (None, False, ()) else f" ({default})"
        about = (option.about + shown).replace("%", "%%")
        parser.add_argument(_flag(name), dest=name, default=argparse.SUPPRESS, help=about, **more)
    parser.epilog = (
        "Every option may stand in the file and in the environment too: --some-name is some_name in the one and "
        f"{_variable('some_name')} in the other. Flags win over the environment, and it over the file."
    )


def load(table: type[_Table], arguments: argparse.Namespace, environ: Mapping[str, str] = os.environ) -> _Table:
    """Make the table from the file that `--config` names, the environment and the flags. ConfigError, OSError.

    Warns on stderr of a file that others can read though it holds a secret.
    """
    options = {name: option for name, option, _ in _options(table)}
    values: dict[str, Any] = {}
    if arguments.config is not None:
        values |= _from_file(options, arguments.config)
    for name, option in options.items():
        variable = option.variable or _variable(name)
        text = environ.get(variable)
        if text is not None:
            words = re.split(r"[,\s]+", text.strip(", \t\r\n")) if option.many else [text]
            values[name] = _valued(option, words, variable)
    for name in options.keys() & vars(arguments).keys():
        given = getattr(arguments, name)
        values[name] = tuple(given) if options[name].many else given
    return table(**values)


def _options(table: type[Any]) -> Iterator[tuple[str, Option, Any]]:
    """Each option's name, itself and its default."""
    hints = get_type_hints(table, include_extras=True)
    for field in dataclasses.fields(table):
        [option] = hints[field.name].__metadata__
        yield field.name, option, field.default


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _variable(name: str) -> str:
    return "ATOMA_CRYPTO_" + name.upper()


def _flag_reader(kind: Kind) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        try:
            return kind.read(text)
        except ValueError:
            raise argparse.ArgumentTypeError(kind.said) from None

    return read


def _valued(option: Option, texts: list[str], where: str) -> Any:
    try:
        values = tuple(option.kind.read(text) for text in texts)
    except ValueError:
        values = None
    if values is None:  # out here: what was caught holds the value, which may be a secret
        raise ConfigError(f"{where}: {option.kind.said}")
    return values if option.many else values[0]


def _from_file(options: Mapping[str, Option], path: Path) -> dict[str, Any]:
    values: dict[str, Any] = {}
    found, readable = _read_toml(path)
    for name, value in found.items():
        option = options.get(name)
        if option is None:
            raise ConfigError(f"{path}: unknown key {name!r}; known are {', '.join(options)}")
        if option.many and type(value) is not list:
            raise ConfigError(f"{path}: {name}: an array is needed")
        items = value if option.many else [value]
        if not all(_is_of(item, option.kind.toml) for item in items):
            raise ConfigError(f"{path}: {name}: {option.kind.said}")
        values[name] = _valued(option, [str(item) for item in items], f"{path}: {name}")
        if option.secret and readable:
            sys.stderr.write(f"atoma-crypto: {path} holds {name}, and others can read it: chmod 600 {path}\n")
    return values


def _is_of(item: object, types: type | tuple[type, ...]) -> bool:
    return type(item) in (types if isinstance(types, tuple) else (types,))  # exactly: true is no integer


def _read_toml(path: Path) -> tuple[dict[str, Any], bool]:
    """What the file holds, and whether others than its owner can read it."""
    if sys.version_info >= (3, 11):
        import tomllib  # noqa: PLC0415 - as the other one
    else:
        import tomli as tomllib  # noqa: PLC0415 - the extra may be missing, and then main() says so

    with path.open("rb") as file:
        readable = os.name == "posix" and bool(os.fstat(file.fileno()).st_mode & _OTHERS)
        content = file.read()
    try:
        return tomllib.loads(content.decode()), readable
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"\(at .*\)$", str(error))
        problem = f"not TOML {line[0] if line else ''}".rstrip()
    except (ValueError, RecursionError):  # not UTF-8, a number too long for int(), nested too deeply
        problem = "not TOML"
    raise ConfigError(f"{path}: {problem}")  # out here: those errors hold the text, and with it its secrets
