"""The vectors of protocol v1, byte for byte, in every direction that Python reaches.

No session takes a nonce. So what a session seals is held to the vector's text with its own random members put
in, and the vector's nonces are sealed under through `hazmat`. The C harness fixes the randomness.
"""

from __future__ import annotations

import base64
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

import atoma_crypto as ac
from atoma_crypto import _core, hazmat
from atoma_crypto._typing import NonceReuse
from oracle import NodeSide, OracleClient, b64, body_hash, compact, derive_key, unb64, verify_sui_signature

VECTORS: Final[dict[str, Any]] = json.loads(
    (Path(__file__).parent / "vectors" / "atoma_v1.json").read_text(encoding="utf-8")
)
REQUEST: Final = VECTORS["request"]
RESPONSE: Final = VECTORS["response"]
STREAM: Final = VECTORS["stream"]
MEMBERS: Final[dict[str, Any]] = json.loads(REQUEST["envelope"])
BODY: Final = REQUEST["plaintext"].encode()


def raw(name: str) -> bytes:
    return bytes.fromhex(VECTORS[name])


CLIENT_SECRET: Final = raw("client_private_hex")
NODE_SECRET: Final = raw("node_private_hex")
SEED: Final = raw("ed25519_seed_hex")

# Plaintext, nonce, ciphertext and tag, hash: of the request, the reply and each event.
SEALED: Final = [
    (
        BODY,
        bytes.fromhex(REQUEST["nonce_hex"]),
        bytes.fromhex(REQUEST["ciphertext_and_tag_hex"]),
        bytes.fromhex(REQUEST["plaintext_body_hash_hex"]),
    ),
    (
        RESPONSE["plaintext"].encode(),
        bytes.fromhex(RESPONSE["nonce_hex"]),
        bytes.fromhex(RESPONSE["ciphertext_and_tag_hex"]),
        bytes.fromhex(RESPONSE["response_hash_hex"]),
    ),
    *(
        (
            chunk["plaintext"].encode(),
            bytes.fromhex(STREAM["nonce_hex"]),
            bytes.fromhex(chunk["ciphertext_hex"]),
            bytes.fromhex(chunk["response_hash_hex"]),
        )
        for chunk in STREAM["chunks"]
    ),
]


def open_node() -> ac.NodeSession:
    return ac.NodeSession(ac.SecretKey.from_bytes(NODE_SECRET), signing_key=ac.SigningKey.from_bytes(SEED))


# --- the schedule -------------------------------------------------------------------------------------------


def test_public_keys() -> None:
    assert hazmat.x25519_public_key(CLIENT_SECRET) == raw("client_public_hex")
    assert hazmat.x25519_public_key(NODE_SECRET) == raw("node_public_hex")
    assert bytes(ac.SecretKey.from_bytes(NODE_SECRET).public_key) == raw("node_public_hex")
    assert bytes(ac.SigningKey.from_bytes(SEED).public_key) == raw("ed25519_public_hex")


def test_shared_secret_from_both_ends() -> None:
    assert hazmat.x25519(CLIENT_SECRET, raw("node_public_hex")) == raw("shared_secret_hex")
    assert hazmat.x25519(NODE_SECRET, raw("client_public_hex")) == raw("shared_secret_hex")


def test_key() -> None:
    salt = raw("salt_hex")
    key = hazmat.hkdf_sha256(raw("shared_secret_hex"), salt=salt, info=b"", length=32)
    assert key == raw("aes_key_hex")
    zero = hazmat.hkdf_sha256(bytes(32), salt=salt, info=b"", length=32)
    assert zero == raw("zero_shared_secret_key_hex") == derive_key(bytes(32), salt)


def test_hashes() -> None:
    assert hazmat.blake2b256(b"") == raw("blake2b256_empty_hex")
    for plaintext, _, _, digest in SEALED:
        assert hazmat.blake2b256(plaintext) == digest


@pytest.mark.parametrize("backend", hazmat.aes_backends())
def test_ciphertexts(backend: str) -> None:
    aes = _core.Aes256Gcm(raw("aes_key_hex"), backend=backend)
    for plaintext, nonce, sealed, _ in SEALED:
        assert aes.seal(nonce, plaintext) == sealed
        assert aes.open(nonce, sealed) == plaintext


# --- the node -----------------------------------------------------------------------------------------------


def test_node_opens_the_request() -> None:
    with open_node() as node:
        request = node.open_request(REQUEST["envelope"].encode())
    assert request.body == BODY
    assert (request.model, request.stack_small_id, request.num_compute_units) == ("m", 42, None)
    assert (request.stream, request.endpoint, request.protocol) == (False, None, "v1")


def with_own_randomness(expected: str, sealed: str, names: tuple[str, ...]) -> str:
    """The vector's text, with the members that are random taken from what was sealed."""
    wanted, got = json.loads(expected), json.loads(sealed)
    for name in names:
        assert len(got[name]) == len(wanted[name])
        expected = expected.replace(wanted[name], got[name])
    return expected


def test_node_seals_the_reply() -> None:
    with open_node() as node:
        node.open_request(REQUEST["envelope"].encode())
        plaintext = RESPONSE["plaintext"].encode()
        reply = node.seal_response(plaintext, usage=json.loads(plaintext)["usage"]).decode()
    assert reply == with_own_randomness(RESPONSE["envelope"], reply, ("nonce", "ciphertext"))
    members = json.loads(reply)
    aes = hazmat.AES256GCM(raw("aes_key_hex"))
    assert aes.open(unb64(members["nonce"]), unb64(members["ciphertext"])) == plaintext


@pytest.mark.parametrize("batch", [False, True])
def test_node_seals_the_events(batch: bool) -> None:
    """The vector's request is no stream, so the oracle asks for one under the same keys."""
    client = OracleClient(raw("node_public_hex"), private=CLIENT_SECRET, salt=raw("salt_hex"))
    plaintexts = [chunk["plaintext"].encode() for chunk in STREAM["chunks"]]
    usages = [json.loads(plaintext)["usage"] for plaintext in plaintexts]
    with open_node() as node:
        node.open_request(client.seal_request(b'{"model":"m","stream":true}', stream=True))
        if batch:
            sent = node.seal_chunks(plaintexts[:2]) + node.seal_chunks(plaintexts[2:], usage=usages[2])
        else:
            sent = b"".join(map(node.seal_chunk, plaintexts, usages))
        sent += node.finish()
    events = sent.decode().split("\n\n")
    assert events.pop() == ""
    for chunk, event in zip(STREAM["chunks"], events, strict=True):
        expected, text = (line.strip().removeprefix("data: ") for line in (chunk["sse"], event))
        assert event == "data: " + text
        assert text == with_own_randomness(expected, text, ("nonce", "ciphertext"))
    assert [opened.plaintext for opened in client.open_events(sent)] == plaintexts


TAMPERED: Final = (
    "ciphertext",
    "client_dh_public_key",
    "node_dh_public_key",
    "nonce",
    "plaintext_body_hash",
    "salt",
)


@pytest.mark.parametrize("name", TAMPERED)
def test_node_refuses_every_tampered_field(name: str) -> None:
    value = unb64(MEMBERS[name])
    key = ac.SecretKey.from_bytes(NODE_SECRET)
    for bit in range(8 * len(value)):
        if (name, bit) == ("client_dh_public_key", 255):
            continue  # RFC 7748: the top bit is not part of the key, and v1 does not hash the keys
        changed = bytearray(value)
        changed[bit // 8] ^= 1 << bit % 8
        with ac.NodeSession(key) as node, pytest.raises(ac.AuthenticationError):
            node.open_request(compact(MEMBERS | {name: b64(bytes(changed))}).encode())


@pytest.mark.parametrize("name", TAMPERED)
@pytest.mark.parametrize("shift", [-1, 1])
def test_node_refuses_every_field_of_another_length(name: str, shift: int) -> None:
    expected = ac.AuthenticationError if name == "ciphertext" else ac.EnvelopeError
    changed = (unb64(MEMBERS[name]) + b"\0")[: len(unb64(MEMBERS[name])) + shift]
    with open_node() as node, pytest.raises(expected):
        node.open_request(compact(MEMBERS | {name: b64(changed)}).encode())


@pytest.mark.parametrize("name", TAMPERED)
def test_node_refuses_every_empty_field(name: str) -> None:
    with open_node() as node, pytest.raises(ac.EnvelopeError):
        node.open_request(compact(MEMBERS | {name: ""}).encode())


# --- the client ---------------------------------------------------------------------------------------------


def test_client_seals_the_request() -> None:
    with ac.ClientSession(
        ac.PublicKey.from_bytes(raw("node_public_hex")), model="m", stack_small_id=42, protocol="v1"
    ) as client:
        sealed = client.seal_request(BODY, stream=False).decode()
    random = ("ciphertext", "client_dh_public_key", "nonce", "salt")
    assert sealed == with_own_randomness(REQUEST["envelope"], sealed, random)
    assert NodeSide.open_request(NODE_SECRET, sealed.encode()).body == BODY


@contextmanager
def client_of_the_vectors(*, stream: bool, nonce_reuse: NonceReuse = "warn") -> Iterator[ac.ClientSession]:
    """A client that has sent the vector's request.

    A session draws its own key and nonce and takes none, so the vector's are written into the opener's memory: the
    tests' own way in, which nothing in the library offers.
    """
    client = ac.ClientSession(
        ac.PublicKey.from_bytes(raw("node_public_hex")),
        model="m",
        stack_small_id=42,
        protocol="v1",
        nonce_reuse=nonce_reuse,
    )
    with client:
        client.seal_request(b'{"stream":true}' if stream else b"{}", stream=stream)
        opener = client._opener._native
        aes = _core.ffi.addressof(opener, "aes")
        backend = opener.aes.backend - 1
        assert _core.lib.ac_aes256gcm_init(aes, raw("aes_key_hex"), backend) == _core.lib.AC_OK
        _core.ffi.memmove(opener.request_nonce, bytes.fromhex(REQUEST["nonce_hex"]), 12)
        yield client


EVENTS: Final = [chunk["sse"].encode() for chunk in STREAM["chunks"]]
PLAINTEXTS: Final = [chunk["plaintext"].encode() for chunk in STREAM["chunks"]]


def test_client_opens_the_reply() -> None:
    with client_of_the_vectors(stream=False) as client:
        assert client.open_response(RESPONSE["envelope"].encode()) == RESPONSE["plaintext"].encode()


@pytest.mark.parametrize("size", [1, 7, 300, 100_000])
def test_client_opens_the_events(size: int) -> None:
    """They repeat their nonce, as the deployed node's do."""
    sent = b"".join(EVENTS)
    found: list[ac.Chunk | ac.EndOfStream] = []
    with client_of_the_vectors(stream=True) as client, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for begin in range(0, len(sent), size):
            client.receive_data(sent[begin : begin + size])
            found.extend(client.events())
        client.receive_eof()
        found.extend(client.events())
    usage = json.loads(PLAINTEXTS[2])["usage"]
    assert found == [
        *(ac.Chunk(text, i, usage if i == 2 else None) for i, text in enumerate(PLAINTEXTS)),
        ac.EndOfStream(3, usage),
    ]
    assert [warning.category for warning in caught] == [ac.NonceReuseWarning]


def test_client_refuses_the_events_when_asked_to() -> None:
    with client_of_the_vectors(stream=True, nonce_reuse="error") as client:
        client.receive_data(b"".join(EVENTS))
        assert client.next_event() == ac.Chunk(PLAINTEXTS[0], 0, None)
        with pytest.raises(ac.NonceReuseError):
            client.next_event()


def test_client_refuses_its_own_request_as_the_reply() -> None:
    reflected = {name: MEMBERS[name] for name in ("ciphertext", "nonce")}
    reflected["response_hash"] = MEMBERS["plaintext_body_hash"]
    with client_of_the_vectors(stream=False) as client, pytest.raises(ac.NonceReuseError):
        client.open_response(compact(reflected).encode())
    with client_of_the_vectors(stream=True) as client:
        client.receive_data(f"data: {compact(reflected)}\n\n".encode())
        with pytest.raises(ac.NonceReuseError):
            client.next_event()


@pytest.mark.parametrize("name", ["ciphertext", "nonce", "response_hash"])
def test_client_refuses_every_tampered_field(name: str) -> None:
    members = json.loads(RESPONSE["envelope"])
    value = unb64(members[name])
    for bit in range(8 * len(value)):
        changed = bytearray(value)
        changed[bit // 8] ^= 1 << bit % 8
        spoiled = compact(members | {name: b64(bytes(changed))})
        with client_of_the_vectors(stream=False) as client, pytest.raises(ac.AuthenticationError):
            client.open_response(spoiled.encode())


# --- an all-zero shared secret ------------------------------------------------------------------------------

P: Final = 2**255 - 19
ORDER_8: Final = (
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
)
LOW_ORDER: Final = [
    *(u.to_bytes(32, "little") for u in (0, 1, P - 1, P, P + 1)),
    *(bytes.fromhex(u) for u in ORDER_8),
]
LOW_ORDER_TOP_BIT: Final = [u[:31] + bytes([u[31] | 0x80]) for u in LOW_ORDER]


@pytest.mark.parametrize("point", LOW_ORDER + LOW_ORDER_TOP_BIT, ids=bytes.hex)
def test_low_order_points_are_refused(point: bytes) -> None:
    with pytest.raises(ac.InvalidKeyError):
        hazmat.x25519(CLIENT_SECRET, point)

    client = OracleClient(raw("node_public_hex"), salt=raw("salt_hex"))
    client.public = point
    sealed = client.envelope(BODY, key=raw("zero_shared_secret_key_hex"))  # right, but for the secret
    with open_node() as node, pytest.raises(ac.AuthenticationError):
        node.open_request(compact(sealed).encode())

    with pytest.raises(ac.InvalidKeyError):
        ac.ClientSession(ac.PublicKey.from_bytes(point), model="m", stack_small_id=42, protocol="v1").seal_request(
            BODY, stream=False
        )


# --- the oracle, which must earn its place ------------------------------------------------------------------


def oracle_client() -> OracleClient:
    nonce = bytes.fromhex(REQUEST["nonce_hex"])
    return OracleClient(raw("node_public_hex"), private=CLIENT_SECRET, salt=raw("salt_hex"), nonce=nonce)


def oracle_node(nonce: str) -> NodeSide:
    side = NodeSide.open_request(NODE_SECRET, REQUEST["envelope"].encode(), seed=SEED)
    side.nonce = bytes.fromhex(nonce)
    return side


def test_the_oracle_makes_the_vectors() -> None:
    assert oracle_client().seal_request(BODY, stream=False).decode() == REQUEST["envelope"]
    assert oracle_node(RESPONSE["nonce_hex"]).reply(RESPONSE["plaintext"].encode()).decode() == RESPONSE["envelope"]
    node = oracle_node(STREAM["nonce_hex"])
    assert node.body == BODY
    assert node.key == raw("aes_key_hex")
    for chunk in STREAM["chunks"]:
        assert node.event(chunk["plaintext"].encode()).decode() == chunk["sse"]


def test_the_oracle_opens_the_vectors() -> None:
    client = oracle_client()
    assert client.open_reply(RESPONSE["envelope"].encode()).plaintext.decode() == RESPONSE["plaintext"]
    events = client.open_events("".join(chunk["sse"] for chunk in STREAM["chunks"]).encode())
    assert [event.plaintext.decode() for event in events] == [chunk["plaintext"] for chunk in STREAM["chunks"]]
    for event in events:
        digest = body_hash(event.plaintext)
        assert verify_sui_signature(str(event.members["signature"]), digest) == raw("ed25519_public_hex")
    signature = base64.b64decode(REQUEST["x_signature_ed25519_sui_base64"])
    assert verify_sui_signature(b64(signature), body_hash(BODY)) == raw("ed25519_public_hex")
