"""The tree of errors, and the one table that makes HTTP of them."""

from __future__ import annotations

import copy
import inspect
import json
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor

import pytest

import atoma_crypto as ac
from atoma_crypto import _errors
from atoma_crypto._errors import http_error
from helpers import SessionPair, new_node, node_key

TREE = {
    ac.AtomaCryptoError: Exception,
    ac.LocalProtocolError: ac.AtomaCryptoError,
    ac.SessionClosedError: ac.LocalProtocolError,
    ac.ConcurrentUseError: ac.LocalProtocolError,
    ac.RemoteProtocolError: ac.AtomaCryptoError,
    ac.EnvelopeError: ac.RemoteProtocolError,
    ac.FramingError: ac.RemoteProtocolError,
    ac.MessageTooLargeError: ac.RemoteProtocolError,
    ac.AuthenticationError: ac.RemoteProtocolError,
    ac.TruncatedStreamError: ac.RemoteProtocolError,
    ac.NonceReuseError: ac.RemoteProtocolError,
    ac.RemoteAbortError: ac.RemoteProtocolError,
    ac.UnknownKeyError: ac.RemoteProtocolError,
    ac.ClockSkewError: ac.RemoteProtocolError,
    ac.ReplayedError: ac.RemoteProtocolError,
    ac.AttestationError: ac.RemoteProtocolError,
    ac.ReplayStoreError: ac.AtomaCryptoError,
    ac.InvalidKeyError: ac.AtomaCryptoError,
    ac.LimitExceededError: ac.AtomaCryptoError,
    ac.NativeError: ac.AtomaCryptoError,
    ac.NonceReuseWarning: UserWarning,
}


def test_the_tree() -> None:
    for cls, parent in TREE.items():
        assert cls.__bases__[0] is parent
        assert cls.__doc__
    assert issubclass(ac.InvalidKeyError, ValueError)
    defined = {cls for _, cls in inspect.getmembers(_errors, inspect.isclass) if cls.__module__ == _errors.__name__}
    assert defined == set(TREE)
    assert {cls.__name__ for cls in TREE} <= set(ac.__all__)


def test_all_that_is_public_is_there() -> None:
    assert sorted(ac.__all__, key=str.casefold) == sorted(set(ac.__all__), key=str.casefold)
    for name in ac.__all__:
        assert getattr(ac, name) is not None


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (ac.MessageTooLargeError("too long"), 413, "TOO_LARGE"),
        (ac.EnvelopeError("bad"), 400, "INVALID_BODY"),
        (ac.FramingError("bad"), 400, "INVALID_BODY"),
        (ac.TruncatedStreamError("cut"), 400, "INVALID_BODY"),
        (ac.RemoteProtocolError("bad"), 400, "INVALID_BODY"),
        (ac.AuthenticationError(), 400, "DECRYPTION_FAILED"),
        (ac.NonceReuseError("twice"), 400, "DECRYPTION_FAILED"),
    ],
)
def test_what_the_peer_did_is_said(error: ac.AtomaCryptoError, status: int, code: str) -> None:
    assert http_error(error) == (status, code, str(error))


@pytest.mark.parametrize(
    "error",
    [
        ac.LocalProtocolError("secret"),
        ac.SessionClosedError("secret"),
        ac.ConcurrentUseError("secret"),
        ac.InvalidKeyError("secret"),
        ac.LimitExceededError("secret"),
        ac.NativeError("secret"),
        ac.AtomaCryptoError("secret"),
        ValueError("secret"),
        RuntimeError("secret"),
        KeyboardInterrupt("secret"),
    ],
)
def test_what_is_our_own_fault_is_not_said(error: BaseException) -> None:
    assert http_error(error) == (500, "INTERNAL_ERROR", "Internal server error occurred")


def test_cryptographic_failures_cannot_be_told_apart() -> None:
    """A wrong tag, a wrong hash, another node's key and a key of small order: one class, one message, no cause."""
    members = json.loads(SessionPair(stream=False).envelope)
    other = ac.SecretKey.generate()
    zero = "A" * 43 + "="
    spoiled = [
        members | {"plaintext_body_hash": zero},
        members | {"node_dh_public_key": other.public_key.to_base64()},
        members | {"client_dh_public_key": zero},
        members | {"client_dh_public_key": node_key().public_key.to_base64()},
        members | {"salt": "A" * 22 + "=="},
        members | {"nonce": "A" * 16},
        members | {"ciphertext": "A" * 24},
    ]
    texts = set()
    for case in spoiled:
        with pytest.raises(ac.AuthenticationError) as caught:
            new_node().open_request(json.dumps(case).encode())
        error = caught.value
        assert error.__cause__ is None
        assert error.__context__ is None
        texts.add((str(error), repr(error), error.args, http_error(error)))
    assert len(texts) == 1
    assert texts.pop()[0] == "the message could not be authenticated"


def made(cls: type[Exception]) -> Exception:
    if cls is ac.RemoteAbortError:
        return ac.RemoteAbortError("BAD_GATEWAY", "a message", 502)
    return cls() if cls is ac.AuthenticationError else cls("a message")


def same(again: BaseException, cls: type[Exception]) -> bool:
    error = made(cls)
    return (type(again), str(again), again.args) == (cls, str(error), error.args)


@pytest.mark.parametrize("cls", TREE)
def test_errors_can_be_copied_and_pickled(cls: type[Exception]) -> None:
    error = made(cls)
    for again in (copy.copy(error), copy.deepcopy(error)):
        assert same(again, cls)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert same(pickle.loads(pickle.dumps(error, protocol)), cls)  # noqa: S301 - our own


def fail_as(cls: type[Exception]) -> None:
    raise made(cls)


def test_errors_come_back_from_another_process() -> None:
    """An error that cannot be unpickled would break the pool, and all that it still had to do."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        for cls in TREE:
            error = pool.submit(fail_as, cls).exception()
            assert error is not None
            assert same(error, cls)
