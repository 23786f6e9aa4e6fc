"""The client's session: what it takes, what it says, and what leaves it usable."""

from __future__ import annotations

import json
import sys
import warnings
from typing import Any, Final

import pytest

import atoma_crypto as ac
from helpers import (
    REPLY_BODY,
    STREAM_BODY,
    USAGE,
    SessionPair,
    new_client,
    new_node,
    node_key,
    punted,
    read,
    twin,
)
from oracle import Behaviour, NodeSide

U64_MAX: Final = 2**64 - 1
KINDS: Final = (bytes, bytearray, memoryview)


def test_the_envelope_is_compact_and_in_order() -> None:
    raw = new_client(model="org/m\u00f6del", stack_small_id=7).seal_request(REPLY_BODY, stream=False)
    members = json.loads(raw)
    assert list(members) == sorted(members)
    assert raw == json.dumps(members, separators=(",", ":"), ensure_ascii=False).encode()
    assert "num_compute_units" not in members
    assert members["stream"] is False
    assert members["node_dh_public_key"] == node_key().public_key.to_base64()


@pytest.mark.parametrize("units", [None, 0, 1, 8192, 2**53 + 1, U64_MAX])
@pytest.mark.parametrize("stack", [0, 42, U64_MAX])
def test_numbers_survive(units: int | None, stack: int) -> None:
    raw = new_client(stack_small_id=stack).seal_request(STREAM_BODY, stream=True, num_compute_units=units)
    request = new_node().open_request(raw)
    assert (request.num_compute_units, request.stack_small_id) == (units, stack)
    assert ("num_compute_units" in json.loads(raw)) is (units is not None)


@pytest.mark.parametrize("bad", [-1, U64_MAX + 1, 10**30])
def test_numbers_out_of_range(bad: int) -> None:
    with pytest.raises(ValueError, match="stack_small_id must be 0 to 2\\^64-1"):
        new_client(stack_small_id=bad)
    client = new_client()
    with pytest.raises(ValueError, match="num_compute_units must be 0 to 2\\^64-1"):
        client.seal_request(REPLY_BODY, stream=False, num_compute_units=bad)
    assert client.seal_request(REPLY_BODY, stream=False)


@pytest.mark.parametrize("wrong", [True, False, 1.0, "1", [1]])
def test_numbers_of_other_types(wrong: Any) -> None:
    with pytest.raises(TypeError, match="stack_small_id must be int"):
        new_client(stack_small_id=wrong)
    client = new_client()
    with pytest.raises(TypeError, match="num_compute_units must be int"):
        client.seal_request(REPLY_BODY, stream=False, num_compute_units=wrong)
    assert client.seal_request(REPLY_BODY, stream=False)


@pytest.mark.parametrize("model", ["", "m", 'a"b\\c/\n\x00', "\u00e9\u4e2d\U0001f600\u2028", "x" * 100_000])
def test_names_of_models_survive(model: str) -> None:
    raw = new_client(model=model).seal_request(REPLY_BODY, stream=False)
    assert new_node().open_request(raw).model == model


def test_arguments_of_the_session() -> None:
    good: dict[str, Any] = {"model": "m", "stack_small_id": 1, "protocol": "v1"}
    wrong: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"model": 5}, TypeError, "model must be str"),
        ({"model": b"m"}, TypeError, "model must be str"),
        ({"model": "\ud800"}, ValueError, "surrogate"),
        ({"stack_small_id": None}, TypeError, "stack_small_id must be int"),
        ({"protocol": "v1", "pad_to": 0}, ValueError, "pad_to must be 1 to"),
        ({"protocol": "v3"}, ValueError, "protocol must be"),
        ({"protocol": None}, ValueError, "protocol must be"),
        ({"nonce_reuse": "ignore"}, ValueError, "nonce_reuse must be 'warn' or 'error'"),
        ({"nonce_reuse": None}, ValueError, "nonce_reuse"),
        ({"limits": 5}, TypeError, "limits must be Limits"),
        ({"limits": None}, TypeError, "limits must be Limits"),
        ({"endpoint": None}, TypeError, "endpoint must be str"),
        ({"clock": 5}, TypeError, "clock"),
    ]
    for change, error, text in wrong:
        with pytest.raises(error, match=text):
            ac.ClientSession(node_key().public_key, **(good | change))
    for bad_key in (bytes(32), node_key(), "A" * 44, None):
        with pytest.raises(TypeError, match="node_public_key must be PublicKey"):
            ac.ClientSession(bad_key, **good)  # type: ignore[arg-type] # that is what is tested
    for name in good:  # none has a default
        with pytest.raises(TypeError, match=name):
            ac.ClientSession(node_key().public_key, **{key: value for key, value in good.items() if key != name})


# ---- seal_request -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_body_in_every_kind_of_buffer(kind: type[bytes]) -> None:
    assert new_node().open_request(new_client().seal_request(kind(REPLY_BODY), stream=False)).body == REPLY_BODY


def test_a_body_of_other_items_than_bytes() -> None:
    wide = memoryview(b'{"a":1} ').cast("I")
    assert new_node().open_request(new_client().seal_request(wide, stream=False)).body == b'{"a":1} '


@pytest.mark.parametrize("body", ["{}", None, 5, [123, 125], {"stream": False}])
def test_a_body_of_another_type_leaves_the_session_usable(body: Any) -> None:
    client = new_client()
    with pytest.raises(TypeError, match="body must be bytes, bytearray or memoryview"):
        client.seal_request(body, stream=False)
    assert client.seal_request(REPLY_BODY, stream=False)


def test_a_body_that_is_not_contiguous_leaves_the_session_usable() -> None:
    client = new_client()
    with pytest.raises(ValueError, match="contiguous"):
        client.seal_request(memoryview(b"{x}x")[::2], stream=False)
    assert client.seal_request(REPLY_BODY, stream=False)


@pytest.mark.parametrize("stream", [None, 0, 1, "true"])
def test_stream_of_another_type_leaves_the_session_usable(stream: Any) -> None:
    client = new_client()
    with pytest.raises(TypeError, match="stream must be bool"):
        client.seal_request(REPLY_BODY, stream=stream)
    assert client.seal_request(REPLY_BODY, stream=False)


@pytest.mark.parametrize(
    ("body", "stream", "text"),
    [
        (b"{}", True, "stream is True, but the body says otherwise"),
        (b'{"stream":false}', True, "says otherwise"),
        (b'{"stream":true}', False, "stream is False, but the body says otherwise"),
        (b'{"stream":0}', False, "not a boolean"),
        (b'{"stream":1}', True, "not a boolean"),
        (b'{"stream":"true"}', True, "not a boolean"),
        (b'{"stream":true,"stream":true}', True, "'stream' twice"),
        (b'{"stream":false,"str\\u0065am":false}', False, "'stream' twice"),
        (b"", False, "not JSON"),
        (b"[]", False, "not a JSON object"),
        (b"\xff", False, "not JSON"),
        (b"[" * 100_000, False, "not JSON"),
    ],
)
def test_a_body_that_says_otherwise_leaves_the_session_usable(body: bytes, stream: bool, text: str) -> None:
    client = new_client()
    with pytest.raises(ac.LocalProtocolError, match=text):
        client.seal_request(body, stream=stream)
    assert client.seal_request(REPLY_BODY, stream=False)


def test_two_requests_share_nothing() -> None:
    seen: set[str] = set()
    for _ in range(50):
        members = json.loads(new_client().seal_request(REPLY_BODY, stream=False))
        names = ("ciphertext", "client_dh_public_key", "nonce", "salt")
        assert not seen & {members[name] for name in names}
        seen |= {members[name] for name in names}


# ---- open_response ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("usage", [None, USAGE, {"deep": {"a": [1]}}])
def test_a_reply_in_every_kind_of_buffer(kind: type[bytes], usage: dict[str, Any] | None) -> None:
    pair = SessionPair(stream=False)
    raw = pair.node.seal_response(b"the answer", usage)
    assert pair.client.open_response(kind(raw)) == b"the answer"
    with pytest.raises(ac.LocalProtocolError, match="not possible now"):
        pair.client.open_response(raw)


@pytest.mark.parametrize("raw", ["{}", None, 5])
def test_a_reply_of_another_type_leaves_the_session_usable(raw: Any) -> None:
    pair = SessionPair(stream=False)
    with pytest.raises(TypeError, match="raw must be bytes, bytearray or memoryview"):
        pair.client.open_response(raw)
    assert pair.client.open_response(pair.node.seal_response(b"x")) == b"x"


def test_a_reply_to_somebody_else() -> None:
    pair, other = SessionPair(stream=False), SessionPair(stream=False)
    with pytest.raises(ac.AuthenticationError):
        pair.client.open_response(other.node.seal_response(b"x"))
    with pytest.raises(ac.LocalProtocolError, match="failed before"):
        pair.client.open_response(pair.node.seal_response(b"x"))


def test_the_request_itself_is_no_reply() -> None:
    for stream in (False, True):
        pair = SessionPair(stream=stream, client={"nonce_reuse": "warn"})
        sent = json.loads(pair.envelope)
        back = json.dumps({name: sent[name] for name in ("ciphertext", "nonce")}).encode()
        if stream:
            assert read(pair.client, [b"data: " + back + b"\n\n"]).end is ac.NonceReuseError
        else:
            with pytest.raises(ac.NonceReuseError):
                pair.client.open_response(back)


# ---- events -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", ["data: x\n\n", None, 5, [1]])
def test_data_of_another_type_leaves_the_session_usable(wrong: Any) -> None:
    pair = SessionPair()
    event = pair.node.seal_chunk(b"x")
    pair.client.receive_data(event[:20])
    with pytest.raises(TypeError, match="received must be bytes, bytearray or memoryview"):
        pair.client.receive_data(wrong)
    with pytest.raises(ValueError, match="contiguous"):
        pair.client.receive_data(memoryview(b"abcd")[::2])
    assert read(pair.client, [event[20:]]).end == ac.EndOfStream(1, None)


def test_the_end_is_always_the_same_object() -> None:
    pair = SessionPair()
    pair.client.receive_data(pair.node.seal_chunk(b"x", USAGE))
    pair.client.receive_eof()
    pair.client.receive_eof()
    chunk, end = pair.client.events()
    assert chunk == (b"x", 0, USAGE)
    assert end == ac.EndOfStream(1, USAGE)
    pair.client.receive_eof()
    assert pair.client.next_event() is end
    assert list(pair.client.events()) == [end]
    assert next(pair.client.events()) is end
    with pytest.raises(ac.LocalProtocolError):
        pair.client.receive_data(b"")


def test_events_stop_where_more_is_needed_and_go_on_later() -> None:
    pair = SessionPair()
    events = [pair.node.seal_chunk(b"%d" % i) for i in range(4)]
    assert list(pair.client.events()) == []
    pair.client.receive_data(events[0] + events[1] + events[2][:9])
    iterator = pair.client.events()
    assert next(iterator) == (b"0", 0, None)
    pair.client.receive_data(events[2][9:])
    assert [chunk.plaintext for chunk in iterator if isinstance(chunk, ac.Chunk)] == [b"1", b"2"]
    assert pair.client.next_event() is ac.NEED_DATA
    pair.client.receive_data(events[3])
    pair.client.receive_eof()
    assert list(pair.client.events()) == [(b"3", 3, None), ac.EndOfStream(4, None)]


def test_a_stream_may_end_before_its_first_event() -> None:
    client = SessionPair().client
    client.receive_eof()
    assert client.next_event() == ac.EndOfStream(0, None)


def test_every_remote_error_is_final() -> None:
    cases: list[tuple[bytes, type[ac.RemoteProtocolError]]] = [
        (b"data: x\n\n", ac.FramingError),
        (b'data: {"ciphertext":"%b","nonce":"%b"}\n\n' % (b"A" * 24, b"A" * 16), ac.AuthenticationError),
        (b":" + b"x" * (64 << 10), ac.MessageTooLargeError),
        (b"data: x", ac.TruncatedStreamError),
    ]
    for raw, error in cases:
        client = SessionPair().client
        assert read(client, [raw]).end is error
        for call in (client.next_event, client.receive_eof, lambda c=client: c.receive_data(b"")):
            with pytest.raises(ac.LocalProtocolError, match="failed before"):
                call()
        client.close()
        with pytest.raises(ac.SessionClosedError):
            client.next_event()


# ---- nonces that repeat -----------------------------------------------------------------------------------------


def oracle_side(pair: SessionPair) -> NodeSide:
    """A node that repeats its nonce, for the same exchange."""
    raw_key = bytes(ac._core.ffi.buffer(node_key().native.secret))
    return NodeSide.open_request(raw_key, pair.envelope, behaviour=Behaviour("repeat"))


PLAIN: Final = [b'{"n":%d}' % i for i in range(6)]


def test_the_warning_is_given_once_and_names_the_callers_line() -> None:
    pair = SessionPair()
    side = oracle_side(pair)
    raw = b"".join(side.event(text) for text in PLAIN)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        got = []
        for at in range(0, len(raw), 300):
            pair.client.receive_data(raw[at : at + 300])
            while True:
                event = pair.client.next_event()
                line = sys._getframe().f_lineno - 1
                if event is ac.NEED_DATA:
                    break
                assert isinstance(event, ac.Chunk)
                got.append(event.plaintext)
    assert got == PLAIN
    assert [warning.category for warning in caught] == [ac.NonceReuseWarning]
    assert caught[0].filename == __file__
    assert caught[0].lineno == line


def test_the_warning_names_the_callers_line_through_events_too() -> None:
    pair = SessionPair()
    side = oracle_side(pair)
    pair.client.receive_data(b"".join(side.event(text) for text in PLAIN))
    with pytest.warns(ac.NonceReuseWarning) as caught:
        assert len(list(pair.client.events())) == len(PLAIN)
    assert len(caught) == 1
    assert caught[0].filename == __file__


@pytest.mark.parametrize("cut", [100, 10_000])
def test_no_chunk_is_lost_when_the_warning_is_an_error(cut: int) -> None:
    pair = SessionPair()
    side = oracle_side(pair)
    raw = b"".join(side.event(text) for text in PLAIN)
    got: list[bytes] = []
    raised = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for at in range(0, len(raw), cut):
            pair.client.receive_data(raw[at : at + cut])
            while True:
                try:
                    event = pair.client.next_event()
                except ac.NonceReuseWarning:
                    raised += 1
                    continue
                if event is ac.NEED_DATA:
                    break
                assert isinstance(event, ac.Chunk)
                got.append(event.plaintext)
    assert (got, raised) == (PLAIN, 1)
    pair.client.receive_eof()
    assert pair.client.next_event() == ac.EndOfStream(len(PLAIN), None)


@pytest.mark.parametrize("through_python", [False, True])
def test_a_repeated_nonce_is_refused_when_asked_to(through_python: bool) -> None:
    pair = SessionPair(client={"nonce_reuse": "error"})
    side = oracle_side(pair)
    events = [side.event(text) for text in PLAIN]
    if through_python:
        events = [punted(event) for event in events]
    got = read(pair.client, [b"".join(events)])
    assert got == ([(PLAIN[0], 0, None)], ac.NonceReuseError)


@pytest.mark.parametrize("through_python", [False, True])
def test_what_is_compared_is_the_first_and_the_previous_nonce(through_python: bool) -> None:
    pair = SessionPair(client={"nonce_reuse": "error"})
    side = oracle_side(pair)
    nonces = [bytes([i]) * 12 for i in range(1, 5)]

    def outcome(*order: int) -> object:
        events = [side.event(PLAIN[0], nonces[i]) for i in order]
        return read(twin(pair.client), [punted(event) if through_python else event for event in events]).end

    assert outcome(0, 1, 2, 3) == ac.EndOfStream(4, None)
    assert outcome(0, 1, 2, 2) is ac.NonceReuseError
    assert outcome(0, 1, 2, 0) is ac.NonceReuseError
    assert outcome(0, 0) is ac.NonceReuseError
    assert outcome(0, 1, 2, 1) == ac.EndOfStream(4, None)  # neither: what is kept is bounded, as documented
