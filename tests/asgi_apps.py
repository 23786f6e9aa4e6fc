"""FastAPI applications that serve OpenAI's plaintext routes, and clients of them behind the middleware."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Any

import httpx
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import atoma_crypto as ac
from atoma_crypto.adapters._routes import ENDPOINTS, Endpoint
from atoma_crypto.adapters.asgi import ConfidentialMiddleware
from serving import Client, serving

Answer = Callable[[Request], Awaitable[Response]]
DONE = b"data: [DONE]\n\n"


class CookieForEach:
    """Adds a header to the head of each answer, in place, as Starlette's own middleware for sessions and CORS does."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._count = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._count += 1
        cookie = f"session={self._count}"

        async def adding(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).append("set-cookie", cookie)
            await send(message)

        await self._app(scope, receive, adding)


def fastapi_app(answer: Answer) -> FastAPI:
    """All four plaintext routes, answered by `answer`, and one that is nobody's business."""
    app = FastAPI()
    for endpoint in ENDPOINTS:
        app.add_api_route(endpoint.plaintext, _route(answer), methods=["POST"])

    @app.get("/v1/models")
    def models() -> dict[str, object]:
        return {"object": "list", "data": []}

    return app


def _route(answer: Answer) -> Callable[[Request], Awaitable[Response]]:
    async def route(request: Request) -> Response:
        return await answer(request)

    return route


def whole(value: object, status: int = 200, **headers: str) -> Answer:
    async def answer(_request: Request) -> Response:
        return JSONResponse(value, status, headers)

    return answer


def events(plaintexts: Sequence[bytes], *, pause: float | None = None, end: bytes = DONE) -> Answer:
    """Stream these, one `yield` each, as an application would; with a pause each travels on its own."""

    async def answer(_request: Request) -> Response:
        async def body() -> AsyncIterator[bytes]:
            for plaintext in plaintexts:
                yield b"data: " + plaintext + b"\n\n"
                if pause is not None:
                    await asyncio.sleep(pause)
            yield end

        return StreamingResponse(body(), media_type="text/event-stream")

    return answer


@contextlib.contextmanager
def confidential(app: Any, **more: Any) -> Iterator[Client]:
    """A client of `app` with the middleware before it, under uvicorn."""
    with (
        ac.SecretKey.generate() as key,
        serving(ConfidentialMiddleware(app, keys=key, **more)) as url,
        Client(url) as client,
    ):
        client.lock(max_num_tokens=2**20)
        yield client


def ask(client: Client, endpoint: Endpoint, body: bytes) -> tuple[ac.ClientSession, httpx.Response]:
    session = client.session()
    sealed = session.seal_request(body, stream=json.loads(body).get("stream") or False)
    return session, client.http.post(endpoint.confidential, content=sealed)
