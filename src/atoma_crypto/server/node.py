"""A confidential inference node: an ASGI application that opens requests and seals what a model answers."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial

from anyio import create_task_group, sleep
from anyio.abc import TaskGroup
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

import atoma_crypto as ac
from atoma_crypto._errors import AtomaCryptoError
from atoma_crypto._padding import PadTo
from atoma_crypto._typing import Protocol
from atoma_crypto.adapters._routes import BY_PLAINTEXT, DEFAULT_TOKENS, ENDPOINTS, KEYS_PATH, LOCK_PATH, Endpoint
from atoma_crypto.attestation import EvidenceProvider
from atoma_crypto.server._counts import Counts, counted_nowhere
from atoma_crypto.server._evidence import Attested
from atoma_crypto.server._http import (
    EXCEPTION_HANDLERS,
    RefusalError,
    cancel_when_gone,
    check_bearer,
    opening_refusal,
    read_body,
)
from atoma_crypto.server._json import read_object
from atoma_crypto.server._keys import Keys, Published, may_block, read_challenge
from atoma_crypto.server._reply import Reply, Stream, StreamAbortedError, told
from atoma_crypto.server._work import run_waiting, run_work
from atoma_crypto.server.coalesce import Coalesce, Coalesced
from atoma_crypto.server.locks import DEFAULT_TIMEOUT_SECONDS, LockTable
from atoma_crypto.server.model import Model

_NODE_SMALL_ID = 1
_MAX_LOCK_BYTES = 64 << 10
_ROTATION_SECONDS = 30.0


def create_app(
    keys: ac.SecretKey | ac.NodeKeyring,
    model: Model,
    *,
    token: str | None = None,
    protocols: Sequence[Protocol] = ("v1", "v2"),
    signing_key: ac.SigningKey | bytes | None = None,
    replay_cache: ac.ReplayCache | None = None,
    evidence: EvidenceProvider | None = None,
    pad_to: PadTo = None,
    coalesce: Coalesce | None = None,
    max_request_bytes: int = 32 << 20,
    limits: ac.Limits | None = None,
    metrics: bool = False,
    clock: Callable[[], float] = time.monotonic,
    wall_clock: Callable[[], float] = time.time,
) -> Starlette:
    """Make the node's application: `POST /v1/nodes/lock`, the four confidential endpoints, and `GET /health`.

    With v2 among the `protocols`, `GET /.well-known/atoma-node-keys` gives the keys that requests are sealed to. With
    `evidence` no key is offered, of v1 neither, without evidence of who holds it (docs/attestation.md). The provider is
    called in threads, several at once, and each call may take some seconds.
    `token` is the one bearer token that is accepted; None accepts any. `signing_key` (an Ed25519 key or its 32-byte
    seed) signs what is sent in v1, where a model's answer that does not begin as a JSON object is then an error.
    `replay_cache` remembers v2's requests: None is that of each key, in memory; where several processes have one key it
    must be one for them all. `pad_to` pads what is sealed, and `coalesce` joins text of streams. `limits`, if given,
    hold instead of `max_request_bytes`. With `metrics`, `GET /metrics` answers in Prometheus' text, to `token` only if
    there is one (extra `server`). `clock` gives seconds and never goes back; locks expire by it. `wall_clock` gives
    seconds since 1970, by which requests are timely. The application closes `model` when it is shut down; the keys and
    the replay cache stay the caller's.

    ValueError: a token that is empty or has white space at an end, a limit below 64 bytes or above 2^40, a protocol
    that the key is not for. InvalidKeyError: a seed of another length.
    """
    if token is not None and (not token or token != token.strip()):
        # no header could match it
        raise ValueError("the token is empty or has white space at an end, which would lock everybody out")
    if signing_key is not None and not isinstance(signing_key, ac.SigningKey):
        signing_key = ac.SigningKey.from_bytes(signing_key)
    if limits is None:
        limits = ac.Limits(max_request_bytes=max_request_bytes)
    new_session = partial(
        ac.NodeSession,
        keys,
        signing_key=signing_key,
        protocols=protocols,
        replay_cache=replay_cache,
        pad_to=pad_to,
        clock=wall_clock,
        limits=limits,
    )
    new_session().close()  # what it refuses is said now
    measure = None
    if metrics:
        from atoma_crypto.server._metrics import Metrics  # noqa: PLC0415 - for those who ask for it

        measure = Metrics()
    own = Keys(keys, protocols, wall_clock)
    attested = None
    if evidence is not None:
        attested = Attested(evidence, own.candidates, counted_nowhere if measure is None else measure.evidence)
    published = Published(own, protocols, attested)
    gate = _Gate(
        model,
        None if token is None else token.encode(errors="surrogateescape"),
        limits,
        LockTable(clock=clock),
        coalesce,
        may_block(replay_cache),
        signing_key is not None,
    )

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        async with create_task_group() as group:
            if isinstance(keys, ac.NodeKeyring) or evidence is not None:
                group.start_soon(_keep_tending, published)
            yield
            group.cancel_scope.cancel()
        await model.aclose()

    answering: dict[str, ASGIApp] = {LOCK_PATH: _Lock(gate, published)}
    for endpoint in ENDPOINTS:
        counts = Counts() if measure is None else measure.counts(endpoint.confidential)
        answering[endpoint.confidential] = _Inference(gate, endpoint, new_session, counts)
    routes = [Route("/health", _health, methods=["GET"])]
    if "v2" in protocols:
        routes.append(Route(KEYS_PATH, published.response, methods=["GET"]))
    if measure is not None:
        answering = {path: measure.measured(path, answer) for path, answer in answering.items()}
        routes.append(Route("/metrics", _Shown(gate, measure.response), methods=["GET"]))
    routes += [Route(path, answer, methods=["POST"]) for path, answer in answering.items()]
    app = Starlette(
        routes=routes,
        exception_handlers=EXCEPTION_HANDLERS,
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False  # one path each, and the same JSON for every other
    return app


async def _keep_tending(published: Published) -> None:
    """Have rotated, wiped and made what is due: that is done when somebody asks, and a node may be idle."""
    with suppress(ac.SessionClosedError):
        while True:
            published.tend()
            await sleep(_ROTATION_SECONDS)


@dataclass(frozen=True, slots=True)
class _Gate:
    """What every endpoint asks before it lets a request in."""

    model: Model
    token: bytes | None = field(repr=False)
    limits: ac.Limits
    locks: LockTable
    coalesce: Coalesce | None
    waits: bool  # the replay cache may
    signs: bool

    async def opened(self, session: ac.NodeSession, sealed: bytearray) -> tuple[ac.Request, object]:
        """The request, and the model that its body names, if it is one that names any."""
        if self.waits:
            return await run_waiting(_opened, session, sealed, size=len(sealed))
        return await run_work(_opened, session, sealed, size=len(sealed))


class _Lock:
    """Tells a client the node's keys and reserves room for one request."""

    def __init__(self, gate: _Gate, published: Published) -> None:
        self._gate = gate
        self._published = published

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
            challenge = b"" if asked.get("challenge") is None else read_challenge(asked["challenge"])
        except ValueError:
            raise RefusalError(400, "INVALID_BODY", "The lock request is malformed") from None
        if not self._gate.model.serves(model):
            raise RefusalError(503, "SERVICE_UNAVAILABLE", "The model is not served here")
        more = {
            "node_small_id": _NODE_SMALL_ID,
            "stack_entry_digest": None,
            "stack_small_id": self._gate.locks.stack_small_id,
        }
        told = await self._published.lock(challenge, more)  # which may take long, or be refused: no lock is held yet
        if not self._gate.locks.acquire(max_num_tokens=max_num_tokens, timeout=timeout):
            raise RefusalError(503, "SERVICE_UNAVAILABLE", "Too many locks are held")
        await JSONResponse(told)(scope, receive, send)


class _Inference:
    """A confidential endpoint. An ASGI application itself, for it has to notice a client that leaves."""

    def __init__(
        self,
        gate: _Gate,
        endpoint: Endpoint,
        new_session: Callable[[], ac.NodeSession],
        counts: Counts,
    ) -> None:
        self._gate = gate
        self._endpoint = endpoint
        self._new_session = new_session
        self._counts = counts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        check_bearer(request, self._gate.token)
        sealed = await read_body(request, self._gate.limits.max_request_bytes)
        with self._new_session() as session:
            try:
                opened, endpoint = await self._open(session, sealed)
            except RefusalError as refusal:
                self._counts.refused(refusal.code)
                await told(session, refusal)(scope, receive, send)
                return
            del sealed
            complete = True  # a client that has left is owed nothing more
            async with create_task_group() as group:
                group.start_soon(cancel_when_gone, receive, group.cancel_scope)
                reply = Reply(
                    session,
                    opened,
                    model=self._gate.model,
                    endpoint=endpoint,
                    counts=self._counts,
                    signs=self._gate.signs,
                    follow=partial(self._follow, group),
                )
                complete = await reply(scope, receive, send)
                group.cancel_scope.cancel()
        if not complete:
            raise StreamAbortedError

    def _follow(self, group: TaskGroup, stream: Stream) -> Stream:
        coalesce = self._gate.coalesce
        if coalesce is None:
            return stream
        return Coalesced(stream, coalesce, self._gate.limits.max_event_bytes, group)

    async def _open(self, session: ac.NodeSession, sealed: bytearray) -> tuple[ac.Request, Endpoint]:
        try:
            opened, model = await self._gate.opened(session, sealed)
        except AtomaCryptoError as error:
            raise opening_refusal(error) from None
        self._counts.opened(opened.protocol)
        # v2 says for which endpoint the request is, under the seal: whoever has changed the URL gets nothing done
        endpoint = self._endpoint if opened.endpoint is None else BY_PLAINTEXT.get(opened.endpoint)
        if endpoint is not self._endpoint:
            raise RefusalError(400, "INVALID_BODY", "The request is for another endpoint")
        if opened.stream and not endpoint.streams:
            raise RefusalError(400, "INVALID_BODY", "This endpoint does not stream")
        if not isinstance(model, str) or not self._gate.model.serves(model):
            raise RefusalError(400, "INVALID_BODY", "The request names no model that is served here")
        # last, so that garbage uses up nobody's lock
        units = endpoint.default_units if opened.num_compute_units is None else opened.num_compute_units
        if not self._gate.locks.consume(opened.stack_small_id, units):
            raise RefusalError(425, "UNAVAILABLE_STACK", "No such lock is held on this stack: take a new one")
        return opened, endpoint


def _opened(session: ac.NodeSession, sealed: bytearray) -> tuple[ac.Request, object]:
    opened = session.open_request(sealed)
    model: object = None
    with suppress(ValueError):
        model = read_object(opened.body).get("model")
    return opened, model


class _Shown:
    """The counts, for whoever has the token, if there is one."""

    def __init__(self, gate: _Gate, response: Callable[[], Response]) -> None:
        self._gate = gate
        self._response = response

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._gate.token is not None:
            check_bearer(Request(scope), self._gate.token)
        await self._response()(scope, receive, send)


async def _health(_request: Request) -> JSONResponse:
    return JSONResponse({"status": "ok"})


def _u64(asked: Mapping[str, object], name: str, default: int) -> int:
    value = asked.get(name)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 64:
        raise ValueError(name)
    return value
