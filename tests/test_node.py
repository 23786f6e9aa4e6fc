"""The node's session: what it takes, what it says, and what leaves it usable."""

from __future__ import annotations

import base64
import json
import math
from typing import Any, Final

import pytest

import atoma_crypto as ac
from atoma_crypto import _core
from atoma_crypto._state import State
from helpers import REPLY_BODY, STREAM_BODY, USAGE, SessionPair, member, native, new_client, new_node, node_key, read

KINDS: Final = (bytes, bytearray, memoryview)


def test_arguments_of_the_session() -> None:
    wrong: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"signing_key": bytes(31)}, ac.InvalidKeyError, "signing key must be 32 bytes, not 31"),
        ({"signing_key": "A" * 32}, TypeError, "signing key must be bytes"),
        ({"signing_key": node_key()}, TypeError, "signing key must be bytes"),
        ({"protocols": ()}, ValueError, "at least one protocol"),
        ({"protocols": "v1"}, ValueError, "in a tuple"),
        ({"protocols": ("v3",)}, ValueError, "protocol must be"),
        ({"protocols": ("v2", "v3")}, ValueError, "protocol must be"),
        ({"replay_cache": object()}, TypeError, "replay_cache must have the methods of ReplayCache"),
        ({"pad_to": "256"}, TypeError, "pad_to must be 'auto', an int or None"),
        ({"clock": None}, TypeError, "clock must be a function"),
        ({"limits": {}}, TypeError, "limits must be Limits"),
    ]
    for change, error, text in wrong:
        with pytest.raises(error, match=text):
            new_node(**change)
    for bad_key in (bytes(32), node_key().public_key, None):
        with pytest.raises(TypeError, match="keys must be SecretKey"):
            ac.NodeSession(bad_key)  # type: ignore[arg-type] # that is what is tested
    for seed in (bytes(32), bytearray(32), memoryview(bytes(32)), ac.SigningKey.generate()):
        assert SessionPair(node={"signing_key": seed}).node.seal_chunk(b"x")


# ---- open_request -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stream", [False, True])
def test_a_request_in_every_kind_of_buffer(kind: type[bytes], stream: bool) -> None:
    raw = new_client(model="org/m").seal_request(
        STREAM_BODY if stream else REPLY_BODY, stream=stream, num_compute_units=5
    )
    request = new_node().open_request(kind(raw))
    assert request == ac.Request(
        body=STREAM_BODY if stream else REPLY_BODY,
        model="org/m",
        stack_small_id=42,
        num_compute_units=5,
        stream=stream,
        endpoint=None,
        protocol="v1",
    )


@pytest.mark.parametrize("raw", ["{}", None, 5])
def test_a_request_of_another_type_leaves_the_session_usable(raw: Any) -> None:
    node = new_node()
    with pytest.raises(TypeError, match="raw must be bytes, bytearray or memoryview"):
        node.open_request(raw)
    assert node.open_request(new_client().seal_request(REPLY_BODY, stream=False)).body == REPLY_BODY


def test_a_request_that_was_refused_is_final() -> None:
    envelope = new_client().seal_request(REPLY_BODY, stream=False)
    spoiled = json.dumps(json.loads(envelope) | {"nonce": "A" * 16}).encode()
    for raw, error in ((b"{}", ac.EnvelopeError), (spoiled, ac.AuthenticationError)):
        node = new_node()
        with pytest.raises(error):
            node.open_request(raw)
        with pytest.raises(ac.LocalProtocolError, match="open_request: the session has failed before"):
            node.open_request(envelope)
        with pytest.raises(ac.LocalProtocolError, match="seal_response: the session has failed before"):
            node.seal_response(b"x")


@pytest.mark.parametrize("said", [True, False, None])
@pytest.mark.parametrize("sealed", [True, False, None])
def test_stream_must_be_the_same_twice(said: bool | None, sealed: bool | None) -> None:
    """Absent and null mean false in the envelope, absent means false in the body."""
    body = b"{}" if sealed is None else json.dumps({"stream": sealed}).encode()
    members = json.loads(new_client().seal_request(body, stream=bool(sealed)))
    variants = [members | {"stream": said}]
    if said is None:
        variants.append({name: value for name, value in members.items() if name != "stream"})
    for variant in variants:
        node = new_node()
        raw = json.dumps(variant).encode()
        if bool(said) is bool(sealed):
            assert node.open_request(raw).stream is bool(said)
        else:
            with pytest.raises(ac.EnvelopeError, match="'stream' of the body is not that of the envelope"):
                node.open_request(raw)
            with pytest.raises(ac.LocalProtocolError, match="failed before"):
                node.open_request(raw)


def test_the_limit_of_a_request_is_exact() -> None:
    raw = new_client().seal_request(b'{"x":"%b"}' % (b"x" * 1000), stream=False)
    for kind in (bytes, memoryview):
        node = new_node(limits=ac.Limits(max_request_bytes=len(raw)))
        assert len(node.open_request(kind(raw)).body) == 1008
        node = new_node(limits=ac.Limits(max_request_bytes=len(raw) - 1))
        with pytest.raises(ac.MessageTooLargeError, match=f"longer than {len(raw) - 1} bytes"):
            node.open_request(kind(raw))
        with pytest.raises(ac.LocalProtocolError, match="failed before"):
            node.open_request(raw)


def test_the_same_request_twice_gives_other_nonces() -> None:
    """A replayed request makes the same key: what is sealed under it must not repeat a nonce."""
    client = new_client()
    envelope = client.seal_request(STREAM_BODY, stream=True)
    nonces = set()
    for _ in range(20):
        node = new_node()
        node.open_request(envelope)
        nonces |= {member(node.seal_chunk(b"x"), "nonce") for _ in range(20)}
    assert len(nonces) == 400


# ---- sealing ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", ["text", None, 5, [1, 2]])
def test_plaintexts_of_another_type_leave_the_session_usable(wrong: Any) -> None:
    pair = SessionPair()
    first = pair.node.seal_chunk(b"0")
    with pytest.raises(TypeError, match="plaintext must be bytes, bytearray or memoryview"):
        pair.node.seal_chunk(wrong)
    with pytest.raises(TypeError, match="each plaintext must be bytes"):
        pair.node.seal_chunks([b"a", wrong])
    with pytest.raises(ValueError, match="contiguous"):
        pair.node.seal_chunk(memoryview(b"abcd")[::2])
    with pytest.raises(ValueError, match="contiguous"):
        pair.node.seal_chunks([b"a", memoryview(b"abcd")[::2]])
    assert read(pair.client, [first, pair.node.seal_chunk(b"1")]).chunks == [(b"0", 0, None), (b"1", 1, None)]
    reply = SessionPair(stream=False)
    with pytest.raises(TypeError, match="body must be bytes, bytearray or memoryview"):
        reply.node.seal_response(wrong)
    assert reply.client.open_response(reply.node.seal_response(b"x")) == b"x"


@pytest.mark.parametrize("wrong", [b"one", bytearray(b"one"), memoryview(b"one"), "one"])
def test_a_batch_is_no_buffer(wrong: Any) -> None:
    pair = SessionPair()
    with pytest.raises(TypeError, match="plaintexts must be a sequence of buffers"):
        pair.node.seal_chunks(wrong)
    assert pair.node.seal_chunks([wrong if not isinstance(wrong, str) else b""])


@pytest.mark.parametrize(
    ("usage", "error"),
    [
        ([], TypeError),
        ("x", TypeError),
        (5, TypeError),
        (False, TypeError),
        ({"a": object()}, TypeError),
        ({"a": math.nan}, ValueError),
        ({("a",): 1}, TypeError),
    ],
)
def test_usage_of_a_wrong_kind_leaves_the_session_usable(usage: Any, error: type[Exception]) -> None:
    pair = SessionPair()
    with pytest.raises(error):
        pair.node.seal_chunk(b"x", usage)
    with pytest.raises(error):
        pair.node.seal_chunks([b"x"], usage)
    assert read(pair.client, [pair.node.seal_chunk(b"x")]).end == ac.EndOfStream(1, None)
    reply = SessionPair(stream=False)
    with pytest.raises(error):
        reply.node.seal_response(b"x", usage)
    assert reply.client.open_response(reply.node.seal_response(b"x", {})) == b"x"


class Opening(dict[str, int]):
    """Usage that opens the session's request while it is written, as another thread could."""

    def __init__(self, node: ac.NodeSession, envelope: bytes) -> None:
        super().__init__(USAGE)
        self._node, self._envelope = node, envelope

    def keys(self) -> Any:
        if self._node._state is State.IDLE:
            self._node.open_request(self._envelope)
        return super().keys()

    def __iter__(self) -> Any:
        return iter(self.keys())


@pytest.mark.parametrize("protocols", [("v1", "v2"), ("v2", "v1")])
@pytest.mark.parametrize("method", ["seal_chunk", "seal_chunks", "finish", "seal_response"])
def test_usage_that_was_written_before_the_protocol_was_known_is_refused(method: str, protocols: Any) -> None:
    whole = method == "seal_response"
    client, node = new_client(protocol=protocols[1]), new_node(protocols=protocols)
    usage = Opening(node, client.seal_request(REPLY_BODY if whole else STREAM_BODY, stream=not whole))
    plaintext = [] if method == "finish" else [[b"x"]] if method == "seal_chunks" else [b"x"]
    with pytest.raises(ac.LocalProtocolError) as caught:
        getattr(node, method)(*plaintext, usage)
    assert type(caught.value) is ac.LocalProtocolError
    if whole:  # nothing was spent
        assert client.open_response(node.seal_response(b"answer", USAGE)) == b"answer"
    else:
        client.receive_data(node.seal_chunk(b"x", USAGE) + node.finish())
        assert client.next_event() == (b"x", 0, USAGE)


def test_usage_stands_in_clear() -> None:
    pair = SessionPair()
    event = json.loads(pair.node.seal_chunk(b"x", USAGE).removeprefix(b"data: "))
    assert event["usage"] == USAGE
    assert "usage" not in json.loads(pair.node.seal_chunk(b"x").removeprefix(b"data: "))
    assert json.loads(SessionPair(stream=False).node.seal_response(b"x", USAGE))["usage"] == USAGE
    assert "usage" not in json.loads(SessionPair(stream=False).node.seal_response(b"x"))


def test_nothing_is_spent_by_a_refused_call() -> None:
    pair = SessionPair(node={"limits": ac.Limits(max_event_bytes=300)})
    sealer = native(pair.node)
    before = bytes(_core.ffi.buffer(sealer))
    with pytest.raises(ValueError, match="longer than the limit of 300 bytes"):
        pair.node.seal_chunk(b"x" * 200)
    with pytest.raises(ValueError, match="longer than the limit of 300 bytes"):
        pair.node.seal_chunks([b"", b"x" * 200])
    with pytest.raises(ac.LocalProtocolError, match="give usage to the last seal_chunk"):
        pair.node.finish(USAGE)
    with pytest.raises(ac.LocalProtocolError, match="seal_response is not possible now"):
        pair.node.seal_response(b"x")
    with pytest.raises(ac.LocalProtocolError, match="abort is not possible now"):
        pair.node.abort("code", "message", 500)
    assert bytes(_core.ffi.buffer(sealer)) == before
    assert pair.node.finish() == b""


def test_the_end_of_a_stream_is_nothing_on_the_wire() -> None:
    pair = SessionPair()
    event = pair.node.seal_chunk(b"x")
    assert pair.node.finish() == b""
    assert read(pair.client, [event]).end == ac.EndOfStream(1, None)
    with pytest.raises(ac.LocalProtocolError, match="not possible now"):
        pair.node.finish()
    with pytest.raises(ac.LocalProtocolError, match="not possible now"):
        pair.node.seal_chunk(b"x")


@pytest.mark.parametrize("name", ["chunks_left", "bytes_left"])
def test_a_counter_that_is_spent(name: str) -> None:
    pair = SessionPair()
    sealer = native(pair.node)
    assert (sealer.chunks_left, sealer.bytes_left) == (2**32, 2**36)
    setattr(sealer, name, 2)
    with pytest.raises(ac.LimitExceededError, match="counter is spent"):
        pair.node.seal_chunks([b"a", b"b", b"c"])
    first = pair.node.seal_chunks([b"a", b"b"])
    with pytest.raises(ac.LimitExceededError, match="counter is spent"):
        pair.node.seal_chunk(b"c")
    if name == "bytes_left":
        first += pair.node.seal_chunk(b"")  # takes none
    assert pair.node.finish() == b""  # it is no fault of anybody's
    assert [text for text, _, _ in read(pair.client, [first]).chunks][:2] == [b"a", b"b"]


def test_nonces_wrap_and_leave_out_the_requests_own() -> None:
    pair = SessionPair()
    sealer = native(pair.node)
    _core.ffi.memmove(sealer.next_nonce, b"\xff" * 11 + b"\xfe", 12)
    request_nonce = bytes(_core.ffi.buffer(sealer.request_nonce))
    nonces = [bytes.fromhex(_nonce(pair)) for _ in range(3)]
    assert nonces == [b"\xff" * 11 + b"\xfe", b"\xff" * 12, bytes(12)]
    before = (int.from_bytes(request_nonce, "big") - 1) % 2**96
    _core.ffi.memmove(sealer.next_nonce, before.to_bytes(12, "big"), 12)
    assert [int(_nonce(pair), 16) for _ in range(2)] == [before, (before + 2) % 2**96]


def _nonce(pair: SessionPair) -> str:
    return base64.b64decode(member(pair.node.seal_chunk(b"x"), "nonce")).hex()
