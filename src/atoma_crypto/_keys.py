"""Keys: handles on native memory, with close()."""

import base64
import binascii
import hashlib
from types import TracebackType
from typing import Final

from . import _core
from ._core import ffi, lib
from ._errors import InvalidKeyError, SessionClosedError
from ._typing import Buffer, Suite

_SUITE_IDS: Final[dict[str, int]] = {"X25519": 1}  # X-Wing comes with protocol v2


def _suite_id(suite: str) -> int:
    try:
        return _SUITE_IDS[suite]
    except KeyError:
        raise ValueError(f"unknown suite {suite!r}; known: {', '.join(_SUITE_IDS)}") from None


class PublicKey:
    """A node's public key: for suite X25519, 32 bytes (RFC 7748). Immutable, hashable."""

    __slots__ = ("_raw", "_suite")
    _raw: bytes
    _suite: Suite

    def __init__(self) -> None:
        raise TypeError("use PublicKey.from_bytes() or PublicKey.from_base64()")

    @classmethod
    def from_bytes(cls, raw: Buffer, suite: Suite = "X25519") -> "PublicKey":
        """From its raw bytes. InvalidKeyError: wrong length."""
        _suite_id(suite)
        _core.lend_exactly(raw, 32, "public key", InvalidKeyError)
        key = cls.__new__(cls)
        key._raw = bytes(raw)
        key._suite = suite
        return key

    @classmethod
    def from_base64(cls, text: str, suite: Suite = "X25519") -> "PublicKey":
        """From base64 (RFC 4648, section 4: padded, no white space), as in the lock reply. InvalidKeyError."""
        if not isinstance(text, str):
            raise TypeError(f"text must be str, not {type(text).__name__}")
        try:
            raw = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raise InvalidKeyError("the public key is not base64") from None
        if base64.b64encode(raw).decode() != text:
            raise InvalidKeyError("the public key is not canonical base64")
        return cls.from_bytes(raw, suite)

    @property
    def suite(self) -> str:
        """The suite that the key belongs to."""
        return self._suite

    def to_base64(self) -> str:
        """Base64 (RFC 4648, section 4), 44 characters for X25519."""
        return base64.b64encode(self._raw).decode()

    def fingerprint(self) -> str:
        """64 hex digits: SHA-256(suite id as one byte ‖ key). What one pins, logs and compares by eye."""
        return hashlib.sha256(bytes([_suite_id(self._suite)]) + self._raw).hexdigest()

    def __bytes__(self) -> bytes:
        return self._raw

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PublicKey):
            return NotImplemented
        return self._suite == other._suite and self._raw == other._raw  # public: need not be constant time

    def __hash__(self) -> int:
        return hash((self._suite, self._raw))

    def __repr__(self) -> str:
        return f"<PublicKey {self._suite} {self.to_base64()}>"


class _Handle:
    """A native object that is wiped by close(), by `with`, or when it is let go."""

    __slots__ = ("_native",)
    _native: _core.CData | None

    def __init__(self) -> None:
        raise TypeError(f"use {type(self).__name__}.generate() or {type(self).__name__}.from_bytes()")

    @property
    def native(self) -> _core.CData:
        """What the C core takes; for this package only. SessionClosedError."""
        native = self._native  # read once: another thread may close
        if native is None:
            raise SessionClosedError("this key is closed")
        return native

    def close(self) -> None:
        """Wipe the key, at once or when the last thread that is using it is done. Harmless when done twice."""
        self._native = None  # ffi.release would free what another thread may be reading

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> str:
        raise TypeError("a secret key is not to be pickled or copied")

    def __repr__(self) -> str:
        return f"<{type(self).__name__}{' closed' if self._native is None else ''}>"


class SecretKey(_Handle):
    """A node's secret key. Its bytes stay in native memory: nothing here gives them back."""

    __slots__ = ()

    @classmethod
    def generate(cls, suite: Suite = "X25519") -> "SecretKey":
        """A new random key: 32 random bytes, clamped when used (RFC 7748, section 5)."""
        _suite_id(suite)
        key = cls.__new__(cls)
        key._native = _core.new("ac_secret_key *", lib.ac_secret_key_wipe)
        _core.check(lib.ac_secret_key_generate(key._native))
        return key

    @classmethod
    def from_bytes(cls, raw: Buffer, suite: Suite = "X25519") -> "SecretKey":
        """From 32 raw bytes, which stay the caller's to wipe. InvalidKeyError: wrong length."""
        _suite_id(suite)
        raw_c = _core.lend_exactly(raw, 32, "secret key", InvalidKeyError)
        key = cls.__new__(cls)
        key._native = _core.new("ac_secret_key *", lib.ac_secret_key_wipe)
        _core.check(lib.ac_secret_key_from_bytes(key._native, raw_c))
        return key

    @property
    def public_key(self) -> PublicKey:
        """The key to publish. SessionClosedError after close()."""
        native = self.native  # held until its bytes are copied: a member does not keep its struct from being freed
        return PublicKey.from_bytes(ffi.buffer(native.public_key)[:])

    def native_for(self, name: bytes) -> _core.CData:  # noqa: ARG002 - a keyring chooses by it
        """As `native`, for a request that names this public key in base64: the core compares. SessionClosedError."""
        return self.native

    def __enter__(self) -> "SecretKey":
        return self


class SigningKey(_Handle):
    """A node's Ed25519 key (RFC 8032): with it each v1 reply and event carries a Sui signature of its hash."""

    __slots__ = ()

    @classmethod
    def generate(cls) -> "SigningKey":
        """A new random key."""
        key = cls.__new__(cls)
        key._native = _core.new("ac_signing_key *", lib.ac_signing_key_wipe)
        _core.check(lib.ac_signing_key_generate(key._native))
        return key

    @classmethod
    def from_bytes(cls, seed: Buffer) -> "SigningKey":
        """From its 32-byte seed. InvalidKeyError: wrong length."""
        seed_c = _core.lend_exactly(seed, lib.AC_SIGN_SEED_BYTES, "signing key", InvalidKeyError)
        key = cls.__new__(cls)
        key._native = _core.new("ac_signing_key *", lib.ac_signing_key_wipe)
        _core.check(lib.ac_signing_key_from_seed(key._native, seed_c))
        return key

    @property
    def public_key(self) -> bytes:
        """The Ed25519 public key, 32 bytes. SessionClosedError after close()."""
        native = self.native  # as above
        return bytes(ffi.buffer(native.secret)[lib.AC_SIGN_SEED_BYTES :])

    def __enter__(self) -> "SigningKey":
        return self
