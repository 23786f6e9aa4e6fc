"""Replay stores: what remembers the requests that were admitted (docs/protocol-v2.md, section 5)."""

import heapq
import os
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final
from typing import Protocol as Interface

from ._errors import ReplayStoreError

# Seconds. A request expires LIFETIME after it was sent, whenever it is admitted, and may be sent AHEAD of the node's
# clock. What was sent later than AHEAD after a store's birth cannot have been admitted before there was that store.
LIFETIME: Final = 360
AHEAD: Final = 60


class ReplayCache(Interface):
    """Remembers which requests were admitted, for one key or for several. Any thread may use it."""

    def admit(self, request_id: bytes, expires_at: float) -> bool:
        """Insert if absent, in one atomic step: True the first time, False for an id that was admitted before.

        `request_id` is 32 bytes, SHA-256 of the encapsulated key as received; `expires_at`, in seconds since 1970, is
        when it need not be remembered any more: 360 seconds after the request was sent. ReplayStoreError: the store is
        full, closed, gone, or cannot know; nothing was admitted.
        """

    def close(self) -> None:
        """Admit nothing more. Harmless when done twice."""


class MemoryReplayCache:
    """A replay store in the memory of one process.

    It is born when it is made. Unless its key was made together with it (`fresh_key`), a store before it may have
    admitted what was sent until 60 seconds after that, which it refuses with ReplayStoreError. `capacity` ids are kept
    at most: when it is full it refuses, and forgets none. Each is kept until it expires by `clock`; with
    `keep_until_closed` until close(), so that no clock matters, as is right where a key is wiped before long.

    A clock may jump ahead and back: the store knows up to when it has forgotten, and refuses what expires by then. A
    child process (fork) would remember apart from its parent, so there the store refuses everything.
    """

    __slots__ = ("_birth", "_capacity", "_clock", "_expiries", "_forgotten", "_keeps", "_lock", "_pid", "_seen")

    def __init__(
        self,
        *,
        capacity: int = 1 << 20,
        clock: Callable[[], float] = time.time,
        fresh_key: bool = False,
        keep_until_closed: bool = False,
    ) -> None:
        if type(capacity) is not int:
            raise TypeError(f"capacity must be int, not {type(capacity).__name__}")
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, not {capacity}")
        if not callable(clock):
            raise TypeError("clock must be a function")
        self._capacity = capacity
        self._clock = clock
        self._keeps = keep_until_closed
        self._pid = os.getpid()
        self._lock = threading.RLock()  # for one thread, so that a signal handler is not locked out
        # Each id with the object that has admitted it. None: closed.
        self._seen: dict[bytes, object] | None = {}
        self._expiries: list[tuple[float, bytes]] = []  # a heap: what expires first comes first
        self._birth = float("-inf") if fresh_key else clock()
        self._forgotten = float("-inf")  # nothing that expires later than this was forgotten

    def admit(self, request_id: bytes, expires_at: float) -> bool:
        """As `ReplayCache.admit`."""
        check_admission(request_id, expires_at)
        if os.getpid() != self._pid:  # before the lock: a thread that only the parent has may hold it
            raise ReplayStoreError("this replay store was made before fork(): it is the parent's")
        with self._lock:
            if not self._keeps:
                self._forget(self._clock())
            seen = self._seen
            if seen is None:
                raise ReplayStoreError("this replay store is closed")
            if request_id in seen:
                return False
            if not expires_at - LIFETIME > self._birth + AHEAD:
                raise ReplayStoreError("a store before this one may have admitted the request")
            if not expires_at > self._forgotten:
                raise ReplayStoreError("the request may have been admitted and forgotten")
            if len(seen) >= self._capacity:
                raise ReplayStoreError("the replay store is full")
            # Inserted in one step of Python's: who comes in between, in this thread, finds it or is found here.
            mine = object()
            if seen.setdefault(request_id, mine) is not mine:
                return False
            if not self._keeps:
                try:
                    heapq.heappush(self._expiries, (expires_at, request_id))
                except MemoryError:
                    seen.pop(request_id, None)  # it would never be forgotten; nothing was admitted
                    raise
            return True

    def _forget(self, now: float) -> None:
        """Let go of what has expired. A clock that tells no number forgets nothing."""
        expiries = self._expiries
        while expiries and expiries[0][0] <= now:
            expires_at, request_id = heapq.heappop(expiries)
            self._forgotten = max(self._forgotten, expires_at)  # first: an exception may strike between two lines
            if self._seen is not None:
                self._seen.pop(request_id, None)

    def close(self) -> None:
        """Forget everything, and admit nothing more. Harmless when done twice."""
        self._seen = None  # in one step, without the lock: who is inside has what it needs, or finds it closed
        self._expiries = []

    def __len__(self) -> int:
        """How many ids it remembers."""
        return len(self._seen or ())

    def __enter__(self) -> "MemoryReplayCache":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> str:
        raise TypeError("a replay store is not to be pickled or copied: it would remember apart from itself")

    def __repr__(self) -> str:
        return f"<{type(self).__name__}{' closed' if self._seen is None else ''}>"


def check_admission(request_id: bytes, expires_at: float) -> None:
    """What all stores ask of their arguments. TypeError, ValueError."""
    if not isinstance(request_id, bytes):
        raise TypeError(f"request_id must be bytes, not {type(request_id).__name__}")
    if len(request_id) != 32:
        raise ValueError(f"request_id must be 32 bytes, not {len(request_id)}")
    if not isinstance(expires_at, int | float) or isinstance(expires_at, bool):
        raise TypeError(f"expires_at must be a number of seconds, not {type(expires_at).__name__}")
    if not 0 <= expires_at <= 2**53 + LIFETIME:
        raise ValueError("expires_at must be seconds since 1970")
