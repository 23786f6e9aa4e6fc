"""The SDK's arguments: what is refused before anything is sent, and what a node decrypts of the rest."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pydantic
import pytest

from atoma_crypto.sdk import UNSET, AtomaSDK
from atoma_crypto.sdk.models import ChatCompletionMessage, ChatCompletionResponse
from sdk_nodes import CANARY, MESSAGES, REPLY, LockingNode, asked, sdk_for, told

CHAT: Final = {"messages": MESSAGES, "model": "m"}
TEXT: Final = {"prompt": "Hello", "model": "m"}
OPTIONAL: Final[dict[str, Any]] = {
    "frequency_penalty": -2,
    "function_call": "auto",
    "functions": [{"name": "f"}],
    "logit_bias": {"50256": -100},
    "max_tokens": 64,
    "n": 1,
    "presence_penalty": 2.0,
    "response_format": {"type": "json_object"},
    "seed": 0,
    "stop": ["a", "b", "c", "d"],
    "temperature": 0.0,
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
    "top_p": 1,
    "user": "Jürgen 🌍",
}


@pytest.fixture(scope="module")
def node() -> Iterator[LockingNode]:
    with LockingNode() as node:
        yield node


@pytest.fixture
def sdk(node: LockingNode) -> Iterator[AtomaSDK]:
    with sdk_for(node.base_url) as sdk:
        yield sdk


def test_nothing_is_sent_but_what_was_given(node: LockingNode, sdk: AtomaSDK) -> None:
    sdk.confidential_chat.create(messages=MESSAGES, model="m")
    assert node.last_body() == {**CHAT, "stream": False}


def test_everything_that_was_given_is_sent(node: LockingNode, sdk: AtomaSDK) -> None:
    sdk.confidential_chat.create(messages=MESSAGES, model="m", **OPTIONAL)
    assert node.last_body() == {**CHAT, **OPTIONAL, "stream": False}
    assert list(sdk.confidential_chat.create_stream(messages=MESSAGES, model="m", **OPTIONAL))
    assert node.last_body() == {**CHAT, **OPTIONAL, "stream": True}
    assert node.envelopes[-1]["num_compute_units"] == 64


@pytest.mark.parametrize("name", OPTIONAL)
def test_none_is_null_and_unset_is_nothing(node: LockingNode, sdk: AtomaSDK, name: str) -> None:
    create: Any = sdk.confidential_chat.create
    create(**CHAT, **{name: None})
    assert node.last_body() == {**CHAT, name: None, "stream": False}
    create(**CHAT, **{name: UNSET})
    assert node.last_body() == {**CHAT, "stream": False}


def test_models_of_others_are_sent_with_what_their_defaults_say(node: LockingNode, sdk: AtomaSDK) -> None:
    class Said(pydantic.BaseModel):
        role: str = "user"
        content: str
        name: str | None = None

    create: Any = sdk.confidential_chat.create
    create(messages=[Said(content="Hi")], model="m")
    assert node.last_body()["messages"] == [{"role": "user", "content": "Hi"}]


def test_a_header_that_cannot_be_is_not_quoted(sdk: AtomaSDK) -> None:
    for headers in ({"X-A": "canary\n"}, {"canary é": "x"}, {"X-A": "canary é"}):
        with pytest.raises(ValueError, match="http_headers") as refused:
            sdk.confidential_chat.create(messages=MESSAGES, model="m", http_headers=headers)
        assert "canary" not in str(refused.value)


def test_stream_may_be_said_but_not_contradicted(node: LockingNode, sdk: AtomaSDK) -> None:
    chat: Any = sdk.confidential_chat
    chat.create(**CHAT, stream=False)
    assert node.last_body()["stream"] is False
    chat.create(**CHAT, stream=None)
    assert node.last_body()["stream"] is None
    sent = len(node.asked_locks)
    for method, stream in ((chat.create, True), (chat.create_stream, False), (chat.create_stream, None)):
        with pytest.raises(ValueError, match="stream must be"):
            method(**CHAT, stream=stream)
    assert len(node.asked_locks) == sent


BOUNDS: Final = [
    ("frequency_penalty", -2, 2),
    ("presence_penalty", -2, 2),
    ("temperature", 0, 2),
    ("top_p", 0, 1),
]
ENDPOINTS: Final = [("confidential_chat", CHAT), ("confidential_completions", TEXT)]


@pytest.mark.parametrize(("endpoint", "given"), ENDPOINTS)
@pytest.mark.parametrize(("name", "low", "high"), BOUNDS)
def test_bounds(
    *, node: LockingNode, sdk: AtomaSDK, endpoint: str, given: dict[str, Any], name: str, low: int, high: int
) -> None:
    resource: Any = getattr(sdk, endpoint)
    if endpoint == "confidential_chat":  # both ends are inside
        for value in (float(low), high):
            resource.create(**given, **{name: value})
            assert node.last_body()[name] == value
    sent = len(node.asked_locks)
    for value in (low - 1e-9, high + 1e-9, float("nan"), float("inf"), -float("inf")):
        for method in (resource.create, resource.create_stream, resource.create_async, resource.create_stream_async):
            with pytest.raises(ValueError, match=f"^{name} must be {low} to {high}$"):
                method(**given, **{name: value})
    for wrong in ("1", True, [1]):
        with pytest.raises(TypeError, match=f"^{name} must be a number$"):
            resource.create(**given, **{name: wrong})
    assert len(node.asked_locks) == sent


@pytest.mark.parametrize(
    ("endpoint", "method", "given", "wrong", "text"),
    [
        ("chat", "create", CHAT, {"stop": list("abcde")}, "stop must be up to 4"),
        ("chat", "create", CHAT, {"max_tokens": 0}, "max_tokens must be 1"),
        ("chat", "create", CHAT, {"n": 0}, "n must be 1"),
        ("completions", "create", TEXT, {"stop": list("abcde")}, "stop must be up to 4"),
        ("completions", "create", TEXT, {"max_tokens": -1}, "max_tokens must be 0"),
        ("completions", "create", TEXT, {"best_of": 0}, "best_of must be 1"),
        ("completions", "create", TEXT, {"logprobs": -1}, "logprobs must be 0"),
        ("embeddings", "create", {"input": "a", "model": "m"}, {"dimensions": 0}, "dimensions must be 1"),
        ("images", "generate", TEXT, {"n": 0}, "n must be 1"),
        ("chat", "create", CHAT, {"user": "\ud800" + CANARY}, "user cannot be written"),
        ("chat", "create", CHAT, {"logit_bias": {CANARY: float("nan")}}, "logit_bias cannot be written"),
        ("chat", "create", CHAT, {"tools": [{CANARY: object()}]}, "tools cannot be written"),
        ("chat", "create", CHAT, {"messages": [{"content": {CANARY}}]}, "messages cannot be written"),
    ],
)
def test_other_values_that_cannot_be(
    *,
    node: LockingNode,
    sdk: AtomaSDK,
    endpoint: str,
    method: str,
    given: dict[str, Any],
    wrong: dict[str, Any],
    text: str,
) -> None:
    sent = len(node.asked_locks)
    with pytest.raises(ValueError, match=text) as caught:
        getattr(getattr(sdk, f"confidential_{endpoint}"), method)(**(given | wrong))
    assert CANARY not in told(caught.value)
    assert len(node.asked_locks) == sent


@pytest.mark.parametrize(
    "wrong",
    [
        {"messages": "Hello"},
        {"messages": ["Hello"]},
        {"messages": {"role": "user", "content": "Hello"}},
        {"model": None},
        {"max_tokens": 1.5},
        {"n": True},
        {"stop": [1]},
        {"stop": 1},
        {"temprature": 1},
    ],
    ids=str,
)
def test_values_of_the_wrong_type(sdk: AtomaSDK, wrong: dict[str, Any]) -> None:
    create: Any = sdk.confidential_chat.create
    with pytest.raises(TypeError):
        create(**(CHAT | wrong))
    with pytest.raises(TypeError):
        create(MESSAGES, "m")  # by name alone


def test_messages_may_be_models_and_an_answer_goes_back_as_it_came() -> None:
    spoken: dict[str, Any] = {"role": "assistant", "content": None, "refusal": None, "x": {"y": [1]}}
    spoken |= {"tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}, "z": 1}]}
    reply = REPLY | {"choices": [{"index": 0, "message": spoken, "finish_reason": "tool_calls"}]}
    with asked(node := LockingNode(reply)) as sdk:
        first = ChatCompletionMessage(role="user", content="Hello")
        named = ChatCompletionMessage(role="user", content="Hi", name=None)
        answer = sdk.confidential_chat.create(messages=[first, named], model="m")
        assert node.last_body()["messages"] == [
            {"role": "user", "content": "Hello"},
            {"role": "user", "content": "Hi", "name": None},
        ]
        result = {"role": "tool", "tool_call_id": "1", "content": [{"type": "text", "text": "3"}]}
        sdk.confidential_chat.create(messages=[first, answer.choices[0].message, result], model="m")
        assert node.last_body()["messages"] == [{"role": "user", "content": "Hello"}, spoken, result]
        parts = ChatCompletionMessage(role="user", content=[{"type": "image_url", "image_url": {"url": "data:,"}}])
        sdk.confidential_chat.create(messages=(parts,), model="m", tools=[parts])
        assert node.last_body()["messages"] == node.last_body()["tools"] == [parts.model_dump(exclude_unset=True)]


def test_models_are_frozen_and_keep_what_they_do_not_know() -> None:
    answer = ChatCompletionResponse.model_validate(REPLY | {"kv_transfer": {"a": 1}})
    assert answer.model_dump(exclude_unset=True) == REPLY | {"kv_transfer": {"a": 1}}
    with pytest.raises(ValueError, match="frozen"):
        answer.model = "other"


def test_the_arguments_are_shown_and_are_at_least_those_of_atoma_sdk(sdk: AtomaSDK) -> None:
    shown = inspect.signature(sdk.confidential_chat.create)
    assert {*OPTIONAL, *CHAT, "stream", "retries", "server_url", "timeout_ms", "http_headers"} == set(shown.parameters)
    assert all(parameter.kind is inspect.Parameter.KEYWORD_ONLY for parameter in shown.parameters.values())
    assert "up to four" in (inspect.getdoc(sdk.confidential_chat.create_stream_async) or "")


def test_the_real_sdk_takes_no_argument_that_this_does_not(sdk: AtomaSDK) -> None:
    local = Path(__file__).parent.parent / ".venv-sdk" / "bin" / "python"
    python = os.environ.get("ATOMA_CRYPTO_SDK_PYTHON") or (str(local) if local.exists() else None)
    if python is None:
        pytest.skip("no atoma-sdk: `make test` sets it up, or name a python that has it in ATOMA_CRYPTO_SDK_PYTHON")
    methods = {
        f"confidential_{endpoint}.{name}": getattr(getattr(sdk, f"confidential_{endpoint}"), name)
        for endpoint, names in {
            "chat": ("create", "create_stream", "create_async", "create_stream_async"),
            "embeddings": ("create", "create_async"),
            "images": ("generate", "generate_async"),
        }.items()
        for name in names
    }
    program = (
        "import inspect, json, sys; from atoma_sdk import AtomaSDK; sdk = AtomaSDK(); "
        "find = lambda name: getattr(getattr(sdk, name.split('.')[0]), name.split('.')[1]); "
        "print(json.dumps({name: list(inspect.signature(find(name)).parameters) for name in sys.argv[1:]}))"
    )
    ran = subprocess.run([python, "-c", program, *methods], capture_output=True, text=True, check=True, timeout=60)
    for name, theirs in json.loads(ran.stdout).items():
        assert set(theirs) <= set(inspect.signature(methods[name]).parameters), name
