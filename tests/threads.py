"""Many threads at once, for the tests that let them meet."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, Final, TypeVar

import atoma_crypto as ac
from atoma_crypto import _envelope, _envelope_v2

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


class Meanwhile:
    """Does something at the n-th point of our own code on the way, as another thread could; none is left if `left`.

    A point is before an instruction, or only before a line. The parsers of messages share nothing.
    """

    FILES: Final = {str(path) for path in Path(ac.__file__).parent.glob("*.py")} - {
        _envelope.__file__,
        _envelope_v2.__file__,
    }

    def __init__(self, at: int, do: Callable[[], object], *, lines: bool = False) -> None:
        self.left = at
        self._do = do
        self._event = "line" if lines else "opcode"

    def _trace(self, frame: FrameType, event: str, _arg: object) -> Any:
        if frame.f_code.co_filename not in self.FILES:
            return None
        frame.f_trace_opcodes = self._event == "opcode"
        if event == self._event:
            self.left -= 1
            if self.left == 0:
                self._do()  # not traced itself
        return self._trace

    def __enter__(self) -> Meanwhile:
        self._before = sys.gettrace()
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)


# ---- one session ----------------------------------------------------------------------------------------------------
