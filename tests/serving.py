"""Real servers on loopback for the tests of the node, and a client's two requests over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import httpx
import uvicorn
from starlette.types import ASGIApp

import atoma_crypto as ac

NO_CAS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # no TLS here, and loading those of the system takes long
LOCK = "/v1/nodes/lock"
CHAT = "/v1/confidential/chat/completions"


class _Server(uvicorn.Server):
    async def main_loop(self) -> None:
        """Look for the end more often than ten times a second: there are many servers in these tests."""
        while not self.should_exit:
            await asyncio.sleep(0.005)


@contextlib.contextmanager
def serving(app: ASGIApp) -> Iterator[str]:
    """Run `app` under uvicorn in a thread; its URL. At the end its lifespan has ended too."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_config=None, ws="none", timeout_graceful_shutdown=5)
    server = _Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()  # who connects before it accepts waits in the listener's queue
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


@contextlib.contextmanager
def connected(url: str) -> Iterator[socket.socket]:
    """A bare connection, for what no HTTP client would send or show."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=30) as connection:
        yield connection


def head(path: str, *lines: str) -> bytes:
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: node", "Authorization: Bearer any", *lines, "", ""]).encode()


def read_to_end(connection: socket.socket) -> bytes:
    received = b""
    while part := connection.recv(1 << 16):
        received += part
    return received


def request_body(*, stream: bool = False, model: str = "scripted", **more: object) -> bytes:
    asked = {"model": model, "messages": [{"role": "user", "content": "Hello"}], "stream": stream}
    return json.dumps(asked | more).encode()


@dataclass
class Client:
    """Our own client over httpx; `lock` keeps what the node told, `session` is made from it."""

    url: str
    token: str = "any"  # noqa: S105 - a node without a token takes any
    model: str = "scripted"
    told: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        headers = {"Authorization": f"Bearer {self.token}"}
        self.http = httpx.Client(base_url=self.url, headers=headers, trust_env=False, timeout=60, verify=NO_CAS)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.http.close()

    def lock(self, **more: object) -> httpx.Response:
        response = self.http.post(LOCK, json={"model": self.model} | more)
        if response.status_code == 200:
            self.told = response.json()
        return response

    def session(self) -> ac.ClientSession:
        key = ac.PublicKey.from_base64(self.told["public_key"])
        return ac.ClientSession(key, model=self.model, stack_small_id=self.told["stack_small_id"], protocol="v1")

    def ask(self, body: bytes, *, num_compute_units: int | None = None) -> tuple[ac.ClientSession, httpx.Response]:
        """Send a request that needs no stream read as it comes: the whole response is there."""
        session = self.session()
        stream = json.loads(body).get("stream") or False
        sealed = session.seal_request(body, stream=stream, num_compute_units=num_compute_units)
        return session, self.http.post(CHAT, content=sealed)

    @contextlib.contextmanager
    def asking(self, body: bytes) -> Iterator[tuple[ac.ClientSession, httpx.Response]]:
        """Send a streamed request and read the response as it comes."""
        with self.session() as session:
            sealed = session.seal_request(body, stream=True)
            with self.http.stream("POST", CHAT, content=sealed) as response:
                yield session, response


def opened(session: ac.ClientSession, received: bytes) -> list[ac.Chunk]:
    """The chunks of a whole stream."""
    session.receive_data(received)
    session.receive_eof()
    return [event for event in session.events() if isinstance(event, ac.Chunk)]


def error_of(response: httpx.Response) -> tuple[int, str, str]:
    """Status, code and message; nothing else may be in it."""
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert list(body) == ["error"]
    assert sorted(body["error"]) == ["code", "message"]
    return response.status_code, body["error"]["code"], body["error"]["message"]
