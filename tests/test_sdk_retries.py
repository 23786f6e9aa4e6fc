"""What the SDK does with errors: which it raises, which it asks again after, and with what."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any, Final

import httpx
import pytest

import atoma_crypto as ac
from atoma_crypto.sdk import APIClientError, APIError, APIServerError, AtomaSDK, BackoffStrategy, RetryConfig
from atoma_crypto.sdk._retries import RETRY_STATUSES, Waits
from sdk_nodes import CANARY, CHUNKS, MESSAGES, REPLY, LockingNode, asked, async_client, error, sdk_for, told
from serving import Clock
from upstreams import raw_upstream

AT_ONCE: Final = BackoffStrategy(0, 0, 1, 10_000)
FORMS: Final = ("create", "create_stream", "create_async", "create_stream_async")


def ask(sdk: AtomaSDK, url: str, form: str, **more: Any) -> list[dict[str, Any]]:
    """The answer in any form: of a stream all its chunks."""
    given: dict[str, Any] = {"messages": MESSAGES, "model": "m", **more}

    async def run() -> Any:
        async with async_client() as client, AtomaSDK("any", server_url=url, async_client=client) as own:
            answer = await getattr(own.confidential_chat, form)(**given)
            return [each async for each in answer] if form == "create_stream_async" else [answer]

    if form.endswith("_async"):
        answers = asyncio.run(run())
    else:
        answer = getattr(sdk.confidential_chat, form)(**given)
        answers = list(answer) if form == "create_stream" else [answer]
    return [answer.model_dump(exclude_unset=True) for answer in answers]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("status", [429, 500, 503])
def test_each_attempt_has_its_own_lock_key_salt_and_nonce(form: str, status: int) -> None:
    with asked(node := LockingNode()) as sdk:
        node.faults = [(status, error("NO"))] * 3
        answer = ask(sdk, node.base_url, form, retries=RetryConfig("backoff", AT_ONCE))
        assert answer == (CHUNKS if "stream" in form else [REPLY])
        assert len(node.asked_locks) == len(node.envelopes) == 4
        for member in ("client_dh_public_key", "salt", "nonce", "ciphertext"):
            assert len({envelope[member] for envelope in node.envelopes}) == 4
        assert len({envelope["plaintext_body_hash"] for envelope in node.envelopes}) == 1


@pytest.mark.parametrize(("gone", "comes"), [(2, True), (3, False)])
def test_a_lock_that_is_gone_is_replaced_twice_without_any_configuration(gone: int, comes: bool) -> None:
    with asked(node := LockingNode()) as sdk:
        node.faults = [(425, error("UNAVAILABLE_STACK"))] * gone
        if comes:
            assert ask(sdk, node.base_url, "create") == [REPLY]
        else:
            with pytest.raises(APIClientError) as caught:
                ask(sdk, node.base_url, "create")
            assert (caught.value.status_code, caught.value.code) == (425, "UNAVAILABLE_STACK")
        assert len({envelope["salt"] for envelope in node.envelopes}) == len(node.asked_locks) == 3


@pytest.mark.parametrize("form", FORMS)
def test_without_retries_the_first_error_is_raised(form: str) -> None:
    with asked(node := LockingNode(), retry_config=RetryConfig("backoff", AT_ONCE)) as sdk:
        node.faults = [(500, error("INTERNAL_ERROR")), (503, error("OTHER"))]
        with pytest.raises(APIServerError) as caught:
            ask(sdk, node.base_url, form, retries=None)
        assert len(node.envelopes) == 1
        failed = caught.value
        assert (failed.status_code, failed.code) == (500, "INTERNAL_ERROR")
        assert json.loads(failed.body) == {"error": {"code": "INTERNAL_ERROR", "message": "no"}}
        assert failed.headers["content-type"] == "application/json"
        assert str(failed) == "status 500, INTERNAL_ERROR"
        assert failed.__cause__ is failed.__context__ is None


@pytest.mark.parametrize(("status", "family"), [(400, APIClientError), (404, APIClientError), (500, APIServerError)])
@pytest.mark.parametrize("body", [b"", b"\xff" + CANARY.encode(), b"[]", b'{"error":{"code":"%b."}}' % CANARY.encode()])
def test_errors_have_their_family_and_show_no_more_than_a_code(
    status: int, family: type[APIError], body: bytes
) -> None:
    with asked(node := LockingNode()) as sdk:
        node.faults = [(status, body)]
        with pytest.raises(family) as caught:
            ask(sdk, node.base_url, "create")
        assert type(caught.value) is family
        assert caught.value.body == body.decode(errors="replace")
        assert caught.value.code is None
        assert f"status {status}" == str(caught.value)
        assert CANARY not in str(caught.value) + repr(caught.value)


def test_of_a_long_error_the_first_64_kib_are_kept() -> None:
    with asked(node := LockingNode()) as sdk:
        node.faults = [(500, b"x" * (1 << 20))]
        with pytest.raises(APIServerError) as caught:
            ask(sdk, node.base_url, "create")
        assert caught.value.body == "x" * (64 << 10)


@pytest.mark.parametrize("status", [301, 204])
def test_what_is_no_answer_at_all_raises(status: int) -> None:
    with asked(node := LockingNode(), retry_config=RetryConfig("backoff", AT_ONCE)) as sdk:
        node.faults = [(status, b"")]
        with pytest.raises(ac.EnvelopeError):
            ask(sdk, node.base_url, "create", retries=RetryConfig("backoff", AT_ONCE))
        assert len(node.envelopes) == 1


@pytest.mark.parametrize(
    ("codes", "status", "again"),
    [
        ((429,), 429, True),
        (("429",), 429, True),
        (("5XX",), 599, True),
        (("5xx",), 500, True),
        (("4XX", 500), 500, True),
        ((429,), 500, False),
        (("5XX",), 499, False),
        ((), 500, False),
        (RETRY_STATUSES, 400, False),
        (RETRY_STATUSES, 401, False),
    ],
)
def test_which_statuses_are_tried_again(codes: Any, status: int, again: bool) -> None:
    config = RetryConfig("backoff", AT_ONCE, status_codes=codes)
    assert config.retries_status(status) is again
    with asked(node := LockingNode(), retry_config=config) as sdk:
        node.faults = [(status, b"")]
        if again:
            assert ask(sdk, node.base_url, "create") == [REPLY]
        else:
            with pytest.raises(APIError):
                ask(sdk, node.base_url, "create")
        assert len(node.envelopes) == 1 + again


@pytest.mark.parametrize("form", ["create", "create_async"])
def test_what_is_not_authentic_is_never_asked_for_again(form: str) -> None:
    with asked(node := LockingNode(flip=1200)) as sdk:
        config = RetryConfig("backoff", AT_ONCE, retry_connection_errors=True, status_codes=("4XX", "5XX"))
        with pytest.raises(ac.RemoteProtocolError) as caught:
            ask(sdk, node.base_url, form, retries=config)
        assert len(node.envelopes) == 1
        assert not told(caught.value).count("Grüße")


def test_a_lock_that_is_refused_is_tried_again_too() -> None:
    refusal = b"HTTP/1.1 503 No\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
    other = refusal.replace(b"503 No", b"401 No")
    with raw_upstream(refusal, refusal, other) as url, sdk_for(url) as sdk, pytest.raises(APIClientError) as caught:
        ask(sdk, url, "create", retries=RetryConfig("backoff", AT_ONCE))
    assert caught.value.status_code == 401  # the third


@pytest.mark.parametrize("form", ["create", "create_async"])
def test_connections_that_fail(form: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    nobody = f"http://127.0.0.1:{port}"
    patient = BackoffStrategy(1, 1, 1, 60)
    with sdk_for(nobody) as sdk:
        for config in (None, RetryConfig("backoff", patient), RetryConfig("none", patient, True)):
            with pytest.raises(httpx.ConnectError):
                ask(sdk, nobody, form, retries=config)
        with pytest.raises(httpx.ConnectError):
            ask(sdk, nobody, form, retries=RetryConfig("backoff", patient, retry_connection_errors=True))


def test_a_connection_that_broke_is_tried_again_if_that_is_wanted() -> None:
    lost: list[str] = []

    def lose(request: httpx.Request) -> None:
        if request.url.path.endswith("/completions"):
            lost.append(request.url.path)
            if len(lost) < 3:
                raise httpx.ReadError("reset")  # as a connection that is lost in the middle

    config = RetryConfig("backoff", AT_ONCE, retry_connection_errors=True)
    with asked(node := LockingNode()) as sdk:
        sdk.confidential_chat._sender._client.event_hooks["request"] = [lose]
        with pytest.raises(httpx.ReadError):
            ask(sdk, node.base_url, "create")
        assert ask(sdk, node.base_url, "create", retries=config) == [REPLY]
        assert len(lost) == len(node.asked_locks) == 3


def test_a_time_out_of_a_call_holds_for_that_call() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        for form in ("create", "create_async"):
            with sdk_for(url) as sdk, pytest.raises(httpx.ReadTimeout):
                ask(sdk, url, form, timeout_ms=50)
        with sdk_for(url, timeout_ms=50) as sdk, pytest.raises(httpx.ReadTimeout):
            ask(sdk, url, "create")


def test_the_waits_grow_to_their_bound_and_end_with_the_time() -> None:
    clock = Clock()
    waits = Waits(RetryConfig("backoff", BackoffStrategy(100, 1000, 2, 5000)), clock)
    for longest in (0.1, 0.2, 0.4, 0.8, 1.0, 1.0):
        seconds = waits.after_status(500, {})
        assert seconds is not None
        assert longest / 2 <= seconds <= longest
    clock.now = 3.9
    assert waits.after_status(500, {}) is not None
    clock.now = 4.6  # another attempt would begin too late, however short the wait
    assert waits.after_status(500, {}) is None
    assert Waits(None, clock).after_status(500, {}) is None
    assert Waits(RetryConfig(), clock).after_error() is None
    many = Waits(RetryConfig("backoff", BackoffStrategy(1, 10**9, 1e9, 10**12)), clock)
    assert all(many.after_status(500, {}) is not None for _ in range(200))  # nothing overflows


@pytest.mark.parametrize(
    ("asked_for", "least"), [("2", 2.0), ("999999999", 3.0), ("-1", 0.0), ("\u0665", 0.0), ("soon", 0)]
)
def test_a_server_may_ask_for_a_longer_wait(asked_for: str, least: float) -> None:
    waits = Waits(RetryConfig("backoff", BackoffStrategy(100, 3000, 2, 5000)), Clock())
    seconds = waits.after_status(429, httpx.Headers({b"Retry-After": asked_for.encode()}))
    assert seconds == least or (not least and seconds is not None and seconds <= 0.1)


@pytest.mark.parametrize(
    "make",
    [
        lambda: BackoffStrategy(-1),
        lambda: BackoffStrategy(1, -1),
        lambda: BackoffStrategy(exponent=0.5),
        lambda: BackoffStrategy(exponent=float("nan")),
        lambda: BackoffStrategy(max_elapsed_time=-1),
        lambda: RetryConfig("linear"),  # type: ignore[arg-type] # as a caller without types may
        lambda: RetryConfig(status_codes=[42]),
        lambda: RetryConfig(status_codes=["6XX"]),
        lambda: RetryConfig(status_codes=["50X"]),
        lambda: RetryConfig(status_codes=["\u0665\u0660\u0660"]),
    ],
)
def test_configurations_that_cannot_be(make: Any) -> None:
    with pytest.raises(ValueError, match="must be"):
        make()


def test_the_call_shape_of_atoma_sdk() -> None:
    """Its own example: all by place, and milliseconds."""
    config = RetryConfig("backoff", BackoffStrategy(1, 50, 1.1, 100), False)
    assert config.backoff.max_interval == 50
    assert not config.retries_errors()
