"""A server that is told to stop lets streams come to their end, and cuts those that do not in time."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator

import anyio
import httpx
import pytest
import uvicorn
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import ASGIApp

import atoma_crypto as ac
from asgi_apps import DONE, fastapi_app
from atoma_crypto.adapters.asgi import ConfidentialMiddleware
from atoma_crypto.server.listener import listen
from atoma_crypto.server.model import Answer
from atoma_crypto.server.node import create_app
from serving import Client, ScriptedModel, connected, opened, request_body


@contextlib.contextmanager
def stoppable(app: ASGIApp, seconds: int) -> Iterator[tuple[Client, Callable[[], None], threading.Thread]]:
    """A client, what tells the server to stop, and the server's thread."""
    listener = listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, ws="none", timeout_graceful_shutdown=seconds))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()

    def stop() -> None:
        server.should_exit = True

    try:
        with Client(f"http://127.0.0.1:{listener.getsockname()[1]}", model="scripted") as client:
            yield client, stop, thread
    finally:
        stop()
        thread.join()
        listener.close()


def node(go_on: threading.Event) -> ASGIApp:
    return create_app(
        ac.SecretKey.generate(), ScriptedModel([[Answer(b'{"n":1}')], go_on, [Answer(b'{"n":2}'), Answer(b'{"n":3}')]])
    )


def middleware(go_on: threading.Event) -> ASGIApp:
    async def answer(_request: Request) -> Response:
        async def body() -> AsyncIterator[bytes]:
            yield b'data: {"n":1}\n\n'
            while not go_on.is_set():
                await anyio.sleep(0.005)
            yield b'data: {"n":2}\n\ndata: {"n":3}\n\n' + DONE

        return StreamingResponse(body())

    return ConfidentialMiddleware(fastapi_app(answer), keys=ac.SecretKey.generate())


EITHER = pytest.mark.parametrize("make", [node, middleware])


def stopped_listening(client: Client) -> bool:
    try:
        with connected(client.url) as connection:
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: node\r\n\r\n")
            connection.settimeout(0.1)
            return connection.recv(1) == b""
    except OSError:
        return True


@EITHER
def test_a_stream_that_is_under_way_comes_to_its_end(make: Callable[[threading.Event], ASGIApp]) -> None:
    go_on = threading.Event()
    with stoppable(make(go_on), 20) as (client, stop, thread):
        client.lock()
        with client.asking(request_body(stream=True)) as (session, response):
            parts = response.iter_raw()
            received = next(parts)
            stop()
            while not stopped_listening(client):
                pass
            assert thread.is_alive()
            go_on.set()
            plaintexts = [event.plaintext for event in opened(session, received + b"".join(parts))]
        assert plaintexts == [b'{"n":1}', b'{"n":2}', b'{"n":3}']
        thread.join(10)
        assert not thread.is_alive()  # it has not waited for all of the twenty seconds


@EITHER
def test_a_stream_that_takes_too_long_is_cut_and_has_no_clean_end(
    make: Callable[[threading.Event], ASGIApp],
) -> None:
    with stoppable(make(threading.Event()), 1) as (client, stop, thread):
        client.lock()
        with client.asking(request_body(stream=True)) as (session, response):
            parts = response.iter_raw()
            received = next(parts)
            stop()
            with pytest.raises(httpx.RemoteProtocolError):
                received += b"".join(parts)
            assert [event.plaintext for event in opened(session, received)] == [b'{"n":1}']
        thread.join(30)
        assert not thread.is_alive()
