"""AES-256-GCM of large messages into a buffer that is there, on each backend."""

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from atoma_crypto import _core, hazmat
from conftest import Run

KEY, NONCE = bytes(range(32)), bytes(12)
SIZES = {"64 KiB": 64 << 10, "256 KiB": 256 << 10, "1 MiB": 1 << 20, "16 MiB": 16 << 20}
BACKENDS = [name for name in hazmat.aes_backends() if name != "portable"]

sizes = pytest.mark.parametrize("name", SIZES)
backends = pytest.mark.parametrize("backend", BACKENDS)


@sizes
def test_cryptography(run: Run, name: str) -> None:
    size = SIZES[name]
    aes, text, sealed = AESGCM(KEY), bytearray(size), bytearray(size + 16)
    text[:] = bytes(range(256)) * (size // 256)
    assert aes.encrypt_into(NONCE, text, None, sealed) == size + 16
    assert hazmat.AES256GCM(KEY).open(NONCE, sealed) == text
    run(f"seal {name}", "cryptography", lambda: aes.encrypt_into(NONCE, text, None, sealed), size=size)


@sizes
def test_cryptography_open(run: Run, name: str) -> None:
    size = SIZES[name]
    aes, text = AESGCM(KEY), bytes(range(256)) * (size // 256)
    sealed, opened = bytearray(aes.encrypt(NONCE, text, None)), bytearray(size)
    assert aes.decrypt_into(NONCE, sealed, None, opened) == size
    assert opened == text
    run(f"open {name}", "cryptography", lambda: aes.decrypt_into(NONCE, sealed, None, opened), size=size)


@backends
@sizes
def test_seal(run: Run, name: str, backend: str) -> None:
    size = SIZES[name]
    aes, text, sealed = _core.Aes256Gcm(KEY, backend=backend), bytearray(size), bytearray(size + 16)
    text[:] = bytes(range(256)) * (size // 256)
    assert aes.seal_into(NONCE, text, sealed) == size + 16
    assert AESGCM(KEY).decrypt(NONCE, sealed, None) == text
    run(f"seal {name}", backend, lambda: aes.seal_into(NONCE, text, sealed), size=size)


@backends
@sizes
def test_open(run: Run, name: str, backend: str) -> None:
    size = SIZES[name]
    text = bytes(range(256)) * (size // 256)
    aes, sealed, opened = (
        _core.Aes256Gcm(KEY, backend=backend),
        bytearray(AESGCM(KEY).encrypt(NONCE, text, None)),
        bytearray(size),
    )
    assert aes.open_into(NONCE, sealed, opened) == size
    assert opened == text
    run(f"open {name}", backend, lambda: aes.open_into(NONCE, sealed, opened), size=size)
