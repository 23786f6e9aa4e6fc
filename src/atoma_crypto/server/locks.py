"""The locks that a node has granted: what `/v1/nodes/lock` adds and each confidential request uses up."""

from __future__ import annotations

import secrets
import time
from bisect import bisect_left, insort
from collections.abc import Callable
from operator import itemgetter

from atoma_crypto.adapters._routes import DEFAULT_TOKENS

DEFAULT_TIMEOUT_SECONDS = 5
MAX_TIMEOUT_SECONDS = 60
"""A longer timeout is cut to this, so that locks which nobody uses cannot fill the table for long."""


class LockTable:
    """A bounded set of locks on the one stack of this node; each expires, and is used up by one request.

    As at deployed nodes a lock is known by its stack alone, so a request takes any lock that is large enough:
    the smallest of them, which leaves the large ones to those who asked for them. Not thread-safe: it belongs
    to the event loop.
    """

    def __init__(self, *, capacity: int = 4096, clock: Callable[[], float] = time.monotonic) -> None:
        self.stack_small_id = 1 + secrets.randbelow(2**53 - 1)
        """Random, so that two nodes behind one router differ; below 2^53, which a client's JSON may need."""
        self._capacity = capacity
        self._clock = clock
        self._locks: list[tuple[int, float]] = []  # sorted: (tokens, when it expires)

    def __len__(self) -> int:
        """How many locks are held, those included that have expired since the last call."""
        return len(self._locks)

    def acquire(self, *, max_num_tokens: int = DEFAULT_TOKENS, timeout: float = DEFAULT_TIMEOUT_SECONDS) -> bool:
        """Add a lock that lives for `timeout` seconds; False when the table is full."""
        now = self._drop_expired()
        if len(self._locks) >= self._capacity:
            return False
        insort(self._locks, (max_num_tokens, now + min(timeout, MAX_TIMEOUT_SECONDS)))
        return True

    def consume(self, stack_small_id: int | None, num_compute_units: int) -> bool:
        """Use up one live lock of at least `num_compute_units`; False when this stack has none.

        None, which v2 allows, names no stack, and so means the one that there is.
        """
        self._drop_expired()
        index = bisect_left(self._locks, num_compute_units, key=itemgetter(0))
        if stack_small_id not in (None, self.stack_small_id) or index == len(self._locks):
            return False
        del self._locks[index]
        return True

    def _drop_expired(self) -> float:
        now = self._clock()
        self._locks = [lock for lock in self._locks if lock[1] > now]
        return now
