"""Long streams, large events, many at once, and clients that leave half-way."""

from __future__ import annotations

import asyncio
import gc
import json
import time
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, repeat
from typing import Any

import httpx
import openai
import pytest

import atoma_crypto as ac
from atoma_crypto.adapters import _transport
from confidential_node import KINDS, Node, chat, delta, items, openai_client, result, running, transport
from helpers import node_key
from upstreams import http, raw_upstream

each_kind = pytest.mark.parametrize("kind", KINDS)
BODY: dict[str, Any] = {"model": "m", "messages": [], "stream": True}
END = delta(finish="stop")


async def endless(*_: object) -> AsyncIterator[bytes]:
    while True:
        yield delta("on and on ")
        await asyncio.sleep(0.001)


async def stalling(*_: object) -> AsyncIterator[bytes]:
    yield delta("a")
    await asyncio.sleep(3600)


async def hanging(*_: object) -> AsyncIterator[bytes]:
    await asyncio.sleep(3600)
    yield delta("never")


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> list[ac.ClientSession]:
    """Every session that a transport makes."""
    made: list[ac.ClientSession] = []
    real = ac.ClientSession

    def recording(*args: Any, **more: Any) -> ac.ClientSession:
        made.append(real(*args, **more))
        return made[-1]

    monkeypatch.setattr(ac, "ClientSession", recording)
    return made


def assert_over(node: Node, sessions: list[ac.ClientSession]) -> None:
    """The session is wiped, and the node knows that nobody reads any more."""
    [session] = sessions
    with pytest.raises(ac.SessionClosedError):
        session.receive_data(b"")
    deadline = time.monotonic() + 10
    while not node.left:
        assert time.monotonic() < deadline
        time.sleep(0.005)


@each_kind
def test_closed_half_way(kind: str, sessions: list[ac.ClientSession]) -> None:
    async def run(url: str) -> None:
        async with openai_client(kind, url) as client:
            stream = await result(client.chat.completions.create(**BODY))
            if kind.endswith("async"):
                async with stream:
                    assert (await anext(stream)).choices[0].delta.content == "on and on "
            else:
                with stream:
                    assert next(stream).choices[0].delta.content == "on and on "
            assert_over(node, sessions)

    node = Node(endless)
    with running(node) as url:
        asyncio.run(run(url))


@pytest.mark.parametrize("kind", ["httpx async", "httpx2 async"])
@pytest.mark.parametrize("answer", [stalling, hanging])
def test_cancelled_half_way(kind: str, answer: Any, sessions: list[ac.ClientSession]) -> None:
    async def run(url: str) -> None:
        async with openai_client(kind, url) as client:
            task = asyncio.create_task(chat(client, stream=True))
            while not node.seen:
                await asyncio.sleep(0.005)
            await asyncio.sleep(0.05)  # into the body
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert_over(node, sessions)

    node = Node(answer)
    with running(node) as url:
        asyncio.run(run(url))


@each_kind
def test_a_node_that_hangs(kind: str, sessions: list[ac.ClientSession]) -> None:
    async def run(url: str) -> None:
        async with openai_client(kind, url) as client:
            with pytest.raises(openai.APITimeoutError):
                await chat(client.with_options(timeout=0.3), stream=True)
            assert_over(node, sessions)

    node = Node(stalling)
    with running(node) as url:
        asyncio.run(run(url))


@each_kind
def test_after_the_end_the_session_is_wiped(kind: str, sessions: list[ac.ClientSession]) -> None:
    async def run(url: str) -> None:
        async with openai_client(kind, url) as client:
            await chat(client)
            await chat(client, stream=True)

    with running(Node()) as url:
        asyncio.run(run(url))
    assert [repr(session) for session in sessions] == ["<ClientSession closed>"] * 2


@each_kind
def test_a_stream_that_fails_is_closed_by_itself(kind: str, sessions: list[ac.ClientSession]) -> None:
    """Whoever reads it need not."""

    async def run(url: str) -> None:
        library, ours = transport(kind)
        made = (library.AsyncClient if kind.endswith("async") else library.Client)(transport=ours, timeout=0.3)
        request = made.build_request("POST", f"{url}/v1/chat/completions", json=BODY)
        response = await result(made.send(request, stream=True))
        with pytest.raises(library.ReadTimeout):
            await items(response.aiter_bytes() if kind.endswith("async") else response.iter_bytes())
        assert_over(node, sessions)
        await result(made.aclose() if kind.endswith("async") else made.close())

    node = Node(stalling)
    with running(node) as url:
        asyncio.run(run(url))


LOCK = json.dumps({"public_key": node_key().public_key.to_base64(), "stack_small_id": 1}).encode()


@each_kind
@pytest.mark.parametrize(
    ("answer", "error"),
    [(b"", openai.APIConnectionError), (http(b"{}", status="500 Oops", more="Connection: close\r\n"), openai.APIError)],
)
def test_no_answer_at_all(kind: str, answer: bytes, error: Any, sessions: list[ac.ClientSession]) -> None:
    async def run(url: str) -> None:
        async with openai_client(kind, url) as client:
            with pytest.raises(error):
                await chat(client)
            assert [repr(session) for session in sessions] == ["<ClientSession closed>"]

    with raw_upstream(http(LOCK, more="Connection: close\r\n"), answer) as url:
        asyncio.run(run(url))


@each_kind
def test_one_connection_is_enough(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each answer is let go of before the next request: locks, refusals, whole answers and streams."""
    monkeypatch.setattr(_transport, "_PAUSES", (0.001, 0.001))

    async def run(url: str) -> None:
        async with openai_client(kind, url, connections=1) as client:
            for stream in (False, True):
                node.refusals = [(425, {}), (423, {})]
                await chat(client, stream=stream)

    node = Node()
    with running(node) as url:
        asyncio.run(run(url))
    assert len(node.seen) == 6


@each_kind
def test_a_request_that_is_too_long(kind: str) -> None:
    async def run(url: str) -> None:
        async with openai_client(kind, url, limits=ac.Limits(max_request_bytes=1000)) as client:
            with pytest.raises(ac.LocalProtocolError, match="longer than 1000 bytes"):
                await chat(client, said="x" * 1000)

    node = Node()
    with running(node) as url:
        asyncio.run(run(url))
    assert node.locks == []


def lines_of(url: str, kind: str = "httpx") -> Iterator[str]:
    """The data of each event, read as it comes."""
    library, ours = transport(kind)
    with (
        library.Client(transport=ours) as client,
        client.stream("POST", f"{url}/v1/chat/completions", json=BODY) as response,
    ):
        for line in response.iter_lines():
            if line:
                yield line.removeprefix("data: ")


@pytest.mark.long
def test_memory_stays_flat() -> None:
    word = delta("a word or two ")
    many = lambda *_: chain(repeat(word, 20_000), [END])  # noqa: E731 - as the others
    held = {}
    with running(Node(many, batch=40)) as url:
        tracemalloc.start()
        try:
            for number, _ in enumerate(lines_of(url)):
                if number in {2_000, 19_990}:
                    gc.collect()
                    held[number] = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
    assert number == 20_001
    assert held[19_990] - held[2_000] < 128 << 10  # the stream itself is of some 3 MB


@pytest.mark.parametrize("kind", ["httpx", "httpx2"])
@pytest.mark.parametrize(("size", "count"), [(1, 1), (1, 1_000), (1 << 20, 3)])
def test_events_of_every_size(kind: str, size: int, count: int) -> None:
    contents = [chr(ord("a") + number % 26) * size for number in range(count)]
    expected = [*(delta(content).decode() for content in contents), END.decode(), "[DONE]"]
    with running(Node(lambda *_: [*map(delta, contents), END])) as url:
        assert list(lines_of(url, kind)) == expected


def test_an_event_of_several_lines() -> None:
    """Node and model may print JSON as they like: a client reads the same."""
    pretty = b'{\n "choices": [\r\n{"index": 0,\r "finish_reason": "stop"}]\n}'
    with running(Node(lambda *_: [pretty])) as url:
        library, ours = transport("httpx")
        with library.Client(transport=ours) as client:
            received = client.post(f"{url}/v1/chat/completions", json=BODY).content
    assert (
        received
        == b"data: "
        + pretty.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\ndata: ")
        + b"\n\ndata: [DONE]\n\n"
    )


@pytest.mark.long
def test_many_streams_at_once() -> None:
    streams, events = 200, 10

    async def words(_path: str, body: dict[str, Any]) -> AsyncIterator[bytes]:
        for number in range(events):
            yield delta(f"{body['seed']}:{number} ")
            await asyncio.sleep(0.001)
        yield END

    async def run(url: str) -> None:
        _, ours = transport("httpx async", connections=None)
        async with httpx.AsyncClient(transport=ours, timeout=60) as http:
            legacy: Any = http  # which the package still takes
            client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="k", http_client=legacy, max_retries=0)
            answers = await asyncio.gather(*(chat(client, stream=True, seed=seed) for seed in range(streams)))
        for seed, chunks in enumerate(answers):
            said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
            assert said == "".join(f"{seed}:{number} " for number in range(events))

    with running(Node(words)) as url:
        asyncio.run(run(url))


def test_threads_share_a_transport() -> None:
    def echo(_path: str, body: dict[str, Any]) -> list[bytes]:
        return [delta(str(body["seed"])), END]

    def ask(seed: int) -> list[str]:
        text: str = client.post(f"{url}/v1/chat/completions", json=BODY | {"seed": seed}).text
        return text.split("\n\n")

    with running(Node(echo)) as url:
        library, ours = transport("httpx")
        with library.Client(transport=ours, timeout=60) as client, ThreadPoolExecutor(8) as pool:
            for seed, events in enumerate(pool.map(ask, range(64))):
                expected = [delta(str(seed)).decode(), END.decode(), "[DONE]"]
                assert events == [*(f"data: {one}" for one in expected), ""]


@pytest.mark.long
def test_a_hundred_thousand_events() -> None:
    with running(Node(lambda *_: (END for _ in range(100_000)), batch=40)) as url:
        assert sum(1 for _ in lines_of(url)) == 100_001


@pytest.mark.parametrize("kind", ["httpx", pytest.param("httpx2 async", marks=pytest.mark.long)])
def test_an_answer_of_sixty_mebibytes(kind: str) -> None:
    content = "e" * (60 << 20)
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
    answer = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}

    async def run(url: str) -> None:
        async with openai_client(kind, url) as client:
            assert (await chat(client)).choices[0].message.content == content

    with running(Node(lambda *_: answer)) as url:
        asyncio.run(run(url))


@each_kind
def test_a_stream_that_was_closed_half_way_does_not_end_plainly(kind: str) -> None:
    """As one does that a second thread closes: who reads on must not take it for whole."""

    async def run(url: str) -> None:
        library, ours = transport(kind)
        if kind.endswith("async"):
            async with (
                library.AsyncClient(transport=ours) as client,
                client.stream("POST", f"{url}/v1/chat/completions", json=BODY) as response,
            ):
                parts = response.aiter_raw()
                await anext(parts)
                await response.stream.aclose()
                with pytest.raises(ac.SessionClosedError):
                    await anext(parts)
            return
        with (
            library.Client(transport=ours) as blocking,
            blocking.stream("POST", f"{url}/v1/chat/completions", json=BODY) as response,
        ):
            pieces = response.iter_raw()
            next(pieces)
            response.stream.close()
            with pytest.raises(ac.SessionClosedError):
                next(pieces)

    with running(Node(endless)) as url:
        asyncio.run(run(url))


@each_kind
@pytest.mark.parametrize("n", [1, 2])
def test_as_many_choices_have_to_come_as_were_asked_for(kind: str, n: int) -> None:
    async def run(url: str) -> None:
        async with openai_client(kind, url) as client:
            if n == 1:
                assert len(await chat(client, stream=True, n=n)) == 2
                return
            with pytest.raises(ac.TruncatedStreamError):
                await chat(client, stream=True, n=n)

    with running(Node(lambda *_: [delta("a"), END])) as url:
        asyncio.run(run(url))


@each_kind
@pytest.mark.parametrize("path", ["/v1/models", "/v1/chat/completions"])
def test_no_extension_takes_a_request_elsewhere(kind: str, path: str) -> None:
    node = Node()

    async def run(url: str) -> None:
        library, ours = transport(kind, allow_plaintext=("/v1/models",))
        more: dict[str, Any] = {"json": BODY, "extensions": {"target": b"/v1/chat/completions?q=canary"}}
        refused = pytest.raises(ac.LocalProtocolError, match="'target'")
        if kind.endswith("async"):
            async with library.AsyncClient(transport=ours) as client:
                with refused:
                    await client.post(url + path, **more)
            return
        with library.Client(transport=ours) as blocking, refused:
            blocking.post(url + path, **more)

    with running(node) as url:
        asyncio.run(run(url))
    assert (node.locks, node.seen) == ([], [])
