"""Run by tests/test_faults_memory.py: each case with each of its allocations failing, one process for all.

    python faulty_memory.py (python | native) RUN CASE...

`python` fails CPython's own allocations (its _testcapi), `native` those of malloc and calloc (a preloaded library);
RUN is how many of them fail in a row: of several, some meet what handles the first. (If none came through any more,
CPython itself would not come to an end.) It prints how many points were struck.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Callable
from itertools import count
from typing import Any, Final

import atoma_crypto as ac
from faulty_cases import CASES
from faulty_sessions import Case

# What others say instead of MemoryError: CPython's locks, OpenSSL in hashlib, cffi where raising one failed, and
# `cryptography`, which on 3.10 asks cffi for a buffer.
NO_MEMORY: Final = {
    "can't allocate lock",
    "[digital envelope routines] initialization error",
    "[digital envelope routines] not able to copy ctx",
    "error return without exception set",
    """Cannot convert "<class 'bytes'>" instance to a buffer.""",
    """Cannot convert "<class 'memoryview'>" instance to a buffer.""",
}
# Calls after which what is made once is made, and the interpreter has specialised its code: while it does that, a call
# needs fewer allocations than the one before, and some would be passed over.
WARM: Final = 30
QUIET: Final = 12  # calls in a row that no failing allocation has touched: it lies behind them


def in_another_thread(check: Callable[[Any], object], given: Any) -> None:
    failed: list[BaseException] = []

    def body() -> None:
        try:
            check(given)
        except BaseException as exc:  # noqa: BLE001 - raised below, in the thread that reports it
            failed.append(exc)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]


class Faults:
    """Has allocations fail, by CPython's own hooks or by the preloaded library."""

    def __init__(self, kind: str) -> None:
        if kind == "python":
            import _testcapi  # type: ignore[import-not-found] # CPython's own, without stubs

            self._arm, self._disarm = _testcapi.set_nomemory, _testcapi.remove_mem_hooks
        else:
            library = ctypes.CDLL(None)
            self._arm, self._disarm = library.fault_arm, library.fault_disarm

    def strike(self, at: int, run: int, call: Callable[[], Any]) -> Any:
        self._arm(at, at + run)
        try:
            return call()
        finally:
            self._disarm()


def struck(strike: Callable[..., Any], make: Callable[[], Case], at: int, run: int) -> bool:
    case = make()
    given = None
    try:
        given = strike(at, run, case.call)
    except MemoryError:
        pass
    except (RuntimeError, SystemError, TypeError, ValueError) as error:
        if str(error) not in NO_MEMORY:
            raise
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # of PyO3, in `cryptography`: nowhere to be imported from
            raise
    in_another_thread(case.check, given)
    in_another_thread(lambda _: case.close(), None)
    return given is None


def main(kind: str, run: int, names: list[str]) -> None:
    strike = Faults(kind).strike
    for name in names:
        for _ in range(WARM):
            CASES[name]().call()
        points = quiet = 0
        for at in count():
            try:
                hit = struck(strike, CASES[name], at, run)
            except BaseException as exc:
                raise AssertionError(f"{name}: allocation {at}: {exc!r}") from exc
            points += hit
            quiet = 0 if hit else quiet + 1
            if quiet == QUIET:
                break
        print(f"{name}: {points}", flush=True)  # noqa: T201 - the test reads it


if __name__ == "__main__":
    assert ac.__version__
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3:] or list(CASES))
    sys.stdout.flush()
    os._exit(0)
