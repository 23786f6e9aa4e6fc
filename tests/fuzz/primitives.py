"""Our primitives beside those of `cryptography` and hashlib, at any lengths and places: they never disagree."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fuzz.engine import Program, check, instrumented, start

with instrumented():
    import atoma_crypto as ac
    from atoma_crypto import hazmat
    from atoma_crypto._core import Aes256Gcm

# To take long texts from: they would not fit into an input, and what they are does not matter.
FILL: Final = hashlib.shake_128(b"fill").digest(70_000)
BACKENDS: Final = hazmat.aes_backends()
KEYS: Final = [hashlib.sha256(b"%d" % i).digest() for i in range(16)]
OURS: Final = [[Aes256Gcm(key, backend=name) for name in BACKENDS] for key in KEYS]
THEIRS: Final = [AESGCM(key) for key in KEYS]
# Points of small order, and others that are not reduced, or near them.
PRIME: Final = 2**255 - 19
POINTS: Final = [
    number.to_bytes(32, "little")
    for base in (0, PRIME, 2**255, 2**255 + PRIME, 2**256 - 1)
    for number in range(base - 3, base + 4)
    if 0 <= number < 2**256
] + [
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
]
SUITE: Final = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
XWING: Final = hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)


def some(program: Program, most: int = 4096) -> bytes:
    """Bytes of any length: those of the input, or a stretch of the filling."""
    kind = program.byte()
    if kind < 96:
        return program.take(kind)
    length = program.number()
    if kind < 252:  # long ones take a thousand times as long
        length %= 600 if kind < 232 else 5000  # the backends change from one way to another below 600
    begin = program.byte()
    return FILL[begin : begin + min(length, most)]


def unless(errors: type[Exception] | tuple[type[Exception], ...], call: Callable[..., Any], *arguments: Any) -> Any:
    """What it gives, or None where it raises one of these."""
    try:
        return call(*arguments)
    except errors:
        return None


def aes(program: Program) -> None:
    at = program.below(len(KEYS))
    theirs, nonce, aad, plaintext = THEIRS[at], program.take(12).ljust(12, b"\0"), some(program), some(program, 70_000)
    sealed = theirs.encrypt(nonce, plaintext, aad)
    spoiled = bytearray(sealed)
    spoiled[program.number() % len(sealed)] ^= 1 << program.below(8)
    offset, length = program.below(64), len(plaintext)
    for name, ours in zip(BACKENDS, OURS[at], strict=True):
        check(ours.seal(nonce, plaintext, aad) == sealed, f"{name} seals {length} bytes otherwise")
        # in place, and where nothing is aligned; around it nothing may change
        memory = bytearray(b"\xa5" * (offset + len(sealed) + 64))
        view = memoryview(memory)[offset : offset + len(sealed)]
        view[:length] = plaintext
        ours.seal_into(nonce, view[:length], view, aad)
        check(view == sealed, f"{name} seals {length} bytes in place otherwise, at {offset}")
        ours.open_into(nonce, view, view, aad)
        check(view[:length] == plaintext, f"{name} opens {length} bytes in place otherwise, at {offset}")
        around = bytes(memory[:offset]) + bytes(memory[offset + len(sealed) :])
        check(around == b"\xa5" * len(around), f"{name} has written around")
        out = bytearray(b"\xa5" * length)
        opened = unless(ac.AuthenticationError, ours.open_into, nonce, spoiled, out, aad)
        check(opened is None, f"{name} opens what was changed")
        check(out == bytes(length), f"{name} leaves something where it has refused")


def aes_any(program: Program) -> None:
    """Bytes that nobody has sealed, too short ones among them."""
    at = program.below(len(KEYS))
    nonce, sealed, aad = program.take(12).ljust(12, b"\0"), some(program), some(program)
    theirs = unless(InvalidTag, THEIRS[at].decrypt, nonce, sealed, aad)
    for name, ours in zip(BACKENDS, OURS[at], strict=True):
        found = unless(ac.AuthenticationError, ours.open, nonce, sealed, aad)
        check(found == theirs, f"{name} opens otherwise")


def hkdf(program: Program) -> None:
    ikm, salt, info = some(program), some(program), some(program)
    length = program.number() % 8161
    theirs = HKDF(SHA256(), length, salt, info).derive(ikm) if length else b""
    check(hazmat.hkdf_sha256(ikm, salt=salt, info=info, length=length) == theirs, "HKDF gives something else")


def blake2b(program: Program) -> None:
    data = some(program, 70_000)
    ours = hazmat.blake2b256(data if program.byte() & 1 else bytearray(data))
    check(ours == hashlib.blake2b(data, digest_size=32).digest(), "BLAKE2b gives something else")


def scalar(program: Program) -> bytes:
    return program.take(32).ljust(32, b"\x07")


def x25519(program: Program) -> None:
    secret = scalar(program)
    public = program.one_of(POINTS) if program.byte() & 1 else program.take(32).ljust(32, b"\x09")
    private = X25519PrivateKey.from_private_bytes(secret)
    check(hazmat.x25519_public_key(secret) == private.public_key().public_bytes_raw(), "another public key")
    theirs = unless(ValueError, private.exchange, X25519PublicKey.from_public_bytes(public))
    ours = unless(ac.InvalidKeyError, hazmat.x25519, secret, public)
    check(ours == theirs, "X25519 gives something else")


def hpke_x25519(program: Program) -> None:
    secret, info, plaintext = scalar(program), some(program), some(program)
    private = X25519PrivateKey.from_private_bytes(secret)
    public = private.public_key()
    enc, sender = hazmat.hpke_setup_sender(public.public_bytes_raw(), info)
    with sender:
        sealed = enc + sender.seal(plaintext)
    check(SUITE.decrypt(sealed, private, info) == plaintext, "HPKE seals otherwise")
    sealed = SUITE.encrypt(plaintext, public, info)
    check(recipient_opens(sealed, 32, secret, info, "X25519") == plaintext, "HPKE opens otherwise")
    spoiled = bytearray(sealed)
    spoiled[program.number() % len(sealed)] ^= 1 << program.below(8)
    theirs = unless((InvalidTag, ValueError), SUITE.decrypt, bytes(spoiled), private, info)
    ours = unless(ac.AuthenticationError, recipient_opens, bytes(spoiled), 32, secret, info, "X25519")
    check(ours == theirs, "HPKE opens what was changed otherwise")


def hpke_xwing(program: Program) -> None:
    seed, info, plaintext = scalar(program), some(program), some(program)
    expanded = hashlib.shake_256(seed).digest(96)
    x25519_key = X25519PrivateKey.from_private_bytes(expanded[64:])
    private = hpke.MLKEM768X25519PrivateKey(MLKEM768PrivateKey.from_seed_bytes(expanded[:64]), x25519_key)
    public = private.public_key()
    key = ac.SecretKey.from_bytes(seed, "X-Wing")
    enc, sender = hazmat.hpke_setup_sender(bytes(key.public_key), info, suite="X-Wing")
    with sender:
        sealed = enc + sender.seal(plaintext)
    check(XWING.decrypt(sealed, private, info) == plaintext, "HPKE of X-Wing seals otherwise")
    sealed = XWING.encrypt(plaintext, public, info)
    check(recipient_opens(sealed, 1120, seed, info, "X-Wing") == plaintext, "HPKE of X-Wing opens otherwise")


def recipient_opens(sealed: bytes, enc_bytes: int, secret: bytes, info: bytes, suite: Any) -> bytes:
    with hazmat.hpke_setup_recipient(sealed[:enc_bytes], secret, info, suite=suite) as recipient:
        return recipient.open(sealed[enc_bytes:])


# AES is what is ours; the rest costs a hundred times as much, or is another's.
WAYS: Final = (*[aes] * 8, *[aes_any] * 3, *[blake2b] * 2, *[hkdf] * 2, x25519, x25519, hpke_x25519)


def target(program: Program) -> None:
    way = program.byte()
    (hpke_xwing if way == 0xFF else WAYS[way % len(WAYS)])(program)


# ---- what has to be found ---------------------------------------------------------------------------------------


def long_salt_is_cut() -> None:
    true = hazmat.hkdf_sha256

    def hkdf_sha256(ikm: Any, *, salt: Any, info: Any, length: int) -> bytes:
        return true(ikm, salt=salt[:64], info=info, length=length)

    hazmat.hkdf_sha256 = hkdf_sha256


def refused_is_left() -> None:
    true = Aes256Gcm.open_into

    def open_into(self: Aes256Gcm, nonce: Any, sealed: Any, out: Any, aad: Any = b"") -> int:
        before = bytes(out)
        try:
            return true(self, nonce, sealed, out, aad)
        except ac.AuthenticationError:
            out[:] = before
            raise

    Aes256Gcm.open_into = open_into  # type: ignore[method-assign] # planted


def zero_secret_passes() -> None:
    true = hazmat.x25519

    def x25519(secret: Any, public: Any) -> bytes:
        try:
            return true(secret, public)
        except ac.InvalidKeyError:
            return bytes(32)

    hazmat.x25519 = x25519


FAULTS: Final = (long_salt_is_cut, refused_is_left, zero_secret_passes)

if __name__ == "__main__":
    start(target, FAULTS)
