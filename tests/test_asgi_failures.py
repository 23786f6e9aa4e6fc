"""Applications that fail, and clients that leave, at every stage; and what is said about it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import Message, Receive, Scope, Send

from asgi_apps import DONE, ask, confidential, events, fastapi_app, whole
from atoma_crypto.adapters import _inprocess
from atoma_crypto.adapters._routes import ENDPOINTS
from serving import (
    CANARY,
    CHAT,
    INTERNAL_ERROR,
    Client,
    chunk,
    connected,
    error_of,
    head,
    opened,
    opened_until_cut,
    request_body,
)

START: Message = {"type": "http.response.start", "status": 200, "headers": []}
STREAMED = pytest.mark.parametrize("streamed", [True, False], ids=["stream", "whole"])
EVENT = b'data: {"n":1}\n\n'


def part(body: bytes, more: bool = True) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": more}


Step = Message | BaseException | Callable[[], Awaitable[object]]


@dataclass
class Scripted:
    """A bare application: it reads the request, then sends, raises or awaits what its steps are."""

    steps: list[Step]
    told: list[str] = field(default_factory=list)
    asked: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        assert (await receive())["type"] == "http.request"
        self.asked.set()
        try:
            if self.steps[-1:] == [forever]:
                await asyncio.gather(self._listen(receive), self._run(send))
            else:
                await self._run(send)
        except BaseException as error:
            self.told.append(type(error).__name__)
            raise
        finally:
            self.ended.set()

    async def _listen(self, receive: Receive) -> None:
        self.told.append((await receive())["type"])
        raise OSError("so the other is to stop")

    async def _run(self, send: Send) -> None:
        for step in self.steps:
            if isinstance(step, BaseException):
                raise step
            await (step() if callable(step) else send(step))


async def forever() -> None:
    await asyncio.sleep(3600)


def received_by(client: Client, *, expected: type[Exception] | None = httpx.RemoteProtocolError) -> list[bytes]:
    """The plaintexts of a stream that has no clean end."""
    received = b""
    with client.asking(request_body(stream=True)) as (session, response):
        assert response.status_code == 200
        with pytest.raises(expected) if expected else contextlib.nullcontext():
            for piece in response.iter_raw():
                received += piece
        return [event.plaintext for event in opened_until_cut(session, received)]


# The application fails


BEFORE: dict[str, list[Step]] = {
    "raises at once": [ValueError(CANARY)],
    "raises after the head": [START, ValueError(CANARY)],
    "is cancelled": [START, asyncio.CancelledError(CANARY)],
    "returns at once": [],
    "returns after the head": [START],
    "ends with nothing": [START, part(b"", more=False)],
    "garbage": [START, part(CANARY.encode(), more=False)],
    "an event of garbage": [START, part(b"data: " + CANARY.encode() + b"\n\n", more=False)],
    "an error": [START, part(b'data: {"error":{"message":"' + CANARY.encode() + b'"}}\n\n' + DONE, more=False)],
    "half an event": [START, part(b'data: {"n"', more=False)],
    "body without a head": [part(EVENT)],
    "no message": [START, {"type": "http.response.nonsense"}],
    "compressed": [{**START, "headers": [(b"Content-Encoding", b"gzip")]}, part(EVENT + DONE, more=False)],
    "an informal status": [{**START, "status": 201}, part(EVENT + DONE, more=False)],
}


@STREAMED
@pytest.mark.parametrize("steps", BEFORE.values(), ids=BEFORE.keys())
def test_before_the_first_event_it_is_a_plain_500(steps: list[Step], streamed: bool) -> None:
    with confidential(Scripted(steps)) as client:
        assert error_of(client.ask(request_body(stream=streamed))[1]) == INTERNAL_ERROR
        assert client.lock().status_code == 200


AFTER: dict[str, list[Step]] = {
    "raises": [ValueError(CANARY)],
    "returns": [],
    "ends without done": [part(b"", more=False)],
    "ends inside an event": [part(b'data: {"n"', more=False)],
    "garbage": [part(b"data: oops\n\n"), forever],
    "an error": [part(b'data: {"error":{"message":"x"}}\n\n'), forever],
    "two heads": [START],
    "an event that is too long": [part(b"data: " + b"x" * (3 << 20)), forever],
}


@pytest.mark.parametrize("steps", AFTER.values(), ids=AFTER.keys())
def test_after_the_first_event_the_body_has_no_clean_end(steps: list[Step], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_inprocess, "_GRACE_SECONDS", 0.2)

    async def pause() -> None:
        await asyncio.sleep(0.02)

    app = Scripted([START, part(EVENT), pause, *steps])
    with confidential(app) as client:
        assert received_by(client) == [b'{"n":1}']
        assert app.ended.wait(30)
        assert client.lock().status_code == 200


@STREAMED
@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 413, 422, 429, 500, 503, 504, 529])
def test_its_status_reaches_the_client_and_its_words_do_not(status: int, streamed: bool) -> None:
    app = fastapi_app(whole({"error": {"message": CANARY}}, status, **{"Retry-After": "17", "X-Canary": CANARY}))
    with confidential(app) as client:
        response = client.ask(request_body(stream=streamed))[1]
    shown, _, message = error_of(response)
    assert shown == status
    assert CANARY not in message + str(response.headers)
    assert response.headers.get("retry-after") == (None if status == 500 else "17")


def test_a_redirect_is_not_followed() -> None:
    async def answer(_request: Request) -> Response:
        return RedirectResponse("/v1/models")

    with confidential(fastapi_app(answer)) as client:
        assert error_of(client.ask(request_body())[1]) == INTERNAL_ERROR


def test_a_route_that_the_application_lacks_is_a_404() -> None:
    with confidential(Scripted([{**START, "status": 404}, part(b"Not Found", more=False)])) as client:
        assert error_of(ask(client, ENDPOINTS[2], b'{"model":"m"}')[1])[:2] == (404, "NOT_FOUND")


@pytest.mark.parametrize("steps", [[forever], [START, forever]], ids=["before the head", "behind it"])
@STREAMED
def test_an_application_that_hangs_is_given_up(
    steps: list[Step], streamed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_inprocess, "_GRACE_SECONDS", 0.2)
    app = Scripted(steps)
    with confidential(app, timeout=0.2) as client:
        assert error_of(client.ask(request_body(stream=streamed))[1]) == INTERNAL_ERROR
        assert app.ended.wait(30)
    assert app.told[0] == "http.disconnect"


def test_an_application_that_hangs_in_mid_stream_is_cut() -> None:
    app = Scripted([START, part(EVENT), forever])
    with confidential(app, timeout=0.2) as client:
        assert received_by(client) == [b'{"n":1}']
    assert app.told[0] == "http.disconnect"


def test_an_application_that_goes_on_behind_done_is_let_and_then_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_inprocess, "_GRACE_SECONDS", 0.2)
    ended = threading.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        await receive()
        await send(START)
        await send(part(EVENT + DONE))
        try:
            while True:  # with no other await than that of `send`
                await send(part(b"data: {}\n\n"))
        finally:
            ended.set()

    with confidential(app) as client:
        session, response = client.ask(request_body(stream=True))
        assert [event.plaintext for event in opened(session, response.content)] == [b'{"n":1}']
        assert ended.wait(30)


def test_an_answer_over_the_limit_is_not_collected() -> None:
    import atoma_crypto as ac

    exact = b'{"a":1}' + b" " * 993
    limits = ac.Limits(max_response_bytes=1000)
    with confidential(Scripted([START, part(exact, more=False)]), limits=limits) as client:
        session, response = client.ask(request_body())
        assert session.open_response(response.content) == exact
    app = Scripted([START, part(exact), part(b" "), forever])
    with confidential(app, limits=limits) as client:
        assert error_of(client.ask(request_body())[1]) == INTERNAL_ERROR


# The client leaves


STAGES: dict[str, tuple[list[Step], bool]] = {
    "stream, before the head": ([forever], True),
    "stream, behind the head": ([START, forever], True),
    "stream, behind an event": ([START, part(EVENT), forever], True),
    "stream, inside an event": ([START, part(EVENT), part(b'data: {"n"'), forever], True),
    "whole, before the head": ([forever], False),
    "whole, behind the head": ([START, forever], False),
    "whole, inside the body": ([START, part(b'{"n"'), forever], False),
}


@pytest.mark.parametrize(("steps", "streamed"), STAGES.values(), ids=STAGES.keys())
def test_a_client_that_leaves_is_told_to_the_application(steps: list[Step], streamed: bool) -> None:
    app = Scripted(steps)
    with confidential(app) as client:
        with client.session() as session, connected(client.url) as connection:
            sealed = session.seal_request(request_body(stream=streamed), stream=streamed)
            connection.sendall(head(CHAT, f"Content-Length: {len(sealed)}") + sealed)
            assert app.asked.wait(30)
            if streamed and len(steps) > 2:
                assert connection.recv(17).startswith(b"HTTP/1.1 200 ")
            assert app.told == []
        assert app.ended.wait(30)
    assert app.told == ["http.disconnect", "OSError"]


def test_what_is_sent_to_a_client_that_has_left_is_refused() -> None:
    raised: list[BaseException] = []
    ended = threading.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        await receive()
        await send(START)
        try:
            while True:  # it does not listen, and is far ahead of a client that does not read
                await send(part(b"data: " + chunk("x" * 50_000) + b"\n\n"))
        except OSError as error:
            raised.append(error)
        finally:
            ended.set()

    with confidential(app) as client:
        with client.session() as session, connected(client.url) as connection:
            sealed = session.seal_request(request_body(stream=True), stream=True)
            connection.sendall(head(CHAT, f"Content-Length: {len(sealed)}") + sealed)
            assert connection.recv(17).startswith(b"HTTP/1.1 200 ")
            assert not ended.wait(0.2)
        assert ended.wait(30)
    assert str(raised[0]) == "the client has left"


def test_an_application_that_does_not_listen_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_inprocess, "_GRACE_SECONDS", 0.2)
    asked, ended = threading.Event(), threading.Event()

    async def answer(_request: Request) -> Response:
        asked.set()
        try:
            await asyncio.sleep(3600)
        finally:
            ended.set()
        return JSONResponse({})

    with confidential(fastapi_app(answer)) as client:
        with client.session() as session, connected(client.url) as connection:
            sealed = session.seal_request(request_body(), stream=False)
            connection.sendall(head(CHAT, f"Content-Length: {len(sealed)}") + sealed)
            assert asked.wait(30)
        assert ended.wait(30)


# What is logged


def test_neither_what_is_asked_nor_what_is_answered_is_logged(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    text = f'{{"choices":["{CANARY}"]}}'.encode()
    apps: list[Any] = [
        fastapi_app(whole(json.loads(text))),
        fastapi_app(events([text])),
        fastapi_app(whole({"error": CANARY}, 400)),
        *map(Scripted, BEFORE.values()),
        *(Scripted([START, part(b"data: " + text + b"\n\n"), *steps]) for steps in list(AFTER.values())[:4]),
    ]
    for app in apps:
        with confidential(app) as client:
            for streamed in (True, False):
                client.lock()
                with contextlib.suppress(httpx.RemoteProtocolError):
                    client.ask(request_body(stream=streamed, model=CANARY))
            client.http.post(CHAT, content=CANARY)
            client.http.post("/v1/chat/completions", content=CANARY)
    printed = capfd.readouterr()
    logged = caplog.text + "".join(str(vars(record)) for record in caplog.records) + printed.out + printed.err
    assert "the application raised ValueError" in logged
    assert "inference failed: status 502" in logged
    assert "canary" not in logged
