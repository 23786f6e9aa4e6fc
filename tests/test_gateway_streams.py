"""The gateway's streams: in time, in order, many at once, and over when the app or the node is gone."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator

import anyio
import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

import atoma_crypto as ac
from gateways import (
    CHAT,
    CHUNKS,
    SEALED_CHAT,
    Gateway,
    ScriptedNode,
    body,
    chat_chunk,
    events_of,
    gateway,
    streaming,
)
from serving import INTERNAL_ERROR, NO_CAS, connected, error_of, head


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> list[ac.ClientSession]:
    """Every client's session that is made in this test."""
    made: list[ac.ClientSession] = []
    real = ac.ClientSession.__init__

    def recording(session: ac.ClientSession, *args: object, **more: object) -> None:
        real(session, *args, **more)  # type: ignore[arg-type] # handed on as they are
        made.append(session)

    monkeypatch.setattr(ac.ClientSession, "__init__", recording)
    return made


def wiped(session: ac.ClientSession) -> bool:
    try:
        session.receive_data(b"")
    except ac.SessionClosedError:
        return True
    except ac.LocalProtocolError:
        pass
    return False


class Endless:
    """Answers with as many events as it is asked for at once, then one each hundredth of a second, or none."""

    def __init__(self, *, at_once: int, more: bool = True) -> None:
        self.at_once, self.more = at_once, more
        self.asked, self.left = threading.Event(), threading.Event()

    def __call__(self, _request: Request, session: ac.NodeSession, _opened: ac.Request) -> Response:
        async def events() -> AsyncIterator[bytes]:
            self.asked.set()
            try:
                for _ in range(self.at_once):
                    yield session.seal_chunk(CHUNKS[0])
                while True:
                    await anyio.sleep(0.01)
                    if self.more:
                        yield session.seal_chunk(CHUNKS[0])
            finally:
                self.left.set()

        return StreamingResponse(events(), media_type="text/event-stream")


def test_an_app_that_leaves_in_the_middle_closes_the_nodes_stream(sessions: list[ac.ClientSession]) -> None:
    endless = Endless(at_once=1)
    with ScriptedNode([endless]).running() as url, gateway(url) as gate:
        with gate.http.stream("POST", CHAT, json=body(stream=True)) as response:
            parts = response.iter_raw()
            assert next(parts).startswith(b"data: ")
            assert not endless.left.is_set()
        assert endless.left.wait(10)
    assert [wiped(session) for session in sessions] == [True]


@pytest.mark.parametrize("stream", [True, False])
def test_an_app_that_leaves_before_the_answer(sessions: list[ac.ClientSession], *, stream: bool) -> None:
    silent = Endless(at_once=0, more=False)
    with ScriptedNode([silent]).running() as url, gateway(url) as gate:
        ask_and_leave(gate, body(stream=stream), silent.asked)
        assert silent.left.wait(10)
    assert [wiped(session) for session in sessions] == [True]


def test_an_app_that_leaves_before_the_lock(sessions: list[ac.ClientSession]) -> None:
    silent = Endless(at_once=0, more=False)

    class Waiting(ScriptedNode):
        async def lock(self, request: Request) -> Response:
            with ac.SecretKey.generate() as key:
                return silent(request, ac.NodeSession(key), ac.Request(b"", "", 0, None, False, None, "v1"))

    with Waiting([]).running() as url, gateway(url) as gate:
        ask_and_leave(gate, body(), silent.asked)
        assert silent.left.wait(10)
        assert gate.http.get("/health").status_code == 200
    assert sessions == []


def ask_and_leave(gate: Gateway, asked: object, when: threading.Event) -> None:
    content = json.dumps(asked).encode()
    with connected(gate.url) as connection:
        connection.sendall(head(CHAT, f"Content-Length: {len(content)}").replace(b"Host: node", b"Host: localhost"))
        connection.sendall(content)
        assert when.wait(10)


def test_an_app_that_stops_reading_stops_the_node() -> None:
    """What the app does not read fills the connections' buffers, and no memory here."""
    sent = 0

    def counting(_request: Request, session: ac.NodeSession, _opened: ac.Request) -> Response:
        async def events() -> AsyncIterator[bytes]:
            nonlocal sent
            large = chat_chunk("x" * 100_000)
            for _ in range(1000):
                yield session.seal_chunk(large)
                sent += 1

        return StreamingResponse(events(), media_type="text/event-stream")

    with (
        ScriptedNode([counting]).running() as url,
        gateway(url) as gate,
        gate.http.stream("POST", CHAT, json=body(stream=True)) as response,
    ):
        parts = response.iter_raw()
        next(parts)
        pause, before = threading.Event(), -1
        while before != sent:  # until it has stopped
            before = sent
            pause.wait(0.3)
        assert sent < 400


def test_many_streams_at_once_lose_nothing_and_mix_nothing() -> None:
    def echoing(_request: Request, session: ac.NodeSession, opened: ac.Request) -> Response:
        name = json.loads(opened.body)["messages"][0]["content"]
        chunks = [chat_chunk(f"{name}.{number} ") for number in range(20)] + [chat_chunk("", "stop")]
        response: Response = streaming(*chunks)(_request, session, opened)
        return response

    async def one(http: httpx.AsyncClient, name: str) -> str:
        asked = body(stream=True, messages=[{"role": "user", "content": name}])
        *events, done = events_of((await http.post(CHAT, json=asked)).text)
        assert done == "[DONE]"
        return "".join(json.loads(event)["choices"][0]["delta"]["content"] for event in events)

    async def run(url: str) -> list[str]:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=url, trust_env=False, verify=NO_CAS, timeout=60, limits=limits) as http:
            return await asyncio.gather(*(one(http, str(number)) for number in range(60)))

    with ScriptedNode([echoing] * 60).running() as url, gateway(url) as gate:
        said = asyncio.run(run(gate.url))
    assert said == ["".join(f"{name}.{number} " for number in range(20)) for name in range(60)]


def test_a_node_that_hangs() -> None:
    def hanging(_request: Request, session: ac.NodeSession, _opened: ac.Request) -> Response:
        async def events() -> AsyncIterator[bytes]:
            yield session.seal_chunk(CHUNKS[0])
            await anyio.sleep(30)

        return StreamingResponse(events(), media_type="text/event-stream")

    def silent(_request: Request, _session: ac.NodeSession, _opened: ac.Request) -> Response:
        async def nothing() -> AsyncIterator[bytes]:
            await anyio.sleep(30)
            yield b""

        return StreamingResponse(nothing(), media_type="text/event-stream")

    with ScriptedNode([silent, silent, silent, hanging]).running() as url, gateway(url, timeout=0.5) as gate:
        assert error_of(gate.post())[:2] == (504, "GATEWAY_TIMEOUT")
        assert error_of(gate.post(body(stream=True)))[:2] == (504, "GATEWAY_TIMEOUT")
        assert error_of(gate.post(body(stream=True), SEALED_CHAT)) == INTERNAL_ERROR
        with pytest.raises(httpx.RemoteProtocolError):
            gate.post(body(stream=True))


def test_what_the_app_reads_comes_as_the_node_sends_it() -> None:
    go_on = threading.Event()

    def waiting(_request: Request, session: ac.NodeSession, _opened: ac.Request) -> Response:
        async def events() -> AsyncIterator[bytes]:
            yield session.seal_chunk(CHUNKS[0])
            while not go_on.is_set():
                await anyio.sleep(0.005)
            yield session.seal_chunk(CHUNKS[1])

        return StreamingResponse(events(), media_type="text/event-stream")

    with (
        ScriptedNode([waiting]).running() as url,
        gateway(url) as gate,
        gate.http.stream("POST", CHAT, json=body(stream=True)) as response,
    ):
        assert response.headers["content-type"] == "text/event-stream"
        parts = response.iter_raw()
        assert next(parts) == b"data: " + CHUNKS[0] + b"\n\n"
        go_on.set()
        assert b"".join(parts) == b"data: " + CHUNKS[1] + b"\n\ndata: [DONE]\n\n"


def test_a_stream_that_is_read_slowly_is_read_whole() -> None:
    chunks = [chat_chunk(str(number) * 500) for number in range(500)] + [chat_chunk("", "stop")]
    with ScriptedNode([streaming(*chunks)]).running() as url, gateway(url) as gate:
        received = b""
        with gate.http.stream("POST", CHAT, json=body(stream=True)) as response:
            for part in response.iter_raw(4096):
                received += part
    *events, done = events_of(received.decode())
    assert [event.encode() for event in events] == chunks
    assert done == "[DONE]"
