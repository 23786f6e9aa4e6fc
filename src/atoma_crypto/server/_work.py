"""Work on what strangers send, in a few threads of its own; and the end of streams."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

from anyio import CancelScope, CapacityLimiter
from anyio.lowlevel import RunVar
from anyio.to_thread import run_sync

_Result = TypeVar("_Result")

# One of each for each event loop, made when it is first needed: a limiter belongs to a loop.
_limiter: RunVar[CapacityLimiter] = RunVar("atoma_crypto_work")
_waiting: RunVar[CapacityLimiter] = RunVar("atoma_crypto_waiting")
_waiting_large: RunVar[CapacityLimiter] = RunVar("atoma_crypto_waiting_large")
_MAX_WAITING = 64

# A body of this size is read in less time than it takes to hand it to a thread and back.
_SMALL_BYTES = 16 << 10


async def run_work(function: Callable[..., _Result], *arguments: object, size: int | None = None) -> _Result:
    """Run `function` in a worker thread; or here, if all it does is to read a body of `size` bytes and that is small.

    There are no more of these at once than there are processors. A body that was written for it takes many times its
    size while it is read; more readers would not be faster and would take all that memory at the same time.
    """
    if size is not None and size <= _SMALL_BYTES:
        return function(*arguments)
    return await run_sync(function, *arguments, limiter=_of_loop(_limiter, os.cpu_count() or 1))


async def run_waiting(function: Callable[..., _Result], *arguments: object, size: int) -> _Result:
    """As `run_work`, for what may wait for another machine: never here, and in threads that no other work waits for.

    Of bodies that are small many may wait at once.
    """
    if size > _SMALL_BYTES:
        return await run_sync(function, *arguments, limiter=_of_loop(_waiting_large, os.cpu_count() or 1))
    return await run_sync(function, *arguments, limiter=_of_loop(_waiting, _MAX_WAITING))


def _of_loop(variable: RunVar[CapacityLimiter], threads: int) -> CapacityLimiter:
    limiter = variable.get(None)
    if limiter is None:
        limiter = CapacityLimiter(threads)
        variable.set(limiter)
    return limiter


async def close_stream(stream: AsyncIterator[object]) -> None:
    """Close what is iterated no more, also where this task is cancelled. A generator needs it, an iterator need not."""
    close = getattr(stream, "aclose", None)
    if close is not None:
        with CancelScope(shield=True):
            await close()
