"""Protocol v2's records (docs/protocol-v2.md, section 4), for embedders who frame them themselves.

Both ends need a secret that they share with nobody else: what HPKE exports (`hazmat.hpke_setup_sender`,
`hpke_setup_recipient`). One context must export it for one Sealer and one Opener, and no more.
"""

from types import TracebackType
from typing import Any, ClassVar, Final

from . import _core, _v2
from ._core import CData, ffi, lib
from ._envelope_v2 import usage_numbers
from ._errors import FramingError, InvalidKeyError, SessionClosedError, TruncatedStreamError
from ._typing import Buffer, Usage

_TAG_BYTES: Final = _core.TAG_BYTES
_ENC_BYTES: Final = (32, lib.AC_V2_MAX_ENC_BYTES)
_MAX_FLAG: Final = lib.AC_FLAG_WHOLE


def _lend_enc(enc: Buffer) -> tuple[CData, int]:
    enc_c, length = _core.lend(enc, "enc")
    if length not in _ENC_BYTES:
        raise ValueError(f"enc must be {' or '.join(map(str, _ENC_BYTES))} bytes, not {length}")
    return enc_c, length


def _length(value: Buffer, name: str) -> int:
    return _core.lend(value, name)[1]


def _lend_flag(flag: int) -> int:
    if type(flag) is not int:
        raise TypeError(f"flag must be int, not {type(flag).__name__}")
    if not 0 <= flag <= _MAX_FLAG:
        raise ValueError(f"flag must be 0 to {_MAX_FLAG}, not {flag}")
    return flag


def _lend_usage(usage: Usage | None) -> CData:
    return ffi.NULL if usage is None else _v2.lend_usage(usage_numbers(usage))


class _Records:
    """A native object that counts, lets one thread at a time in, and is wiped."""

    __slots__ = ("_memory", "_native", "salt")

    _close: ClassVar[Any]
    _memory: CData
    _native: CData | None
    salt: bytes

    def _open_native(self) -> CData:
        native = self._native  # read once: another thread may close
        if native is None:
            raise SessionClosedError(f"this {type(self).__name__} is closed")
        return native

    def close(self) -> None:
        """Wipe the key. Harmless when done twice. ConcurrentUseError: another thread is inside."""
        native = self._native
        if native is not None:
            _core.check(self._close(native))
            self._native = None

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> str:
        raise TypeError("a secret key is not to be pickled or copied")

    def __repr__(self) -> str:
        return f"<{type(self).__name__}{' closed' if self._native is None else ''}>"


class Sealer(_Records):
    """Seals the records of one response, in their order, each under a nonce of its own.

    `secret` is 32 bytes (InvalidKeyError), which HPKE exported; `enc` the encapsulated key as it was received, 32 or
    1120 bytes (ValueError). `salt`, 32 random bytes drawn here, is to be sent with the first record.

    `flag` of a record: 0, more follow, and the plaintext is not empty; 1, the end; 2, the answer has failed; 3, the
    whole answer, which is the sole record. `usage` is None, or exactly the integers prompt_tokens, completion_tokens,
    total_tokens, 0 to 2^53-1. The record proves both, and the receiver has to be told of both in clear.

    A second thread at the same time gets ConcurrentUseError, a child process (fork) LocalProtocolError. After a flag
    that is not 0 nothing can be sealed: LocalProtocolError. LimitExceededError: 2^32 records or 2^36 bytes; a record of
    flag 2 can still be sealed.
    """

    __slots__ = ()

    _close = lib.ac_v2_sealer_close

    def __init__(self, secret: Buffer, enc: Buffer) -> None:
        secret_c = _core.lend_exactly(secret, _core.KEY_BYTES, "secret", InvalidKeyError)
        enc_c, enc_len = _lend_enc(enc)
        self._memory, native = _core.new("ac_v2_sealer *", lib.ac_v2_sealer_wipe)
        _core.check(lib.ac_v2_sealer_init(native, secret_c, enc_c, enc_len))
        self._native = native
        self.salt = bytes(ffi.buffer(native.salt))

    def seal(self, plaintext: Buffer, *, flag: int = 0, usage: Usage | None = None) -> bytes:
        """One record: ciphertext ‖ 16-byte tag."""
        out = bytearray(_length(plaintext, "plaintext") + _TAG_BYTES)
        self.seal_into(plaintext, out, flag=flag, usage=usage)
        return bytes(out)

    def seal_into(self, plaintext: Buffer, out: Buffer, *, flag: int = 0, usage: Usage | None = None) -> int:
        """As `seal`, into `out`, which may be the buffer of `plaintext`. Returns the bytes written: 16 more.

        ValueError: `out` is too small, overlaps otherwise, or the flag cannot stand here; nothing was changed.
        """
        native, number, numbers = self._open_native(), _lend_flag(flag), _lend_usage(usage)
        text, length = _core.lend(plaintext, "plaintext")
        if not length and not number:
            raise ValueError("the plaintext of a record of flag 0 must not be empty")
        out_c, cap = _core.lend_writable(out, "out")
        _core.check(lib.ac_v2_record_seal(native, out_c, cap, number, text, length, numbers))
        return length + _TAG_BYTES

    def __enter__(self) -> "Sealer":
        return self


class Opener(_Records):
    """Opens the records of one response, in their order. What it gives has verified.

    `secret` and `enc` as the Sealer's, whose `salt` (32 bytes) came with the first record; `flag` and `usage` of each
    record as they came with it. AuthenticationError: a record that is not the next, or was changed. FramingError: it
    cannot stand here, as one behind the last cannot. After either the Opener has failed, and gives LocalProtocolError.
    """

    __slots__ = ()

    _close = lib.ac_v2_opener_close

    def __init__(self, secret: Buffer, enc: Buffer, salt: Buffer) -> None:
        secret_c = _core.lend_exactly(secret, _core.KEY_BYTES, "secret", InvalidKeyError)
        enc_c, enc_len = _lend_enc(enc)
        salt_c = _core.lend_exactly(salt, lib.AC_V2_SALT_BYTES, "salt")
        self._memory, native = _core.new("ac_v2_opener *", lib.ac_v2_opener_wipe)
        _core.check(lib.ac_v2_opener_init(native, secret_c, enc_c, enc_len, salt_c))
        self._native = native
        self.salt = bytes(salt)

    @property
    def ended(self) -> bool:
        """Whether the last record was opened: one of a flag that is not 0. SessionClosedError."""
        return bool(self._open_native().ended)

    def open(self, sealed: Buffer, *, flag: int = 0, usage: Usage | None = None) -> bytes:
        """The plaintext of one record."""
        out = bytearray(max(0, _length(sealed, "sealed") - _TAG_BYTES))
        out_c = ffi.from_buffer("uint8_t[]", out)
        try:
            self.open_into(sealed, out, flag=flag, usage=usage)
            return bytes(out)
        finally:
            lib.ac_wipe(out_c, len(out))

    def open_into(self, sealed: Buffer, out: Buffer, *, flag: int = 0, usage: Usage | None = None) -> int:
        """As `open`, into `out`, which may be the buffer of `sealed`. Returns the bytes written: 16 fewer.

        AuthenticationError: that many bytes of `out` were zeroed. ValueError: nothing was changed.
        """
        native, number, numbers = self._open_native(), _lend_flag(flag), _lend_usage(usage)
        text, length = _core.lend(sealed, "sealed")
        out_c, cap = _core.lend_writable(out, "out")
        status = lib.ac_v2_record_open(native, out_c, cap, number, text, length, numbers)
        if status:
            raise _v2.error(status, FramingError)
        return length - _TAG_BYTES

    def finish(self) -> None:
        """The records have ended. TruncatedStreamError: the last one never came."""
        if not self.ended:
            raise TruncatedStreamError("the records ended before the last one")

    def __enter__(self) -> "Opener":
        return self
