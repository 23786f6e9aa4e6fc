"""The node's keyring: which keys it holds when, what a request in flight gets, and when a key is wiped."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any, Final

import pytest

import atoma_crypto as ac
from atoma_crypto._core import ffi, lib
from helpers import REPLY_BODY, STREAM_BODY
from oracle import OracleClient

HOUR: Final = 3600.0
GRACE: Final = 300.0
WRONG: Final = "the message could not be authenticated"


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def sealed(public_key: ac.PublicKey) -> tuple[ac.ClientSession, bytes]:
    client = ac.ClientSession(public_key, model="m", stack_small_id=1, protocol="v1")
    return client, client.seal_request(REPLY_BODY, stream=False)


def opens(keys: ac.NodeKeyring, public_key: ac.PublicKey) -> bool:
    """Whether a request to this key is opened and answered; else it is refused as all that does not hold."""
    client, envelope = sealed(public_key)
    node = ac.NodeSession(keys)
    refusal = None
    try:
        assert node.open_request(envelope).body == REPLY_BODY
    except ac.AuthenticationError as error:
        refusal = error
    if refusal is not None:
        assert str(refusal) == WRONG
        assert refusal.__cause__ is refusal.__context__ is None
        return False
    assert client.open_response(node.seal_response(b"{}")) == b"{}"
    return True


def watched(keys: ac.NodeKeyring) -> Any:
    """The native memory of the current key, which then outlives the key, so that one may look at it."""
    key = keys._rings[0].held[0].key
    memory = key._native
    key._native = ffi.gc(memory, lib.ac_secret_key_wipe)
    return memory


def wiped(memory: Any) -> bool:
    return not any(bytes(ffi.buffer(memory)))


# ---- by the clock ---------------------------------------------------------------------------------------------------


def test_a_key_rotates_lives_through_its_grace_and_is_wiped() -> None:
    clock = Clock()
    with ac.NodeKeyring(clock=clock) as keys:
        first, memory = keys.public_key, watched(keys)
        secret = bytes(ffi.buffer(memory.secret))
        assert any(secret)
        clock.now += HOUR - 1
        assert keys.public_key == first
        assert keys.offers()[0] == ac.KeyOffer("v1", first, 1.0)
        clock.now += 1
        second = keys.public_key
        assert second != first
        assert keys.offers()[0] == ac.KeyOffer("v1", second, HOUR)
        clock.now += GRACE - 1
        assert opens(keys, first)
        assert opens(keys, second)
        assert bytes(ffi.buffer(memory.secret)) == secret
        clock.now += 1
        assert not opens(keys, first)
        assert wiped(memory)
        assert opens(keys, second)


def test_a_rotation_is_noticed_by_whatever_is_asked() -> None:
    asks: list[Callable[[ac.NodeKeyring], object]] = [
        lambda keys: keys.public_key,
        lambda keys: keys.offers(),
        lambda keys: opens(keys, ac.SecretKey.generate().public_key),
    ]
    for ask in asks:
        clock = Clock()
        keys = ac.NodeKeyring(rotate_after=10, grace=5, clock=clock)
        first, memory = keys.public_key, watched(keys)
        clock.now += 10
        ask(keys)
        assert keys._rings[0].held[0].public_key != first
        clock.now += 5
        ask(keys)
        assert wiped(memory)
        assert len(keys._rings[0].held) == 1


def test_a_stream_that_was_opened_before_goes_on_when_its_key_is_wiped() -> None:
    clock = Clock()
    keys = ac.NodeKeyring(rotate_after=10, grace=0, clock=clock)
    client = ac.ClientSession(keys.public_key, model="m", stack_small_id=1, protocol="v1")
    node = ac.NodeSession(keys)
    node.open_request(client.seal_request(STREAM_BODY, stream=True))
    memory = watched(keys)
    client.receive_data(node.seal_chunk(b"before"))
    clock.now += 10
    assert keys.public_key != keys.rotate()
    assert wiped(memory)
    client.receive_data(node.seal_chunk(b"after"))
    keys.close()
    client.receive_data(node.seal_chunk(b"at last"))
    assert [client.next_event()[0] for _ in range(3)] == [b"before", b"after", b"at last"]  # type: ignore[index] # chunks


def test_a_foreign_client_in_flight_across_a_rotation() -> None:
    keys = ac.NodeKeyring()
    client = OracleClient(bytes(keys.public_key))
    envelope = client.seal_request(REPLY_BODY)
    keys.rotate()
    node = ac.NodeSession(keys)
    assert node.open_request(envelope).body == REPLY_BODY
    keys.rotate()
    assert client.open_reply(node.seal_response(b"{}")).plaintext == b"{}"


def test_keys_rotated_by_hand_each_get_their_grace() -> None:
    clock = Clock()
    keys = ac.NodeKeyring(clock=clock)
    made = [keys.public_key]
    for _ in range(20):
        made.append(keys.rotate())
        clock.now += 1
        assert keys.public_key == made[-1]
    assert len(set(made)) == 21
    assert all(opens(keys, key) for key in made)
    clock.now += GRACE - 20
    assert [opens(keys, key) for key in made] == [False] + [True] * 20
    clock.now += 10
    assert [opens(keys, key) for key in made] == [False] * 11 + [True] * 10


@pytest.mark.parametrize("jump", [-1e9, -HOUR, -1.0, float("-inf"), float("nan"), float("inf")])
def test_a_clock_that_is_set_back_or_breaks_loses_no_key_and_brings_none_back(jump: float) -> None:
    clock = Clock()
    keys = ac.NodeKeyring(clock=clock)
    gone = keys.public_key
    keys.rotate()
    clock.now += GRACE
    before, now = keys.public_key, keys.rotate()
    clock.now += 100
    assert [opens(keys, key) for key in (gone, before, now)] == [False, True, True]
    right, clock.now = clock.now, clock.now + jump
    assert [opens(keys, key) for key in (gone, before, now)] == [False, True, True]
    if clock.now - clock.now != 0:  # it told no number, and does again
        clock.now = right
    clock.now += GRACE - 101
    assert [opens(keys, key) for key in (gone, before, now)] == [False, True, True]
    clock.now += 1
    assert [opens(keys, key) for key in (gone, before, now)] == [False, False, True]
    clock.now += HOUR - GRACE - 1
    assert keys.public_key == now
    clock.now += 1
    assert keys.public_key != now
    assert opens(keys, now)


def test_a_clock_far_ahead_rotates_once_and_the_key_that_was_offered_last_gets_its_grace() -> None:
    clock = Clock()
    keys = ac.NodeKeyring(clock=clock)
    first = keys.public_key
    second = keys.rotate()
    clock.now += 1e12
    assert opens(keys, second)
    assert not opens(keys, first)
    assert len(keys._rings[0].held) == 2
    clock.now += GRACE
    assert not opens(keys, second)


# ---- static keys, arguments, ends -----------------------------------------------------------------------------------


def test_a_keyring_of_a_given_key_keeps_it() -> None:
    clock = Clock()
    key = ac.SecretKey.generate()
    keys = ac.NodeKeyring.from_key(key, clock=clock)
    clock.now += 1e12
    assert keys.offers()[0] == ac.KeyOffer("v1", key.public_key, float("inf"))
    assert opens(keys, key.public_key)
    first = key.public_key
    assert keys.rotate() != first
    clock.now += GRACE - 1
    assert opens(keys, first)
    clock.now += 1
    assert not opens(keys, first)
    assert repr(key) == "<SecretKey closed>"


def test_a_given_key_can_be_the_first_of_a_schedule() -> None:
    clock = Clock()
    key = ac.SecretKey.generate()
    keys = ac.NodeKeyring.from_key(key, rotate_after=7, grace=0, clock=clock)
    assert keys.public_key == key.public_key
    clock.now += 7
    assert keys.public_key != keys.rotate()
    with pytest.raises(ac.SessionClosedError):
        key.public_key  # noqa: B018 - that is what is tested


def test_arguments() -> None:
    wrong: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"rotate_after": 0}, ValueError, "rotate_after must be more than 0 seconds, or None"),
        ({"rotate_after": -1.5}, ValueError, "rotate_after must be more"),
        ({"rotate_after": float("nan")}, ValueError, "rotate_after must be more"),
        ({"rotate_after": float("inf")}, ValueError, "rotate_after must be more"),
        ({"rotate_after": "1"}, TypeError, "rotate_after must be a number of seconds, not str"),
        ({"rotate_after": True}, TypeError, "rotate_after must be a number of seconds, not bool"),
        ({"grace": -1}, ValueError, "grace must be 0 seconds or more"),
        ({"grace": float("nan")}, ValueError, "grace must be 0"),
        ({"grace": float("inf")}, ValueError, "grace must be 0"),
        ({"grace": None}, TypeError, "grace must be a number of seconds, not NoneType"),
        ({"clock": 5}, TypeError, "^clock must be a function"),
        ({"wall_clock": 5}, TypeError, "wall_clock must be a function"),
        ({"suites": "X25519"}, TypeError, "suites must be a tuple"),
        ({"suites": 5}, TypeError, "suites must be a tuple"),
        ({"suites": ("v1",)}, ValueError, "suites must be of X25519, X-Wing, each once"),
        ({"suites": ("X-Wing", "X-Wing")}, ValueError, "suites must be of X25519, X-Wing, each once"),
    ]
    for change, error, text in wrong:
        with pytest.raises(error, match=text):
            ac.NodeKeyring(**change)
    with pytest.raises(TypeError, match="key must be SecretKey, not bytes"):
        ac.NodeKeyring.from_key(bytes(32))  # type: ignore[arg-type] # that is what is tested


def test_v1_takes_no_key_of_another_suite() -> None:
    with pytest.raises(ValueError, match="v1 takes a key of suite X25519, not X-Wing"):
        ac.NodeKeyring.from_key(ac.SecretKey.generate("X-Wing"))


def test_closing_wipes_all_keys() -> None:
    keys = ac.NodeKeyring()
    memories = [watched(keys)]
    for _ in range(3):
        keys.rotate()
        memories.append(watched(keys))
    session = ac.NodeSession(keys)
    envelope = sealed(keys.public_key)[1]
    assert not any(map(wiped, memories))
    keys.close()
    keys.close()
    assert all(map(wiped, memories))
    uses: list[Callable[[], object]] = [
        lambda: keys.public_key,
        keys.offers,
        keys.rotate,
        lambda: session.open_request(envelope),
    ]
    for use in uses:
        with pytest.raises(ac.SessionClosedError, match="this keyring is closed"):
            use()


def test_nothing_of_a_key_is_shown_or_copied() -> None:
    raw = bytes(range(100, 132))
    keys = ac.NodeKeyring.from_key(ac.SecretKey.from_bytes(raw))
    assert repr(keys) == str(keys) == "<NodeKeyring>"
    for value in (keys._rings[0].held, keys.offers()):
        assert raw.hex() not in repr(value)
        assert repr(raw)[2:-1] not in repr(value)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError):
            pickle.dumps(keys, protocol)
    for make in (copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="not to be pickled or copied"):
            make(keys)
    with keys:
        pass
    assert repr(keys) == "<NodeKeyring closed>"


def test_a_malformed_request_to_an_unknown_key_is_what_it_is_without_a_keyring() -> None:
    other = ac.SecretKey.generate()
    envelope = sealed(other.public_key)[1].replace(b'"salt":"', b'"salt":"A')
    for key in (ac.SecretKey.generate(), ac.NodeKeyring()):
        with pytest.raises(ac.EnvelopeError, match="base64"):
            ac.NodeSession(key).open_request(envelope)
