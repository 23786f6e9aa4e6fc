"""Text that is joined on its way: the same text, whole and in order, and nothing else touched."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import atoma_crypto as ac
from asgi_apps import confidential, events, fastapi_app
from atoma_crypto.server.coalesce import Coalesce, Coalesced, Joiner
from atoma_crypto.server.model import Answer, InferenceError
from serving import USAGE, ScriptedModel, node, opened, request_body

FRAME = {"id": "c", "object": "chat.completion.chunk", "created": 1763808745, "model": "m"}
NO_LIMIT = 1 << 20


def said(text: str, *, index: int = 0, **more: object) -> dict[str, Any]:
    return FRAME | {"choices": [{"index": index, "delta": {"content": text}, "finish_reason": None}]} | more


def completed(text: str, **more: object) -> dict[str, Any]:
    return FRAME | {"choices": [{"index": 0, "text": text, "logprobs": None, "finish_reason": None}]} | more


def answer(chunk: object) -> Answer:
    return Answer(json.dumps(chunk).encode())


def joined(chunks: Sequence[Answer], *, characters: int = 4096, max_bytes: int = NO_LIMIT) -> list[Answer]:
    joiner = Joiner(characters, max_bytes)
    return [ready for chunk in chunks for ready in joiner.add(chunk)] + joiner.flush()


def values(answers: Sequence[Answer]) -> list[Any]:
    return [json.loads(each.plaintext) for each in answers]


# What is joined


def test_text_that_comes_in_pieces_becomes_one() -> None:
    for make in (said, completed):
        assert values(joined([answer(make(text)) for text in ("He", "llo", "", ' é\n"\u2028')])) == [
            make('Hello é\n"\u2028')
        ]


def test_one_piece_alone_is_passed_on_byte_for_byte() -> None:
    odd = Answer(b'{ "choices":[{"index":0,"delta":{"content":"\\u0041"}}],"id":"c" }')
    assert joined([odd]) == [odd]
    assert joined([odd, answer(completed("x"))]) == [odd, answer(completed("x"))]


def test_several_choices_of_one_chunk_are_joined_each_with_its_own() -> None:
    def both(first: str, second: str) -> dict[str, Any]:
        choices = [{"index": 0, "delta": {"content": first}}, {"index": 1, "delta": {"content": second}}]
        return FRAME | {"choices": choices}

    assert values(joined([answer(both("a", "x")), answer(both("b", "y"))])) == [both("ab", "xy")]


def test_choices_that_take_turns_stay_apart() -> None:
    chunks = [answer(said(text, index=index)) for text, index in (("a", 0), ("x", 1), ("b", 0), ("c", 0))]
    assert values(joined(chunks)) == [said("a"), said("x", index=1), said("bc")]


# What may stand in no joint: each could be a piece of something, and alike twice would be lost once.
OTHER: dict[str, Any] = {
    "finish reason": said("x") | {"choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": "stop"}]},
    "tool call": FRAME | {"choices": [{"index": 0, "delta": {"content": "x", "tool_calls": [{"index": 0}]}}]},
    "function call": FRAME | {"choices": [{"index": 0, "delta": {"content": "x", "function_call": {"name": "f"}}}]},
    "reasoning": FRAME | {"choices": [{"index": 0, "delta": {"content": "x", "reasoning_content": "so"}}]},
    "refusal": FRAME | {"choices": [{"index": 0, "delta": {"content": "x", "refusal": "no"}}]},
    "logprobs": FRAME | {"choices": [{"index": 0, "delta": {"content": "x"}, "logprobs": {"content": [1]}}]},
    "token ids": FRAME | {"choices": [{"index": 0, "delta": {"content": "x"}, "token_ids": [7]}]},
    "usage": said("x", usage={"prompt_tokens": 1}),
    "no text": FRAME | {"choices": [{"index": 0, "delta": {}}]},
    "null text": FRAME | {"choices": [{"index": 0, "delta": {"content": None}}]},
    "a number for text": FRAME | {"choices": [{"index": 0, "delta": {"content": 7}}]},
    "no choices": FRAME | {"choices": []},
    "choices that are none": FRAME | {"choices": [7]},
    "choices that are no list": FRAME | {"choices": "x"},
    "something else": said("x", timings={"ms": 1}),
    "a switch": said("x", done=False),
    "created is a fraction": said("x", created=1.5),
    "a model that is an object": said("x", model={"a": 1e9}),
    "half of a surrogate pair": said("\ud83d"),
    "an array": [1],
}


@pytest.mark.parametrize("other", OTHER.values(), ids=OTHER)
def test_anything_else_is_passed_on_as_it_is_and_where_it_was(other: object) -> None:
    chunks = [answer(said("a")), answer(said("b")), answer(other), answer(other), answer(said("c")), answer(said("d"))]
    result = joined(chunks)
    assert values(result) == [said("ab"), other, other, said("cd")]
    assert [result[1], result[2]] == [chunks[2], chunks[3]]


@pytest.mark.parametrize(
    "raw",
    [
        b"[" * 100_000,
        b"{",
        b'{"choices":[{"index":0,"delta":{"content":"x","content":"y"}}]}',
        b'{"choices":[{"index":0,"delta":{"content":"x"}}],"created":NaN}',
        b'{"choices":[{"index":0,"delta":{"content":"x"}}],"created":1e400}',
        b'{"choices":[{"index":0,"delta":{"content":"\xff"}}]}',
        b'{"created":' + b"1" * 5000 + b',"choices":[{"index":0,"delta":{"content":"x"}}]}',
    ],
    ids=lambda raw: str(raw[:40]),
)
def test_what_cannot_be_read_is_passed_on_too(raw: bytes) -> None:
    assert joined([Answer(raw), Answer(raw)]) == [Answer(raw), Answer(raw)]


def test_usage_that_is_shown_stays_with_its_chunk() -> None:
    shown = Answer(json.dumps(said("b")).encode(), USAGE)
    assert joined([answer(said("a")), shown, answer(said("c"))]) == [answer(said("a")), shown, answer(said("c"))]


def test_a_joint_is_no_longer_than_it_may_be() -> None:
    assert [
        len(chunk["choices"][0]["delta"]["content"])
        for chunk in values(joined([answer(said("x" * 3)) for _ in range(10)], characters=8))
    ] == [6, 6, 6, 6, 6]
    assert [
        chunk["choices"][0]["delta"]["content"]
        for chunk in values(joined([answer(said(text)) for text in ("a", "b" * 20, "c", "d")], characters=8))
    ] == ["a", "b" * 20, "cd"]
    raw = [answer(said("\x01" * 20)) for _ in range(30)]
    most = len(raw[0].plaintext) * 4
    assert max(len(each.plaintext) for each in joined(raw, max_bytes=most)) <= most


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
CHUNKS = st.lists(
    st.one_of(
        st.builds(said, TEXT, index=st.integers(0, 1)),
        st.builds(completed, TEXT),
        st.builds(said, TEXT, usage=st.just({"total_tokens": 1})),
        st.sampled_from(list(OTHER.values())),
    ),
    max_size=30,
)


def texts_of(chunks: Sequence[Any]) -> dict[tuple[int, str], str]:
    """What each choice says, in all."""
    found: dict[tuple[int, str], str] = {}
    for chunk in chunks:
        for choice in chunk.get("choices", []) if isinstance(chunk, dict) else []:
            if isinstance(choice, dict):
                for name, text in (*choice.get("delta", {}).items(), *choice.items()):
                    if name in {"content", "text"} and isinstance(text, str):
                        key = (choice["index"], name)
                        found[key] = found.get(key, "") + text
    return found


@settings(max_examples=50)
@given(CHUNKS, st.integers(2, 40), st.integers(1, 2000))
def test_whatever_comes_the_text_of_each_choice_is_the_same(chunks: list[Any], characters: int, most: int) -> None:
    result = values(joined([answer(chunk) for chunk in chunks], characters=characters, max_bytes=most))
    assert texts_of(result) == texts_of(chunks)
    # and all that is not text alone is there, in its order
    kept = [chunk for chunk in chunks if chunk in OTHER.values()]
    assert [chunk for chunk in result if chunk in OTHER.values()] == kept


# As it comes


async def _collect(steps: Sequence[Any], coalesce: Coalesce) -> tuple[list[tuple[float, list[Any]]], Exception | None]:
    """What a stream gives that is joined, each with the time at which it came."""

    async def stream() -> AsyncIterator[list[Answer]]:
        for step in steps:
            if isinstance(step, float):
                await anyio.sleep(step)
            elif isinstance(step, Exception):
                raise step
            else:
                yield [answer(chunk) for chunk in step]

    received: list[tuple[float, list[Any]]] = []
    failure: Exception | None = None
    start = anyio.current_time()
    async with anyio.create_task_group() as group:
        it = Coalesced(stream(), coalesce, NO_LIMIT, group)
        try:
            async for batch in it:
                received.append((anyio.current_time() - start, values(batch)))  # noqa: PERF401 - until it fails
        except ValueError as error:
            failure = error
        await it.aclose()
    return received, failure


def collect(steps: Sequence[Any], coalesce: Coalesce) -> tuple[list[tuple[float, list[Any]]], Exception | None]:
    return anyio.run(_collect, steps, coalesce)


def test_text_waits_for_no_longer_than_it_may() -> None:
    received, _ = collect([[said("a")], [said("b")], 0.3, [said("c")], 0.3, [said("d")]], Coalesce(0.05))
    assert [chunks for _, chunks in received] == [[said("ab")], [said("c")], [said("d")]]
    (first, _), (second, _), _ = received
    assert 0.04 < first < second - 0.1
    assert second > 0.34


def test_the_end_and_a_failure_wait_for_nothing() -> None:
    for last in ([], [ValueError("over")]):
        received, failure = collect([[said("a")], [said("b")], *last], Coalesce(30))
        assert [chunks for _, chunks in received] == [[said("ab")]]
        assert received[0][0] < 10
        assert (failure is not None) is bool(last)


def test_what_cannot_be_joined_is_sent_at_once_with_what_was_held() -> None:
    stop = OTHER["finish reason"]
    received, _ = collect([[said("a")], [said("b"), stop], 0.2, [said("c")]], Coalesce(30))
    assert [chunks for _, chunks in received] == [[said("ab"), stop], [said("c")]]
    assert received[0][0] < 0.2


@pytest.mark.parametrize(
    "wrong", [{"seconds": 0}, {"seconds": 61}, {"seconds": True}, {"seconds": "1"}, {"characters": 1}]
)
def test_what_would_join_nothing_or_hold_too_long_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Coalesce(**wrong)


# Over HTTP


@pytest.mark.parametrize("protocol", ["v1", "v2"])
def test_a_stream_of_an_application_comes_joined_and_complete(protocol: Any) -> None:
    words = [f"{word} " for word in ["the", "quick", "brown", "fox", "jumps", "over", "the", "lazy", "dog"]]
    stop, usage = OTHER["finish reason"], FRAME | {"choices": [], "usage": USAGE}
    role = FRAME | {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}
    plaintexts = [json.dumps(chunk).encode() for chunk in (role, *map(said, words), stop, usage)]
    app = fastapi_app(events(plaintexts, pause=0.005))
    with confidential(app, coalesce=Coalesce(5, 20), pad_to="auto") as client:
        client.protocol = protocol
        session, response = client.ask(request_body(stream=True))
    chunks = [json.loads(event.plaintext) for event in opened(session, response.content)]
    assert chunks[0] == role
    assert chunks[-2:] == [stop, usage]
    assert "".join(chunk["choices"][0]["delta"]["content"] for chunk in chunks[1:-2]) == "".join(words)
    assert len(chunks) == 6


def test_a_client_that_leaves_while_text_is_held_stops_the_model() -> None:
    go_on = threading.Event()
    model = ScriptedModel([[answer(OTHER["finish reason"])], [answer(said("a"))], go_on])
    with node(model, protocol="v2", coalesce=Coalesce(60)) as client:
        client.lock()
        with client.asking(request_body(stream=True)) as (_, response):
            parts = response.iter_raw()  # let go of, it would hang up
            next(parts)
            assert not model.stopped.is_set()
        assert model.stopped.wait(10)


def test_a_failure_comes_after_the_text_before_it() -> None:
    model = ScriptedModel([[answer(said("a"))], [answer(said("b"))], InferenceError(503, passes=True)])
    with node(model, protocol="v2", coalesce=Coalesce(60)) as client:
        client.lock()
        start = time.monotonic()
        session, response = client.ask(request_body(stream=True))
        session.receive_data(response.content)
        event = session.next_event()
        assert isinstance(event, ac.Chunk)
        assert json.loads(event.plaintext) == said("ab")
        with pytest.raises(ac.RemoteAbortError, match="SERVICE_UNAVAILABLE"):
            session.next_event()
        assert time.monotonic() - start < 30
