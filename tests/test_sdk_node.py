"""The SDK against our own node: all four endpoints, its errors, and what is left in logs."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any, Final

import pytest

from atoma_crypto.sdk import APIClientError, APIError, AtomaSDK, BackoffStrategy, RetryConfig
from atoma_crypto.server.model import Answer, InferenceError
from sdk_nodes import CANARY, CHUNKS, MESSAGES, REPLY, async_client, printed, sdk_for, told
from serving import ScriptedModel, node

COMPLETION: Final = {"choices": [{"index": 0, "text": CANARY, "finish_reason": "stop"}], "usage": {"total_tokens": 2}}
EMBEDDING: Final = {"data": [{"index": 0, "embedding": [0.5]}], "usage": {"prompt_tokens": 2, "total_tokens": 2}}
IMAGE: Final = {"created": 1, "data": [{"b64_json": "aGk="}]}
CASES: Final[list[tuple[str, dict[str, Any], dict[str, Any]]]] = [
    ("chat.create", {"messages": MESSAGES, "max_tokens": 9000}, REPLY),
    ("completions.create", {"prompt": "a", "max_tokens": 20_000}, COMPLETION),
    ("embeddings.create", {"input": "a"}, EMBEDDING),
    ("images.generate", {"prompt": "a", "size": "1024x1024"}, IMAGE),
]


def answers(*values: object) -> list[Answer]:
    return [Answer(printed(value)) for value in values]


@pytest.mark.parametrize(("name", "given", "reply"), CASES, ids=[case[0] for case in CASES])
def test_all_endpoints_of_our_node(name: str, given: dict[str, Any], reply: dict[str, Any]) -> None:
    model = ScriptedModel(answers(reply))
    endpoint, _, method = name.partition(".")
    with node(model) as client, sdk_for(client.url) as sdk:
        answer = getattr(getattr(sdk, f"confidential_{endpoint}"), method)(model="scripted", **given)
        assert answer.model_dump(exclude_unset=True) == reply
        asked = json.loads(model.bodies[0])
        asked.pop("stream", None)
        assert asked == {"model": "scripted", **given}


def test_completions_stream_from_our_node() -> None:
    pieces = [
        {"choices": [{"index": 0, "text": "a"}]},
        {"choices": [{"index": 0, "text": "", "finish_reason": "stop"}]},
    ]
    with node(ScriptedModel([answers(*pieces)])) as client, sdk_for(client.url) as sdk:
        stream = sdk.confidential_completions.create_stream(prompt="a", model="scripted")
        assert [each.model_dump(exclude_unset=True) for each in stream] == pieces


def test_a_busy_upstream_is_told_and_asked_again() -> None:
    model = ScriptedModel([InferenceError(429, retry_after="0")])
    config = RetryConfig("backoff", BackoffStrategy(1, 1, 1, 1000))
    with node(model) as client, sdk_for(client.url, retry_config=config) as sdk:
        with pytest.raises(APIClientError) as caught:
            sdk.confidential_chat.create(messages=MESSAGES, model="scripted")
        assert caught.value.status_code == 429
        assert caught.value.headers["retry-after"] == "0"
        assert len(model.bodies) > 1
        assert len(set(model.bodies)) == 1


def test_nothing_of_it_is_in_any_log(caplog: pytest.LogCaptureFixture) -> None:
    """Prompts, answers and the token, at the lowest level of every logger, when all goes well and when it does not."""
    caplog.set_level(logging.DEBUG)
    given: dict[str, Any] = {"messages": [{"role": "user", "content": CANARY}], "model": "scripted", "user": CANARY}
    chunks = [{**CHUNKS[0], "note": CANARY}, *CHUNKS[1:]]
    shown = ""

    async def ask(url: str, form: str) -> list[Any]:
        async with async_client() as client, AtomaSDK(CANARY, server_url=url, async_client=client) as sdk:
            answer = await getattr(sdk.confidential_chat, form)(**given)
            return [each async for each in answer] if "stream" in form else [answer]

    right = 0
    for steps in (answers(REPLY | {"note": CANARY}), [answers(*chunks)], [InferenceError(500)]):
        model = ScriptedModel(steps)
        with node(model) as client:
            sdk = AtomaSDK(CANARY, server_url=client.url, client=client.http, async_client=async_client())
            for form in ("create", "create_stream", "create_async", "create_stream_async"):
                try:
                    if "async" in form:
                        found = asyncio.run(ask(client.url, form))
                    else:
                        answer = getattr(sdk.confidential_chat, form)(**given)
                        found = list(answer) if "stream" in form else [answer]
                    right += found[0].note == CANARY
                except APIError as error:  # noqa: PERF203 - each form ends in its own way
                    shown += told(error)
        assert CANARY.encode() in model.bodies[0]
    assert right == 4  # the model has either a whole answer or a stream
    assert "httpcore" in {record.name.partition(".")[0] for record in caplog.records}
    assert "status 500" in shown
    assert CANARY not in shown + caplog.text
