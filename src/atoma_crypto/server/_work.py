"""Work on what strangers send, in a few threads of its own."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

from anyio import CapacityLimiter
from anyio.lowlevel import RunVar
from anyio.to_thread import run_sync

_Result = TypeVar("_Result")

# One for each event loop, made when it is first needed: a limiter belongs to a loop.
_limiter: RunVar[CapacityLimiter] = RunVar("atoma_crypto_work")


# Up to this size reading a body is sooner done than handed to a thread.
_SMALL_BYTES = 16 << 10


async def run_body_work(function: Callable[[bytes], _Result], body: bytes) -> _Result:
    """Run `function` on a body: here if it is small, else as `run_work` does."""
    return function(body) if len(body) <= _SMALL_BYTES else await run_work(function, body)


async def run_work(function: Callable[..., _Result], *arguments: object) -> _Result:
    """Run `function` in a worker thread, no more of them at once than there are processors.

    A body that was written for it takes many times its size while it is read; more readers would not be faster
    and would take all that memory at the same time.
    """
    limiter = _limiter.get(None)
    if limiter is None:
        limiter = CapacityLimiter(os.cpu_count() or 1)
        _limiter.set(limiter)
    return await run_sync(function, *arguments, limiter=limiter)
