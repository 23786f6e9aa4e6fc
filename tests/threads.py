"""Many threads at once, for the tests that let them meet."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import Final, TypeVar

import atoma_crypto as ac

THREADS: Final = 8
_Result = TypeVar("_Result")


def run(work: Callable[[int], None], threads: int = THREADS) -> None:
    """`work` in threads that start together and switch as often as they can; the first failure is raised here."""
    gate = threading.Barrier(threads)
    failed: list[BaseException] = []

    def body(number: int) -> None:
        gate.wait()
        try:
            work(number)
        except BaseException as exc:  # noqa: BLE001 - raised below, in the test's own thread
            failed.append(exc)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        started = [threading.Thread(target=body, args=(number,)) for number in range(threads)]
        for thread in started:
            thread.start()
        for thread in started:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    if failed:
        raise failed[0]


def insist(call: Callable[[], _Result]) -> _Result:
    """Call until no other thread is in the way."""
    while True:
        try:
            return call()
        except ac.ConcurrentUseError:  # noqa: PERF203 - that is what is waited for
            time.sleep(0)  # on one core that thread must run
