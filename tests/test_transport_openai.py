"""The real `openai` package through the transports: both libraries, blocking and not, all endpoints."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import openai
import pytest

import atoma_crypto as ac
from atoma_crypto.adapters import _transport
from confidential_node import (
    CALL,
    KINDS,
    PIXELS,
    USAGE,
    Node,
    chat,
    delta,
    items,
    openai_client,
    result,
    running,
    the_other_endpoints,
    transport,
)
from oracle import Behaviour, OracleNode

each_kind = pytest.mark.parametrize("kind", KINDS)
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]


def text_of(chunks: list[Any]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


@each_kind
def test_chat(kind: str) -> None:
    node = Node(digest="9xTxDigest")

    async def run(url: str) -> None:
        async with openai_client(kind, url) as client:
            answer = await chat(client, temperature=0.5)
            assert answer.choices[0].message.content == "Hello é"
            assert answer.usage.total_tokens == 3
            chunks = await chat(client, stream=True)
            assert text_of(chunks) == "Hello é"
            assert chunks[-2].choices[0].finish_reason == "stop"
            assert chunks[-1].usage.model_dump(exclude_unset=True) == USAGE

    with running(node) as url:
        asyncio.run(run(url))
    whole, streamed = node.seen
    assert whole.path == streamed.path == "/v1/confidential/chat/completions"
    message = {"role": "user", "content": "Hello"}
    assert whole.body == {"model": "m", "messages": [message], "temperature": 0.5}
    assert streamed.body == {"model": "m", "messages": [message], "stream": True}
    assert [whole.envelope["stream"], streamed.envelope["stream"]] == [False, True]
    assert "num_compute_units" not in whole.envelope
    for headers in (whole.headers, streamed.headers, *node.lock_headers):
        assert headers["authorization"] == "Bearer the-token"
        assert headers["accept-encoding"] == "identity"
        assert headers["content-type"] == "application/json"
    assert [whole.headers["accept"], streamed.headers["accept"]] == ["application/json", "text/event-stream"]
    assert whole.headers["x-stack-small-id"] == str(2**53 + 1)
    assert whole.headers["x-tx-digest"] == "9xTxDigest"
    assert node.locks == [{"model": "m"}] * 2


@each_kind
def test_tools_and_images_in_messages(kind: str) -> None:
    node = Node()
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXELS}"}}
    messages = [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, image]}]

    async def run(url: str) -> None:
        async with openai_client(kind, url) as client:
            answer = await chat(client, messages=messages, tools=TOOLS)
            assert [call.model_dump() for call in answer.choices[0].message.tool_calls] == [CALL]
            chunks = await chat(client, messages=messages, tools=TOOLS, stream=True)
            assert chunks[1].choices[0].delta.tool_calls[0].function.arguments == '{"in": "Oslo"}'
            assert chunks[-2].choices[0].finish_reason == "tool_calls"

    with running(node) as url:
        asyncio.run(run(url))
    assert [seen.body["tools"] for seen in node.seen] == [TOOLS] * 2
    assert [seen.body["messages"] for seen in node.seen] == [messages] * 2


@each_kind
def test_the_other_endpoints(kind: str) -> None:
    node = Node(prefix="/behind/a/router")

    async def run(url: str) -> None:
        async with openai_client(kind, url) as client:
            await the_other_endpoints(client)

    with running(node) as url:
        asyncio.run(run(url))
    assert [seen.path.removeprefix("/v1/confidential/") for seen in node.seen] == [
        "embeddings",
        "images/generations",
        "completions",
        "completions",
    ]
    # a lock for images is for as many units as there are pixels, and the request says so
    assert node.locks[1] == {"model": "m", "max_num_tokens": 2 * 512 * 512}
    assert node.seen[1].envelope["num_compute_units"] == 2 * 512 * 512


@each_kind
def test_more_tokens_than_a_lock_holds_by_default(kind: str) -> None:
    node = Node()

    async def run(url: str) -> None:
        async with openai_client(kind, url) as client:
            for tokens in (64, 8192, 8193):
                await chat(client, max_completion_tokens=tokens)

    with running(node) as url:
        asyncio.run(run(url))
    assert node.locks == [{"model": "m"}, {"model": "m"}, {"model": "m", "max_num_tokens": 8193}]
    assert [seen.envelope["num_compute_units"] for seen in node.seen] == [64, 8192, 8193]


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_transport, "_PAUSES", (0.001, 0.001))


def assert_all_new(node: Node, times: int) -> None:
    assert len(node.locks) == len(node.seen) == times
    for name in ("client_dh_public_key", "salt", "nonce", "ciphertext"):
        assert len({seen.envelope[name] for seen in node.seen}) == times, name
    assert len({json.dumps(seen.body) for seen in node.seen}) == 1


@each_kind
def test_a_retry_of_the_package_takes_a_new_lock_key_and_salt(kind: str) -> None:
    node = Node(refusals=[(429, {"retry-after-ms": "1"}), (503, {"retry-after-ms": "1"})])

    async def run(url: str) -> None:
        async with openai_client(kind, url, retries=2) as client:
            assert text_of(await chat(client, stream=True)) == "Hello é"

    with running(node) as url:
        asyncio.run(run(url))
    assert_all_new(node, 3)


@each_kind
@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize("statuses", [(425,), (423, 425)])
def test_a_lock_that_is_gone_is_taken_anew(kind: str, statuses: tuple[int, ...]) -> None:
    node = Node(refusals=[(status, {}) for status in statuses])

    async def run(url: str) -> None:
        async with openai_client(kind, url) as client:
            assert (await chat(client)).choices[0].message.content == "Hello é"

    with running(node) as url:
        asyncio.run(run(url))
    assert_all_new(node, 1 + len(statuses))


@each_kind
@pytest.mark.usefixtures("_impatient")
def test_but_not_for_ever(kind: str) -> None:
    node = Node(refusals=[(425, {})] * 9)

    async def run(url: str) -> None:
        async with openai_client(kind, url) as client:
            with pytest.raises(openai.APIStatusError) as caught:
                await chat(client, stream=True)
            assert caught.value.status_code == 425

    with running(node) as url:
        asyncio.run(run(url))
    assert_all_new(node, 3)


@each_kind
def test_errors_are_the_ones_that_the_package_knows(kind: str) -> None:
    node = Node(
        lock_refusals=[(401, {}), (503, {}), (500, {})],
        refusals=[(400, {}), (429, {"retry-after": "7"}), (500, {})],
    )
    expected = [
        openai.AuthenticationError,
        openai.InternalServerError,
        openai.InternalServerError,
        openai.BadRequestError,
        openai.RateLimitError,
        openai.InternalServerError,
    ]

    async def run(url: str) -> None:
        async with openai_client(kind, url) as client:
            for number, error in enumerate(expected):
                with pytest.raises(error) as caught:
                    await chat(client, stream=number % 2 == 0)
                assert caught.value.body == {"code": "REFUSED", "message": "not now"}
                if error is openai.RateLimitError:
                    assert caught.value.response.headers["retry-after"] == "7"

    with running(node) as url:
        asyncio.run(run(url))


@each_kind
def test_what_is_not_sealed_is_refused_unless_it_is_named(kind: str) -> None:
    async def run(url: str) -> None:
        async with openai_client(kind, url) as client:
            with pytest.raises(ac.LocalProtocolError, match="nothing goes in clear"):
                await items(await result(client.models.list()))
            with pytest.raises(ac.LocalProtocolError, match="nothing goes in clear"):
                await result(client.responses.create(model="m", input="a secret"))
        async with openai_client(kind, url, allow_plaintext=("/v1/models",)) as client:
            assert [model.id for model in await items(await result(client.models.list()))] == ["m"]
            with pytest.raises(ac.LocalProtocolError, match="nothing goes in clear"):
                await result(client.models.retrieve("m"))

    node = Node()
    with running(node) as url:
        asyncio.run(run(url))
    assert node.locks == []


@each_kind
def test_a_foreign_node_that_repeats_nonces(kind: str) -> None:
    """As deployed nodes do; the node is made of `cryptography`."""
    reply = b'{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[]}'

    async def run(url: str) -> None:
        async with openai_client(kind, url) as client:
            assert (await chat(client)).id == "c"
            with pytest.warns(ac.NonceReuseWarning):
                assert text_of(await chat(client, stream=True)) == "ab"
        async with openai_client(kind, url, nonce_reuse="error") as client:
            with pytest.raises(ac.NonceReuseError):
                await chat(client, stream=True)

    with OracleNode(reply, [delta("a"), delta("b"), delta(finish="stop")], Behaviour(newline="\r\n")) as node:
        asyncio.run(run(node.base_url))


@each_kind
def test_the_answer_in_its_bytes(kind: str) -> None:
    """What any other reader of OpenAI's protocol finds: lengths, types and `[DONE]` are right."""

    async def run(url: str) -> None:
        library, ours = transport(kind)
        client = (library.AsyncClient if kind.endswith("async") else library.Client)(transport=ours)
        body: dict[str, Any] = {"model": "m", "messages": []}
        whole = await result(client.post(f"{url}/v1/chat/completions", json=body))
        assert whole.headers["content-type"] == "application/json"
        assert int(whole.headers["content-length"]) == len(whole.content)
        assert whole.json()["choices"][0]["message"]["content"] == "Hello é"
        stream = await result(client.post(f"{url}/v1/chat/completions", json=body | {"stream": True}))
        assert stream.headers["content-type"] == "text/event-stream"
        assert "content-length" not in stream.headers
        assert stream.content.startswith(b'data: {"id"')
        assert stream.content.endswith(b"}\n\ndata: [DONE]\n\n")
        assert stream.content.count(b"\n\n") == 7
        await result(client.aclose() if kind.endswith("async") else client.close())

    with running(Node()) as url:
        asyncio.run(run(url))


def test_a_request_body_may_come_in_parts() -> None:
    node = Node()

    async def parts() -> Any:
        for part in (b'{"model":"m",', b'"messages":[]}'):
            yield part

    async def run(url: str) -> None:
        _, ours = transport("httpx async")
        async with httpx.AsyncClient(transport=ours) as client:
            answer = await client.post(f"{url}/v1/chat/completions", content=parts())
            assert answer.json()["choices"]

    with running(node) as url:
        asyncio.run(run(url))
    assert node.seen[0].body == {"model": "m", "messages": []}
    assert int(node.seen[0].headers["content-length"]) > 100
    assert "transfer-encoding" not in node.seen[0].headers


@each_kind
def test_arguments_that_are_wrong(kind: str) -> None:
    for options, error in (
        ({"protocol": "v2"}, TypeError),
        ({"protocol": "v3"}, ValueError),
        ({"nonce_reuse": "ignore"}, ValueError),
        ({"limits": 5}, TypeError),
        ({"allow_plaintext": "/v1/models"}, TypeError),
        ({"allow_plaintext": ("/v1/embeddings",)}, ValueError),
    ):
        with pytest.raises(error):
            transport(kind, **options)
