"""What may take long, or hang: in threads of its own, so much at once, and for strangers so much a second."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Generic, TypeVar

from anyio import CapacityLimiter
from anyio.lowlevel import RunVar
from anyio.to_thread import run_sync

from atoma_crypto.server._http import RefusalError

_Result = TypeVar("_Result")

_WAITING: Final = 256  # who waits for the end of a job has a thread as well, as only that can be waited for
_limiter: RunVar[CapacityLimiter] = RunVar("atoma_crypto_jobs")


class Job(Generic[_Result]):
    """Calls `function` in a thread, once there is one of `slots`; that has to be within `seconds`, and so has its end.

    A thread that hangs keeps its slot, and nothing waits for it: not even the end of the program.
    """

    def __init__(self, function: Callable[[], _Result], slots: threading.Semaphore, seconds: float) -> None:
        self.result: _Result | None = None  # or there was no slot
        self._function = function
        self._slots = slots
        self._until = time.monotonic() + seconds
        self._done = threading.Event()
        threading.Thread(target=self._run, name="atoma-crypto job", daemon=True).start()

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return self._done.is_set()

    @property
    def left(self) -> float:
        """Seconds that it still has; 0 if it is late."""
        return max(0.0, self._until - time.monotonic())

    async def over(self) -> bool:
        """Wait until it has ended, or is late: False."""
        if not self.done and self.left:
            limiter = _limiter.get(None)
            if limiter is None:
                limiter = CapacityLimiter(_WAITING)
                _limiter.set(limiter)
            await run_sync(self._wait, limiter=limiter)
        return self.done

    def _wait(self) -> None:
        self._done.wait(self.left)

    def _run(self) -> None:
        try:
            if self._slots.acquire(timeout=self.left):
                try:
                    self.result = self._function()
                finally:
                    self._slots.release()
        finally:
            self._done.set()


class Gate:
    """Lets in `burst` at a time and `per_second` in the long run, `inside` at most; the rest is told when to come back.

    `slots` are for the jobs of those that are inside.
    """

    def __init__(self, *, per_second: float, burst: int, inside: int, at_once: int) -> None:
        self.slots = threading.Semaphore(at_once)
        self._per_second = per_second
        self._burst = burst
        self._inside = threading.Semaphore(inside)
        self._lock = threading.Lock()
        self._tokens = float(burst)
        self._seen = time.monotonic()

    @contextmanager
    def entered(self) -> Iterator[None]:
        """RefusalError: 429, with the seconds after which there is room."""
        if not self._inside.acquire(blocking=False):
            raise _too_many(1)
        try:
            wait = self._taken()
            if wait:
                raise _too_many(wait)
            yield
        finally:
            self._inside.release()

    def _taken(self) -> int:
        """Take a token; if there is none, the seconds until there is."""
        with self._lock:
            now = time.monotonic()
            self._tokens = min(self._burst, self._tokens + (now - self._seen) * self._per_second)
            self._seen = now
            if self._tokens < 1:
                return math.ceil((1 - self._tokens) / self._per_second)
            self._tokens -= 1
            return 0


def _too_many(seconds: int) -> RefusalError:
    headers = {"Retry-After": str(seconds)}
    return RefusalError(429, "TOO_MANY_REQUESTS", "Too many challenges are to be answered", headers=headers)
