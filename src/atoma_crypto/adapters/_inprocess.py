"""An ASGI application as the model behind a node: its plaintext routes are called in this process."""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator
from contextlib import aclosing
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from anyio import CancelScope, Event, current_time, get_cancelled_exc_class, move_on_after, sleep
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Scope

from atoma_crypto import Limits
from atoma_crypto.adapters._routes import Endpoint
from atoma_crypto.server._answers import asking_for_usage, read_answer, read_stream, refusal
from atoma_crypto.server._work import run_work
from atoma_crypto.server.model import Answer, InferenceError

_log = logging.getLogger("atoma_crypto.adapters.asgi")

# What the application may be ahead of the client; uvicorn lets a connection be as far behind.
_AHEAD_BYTES = 64 << 10
_TURNS = 12
_TURNS_SECONDS = 0.02
# For an application that was told that the client is gone, or that nothing more is wanted.
_GRACE_SECONDS = 5.0
# What of the caller's headers the application sees. The credentials may be its own: it is what the node stands for.
_PASSED_HEADERS = frozenset((b"authorization", b"host", b"traceparent", b"tracestate", b"user-agent", b"x-request-id"))


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is answered: the scope of the sealed request, with paths as the server gave them, and where calls may run.

    `prefix` is what stands before the route in `scope["path"]`. The task group must outlive the answer.
    """

    scope: Scope
    prefix: str
    group: TaskGroup


caller: ContextVar[Caller] = ContextVar("atoma_crypto_caller")
"""Set for the time of one request, around whatever asks an `AppModel`."""


class AppModel:
    """Calls `app`, which may take `timeout` seconds for each thing that it sends.

    Memory is bounded: an application that is ahead of the client waits in its `send`.
    """

    def __init__(self, app: ASGIApp, limits: Limits, timeout: float) -> None:
        self._app = app
        self._limits = limits
        self._timeout = timeout

    def serves(self, model: str) -> bool:  # noqa: ARG002 - the interface's name; the application knows its models
        """Whether requests for `model` may be sent here: always, the application refuses what it lacks."""
        return True

    async def complete(self, endpoint: Endpoint, body: bytes) -> Answer:
        """Post `body` as it is and return the JSON object that comes back. Raises InferenceError."""
        limit = self._limits.max_response_bytes
        reply = bytearray()
        call = self._start(endpoint, body, b"application/json")
        try:
            async for part in call:
                reply += part
                if len(reply) > limit:
                    raise InferenceError
        finally:
            call.close()
        return await run_work(read_answer, bytes(reply), size=len(reply))

    async def stream(self, endpoint: Endpoint, body: bytes) -> AsyncIterator[list[Answer]]:
        """Post `body`; yield what the application has sent since the last batch, up to `[DONE]`."""
        asked = await run_work(asking_for_usage, body, size=len(body))
        call = self._start(endpoint, asked, b"text/event-stream")
        try:
            async with aclosing(read_stream(call, self._limits.max_event_bytes)) as batches:
                async for batch in batches:
                    yield batch
            call.want_no_more()
        finally:
            call.close()

    async def aclose(self) -> None:
        """There is nothing to close: the application is its owner's."""

    def _start(self, endpoint: Endpoint, body: bytes, accept: bytes) -> _Call:
        called_by = caller.get()
        call = _Call(_scope(called_by, endpoint, len(body), accept), body, self._timeout)
        called_by.group.start_soon(call.run, self._app)
        called_by.group.start_soon(call.watch)
        return call


def _scope(called_by: Caller, endpoint: Endpoint, length: int, accept: bytes) -> Scope:
    """A plaintext request as the server would have made it: the caller's connection, another path and body."""
    path = called_by.prefix + endpoint.plaintext
    return {
        # What frames around this one have left in it stays: the application's own state, a mount's parameters.
        **{name: value for name, value in called_by.scope.items() if name != "extensions"},
        "method": "POST",
        "path": path,
        "raw_path": quote(path).encode(),
        "query_string": b"",
        "headers": [
            *((name, value) for name, value in called_by.scope["headers"] if name.lower() in _PASSED_HEADERS),
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % length),
            (b"accept", accept),  # and no Accept-Encoding: what is compressed could not be read here
        ],
    }


class _Call:
    """One call of the application: `run` and `watch` are tasks of their own, and who iterates gets the answer."""

    def __init__(self, scope: Scope, body: bytes, timeout: float) -> None:
        self._scope = scope
        self._body: bytes | None = body
        self._timeout = timeout
        self._begun = False  # the application has sent the head of its answer
        self._refusal: InferenceError | None = None  # and that is no good
        self._parts: list[bytes] = []
        self._size = 0
        self._complete = False  # the application has sent the last of its answer
        self._ended = False  # it has returned, or failed
        self._wanted = True  # else what it sends is dropped
        self._gone = False  # nobody is there who waits for the answer
        self._running = CancelScope()
        self._waiting_since: float | None = None
        self._late = False
        self._news, self._room, self._over, self._closed = Event(), Event(), Event(), Event()

    async def run(self, app: ASGIApp) -> None:
        """Run the application, and keep to ourselves what it raises: that may quote the request."""
        try:
            with self._running:
                await app(self._scope, self._receive, self._send)
        except (KeyboardInterrupt, SystemExit, GeneratorExit, get_cancelled_exc_class()):
            raise
        except BaseException as error:  # noqa: BLE001 - an answer that is not complete is told as a failure by `_wait`
            if not self._gone:
                _log.warning("the application raised %s", type(error).__name__)
        finally:
            self._ended = True
            self._news.set()

    async def watch(self) -> None:
        """Notice when the answer is waited for too long. One timer for them all: a scope for each wait costs more."""
        while not self._late:
            since = self._waiting_since
            left = self._timeout if since is None else since + self._timeout - current_time()
            if left <= 0:
                self._late = True
                self._news.set()
            else:
                with move_on_after(left):
                    await self._closed.wait()
                    return

    def __aiter__(self) -> _Call:
        return self

    async def __anext__(self) -> bytes:
        """What the application has sent since the last time, once there is something. Raises InferenceError."""
        while not (self._parts or self._complete or self._refusal):
            await self._wait()
        if self._refusal is not None:
            raise self._refusal
        if not self._parts:
            raise StopAsyncIteration
        await self._gather()
        parts = b"".join(self._parts)
        self._parts.clear()
        self._size = 0
        self._room.set()
        return parts

    async def _gather(self) -> None:
        """Let an application that is just producing go on for a few turns of the event loop, as long as they are now.

        To seal and send some events together costs little more than one. One that waits for its model is not held up.
        """
        size = self._size
        if self._complete or size > _AHEAD_BYTES:
            return
        start = current_time()
        await checkpoint()
        if size < self._size <= _AHEAD_BYTES and not self._complete:
            await sleep(min(_TURNS * (current_time() - start), _TURNS_SECONDS))

    def want_no_more(self) -> None:
        """The answer is all there: let the application end by itself, within the grace."""
        self._wanted = False
        self._room.set()

    def close(self) -> None:
        """Nobody reads any more. Unless its answer is complete, the application learns of it and has to end."""
        self._parts.clear()
        self._closed.set()
        if self._complete or self._ended:
            return
        self._running.deadline = current_time() + _GRACE_SECONDS
        if self._wanted:
            self._gone = True
            self._over.set()
            self._room.set()

    async def _wait(self) -> None:
        if self._ended:
            raise InferenceError  # and the answer has not
        if self._late:
            raise InferenceError(504)
        self._news = Event()
        self._waiting_since = current_time()
        await self._news.wait()
        self._waiting_since = None

    async def _receive(self) -> Message:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._over.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if self._gone:
            raise OSError("the client has left")
        kind: Any = message["type"]
        if kind == "http.response.start" and not self._begun:
            self._begun = True
            self._refusal = _refusal(message)
            self._news.set()
            return
        if kind != "http.response.body" or not self._begun or self._complete:
            raise RuntimeError("this message may not be sent now")
        body = message.get("body", b"")
        if not self._wanted:
            await checkpoint()  # it may have no other
        elif body:
            self._parts.append(bytes(body))  # the application may use its buffer again
            self._size += len(body)
        if not message.get("more_body", False):
            self._complete = True
            self._running.deadline = math.inf  # what it does behind its answer is its own affair
            self._over.set()
        if self._waiting_since is not None:
            self._news.set()
        while self._size > _AHEAD_BYTES and self._wanted and not self._complete:
            self._room = Event()
            await self._room.wait()
            if self._gone:
                raise OSError("the client has left")


def _refusal(head: Message) -> InferenceError | None:
    """What makes an answer with this head none that could be sealed."""
    headers = Headers(raw=[(bytes(name).lower(), bytes(value)) for name, value in head.get("headers", ())])
    if head["status"] != 200:
        return refusal(head["status"], headers.get("retry-after"))
    return None if headers.get("content-encoding", "identity").lower() == "identity" else InferenceError()
