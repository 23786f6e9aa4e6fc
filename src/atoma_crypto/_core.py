"""The only importer of the C core: fills its function table, turns status into exceptions, lends it buffers."""

import os
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import nacl.bindings
from nacl._sodium import ffi as _sodium_ffi  # type: ignore[import-not-found] # cffi's output, it has no stubs
from nacl._sodium import lib as _sodium_lib

from ._errors import (
    AtomaCryptoError,
    AuthenticationError,
    ConcurrentUseError,
    EnvelopeError,
    InvalidKeyError,
    LimitExceededError,
    LocalProtocolError,
    MessageTooLargeError,
    NativeError,
    NonceReuseError,
    RemoteProtocolError,
    SessionClosedError,
)
from ._native import ffi, lib
from ._typing import Buffer

# The layers above reach the core through here.
__all__ = ["CData", "Scratch", "aes_backend", "aes_backends", "check", "error", "ffi", "is_final", "lend", "lib", "new"]

CData: TypeAlias = Any  # cffi's objects: what they point at is known to C alone

KEY_BYTES: Final = lib.AC_KEY_BYTES
NONCE_BYTES: Final = lib.AC_NONCE_BYTES
TAG_BYTES: Final = lib.AC_TAG_BYTES
HASH_BYTES: Final = lib.AC_HASH_BYTES

# Member of the core's table → name in libsodium.
_TABLE: Final = {
    "scalarmult": "crypto_scalarmult",
    "scalarmult_base": "crypto_scalarmult_base",
    "hash_sha256": "crypto_hash_sha256",
    "blake2b": "crypto_generichash_blake2b_salt_personal",
    "sign": "crypto_sign",
    "sign_seed_keypair": "crypto_sign_seed_keypair",
    "randombytes": "randombytes",
    "memzero": "sodium_memzero",
    "aes256gcm_is_available": "crypto_aead_aes256gcm_is_available",
    "aes256gcm_encrypt": "crypto_aead_aes256gcm_encrypt",
    "aes256gcm_decrypt": "crypto_aead_aes256gcm_decrypt",
}


def _load(sodium: Any, sodium_ffi: Any, aes_backend: str | None, cpu_mask: str = "") -> None:
    """Fill the table from PyNaCl's libsodium, test it, choose an AES backend; ImportError says what is wrong."""
    if lib.ac_cpu_mask(cpu_mask.encode(errors="replace")) != lib.AC_OK:
        raise ImportError(f"ATOMA_CRYPTO_CPU_MASK={cpu_mask!r}: known are {', '.join(_cpu_features())}, with commas")
    nacl.bindings.sodium_init()
    table = ffi.new("ac_sodium *")
    for member, name in _TABLE.items():
        try:
            function = sodium_ffi.addressof(sodium, name)
        except AttributeError:
            raise ImportError(f"this PyNaCl does not offer libsodium's {name}") from None
        address = int(sodium_ffi.cast("uintptr_t", function))
        setattr(table, member, ffi.cast(ffi.typeof(getattr(table, member)), address))
    status = lib.ac_init(table, aes_backend.encode(errors="replace") if aes_backend else ffi.NULL)
    if status == lib.AC_ERR_PRIMITIVE:
        failed = ffi.string(lib.ac_self_test_failure()).decode()
        raise ImportError(f"the self-test of {failed} failed: not safe to use")
    if status != lib.AC_OK:
        raise ImportError(
            f"ATOMA_CRYPTO_AES_BACKEND={aes_backend!r} cannot be used here; usable: {', '.join(aes_backends())}"
        )


def _cpu_features() -> list[str]:
    found: list[str] = []
    while (name := lib.ac_cpu_feature_name(len(found))) != ffi.NULL:
        found.append(ffi.string(name).decode())
    return found


def self_test_failure() -> str:
    """What the self-test at import has found broken: nothing, or there would have been an ImportError."""
    return str(ffi.string(lib.ac_self_test_failure()).decode())


def cpu_features() -> dict[str, bool]:
    """The features of this CPU that the core looks for, and whether each is there and not masked."""
    return {name: bool(lib.ac_cpu_feature_usable(number)) for number, name in enumerate(_cpu_features())}


def aes_backends() -> tuple[str, ...]:
    """The AES backends that this CPU can run, best first."""
    return tuple(name for _, name in _usable_backends())


def _usable_backends() -> list[tuple[int, str]]:
    found = []
    number = 0
    while (name := lib.ac_aes_backend_name(number)) != ffi.NULL:
        if lib.ac_aes_backend_usable(number):
            found.append((number, ffi.string(name).decode()))
        number += 1
    return found


def aes_backend() -> str:
    """The AES backend in use."""
    return str(ffi.string(lib.ac_aes_backend_name(lib.ac_aes_backend_default())).decode())


# ---- status → exception -------------------------------------------------------------------------------------------

_ERRORS: Final[dict[int, Callable[[], Exception]]] = {
    lib.AC_ERR_ARGUMENT: lambda: ValueError("an argument is of an impossible size"),
    lib.AC_ERR_CAPACITY: lambda: ValueError("the output buffer is too small"),
    lib.AC_ERR_OVERLAP: lambda: ValueError("input and output overlap without being the same buffer"),
    lib.AC_ERR_KEY: lambda: InvalidKeyError("the key gives an all-zero shared secret"),
    lib.AC_ERR_AUTH: AuthenticationError,
    lib.AC_ERR_TOO_LARGE: lambda: MessageTooLargeError("longer than the session's limits allow"),
    lib.AC_ERR_NONCE_REUSE: lambda: NonceReuseError("a nonce was used twice"),
    lib.AC_ERR_STATE: lambda: LocalProtocolError("this object has failed or was never set up"),
    lib.AC_ERR_BUSY: lambda: ConcurrentUseError("another thread is inside this object"),
    lib.AC_ERR_FORKED: lambda: LocalProtocolError("this session was made before fork(): only the parent may seal"),
    lib.AC_ERR_LIMIT: lambda: LimitExceededError("the session's counter is spent"),
    lib.AC_ERR_PRIMITIVE: lambda: NativeError("libsodium refused an operation that cannot fail"),
}


def error(status: int, malformed: type[RemoteProtocolError] = EnvelopeError) -> Exception:
    """The exception for a status of the core that is not AC_OK; `malformed` is the class for AC_ERR_FORMAT."""
    if status == lib.AC_ERR_FORMAT:
        return malformed("base64, or the length of what it holds, is wrong")
    make = _ERRORS.get(status)
    return make() if make else NativeError(f"the C core returned status {status}")


def check(status: int) -> None:
    """Raise unless `status` is AC_OK."""
    if status != 0:
        raise error(status)


def is_final(exc: BaseException) -> bool:
    """Whether an object that raised this can never be used again: all but the caller's own, harmless mistakes."""
    if isinstance(exc, RemoteProtocolError | NativeError):
        return True
    return not isinstance(exc, AtomaCryptoError | TypeError | ValueError)


# ---- buffers and lifetime --------------------------------------------------------------------------------------------


SIZE_MAX: Final = 2 ** (8 * ffi.sizeof("size_t")) - 1
_BYTES: Final = ffi.typeof("uint8_t[]")
_from_buffer: Final = ffi.from_buffer


def lend(value: Buffer, name: str) -> tuple[CData, int]:
    """What C can read `value` through, without a copy, and its length in bytes. TypeError, ValueError."""
    kind = type(value)
    if kind is bytes:
        return value, len(value)
    if kind is bytearray:
        return _from_buffer(_BYTES, value), len(value)
    if not isinstance(value, bytes | bytearray | memoryview):
        raise TypeError(f"{name} must be bytes, bytearray or memoryview, not {kind.__name__}")
    if isinstance(value, memoryview) and not value.c_contiguous:
        raise ValueError(f"{name} must be contiguous")
    cdata = _from_buffer(_BYTES, value)
    return cdata, len(cdata)


def lend_writable(value: Buffer, name: str) -> tuple[CData, int]:
    """As `lend`, for C to write to."""
    if type(value) is not bytearray and (
        isinstance(value, bytes) or (isinstance(value, memoryview) and value.readonly)
    ):
        raise TypeError(f"{name} must be writable")
    return lend(value, name)


def lend_exactly(value: Buffer, size: int, name: str, wrong: type[ValueError] = ValueError) -> CData:
    """As `lend`, for a value of a fixed size; any other raises `wrong`."""
    cdata, length = lend(value, name)
    if length != size:
        raise wrong(f"{name} must be {size} bytes, not {length}")
    return cdata


def new(ctype: str, wipe: Callable[[CData], None]) -> tuple[CData, CData]:
    """Memory, and the zeroed C object in it, which is wiped when nothing refers to it any more, if not before.

    Who keeps the object keeps the memory beside it. In a cycle that is collected, cffi wipes the object and lets go of
    the memory, while a finalizer whose turn comes later may still call what uses it: it must find it wiped, not freed.
    """
    memory = ffi.new(ctype)
    return memory, ffi.gc(memory, wipe)


def require_new(native: CData) -> None:
    """Before an exchange is begun in it. LocalProtocolError: such a cycle has wiped it, and nobody would again."""
    if native.state:
        raise error(lib.AC_ERR_STATE)


def require_key(public: CData) -> None:
    """What is public in a key, never all zero in one that is whole. SessionClosedError: such a cycle has wiped it."""
    if not any(public):
        raise SessionClosedError("this key is closed")


class Scratch:
    """Memory for C to write to, kept from call to call, wiped when it is let go."""

    __slots__ = ("_memory", "_wiped", "cap", "len", "ptr", "view")

    def __init__(self, cap: int) -> None:
        # wiped by C, not by a Python function: nothing can interrupt it
        self._memory = ffi.new("ac_scratch *", (cap, cap))
        self._wiped = ffi.gc(self._memory, lib.ac_scratch_wipe)  # two, as new() has it
        self.cap = cap
        self.len = ffi.new("size_t *")  # for C to say how much it has written
        self.ptr = ffi.cast("uint8_t *", self._memory.at)
        self.view = ffi.buffer(self.ptr, cap)

    def wipe(self) -> None:
        """At once, whoever still refers to it, as a traceback may."""
        lib.ac_scratch_wipe(self._memory)


# ---- AES-256-GCM -----------------------------------------------------------------------------------------------------


class Aes256Gcm:
    """An expanded AES-256-GCM key on a backend of choice; public as `hazmat.AES256GCM`, which takes the best."""

    __slots__ = ("_key", "_memory")
    _key: CData | None

    def __init__(self, key: Buffer, *, backend: str | None = None) -> None:
        cdata = lend_exactly(key, KEY_BYTES, "key", InvalidKeyError)
        number = lib.ac_aes_backend_default()
        if backend is not None:
            number = {name: number for number, name in _usable_backends()}[backend]
        self._memory, self._key = new("ac_aes256gcm *", lib.ac_aes256gcm_wipe)
        check(lib.ac_aes256gcm_init(self._key, cdata, number))

    def seal(self, nonce: Buffer, plaintext: Buffer, aad: Buffer = b"") -> bytes:
        """Encrypt: nonce of 12 bytes → ciphertext ‖ 16-byte tag. A nonce must never be used twice with one key."""
        out = bytearray((len(plaintext) if type(plaintext) is bytes else memoryview(plaintext).nbytes) + TAG_BYTES)
        self.seal_into(nonce, plaintext, out, aad)
        return bytes(out)

    def open(self, nonce: Buffer, sealed: Buffer, aad: Buffer = b"") -> bytes:
        """Verify and decrypt ciphertext ‖ tag. AuthenticationError, also for less than 16 bytes."""
        length = (len(sealed) if type(sealed) is bytes else memoryview(sealed).nbytes) - TAG_BYTES
        out = bytearray(max(0, length))
        out_c = _from_buffer(_BYTES, out)
        try:
            self.open_into(nonce, sealed, out, aad)
            return bytes(out)
        finally:
            lib.ac_wipe(out_c, len(out))

    def seal_into(self, nonce: Buffer, plaintext: Buffer, out: Buffer, aad: Buffer = b"") -> int:
        """As `seal`, into `out`, which may be the buffer of `plaintext`. Returns the bytes written: 16 more.

        ValueError: `out` is too small, or overlaps otherwise; nothing was changed.
        """
        key = self._key
        if key is None:
            raise SessionClosedError("this key is closed")
        nonce_c = nonce if type(nonce) is bytes and len(nonce) == 12 else lend_exactly(nonce, NONCE_BYTES, "nonce")
        # what is commonest is looked at here, without a call
        if type(plaintext) is bytearray:
            text, length = _from_buffer(_BYTES, plaintext), len(plaintext)
        else:
            text, length = lend(plaintext, "plaintext")
        if type(out) is bytearray:
            out_c, cap = _from_buffer(_BYTES, out), len(out)
        else:
            out_c, cap = lend_writable(out, "out")
        aad_c, aad_len = (aad, len(aad)) if type(aad) is bytes else lend(aad, "aad")
        status = lib.ac_aes256gcm_seal(key, out_c, cap, nonce_c, text, length, aad_c, aad_len)
        if status:
            raise error(status)
        return length + 16

    def open_into(self, nonce: Buffer, sealed: Buffer, out: Buffer, aad: Buffer = b"") -> int:
        """As `open`, into `out`, which may be the buffer of `sealed`. Returns the bytes written: 16 fewer.

        AuthenticationError: that many bytes of `out` were zeroed. ValueError: nothing was changed.
        """
        key = self._key
        if key is None:
            raise SessionClosedError("this key is closed")
        nonce_c = nonce if type(nonce) is bytes and len(nonce) == 12 else lend_exactly(nonce, NONCE_BYTES, "nonce")
        # what is commonest is looked at here, without a call
        if type(sealed) is bytearray:
            text, length = _from_buffer(_BYTES, sealed), len(sealed)
        else:
            text, length = lend(sealed, "sealed")
        if type(out) is bytearray:
            out_c, cap = _from_buffer(_BYTES, out), len(out)
        else:
            out_c, cap = lend_writable(out, "out")
        aad_c, aad_len = (aad, len(aad)) if type(aad) is bytes else lend(aad, "aad")
        status = lib.ac_aes256gcm_open(key, out_c, cap, nonce_c, text, length, aad_c, aad_len)
        if status:
            raise error(status)
        return length - 16

    def close(self) -> None:
        """Wipe the key, at once or when the last thread that is using it is done. Harmless when done twice."""
        self._key = None  # ffi.release would free what another thread may be reading

    def __reduce__(self) -> str:
        raise TypeError("a secret key is not to be pickled or copied")

    def __repr__(self) -> str:
        return f"<{type(self).__name__}{' closed' if self._key is None else ''}>"


_load(
    _sodium_lib,
    _sodium_ffi,
    os.environ.get("ATOMA_CRYPTO_AES_BACKEND") or None,
    os.environ.get("ATOMA_CRYPTO_CPU_MASK", ""),
)
