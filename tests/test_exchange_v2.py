"""One exchange of protocol v2 without the HTTP: what leaves, what is believed, and where a stream ends."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from functools import partial
from math import inf
from typing import Any

import pytest

import atoma_crypto as ac
from atoma_crypto._offers import write_offer
from atoma_crypto.adapters._exchange import DONE, Exchange
from atoma_crypto.adapters._replies import is_refusal
from atoma_crypto.adapters._terms import Origin, Terms
from atoma_crypto.attestation import PinnedKeys
from confidential_node import USAGE_EVENT, delta
from helpers import byte_by_byte, random_cuts

CHAT = "/v1/chat/completions"
KEY = ac.SecretKey.generate()
OTHER = ac.SecretKey.generate()
V2 = Terms(protocol="v2", verify=PinnedKeys([KEY.public_key, OTHER.public_key]))
PIECES = [delta("a"), delta("b\u2028 é"), delta(finish="stop"), USAGE_EVENT]
SSE, JSON = "text/event-stream; charset=utf-8", "application/json"
UNKNOWN = b'{"error":{"code":"KEY_UNKNOWN","message":""}}'


def lock(*keys: ac.SecretKey, **more: Any) -> bytes:
    ends = int(time.time()) + 100
    offers = [write_offer(ac.KeyOffer("v2", key.public_key, inf, ends)) for key in keys or (KEY,)]
    return json.dumps({"keys": offers, "stack_small_id": 42} | more).encode()


def sealed(terms: Terms = V2, **more: Any) -> tuple[Exchange, ac.NodeSession]:
    """An exchange whose request a node has opened."""
    exchange = Exchange(CHAT, json.dumps({"model": "m"} | more).encode(), terms)
    exchange.take_lock(lock())
    node = ac.NodeSession(KEY, protocols=("v2",))
    assert node.open_request(exchange.seal()).endpoint == CHAT
    return exchange, node


def streamed(*chunks: bytes) -> tuple[Exchange, list[bytes]]:
    exchange, node = sealed(stream=True)
    return exchange, [*(node.seal_chunk(chunk) for chunk in chunks), node.finish()]


def plain(*chunks: bytes) -> bytes:
    return b"".join(b"data: " + chunk + b"\n\n" for chunk in chunks)


def test_the_end_is_told_as_soon_as_it_is_proven() -> None:
    exchange, events = streamed(*PIECES)
    assert b"".join(map(exchange.receive, events[:-1])) == plain(*PIECES)
    before = exchange.whole
    assert exchange.receive(events[-1]) == DONE
    assert (before, exchange.whole) == (False, True)
    assert exchange.receive(b": a comment\n\n\r\n") == b""
    assert exchange.end() == b""
    with pytest.raises(ac.LocalProtocolError):
        exchange.end()


def test_a_last_record_may_be_a_chunk() -> None:
    exchange, node = sealed(stream=True)
    assert exchange.receive(node.finish()) + exchange.end() == DONE


def test_an_event_behind_the_end() -> None:
    exchange, events = streamed(*PIECES)
    assert exchange.receive(b"".join(events)) == plain(*PIECES) + DONE
    with pytest.raises(ac.FramingError):
        exchange.receive(events[-1])
    with pytest.raises(ac.LocalProtocolError):
        exchange.receive(b"")
    exchange, events = streamed(*PIECES)
    got = exchange.receive(b"".join(events) + events[1])
    assert got == plain(*PIECES) + DONE
    with pytest.raises(ac.FramingError):
        exchange.end()


def test_split_anywhere() -> None:
    splits: list[Callable[[bytes], Iterable[bytes]]] = [byte_by_byte]
    splits += [partial(random_cuts, seed=seed) for seed in range(5)]
    for split in splits:
        exchange, events = streamed(*PIECES)
        raw = b": keep-alive\r\n\r\n" + b"".join(events) + b": and so on\n"
        assert b"".join(map(exchange.receive, split(raw))) + exchange.end() == plain(*PIECES) + DONE


def test_cut_anywhere() -> None:
    length = len(b"".join(streamed(PIECES[0])[1]))
    for cut in range(length + 1):
        exchange, events = streamed(PIECES[0])
        got = exchange.receive(b"".join(events)[:cut])
        if cut == length:
            assert got + exchange.end() == plain(PIECES[0]) + DONE
            continue
        assert got in (b"", plain(PIECES[0]))
        with pytest.raises(ac.TruncatedStreamError):
            exchange.end()


@pytest.mark.parametrize("chunk", [b"[DONE]", b" [DONE]", b"[]", b"1", b"{", b'{"a":NaN}', b"\xff"])
def test_no_event_can_pass_for_the_end(chunk: bytes) -> None:
    exchange, node = sealed(stream=True)
    with pytest.raises(ac.FramingError):
        exchange.receive(node.seal_chunk(chunk))
    with pytest.raises(ac.LocalProtocolError):
        exchange.end()


def test_a_sealed_error_in_a_stream_comes_after_what_was_said() -> None:
    exchange, node = sealed(stream=True)
    assert exchange.receive(node.seal_chunk(PIECES[0]) + node.abort("GONE", "a", 500)) == plain(PIECES[0])
    assert exchange.faulty
    with pytest.raises(ac.RemoteAbortError):
        exchange.receive(b"")
    with pytest.raises(ac.LocalProtocolError):
        exchange.end()


# ---- what an answer is ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 201, 299, 400, 500, 599])
def test_the_status_does_not_count(status: int) -> None:
    exchange, node = sealed()
    assert not exchange.has_events(status, SSE)
    assert exchange.answer(status, node.seal_response(b'{"a":1}')) == b'{"a":1}'
    exchange, _ = sealed(stream=True)
    assert exchange.has_events(status, SSE)
    assert not exchange.has_events(status, JSON)
    for stream in (False, True):
        exchange, node = sealed(stream=stream)
        with pytest.raises(ac.RemoteAbortError) as caught:
            exchange.answer(status, node.abort("NO_ROOM", "is left", 507))
        assert (caught.value.code, caught.value.message, caught.value.status) == ("NO_ROOM", "is left", 507)
        assert exchange.origin == Origin(True, "v2", KEY.public_key, {"policy": "pinned"}, exchange.origin.expires_at)


@pytest.mark.parametrize("raw", [b"", b"{}", b"<html>", b'{"error":{}}', b'{"v":2,"salt":""}', b"[]", b"\xff"])
def test_what_is_in_clear(raw: bytes) -> None:
    exchange, _ = sealed()
    assert exchange.answer(503, raw) is None
    with pytest.raises(ac.LocalProtocolError):  # it is over: to ask again takes another lock
        exchange.open(raw)
    exchange, _ = sealed()
    with pytest.raises(ac.EnvelopeError):
        exchange.answer(200, raw)


@pytest.mark.parametrize("status", [100, 199, 300, 301, 304, 307, 308, 399])
def test_statuses_that_no_node_sends(status: int) -> None:
    exchange, node = sealed(stream=True)
    for call in (
        lambda: exchange.has_events(status, SSE),
        lambda: exchange.answer(status, node.abort("A", "", 500)),
        lambda: is_refusal(status, "v2"),
    ):
        with pytest.raises(ac.EnvelopeError):
            call()


# ---- a key that is not known ------------------------------------------------------------------------------------


def refused(exchange: Exchange, status: int = 422, raw: bytes = UNKNOWN) -> bool:
    assert exchange.answer(status, raw) is None
    return exchange.knows_not_key(status, raw)


def test_another_key_is_tried_once() -> None:
    exchange, _ = sealed()
    assert refused(exchange)
    exchange.take_lock(lock(OTHER))
    assert not exchange.offers_same_key
    assert json.loads(exchange.seal())["v"] == 2
    assert exchange.origin.public_key == OTHER.public_key
    assert not refused(exchange)


def test_the_same_key_is_not() -> None:
    exchange, _ = sealed()
    assert refused(exchange)
    exchange.take_lock(lock(KEY))
    assert exchange.offers_same_key


@pytest.mark.parametrize(
    ("status", "raw"),
    [
        (400, UNKNOWN),
        (500, UNKNOWN),
        (422, b"{}"),
        (422, b"<html>"),
        (422, b'{"error":"KEY_UNKNOWN"}'),
        (422, b'{"error":{"code":"OTHER"}}'),
    ],
)
def test_what_does_not_say_so(status: int, raw: bytes) -> None:
    assert not refused(sealed()[0], status, raw)


def test_not_in_v1_nor_against_the_callers_will() -> None:
    assert not refused(sealed(Terms(protocol="v2", verify=PinnedKeys(KEY.public_key), retry_unknown_key=False))[0])
    exchange = Exchange(CHAT, b'{"model":"m"}', Terms())
    exchange.take_lock(json.dumps({"public_key": KEY.public_key.to_base64(), "stack_small_id": 1}).encode())
    exchange.seal()
    assert not refused(exchange)
    assert exchange.origin == Origin(True, "v1", KEY.public_key)


# ---- order ------------------------------------------------------------------------------------------------------


def test_nothing_is_sealed_twice_nor_to_a_lock_that_was_no_good() -> None:
    exchange = Exchange(CHAT, b'{"model":"m"}', V2)
    assert exchange.knows_key  # there is none to ask for
    exchange.take_lock(lock())
    exchange.seal()
    with pytest.raises(ac.LocalProtocolError):
        exchange.seal()
    exchange.take_lock(lock())
    with pytest.raises(ac.EnvelopeError):
        exchange.take_lock(b'{"keys":[]}')
    with pytest.raises(ac.LocalProtocolError):
        exchange.seal()


def test_a_policy_that_refuses_leaves_nothing_to_seal_with() -> None:
    exchange = Exchange(CHAT, b'{"model":"m"}', Terms(protocol="v2", verify=PinnedKeys(OTHER.public_key)))
    exchange.take_lock(lock())
    assert not exchange.knows_key
    for error in (ac.AttestationError, ac.LocalProtocolError):
        with pytest.raises(error):
            exchange.seal()
    assert exchange._session is None


def test_a_key_that_gives_no_secret() -> None:
    nobody = ac.PublicKey.from_bytes(bytes(32))
    exchange = Exchange(CHAT, b'{"model":"m"}', Terms(protocol="v2", verify=PinnedKeys(nobody)))
    offer = write_offer(ac.KeyOffer("v2", nobody, inf, int(time.time()) + 9))
    exchange.take_lock(json.dumps({"keys": [offer]}).encode())
    with pytest.raises(ac.AuthenticationError) as caught:
        exchange.seal()
    assert caught.value.__context__ is None


def test_more_than_javascript_can_count() -> None:
    body = json.dumps({"model": "m", "size": "99999x99999", "n": 2**20}).encode()
    Exchange("/v1/images/generations", body, Terms())
    with pytest.raises(ac.LocalProtocolError, match="counted"):
        Exchange("/v1/images/generations", body, V2)
