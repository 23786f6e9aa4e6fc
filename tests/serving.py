"""Real servers on loopback for the tests of the node, and a client's two requests over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import anyio
import httpx
import pytest
import uvicorn
from starlette.types import ASGIApp

import atoma_crypto as ac
from atoma_crypto._offers import read_offers
from atoma_crypto._padding import PadTo
from atoma_crypto._typing import Protocol, Suite
from atoma_crypto.adapters._routes import Endpoint
from atoma_crypto.server.listener import listen
from atoma_crypto.server.model import Answer, Model
from atoma_crypto.server.node import create_app

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
    listener = listen("127.0.0.1", 0)
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
    protocol: Protocol = "v1"
    suite: Suite = "X25519"
    pad_to: PadTo = None

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

    def session(self, **more: Any) -> ac.ClientSession:
        """For one request on the lock that was taken; `more` holds instead of what it says."""
        if self.protocol == "v1":
            key = ac.PublicKey.from_base64(self.told["public_key"])
        else:
            key = {offer.public_key.suite: offer.public_key for offer in read_offers(self.told["keys"])}[self.suite]
        says: dict[str, Any] = {"model": self.model, "stack_small_id": self.told["stack_small_id"]}
        return ac.ClientSession(key, **{"protocol": self.protocol, "pad_to": self.pad_to} | says | more)

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


def opened_until_cut(session: ac.ClientSession, received: bytes) -> list[ac.Chunk]:
    """The chunks of a stream that breaks off: also where the HTTP body looks complete, its last event is not."""
    chunks: list[ac.Chunk] = []
    session.receive_data(received)
    session.receive_eof()
    with pytest.raises(ac.TruncatedStreamError):  # noqa: PT012 - what comes before it counts too
        for event in session.events():
            assert isinstance(event, ac.Chunk)
            chunks.append(event)
    return chunks


def error_of(response: httpx.Response) -> tuple[int, str, str]:
    """Status, code and message; nothing else may be in it."""
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert list(body) == ["error"]
    assert sorted(body["error"]) == ["code", "message"]
    return response.status_code, body["error"]["code"], body["error"]["message"]


def sealed_error(session: ac.ClientSession, response: httpx.Response) -> tuple[int, str, str]:
    """What a sealed error says. Nothing of it stands in clear but the status, which is the same."""
    assert response.headers["content-type"] == "application/json"
    assert sorted(response.json()) == ["ciphertext", "flag", "salt", "v"]
    with pytest.raises(ac.RemoteAbortError) as told:
        session.open_response(response.content)
    assert told.value.status == response.status_code
    return told.value.status, told.value.code, told.value.message


CANARY = "xylophone-canary-7731"
USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
MORE_USAGE = {"prompt_tokens": 1, "completion_tokens": 5, "total_tokens": 6}
INTERNAL_ERROR = (500, "INTERNAL_ERROR", "Internal server error occurred")


def chunk(text: str) -> bytes:
    return json.dumps({"choices": [{"index": 0, "delta": {"content": text}}]}).encode()


@dataclass
class ScriptedModel:
    """Does what its steps say: an answer, a batch of them, an error to raise, or an event to wait for."""

    steps: Sequence[Answer | list[Answer] | Exception | threading.Event] = ()
    bodies: list[bytes] = field(default_factory=list)
    asked: threading.Event = field(default_factory=threading.Event)
    stopped: threading.Event = field(default_factory=threading.Event)  # what it was asked is over, in any way
    closed: threading.Event = field(default_factory=threading.Event)

    def serves(self, model: str) -> bool:
        return model == "scripted"

    async def complete(self, _endpoint: Endpoint, body: bytes) -> Answer:
        try:
            async with contextlib.aclosing(self._run(body)) as results:
                async for result in results:
                    assert isinstance(result, Answer)
                    return result
        finally:
            self.stopped.set()
        raise AssertionError

    async def stream(self, _endpoint: Endpoint, body: bytes) -> AsyncIterator[list[Answer]]:
        try:
            async with contextlib.aclosing(self._run(body)) as results:
                async for result in results:
                    assert isinstance(result, list)
                    yield result
        finally:
            self.stopped.set()

    async def _run(self, body: bytes) -> AsyncGenerator[Answer | list[Answer], None]:
        self.bodies.append(body)
        self.asked.set()
        for step in self.steps:
            if isinstance(step, threading.Event):
                while not step.is_set():
                    await anyio.sleep(0.005)
            elif isinstance(step, Exception):
                raise step
            else:
                yield step

    async def aclose(self) -> None:
        self.closed.set()


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@contextlib.contextmanager
def node(
    model: Model, *, key: ac.SecretKey | ac.NodeKeyring | None = None, protocol: Protocol = "v1", **more: Any
) -> Iterator[Client]:
    """A node that serves `model`, and a client of it."""
    with (
        key or ac.SecretKey.generate() as secret,
        serving(create_app(secret, model, **more)) as url,
        Client(url, protocol=protocol) as client,
    ):
        yield client


def recorded_sessions(monkeypatch: pytest.MonkeyPatch) -> list[ac.NodeSession]:
    """Every session that a node opens a request with from now on in this test."""
    used: list[ac.NodeSession] = []
    real = ac.NodeSession.open_request

    def opening(session: ac.NodeSession, sealed: bytes) -> ac.Request:
        used.append(session)
        return real(session, sealed)

    monkeypatch.setattr(ac.NodeSession, "open_request", opening)
    return used


def wiped(session: ac.NodeSession) -> bool:
    try:
        session.seal_chunk(b"{}")
    except ac.SessionClosedError:
        return True
    except ac.LocalProtocolError:
        return False
    return False
