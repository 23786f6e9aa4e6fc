"""Primitives, for those who know what they are doing.

DANGER. Nothing here protects you from yourself: a nonce used twice under one key gives away the key stream and the key
of the authenticator, an unauthenticated public key gives the secret to whoever sent it. The sessions of this package
(`ClientSession`, `NodeSession`) use these functions rightly; use this module to test, or to build another protocol.
"""

from . import _core
from ._core import Aes256Gcm, aes_backend, aes_backends
from ._errors import InvalidKeyError
from ._typing import Buffer

__all__ = [
    "AES256GCM",
    "aes_backend",
    "aes_backends",
    "blake2b256",
    "hkdf_sha256",
    "x25519",
    "x25519_public_key",
]


class AES256GCM(Aes256Gcm):
    """AES-256-GCM (NIST SP 800-38D) with 12-byte nonces and 16-byte tags, on the backend in use.

    `key` is 32 bytes: InvalidKeyError otherwise.
    """

    __slots__ = ()

    def __init__(self, key: Buffer) -> None:
        super().__init__(key)


def x25519_public_key(secret: Buffer) -> bytes:
    """The public key, 32 bytes, of a 32-byte X25519 secret key (RFC 7748, section 6.1)."""
    secret_c = _core.lend_exactly(secret, 32, "secret", InvalidKeyError)
    out = bytearray(32)
    _core.check(_core.lib.ac_x25519_public(_core.ffi.from_buffer("uint8_t[]", out), secret_c))
    return bytes(out)


def x25519(secret: Buffer, public: Buffer) -> bytes:
    """The shared secret, 32 bytes (RFC 7748, section 6.1). InvalidKeyError: wrong length, or an all-zero result."""
    secret_c = _core.lend_exactly(secret, 32, "secret", InvalidKeyError)
    public_c = _core.lend_exactly(public, 32, "public", InvalidKeyError)
    scratch = _core.Scratch(32)
    _core.check(_core.lib.ac_x25519(scratch.ptr, secret_c, public_c))
    return bytes(scratch.view)


def hkdf_sha256(ikm: Buffer, *, salt: Buffer, info: Buffer, length: int) -> bytes:
    """HKDF-SHA256, extract and expand (RFC 5869): `length` bytes, 0 to 8160. An empty salt means 32 zero bytes."""
    if not 0 <= length <= 255 * 32:
        raise ValueError(f"length must be 0 to 8160 bytes, not {length}")
    ikm_c, ikm_len = _core.lend(ikm, "ikm")
    salt_c, salt_len = _core.lend(salt, "salt")
    info_c, info_len = _core.lend(info, "info")
    scratch = _core.Scratch(_core.lib.ac_hkdf_scratch_bytes(ikm_len, info_len))
    out = _core.Scratch(max(1, length))
    _core.check(
        _core.lib.ac_hkdf_sha256(
            out.ptr, length, ikm_c, ikm_len, salt_c, salt_len, info_c, info_len, scratch.ptr, scratch.cap
        )
    )
    return bytes(out.view[:length])


def blake2b256(data: Buffer) -> bytes:
    """BLAKE2b (RFC 7693), unkeyed, with a digest of 32 bytes; not BLAKE2b-512 cut short."""
    data_c, length = _core.lend(data, "data")
    out = bytearray(32)
    _core.check(_core.lib.ac_blake2b256(_core.ffi.from_buffer("uint8_t[]", out), data_c, length))
    return bytes(out)
