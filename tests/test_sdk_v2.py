"""The SDK over protocol v2: what is sealed and to whom, errors that the node vouches for, and streams that end."""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import traceback
import warnings
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

import atoma_crypto as ac
from atoma_crypto.attestation import PinnedKeys, Unverified, UnverifiedWarning
from atoma_crypto.sdk import APIClientError, APIError, APIServerError, AtomaSDK, BackoffStrategy, RetryConfig
from atoma_crypto.sdk._errors import api_error
from atoma_crypto.server.model import Answer, InferenceError
from atoma_crypto.server.node import create_app
from confidential_node import USAGE, Abort, Node, delta, running
from middle import Middle, Passed, without
from sdk_nodes import CANARY, MESSAGES, REPLY, async_client, is_closed, printed, recorded_sessions, sdk_for
from serving import Clock, ScriptedModel, node, serving


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
    fake = Node(v2=True, more_keys=[ac.SecretKey.generate("X-Wing")])

    async def run(url: str) -> None:
        async with (
            async_client() as client,
            AtomaSDK("t", server_url=url, async_client=client, **speaking(fake)) as sdk,
        ):
            answer = await sdk.confidential_chat.create_async(messages=MESSAGES, model="m")
            assert answer.choices[0].message.content == "Hello é"
            stream = await sdk.confidential_chat.create_stream_async(messages=MESSAGES, model="m")
            usage = [chunk async for chunk in stream][-1].usage
            assert usage is not None
            assert usage.model_dump() == USAGE

    with running(fake) as url:
        asyncio.run(run(url))
        with sdk_for(url, **speaking(fake, suites=("X-Wing",), pad_to="auto")) as sdk:
            assert chat(sdk).choices[0].message.content == "Hello é"
            chunks = list(sdk.confidential_chat.create_stream(messages=MESSAGES, model="m"))
            assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "Hello é"
            assert sdk.confidential_completions.create(prompt="a", model="m").choices[0].text == "after a"
            assert sdk.confidential_embeddings.create(input="a", model="m").data[0].embedding == [0.5, -1.0]
            assert len(sdk.confidential_images.generate(prompt="a", model="m", n=2).data) == 2
    assert {len(seen.envelope["enc"]) for seen in fake.seen[:2]} == {44}
    assert {len(seen.envelope["enc"]) for seen in fake.seen[2:]} == {1496}
    assert len({len(seen.envelope["ciphertext"]) for seen in fake.seen[2:]}) == 1


@pytest.mark.parametrize(("status", "error"), [(400, APIClientError), (500, APIServerError)])
@pytest.mark.parametrize("stream", [False, True])
def test_an_error_says_whether_the_node_vouches_for_it(status: int, error: type[APIError], stream: bool) -> None:
    fake = Node(aborting("NO_ROOM", CANARY, status, 418), v2=True, refusals=[(status, {})])
    with running(fake) as url, sdk_for(url, **speaking(fake)) as sdk:
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
    fake = Node(aborting(), v2=True)
    config = RetryConfig("backoff", BackoffStrategy(1, 1, 1, 1000))
    with running(fake) as url, sdk_for(url, retry_config=config, **speaking(fake)) as sdk:
        with pytest.raises(APIServerError) as caught:
            chat(sdk)
        assert caught.value.sealed
    assert len(fake.seen) > 1
    assert len({seen.envelope["enc"] for seen in fake.seen}) == len(fake.seen) == len(fake.locks)


def test_an_abort_in_the_middle_is_raised_in_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    def pieces(*_: object) -> Iterator[bytes]:
        yield delta("a")
        raise Abort(message=CANARY)

    fake, sessions = Node(pieces, v2=True), recorded_sessions(monkeypatch)
    config = RetryConfig("backoff", BackoffStrategy(1, 1, 1, 200))  # a stream that has begun is never asked for again
    got: list[str] = []

    async def run(url: str) -> None:
        async with (
            async_client() as client,
            AtomaSDK("t", server_url=url, async_client=client, **speaking(fake)) as sdk,
        ):
            stream = await sdk.confidential_chat.create_stream_async(messages=MESSAGES, model="m")
            async for chunk in stream:
                got.append(chunk.choices[0].delta.content or "")  # noqa: PERF401 - what came before the fault counts

    with running(fake) as url, sdk_for(url, retry_config=config, **speaking(fake)) as sdk:
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
        assert len(fake.seen) == 2
    assert len(sessions) == 2
    assert all(map(is_closed, sessions))


def test_a_stream_without_its_end_raises() -> None:
    fake = Node(v2=True)
    with running(fake) as url:
        middle = Middle(url, on_answer=lambda p: p.but(without(p.events, -1)))
        with serving(middle.app()) as between, sdk_for(between, **speaking(fake)) as sdk:
            got: list[Any] = []
            stream = sdk.confidential_chat.create_stream(messages=MESSAGES, model="m")
            with pytest.raises(ac.TruncatedStreamError):
                got.extend(stream)
            assert len(got) == 6


def test_nothing_is_sealed_to_a_key_that_is_not_accepted() -> None:
    fake = Node(v2=True)
    policy = PinnedKeys(ac.SecretKey.generate().public_key)
    with running(fake) as url, sdk_for(url, protocol="v2", verify=policy) as sdk:
        with pytest.raises(ac.AttestationError):
            chat(sdk)
        with pytest.raises(ac.AttestationError):
            sdk.confidential_chat.create_stream(messages=MESSAGES, model="m")
    assert (len(fake.locks), fake.seen) == (2, [])


def test_arguments() -> None:
    wrong: list[dict[str, Any]] = [{"protocol": "v2"}, {"verify": PinnedKeys}, {"suites": ("X-Wing",)}]
    for options in wrong:
        with pytest.raises(TypeError):
            AtomaSDK("t", **options)


# ---- our own node -----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def sdk_of_ours(*steps: Any) -> Iterator[AtomaSDK]:
    """Our node with a model that does so, and an SDK that has pinned its key."""
    key = ac.SecretKey.generate()
    policy = PinnedKeys(key.public_key)
    with node(ScriptedModel(steps), key=key) as client, sdk_for(client.url, protocol="v2", verify=policy) as sdk:
        yield sdk


def test_our_node_seals_what_its_model_failed_with() -> None:
    """Before the first byte an error of its own status, in the middle of a stream an abort."""
    for failure, status in ((InferenceError(429, passes=True), 429), (InferenceError(500), 500)):
        with sdk_of_ours(failure) as sdk:
            for method in (sdk.confidential_chat.create, sdk.confidential_chat.create_stream):
                with pytest.raises(APIError) as caught:
                    method(messages=MESSAGES, model="scripted")
                assert (caught.value.status_code, caught.value.sealed) == (status, True)
    with sdk_of_ours([Answer(delta("a"))], InferenceError(503, passes=True)) as sdk:
        stream = sdk.confidential_chat.create_stream(messages=MESSAGES, model="scripted")
        assert next(stream).choices[0].delta.content == "a"
        with pytest.raises(ac.RemoteAbortError) as aborted:
            next(stream)
        assert aborted.value.status == 503


def test_our_nodes_keys_rotate_while_the_request_is_on_its_way() -> None:
    model = ScriptedModel([Answer(printed(REPLY))])
    clock = Clock()
    keys = ac.NodeKeyring(grace=1, clock=clock)
    with keys, serving(create_app(keys, model)) as url:

        def rotated(passed: Passed) -> Passed:
            while len(middle.paths) == 1 and clock.now < 3 * 3600:  # until the key that is offered here is wiped
                clock.now += 3600
                keys.offers()
            return passed

        middle = Middle(url, on_lock=rotated)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UnverifiedWarning)
            policy = Unverified()
        with serving(middle.app()) as between, sdk_for(between, protocol="v2", verify=policy) as sdk:
            answer = sdk.confidential_chat.create(messages=MESSAGES, model="scripted")
            assert answer.model_dump(exclude_unset=True) == REPLY
    lock, ask = "/v1/nodes/lock", "/v1/confidential/chat/completions"
    assert middle.paths == [lock, ask, lock, ask]
    assert len(model.bodies) == 1
