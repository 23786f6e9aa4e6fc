"""A client of protocol v2: what it seals, and the one object that answers it: an answer, or an abort."""

from __future__ import annotations

import base64
import json
import time
from typing import Any, Final

import pytest

import atoma_crypto as ac
from atoma_crypto import _envelope_v2
from atoma_crypto._core import ffi
from atoma_crypto._padding import PadTo
from atoma_crypto._state import State
from atoma_crypto._typing import Suite
from helpers import REPLY_BODY, USAGE, SessionPair, native, new_client, new_node, node_key, tamper, twin

SUITES: Final[tuple[Suite, ...]] = ("X25519", "X-Wing")


def new_v2(**options: Any) -> ac.ClientSession:
    return new_client(protocol="v2", **options)


# ---- seal_request -----------------------------------------------------------------------------------------------


def test_what_is_sent() -> None:
    body = '{"model":"é\\"","stream":true}'.encode()
    client = new_v2(model='é"', stack_small_id=None, clock=lambda: 1_800_000_000.999)
    raw = client.seal_request(body, stream=True)
    members = json.loads(raw)
    assert raw == json.dumps(members, separators=(",", ":"), sort_keys=True).encode("ascii")
    assert members | {"ciphertext": "", "enc": ""} == {
        "ciphertext": "",
        "enc": "",
        "endpoint": "/v1/chat/completions",
        "key_id": base64.b64encode(node_key().public_key.key_id).decode(),
        "model_name": 'é"',
        "num_compute_units": None,
        "sent_at": 1_800_000_000,
        "stack_small_id": None,
        "stream": True,
        "v": 2,
    }
    assert new_node(clock=lambda: 1_800_000_000, replay_cache=ac.MemoryReplayCache(fresh_key=True)).open_request(raw)


def test_arguments() -> None:
    wrong: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"model": ""}, ValueError, "1 to 256 bytes"),
        ({"model": "x" * 257}, ValueError, "1 to 256 bytes"),
        ({"model": "é" * 129}, ValueError, "1 to 256 bytes"),
        ({"model": "\ud800"}, ValueError, "surrogate"),
        ({"model": 5}, TypeError, "model must be str"),
        ({"stack_small_id": 2**53}, ValueError, r"0 to 2\^53-1"),
        ({"stack_small_id": -1}, ValueError, r"0 to 2\^53-1"),
        ({"stack_small_id": True}, TypeError, "stack_small_id must be int"),
        ({"endpoint": ""}, ValueError, "endpoint must be"),
        ({"endpoint": "v1"}, ValueError, "endpoint must be"),
        ({"endpoint": "/a b"}, ValueError, "endpoint must be"),
        ({"endpoint": "/a\n"}, ValueError, "endpoint must be"),
        ({"endpoint": "/é"}, ValueError, "endpoint must be"),
        ({"endpoint": "/" + "x" * 128}, ValueError, "endpoint must be"),
    ]
    for change, error, text in wrong:
        with pytest.raises(error, match=text):
            new_v2(**change)
    client = new_v2(model="é" * 128, stack_small_id=2**53 - 1, endpoint="/" + "x" * 127)
    for units in (2**53, -1):
        with pytest.raises(ValueError, match=r"num_compute_units must be 0 to 2\^53-1"):
            client.seal_request(b"{}", stream=False, num_compute_units=units)
    assert client.seal_request(b"{}", stream=False, num_compute_units=2**53 - 1)


@pytest.mark.parametrize("pad_to", [None, "auto"])
def test_what_was_checked_is_what_is_sealed(pad_to: PadTo) -> None:
    """Also where the buffer is another's by then: the clock is asked in between."""
    body = bytearray(b'{"model":"m"}')

    def clock() -> float:
        body[:] = b'{"model":"n"}'
        return time.time()

    raw = new_v2(clock=clock, pad_to=pad_to).seal_request(body, stream=False)
    assert new_node().open_request(raw).body.rstrip() == b'{"model":"m"}'


@pytest.mark.parametrize("told", [-1.0, 2.0**53, float("nan"), float("inf")])
def test_a_clock_that_tells_no_time(told: float) -> None:
    now = [told]
    client = new_v2(clock=lambda: now[0])
    with pytest.raises((ValueError, OverflowError)):
        client.seal_request(b"{}", stream=False)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"model":"n"}', "'model' of the body is not that of the envelope"),
        (b'{"model":null}', "'model' of the body"),
        (b'{"stream":true}', "'stream' of the body is not that of the envelope"),
        (b'{"a":1,"a":1}', "member twice"),
        (b"[]", "not a JSON object"),
        (b"{", "not JSON"),
        (b"\xff", "not JSON"),
        (b'{"a":' * 100_000, "not JSON"),
    ],
)
def test_a_body_that_says_otherwise(body: bytes, text: str) -> None:
    client = new_v2()
    with pytest.raises(ac.LocalProtocolError, match=text):
        client.seal_request(body, stream=False)
    assert client.seal_request(b'{"model":"m","a":{"b":1,"b":2}}', stream=False)


def test_a_key_of_low_order() -> None:
    key = ac.PublicKey.from_bytes(bytes(32))
    client = ac.ClientSession(key, model="m", stack_small_id=None, protocol="v2")
    for _ in range(2):
        with pytest.raises(ac.InvalidKeyError):
            client.seal_request(b"{}", stream=False)
    assert client._state is State.IDLE


def test_each_request_is_new() -> None:
    made = [json.loads(new_v2().seal_request(REPLY_BODY, stream=False)) for _ in range(20)]
    assert len({one["enc"] for one in made}) == len({one["ciphertext"] for one in made}) == 20
    assert {one["key_id"] for one in made} == {made[0]["key_id"]}
    assert node_key().public_key.key_id.hex() == node_key().public_key.fingerprint()[:16]


# ---- open_response ----------------------------------------------------------------------------------------------


def answered(*, stream: bool = False) -> SessionPair:
    return SessionPair(protocol="v2", stream=stream)


def aborted(pair: SessionPair, plaintext: bytes) -> bytes:
    """An abort that says what no node of ours would."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_envelope_v2, "write_abort", lambda *_: plaintext)
        return pair.node.abort("X", "", 500)


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("usage", [None, USAGE])
def test_an_answer(suite: Suite, usage: Any) -> None:
    pair = SessionPair(protocol="v2", stream=False, suite=suite)
    raw = pair.node.seal_response(b"an answer", usage)
    client = twin(pair.client)
    assert client.open_response(b" \n" + raw + b"\r\n\t ") == b"an answer"
    assert client._opener.usage == usage
    assert client._state is State.DONE
    assert not any(bytes(ffi.buffer(ffi.addressof(native(client), "key"))))
    assert pair.client.open_response(memoryview(bytearray(raw))) == b"an answer"
    with pytest.raises(ac.LocalProtocolError, match="state is 'done'"):
        pair.client.open_response(raw)


def test_an_empty_answer() -> None:
    pair = answered()
    assert pair.client.open_response(pair.node.seal_response(b"")) == b""


def test_an_answer_that_the_core_leaves_to_the_general_parser() -> None:
    pair = answered()
    members = json.loads(pair.node.seal_response(b"an answer", USAGE))
    others: list[dict[str, Any]] = [{"nested": [{}]}, {"a": None}, {}]
    for more in others:
        raw = json.dumps(members | more, indent=1).replace("salt", "s\\u0061lt").encode()
        client = twin(pair.client)
        assert client.open_response(raw) == b"an answer"
        assert client._opener.usage == USAGE


def test_every_bit_of_an_answer() -> None:
    pair = answered()
    raw = pair.node.seal_response(b"an answer", USAGE)
    for bit in range(8 * len(raw)):
        with pytest.raises(ac.RemoteProtocolError):
            twin(pair.client).open_response(tamper(raw, bit))
    for at in range(len(raw)):
        with pytest.raises(ac.EnvelopeError):
            twin(pair.client).open_response(raw[:at])


def test_answers_that_are_none() -> None:
    pair, streamed = answered(), answered(stream=True)
    envelope = new_v2().seal_request(REPLY_BODY, stream=False)
    good = pair.node.seal_response(b"x")
    record = streamed.node.seal_chunk(b"x")
    wrong = [
        b"",
        b"{}",
        b"[]",
        b"null",
        b'{"error":{"code":"X","message":"in clear"}}',
        good + b"x",
        good + good,
        b"data: " + good + b"\n\n",
        record[6:],
        envelope,
        SessionPair(stream=False).node.seal_response(b"x"),
        *(json.dumps(json.loads(good) | {"flag": flag}).encode() for flag in (0, 1, 4, None, "3", 3.0, True)),
        *(json.dumps(json.loads(good) | {"v": v}).encode() for v in (1, 3, None, "2", 2.0, True)),
        *(json.dumps(json.loads(good) | {"salt": salt}).encode() for salt in ("", "AAAA", None, 5)),
        json.dumps({name: value for name, value in json.loads(good).items() if name not in ("salt", "v")}).encode(),
        good[:-1] + b',"flag":3}',
        good[:-1] + b',"x":1,"x":1}',
        good[:-1] + b',"x":' + b"[" * 16 + b"]" * 16 + b"}",
    ]
    for raw in wrong:
        with pytest.raises(ac.EnvelopeError):
            twin(pair.client).open_response(raw)
    other = answered().node.seal_response(b"x")
    for raw in (other, json.dumps(json.loads(good) | {"flag": 2}).encode()):
        with pytest.raises(ac.AuthenticationError):
            twin(pair.client).open_response(raw)
    deep = good[:-1] + b',"x":' + b"[" * 15 + b"]" * 15 + b"}"
    assert pair.client.open_response(deep) == b"x"


def test_an_answer_of_the_wrong_kind() -> None:
    """A stream of one record is no answer, an answer no stream: the flag says so, and is proven."""
    pair, streamed = answered(), answered(stream=True)
    with pytest.raises(ac.EnvelopeError):
        twin(streamed.client).open_response(pair.node.seal_response(b"x"))
    for flag in (0, 1, 2, 3):
        raw = json.dumps(json.loads(streamed.node.seal_chunk(b"x")[6:]) | {"flag": flag}).encode()
        with pytest.raises(ac.RemoteProtocolError):
            twin(streamed.client).open_response(raw)
        streamed = answered(stream=True)


def test_an_answer_that_is_too_long() -> None:
    pair = SessionPair(protocol="v2", stream=False, client={"limits": ac.Limits(max_response_bytes=100)})
    assert twin(pair.client).open_response(pair.node.seal_response(b"x" * 100)) == b"x" * 100
    other = SessionPair(protocol="v2", stream=False, client={"limits": ac.Limits(max_response_bytes=100)})
    with pytest.raises(ac.MessageTooLargeError, match="longer than 100 bytes"):
        other.client.open_response(other.node.seal_response(b"x" * 101))
    with pytest.raises(ac.MessageTooLargeError, match="longer than 100 bytes"):
        pair.client.open_response(b" " * 100_000)


# ---- aborts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
def test_an_abort_instead_of_an_answer(stream: bool) -> None:
    pair = answered(stream=stream)
    raw = pair.node.abort("UPSTREAM_FAILED", 'it said "no" \u00e9', 502)
    assert json.loads(raw)["flag"] == 2
    assert pair.node._state is State.DONE
    with pytest.raises(ac.RemoteAbortError) as caught:
        pair.client.open_response(raw)
    error = caught.value
    assert (error.code, error.message, error.status) == ("UPSTREAM_FAILED", 'it said "no" \u00e9', 502)
    assert pair.client._state is State.FAILED
    assert not any(bytes(ffi.buffer(ffi.addressof(native(pair.client), "key"))))


@pytest.mark.parametrize("before", [1, 3])
@pytest.mark.parametrize("together", [False, True])
def test_an_abort_in_mid_stream(before: int, together: bool) -> None:
    pair = answered(stream=True)
    events = [pair.node.seal_chunk(b"%d" % i) for i in range(before)]
    events.append(pair.node.abort("UPSTREAM_FAILED", "gone", 502))
    for piece in [b"".join(events)] if together else events:
        pair.client.receive_data(piece)
    for i in range(before):
        assert pair.client.next_event() == (b"%d" % i, i, None)
    with pytest.raises(ac.RemoteAbortError, match=r"UPSTREAM_FAILED \(502\)"):
        pair.client.next_event()
    with pytest.raises(ac.LocalProtocolError, match="has failed before"):
        pair.client.next_event()


def test_an_abort_with_more_behind_it_or_the_end_of_the_bytes() -> None:
    for more in (b"data: x\n\n", b""):
        pair = answered(stream=True)
        pair.client.receive_data(pair.node.seal_chunk(b"x") + pair.node.abort("X", "", 500) + more)
        pair.client.receive_eof()
        assert pair.client.next_event() == (b"x", 0, None)
        with pytest.raises(ac.RemoteAbortError):
            pair.client.next_event()


def test_an_abort_object_in_mid_stream_is_refused() -> None:
    pair, other = answered(stream=True), answered(stream=True)
    pair.client.receive_data(pair.node.seal_chunk(b"x"))
    assert pair.client.next_event() == (b"x", 0, None)
    with pytest.raises(ac.EnvelopeError):
        pair.client.open_response(other.node.abort("X", "", 500))
    assert pair.client._state is State.FAILED


WRONG_ABORTS: Final = [
    b"",
    b"{}",
    b"[]",
    b"\xff",
    b'{"error":null}',
    b'{"error":[]}',
    b'{"error":"gone"}',
    b'{"error":{}}',
    b'{"error":{"code":"X","message":"m"}}',
    b'{"error":{"code":"X","message":5,"status":500}}',
    b'{"error":{"code":"x","message":"m","status":500}}',
    b'{"error":{"code":"","message":"m","status":500}}',
    b'{"error":{"code":5,"message":"m","status":500}}',
    b'{"error":{"code":"X","message":"m","status":200}}',
    b'{"error":{"code":"X","message":"m","status":600}}',
    b'{"error":{"code":"X","message":"m","status":"500"}}',
    b'{"error":{"code":"X","message":"m","status":500.0}}',
    b'{"error":{"code":"X","message":"m","status":true}}',
    b'{"error":{"code":"X","code":"X","message":"m","status":500}}',
    b'{"error":{"code":"X","message":"m","status":500},"error":1}',
    b'{"error":' + b"[" * 100_000,
    b'{"error":{"code":"X","message":"m","status":500,"more":' + b"[" * 20 + b"]" * 20 + b"}}",
]


@pytest.mark.parametrize("plaintext", WRONG_ABORTS)
def test_an_abort_that_does_not_say_what_it_has_to(plaintext: bytes) -> None:
    for stream in (False, True):
        pair = answered(stream=stream)
        with pytest.raises(ac.EnvelopeError):
            pair.client.open_response(aborted(pair, plaintext))
    pair = answered(stream=True)
    pair.client.receive_data(pair.node.seal_chunk(b"x") + aborted(pair, plaintext))
    assert pair.client.next_event() == (b"x", 0, None)
    with pytest.raises(ac.FramingError) as caught:
        pair.client.next_event()
    assert caught.value.__context__ is None


def test_an_abort_may_say_more_and_be_padded() -> None:
    pair = answered()
    plaintext = b' {"error":{"more":[1],"status":400,"message":"' + b"," * 2000 + b'","code":"X_1"},"x":{}}   '
    with pytest.raises(ac.RemoteAbortError) as caught:
        pair.client.open_response(aborted(pair, plaintext))
    assert (caught.value.code, caught.value.message, caught.value.status) == ("X_1", "," * 2000, 400)
