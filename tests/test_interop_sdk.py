"""The real atoma-sdk 0.1.3, in its own environment and over real HTTP, against our node and the oracle's.

The SDK pins what it stands on, so it cannot live in this environment. `make` puts it into `.venv-sdk`;
ATOMA_CRYPTO_SDK_PYTHON names another environment's python.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

import atoma_crypto as ac
from atoma_crypto.adapters._routes import Endpoint
from atoma_crypto.server.eliza import ElizaModel
from atoma_crypto.server.model import Answer
from atoma_crypto.server.node import create_app
from oracle import OracleNode
from serving import serving

HERE: Final = Path(__file__).parent
METHODS: Final = ("create", "create_stream", "create_async", "create_stream_async")
HEAD: Final = {"id": "chatcmpl-é1", "created": 1700000000, "model": "scripted"}
USAGE: Final = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
UNICODE: Final = (
    "Grüße, 世界 🌍 👩‍👩‍👧 e\u0301 \u202eabc\u202c \u2028\u2029\u0085\ufeff"
    " \x00\x1f\x7f \"'\\/ \r\n\n\t data: [DONE]\n\n: x"
)
TOOL_CALL: Final = {
    "index": 0,
    "id": "call_1",
    "type": "function",
    "function": {"name": "weather", "arguments": '{"city":"Zürich"}'},
}
TOOL: Final = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


@dataclass(frozen=True)
class Script:
    """One answer, as the model gives it: a message, and the deltas of the same as a stream."""

    message: dict[str, object]
    deltas: Sequence[dict[str, object]]
    finish_reason: str = "stop"

    def reply(self) -> dict[str, Any]:
        choice = {"index": 0, "message": self.message, "finish_reason": self.finish_reason}
        return HEAD | {"object": "chat.completion", "choices": [choice], "usage": USAGE}

    def chunks(self) -> list[dict[str, Any]]:
        reasons: list[str | None] = [None] * (len(self.deltas) - 1) + [self.finish_reason]
        head = HEAD | {"object": "chat.completion.chunk"}
        chunks = [
            head | {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}], "usage": None}
            for delta, reason in zip(self.deltas, reasons, strict=True)
        ]
        return [*chunks, head | {"choices": [], "usage": USAGE}]


def spoken(parts: Sequence[str]) -> Script:
    said: list[dict[str, object]] = [{"content": part} for part in parts]
    deltas: list[dict[str, object]] = [{"role": "assistant", "content": ""}, *said, {}]
    return Script({"role": "assistant", "content": "".join(parts)}, deltas)


WORDS: Final = [f"w{i * 7919 % 10007:x} " for i in range(5000)]  # no two are the same
SCRIPTS: Final = {
    "long": spoken(["".join(WORDS[i : i + 4]) for i in range(0, 5000, 4)]),
    "unicode": spoken([UNICODE[:9], UNICODE[9:], *UNICODE.replace("\x00", "")]),
    "tools": Script(
        {"role": "assistant", "content": "", "tool_calls": [TOOL_CALL]},
        [
            {"role": "assistant", "content": None, "tool_calls": [TOOL_CALL]},
            {"tool_calls": [{"index": 0, "function": {"arguments": '{"x":"\\u00fc"}'}}]},
            {},
        ],
        "tool_calls",
    ),
    "empty": spoken(["", "", "a", ""]),
}


def printed(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


@dataclass
class ScriptedModel:
    """A model that says what the test wants it to say, and keeps what it was asked."""

    script: Script = SCRIPTS["empty"]
    bodies: list[bytes] = field(default_factory=list)

    def serves(self, model: str) -> bool:
        return model == "scripted"

    async def complete(self, _endpoint: Endpoint, body: bytes) -> Answer:
        self.bodies.append(body)
        return Answer(printed(self.script.reply()), USAGE)

    async def stream(self, _endpoint: Endpoint, body: bytes) -> AsyncIterator[list[Answer]]:
        self.bodies.append(body)
        chunks = [Answer(printed(chunk), chunk["usage"]) for chunk in self.script.chunks()]
        sizes = [1, 2, 7, 1, 40]
        while chunks:
            size = sizes[len(chunks) % len(sizes)]
            yield chunks[:size]
            del chunks[:size]

    async def aclose(self) -> None:
        """Nothing to close."""


@dataclass(frozen=True)
class Node:
    """A node of either make: where it is, how to tell it what to say, and what it was asked last."""

    url: str
    say: Callable[[Script], None]
    last_body: Callable[[], bytes]


@pytest.fixture(scope="module", params=["signed", "unsigned", "oracle"])
def node(request: pytest.FixtureRequest) -> Iterator[Node]:
    if request.param == "oracle":
        with OracleNode(b"", []) as oracle:

            def say(script: Script) -> None:
                oracle.reply = printed(script.reply())
                oracle.chunks = [printed(chunk) for chunk in script.chunks()]

            yield Node(oracle.base_url, say, lambda: oracle.opened[-1].body)
        return
    model = ScriptedModel()
    signing_key = ac.SigningKey.generate() if request.param == "signed" else None
    with serving(create_app(ac.SecretKey.generate(), model, signing_key=signing_key)) as url:
        yield Node(url, lambda script: setattr(model, "script", script), lambda: model.bodies[-1])


Sdk = Callable[[str, str, dict[str, Any]], Any]


@pytest.fixture(scope="module")
def sdk() -> Iterator[Sdk]:
    """Call a method of the real SDK in its own process; what it read."""
    local = HERE.parent / ".venv-sdk" / "bin" / "python"
    python = os.environ.get("ATOMA_CRYPTO_SDK_PYTHON") or (str(local) if local.exists() else None)
    if python is None:
        pytest.skip("no atoma-sdk: `make test` sets it up, or name a python that has it in ATOMA_CRYPTO_SDK_PYTHON")
    command = [python, str(HERE / "sdk_client.py")]
    direct = os.environ | {"NO_PROXY": "127.0.0.1"}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=direct) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        stdin, stdout = process.stdin, process.stdout

        def call(url: str, method: str, arguments: dict[str, Any]) -> Any:
            stdin.write(json.dumps({"url": url, "method": method, "arguments": arguments}) + "\n")
            stdin.flush()
            answer = json.loads(stdout.readline())
            assert "error" not in answer, answer["error"]
            return answer["read"]

        yield call
        stdin.close()


def as_the_sdk_reads(sent: dict[str, Any]) -> dict[str, Any]:
    """What the SDK's own models make of it.

    They have no `object` for a chunk and no `tool_calls` for a message, and a whole reply shows a null tier.
    """
    read: dict[str, Any] = json.loads(json.dumps(sent))
    if read["object"] == "chat.completion":
        read["service_tier"] = None
    else:
        del read["object"]
    for choice in read["choices"]:
        choice.get("message", {}).pop("tool_calls", None)
    return read


@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.parametrize("method", METHODS)
def test_the_sdk_reads_what_the_model_said(node: Node, sdk: Sdk, method: str, name: str) -> None:
    script = SCRIPTS[name]
    node.say(script)
    messages = [{"role": "system", "content": UNICODE}, {"role": "user", "content": f"{name} {method} 🌍"}]
    arguments = {"model": "scripted", "messages": messages, "max_tokens": 64}
    if name == "tools":
        arguments |= {"tools": [TOOL], "tool_choice": "auto"}

    read = sdk(node.url, method, arguments)

    if "stream" in method:
        assert read == [as_the_sdk_reads(chunk) for chunk in script.chunks() if chunk["choices"]]
    else:
        assert read == as_the_sdk_reads(script.reply())
    asked = json.loads(node.last_body())
    assert asked["stream"] is ("stream" in method)
    assert {key: asked[key] for key in arguments} == arguments


@pytest.mark.parametrize("method", METHODS)
def test_the_sdk_chats_with_the_built_in_model(sdk: Sdk, method: str) -> None:
    messages = [{"role": "user", "content": "I need a holiday."}]
    with serving(create_app(ac.SecretKey.generate(), ElizaModel(seed=7))) as url:
        read = sdk(url, method, {"model": "eliza", "messages": messages})
    with serving(create_app(ac.SecretKey.generate(), ElizaModel(seed=7))) as url:
        whole = sdk(url, "create", {"model": "eliza", "messages": messages})["choices"][0]["message"]["content"]
    assert len(whole.split()) > 1
    if "stream" in method:
        assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in read) == whole
        assert [chunk["choices"][0]["finish_reason"] for chunk in read[-1:]] == ["stop"]
        assert len(read) > len(whole.split())
    else:
        assert read["choices"][0]["message"] == {"role": "assistant", "content": whole}
        assert read["choices"][0]["finish_reason"] == "stop"
