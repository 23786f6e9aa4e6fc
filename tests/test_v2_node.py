"""A node of protocol v2 opens requests: the order of its checks, admission, and what a refusal leaves possible."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any, Final

import pytest

import atoma_crypto as ac
from atoma_crypto import _envelope_v2
from atoma_crypto._core import ffi
from atoma_crypto._state import State
from atoma_crypto._typing import Suite
from helpers import REPLY_BODY, STREAM_BODY, native, new_client, new_node, tamper
from threads import run

SUITES: Final[tuple[Suite, ...]] = ("X25519", "X-Wing")
suites = pytest.mark.parametrize("suite", SUITES)
NOW: Final = 1_800_000_000


class Store:
    """A replay store that writes down what it is asked."""

    def __init__(self, answer: object = True) -> None:
        self.asked: list[tuple[bytes, float]] = []
        self.answer = answer

    def admit(self, request_id: bytes, expires_at: float) -> bool:
        self.asked.append((request_id, expires_at))
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer  # type: ignore[return-value] # also what no store should say

    def close(self) -> None:
        pass


def sealed(*, suite: Suite = "X25519", stream: bool = True, now: float = NOW, **options: Any) -> bytes:
    client = new_client(protocol="v2", suite=suite, clock=lambda: now, **options)
    return client.seal_request(STREAM_BODY if stream else REPLY_BODY, stream=stream, num_compute_units=64)


def sealed_body(body: bytes, *, stream: bool = True) -> bytes:
    """What no client of ours would seal."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_envelope_v2, "check_body", lambda *_: None)
        client = new_client(protocol="v2", clock=lambda: NOW)
        return client.seal_request(body, stream=stream)


def changed(raw: bytes, **members: Any) -> bytes:
    return json.dumps(json.loads(raw) | members).encode()


def node(**options: Any) -> ac.NodeSession:
    defaults: dict[str, Any] = {"clock": lambda: NOW, "replay_cache": Store()}
    return new_node(**(defaults | options))


# ---- open_request -----------------------------------------------------------------------------------------------


@suites
@pytest.mark.parametrize("stream", [False, True])
def test_a_request(suite: Suite, stream: bool) -> None:
    body = json.dumps({"model": "org/m\u00e9", "stream": stream}).encode()
    client = new_client(
        protocol="v2", suite=suite, model="org/m\u00e9", endpoint="/v1/x", stack_small_id=None, clock=lambda: NOW + 0.9
    )
    raw = client.seal_request(body, stream=stream, num_compute_units=64)
    store = Store()
    request = node(suite=suite, replay_cache=store).open_request(raw)
    assert request == ac.Request(body, "org/m\u00e9", None, 64, stream, "/v1/x", "v2")
    enc = _envelope_v2._bytes(json.loads(raw), "enc")
    assert store.asked == [(hashlib.sha256(enc).digest(), NOW + 360)]


def test_nothing_that_was_refused_before_is_remembered() -> None:
    """Each is at fault in two ways, and the first of them in v2's order is what it is refused for."""
    raw = sealed()
    late: dict[str, Any] = {"clock": lambda: NOW + 300}
    cases: list[tuple[bytes, dict[str, Any], type[Exception]]] = [
        (b"{" + b" " * 2000, {"limits": ac.Limits(max_request_bytes=1000)}, ac.MessageTooLargeError),
        (changed(raw, endpoint="x", key_id="AAAAAAAAAAA="), {}, ac.EnvelopeError),
        (changed(raw, key_id="AAAAAAAAAAA=", enc="A" * 1492 + "AA=="), late, ac.UnknownKeyError),
        (changed(raw, enc="A" * 1492 + "AA=="), late, ac.EnvelopeError),
        (changed(raw, model_name="n"), late, ac.ClockSkewError),
        (changed(raw, sent_at=NOW + 61), {}, ac.ClockSkewError),
        (changed(raw, model_name="n"), {"replay_cache": Store(False)}, ac.AuthenticationError),
        (sealed_body(b'{"stream":true,"model":"x"}'), {"replay_cache": Store(False)}, ac.ReplayedError),
    ]
    for request, options, error in cases:
        session = node(**options)
        store = session._replay_cache
        with pytest.raises(error):
            session.open_request(request)
        assert session._state is State.FAILED
        assert isinstance(store, Store)
        assert len(store.asked) == (error is ac.ReplayedError)
        with pytest.raises(ac.LocalProtocolError, match="has failed before"):
            session.open_request(raw)
    assert node().open_request(raw).body == STREAM_BODY


@pytest.mark.parametrize(
    ("clock", "timely"),
    [(-61.0, False), (-60.5, False), (-60.0, True), (0, True), (299.999, True), (300.0, False), (10**6, False)],
)
def test_when_a_request_is_timely(clock: float, timely: bool) -> None:
    session = node(clock=lambda: NOW + clock)
    if timely:
        assert session.open_request(sealed()).body == STREAM_BODY
    else:
        with pytest.raises(ac.ClockSkewError):
            session.open_request(sealed())


@suites
def test_every_bit_of_a_request(suite: Suite) -> None:
    raw = sealed(suite=suite)
    store = Store()
    bits = range(0, 8 * len(raw), 1 if suite == "X25519" else 23)
    for bit in bits:
        with pytest.raises(ac.RemoteProtocolError):
            node(suite=suite, replay_cache=store).open_request(tamper(raw, bit))
    assert store.asked == []
    assert node(suite=suite, replay_cache=store).open_request(raw)


METADATA: Final[dict[str, list[Any]]] = {
    "endpoint": ["/v1/chat/completionz", "/"],
    "model_name": ["n", "m "],
    "stack_small_id": [41, 0, None, 2**53 - 1],
    "num_compute_units": [65, 0, None],
    "stream": [False],
    "sent_at": [NOW - 1, NOW + 1],
}


@pytest.mark.parametrize("name", METADATA)
def test_metadata_is_bound(name: str) -> None:
    raw = sealed()
    for value in METADATA[name]:
        with pytest.raises(ac.AuthenticationError):
            node().open_request(changed(raw, **{name: value}))
    assert node().open_request(changed(raw, unknown={"a": [1.5, None]})).body == STREAM_BODY


def test_enc_is_taken_as_it_was_received() -> None:
    """Another spelling of the same point would be another id for the replay store: it does not open."""
    raw = sealed()
    enc = bytearray(_envelope_v2._bytes(json.loads(raw), "enc"))
    enc[31] |= 0x80
    with pytest.raises(ac.AuthenticationError):
        node().open_request(changed(raw, enc=_b64(enc)))
    for low in (bytes(32), b"\x01" + bytes(31)):
        with pytest.raises(ac.AuthenticationError):
            node().open_request(changed(raw, enc=_b64(low)))


def _b64(raw: bytes | bytearray) -> str:
    return ac.PublicKey.from_bytes(bytes(raw)).to_base64()


# ---- admission --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [False, None, 0, 1, "yes"])
def test_only_true_admits(answer: object) -> None:
    session = node(replay_cache=Store(answer))
    with pytest.raises(ac.ReplayedError):
        session.open_request(sealed())
    assert session._state is State.FAILED


@pytest.mark.parametrize(
    "error", [ac.ReplayStoreError("full"), OSError("gone"), ValueError("bug"), KeyboardInterrupt()]
)
def test_a_store_that_fails_ends_the_session(error: BaseException) -> None:
    session = node(replay_cache=Store(error))
    with pytest.raises(type(error)) as caught:
        session.open_request(sealed())
    assert caught.value is error
    assert session._state is State.FAILED
    assert not any(bytes(ffi.buffer(ffi.addressof(native(session), "aes"))))
    with pytest.raises(ac.LocalProtocolError, match="has failed before"):
        session.abort("X", "", 500)


@suites
def test_the_key_brings_its_own_store(suite: Suite) -> None:
    key = ac.SecretKey.generate(suite)
    raw = ac.ClientSession(key.public_key, model="m", stack_small_id=1, protocol="v2").seal_request(
        REPLY_BODY, stream=False
    )
    assert ac.NodeSession(key).open_request(raw).body == REPLY_BODY
    with pytest.raises(ac.ReplayedError):
        ac.NodeSession(key).open_request(raw)
    assert ac.NodeSession(key, replay_cache=Store()).open_request(raw).body == REPLY_BODY


def test_one_of_many_threads_admits() -> None:
    key = ac.SecretKey.generate()
    raw = ac.ClientSession(key.public_key, model="m", stack_small_id=1, protocol="v2").seal_request(
        REPLY_BODY, stream=False
    )
    admitted: list[int] = []

    def work(number: int) -> None:
        try:
            ac.NodeSession(key).open_request(raw)
        except ac.ReplayedError:
            return
        admitted.append(number)

    run(work)
    assert len(admitted) == 1


@pytest.mark.parametrize(
    "body",
    [
        b'{"stream":true,"model":"other"}',
        b'{"stream":true,"model":null}',
        b'{"stream":false}',
        b"{}",
        b'{"stream":1}',
        b'{"stream":true,"stream":true}',
        b'{"stream":true,"a":1,"a":1}',
        b'["stream"]',
        b"not JSON",
        b"\xff",
        b"",
    ],
)
def test_a_body_that_is_refused_leaves_the_abort(body: bytes) -> None:
    store = Store()
    session = node(replay_cache=store)
    client = new_client(protocol="v2", clock=lambda: NOW)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_envelope_v2, "check_body", lambda *_: None)
        raw = client.seal_request(body, stream=True)
    with pytest.raises(ac.EnvelopeError):
        session.open_request(raw)
    assert len(store.asked) == 1
    assert session._state is State.REFUSED
    calls: list[Callable[[], object]] = [
        lambda: session.seal_chunk(b"x"),
        lambda: session.seal_response(b"x"),
        session.finish,
    ]
    for call in calls:
        with pytest.raises(ac.LocalProtocolError, match="state is 'refused'"):
            call()
    answer = session.abort("INVALID_BODY", "no", 400)
    with pytest.raises(ac.RemoteAbortError) as caught:
        client.open_response(answer)
    assert (caught.value.code, caught.value.message, caught.value.status) == ("INVALID_BODY", "no", 400)
    with pytest.raises(ac.LocalProtocolError, match="state is 'done'"):
        session.abort("INVALID_BODY", "no", 400)


def test_an_interrupt_in_a_refusal_is_no_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    session = node()

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    raw = sealed()
    monkeypatch.setattr(_envelope_v2, "check_body", interrupted)
    with pytest.raises(KeyboardInterrupt):
        session.open_request(raw)
    assert session._state is State.FAILED


# ---- protocols --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocols", [("v1", "v2"), ("v2", "v1"), ("v1",), ("v2",)])
def test_the_request_says_which_protocol(protocols: tuple[str, ...]) -> None:
    for protocol in ("v1", "v2"):
        session = new_node(protocols=protocols)
        client = new_client(protocol=protocol)
        raw = client.seal_request(STREAM_BODY, stream=True)
        if protocol not in protocols:
            with pytest.raises(ac.EnvelopeError, match=f"of protocol {protocol}, which is not served here"):
                session.open_request(raw)
            continue
        assert session.open_request(raw).protocol == protocol
        client.receive_data(session.seal_chunk(b"x") + session.finish())
        client.receive_eof()
        assert list(client.events()) == [ac.Chunk(b"x", 0, None), ac.EndOfStream(1, None)]


@pytest.mark.parametrize("version", [1, 3, "2", 2.0, True, None, [2]])
def test_other_versions(version: object) -> None:
    with pytest.raises(ac.EnvelopeError, match="of no protocol that is known"):
        node().open_request(changed(sealed(), v=version))
    with pytest.raises(ac.EnvelopeError):
        node().open_request(sealed()[:-1] + b',"v":2}')


def test_a_key_of_x_wing_opens_no_v1() -> None:
    raw = new_client().seal_request(REPLY_BODY, stream=False)
    with pytest.raises(ac.AuthenticationError):
        new_node(suite="X-Wing").open_request(raw)
    with pytest.raises(ac.InvalidKeyError, match="v1 knows no keys of suite X-Wing"):
        new_client(suite="X-Wing")


def test_a_closed_key() -> None:
    key = ac.SecretKey.generate()
    session = ac.NodeSession(key)
    raw = ac.ClientSession(key.public_key, model="m", stack_small_id=1, protocol="v2").seal_request(b"{}", stream=False)
    key.close()
    with pytest.raises(ac.SessionClosedError, match="this key is closed"):
        session.open_request(raw)


def test_reprs_and_errors_show_no_body() -> None:
    raw = sealed_body(b'{"stream":true,"model":"SECRETMODEL"}')
    session = node()
    with pytest.raises(ac.EnvelopeError) as caught:
        session.open_request(raw)
    error: BaseException | None = caught.value
    while error is not None:
        assert "SECRETMODEL" not in repr(error)
        error = error.__context__
    assert "SECRET" not in repr(session)
