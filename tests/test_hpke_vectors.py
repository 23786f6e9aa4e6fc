"""HPKE against RFC 9180's vectors, the X-Wing draft's, `cryptography`'s one-shot HPKE, and the tests' own."""

from __future__ import annotations

import json
import random
from functools import cache
from typing import Any, Final

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography_vectors import open_vector_file
from hypothesis import given, settings
from hypothesis import strategies as st

import atoma_crypto as ac
import reference_hpke as reference
from atoma_crypto import _xwing, hazmat
from atoma_crypto._core import ffi, lib
from atoma_crypto._typing import Suite
from helpers import decapsulated

SUITES: Final[tuple[Suite, ...]] = ("X25519", "X-Wing")
ROUNDS: Final = 1000  # each way, each suite


@cache
def vectors(file: str, kem: int, kdf: int, aead: int) -> list[dict[str, Any]]:
    """The vectors of base mode for these ids."""
    with open_vector_file(f"HPKE/{file}.json", "r") as lines:
        found = json.load(lines)
    wanted = (0, kem, kdf, aead)
    return [v for v in found if (v["mode"], v["kem_id"], v["kdf_id"], v["aead_id"]) == wanted]


def field(vector: dict[str, Any], name: str) -> bytes:
    return bytes.fromhex(vector[name])


# ---- RFC 9180, appendix A -----------------------------------------------------------------------------------------


def rfc_vector() -> dict[str, Any]:
    (vector,) = vectors("test-vectors", 0x20, 1, 2)
    assert len(vector["encryptions"]) == 257
    assert len(vector["exports"]) == 3
    return vector


def both_ends(vector: dict[str, Any]) -> tuple[bytes, hazmat.HPKEContext, hazmat.HPKEContext]:
    info = field(vector, "info")
    enc, sender = hazmat.hpke_setup_sender(field(vector, "pkRm"), info, field(vector, "skEm"))
    return enc, sender, hazmat.hpke_setup_recipient(field(vector, "enc"), field(vector, "skRm"), info)


def test_rfc_9180_every_message_at_its_sequence_number() -> None:
    vector = rfc_vector()
    enc, sender, recipient = both_ends(vector)
    assert enc == field(vector, "enc")
    for message in vector["encryptions"]:
        plaintext, aad, sealed = (field(message, name) for name in ("pt", "aad", "ct"))
        assert sender.seal(plaintext, aad) == sealed
        assert recipient.open(sealed, aad) == plaintext


def test_rfc_9180_every_export_at_both_ends() -> None:
    vector = rfc_vector()
    for context in both_ends(vector)[1:]:
        for export in vector["exports"]:
            assert context.export(field(export, "exporter_context"), export["L"]) == field(export, "exported_value")


def test_rfc_9180_what_stands_in_the_context() -> None:
    """The key schedule's outputs, and the nonces that are made of them."""
    vector = rfc_vector()
    for context in both_ends(vector)[1:]:
        native = context._native
        assert native is not None
        assert bytes(ffi.buffer(native.base_nonce)) == field(vector, "base_nonce")
        assert bytes(ffi.buffer(native.exporter_secret)) == field(vector, "exporter_secret")
        for i, message in enumerate(vector["encryptions"]):
            assert reference.nonce_of(field(vector, "base_nonce"), i) == field(message, "nonce")


def test_rfc_9180_a_secret_key_object_is_as_good_as_its_bytes() -> None:
    vector = rfc_vector()
    secret = ac.SecretKey.from_bytes(field(vector, "skRm"))
    assert bytes(secret.public_key) == field(vector, "pkRm")
    recipient = hazmat.hpke_setup_recipient(field(vector, "enc"), secret, field(vector, "info"))
    message = vector["encryptions"][0]
    assert recipient.open(field(message, "ct"), field(message, "aad")) == field(message, "pt")


# ---- X-Wing -------------------------------------------------------------------------------------------------------


def xwing_vector() -> dict[str, Any]:
    (vector,) = vectors("hpke-pq-test-vectors", 0x647A, 1, 3)
    return vector


def test_xwing_decapsulation() -> None:
    vector = xwing_vector()
    key = _xwing.DecapsulationKey(field(vector, "skRm"))
    assert key.public_key == field(vector, "pkRm")
    assert decapsulated(key, field(vector, "enc")) == field(vector, "shared_secret")


def test_xwing_key_schedule() -> None:
    """The vector is of ChaCha20-Poly1305: the tests' own key schedule must give it, and then ours must agree with that
    one in AES-256-GCM, whose suite_id alone is another."""
    vector = xwing_vector()
    info, shared = field(vector, "info"), field(vector, "shared_secret")
    suite = field(vector, "suite_id")
    assert suite == b"HPKE\x64\x7a\x00\x01\x00\x03"

    def schedule(suite: bytes) -> tuple[bytes, bytes, bytes]:
        context = b"\0" + reference.labeled_extract(suite, b"", b"psk_id_hash", b"")
        context += reference.labeled_extract(suite, b"", b"info_hash", info)
        secret = reference.labeled_extract(suite, shared, b"secret", b"")
        lengths = {b"key": 32, b"base_nonce": 12, b"exp": 32}
        key, nonce, exporter = (
            reference.labeled_expand(suite, secret, label, context, size) for label, size in lengths.items()
        )
        return key, nonce, exporter

    key, nonce, exporter = schedule(suite)
    assert (key, nonce, exporter) == tuple(field(vector, name) for name in ("key", "base_nonce", "exporter_secret"))
    for i, message in enumerate(vector["encryptions"]):
        sealed = ChaCha20Poly1305(key).encrypt(
            reference.nonce_of(nonce, i), field(message, "pt"), field(message, "aad")
        )
        assert sealed == field(message, "ct")

    key, nonce, exporter = schedule(suite[:-1] + b"\x02")
    recipient = hazmat.hpke_setup_recipient(field(vector, "enc"), field(vector, "skRm"), info, suite="X-Wing")
    native = recipient._native
    assert native is not None
    assert bytes(ffi.buffer(native.base_nonce)) == nonce
    assert bytes(ffi.buffer(native.exporter_secret)) == exporter
    aes = hazmat.AES256GCM(key)
    for i, message in enumerate(vector["encryptions"]):
        plaintext, aad = field(message, "pt"), field(message, "aad")
        assert recipient.open(aes.seal(reference.nonce_of(nonce, i), plaintext, aad), aad) == plaintext


@pytest.mark.parametrize("suite", [0, 3, 2**32 - 1])
def test_the_core_knows_two_suites(suite: int) -> None:
    native = ffi.new("ac_hpke *")
    assert lib.ac_hpke_setup_shared(native, suite, 1, bytes(32), b"", 0) == lib.AC_ERR_ARGUMENT
    assert bytes(ffi.buffer(native)) == bytes(ffi.sizeof("ac_hpke"))


# ---- the live oracle: `cryptography`'s one-shot HPKE, whose AAD is empty -----------------------------------------


class Oracle:
    """A key pair of theirs and of ours, of the same secret."""

    def __init__(self, suite: Suite, draw: random.Random) -> None:
        secret = draw.randbytes(32)
        kem = hpke.KEM.X25519 if suite == "X25519" else hpke.KEM.MLKEM768_X25519
        self._suite = hpke.Suite(kem, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
        self.ours = ac.SecretKey.from_bytes(secret, suite)
        self.public = bytes(self.ours.public_key)
        if suite == "X25519":
            self._secret: Any = X25519PrivateKey.from_private_bytes(secret)
            self._public: Any = X25519PublicKey.from_public_bytes(self.public)
        else:
            ml_kem, sk_x = reference.xwing_parts(secret)
            self._secret = hpke.MLKEM768X25519PrivateKey(ml_kem, X25519PrivateKey.from_private_bytes(sk_x))
            self._public = hpke.MLKEM768X25519PublicKey(
                MLKEM768PublicKey.from_public_bytes(self.public[:1184]),
                X25519PublicKey.from_public_bytes(self.public[1184:]),
            )

    def seal(self, plaintext: bytes, info: bytes) -> bytes:
        return self._suite.encrypt(plaintext, self._public, info)

    def open(self, message: bytes, info: bytes) -> bytes:
        return self._suite.decrypt(message, self._secret, info)


@pytest.mark.parametrize("suite", SUITES)
def test_round_trips_with_cryptography(suite: Suite) -> None:
    draw = random.Random(f"hpke {suite}")
    enc_len = {"X25519": 32, "X-Wing": 1120}[suite]
    oracle = Oracle(suite, draw)
    for i in range(ROUNDS):
        if i % 20 == 0:
            oracle = Oracle(suite, draw)
        info, plaintext = draw.randbytes(draw.choice((0, 24, 31, 200))), draw.randbytes(draw.randrange(700))
        enc, sender = hazmat.hpke_setup_sender(oracle.public, info, suite=suite)
        assert len(enc) == enc_len
        assert oracle.open(enc + sender.seal(plaintext), info) == plaintext
        message = oracle.seal(plaintext, info)
        recipient = hazmat.hpke_setup_recipient(message[:enc_len], oracle.ours, info, suite=suite)
        assert recipient.open(message[enc_len:]) == plaintext


@pytest.mark.parametrize("suite", SUITES)
def test_cryptography_refuses_what_we_sealed_for_another_info_or_key(suite: Suite) -> None:
    draw = random.Random(f"refused {suite}")
    oracle, other = Oracle(suite, draw), Oracle(suite, draw)
    enc, sender = hazmat.hpke_setup_sender(oracle.public, b"info", suite=suite)
    sealed = sender.seal(b"text")
    assert oracle.open(enc + sealed, b"info") == b"text"
    for key, info in ((oracle, b"inf"), (other, b"info")):
        with pytest.raises(InvalidTag):
            key.open(enc + sealed, info)
        recipient = hazmat.hpke_setup_recipient(enc, key.ours, info, suite=suite)
        with pytest.raises(ac.AuthenticationError):
            recipient.open(sealed)


# ---- the tests' own HPKE, which knows AAD, sequence numbers and exports ------------------------------------------

TEXT: Final = st.binary(max_size=300)


@settings(deadline=None, max_examples=60)
@given(
    suite=st.sampled_from(SUITES),
    secret=st.binary(min_size=32, max_size=32),
    ephemeral=st.binary(min_size=32, max_size=32),
    info=TEXT,
    messages=st.lists(st.tuples(TEXT, TEXT), max_size=5),
    export=st.tuples(TEXT, st.integers(0, 255 * 32)),
)
def test_agrees_with_the_tests_own(
    *,
    suite: Suite,
    secret: bytes,
    ephemeral: bytes,
    info: bytes,
    messages: list[tuple[bytes, bytes]],
    export: tuple[bytes, int],
) -> None:
    public = reference.public_of(suite, secret)
    enc, sender = hazmat.hpke_setup_sender(public, info, ephemeral if suite == "X25519" else None, suite=suite)
    model = reference.Context(suite, reference.decapsulate(suite, secret, enc), info)
    if suite == "X25519":
        assert enc == reference.encapsulate(suite, public, ephemeral)[1]
    for i, (plaintext, aad) in enumerate(messages):
        assert sender.seal(plaintext, aad) == model.seal(plaintext, aad, i)
    shared, enc = reference.encapsulate(suite, public, ephemeral)
    model = reference.Context(suite, shared, info)
    recipient = hazmat.hpke_setup_recipient(enc, secret, info, suite=suite)
    for i, (plaintext, aad) in enumerate(messages):
        assert recipient.open(model.seal(plaintext, aad, i), aad) == plaintext
    assert recipient.export(*export) == (model.export(*export) if export[1] else b"")


# ---- SHA-256 and what stands on it ---------------------------------------------------------------------------------


def test_hkdf_of_keys_and_salts_of_all_lengths() -> None:
    """Round the ends of SHA-256's blocks, where HMAC hashes a key that is longer than one."""
    draw = random.Random("hkdf")
    for length in (*range(140), 191, 192, 193, 4096):
        ikm, salt, info = draw.randbytes(length), draw.randbytes(length), draw.randbytes(length)
        want = reference.expand(reference.extract(salt, ikm), info, 42)
        assert hazmat.hkdf_sha256(ikm, salt=salt, info=info, length=42) == want
