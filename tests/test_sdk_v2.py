"""The SDK over protocol v2: what is sealed and to whom, errors that the node vouches for, and streams that end."""

from __future__ import annotations

import asyncio
import pickle
import traceback
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

import atoma_crypto as ac
from atoma_crypto.attestation import PinnedKeys
from atoma_crypto.sdk import APIClientError, APIError, APIServerError, AtomaSDK, BackoffStrategy, RetryConfig
from atoma_crypto.sdk._errors import api_error
from confidential_node import USAGE, Abort, Node, delta, running
from middle import Middle, without
from sdk_nodes import CANARY, MESSAGES, async_client, is_closed, recorded_sessions, sdk_for
from serving import serving


def speaking(node: Node, **more: Any) -> dict[str, Any]:
    return {"protocol": "v2", "verify": node.policy} | more


def chat(sdk: AtomaSDK) -> Any:
    return sdk.confidential_chat.create(messages=MESSAGES, model="m")


def shown(error: BaseException) -> str:
    """What a log or a traceback shows of it."""
    return f"{error} {error!r} " + "".join(traceback.format_exception(error))


def aborting(*arguments: Any) -> Any:
    def answer(*_: object) -> Any:
        raise Abort(*arguments)

    return answer


def test_all_endpoints_both_ways() -> None:
    node = Node(v2=True, more_keys=[ac.SecretKey.generate("X-Wing")])

    async def run(url: str) -> None:
        async with (
            async_client() as client,
            AtomaSDK("t", server_url=url, async_client=client, **speaking(node)) as sdk,
        ):
            answer = await sdk.confidential_chat.create_async(messages=MESSAGES, model="m")
            assert answer.choices[0].message.content == "Hello é"
            stream = await sdk.confidential_chat.create_stream_async(messages=MESSAGES, model="m")
            usage = [chunk async for chunk in stream][-1].usage
            assert usage is not None
            assert usage.model_dump() == USAGE

    with running(node) as url:
        asyncio.run(run(url))
        with sdk_for(url, **speaking(node, suites=("X-Wing",), pad_to="auto")) as sdk:
            assert chat(sdk).choices[0].message.content == "Hello é"
            chunks = list(sdk.confidential_chat.create_stream(messages=MESSAGES, model="m"))
            assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "Hello é"
            assert sdk.confidential_completions.create(prompt="a", model="m").choices[0].text == "after a"
            assert sdk.confidential_embeddings.create(input="a", model="m").data[0].embedding == [0.5, -1.0]
            assert len(sdk.confidential_images.generate(prompt="a", model="m", n=2).data) == 2
    assert {len(seen.envelope["enc"]) for seen in node.seen[:2]} == {44}
    assert {len(seen.envelope["enc"]) for seen in node.seen[2:]} == {1496}
    assert len({len(seen.envelope["ciphertext"]) for seen in node.seen[2:]}) == 1


@pytest.mark.parametrize(("status", "error"), [(400, APIClientError), (500, APIServerError)])
@pytest.mark.parametrize("stream", [False, True])
def test_an_error_says_whether_the_node_vouches_for_it(status: int, error: type[APIError], stream: bool) -> None:
    node = Node(aborting("NO_ROOM", CANARY, status, 418), v2=True, refusals=[(status, {})])
    with running(node) as url, sdk_for(url, **speaking(node)) as sdk:
        for sealed, code in ((False, "REFUSED"), (True, "NO_ROOM")):
            with pytest.raises(error) as caught:
                sdk.confidential_chat.create_stream(messages=MESSAGES, model="m") if stream else chat(sdk)
            assert (caught.value.status_code, caught.value.sealed, caught.value.code) == (status, sealed, code)
            assert CANARY not in shown(caught.value)
            assert (CANARY in caught.value.body) is sealed


def test_such_an_error_can_be_pickled() -> None:
    error = api_error(503, "{}", httpx.Headers({"a": "b"}), sealed=True)
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert (type(again), again.sealed, again.headers["a"]) == (APIServerError, True, "b")


def test_a_sealed_503_is_asked_again_as_any_other() -> None:
    node = Node(aborting(), v2=True)
    config = RetryConfig("backoff", BackoffStrategy(1, 1, 1, 200))
    with running(node) as url, sdk_for(url, retry_config=config, **speaking(node)) as sdk:
        with pytest.raises(APIServerError) as caught:
            chat(sdk)
        assert caught.value.sealed
    assert len(node.seen) > 2
    assert len({seen.envelope["enc"] for seen in node.seen}) == len(node.seen) == len(node.locks)


def test_an_abort_in_the_middle_is_raised_in_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    def pieces(*_: object) -> Iterator[bytes]:
        yield delta("a")
        raise Abort(message=CANARY)

    node, sessions = Node(pieces, v2=True), recorded_sessions(monkeypatch)
    config = RetryConfig("backoff", BackoffStrategy(1, 1, 1, 200))  # a stream that has begun is never asked for again
    got: list[str] = []

    async def run(url: str) -> None:
        async with (
            async_client() as client,
            AtomaSDK("t", server_url=url, async_client=client, **speaking(node)) as sdk,
        ):
            stream = await sdk.confidential_chat.create_stream_async(messages=MESSAGES, model="m")
            async for chunk in stream:
                got.append(chunk.choices[0].delta.content or "")  # noqa: PERF401 - what came before the fault counts

    with running(node) as url, sdk_for(url, retry_config=config, **speaking(node)) as sdk:
        stream = sdk.confidential_chat.create_stream(messages=MESSAGES, model="m")
        assert next(stream).choices[0].delta.content == "a"
        with pytest.raises(ac.RemoteAbortError) as caught:
            next(stream)
        assert (caught.value.status, caught.value.message) == (503, CANARY)
        assert CANARY not in shown(caught.value)
        assert caught.value.__context__ is None
        with pytest.raises(ac.SessionClosedError):
            next(stream)
        with pytest.raises(ac.RemoteAbortError):
            asyncio.run(run(url))
        assert got == ["a"]
        assert len(node.seen) == 2
    assert len(sessions) == 2
    assert all(map(is_closed, sessions))


def test_a_stream_without_its_end_raises() -> None:
    node = Node(v2=True)
    with running(node) as url:
        middle = Middle(url, on_answer=lambda p: p.but(without(p.events, -1)))
        with serving(middle.app()) as between, sdk_for(between, **speaking(node)) as sdk:
            got: list[Any] = []
            stream = sdk.confidential_chat.create_stream(messages=MESSAGES, model="m")
            with pytest.raises(ac.TruncatedStreamError):
                got.extend(stream)
            assert len(got) == 6


def test_nothing_is_sealed_to_a_key_that_is_not_accepted() -> None:
    node = Node(v2=True)
    policy = PinnedKeys(ac.SecretKey.generate().public_key)
    with running(node) as url, sdk_for(url, protocol="v2", verify=policy) as sdk:
        with pytest.raises(ac.AttestationError):
            chat(sdk)
        with pytest.raises(ac.AttestationError):
            sdk.confidential_chat.create_stream(messages=MESSAGES, model="m")
    assert (len(node.locks), node.seen) == (2, [])


def test_arguments() -> None:
    policy = PinnedKeys(ac.SecretKey.generate().public_key)
    wrong: list[dict[str, Any]] = [{"protocol": "v2"}, {"verify": policy}, {"suites": ("X-Wing",)}]
    for options in wrong:
        with pytest.raises(TypeError):
            AtomaSDK("t", **options)
