"""Two ways of waiting for a connection, blocking and not, under one set of names; and a stream's body in clear.

What is an `Any` here is a transport or a byte stream of httpx or of httpx2.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol, TypeVar

import anyio
import anyio.to_thread

import atoma_crypto as ac
from atoma_crypto.adapters._exchange import Exchange

if TYPE_CHECKING:
    import httpx  # for its types alone: httpx2 has the same classes under the same names

WORKER_BYTES: Final = 256 << 10
"""From this size on sealing or opening would hold up an event loop for too long."""

_T = TypeVar("_T")


class Wire(Protocol):
    """What an inner transport is asked for."""

    async def send(self, request: httpx.Request) -> httpx.Response:
        """The answer's head; its stream is the caller's to close."""

    async def read(self, stream: Any, limit: int) -> bytes | None:
        """All of a body; None if it is longer than `limit` bytes."""

    async def close(self, stream: Any) -> None:
        """Let go of the connection."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""

    async def work(self, function: Callable[..., _T], *args: object, long: bool) -> _T:
        """Call what may take a while, and does so if it is `long`."""


class Blocking:
    """Coroutines that never wait, for `run_now`: what they do blocks."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    async def send(self, request: httpx.Request) -> httpx.Response:
        """As in Wire."""
        answer: httpx.Response = self._inner.handle_request(request)
        return answer

    async def read(self, stream: Any, limit: int) -> bytes | None:
        """As in Wire."""
        body = bytearray()
        for part in stream:
            body += part
            if len(body) > limit:
                return None
        return bytes(body)

    async def close(self, stream: Any) -> None:
        """As in Wire."""
        stream.close()

    async def sleep(self, seconds: float) -> None:
        """As in Wire."""
        time.sleep(seconds)

    async def work(self, function: Callable[..., _T], *args: object, long: bool) -> _T:  # noqa: ARG002 - as in Wire
        """As in Wire."""
        return function(*args)


class Async:
    """For an event loop."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    async def send(self, request: httpx.Request) -> httpx.Response:
        """As in Wire."""
        answer: httpx.Response = await self._inner.handle_async_request(request)
        return answer

    async def read(self, stream: Any, limit: int) -> bytes | None:
        """As in Wire."""
        body = bytearray()
        async for part in stream:
            body += part
            if len(body) > limit:
                return None
        return bytes(body)

    async def close(self, stream: Any) -> None:
        """As in Wire."""
        await stream.aclose()

    async def sleep(self, seconds: float) -> None:
        """As in Wire."""
        await anyio.sleep(seconds)

    async def work(self, function: Callable[..., _T], *args: object, long: bool) -> _T:
        """As in Wire."""
        if not long:
            return function(*args)
        return await anyio.to_thread.run_sync(function, *args)


def run_now(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine that never waits."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: _T = stop.value
        return result
    raise AssertionError  # pragma: no cover - it has waited


class _EventsBase:
    """A stream's body in clear: it ends with `[DONE]` where the answer is whole, and raises where it is not.

    Raises it does too where the node has sealed an error (RemoteAbortError): a plain end would pass for the answer's.
    """

    _cut: ClassVar[tuple[type[Exception], ...]]
    """The errors of the library that mean that a connection has ended before the body did."""

    def __init__(self, stream: Any, exchange: Exchange) -> None:
        self._stream = stream
        self._exchange = exchange
        self._ended = False
        self._closed = False

    def _take(self, part: bytes | None) -> bytes:
        """What a part makes plain; None is the end of the body."""
        if part is not None:
            return self._exchange.receive(part)
        plain = self._exchange.end()
        self._ended = True
        return plain


class Events(_EventsBase):
    """A `SyncByteStream`. Closing it closes the connection and wipes the session."""

    def __iter__(self) -> Iterator[bytes]:
        self._parts = iter(self._stream)
        return self

    def __next__(self) -> bytes:
        if self._closed and not self._ended:
            raise ac.SessionClosedError("the stream was closed before its end")
        plain = b""
        try:
            while not plain and not self._ended:
                plain = self._take(b"" if self._exchange.faulty else self._next_part())
        except BaseException:
            self.close()
            raise
        if plain:
            return plain
        self.close()
        raise StopIteration

    def _next_part(self) -> bytes | None:
        try:
            part: bytes | None = next(self._parts, None)
            return part
        except self._cut:
            if self._exchange.whole:
                return None
        raise ac.TruncatedStreamError("the connection ended before the stream did")  # out here: with no context

    def close(self) -> None:
        """As `SyncByteStream.close`."""
        self._closed = True
        try:
            self._stream.close()
        finally:
            self._exchange.close()


class AsyncEvents(_EventsBase):
    """An `AsyncByteStream`. Closing it closes the connection and wipes the session."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        self._parts = aiter(self._stream)
        return self

    async def __anext__(self) -> bytes:
        if self._closed and not self._ended:
            raise ac.SessionClosedError("the stream was closed before its end")
        plain = b""
        try:
            while not plain and not self._ended:
                plain = self._take(b"" if self._exchange.faulty else await self._next_part())
        except BaseException:
            await self.aclose()
            raise
        if plain:
            return plain
        await self.aclose()
        raise StopAsyncIteration

    async def _next_part(self) -> bytes | None:
        try:
            part: bytes | None = await anext(self._parts, None)
            return part
        except self._cut:
            if self._exchange.whole:
                return None
        raise ac.TruncatedStreamError("the connection ended before the stream did")  # out here: with no context

    async def aclose(self) -> None:
        """As `AsyncByteStream.aclose`."""
        self._closed = True
        try:
            await self._stream.aclose()
        finally:
            self._exchange.close()
