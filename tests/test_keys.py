"""Keys: what they take, what they give, and how they end."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

import atoma_crypto as ac
from helpers import REPLY_BODY, new_client

RAW: Final = bytes(range(32))
KINDS: Final = (bytes, bytearray, memoryview)
WRONG_SIZES: Final = (0, 1, 31, 33, 64)


def test_a_public_key() -> None:
    for kind in KINDS:
        key = ac.PublicKey.from_bytes(kind(RAW))
        assert bytes(key) == RAW
        assert key.to_base64() == base64.b64encode(RAW).decode()
        assert key.suite == "X25519"
        assert key == ac.PublicKey.from_base64(key.to_base64(), suite="X25519")
        assert hash(key) == hash(ac.PublicKey.from_bytes(RAW))
        assert repr(key) == f"<PublicKey X25519 {key.to_base64()}>"
    assert key != ac.PublicKey.from_bytes(bytes(32))
    assert key != RAW
    assert (key == RAW) is False


def test_a_public_key_does_not_follow_the_buffer_it_came_from() -> None:
    raw = bytearray(RAW)
    key = ac.PublicKey.from_bytes(raw)
    raw[0] ^= 1
    assert bytes(key) == RAW


def test_the_fingerprint() -> None:
    key = ac.PublicKey.from_bytes(RAW)
    assert key.fingerprint() == hashlib.sha256(b"\x01" + RAW).hexdigest()


@pytest.mark.parametrize("size", WRONG_SIZES)
def test_keys_of_other_sizes(size: int) -> None:
    for make in (ac.PublicKey.from_bytes, ac.SecretKey.from_bytes, ac.SigningKey.from_bytes):
        with pytest.raises(ac.InvalidKeyError, match=f"must be 32 bytes, not {size}"):
            make(bytes(size))
    with pytest.raises(ac.InvalidKeyError, match="must be 32 bytes"):
        ac.PublicKey.from_base64(base64.b64encode(bytes(size)).decode())


@pytest.mark.parametrize("wrong", [None, 5, "A" * 32, [0] * 32])
def test_keys_of_other_types(wrong: Any) -> None:
    for make in (ac.PublicKey.from_bytes, ac.SecretKey.from_bytes, ac.SigningKey.from_bytes):
        with pytest.raises(TypeError, match="must be bytes, bytearray or memoryview"):
            make(wrong)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "A",
        "A" * 43,
        "A" * 42 + "B=",  # spare bits
        "A" * 43 + "=\n",
        " " + "A" * 43 + "=",
        "A" * 43 + "==",
        "-" * 43 + "=",
        "\u00e9" * 44,
        "\ud800",
        "A" * 44,
    ],
)
def test_base64_is_strict(text: str) -> None:
    with pytest.raises(ac.InvalidKeyError) as caught:
        ac.PublicKey.from_base64(text)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_base64_is_text() -> None:
    with pytest.raises(TypeError, match="text must be str, not bytes"):
        ac.PublicKey.from_base64(b"A" * 44)  # type: ignore[arg-type] # that is what is tested


@pytest.mark.parametrize("suite", ["X-wing", "x25519", "", 1, []])
def test_suites_that_are_not_known(suite: Any) -> None:
    with pytest.raises(ValueError, match="unknown suite"):
        ac.SecretKey.generate(suite)
    for make in (ac.SecretKey.from_bytes, ac.PublicKey.from_bytes):
        with pytest.raises(ValueError, match="unknown suite"):
            make(RAW, suite=suite)


def test_a_secret_key_has_the_public_key_of_the_rfc() -> None:
    for kind in KINDS:
        raw = kind(RAW)
        with ac.SecretKey.from_bytes(raw) as key:
            want = X25519PrivateKey.from_private_bytes(RAW).public_key().public_bytes_raw()
            assert bytes(key.public_key) == want
            assert bytes(raw) == RAW
        with ac.SigningKey.from_bytes(raw) as signing:
            assert signing.public_key == Ed25519PrivateKey.from_private_bytes(RAW).public_key().public_bytes_raw()


def test_new_keys_differ() -> None:
    assert len({ac.SecretKey.generate().public_key for _ in range(20)}) == 20
    assert len({ac.SigningKey.generate().public_key for _ in range(20)}) == 20


@pytest.mark.parametrize("make", [ac.SecretKey.generate, ac.SigningKey.generate])
def test_a_closed_key(make: Any) -> None:
    with make() as key:
        assert repr(key) == f"<{type(key).__name__}>"
    assert repr(key) == f"<{type(key).__name__} closed>"
    key.close()
    uses: list[Callable[[], object]] = [lambda: key.public_key, lambda: key.native]
    for use in uses:
        with pytest.raises(ac.SessionClosedError, match="this key is closed"):
            use()


def test_keys_are_made_by_name() -> None:
    with pytest.raises(TypeError, match=r"PublicKey\.from_bytes\(\)"):
        ac.PublicKey()
    with pytest.raises(TypeError, match=r"SecretKey\.generate\(\)"):
        ac.SecretKey()
    with pytest.raises(TypeError, match=r"SigningKey\.from_bytes\(\)"):
        ac.SigningKey()


def test_a_session_whose_keys_were_closed_can_be_told_from_a_bad_request() -> None:
    for which in ("key", "signing"):
        key, signing = ac.SecretKey.generate(), ac.SigningKey.generate()
        client = ac.ClientSession(key.public_key, model="m", stack_small_id=1, protocol="v1")
        envelope = client.seal_request(REPLY_BODY, stream=False)
        node = ac.NodeSession(key, signing_key=signing)
        (key if which == "key" else signing).close()
        with pytest.raises(ac.SessionClosedError, match="this key is closed"):
            node.open_request(envelope)


def test_a_session_outlives_its_keys_once_the_request_is_open() -> None:
    key, signing = ac.SecretKey.generate(), ac.SigningKey.generate()
    public = signing.public_key
    client = ac.ClientSession(key.public_key, model="m", stack_small_id=1, protocol="v1")
    node = ac.NodeSession(key, signing_key=signing)
    node.open_request(client.seal_request(REPLY_BODY, stream=False))
    key.close()
    signing.close()
    raw = node.seal_response(b"x")
    assert public in base64.b64decode(raw.split(b'"signature":"')[1].split(b'"')[0])
    assert client.open_response(raw) == b"x"


LOW_ORDER: Final = [
    bytes(32),
    b"\x01" + bytes(31),
    bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
]


@pytest.mark.parametrize("point", LOW_ORDER)
def test_a_node_key_of_small_order_is_the_callers_fault(point: bytes) -> None:
    client = ac.ClientSession(ac.PublicKey.from_bytes(point), model="m", stack_small_id=1, protocol="v1")
    for _ in range(2):  # after an error the session is as it was
        with pytest.raises(ac.InvalidKeyError, match="all-zero shared secret"):
            client.seal_request(REPLY_BODY, stream=False)
    assert new_client().seal_request(REPLY_BODY, stream=False)
