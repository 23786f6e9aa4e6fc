"""X-Wing, the KEM of suite 2: ML-KEM-768 (FIPS 203) and X25519, joined by SHA3-256 (draft-connolly-cfrg-xwing-kem).

ML-KEM comes from `cryptography`, which is imported when a key of this suite is first used (extra `pq`).

What passes through Python objects, all of it short-lived: a key's expanded seed, once, when the key is made; for each
request ML-KEM's shared secret and X-Wing's, 32 bytes each. These are `bytes`, which Python does not wipe, so they are
overwritten here in place as soon as they have been used, whatever fails meanwhile: each was made here and nobody else
has it. `cryptography` copies ML-KEM's shared secret once more on its way to Python, and frees that copy as it is: a
part of it stays in the process. Alone it opens nothing, since X25519's secret is the other half of X-Wing's, and that
one is wiped.
"""

import hashlib
from types import ModuleType
from typing import Final

from . import _core
from ._core import ffi, lib
from ._errors import AuthenticationError, InvalidKeyError
from ._typing import Buffer

SEED_BYTES: Final = 32
PUBLIC_BYTES: Final = 1216  # pk_M ‖ pk_X
ENC_BYTES: Final = 1120  # ct_M ‖ ct_X
SHARED_BYTES: Final = 32
_PK_M: Final = 1184
_CT_M: Final = 1088
_LABEL: Final = bytes.fromhex("5c2e2f2f5e5c")

_MISSING: Final = "suite X-Wing needs ML-KEM-768 from `cryptography` 48 or later: pip install 'atoma-crypto[pq]'"
_loaded: ModuleType | None = None


def _mlkem() -> ModuleType:
    """`cryptography`'s ML-KEM. ImportError: it is not there, or not in the OpenSSL that it stands on."""
    global _loaded  # noqa: PLW0603 - there is one such module; made twice it is the same
    if _loaded is None:
        try:
            from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - the extra may be missing
            from cryptography.hazmat.primitives.asymmetric import mlkem  # noqa: PLC0415 - the same
        except ImportError:
            raise ImportError(_MISSING) from None
        try:
            mlkem.MLKEM768PrivateKey.from_seed_bytes(bytes(64))
        except UnsupportedAlgorithm:
            raise ImportError(_MISSING) from None
        _loaded = mlkem
    return _loaded


# Takes bytes that hold a secret, made here and nobody else's, and their length. C writes to them as they are, so all it
# needs of Python is a tuple of the two: one of that size, `room`, is made before the secret is, and let go when that is
# wiped. CPython keeps its place for the next one, and there need not be any memory left.
_wipe: Final = lib.ac_wipe


def check_public_key(raw: bytes) -> None:
    """InvalidKeyError: ML-KEM refuses its half (FIPS 203, section 7.2: a coefficient is not reduced)."""
    try:
        _mlkem().MLKEM768PublicKey.from_public_bytes(raw[:_PK_M])
    except ValueError:
        raise InvalidKeyError("the public key is not one of ML-KEM-768") from None


def _combine(ss_m: bytes, shared: _core.Scratch, ct_x: bytes, pk_x: bytes) -> None:
    """The draft's Combiner: `shared` holds X25519's secret, and then X-Wing's."""
    digest = hashlib.sha3_256()
    for part in (ss_m, shared.view, ct_x, pk_x, _LABEL):
        digest.update(part)
    room = (digest, shared)
    secret = digest.digest()
    try:
        shared.view[:] = secret
    finally:
        del room
        _wipe(secret, len(secret))


def encapsulate(public_key: bytes, shared: _core.Scratch) -> bytes:
    """The encapsulated key, 1120 bytes, to be sent; the secret goes to `shared`, which the caller wipes in any case.

    InvalidKeyError: a public key of the wrong length, one that ML-KEM refuses, or an all-zero result of X25519.
    ImportError: the extra `pq` is missing.
    """
    if len(public_key) != PUBLIC_BYTES:
        raise InvalidKeyError(f"public key must be {PUBLIC_BYTES} bytes, not {len(public_key)}")
    check_public_key(public_key)
    pk_m, pk_x = _mlkem().MLKEM768PublicKey.from_public_bytes(public_key[:_PK_M]), public_key[_PK_M:]
    _, ephemeral = _core.new("ac_secret_key *", lib.ac_secret_key_wipe)
    _core.check(lib.ac_secret_key_generate(ephemeral))
    ct_x = bytes(ffi.buffer(ephemeral.public_key))
    _core.check(lib.ac_x25519(shared.ptr, ephemeral.secret, pk_x))
    room = (pk_m, shared)
    ss_m, ct_m = pk_m.encapsulate()
    try:
        _combine(ss_m, shared, ct_x, pk_x)
        enc: bytes = ct_m + ct_x
    finally:
        del room
        _wipe(ss_m, len(ss_m))
    return enc


class DecapsulationKey:
    """A secret key: its X25519 half in our native memory, which is wiped, its ML-KEM half in OpenSSL's, which is too.

    The seed is not kept. Both halves go when nothing refers to this object any more.
    """

    __slots__ = ("_memory", "_mlkem", "_x25519", "public_key")

    def __init__(self, seed: Buffer) -> None:
        """From 32 bytes, which stay the caller's to wipe."""
        digest = hashlib.shake_256(seed)
        room = (digest, seed)
        expanded = digest.digest(96)  # d ‖ z ‖ sk_X
        try:
            self._mlkem = _mlkem().MLKEM768PrivateKey.from_seed_bytes(memoryview(expanded)[:64])
            self._memory, self._x25519 = _core.new("ac_secret_key *", lib.ac_secret_key_wipe)
            _core.check(lib.ac_secret_key_from_bytes(self._x25519, ffi.from_buffer("uint8_t[]", expanded) + 64))
        finally:
            del room
            _wipe(expanded, len(expanded))
        self.public_key: Final = self._mlkem.public_key().public_bytes_raw() + bytes(
            ffi.buffer(self._x25519.public_key)
        )

    @property
    def x25519_public(self) -> _core.CData:
        """The public key of the X25519 half, 32 bytes, where it stands in native memory."""
        return self._x25519.public_key

    def decapsulate(self, enc: bytes, shared: _core.Scratch) -> None:
        """Of an encapsulated key, 1120 bytes exactly as received, to `shared`, which the caller wipes in any case.

        A ct_M that was not made for this key gives another secret (implicit rejection), so that what was sealed does
        not open. AuthenticationError: X25519 gives an all-zero result.
        """
        if len(enc) != ENC_BYTES:
            raise ValueError(f"enc must be {ENC_BYTES} bytes, not {len(enc)}")
        ct_m, ct_x, pk_x = enc[:_CT_M], enc[_CT_M:], self.public_key[_PK_M:]
        status = lib.ac_x25519(shared.ptr, self._x25519.secret, ct_x)
        if status == lib.AC_ERR_KEY:
            raise AuthenticationError
        _core.check(status)
        room = (ct_m, shared)
        ss_m = self._mlkem.decapsulate(ct_m)
        try:
            _combine(ss_m, shared, ct_x, pk_x)
        finally:
            del room
            _wipe(ss_m, len(ss_m))
