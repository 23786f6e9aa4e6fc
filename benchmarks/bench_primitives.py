"""The primitives behind the sessions, as `hazmat` offers them, beside `cryptography` and the standard library."""

import hashlib

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from atoma_crypto import hazmat
from conftest import Run

SECRET, OTHER, TEXT = bytes(range(32)), bytes(range(1, 33)), bytes(300)
PUBLIC = hazmat.x25519_public_key(OTHER)
NONCE = bytes(12)


def test_public_key(run: Run) -> None:
    theirs = X25519PrivateKey.from_private_bytes(SECRET).public_key().public_bytes_raw()
    assert hazmat.x25519_public_key(SECRET) == theirs
    run("X25519 public key", "atoma-crypto", lambda: hazmat.x25519_public_key(SECRET))


def test_public_key_cryptography(run: Run) -> None:
    public = X25519PrivateKey.from_private_bytes(SECRET).public_key().public_bytes_raw()
    assert public == hazmat.x25519_public_key(SECRET)
    run("X25519 public key", "cryptography", lambda: X25519PrivateKey.from_private_bytes(SECRET).public_key())


def test_exchange(run: Run) -> None:
    theirs = X25519PrivateKey.from_private_bytes(SECRET).exchange(X25519PublicKey.from_public_bytes(PUBLIC))
    assert hazmat.x25519(SECRET, PUBLIC) == theirs
    run("X25519", "atoma-crypto", lambda: hazmat.x25519(SECRET, PUBLIC))


def test_exchange_cryptography(run: Run) -> None:
    secret, public = X25519PrivateKey.from_private_bytes(SECRET), X25519PublicKey.from_public_bytes(PUBLIC)
    assert secret.exchange(public) == hazmat.x25519(SECRET, PUBLIC)
    run("X25519", "cryptography", lambda: secret.exchange(public))


def test_hkdf(run: Run) -> None:
    assert hazmat.hkdf_sha256(SECRET, salt=OTHER, info=b"", length=32) == their_hkdf()
    run("HKDF-SHA256", "atoma-crypto", lambda: hazmat.hkdf_sha256(SECRET, salt=OTHER, info=b"", length=32))


def their_hkdf() -> bytes:
    return HKDF(hashes.SHA256(), 32, OTHER, b"").derive(SECRET)


def test_hkdf_cryptography(run: Run) -> None:
    assert their_hkdf() == hazmat.hkdf_sha256(SECRET, salt=OTHER, info=b"", length=32)
    run("HKDF-SHA256", "cryptography", their_hkdf)


def test_blake2b(run: Run) -> None:
    assert hazmat.blake2b256(TEXT) == hashlib.blake2b(TEXT, digest_size=32).digest()
    run("BLAKE2b-256 of 300 bytes", "atoma-crypto", lambda: hazmat.blake2b256(TEXT))


def test_blake2b_hashlib(run: Run) -> None:
    assert hashlib.blake2b(TEXT, digest_size=32).digest() == hazmat.blake2b256(TEXT)
    run("BLAKE2b-256 of 300 bytes", "hashlib", lambda: hashlib.blake2b(TEXT, digest_size=32).digest())


def test_key(run: Run) -> None:
    assert hazmat.AES256GCM(SECRET).seal(NONCE, TEXT) == AESGCM(SECRET).encrypt(NONCE, TEXT, None)
    run("AES-256-GCM key", "atoma-crypto", lambda: hazmat.AES256GCM(SECRET))


def test_key_cryptography(run: Run) -> None:
    assert AESGCM(SECRET).decrypt(NONCE, hazmat.AES256GCM(SECRET).seal(NONCE, TEXT), None) == TEXT
    run("AES-256-GCM key", "cryptography", lambda: AESGCM(SECRET))


def test_aes(run: Run) -> None:
    aes = hazmat.AES256GCM(SECRET)
    assert AESGCM(SECRET).decrypt(NONCE, aes.seal(NONCE, TEXT), None) == TEXT
    run("AES-256-GCM of 300 bytes", "atoma-crypto", lambda: aes.seal(NONCE, TEXT))


def test_aes_cryptography(run: Run) -> None:
    aes = AESGCM(SECRET)
    assert hazmat.AES256GCM(SECRET).open(NONCE, aes.encrypt(NONCE, TEXT, None)) == TEXT
    run("AES-256-GCM of 300 bytes", "cryptography", lambda: aes.encrypt(NONCE, TEXT, None))
