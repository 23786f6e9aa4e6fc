"""Keys: handles on native memory, with close()."""

import base64
import binascii
import hashlib
from types import TracebackType
from typing import Final, NamedTuple

from . import _core, _xwing
from ._core import ffi, lib
from ._errors import AuthenticationError, InvalidKeyError, SessionClosedError
from ._typing import Buffer, Suite
from .replay import MemoryReplayCache, ReplayCache


class SuiteSizes(NamedTuple):
    """A suite of protocol v2 (docs/protocol-v2.md, section 1): its number, and its sizes in bytes."""

    id: int
    public_bytes: int
    enc_bytes: int


SUITES: Final[dict[str, SuiteSizes]] = {
    "X25519": SuiteSizes(lib.AC_SUITE_X25519, 32, 32),
    "X-Wing": SuiteSizes(lib.AC_SUITE_XWING, _xwing.PUBLIC_BYTES, _xwing.ENC_BYTES),
}


def suite_sizes(suite: str) -> SuiteSizes:
    """Of a suite by its name. ValueError: there is none."""
    try:
        return SUITES[suite]
    except (KeyError, TypeError):
        raise ValueError(f"unknown suite {suite!r}; known: {', '.join(SUITES)}") from None


class PublicKey:
    """A node's public key. Suite X25519: 32 bytes (RFC 7748). Suite X-Wing: 1216 bytes, and it needs the extra `pq`.

    Immutable, hashable.
    """

    __slots__ = ("_hashed", "_raw", "_suite")
    _hashed: bytes | None
    _raw: bytes
    _suite: Suite

    def __init__(self) -> None:
        raise TypeError("use PublicKey.from_bytes() or PublicKey.from_base64()")

    @classmethod
    def from_bytes(cls, raw: Buffer, suite: Suite = "X25519") -> "PublicKey":
        """From its raw bytes. InvalidKeyError: wrong length, or of suite X-Wing and ML-KEM refuses it."""
        size = suite_sizes(suite).public_bytes
        _core.lend_exactly(raw, size, "public key", InvalidKeyError)
        key = cls.__new__(cls)
        key._raw = bytes(raw)
        if suite == "X-Wing":
            _xwing.check_public_key(key._raw)
        key._suite = suite
        key._hashed = None
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
    def suite(self) -> Suite:
        """The suite that the key belongs to."""
        return self._suite

    @property
    def key_id(self) -> bytes:
        """The first 8 bytes of its fingerprint, by which protocol v2's requests name a key: a hint, not a pin."""
        return self._digest()[:8]

    def to_base64(self) -> str:
        """Base64 (RFC 4648, section 4): 44 characters for X25519, 1624 for X-Wing."""
        return base64.b64encode(self._raw).decode()

    def fingerprint(self) -> str:
        """64 hex digits: SHA-256(suite id as one byte ‖ key). What one pins, logs and compares by eye."""
        return self._digest().hex()

    def _digest(self) -> bytes:
        digest = self._hashed
        if digest is None:
            digest = self._hashed = hashlib.sha256(bytes([SUITES[self._suite].id]) + self._raw).digest()
        return digest

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

    __slots__ = ("_memory", "_native")
    _memory: _core.CData
    _native: _core.CData | None

    def __init__(self) -> None:
        raise TypeError(f"use {type(self).__name__}.generate() or {type(self).__name__}.from_bytes()")

    @property
    def native(self) -> _core.CData:
        """What the C core takes; for this package only. SessionClosedError."""
        native = self._native  # read once: another thread may close
        if native is None:
            raise SessionClosedError("this key is closed")
        _core.require_key(self._public_part(native))
        return native

    @staticmethod
    def _public_part(native: _core.CData) -> _core.CData:
        """Where something public stands in native memory."""
        return native.x25519_public if isinstance(native, _xwing.DecapsulationKey) else native.public_key

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


class NodeKey(NamedTuple):
    """The key that a request of protocol v2 names, and the store that remembers the requests to it."""

    key: "SecretKey"
    replay_cache: ReplayCache


class SecretKey(_Handle):
    """A node's secret key, of suite X25519 or X-Wing. It stays in native memory: nothing here gives it back.

    It has a replay store of its own, in memory, for protocol v2's requests.
    """

    __slots__ = ("_public_key", "_replay_cache")
    _public_key: PublicKey
    _replay_cache: MemoryReplayCache

    @classmethod
    def generate(cls, suite: Suite = "X25519") -> "SecretKey":
        """A new random key: 32 random bytes, which X25519 clamps when it is used (RFC 7748, section 5).

        Of suite X-Wing they are the seed. ImportError: the extra `pq` is missing.
        """
        return cls._generate(suite, MemoryReplayCache(fresh_key=True))

    @classmethod
    def _generate(cls, suite: Suite, replay_cache: MemoryReplayCache) -> "SecretKey":
        """As above, with a store that is born with the key."""
        suite_sizes(suite)
        memory, native = _core.new("ac_secret_key *", lib.ac_secret_key_wipe)
        _core.check(lib.ac_secret_key_generate(native))
        if suite == "X-Wing":  # here what is drawn is the seed, and no key of X25519
            return cls._of(_xwing.DecapsulationKey(ffi.buffer(native.secret)), None, suite, replay_cache)
        return cls._of(native, memory, suite, replay_cache)

    @classmethod
    def from_bytes(cls, raw: Buffer, suite: Suite = "X25519") -> "SecretKey":
        """From 32 raw bytes (of suite X-Wing: the seed), which stay the caller's to wipe.

        InvalidKeyError: wrong length. Nobody knows what was sealed to such a key before, so its replay store refuses
        what was sent until a minute after it was made here.
        """
        suite_sizes(suite)
        raw_c = _core.lend_exactly(raw, 32, "secret key", InvalidKeyError)
        replay_cache = MemoryReplayCache()
        if suite == "X-Wing":
            return cls._of(_xwing.DecapsulationKey(raw), None, suite, replay_cache)
        memory, native = _core.new("ac_secret_key *", lib.ac_secret_key_wipe)
        _core.check(lib.ac_secret_key_from_bytes(native, raw_c))
        return cls._of(native, memory, suite, replay_cache)

    @classmethod
    def _of(
        cls, native: _core.CData, memory: _core.CData, suite: Suite, replay_cache: MemoryReplayCache
    ) -> "SecretKey":
        key = cls.__new__(cls)
        key._native, key._memory = native, memory
        key._public_key = PublicKey.__new__(PublicKey)  # made here: there is nothing to check
        key._public_key._raw = bytes(native.public_key)
        key._public_key._suite = suite
        key._public_key._hashed = None
        key._replay_cache = replay_cache
        return key

    @property
    def suite(self) -> Suite:
        """The suite that the key belongs to."""
        return self._public_key.suite

    @property
    def public_key(self) -> PublicKey:
        """The key to publish. SessionClosedError after close()."""
        self.native  # noqa: B018 - is it closed?
        return self._public_key

    @property
    def replay_cache(self) -> MemoryReplayCache:
        """The store of this key, which is closed with it."""
        return self._replay_cache

    def native_for(self, name: bytes) -> _core.CData:  # noqa: ARG002 - a keyring chooses by it
        """As `native`, for a v1 request that names this public key in base64: the core compares. SessionClosedError.

        AuthenticationError: v1 knows no key of suite X-Wing.
        """
        native = self.native
        if self.suite != "X25519":
            raise AuthenticationError
        return native

    def select(self, key_id: bytes) -> NodeKey | None:
        """What opens a v2 request that names this id; None: another key. For this package only. SessionClosedError.

        The key that is given is a handle of its own: closing this one does not take it away from who is using it.
        """
        native = self.native
        if self._public_key.key_id != key_id:
            return None
        return NodeKey(self._of(native, self._memory, self.suite, self._replay_cache), self._replay_cache)

    def decapsulate(self, enc: bytes, shared: _core.Scratch) -> None:
        """X-Wing's shared secret to `shared`, 32 bytes, for this package only: give it to the core, then wipe it.

        `enc` is 1120 bytes as received. AuthenticationError. SessionClosedError. ValueError: a key of suite X25519.
        """
        native = self.native
        if self.suite != "X-Wing":
            raise ValueError("the core decapsulates with keys of suite X25519")
        native.decapsulate(enc, shared)

    def close(self) -> None:
        """Wipe the key, at once or when the last thread that is using it is done, and close its replay store."""
        super().close()
        self._replay_cache.close()

    def __enter__(self) -> "SecretKey":
        return self


class SigningKey(_Handle):
    """A node's Ed25519 key (RFC 8032): with it each v1 reply and event carries a Sui signature of its hash."""

    __slots__ = ()

    @classmethod
    def generate(cls) -> "SigningKey":
        """A new random key."""
        key = cls.__new__(cls)
        key._memory, key._native = _core.new("ac_signing_key *", lib.ac_signing_key_wipe)
        _core.check(lib.ac_signing_key_generate(key._native))
        return key

    @classmethod
    def from_bytes(cls, seed: Buffer) -> "SigningKey":
        """From its 32-byte seed. InvalidKeyError: wrong length."""
        seed_c = _core.lend_exactly(seed, lib.AC_SIGN_SEED_BYTES, "signing key", InvalidKeyError)
        key = cls.__new__(cls)
        key._memory, key._native = _core.new("ac_signing_key *", lib.ac_signing_key_wipe)
        _core.check(lib.ac_signing_key_from_seed(key._native, seed_c))
        return key

    @property
    def public_key(self) -> bytes:
        """The Ed25519 public key, 32 bytes. SessionClosedError after close()."""
        native = self.native  # held, as another thread may close: a part of it keeps nothing alive
        return bytes(self._public_part(native))

    @staticmethod
    def _public_part(native: _core.CData) -> _core.CData:
        return native.secret[lib.AC_SIGN_SEED_BYTES : lib.AC_SIGN_SECRET_BYTES]

    def __enter__(self) -> "SigningKey":
        return self
