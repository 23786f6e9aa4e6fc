"""Each class of errors is raised through the public API: a table that is held to the module."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Final

import pytest

import atoma_crypto as ac
from atoma_crypto import _core, _errors, hazmat
from atoma_crypto._core import ffi
from atoma_crypto.attestation import PinnedKeys
from atoma_crypto.keyring import KeyOffer
from helpers import SessionPair, native, new_node, node_key
from test_core import SODIUM, SODIUM_FFI, Spoiled, loaded_again
from v2_exchange import Clock, Exchange

CHUNK: Final = b'{"choices":[]}'


def closed() -> None:
    node = new_node()
    node.close()
    node.seal_chunk(CHUNK)


def concurrent() -> None:
    """The mark of a thread that is inside is set by hand: a real one would have to be caught there."""
    node = SessionPair().node
    native(node).busy = 1
    node.seal_chunk(CHUNK)


def malformed_stream() -> None:
    client = SessionPair().client
    client.receive_data(b"data: x\n\n")
    client.next_event()


def truncated() -> None:
    client = SessionPair().client
    client.receive_data(b"data: ")
    client.receive_eof()
    client.next_event()


def nonce_twice(policy: str) -> Callable[[], None]:
    def call() -> None:
        pair = SessionPair(client={"nonce_reuse": policy})
        event = pair.node.seal_chunk(CHUNK)
        pair.client.receive_data(event + event)
        list(pair.client.events())

    return call


def aborted() -> None:
    exchange = Exchange()
    exchange.client.open_response(exchange.node.abort("X", "", 500))


def unknown_key() -> None:
    exchange = Exchange(admitted=False)
    ac.NodeSession(ac.SecretKey.generate()).open_request(exchange.envelope)


def late() -> None:
    exchange = Exchange(admitted=False)
    exchange.new_node(clock=Clock(0)).open_request(exchange.envelope)


def replayed() -> None:
    exchange = Exchange()
    exchange.new_node().open_request(exchange.envelope)


def store_is_gone() -> None:
    exchange = Exchange(admitted=False)
    exchange.cache.close()
    exchange.new_node().open_request(exchange.envelope)


def spent() -> None:
    node = SessionPair().node
    native(node).chunks_left = 0
    node.seal_chunk(CHUNK)


def other_key() -> None:
    offer = KeyOffer("v1", ac.SecretKey.generate().public_key, 60.0)
    PinnedKeys(node_key().public_key).verify(None, offer, now=0)


def libsodium_fails() -> None:
    """Its BLAKE2b works while the library loads, and not after that."""
    name = _core._TABLE["blake2b"]
    kind = ffi.typeof(ffi.new("ac_sodium *").blake2b)
    good = ffi.cast(kind, int(SODIUM_FFI.cast("uintptr_t", SODIUM_FFI.addressof(SODIUM, name))))
    broken: list[bool] = []
    function = ffi.callback(kind, lambda *arguments: -1 if broken else good(*arguments))
    with loaded_again():
        _core._load(SODIUM, Spoiled(name, function), None)
        broken.append(True)
        hazmat.blake2b256(b"")


# What raises exactly that class.
RAISED: Final[dict[type[Exception], Callable[[], object]]] = {
    ac.LocalProtocolError: lambda: new_node().seal_chunk(CHUNK),
    ac.SessionClosedError: closed,
    ac.ConcurrentUseError: concurrent,
    ac.EnvelopeError: lambda: new_node().open_request(b"{}"),
    ac.FramingError: malformed_stream,
    ac.MessageTooLargeError: lambda: new_node(limits=ac.Limits(max_request_bytes=64)).open_request(bytes(65)),
    ac.AuthenticationError: lambda: hazmat.AES256GCM(bytes(32)).open(bytes(12), bytes(16)),
    ac.TruncatedStreamError: truncated,
    ac.NonceReuseError: nonce_twice("error"),
    ac.RemoteAbortError: aborted,
    ac.UnknownKeyError: unknown_key,
    ac.ClockSkewError: late,
    ac.ReplayedError: replayed,
    ac.ReplayStoreError: store_is_gone,
    ac.InvalidKeyError: lambda: ac.SecretKey.from_bytes(b""),
    ac.LimitExceededError: spent,
    ac.NativeError: libsodium_fails,
    ac.AttestationError: other_key,
}
NEVER_RAISED: Final = {ac.AtomaCryptoError, ac.RemoteProtocolError}  # they are what others have in common


def test_the_table_is_whole() -> None:
    defined = {cls for _, cls in inspect.getmembers(_errors, inspect.isclass) if cls.__module__ == _errors.__name__}
    assert defined == {*RAISED, *NEVER_RAISED, ac.NonceReuseWarning}


@pytest.mark.parametrize("cls", RAISED)
def test_each_class_is_raised(cls: type[Exception]) -> None:
    with pytest.raises(cls) as caught:
        RAISED[cls]()
    assert type(caught.value) is cls


def test_the_warning_is_given() -> None:
    with pytest.warns(ac.NonceReuseWarning):
        nonce_twice("warn")()
