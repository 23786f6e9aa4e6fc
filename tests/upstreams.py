"""Services of every sort for a node to ask, and what it makes of their answers."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

import atoma_crypto as ac
from atoma_crypto.adapters._routes import BY_PLAINTEXT
from atoma_crypto.server.model import Answer, InferenceError
from atoma_crypto.server.node import create_app
from atoma_crypto.server.upstream import HttpUpstream
from serving import USAGE, Client, serving

CHAT = BY_PLAINTEXT["/v1/chat/completions"]
COMPLETION = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "é"}, "finish_reason": "stop"}],
    "usage": USAGE,
}
CHUNKS = [
    b'{"choices":[{"index":0,"delta":{"role":"assistant","content":""}}],"usage":null}',
    '{"choices":[{"index":0,"delta":{"content":"é€😀"}}]}'.encode(),
    b'{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}',
]
DONE = b"data: [DONE]\n\n"
STREAM = b"".join(b"data: " + chunk + b"\n\n" for chunk in CHUNKS) + DONE


@contextlib.contextmanager
def upstream(answer: Callable[[Request], Any], path: str = "/v1/chat/completions") -> Iterator[str]:
    """A real service that answers with what `answer` makes of the request."""
    with serving(Starlette(routes=[Route(path, answer, methods=["POST"])])) as url:
        yield url


def streaming(pieces: Sequence[bytes]) -> Callable[[Request], Any]:
    async def answer(_request: Request) -> Response:
        async def body() -> AsyncIterator[bytes]:
            for piece in pieces:
                yield piece
                await asyncio.sleep(0.001)  # so that they mostly travel on their own

        return StreamingResponse(body(), media_type="text/event-stream")

    return answer


@contextlib.contextmanager
def raw_upstream(*answers: bytes, reset: bool = False) -> Iterator[str]:
    """A service that reads a request, writes these bytes, one of them for each connection, and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for answer in answers:
                connection, _ = listener.accept()
                with connection, contextlib.suppress(ConnectionError):
                    received = b""
                    while b"\r\n\r\n" not in received:
                        received += connection.recv(1 << 16)
                    head, _, body = received.partition(b"\r\n\r\n")
                    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                    while len(body) < length:
                        body += connection.recv(1 << 16)
                    connection.sendall(answer)
                    if reset:
                        # a linger of no time at all makes close() send a reset
                        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            thread.join()


@contextlib.contextmanager
def upstream_node(url: str) -> Iterator[Client]:
    with (
        ac.SecretKey.generate() as key,
        serving(create_app(key, HttpUpstream(url))) as node_url,
        Client(node_url) as client,
    ):
        client.lock()
        yield client


Outcome = tuple[list[Answer], InferenceError | None]


def completes(url: str, times: int = 1, body: bytes = b"{}") -> list[Answer | InferenceError]:
    """What comes of so many requests for a whole answer."""

    async def run() -> list[Answer | InferenceError]:
        async with contextlib.aclosing(HttpUpstream(url)) as model:
            return [await one(model) for _ in range(times)]

    async def one(model: HttpUpstream) -> Answer | InferenceError:
        try:
            return await model.complete(CHAT, body)
        except InferenceError as error:
            return error

    return asyncio.run(run())


def complete(url: str) -> Answer:
    [outcome] = completes(url)
    if isinstance(outcome, InferenceError):
        raise outcome
    return outcome


def streams(url: str, times: int = 1, body: bytes = b"{}") -> list[Outcome]:
    """What comes of so many requests for a stream, and how each ended."""

    async def run() -> list[Outcome]:
        async with contextlib.aclosing(HttpUpstream(url)) as model:
            return [await one(model) for _ in range(times)]

    async def one(model: HttpUpstream) -> Outcome:
        answers: list[Answer] = []
        try:
            async for batch in model.stream(CHAT, body):
                assert batch
                answers += batch
        except InferenceError as error:
            return answers, error
        return answers, None

    return asyncio.run(run())


def stream(url: str, body: bytes = b"{}") -> Outcome:
    [outcome] = streams(url, 1, body)
    return outcome


def http(body: bytes, *, status: str = "200 OK", length: int | None = None, more: str = "") -> bytes:
    size = len(body) if length is None else length
    return f"HTTP/1.1 {status}\r\nContent-Length: {size}\r\n{more}\r\n".encode() + body


def chunked(*parts: bytes, end: bool = True) -> bytes:
    body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
    return (
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
        + body
        + (b"0\r\n\r\n" if end else b"")
    )
