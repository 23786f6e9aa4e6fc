"""Seals what a model answers and sends it, whole or as it comes."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager, suppress
from functools import partial

from anyio.to_thread import run_sync
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

import atoma_crypto as ac
from atoma_crypto._errors import AtomaCryptoError
from atoma_crypto.adapters._routes import BY_PLAINTEXT, Endpoint
from atoma_crypto.server._counts import Counts
from atoma_crypto.server._http import RefusalError, error_response, inference_refusal
from atoma_crypto.server._work import close_stream
from atoma_crypto.server.model import Answer, InferenceError, Model, Usage

_log = logging.getLogger("atoma_crypto.server")

# From this size on sealing takes longer than the way to a worker thread and back.
_WORKER_BYTES = 64 << 10
_IMAGES = BY_PLAINTEXT["/v1/images/generations"]
# What Sui's wallets sign begins with the byte 0: a signature over what begins so would move money.
_OBJECT = re.compile(rb"[ \t\n\r]*\{")
_V2_USAGE = ("prompt_tokens", "completion_tokens", "total_tokens")
ABORTED = "atoma_crypto.aborted"
"""Stands in the scope of a request whose stream has ended with v2's sealed error, which HTTP takes for a good end."""
Stream = AsyncIterator[list[Answer]]


class StreamAbortedError(Exception):
    """The answer broke off after its first events were sent.

    Raised out of the application, because that is how an ASGI server is told to break the connection off: v1
    has no last event, so a body that ended cleanly would pass for a complete answer.
    """


def stream_start(more: Mapping[str, str] | None = None) -> Message:
    """The head of a stream. A new one each time: who stands between may add to its headers, such as a cookie."""
    headers = {"content-type": "text/event-stream", "cache-control": "no-cache", **(more or {})}
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http.response.start", "status": 200, "headers": raw}


class _FailedError(Exception):
    """Inference or sealing has failed, and the log says of what kind. `refusal` is what a client may be told."""

    def __init__(self, refusal: RefusalError) -> None:
        super().__init__()
        self.refusal = refusal


def told(session: ac.NodeSession, refusal: RefusalError) -> Response:
    """The refusal of a request, before any of its answer: sealed if v2 has admitted the request, and else in clear."""
    sealed = _aborted(session, refusal)
    if sealed is None:
        return error_response(refusal.status_code, refusal.code, refusal.detail, headers=refusal.headers)
    return Response(sealed, refusal.status_code, refusal.headers, "application/json")


def _aborted(session: ac.NodeSession, refusal: RefusalError) -> bytes | None:
    """The refusal, sealed; None where the session can seal none: v1 has none, and a seal may have failed before."""
    try:
        return session.abort(refusal.code, refusal.detail, refusal.status_code)
    except AtomaCryptoError:
        return None


class Reply:
    """The answer to one request that has been opened, as an ASGI application of a single use.

    `signs`: the session signs what v1 sends, so that nothing is sealed there but what begins as a JSON object does.
    `follow` is put around the model's stream.
    """

    def __init__(
        self,
        session: ac.NodeSession,
        request: ac.Request,
        *,
        model: Model,
        endpoint: Endpoint,
        counts: Counts,
        signs: bool,
        follow: Callable[[Stream], Stream],
    ) -> None:
        self._model = model
        self._endpoint = endpoint
        self._session = session
        self._request = request
        self._counts = counts
        self._follow = follow
        self._v2 = request.protocol == "v2"
        self._signs = signs and not self._v2

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> bool:
        """Send the sealed answer, or an error if there is none; False when a stream broke off after its start."""
        if self._request.stream:
            return await self._stream(scope, receive, send)
        try:
            response = Response(await self._whole(), media_type="application/json")
        except _FailedError as failure:
            response = told(self._session, failure.refusal)
        await response(scope, receive, send)
        return True

    async def _stream(self, scope: Scope, receive: Receive, send: Send) -> bool:
        async with aclosing(self._batches()) as batches:
            # nothing is sent before the first batch is there, so that a model that refuses is a plain error
            refusal = None
            try:
                first = await anext(batches)
            except _FailedError as failure:
                refusal = failure.refusal
            # Here and below out of the handler: what sending raises must not lead to what the model has raised.
            if refusal is not None:
                await told(self._session, refusal)(scope, receive, send)
                return True
            await send(stream_start())
            await send({"type": "http.response.body", "body": first, "more_body": True})
            last: bytes | None = b""
            try:
                async for batch in batches:
                    await send({"type": "http.response.body", "body": batch, "more_body": True})
            except _FailedError as failure:
                last = _aborted(self._session, failure.refusal)
                if last is not None:
                    scope[ABORTED] = True
            if last is None:
                # An event without its end: not all that stands in between passes on that a connection was cut.
                with suppress(OSError):
                    await send({"type": "http.response.body", "body": b"data: ", "more_body": True})
                return False
        await send({"type": "http.response.body", "body": last, "more_body": False})
        return True

    async def _whole(self) -> bytes:
        with _failures():
            answer = await self._model.complete(self._endpoint, self._request.body)
            usage = None if self._endpoint is _IMAGES else self._shown(answer)  # as deployed nodes: images show none
            seal = partial(self._session.seal_response, self._checked(answer), usage=usage)
            return await _seal(seal, len(answer.plaintext))

    async def _batches(self) -> AsyncGenerator[bytes, None]:
        """Seal each batch as it comes, and v2's end: at least one, or _FailedError."""
        usage: Usage | None = None
        empty = True
        with _failures():
            stream = self._follow(self._model.stream(self._endpoint, self._request.body))
            try:
                async for batch in stream:
                    for shown, plaintexts in self._runs(batch, usage):
                        usage = shown
                        seal = partial(self._session.seal_chunks, plaintexts, usage=usage)
                        events = await _seal(seal, sum(map(len, plaintexts)))
                        self._counts.sealed(len(plaintexts))
                        yield events
                        empty = False
            finally:
                await close_stream(stream)
            if self._v2:  # whose end is proved, so that nothing at all is an answer too
                yield self._session.finish(usage)
            elif empty:
                raise InferenceError
            else:
                self._session.finish()

    def _runs(self, batch: Sequence[Answer], usage: Usage | None) -> list[tuple[Usage | None, list[bytes]]]:
        """Split a batch into runs that show the same usage: once there is one, the last that was told."""
        runs: list[tuple[Usage | None, list[bytes]]] = []
        for answer in batch:
            shown = self._shown(answer)
            if shown is None:
                shown = usage
            if not runs or shown != usage:
                runs.append((shown, []))
                usage = shown
            runs[-1][1].append(self._checked(answer))
        return runs

    def _checked(self, answer: Answer) -> bytes:
        """The plaintext, to be sealed and signed. InferenceError: its signature could be over something else."""
        if self._signs and not _OBJECT.match(answer.plaintext):
            raise InferenceError
        return answer.plaintext

    def _shown(self, answer: Answer) -> Usage | None:
        """The usage that stands in clear beside this answer: in v2 three numbers, if it has them, and nothing else."""
        usage = answer.usage
        if not self._v2 or usage is None:
            return usage
        counts = {name: usage.get(name) for name in _V2_USAGE}
        if counts["completion_tokens"] is None:  # of embeddings
            counts["completion_tokens"] = 0
        return counts if all(type(count) is int and 0 <= count < 1 << 53 for count in counts.values()) else None


async def _seal(seal: Callable[[], bytes], plaintext_len: int) -> bytes:
    return await run_sync(seal) if plaintext_len >= _WORKER_BYTES else seal()


@contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # noqa: BLE001 - a model may raise anything, and quote the request in it
        failed = error if isinstance(error, InferenceError) else InferenceError(500)
        kind = f"status {failed.status}" if failed is error else type(error).__name__
        _log.warning("inference failed: %s", kind)
        raise _FailedError(inference_refusal(failed.shown_status, failed.retry_after)) from None
