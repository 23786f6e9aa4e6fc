"""One exchange without the HTTP: what leaves, what is believed, and when a stream counts as whole."""

from __future__ import annotations

import json
from math import inf
from typing import Any

import pytest

import atoma_crypto as ac
from atoma_crypto.adapters._exchange import Exchange
from atoma_crypto.adapters._lock import MAX_LOCK_BYTES, Lock
from atoma_crypto.adapters._replies import is_lock_gone, is_refusal
from atoma_crypto.adapters._routes import ENDPOINTS
from atoma_crypto.adapters._terms import Terms
from confidential_node import USAGE_EVENT, delta, event
from helpers import byte_by_byte, every_split, node_key, random_cuts

CHAT = "/v1/chat/completions"
IMAGES = "/v1/images/generations"
LOCK: dict[str, Any] = {
    "public_key": node_key().public_key.to_base64(),
    "node_small_id": 7,
    "stack_entry_digest": None,
    "stack_small_id": 42,
}
LAST = delta(finish="stop")
V1 = Terms()
DONE = b"data: [DONE]\n\n"


def lock(**more: Any) -> bytes:
    return json.dumps(LOCK | more).encode()


def body(**more: Any) -> bytes:
    return json.dumps({"model": "m"} | more).encode()


def sealed(endpoint: str = CHAT, **more: Any) -> tuple[Exchange, ac.NodeSession, ac.Request]:
    """An exchange whose request a node has opened."""
    exchange = Exchange(endpoint, body(**more), V1)
    exchange.take_lock(lock())
    node = ac.NodeSession(node_key(), protocols=("v1",))
    return exchange, node, node.open_request(exchange.seal())


def streamed(*chunks: bytes) -> tuple[Exchange, list[bytes]]:
    """An exchange, and the events that answer it."""
    exchange, node, _ = sealed(stream=True)
    return exchange, [node.seal_chunk(chunk) for chunk in chunks]


def plain(*chunks: bytes) -> bytes:
    return b"".join(b"data: " + chunk + b"\n\n" for chunk in chunks)


# ---- the request ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "raw",
    [
        *(b"", b"{", b"[]", b"null", b'"text"', b"{}", b"\xff", b'{"model":"m"', b'{"model":"m"}x', b"[" * 10_000),
        *(b'{"model":null}', b'{"model":1}', b'{"model":["m"]}', b'{"model":"\\ud800"}', b'{"model":"m","x":NaN}'),
        *(b'{"model":"m","model":"m"}', b'{"model":"m","stream":false,"stream":true}', b'{"model":"m","a":1,"a":2}'),
        *(b'{"model":"m","stream":1}', b'{"model":"m","stream":"true"}', b'{"model":"m","stream":[]}'),
    ],
)
@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.plaintext)
def test_a_bad_body_is_refused_before_anything_is_made_of_it(endpoint: Any, raw: bytes) -> None:
    with pytest.raises(ac.LocalProtocolError) as caught:
        Exchange(endpoint, raw, V1)
    assert caught.value.__context__ is None


def test_other_arguments() -> None:
    with pytest.raises(ac.LocalProtocolError, match="longer than 100 bytes"):
        Exchange(CHAT, body(x="x" * 100), Terms(limits=ac.Limits(max_request_bytes=100)))
    for endpoint in ("/v1/embeddings", IMAGES):
        with pytest.raises(ac.LocalProtocolError, match="does not stream"):
            Exchange(endpoint, body(stream=True), V1)
    with pytest.raises(ac.LocalProtocolError, match="tokens or pixels"):
        Exchange(IMAGES, body(size="99999x99999", n=2**44 - 1), V1)


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.plaintext)
@pytest.mark.parametrize("stream", [None, False, True])
def test_each_endpoint_both_ways(endpoint: Any, stream: bool | None) -> None:
    if stream and not endpoint.streams:
        return
    exchange, node, request = sealed(endpoint.plaintext, stream=stream, text="é")
    assert request.body == body(stream=stream, text="é")
    assert (request.stream, request.model, request.stack_small_id) == (bool(stream), "m", 42)
    assert request.num_compute_units == (1024 * 1024 if endpoint.plaintext == IMAGES else None)
    if stream:
        assert exchange.receive(node.seal_chunk(LAST)) + exchange.end() == plain(LAST) + DONE
    else:
        assert exchange.open(node.seal_response(b'{"a": 1}')) == b'{"a": 1}'
    with pytest.raises(ac.LocalProtocolError):
        exchange.seal()


@pytest.mark.parametrize(
    ("endpoint", "asked", "size"),
    [
        (CHAT, {}, None),
        (CHAT, {"max_tokens": 8192}, None),
        (CHAT, {"max_tokens": 8193}, 8193),
        (CHAT, {"max_completion_tokens": 100_000, "max_tokens": 5}, 100_000),
        ("/v1/completions", {"max_tokens": 9000}, 9000),
        ("/v1/embeddings", {"max_tokens": 9000}, None),
        (IMAGES, {}, 1024 * 1024),
        (IMAGES, {"size": "64x64"}, None),
        (IMAGES, {"size": "512x256", "n": 4}, 4 * 512 * 256),
    ],
)
def test_a_lock_is_as_large_as_the_request_says(endpoint: str, asked: dict[str, Any], size: int | None) -> None:
    exchange = Exchange(endpoint, body(**asked), V1)
    sized = {} if size is None else {"max_num_tokens": size}
    assert json.loads(exchange.lock_body()) == {"model": "m"} | sized
    exchange.take_lock(lock())
    units = json.loads(exchange.seal()).get("num_compute_units")
    assert (units or 0) <= (size or 8192)


def test_a_model_may_have_any_name() -> None:
    name = 'a "model" \n é \x7f 😀'
    exchange = Exchange(CHAT, body(model=name), V1)
    assert json.loads(exchange.lock_body()) == {"model": name}
    exchange.take_lock(lock())
    assert json.loads(exchange.seal())["model_name"] == name


# ---- the lock ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "raw",
    [
        *(
            b"",
            b"{}",
            b"[]",
            b"<html>",
            b"\xff",
            lock()[:-1],
            lock() + b"{}",
            lock().replace(b'"public_key"', b'"key"'),
        ),
        *(lock(public_key=key) for key in (None, 1, "", "AA==", "A" * 44, "é", LOCK["public_key"] + "\n", [1])),
        *(lock(stack_small_id=number) for number in (None, -1, 2**64, 1.0, "42", True)),
        *(lock(node_small_id=number) for number in (-1, 2**64, 1.0, "7", False)),
        *(lock(stack_entry_digest=digest) for digest in ("", "a b", "a\r\nX-Evil: 1", "é", "x" * 257)),
        *(lock(stack_entry_digest=digest) for digest in (1, False, ["9x"])),
        lock()[:-1] + b',"public_key":"' + LOCK["public_key"].encode() + b'"}',
        lock()[:-1] + b',"stack_small_id":42}',
    ],
)
def test_a_lock_reply_is_read_strictly(raw: bytes) -> None:
    exchange = Exchange(CHAT, body(), V1)
    with pytest.raises(ac.EnvelopeError) as caught:
        exchange.take_lock(raw)
    assert caught.value.__context__ is None
    with pytest.raises(ac.LocalProtocolError):
        exchange.seal()


def test_a_lock_reply() -> None:
    exchange = Exchange(CHAT, body(), V1)
    with pytest.raises(ac.LocalProtocolError):
        exchange.headers  # noqa: B018 - reading it is the test
    exchange.take_lock(lock(stack_small_id=2**64 - 1, stack_entry_digest="9xDigest", more=[{}]))
    assert exchange.lock == Lock((ac.KeyOffer("v1", node_key().public_key, inf),), 2**64 - 1, 7, "9xDigest")
    assert exchange.headers == {"X-Stack-Small-Id": str(2**64 - 1), "X-Tx-Digest": "9xDigest"}
    exchange.take_lock(json.dumps({k: LOCK[k] for k in ("public_key", "stack_small_id")}).encode())
    assert exchange.headers == {"X-Stack-Small-Id": "42"}
    with pytest.raises(ac.MessageTooLargeError):
        exchange.take_lock(b" " * MAX_LOCK_BYTES + lock())


def test_a_key_that_gives_no_secret() -> None:
    exchange = Exchange(CHAT, body(), V1)
    exchange.take_lock(lock(public_key="A" * 43 + "="))
    with pytest.raises(ac.AuthenticationError) as caught:
        exchange.seal()
    assert caught.value.__context__ is None


def test_a_second_attempt_shares_nothing_with_the_first() -> None:
    exchange = Exchange(CHAT, body(), V1)
    envelopes = []
    for _ in range(3):
        exchange.take_lock(lock())
        envelopes.append(json.loads(exchange.seal()))
    for name in ("client_dh_public_key", "salt", "nonce", "ciphertext"):
        assert len({envelope[name] for envelope in envelopes}) == 3


def test_and_begins_its_answer_anew() -> None:
    exchange, events = streamed(LAST, b"[]")
    assert exchange.receive(b"".join(events)) == plain(LAST)
    exchange.take_lock(lock())
    exchange.seal()
    assert exchange.receive(b"") == b""
    with pytest.raises(ac.TruncatedStreamError):
        exchange.end()


def test_statuses() -> None:
    assert not is_refusal(200)
    assert all(is_refusal(status) for status in (400, 404, 425, 429, 500, 599))
    for status in (100, 101, 199, 201, 202, 204, 206, 301, 304, 307, 308, 399):
        with pytest.raises(ac.EnvelopeError):
            is_refusal(status)
    assert [status for status in range(400, 600) if is_lock_gone(status)] == [423, 425]


# ---- the answer -------------------------------------------------------------------------------------------------


def test_order_of_calls() -> None:
    exchange = Exchange(CHAT, body(), V1)
    for call in (exchange.seal, lambda: exchange.open(b"{}"), lambda: exchange.receive(b""), exchange.end):
        with pytest.raises(ac.LocalProtocolError):
            call()
    whole, node, _ = sealed()
    with pytest.raises(ac.LocalProtocolError):
        whole.receive(b"")
    exchange, node, _ = sealed(stream=True)
    with pytest.raises(ac.LocalProtocolError):
        exchange.open(node.seal_chunk(LAST))


def test_a_stream_cut_anywhere() -> None:
    pieces = [delta("a"), delta("b\u2028"), LAST, USAGE_EVENT]
    exchange, events = streamed(*pieces)
    raw = b": keep-alive\n\n" + b"".join(events) + b"data: [DONE]\n\n"
    for cut in (byte_by_byte(raw), *(random_cuts(raw, seed) for seed in range(5))):
        again = _same(exchange)
        assert b"".join(map(again.receive, cut)) + again.end() == plain(*pieces) + DONE


def test_every_truncation_is_noticed() -> None:
    exchange, events = streamed(delta("a"), LAST)
    raw = b"".join(events)
    for head, rest in every_split(raw):
        again = _same(exchange)
        got = again.receive(head)
        if rest:
            assert plain(delta("a"), LAST).startswith(got)
            with pytest.raises(ac.TruncatedStreamError):
                again.end()
        else:
            assert got + again.end() == plain(delta("a"), LAST) + DONE


def _same(exchange: Exchange) -> Exchange:
    """Another exchange that reads the same answer."""
    from helpers import twin

    other = Exchange(CHAT, exchange.body, V1)
    assert exchange._session is not None
    other._session = twin(exchange._session)
    return other


@pytest.mark.parametrize(
    ("chunks", "whole"),
    [
        ([], False),
        ([delta("a")], False),
        ([delta("a"), USAGE_EVENT], False),
        ([LAST], True),
        ([delta("a"), LAST, USAGE_EVENT], True),
        ([LAST, delta("")], True),
        ([USAGE_EVENT], False),
        ([LAST, delta("a")], False),
        ([delta("a", finish="")], False),
        ([event(choices=[])], False),
        ([event()], False),
        ([event(choices=None, usage=None)], False),
        ([delta("a", index=0), delta("b", index=1), delta(index=0, finish="stop")], False),
        ([delta("a", index=0), delta("b", index=1), delta(index=1, finish="length"), LAST], True),
        ([event(choices=[{"text": "a", "finish_reason": None}])], False),
        ([event(choices=[{"text": "a", "finish_reason": "stop"}])], True),
        ([event(error={"message": "overloaded"})], False),
    ],
)
def test_what_counts_as_a_whole_answer(chunks: list[bytes], whole: bool) -> None:
    exchange, events = streamed(*chunks)
    assert b"".join(map(exchange.receive, events)) == plain(*chunks)
    if whole:
        assert exchange.end() == DONE
    else:
        with pytest.raises(ac.TruncatedStreamError):
            exchange.end()
    with pytest.raises(ac.LocalProtocolError):
        exchange.end()


@pytest.mark.parametrize("chunk", [b"", b"[DONE]", b"[]", b"1", b"{", b"\xff", b'{"a":NaN}'])
def test_an_event_that_holds_no_object(chunk: bytes) -> None:
    exchange, events = streamed(chunk)
    with pytest.raises(ac.FramingError):
        exchange.receive(events[0])
    with pytest.raises(ac.LocalProtocolError):
        exchange.end()


def test_what_came_before_a_fault_is_given_first() -> None:
    exchange, events = streamed(delta("a"), delta("b"), b"[]")
    assert exchange.receive(b"".join(events)) == plain(delta("a"), delta("b"))
    with pytest.raises(ac.FramingError):
        exchange.receive(b"")
    exchange, events = streamed(delta("a"), LAST, b"[]")
    assert exchange.receive(b"".join(events)) == plain(delta("a"), LAST)
    with pytest.raises(ac.FramingError):
        exchange.end()
    with pytest.raises(ac.LocalProtocolError):
        exchange.end()


def test_it_tells_nothing_of_itself() -> None:
    assert repr(Exchange(CHAT, body(messages=["a canary"]), V1)) == f"<Exchange {CHAT}>"
