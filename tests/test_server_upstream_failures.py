"""Upstreams that fail, at any byte and in any way, never look like one that has answered."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse

import atoma_crypto as ac
from atoma_crypto.server.model import InferenceError
from serving import CANARY, error_of, opened_until_cut, request_body
from upstreams import (
    CHUNKS,
    COMPLETION,
    DONE,
    STREAM,
    chunked,
    complete,
    completes,
    http,
    raw_upstream,
    stream,
    streams,
    upstream,
    upstream_node,
)

# Upstreams that fail


def test_an_upstream_that_is_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with upstream_node(url) as client:
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
def test_an_upstream_that_is_overloaded_says_so_through_the_node(streamed: bool) -> None:
    async def answer(_request: Request) -> Response:
        return JSONResponse({"error": {"message": CANARY}}, 429, {"Retry-After": "17", "X-Quoted": CANARY})

    with upstream(answer) as url, upstream_node(url) as client:
        response = client.ask(request_body(stream=streamed))[1]
    assert error_of(response) == (429, "TOO_MANY_REQUESTS", "The model did not answer this request")
    assert response.headers["retry-after"] == "17"
    assert CANARY not in str(response.headers)


GARBAGE = {
    "empty": b"",
    "text": b"oops",
    "html": b"<html></html>",
    "array": b"[]",
    "string": b'"x"',
    "null": b"null",
    "cut": b'{"a":1',
    "two": b'{"a":1}{"a":2}',
    "member twice": b'{"usage":null,"usage":{}}',
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
    answers, error = stream("http://127.0.0.1:9", b'{"a":1e999,"stream_options":{}}')  # is written anew
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
        upstream_node(url) as client,
        client.asking(request_body(stream=True)) as (session, response),
    ):
        assert response.status_code == 200
        with pytest.raises(httpx.RemoteProtocolError):  # noqa: PT012 - what comes before it counts too
            for part in response.iter_raw():
                received += part
        plaintexts = [chunk.plaintext for chunk in opened_until_cut(session, received)]
    assert plaintexts == CHUNKS[: len(plaintexts)]
    assert len(plaintexts) == STREAM[:cut].count(b"\n\n")


@pytest.mark.parametrize("answer", [b"", chunked(), chunked(DONE), chunked(b": hello\n\n"), b"SSH-2.0-x\r\n"])
def test_an_upstream_that_says_nothing_is_an_internal_error(answer: bytes) -> None:
    with raw_upstream(answer) as url, upstream_node(url) as client:
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
    with raw_upstream(*bodies) as url, upstream_node(url) as client:
        for _ in bodies:
            client.lock()
            with contextlib.suppress(httpx.RemoteProtocolError):
                client.ask(request_body(stream=True, note=CANARY))
    printed = capfd.readouterr()
    logged = caplog.text + "".join(str(vars(record)) for record in caplog.records) + printed.out + printed.err
    assert "inference failed: status 502" in logged
    assert "inference failed: status 429" in logged
    assert "canary" not in logged
