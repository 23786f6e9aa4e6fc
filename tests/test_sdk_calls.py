"""Calls of the SDK over real HTTP, to the node made of `cryptography` and to our own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import httpx
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

import atoma_crypto as ac
from atoma_crypto.sdk import APIError, AtomaSDK, models
from atoma_crypto.server.eliza import ElizaModel
from atoma_crypto.server.node import create_app
from sdk_nodes import CANARY, MESSAGES, REPLY, USAGE, LockingNode, asked, async_client, sdk_for, told
from serving import NO_CAS, serving

COMPLETION: Final = {
    "id": "cmpl-1",
    "object": "text_completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "text": "é", "finish_reason": "length", "logprobs": {"tokens": ["é"]}}],
    "usage": USAGE,
}
EMBEDDINGS: Final = {
    "object": "list",
    "data": [
        {"object": "embedding", "index": 0, "embedding": [0.25, -1.0]},
        {"object": "embedding", "index": 1, "embedding": "AACAPg=="},
    ],
    "model": "m",
    "usage": {"prompt_tokens": 1, "total_tokens": 1},
}
IMAGES: Final = {"created": 1, "data": [{"url": "http://i/1"}, {"b64_json": "aGk=", "revised_prompt": None}]}
Arguments = dict[str, Any]
ALL: Final[list[tuple[str, Arguments, dict[str, Any], type[models.Model]]]] = [
    ("chat.create", {"messages": MESSAGES}, REPLY, models.ChatCompletionResponse),
    ("completions.create", {"prompt": ["a", "b"]}, COMPLETION, models.CompletionResponse),
    ("embeddings.create", {"input": ["a", "b"], "dimensions": 2}, EMBEDDINGS, models.CreateEmbeddingResponse),
    ("images.generate", {"prompt": "a", "response_format": "url"}, IMAGES, models.CreateImageResponse),
]


def method(sdk: AtomaSDK, name: str) -> Callable[..., Any]:
    endpoint, _, verb = name.partition(".")
    found: Callable[..., Any] = getattr(getattr(sdk, f"confidential_{endpoint}"), verb)
    return found


def ran(call: Callable[[AtomaSDK], Coroutine[Any, Any, Any]], url: str, **more: Any) -> Any:
    """The outcome of a call in an event loop of its own, with an SDK of its own."""

    async def run() -> Any:
        async with async_client() as client, httpx.AsyncClient() as _:
            sync_client = httpx.Client(trust_env=False, verify=NO_CAS)
            async with AtomaSDK(
                "any", server_url=url, **({"client": sync_client, "async_client": client} | more)
            ) as sdk:
                return await call(sdk)

    return asyncio.run(run())


@pytest.mark.parametrize(("name", "given", "reply", "kind"), ALL, ids=[row[0] for row in ALL])
@pytest.mark.parametrize("form", ["sync", "async"])
def test_every_endpoint(
    *, form: str, name: str, given: Arguments, reply: dict[str, Any], kind: type[models.Model]
) -> None:
    with asked(node := LockingNode(reply)) as sdk:
        if form == "sync":
            answer = method(sdk, name)(model="m", **given)
        else:
            answer = ran(lambda sdk: method(sdk, name + "_async")(model="m", **given), node.base_url)
        assert type(answer) is kind
        assert answer.model_dump(exclude_unset=True) == reply
        sent = node.last_body()
        assert sent.pop("stream", False) is False
        assert sent == {"model": "m", **given}
        assert node.envelopes[-1]["stream"] is False
        assert len(node.envelopes) == len(node.asked_locks) == 1
        assert node.locks == []


@pytest.mark.parametrize("form", ["sync", "async"])
@pytest.mark.parametrize(
    ("name", "given", "units"),
    [
        ("images.generate", {"prompt": "a"}, 1024 * 1024),
        ("images.generate", {"prompt": "a", "size": "1024x1024"}, 1024 * 1024),
        ("images.generate", {"prompt": "a", "size": "1792x1024", "n": 3}, 3 * 1792 * 1024),
        ("chat.create", {"messages": MESSAGES, "max_tokens": 9000}, 9000),
        ("completions.create", {"prompt": "a", "max_tokens": 131072}, 131072),
    ],
)
def test_what_a_default_lock_is_too_small_for(*, form: str, name: str, given: Arguments, units: int) -> None:
    """Images, and max_tokens above 8,192: the lock must be as large as what is asked for."""
    reply = {"images": IMAGES, "completions": COMPLETION}.get(name.partition(".")[0], REPLY)
    with asked(node := LockingNode(reply)) as sdk:
        if form == "sync":
            method(sdk, name)(model="m", **given)
        else:
            ran(lambda sdk: method(sdk, name + "_async")(model="m", **given), node.base_url)
        assert node.asked_locks == [{"model": "m", "max_num_tokens": units}]
        assert node.envelopes[0]["num_compute_units"] == units


def test_our_own_node_answers_every_form_alike() -> None:
    given: Arguments = {"messages": [{"role": "user", "content": "I need a holiday."}], "model": "eliza"}
    said: list[Any] = []
    for form in ("create", "create_stream", "create_async", "create_stream_async"):
        with serving(create_app(ac.SecretKey.generate(), ElizaModel(seed=7))) as url, sdk_for(url) as sdk:
            if form == "create":
                said.append(sdk.confidential_chat.create(**given).choices[0].message.content)
            elif form == "create_async":
                answer = ran(lambda sdk: sdk.confidential_chat.create_async(**given), url)
                said.append(answer.choices[0].message.content)
            elif form == "create_stream":
                chunks = list(sdk.confidential_chat.create_stream(**given))
                said.append(text(chunks))
            else:
                said.append(text(ran(collected(given), url)))
    assert len(set(said)) == 1
    assert len(said[0].split()) > 3


def collected(given: Arguments) -> Callable[[AtomaSDK], Coroutine[Any, Any, Any]]:
    async def collect(sdk: AtomaSDK) -> list[models.ChatCompletionChunk]:
        return [chunk async for chunk in await sdk.confidential_chat.create_stream_async(**given)]

    return collect


def text(chunks: list[models.ChatCompletionChunk]) -> str:
    assert chunks[-1].usage is not None
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)


class Recorder:
    """Our node, and the path and headers of each request that reached it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.seen: list[tuple[str, dict[str, str]]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self.seen.append((scope["path"], {k.decode(): v.decode() for k, v in scope["headers"]}))
        await self.app(scope, receive, send)


@pytest.mark.parametrize("form", ["str", "function", "environment", "header"])
def test_the_token_goes_with_the_lock_and_with_the_request(monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    monkeypatch.delenv("ATOMASDK_BEARER_AUTH", raising=False)
    if form == "environment":
        monkeypatch.setenv("ATOMASDK_BEARER_AUTH", "s3cret")
    token: Any = {"str": "s3cret", "function": lambda: "s3cret"}.get(form)
    headers = {"authorization": "Bearer s3cret", "X-Mine": "1"} if form == "header" else {"X-Mine": "1"}
    app = Recorder(create_app(ac.SecretKey.generate(), ElizaModel(), token="s3cret"))  # noqa: S106 - of this test
    with serving(app) as url, httpx.Client(trust_env=False, verify=NO_CAS) as client:
        sdk = AtomaSDK(token, server_url="http://127.0.0.1:9", client=client, async_client=async_client())
        create = sdk.confidential_chat.create
        create(messages=MESSAGES, model="eliza", server_url=url + "/", http_headers=headers)
        assert [path for path, _ in app.seen] == ["/v1/nodes/lock", "/v1/confidential/chat/completions"]
        for _, sent in app.seen:
            assert (sent["authorization"], sent["x-mine"]) == ("Bearer s3cret", "1")
        assert "s3cret" not in repr(sdk) + repr(vars(sdk.confidential_chat))

        app.seen.clear()
        with pytest.raises(APIError) as caught:
            AtomaSDK("other", server_url=url, client=client, async_client=async_client()).confidential_chat.create(
                messages=MESSAGES, model="eliza"
            )
        assert (caught.value.status_code, caught.value.code) == (401, "AUTH_ERROR")
        assert len(app.seen) == 1  # the lock was refused, so nothing was sealed


def test_a_token_that_is_no_header_is_not_shown() -> None:
    with asked(LockingNode()) as sdk, pytest.raises(ValueError, match="cannot stand in a header") as caught:
        AtomaSDK(CANARY + "\n", client=httpx.Client(), async_client=async_client()).confidential_chat.create(
            messages=MESSAGES, model="m"
        )
    assert sdk
    assert CANARY not in told(caught.value)


def test_the_callers_client_sees_what_is_sealed_alone_and_stays_open() -> None:
    seen: list[httpx.Request] = []
    with LockingNode(REPLY) as node, httpx.Client(trust_env=False, verify=NO_CAS, headers={"X-Team": "a"}) as client:
        client.event_hooks["request"] = [seen.append]
        with AtomaSDK("any", server_url=node.base_url, client=client, async_client=async_client()) as sdk:
            sdk.confidential_chat.create(messages=[{"role": "user", "content": CANARY}], model="m")
        assert not client.is_closed
    assert [request.url.path for request in seen] == ["/v1/nodes/lock", "/v1/confidential/chat/completions"]
    assert CANARY in json.dumps(node.last_body())
    for request in seen:
        assert request.headers["x-team"] == "a"
        assert CANARY.encode() not in request.content


def test_its_own_clients_are_closed_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    async def run() -> None:
        async with AtomaSDK("any", server_url=node.base_url) as sdk:
            await sdk.confidential_chat.create_async(messages=MESSAGES, model="m")
        with pytest.raises(RuntimeError, match="closed"):
            await sdk.confidential_chat.create_async(messages=MESSAGES, model="m")

    with LockingNode() as node:
        with AtomaSDK("any", server_url=node.base_url) as sdk:
            sdk.confidential_chat.create(messages=MESSAGES, model="m")
        with pytest.raises(RuntimeError, match="closed"):
            sdk.confidential_chat.create(messages=MESSAGES, model="m")
        asyncio.run(run())


def test_many_threads_and_tasks_share_one_sdk() -> None:
    async def many(sdk: AtomaSDK) -> list[Any]:
        create = sdk.confidential_chat.create_async
        return await asyncio.gather(*(create(messages=MESSAGES, model="m", seed=i) for i in range(32)))

    with asked(node := LockingNode()) as sdk, ThreadPoolExecutor(8) as pool:
        create = sdk.confidential_chat.create
        answers = list(pool.map(lambda i: create(messages=MESSAGES, model="m", seed=i), range(32)))
        answers += ran(many, node.base_url)
        assert {answer.model_dump_json() for answer in answers} == {answers[0].model_dump_json()}
        assert sorted(json.loads(side.body)["seed"] for side in node.opened) == sorted([*range(32)] * 2)
        assert len({side.members["salt"] for side in node.opened} | {side.key for side in node.opened}) == 2 * 64


@pytest.mark.parametrize(("protocol", "more"), [("v3", {}), ("v1", {"nonce_reuse": "yes"})])
def test_settings_that_cannot_be(protocol: Any, more: dict[str, Any]) -> None:
    with pytest.raises((ValueError, ac.LocalProtocolError), match=r"protocol|nonce_reuse"):
        AtomaSDK("any", protocol=protocol, client=httpx.Client(), async_client=async_client(), **more)


@pytest.mark.parametrize("url", ["", "http://127.0.0.1:9/v1?x=1"])
def test_a_server_url_with_a_query_is_refused(url: str) -> None:
    """A query would go in clear beside what is sealed."""
    with asked(LockingNode()) as sdk, pytest.raises((ac.LocalProtocolError, httpx.UnsupportedProtocol)):
        sdk.confidential_chat.create(messages=MESSAGES, model="m", server_url=url)
