"""A confidential inference node: an ASGI application that opens requests and seals what a model answers."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from anyio import CancelScope, create_task_group
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

import atoma_crypto as ac
from atoma_crypto._errors import AtomaCryptoError, http_error
from atoma_crypto.server._http import EXCEPTION_HANDLERS, RefusalError, check_bearer, read_body
from atoma_crypto.server._json import read_object
from atoma_crypto.server._reply import Reply, StreamAbortedError
from atoma_crypto.server._work import run_work
from atoma_crypto.server.locks import DEFAULT_TIMEOUT_SECONDS, DEFAULT_TOKENS, LockTable
from atoma_crypto.server.model import Model

_NODE_SMALL_ID = 1
_MAX_LOCK_BYTES = 64 << 10


def create_app(
    key: ac.SecretKey,
    model: Model,
    *,
    token: str | None = None,
    signing_key: ac.SigningKey | bytes | None = None,
    max_request_bytes: int = 32 << 20,
    clock: Callable[[], float] = time.monotonic,
) -> Starlette:
    """Make the node's application: `POST /v1/nodes/lock` and `POST /v1/confidential/chat/completions`.

    `token` is the one bearer token that is accepted; None accepts any. `signing_key` (an Ed25519 key or
    its 32-byte seed) signs what is sent. `clock` gives seconds and never goes back; locks expire by it. The
    application closes `model` when it is shut down; the keys stay the caller's. Raises ValueError for a
    token that is empty or has white space at an end, and for a limit below 64 bytes or above 2^40; and
    InvalidKeyError for a seed of another length.
    """
    if token is not None and (not token or token != token.strip()):
        # no header could match it
        raise ValueError("the token is empty or has white space at an end, which would lock everybody out")
    if signing_key is not None and not isinstance(signing_key, ac.SigningKey):
        signing_key = ac.SigningKey.from_bytes(signing_key)
    limits = ac.Limits(max_request_bytes=max_request_bytes)
    locks = LockTable(clock=clock)
    gate = _Gate(model, None if token is None else token.encode(errors="surrogateescape"), limits, locks)

    def new_session() -> ac.NodeSession:
        return ac.NodeSession(key, signing_key=signing_key, protocols=("v1",), limits=limits)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        await model.aclose()

    app = Starlette(
        routes=[
            Route("/v1/nodes/lock", _Lock(gate, key.public_key), methods=["POST"]),
            Route("/v1/confidential/chat/completions", _Chat(gate, new_session), methods=["POST"]),
        ],
        exception_handlers=EXCEPTION_HANDLERS,
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False  # one path each, and the same JSON for every other
    return app


@dataclass(frozen=True, slots=True)
class _Gate:
    """What both endpoints ask before they let a request in."""

    model: Model
    token: bytes | None = field(repr=False)
    limits: ac.Limits
    locks: LockTable


class _Lock:
    """Tells a client the node's key and reserves room for one request."""

    def __init__(self, gate: _Gate, public_key: ac.PublicKey) -> None:
        self._gate = gate
        self._public_key = public_key.to_base64()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        check_bearer(request, self._gate.token)
        body = await read_body(request, min(self._gate.limits.max_request_bytes, _MAX_LOCK_BYTES))
        try:
            asked = read_object(body)
            model = asked.get("model")
            if not isinstance(model, str):
                raise ValueError("model")
            max_num_tokens = _u64(asked, "max_num_tokens", DEFAULT_TOKENS)
            timeout = _u64(asked, "timeout", DEFAULT_TIMEOUT_SECONDS)
        except ValueError:
            raise RefusalError(400, "INVALID_BODY", "The lock request is malformed") from None
        if not self._gate.model.serves(model):
            raise RefusalError(503, "SERVICE_UNAVAILABLE", "The model is not served here")
        if not self._gate.locks.acquire(max_num_tokens=max_num_tokens, timeout=timeout):
            raise RefusalError(503, "SERVICE_UNAVAILABLE", "Too many locks are held")
        reply = JSONResponse(
            {
                "public_key": self._public_key,
                "node_small_id": _NODE_SMALL_ID,
                "stack_entry_digest": None,
                "stack_small_id": self._gate.locks.stack_small_id,
            }
        )
        await reply(scope, receive, send)


class _Chat:
    """The confidential endpoint. An ASGI application itself, for it has to notice a client that leaves."""

    def __init__(self, gate: _Gate, new_session: Callable[[], ac.NodeSession]) -> None:
        self._gate = gate
        self._new_session = new_session

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        check_bearer(request, self._gate.token)
        sealed = await read_body(request, self._gate.limits.max_request_bytes)
        with self._new_session() as session:
            opened = await self._open(session, sealed)
            del sealed
            complete = True  # a client that has left is owed nothing more
            async with create_task_group() as group:
                group.start_soon(_cancel_when_gone, receive, group.cancel_scope)
                reply = Reply(self._gate.model, session, opened)
                complete = await reply(scope, receive, send)
                group.cancel_scope.cancel()
        if not complete:
            raise StreamAbortedError

    async def _open(self, session: ac.NodeSession, sealed: bytearray) -> ac.Request:
        try:
            opened = await run_work(session.open_request, sealed)
        except AtomaCryptoError as error:
            raise RefusalError(*http_error(error)) from None
        model: object = None
        with suppress(ValueError):
            model = (await run_work(read_object, opened.body)).get("model")
        if not isinstance(model, str) or not self._gate.model.serves(model):
            raise RefusalError(400, "INVALID_BODY", "The request names no model that is served here")
        # last, so that garbage uses up nobody's lock
        units = DEFAULT_TOKENS if opened.num_compute_units is None else opened.num_compute_units
        if not self._gate.locks.consume(opened.stack_small_id, units):
            raise RefusalError(425, "UNAVAILABLE_STACK", "No such lock is held on this stack: take a new one")
        return opened


async def _cancel_when_gone(receive: Receive, scope: CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


def _u64(asked: Mapping[str, object], name: str, default: int) -> int:
    value = asked.get(name)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 64:
        raise ValueError(name)
    return value
