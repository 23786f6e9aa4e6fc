"""A gateway for local apps: an ASGI application that takes plaintext OpenAI requests and asks confidential nodes."""

from __future__ import annotations

import re
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Final
from urllib.parse import urlsplit

from anyio import create_task_group
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import atoma_crypto as ac
from atoma_crypto._padding import PadTo
from atoma_crypto._typing import NonceReuse, Protocol, Suite
from atoma_crypto.adapters._routes import BY_CONFIDENTIAL, ENDPOINTS, Endpoint
from atoma_crypto.adapters._terms import DEFAULT_SUITES, Terms
from atoma_crypto.attestation import Verifier
from atoma_crypto.server._http import (
    EXCEPTION_HANDLERS,
    RefusalError,
    cancel_when_gone,
    error_response,
    internal_error,
    read_body,
)
from atoma_crypto.server._json import read_object
from atoma_crypto.server._node_answer import FailedError
from atoma_crypto.server._nodes import Nodes, RequestMetadata
from atoma_crypto.server._reply import StreamAbortedError
from atoma_crypto.server._work import run_work

__all__ = ["RequestMetadata", "create_app"]

_CHAT: Final = BY_CONFIDENTIAL["/v1/confidential/chat/completions"]
_LOOPBACK: Final = re.compile(r"(localhost|127\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}|\[::1\])(:[0-9]{1,5})?")


def create_app(
    nodes: Sequence[str],
    *,
    token: str | None = None,
    pass_models: bool = False,
    any_host: bool = False,
    protocol: Protocol = "v1",
    verify: Verifier | None = None,
    suites: Sequence[Suite] = DEFAULT_SUITES,
    limits: ac.Limits = ac.Limits(),  # noqa: B008 - frozen
    nonce_reuse: NonceReuse = "warn",
    pad_to: PadTo = None,
    retry_unknown_key: bool = True,
    timeout: float = 600.0,
    tls: ssl.SSLContext | None = None,
    seen: Callable[[RequestMetadata], object] | None = None,
) -> Starlette:
    """Make the gateway's application: OpenAI's four endpoints, their confidential paths, and `GET /health`.

    `nodes` are the base URLs of nodes, or of proxies before them, with or without `/v1`; they are asked in turn.
    `token` is the bearer token for them; None passes on what the local app sends. `pass_models` adds
    `GET /v1/models`, which is asked and answered in clear. A request whose `Host` is no name of this machine's
    loopback is refused unless `any_host`. `protocol`, `verify`, `suites`, `pad_to` and `retry_unknown_key` are as those
    of `atoma_crypto.adapters.httpx.ConfidentialTransport`, `limits` and `nonce_reuse` the sessions'. `timeout` is how
    many seconds a node may be silent: a model may think for minutes before its first word. `tls` is what nodes behind
    `https` must satisfy; None stands for the usual authorities. `seen` is called with the metadata of each request
    before it is sent. Raises ValueError for a URL that is not plain `http(s)://host[:port][/path]`, without nodes, and
    for a token that is empty or not printable ASCII; TypeError for v2 without `verify`.

    An answer of a node whose key was verified says so in the header `x-atoma-verified`, in JSON: `policy`, `key`
    (its fingerprint) and `until`.
    """
    if token is not None and not re.fullmatch(r"[!-~]+", token):
        raise ValueError("the token is empty or has characters that no header may have")
    terms = Terms(
        protocol=protocol,
        verify=verify,
        suites=suites,
        limits=limits,
        nonce_reuse=nonce_reuse,
        pad_to=pad_to,
        retry_unknown_key=retry_unknown_key,
    )
    pool = Nodes(nodes, token=token, terms=terms, timeout=timeout, tls=tls, seen=seen)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        await pool.aclose()

    async def models(request: Request) -> Response:
        return Response(await pool.models(request.headers.get("authorization")), media_type="application/json")

    routes = [Route("/health", _health, methods=["GET"])]
    if pass_models:
        routes.append(Route("/v1/models", models, methods=["GET"]))
    for endpoint in ENDPOINTS:
        for path in (endpoint.plaintext, endpoint.confidential):
            answer = _Inference(pool, endpoint, limits, confidential=path == endpoint.confidential)
            routes.append(Route(path, answer, methods=["POST"]))
    app = Starlette(
        routes=routes,
        exception_handlers=EXCEPTION_HANDLERS,
        lifespan=lifespan,
        middleware=[Middleware(_FromHere, any_host=any_host)],
    )
    app.router.redirect_slashes = False  # one path each, and the same JSON for every other
    return app


class _FromHere:
    """Lets in what this machine's own programs ask, and no web page: neither by its own name nor across origins.

    A page whose name was made to lead to 127.0.0.1 (DNS rebinding) shows that name in `Host`; a page that posts to
    another origin without being allowed to read the answer shows its own in `Origin`.
    """

    def __init__(self, app: ASGIApp, *, any_host: bool) -> None:
        self._app = app
        self._any_host = any_host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            hosts, origins = headers.getlist("host"), headers.getlist("origin")
            if not self._any_host and not (len(hosts) == 1 and _is_loopback(hosts[0])):
                await error_response(403, "FORBIDDEN", "Host is no loopback name")(scope, receive, send)
                return
            elsewhere = headers.get("sec-fetch-site") == "cross-site"
            if elsewhere or not all(_is_loopback(_host_of(origin)) for origin in origins):
                await error_response(403, "FORBIDDEN", "Web pages may not ask")(scope, receive, send)
                return
        await self._app(scope, receive, send)


class _Inference:
    """One path of an endpoint. An ASGI application itself, for it has to notice an app that leaves."""

    def __init__(self, pool: Nodes, endpoint: Endpoint, limits: ac.Limits, *, confidential: bool) -> None:
        self._pool = pool
        self._endpoint = endpoint
        self._limits = limits
        self._confidential = confidential

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        body = bytes(await read_body(request, self._limits.max_request_bytes))
        if self._confidential and self._endpoint is _CHAT:
            await run_work(_require_stream, body)
        complete = True  # an app that has left is owed nothing more
        async with create_task_group() as group:
            group.start_soon(cancel_when_gone, receive, group.cancel_scope)
            complete = await self._answer(body, request, send)
            group.cancel_scope.cancel()
        if not complete:
            raise StreamAbortedError

    async def _answer(self, body: bytes, request: Request, send: Send) -> bool:
        """Send the answer in clear, or what went wrong; False when a stream broke off after its start."""
        started = False
        response: Response
        try:
            async with self._pool.ask(self._endpoint, body, request.headers.get("authorization")) as answer:
                if answer.plaintext is None:
                    async with aclosing(answer.events()) as batches:
                        async for batch in batches:
                            if not started:  # only now, so that what fails before is a status
                                await send(_stream_start(answer.headers))
                                started = True
                            await send({"type": "http.response.body", "body": batch, "more_body": True})
                    await send({"type": "http.response.body", "body": b"", "more_body": False})
                    return True
                response = Response(answer.plaintext, media_type="application/json", headers=answer.headers)
        except ac.LocalProtocolError as error:
            response = error_response(400, "INVALID_BODY", str(error))
        except FailedError as failure:
            if started:
                return False
            response = self._failed(failure)
        await response(request.scope, request.receive, send)
        return True

    def _failed(self, failure: FailedError) -> Response:
        """On a confidential path what fails is a 500, as at Atoma's handler; before that one stand only refusals."""
        if self._confidential and not (failure.at_lock and failure.status_code < 500):
            return internal_error()
        return error_response(failure.status_code, failure.code, failure.detail, headers=failure.headers)


def _stream_start(more: Mapping[str, str]) -> Message:
    headers = {"content-type": "text/event-stream", "cache-control": "no-cache", **more}
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http.response.start", "status": 200, "headers": raw}


def _require_stream(body: bytes) -> None:
    try:
        told = read_object(body).get("stream")
    except ValueError:
        told = None
    if not isinstance(told, bool):
        raise RefusalError(400, "INVALID_BODY", "'stream' of the body is missing or not a boolean")


def _is_loopback(host: str) -> bool:
    return _LOOPBACK.fullmatch(host.lower()) is not None


def _host_of(origin: str) -> str:
    try:
        parts = urlsplit(origin)
    except ValueError:
        return ""
    return parts.netloc if parts.scheme in ("http", "https") and not parts.path else ""


async def _health(_request: Request) -> JSONResponse:
    return JSONResponse({"status": "ok"})
