"""HPKE's base mode (RFC 9180) and X-Wing, written out from `cryptography`'s X25519, ML-KEM, HKDF-Expand and AESGCM.

The half of `reference_v2` that knows no Atoma. Nothing here imports `atoma_crypto`.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

KEM_IDS: Final = {"X25519": b"\x00\x20", "X-Wing": b"\x64\x7a"}


def extract(salt: bytes, ikm: bytes) -> bytes:
    return hmac.digest(salt or bytes(32), ikm, "sha256")


def expand(prk: bytes, info: bytes, length: int) -> bytes:
    return HKDFExpand(SHA256(), length, info).derive(prk)


def labeled_extract(suite: bytes, salt: bytes, label: bytes, ikm: bytes) -> bytes:
    return extract(salt, b"HPKE-v1" + suite + label + ikm)


def labeled_expand(suite: bytes, prk: bytes, label: bytes, info: bytes, length: int) -> bytes:
    return expand(prk, length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info, length)


def x25519(secret: bytes, public: bytes) -> bytes:
    """`cryptography` raises ValueError where the result is all zero."""
    return X25519PrivateKey.from_private_bytes(secret).exchange(X25519PublicKey.from_public_bytes(public))


def x25519_public(secret: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()


def dhkem(dh: bytes, enc: bytes, public: bytes) -> bytes:
    suite = b"KEM" + KEM_IDS["X25519"]
    prk = labeled_extract(suite, b"", b"eae_prk", dh)
    return labeled_expand(suite, prk, b"shared_secret", enc + public, 32)


def xwing_parts(seed: bytes) -> tuple[MLKEM768PrivateKey, bytes]:
    expanded = hashlib.shake_256(seed).digest(96)
    return MLKEM768PrivateKey.from_seed_bytes(expanded[:64]), expanded[64:]


def xwing_combine(ss_m: bytes, ss_x: bytes, ct_x: bytes, pk_x: bytes) -> bytes:
    return hashlib.sha3_256(ss_m + ss_x + ct_x + pk_x + bytes.fromhex("5c2e2f2f5e5c")).digest()


def public_of(suite: str, secret: bytes) -> bytes:
    if suite == "X25519":
        return x25519_public(secret)
    ml_kem, sk_x = xwing_parts(secret)
    return ml_kem.public_key().public_bytes_raw() + x25519_public(sk_x)


def encapsulate(suite: str, public: bytes, sk_e: bytes) -> tuple[bytes, bytes]:
    """Shared secret and enc. ML-KEM's half of X-Wing draws its own randomness."""
    if suite == "X25519":
        enc = x25519_public(sk_e)
        return dhkem(x25519(sk_e, public), enc, public), enc
    pk_m, pk_x = public[:1184], public[1184:]
    ss_m, ct_m = MLKEM768PublicKey.from_public_bytes(pk_m).encapsulate()
    ct_x = x25519_public(sk_e)
    return xwing_combine(ss_m, x25519(sk_e, pk_x), ct_x, pk_x), ct_m + ct_x


def decapsulate(suite: str, secret: bytes, enc: bytes) -> bytes:
    if suite == "X25519":
        return dhkem(x25519(secret, enc), enc, x25519_public(secret))
    ml_kem, sk_x = xwing_parts(secret)
    ct_m, ct_x = enc[:1088], enc[1088:]
    return xwing_combine(ml_kem.decapsulate(ct_m), x25519(sk_x, ct_x), ct_x, x25519_public(sk_x))


class Context:
    """Keys of one HPKE context; `seal` and `open` take the sequence number, which is 0 in v2."""

    def __init__(self, suite: str, shared_secret: bytes, info: bytes) -> None:
        self._suite = b"HPKE" + KEM_IDS[suite] + b"\x00\x01\x00\x02"
        psk_id_hash = labeled_extract(self._suite, b"", b"psk_id_hash", b"")
        context = b"\x00" + psk_id_hash + labeled_extract(self._suite, b"", b"info_hash", info)
        secret = labeled_extract(self._suite, shared_secret, b"secret", b"")
        self._key = labeled_expand(self._suite, secret, b"key", context, 32)
        self._aes = AESGCM(self._key)
        self._base = labeled_expand(self._suite, secret, b"base_nonce", context, 12)
        self._exporter = labeled_expand(self._suite, secret, b"exp", context, 32)

    def seal(self, plaintext: bytes, aad: bytes, sequence: int = 0) -> bytes:
        return self._aes.encrypt(nonce_of(self._base, sequence), plaintext, aad)

    def open(self, sealed: bytes, aad: bytes, sequence: int = 0) -> bytes:
        return self._aes.decrypt(nonce_of(self._base, sequence), sealed, aad)

    def export(self, context: bytes, length: int) -> bytes:
        return labeled_expand(self._suite, self._exporter, b"sec", context, length)


def nonce_of(base: bytes, index: int) -> bytes:
    return (int.from_bytes(base, "big") ^ index).to_bytes(12, "big")
