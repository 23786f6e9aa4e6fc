"""Streams of typed chunks."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Generator
from contextlib import suppress
from types import TracebackType
from typing import Generic, TypeVar, cast

import anyio
import httpx
from pydantic import ValidationError

import atoma_crypto as ac
from atoma_crypto._sse import Decoder
from atoma_crypto.adapters._terms import EXTENSION, Origin
from atoma_crypto.sdk.models import Answer

ModelT = TypeVar("ModelT", bound=Answer)


def read_model(
    model: type[ModelT], plaintext: bytes, response: httpx.Response, error: ac.RemoteProtocolError
) -> ModelT:
    """The plaintext as a value; else `error` is raised, without the text that pydantic would quote."""
    found = None
    with suppress(ValidationError):
        found = model.model_validate_json(plaintext)
    if found is None:
        raise error
    found._origin = origin_of(response)
    return found


def origin_of(response: httpx.Response) -> Origin:
    """What the transport says of who answers."""
    origin: Origin = response.extensions[EXTENSION]
    return origin


class _Reader(Generic[ModelT]):
    """Bytes of the stream in clear to chunks. Once closed it gives nothing, unless the stream had ended before."""

    def __init__(self, model: type[ModelT], response: httpx.Response, max_event_bytes: int) -> None:
        self._model = model
        self._response = response
        # the transport has kept to the limit; in clear each line of an event has `data: ` before it
        self._decoder = Decoder(8 * max_event_bytes)
        self._events: deque[bytes] = deque()
        self._closed = False
        self.ended = False

    def take(self) -> ModelT | None:
        """The next chunk; None: `feed` is to be called, or the stream has ended."""
        if self.ended:
            return None
        if self._closed:
            raise ac.SessionClosedError("the stream was closed before its end")
        if not self._events:
            return None
        event = self._events.popleft()
        if event == b"[DONE]":
            self.ended = True
            return None
        error = ac.FramingError(f"an event is not a {self._model.__name__}")
        return read_model(self._model, event, self._response, error)

    def feed(self, piece: bytes | None) -> None:
        """Take bytes; None: there are no more, and no end was seen."""
        if piece is None:
            raise ac.TruncatedStreamError("the stream has no end")
        self._events += self._decoder.feed(piece)

    def close(self) -> None:
        self._closed = True
        self._events.clear()


class EventStream(Generic[ModelT]):
    """The chunks of a stream, verified, as they come. Use it in a `with` block, or read it to its end.

    A stream that was cut or tampered with raises a subclass of `RemoteProtocolError`, after the chunks before the
    fault. `close()` ends the request and wipes its keys, as do the end and every error; a stream that was closed
    before its end raises SessionClosedError, for a plain end would pass for the answer's.
    """

    def __init__(self, response: httpx.Response, model: type[ModelT], max_event_bytes: int) -> None:
        self._response = response
        self._pieces = cast("Generator[bytes]", response.iter_raw())  # httpx makes it a generator, and says Iterator
        self._reader = _Reader(model, response, max_event_bytes)

    @property
    def origin(self) -> Origin:
        """Who answers, and what was verified of that before anything was sealed."""
        return origin_of(self._response)

    def __iter__(self) -> EventStream[ModelT]:
        return self

    def __next__(self) -> ModelT:
        reader = self._reader
        try:
            while (chunk := reader.take()) is None and not reader.ended:
                reader.feed(next(self._pieces, None))
        except BaseException:  # an interrupt too
            self.close()
            raise
        if chunk is None:
            self.close()
            raise StopIteration
        return chunk

    def close(self) -> None:
        """End the request and wipe its keys. Calling it again does nothing."""
        self._reader.close()
        try:
            with suppress(ValueError):  # another thread is inside it, and is told by what follows
                self._pieces.close()
        finally:
            self._response.close()

    def __enter__(self) -> EventStream[ModelT]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class EventStreamAsync(Generic[ModelT]):
    """As `EventStream`, for `async for` and `async with`."""

    def __init__(self, response: httpx.Response, model: type[ModelT], max_event_bytes: int) -> None:
        self._response = response
        self._pieces = cast("AsyncGenerator[bytes, None]", response.aiter_raw())
        self._reader = _Reader(model, response, max_event_bytes)

    @property
    def origin(self) -> Origin:
        """Who answers, and what was verified of that before anything was sealed."""
        return origin_of(self._response)

    def __aiter__(self) -> EventStreamAsync[ModelT]:
        return self

    async def __anext__(self) -> ModelT:
        reader = self._reader
        try:
            while (chunk := reader.take()) is None and not reader.ended:
                reader.feed(await anext(self._pieces, None))
        except BaseException:  # a cancellation too
            await self.aclose()
            raise
        if chunk is None:
            await self.aclose()
            raise StopAsyncIteration
        return chunk

    async def aclose(self) -> None:
        """End the request and wipe its keys, even when this task is being cancelled."""
        self._reader.close()
        with anyio.CancelScope(shield=True):
            try:
                with suppress(RuntimeError):  # another task is inside it, and is told by what follows
                    await self._pieces.aclose()
            finally:
                await self._response.aclose()

    async def __aenter__(self) -> EventStreamAsync[ModelT]:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
