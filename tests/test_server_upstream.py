"""What a node asks its upstream, and how it passes on what comes back."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from typing import Any

import anyio
import httpx
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

import atoma_crypto as ac
from atoma_crypto.server.upstream import HttpUpstream
from serving import CHAT, USAGE, connected, error_of, head, opened, request_body
from upstreams import (
    CHUNKS,
    COMPLETION,
    STREAM,
    chunked,
    complete,
    completes,
    raw_upstream,
    stream,
    streaming,
    streams,
    upstream,
    upstream_node,
)

# What it is asked


@pytest.mark.parametrize(
    ("base", "path"),
    [
        ("", "/v1/chat/completions"),
        ("/", "/v1/chat/completions"),
        ("/v1", "/v1/chat/completions"),
        ("/v1/", "/v1/chat/completions"),
        ("/api", "/api/v1/chat/completions"),
        ("/api/v1", "/api/v1/chat/completions"),
        ("/xv1", "/xv1/v1/chat/completions"),
    ],
)
def test_where_it_posts(base: str, path: str) -> None:
    async def answer(_request: Request) -> Response:
        return JSONResponse({"a": 1})

    with upstream(answer, path) as url:
        assert complete(url + base).plaintext == b'{"a":1}'


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:8000",
        "//localhost",
        "ftp://localhost",
        "http://",
        "http:///v1",
        "http://user:word@localhost",
        "http://localhost/v1?key=1",
        "http://localhost/#v1",
        "http://localhost:port",
        "http://local\nhost",
    ],
)
def test_what_is_no_url_of_an_upstream(url: str) -> None:
    with pytest.raises(ValueError, match=r"an upstream is http\(s\)://"):
        HttpUpstream(url)


@pytest.mark.parametrize("body", ['{"model": "m",  "stream":false, "n":1.50, "text":"é"}', '{"model":"m"}'])
def test_a_whole_request_is_posted_as_it_was_sealed(body: str) -> None:
    asked: list[tuple[bytes, httpx.Headers]] = []

    async def answer(request: Request) -> Response:
        asked.append((await request.body(), httpx.Headers(request.headers.raw)))
        return JSONResponse(COMPLETION)

    with upstream(answer) as url, upstream_node(url) as client:
        session, response = client.ask(body.encode())
        plaintext = session.open_response(response.content)
    assert json.loads(plaintext) == COMPLETION
    assert response.json()["usage"] == USAGE
    [(posted, headers)] = asked
    assert posted == body.encode()
    assert headers["content-type"] == headers["accept"] == "application/json"
    assert "authorization" not in headers  # the client's token is not the upstream's affair


@pytest.mark.parametrize(
    "body",
    [
        {"model": "m", "stream": True, "messages": ["é\ud800"], "seed": 10**30},
        {"model": "m", "stream_options": {"include_usage": False, "x": 1}, "stream": True},
        {"model": "m", "stream_options": None, "stream": True},
    ],
)
def test_a_stream_asks_for_usage(body: dict[str, object]) -> None:
    asked: list[Any] = []

    async def answer(request: Request) -> Response:
        asked.append(json.loads(await request.body()))
        assert request.headers["accept"] == "text/event-stream"
        return Response(STREAM, media_type="text/event-stream")

    with upstream(answer) as url, upstream_node(url) as client:
        session, response = client.ask(json.dumps(body).encode())
        chunks = opened(session, response.content)
    assert [chunk.plaintext for chunk in chunks] == CHUNKS
    assert [chunk.usage for chunk in chunks] == [None, None, USAGE]
    assert asked == [body | {"stream_options": {"include_usage": True}}]


@pytest.mark.parametrize("protocol", ["v1", "v2"])
def test_all_else_of_a_stream_is_forwarded_as_it_was_checked(protocol: Any) -> None:
    asked: list[bytes] = []

    async def answer(request: Request) -> Response:
        asked.append(await request.body())
        return Response(STREAM, media_type="text/event-stream")

    told = '{ "stream":true, "model":"m","x":{"a":1,"a":[{}]},"n":[1.10,1E2,1e999,-0,"\\u0041é"]'
    with upstream(answer) as url, upstream_node(url) as client:
        client.protocol, client.model = protocol, "m"
        session, response = client.ask((told + "} \n\t\r  ").encode())
        assert [chunk.plaintext for chunk in opened(session, response.content)] == CHUNKS
    assert asked == [(told + ',"stream_options":{"include_usage":true}}').encode()]


def test_usage_that_is_no_usage_is_not_shown_in_each_event() -> None:
    huge = json.dumps({"choices": [], "usage": {"x": "y" * 5000}}).encode()

    async def answer(_request: Request) -> Response:
        return Response(b"data: " + huge + b"\n\ndata: [DONE]\n\n", media_type="text/event-stream")

    with upstream(answer) as url, upstream_node(url) as client:
        assert error_of(client.ask(request_body(stream=True))[1])[0] == 500


def test_an_upstream_comes_to_its_own_end() -> None:
    ended = threading.Event()

    async def events() -> AsyncIterator[bytes]:
        yield STREAM
        await anyio.sleep(0.05)  # what it still does: it counts, or saves
        ended.set()

    async def answer(_request: Request) -> Response:
        return StreamingResponse(events(), media_type="text/event-stream")

    with upstream(answer) as url, upstream_node(url) as client:
        session, response = client.ask(request_body(stream=True))
        assert [chunk.plaintext for chunk in opened(session, response.content)] == CHUNKS
        assert ended.is_set()


def test_neither_proxies_nor_credentials_are_taken_from_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def answer(request: Request) -> Response:
        return JSONResponse({"credentials": request.headers.get("authorization")})

    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with upstream(answer) as url:
        assert complete(url).plaintext == b'{"credentials":null}'


def test_the_upstream_s_cookies_are_not_kept() -> None:
    sent: list[str | None] = []

    async def answer(request: Request) -> Response:
        sent.append(request.headers.get("cookie"))
        return JSONResponse({"a": 1}, headers={"set-cookie": "session=of-the-first-client; Path=/"})

    with upstream(answer) as url:
        completes(url, 2)
    assert sent == [None, None]


def test_every_model_may_be_asked_for() -> None:
    async def answer(_request: Request) -> Response:
        return JSONResponse({"error": {"message": "no such model"}}, 404)

    with upstream(answer) as url, upstream_node(url) as client:
        assert client.lock(model="whatever").status_code == 200
        assert error_of(client.ask(request_body(model="whatever"))[1])[0] == 500


# Streams that arrive in odd pieces


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"], ids=["lf", "crlf", "cr"])
def test_a_stream_split_anywhere_is_the_same_stream(newline: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atoma_crypto.server.upstream._END_SECONDS", 0.0)  # these upstreams never end
    body = STREAM.replace(b"\n", newline)
    parts = [chunked(body[:cut], body[cut:]) for cut in range(1, len(body))]
    # in two chunks of HTTP, which is two reads
    with raw_upstream(*parts) as url:
        outcomes = streams(url, len(parts))
    for answers, error in outcomes:
        assert [answer.plaintext for answer in answers] == CHUNKS
        assert error is None


def test_a_stream_byte_by_byte_through_the_node() -> None:
    with upstream(streaming([STREAM[i : i + 1] for i in range(len(STREAM))])) as url, upstream_node(url) as client:
        session, response = client.ask(request_body(stream=True))
    assert [chunk.plaintext for chunk in opened(session, response.content)] == CHUNKS


def test_what_else_may_stand_in_a_stream() -> None:
    body = (
        b"\xef\xbb\xbf: hello\n\nevent: chunk\nid: 7\nretry: 5\ndata:"
        + CHUNKS[0]
        + b'\n\n: keep-alive\n\n\n\ndata: {"a":\ndata: 1}\n\ndata:[DONE]\n\ndata: not looked at\n\n'
    )
    with upstream(streaming([body])) as url:
        answers, error = stream(url)
    assert [answer.plaintext for answer in answers] == [CHUNKS[0], b'{"a":\n1}']
    assert error is None


def test_what_is_there_is_passed_on_before_the_rest_has_come() -> None:
    go_on = threading.Event()

    async def answer(_request: Request) -> Response:
        async def body() -> AsyncIterator[bytes]:
            yield STREAM[:120]  # one chunk and a part of the next
            while not go_on.is_set():
                await asyncio.sleep(0.005)
            yield STREAM[120:]

        return StreamingResponse(body())

    assert CHUNKS[1] not in STREAM[:120]
    with (
        upstream(answer) as url,
        upstream_node(url) as client,
        client.asking(request_body(stream=True)) as (session, response),
    ):
        parts = response.iter_raw()
        while (event := session.next_event()) is ac.NEED_DATA:
            session.receive_data(next(parts))
        assert isinstance(event, ac.Chunk)
        assert event.plaintext == CHUNKS[0]
        go_on.set()
        rest = opened(session, b"".join(parts))
    assert [chunk.plaintext for chunk in rest] == CHUNKS[1:]


def test_after_done_the_upstream_is_not_waited_for() -> None:
    left = threading.Event()

    async def answer(_request: Request) -> Response:
        async def body() -> AsyncIterator[bytes]:
            try:
                yield STREAM
                await asyncio.sleep(3600)
            finally:
                left.set()

        return StreamingResponse(body())

    with upstream(answer) as url, upstream_node(url) as client:
        session, response = client.ask(request_body(stream=True))
        assert [chunk.plaintext for chunk in opened(session, response.content)] == CHUNKS
        assert left.wait(30)


@pytest.mark.parametrize("begun", [True, False], ids=["begun", "waiting"])
@pytest.mark.parametrize("streamed", [True, False], ids=["stream", "whole"])
def test_a_client_that_leaves_closes_the_stream_of_the_upstream(begun: bool, streamed: bool) -> None:
    asked, left = threading.Event(), threading.Event()

    async def answer(_request: Request) -> Response:
        async def body() -> AsyncIterator[bytes]:
            asked.set()
            try:
                if begun:
                    yield STREAM[:120]
                await asyncio.sleep(3600)
                yield b""
            finally:
                left.set()

        return StreamingResponse(body())

    with upstream(answer) as url, upstream_node(url) as client:
        with client.session() as session, connected(client.url) as connection:
            sealed = session.seal_request(request_body(stream=streamed), stream=streamed)
            connection.sendall(head(CHAT, f"Content-Length: {len(sealed)}") + sealed)
            assert asked.wait(30)
            if begun and streamed:
                assert connection.recv(17).startswith(b"HTTP/1.1 200 ")
            assert not left.is_set()
        assert left.wait(30)
