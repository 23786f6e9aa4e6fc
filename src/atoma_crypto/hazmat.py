"""Primitives, for those who know what they are doing.

DANGER. Nothing here protects you from yourself: a nonce used twice under one key gives away the key stream and the key
of the authenticator, an unauthenticated public key gives the secret to whoever sent it. The sessions of this package
(`ClientSession`, `NodeSession`) use these functions rightly; use this module to test, or to build another protocol.
"""

from types import TracebackType
from typing import Final

from . import _core, _xwing
from ._core import Aes256Gcm, aes_backend, aes_backends
from ._errors import InvalidKeyError, LocalProtocolError, SessionClosedError
from ._keys import SecretKey
from ._typing import Buffer, Suite

__all__ = [
    "AES256GCM",
    "HPKEContext",
    "aes_backend",
    "aes_backends",
    "blake2b256",
    "hkdf_sha256",
    "hpke_setup_recipient",
    "hpke_setup_sender",
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
    out = _core.Scratch(max(1, length))
    _core.check(_core.lib.ac_hkdf_sha256(out.ptr, length, ikm_c, ikm_len, salt_c, salt_len, info_c, info_len))
    return bytes(out.view[:length])


def blake2b256(data: Buffer) -> bytes:
    """BLAKE2b (RFC 7693), unkeyed, with a digest of 32 bytes; not BLAKE2b-512 cut short."""
    data_c, length = _core.lend(data, "data")
    out = bytearray(32)
    _core.check(_core.lib.ac_blake2b256(_core.ffi.from_buffer("uint8_t[]", out), data_c, length))
    return bytes(out)


# ---- HPKE (RFC 9180), base mode: HKDF-SHA256, AES-256-GCM, and the KEM of the suite ----------------------------------


_ENC_BYTES: Final[dict[str, int]] = {"X25519": 32, "X-Wing": _xwing.ENC_BYTES}


class HPKEContext:
    """One end of an HPKE context (RFC 9180, section 5.2), made by `hpke_setup_sender` or `hpke_setup_recipient`.

    The sender seals and the recipient opens, each message under the next nonce: in the order in which they were sealed,
    none left out. One thread at a time: a second one gets ConcurrentUseError. A child process cannot seal with what its
    parent has made: LocalProtocolError. `close()`, also by `with`, wipes it; after that: SessionClosedError.
    """

    __slots__ = ("_memory", "_native", "_seals")
    _memory: _core.CData
    _native: _core.CData | None
    _seals: bool

    def __init__(self) -> None:
        raise TypeError("use hpke_setup_sender() or hpke_setup_recipient()")

    @classmethod
    def _unset(cls, *, seals: bool) -> "HPKEContext":
        context = cls.__new__(cls)
        context._memory, context._native = _core.new("ac_hpke *", _core.lib.ac_hpke_wipe)
        context._seals = seals
        return context

    def _open_handle(self) -> _core.CData:
        native = self._native  # read once: another thread may close
        if native is None:
            raise SessionClosedError("this context is closed")
        return native

    def seal(self, plaintext: Buffer, aad: Buffer = b"") -> bytes:
        """The next message: ciphertext ‖ 16-byte tag. LocalProtocolError: this is the recipient's end."""
        native = self._open_handle()
        if not self._seals:
            raise LocalProtocolError("this context opens: it is the recipient's end")
        plaintext_c, length = _core.lend(plaintext, "plaintext")
        aad_c, aad_len = _core.lend(aad, "aad")
        out = bytearray(length + _core.TAG_BYTES)
        out_c = _core.ffi.from_buffer("uint8_t[]", out)
        _core.check(_core.lib.ac_hpke_seal(native, out_c, len(out), plaintext_c, length, aad_c, aad_len))
        return bytes(out)

    def open(self, sealed: Buffer, aad: Buffer = b"") -> bytes:
        """The plaintext of the next message. LocalProtocolError: this is the sender's end.

        AuthenticationError: it does not verify, or is shorter than 16 bytes. It did not count then: the right message
        can still be opened.
        """
        native = self._open_handle()
        if self._seals:
            raise LocalProtocolError("this context seals: it is the sender's end")
        sealed_c, sealed_len = _core.lend(sealed, "sealed")
        aad_c, aad_len = _core.lend(aad, "aad")
        out = bytearray(max(0, sealed_len - _core.TAG_BYTES))
        out_c = _core.ffi.from_buffer("uint8_t[]", out)
        try:
            _core.check(_core.lib.ac_hpke_open(native, out_c, len(out), sealed_c, sealed_len, aad_c, aad_len))
            return bytes(out)
        finally:
            _core.lib.ac_wipe(out_c, len(out))

    def export(self, exporter_context: Buffer, length: int) -> bytes:
        """A secret of `length` bytes, 0 to 8160, that both ends can compute (section 5.3), whatever was sealed."""
        native = self._open_handle()
        if not 0 <= length <= 255 * 32:
            raise ValueError(f"length must be 0 to 8160 bytes, not {length}")
        context_c, context_len = _core.lend(exporter_context, "exporter_context")
        out = bytearray(length)
        out_c = _core.ffi.from_buffer("uint8_t[]", out)
        try:
            _core.check(_core.lib.ac_hpke_export(native, out_c, length, context_c, context_len))
            return bytes(out)
        finally:
            _core.lib.ac_wipe(out_c, length)

    def close(self) -> None:
        """Wipe. ConcurrentUseError: another thread is inside, and nothing was wiped. Harmless when done twice."""
        native = self._native
        if native is not None:
            _core.check(_core.lib.ac_hpke_close(native))
            self._native = None

    def __enter__(self) -> "HPKEContext":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> str:
        raise TypeError("a context is not to be pickled or copied")

    def __repr__(self) -> str:
        end = "sender" if self._seals else "recipient"
        return f"<{type(self).__name__} {end}{' closed' if self._native is None else ''}>"


def hpke_setup_sender(
    public: Buffer, info: Buffer, ephemeral_secret: Buffer | None = None, *, suite: Suite = "X25519"
) -> tuple[bytes, HPKEContext]:
    """SetupBaseS (RFC 9180, section 5.1.1): the encapsulated key, to be sent, and the sender's context.

    `public` is the recipient's key: 32 bytes (encapsulated key: 32), in suite X-Wing, which needs the extra `pq`, 1216
    (1120). `ephemeral_secret`, 32 bytes, makes the test vectors of suite X25519 come out again, and suite X-Wing has
    none; whoever uses one twice gives both messages away. InvalidKeyError: a key of the wrong length, or one that gives
    an all-zero shared secret.
    """
    lib = _core.lib
    context, info_c, info_len = _setup(suite, info, seals=True)
    native = context._native
    if suite == "X-Wing":
        if ephemeral_secret is not None:
            raise ValueError("suite X-Wing has no ephemeral secret to choose")
        _core.lend(public, "public")
        shared = _core.Scratch(_xwing.SHARED_BYTES)
        try:
            enc = _xwing.encapsulate(bytes(public), shared)
            _setup_shared(native, shared, info_c, info_len, seals=True)
        finally:
            shared.wipe()
        return enc, context
    public_c = _core.lend_exactly(public, 32, "public", InvalidKeyError)
    ephemeral_c = _core.ffi.NULL
    if ephemeral_secret is not None:
        ephemeral_c = _core.lend_exactly(ephemeral_secret, 32, "ephemeral_secret", InvalidKeyError)
    out = bytearray(32)
    out_c = _core.ffi.from_buffer("uint8_t[]", out)
    _core.check(lib.ac_hpke_setup_sender(native, out_c, public_c, info_c, info_len, ephemeral_c))
    return bytes(out), context


def hpke_setup_recipient(
    enc: Buffer, secret: Buffer | SecretKey, info: Buffer, *, suite: Suite = "X25519"
) -> HPKEContext:
    """SetupBaseR (RFC 9180, section 5.1.1): the recipient's context. `enc` must be the bytes that were received.

    `secret` is 32 raw bytes (of suite X-Wing: the seed), or a SecretKey. InvalidKeyError: a secret of the wrong length.
    ValueError: an encapsulated key of the wrong length, or a SecretKey of another suite. AuthenticationError: an
    encapsulated key that gives an all-zero shared secret.
    """
    context, info_c, info_len = _setup(suite, info, seals=False)
    native = context._native
    enc_c = _core.lend_exactly(enc, _ENC_BYTES[suite], "enc")
    key = secret if isinstance(secret, SecretKey) else SecretKey.from_bytes(secret, suite)
    if key.suite != suite:
        raise ValueError(f"the secret key is of suite {key.suite}, not {suite}")
    if suite == "X-Wing":
        shared = _core.Scratch(_xwing.SHARED_BYTES)
        try:
            key.decapsulate(bytes(enc), shared)
            _setup_shared(native, shared, info_c, info_len, seals=False)
        finally:
            shared.wipe()
    else:
        _core.check(_core.lib.ac_hpke_setup_recipient(native, enc_c, key.native, info_c, info_len))
    return context


def _setup(suite: str, info: Buffer, *, seals: bool) -> tuple[HPKEContext, _core.CData, int]:
    if suite not in _ENC_BYTES:
        raise ValueError(f"unknown suite {suite!r}; known: {', '.join(_ENC_BYTES)}")
    return HPKEContext._unset(seals=seals), *_core.lend(info, "info")


def _setup_shared(
    native: _core.CData, shared: _core.Scratch, info_c: _core.CData, info_len: int, *, seals: bool
) -> None:
    """Set up suite X-Wing from what its KEM gave."""
    lib = _core.lib
    _core.check(lib.ac_hpke_setup_shared(native, lib.AC_SUITE_XWING, seals, shared.ptr, info_c, info_len))
