"""The middleware before a FastAPI application under uvicorn, asked by clients of three makes over loopback."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import JSONResponse, Response
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import Mount
from starlette.types import Message, Receive, Scope, Send

import atoma_crypto as ac
from asgi_apps import ask, confidential, events, fastapi_app, whole
from atoma_crypto.adapters._routes import BY_PLAINTEXT, ENDPOINTS, Endpoint
from atoma_crypto.adapters.asgi import ConfidentialMiddleware
from oracle import OracleClient, body_hash, verify_sui_signature
from serving import LOCK, USAGE, Client, chunk, error_of, opened, opened_until_cut, request_body, serving
from test_interop_sdk import METHODS, SCRIPTS, Script, Sdk, as_the_sdk_reads, printed, sdk

__all__ = ["sdk"]  # a fixture
CHAT = BY_PLAINTEXT["/v1/chat/completions"]
SECRET = bytes(range(7, 39))
EVERY = pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.plaintext)


@EVERY
def test_a_whole_answer_of_each_endpoint(endpoint: Endpoint) -> None:
    seen: list[Any] = []

    async def answer(request: Request) -> Response:
        seen.append((request.scope, await request.body()))
        return JSONResponse({"data": ["é"], "usage": USAGE})

    body = b'{"model":"m",  "input":1.50}'
    with confidential(fastapi_app(answer)) as client:
        client.http.headers["Cookie"] = "a=b"
        client.http.headers["X-Request-Id"] = "7"
        session, response = ask(client, endpoint, body)
        assert json.loads(session.open_response(response.content)) == {"data": ["é"], "usage": USAGE}
    assert response.headers["content-type"] == "application/json"
    assert response.json().get("usage") == (None if "images" in endpoint.plaintext else USAGE)
    [(scope, received)] = seen
    assert received == body
    assert (scope["method"], scope["path"], scope["raw_path"]) == (
        "POST",
        endpoint.plaintext,
        endpoint.plaintext.encode(),
    )
    assert scope["query_string"] == b""
    assert scope["client"][0] == scope["server"][0] == "127.0.0.1"
    headers = dict(scope["headers"])
    assert headers.pop(b"host").startswith(b"127.0.0.1:")
    assert headers.pop(b"user-agent").startswith(b"python-httpx")
    assert headers == {
        b"authorization": b"Bearer any",
        b"x-request-id": b"7",
        b"content-type": b"application/json",
        b"content-length": b"%d" % len(body),
        b"accept": b"application/json",
    }


@pytest.mark.parametrize("pause", [None, 0.001], ids=["at once", "one by one"])
@pytest.mark.parametrize("endpoint", [e for e in ENDPOINTS if e.streams], ids=lambda endpoint: endpoint.plaintext)
def test_a_stream(endpoint: Endpoint, pause: float | None) -> None:
    plaintexts = [chunk(str(number)) for number in range(50)]
    with confidential(fastapi_app(events(plaintexts, pause=pause))) as client:
        session, response = ask(client, endpoint, request_body(stream=True))
    assert response.headers["content-type"] == "text/event-stream"
    assert [event.plaintext for event in opened(session, response.content)] == plaintexts


@pytest.mark.parametrize("endpoint", [e for e in ENDPOINTS if not e.streams], ids=lambda endpoint: endpoint.plaintext)
def test_a_stream_of_an_endpoint_that_does_not_is_refused(endpoint: Endpoint) -> None:
    with confidential(fastapi_app(events([b"{}"]))) as client:
        assert error_of(ask(client, endpoint, request_body(stream=True))[1])[:2] == (400, "INVALID_BODY")


def test_an_event_is_sent_when_it_is_there() -> None:
    go_on = asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        loops.append(asyncio.get_running_loop())
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for text in (b'data: {"n":1}\n\ndata: {"n"', b":2}\n\ndata: [DONE]\n\n"):
            await send({"type": "http.response.body", "body": text, "more_body": True})
            await go_on.wait()
        await send({"type": "http.response.body"})

    with confidential(app) as client, client.asking(request_body(stream=True)) as (session, response):
        parts = response.iter_raw()
        while (event := session.next_event()) is ac.NEED_DATA:
            session.receive_data(next(parts))
        assert isinstance(event, ac.Chunk)
        assert event.plaintext == b'{"n":1}'
        loops[0].call_soon_threadsafe(go_on.set)
        assert [event.plaintext for event in opened(session, b"".join(parts))] == [b'{"n":2}']


def test_the_application_may_go_on_behind_its_answer_and_behind_done() -> None:
    done: list[str] = []

    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        body = json.loads((await receive())["body"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        if body.get("stream"):
            await send({"type": "http.response.body", "body": b"data: {}\n\ndata: [DONE]\n\n", "more_body": True})
            await asyncio.sleep(0.05)
            await send({"type": "http.response.body", "body": b"data: {}\n\n", "more_body": True})
            await send({"type": "http.response.body"})
        else:
            await send({"type": "http.response.body", "body": b"{}"})
        done.append((await receive())["type"])
        await asyncio.sleep(0.05)
        done.append("all")

    with confidential(app) as client:
        session, response = client.ask(request_body())
        assert session.open_response(response.content) == b"{}"
        client.lock()
        session, response = client.ask(request_body(stream=True))
        assert [event.plaintext for event in opened(session, response.content)] == [b"{}"]
    assert sorted(done) == ["all", "all", "http.disconnect", "http.disconnect"]


@pytest.mark.parametrize("pad_to", [None, "auto"])
@pytest.mark.parametrize("method", METHODS)
def test_the_real_sdk_reads_what_the_application_said(sdk: Sdk, method: str, pad_to: Any) -> None:
    script: Script = SCRIPTS["unicode"]

    async def answer(request: Request) -> Response:
        if (await request.json())["stream"]:
            return await events([printed(part) for part in script.chunks()])(request)
        return Response(printed(script.reply()), media_type="application/json")

    with confidential(fastapi_app(answer), pad_to=pad_to) as client:
        read = sdk(client.url, method, {"model": "m", "messages": [{"role": "user", "content": "🌍"}]})
    if "stream" in method:
        assert read == [as_the_sdk_reads(part) for part in script.chunks() if part["choices"]]
    else:
        assert read == as_the_sdk_reads(script.reply())


def test_a_client_made_of_other_parts_reads_it_and_its_signature() -> None:
    signing_key = ac.SigningKey.generate()
    with confidential(fastapi_app(events([b'{"n":1}', b'{"n":2}'])), signing_key=signing_key) as client:
        oracle = OracleClient.lock(client.url)
        status, raw = oracle.chat(client.url, b'{"model":"m","stream":true}', stream=True)
    read = oracle.open_events(raw)
    assert (status, [event.plaintext for event in read]) == (200, [b'{"n":1}', b'{"n":2}'])
    for event in read:
        assert (
            verify_sui_signature(str(event.members["signature"]), body_hash(event.plaintext)) == signing_key.public_key
        )


# What goes to the application untouched


def test_lifespan_other_routes_and_websockets_are_the_application_s() -> None:
    began: list[str] = []

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[dict[str, str]]:
        began.append("begun")
        yield {"kept": "state"}
        began.append("ended")

    app = FastAPI(lifespan=lifespan)

    @app.post(CHAT.plaintext)
    def chat(request: Request) -> dict[str, object]:
        return {"kept": request.state.kept, "same": request.app is app}

    @app.put("/echo/{rest:path}")
    async def echo(request: Request) -> dict[str, str]:
        body = (await request.body()).decode()
        return {"url": str(request.url.path), "query": str(request.query_params), "body": body}

    @app.websocket("/v1/ws")
    async def socket(connection: WebSocket) -> None:
        await connection.accept()

    app.add_middleware(ConfidentialMiddleware)
    with serving(app) as url, Client(url) as client:
        client.lock()
        session, response = client.ask(request_body())
        assert json.loads(session.open_response(response.content)) == {"kept": "state", "same": True}
        assert client.http.put("/echo/a//b/?x=1", content="body").json() == {
            "url": "/echo/a//b/",
            "query": "x=1",
            "body": "body",
        }
        assert client.http.get("/openapi.json").json()["info"]["title"] == "FastAPI"
        assert client.http.get("/nowhere").json() == {"detail": "Not Found"}
    assert began == ["begun", "ended"]


def test_a_websocket_goes_through() -> None:
    scopes: list[Scope] = []

    async def app(scope: Scope, _receive: Receive, _send: Send) -> None:
        scopes.append(scope)

    async def never() -> Any:
        raise AssertionError

    scope = {"type": "websocket", "path": "/v1/ws"}
    asyncio.run(ConfidentialMiddleware(app)(scope, never, never))  # type: ignore[arg-type] # it is not called
    assert scopes == [scope]


@pytest.mark.parametrize("path", ["/v1/realtime", "/v1//Realtime/", CHAT.plaintext, "/agents/7"])
def test_a_websocket_that_takes_prompts_is_refused(path: str) -> None:
    sent: list[Message] = []

    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise AssertionError

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(ConfidentialMiddleware(app, refuse=["/agents"])({"type": "websocket", "path": path}, receive, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]


@pytest.mark.parametrize("path", ["/agents/{id}", "agents", "/a*"])
def test_what_would_refuse_nothing_is_said_at_once(path: str) -> None:
    with pytest.raises(ValueError, match="no templates"):
        ConfidentialMiddleware(fastapi_app(whole({})), refuse=[path])


def test_a_cut_shows_behind_a_middleware_that_ends_bodies_by_itself() -> None:
    """Starlette's BaseHTTPMiddleware does, whatever becomes of what it wraps."""
    app = fastapi_app(events([b'{"n":1}', b"{"]))  # the second is no JSON
    app.add_middleware(ConfidentialMiddleware)

    @app.middleware("http")
    async def outermost(request: Request, call_next: Any) -> Any:
        return await call_next(request)

    with serving(app) as url, Client(url) as client:
        client.lock()
        with client.asking(request_body(stream=True)) as (session, response):
            received = b""
            with suppress(httpx.RemoteProtocolError):
                for piece in response.iter_raw():
                    received += piece
            assert [chunk.plaintext for chunk in opened_until_cut(session, received)] == [b'{"n":1}']


def test_below_a_mount_and_below_a_root_path() -> None:
    paths: list[tuple[str, str]] = []

    async def answer(request: Request) -> Response:
        paths.append((request.scope["path"], request.scope["root_path"]))
        return JSONResponse({})

    inner = fastapi_app(answer)
    inner.add_middleware(ConfidentialMiddleware)
    outer = FastAPI(routes=[Mount("/llm é", inner)])
    with serving(outer) as url, Client(url + "/llm%20%C3%A9") as client:
        client.lock()
        session, response = client.ask(request_body())
        assert session.open_response(response.content) == b"{}"
        assert error_of(client.http.post(CHAT.plaintext, json={}))[0] == 403
        assert client.http.get("/v1/models").status_code == 200
    assert paths == [("/llm é" + CHAT.plaintext, "/llm é")]


def test_an_application_that_compresses_is_not_asked_to() -> None:
    app = fastapi_app(whole({"data": "x" * 5000}))
    app.add_middleware(GZipMiddleware)
    with confidential(app) as client:
        session, response = client.ask(request_body())
        assert json.loads(session.open_response(response.content)) == {"data": "x" * 5000}


# What it is told


def test_without_arguments_it_makes_a_key_and_says_which_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "atoma_crypto.adapters.asgi")
    app = fastapi_app(whole({}))
    app.add_middleware(ConfidentialMiddleware)
    with serving(app) as url, Client(url, token="whatever") as client:  # noqa: S106 - the test's
        client.lock()
        assert client.ask(request_body())[1].status_code == 200
        client.lock()
    told = [record.getMessage() for record in caplog.records if record.name == "atoma_crypto.adapters.asgi"]
    assert len(told) == 1
    assert ac.PublicKey.from_base64(client.told["public_key"]).fingerprint() in told[0]


@pytest.mark.parametrize("form", [bytes, bytes.hex, base64.b64encode], ids=["raw", "hex", "base64"])
def test_the_environment_is_read(form: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = form(SECRET)
    path = tmp_path / "key"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(0o600)
    monkeypatch.setenv("ATOMA_CRYPTO_KEY_FILE", str(path))
    monkeypatch.setenv("ATOMA_CRYPTO_TOKEN", "sesame")
    monkeypatch.setenv("ATOMA_CRYPTO_ALLOW_PLAINTEXT", "1")
    with serving(ConfidentialMiddleware(fastapi_app(whole({})))) as url, Client(url) as client:
        assert error_of(client.lock())[0] == 401
        client.http.headers["Authorization"] = "Bearer sesame"
        client.lock()
        with ac.SecretKey.from_bytes(SECRET) as key:
            assert client.told["public_key"] == key.public_key.to_base64()
        assert client.ask(request_body())[1].status_code == 200
        assert client.http.post(CHAT.plaintext, content=b"{}").json() == {}


def test_what_cannot_be_used_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = fastapi_app(whole({}))
    path = tmp_path / "key"
    path.write_bytes(SECRET[:31])
    path.chmod(0o600)
    monkeypatch.setenv("ATOMA_CRYPTO_KEY_FILE", str(path))
    with pytest.raises(ValueError, match="holds no X25519 secret key: 32 bytes") as refused:
        ConfidentialMiddleware(app)
    assert SECRET[:31].hex() not in str(refused.value)
    monkeypatch.setenv("ATOMA_CRYPTO_KEY_FILE", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError):
        ConfidentialMiddleware(app)
    monkeypatch.delenv("ATOMA_CRYPTO_KEY_FILE")
    monkeypatch.setenv("ATOMA_CRYPTO_ALLOW_PLAINTEXT", "maybe")
    with pytest.raises(ValueError, match="is 1 or 0"):
        ConfidentialMiddleware(app)
    monkeypatch.setenv("ATOMA_CRYPTO_ALLOW_PLAINTEXT", "no")
    monkeypatch.setenv("ATOMA_CRYPTO_TOKEN", "")
    with pytest.raises(ValueError, match="the token is empty"):
        ConfidentialMiddleware(app)
    with pytest.raises(TypeError, match="a sequence of paths"):
        ConfidentialMiddleware(app, token="t", refuse="/generate")  # noqa: S106 - the test's


def test_a_lock_is_taken_once_and_by_post_alone() -> None:
    with confidential(fastapi_app(whole({}))) as client:
        assert client.http.get(LOCK).status_code == client.http.get(CHAT.confidential).status_code == 405
        assert client.ask(request_body())[1].status_code == 200
        assert error_of(client.ask(request_body())[1])[:2] == (425, "UNAVAILABLE_STACK")


def test_it_needs_neither_a_server_nor_an_http_client() -> None:
    absent = "".join(
        f"sys.modules[{name!r}] = None;" for name in ("uvicorn", "httpx", "httpx2", "prometheus_client", "h11")
    )
    script = f"import sys;{absent}from atoma_crypto.adapters.asgi import ConfidentialMiddleware as C;C(None)"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
