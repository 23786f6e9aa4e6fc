"""Streams of the SDK: what they give, how they end, and what is left of them."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

import anyio
import httpx
import pytest

import atoma_crypto as ac
from atoma_crypto.adapters._terms import EXTENSION, Origin
from atoma_crypto.sdk import AtomaSDK, EventStream, EventStreamAsync, models
from atoma_crypto.server.model import Answer
from sdk_nodes import (
    CANARY,
    CHUNKS,
    HEAD,
    MESSAGES,
    USAGE,
    LockingNode,
    asked,
    async_client,
    is_closed,
    printed,
    recorded_sessions,
    sdk_for,
    told,
)
from serving import ScriptedModel, chunk, node

LAST: Final = b'{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}'
PIECES: Final = [
    {"id": "cmpl-1", "choices": [{"index": 0, "text": "é"}]},
    {"id": "cmpl-1", "choices": [{"index": 0, "text": "", "finish_reason": "stop"}], "usage": USAGE},
]


def dumped(chunks: list[Any]) -> list[dict[str, Any]]:
    return [chunk.model_dump(exclude_unset=True) for chunk in chunks]


def chat(sdk: AtomaSDK) -> EventStream[models.ChatCompletionChunk]:
    return sdk.confidential_chat.create_stream(messages=MESSAGES, model="m")


def read(stream: EventStream[models.ChatCompletionChunk]) -> tuple[list[dict[str, Any]], Exception | None]:
    """What came, and what then was raised, if anything; the stream is over then."""
    chunks = []
    try:
        for each in stream:
            chunks.append(each)  # noqa: PERF402 - what came before the fault counts
    except Exception as error:  # noqa: BLE001 - it is looked at
        with pytest.raises(ac.SessionClosedError):
            next(stream)
        return dumped(chunks), error
    with pytest.raises(StopIteration):
        next(stream)
    return dumped(chunks), None


async def read_async(url: str, **more: Any) -> tuple[list[dict[str, Any]], Exception | None]:
    chunks = []
    async with async_client() as client, AtomaSDK("any", server_url=url, async_client=client, **more) as sdk:
        stream = await sdk.confidential_chat.create_stream_async(messages=MESSAGES, model="m")
        try:
            async for each in stream:
                chunks.append(each)  # noqa: PERF401 - what came before the fault counts
        except Exception as error:  # noqa: BLE001 - it is looked at
            with pytest.raises(ac.SessionClosedError):
                await anext(stream)
            return dumped(chunks), error
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
    return dumped(chunks), None


def read_both(node: LockingNode, **more: Any) -> tuple[list[dict[str, Any]], Exception | None]:
    """The same of both forms, which must agree."""
    with asked(node, **more) as sdk:
        found = read(chat(sdk))
        other = asyncio.run(read_async(node.base_url, **more))
        assert found[0] == other[0]
        assert type(found[1]) is type(other[1])
        return found


def test_all_chunks_come_typed_and_the_usage_too(monkeypatch: pytest.MonkeyPatch) -> None:
    made = recorded_sessions(monkeypatch)
    with asked(node := LockingNode()) as sdk:
        chunks = list(chat(sdk))
        assert all(type(each) is models.ChatCompletionChunk and each.data is each for each in chunks)
        assert chunks[-1].usage == models.CompletionUsage(**USAGE)
        assert dumped(chunks) == CHUNKS
        assert asyncio.run(read_async(node.base_url)) == (CHUNKS, None)
        assert node.last_body()["stream"] is node.envelopes[-1]["stream"] is True
    assert len(made) == 2
    assert all(map(is_closed, made))


@pytest.mark.parametrize("newline", ["\r\n", "\r"])
def test_members_that_nobody_knows_stay(newline: str) -> None:
    odd: list[dict[str, Any]] = [
        {
            **HEAD,
            "choices": [{"index": 0, "delta": {"content": "a\n\ndata: [DONE]\n\n", "thought": "\u2028"}, "z": [1]}],
        },
        {
            **HEAD,
            "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}],
            "usage": {**USAGE, "cached": {"x": 1}},
        },
    ]
    assert read_both(LockingNode(chunks=odd, newline=newline)) == (odd, None)


def test_events_of_many_lines_up_to_the_limit_are_read() -> None:
    """In clear each line of an event has six bytes before it, so that it may be longer than it was sealed."""
    wide = json.dumps({"choices": [], "usage": USAGE, "pad": [0] * 3000}, indent=0).encode()
    with asked(node := LockingNode(chunks=[]), limits=ac.Limits(max_event_bytes=2 * len(wide))) as sdk:
        node.chunks = [*map(printed, CHUNKS), wide]
        assert read(chat(sdk)) == ([*CHUNKS, json.loads(wide)], None)


def test_completions_stream_too() -> None:
    with asked(node := LockingNode(chunks=PIECES)) as sdk:
        stream = sdk.confidential_completions.create_stream(prompt="Hello", model="m")
        chunks = list(stream)
        assert dumped(chunks) == PIECES
        assert all(type(each) is models.CompletionResponse for each in chunks)
        assert node.last_body() == {"prompt": "Hello", "model": "m", "stream": True}

        async def collect() -> list[models.CompletionResponse]:
            async with async_client() as client, AtomaSDK("any", server_url=node.base_url, async_client=client) as sdk:
                stream = await sdk.confidential_completions.create_stream_async(prompt="Hello", model="m")
                async with stream:
                    return [each async for each in stream]

        assert asyncio.run(collect()) == chunks


@pytest.mark.parametrize("kept", range(3))
def test_a_stream_that_ends_before_the_answer_raises(kept: int) -> None:
    """It ends between two events, so nothing but the answer itself tells."""
    chunks, error = read_both(LockingNode(chunks=CHUNKS[:kept]))
    assert chunks == CHUNKS[:kept]
    assert type(error) is ac.TruncatedStreamError


def test_bytes_that_end_without_the_transports_own_end_raise() -> None:
    event = b"data: " + printed(CHUNKS[0]) + b"\n\n"
    for body, end in ((event, ac.TruncatedStreamError), (event + b"data: [DONE]\n\n", None)):
        chunks, error = read(
            EventStream(
                httpx.Response(200, stream=httpx.ByteStream(body), extensions={EXTENSION: Origin(True, "v1")}),
                models.ChatCompletionChunk,
                1 << 20,
            )
        )
        assert chunks == CHUNKS[:1]
        assert (error and type(error)) is end


@pytest.mark.parametrize("cut", [300, 800, -20, -1])
def test_a_stream_that_is_cut_inside_an_event_raises(cut: int) -> None:
    chunks, error = read_both(LockingNode(cut=cut))
    assert chunks == CHUNKS[: len(chunks)]
    assert type(error) is ac.TruncatedStreamError
    assert len(chunks) < len(CHUNKS)


def test_a_stream_with_a_flipped_bit_is_right_or_raises() -> None:
    """A bit in the word `data` makes an event one that is to be ignored; v1 cannot tell that it is missing."""
    less_one = [CHUNKS[:i] + CHUNKS[i + 1 :] for i in range(len(CHUNKS))]
    raised = 0
    with asked(node := LockingNode()) as sdk:
        list(chat(sdk))
        bits = 8 * len(node.opened[-1].stream(node.chunks))
        for bit in range(200, bits, bits // 50):
            node.behaviour = replace(node.behaviour, flip=bit)
            chunks, error = read(chat(sdk))
            if error is None:
                assert chunks == CHUNKS or chunks in less_one
            else:
                assert isinstance(error, ac.RemoteProtocolError)
                assert all(each in CHUNKS for each in chunks)
            raised += error is not None
    assert raised > 25  # the rest are in comments, signatures and the usage in clear


def test_an_answer_that_is_the_request_itself_raises() -> None:
    chunks, error = read_both(LockingNode(nonces="reflect"))
    assert (chunks, type(error)) == ([], ac.NonceReuseError)


def test_a_repeated_nonce_warns_or_raises() -> None:
    with pytest.warns(ac.NonceReuseWarning):
        assert read_both(LockingNode(nonces="repeat")) == (CHUNKS, None)
    chunks, error = read_both(LockingNode(nonces="repeat"), nonce_reuse="error")
    assert (chunks, type(error)) == (CHUNKS[:1], ac.NonceReuseError)


@pytest.mark.parametrize("wrong", [[CANARY], {"choices": CANARY}, {"choices": [{"index": 0, "delta": CANARY}]}, {}])
def test_a_chunk_of_another_shape_raises_without_its_text(wrong: object) -> None:
    if isinstance(wrong, list):
        wrong = {"choices": [{"delta": {"content": wrong}}]}
    chunks, error = read_both(LockingNode(chunks=[CHUNKS[0], wrong, *CHUNKS[1:]]))
    assert chunks == CHUNKS[:1]
    assert type(error) is ac.FramingError
    assert CANARY not in told(error)


@pytest.mark.parametrize("wrong", [{"choices": CANARY}, {"choices": [{"index": 0}]}, {}])
def test_an_answer_of_another_shape_raises_without_its_text(wrong: object) -> None:
    with asked(LockingNode(wrong)) as sdk, pytest.raises(ac.EnvelopeError, match="not a ChatCompletion") as caught:
        sdk.confidential_chat.create(messages=MESSAGES, model="m")
    assert CANARY not in told(caught.value)


@pytest.mark.parametrize("flip", [-2000, 1200])
def test_an_answer_with_a_flipped_bit_raises(flip: int) -> None:
    with asked(LockingNode(flip=flip)) as sdk, pytest.raises(ac.RemoteProtocolError):
        sdk.confidential_chat.create(messages=MESSAGES, model="m")


@pytest.fixture
def released() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def test_chunks_come_before_the_next_are_made(released: threading.Event) -> None:
    model = ScriptedModel([[Answer(chunk("a"))], released, [Answer(chunk("b")), Answer(LAST)]])
    with node(model) as client, sdk_for(client.url) as sdk:
        stream = sdk.confidential_chat.create_stream(messages=MESSAGES, model="scripted")
        assert next(stream).choices[0].delta.content == "a"
        released.set()
        assert [each.choices[0].delta.content for each in stream] == ["b", None]


@pytest.mark.parametrize("form", ["create_async", "create_stream_async"])
def test_cancelling_a_call_before_its_answer_wipes(
    monkeypatch: pytest.MonkeyPatch, released: threading.Event, form: str
) -> None:
    made = recorded_sessions(monkeypatch)
    model = ScriptedModel([released])

    async def leave(url: str) -> None:
        async with async_client() as client, AtomaSDK("any", server_url=url, async_client=client) as sdk:
            call = getattr(sdk.confidential_chat, form)(messages=MESSAGES, model="scripted")
            task = asyncio.ensure_future(call)
            await asyncio.to_thread(model.asked.wait, 10)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    with node(model) as client:
        asyncio.run(leave(client.url))
        assert model.stopped.wait(10)
        assert [is_closed(session) for session in made] == [True]


@pytest.mark.parametrize("reads", [0, 1])
@pytest.mark.parametrize("form", ["with", "close", "error", "async with", "cancelled", "cancel scope"])
def test_leaving_half_way_closes_and_wipes(
    monkeypatch: pytest.MonkeyPatch, released: threading.Event, form: str, reads: int
) -> None:
    made = recorded_sessions(monkeypatch)
    model = ScriptedModel([[Answer(chunk("a"))], released])
    given: dict[str, Any] = {"messages": MESSAGES, "model": "scripted"}

    async def leave(url: str) -> None:
        async with async_client() as client, AtomaSDK("any", server_url=url, async_client=client) as sdk:
            stream = await sdk.confidential_chat.create_stream_async(**given)
            if form == "cancelled":
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(drain(stream), 0.1)
            elif form == "cancel scope":
                with anyio.move_on_after(0.1) as scope:
                    await drain(stream)
                assert scope.cancelled_caught
            else:
                async with stream:
                    for _ in range(reads):
                        await anext(stream)
            with pytest.raises(ac.SessionClosedError):
                await anext(stream)

    async def drain(stream: EventStreamAsync[models.ChatCompletionChunk]) -> None:
        async for _ in stream:
            pass

    with node(model) as client, sdk_for(client.url) as sdk:
        if form in ("async with", "cancelled", "cancel scope"):
            asyncio.run(leave(client.url))
        else:
            stream = sdk.confidential_chat.create_stream(**given)
            for _ in range(reads):
                next(stream)
            if form == "close":
                stream.close()
                stream.close()
            else:
                with pytest.raises(ZeroDivisionError), stream:  # noqa: PT012 - the block is what is left
                    if form == "error":
                        raise ZeroDivisionError
                    stream.close()
                    raise ZeroDivisionError
            with pytest.raises(ac.SessionClosedError):
                next(stream)
        assert model.stopped.wait(10)  # the node has noticed
        assert [is_closed(session) for session in made] == [True]
