"""Many threads at once, for the tests that let them meet."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Final

THREADS: Final = 8


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
