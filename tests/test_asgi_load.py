"""Streams and answers of every size through the middleware, many of them at once, and readers that are slow."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

import atoma_crypto as ac
from asgi_apps import DONE, confidential, events, fastapi_app
from serving import CHAT, Client, chunk, connected, head, request_body


def numbered(count: int, size: int = 0) -> list[bytes]:
    return [json.dumps([number, "x" * size]).encode().join((b'{"n":', b"}")) for number in range(count)]


def read_one(client: Client, expected: list[bytes]) -> None:
    """Read a stream as it comes, and compare each event."""
    assert client.lock().status_code == 200
    with client.asking(request_body(stream=True)) as (session, response):
        assert response.status_code == 200
        found = 0
        for part in response.iter_raw():
            session.receive_data(part)
            for event in session.events():
                assert isinstance(event, ac.Chunk)
                assert event.plaintext == expected[found]
                found += 1
        session.receive_eof()
    assert found == len(expected)


@pytest.mark.parametrize(
    ("count", "size"),
    [
        (1, 0),
        (1000, 0),
        (3, 1 << 20),
        (40, 20_000),
        pytest.param(100_000, 0, marks=pytest.mark.long),
        pytest.param(100, 1 << 20, marks=pytest.mark.long),
    ],
)
def test_streams_of_any_length(count: int, size: int) -> None:
    expected = numbered(count, size)
    with confidential(fastapi_app(events(expected))) as client:
        read_one(client, expected)


def test_a_stream_that_the_application_writes_byte_by_byte() -> None:
    body = b"".join(b"data: " + plaintext + b"\r\n\r\n" for plaintext in numbered(20)) + DONE

    async def answer(_request: Request) -> Response:
        async def pieces() -> AsyncIterator[bytes]:
            for at in range(len(body)):
                yield body[at : at + 1]

        return StreamingResponse(pieces())

    with confidential(fastapi_app(answer)) as client:
        read_one(client, numbered(20))


@pytest.mark.parametrize("mebibytes", [2, pytest.param(60, marks=pytest.mark.long)])
def test_a_whole_answer_of_many_mebibytes(mebibytes: int) -> None:
    body = b'{"data":"' + b"x" * (mebibytes << 20) + b'"}'

    async def answer(_request: Request) -> Response:
        return Response(body, media_type="application/json")

    with confidential(fastapi_app(answer)) as client:
        session, response = client.ask(request_body())
        assert session.open_response(response.content) == body


@pytest.mark.parametrize("streams", [20, pytest.param(200, marks=pytest.mark.long)])
def test_many_streams_at_once_are_each_complete_and_in_order(streams: int) -> None:
    expected = numbered(50)
    go = threading.Barrier(streams)

    def one(url: str) -> None:
        with Client(url) as client:
            go.wait(60)
            read_one(client, expected)

    with (
        confidential(fastapi_app(events(expected, pause=0.001))) as client,
        ThreadPoolExecutor(go.parties) as clients,
    ):
        for done in [clients.submit(one, client.url) for _ in range(streams)]:
            done.result()


@pytest.mark.parametrize("size", [300, 100_000])
def test_an_application_waits_for_a_client_that_does_not_read(size: int) -> None:
    """What lies between them is bounded: the queue of the call, the server's buffer, and those of the two sockets."""
    sent = [0]
    event = b"data: " + chunk("x" * size) + b"\n\n"
    ended = threading.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            while sent[0] < 1 << 30:
                await send({"type": "http.response.body", "body": event, "more_body": True})
                sent[0] += len(event)
        finally:
            ended.set()

    with confidential(app) as client, client.session() as session, connected(client.url) as connection:
        sealed = session.seal_request(request_body(stream=True), stream=True)
        connection.sendall(head(CHAT, f"Content-Length: {len(sealed)}") + sealed)
        assert connection.recv(17).startswith(b"HTTP/1.1 200 ")
        before: Any = None
        while before != sent[0]:  # until it has come to rest
            before = sent[0]
            assert not ended.wait(0.3)
        assert before < 16 << 20
        while sent[0] < before + (1 << 20):  # and it goes on when the client does
            assert connection.recv(1 << 16)
