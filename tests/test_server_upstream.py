"""What a node asks its upstream, and what it makes of the answers: good ones, odd ones and broken ones."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

import atoma_crypto as ac
from atoma_crypto.server.model import Answer, InferenceError
from atoma_crypto.server.node import create_app
from atoma_crypto.server.upstream import HttpUpstream
from serving import CHAT, Client, connected, error_of, head, opened, request_body, serving

CANARY = "xylophone-canary-7731"
USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
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
def node(url: str) -> Iterator[Client]:
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
            return await model.complete(body)
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
            async for batch in model.stream(body):
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
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body + (b"0\r\n\r\n" if end else b"")


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

    with upstream(answer) as url, node(url) as client:
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

    with upstream(answer) as url, node(url) as client:
        session, response = client.ask(json.dumps(body).encode())
        chunks = opened(session, response.content)
    assert [chunk.plaintext for chunk in chunks] == CHUNKS
    assert [chunk.usage for chunk in chunks] == [None, None, USAGE]
    assert asked == [body | {"stream_options": {"include_usage": True}}]


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


def test_every_model_may_be_asked_for() -> None:
    async def answer(_request: Request) -> Response:
        return JSONResponse({"error": {"message": "no such model"}}, 404)

    with upstream(answer) as url, node(url) as client:
        assert client.lock(model="whatever").status_code == 200
        assert error_of(client.ask(request_body(model="whatever"))[1])[0] == 500


# Streams that arrive in odd pieces


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"], ids=["lf", "crlf", "cr"])
def test_a_stream_split_anywhere_is_the_same_stream(newline: bytes) -> None:
    body = STREAM.replace(b"\n", newline)
    parts = [chunked(body[:cut], body[cut:]) for cut in range(1, len(body))]
    # in two chunks of HTTP, which is two reads
    with raw_upstream(*parts) as url:
        outcomes = streams(url, len(parts))
    for answers, error in outcomes:
        assert [answer.plaintext for answer in answers] == CHUNKS
        assert error is None


def test_a_stream_byte_by_byte_through_the_node() -> None:
    with upstream(streaming([STREAM[i : i + 1] for i in range(len(STREAM))])) as url, node(url) as client:
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
        node(url) as client,
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

    with upstream(answer) as url, node(url) as client:
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

    with upstream(answer) as url, node(url) as client:
        with client.session() as session, connected(client.url) as connection:
            sealed = session.seal_request(request_body(stream=streamed), stream=streamed)
            connection.sendall(head(CHAT, f"Content-Length: {len(sealed)}") + sealed)
            assert asked.wait(30)
            if begun and streamed:
                assert connection.recv(17).startswith(b"HTTP/1.1 200 ")
            assert not left.is_set()
        assert left.wait(30)


# Upstreams that fail


def test_an_upstream_that_is_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with node(url) as client:
        assert error_of(client.ask(request_body())[1])[:2] == (500, "INTERNAL_ERROR")
        client.lock()
        assert error_of(client.ask(request_body(stream=True))[1])[:2] == (500, "INTERNAL_ERROR")


@pytest.mark.parametrize("status", [201, 204, 400, 401, 404, 429, 500, 503])
def test_an_upstream_that_refuses(status: int) -> None:
    async def answer(_request: Request) -> Response:
        return Response(STREAM if status != 204 else b"", status)

    with upstream(answer) as url:
        answers, error = stream(url)
        assert answers == []
        assert error is not None
        assert error.status == status
        with pytest.raises(InferenceError) as refused:
            complete(url)
        assert refused.value.status == status
        assert refused.value.__cause__ is None


def test_a_redirect_is_not_followed() -> None:
    async def answer(request: Request) -> Response:
        return RedirectResponse(str(request.url.replace(path="/elsewhere")))

    with upstream(answer) as url:
        with pytest.raises(InferenceError) as refused:
            complete(url)
        assert refused.value.status == 307


@pytest.mark.parametrize("streamed", [True, False], ids=["stream", "whole"])
def test_an_upstream_that_is_overloaded_is_an_internal_error(streamed: bool) -> None:
    async def answer(_request: Request) -> Response:
        return JSONResponse({"error": {"message": "slow down"}}, 429)

    with upstream(answer) as url, node(url) as client:
        expected = (500, "INTERNAL_ERROR", "Internal server error occurred")
        assert error_of(client.ask(request_body(stream=streamed))[1]) == expected


GARBAGE = {
    "empty": b"",
    "text": b"oops",
    "html": b"<html></html>",
    "array": b"[]",
    "string": b'"x"',
    "null": b"null",
    "cut": b'{"a":1',
    "two": b'{"a":1}{"a":2}',
    "nan": b'{"a":NaN}',
    "not utf-8": b'{"a":"\xff"}',
    "utf-16": '{"a":1}'.encode("utf-16"),
    "deep": b'{"a":' * 100_000,
    "error": b'{"error":{"message":"' + CANARY.encode() + b'"}}',
    "usage a number": b'{"usage":1}',
    "usage a list": b'{"usage":[1]}',
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE.keys())
def test_a_whole_answer_that_is_garbage(garbage: bytes) -> None:
    with raw_upstream(http(garbage)) as url, pytest.raises(InferenceError) as failed:
        complete(url)
    assert failed.value.status == 502


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE.keys())
def test_an_event_that_is_garbage_ends_a_stream_after_what_is_good(garbage: bytes) -> None:
    body = b"data: " + CHUNKS[0] + b"\n\ndata: " + garbage + b"\n\n" + DONE
    with raw_upstream(http(body)) as url:
        answers, error = stream(url)
    assert [answer.plaintext for answer in answers] == CHUNKS[:1]
    assert error is not None
    assert error.status == 502


def test_a_number_that_python_cannot_write_as_json_is_refused() -> None:
    answers, error = stream("http://127.0.0.1:9", b'{"a":1e999}')
    assert answers == []
    assert error is not None
    assert error.status == 400


@pytest.mark.parametrize("reset", [False, True], ids=["hangs up", "resets"])
@pytest.mark.parametrize("framing", ["chunked", "length", "connection"])
def test_an_upstream_that_dies_at_any_byte_never_ends_a_stream_cleanly(framing: str, reset: bool) -> None:
    whole = {
        "chunked": chunked(*(STREAM[i : i + 45] for i in range(0, len(STREAM) - 20, 45)), STREAM[-20:]),
        "length": http(STREAM),
        "connection": b"HTTP/1.1 200 OK\r\n\r\n" + STREAM,
    }[framing]
    complete_at = whole.index(b"[DONE]") + len(b"[DONE]")
    cuts = [*range(0, complete_at, 7), *range(complete_at - 9, complete_at + 1)]
    with raw_upstream(*(whole[:cut] for cut in cuts), reset=reset) as url:
        outcomes = streams(url, len(cuts))
    for answers, error in outcomes:
        assert error is not None
        assert error.status == 502
        assert [answer.plaintext for answer in answers] == CHUNKS[: len(answers)]


def test_an_upstream_that_dies_in_a_whole_answer() -> None:
    whole = http(json.dumps(COMPLETION).encode())
    until_closed = b"HTTP/1.1 200 OK\r\n\r\n" + json.dumps(COMPLETION).encode()
    cuts = [answer[:cut] for answer in (whole, until_closed) for cut in range(0, len(answer), 11)]
    with raw_upstream(*cuts) as url:
        outcomes = completes(url, len(cuts))
    assert all(isinstance(outcome, InferenceError) for outcome in outcomes)


@pytest.mark.parametrize("cut", [STREAM.index(b"\n\n") + 2, STREAM.index(DONE), STREAM.index(DONE) + 8])
def test_an_upstream_that_dies_in_mid_stream_aborts_the_body_of_the_node(cut: int) -> None:
    received = b""
    with (
        raw_upstream(chunked(STREAM[:cut])) as url,
        node(url) as client,
        client.asking(request_body(stream=True)) as (session, response),
    ):
        assert response.status_code == 200
        with pytest.raises(httpx.RemoteProtocolError):  # noqa: PT012 - what comes before it counts too
            for part in response.iter_raw():
                received += part
        plaintexts = [chunk.plaintext for chunk in opened(session, received)]
    assert plaintexts == CHUNKS[: len(plaintexts)]
    assert len(plaintexts) == STREAM[:cut].count(b"\n\n")


@pytest.mark.parametrize("answer", [b"", chunked(), chunked(DONE), chunked(b": hello\n\n"), b"SSH-2.0-x\r\n"])
def test_an_upstream_that_says_nothing_is_an_internal_error(answer: bytes) -> None:
    with raw_upstream(answer) as url, node(url) as client:
        assert error_of(client.ask(request_body(stream=True))[1])[:2] == (500, "INTERNAL_ERROR")


def test_an_event_without_end_is_not_collected() -> None:
    async def answer(_request: Request) -> Response:
        async def body() -> AsyncIterator[bytes]:
            yield b"data: " + CHUNKS[0] + b"\n\ndata: "
            while True:
                yield b"x" * 65536
                await asyncio.sleep(0)  # lets the server notice that nobody reads any more

        return StreamingResponse(body())

    with upstream(answer) as url:
        answers, error = stream(url)
    assert [answer.plaintext for answer in answers] == CHUNKS[:1]
    assert error is not None


def test_a_whole_answer_without_end_is_not_collected(monkeypatch: pytest.MonkeyPatch) -> None:
    small = ac.Limits(max_response_bytes=1000)
    monkeypatch.setattr("atoma_crypto.server.upstream.Limits", lambda: small)
    padded = b'{"a":1}' + b" " * 993
    with raw_upstream(http(padded), http(padded + b" ")) as url:
        assert complete(url).plaintext == padded
        with pytest.raises(InferenceError):
            complete(url)


def test_what_an_upstream_says_is_not_logged(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    said = json.dumps({"choices": [CANARY]}).encode()
    bodies = [
        chunked(b"data: " + said + b"\n\n" + DONE),
        chunked(b"data: " + said + b"\n\ndata: " + CANARY.encode() + b"\n\n"),
        chunked(b"data: " + said + b"\n\n", end=False),
        http(CANARY.encode(), status="429 Too Many"),
    ]
    with raw_upstream(*bodies) as url, node(url) as client:
        for _ in bodies:
            client.lock()
            with contextlib.suppress(httpx.RemoteProtocolError):
                client.ask(request_body(stream=True, note=CANARY))
    printed = capfd.readouterr()
    logged = caplog.text + "".join(str(vars(record)) for record in caplog.records) + printed.out + printed.err
    assert "inference failed: status 502" in logged
    assert "inference failed: status 429" in logged
    assert "canary" not in logged
