"""Official vectors, and `cryptography` and `hashlib` as oracles: `atoma_crypto.hazmat` on every backend."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from functools import cache
from typing import Final, Protocol

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography_vectors import open_vector_file

import atoma_crypto as ac
from atoma_crypto import _core, hazmat

Buffer = bytes | bytearray | memoryview


class Cipher(Protocol):
    def seal(self, nonce: Buffer, plaintext: Buffer, aad: Buffer = b"") -> bytes: ...
    def open(self, nonce: Buffer, sealed: Buffer, aad: Buffer = b"") -> bytes: ...
    def seal_into(self, nonce: Buffer, plaintext: Buffer, out: bytearray | memoryview, aad: Buffer = b"") -> int: ...
    def open_into(self, nonce: Buffer, sealed: Buffer, out: bytearray | memoryview, aad: Buffer = b"") -> int: ...


NewCipher = Callable[[bytes], Cipher]


@pytest.fixture(params=["default", *hazmat.aes_backends()])
def aes(request: pytest.FixtureRequest) -> NewCipher:
    """Makes a cipher from a key, on one backend."""
    if request.param == "default":
        return hazmat.AES256GCM
    return lambda key: _core.Aes256Gcm(key, backend=request.param)


def test_there_is_more_than_one_backend_and_the_best_is_in_use() -> None:
    backends = hazmat.aes_backends()
    assert len(backends) == len(set(backends)) >= 1
    assert "portable" in backends
    assert hazmat.aes_backend() in backends


# --- AES-256-GCM: NIST CAVP ---------------------------------------------------------------------------------


def _records(lines: Iterator[str]) -> Iterator[dict[str, str]]:
    """The cases of a CAVP response file, each with the parameters of its section; FAIL stands as a key."""
    section: dict[str, str] = {}
    case: dict[str, str] = {}
    for line in map(str.strip, lines):
        name, _, value = (part.strip() for part in line.strip("[]").partition("="))
        if not line and "Count" in case:
            yield section | case
            case = {}
        elif line.startswith("["):
            section[name] = value
        elif line and not line.startswith("#"):
            case[name] = value
    if "Count" in case:
        yield section | case


@cache
def _cavp(name: str) -> list[tuple[bytes, bytes, bytes, bytes, bytes, bool]]:
    """Key, nonce, plaintext, AAD, sealed, and whether it must verify, of all cases that apply."""
    with open_vector_file(f"ciphers/AES/GCM/{name}256.rsp", "r") as file:
        records = [r for r in _records(file) if (r["IVlen"], r["Taglen"]) == ("96", "128")]
    cases = []
    for record in records:
        key, nonce, plaintext, aad, body, tag = (
            bytes.fromhex(record.get(field, "")) for field in ("Key", "IV", "PT", "AAD", "CT", "Tag")
        )
        cases.append((key, nonce, plaintext, aad, body + tag, "FAIL" not in record))
    return cases


def test_cavp_encrypt(aes: NewCipher) -> None:
    cases = _cavp("gcmEncryptExtIV")
    assert len(cases) == 375
    for key, nonce, plaintext, aad, sealed, _ in cases:
        assert aes(key).seal(nonce, plaintext, aad) == sealed


def test_cavp_decrypt(aes: NewCipher) -> None:
    cases = _cavp("gcmDecrypt")
    assert (len(cases), sum(good for *_, good in cases)) == (375, 184)
    for key, nonce, plaintext, aad, sealed, good in cases:
        if good:
            assert aes(key).open(nonce, sealed, aad) == plaintext
            continue
        with pytest.raises(ac.AuthenticationError):
            aes(key).open(nonce, sealed, aad)
        out = bytearray(b"\xa5" * (len(sealed) - 16))
        with pytest.raises(ac.AuthenticationError):
            aes(key).open_into(nonce, sealed, out, aad)
        assert not any(out)


# --- AES-256-GCM: `cryptography` as the oracle --------------------------------------------------------------

LARGE: Final = [size + shift for size in (4 << 10, 64 << 10, 1 << 20) for shift in (-16, -15, -1, 0, 1, 15, 16)]


def _lengths() -> list[int]:
    """2,000: every length from 0 to 1,100, the large ones, and more short ones that meet other AADs."""
    more = 2000 - 1101 - len(LARGE)
    return [*range(1101), *LARGE, *(random.Random(1).randrange(1101) for _ in range(more))]


def _check_case(new: NewCipher, rng: random.Random, length: int, aad_length: int) -> None:
    key, nonce, aad = rng.randbytes(32), rng.randbytes(12), rng.randbytes(aad_length)
    plaintext = rng.randbytes(length)
    oracle, ours = AESGCM(key), new(key)
    sealed = oracle.encrypt(nonce, plaintext, aad)
    assert ours.seal(nonce, plaintext, aad) == sealed
    assert ours.open(nonce, sealed, aad) == plaintext

    broken = bytearray(sealed + nonce + aad)
    broken[rng.randrange(len(broken))] ^= 1 << rng.randrange(8)
    parts = bytes(broken[len(sealed) :][:12]), bytes(broken[: len(sealed)]), bytes(broken[len(sealed) + 12 :])
    with pytest.raises(ac.AuthenticationError):
        ours.open(*parts)
    with pytest.raises(InvalidTag):  # or the flip was none
        oracle.decrypt(*parts)


def test_two_thousand_cases_against_cryptography(aes: NewCipher) -> None:
    lengths = _lengths()
    assert len(lengths) == 2000
    rng = random.Random(2)
    for number, length in enumerate(lengths):
        _check_case(aes, rng, length, number % 65)


@pytest.mark.long
def test_every_length_with_every_length_of_aad(aes: NewCipher) -> None:
    rng = random.Random(3)
    for length in range(1101):
        for aad_length in range(65):
            _check_case(aes, rng, length, aad_length)


@pytest.mark.parametrize("aad_length", [65, 255, 256, 1000, 4097, 65_537])
def test_long_aad(aes: NewCipher, aad_length: int) -> None:
    rng = random.Random(4)
    for length in (0, 1, 16, 333):
        _check_case(aes, rng, length, aad_length)


@pytest.mark.parametrize("length", [0, 1, 15, 16, 17, 31, 127, 128, 129, 480, 511, 512, 513, 4097, 65_537])
def test_in_place(aes: NewCipher, length: int) -> None:
    rng = random.Random(length)
    key, nonce, aad, plaintext = (rng.randbytes(n) for n in (32, 12, 20, length))
    cipher = aes(key)
    sealed = AESGCM(key).encrypt(nonce, plaintext, aad)
    buffer = bytearray(plaintext + b"\xa5" * 24)  # more room than is needed
    view = memoryview(buffer)

    assert cipher.seal_into(nonce, view[:length], view, aad) == len(sealed)
    assert buffer == sealed + b"\xa5" * 8
    assert cipher.open_into(nonce, view[: length + 16], view, aad) == length
    assert buffer[:length] == plaintext

    buffer[: length + 16] = sealed
    buffer[rng.randrange(length + 16)] ^= 1
    with pytest.raises(ac.AuthenticationError):
        cipher.open_into(nonce, view[: length + 16], view, aad)
    assert not any(buffer[:length])


@pytest.mark.parametrize("length", [0, 1, 16, 300, 5000])
def test_a_buffer_too_small_by_one_is_refused_and_unchanged(aes: NewCipher, length: int) -> None:
    cipher, nonce, plaintext = aes(bytes(32)), bytes(12), bytes(length)
    out = bytearray(b"\xa5" * (length + 15))
    with pytest.raises(ValueError, match="too small"):
        cipher.seal_into(nonce, plaintext, out)
    assert out == b"\xa5" * (length + 15)
    sealed = cipher.seal(nonce, plaintext)
    if length:
        out = bytearray(b"\xa5" * (length - 1))
        with pytest.raises(ValueError, match="too small"):
            cipher.open_into(nonce, sealed, out)
        assert out == b"\xa5" * (length - 1)
    assert cipher.open(nonce, sealed) == plaintext


@pytest.mark.parametrize("shift", [-1, 1, 8, 16, -16])
def test_overlap_that_is_not_in_place_is_refused_and_unchanged(aes: NewCipher, shift: int) -> None:
    cipher, nonce = aes(bytes(32)), bytes(12)
    buffer = bytearray(random.Random(5).randbytes(400))
    before = bytes(buffer)
    view = memoryview(buffer)
    with pytest.raises(ValueError, match="overlap"):
        cipher.seal_into(nonce, view[50:250], view[50 + shift :])
    with pytest.raises(ValueError, match="overlap"):
        cipher.open_into(nonce, view[50:250], view[50 + shift :])
    assert buffer == before


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
def test_all_kinds_of_buffer(aes: NewCipher, wrap: Callable[[bytes], Buffer]) -> None:
    key, nonce, plaintext, aad = bytes(range(32)), bytes(12), b"plaintext", b"aad"
    sealed = AESGCM(key).encrypt(nonce, plaintext, aad)
    assert aes(key).seal(wrap(nonce), wrap(plaintext), wrap(aad)) == sealed
    assert aes(key).open(wrap(nonce), wrap(sealed), wrap(aad)) == plaintext


@pytest.mark.parametrize("length", range(16))
def test_less_than_a_tag_never_verifies(aes: NewCipher, length: int) -> None:
    tag = AESGCM(bytes(32)).encrypt(bytes(12), b"", None)
    with pytest.raises(ac.AuthenticationError):
        aes(bytes(32)).open(bytes(12), tag[:length])


@pytest.mark.parametrize("bad", [0, 1, 11, 13, 16, 24])
def test_other_nonces_are_refused(aes: NewCipher, bad: int) -> None:
    cipher = aes(bytes(32))
    with pytest.raises(ValueError, match="nonce must be 12"):
        cipher.seal(bytes(bad), b"x")
    with pytest.raises(ValueError, match="nonce must be 12"):
        cipher.open(bytes(bad), bytes(32))


@pytest.mark.parametrize("bad", [0, 16, 24, 31, 33, 64])
def test_other_keys_are_refused(bad: int) -> None:
    with pytest.raises(ac.InvalidKeyError):
        hazmat.AES256GCM(bytes(bad))


# --- X25519 -------------------------------------------------------------------------------------------------


def _fields(path: str) -> list[dict[str, str]]:
    """The cases of a `NAME = value` file: each begins at COUNT."""
    cases: list[dict[str, str]] = []
    with open_vector_file(path, "r") as file:
        for line in file:
            name, equals, value = (part.strip() for part in line.partition("="))
            if name == "COUNT":
                cases.append({})
            elif equals and cases:
                cases[-1][name] = value
    return cases


def test_rfc7748_section_5_2() -> None:
    cases = _fields("asymmetric/X25519/rfc7748.txt")
    assert len(cases) == 3
    for case in cases:
        scalar, u, expected = (bytes.fromhex(case[n]) for n in ("INPUT_SCALAR", "INPUT_U", "OUTPUT_U"))
        assert hazmat.x25519(scalar, u) == expected


def test_rfc7748_iterations() -> None:
    scalar = u = bytes([9]) + bytes(31)
    seen = {}
    for iteration in range(1, 1001):
        scalar, u = hazmat.x25519(scalar, u), scalar
        seen[iteration] = scalar.hex()
    assert seen[1] == "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079"
    assert seen[1000] == "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51"


def test_rfc7748_section_6_1() -> None:
    alice = bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
    alice_public = bytes.fromhex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
    bob = bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
    bob_public = bytes.fromhex("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f")
    shared = bytes.fromhex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")
    assert hazmat.x25519_public_key(alice) == alice_public
    assert hazmat.x25519_public_key(bob) == bob_public
    assert hazmat.x25519(alice, bob_public) == hazmat.x25519(bob, alice_public) == shared


def test_x25519_against_cryptography() -> None:
    rng = random.Random(6)
    for _ in range(200):
        secret, u = rng.randbytes(32), rng.randbytes(32)  # half of them with the top bit set
        oracle = X25519PrivateKey.from_private_bytes(secret)
        assert hazmat.x25519_public_key(secret) == oracle.public_key().public_bytes_raw()
        assert hazmat.x25519(secret, u) == oracle.exchange(X25519PublicKey.from_public_bytes(u))


@pytest.mark.parametrize("bad", [0, 31, 33, 64])
def test_x25519_keys_of_other_sizes_are_refused(bad: int) -> None:
    base = bytes([9]) + bytes(31)
    with pytest.raises(ac.InvalidKeyError):
        hazmat.x25519_public_key(bytes(bad))
    with pytest.raises(ac.InvalidKeyError):
        hazmat.x25519(bytes(bad), base)
    with pytest.raises(ac.InvalidKeyError):
        hazmat.x25519(bytes(32), bytes(bad))


# --- HKDF-SHA256 --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("path", "count"), [("rfc-5869-HKDF-SHA256", 3), ("hkdf-generated", 1)])
def test_rfc5869(path: str, count: int) -> None:
    cases = [case for case in _fields(f"KDF/{path}.txt") if case["Hash"] == "SHA-256"]
    assert len(cases) == count
    for case in cases:
        ikm, salt, info, okm = (bytes.fromhex(case[name]) for name in ("IKM", "salt", "info", "OKM"))
        assert hazmat.hkdf_sha256(ikm, salt=salt, info=info, length=int(case["L"])) == okm


def test_hkdf_against_cryptography() -> None:
    rng = random.Random(7)
    for number in range(400):
        ikm, salt, info = (rng.randbytes(rng.randrange(200)) for _ in range(3))
        length = rng.randrange(1, 300) if number % 20 else 255 * 32
        oracle = HKDF(algorithm=SHA256(), length=length, salt=salt, info=info)
        assert hazmat.hkdf_sha256(ikm, salt=salt, info=info, length=length) == oracle.derive(ikm)


def test_hkdf_longer_than_the_rfc_allows_is_refused() -> None:
    with pytest.raises(ValueError, match="length must be"):
        hazmat.hkdf_sha256(b"ikm", salt=b"", info=b"", length=255 * 32 + 1)


# --- BLAKE2b, unkeyed, 32 bytes -----------------------------------------------------------------------------


def test_blake2b256_known_answers() -> None:
    empty = "0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8"
    abc = "bddd813c634239723171ef3fee98579b94964e3bb1cb3e427262c8c068d52319"
    assert hazmat.blake2b256(b"").hex() == empty
    assert hazmat.blake2b256(b"abc").hex() == abc


def test_blake2b256_of_the_official_messages() -> None:
    """The official file has 64-byte digests: hashlib is held to those, and ours to hashlib."""
    with open_vector_file("hashes/blake2/blake2b.txt", "r") as file:
        lines = dict(enumerate(line.partition("=")[2].strip() for line in file if "=" in line))
    assert len(lines) == 3 * 7
    for first in range(0, len(lines), 3):
        message = bytes.fromhex(lines[first + 1])[: int(lines[first]) // 8]
        assert hashlib.blake2b(message).hexdigest() == lines[first + 2]
        assert hazmat.blake2b256(message) == hashlib.blake2b(message, digest_size=32).digest()


def test_blake2b256_against_hashlib() -> None:
    rng = random.Random(8)
    for length in [*range(1101), *LARGE]:
        message = rng.randbytes(length)
        assert hazmat.blake2b256(message) == hashlib.blake2b(message, digest_size=32).digest()
