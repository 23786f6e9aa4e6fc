"""The real `openai` package over protocol v2, through the transports of both libraries, blocking and not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from starlette.responses import JSONResponse

import atoma_crypto as ac
from atoma_crypto.adapters import _transport
from atoma_crypto.adapters.httpx import Origin
from atoma_crypto.attestation import PinnedKeys
from confidential_node import (
    CALL,
    KINDS,
    USAGE,
    Abort,
    Node,
    chat,
    delta,
    openai_client,
    result,
    running,
    the_other_endpoints,
    transport,
    typical,
)

each_kind = pytest.mark.parametrize("kind", KINDS)
BODY: dict[str, Any] = {"model": "m", "messages": []}
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]


def v2_client(kind: str, url: str, node: Node, **options: Any) -> Any:
    return openai_client(kind, url, **speaking(node) | options)


def speaking(node: Node) -> dict[str, Any]:
    return {"protocol": "v2", "verify": node.policy}


def text_of(chunks: list[Any]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def aborting(status: int, *, shown: int = 0, code: str = "OVERLOADED", message: str = "too busy: é") -> Any:
    def answer(*_: object) -> Any:
        raise Abort(code, message, status, shown)

    return answer


@each_kind
def test_chat(kind: str) -> None:
    node = Node(v2=True, digest="9xTxDigest")

    async def run(url: str) -> None:
        async with v2_client(kind, url, node) as client:
            answer = await chat(client, temperature=0.5)
            assert answer.choices[0].message.content == "Hello é"
            chunks = await chat(client, stream=True)
            assert text_of(chunks) == "Hello é"
            assert chunks[-2].choices[0].finish_reason == "stop"
            assert chunks[-1].usage.model_dump(exclude_unset=True) == USAGE
            called = await chat(client, tools=TOOLS, stream=True)
            assert called[1].choices[0].delta.tool_calls[0].id == CALL["id"]

    with running(node) as url:
        asyncio.run(run(url))
    message = {"role": "user", "content": "Hello"}
    whole, streamed, _ = node.seen
    assert whole.body == {"model": "m", "messages": [message], "temperature": 0.5}
    assert streamed.body == {"model": "m", "messages": [message], "stream": True}
    for seen in node.seen:
        assert seen.path == "/v1/confidential/chat/completions"
        assert seen.envelope["v"] == 2
        assert seen.envelope["endpoint"] == "/v1/chat/completions"
        assert seen.envelope["model_name"] == "m"
        assert seen.envelope["stack_small_id"] == 42
        assert seen.headers["x-stack-small-id"] == "42"
        assert seen.headers["x-tx-digest"] == "9xTxDigest"
        assert abs(seen.envelope["sent_at"] - time.time()) < 60
    assert len({seen.envelope["enc"] for seen in node.seen}) == 3


@each_kind
def test_the_other_endpoints(kind: str) -> None:
    node = Node(v2=True, prefix="/behind/a/router", small_id=None)

    async def run(url: str) -> None:
        async with v2_client(kind, url, node) as client:
            await the_other_endpoints(client)

    with running(node) as url:
        asyncio.run(run(url))
    names = ["embeddings", "images/generations", "completions", "completions"]
    assert [seen.path.removeprefix("/v1/confidential/") for seen in node.seen] == names
    assert [seen.envelope["endpoint"] for seen in node.seen] == [f"/v1/{name}" for name in names]
    assert [seen.envelope["num_compute_units"] for seen in node.seen] == [None, 2 * 512 * 512, None, None]
    assert all(seen.envelope["stack_small_id"] is None for seen in node.seen)
    assert all("x-stack-small-id" not in seen.headers for seen in node.seen)


def test_suites_in_order_of_preference() -> None:
    """The node offers both; what the client prefers is taken, and only what it accepts."""
    node = Node(v2=True, more_keys=[ac.SecretKey.generate("X-Wing")])

    async def run(url: str) -> None:
        for suites, length in ((("X-Wing", "X25519"), 1120), (("X25519", "X-Wing"), 32), (("X-Wing",), 1120)):
            async with v2_client("httpx", url, node, suites=suites) as client:
                assert text_of(await chat(client, stream=True)) == "Hello é"
            enc = node.seen[-1].envelope["enc"]
            assert len(enc) == -(-length // 3) * 4

    with running(node) as url:
        asyncio.run(run(url))


def test_v2_needs_no_finish_reason() -> None:
    """The end is the node's word, not a guess: v1 would take this for a cut stream."""
    node = Node(lambda *_: [delta("and so on")], v2=True)

    async def run(url: str) -> None:
        async with v2_client("httpx2", url, node) as client:
            assert text_of(await chat(client, stream=True)) == "and so on"

    with running(node) as url:
        asyncio.run(run(url))


ABORTS = {
    400: openai.BadRequestError,
    429: openai.RateLimitError,
    500: openai.InternalServerError,
    503: openai.InternalServerError,
}


@each_kind
def test_a_sealed_error_instead_of_an_answer(kind: str) -> None:
    """Its own status counts, whatever stands around it, and it may come where a stream was asked for."""
    node = Node(v2=True)

    async def run(url: str) -> None:
        async with v2_client(kind, url, node) as client:
            for status, error in ABORTS.items():
                for shown in (0, 200, 418, 599):
                    node.answer = aborting(status, shown=shown)
                    for stream in (False, True):
                        with pytest.raises(error) as caught:
                            await chat(client, stream=stream)
                        assert caught.value.status_code == status
                        assert caught.value.body == {"code": "OVERLOADED", "message": "too busy: é"}

    with running(node) as url:
        asyncio.run(run(url))


@each_kind
def test_a_sealed_error_in_the_middle_of_a_stream(kind: str) -> None:
    def pieces(*_: object) -> Iterator[bytes]:
        yield delta("a")
        raise Abort(message="a canary")

    got: list[str] = []

    async def run(url: str) -> None:
        async with v2_client(kind, url, node) as client:
            stream = await result(client.chat.completions.create(**BODY, stream=True))
            if kind.endswith("async"):
                async for chunk in stream:
                    got.append(text_of([chunk]))  # noqa: PERF401 - what came before the fault counts
            else:
                for chunk in stream:
                    got.append(text_of([chunk]))  # noqa: PERF401 - as above

    node = Node(pieces, v2=True)
    with running(node) as url, pytest.raises(ac.RemoteAbortError) as caught:
        asyncio.run(run(url))
    assert got == ["a"]
    assert (caught.value.code, caught.value.message, caught.value.status) == ("OVERLOADED", "a canary", 503)
    assert "canary" not in str(caught.value)


async def get(kind: str, url: str, node: Node, body: dict[str, Any], **options: Any) -> Any:
    """The response itself, read."""
    library, ours = transport(kind, **speaking(node) | options)
    client = (library.AsyncClient if kind.endswith("async") else library.Client)(transport=ours)
    try:
        return await result(client.post(f"{url}/v1/chat/completions", json=body))
    finally:
        await result(client.aclose() if kind.endswith("async") else client.close())


@each_kind
def test_a_response_says_whose_it_is(kind: str) -> None:
    node = Node(v2=True, refusals=[(409, {"x-should-retry": "false"})], lock_refusals=[(401, {})])

    async def run(url: str) -> None:
        locked_out = await get(kind, url, node, BODY)
        assert (locked_out.status_code, locked_out.extensions["atoma_crypto"]) == (401, Origin(False, "v2"))
        clear = await get(kind, url, node, BODY)
        assert (clear.status_code, clear.extensions["atoma_crypto"]) == (409, Origin(False, "v2"))
        assert clear.headers["x-should-retry"] == "false"
        assert clear.json() == {"error": {"code": "REFUSED", "message": "not now"}}
        node.answer = aborting(500, shown=200)
        aborted = await get(kind, url, node, BODY)
        assert (aborted.status_code, aborted.headers["content-type"]) == (500, "application/json")
        node.answer = Node().answer
        whole, stream = await get(kind, url, node, BODY), await get(kind, url, node, BODY | {"stream": True})
        assert stream.text.endswith("}\n\ndata: [DONE]\n\n")
        assert stream.text.count("[DONE]") == 1
        for response in (aborted, whole, stream):
            origin = response.extensions["atoma_crypto"]
            assert (origin.sealed, origin.protocol, origin.claims) == (True, "v2", {"policy": "pinned"})
            assert origin.public_key == node.key.public_key
            assert 3500 < origin.expires_at - time.time() < 3601

    with running(node) as url:
        asyncio.run(run(url))


def test_a_response_of_v1_says_that_nothing_was_verified() -> None:
    node = Node(refusals=[(409, {})])

    async def run(url: str) -> None:
        for origin in (Origin(False, "v1"), Origin(True, "v1", node.key.public_key)):
            response = await get("httpx", url, node, BODY, protocol="v1", verify=None)
            assert response.extensions["atoma_crypto"] == origin
        library, ours = transport("httpx", allow_plaintext=("/v1/models",))
        with library.Client(transport=ours) as client:
            assert client.get(f"{url}/v1/models").extensions["atoma_crypto"] == Origin(False, "v1")

    with running(node) as url:
        asyncio.run(run(url))


@each_kind
def test_a_key_that_the_node_does_not_know_any_more(kind: str) -> None:
    node, new = Node(v2=True), ac.SecretKey.generate()
    both = PinnedKeys([node.key.public_key, new.public_key])

    async def lock(request: Any) -> Any:
        reply = await Node._lock(node, request)
        node.key = new
        return reply

    node._lock = lock  # type: ignore[method-assign]

    async def run(url: str) -> None:
        async with v2_client(kind, url, node, verify=both) as client:
            assert text_of(await chat(client, stream=True)) == "Hello é"

    with running(node) as url:
        asyncio.run(run(url))
    assert len(node.locks) == 2
    assert len(node.seen) == 1


class Forgetful(Node):
    """Says of every request that it does not know the key."""

    asked = 0

    async def _ask(self, _request: Any) -> Any:
        self.asked += 1
        return JSONResponse({"error": {"code": "KEY_UNKNOWN", "message": "which?"}}, 422)


@each_kind
@pytest.mark.parametrize("case", ["same key", "always another", "not wanted", "another is not trusted"])
def test_but_a_forged_word_does_not_make_it_run_twice_for_nothing(kind: str, case: str) -> None:
    node = Forgetful(v2=True)
    node.old_keys = [node.key, *(ac.SecretKey.generate() for _ in range(3))]
    policy = PinnedKeys(node.key.public_key) if case == "another is not trusted" else node.policy

    async def run(url: str) -> None:
        async with v2_client(kind, url, node, verify=policy, retry_unknown_key=case != "not wanted") as client:
            expected = ac.AttestationError if case == "another is not trusted" else openai.UnprocessableEntityError
            with pytest.raises(expected):
                await chat(client)

    if case != "same key":
        honest = node._lock

        async def lock(request: Any) -> Any:
            reply = await honest(request)
            node.key = node.old_keys[len(node.locks)]
            return reply

        node._lock = lock  # type: ignore[method-assign]
    with running(node) as url:
        asyncio.run(run(url))
    sealed, locks = {"same key": (1, 2), "always another": (2, 2), "not wanted": (1, 1)}.get(case, (1, 2))
    assert (node.asked, len(node.locks)) == (sealed, locks)


@each_kind
@pytest.mark.parametrize("sealed", [False, True], ids=["by a router", "by the node"])
def test_a_lock_that_is_gone_is_taken_anew(kind: str, sealed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_transport, "_PAUSES", (0.001, 0.001))
    gone: list[int] = []

    def answer(path: str, body: dict[str, Any]) -> Any:
        if gone:
            raise Abort("UNAVAILABLE_STACK", "take a new one", gone.pop(0))
        return typical(path, body)

    node = Node(answer, v2=True, refusals=[] if sealed else [(423, {}), (425, {})])

    async def run(url: str) -> None:
        async with v2_client(kind, url, node) as client:
            gone.extend([423, 425] if sealed else [])
            assert (await chat(client)).choices[0].message.content == "Hello é"
            gone.extend([423, 425] if sealed else [])
            assert text_of(await chat(client, stream=True)) == "Hello é"
            if sealed:
                gone.extend([425] * 4)
                with pytest.raises(openai.APIStatusError, match="take a new one"):  # only so often
                    await chat(client)

    with running(node) as url:
        asyncio.run(run(url))
    count = 9 if sealed else 4
    assert len(node.locks) == len({seen.envelope["enc"] for seen in node.seen}) == count


def test_lengths_are_hidden_when_asked_for() -> None:
    node = Node(v2=True, pad_to="auto")
    lengths: dict[Any, set[int]] = {None: set(), "auto": set(), 4096: set()}

    async def run(url: str) -> None:
        for pad_to, found in lengths.items():
            async with v2_client("httpx", url, node, pad_to=pad_to) as client:
                for said in ("a", "a" * 100, "a" * 700):
                    assert text_of(await chat(client, said=said, stream=True)) == "Hello é"
                    found.add(len(node.seen[-1].envelope["ciphertext"]))

    with running(node) as url:
        asyncio.run(run(url))
    assert {pad_to: len(found) for pad_to, found in lengths.items()} == {None: 3, "auto": 1, 4096: 1}


@each_kind
def test_arguments_that_are_wrong(kind: str) -> None:
    pinned = PinnedKeys(ac.SecretKey.generate().public_key)
    wrong: list[tuple[dict[str, Any], type[Exception]]] = [
        ({}, TypeError),
        ({"verify": None}, TypeError),
        ({"verify": PinnedKeys}, TypeError),
        ({"verify": "pinned"}, TypeError),
        ({"verify": pinned, "suites": "X25519"}, TypeError),
        ({"verify": pinned, "suites": ()}, ValueError),
        ({"verify": pinned, "suites": ("X25519", "X25519")}, ValueError),
        ({"verify": pinned, "suites": ("P-256",)}, ValueError),
        ({"verify": pinned, "pad_to": "always"}, TypeError),
        ({"verify": pinned, "pad_to": 0}, ValueError),
        ({"verify": pinned, "retry_unknown_key": 1}, TypeError),
        ({"verify": pinned, "suites": ("X-Wing",), "protocol": "v1"}, TypeError),
        ({"suites": ("X-Wing",), "protocol": "v1"}, TypeError),
    ]
    for options, error in wrong:
        with pytest.raises(error):
            transport(kind, **({"protocol": "v2"} | options))


@each_kind
@pytest.mark.parametrize("model", ["", "m" * 257, "é" * 129])
def test_a_model_that_v2_cannot_name(kind: str, model: str) -> None:
    node = Node(v2=True)

    async def run(url: str) -> None:
        await get(kind, url, node, {"model": model, "messages": []})

    with running(node) as url, pytest.raises(ac.LocalProtocolError):
        asyncio.run(run(url))
    assert node.locks == []
