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


# A body of this size is read in less time than it takes to hand it to a thread and back.
_SMALL_BYTES = 16 << 10


async def run_work(function: Callable[..., _Result], *arguments: object, size: int | None = None) -> _Result:
    """Run `function` in a worker thread; or here, if all it does is to read a body of `size` bytes and that is small.

    There are no more of these at once than there are processors. A body that was written for it takes many times its
    size while it is read; more readers would not be faster and would take all that memory at the same time.
    """
    if size is not None and size <= _SMALL_BYTES:
        return function(*arguments)
    limiter = _limiter.get(None)
    if limiter is None:
        limiter = CapacityLimiter(os.cpu_count() or 1)
        _limiter.set(limiter)
    return await run_sync(function, *arguments, limiter=limiter)
