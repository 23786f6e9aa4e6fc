"""All that is ours at once, over loopback: who asks in several ways, and FastAPI behind one line."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

import atoma_crypto as ac
from atoma_crypto.adapters._routes import ENDPOINTS
from atoma_crypto.adapters.asgi import ConfidentialMiddleware
from atoma_crypto.sdk import AtomaSDK
from atoma_crypto.server.gateway import create_app as gateway
from confidential_node import KINDS, PIXELS, chat, delta, items, openai_client, result, typical
from serving import NO_CAS, serving

COUNT = 1000  # events of the long stream


def plain_app(asked: list[dict[str, Any]]) -> FastAPI:
    """OpenAI's four routes in clear: it knows nothing of encryption."""
    app = FastAPI()

    async def answer(request: Request) -> Response:
        body = await request.json()
        asked.append(body)
        if body.get("seed") == COUNT:
            return StreamingResponse(stream(numbers()), media_type="text/event-stream")
        said = typical(request.url.path, body)
        if isinstance(said, dict):
            return JSONResponse(said)
        assert isinstance(said, list)
        return StreamingResponse(stream(said), media_type="text/event-stream")

    async def stream(events: list[bytes]) -> AsyncIterator[bytes]:
        for each in events:
            yield b"data: " + each + b"\n\n"
        yield b"data: [DONE]\n\n"

    for endpoint in ENDPOINTS:
        app.add_api_route(endpoint.plaintext, answer, methods=["POST"])
    return app


def numbers() -> list[bytes]:
    return [*(delta(f"{number} ") for number in range(COUNT)), delta(finish="stop")]


@contextmanager
def node() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    asked: list[dict[str, Any]] = []
    with ac.NodeKeyring() as keys:
        app = plain_app(asked)
        app.add_middleware(ConfidentialMiddleware, keys=keys)
        with serving(app) as url:
            yield url, asked


@pytest.mark.parametrize("kind", KINDS)
def test_the_openai_package_through_transport_and_middleware(kind: str) -> None:
    async def run(url: str) -> None:
        async with openai_client(kind, url) as client:
            assert (await chat(client)).choices[0].message.content == "Hello é"
            chunks = await chat(client, stream=True, seed=COUNT, max_tokens=20_000)
            text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
            assert text == "".join(f"{number} " for number in range(COUNT))
            found = await result(client.embeddings.create(model="m", input="a text"))
            assert found.data[0].embedding == [0.5, -1.0]
            drawn = await result(client.images.generate(model="m", prompt="a cat", size="1024x1024", n=2))
            assert [image.b64_json for image in drawn.data] == [PIXELS] * 2
            pieces = await items(await result(client.completions.create(model="m", prompt="once", stream=True)))
            assert "".join(piece.choices[0].text for piece in pieces) == "one two"

    with node() as (url, asked):
        asyncio.run(run(url))
    assert len(asked) == 5


def test_our_sdk_and_the_middleware() -> None:
    messages = [{"role": "user", "content": "Hello"}]
    with node() as (url, asked), AtomaSDK("any", server_url=url) as sdk:
        answer = sdk.confidential_chat.create(messages=messages, model="m", temperature=None)
        assert answer.choices[0].message.content == "Hello é"
        with sdk.confidential_chat.create_stream(messages=messages, model="m") as stream:
            said = [choice.delta.content or "" for chunk in stream for choice in chunk.choices]
        assert "".join(said) == "Hello é"
    assert asked[0] == {"model": "m", "messages": messages, "temperature": None, "stream": False}


def test_a_local_app_through_gateway_and_middleware() -> None:
    with (
        node() as (url, asked),
        serving(gateway([url], token="any")) as local,  # noqa: S106 - the node takes any
        httpx.Client(base_url=local, verify=NO_CAS, trust_env=False) as http,
    ):
        body = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}
        whole = http.post("/v1/chat/completions", json=body).json()
        assert whole["choices"][0]["message"]["content"] == "Hello é"
        events = http.post("/v1/chat/completions", json=body | {"stream": True}).text.split("\n\n")
        assert events[-2:] == ["data: [DONE]", ""]
        said = [json.loads(event[6:])["choices"] for event in events[:-2]]
        assert "".join(choices[0]["delta"].get("content") or "" for choices in said if choices) == "Hello é"
        refused = httpx.post(f"{url}/v1/chat/completions", json=body, verify=NO_CAS, trust_env=False)
        assert refused.status_code == 403
    assert len(asked) == 2
