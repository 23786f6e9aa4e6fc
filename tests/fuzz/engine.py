"""What the targets share: how libFuzzer gets hold of them, and how they read the bytes that it thinks of.

A target is a function of a `Program`. Whatever it raises is a finding.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import atheris  # type: ignore[import-untyped] # its stubs are a package of their own, for one name

__all__ = ["Program", "check", "instrumented", "same_each_time", "start"]

_T = TypeVar("_T")


@contextmanager
def instrumented() -> Any:
    """Modules of the package that are imported inside tell libFuzzer where they have been."""
    with atheris.instrument_imports(include=["atoma_crypto"], enable_loader_override=False):
        yield


class Program:
    """Bytes as a list of decisions. Where they end, all is 0, which should be the plain way to go."""

    __slots__ = ("_at", "_bytes")

    def __init__(self, data: bytes) -> None:
        self._bytes = data
        self._at = 0

    def byte(self) -> int:
        at = self._at
        self._at = at + 1
        return self._bytes[at] if at < len(self._bytes) else 0

    def number(self) -> int:
        """Of 16 bits."""
        return self.byte() << 8 | self.byte()

    def below(self, end: int) -> int:
        """0 to end - 1; 0 where end is 0."""
        value = self.byte() if end <= 256 else self.number()
        return value % end if end else 0

    def one_of(self, values: Sequence[_T]) -> _T:
        return values[self.below(len(values))]

    def take(self, length: int) -> bytes:
        """The next ones, fewer where they end."""
        self._at += length
        return self._bytes[self._at - length : self._at]

    def rest(self) -> bytes:
        return self.take(max(0, len(self._bytes) - self._at))

    @property
    def left(self) -> int:
        return max(0, len(self._bytes) - self._at)


def check(holds: bool, message: str) -> None:
    """An assertion that stays under `-O`."""
    if not holds:
        raise AssertionError(message)


class _Fixed:
    """PyNaCl's ffi, but for `randombytes`: it gives the same each time, so that a finding can be found again."""

    def __init__(self, sodium_ffi: Any, ffi: Any) -> None:
        self._sodium_ffi, self._ffi = sodium_ffi, ffi
        self._count = 0
        self._function = ffi.callback("void(void *, unsigned long long)", self._fill)

    def _fill(self, out: Any, length: int) -> None:
        from hashlib import shake_128

        self._count += 1
        self._ffi.memmove(out, shake_128(b"fuzz %d" % self._count).digest(length), length)

    def addressof(self, sodium: Any, name: str) -> Any:
        return self._function if name == "randombytes" else self._sodium_ffi.addressof(sodium, name)

    def cast(self, ctype: str, function: Any) -> Any:
        return (self._ffi if function is self._function else self._sodium_ffi).cast(ctype, function)


def same_each_time(make: Callable[[], _T]) -> _T:
    """What `make` gives, with keys, salts and nonces that are the same in every run."""
    from atoma_crypto import _core

    known = vars(_core)
    sodium, sodium_ffi, backend = known["_sodium_lib"], known["_sodium_ffi"], _core.aes_backend()
    fixed = _Fixed(sodium_ffi, _core.ffi)
    _core._load(sodium, fixed, backend)
    try:
        return make()
    finally:
        _core._load(sodium, sodium_ffi, backend)


NO_SUCH_FAULT: Final = 3


def start(target: Callable[[Program], None], faults: Sequence[Callable[[], None]]) -> None:
    """Hand over to libFuzzer; its options are the command's.

    `faults` are for `make controls`: each makes something wrong, which the target has to find.
    """
    import atoma_crypto

    check("/.cache/fuzz-sessions/" in str(atoma_crypto.__file__), "the package is not the copy: use the Makefile")
    number = os.environ.get("ATOMA_CRYPTO_FUZZ_FAULT")
    if number:
        if int(number) >= len(faults):
            sys.exit(NO_SUCH_FAULT)
        faults[int(number)]()
    # what libFuzzer runs, through a shell, where it merges corpora
    command = f"{sys.executable} -m fuzz.{Path(sys.argv[0]).stem}"
    atheris.Setup([command, *sys.argv[1:]], lambda data: target(Program(data)))
    atheris.Fuzz()
