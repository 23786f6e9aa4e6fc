"""Seals what a model answers and sends it, whole or as it comes."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager, suppress
from functools import partial

from anyio import CancelScope
from anyio.to_thread import run_sync
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

import atoma_crypto as ac
from atoma_crypto.adapters._routes import BY_PLAINTEXT, Endpoint
from atoma_crypto.server._http import inference_error
from atoma_crypto.server.model import Answer, InferenceError, Model, Usage

_log = logging.getLogger("atoma_crypto.server")

# From this size on sealing takes longer than the way to a worker thread and back.
_WORKER_BYTES = 64 << 10
_IMAGES = BY_PLAINTEXT["/v1/images/generations"]
_STREAM_START: Message = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")],
}


class StreamAbortedError(Exception):
    """The answer broke off after its first events were sent.

    Raised out of the application, because that is how an ASGI server is told to break the connection off: v1
    has no last event, so a body that ended cleanly would pass for a complete answer.
    """


class _FailedError(Exception):
    """Inference or sealing has failed, and the log says of what kind. `response` tells a client that waits still."""

    def __init__(self, response: Response) -> None:
        super().__init__()
        self.response = response


class Reply:
    """The answer to one request that has been opened, as an ASGI application of a single use."""

    def __init__(
        self,
        model: Model,
        endpoint: Endpoint,
        session: ac.NodeSession,
        request: ac.Request,
        count_events: Callable[[int], None],
    ) -> None:
        self._model = model
        self._endpoint = endpoint
        self._session = session
        self._request = request
        self._count_events = count_events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> bool:
        """Send the sealed answer, or an error if there is none; False when a stream broke off after its start."""
        if self._request.stream:
            return await self._stream(scope, receive, send)
        try:
            response = Response(await self._whole(), media_type="application/json")
        except _FailedError as failure:
            response = failure.response
        await response(scope, receive, send)
        return True

    async def _stream(self, scope: Scope, receive: Receive, send: Send) -> bool:
        async with aclosing(self._batches()) as batches:
            # nothing is sent before the first batch is there, so that a model that refuses is a plain error
            try:
                first = await anext(batches)
            except _FailedError as failure:
                await failure.response(scope, receive, send)
                return True
            await send(_STREAM_START)
            await send({"type": "http.response.body", "body": first, "more_body": True})
            try:
                async for batch in batches:
                    await send({"type": "http.response.body", "body": batch, "more_body": True})
            except _FailedError:
                # An event without its end: not all that stands in between passes on that a connection was cut.
                with suppress(OSError):
                    await send({"type": "http.response.body", "body": b"data: ", "more_body": True})
                return False
        await send({"type": "http.response.body", "body": self._session.finish(), "more_body": False})
        return True

    async def _whole(self) -> bytes:
        with _failures():
            answer = await self._model.complete(self._endpoint, self._request.body)
            usage = None if self._endpoint is _IMAGES else answer.usage  # as deployed nodes: images show none
            seal = partial(self._session.seal_response, answer.plaintext, usage=usage)
            return await _seal(seal, len(answer.plaintext))

    async def _batches(self) -> AsyncGenerator[bytes, None]:
        """Seal each batch as it comes: at least one, or _FailedError."""
        usage: Usage | None = None
        empty = True
        with _failures():
            stream = self._model.stream(self._endpoint, self._request.body)
            try:
                async for batch in stream:
                    for shown, plaintexts in _runs(batch, usage):
                        usage = shown
                        seal = partial(self._session.seal_chunks, plaintexts, usage=usage)
                        events = await _seal(seal, sum(map(len, plaintexts)))
                        self._count_events(len(plaintexts))
                        yield events
                        empty = False
                if empty:
                    raise InferenceError
            finally:
                close = getattr(stream, "aclose", None)  # an async generator has it, an iterator need not
                if close is not None:
                    # also when the client has left: what is cancelled then must still be closed
                    with CancelScope(shield=True):
                        await close()


def _runs(batch: Sequence[Answer], usage: Usage | None) -> list[tuple[Usage | None, list[bytes]]]:
    """Split a batch into runs that show the same usage: once there is one, the last that was told."""
    runs: list[tuple[Usage | None, list[bytes]]] = []
    for answer in batch:
        told = usage if answer.usage is None else answer.usage
        if not runs or told != usage:
            runs.append((told, []))
            usage = told
        runs[-1][1].append(answer.plaintext)
    return runs


async def _seal(seal: Callable[[], bytes], plaintext_len: int) -> bytes:
    return await run_sync(seal) if plaintext_len >= _WORKER_BYTES else seal()


@contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # noqa: BLE001 - a model may raise anything, and quote the request in it
        told = error if isinstance(error, InferenceError) else InferenceError(500)
        kind = f"status {told.status}" if told is error else type(error).__name__
        _log.warning("inference failed: %s", kind)
        response = inference_error(told.shown_status, told.retry_after)
        raise _FailedError(response) from None
